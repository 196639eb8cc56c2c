"""Which single images are unlike anything the reference has, before any label is known."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from medssl.stats import embeddings
from medssl.stats.bootstrap import Patients
from medssl.stats.embeddings import checked, same_width
from medssl.stats.metrics import FloatArray, IntArray

OWN_ROWS = 5000
"""Reference rows whose own distances form the yardstick of `likeness`."""


@dataclass(frozen=True)
class Share:
    """Share of images with an interval in which the patient is the unit; None: not computable."""

    value: float | None
    lower: float | None
    upper: float | None
    level: float
    n: int
    patients: int
    patients_with_any: int
    note: str = ""


@dataclass(frozen=True)
class Unlike:
    """Images beyond a percentile of the reference's own; expected is 1 - beyond / 100.

    `percentile` [m] belongs to the judged rows in their order, `rows` [m] lists them from the most
    unlike to the least.
    """

    beyond: float
    share: Share
    percentile: FloatArray
    rows: IntArray


def likeness(
    reference_emb: npt.ArrayLike,
    reference_patient: npt.ArrayLike,
    emb: npt.ArrayLike,
    patient: npt.ArrayLike,
    k: int = 5,
    *,
    seed: int = 0,
) -> FloatArray:
    """How unusual each image is, as a percentile among the reference's own images.

    The measure is the mean cosine distance to the k nearest reference rows of *other* patients, for
    the images and for the yardstick alike. Of images like the reference, 1 % lie beyond 99.

    Args:
        reference_emb: embeddings of the training set [n, d].
        reference_patient: its patients [n].
        emb: embeddings to judge [m, d].
        patient: their patients [m], named as in the reference.
        k: neighbours, at least 1.
        seed: of the reference rows that form the yardstick, when there are more than 5,000.

    Returns:
        Percentiles [m] in [0, 100], ties counting half; 100 is farther than every reference row.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, or fewer than k reference rows
            remain without the largest patient.
    """
    yardstick, distance = _measured(reference_emb, reference_patient, emb, patient, k, seed)
    return _percentile(yardstick, distance)


def unlike(
    reference_emb: npt.ArrayLike,
    reference_patient: npt.ArrayLike,
    emb: npt.ArrayLike,
    patient: npt.ArrayLike,
    k: int = 5,
    *,
    beyond: float = 99.0,
    level: float = 0.95,
    seed: int = 0,
) -> Unlike:
    """Judge every image by `likeness` and count those beyond a percentile of the reference.

    Args:
        reference_emb: embeddings of the training set [n, d].
        reference_patient: its patients [n].
        emb: embeddings to judge [m, d].
        patient: their patients [m], named as in the reference.
        k: neighbours, at least 1.
        beyond: percentile in (0, 100).
        level: coverage of the interval, in (0, 1).
        seed: as in `likeness`.

    Returns:
        Percentiles, the share beyond with its interval, and the rows from most to least unlike.

    Raises:
        ValueError: as `likeness`; also if beyond or level are out of range.
    """
    if not 0 < beyond < 100:
        raise ValueError(f"The percentile must lie between 0 and 100, got {beyond}; 99 is usual.")
    yardstick, distance = _measured(reference_emb, reference_patient, emb, patient, k, seed)
    percentile = _percentile(yardstick, distance)
    return Unlike(
        beyond=beyond,
        share=clustered_share(percentile > beyond, patient, level),
        percentile=percentile,
        # By distance: all rows beyond the reference share the percentile 100.
        rows=np.argsort(-distance, kind="stable"),
    )


def clustered_share(flag: npt.ArrayLike, patient: npt.ArrayLike, level: float = 0.95) -> Share:
    """Share of images with a property, when images of one patient resemble each other.

    Wilson interval on the effective number of images: n over the design effect of the ratio
    estimator, Student's t of P - 1 instead of the normal (Korn and Graubard 1998, Dean and Pagano
    2015). Where no image or every image has it, whole patients of unequal size count (Kish 1965).

    Args:
        flag: whether each image has it [n], bool.
        patient: one code or pseudonym per row [n].
        level: coverage in (0, 1).

    Returns:
        The share; limits are None with a note for fewer than two patients, all None without rows.

    Raises:
        ValueError: if shapes do not fit or the level is out of range.
    """
    has = np.asarray(flag, dtype=bool)
    if has.ndim != 1 or has.shape != np.shape(patient):
        raise ValueError(
            f"Flags and patients must be one per row; they have shapes {has.shape} and "
            f"{np.shape(patient)}."
        )
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, got {level}; 0.95 is usual.")
    groups = Patients.of(patient)
    found = np.bincount(groups.code[has], minlength=groups.count).astype(np.float64)
    images = np.diff(groups.start).astype(np.float64)
    any_of = int(np.count_nonzero(found))
    if groups.count < 2:
        value = float(has.mean()) if has.size else None
        note = f"Not computable: {groups.count} patients say nothing about how patients differ."
        return Share(value, None, None, level, has.size, groups.count, any_of, note)
    value = float(has.mean())
    size = _effective(value, found, images)
    z = float(student.ppf(0.5 + level / 2, groups.count - 1))
    centre = (value + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(value * (1 - value) / size + (z / (2 * size)) ** 2)
    return Share(
        value=value,
        # Exact at the edges, where rounding would print a limit of -1e-17.
        lower=0.0 if value == 0 else max(0.0, centre - half),
        upper=1.0 if value == 1 else min(1.0, centre + half),
        level=level,
        n=has.size,
        patients=groups.count,
        patients_with_any=any_of,
    )


def _effective(share: float, found: FloatArray, images: FloatArray) -> float:
    """Independent images that say as much about a share as these patients' images do."""
    if share in (0.0, 1.0):
        # No spread to estimate a design effect from: a patient's images count as one.
        return float(images.sum() ** 2 / np.sum(images**2))
    total, patients = float(images.sum()), images.size
    variance = patients / (patients - 1) * float(np.sum((found - share * images) ** 2)) / total**2
    # Never more than n, even if patients are more alike than chance allows.
    size = share * (1 - share) / variance if variance > 0 else total
    return min(total, size)


def _percentile(yardstick: FloatArray, distance: FloatArray) -> FloatArray:
    """Percentile of each distance [m] among the sorted yardstick, ties counting half."""
    below = yardstick.searchsorted(distance, "left") + yardstick.searchsorted(distance, "right")
    return np.asarray(50.0 * below / yardstick.size, dtype=np.float64)


def _measured(
    reference_emb: npt.ArrayLike,
    reference_patient: npt.ArrayLike,
    emb: npt.ArrayLike,
    patient: npt.ArrayLike,
    k: int,
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """The reference's own distances, sorted, and those of the judged rows [m]."""
    known, new = (
        checked(reference_emb, reference_patient, "reference"),
        checked(emb, patient, "judged"),
    )
    same_width(known, new)
    names = np.concatenate([np.asarray(reference_patient), np.asarray(patient)])
    code = Patients.of(names).code
    owner, asker = code[: len(known)], code[len(known) :]
    most = int(np.bincount(owner).max()) if owner.size else 0
    if k < 1 or owner.size - most < k:
        raise ValueError(
            f"{k} neighbours of other patients are needed, but without its largest patient the "
            f"reference has {owner.size - most} rows; use a larger reference or a smaller k >= 1."
        )
    known, new = _unit(known), _unit(new)
    own = np.arange(owner.size)
    if own.size > OWN_ROWS:
        own = np.random.default_rng(seed).choice(own, OWN_ROWS, replace=False)
    yardstick = np.sort(_nearest(known[own], owner[own], known, owner, k))
    return yardstick, _nearest(new, asker, known, owner, k)


def _unit(rows: FloatArray) -> FloatArray:
    """Rows of length one; a zero row stays zero and is at distance 1 from everything."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def _nearest(
    rows: FloatArray, asker: IntArray, known: FloatArray, owner: IntArray, k: int
) -> FloatArray:
    """Mean cosine distance [m] of unit rows to their k nearest known rows of other patients."""
    distance = np.empty(len(rows))
    step = max(1, embeddings.BLOCK // len(known))
    for low in range(0, len(rows), step):
        part = slice(low, low + step)
        similar = rows[part] @ known.T
        similar[asker[part, None] == owner[None, :]] = -np.inf
        distance[part] = 1.0 - np.partition(similar, -k, axis=1)[:, -k:].mean(axis=1)
    return distance
