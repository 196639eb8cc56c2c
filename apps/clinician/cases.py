"""What the page shows, read from finished runs; nothing here knows Streamlit."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import runs
from medssl.cohort import labels as label_room
from medssl.config import DecodeConfig
from medssl.errors import MedsslError
from medssl.loading import validate
from medssl.store import Store, open_store


@dataclass(frozen=True)
class Case:
    """One predicted picture.

    Attributes:
        row: its place in the predictions and in the embeddings.
        code: pseudonym shown; with the slice for volumes.
        scores: chance of every class.
        label: confirmed answer, or None.
    """

    row: int
    image_id: str
    place: int
    patient_id: str
    site: str
    scores: dict[str, float]
    label: str | None

    @property
    def code(self) -> str:
        """Return the name a person reads."""
        return self.image_id if self.place < 0 else f"{self.image_id}, slice {self.place}"


@dataclass(frozen=True)
class Similar:
    """One picture of the training reference."""

    image_id: str
    similarity: float
    label: str | None
    picture: npt.NDArray[np.uint8] | None


@dataclass(frozen=True)
class Review:
    """One finished evaluation with its cases."""

    run: runs.Run
    report: dict[str, Any]
    cases: tuple[Case, ...]

    @property
    def shown(self) -> list[str]:
        """Return the reported classes."""
        return list(self.report["thresholds"])


def open_review(path: Path) -> Review:
    """Read a finished evaluation."""
    run = runs.finished(path, "evaluate")
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    table = runs.read_predictions(path / "predictions.parquet")
    names = runs.score_columns(table)
    cases = tuple(
        Case(
            k,
            row["image_id"],
            row["slice"],
            row["patient_id"],
            row["site"],
            {n.removeprefix(runs.SCORE): row[n] for n in names},
            row["label"],
        )
        for k, row in enumerate(table.to_pylist())
    )
    return Review(run, report, cases)


def parent(run: runs.Run, file: str) -> Path | None:
    """Return where a parent of a run lies, if it is still there."""
    found = [run.path / p["path"] for p in run.record["parents"] if p["file"] == file]
    return found[0] if found and found[0].is_dir() else None


def disagrees(case: Case, review: Review, name: str) -> bool:
    """Return whether the flag and the confirmed answer differ."""
    if case.label is None:
        return False
    return flagged(case, review, name) != (case.label == name)


def flagged(case: Case, review: Review, name: str) -> bool:
    """Return whether the chance of a class reaches its line."""
    return bool(case.scores[name] >= review.report["thresholds"][name])


def to_grey(plane: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Return an 8-bit picture of a stored plane; the middle slice of a whole volume."""
    flat = plane[len(plane) // 2] if plane.ndim == 3 else plane
    return (flat >> 8).astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _store(cohort: Path, decode: str) -> tuple[Store, dict[tuple[str, int], int]] | None:
    try:
        store = open_store(cohort, validate(DecodeConfig, json.loads(decode), "decode"))
    except MedsslError:
        return None
    keys = zip(store.column("image_id"), store.column("slice"), strict=True)
    return store, {(i, int(s)): k for k, (i, s) in enumerate(keys)}


def picture(
    cohort: Path | None, decode: dict[str, Any], key: tuple[str, int]
) -> npt.NDArray[np.uint8] | None:
    """Return a stored picture as the model sees it, or None where the store is not here."""
    found = _store(cohort, json.dumps(decode)) if cohort is not None else None
    if found is None or key not in found[1]:
        return None
    return to_grey(found[0].planes(np.array([found[1][key]]))[0])


@dataclass(frozen=True)
class Reference:
    """The training pictures of the classifier's own hospital."""

    cohort: Path | None
    decode: dict[str, Any]
    keys: tuple[tuple[str, int], ...]
    patients: npt.NDArray[Any]
    unit: npt.NDArray[np.float32]
    labels: dict[label_room.Item, str]


def open_reference(review: Review) -> Reference | None:
    """Read the classifier's training reference; None where its run is not here."""
    model = parent(review.run, "classifier.json")
    if model is None:
        return None
    data = json.loads((model / "classifier.json").read_text(encoding="utf-8"))
    table = runs.read_table(model / "embeddings.parquet")
    train = np.asarray(table.column("split").to_pylist()) == "train"
    features = np.load(model / "embeddings.npy", mmap_mode="r", allow_pickle=False)[train]
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
    keys = list(
        zip(table.column("image_id").to_pylist(), table.column("slice").to_pylist(), strict=True)
    )
    patients = np.asarray(table.column("patient_id").to_pylist(), dtype=str)[train]
    cohort = parent(runs.read(model), "manifest.parquet")
    try:
        labels = label_room.read(cohort, data["target"]) if cohort is not None else {}
    except MedsslError:
        labels = {}
    kept = tuple(keys[k] for k in np.flatnonzero(train))
    return Reference(cohort, data["decode"], kept, patients, unit.astype(np.float32), labels)


def similar(review: Review, reference: Reference, case: Case, count: int = 6) -> list[Similar]:
    """Return the nearest training pictures, one per patient, never the case's own patient."""
    features = np.load(review.run.path / "embeddings.npy", mmap_mode="r", allow_pickle=False)
    own = np.asarray(features[case.row], dtype=np.float32)
    closeness = reference.unit @ (own / max(float(np.linalg.norm(own)), 1e-6))
    out: list[Similar] = []
    taken = {case.patient_id}
    for k in np.argsort(-closeness):
        if reference.patients[k] in taken:
            continue
        taken.add(reference.patients[k])
        key = reference.keys[k]
        label = label_room.lookup(reference.labels, *key)
        shown = picture(reference.cohort, reference.decode, key)
        out.append(Similar(key[0], float(closeness[k]), label, shown))
        if len(out) == count:
            break
    return out
