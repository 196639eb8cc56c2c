"""Which patients to label next: typical ones while labels are few, then unsure and unlike one another.

With few labels what is far out teaches little: typical patients of groups without a label (Hacohen et al.
2022, TypiClust, ``stats/typical.py``). Later gradient embeddings with k-means++ seeding (Ash et al. 2020,
BADGE, arXiv 1906.03671). ``docs/results/label-efficiency.md`` has both beside a random choice.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import infer, runs
from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split as split_room
from medssl.cohort.privacy import check_keys
from medssl.errors import NothingUsableError, UsageError
from medssl.finetune.probe import FloatArray, IntArray
from medssl.models import weights
from medssl.models.embed import embed
from medssl.stats.bootstrap import Patients
from medssl.stats.typical import typical
from medssl.store import Store, open_store

FEW = 60
"""Labelled patients from which the classifier is asked; chosen on validation patients of one cohort."""


@dataclass(frozen=True)
class Suggestion:
    """One patient to label.

    Attributes:
        rank: 1 is the first to label.
        patient: pseudonym.
        pictures: how many of them are decoded.
        unsure: 1 minus the chance of the likeliest class, of the least sure picture; None from a bare
            encoder.
    """

    rank: int
    patient: str
    pictures: int
    unsure: float | None


def suggest(
    run: Path, data: Path, count: int, *, target: str | None = None, seed: int = 0
) -> list[Suggestion]:
    """Return unlabelled training patients in the order in which to label them.

    Args:
        run: a finished finetune run, or a pretraining run to begin with.
        data: a decoded cohort; with a split, validation and test patients are never suggested.
        count: how many patients.
        target: label that is asked; a classifier knows its own.
        seed: of the draw.

    Raises:
        UsageError: ``target`` is another than the classifier's, or absent for an encoder.
        NothingUsableError: every training patient has the label.
    """
    found = runs.finished(run, "finetune", "pretrain", "pack")
    if found.verb == "pretrain":
        encoder, card, _ = weights.load_encoder(run)
        model = None
    else:
        model = infer.load(run)
        card = model.card
        if target not in {None, model.target}:
            words = f"--target {target}: the classifier answers {model.target}; leave it out."
            raise UsageError(words, "E-TARGET")
        target = model.target
    if target is None:
        raise UsageError("--target is required with a pretraining run.", "E-TARGET")
    check_keys(card.site_keys, manifest_room.read(data).sites)
    store = open_store(data, card.decode)
    rows, done = candidates(store, data, target)
    patient = store.column("patient_id")[rows].astype(str)
    if model is None:
        chance, features = None, embed(encoder, store, rows, card.mean, card.std)
    else:
        chance, features = model.predict(store, rows)
    free = ~np.isin(patient, list(done))
    if chance is not None and len(done) >= FEW:
        chosen = choose(features[free], chance[free], patient[free], count, seed)
    else:
        chosen = _typical(features, patient, done, count, seed)
    patient, chance = patient[free], None if chance is None else chance[free]
    sizes = dict(zip(*np.unique(patient, return_counts=True), strict=True))
    worst = {} if chance is None else _least_sure(chance, patient)
    return [Suggestion(k, p, int(sizes[p]), worst.get(p)) for k, p in enumerate(chosen, start=1)]


def candidates(store: Store, data: Path, target: str) -> tuple[IntArray, set[str]]:
    """Return store rows of training (or unlabelled) patients, and those of them who have the label.

    Raises:
        NothingUsableError: there is nobody left without it.
    """
    owner = store.column("patient_id").astype(str)
    known: Any = {}
    if target in label_room.available(data):
        known = label_room.read(data, target)
    items = zip(store.column("image_id"), store.column("slice"), strict=True)
    labelled = np.array([label_room.lookup(known, str(i), int(s)) is not None for i, s in items])
    place = split_room.read(data) if (data / "split.parquet").is_file() else None
    taught = [place is None or place.get(p) in {"train", split_room.UNLABELLED} for p in owner]
    rows = np.flatnonzero(taught).astype(np.int64)
    done = set(owner[labelled].tolist()) & set(owner[rows].tolist())
    if done >= set(owner[rows].tolist()):
        words = f"{data}: every training patient with pictures has a value of {target!r}."
        raise NothingUsableError(words, "E-NOBODY")
    return rows, done


def _typical(
    features: npt.NDArray[np.floating[Any]],
    patient: npt.NDArray[np.str_],
    done: set[str],
    count: int,
    seed: int,
) -> list[str]:
    """Return patients who stand for groups without a labelled one, by the mean of their features."""
    names, owner = np.unique(patient, return_inverse=True)
    total = np.zeros((len(names), features.shape[1]))
    np.add.at(total, owner, features)
    points = total / np.bincount(owner)[:, None]
    picked = typical(points, np.isin(names, list(done)), count, seed)
    return [str(names[k]) for k in picked]


def choose(
    features: npt.NDArray[np.floating[Any]],
    chance: FloatArray,
    patient: npt.NDArray[np.str_],
    count: int,
    seed: int,
) -> list[str]:
    """Return patients to label, in order: unsure, and far apart.

    Every picture stands for the gradient that its likeliest answer would give the last layer, (chance -
    answer) times its features: long where unsure; a patient is their longest. The first has the longest
    of all; each next is drawn by the squared distance to those before.

    Args:
        features: of the pictures ``[n, width]``.
        chance: of every class ``[n, K]``.
        patient: whose ``[n]``.
        count: at most that many.
        seed: of the draw.
    """
    groups = Patients.of(patient)
    scale = features.std(0)
    x = (features - features.mean(0)) / np.where(scale > 0, scale, 1.0)
    points = _gradients(x, chance, groups)
    names = patient[groups.order[groups.start[:-1]]]
    return [str(names[k]) for k in spread(points, min(count, groups.count), seed)]


def _gradients(x: FloatArray, chance: FloatArray, groups: Patients) -> FloatArray:
    """Return one gradient per patient, of their picture with the longest ``[P, K * width]``."""
    answer = np.eye(chance.shape[1])[chance.argmax(1)]
    error = chance - answer
    length = np.linalg.norm(error, axis=1) * np.linalg.norm(x, axis=1)
    longest = np.array(
        [
            rows[np.argmax(length[rows])]
            for rows in (groups.rows(np.array([p])) for p in range(groups.count))
        ]
    )
    return np.asarray(
        (error[longest][:, :, None] * x[longest][:, None, :]).reshape(len(longest), -1)
    )


def spread(points: FloatArray, count: int, seed: int) -> list[int]:
    """Return places drawn by squared distance to those before; the longest first.

    Args:
        points: ``[n, d]``.
        count: at most n.
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, 9])
    chosen = [int(np.argmax((points**2).sum(1)))]
    apart = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count:
        apart[chosen] = 0.0
        total = apart.sum()
        rest = np.setdiff1d(np.arange(len(points)), chosen)
        share = apart[rest] / total if total > 0 else None  # all that is left is alike
        chosen.append(int(rng.choice(rest, p=share)))
        apart = np.minimum(apart, ((points - points[chosen[-1]]) ** 2).sum(1))
    return chosen


def _least_sure(chance: FloatArray, patient: npt.NDArray[np.str_]) -> dict[str, float]:
    out: dict[str, float] = {}
    for p, top in zip(patient.tolist(), chance.max(1), strict=True):
        out[p] = max(out.get(p, 0.0), round(1 - float(top), 4))
    return out
