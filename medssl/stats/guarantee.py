"""A threshold whose sensitivity or PPV holds for new patients, with a stated confidence.

Every threshold of a grid fixed beforehand is a hypothesis ("the rate is at most the target") with an
exact binomial p, and the grid is walked in a fixed order, so that no price is paid for choosing
(learn then test). The binomial needs independent trials, so each patient gives one row. The
guarantee is about patients from where the calibrating ones came from, and no others: print the site
comparison's p beside it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from medssl.stats.bootstrap import Patients
from medssl.stats.conformal import one_row_per_patient
from medssl.stats.metrics import BoolArray, FloatArray, outcome_and_score

Rate = Literal["sensitivity", "ppv"]
Unit = Literal["patient", "image"]

STARTS = 10
"""Places from which a PPV is walked; each gets this part of the allowed error."""

WORDS = {
    ("sensitivity", "patient"): "patients with a positive image",
    ("sensitivity", "image"): "positive images, one drawn of each patient,",
    ("ppv", "patient"): "flagged patients",
    ("ppv", "image"): "flagged images, one drawn of each patient,",
}


@dataclass(frozen=True)
class Guarantee:
    """Chosen threshold, or None; `hits` of `trials` calibrating rows at it, and its exact p.

    For a sensitivity the trials are the positive rows, for a PPV the flagged ones. Without a
    threshold, hits, trials and p are those of the threshold that came nearest. `note` is the answer
    in words, with its caveat.
    """

    threshold: float | None
    rate: Rate
    target: float
    confidence: float
    unit: Unit
    hits: int
    trials: int
    p: float
    patients: int
    flagged: int
    note: str


def guaranteed_threshold(
    y: npt.ArrayLike,
    score: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    rate: Rate = "sensitivity",
    target: float = 0.9,
    confidence: float = 0.9,
    unit: Unit = "patient",
    grid: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Guarantee:
    """Threshold at which a new patient's sensitivity (or PPV) exceeds a target, with confidence.

    Args:
        y: 0/1 outcomes [n] of calibrating rows; neither a model nor a threshold has seen them.
        score: scores [n]; a row at or above the threshold is flagged.
        patient: one code or pseudonym per row [n].
        rate: "sensitivity" walks from the lowest threshold upwards and takes the highest that
            holds. "ppv" walks downwards from `STARTS` evenly spaced thresholds, each at its part of
            the error, and takes the lowest that holds.
        target: rate to exceed, in (0, 1).
        confidence: chance that the guarantee is true, over calibrating sets, in (0, 1).
        unit: what a trial is, see `one_trial_per_patient`.
        grid: increasing thresholds fixed without looking at these rows; 0, 0.01 .. 0.99 by default.
        seed: of the draw of one image per patient.

    Returns:
        The guarantee, its threshold None where no threshold can be guaranteed.

    Raises:
        ValueError: if there is no row, shapes differ, a score is NaN, a number is out of range, or
            the default grid is asked for scores that are no probabilities.

    Source: Angelopoulos et al. 2021, Learn then Test, arXiv 2110.01052 (fixed-sequence testing).
    """
    _check(rate, target, confidence)
    positive, value = one_trial_per_patient(y, score, patient, unit=unit, seed=seed)
    thresholds = _grid(grid, value)
    found = np.sort(value[positive])
    hits = found.size - found.searchsorted(thresholds, "left")
    flagged = value.size - np.sort(value).searchsorted(thresholds, "left")
    trials = np.full_like(hits, found.size) if rate == "sensitivity" else flagged
    # Were the rate the target or less, so many hits would be this rare. No trial: p is 1.
    p = binom.sf(hits - 1, trials, target)
    starts = 1 if rate == "sensitivity" else min(STARTS, p.size)
    # 1 - 0.9 is a little less than 0.1.
    allowed = (1 - confidence) * (1 + 1e-12) / starts
    # A PPV at the highest thresholds rests on few rows, so a single walk would end where it
    # begins; several do not, and each may go on below the start of the next.
    up = rate == "sensitivity"
    holds = _walk(p, allowed, starts) if up else _walk(p[::-1], allowed, starts)[::-1]
    if not holds.any():
        at = int(np.argmin(p))
        least = least_trials(target, 1 - allowed)
        note = _refusal(rate, target, confidence, unit, int(hits[at]), int(trials[at]), least)
        chosen = None
    else:
        kept = np.flatnonzero(holds)
        at = int(kept[-1] if up else kept[0])
        chosen = float(thresholds[at])
        note = _promise(rate, target, confidence, unit, chosen)
        if flagged[at] == value.size:
            note += " It flags every calibrating patient, so it separates nobody."
    return Guarantee(
        threshold=chosen,
        rate=rate,
        target=target,
        confidence=confidence,
        unit=unit,
        hits=int(hits[at]),
        trials=int(trials[at]),
        p=float(p[at]),
        patients=value.size,
        flagged=int(flagged[at]),
        note=note,
    )


def one_trial_per_patient(
    y: npt.ArrayLike,
    score: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    unit: Unit = "patient",
    seed: int = 0,
) -> tuple[BoolArray, FloatArray]:
    """Reduce rows to one per patient, so that rows are independent trials.

    Args:
        y: 0/1 outcomes [n], n >= 1.
        score: scores [n].
        patient: one code or pseudonym per row [n].
        unit: "patient": positive if any image is, scored by the highest image, so flagged as soon
            as any image is, be it the positive one or not. "image": one image drawn of each patient.
        seed: of that draw.

    Returns:
        Outcome as bool [P] and score as float64 [P], patients by first appearance.

    Raises:
        ValueError: if there is no row, shapes differ, a score is NaN, or the unit is unknown.
    """
    positive, value = outcome_and_score(y, score)
    groups = Patients.of(patient)
    if groups.code.size != positive.size or positive.size == 0:
        raise ValueError(
            f"There must be one patient entry per row and a row at least; there are "
            f"{groups.code.size} entries for {positive.size} rows."
        )
    if unit == "image":
        rows = one_row_per_patient(patient, seed)
        return positive[rows], value[rows]
    if unit != "patient":
        raise ValueError(f"The unit is 'patient' or 'image', got {unit!r}.")
    first = groups.start[:-1]
    return (
        np.logical_or.reduceat(positive[groups.order], first),
        np.maximum.reduceat(value[groups.order], first),
    )


def least_trials(target: float, confidence: float = 0.9) -> int:
    """Trials without a single miss that are needed to guarantee a rate from one start.

    Args:
        target: rate to exceed, in (0, 1).
        confidence: in (0, 1).

    Returns:
        Smallest n with target^n <= 1 - confidence: 22 for 0.9 and 0.9.

    Raises:
        ValueError: if a number is out of range.
    """
    _check("sensitivity", target, confidence)
    return math.ceil(math.log(1 - confidence) / math.log(target) - 1e-9)


def _check(rate: str, target: float, confidence: float) -> None:
    """Refuse what has no guarantee."""
    if rate not in ("sensitivity", "ppv"):
        raise ValueError(f"A guarantee is about 'sensitivity' or 'ppv', got {rate!r}.")
    if not (0 < target < 1 and 0 < confidence < 1):
        raise ValueError(
            f"Target and confidence must lie strictly between 0 and 1, got {target} and "
            f"{confidence}; nothing can be promised with certainty."
        )


def _grid(grid: npt.ArrayLike | None, value: FloatArray) -> FloatArray:
    """Increasing thresholds [T]."""
    if grid is None:
        if value.min() < 0 or value.max() > 1:
            raise ValueError(
                f"The default thresholds are for probabilities; these scores run from "
                f"{value.min():g} to {value.max():g}. Pass a grid fixed beforehand."
            )
        return np.arange(100) / 100
    thresholds = np.asarray(grid, dtype=np.float64)
    if thresholds.ndim != 1 or thresholds.size == 0 or np.isnan(thresholds).any():
        raise ValueError("A grid holds one threshold at least, in one dimension and without NaN.")
    if not (np.diff(thresholds) > 0).all():
        raise ValueError("The thresholds of a grid must increase; sort them and drop doubles.")
    return thresholds


def _walk(p: FloatArray, allowed: float, starts: int) -> BoolArray:
    """Hypotheses [T] rejected on the way from evenly spaced starts to the first failure of each."""
    failed = np.flatnonzero(p > allowed)
    holds = np.zeros(p.size, dtype=bool)
    for k in range(starts):
        start = k * p.size // starts
        later = failed[failed >= start]
        holds[start : later[0] if later.size else p.size] = True
    return holds


def _promise(rate: Rate, target: float, confidence: float, unit: Unit, threshold: float) -> str:
    """The guarantee in words, with its caveat."""
    verb = "are flagged" if rate == "sensitivity" else "are positive"
    return (
        f"With {100 * confidence:g}% confidence more than {100 * target:g}% of {WORDS[rate, unit]} {verb} at "
        f"threshold {threshold:g}, provided that new patients come from where the calibrating ones "
        "came from."
    )


def _refusal(
    rate: Rate, target: float, confidence: float, unit: Unit, hits: int, trials: int, least: int
) -> str:
    """Why no threshold is guaranteed, in words."""
    shared = "" if rate == "sensitivity" else " in walks of fixed order that share the error"
    return (
        f"No threshold can be guaranteed: at best {hits} of {trials} {WORDS[rate, unit]} counted as "
        f"hits, which does not show more than {100 * target:g}% with {100 * confidence:g}% "
        f"confidence{shared}. Without a single miss it takes {least}."
    )
