"""What an embedding keeps near what: principal components, neighbours, retrieval, rank."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.stats import counted
from medssl.stats.bootstrap import Interval, Patients, intervals

RESAMPLES = 500
KS = (1, 5, 10)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Components:
    """The first two principal components and how many there are.

    Attributes:
        points: float64 ``[n, 2]``.
        share: of the variance, of either.
        rank: effective rank: the exponential of the entropy of the singular values.
    """

    points: Floats
    share: tuple[float, float]
    rank: float


@dataclass(frozen=True)
class Found:
    """How often one of the ``k`` nearest is of the same patient.

    Attributes:
        interval: over resampled patients.
        chance: of k drawn blindly, averaged over the queries: patients differ in their pictures.
        queries, patients: pictures of patients with another one, and those patients.
    """

    k: int
    interval: Interval
    chance: float
    queries: int
    patients: int


def components(rows: Floats) -> Components:
    """Return the principal components of embeddings ``[n, d]``."""
    u, s, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    points = np.zeros((len(rows), 2))
    points[:, : min(2, len(s))] = u[:, :2] * s[:2]
    # The sign of a component is free: the farthest point is put on the positive side.
    far = np.abs(points).argmax(axis=0)
    points *= np.where(points[far, [0, 1]] < 0, -1.0, 1.0)
    energy = s**2
    share = np.r_[energy, 0.0][:2] / max(energy.sum(), 1e-300)
    part = s[s > 0] / max(s.sum(), 1e-300)
    rank = float(np.exp(-(part * np.log(part)).sum())) if part.size else 0.0
    return Components(points, (float(share[0]), float(share[1])), rank)


def cosines(rows: Floats) -> Floats:
    """Return cosine similarities ``[n, n]``; a row of zeros is near nothing."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(length > 0, length, 1.0)
    found: Floats = unit @ unit.T
    return found


def neighbours(rows: Floats, row: int, image: Names, many: int) -> list[tuple[int, float]]:
    """Return the nearest other pictures of one row with their cosine, nearest first.

    Args:
        rows: embeddings ``[n, d]``.
        row: of the picture asked about.
        image: slices of one image are never each other's neighbours, ``[n]``.
        many: how many at most.
    """
    near = cosines(rows[[row, *range(len(rows))]])[0, 1:]
    order = [int(k) for k in np.argsort(-near, kind="stable") if image[k] != image[row]]
    return [(k, float(near[k])) for k in order[:many]]


def retrieval(rows: Floats, patient: Names, image: Names, ks: tuple[int, ...] = KS) -> list[Found]:
    """Ask how often the same patient is among the nearest; empty where nobody has two pictures.

    Args:
        rows: embeddings ``[n, d]``.
        patient, image: of every row ``[n]``; slices of one image are left out of each other's search.
        ks: numbers of neighbours.
    """
    who, which = _codes(patient), _codes(image)
    near = cosines(rows)
    barred = which[:, None] == which[None, :]
    near[barred] = -np.inf
    same = (who[:, None] == who[None, :]) & ~barred
    others, wanted = (~barred).sum(axis=1), same.sum(axis=1)
    asking = np.flatnonzero(wanted > 0)
    if not asking.size:
        return []
    best = np.where(same, near, -np.inf).max(axis=1)
    # As many candidates stand before the first right one as are nearer than it.
    before = (near > best[:, None]).sum(axis=1)
    groups, out = Patients.of(patient), []
    ask = np.zeros(len(rows))
    ask[asking] = 1
    for k in ks:
        hit = ask * (before < k)
        statistic = counted.ratio(hit, ask, groups)
        interval = intervals({"": statistic}, groups, resamples=RESAMPLES)[""]
        chance = float(np.mean([by_chance(int(others[q]), int(wanted[q]), k) for q in asking]))
        out.append(Found(k, interval, chance, int(asking.size), len(set(who[asking].tolist()))))
    return out


def by_chance(others: int, wanted: int, k: int) -> float:
    """Return the chance that k of ``others`` drawn blindly hold at least one of ``wanted``."""
    miss = 1.0
    for drawn in range(min(k, others)):
        miss *= max(0, others - wanted - drawn) / (others - drawn)
    return 1 - miss


def _codes(names: Names) -> Ints:
    found: Ints = np.unique(names.astype(str), return_inverse=True)[1]
    return found
