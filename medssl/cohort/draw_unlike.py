"""Draws of two images of one bag that differ in a column: another sequence, another view."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.cohort.draw import IntArray, Plan, codes, generator, limits, runs_of


@dataclass(frozen=True)
class Unlike:
    """Rows of each patient by bag and level, and where those of the bag and of the level lie.

    Attributes:
        order: rows by patient, bag and level, int64 ``[N]``.
        low, high: first and one past the last place of every row's bag, ``[N]``.
        own_low, own_high: the same of its level within the bag, ``[N]``.
        patient: code of every row's patient, ascending, int64 ``[N]``.
    """

    order: IntArray
    low: IntArray
    high: IntArray
    own_low: IntArray
    own_high: IntArray
    patient: IntArray

    @property
    def mates(self) -> IntArray:
        """Return how many rows of the bag are of another level, for every row."""
        return (self.high - self.low) - (self.own_high - self.own_low)


def unlike(
    rows: IntArray, bag: npt.NDArray[Any], patient: npt.NDArray[Any], level: npt.NDArray[Any]
) -> Unlike:
    """Group rows by patient, bag and level; a row whose level is not known is left out.

    Args:
        rows: candidate rows, int64 ``[n]``.
        bag, patient, level: values of those rows; level None where nobody said.
    """
    known = np.array([v is not None and v != "" for v in level], bool)
    owner, group, kind = (codes(values[known], ranked=True) for values in (patient, bag, level))
    order = np.lexsort((rows[known], kind, group, owner))
    owner, group, kind = owner[order], group[order], kind[order]
    bags = _ends((owner, group))
    own = _ends((owner, group, kind))
    return Unlike(rows[known][order].astype(np.int64), *bags, *own, owner)


def _ends(keys: tuple[IntArray, ...]) -> tuple[IntArray, IntArray]:
    """Return where each place's run of equal keys begins and ends, ``[n]`` each."""
    count = len(keys[0])
    fresh = np.zeros(count, bool)
    fresh[:1] = True
    for key in keys:
        fresh[1:] |= np.diff(key) != 0
    edges = np.append(np.flatnonzero(fresh), count)
    number = np.cumsum(fresh) - 1
    return edges[number], edges[number + 1] if count else edges[number]


def plan_unlike(
    held: Unlike, seed: int, epoch: int, batch: int, *, single_images: bool, times: int = 1
) -> Plan:
    """Draw every patient once with two images of one bag and of different levels: ``[N, 2]``.

    A patient without such a pair is drawn with one image twice, or left out.
    """
    stream = generator(seed, epoch, 6)
    patients = np.unique(held.patient)
    first, second = stream.random((2, len(patients)))
    shuffle = stream.permutation(len(patients))
    mates = held.mates
    paired = np.flatnonzero(mates > 0)
    begin, count = runs_of(held.patient, patients)
    begin_paired, pairs = runs_of(held.patient[paired], patients)
    a = begin + (first * count).astype(np.int64)
    has = pairs > 0
    a[has] = paired[(begin_paired + (first * pairs).astype(np.int64))[has]]
    b = held.low[a] + (second * mates[a]).astype(np.int64)
    # What lies beyond the own level is shifted past it.
    b = np.where(b >= held.own_low[a], b + (held.own_high - held.own_low)[a], b)
    b = np.where(mates[a] > 0, b, a)
    keep = np.full(len(patients), single_images) | has
    shuffle = shuffle[keep[shuffle]]
    rows = held.order[np.stack([a, b], axis=1)]
    return Plan(rows[shuffle], patients[shuffle], limits(len(shuffle), batch, times))
