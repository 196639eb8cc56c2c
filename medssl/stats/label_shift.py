"""How common is each class at a site without labels, if only the prevalence has changed.

Both estimates assume that images of one class look alike at both sites (label shift). Classes are
codes 0..K-1. Prevalences are shares of images; the patient is the unit of the interval.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.stats import embeddings
from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import FloatArray, IntArray

CONDITION_LIMIT = 20.0
"""Condition of a confusion matrix beyond which its inverse blows up chance; two classes reach it
where sensitivity and specificity add up to about 1.1."""

SKIPPED_LIMIT = 0.05
"""Largest share of resamples that may be unsolvable before the interval is withheld."""

EM_STEPS = 10_000
"""Steps after which expectation-maximisation gives up."""

EM_CHANGE = 1e-10
"""Largest change of a prevalence in the last step."""


@dataclass(frozen=True)
class Prevalence:
    """Share of each class at the new site [K]; None with a note where it is not computable.

    `raw` is the solution before it was clipped to shares; `condition` that of the confusion matrix.
    """

    value: FloatArray | None
    lower: FloatArray | None
    upper: FloatArray | None
    raw: FloatArray | None
    condition: float | None
    level: float
    resamples: int
    skipped: int
    source_patients: int
    target_patients: int
    note: str = ""


@dataclass(frozen=True)
class Expected:
    """Prevalence by expectation-maximisation [K]; None with a note where it is not computable."""

    value: FloatArray | None
    steps: int
    note: str = ""


def black_box_prevalence(
    source_label: npt.ArrayLike,
    source_predicted: npt.ArrayLike,
    source_patient: npt.ArrayLike,
    target_predicted: npt.ArrayLike,
    target_patient: npt.ArrayLike,
    classes: int,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Prevalence:
    """Solve C pi = mu: how often the source errs explains how often the new site is flagged.

    BBSE (Lipton et al. 2018), C[i, j] = P(predicted i | class j) at the source, mu the predictions
    of the target. The interval draws patients of both sites, so it has the error of C in it.

    Args:
        source_label: classes [n], codes 0..K-1; rows the model was not trained on.
        source_predicted: predicted classes [n], codes 0..K-1.
        source_patient: one code or pseudonym per row [n].
        target_predicted: predicted classes [m].
        target_patient: one code or pseudonym per row [m].
        classes: K, at least 2.
        resamples: B.
        level: coverage in (0, 1).
        seed: of the resamples.

    Returns:
        Prevalences with percentile limits. All None if a class lacks at the source or C is close to
        singular; limits None if over 5 % of the resamples were.

    Raises:
        ValueError: if shapes do not fit, a side is empty, or a code, level or resamples is out of
            range.
    """
    if classes < 2 or resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"Prevalences need two classes, resamples >= 1 and a level within (0, 1); got "
            f"{classes} classes, {resamples} resamples, level {level}."
        )
    label = _codes(source_label, source_patient, classes, "source labels")
    said = _codes(source_predicted, source_patient, classes, "source predictions")
    new = _codes(target_predicted, target_patient, classes, "target predictions")
    one, two = Patients.of(source_patient), Patients.of(target_patient)
    cell = said * classes + label
    tables = _per_patient(cell, one, classes**2)
    flags = _per_patient(new, two, classes)
    table, flagged = tables.sum(axis=0), flags.sum(axis=0)
    raw, condition = (v[0] for v in _solved(table[None], flagged[None]))
    note = _unsolvable(table, float(condition))
    if note:
        known = float(condition) if np.isfinite(condition) else None
        return Prevalence(
            None, None, None, None, known, level, resamples, 0, one.count, two.count, note
        )
    drawn = _resampled(tables, flags, resamples, seed)
    skipped = resamples - len(drawn)
    lower = upper = None
    if min(one.count, two.count) < 2:
        note = "No interval: one patient says nothing about how patients differ."
    elif skipped > SKIPPED_LIMIT * resamples:
        note = (
            f"No interval: {skipped} of {resamples} resamples could not be solved, more than "
            f"{SKIPPED_LIMIT:.0%}; there are too few patients of one class."
        )
    else:
        tail = (1 - level) / 2
        lower, upper = np.quantile(_shares(drawn), [tail, 1 - tail], axis=0)
    if not note and raw.min() < 0:
        note = "A solved share was negative and was set to 0: doubt that only prevalence changed."
    return Prevalence(
        value=_shares(raw[None])[0],
        lower=lower,
        upper=upper,
        raw=raw,
        condition=float(condition),
        level=level,
        resamples=resamples,
        skipped=skipped,
        source_patients=one.count,
        target_patients=two.count,
        note=note,
    )


def expected_prevalence(prior: npt.ArrayLike, probability: npt.ArrayLike) -> Expected:
    """Prevalence under which the probabilities of the new site are most likely.

    Expectation-maximisation (Saerens et al. 2002): pi' <- mean of p pi'/pi, scaled to sum to one
    per row. It needs calibrated probabilities; `black_box_prevalence` does not.

    Args:
        prior: prevalences [K] that the probabilities were calibrated for, all above 0.
        probability: of each class [m, K] at the new site, rows summing to one.

    Returns:
        The prevalence and the steps taken; None with a note if all rows are alike.

    Raises:
        ValueError: if shapes do not fit, there is no row, or numbers are no probabilities.
    """
    start = np.asarray(prior, dtype=np.float64)
    chance = np.asarray(probability, dtype=np.float64)
    if start.ndim != 1 or start.size < 2 or chance.shape != (len(chance), start.size):
        raise ValueError(
            f"Probabilities must be [m, K] for K >= 2 prevalences; they have shapes {chance.shape} "
            f"and {start.shape}."
        )
    if len(chance) == 0:
        raise ValueError("There is no row to compute from; check the filter before this step.")
    if not (start > 0).all() or not np.isclose(start.sum(), 1.0, atol=1e-6):
        raise ValueError(f"The prior must be above 0 and sum to one, got {start.tolist()}.")
    sums = chance.sum(axis=1)
    if not (chance >= 0).all() or not np.allclose(sums, 1.0, atol=1e-4):
        raise ValueError("Every row of probabilities must be at least 0 and sum to one.")
    ratio = chance / start
    if np.ptp(ratio, axis=0).max() <= 1e-9:
        return Expected(None, 0, "Not computable: all rows have the same probabilities.")
    share = start.copy()
    for step in range(1, EM_STEPS + 1):
        # A row of zero weight would need a class of share 0, which no step makes exactly.
        weight = ratio * share
        found = (weight / weight.sum(axis=1, keepdims=True)).mean(axis=0)
        change = float(np.abs(found - share).max())
        share = found
        if change <= EM_CHANGE:
            return Expected(share, step)
    note = f"Not settled after {EM_STEPS} steps: the probabilities hardly tell the classes apart."
    return Expected(None, EM_STEPS, note)


def _codes(code: npt.ArrayLike, patient: npt.ArrayLike, classes: int, name: str) -> IntArray:
    """Class codes [n] with one patient a row, or a sentence."""
    values = np.asarray(code)
    if values.ndim != 1 or values.size == 0 or values.shape != np.shape(patient):
        raise ValueError(
            f"The {name} must be one code per row with one patient each, at least one; they have "
            f"shapes {values.shape} and {np.shape(patient)}."
        )
    if not np.isin(values, np.arange(classes)).all():
        raise ValueError(
            f"The {name} must be whole numbers from 0 to {classes - 1}; they run from "
            f"{values.min()} to {values.max()}. Leave out rows without a label."
        )
    return values.astype(np.int64)


def _per_patient(code: IntArray, groups: Patients, kinds: int) -> FloatArray:
    """Images of each kind per patient [P, kinds]."""
    table = np.bincount(groups.code * kinds + code, minlength=groups.count * kinds)
    return table.reshape(groups.count, kinds).astype(np.float64)


def _solved(table: FloatArray, flagged: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Solutions [B, K] of counts [B, K * K] and [B, K], and conditions [B]; NaN and inf if none."""
    classes = flagged.shape[1]
    counts = table.reshape(-1, classes, classes)
    labelled = counts.sum(axis=1, keepdims=True)
    complete = (labelled > 0).all(axis=(1, 2))
    # An identity stands in where a class is lacking; its result is discarded below.
    rate = np.where(complete[:, None, None], counts / np.maximum(labelled, 1), np.eye(classes))
    singular = np.linalg.svd(rate, compute_uv=False)
    condition = np.full(len(rate), np.inf)
    usable = complete & (singular[:, -1] * CONDITION_LIMIT * 1e6 > singular[:, 0])
    condition[usable] = singular[usable, 0] / singular[usable, -1]
    solution = np.full(flagged.shape, np.nan)
    mu = flagged[usable] / flagged[usable].sum(axis=1, keepdims=True)
    solution[usable] = np.linalg.solve(rate[usable], mu[:, :, None])[:, :, 0]
    return solution, condition


def _unsolvable(table: FloatArray, condition: float) -> str:
    """Why the prevalences cannot be solved for, as a sentence; empty if they can."""
    classes = round(len(table) ** 0.5)
    lacking = np.flatnonzero(table.reshape(classes, classes).sum(axis=0) == 0)
    if lacking.size:
        return f"Not computable: no source row has class {', '.join(map(str, lacking))}."
    if condition > CONDITION_LIMIT:
        return (
            f"Not computable: the classifier hardly tells the classes apart at the source "
            f"(condition of its confusion matrix {condition:.3g}, limit {CONDITION_LIMIT:g})."
        )
    return ""


def _resampled(tables: FloatArray, flags: FloatArray, resamples: int, seed: int) -> FloatArray:
    """Solutions over resampled patients of both sites [at most B, K], unsolvable ones left out."""
    rng = np.random.default_rng(seed)
    found, step = [], max(1, embeddings.BLOCK // (len(tables) + len(flags)))
    for low in range(0, resamples, step):
        size = min(step, resamples - low)
        one, two = (
            rng.multinomial(len(t), np.full(len(t), 1 / len(t)), size) @ t for t in (tables, flags)
        )
        solution, condition = _solved(one, two)
        found.append(solution[condition <= CONDITION_LIMIT])
    return np.concatenate(found)


def _shares(raw: FloatArray) -> FloatArray:
    """Solutions [B, K] clipped at 0 and scaled to sum to one."""
    positive = np.clip(raw, 0.0, None)
    return np.asarray(positive / positive.sum(axis=1, keepdims=True), dtype=np.float64)
