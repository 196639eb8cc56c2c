"""What pretraining draws and what its views do to a picture, for a person to look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import views as views_room
from medssl.cohort import draw
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split as split_room
from medssl.cohort.policy import Column, policy
from medssl.config import MethodConfig, ViewsConfig
from medssl.errors import NothingUsableError
from medssl.models.embed import to_unit
from medssl.store import Store
from medssl.train.material import columns

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
OFF = ViewsConfig(
    crop_area=(1.0, 1.0),
    rotation_deg=0,
    shift=0,
    flip=False,
    flip_vertical=False,
    elastic=0,
    equalise_probability=0,
    brightness=0,
    contrast=0,
    gamma=0,
    saturation=0,
    hue_deg=0,
    grey_probability=0,
    blur_sigma=0,
    noise_std=0,
    cutout=0,
)
TOGETHER = {
    name: pair
    for pair in (
        ("elastic", "elastic_probability"),
        ("blur_sigma", "blur_probability"),
        ("noise_std", "noise_probability"),
    )
    for name in pair
}


@dataclass(frozen=True)
class Shares:
    """What an epoch's pairs have in common.

    Attributes:
        pairs: drawn pairs.
        two: share of them with two different pictures.
        agree: of those with two, both labelled: share with equal labels; None where there is none.
        chance: that two labelled pictures of different patients agree; None where there is none.
    """

    pairs: int
    two: float
    agree: float | None
    chance: float | None


def trained_rows(data: Path, store: Store, *, split: bool) -> IntArray:
    """Return the store rows that pretraining may read: training and unlabelled patients.

    Args:
        data: the cohort.
        store: its decoded pictures.
        split: whether the run follows the split file; without it everybody is trained on.

    Raises:
        NothingUsableError: no split, or nobody to train on.
    """
    patients = manifest_room.read(data).column("patient_id")
    allowed = set(patients)
    if split:
        place = split_room.read(data)
        split_room.check_covers(place, patients, data)
        allowed = {p for p, at in place.items() if at in {"train", split_room.UNLABELLED}}
    rows = np.flatnonzero(np.isin(store.column("patient_id").astype(str), sorted(allowed)))
    if not rows.size:
        raise NothingUsableError(f"{data}: no picture of a training patient.", "E-NOTHING")
    return rows


def plan(
    store: Store,
    rows: IntArray,
    method: MethodConfig,
    *,
    seed: int,
    epoch: int,
    batch: int,
    cohort: Path | None = None,
) -> draw.Plan:
    """Return what an epoch of a policy draws, as training draws it: ``rows [N, 1]`` or ``[N, 2]``.

    Args:
        store: the decoded pictures.
        rows: those that training may see.
        method: its settings.
        seed, epoch, batch: of the run.
        cohort: whose manifest has what the store's index lacks, for ``differ``.

    Raises:
        NothingUsableError: a policy of pairs, and no two pictures belong together.
        UsageError: the batch is larger than the number of patients.
    """
    column: Column = store.column
    if cohort is not None:
        column = columns(store, manifest_room.read(cohort).table)
    return policy(method, rows, column, seed=seed, batch=batch).plan(epoch)


def view(
    planes: npt.NDArray[np.uint16],
    config: ViewsConfig,
    *,
    seed: int,
    epoch: int,
    number: int,
    places: slice,
) -> FloatArray:
    """Return one view of stored pictures, before normalisation, as training makes it.

    Args:
        planes: uint16 ``[n, S, S]``, or volumes ``[n, S, S, S]``.
        config: ranges of the augmentation.
        seed, epoch: of the run.
        number: 0 for the first of a pair, 1 for the second.
        places: where the pictures stand in the epoch, n of them.

    Returns:
        float32 ``[n, S, S]`` in [0, 1]; of volumes the middle plane, of colours their mean.
    """
    images = to_unit(planes)
    u = views_room.uniforms(seed, epoch, number, places)
    made = views_room.apply(images, views_room.sample(config, u, images.ndim - 2), config)
    return middle(made.numpy().mean(axis=1))


def middle(planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``[n, S, S]``: pictures as they are, of volumes the middle plane, of colours their mean."""
    if planes.shape[3:] == (3,):
        return planes.mean(-1)  # type: ignore[no-any-return]
    return planes[:, planes.shape[1] // 2] if planes.ndim == 4 else planes


def pairs(
    store: Store, drawn: draw.Plan, config: ViewsConfig, *, seed: int, epoch: int, places: slice
) -> tuple[FloatArray, FloatArray]:
    """Return both sides of some positive pairs of an epoch, float32 ``[n, S, S]`` in [0, 1].

    Of a policy of single pictures both are views of one; of pairs each is a view of its own picture.
    """
    rows = drawn.rows[places]
    sides = [
        view(
            store.planes(rows[:, side]),
            config,
            seed=seed,
            epoch=epoch,
            number=number,
            places=places,
        )
        for side, number in ((0, 0), (-1, 1))
    ]
    return sides[0], sides[1]


def only(config: ViewsConfig, name: str) -> ViewsConfig:
    """Return settings that change a picture by one augmentation alone, some of which have two numbers."""
    kept = TOGETHER.get(name, (name,))
    return OFF.model_copy(update={n: getattr(config, n) for n in kept})


def shares(
    drawn: draw.Plan, rows: IntArray, label: npt.NDArray[Any], patient: npt.NDArray[Any]
) -> Shares:
    """Return how many pairs hold two pictures, and how often their labels agree.

    Args:
        drawn: an epoch.
        rows: store rows that it was drawn from.
        label: known answer of every store row, None where there is none.
        patient: of every store row.
    """
    first, second = drawn.rows[:, 0], drawn.rows[:, -1]
    known = np.array([v is not None for v in label], dtype=bool)
    both = (first != second) & known[first] & known[second]
    equal = label[first[both]] == label[second[both]]
    agree = float(np.mean(equal)) if both.any() else None
    labelled = rows[known[rows]]
    chance = _chance(label[labelled].astype(str), patient[labelled].astype(str))
    return Shares(len(first), draw.pair_share(drawn), agree, chance)


def _chance(label: npt.NDArray[Any], patient: npt.NDArray[Any]) -> float | None:
    """Return how often two pictures of different patients have one label, over all such pairs."""
    classes, code = np.unique(label, return_inverse=True)
    people, who = np.unique(patient, return_inverse=True)
    table = np.zeros((len(people), len(classes)))
    np.add.at(table, (who, code), 1)
    every = table.sum() ** 2 - (table.sum(axis=1) ** 2).sum()
    same = (table.sum(axis=0) ** 2).sum() - (table**2).sum()
    return float(same / every) if every > 0 else None
