"""Which images form a batch: the heart of MICLe. Pure functions of (seed, epoch, place)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medssl.errors import NothingUsableError, UsageError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bags:
    """Which rows belong to which bag, and which patient a bag belongs to (CSR).

    Attributes:
        order: rows, bag after bag, int64 ``[N]``.
        start: first place of every bag in ``order``, int64 ``[K + 1]``.
        patient: code of every bag's patient, int64 ``[K]``.
    """

    order: IntArray
    start: IntArray
    patient: IntArray

    @property
    def sizes(self) -> IntArray:
        """Return the number of rows of every bag."""
        return np.diff(self.start)


@dataclass(frozen=True)
class Plan:
    """One epoch: ``rows`` int64 ``[N, images]``, the patient codes ``[N]``, and batch limits."""

    rows: IntArray
    patient: IntArray
    limits: IntArray

    def batch(self, step: int, rank: int = 0, world: int = 1) -> slice:
        """Return the places that one process handles in one step; together they are the batch."""
        low, high = int(self.limits[step]), int(self.limits[step + 1])
        edges = np.linspace(low, high, world + 1).round().astype(int)
        return slice(int(edges[rank]), int(edges[rank + 1]))


def make_bags(
    rows: IntArray, bag: npt.NDArray[Any], patient: npt.NDArray[Any], picture: npt.NDArray[Any]
) -> Bags:
    """Group rows into bags; a picture that repeats inside a bag is taken once.

    Args:
        rows: candidate rows, int64 ``[n]``.
        bag, patient, picture: values of those rows: group, patient, digest of the pixels.
    """
    owner, group = codes(patient, ranked=True), codes(bag, ranked=True)
    pair = np.lexsort((group, owner))
    fresh = np.ones(len(pair), bool)
    fresh[1:] = (np.diff(owner[pair]) != 0) | (np.diff(group[pair]) != 0)
    place = np.empty(len(pair), np.int64)
    place[pair] = np.cumsum(fresh) - 1
    first = _first_of_each(place, codes(picture, ranked=False))
    order = first[np.lexsort((rows[first], place[first]))]
    start = np.searchsorted(place[order], np.arange(fresh.sum() + 1))
    return Bags(
        rows[order].astype(np.int64), start.astype(np.int64), owner[pair[fresh]].astype(np.int64)
    )


def codes(values: npt.NDArray[Any], *, ranked: bool) -> IntArray:
    """Return a number per different value, as text; ranked in the order of the texts, int64 ``[n]``."""
    text = values if values.dtype == object else values.astype(str)
    coded = pa.array(text, pa.string()).dictionary_encode()
    codes: IntArray = coded.indices.to_numpy().astype(np.int64)
    if not ranked:
        return codes
    rank = np.empty(len(coded.dictionary), np.int64)
    rank[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(rank))
    ranks: IntArray = rank[codes]
    return ranks


def _first_of_each(place: IntArray, picture: IntArray) -> IntArray:
    """Return where every (place, picture) stands for the first time, int64."""
    order = np.lexsort((picture, place))  # stable, so the first one stays the first
    fresh = np.ones(len(order), bool)
    fresh[1:] = (np.diff(place[order]) != 0) | (np.diff(picture[order]) != 0)
    return order[fresh]


def generator(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """Return the stream of one purpose of one epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 8) | purpose]))


def limits(count: int, batch: int, times: int = 1) -> IntArray:
    """Return the edges of the fewest batches of at most ``batch``, sizes equal to within one.

    Their number is a multiple of ``times``, the batches of one optimiser step.
    """
    steps = -(-count // (batch * times)) * times
    return np.linspace(0, count, steps + 1).round().astype(np.int64)


def plan_images(bags: Bags, seed: int, epoch: int, batch: int, *, times: int = 1) -> Plan:
    """Draw every image once, in random order (SimCLR): rows ``[N, 1]``.

    Several images of one patient may meet in a batch; the loss masks them.
    """
    order = generator(seed, epoch, 1).permutation(len(bags.order))
    owner = np.repeat(bags.patient, bags.sizes)
    return Plan(bags.order[order][:, None], owner[order], limits(len(order), batch, times))


def plan_patients(
    bags: Bags, seed: int, epoch: int, batch: int, *, single_images: bool, times: int = 1
) -> Plan:
    """Draw every patient once with two different images of one of their bags (MICLe): ``[N, 2]``.

    A patient with several bags is drawn with one of those that hold two images, at random; one
    without any such bag is drawn with the same row twice, or left out.
    """
    stream = generator(seed, epoch, 2)
    sizes = bags.sizes
    patients = np.unique(bags.patient)
    pick, first, second = stream.random((3, len(patients)))
    shuffle = stream.permutation(len(patients))
    paired = np.flatnonzero(sizes > 1)
    begin, count = runs_of(bags.patient, patients)
    begin_paired, pairs = runs_of(bags.patient[paired], patients)
    keep = np.full(len(patients), single_images) | (pairs > 0)
    chosen = (pick * np.where(pairs > 0, pairs, count)).astype(np.int64)
    bag = begin + chosen
    bag[pairs > 0] = paired[(begin_paired + chosen)[pairs > 0]]
    size = sizes[bag]
    a = (first * size).astype(np.int64)
    b = np.where(size > 1, (a + 1 + (second * (size - 1)).astype(np.int64)) % size, a)
    rows = bags.order[bags.start[bag][:, None] + np.stack([a, b], axis=1)]
    shuffle = shuffle[keep[shuffle]]
    return Plan(rows[shuffle], patients[shuffle], limits(len(shuffle), batch, times))


@dataclass(frozen=True)
class Neighbours:
    """Rows of each patient, and which places in the order are near each of them.

    Attributes:
        order: rows by patient, series and slice, int64 ``[N]``.
        low, high: first and one past the last place within reach, the row itself included, ``[N]``.
        patient: code of every row's patient, ascending, int64 ``[N]``.
    """

    order: IntArray
    low: IntArray
    high: IntArray
    patient: IntArray


def neighbours(
    rows: IntArray,
    patient: npt.NDArray[Any],
    series: npt.NDArray[Any],
    slices: IntArray,
    within: int,
) -> Neighbours:
    """Find for every slice those of its series at most ``within`` slices away.

    Args:
        rows: candidate rows, int64 ``[n]``.
        patient, series, slices: values of those rows; slice -1 is no slice and has no neighbour.
        within: the largest distance, slices.
    """
    owner, group = codes(patient, ranked=True), codes(series, ranked=True)
    alone = slices < 0
    order = np.lexsort((rows, slices, alone, group, owner))
    fresh = np.ones(len(order), bool)
    for key in (owner, group, alone.astype(np.int64)):
        fresh[1:] &= np.diff(key[order]) == 0
    fresh[1:] = ~fresh[1:]
    # Series stand further apart on this line than any two slices of one may.
    reach = int(slices.max(initial=0)) + within + 2
    line = (np.cumsum(fresh) - 1) * reach + slices[order]
    low = np.searchsorted(line, line - within, side="left")
    high = np.searchsorted(line, line + within, side="right")
    places = np.arange(len(order))
    low = np.where(alone[order], places, low)
    high = np.where(alone[order], places + 1, high)
    return Neighbours(rows[order].astype(np.int64), low, high, owner[order])


def plan_neighbours(
    near: Neighbours, seed: int, epoch: int, batch: int, *, single_images: bool, times: int = 1
) -> Plan:
    """Draw every patient once with two slices that are near each other: ``[N, 2]``.

    The first is any slice of the patient that has a neighbour, the second any of its neighbours. A
    patient without neighbouring slices is drawn with one picture twice, or left out.
    """
    stream = generator(seed, epoch, 3)
    patients = np.unique(near.patient)
    first, second = stream.random((2, len(patients)))
    shuffle = stream.permutation(len(patients))
    mates = near.high - near.low - 1
    paired = np.flatnonzero(mates > 0)
    begin, count = runs_of(near.patient, patients)
    begin_paired, pairs = runs_of(near.patient[paired], patients)
    a = begin + (first * count).astype(np.int64)
    has = pairs > 0
    a[has] = paired[(begin_paired + (first * pairs).astype(np.int64))[has]]
    b = near.low[a] + (second * mates[a]).astype(np.int64)
    b = np.where(mates[a] > 0, b + (b >= a), a)
    keep = np.full(len(patients), single_images) | has
    shuffle = shuffle[keep[shuffle]]
    rows = near.order[np.stack([a, b], axis=1)]
    return Plan(rows[shuffle], patients[shuffle], limits(len(shuffle), batch, times))


def runs_of(values: IntArray, wanted: IntArray) -> tuple[IntArray, IntArray]:
    """Return where each wanted value begins in sorted values, and how often it stands there."""
    begin = np.searchsorted(values, wanted)
    return begin, np.searchsorted(values, wanted, side="right") - begin


def pair_share(plan: Plan) -> float:
    """Return the share of drawn bags whose two images differ; 0 for single images."""
    if plan.rows.shape[1] < 2:
        return 0.0
    return float((plan.rows[:, 0] != plan.rows[:, 1]).mean())


def check_pairs(patients: IntArray, paired: IntArray, batch: int, *, single_images: bool) -> None:
    """Raise unless MICLe can draw: some patient with a pair, and at least ``batch`` patients.

    Args:
        patients: codes of all patients.
        paired: codes of those with two images that may form a pair.
        batch: patients per batch.
        single_images: whether the others are drawn too.

    Raises:
        NothingUsableError: no patient has two different images.
        UsageError: the batch is larger than the number of patients.
    """
    if paired.size == 0:
        words = (
            "no patient has two different images that may form a pair, so a task of two images has "
            "nothing to learn from. Use method.name=simclr or method.images=1, another method.bag, "
            "method.differ or a larger method.within_slices, or scan more images of the same patients."
        )
        raise NothingUsableError(words, "E-NOPAIRS")
    many = len(np.unique(patients if single_images else paired))
    if batch > many:
        words = (
            f"batch {batch} is larger than the {many} patients to draw from, and a patient may "
            f"stand in a batch only once. Set batch={many} or less."
        )
        raise UsageError(words, "E-BATCH")
