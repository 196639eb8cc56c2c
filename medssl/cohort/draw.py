"""Which images form a batch: the heart of MICLe. Pure functions of (seed, epoch, place)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
    _, code = np.unique(patient.astype(str), return_inverse=True)
    groups: dict[tuple[int, str], dict[str, int]] = {}
    for row, group, owner, digest in zip(rows, bag.astype(str), code, picture, strict=True):
        groups.setdefault((int(owner), group), {}).setdefault(str(digest), int(row))
    keys = sorted(groups)
    members = [sorted(groups[k].values()) for k in keys]
    order = np.array([r for m in members for r in m], dtype=np.int64)
    start = np.cumsum([0, *(len(m) for m in members)], dtype=np.int64)
    return Bags(order, start, np.array([k[0] for k in keys], dtype=np.int64))


def generator(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """Return the stream of one purpose of one epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 8) | purpose]))


def limits(count: int, batch: int) -> IntArray:
    """Return the edges of the fewest batches of at most ``batch``, sizes equal to within one."""
    steps = -(-count // batch)
    return np.linspace(0, count, steps + 1).round().astype(np.int64)


def plan_images(bags: Bags, seed: int, epoch: int, batch: int) -> Plan:
    """Draw every image once, in random order (SimCLR): rows ``[N, 1]``.

    Several images of one patient may meet in a batch; the loss masks them.
    """
    order = generator(seed, epoch, 1).permutation(len(bags.order))
    owner = np.repeat(bags.patient, bags.sizes)
    return Plan(bags.order[order][:, None], owner[order], limits(len(order), batch))


def plan_patients(bags: Bags, seed: int, epoch: int, batch: int, *, single_images: bool) -> Plan:
    """Draw every patient once with two different images of one of their bags (MICLe): ``[N, 2]``.

    A patient with several bags is drawn with one of those that hold two images, at random; one
    without any such bag is drawn with the same row twice, or left out.
    """
    stream = generator(seed, epoch, 2)
    sizes = bags.sizes
    patients = np.unique(bags.patient)
    pick, first, second = stream.random((3, len(patients)))
    shuffle = stream.permutation(len(patients))
    rows = np.empty((len(patients), 2), np.int64)
    keep = np.ones(len(patients), bool)
    edges = np.searchsorted(bags.patient, [*patients, np.iinfo(np.int64).max])
    for k in range(len(patients)):
        own = np.arange(edges[k], edges[k + 1])
        paired = own[sizes[own] > 1]
        keep[k] = single_images or paired.size > 0
        choice = paired if paired.size else own
        bag = choice[int(pick[k] * len(choice))]
        size, base = int(sizes[bag]), int(bags.start[bag])
        a = int(first[k] * size)
        b = (a + 1 + int(second[k] * (size - 1))) % size if size > 1 else a
        rows[k] = bags.order[base + a], bags.order[base + b]
    shuffle = shuffle[keep[shuffle]]
    return Plan(rows[shuffle], patients[shuffle], limits(len(shuffle), batch))


def pair_share(plan: Plan) -> float:
    """Return the share of drawn bags whose two images differ; 0 for single images."""
    if plan.rows.shape[1] < 2:
        return 0.0
    return float((plan.rows[:, 0] != plan.rows[:, 1]).mean())


def check_pairs(bags: Bags, batch: int, *, single_images: bool) -> None:
    """Raise unless MICLe can draw: some patient with two images, and at least ``batch`` patients.

    Raises:
        NothingUsableError: no patient has two different images.
        UsageError: the batch is larger than the number of patients.
    """
    paired = np.unique(bags.patient[bags.sizes > 1])
    if paired.size == 0:
        words = (
            "no patient has two different images, so MICLe has no pair to learn from. "
            "Use method.name=simclr, or scan more images of the same patients."
        )
        raise NothingUsableError(words, "E-NOPAIRS")
    patients = len(np.unique(bags.patient)) if single_images else len(paired)
    if batch > patients:
        words = (
            f"batch {batch} is larger than the {patients} patients to draw from, and a patient may "
            f"stand in a batch only once. Set batch={patients} or less."
        )
        raise UsageError(words, "E-BATCH")
