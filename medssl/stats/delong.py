"""Standard error of the AUROC by theory: DeLong's placements, summed by patient.

Arrays are 1-D with one row per image; `y` is 0/1 and of a score larger means more suspect. Images of
one patient resemble each other, so a placement sum of a patient is one piece of evidence, however
many images went into it. With one image per patient everything here is DeLong's method. The AUROC
compares images; averaging the scores of a patient first would be another quantity.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr, ndtri
from scipy.special import logit as log_odds

from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import BoolArray, IntArray, outcome_and_score

FEW_PATIENTS = 10
"""Patients of either kind below which the normal approximation is named as doubtful."""


@dataclass(frozen=True)
class AurocEstimate:
    """AUROC with clustered standard error and logit interval; None says "not computable".

    `naive_se` is DeLong's, which takes every row for independent. Patients with images of both
    kinds count in `patients_positive` and in `patients_negative`.
    """

    value: float | None
    se: float | None
    lower: float | None
    upper: float | None
    naive_se: float | None
    level: float
    positives: int
    negatives: int
    patients: int
    patients_positive: int
    patients_negative: int
    note: str = ""

    @property
    def design_effect(self) -> float | None:
        """Variance by patient over variance by row: how many times more rows clusters cost."""
        if self.se is None or not self.naive_se:
            return None
        return (self.se / self.naive_se) ** 2


@dataclass(frozen=True)
class AurocDifference:
    """AUROC of a minus AUROC of b, with Wald interval and two-sided p; None: not computable."""

    a: AurocEstimate
    b: AurocEstimate
    value: float | None
    se: float | None
    lower: float | None
    upper: float | None
    z: float | None
    p: float | None
    covariance: float | None
    level: float
    note: str = ""


@dataclass(frozen=True)
class _Sides:
    """Who is positive [n], and how many rows [P] of either kind each patient has."""

    positive: BoolArray
    groups: Patients
    events: IntArray
    others: IntArray

    @property
    def m(self) -> int:
        return int(self.events.sum())

    @property
    def n(self) -> int:
        return int(self.others.sum())


@dataclass(frozen=True)
class _Placements:
    """Twice the pairs won, as whole numbers: each positive row [M], negative row [N], and in all."""

    won: IntArray
    spared: IntArray
    total: int


def clustered_auroc(
    y: npt.ArrayLike, score: npt.ArrayLike, patient: npt.ArrayLike, *, level: float = 0.95
) -> AurocEstimate:
    """AUROC over image pairs with a standard error that takes the patient as the unit.

    Args:
        y: 0/1 outcomes [n].
        score: scores [n]; ties count half, NaN has no rank.
        patient: one code or pseudonym per row [n]; a patient may have images of both kinds.
        level: coverage of the interval in (0, 1).

    Returns:
        The estimate. The interval is symmetric on the logit scale, so it stays within (0, 1). With
        one class, fewer than two patients of a kind, or an AUROC of 0 or 1, the numbers that do not
        exist are None and `note` says why.

    Raises:
        ValueError: if shapes differ, an outcome is neither 0 nor 1, a score is NaN, or the level is
            out of range.

    Source: Obuchowski 1997, Biometrics 53:567 (clusters); DeLong et al. 1988, Biometrics 44:837.
    """
    sides = _sides(y, patient, level)
    return _estimate(sides, _placements(y, score), level)


def paired(
    y: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    level: float = 0.95,
) -> AurocDifference:
    """Compare two scores of the same rows; what both share does not count as difference.

    Args:
        y: 0/1 outcomes [n].
        a: scores of one model [n].
        b: scores of the other [n], any scale.
        patient: one code or pseudonym per row [n].
        level: coverage of the interval in (0, 1).

    Returns:
        Difference a - b, its standard error by patient, z and two-sided p, and the covariance of
        the two AUROCs. Two scores that rank every pair alike leave nothing to test: p is None.

    Raises:
        ValueError: see `clustered_auroc`.

    Source: DeLong et al. 1988; Obuchowski 1997 for clusters.
    """
    sides = _sides(y, patient, level)
    place_a, place_b = _placements(y, a), _placements(y, b)
    first, second = _estimate(sides, place_a, level), _estimate(sides, place_b, level)
    note = _refusal(sides)
    if note or place_a is None or place_b is None:
        return _untested(first, second, level, note)
    x_a, y_a = _patient_sums(sides, place_a)
    x_b, y_b = _patient_sums(sides, place_b)
    # Whole numbers cancel without a rest, so equal rankings have a variance of exactly zero.
    variance = _variance(sides, x_a - x_b, y_a - y_b, x_a - x_b, y_a - y_b)
    covariance = _variance(sides, x_a, y_a, x_b, y_b)
    return _tested(first, second, variance, covariance, level)


def unpaired(a: AurocEstimate, b: AurocEstimate, *, level: float = 0.95) -> AurocDifference:
    """Compare AUROCs of two sets of patients, such as two sites, or a group and the rest.

    Args:
        a: estimate on one set.
        b: estimate on another set that shares no patient with the first.
        level: coverage of the interval in (0, 1).

    Returns:
        Difference a - b with z and two-sided p; None where either has no standard error.

    Raises:
        ValueError: if the level is out of range.

    Source: Hanley & McNeil 1982, Radiology 143:29 (independent sets).
    """
    _check_level(level)
    if a.se is None or b.se is None:
        note = f"Not computable: one side has no standard error. {a.note or b.note}"
        return _untested(a, b, level, note)
    return _tested(a, b, a.se**2 + b.se**2, 0.0, level)


def _sides(y: npt.ArrayLike, patient: npt.ArrayLike, level: float) -> _Sides:
    """Checked outcome and patients."""
    _check_level(level)
    label, groups = np.asarray(y), Patients.of(patient)
    positive, _ = outcome_and_score(label, np.zeros(label.shape))
    if groups.code.size != positive.size:
        raise ValueError(
            f"There are {groups.code.size} patient entries for {positive.size} rows; pass one each."
        )
    events = np.bincount(groups.code[positive], minlength=groups.count).astype(np.int64)
    others = np.bincount(groups.code[~positive], minlength=groups.count).astype(np.int64)
    return _Sides(positive, groups, events, others)


def _placements(y: npt.ArrayLike, score: npt.ArrayLike) -> _Placements | None:
    """Placements of every row among the rows of the other kind, ties as one; None: one kind only."""
    positive, value = outcome_and_score(y, score)
    up, down = value[positive], value[~positive]
    if up.size == 0 or down.size == 0:
        return None
    below, above = np.sort(down), np.sort(up)
    # Strictly below plus not above is twice the mid-rank: sorting makes it n log n.
    won = below.searchsorted(up, "left") + below.searchsorted(up, "right")
    lost = above.searchsorted(down, "left") + above.searchsorted(down, "right")
    return _Placements(won.astype(np.int64), (2 * up.size - lost).astype(np.int64), int(won.sum()))


def _patient_sums(sides: _Sides, place: _Placements) -> tuple[IntArray, IntArray]:
    """2MN times the sum of (placement - AUROC) of each patient [P], positives and negatives."""
    codes, count = sides.groups.code, sides.groups.count
    won, spared = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.add.at(won, codes[sides.positive], place.won)
    np.add.at(spared, codes[~sides.positive], place.spared)
    return sides.m * won - sides.events * place.total, sides.n * spared - sides.others * place.total


def _variance(sides: _Sides, x_a: IntArray, y_a: IntArray, x_b: IntArray, y_b: IntArray) -> float:
    """Obuchowski's covariance of two AUROCs; the variance of one when a and b are the same."""
    m, n, scale = sides.m, sides.n, 2.0 * sides.m * sides.n
    xa, ya, xb, yb = (sums / scale for sums in (x_a, y_a, x_b, y_b))
    own = _unbiased(int(np.count_nonzero(sides.events))) * float(xa @ xb) / m**2
    other = _unbiased(int(np.count_nonzero(sides.others))) * float(ya @ yb) / n**2
    # Patients with images of both kinds tie the two sums together.
    cross = _unbiased(sides.groups.count) * (float(xa @ yb) + float(xb @ ya)) / (m * n)
    return own + other + cross


def _unbiased(count: int) -> float:
    """I / (I - 1)."""
    return count / (count - 1)


def _estimate(sides: _Sides, place: _Placements | None, level: float) -> AurocEstimate:
    """AUROC, both standard errors, and the interval, as far as they exist."""
    counts = (
        sides.m,
        sides.n,
        sides.groups.count,
        int(np.count_nonzero(sides.events)),
        int(np.count_nonzero(sides.others)),
    )
    if place is None:
        return AurocEstimate(None, None, None, None, None, level, *counts, _refusal(sides))
    value = place.total / (2.0 * sides.m * sides.n)
    naive = _naive_se(place, sides.m, sides.n)
    note = _refusal(sides)
    if note:
        return AurocEstimate(value, None, None, None, naive, level, *counts, note)
    x, y = _patient_sums(sides, place)
    se = math.sqrt(_variance(sides, x, y, x, y))
    if se == 0:
        note = _no_spread(value, counts[3], counts[4])
        return AurocEstimate(value, None, None, None, None, level, *counts, note)
    half = float(ndtri(0.5 + level / 2)) * se / (value * (1 - value))
    lower, upper = (float(expit(log_odds(value) + side * half)) for side in (-1, 1))
    if min(counts[3:]) < FEW_PATIENTS:
        note = (
            f"With {counts[3]} patients with positive and {counts[4]} with negative images, the "
            f"normal approximation is doubtful; {FEW_PATIENTS} of each are the least."
        )
    return AurocEstimate(value, se, lower, upper, naive, level, *counts, note)


def _naive_se(place: _Placements, m: int, n: int) -> float | None:
    """DeLong's standard error over rows; None below two rows of a kind."""
    if min(m, n) < 2:
        return None
    rows = np.var(place.won / (2.0 * n), ddof=1) / m + np.var(place.spared / (2.0 * m), ddof=1) / n
    return float(np.sqrt(rows))


def _refusal(sides: _Sides) -> str:
    """Why there can be no standard error, as a sentence; empty if there can."""
    if sides.m == 0 or sides.n == 0:
        return (
            f"Not computable: there are {sides.m} positive and {sides.n} negative rows, and an "
            "AUROC needs both."
        )
    ill, well = np.count_nonzero(sides.events), np.count_nonzero(sides.others)
    if min(ill, well) < 2:
        return (
            f"Not computable: positive images come from {ill} and negative ones from {well} patients; "
            "a standard error needs two of each."
        )
    return ""


def _no_spread(value: float, ill: int, well: int) -> str:
    """Why a standard error of zero is no standard error."""
    if value in (0.0, 1.0):
        way = "rightly" if value else "wrongly"
        return (
            f"All pairs are ranked {way}, so the logit interval is undefined and the standard "
            f"error would be zero; {ill} patients with positive and {well} with negative images "
            "are all that is behind it."
        )
    return (
        "Every patient supports the very same AUROC (constant scores?), so the standard error "
        "would be zero and no interval is given."
    )


def _difference(a: AurocEstimate, b: AurocEstimate) -> float | None:
    """AUROC of a minus AUROC of b, where both exist."""
    return None if a.value is None or b.value is None else a.value - b.value


def _untested(a: AurocEstimate, b: AurocEstimate, level: float, note: str) -> AurocDifference:
    """The difference alone, with the reason why there is no more."""
    value = _difference(a, b)
    return AurocDifference(a, b, value, None, None, None, None, None, None, level, note)


def _tested(
    a: AurocEstimate, b: AurocEstimate, variance: float, covariance: float, level: float
) -> AurocDifference:
    """Interval, z and p of the difference from its variance."""
    value = _difference(a, b)
    if value is None or variance == 0:
        note = (
            "Not computable: every patient supports the very same difference (equal rankings?), so "
            "the standard error would be zero and there is nothing to test."
        )
        return _untested(a, b, level, note)
    se = math.sqrt(variance)
    half, z = float(ndtri(0.5 + level / 2)) * se, value / se
    # Twice the lower tail keeps its digits where one minus the upper would round to zero.
    p = 2 * float(ndtr(-abs(z)))
    note = a.note or b.note
    return AurocDifference(
        a, b, value, se, value - half, value + half, z, p, covariance, level, note
    )


def _check_level(level: float) -> None:
    """Refuse a level outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, got {level}; 0.95 is usual.")
