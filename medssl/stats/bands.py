"""How sure is the calibration picture: curve, points and distances with limits over patients.

`y` is 0/1 and `p` a probability, 1-D, one row per image. Distances from the diagonal cannot be
negative, so noise makes them too large: each comes with its bias, and its interval spans both the
basic and the percentile one. Near 0 neither holds alone: in simulations with four images a patient
and a true ICI of 0.02 they covered 81 to 89 % and 8 to 77 %, together 93 to 95 %.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medssl.stats import calibration as cal
from medssl.stats.bootstrap import SKIPPED_LIMIT, Interval, Patients, draws
from medssl.stats.metrics import BoolArray, FloatArray, IntArray, outcome_and_probability
from medssl.stats.smoother import DISTANCES, counted_ece, counted_smooth, distances
from medssl.stats.usefulness import patients_of_rows, proportion_by_patient

GRID = 101
"""Places at which the curve is drawn, evenly from the smallest to the largest p."""


@dataclass(frozen=True)
class Distance:
    """A distance from perfect calibration; `bias` is what noise alone adds to it, about.

    The interval spans the basic and the percentile one, cut off at 0.
    """

    interval: Interval
    bias: float | None


@dataclass(frozen=True)
class Curve:
    """Smoothed observed frequency over p, each array [grid]; the limits hold at each p by itself."""

    p: FloatArray
    observed: FloatArray
    lower: FloatArray | None
    upper: FloatArray | None


@dataclass(frozen=True)
class Points:
    """Groups of equally many rows from low to high p, each array [groups]; limits over patients."""

    predicted: FloatArray
    observed: FloatArray
    lower: FloatArray
    upper: FloatArray
    n: IntArray
    events: IntArray
    patients: IntArray


@dataclass(frozen=True)
class CalibrationBands:
    """The calibration picture and the distances from it; no curve where p cannot be smoothed."""

    curve: Curve | None
    points: Points
    ici: Distance
    e50: Distance
    e90: Distance
    emax: Distance
    ece: Distance
    ece_squared_debiased: float | None
    n: int
    events: int
    patients: int
    note: str = ""


def calibration_bands(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    bins: int = 10,
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> CalibrationBands:
    """Reliability curve with its band, ten points, and ICI, E50, E90, Emax and ECE with limits.

    ICI, E50, E90 and Emax are those of Austin and Steyerberg (2019).

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        patient: one code or pseudonym per row [n].
        bins: groups of equally many rows for points and ECE; they stay put in every resample.
        resamples: of patients; 200 steady a band.
        seed: of the draws.
        level: coverage in (0, 1).

    Returns:
        Everything that a calibration figure shows.

    Raises:
        ValueError: if there is no row, a probability lies outside [0, 1], the patients do not fit
            the rows, or resamples, bins or level are out of range.
    """
    positive, value = outcome_and_probability(y, p)
    groups = patients_of_rows(patient, value.size)
    grid = np.linspace(value.min(), value.max(), GRID)
    smoother = counted_smooth(positive, value, groups, grid)
    binned = counted_ece(positive, value, groups, cal.equal_mass(value, bins))
    drawn = draws({"smooth": smoother, "ece": binned}, groups, resamples=resamples, seed=seed)
    whole = np.ones((1, groups.count), dtype=np.int64)
    smooth = cal.smoothed_frequency(positive, value)
    four = np.full(4, math.nan) if smooth is None else distances(np.abs(smooth - value))
    near = smoother(whole)[0]
    named = {
        name: distance(four[k], near[GRID + k], drawn["smooth"][:, GRID + k], groups, level)
        for k, name in enumerate(DISTANCES)
    }
    plain = cal.calibration(positive, value, bins)
    band = drawn["smooth"][:, :GRID]
    return CalibrationBands(
        curve=None if smooth is None else _curve(grid, near[:GRID], band, groups, level),
        points=_points(positive, value, groups, bins, level),
        **named,
        ece=distance(plain.ece, plain.ece, drawn["ece"], groups, level),
        ece_squared_debiased=plain.ece_squared_debiased,
        n=value.size,
        events=int(np.count_nonzero(positive)),
        patients=groups.count,
        note=_note(positive, groups),
    )


def limits(
    value: float | None,
    drawn: FloatArray,
    groups: Patients,
    level: float,
    *,
    around: float | None = None,
) -> Interval:
    """Put limits from resamples around a number.

    Args:
        value: of the rows themselves; None or NaN has no limits.
        drawn: the same number in each resample [B], NaN where there is none.
        groups: rows of each patient.
        level: coverage in (0, 1).
        around: where the resamples scatter; given, the interval spans the percentiles around the
            value and their mirror image (the basic interval), else it is the percentiles.

    Returns:
        The interval; its limits are None, with the reason in `note`, for one patient or when over
        5 % of the resamples gave no number.

    Raises:
        ValueError: if the level is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"A level must lie within (0, 1); got level {level}. 0.95 is usual.")
    known = drawn[np.isfinite(drawn)]
    skipped = drawn.size - known.size
    size = (level, drawn.size, skipped, groups.code.size, groups.count)
    if value is None or not math.isfinite(value):
        return Interval(None, None, None, *size, "Not computable: these rows do not determine it.")
    if groups.count < 2:
        note = "Not computable: one patient says nothing about how patients differ."
        return Interval(float(value), None, None, *size, note)
    if skipped > SKIPPED_LIMIT * drawn.size:
        note = (
            f"Not computable: {skipped} of {drawn.size} resamples gave no number, more than "
            f"{SKIPPED_LIMIT:.0%}; there are too few patients of one kind."
        )
        return Interval(float(value), None, None, *size, note)
    lower, upper = (float(q) for q in np.quantile(known, [0.5 - level / 2, 0.5 + level / 2]))
    if around is not None:
        reach = max(abs(around - lower), abs(upper - around))
        lower, upper = value - reach, value + reach
    return Interval(float(value), lower, upper, *size)


def distance(
    value: float | None, near: float, drawn: FloatArray, groups: Patients, level: float
) -> Distance:
    """Put wide limits, cut off at 0, around a distance that noise makes too large.

    Args:
        value: of the rows themselves.
        near: the same by the code that the resamples use; they scatter around it.
        drawn: the distance in each resample [B].
        groups: rows of each patient.
        level: coverage in (0, 1).

    Returns:
        The interval and the bias.

    Raises:
        ValueError: if the level is out of range.
    """
    found = limits(value, drawn, groups, level, around=near)
    if found.lower is None or found.upper is None:
        return Distance(found, None)
    cut = replace(found, lower=max(0.0, found.lower), upper=max(0.0, found.upper))
    return Distance(cut, float(np.nanmean(drawn)) - near)


def _curve(
    grid: FloatArray, observed: FloatArray, band: FloatArray, groups: Patients, level: float
) -> Curve:
    """The curve within [0, 1] and its limits at each place; none for one patient."""
    ends = None
    if groups.count > 1:
        ends = np.clip(np.quantile(band, [0.5 - level / 2, 0.5 + level / 2], axis=0), 0, 1)
    lower, upper = (None, None) if ends is None else (ends[0], ends[1])
    return Curve(grid, np.clip(observed, 0, 1), lower, upper)


def _points(
    positive: BoolArray, value: FloatArray, groups: Patients, bins: int, level: float
) -> Points:
    """The groups of the reliability curve, their limits by patients."""
    which = cal.equal_mass(value, bins)
    n = np.bincount(which)
    rows = [np.flatnonzero(which == k) for k in range(n.size)]
    found = [proportion_by_patient(positive[r], groups.code[r], level=level) for r in rows]
    return Points(
        predicted=np.bincount(which, weights=value) / n,
        observed=np.bincount(which, weights=positive) / n,
        lower=np.array([f.lower for f in found]),
        upper=np.array([f.upper for f in found]),
        n=n,
        events=np.array([f.hits for f in found]),
        patients=np.array([f.patients for f in found]),
    )


def _note(positive: BoolArray, groups: Patients) -> str:
    """What a reader of the picture must know, as sentences."""
    notes = []
    if positive.all() or not positive.any():
        notes.append("Only one class is present; the picture shows frequencies, no more.")
    if groups.count < 2:
        notes.append("There is one patient, so nothing has limits.")
    return " ".join(notes)
