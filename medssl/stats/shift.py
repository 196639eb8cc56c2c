"""Is this site different: tests and distances on embeddings, before any label is known.

Embeddings are [n, d] floats with one row per image. Sites are compared patient by patient: images
of one patient resemble each other, so permuting rows finds a "shift" between any two groups of
patients (100 % false alarms against 7 %, 200 simulations). A small p is not harm.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import FloatArray, IntArray, auroc

IMAGES_PER_PATIENT = 16
"""Images of one patient that enter a comparison; more say little new and cost quadratically."""

EXACT_MEDIAN = 2000
"""Images up to which the kernel width is the median over all pairs."""

MEDIAN_PAIRS = 200_000
"""Pairs that estimate the kernel width beyond that."""

OWN_ROWS = 5000
"""Reference rows whose own distances form the yardstick of `likeness`."""

BLOCK = 8_000_000
"""Numbers held at once in a block of distances (64 MB as float64)."""


@dataclass(frozen=True)
class ShiftTest:
    """Patient-block MMD between two sites with its permutation p, never 0."""

    statistic: float
    p: float
    permutations: int
    source_patients: int
    target_patients: int
    subsampled: bool


@dataclass(frozen=True)
class _Site:
    """Images of one site in the order of their patients: `rows` [n, d], `start` [P + 1]."""

    rows: FloatArray
    start: IntArray
    subsampled: bool

    @property
    def patients(self) -> int:
        return self.start.size - 1


def patient_mmd(
    source_emb: npt.ArrayLike,
    source_patient: npt.ArrayLike,
    target_emb: npt.ArrayLike,
    target_patient: npt.ArrayLike,
    *,
    permutations: int = 999,
    seed: int = 0,
    max_patients: int = 1000,
) -> ShiftTest:
    """Test whether the patients of two sites could have come from one population.

    Unbiased MMD^2 (Gretton et al. 2012) of the mean kernel between patients, RBF with the median
    squared distance as width; sites are permuted over patients. No n x n matrix is held.

    Args:
        source_emb: embeddings [n, d].
        source_patient: one code or pseudonym per row [n].
        target_emb: embeddings [m, d].
        target_patient: likewise [m]; a name that occurs at both sites counts as two patients.
        permutations: B; p is at least 1 / (B + 1).
        seed: of the permutations and of any subsampling.
        max_patients: per site; more are subsampled, as are images beyond 16 of a patient.

    Returns:
        Statistic, p and how many patients they rest on.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, a site has fewer than two patients,
            or permutations < 1 or max_patients < 2.
    """
    if permutations < 1:
        raise ValueError(
            f"A test needs at least one permutation, got {permutations}; 999 is usual."
        )
    source, target = _sites(
        source_emb, source_patient, target_emb, target_patient, max_patients, seed
    )
    kernel = _patient_kernel(source, target, seed)
    site = np.repeat([0.0, 1.0], [source.patients, target.patients])
    # The permutations have a generator of their own, so subsampling does not change them.
    rng = np.random.default_rng(seed)
    labels = np.stack([site, *(rng.permutation(site) for _ in range(permutations))])
    values = _mmd2(kernel, labels)
    # Rearrangements that are equal on paper differ in the last digits; they count as reached.
    reached = int(np.count_nonzero(values[1:] >= values[0] - 1e-12))
    return ShiftTest(
        statistic=float(values[0]),
        p=(1 + reached) / (1 + permutations),
        permutations=permutations,
        source_patients=source.patients,
        target_patients=target.patients,
        subsampled=source.subsampled or target.subsampled,
    )


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
    known, new = (
        _checked(reference_emb, reference_patient, "reference"),
        _checked(emb, patient, "judged"),
    )
    _same_width(known, new)
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
    distance = _nearest(new, asker, known, owner, k)
    below = yardstick.searchsorted(distance, "left") + yardstick.searchsorted(distance, "right")
    return 50.0 * below / yardstick.size


def site_classifier_auroc(
    source_emb: npt.ArrayLike,
    source_patient: npt.ArrayLike,
    target_emb: npt.ArrayLike,
    target_patient: npt.ArrayLike,
    *,
    folds: int = 5,
    seed: int = 0,
    max_patients: int = 1000,
) -> float:
    """How well a linear classifier that never saw a patient tells his site: 0.5 is not at all.

    A description without a p: cross-validated scores are dependent, so DeLong's p does not hold.

    Args:
        source_emb: embeddings [n, d].
        source_patient: one code or pseudonym per row [n].
        target_emb: embeddings [m, d].
        target_patient: likewise [m]; a name that occurs at both sites counts as two patients.
        folds: at most this many; fewer when a site has fewer patients.
        seed: of the folds and of any subsampling.
        max_patients: per site, as in `patient_mmd`.

    Returns:
        AUROC of the mean out-of-fold score of each patient.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, or a site has fewer than two
            patients or folds < 2.
    """
    source, target = _sites(
        source_emb, source_patient, target_emb, target_patient, max_patients, seed
    )
    splits = min(folds, source.patients, target.patients)
    if splits < 2:
        raise ValueError(f"The site classifier needs at least two folds, got {folds}; 5 is usual.")
    images = np.concatenate([np.diff(source.start), np.diff(target.start)])
    owner = np.repeat(np.arange(images.size), images)
    away = owner >= source.patients
    rows = np.concatenate([source.rows, target.rows])
    score = np.empty(len(rows))
    cut = StratifiedGroupKFold(n_splits=splits, shuffle=True, random_state=seed)
    for train, test in cut.split(rows, away, owner):
        # Scaled, so that the penalty means the same for every encoder.
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        score[test] = model.fit(rows[train], away[train]).decision_function(rows[test])
    mean = np.bincount(owner, weights=score) / images
    value = auroc(np.arange(images.size) >= source.patients, mean)
    if value is None:
        raise ValueError("A site classifier needs patients of two sites.")
    return value


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
    x, y = _embedding(a, "first"), _embedding(b, "second")
    _same_width(x, y)
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
    rows = _checked(emb, patient, "given")
    groups = Patients.of(patient)
    shuffled = np.random.default_rng(seed).permutation(groups.count)
    half = groups.count // 2
    return frechet_distance(rows[groups.rows(shuffled[:half])], rows[groups.rows(shuffled[half:])])


def _embedding(emb: npt.ArrayLike, name: str) -> FloatArray:
    """Finite float64 [n, d], or a sentence."""
    rows = np.asarray(emb, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"The {name} embeddings must be [n, d] with d >= 1, got {rows.shape}.")
    if not np.isfinite(rows).all():
        raise ValueError(
            f"The {name} embeddings hold NaN or infinity; find the images that the encoder failed "
            "on and leave them out."
        )
    return rows


def _checked(emb: npt.ArrayLike, patient: npt.ArrayLike, name: str) -> FloatArray:
    """Finite float64 [n, d] with one patient a row, or a sentence."""
    rows = _embedding(emb, name)
    if np.shape(patient) != (len(rows),):
        raise ValueError(
            f"The {name} patients must be one name per row: {len(rows)} rows, patients of shape "
            f"{np.shape(patient)}."
        )
    return rows


def _same_width(a: FloatArray, b: FloatArray) -> None:
    """A sentence unless both sides have one width."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"Both sides must come from one encoder; their widths are {a.shape[1]} and "
            f"{b.shape[1]}."
        )


def _sites(
    source_emb: npt.ArrayLike,
    source_patient: npt.ArrayLike,
    target_emb: npt.ArrayLike,
    target_patient: npt.ArrayLike,
    max_patients: int,
    seed: int,
) -> tuple[_Site, _Site]:
    """Both sites checked and subsampled, by streams apart from the permutations' own seed."""
    if max_patients < 2:
        raise ValueError(f"max_patients must be at least 2, got {max_patients}; 1000 is usual.")
    one, two = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    source = _site(source_emb, source_patient, max_patients, one, "source")
    target = _site(target_emb, target_patient, max_patients, two, "target")
    _same_width(source.rows, target.rows)
    return source, target


def _site(
    emb: npt.ArrayLike,
    patient: npt.ArrayLike,
    max_patients: int,
    rng: np.random.Generator,
    name: str,
) -> _Site:
    """A site's images ordered by patient, seeded down to what a comparison may hold."""
    rows = _checked(emb, patient, name)
    groups = Patients.of(patient)
    if groups.count < 2:
        raise ValueError(
            f"The {name} site has {groups.count} patient(s); comparing sites needs two at each."
        )
    kept = np.arange(groups.count)
    if kept.size > max_patients:
        kept = np.sort(rng.choice(kept, max_patients, replace=False))
    chosen = [_some(groups.order[groups.start[i] : groups.start[i + 1]], rng) for i in kept]
    start = np.concatenate([[0], np.cumsum([c.size for c in chosen])])
    row = np.concatenate(chosen)
    return _Site(rows[row], start, row.size < len(rows))


def _some(rows: IntArray, rng: np.random.Generator) -> IntArray:
    """At most IMAGES_PER_PATIENT of a patient's rows."""
    if rows.size <= IMAGES_PER_PATIENT:
        return rows
    return np.sort(rng.choice(rows, IMAGES_PER_PATIENT, replace=False))


def _patient_kernel(source: _Site, target: _Site, seed: int) -> FloatArray:
    """Mean RBF kernel between the images of every two patients [P, P], source patients first."""
    rows = np.concatenate([source.rows, target.rows])
    # Distances come from products of rows; around the mean these lose the fewest digits.
    rows -= rows.mean(axis=0)
    start = np.concatenate([source.start, source.start[-1] + target.start[1:]])
    width = _median_distance(rows, seed)
    square = np.einsum("ij,ij->i", rows, rows)
    count = np.diff(start).astype(np.float64)
    kernel = np.empty((count.size, count.size))
    for low, high in _blocks(start, max(1, BLOCK // len(rows))):
        first, last = int(start[low]), int(start[high])
        # Only from this block on to the right: the rest follows by symmetry.
        block = rows[first:last] @ rows[first:].T
        block *= 2.0
        block -= square[first:last, None]
        block -= square[None, first:]
        np.minimum(block, 0.0, out=block)
        block /= width
        np.exp(block, out=block)
        summed = np.add.reduceat(block, start[low:high] - first, axis=0)
        summed = np.add.reduceat(summed, start[low:-1] - first, axis=1)
        mean = summed / count[low:high, None] / count[None, low:]
        kernel[low:high, low:] = mean
        kernel[low:, low:high] = mean.T
    return kernel


def _blocks(start: IntArray, size: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of whole patients with about `size` images each, at least one patient."""
    low, patients = 0, start.size - 1
    while low < patients:
        high = int(np.searchsorted(start, start[low] + size, side="right")) - 1
        high = min(max(high, low + 1), patients)
        yield low, high
        low = high


def _median_distance(rows: FloatArray, seed: int) -> float:
    """Median squared distance over the pairs of different images; 1 if all images are equal."""
    if len(rows) <= EXACT_MEDIAN:
        distance = pdist(rows, "sqeuclidean")
    else:
        rng = np.random.default_rng([seed, 3])
        a, b = rng.integers(0, len(rows), (2, MEDIAN_PAIRS))
        parts = np.array_split(np.arange(MEDIAN_PAIRS), 1 + MEDIAN_PAIRS * rows.shape[1] // BLOCK)
        distance = np.concatenate(
            [np.sum((rows[a[part]] - rows[b[part]]) ** 2, axis=1) for part in parts]
        )
    apart = distance[distance > 0]
    return 1.0 if apart.size == 0 else float(np.median(apart))


def _mmd2(kernel: FloatArray, labels: FloatArray) -> FloatArray:
    """Unbiased MMD^2 for each row of site labels 0.0/1.0 [B, P] -> [B]."""
    diagonal = np.diag(kernel)
    # All sums over pairs with a site-1 patient follow from one product.
    product = labels @ kernel
    one = np.einsum("bp,bp->b", product, labels)
    across = product.sum(axis=1) - one
    zero = kernel.sum() - one - 2 * across
    n1 = labels.sum(axis=1)
    n0 = labels.shape[1] - n1
    own = labels @ diagonal
    within = (one - own) / (n1 * (n1 - 1))
    within += (zero - (diagonal.sum() - own)) / (n0 * (n0 - 1))
    return np.asarray(within - 2 * across / (n0 * n1), dtype=np.float64)


def _unit(rows: FloatArray) -> FloatArray:
    """Rows of length one; a zero row stays zero and is at distance 1 from everything."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def _nearest(
    rows: FloatArray, asker: IntArray, known: FloatArray, owner: IntArray, k: int
) -> FloatArray:
    """Mean cosine distance [m] of unit rows to their k nearest known rows of other patients."""
    distance = np.empty(len(rows))
    step = max(1, BLOCK // len(known))
    for low in range(0, len(rows), step):
        part = slice(low, low + step)
        similar = rows[part] @ known.T
        similar[asker[part, None] == owner[None, :]] = -np.inf
        distance[part] = 1.0 - np.partition(similar, -k, axis=1)[:, -k:].mean(axis=1)
    return distance
