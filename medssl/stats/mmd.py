"""Could the patients of two sites come from one population: the patient-block kernel test."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from medssl.stats import embeddings
from medssl.stats.embeddings import Site, blocks, two_sites
from medssl.stats.metrics import FloatArray
from medssl.stats.permutation import permutation_p, site_labels

EXACT_MEDIAN = 2000
"""Images up to which the kernel width is the median over all pairs."""

MEDIAN_PAIRS = 200_000
"""Pairs that estimate the kernel width beyond that."""


@dataclass(frozen=True)
class ShiftTest:
    """Patient-block MMD between two sites with its permutation p, never 0."""

    statistic: float
    p: float
    permutations: int
    source_patients: int
    target_patients: int
    subsampled: bool


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
    source, target = two_sites(
        source_emb, source_patient, target_emb, target_patient, max_patients, seed
    )
    # The permutations have a generator of their own, so subsampling does not change them.
    labels = site_labels(source.patients, target.patients, permutations, seed)
    values = unbiased_mmd2(_patient_kernel(source, target, seed), labels)
    return ShiftTest(
        statistic=float(values[0]),
        p=permutation_p(values),
        permutations=permutations,
        source_patients=source.patients,
        target_patients=target.patients,
        subsampled=source.subsampled or target.subsampled,
    )


def _patient_kernel(source: Site, target: Site, seed: int) -> FloatArray:
    """Mean RBF kernel between the images of every two patients [P, P], source patients first."""
    rows = np.concatenate([source.rows, target.rows])
    # Distances come from products of rows; around the mean these lose the fewest digits.
    rows -= rows.mean(axis=0)
    start = np.concatenate([source.start, source.start[-1] + target.start[1:]])
    width = _median_distance(rows, seed)
    square = np.einsum("ij,ij->i", rows, rows)
    count = np.diff(start).astype(np.float64)
    kernel = np.empty((count.size, count.size))
    for low, high in blocks(start, max(1, embeddings.BLOCK // len(rows))):
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


def _median_distance(rows: FloatArray, seed: int) -> float:
    """Median squared distance over the pairs of different images; 1 if all images are equal."""
    if len(rows) <= EXACT_MEDIAN:
        distance = pdist(rows, "sqeuclidean")
    else:
        rng = np.random.default_rng([seed, 3])
        a, b = rng.integers(0, len(rows), (2, MEDIAN_PAIRS))
        pieces = 1 + MEDIAN_PAIRS * rows.shape[1] // embeddings.BLOCK
        parts = np.array_split(np.arange(MEDIAN_PAIRS), pieces)
        distance = np.concatenate(
            [np.sum((rows[a[part]] - rows[b[part]]) ** 2, axis=1) for part in parts]
        )
    apart = distance[distance > 0]
    return 1.0 if apart.size == 0 else float(np.median(apart))


def unbiased_mmd2(kernel: FloatArray, labels: FloatArray) -> FloatArray:
    """Unbiased MMD^2 of many ways to call the patients source or target.

    Args:
        kernel: kernel between patients [P, P].
        labels: site of each patient, 0.0 or 1.0, one way a row [B, P]; two of each at least.

    Returns:
        MMD^2 [B] (Gretton et al. 2012, lemma 6), which may be negative.
    """
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
