"""The pictures that a pretraining may see."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medssl import views
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split as split_room
from medssl.cohort.policy import Column, Policy, policy
from medssl.config import PretrainConfig
from medssl.errors import NothingUsableError
from medssl.store import STORED_MAX, Store, open_store
from medssl.train.world import World

STATISTICS_ROWS = 4096
ALONE = World()
SplitChoice = Literal["file", "none"]


@dataclass(frozen=True)
class Material:
    """The pictures a pretraining may see.

    Attributes:
        store: all decoded pictures of the cohort.
        rows: those of training and unlabelled patients.
        policy: how they are drawn.
        place: which patient is in which split; None without a split.
        split: digest of the split file, or ``none``.
        manifest: counts of the cohort.
    """

    store: Store
    rows: npt.NDArray[np.int64]
    policy: Policy
    place: dict[str, str] | None
    split: str
    manifest: dict[str, Any]


def gather(
    config: PretrainConfig, data: Path, split: SplitChoice, world: World = ALONE
) -> Material:
    """Open a cohort and keep what pretraining may read: nothing of validation and test patients.

    The stored pictures are checked against their checksums, shared out among the processes.

    Raises:
        NothingUsableError: no split, no store, or no patient to train on.
        RefusedError: patients without a place in the split.
    """
    manifest = manifest_room.read(data)
    summary = manifest.summary()
    patients = manifest.column("patient_id")
    allowed, digest, place = set(patients), "none", None
    if split == "file":
        place = split_room.read(data)
        split_room.check_covers(place, patients, data)
        allowed = {p for p, where in place.items() if where in {"train", split_room.UNLABELLED}}
        digest = split_room.split_digest(data)
        summary["patients_per_split"] = split_room.counts(place, patients)
    store = open_store(data, config.decode)
    owner = store.column("patient_id")
    known = pa.array(sorted(allowed), pa.string())
    inside = pc.is_in(store.index.column("patient_id"), value_set=known)
    rows = _coloured(config, store, np.flatnonzero(inside.to_numpy()))
    if rows.size == 0:
        raise NothingUsableError(f"{data}: no picture of a training patient.", "E-NOTHING")
    store.verify(rows[world.rank :: world.size])
    views.check(config.views, config.decode.channels, 3 if store.whole else 2)
    if config.method.alike and len(set(owner[rows])) < 2:
        words = f"{data}: one training patient; contrast needs at least two."
        raise NothingUsableError(words, "E-ONEPATIENT")
    if place is not None:
        split_room.check_units(data, manifest, place)
    drawn = policy(
        config.method,
        rows,
        columns(store, manifest.table),
        seed=config.seed,
        batch=config.batch,
        times=config.accumulate,
    )
    return Material(store, rows, drawn, place, digest, summary)


def _coloured(
    config: PretrainConfig, store: Store, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the rows that a task of colours can learn from: grey pictures have no colour to tell."""
    if config.method.name != "colourisation" or not store.colour:
        return rows
    kept: npt.NDArray[np.int64] = rows[~np.asarray(store.index.column("grey"), bool)[rows]]
    if rows.size and not kept.size:
        words = (
            f"all {rows.size} pictures are grey, three equal channels each; colourisation has nothing to "
            "learn from. Take another task."
        )
        raise NothingUsableError(words, "E-NOTHING")
    return kept


def columns(store: Store, manifest: pa.Table) -> Column:
    """Return how to look up a column of every store row, in its index or else in the manifest."""

    def column(name: str) -> npt.NDArray[Any]:
        if name in store.index.column_names:
            return store.column(name)
        place = pc.index_in(
            store.index.column("image_id"), value_set=manifest.column("image_id").combine_chunks()
        )
        return np.asarray(manifest.column(name).take(place).to_pylist(), dtype=object)

    return column


def statistics(store: Store, rows: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return mean and deviation of the pixels in [0, 1] over an even sample of the rows."""
    picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), STATISTICS_ROWS)).astype(np.int64)]
    parts = [store.planes(part) for part in np.array_split(picked, max(1, len(picked) // 256))]
    means = np.array([p.mean(dtype=np.float64) / STORED_MAX for p in parts])
    squares = np.array([((p / STORED_MAX) ** 2).mean(dtype=np.float64) for p in parts])
    share = np.array([len(p) for p in parts]) / len(picked)
    mean = float((means * share).sum())
    return mean, float(np.sqrt(max(1e-8, (squares * share).sum() - mean**2)))
