"""Saying how sure: sets of classes with a promised coverage, and the price of abstaining.

Probabilities are [n, K] with one row per image; K columns are classes 0..K-1, and a single column
[n] is taken as the probability of class 1 of two. The promise of a conformal set is about a *new
patient's randomly chosen image*, and it holds on average over patients who come from where the
calibrating ones came from: print the site comparison's p beside it. Images of one patient are not
exchangeable with those of another, so one image of each patient, drawn by the seed, calibrates.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import BoolArray, FloatArray, IntArray, wilson


@dataclass(frozen=True)
class ConformalRule:
    """Class k belongs to the set of a row when 1 - p_k <= `limit[k]`; infinity: it always does.

    `patients` [K] counts the patients that each limit was calibrated on.
    """

    limit: FloatArray
    alpha: float
    by_class: bool
    patients: IntArray
    note: str = ""


@dataclass(frozen=True)
class SetCoverage:
    """How often the sets of some patients held the truth, with Wilson limits, and their sizes."""

    part: str
    name: str
    patients: int
    covered: int
    coverage: float | None
    lower: float | None
    upper: float | None
    mean_size: float | None
    empty: int
    single: int
    unsure: int


@dataclass(frozen=True)
class RiskCoverage:
    """Share of errors among the most confident k rows, for k = 1..n; each array [n]."""

    coverage: FloatArray
    risk: FloatArray
    confidence: FloatArray
    aurc: float

    def at(self, coverage: float) -> float:
        """Risk when the given share of rows, in (0, 1], is answered (rounded up to a row)."""
        if not 0 < coverage <= 1:
            raise ValueError(f"A coverage must lie above 0 and up to 1, got {coverage}.")
        return float(self.risk[max(1, math.ceil(coverage * self.risk.size - 1e-9)) - 1])


def one_row_per_patient(patient: npt.ArrayLike, seed: int = 0) -> IntArray:
    """Draw one row of each patient, so that the rows drawn are independent.

    Args:
        patient: one code or pseudonym per row [n].
        seed: of the generator that draws.

    Returns:
        Row numbers [P], int64, patients by first appearance; every row of a patient is equally
        likely.

    Raises:
        ValueError: if the array is not 1-D.
    """
    groups = Patients.of(patient)
    images = np.diff(groups.start)
    drawn = np.random.default_rng(seed).integers(0, images)
    return np.asarray(groups.order[groups.start[:-1] + drawn], dtype=np.int64)


def calibrate(
    codes: npt.ArrayLike,
    p: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    alpha: float = 0.1,
    by_class: bool = True,
    seed: int = 0,
) -> ConformalRule:
    """Split conformal limits (LAC): how unlikely a class may look and still belong to the set.

    Args:
        codes: class of each calibrating row [n], integers in 0..K-1; rows no model was fitted on.
        p: probabilities [n, K], or [n] of class 1 of two.
        patient: one code or pseudonym per row [n]; one row of each is used.
        alpha: share of sets that may miss the truth, in (0, 1).
        by_class: promise the coverage for each class by itself. Without, it holds on average only,
            and a rare class may be missed far more often.
        seed: of the draw of one row per patient.

    Returns:
        The rule. With too few patients for alpha the limit is infinite: the class is always in the
        set, which keeps the promise and says nothing; `note` tells.

    Raises:
        ValueError: if there is no row, shapes do not fit, a code or a probability is out of range,
            or alpha is not within (0, 1).

    Source: Sadinle et al. 2019, JASA 114:223 (LAC); Vovk 2012, ACML (by class).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"Alpha must lie between 0 and 1, got {alpha}; 0.1 is usual.")
    label, value = _checked(codes, p)
    rows = one_row_per_patient(_owners(patient, label.size), seed)
    label, value = label[rows], value[rows]
    misfit = 1 - np.take_along_axis(value, label[:, None], axis=1)[:, 0]
    classes = value.shape[1]
    pools = [misfit[label == k] if by_class else misfit for k in range(classes)]
    limit = np.array([_quantile(pool, alpha) for pool in pools])
    patients = np.array([pool.size for pool in pools], dtype=np.int64)
    return ConformalRule(limit, alpha, by_class, patients, _too_few(limit, patients, alpha))


def prediction_sets(rule: ConformalRule, p: npt.ArrayLike) -> BoolArray:
    """Which classes each row may still belong to.

    Args:
        rule: from `calibrate`.
        p: probabilities [n, K], or [n] of class 1 of two.

    Returns:
        Membership [n, K]; a row without any class is unlike all calibrating rows.

    Raises:
        ValueError: if K differs from the rule's or a probability is out of range.
    """
    value = _probabilities(p)
    if value.shape[1] != rule.limit.size:
        raise ValueError(
            f"The rule knows {rule.limit.size} classes, the probabilities have "
            f"{value.shape[1]} columns; pass the same model's output."
        )
    return np.asarray(1 - value <= rule.limit)


def set_coverage(
    sets: npt.ArrayLike,
    codes: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    group: npt.ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[SetCoverage, ...]:
    """Coverage and size of sets over all patients, by class, and by group.

    Args:
        sets: membership [n, K] of rows that did not calibrate.
        codes: class of each row [n].
        patient: one code or pseudonym per row [n]; one row of each is counted.
        group: a name per row [n] (sex, device, site), or None.
        level: coverage of the Wilson interval in (0, 1).
        seed: of the draw of one row per patient.

    Returns:
        One entry for part "all", one per "class" 0..K-1, one per "group" in sorted order; where
        no patient is left, coverage, limits and size are None.

    Raises:
        ValueError: if there is no row, shapes do not fit, or a code is out of range.
    """
    held = np.asarray(sets, dtype=bool)
    label, _ = _checked(codes, held.astype(np.float64))
    rows = one_row_per_patient(_owners(patient, label.size), seed)
    held, label = held[rows], label[rows]
    parts = [("all", "all", np.ones(label.size, dtype=bool))]
    parts += [("class", str(k), label == k) for k in range(held.shape[1])]
    if group is not None:
        names = np.asarray(group)
        if names.shape != np.shape(codes):
            raise ValueError(f"Groups must be one name per row, got shape {names.shape}.")
        parts += [("group", str(g), names[rows] == g) for g in np.unique(names)]
    return tuple(_covered(part, name, held[mask], label[mask], level) for part, name, mask in parts)


def decisions(codes: npt.ArrayLike, p: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Whether the most likely class is wrong, and how sure the model is of it.

    Args:
        codes: class of each row [n].
        p: probabilities [n, K], or [n] of class 1 of two, where 0.5 counts as class 1.

    Returns:
        Error [n] and confidence [n], the largest probability.

    Raises:
        ValueError: if there is no row, shapes do not fit, or a code or probability is out of range.
    """
    label, value = _checked(codes, p)
    # The last of equals, so that 0.5 is class 1, as everywhere a score at the threshold is flagged.
    chosen = value.shape[1] - 1 - np.argmax(value[:, ::-1], axis=1)
    return np.asarray(chosen != label), value.max(axis=1)


def risk_coverage(wrong: npt.ArrayLike, confidence: npt.ArrayLike) -> RiskCoverage:
    """Error of the rows that remain when the least sure ones are handed to a person.

    Args:
        wrong: whether each row is an error [n], n >= 1.
        confidence: any number [n] of which larger means surer. Among equals, errors are spread
            evenly, so the curve does not depend on the order of the rows.

    Returns:
        The curve over rows and its mean, the AURC; for an interval resample `counted_aurc`.

    Raises:
        ValueError: if there is no row, shapes differ, or a confidence is NaN.

    Source: El-Yaniv & Wiener 2010, JMLR 11:1605; Geifman et al. 2019, ICLR (AURC).
    """
    order, ties, error = _ranked(wrong, confidence)
    answered = np.arange(1, order.size + 1)
    last = np.cumsum(ties)
    errors = np.interp(answered, np.r_[0, last], np.r_[0, np.cumsum(error)[last - 1]])
    risk = errors / answered
    sure = np.asarray(confidence, dtype=np.float64)[order]
    return RiskCoverage(answered / order.size, risk, sure, float(risk.mean()))


def counted_aurc(
    wrong: npt.ArrayLike, confidence: npt.ArrayLike, groups: Patients
) -> Callable[[IntArray], FloatArray]:
    """AURC as a statistic of how often each patient was drawn.

    Args:
        wrong: whether each row is an error [n].
        confidence: any number [n] of which larger means surer.
        groups: rows of each patient.

    Returns:
        Function of counts [B, P] to AURC [B], NaN where no row was drawn.

    Raises:
        ValueError: see `risk_coverage`; also if patients and rows differ in number.
    """
    order, ties, error = _ranked(wrong, confidence)
    owner = _owners(groups.code, order.size)[order]
    first = np.cumsum(ties) - ties

    def statistic(counts: IntArray) -> FloatArray:
        out = np.full(len(counts), np.nan)
        for k, drawn in enumerate(counts):
            times = drawn[owner]
            if not times.any():
                continue
            rows = np.add.reduceat(times, first)
            errors = np.add.reduceat(times * error, first)[rows > 0]
            rows = rows[rows > 0]
            before = np.cumsum(rows) - rows
            missed = np.cumsum(errors) - errors
            # A block of w equals with e errors after N rows with E errors adds the sum over j <= w
            # of (E + e j / w) / (N + j) = e + (E - e N / w) (H(N + w) - H(N)), H harmonic numbers.
            steps = digamma(before + rows + 1.0) - digamma(before + 1.0)
            out[k] = np.sum(errors + (missed - errors * before / rows) * steps) / rows.sum()
        return out

    return statistic


def _ranked(
    wrong: npt.ArrayLike, confidence: npt.ArrayLike
) -> tuple[IntArray, IntArray, BoolArray]:
    """Rows from sure to unsure [n], sizes of the blocks of equals, and errors in that order [n]."""
    error, sure = np.asarray(wrong, dtype=bool), np.asarray(confidence, dtype=np.float64)
    if error.ndim != 1 or error.shape != sure.shape or error.size == 0:
        raise ValueError(
            f"Errors and confidences must be 1-D, equally long and not empty; got shapes "
            f"{error.shape} and {sure.shape}."
        )
    if np.isnan(sure).any():
        raise ValueError("A confidence is NaN; leave out the rows that were not scored.")
    order = np.argsort(-sure, kind="stable")
    ranked = sure[order]
    begin = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    return order, np.diff(np.r_[begin, order.size]), error[order]


def _probabilities(p: npt.ArrayLike) -> FloatArray:
    """Probabilities [n, K] checked; one column becomes two."""
    value = np.asarray(p, dtype=np.float64)
    if value.ndim == 1:
        value = np.column_stack([1 - value, value])
    if value.ndim != 2 or value.shape[1] < 2:
        raise ValueError(
            f"Probabilities must be [n, K] with K >= 2, or [n], got shape {np.shape(p)}."
        )
    if not (np.isfinite(value).all() and (value >= 0).all() and (value <= 1).all()):
        raise ValueError("Probabilities must lie in [0, 1]; pass no logits and no unscored rows.")
    return value


def _checked(codes: npt.ArrayLike, p: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
    """Class codes [n] and probabilities [n, K] that fit each other."""
    label, value = np.asarray(codes), _probabilities(p)
    if label.shape != value.shape[:1] or label.size == 0:
        raise ValueError(
            f"There must be one class code per row and a row at least; codes have shape "
            f"{label.shape}, probabilities {value.shape}."
        )
    if not np.isin(label, np.arange(value.shape[1])).all():
        raise ValueError(
            f"Class codes must be whole numbers from 0 to {value.shape[1] - 1}; leave out the "
            "rows without a label."
        )
    return label.astype(np.int64), value


def _owners(patient: npt.ArrayLike, rows: int) -> npt.NDArray[np.generic]:
    """One patient per row, or a refusal."""
    names = np.asarray(patient)
    if names.shape != (rows,):
        raise ValueError(f"There are {names.size} patient entries for {rows} rows; pass one each.")
    return names


def _quantile(misfit: FloatArray, alpha: float) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest misfit; infinite when there are not so many."""
    # Counted from above, where 0.9 * 30 cannot round to just over 27.
    rank = misfit.size + 1 - math.floor((misfit.size + 1) * alpha + 1e-9)
    if rank > misfit.size:
        return math.inf
    return float(np.partition(misfit, rank - 1)[rank - 1])


def _too_few(limit: FloatArray, patients: IntArray, alpha: float) -> str:
    """Which limits are infinite, as a sentence; empty if none is."""
    if np.isfinite(limit).all():
        return ""
    short = [f"{k} ({patients[k]} patients)" for k in np.flatnonzero(np.isinf(limit))]
    least = math.ceil(1 / alpha - 1 - 1e-9)
    return (
        f"Too few patients to leave anything out at alpha {alpha:g}, which takes {least} each: "
        f"every set holds class {', '.join(short)}."
    )


def _covered(part: str, name: str, held: BoolArray, label: IntArray, level: float) -> SetCoverage:
    """Counts of one part."""
    n, size = label.size, held.sum(axis=1)
    hits = int(np.count_nonzero(np.take_along_axis(held, label[:, None], axis=1)))
    lower, upper = wilson(hits, n, level) if n else (None, None)
    return SetCoverage(
        part=part,
        name=name,
        patients=n,
        covered=hits,
        coverage=hits / n if n else None,
        lower=lower,
        upper=upper,
        mean_size=float(size.mean()) if n else None,
        empty=int(np.count_nonzero(size == 0)),
        single=int(np.count_nonzero(size == 1)),
        unsure=int(np.count_nonzero(size > 1)),
    )
