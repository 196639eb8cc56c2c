"""How far apart the embeddings of two sites lie, beside how far one site lies from itself.

A description, no test: the splits that make the noise floor share patients. The distance grows as
patients get fewer, so only distances between equally many patients are compared.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.stats.bootstrap import Patients
from medssl.stats.embeddings import Site, checked, embedding, same_width, two_sites
from medssl.stats.metrics import FloatArray, IntArray

FEW_PATIENTS = 10
"""Patients in a half below which a distance says more about chance than about the site."""


@dataclass(frozen=True)
class FrechetShift:
    """Distances between sites and within the source, all between `patients` and `patients` people.

    `distance` and `floor` are medians over the splits, `floor_upper` the 95th percentile of the
    floor, `share_beyond` the share of the splits whose distance exceeds that; `ratio` is None where
    the floor is 0. `kept` is the share of the variance that lies in the `dims` compared.
    """

    distance: float
    floor: float
    floor_upper: float
    ratio: float | None
    share_beyond: float
    splits: int
    patients: int
    dims: int
    kept: float
    subsampled: bool
    note: str = ""


def frechet_shift(
    source_emb: npt.ArrayLike,
    source_patient: npt.ArrayLike,
    target_emb: npt.ArrayLike,
    target_patient: npt.ArrayLike,
    *,
    splits: int = 50,
    dims: int = 16,
    seed: int = 0,
    max_patients: int = 1000,
) -> FrechetShift:
    """Fréchet distance of two sites beside that of two halves of the source's patients.

    Every split draws two disjoint groups of source patients and one of target patients, all equally
    large. A covariance of few patients is singular, so the distance is taken in the leading
    principal axes of both sites together, at most one axis per two patients of a group.

    Args:
        source_emb: embeddings [n, d].
        source_patient: one code or pseudonym per row [n].
        target_emb: embeddings [m, d].
        target_patient: likewise [m]; a name that occurs at both sites counts as two patients.
        splits: how often groups are drawn.
        dims: axes at most.
        seed: of the groups and of any subsampling.
        max_patients: per site, as in `mmd.patient_mmd`.

    Returns:
        Distance and noise floor, squared, in the units of the embedding.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, a site has fewer than two patients,
            the source fewer than four, or splits or dims < 1.
    """
    if splits < 1 or dims < 1:
        raise ValueError(
            f"A noise floor needs splits >= 1 and dims >= 1, got {splits} and {dims}; "
            "50 and 16 are usual."
        )
    source, target = two_sites(
        source_emb, source_patient, target_emb, target_patient, max_patients, seed
    )
    size = min(source.patients // 2, target.patients)
    if size < 2:
        raise ValueError(
            f"A noise floor needs two patients in each half of the source, which has "
            f"{source.patients} patients; 2 x {FEW_PATIENTS} are the least that say something."
        )
    axes, kept = _leading(source.rows, target.rows, min(dims, max(1, size // 2)))
    near, far = _projected(source, axes), _projected(target, axes)
    rng = np.random.default_rng([seed, 5])
    within, across = np.empty(splits), np.empty(splits)
    for i in range(splits):
        own, other = rng.permutation(source.patients), rng.permutation(target.patients)
        half = near.of(own[:size])
        within[i] = frechet_distance(half, near.of(own[size : 2 * size]))
        across[i] = frechet_distance(half, far.of(other[:size]))
    floor, upper = float(np.median(within)), float(np.quantile(within, 0.95))
    return FrechetShift(
        distance=float(np.median(across)),
        floor=floor,
        floor_upper=upper,
        ratio=None if floor == 0 else float(np.median(across)) / floor,
        share_beyond=float(np.mean(across > upper)),
        splits=splits,
        patients=size,
        dims=axes.shape[1],
        kept=kept,
        subsampled=source.subsampled or target.subsampled,
        note="" if size >= FEW_PATIENTS else f"Only {size} patients in a group: mostly chance.",
    )


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Fréchet distance of two normal fits: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2).

    Args:
        a: embeddings [n, d], n >= 2.
        b: embeddings [m, d], m >= 2.

    Returns:
        Squared distance in the units of the embedding, at least 0. It grows as n shrinks: read it
        beside `frechet_noise_floor`.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, or a side has fewer than two rows.
    """
    x, y = embedding(a, "first"), embedding(b, "second")
    same_width(x, y)
    if min(len(x), len(y)) < 2:
        raise ValueError(
            f"A Fréchet distance needs two rows on each side, got {len(x)} and {len(y)}."
        )
    s, t = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    # S1 S2 has the eigenvalues of the symmetric S1^1/2 S2 S1^1/2, which never turn complex.
    power, axes = np.linalg.eigh(s)
    root = (axes * np.sqrt(np.clip(power, 0, None))) @ axes.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ t @ root), 0, None)).sum()
    apart = float(np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2))
    return max(0.0, apart + float(np.trace(s) + np.trace(t) - 2 * shared))


def frechet_noise_floor(emb: npt.ArrayLike, patient: npt.ArrayLike, seed: int = 0) -> float:
    """Fréchet distance of two random halves of one site's patients: what "no shift" looks like.

    Args:
        emb: embeddings [n, d].
        patient: one code or pseudonym per row [n].
        seed: of the halving.

    Returns:
        Squared distance in the units of the embedding.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, or a half has fewer than two rows.
    """
    rows = checked(emb, patient, "given")
    groups = Patients.of(patient)
    shuffled = np.random.default_rng(seed).permutation(groups.count)
    half = groups.count // 2
    return frechet_distance(rows[groups.rows(shuffled[:half])], rows[groups.rows(shuffled[half:])])


@dataclass(frozen=True)
class _Projected:
    """A site's images in the axes compared, with their patients."""

    rows: FloatArray
    groups: Patients

    def of(self, drawn: IntArray) -> FloatArray:
        """Images of the drawn patients [k, dims]."""
        return self.rows[self.groups.rows(drawn)]


def _projected(site: Site, axes: FloatArray) -> _Projected:
    """A site in the given axes [d, dims]."""
    owner = np.repeat(np.arange(site.patients), site.images)
    return _Projected(site.rows @ axes, Patients.of(owner))


def _leading(a: FloatArray, b: FloatArray, dims: int) -> tuple[FloatArray, float]:
    """Leading principal axes [d, k <= dims] of two sites of equal weight, their share of variance."""
    apart = a.mean(axis=0) - b.mean(axis=0)
    # The mixture's covariance has the difference of means in it, so no shift falls out of view.
    mixed = (np.cov(a, rowvar=False, ddof=0) + np.cov(b, rowvar=False, ddof=0)) / 2
    power, axes = np.linalg.eigh(np.atleast_2d(mixed) + np.outer(apart, apart) / 4)
    total = float(np.clip(power, 0, None).sum())
    kept = float(np.clip(power[-dims:], 0, None).sum())
    return np.asarray(axes[:, -dims:], dtype=np.float64), kept / total if total > 0 else 1.0
