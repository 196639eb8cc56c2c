"""Does the model's calibration hold from month to month: table and trend (`cusum` is beside).

`y` is 0/1, `p` a probability and `month` a calendar month "YYYY-MM", 1-D, one row per image. Rows
without a month (None, empty, NaN or NaT) are counted and left out; months in which nobody came are
named, because a gap is not a good month.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import statsmodels.api as sm
from scipy.special import logit as log_odds
from scipy.stats import chi2

from medssl.stats.bootstrap import Patients
from medssl.stats.calibration import EDGE
from medssl.stats.metrics import BoolArray, FloatArray, IntArray, auroc, outcome_and_probability
from medssl.stats.usefulness import patients_of_rows

MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")

ABSENT = {"", "None", "nan", "NaN", "NaT", "<NA>"}
"""How a missing month reads as text."""

FEW_PATIENTS = 5
"""Patients (of either kind, for the AUROC) below which a month has counts but no ratios."""


@dataclass(frozen=True)
class Month:
    """One month; None where the note says why."""

    month: str
    n: int
    patients: int
    events: int
    expected: float
    oe: float | None
    lower: float | None
    upper: float | None
    auroc: float | None
    note: str = ""


@dataclass(frozen=True)
class Months:
    """All months with rows, in order; `gaps` are those between without any row."""

    rows: tuple[Month, ...]
    gaps: tuple[str, ...]
    undated: int
    level: float
    note: str = ""


@dataclass(frozen=True)
class Trend:
    """Change of the log-odds of an event, beyond what p says, per calendar month."""

    per_month: float | None
    se: float | None
    lower: float | None
    upper: float | None
    p: float | None
    span: int
    n: int
    events: int
    patients: int
    undated: int
    note: str = ""


@dataclass(frozen=True)
class Dated:
    """Rows with a month: `when` [n] counts calendar months from the first one, `first`."""

    positive: BoolArray
    value: FloatArray
    groups: Patients
    when: IntArray
    first: int
    undated: int

    def name(self, k: int) -> str:
        """Month k as "YYYY-MM"."""
        year, month = divmod(self.first + k, 12)
        return f"{year:04d}-{month + 1:02d}"


def monthly(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    patient: npt.ArrayLike,
    month: npt.ArrayLike,
    *,
    level: float = 0.95,
) -> Months:
    """Observed over expected events month by month with exact Poisson limits (Garwood 1936).

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        patient: one code or pseudonym per row [n].
        month: "YYYY-MM" or missing [n].
        level: coverage of the limits in (0, 1). With several images a patient, observed and
            expected are divided by how many times more O/E varies over patients than a count would.

    Returns:
        The table. A month of fewer than five patients has counts only.

    Raises:
        ValueError: if arrays do not fit, a month is malformed, or no row has one.
    """
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, got {level}; 0.95 is usual.")
    data = dated(y, p, patient, month)
    present = np.unique(data.when)
    rows = tuple(_month(data, int(k), level) for k in present)
    gaps = tuple(data.name(k) for k in np.setdiff1d(np.arange(present[-1] + 1), present).tolist())
    notes = []
    if data.undated:
        notes.append(f"{data.undated} rows have no month and are left out.")
    if gaps:
        notes.append(f"No image comes from {_listed(gaps)}.")
    return Months(rows, gaps, data.undated, level, " ".join(notes))


def poisson_ratio(events: float, expected: float, level: float = 0.95) -> tuple[float, float]:
    """Exact limits of O/E when the observed number is Poisson (Garwood 1936).

    Args:
        events: O, 0 or more.
        expected: E, above 0.
        level: coverage in (0, 1).

    Returns:
        Lower and upper limit.

    Raises:
        ValueError: if a number is out of range.
    """
    if events < 0 or not expected > 0 or not 0 < level < 1:
        raise ValueError(
            f"O/E needs events >= 0, expected > 0 and a level within (0, 1); got {events}, "
            f"{expected} and {level}."
        )
    tail = (1 - level) / 2
    lower = float(chi2.ppf(tail, 2 * events)) / 2 if events else 0.0
    return lower / expected, float(chi2.isf(tail, 2 * events + 2)) / 2 / expected


def trend(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    patient: npt.ArrayLike,
    month: npt.ArrayLike,
    *,
    level: float = 0.95,
) -> Trend:
    """Slope of the outcome over months with logit p as offset; standard error by patient.

    Binomial GLM with the cluster-robust covariance of Liang and Zeger (1986).

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        patient: one code or pseudonym per row [n].
        month: "YYYY-MM" or missing [n].
        level: coverage in (0, 1).

    Returns:
        The slope, with a normal interval and p; None where the note says why.

    Raises:
        ValueError: if arrays do not fit, a month is malformed, or the level is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, got {level}; 0.95 is usual.")
    data = dated(y, p, patient, month)
    events, patients = int(np.count_nonzero(data.positive)), data.groups.count
    counts = (int(data.when.max()) + 1, data.when.size, events, patients, data.undated)
    note = _no_trend(data)
    if note:
        return Trend(None, None, None, None, None, *counts, note)
    # Centred, so that slope and intercept are nearly independent.
    design = np.column_stack([np.ones(data.when.size), data.when - data.when.mean()])
    offset = log_odds(np.clip(data.value, EDGE, 1 - EDGE))
    model = sm.GLM(
        data.positive.astype(np.float64), design, family=sm.families.Binomial(), offset=offset
    )
    found = model.fit(cov_type="cluster", cov_kwds={"groups": data.groups.code})
    lower, upper = (float(v) for v in found.conf_int(1 - level)[1])
    few = patients < 30
    return Trend(
        float(found.params[1]),
        float(found.bse[1]),
        lower,
        upper,
        float(found.pvalues[1]),
        *counts,
        f"{patients} patients are few for a cluster-robust error; it is too small." if few else "",
    )


def dated(
    y: npt.ArrayLike, p: npt.ArrayLike, patient: npt.ArrayLike, month: npt.ArrayLike
) -> Dated:
    """Keep the rows that have a month.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        patient: one code or pseudonym per row [n].
        month: "YYYY-MM" or missing [n].

    Returns:
        The rows, checked.

    Raises:
        ValueError: if arrays do not fit, a month is malformed, or no row has one.
    """
    positive, value = outcome_and_probability(y, p)
    groups = patients_of_rows(patient, value.size)
    text = np.array([str(m) for m in np.asarray(month).ravel()], dtype=str)
    if np.shape(month) != value.shape:
        raise ValueError(f"There are {text.size} months for {value.size} rows; pass one each.")
    known = ~np.isin(text, sorted(ABSENT))
    wrong = [m for m in np.unique(text[known]).tolist() if not MONTH.fullmatch(m)]
    if wrong:
        raise ValueError(f"Months must read YYYY-MM; these do not: {_listed(tuple(wrong))}.")
    if not known.any():
        raise ValueError("No row has a month; drift cannot be followed without dates.")
    number = np.array([12 * int(m[:4]) + int(m[5:]) - 1 for m in text[known]], dtype=np.int64)
    kept = Patients.of(groups.code[known])
    first = int(number.min())
    undated = int(np.count_nonzero(~known))
    return Dated(positive[known], value[known], kept, number - first, first, undated)


def _month(data: Dated, k: int, level: float) -> Month:
    """One row of the table."""
    here = data.when == k
    positive, value, code = data.positive[here], data.value[here], data.groups.code[here]
    patients, events = np.unique(code).size, int(np.count_nonzero(positive))
    counts = (data.name(k), value.size, patients, events, float(value.sum()))
    if patients < FEW_PATIENTS:
        note = f"Fewer than {FEW_PATIENTS} patients: counts only."
        return Month(*counts, None, None, None, None, note)
    notes: list[str] = []
    lower: float | None = None
    upper: float | None = None
    ratio = events / counts[4] if counts[4] > 0 else None
    if ratio is None:
        notes.append("No event is expected, so there is no O/E.")
    else:
        effect = _effect(positive, value, code)
        lower, upper = poisson_ratio(events / effect, counts[4] / effect, level)
    kinds = np.unique(code[positive]).size, np.unique(code[~positive]).size
    area = auroc(positive, value) if min(kinds) >= FEW_PATIENTS else None
    if area is None:
        notes.append(f"AUROC needs {FEW_PATIENTS} patients of either kind, not {min(kinds)}.")
    return Month(*counts, ratio, lower, upper, area, " ".join(notes))


def _effect(positive: BoolArray, value: FloatArray, code: IntArray) -> float:
    """How many times more O/E varies between patients than a Poisson count would, at least 1."""
    _, who = np.unique(code, return_inverse=True)
    many = int(who.max()) + 1
    events = np.bincount(who, weights=positive)
    if many == who.size or not events.any():
        return who.size / many
    excess = events - events.sum() / value.sum() * np.bincount(who, weights=value)
    return max(1.0, many / (many - 1) * float(excess @ excess) / float(events.sum()))


def _no_trend(data: Dated) -> str:
    """Why there is no slope over time, as a sentence; empty if there is one."""
    events, others = data.when[data.positive], data.when[~data.positive]
    if data.when.max() == 0:
        return "Not computable: all rows come from one month."
    if events.size == 0 or others.size == 0:
        return "Not computable: only one class is present."
    if events.min() >= others.max() or events.max() <= others.min():
        return "Not computable: events and non-events lie in different months."
    if data.groups.count < 2:
        return "Not computable: one patient says nothing about how patients differ."
    return ""


def _listed(names: tuple[str, ...]) -> str:
    """Names for a sentence, the first six."""
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
