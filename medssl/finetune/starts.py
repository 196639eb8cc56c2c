"""Initialisations side by side: finished encoders, a foreign file, random weights, raw pixels."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import runs
from medssl.cohort import manifest as manifest_room
from medssl.cohort.privacy import check_keys, patient_digest
from medssl.config import FinetuneConfig
from medssl.errors import RefusedError, UsageError
from medssl.finetune.task import Task
from medssl.models import foreign, weights
from medssl.models.embed import embed
from medssl.models.encoder import Encoder, build
from medssl.store import STORED_MAX, Store, open_store

PRETRAINED, SCRATCH, PIXELS, FOREIGN = "pretrained", "scratch", "pixels", "foreign"
RESERVED = (SCRATCH, PIXELS, FOREIGN)
PIXEL_SIDE = 16
CHOSE = "decided by their labels which weights pretraining kept"


@dataclass(frozen=True)
class Source:
    """A finished encoder that was named, before anything is computed with it.

    Attributes:
        name: as the curve calls it.
        run: its folder.
        encoder, card, digest: what the folder holds.
        store: the cohort decoded as this encoder wants it.
    """

    name: str
    run: Path
    encoder: Encoder
    card: weights.Card
    digest: str
    store: Store


@dataclass(frozen=True)
class Start:
    """One initialisation: its encoder (None for raw pixels) and its features of the task's pictures.

    Attributes:
        features: of the task's pictures ``[n, width]``.
        free: of the task's pictures without a label ``[f, width]``.
        learned: whether its weights come from a training; its encoder then learns more slowly.
        kept: whether its classifiers may be kept; the others are yardsticks.
        digest: of the weights; empty where a seed says all.
    """

    name: str
    encoder: Encoder | None
    card: weights.Card
    store: Store
    features: npt.NDArray[np.float32]
    free: npt.NDArray[np.float32]
    learned: bool
    kept: bool
    digest: str = ""

    @property
    def normal(self) -> tuple[float, float]:
        """Return mean and deviation of the pixels."""
        return self.card.mean, self.card.std


def read_sources(
    encoders: dict[str, Path], data: Path, manifest: manifest_room.Manifest
) -> list[Source]:
    """Load the named encoders, each with the store that it reads.

    Raises:
        UsageError: no encoder, a reserved name, or stores that do not hold the same pictures.
        MedsslError: see ``load_encoder``, ``check_keys`` and ``open_store``.
    """
    taken = [n for n in encoders if n in RESERVED]
    if taken or not encoders:
        words = f"--encoder: {taken or 'none given'}; name encoders NAME=RUN, but not {', '.join(RESERVED)}."
        raise UsageError(words, "E-NAMES")
    found = []
    for name, run in encoders.items():
        runs.finished(run, "pretrain")
        encoder, card, digest = weights.load_encoder(run)
        check_keys(card.site_keys, manifest.sites)
        found.append(Source(name, run, encoder, card, digest, open_store(data, card.decode)))
    first = found[0]
    for other in found[1:]:
        columns = ("image_id", "slice")
        if len(other.store) != len(first.store) or any(
            (other.store.column(c) != first.store.column(c)).any() for c in columns
        ):
            words = (
                f"{other.name} reads other pictures than {first.name} (volumes or slices differ); "
                "compare encoders that were fed the same kind of picture."
            )
            raise UsageError(words, "E-STORES")
    return found


def check_unseen(
    seen: tuple[str, ...],
    patients: npt.NDArray[Any],
    *,
    allow: bool,
    how: str = "were seen in pretraining",
) -> int:
    """Return how many of the patients an encoder was pretrained on.

    Raises:
        RefusedError: some, and ``allow`` was not given; says how many and why it matters.
    """
    digests = {patient_digest(p) for p in set(patients.tolist())}
    known = len(digests & set(seen))
    if known and not allow:
        words = (
            f"{known} of the {len(digests)} patients to be tested on {how}, so the "
            "figures would flatter the model. Use other patients, or pass --allow-seen-patients."
        )
        raise RefusedError(words, "E-LEAK")
    return known


def check_pictures(card: weights.Card, store: Store, rows: npt.NDArray[np.int64]) -> None:
    """Raise RefusedError if a picture to be tested on was trained on, whoever it is said to be."""
    known = len(set(card.pictures) & store.picture_digests(rows))
    if known:
        words = (
            f"{known} pictures to be tested on were trained on, under other patient names (another key, "
            "site name or number). Use other pictures, or pass --allow-seen-patients."
        )
        raise RefusedError(words, "E-LEAK")


def check_held(sources: list[Source], task: Task, *, allow: bool) -> int:
    """Return how many held-out patients some encoder was pretrained on; refuse them unless allowed.

    Raises:
        RefusedError: see ``check_unseen`` and ``check_pictures``.
    """
    held = np.isin(task.split, ["val", "test"])
    known, test = 0, task.patient[task.split == "test"]
    for one in sources:
        known = max(known, check_unseen(one.card.seen, task.patient[held], allow=allow))
        # Those whose labels chose its weights may choose again, and may not test.
        known = max(known, check_unseen(one.card.chosen, test, allow=allow, how=CHOSE))
        if not allow:
            check_pictures(one.card, one.store, task.rows[held])
    return known


def make_starts(sources: list[Source], task: Task, config: FinetuneConfig) -> list[Start]:
    """Return every initialisation with its features, each computed once.

    Random weights and a foreign file take the first encoder's network and preprocessing.

    Raises:
        MedsslError: the foreign file does not fit, see ``models/foreign.py``.
    """
    first = sources[0]
    out = [_start(s.name, s.encoder, s.card, s.store, task, digest=s.digest) for s in sources]
    if config.foreign is not None:
        encoder = _random(first, config.seed + 1)
        loaded = foreign.load(config.foreign, encoder)
        card = replace(
            first.card, seen=(), pictures=(), source=loaded.origin.file, foreign=(loaded.origin,)
        )
        digest = loaded.origin.sha256
        out.append(_start(FOREIGN, encoder, card, first.store, task, digest=digest))
    if config.baseline:
        encoder = _random(first, config.seed + 1)
        out.append(_start(SCRATCH, encoder, first.card, first.store, task, learned=False))
    if config.pixels:
        own, free = (raw_pixels(first.store, rows) for rows in (task.rows, task.free))
        out.append(Start(PIXELS, None, first.card, first.store, own, free, False, False))
    return out


def _start(
    name: str,
    encoder: Encoder,
    card: weights.Card,
    store: Store,
    task: Task,
    *,
    learned: bool = True,
    digest: str = "",
) -> Start:
    features = embed(encoder, store, task.rows, card.mean, card.std)
    free = embed(encoder, store, task.free, card.mean, card.std)
    return Start(name, encoder, card, store, features, free, learned, learned, digest)


def _random(first: Source, seed: int) -> Encoder:
    decode, whole = first.card.decode, first.store.whole
    return build(first.card.encoder, decode.size, whole=whole, seed=seed, channels=decode.channels)


def raw_pixels(store: Store, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return float32 ``[n, 256]``: pictures averaged to 16 x 16 (the middle slice of a volume).

    Colours by their luma, so that this baseline knows nothing of tint.
    """
    flat = store.pictures(rows)
    cell = flat.shape[1] // PIXEL_SIDE
    side = cell * PIXEL_SIDE
    blocks = flat[:, :side, :side].reshape(len(rows), PIXEL_SIDE, cell, PIXEL_SIDE, cell)
    small: npt.NDArray[np.float32] = blocks.mean((2, 4), dtype=np.float32) / STORED_MAX
    return small.reshape(len(rows), PIXEL_SIDE**2)
