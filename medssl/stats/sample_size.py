"""How many patients it takes to say something: sample size of an external evaluation.

Each criterion asks for a 95 % interval no wider than a width that still decides something. Sizes are
first counted in independent rows, as the sources do; `assess` turns them into patients by the design
effect. "100 events and 100 non-events" is a floor, not a goal: it can mislead in both directions
(Snell et al. 2021, J Clin Epidemiol 135:79).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtri
from scipy.special import logit as log_odds

from medssl.stats.metrics import auroc, operating, outcome_and_probability

FLOOR = 100
"""Events, and non-events, below which no evaluation is worth much."""

EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1 before a logit is taken."""

Name = Literal["oe", "auroc", "slope", "net_benefit"]

NAMES: dict[Name, str] = {
    "oe": "observed over expected",
    "auroc": "AUROC",
    "slope": "calibration slope",
    "net_benefit": "net benefit",
}
"""The criteria, as a sentence names them."""

ROUNDING = 1e-12
"""Share by which a size may exceed a whole number through rounding alone."""


@dataclass(frozen=True)
class Expected:
    """What the study will meet, or has met: assumed before it, observed after it.

    `lp_mean` and `lp_sd` describe the log-odds of the predicted probabilities. A number that is None
    leaves its criterion without an answer.
    """

    prevalence: float
    auroc: float | None = None
    lp_mean: float | None = None
    lp_sd: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Widths:
    """Width of the interval of ln(O/E), AUROC, slope, standardised net benefit; None: not asked."""

    oe: float | None = 0.2
    auroc: float | None = 0.1
    slope: float | None = 0.2
    net_benefit: float | None = 0.2


@dataclass(frozen=True)
class _Error:
    """Squared standard error of n independent rows: (fixed + rate n) / n^2."""

    fixed: float
    rate: float


@dataclass(frozen=True)
class Criterion:
    """Patients needed and had for one target width, and the widths foreseen and achieved."""

    name: Name
    needed: int | None
    had: int
    target: float
    foreseen: float | None
    achieved: float | None
    enough: bool | None
    note: str = ""


@dataclass(frozen=True)
class Assessment:
    """Whether a study is large enough to say anything; `enough` is None where that is open."""

    criteria: tuple[Criterion, ...]
    enough: bool | None
    patients: int
    design_effect: float
    events: float
    non_events: float
    floor_reached: bool
    note: str


def rows_needed(name: Name, expected: Expected, width: float, level: float = 0.95) -> int:
    """Independent rows that give one criterion an interval of this width.

    Args:
        name: "oe", the interval being that of ln(O/E) (for a width w of O/E itself near 1 pass
            2 asinh(w / 2)); "auroc"; "slope", of a well calibrated model with normal log-odds; or
            "net_benefit", which is net benefit divided by prevalence.
        expected: the numbers that this criterion needs.
        width: of the interval, above 0.
        level: coverage in (0, 1).

    Returns:
        Smallest number of rows.

    Raises:
        ValueError: if a number is missing or out of range.

    Source: Riley et al. 2021, Stat Med 40:4230; the AUROC's error is method 4 of Newcombe 2006,
        Stat Med 25:559. The slope is theirs by quadrature instead of simulation.
    """
    if not 0 < width < math.inf:
        raise ValueError(f"The width of the interval must be above 0, got {width}.")
    error = _errors_of(name, expected)
    aim = (width / (2 * _quantile(level))) ** 2
    # (fixed + rate n) / n^2 = aim has one positive root.
    root = (error.rate + math.sqrt(error.rate**2 + 4 * aim * error.fixed)) / (2 * aim)
    return max(1, math.ceil(root * (1 - ROUNDING)))


def width_foreseen(name: Name, expected: Expected, rows: float, level: float = 0.95) -> float:
    """Width of the interval that so many independent rows give one criterion.

    Args:
        name: see `rows_needed`.
        expected: the numbers that this criterion needs.
        rows: above 0; rows divided by the design effect need not be whole.
        level: coverage in (0, 1).

    Returns:
        The width.

    Raises:
        ValueError: if a number is missing or out of range.
    """
    if not 0 < rows < math.inf:
        raise ValueError(f"A width needs more than 0 rows, got {rows}.")
    error = _errors_of(name, expected)
    return 2 * _quantile(level) * math.sqrt(error.fixed + error.rate * rows) / rows


def observed(y: npt.ArrayLike, p: npt.ArrayLike, threshold: float | None = None) -> Expected:
    """Describe rows that have been evaluated in the terms that the criteria use.

    Args:
        y: 0/1 outcomes [n], n >= 1.
        p: probabilities [n].
        threshold: probability at which a flag is raised; None leaves net benefit out.

    Returns:
        The description; what one class alone cannot tell is None.

    Raises:
        ValueError: if there is no row or a probability lies outside [0, 1].
    """
    positive, value = outcome_and_probability(y, p)
    lp = np.asarray(log_odds(np.clip(value, EDGE, 1 - EDGE)), dtype=np.float64)
    at = None if threshold is None else operating(positive, value, threshold)
    return Expected(
        prevalence=float(np.mean(positive)),
        auroc=auroc(positive, value),
        lp_mean=float(lp.mean()),
        lp_sd=float(lp.std()) if np.ptp(lp) > 0 else 0.0,
        sensitivity=None if at is None else at.sensitivity,
        specificity=None if at is None else at.specificity,
        threshold=threshold,
    )


def design_effect(se_by_patient: float, se_by_row: float) -> float:
    """How many times more rows are needed because images of one patient resemble each other.

    Args:
        se_by_patient: standard error that takes the patient as the unit.
        se_by_row: standard error of the same number with rows as independent, above 0.

    Returns:
        Ratio of the variances; 1 means that rows of a patient are independent.

    Raises:
        ValueError: if an error is not positive and finite.

    Source: Kish 1965, Survey Sampling.
    """
    if not (0 < se_by_patient < math.inf and 0 < se_by_row < math.inf):
        raise ValueError(
            f"Standard errors must be above 0, got {se_by_patient} by patient and {se_by_row} by "
            "row; without spread there is no design effect."
        )
    return (se_by_patient / se_by_row) ** 2


def months_needed(patients: int, per_month: float) -> int:
    """Months until a site that sees so many patients has the patients needed.

    Args:
        patients: how many are needed.
        per_month: new patients with a usable image and label each month, above 0.

    Returns:
        Whole months.

    Raises:
        ValueError: if the volume is not positive.
    """
    if not per_month > 0:
        raise ValueError(f"A site must see more than 0 patients a month, got {per_month}.")
    return math.ceil(patients / per_month * (1 - ROUNDING))


def assess(
    expected: Expected,
    patients: int,
    *,
    rows_per_patient: float = 1.0,
    design_effect: float = 1.0,
    targets: Widths | None = None,
    achieved: Widths | None = None,
    level: float = 0.95,
) -> Assessment:
    """Is this study large enough to say anything? Before it by formula, after it by its intervals.

    Args:
        expected: assumed values (before) or `observed` ones (after).
        patients: how many the study has; 0 when it is being planned.
        rows_per_patient: mean number of images, above 0.
        design_effect: see the function of that name, above 0; 1 with one image per patient.
        targets: widths that decide something; by default those of `Widths`.
        achieved: widths of the study's own intervals, by patient, None where it has none. They then
            decide instead of the formulas.
        level: coverage of the intervals in (0, 1).

    Returns:
        One criterion per target. `enough` is False if any falls short, None if any is open.

    Raises:
        ValueError: if patients, rows per patient, design effect or level are out of range.

    Source: Riley et al. 2021, Stat Med 40:4230; Riley et al. 2024, BMJ 384:e074821.
    """
    _quantile(level)
    if patients < 0 or not rows_per_patient > 0 or not design_effect > 0:
        raise ValueError(
            f"A study has 0 or more patients, and rows per patient and design effect above 0; got "
            f"{patients}, {rows_per_patient} and {design_effect}."
        )
    aims = targets or Widths()
    worth = rows_per_patient / design_effect
    criteria = tuple(
        _criterion(name, expected, patients, worth, getattr(aims, name), achieved, level)
        for name in NAMES
        if getattr(aims, name) is not None
    )
    answers = [c.enough for c in criteria]
    enough = False if False in answers else None if None in answers or not answers else True
    events = expected.prevalence * patients * rows_per_patient
    others = patients * rows_per_patient - events
    floor = min(events, others) >= FLOOR
    note = _summary(criteria)
    return Assessment(criteria, enough, patients, design_effect, events, others, floor, note)


def _criterion(
    name: Name,
    expected: Expected,
    had: int,
    worth: float,
    target: float,
    achieved: Widths | None,
    level: float,
) -> Criterion:
    """One target against the patients had, each worth so many rows, or its achieved interval."""
    needed = foreseen = None
    note = ""
    try:
        rows = rows_needed(name, expected, target, level)
        needed = math.ceil(rows / worth * (1 - ROUNDING))
        foreseen = width_foreseen(name, expected, had * worth, level) if had else None
    except ValueError as refusal:
        note = f"Not computable. {refusal}"
    if achieved is None:
        enough = None if needed is None else had >= needed
        return Criterion(name, needed, had, target, foreseen, None, enough, note)
    reached: float | None = getattr(achieved, name)
    if reached is None:
        note = note or "The study's own interval is not computable, so its width is open."
    enough = None if reached is None else reached <= target
    return Criterion(name, needed, had, target, foreseen, reached, enough, note)


def _summary(criteria: tuple[Criterion, ...]) -> str:
    """What the study is large enough for, in sentences."""
    told = {True: "Large enough for {}.", False: "Too small for {}.", None: "Open for {}."}
    parts = []
    for answer, sentence in told.items():
        names = [
            f"{NAMES[c.name]} (needs {c.needed:,} patients)" if c.needed else NAMES[c.name]
            for c in criteria
            if c.enough is answer
        ]
        if names:
            parts.append(sentence.format(", ".join(names)))
    return " ".join(parts)


def _errors_of(name: Name, e: Expected) -> _Error:
    """Error terms of one criterion from what is expected."""
    if name == "oe":
        return _oe_error(e.prevalence)
    if name == "auroc":
        return _auroc_error(e.prevalence, _given(e.auroc, "AUROC"))
    if name == "slope":
        return _slope_error(_given(e.lp_mean, "mean log-odds"), _given(e.lp_sd, "spread"))
    return _benefit_error(
        e.prevalence,
        _given(e.sensitivity, "sensitivity"),
        _given(e.specificity, "specificity"),
        _given(e.threshold, "threshold"),
    )


def _given(value: float | None, what: str) -> float:
    """The number, or a refusal that names it."""
    if value is None:
        raise ValueError(f"No {what} is known; assume one.")
    return value


def _oe_error(prevalence: float) -> _Error:
    """Of ln(O/E), the expected count taken as fixed."""
    _inside("prevalence", prevalence)
    return _Error(0.0, (1 - prevalence) / prevalence)


def _auroc_error(prevalence: float, value: float) -> _Error:
    """Of the AUROC, Newcombe's method 4: both classes at their geometric mean size n / 2."""
    _inside("prevalence", prevalence)
    _inside("AUROC", value)
    scale = value * (1 - value) / (prevalence * (1 - prevalence))
    pairs = (1 - value) / (2 - value) + value / (1 + value)
    return _Error(scale * (1 - pairs), scale * pairs / 2)


def _slope_error(mean: float, sd: float) -> _Error:
    """Of the slope, from the information that a row brings on average."""
    if not (math.isfinite(mean) and 0 < sd < math.inf):
        raise ValueError(
            f"The log-odds need a finite mean and a spread above 0, got {mean} and {sd}."
        )
    # Equal steps integrate a smooth, fast decaying function to nearly the last digit.
    z = np.linspace(-10, 10, 4001)
    density = np.exp(-z * z / 2)
    weight = expit(mean + sd * z) * expit(-mean - sd * z) * density / density.sum()
    # I_a / (I_a I_b - I_ab^2), centred: the difference of the two products would cancel.
    centred = z - float(weight @ z) / float(weight.sum())
    return _Error(0.0, 1 / (sd**2 * float(weight @ centred**2)))


def _benefit_error(
    prevalence: float, sensitivity: float, specificity: float, threshold: float
) -> _Error:
    """Of the standardised net benefit, by the delta method."""
    _inside("prevalence", prevalence)
    _inside("threshold", threshold)
    if not (0 <= sensitivity <= 1 and 0 <= specificity <= 1):
        raise ValueError(
            f"Sensitivity and specificity must lie in [0, 1], got {sensitivity} and {specificity}."
        )
    others, false_alarms = 1 - prevalence, 1 - specificity
    k = others / prevalence * threshold / (1 - threshold)
    found = sensitivity * (1 - sensitivity) / prevalence
    wrongly = k**2 * specificity * false_alarms / others
    mix = k**2 * false_alarms**2 / (prevalence * others)
    return _Error(0.0, found + wrongly + mix)


def _quantile(level: float) -> float:
    """Normal quantile of a two-sided interval."""
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, got {level}; 0.95 is usual.")
    return float(ndtri(0.5 + level / 2))


def _inside(what: str, value: float) -> None:
    """Refuse what is not strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"The {what} must lie strictly between 0 and 1, got {value}.")
