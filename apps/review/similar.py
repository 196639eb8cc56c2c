"""Similar cases of the training reference: nearest by what the model sees, never the same patient."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluations import Key, Review, parent
from medssl import runs
from medssl.cohort import labels as label_room
from medssl.errors import MedsslError

VERY, FAIRLY = 50.0, 5.0
"""Percentiles of how close the reference's own pictures lie to the nearest of another patient."""
YARDSTICK = 400


@dataclass(frozen=True)
class Similar:
    """One picture of the training reference.

    Attributes:
        key: image and slice.
        closeness: very, fairly or barely: against how close the reference's own pictures lie.
        label: confirmed answer, or None.
    """

    key: Key
    closeness: str
    label: str | None


@dataclass(frozen=True)
class Reference:
    """The pictures that the classifier was trained on.

    Attributes:
        cohort: their folder; None where it did not travel.
        decode: settings of their store.
        keys, patients: of every picture.
        unit: float32 ``[n, width]``, features of length 1.
        labels: confirmed answers.
        limits: cosine similarities from which a neighbour counts as very, and as fairly, similar.
    """

    cohort: Path | None
    decode: dict[str, Any]
    keys: tuple[Key, ...]
    patients: npt.NDArray[Any]
    unit: npt.NDArray[np.float32]
    labels: dict[label_room.Item, str]
    limits: tuple[float, float]

    def nearest(self, features: npt.NDArray[np.float32], patient: str, count: int) -> list[Similar]:
        """Return the nearest pictures, one per patient, never of the patient named."""
        own = features / max(float(np.linalg.norm(features)), 1e-6)
        closeness = self.unit @ own.astype(np.float32)
        found: list[Similar] = []
        taken = {patient}
        for k in np.argsort(-closeness, kind="stable"):
            if self.patients[k] in taken:
                continue
            taken.add(self.patients[k])
            key = self.keys[k]
            word = self._word(float(closeness[k]))
            found.append(Similar(key, word, label_room.lookup(self.labels, *key)))
            if len(found) == count:
                break
        return found

    def _word(self, closeness: float) -> str:
        very, fairly = self.limits
        return "very" if closeness >= very else "fairly" if closeness >= fairly else "barely"


def open_reference(review: Review) -> Reference | None:
    """Read the classifier's training reference; None where its run is not here or is broken."""
    model = parent(review.run, "classifier.json")
    if model is None:
        return None
    try:
        data = json.loads((model / "classifier.json").read_text(encoding="utf-8"))
        table = runs.read_table(model / "embeddings.parquet")
        features = np.load(model / "embeddings.npy", mmap_mode="r", allow_pickle=False)
        record = runs.read(model)
        decode, target = dict(data["decode"]), str(data["target"])
    except (OSError, ValueError, KeyError, MedsslError):
        return None
    train = np.asarray(table.column("split").to_pylist()) == "train"
    rows = np.asarray(features[train], dtype=np.float32)
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    images, slices = table.column("image_id").to_pylist(), table.column("slice").to_pylist()
    kept = tuple((images[k], slices[k]) for k in np.flatnonzero(train))
    patients = np.asarray(table.column("patient_id").to_pylist(), dtype=str)[train]
    cohort = parent(record, "manifest.parquet")
    try:
        labels = label_room.read(cohort, target) if cohort is not None else {}
    except MedsslError:
        labels = {}
    return Reference(cohort, decode, kept, patients, unit, labels, _limits(unit, patients))


def _limits(unit: npt.NDArray[np.float32], patients: npt.NDArray[Any]) -> tuple[float, float]:
    """Return how close the reference's own pictures lie to the nearest of another patient."""
    if len(unit) < 2:
        return 1.0, 1.0
    some = np.linspace(0, len(unit) - 1, min(len(unit), YARDSTICK)).astype(np.int64)
    closeness = unit[some] @ unit.T
    closeness[patients[some][:, None] == patients[None, :]] = -1.0
    nearest = closeness.max(1)
    return float(np.percentile(nearest, VERY)), float(np.percentile(nearest, FAIRLY))
