"""Local regression of the outcome on p that reads how often each patient was drawn.

Rows are gathered into narrow cells of p, so that a resample costs a few passes over cells whatever
the number of rows. With at most as many distinct p as there are cells this is lowess without
robustifying passes on the rows that the draws stand for; otherwise it is near to it (third digit).
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from medssl.stats.bootstrap import Patients, Statistic
from medssl.stats.calibration import SPAN
from medssl.stats.metrics import FloatArray, IntArray, outcome_and_probability

CELLS = 64
"""Cells with equally many rows, and again as many of equal width; both cuts are used."""

BLOCK = 2_000_000
"""Numbers held at once per array (16 MB)."""

DISTANCES = ("ici", "e50", "e90", "emax")
"""Mean, median, 90th percentile and largest distance of the smoothed frequency from p."""


def distances(gap: FloatArray) -> FloatArray:
    """Summarise the distances of all rows in the order of `DISTANCES`.

    Args:
        gap: |smoothed frequency - p| of each row [n].

    Returns:
        The four numbers [4].
    """
    return np.array([gap.mean(), *np.quantile(gap, [0.5, 0.9]), gap.max()])


def counted_smooth(
    y: npt.ArrayLike, p: npt.ArrayLike, groups: Patients, at: npt.ArrayLike
) -> Statistic:
    """Smoothed frequency at fixed places, and the four distances behind it (Austin 2019).

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        groups: rows of each patient.
        at: places [g] on the scale of p, perhaps none.

    Returns:
        Counts [B, P] to [B, g + 4]: the curve, then the distances in the order of `DISTANCES`.

    Raises:
        ValueError: if there is no row or a probability lies outside [0, 1].
    """
    positive, value = outcome_and_probability(y, p)
    which = narrow_cells(value)
    centre = np.bincount(which, weights=value) / np.bincount(which)
    rows, events = cell_sums(which, [np.ones(value.size), positive], groups)
    places = np.concatenate([np.asarray(at, dtype=np.float64), centre])

    def statistic(counts: IntArray) -> FloatArray:
        n, k = _drawn(rows, counts), _drawn(events, counts)
        smooth = local_lines(n, k, centre, places)
        gap = np.abs(smooth[:, -centre.size :] - centre)
        return np.concatenate([smooth[:, : -centre.size], _summary(gap, n)], axis=1)

    return statistic


def counted_ici(y: npt.ArrayLike, p: npt.ArrayLike, groups: Patients) -> Statistic:
    """Integrated calibration index; near to `calibration.integrated_calibration_index`.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        groups: rows of each patient.

    Returns:
        Counts [B, P] to indices [B].

    Raises:
        ValueError: if there is no row or a probability lies outside [0, 1].
    """
    smooth = counted_smooth(y, p, groups, [])
    return lambda counts: np.asarray(smooth(counts)[:, 0], dtype=np.float64)


def counted_ece(y: npt.ArrayLike, p: npt.ArrayLike, groups: Patients, which: IntArray) -> Statistic:
    """Expected calibration error over groups of rows that stay as they are in every resample.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        groups: rows of each patient.
        which: group of each row [n], from 0.

    Returns:
        Counts [B, P] to errors [B].

    Raises:
        ValueError: if there is no row or a probability lies outside [0, 1].
    """
    positive, value = outcome_and_probability(y, p)
    rows, excess = cell_sums(which, [np.ones(value.size), positive - value], groups)

    def statistic(counts: IntArray) -> FloatArray:
        n = _drawn(rows, counts).sum(axis=1)
        return np.asarray(np.abs(_drawn(excess, counts)).sum(axis=1) / n, dtype=np.float64)

    return statistic


def narrow_cells(value: FloatArray) -> IntArray:
    """Cut p where the rows are and where they are not.

    Args:
        value: probabilities [n], n >= 1.

    Returns:
        Cell of each row [n], numbered without gaps from low to high p.
    """
    if np.unique(value).size <= 2 * CELLS:
        which = np.unique(value, return_inverse=True)[1]
        return np.asarray(which, dtype=np.int64).ravel()
    # Equal mass alone would lump the few high scores of a rare disease, equal width the many low.
    share = np.linspace(0, 1, CELLS + 1)[1:-1]
    even = value.min() + np.ptp(value) * share
    edges = np.unique(np.concatenate([np.quantile(value, share), even]))
    _, which = np.unique(np.searchsorted(edges, value, side="left"), return_inverse=True)
    return np.asarray(which, dtype=np.int64)


def cell_sums(
    which: IntArray, columns: list[npt.NDArray[np.generic]], groups: Patients
) -> list[csr_matrix]:
    """Sum columns over the rows of each patient in each cell.

    Args:
        which: cell of each row [n], from 0.
        columns: arrays [n].
        groups: rows of each patient.

    Returns:
        One sparse matrix [P, cells] a column.
    """
    shape = (groups.count, int(which.max()) + 1)
    return [
        csr_matrix((np.asarray(c, dtype=np.float64), (groups.code, which)), shape=shape)
        for c in columns
    ]


def local_lines(
    n: FloatArray, events: FloatArray, centre: FloatArray, at: FloatArray
) -> FloatArray:
    """Fit a tricube-weighted line to the nearest 66 % of the rows around each place.

    Args:
        n: rows in each cell [B, cells].
        events: events among them [B, cells].
        centre: where each cell lies [cells].
        at: places [g].

    Returns:
        Fitted frequencies [B, g], not confined to [0, 1]; the nearest cells' mean where a line is
        not determined.
    """
    apart = np.abs(centre - at[:, None])
    order = np.argsort(apart, axis=1, kind="stable")
    ranked = np.take_along_axis(apart, order, axis=1)
    # The nearest cells of a place lie side by side: these are their first and one past their last.
    first = np.minimum.accumulate(order, axis=1)
    last = np.maximum.accumulate(order, axis=1) + 1
    wanted = np.maximum(1, np.floor(SPAN * n.sum(axis=1) + 1e-10))
    out = np.empty((len(n), at.size))
    step = max(1, BLOCK // apart.size)
    for low in range(0, len(n), step):
        part = slice(low, low + step)
        near = _neighbours(n[part], wanted[part], first, last)
        radius = np.take_along_axis(ranked, near.T, axis=1).T
        out[part] = _lines(n[part], events[part], centre, at, apart, radius)
    return out


def _neighbours(n: FloatArray, wanted: FloatArray, first: IntArray, last: IntArray) -> IntArray:
    """Rank [B, g] of the farthest cell needed to have `wanted` [B] rows, by halving."""
    running = np.concatenate([np.zeros((len(n), 1)), np.cumsum(n, axis=1)], axis=1)
    places = np.arange(len(first))
    low = np.zeros((len(n), len(first)), dtype=np.int64)
    high = np.full_like(low, n.shape[1] - 1)
    while (low < high).any():
        middle = (low + high) // 2
        held = np.take_along_axis(running, last[places, middle], axis=1)
        held -= np.take_along_axis(running, first[places, middle], axis=1)
        enough = held >= wanted[:, None]
        high = np.where(enough, middle, high)
        low = np.where(enough, low, middle + 1)
    return low


def _lines(
    n: FloatArray,
    events: FloatArray,
    centre: FloatArray,
    at: FloatArray,
    apart: FloatArray,
    radius: FloatArray,
) -> FloatArray:
    """A block of `local_lines` within the radius [B, g] of each place; `apart` is [g, cells]."""
    safe = np.where(radius > 0, radius, 1.0)
    near = (apart**3)[None] / (safe**3)[:, :, None]
    np.subtract(1.0, near, out=near)
    np.clip(near, 0.0, None, out=near)
    near *= near * near
    # Where one value of p holds that many rows, or all lie at the rim, they are the neighbourhood.
    flat = (radius == 0) | (near @ n[:, :, None] == 0)[:, :, 0]
    if flat.any():
        near[flat] = (apart[None] <= radius[:, :, None])[flat]
    middle = float(centre.mean())
    c, a = centre - middle, at - middle
    sums = near @ np.stack([n, n * c, n * c * c, events, events * c], axis=2)
    s0, s1, s2, t0, t1 = np.moveaxis(sums, 2, 0)
    s1, s2, t1 = s1 - a * s0, s2 - 2 * a * s1 + a * a * s0, t1 - a * t0
    size = s0 * s2 - s1 * s1
    level = size <= 1e-10 * (s0 * max(float(np.ptp(centre)), 1e-300)) ** 2
    line = (s2 * t0 - s1 * t1) / np.where(level, 1.0, size)
    return np.asarray(np.where(level, t0 / s0, line), dtype=np.float64)


def _summary(gap: FloatArray, n: FloatArray) -> FloatArray:
    """The four distances [B, 4] of cells that lie `gap` [B, cells] away and hold n rows."""
    order = np.argsort(gap, axis=1)
    ranked = np.take_along_axis(gap, order, axis=1)
    share = np.cumsum(np.take_along_axis(n, order, axis=1), axis=1) / n.sum(axis=1)[:, None]
    first = [(share >= q - 1e-12).argmax(axis=1) for q in (0.5, 0.9)]
    middle = [np.take_along_axis(ranked, f[:, None], axis=1)[:, 0] for f in first]
    mean = (gap * n).sum(axis=1) / n.sum(axis=1)
    return np.stack([mean, *middle, np.where(n > 0, gap, 0.0).max(axis=1)], axis=1)


def _drawn(sums: csr_matrix, counts: IntArray) -> FloatArray:
    """Sums [B, cells] over the drawn patients."""
    return np.asarray((sums.T @ counts.T).T, dtype=np.float64)
