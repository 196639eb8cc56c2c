"""Has the model's calibration changed, and since when: the running sum of y - p by month.

Arrays and missing months are as in `drift`. Patients are never torn apart: a limit that took rows as
independent would be crossed by chance.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.stats.drift import Dated, dated
from medssl.stats.metrics import FloatArray


@dataclass(frozen=True)
class Cusum:
    """Running sum of y - p by month, in units of its standard deviation over patients.

    `path` [t] leaves +-`limit` at some month in 5 % of records without drift; `crossed` is the first
    month beyond, None if there is none. Limit and p are None where the note says why.
    """

    months: tuple[str, ...]
    path: FloatArray
    statistic: float | None
    limit: float | None
    p: float | None
    crossed: str | None
    against: str
    permutations: int
    patients: int
    undated: int
    note: str = ""


def cusum(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    patient: npt.ArrayLike,
    month: npt.ArrayLike,
    *,
    against: str = "itself",
    permutations: int = 999,
    seed: int = 0,
    level: float = 0.95,
) -> Cusum:
    """Running sum of y - p with a limit for its largest excursion, patients kept whole.

    Against "itself" the mean of y - p over the period is taken off, and the limit comes from
    permuting the months over patients (among patients with equally many rows): has anything
    changed? Against "zero" nothing is taken off, and the limit comes from turning the sign of whole
    patients: does p hold at all, and if not, since when?

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        patient: one code or pseudonym per row [n].
        month: "YYYY-MM" or missing [n].
        against: "itself" or "zero".
        permutations: B; p is at least 1 / (B + 1).
        seed: of the permutations.
        level: share of records without drift that stay within the limit, in (0, 1).

    Returns:
        Path, limit and p; without a limit where fewer than ten patients can be permuted.

    Raises:
        ValueError: if arrays do not fit, a month is malformed, or an option is out of range.
    """
    if against not in ("itself", "zero") or permutations < 1 or not 0 < level < 1:
        raise ValueError(
            "A CUSUM is taken against 'itself' or 'zero', with permutations >= 1 and a level "
            f"within (0, 1); got {against!r}, {permutations} and {level}."
        )
    data = dated(y, p, patient, month)
    residual = data.positive - data.value
    if against == "itself":
        residual = residual - residual.mean()
    each = np.bincount(data.groups.code, weights=residual)
    scale = math.sqrt(float(each @ each)) or 1.0
    months = int(data.when.max()) + 1
    sums = np.bincount(data.when, weights=residual, minlength=months)
    path = np.asarray(np.cumsum(sums) / scale, dtype=np.float64)
    names = tuple(data.name(k) for k in range(months))
    size = (against, permutations, data.groups.count, data.undated)
    note = _too_little(data, against, bool(each.any()))
    if note:
        return Cusum(names, path, None, None, None, None, *size, note)
    null = _rearranged if against == "itself" else _turned
    drawn = null(data, residual, permutations, np.random.default_rng(seed)) / scale
    furthest = np.abs(np.concatenate([path[None], drawn])).max(axis=1)
    limit = float(np.quantile(furthest, level, method="higher"))
    beyond = np.flatnonzero(np.abs(path) > limit)
    crossed = names[int(beyond[0])] if beyond.size else None
    # Rearrangements that are equal on paper differ in the last digits; they count as reached.
    p_value = np.count_nonzero(furthest >= furthest[0] - 1e-9) / furthest.size
    return Cusum(names, path, float(furthest[0]), limit, float(p_value), crossed, *size)


def _rearranged(
    data: Dated, residual: FloatArray, permutations: int, rng: np.random.Generator
) -> FloatArray:
    """Paths [B, t] after permuting the months over patients with equally many rows."""
    rows = np.diff(data.groups.start)
    months = int(data.when.max()) + 1
    # Rows of a patient in the order of time, so that the j-th row takes over a j-th month.
    order = np.lexsort((data.when, data.groups.code))
    begin = np.concatenate([[0], np.cumsum(rows)])[:-1]
    sums = np.zeros((permutations, months))
    for many in np.unique(rows):
        own = order[begin[rows == many][:, None] + np.arange(many)]
        when, value = data.when[own], residual[own]
        for b in range(permutations):
            moved = when[rng.permutation(len(own))]
            sums[b] += np.bincount(moved.ravel(), weights=value.ravel(), minlength=months)
    return np.asarray(np.cumsum(sums, axis=1), dtype=np.float64)


def _turned(
    data: Dated, residual: FloatArray, permutations: int, rng: np.random.Generator
) -> FloatArray:
    """Paths [B, t] after turning the sign of whole patients at random."""
    months = int(data.when.max()) + 1
    own = np.zeros((data.groups.count, months))
    np.add.at(own, (data.groups.code, data.when), residual)
    out = np.empty((permutations, months))
    for b in range(permutations):
        out[b] = rng.choice([-1.0, 1.0], data.groups.count) @ own
    return np.asarray(np.cumsum(out, axis=1), dtype=np.float64)


def _too_little(data: Dated, against: str, off: bool) -> str:
    """Why a CUSUM has no limit, as a sentence; empty if it has one."""
    if not off:
        return "Not computable: no outcome differs from its probability."
    if data.when.max() == 0:
        return "Not computable: all rows come from one month."
    rows = np.diff(data.groups.start)
    alike = int(np.isin(rows, np.flatnonzero(np.bincount(rows) > 1)).sum())
    free = alike if against == "itself" else data.groups.count
    if free < 10 or 2 * free < data.groups.count:
        return (
            f"Not computable: only {free} of {data.groups.count} patients can be exchanged for "
            "another with as many rows; ten are needed, and half of all."
        )
    return ""
