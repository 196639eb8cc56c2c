"""What a threshold would do at this hospital, counted in rows, with intervals over patients.

Arrays are 1-D with one row per image; `y` is 0/1, a score at or above the threshold is flagged.
A threshold is chosen on other rows than those it is reported on. Net benefit has its own file.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from medssl.stats.bootstrap import Interval, Patients, intervals
from medssl.stats.counted import of_sums
from medssl.stats.metrics import (
    BoolArray,
    FloatArray,
    Operating,
    operating,
    outcome_and_score,
    threshold_for_sensitivity,
)


@dataclass(frozen=True)
class Proportion:
    """A share of rows with a Wilson interval on as many rows as the patients are worth.

    `design_effect` is how many times more the share varies than that of independent rows; None
    where the rows do not say.
    """

    value: float
    lower: float
    upper: float
    hits: int
    n: int
    patients: int
    design_effect: float | None


@dataclass(frozen=True)
class Ratio:
    """A ratio with log-normal limits; None, with the reason in `note`, where a count is zero."""

    value: float | None
    lower: float | None
    upper: float | None
    note: str = ""


@dataclass(frozen=True)
class DiagnosticRatios:
    """Likelihood ratios of a flag and of its absence, and the diagnostic odds ratio."""

    positive: Ratio
    negative: Ratio
    odds: Ratio


MEASURES: dict[str, tuple[tuple[str, ...], Callable[..., FloatArray]]] = {
    "sensitivity": (("tp", "ill"), np.divide),
    "specificity": (("tn", "well"), np.divide),
    "ppv": (("tp", "flagged"), np.divide),
    "npv": (("tn", "passed"), np.divide),
    "balanced_accuracy": (
        ("tp", "ill", "tn", "well"),
        lambda tp, ill, tn, well: (tp / ill + tn / well) / 2,
    ),
    "youden": (
        ("tp", "ill", "fp", "well"),
        lambda tp, ill, fp, well: tp / ill - fp / well,
    ),
    "f1": (("tp", "ill", "flagged"), lambda tp, ill, flagged: 2 * tp / (ill + flagged)),
    "mcc": (
        ("tp", "fp", "fn", "tn"),
        lambda tp, fp, fn, tn: (
            (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        ),
    ),
    "kappa": (
        ("tp", "fp", "fn", "tn"),
        lambda tp, fp, fn, tn: (
            2 * (tp * tn - fp * fn) / ((tp + fp) * (fp + tn) + (tp + fn) * (fn + tn))
        ),
    ),
    "lr_positive": (
        ("tp", "ill", "fp", "well"),
        lambda tp, ill, fp, well: tp / ill / (fp / well),
    ),
    "lr_negative": (
        ("fn", "ill", "tn", "well"),
        lambda fn, ill, tn, well: fn / ill / (tn / well),
    ),
    "diagnostic_odds": (
        ("tp", "fp", "fn", "tn"),
        lambda tp, fp, fn, tn: tp * tn / (fp * fn),
    ),
    "alerts_per_100": (("flagged", "rows"), lambda flagged, rows: 100 * flagged / rows),
    "reads_per_finding": (("flagged", "tp"), np.divide),
}
"""Every measure as a function of counts of rows; see `_kinds` for their names.

`reads_per_finding` is how many flagged images are read for each that is diseased.
"""


def measures_at(
    y: npt.ArrayLike,
    score: npt.ArrayLike,
    threshold: float,
    patient: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Every measure of `MEASURES` at one threshold with its interval over patients.

    Args:
        y: 0/1 outcomes [n].
        score: scores [n].
        threshold: in the units of the score; chosen on other rows than these.
        patient: one code or pseudonym per row [n].
        resamples: of patients.
        seed: of the draws.
        level: coverage in (0, 1).

    Returns:
        An interval per name; None with a note where the four counts do not determine it.

    Raises:
        ValueError: if arrays do not fit, the threshold is NaN, or there is no row.
    """
    positive, value = outcome_and_score(y, score)
    groups = patients_of_rows(patient, value.size)
    operating(positive, value, threshold)  # its sentence about a NaN threshold
    kinds = _kinds(positive, value >= threshold)
    named = {
        name: of_sums([kinds[k] for k in columns], function, groups)
        for name, (columns, function) in MEASURES.items()
    }
    return intervals(named, groups, resamples=resamples, seed=seed, level=level)


def proportion_by_patient(
    hit: npt.ArrayLike, patient: npt.ArrayLike, *, level: float = 0.95
) -> Proportion:
    """Share of rows that are hits, with a Wilson interval that takes the patient as the unit.

    The rows are divided by the design effect of the ratio estimator (Rao and Scott 1992), never
    below 1. Where all rows agree it cannot be seen, and patients are counted instead of rows.

    Args:
        hit: 0/1 [n], n >= 1, e.g. "flagged" among the diseased.
        patient: one code or pseudonym per row [n].
        level: coverage in (0, 1).

    Returns:
        The share and its limits.

    Raises:
        ValueError: if there is no row, a value is neither 0 nor 1, or the patients do not fit.
    """
    positive, _ = outcome_and_score(hit, np.zeros(np.shape(hit)))
    groups = patients_of_rows(patient, positive.size)
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, got {level}; 0.95 is usual.")
    n, k, many = positive.size, int(np.count_nonzero(positive)), groups.count
    share = k / n
    effect, worth = None, float(many)
    if many > 1 and 0 < k < n:
        excess = np.bincount(groups.code, weights=positive - share, minlength=many)
        variance = many / (many - 1) * float(excess @ excess) / n**2
        # One more, because w independent rows have the estimated variance share (1 - share) / (w - 1).
        effect = n / (share * (1 - share) / variance + 1) if variance > 0 else 0.0
        worth = n / max(1.0, effect)
    z = float(ndtri(0.5 + level / 2))
    centre = (share * worth + z * z / 2) / (worth + z * z)
    half = z / (worth + z * z) * math.sqrt(share * (1 - share) * worth + z * z / 4)
    lower = 0.0 if k == 0 else centre - half
    upper = 1.0 if k == n else centre + half
    return Proportion(share, lower, upper, k, n, many, effect)


def diagnostic_ratios(counts: Operating, level: float = 0.95) -> DiagnosticRatios:
    """Likelihood ratios and diagnostic odds ratio with log limits that take rows as independent.

    Limits after Simel, Samsa and Matchar (1991); for several images a patient use `measures_at`.

    Args:
        counts: the four counts, e.g. of `metrics.operating`.
        level: coverage in (0, 1).

    Returns:
        The three ratios.

    Raises:
        ValueError: if the level is out of range.
    """
    tp, fp, fn, tn = counts.tp, counts.fp, counts.fn, counts.tn
    ill, well = tp + fn, fp + tn
    return DiagnosticRatios(
        positive=_ratio((tp, well), (ill, fp), [(tp, ill), (fp, well)], level),
        negative=_ratio((fn, well), (ill, tn), [(fn, ill), (tn, well)], level),
        odds=_ratio((tp, tn), (fp, fn), [(tp, 0), (fp, 0), (fn, 0), (tn, 0)], level),
    )


def best_sensitivity(y: npt.ArrayLike, score: npt.ArrayLike, specificity: float) -> Operating:
    """Most sensitive observed threshold that keeps a specificity (description, not a choice).

    Args:
        y: 0/1 outcomes [n] with both classes.
        score: scores [n].
        specificity: to keep, in (0, 1].

    Returns:
        Counts at the highest of the thresholds that are equally sensitive; at infinity, with
        nothing flagged, where no observed score keeps the specificity.

    Raises:
        ValueError: if a class is absent or the target is out of range.
    """
    positive, value = outcome_and_score(y, score)
    _both_classes(positive, specificity)
    negatives = np.sort(value[~positive])
    events = np.sort(value[positive])
    # The same division as Operating.specificity.
    kept = negatives.searchsorted(events, "left") / negatives.size >= specificity
    threshold = float(events[kept.argmax()]) if kept.any() else math.inf
    return operating(positive, value, threshold)


def best_specificity(y: npt.ArrayLike, score: npt.ArrayLike, sensitivity: float) -> Operating:
    """Most specific observed threshold that reaches a sensitivity (description, not a choice).

    Args:
        y: 0/1 outcomes [n] with both classes.
        score: scores [n].
        sensitivity: to reach, in (0, 1].

    Returns:
        Counts at that threshold.

    Raises:
        ValueError: if a class is absent or the target is out of range.
    """
    positive, value = outcome_and_score(y, score)
    _both_classes(positive, sensitivity)
    return operating(positive, value, threshold_for_sensitivity(positive, value, sensitivity))


def patients_of_rows(patient: npt.ArrayLike, rows: int) -> Patients:
    """Group rows by patient and insist on one entry per row.

    Args:
        patient: one code or pseudonym per row [n].
        rows: n, at least 1.

    Returns:
        The grouping.

    Raises:
        ValueError: if the number of entries differs or there is no row.
    """
    groups = Patients.of(patient)
    if groups.code.size != rows:
        raise ValueError(
            f"There are {groups.code.size} patient entries for {rows} rows; pass one each."
        )
    if rows == 0:
        raise ValueError("There is no row to compute from; check the filter before this step.")
    return groups


def _kinds(ill: BoolArray, flagged: BoolArray) -> dict[str, BoolArray]:
    """Rows [n] of every kind that a measure counts."""
    return {
        "tp": flagged & ill,
        "fp": flagged & ~ill,
        "fn": ~flagged & ill,
        "tn": ~flagged & ~ill,
        "ill": ill,
        "well": ~ill,
        "flagged": flagged,
        "passed": ~flagged,
        "rows": np.ones(ill.size, dtype=np.bool_),
    }


def _ratio(
    above: tuple[int, int], below: tuple[int, int], terms: list[tuple[int, int]], level: float
) -> Ratio:
    """Ratio of two products; its log variance is the sum of 1/a - 1/b (1/a for b = 0)."""
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, got {level}; 0.95 is usual.")
    if 0 in (*above, *below):
        # No half patients are added: the report shows the zero instead.
        return Ratio(None, None, None, "Not computable: one of the counts it needs is zero.")
    value = above[0] * above[1] / (below[0] * below[1])
    variance = sum(1 / a - (1 / b if b else 0.0) for a, b in terms)
    reach = math.exp(float(ndtri(0.5 + level / 2)) * math.sqrt(variance))
    return Ratio(value, value / reach, value * reach)


def _both_classes(positive: BoolArray, target: float) -> None:
    """A sentence unless both classes are there and the target is a share."""
    events = int(np.count_nonzero(positive))
    if events in (0, positive.size):
        raise ValueError(
            f"An operating point needs both classes; there are {events} positive and "
            f"{positive.size - events} negative rows."
        )
    if not 0 < target <= 1:
        raise ValueError(f"The target must lie above 0 and up to 1, got {target}.")
