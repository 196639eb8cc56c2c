"""One column at a time: header fields, image statistics and predictions of two sites.

Every patient counts once: a number enters as the mean of the patient's images, a level as the share
of his images that have it. p-values come from permuting the site over patients; what is missing is
compared too, never dropped in silence. Adjust the p of many columns with `multiplicity.adjust`.
A small p is not harm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from medssl.stats import embeddings
from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import FloatArray
from medssl.stats.permutation import permutation_p, site_labels

ABSENT = "absent"
"""The level of rows without a value."""


DIGITS = 1e-12
"""Share of the largest value below which a difference is rounding."""


@dataclass(frozen=True)
class NumberShift:
    """A column of numbers at two sites; None where it is not computable, `note` saying why.

    `ks`, `smd` (target minus source, in pooled sd) and `wasserstein` (units of the column) compare
    the patients that have a value, `value_p` belongs to `ks`. `source_absent` and `target_absent`
    are shares of images averaged over patients, `absent_p` belongs to their difference. `p` covers
    both: the smaller, doubled; it is the one to adjust.
    """

    ks: float | None
    smd: float | None
    wasserstein: float | None
    value_p: float | None
    source_absent: float
    target_absent: float
    absent_p: float
    p: float
    permutations: int
    source_patients: int
    target_patients: int
    note: str = ""


@dataclass(frozen=True)
class LevelShift:
    """A column of levels at two sites, absent values being a level of their own.

    `levels` run from the most to the least frequent, with their shares of patients at both sites;
    `unseen` lists levels that the source never has with the number of target images. chi2 is
    without continuity correction; V is None where only one level occurs.
    """

    chi2: float
    cramers_v: float | None
    p: float
    levels: tuple[str, ...]
    source_share: tuple[float, ...]
    target_share: tuple[float, ...]
    unseen: tuple[tuple[str, int], ...]
    permutations: int
    source_patients: int
    target_patients: int
    note: str = ""


def compare_numbers(
    source: npt.ArrayLike,
    source_patient: npt.ArrayLike,
    target: npt.ArrayLike,
    target_patient: npt.ArrayLike,
    *,
    permutations: int = 999,
    seed: int = 0,
) -> NumberShift:
    """Compare a column of numbers: Kolmogorov-Smirnov, standardised difference, Wasserstein.

    Args:
        source: one number per row [n]; NaN or None is absent.
        source_patient: one code or pseudonym per row [n].
        target: likewise [m].
        target_patient: likewise [m]; a name that occurs at both sites counts as two patients.
        permutations: B; p is at least 1 / (B + 1).
        seed: of the permutations.

    Returns:
        The comparison.

    Raises:
        ValueError: if shapes do not fit, a value is infinite, a site has fewer than two patients or
            permutations < 1.
    """
    here, here_absent = _patient_numbers(source, source_patient, "source")
    there, there_absent = _patient_numbers(target, target_patient, "target")
    absent = np.concatenate([here_absent, there_absent])
    labels = site_labels(here.size, there.size, permutations, seed)
    absent_p = permutation_p(_mean_gaps(absent, labels)) if absent.any() else 1.0
    here, there = here[~np.isnan(here)], there[~np.isnan(there)]
    ks = value_p = smd = wasserstein = None
    note = _unvalued(here.size, there.size)
    if not note:
        if absent.any():
            # Given who has a value, it is the site among those that the test permutes.
            labels = site_labels(here.size, there.size, permutations, seed)
        found = _ks_of(np.concatenate([here, there]), labels)
        ks, value_p = float(found[0]), permutation_p(found)
        smd = standardised_difference(here, there)
        wasserstein = float(wasserstein_distance(here, there))
        if smd is None:
            note = "No standardised difference: too few values, or none differ within a site."
    both = [p for p in (value_p, absent_p if absent.any() else None) if p is not None]
    return NumberShift(
        ks=ks,
        smd=smd,
        wasserstein=wasserstein,
        value_p=value_p,
        source_absent=float(here_absent.mean()),
        target_absent=float(there_absent.mean()),
        absent_p=absent_p,
        p=min(1.0, len(both) * min(both)),
        permutations=permutations,
        source_patients=here_absent.size,
        target_patients=there_absent.size,
        note=note,
    )


def compare_levels(
    source: Sequence[object] | npt.NDArray[np.generic],
    source_patient: npt.ArrayLike,
    target: Sequence[object] | npt.NDArray[np.generic],
    target_patient: npt.ArrayLike,
    *,
    permutations: int = 999,
    seed: int = 0,
) -> LevelShift:
    """Compare a column of levels: chi-square and Cramér's V on patients, levels never seen before.

    Args:
        source: one level per row [n], compared as text; None, NaN and "" are absent.
        source_patient: one code or pseudonym per row [n].
        target: likewise [m].
        target_patient: likewise [m]; a name that occurs at both sites counts as two patients.
        permutations: B; p is at least 1 / (B + 1).
        seed: of the permutations.

    Returns:
        The comparison.

    Raises:
        ValueError: if shapes do not fit, a site has fewer than two patients or permutations < 1.
    """
    one = _grouped(len(source), source_patient, "source")
    two = _grouped(len(target), target_patient, "target")
    text = np.array([_level(v) for v in (*source, *target)])
    names, code = np.unique(text, return_inverse=True)
    here, there = code[: len(source)], code[len(source) :]
    share = np.concatenate([_shares(here, one, names.size), _shares(there, two, names.size)])
    labels = site_labels(one.count, two.count, permutations, seed)
    chi2 = _chi2_of(share, labels)
    counts = np.bincount(there, minlength=names.size)
    counts[np.unique(here)] = 0
    shares = share[: one.count].mean(axis=0), share[one.count :].mean(axis=0)
    order = np.lexsort((names, -share.sum(axis=0)))
    new = [(str(names[i]), int(counts[i])) for i in np.lexsort((names, -counts)) if counts[i]]
    single = names.size == 1
    return LevelShift(
        chi2=float(chi2[0]),
        # Of two rows, so the smaller dimension less one is always 1.
        cramers_v=None if single else math.sqrt(float(chi2[0]) / len(share)),
        p=permutation_p(chi2),
        levels=tuple(str(names[i]) for i in order),
        source_share=tuple(float(shares[0][i]) for i in order),
        target_share=tuple(float(shares[1][i]) for i in order),
        unseen=tuple(new),
        permutations=permutations,
        source_patients=one.count,
        target_patients=two.count,
        note=f"Every row is {str(names[0])!r}: there is nothing to compare." if single else "",
    )


def standardised_difference(source: npt.ArrayLike, target: npt.ArrayLike) -> float | None:
    """Difference of means, target minus source, over the root mean of both variances.

    Args:
        source: values [n], one per patient, n >= 1.
        target: values [m], likewise.

    Returns:
        The difference in pooled standard deviations (marks: 0.1 small, 0.25 notable; Austin 2009);
        0 if all values are equal, None if only the sites differ or a side has one value.
    """
    a, b = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    apart = float(b.mean() - a.mean())
    if min(a.size, b.size) < 2:
        return None
    spread = math.sqrt((float(a.var(ddof=1)) + float(b.var(ddof=1))) / 2)
    rounding = DIGITS * max(float(np.abs(a).max()), float(np.abs(b).max()))
    if spread <= rounding:
        return 0.0 if abs(apart) <= rounding else None
    return apart / spread


def _unvalued(source: int, target: int) -> str:
    """Why values cannot be compared, as a sentence; empty if they can."""
    if source and target:
        return ""
    if source or target:
        return f"No patient of the {'target' if source else 'source'} has a value."
    return "No patient of either site has a value."


def _grouped(rows: int, patient: npt.ArrayLike, name: str) -> Patients:
    """The patients of one site's rows, two at least."""
    if np.shape(patient) != (rows,):
        raise ValueError(
            f"The {name} patients must be one name per row: {rows} rows, patients of shape "
            f"{np.shape(patient)}."
        )
    groups = Patients.of(patient)
    if groups.count < 2:
        raise ValueError(
            f"The {name} site has {groups.count} patient(s); comparing sites needs two at each."
        )
    return groups


def _patient_numbers(
    value: npt.ArrayLike, patient: npt.ArrayLike, name: str
) -> tuple[FloatArray, FloatArray]:
    """Mean of each patient's present values (NaN without any) and his share of absent ones [P]."""
    numbers = np.asarray(value, dtype=np.float64)
    if numbers.ndim != 1 or np.isinf(numbers).any():
        raise ValueError(
            f"The {name} column must be one finite number per row, absent ones NaN; it has shape "
            f"{numbers.shape} and {np.count_nonzero(np.isinf(numbers))} infinite values."
        )
    groups = _grouped(numbers.size, patient, name)
    present = ~np.isnan(numbers)
    images = np.diff(groups.start)
    known = np.bincount(groups.code, weights=present, minlength=groups.count)
    total = np.bincount(
        groups.code, weights=np.where(present, numbers, 0.0), minlength=groups.count
    )
    mean = np.full(groups.count, np.nan)
    np.divide(total, known, out=mean, where=known > 0)
    return mean, 1.0 - known / images


def _mean_gaps(value: FloatArray, labels: FloatArray) -> FloatArray:
    """Distance of the sites' means of one value per patient, per labelling [B]."""
    n1 = labels.sum(axis=1)
    total = labels @ value
    rest = float(value.sum()) - total
    return np.asarray(np.abs(total / n1 - rest / (labels.shape[1] - n1)), dtype=np.float64)


def _ks_of(value: FloatArray, labels: FloatArray) -> FloatArray:
    """Kolmogorov-Smirnov distance of one value per patient [P], per labelling [B]."""
    order = np.argsort(value, kind="stable")
    ranked = value[order]
    # The two curves are compared where a run of equal values ends; means that are equal on paper
    # differ in the last digits.
    apart = np.diff(ranked) > DIGITS * float(np.abs(ranked).max())
    ends = np.append(np.flatnonzero(apart), value.size - 1)
    out = np.empty(len(labels))
    step = max(1, embeddings.BLOCK // value.size)
    for low in range(0, len(labels), step):
        part = labels[low : low + step, order]
        n1 = part.sum(axis=1, keepdims=True)
        seen = np.cumsum(part, axis=1)[:, ends]
        curve = seen / n1 - (ends + 1 - seen) / (value.size - n1)
        out[low : low + step] = np.abs(curve).max(axis=1)
    return out


def _level(value: object) -> str:
    """The text of a level; absent for None, NaN and nothing."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ABSENT
    return str(value).strip() or ABSENT


def _shares(code: npt.NDArray[np.int64], groups: Patients, levels: int) -> FloatArray:
    """Share of each patient's images that have each level [P, L]; rows sum to one."""
    table = np.bincount(groups.code * levels + code, minlength=groups.count * levels)
    return table.reshape(groups.count, levels) / np.diff(groups.start)[:, None]


def _chi2_of(share: FloatArray, labels: FloatArray) -> FloatArray:
    """Chi-square of the table site x level, every patient adding his shares, per labelling [B]."""
    total = share.sum(axis=0)
    seen = labels @ share
    n1 = labels.sum(axis=1, keepdims=True)
    part = n1 / len(share)
    # Both rows miss their expectation by the same amount.
    return np.asarray(
        np.sum((seen - part * total) ** 2 / total / (part * (1 - part)), axis=1), dtype=np.float64
    )
