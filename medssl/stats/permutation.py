"""Permuting the site over patients, the one move that every site test here makes."""

import numpy as np

from medssl.stats.metrics import FloatArray

SLACK = 1e-12
"""Rearrangements that are equal on paper differ in the last digits; this near counts as reached."""


def check_permutations(permutations: int) -> None:
    """Insist on a permutation.

    Args:
        permutations: B.

    Raises:
        ValueError: if permutations < 1.
    """
    if permutations < 1:
        raise ValueError(
            f"A test needs at least one permutation, got {permutations}; 999 is usual."
        )


def site_labels(source: int, target: int, permutations: int, seed: int) -> FloatArray:
    """List the ways to call patients source (0.0) or target (1.0), the observed way first.

    Args:
        source: patients of the source, which come first.
        target: patients of the target.
        permutations: B, at least 1.
        seed: of the permutations.

    Returns:
        Labels [B + 1, source + target], float64.

    Raises:
        ValueError: if permutations < 1.
    """
    check_permutations(permutations)
    site = np.repeat([0.0, 1.0], [source, target])
    rng = np.random.default_rng(seed)
    return np.stack([site, *(rng.permutation(site) for _ in range(permutations))])


def permutation_p(values: FloatArray) -> float:
    """Share of the rearrangements that are at least as extreme, the observed one included.

    Args:
        values: statistic of the observed labels and of B permuted ones [B + 1]; larger is more.

    Returns:
        (1 + #{T* >= T}) / (1 + B), never 0 (Phipson and Smyth 2010).
    """
    return float(np.count_nonzero(values >= values[0] - SLACK)) / values.size
