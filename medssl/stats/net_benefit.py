"""Is acting on the model better than acting on everybody or on nobody (decision curve analysis).

`y` is 0/1 and `p` a probability, 1-D, one row per image. A threshold is the probability at which
acting becomes worth it, so its odds say how many needless acts one missed patient outweighs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.stats.bootstrap import Patients, Statistic, draws
from medssl.stats.metrics import (
    BoolArray,
    FloatArray,
    IntArray,
    operating,
    outcome_and_probability,
)
from medssl.stats.usefulness import patients_of_rows


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit in true positives per row, each array [t]; treating none has 0 throughout.

    `gain` is the model's net benefit less the better of treating all and treating none.
    `standardised` divides by the prevalence; None without events. Limits are None for one patient.
    """

    threshold: FloatArray
    model: FloatArray
    lower: FloatArray | None
    upper: FloatArray | None
    treat_all: FloatArray
    gain: FloatArray
    gain_lower: FloatArray | None
    gain_upper: FloatArray | None
    standardised: FloatArray | None
    prevalence: float
    n: int
    patients: int
    resamples: int


def net_benefit(y: npt.ArrayLike, p: npt.ArrayLike, threshold: float) -> float:
    """True positives per row less false positives at the odds of the threshold (Vickers 2006).

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        threshold: probability at which action is worth it, in (0, 1).

    Returns:
        Net benefit, at most the prevalence.

    Raises:
        ValueError: if there is no row, or a probability or the threshold is out of range.
    """
    positive, value = outcome_and_probability(y, p)
    odds = _odds(np.array([threshold]))[0]
    counts = operating(positive, value, threshold)
    return (counts.tp - counts.fp * float(odds)) / counts.n


def counted_gain(
    y: npt.ArrayLike, p: npt.ArrayLike, threshold: float, groups: Patients
) -> Statistic:
    """Net benefit less the better of treating all and none, of how often patients were drawn.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        threshold: in (0, 1).
        groups: rows of each patient.

    Returns:
        Counts [B, P] to gains [B].

    Raises:
        ValueError: if there is no row, or a probability or the threshold is out of range.
    """
    curve = _counted_curve(y, p, np.array([threshold]), groups)
    return lambda counts: curve(counts)[:, 1]


def decision_curve(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    thresholds: npt.ArrayLike | None = None,
    resamples: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> DecisionCurve:
    """Net benefit over a range of thresholds beside treating all and none, with patient limits.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        patient: one code or pseudonym per row [n].
        thresholds: within (0, 1) [t]; 0.01 to 0.99 by default. Limits hold at each by itself.
        resamples: of patients.
        seed: of the draws.
        level: coverage in (0, 1).

    Returns:
        The curve.

    Raises:
        ValueError: if there is no row, arrays do not fit, or a number is out of range.
    """
    positive, value = outcome_and_probability(y, p)
    groups = patients_of_rows(patient, value.size)
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, got {level}; 0.95 is usual.")
    at = np.arange(1, 100) / 100 if thresholds is None else np.asarray(thresholds, np.float64)
    curve = _counted_curve(positive, value, at, groups)
    whole = curve(np.ones((1, groups.count), dtype=np.int64))[0]
    drawn = draws({"": curve}, groups, resamples=resamples, seed=seed)[""]
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    prevalence = float(positive.mean())
    t, sure = at.size, groups.count > 1
    return DecisionCurve(
        threshold=at,
        model=whole[:t],
        lower=low[:t] if sure else None,
        upper=high[:t] if sure else None,
        treat_all=prevalence - (1 - prevalence) * _odds(at),
        gain=whole[t:],
        gain_lower=low[t:] if sure else None,
        gain_upper=high[t:] if sure else None,
        standardised=whole[:t] / prevalence if prevalence > 0 else None,
        prevalence=prevalence,
        n=value.size,
        patients=groups.count,
        resamples=resamples,
    )


def _counted_curve(
    y: npt.ArrayLike, p: npt.ArrayLike, at: FloatArray, groups: Patients
) -> Statistic:
    """Counts [B, P] to the net benefits at t thresholds, then the gains over both defaults."""
    positive, value = outcome_and_probability(y, p)
    odds = _odds(at)
    # Summed from the highest threshold down: a row counts at every threshold up to its p.
    place = np.searchsorted(np.sort(at), value, side="right")
    order = np.argsort(at, kind="stable")
    shape = (groups.count, at.size + 1)
    cell = groups.code * shape[1] + place
    size = shape[0] * shape[1]

    def flagged(kind: BoolArray) -> FloatArray:
        here = np.bincount(cell[kind], minlength=size).reshape(shape)[:, 1:]
        above = np.flip(np.cumsum(np.flip(here, axis=1), axis=1), axis=1).astype(np.float64)
        out = np.empty_like(above)
        out[:, order] = above
        return out

    true, false = flagged(positive), flagged(~positive)
    rows = np.bincount(groups.code, minlength=groups.count).astype(np.float64)
    events = np.bincount(groups.code, weights=positive, minlength=groups.count)

    def statistic(counts: IntArray) -> FloatArray:
        drawn = counts.astype(np.float64)
        n = drawn @ rows
        ill = (drawn @ events / n)[:, None]
        model = (drawn @ (true - false * odds)) / n[:, None]
        rival = np.maximum(ill - (1 - ill) * odds, 0.0)
        return np.concatenate([model, model - rival], axis=1)

    return statistic


def _odds(threshold: FloatArray) -> FloatArray:
    """Odds of thresholds [t], or a sentence."""
    if threshold.ndim != 1 or threshold.size == 0 or not np.all((threshold > 0) & (threshold < 1)):
        raise ValueError(
            f"Thresholds of net benefit must lie between 0 and 1, got {threshold.tolist()}; pass "
            "the probability at which acting becomes worth it."
        )
    return threshold / (1 - threshold)
