"""Draws of slices that stand in a row: a slice and its neighbour, or three in order."""

import numpy as np

from medssl.cohort.draw import IntArray, Neighbours, Plan, generator, limits


def plan_next(near: Neighbours, seed: int, epoch: int, batch: int, *, times: int = 1) -> Plan:
    """Draw every slice that has a neighbour once, with one of those in reach: ``[N, 2]``."""
    stream = generator(seed, epoch, 4)
    mates = near.high - near.low - 1
    a = stream.permutation(np.flatnonzero(mates > 0))
    b = near.low[a] + (stream.random(len(a)) * mates[a]).astype(np.int64)
    b += b >= a
    rows = near.order[np.stack([a, b], axis=1)]
    return Plan(rows, near.patient[a], limits(len(a), batch, times))


def plan_triples(near: Neighbours, seed: int, epoch: int, batch: int, *, times: int = 1) -> Plan:
    """Draw every slice with one in reach on either side once, in the middle of them: ``[N, 3]``."""
    stream = generator(seed, epoch, 5)
    middle = stream.permutation(between(near))
    low, high = stream.random((2, len(middle)))
    below = near.low[middle] + (low * (middle - near.low[middle])).astype(np.int64)
    above = middle + 1 + (high * (near.high[middle] - middle - 1)).astype(np.int64)
    rows = near.order[np.stack([below, middle, above], axis=1)]
    return Plan(rows, near.patient[middle], limits(len(middle), batch, times))


def between(near: Neighbours) -> IntArray:
    """Return the places of slices with another one in reach on either side, int64."""
    place = np.arange(len(near.order))
    return np.flatnonzero((near.low < place) & (near.high > place + 1))
