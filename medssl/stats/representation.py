"""Is a representation healthy: figures of embeddings that need no label.

Embeddings are [n, d], one row per image. `unit` rows have length one; a row of zeros stays zero. Every
figure is a number of the rows given: the same pictures must be asked each time to compare two.
"""

import numpy as np
import numpy.typing as npt

from medssl.stats.bootstrap import Patients
from medssl.stats.embeddings import checked, embedding
from medssl.stats.metrics import FloatArray

BLOCK = 4_000_000
"""Similarities held at once (32 MB as float64)."""

CONSTANT = 1e-5
"""Rows that differ by less than this share of their length differ by rounding only."""


def effective_rank(rows: npt.ArrayLike) -> float:
    """How many directions the centred rows use: exp of the entropy of the normalised singular values.

    Args:
        rows: embeddings [n, d], n >= 2.

    Returns:
        From 1 (one direction, or rows that are all alike but for rounding) to min(n - 1, d).

    Raises:
        ValueError: if there are fewer than two rows, or a value is not finite.

    Source: Roy & Vetterli 2007, EUSIPCO, definition 1; as a figure of pretraining Garrido et al. 2023
    (RankMe, arXiv 2210.02885). Theirs is not centred: a mean that all rows share is a direction, too.
    """
    x = _several(embedding(rows, "given"))
    centred = x - x.mean(axis=0)
    if np.linalg.norm(centred) <= CONSTANT * np.linalg.norm(x):
        return 1.0
    gram = centred @ centred.T if len(x) < x.shape[1] else centred.T @ centred
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    share = singular / singular.sum()
    known = share[share > 0]
    return float(np.exp(-np.sum(known * np.log(known))))


def uniformity(rows: npt.ArrayLike) -> float:
    """How evenly unit rows fill the sphere: log of the mean of exp(-2 |x - y|^2) over pairs.

    Args:
        rows: embeddings [n, d], n >= 2; their length does not count.

    Returns:
        From 0 (all in one direction) to about -4 (even, many dimensions); lower is better.

    Raises:
        ValueError: if there are fewer than two rows, or a value is not finite.

    Source: Wang & Isola 2020, arXiv 2005.10242, section 4.1 (t = 2).
    """
    x = unit(_several(embedding(rows, "given")))
    square = np.einsum("nd,nd->n", x, x)
    total = 0.0
    for part in np.array_split(np.arange(len(x)), 1 + len(x) ** 2 // BLOCK):
        apart = square[part][:, None] + square[None] - 2 * x[part] @ x.T
        total += float(np.exp(-2 * np.clip(apart, 0, None)).sum())
    pairs = len(x) * (len(x) - 1)
    # Each row met itself once, at distance zero.
    return float(np.log((total - len(x)) / pairs))


def alignment(rows: npt.ArrayLike, patient: npt.ArrayLike) -> float | None:
    """How near unit rows of one patient are: mean squared distance of two, each patient once.

    Args:
        rows: embeddings [n, d]; their length does not count.
        patient: one code or pseudonym per row [n]; any name for what makes a positive pair.

    Returns:
        From 0 (alike) to 4 (opposite), 2 between strangers; None if no patient has two rows.

    Raises:
        ValueError: if shapes do not fit or a value is not finite.

    Source: Wang & Isola 2020, arXiv 2005.10242, section 4.1 (alpha = 2).
    """
    x, groups = unit(checked(rows, patient, "given")), Patients.of(patient)
    size = np.diff(groups.start)
    several = size > 1
    if not several.any():
        return None
    sums = np.add.reduceat(x[groups.order], groups.start[:-1], axis=0)
    squares = np.add.reduceat(np.einsum("nd,nd->n", x, x)[groups.order], groups.start[:-1])
    # The squared distances of all ordered pairs of m rows add up to 2 (m * sum|x|^2 - |sum x|^2).
    apart = 2 * (size * squares - np.einsum("pd,pd->p", sums, sums))
    mean = apart[several] / (size * (size - 1))[several]
    return float(np.clip(mean, 0, None).mean())


def spread(rows: npt.ArrayLike) -> float:
    """How much unit rows differ: mean over columns of their deviation, times the root of d.

    Args:
        rows: embeddings [n, d], n >= 2; their length does not count.

    Returns:
        0 when all rows point one way, near 1 when they are even around zero. Features after a
        rectifier are never negative, share a direction and stay below 1 in health.

    Raises:
        ValueError: if there are fewer than two rows, or a value is not finite.

    Source: Chen & He 2021, arXiv 2011.10566, figure 2.
    """
    x = unit(_several(embedding(rows, "given")))
    return float(x.std(axis=0, ddof=1).mean() * np.sqrt(x.shape[1]))


def unit(rows: FloatArray) -> FloatArray:
    """Rows [n, d] of length one; a row of zeros stays."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0), dtype=np.float64)


def _several(rows: FloatArray) -> FloatArray:
    """The rows, if they are two or more."""
    if len(rows) < 2:
        raise ValueError(f"Two rows at least are needed to compare; there is {len(rows)}.")
    return rows
