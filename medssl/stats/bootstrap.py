"""Intervals by drawing patients, never rows: images of one patient are not independent evidence.

A resample is how often each patient was drawn, so one pass of draws serves every statistic, and two
models are compared on the same draws. `counted` has the statistics that read such counts, a block of
resamples at once; `by_rows` turns any function of row numbers into one. The seed is part of the
result: one seed gives one sequence of patients for every statistic over the same patients.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from medssl.stats.metrics import FloatArray, IntArray

RowStatistic = Callable[[IntArray], float | None]
"""Number for row indices [m], or None (or NaN) where they give none."""

Statistic = Callable[[IntArray], FloatArray]
"""Numbers [b] for how often each patient was drawn [b, P]; NaN where there is none."""

Method = Literal["percentile", "bca"]

SKIPPED_LIMIT = 0.05
"""Largest share of resamples that may be uncomputable before the interval is withheld."""

BLOCK = 4_000_000
"""Counts held at once (32 MB as int64)."""

JACKKNIFE_GROUPS = 500
"""Most groups of patients that are left out in turn; beyond that many patients, groups share."""


@dataclass(frozen=True)
class Interval:
    """One number with its interval over patients; None says "not computable"."""

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

    def part(self, places: npt.NDArray[np.generic]) -> "Patients":
        """Some rows (numbers or a mask); patients keep their numbers, even those without a row."""
        code = self.code[places]
        start = np.zeros(self.count + 1, dtype=np.int64)
        np.cumsum(np.bincount(code, minlength=self.count), out=start[1:])
        return Patients(code, np.argsort(code, kind="stable"), start)

    def rows(self, drawn: IntArray) -> IntArray:
        """All rows of the drawn patients [d], int64; a patient drawn twice gives rows twice."""
        begin = self.start[drawn]
        length = self.start[drawn + 1] - begin
        end = np.cumsum(length)
        # Row j of the result lies j - (end - length) steps behind the begin of its patient.
        shift = np.repeat(begin - (end - length), length)
        return self.order[shift + np.arange(shift.size)]


def by_rows(statistic: RowStatistic, groups: Patients) -> Statistic:
    """Let a function of row numbers read counts of patients, one resample after the other.

    Args:
        statistic: number for row indices [m], or None.
        groups: rows of each patient.

    Returns:
        The counted form. A patient drawn twice gives its rows twice; rows come in patient order.
    """

    def counted(counts: IntArray) -> FloatArray:
        every = np.arange(groups.count)
        values = (_finite(statistic(groups.rows(np.repeat(every, c)))) for c in counts)
        return np.array([math.nan if v is None else v for v in values])

    return counted


def draws(
    statistics: Mapping[str, Statistic], groups: Patients, *, resamples: int = 2000, seed: int = 0
) -> dict[str, FloatArray]:
    """Draw patients once and give every statistic the same draws.

    Args:
        statistics: counted statistics by name.
        groups: rows of each patient.
        resamples: how often P of P patients are drawn with replacement.
        seed: of the generator that draws.

    Returns:
        For each name float64 [B]; NaN where a resample gave no number.

    Raises:
        ValueError: if there is no patient or no resample.
    """
    if resamples < 1 or groups.count == 0:
        raise ValueError(
            f"A bootstrap needs patients and resamples >= 1; got {groups.count} patients, "
            f"{resamples} resamples."
        )
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK // groups.count)
    found: dict[str, list[FloatArray]] = {name: [] for name in statistics}
    for begin in range(0, resamples, block):
        counts = _counts(rng, groups.count, min(block, resamples - begin))
        for name, statistic in statistics.items():
            found[name].append(statistic(counts))
    return {name: _numbers(np.concatenate(parts)) for name, parts in found.items()}


def intervals(
    statistics: Mapping[str, Statistic],
    groups: Patients,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> dict[str, Interval]:
    """Intervals of many statistics over the same resampled patients.

    Args:
        statistics: counted statistics by name.
        groups: rows of each patient.
        resamples, seed: see `draws`.
        level: coverage in (0, 1).
        method: percentile, or BCa (Efron 1987) with a jackknife over patients.

    Returns:
        One interval per name. Limits are None, with the reason in `note`, if the value itself is
        not a number, if there are fewer than two patients, or if over 5 % of the resamples gave no
        number.

    Raises:
        ValueError: if there is no patient or resample, or the level is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"A level must lie within (0, 1); got level {level}. 0.95 is usual.")
    values = {name: _whole(statistic, groups) for name, statistic in statistics.items()}
    known = {name: s for name, s in statistics.items() if values[name] is not None}
    drawn = draws(known, groups, resamples=resamples, seed=seed)
    nothing = np.full(resamples, math.nan)
    return {
        name: _interval(s, groups, values[name], drawn.get(name, nothing), level, method)
        for name, s in statistics.items()
    }


def interval_of(
    statistic: Statistic,
    groups: Patients,
    drawn: FloatArray,
    *,
    level: float = 0.95,
    method: Method = "percentile",
) -> Interval:
    """Interval of one statistic from draws that were already made.

    Args:
        statistic, groups: as given to `draws`.
        drawn: what `draws` returned for it, float64 [B].
        level, method: see `intervals`.
    """
    return _interval(statistic, groups, _whole(statistic, groups), drawn, level, method)


def difference(
    a: Statistic,
    b: Statistic,
    groups: Patients,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> Difference:
    """Difference a - b of two counted statistics on the same resampled patients.

    Args:
        a, b: counted statistics over the same patients.
        groups: rows of each patient.
        resamples, seed, level, method: see `intervals`.

    Returns:
        Interval of the difference and p = 2 min(1 + #<=0, 1 + #>=0) / (1 + B), at most 1, never 0,
        B being the resamples that gave a number; p is None where the limits are.

    Raises:
        ValueError: see `intervals`.
    """

    def apart(counts: IntArray) -> FloatArray:
        return a(counts) - b(counts)

    if not 0 < level < 1:
        raise ValueError(f"A level must lie within (0, 1); got level {level}. 0.95 is usual.")
    value = _whole(apart, groups)
    drawn = draws({"": apart}, groups, resamples=resamples, seed=seed)[""]
    interval = _interval(apart, groups, value, drawn, level, method)
    return Difference(interval, None if interval.lower is None else two_sided_p(drawn))


def two_sided_p(drawn: FloatArray) -> float:
    """How seldom resampled differences [B] cross zero: 2 min(1 + #<=0, 1 + #>=0) / (1 + B)."""
    known = drawn[np.isfinite(drawn)]
    fewer = 1 + min(int(np.count_nonzero(known <= 0)), int(np.count_nonzero(known >= 0)))
    return min(1.0, 2 * fewer / (1 + known.size))


def patient_bootstrap(
    statistic: RowStatistic,
    patient: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> Interval:
    """Interval of a function of row numbers over resampled patients.

    Args:
        statistic: number for row indices [m] (int64), or None (or NaN) where they cannot give one.
        patient: one code or pseudonym per row [n].
        resamples, seed, level, method: see `intervals`.

    Returns:
        The interval, as `intervals` gives it.

    Raises:
        ValueError: see `intervals`.
    """
    groups = Patients.of(patient)
    options = {"resamples": resamples, "seed": seed, "level": level, "method": method}
    return intervals({"": by_rows(statistic, groups)}, groups, **options)[""]  # type: ignore[arg-type]


def paired_difference(
    statistic_a: RowStatistic,
    statistic_b: RowStatistic,
    patient: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Difference a - b of two functions of row numbers, on the same resampled patients.

    Args:
        statistic_a, statistic_b: number for row indices [m], or None.
        patient: one code or pseudonym per row [n].
        resamples, seed, level: see `intervals`.

    Returns:
        As `difference`.

    Raises:
        ValueError: see `intervals`.
    """
    groups = Patients.of(patient)
    a, b = by_rows(statistic_a, groups), by_rows(statistic_b, groups)
    return difference(a, b, groups, resamples=resamples, seed=seed, level=level)


def _counts(rng: np.random.Generator, patients: int, resamples: int) -> IntArray:
    """How often each patient is drawn, int64 [b, P]."""
    drawn = rng.integers(0, patients, (resamples, patients))
    drawn += patients * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * patients)
    return counts.reshape(resamples, patients)


def _whole(statistic: Statistic, groups: Patients) -> float | None:
    """The statistic of all patients, each once."""
    if groups.count == 0:
        return None
    return _finite(float(statistic(np.ones((1, groups.count), dtype=np.int64))[0]))


def _interval(
    statistic: Statistic,
    groups: Patients,
    value: float | None,
    drawn: FloatArray,
    level: float,
    method: Method,
) -> Interval:
    """The interval from the statistic of every resample, float64 [B]."""
    known = drawn[np.isfinite(drawn)] if value is not None else np.empty(0)
    skipped = drawn.size - known.size if value is not None else 0
    note = _refusal(value, groups.count, skipped, drawn.size)
    lower = upper = None
    if not note and value is not None:
        tail = (1 - level) / 2
        ends = np.array([tail, 1 - tail])
        if method == "bca":
            ends, note = _corrected(statistic, groups, known, value, ends)
        lower, upper = (float(q) for q in np.quantile(known, ends))
        if lower == upper:
            note = (
                f"Nearly every resample of the {groups.count} patients gave the same value, so "
                "this interval understates the uncertainty."
            )
    size = groups.code.size
    return Interval(value, lower, upper, level, drawn.size, skipped, size, groups.count, note)


def _corrected(
    statistic: Statistic, groups: Patients, known: FloatArray, value: float, ends: FloatArray
) -> tuple[FloatArray, str]:
    """Quantiles that BCa reads instead of `ends` [2]; the plain ones with a note where it cannot."""
    # Resamples equal to the value count half, so that a coarse statistic is not called biased.
    below = (np.count_nonzero(known < value) + np.count_nonzero(known <= value)) / 2
    left_out = _jackknife(statistic, groups)
    left_out = left_out[np.isfinite(left_out)]
    apart = left_out.mean() - left_out if left_out.size else np.zeros(1)
    spread = float((apart**2).sum())
    if below in (0, known.size) or spread == 0:
        return ends, "A percentile interval: the BCa correction is not defined for these patients."
    bias = float(ndtri(below / known.size))
    skew = float((apart**3).sum()) / (6 * spread**1.5)
    moved = bias + ndtri(ends)
    return np.asarray(ndtr(bias + moved / (1 - skew * moved)), dtype=np.float64), ""


def _jackknife(statistic: Statistic, groups: Patients) -> FloatArray:
    """The statistic without each patient, or without each of `JACKKNIFE_GROUPS` groups of them."""
    many = min(groups.count, JACKKNIFE_GROUPS)
    which = np.arange(groups.count) * many // groups.count
    block = max(1, BLOCK // groups.count)
    parts = []
    for begin in range(0, many, block):
        out = np.arange(begin, min(begin + block, many))
        parts.append(statistic((which[None, :] != out[:, None]).astype(np.int64)))
    return np.concatenate(parts)


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


def _numbers(values: FloatArray) -> FloatArray:
    """The values with infinities as NaN."""
    return np.where(np.isfinite(values), values, math.nan)


def _finite(value: float | None) -> float | None:
    """The number, or None for None, NaN and infinities."""
    return None if value is None or not math.isfinite(value) else float(value)
