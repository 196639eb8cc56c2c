"""A finished classifier as one object: load, predict a cohort, and evaluate it there."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from medssl import runs
from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort.privacy import check_keys
from medssl.config import EvaluateConfig
from medssl.decode import Progress, decode
from medssl.evaluate.evaluate import CLASSIFIER, Case, Side, evaluate, source_side
from medssl.files import atomic
from medssl.finetune.curve import PRETRAINED
from medssl.finetune.finetune import check_pictures, check_unseen
from medssl.finetune.probe import softmax
from medssl.models import weights
from medssl.models.embed import embed
from medssl.models.encoder import Encoder, build
from medssl.models.heads import LinearHead
from medssl.store import Store, open_store


@dataclass(frozen=True)
class Classifier:
    """An encoder with a calibrated head, and all it must be fed with.

    Attributes:
        classes: values of ``target`` in order.
        thresholds: working threshold per reported class.
        card: preprocessing, keys and seen patients.
        sha256: digest of the weights.
    """

    encoder: Encoder
    head: LinearHead
    card: weights.Card
    target: str
    classes: tuple[str, ...]
    temperature: float
    thresholds: dict[str, float]
    sha256: str

    def predict(
        self, store: Store, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Return calibrated probabilities ``[n, K]`` and features ``[n, width]`` of store rows."""
        features = embed(self.encoder, store, rows, self.card.mean, self.card.std)
        with torch.inference_mode():
            logits = self.head.double()(torch.from_numpy(features).double()).numpy()
        return softmax(logits / self.temperature), features


def load(run: Path) -> Classifier:
    """Load the classifier of a finished finetune run, digests checked.

    Raises:
        NothingUsableError: not such a run.
        RefusedError: weights that are not those the JSON describes.
    """
    runs.finished(run, "finetune")
    data = weights.read_json(run / "classifier.json", "classifier")
    card = weights.card_from(data, "classifier.json")
    whole = card.encoder.name.endswith("_3d")
    encoder = build(card.encoder, card.decode.size, whole=whole, seed=0)
    head = LinearHead(encoder.width, len(data["classes"]))
    module = torch.nn.ModuleDict({"encoder": encoder, "head": head})
    weights.load_tensors(run / "classifier.safetensors", module, str(data["sha256"]))
    return Classifier(
        encoder.eval(),
        head.eval(),
        card,
        str(data["target"]),
        tuple(str(c) for c in data["classes"]),
        float(data["temperature"]),
        {str(k): float(v) for k, v in data["thresholds"].items()},
        str(data["sha256"]),
    )


def evaluate_at(
    config: EvaluateConfig,
    model_run: Path,
    data: Path,
    out: Path,
    *,
    allow_seen: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> runs.Run:
    """Predict a new hospital's cohort as the classifier's own settings say, and report.

    Raises:
        RefusedError: patients seen in training, or one site under two keys.
        MedsslError: see ``load``, ``decode`` and ``open_run``.
    """
    model = load(model_run)
    manifest = manifest_room.read(data)
    check_keys(model.card.site_keys, manifest.sites)
    known = check_unseen(model.card.seen, manifest.column("patient_id"), allow=allow_seen)
    label_table, labels = _labels(data, config.target or model.target)
    parents = [runs.parent(data, "manifest.parquet"), runs.parent(model_run, "classifier.json")]
    facts = {"seed": config.seed, "parents": parents, "manifest": manifest.summary()}
    facts |= {"seen_patients_tested": known}
    with runs.open_run(out, "evaluate", config, facts) as (_, summary):
        decode(data, model.card.decode, workers, progress)
        store = open_store(data, model.card.decode)
        every = np.arange(len(store))
        if not allow_seen:
            check_pictures(model.card, store, every)
        store.verify(every)
        scores, features = model.predict(store, every)
        table = _table(store, labels, scores, model.classes)
        runs.write_predictions(out / "predictions.parquet", table)
        with atomic(out / "embeddings.npy") as file:
            np.save(file, features, allow_pickle=False)
        patient = store.column("patient_id").astype(str)
        unknown = Counter(v for v in labels.values() if v not in model.classes)
        case = Case(
            target=model.target,
            classes=model.classes,
            thresholds=model.thresholds,
            source=source_side(model_run, model.classes),
            here=Side(table, features, patient),
            label_table=label_table,
            unknown=dict(unknown.most_common(10)),
            notes=_notes(known, manifest, store, labels),
            provenance=_provenance(model, manifest, model_run),
        )
        summary |= evaluate(case, config, out)
    return runs.read(out)


def plan(
    config: EvaluateConfig, model_run: Path, data: Path, *, allow_seen: bool
) -> dict[str, Any]:
    """Return what an evaluation would test; every check is made, nothing is written."""
    model = load(model_run)
    manifest = manifest_room.read(data)
    check_keys(model.card.site_keys, manifest.sites)
    known = check_unseen(model.card.seen, manifest.column("patient_id"), allow=allow_seen)
    found, labels = _labels(data, config.target or model.target)
    return {
        "target": model.target,
        "images": manifest.table.num_rows,
        "patients": len(manifest.patients),
        "patients_seen_in_training": known,
        "labels": len(labels) if found else "none: the verdict will be 'cannot tell'",
    }


def _labels(data: Path, target: str) -> tuple[bool, dict[label_room.Item, str]]:
    """Return whether the cohort has the label, and its values; without it: none."""
    if target not in label_room.available(data):
        return False, {}
    return True, label_room.read(data, target)


def _table(
    store: Store,
    labels: dict[label_room.Item, str],
    scores: npt.NDArray[np.float64],
    classes: tuple[str, ...],
) -> pa.Table:
    images, slices = store.column("image_id"), store.column("slice")
    n = len(store)
    columns: dict[str, Any] = {
        "image_id": list(images),
        "slice": slices.tolist(),
        "patient_id": list(store.column("patient_id")),
        "site": list(store.column("site")),
        "split": ["new"] * n,
        "init": [PRETRAINED] * n,
        "mode": [CLASSIFIER] * n,
        "budget": [100.0] * n,
        "seed": [0] * n,
        "label": [
            label_room.lookup(labels, i, int(s)) for i, s in zip(images, slices, strict=True)
        ],
    }
    arrays = {k: pa.array(columns[k], kind) for k, kind in runs.PREDICTION_COLUMNS.items()}
    for k, value in enumerate(classes):
        arrays[f"{runs.SCORE}{value}"] = pa.array(scores[:, k], pa.float64())
    return pa.table(arrays)


def _notes(
    known: int,
    manifest: manifest_room.Manifest,
    store: Store,
    labels: dict[label_room.Item, str],
) -> tuple[str, ...]:
    out = [
        "Every interval resamples patients; images of one patient are never counted as independent.",
        "Percentages and thresholds come from the source hospital and were not adjusted here.",
    ]
    undecoded = manifest.table.num_rows - len(set(store.column("image_id")))
    if undecoded:
        out.append(
            f"{undecoded} images could not be decoded and are in no figure; see quarantine.csv."
        )
    places = zip(store.column("image_id"), store.column("slice"), strict=True)
    doubted = sum(label_room.is_uncertain(labels, str(i), int(s)) for i, s in places)
    if doubted:
        out.append(f"{doubted} pictures are labelled uncertain here and are in no figure.")
    if known:
        out.append(
            f"{known} of these patients were seen in training, which was allowed: figures flatter."
        )
    return tuple(out)


def _provenance(model: Classifier, manifest: manifest_room.Manifest, run: Path) -> dict[str, str]:
    made = runs.environment()
    return {
        "classifier": model.sha256,
        "finetune run": run.name,
        "cohort manifest": manifest.digest(),
        "medssl": f"{made['medssl']} ({made['git']})",
        "written": runs.now(),
    }
