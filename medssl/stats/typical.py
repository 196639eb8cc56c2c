"""Typical points of the groups that nobody has looked at: whom to label while labels are few."""

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from medssl.stats.embeddings import embedding
from medssl.stats.metrics import FloatArray, IntArray
from medssl.stats.representation import unit

NEIGHBOURS = 20
MOST_GROUPS = 500


def typical(points: npt.ArrayLike, known: npt.ArrayLike, count: int, seed: int) -> list[int]:
    """Choose points that stand for groups without a known point, largest group first.

    As many groups as points would be known afterwards, by k-means of directions; in each group without a
    known one the point with the nearest neighbours stands for it. Where all groups are known, the ones
    with the fewest known points go first.

    Args:
        points: rows [n, d].
        known: whether each has been looked at [n].
        count: how many; at most those that are unknown.
        seed: of k-means.

    Returns:
        Row numbers, the first to look at first.

    Source: Hacohen et al. 2022, TypiClust, arXiv 2202.02794, section 3.
    """
    rows, seen = unit(embedding(points, "given")), np.asarray(known, dtype=bool)
    many = min(int(seen.sum()) + count, len(rows), MOST_GROUPS)
    group: IntArray = KMeans(many, n_init=1, random_state=seed).fit(rows).labels_.astype(np.int64)
    size, covered = np.bincount(group, minlength=many), np.bincount(group[seen], minlength=many)
    chosen: list[int] = []
    left = ~seen
    while len(chosen) < min(count, int((~seen).sum())):
        open_groups = np.unique(group[left])
        best = min(open_groups, key=lambda g: (covered[g], -size[g], g))
        inside = np.flatnonzero(group == best)
        own = inside[left[inside]]
        pick = int(own[np.argmax(_density(rows[own], rows[inside]))])
        chosen.append(pick)
        left[pick] = False
        covered[best] += 1
    return chosen


def _density(asked: FloatArray, around: FloatArray) -> FloatArray:
    """Inverse mean distance to the nearest others."""
    k = min(NEIGHBOURS, len(around) - 1)
    if k < 1:
        return np.ones(len(asked))
    apart = np.sqrt(np.maximum(0.0, 2 - 2 * asked @ around.T))
    near = np.partition(apart, k, axis=1)[:, : k + 1]  # one of them is the point itself
    return np.asarray(1 / np.maximum(near.sum(1) / k, 1e-12), dtype=np.float64)
