"""Intervals by drawing patients, never rows: images of one patient are not independent evidence.

A statistic is a function of row numbers, so one pass of patients serves any metric, and two models
are compared on the same draws. The seed is part of the result: one seed gives one sequence of
patients for every statistic over the same patients.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.stats.metrics import FloatArray, IntArray

Statistic = Callable[[IntArray], float | None]

SKIPPED_LIMIT = 0.05
"""Largest share of resamples that may be uncomputable before the interval is withheld."""


@dataclass(frozen=True)
class Interval:
    """One number with its percentile interval over patients; None says "not computable"."""

    value: float | None
    lower: float | None
    upper: float | None
    level: float
    resamples: int
    skipped: int
    n: int
    patients: int
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """Statistic of a minus statistic of b with its interval and two-sided p (None: no interval)."""

    interval: Interval
    p: float | None


@dataclass(frozen=True)
class Patients:
    """Rows of each patient, patients numbered by first appearance.

    Patient i owns `order[start[i]:start[i + 1]]`; `code` [n], `order` [n], `start` [P + 1], int64.
    """

    code: IntArray
    order: IntArray
    start: IntArray

    @classmethod
    def of(cls, patient: npt.ArrayLike) -> "Patients":
        """Group rows by patient.

        Args:
            patient: one code or pseudonym per row [n].

        Returns:
            The grouping; its numbering follows the rows, so names do not change a seeded result.

        Raises:
            ValueError: if the array is not 1-D.
        """
        names = np.asarray(patient)
        if names.ndim != 1:
            raise ValueError(f"Patients must be one name per row (1-D), got shape {names.shape}.")
        _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
        number = np.empty(first.size, dtype=np.int64)
        number[np.argsort(first)] = np.arange(first.size)
        code = number[inverse]
        start = np.zeros(first.size + 1, dtype=np.int64)
        np.cumsum(np.bincount(code, minlength=first.size), out=start[1:])
        return cls(code, np.argsort(code, kind="stable"), start)

    @property
    def count(self) -> int:
        """Number of patients."""
        return self.start.size - 1

    def rows(self, drawn: IntArray) -> IntArray:
        """All rows of the drawn patients [d], int64; a patient drawn twice gives rows twice."""
        begin = self.start[drawn]
        length = self.start[drawn + 1] - begin
        end = np.cumsum(length)
        # Row j of the result lies j - (end - length) steps behind the begin of its patient.
        shift = np.repeat(begin - (end - length), length)
        return self.order[shift + np.arange(shift.size)]


def patient_bootstrap(
    statistic: Statistic,
    patient: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic over resampled patients.

    Args:
        statistic: number for row indices [m] (int64), or None (or NaN) where they cannot give one.
        patient: one code or pseudonym per row [n].
        resamples: how often P of P patients are drawn with replacement.
        seed: of the generator that draws.
        level: coverage in (0, 1).

    Returns:
        The interval. Limits are None, with the reason in `note`, if the value itself is None, if
        there are fewer than two patients, or if over 5 % of the resamples gave no number.

    Raises:
        ValueError: if there is no row, or resamples or level are out of range.
    """
    return _bootstrap(statistic, patient, resamples, seed, level)[0]


def paired_difference(
    statistic_a: Statistic,
    statistic_b: Statistic,
    patient: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Difference a - b of two statistics, both computed on the same resampled patients.

    Args:
        statistic_a: number for row indices [m], or None.
        statistic_b: likewise, for the other model on the same rows.
        patient: one code or pseudonym per row [n].
        resamples: how often P of P patients are drawn with replacement.
        seed: of the generator that draws.
        level: coverage in (0, 1).

    Returns:
        Interval of the difference and p = 2 min(1 + #<=0, 1 + #>=0) / (1 + B), at most 1, never 0,
        B being the resamples that gave a number; p is None where the limits are.

    Raises:
        ValueError: if there is no row, or resamples or level are out of range.
    """

    def difference(rows: IntArray) -> float | None:
        a, b = statistic_a(rows), statistic_b(rows)
        return None if a is None or b is None else a - b

    interval, drawn = _bootstrap(difference, patient, resamples, seed, level)
    if interval.lower is None:
        return Difference(interval, None)
    fewer = 1 + min(int(np.count_nonzero(drawn <= 0)), int(np.count_nonzero(drawn >= 0)))
    return Difference(interval, min(1.0, 2 * fewer / (1 + drawn.size)))


def _bootstrap(
    statistic: Statistic, patient: npt.ArrayLike, resamples: int, seed: int, level: float
) -> tuple[Interval, FloatArray]:
    """The interval and the statistic of every resample that gave one, float64 [B - skipped]."""
    groups = Patients.of(patient)
    if resamples < 1 or not 0 < level < 1 or groups.count == 0:
        raise ValueError(
            f"A bootstrap needs patients, resamples >= 1 and a level within (0, 1); got "
            f"{groups.count} patients, {resamples} resamples, level {level}."
        )
    value = _finite(statistic(np.arange(groups.code.size)))
    drawn = _draws(statistic, groups, resamples, seed) if value is not None else np.empty(0)
    skipped = resamples - drawn.size if value is not None else 0
    note = _refusal(value, groups.count, skipped, resamples)
    lower = upper = None
    if not note:
        tail = (1 - level) / 2
        lower, upper = (float(q) for q in np.quantile(drawn, [tail, 1 - tail]))
        if lower == upper:
            note = (
                f"Nearly every resample of the {groups.count} patients gave the same value, so "
                "this interval understates the uncertainty."
            )
    size = groups.code.size
    return Interval(value, lower, upper, level, resamples, skipped, size, groups.count, note), drawn


def _draws(statistic: Statistic, groups: Patients, resamples: int, seed: int) -> FloatArray:
    """Statistic of each resample that has one, float64."""
    rng = np.random.default_rng(seed)
    each = (
        _finite(statistic(groups.rows(rng.integers(0, groups.count, groups.count))))
        for _ in range(resamples)
    )
    return np.array([v for v in each if v is not None], dtype=np.float64)


def _refusal(value: float | None, patients: int, skipped: int, resamples: int) -> str:
    """Why there can be no interval, as a sentence; empty if there can."""
    if value is None:
        return "Not computable: these rows do not determine the statistic (one class only?)."
    if patients < 2:
        return "Not computable: one patient says nothing about how patients differ."
    if skipped > SKIPPED_LIMIT * resamples:
        return (
            f"Not computable: {skipped} of {resamples} resamples gave no number, more than "
            f"{SKIPPED_LIMIT:.0%}; there are too few patients of one kind."
        )
    return ""


def _finite(value: float | None) -> float | None:
    """The number, or None for None, NaN and infinities."""
    return None if value is None or not math.isfinite(value) else float(value)
