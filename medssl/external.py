"""The verb evaluate, its first part: a classifier meets a new hospital's pictures."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medssl import runs
from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort.privacy import check_keys
from medssl.config import EvaluateConfig
from medssl.decode import Progress, decode
from medssl.errors import MedsslError
from medssl.evaluate import attributes, inputs
from medssl.evaluate.evaluate import evaluate
from medssl.evaluate.groups import count
from medssl.evaluate.pack import reference_of
from medssl.evaluate.reference import CLASSIFIER
from medssl.files import atomic
from medssl.finetune.starts import PRETRAINED, check_pictures, check_unseen
from medssl.infer import Classifier, load
from medssl.models import weights
from medssl.models.embed import MASKS, embed
from medssl.models.encoder import Encoder, build
from medssl.store import Store, open_store

MOST_STAGE_ROWS = 3000
"""Pictures of each hospital that the audit of earlier encoders embeds."""

Labels = dict[label_room.Item, str]


def evaluate_at(
    config: EvaluateConfig,
    model_run: Path,
    data: Path,
    out: Path,
    *,
    compare: tuple[str, ...] = (),
    allow_seen: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> runs.Run:
    """Predict a new hospital's cohort as the classifier's own settings say, and report.

    Args:
        config: floors and how sure.
        model_run: a finished finetune run, or a pack of one.
        data: the new hospital's scanned cohort.
        out: the run directory; new or empty.
        compare: remedies, as ``NAME=RUN,RUN`` (see ``evaluate.remedies``).
        allow_seen: test on patients seen in training; recorded.
        workers, progress: of decode.

    Raises:
        RefusedError: patients seen in training, or one site under two keys.
        MedsslError: see ``load``, ``decode`` and ``open_run``.
    """
    model = load(model_run)
    manifest = manifest_room.read(data)
    check_keys(model.card.site_keys, manifest.sites)
    known = check_unseen(model.card.seen, manifest.column("patient_id"), allow=allow_seen)
    label_table, labels = _labels(data, config.target or model.target)
    reference = reference_of(model_run, model.classes, model.thresholds)
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
        _write_predictions(config, model, store, labels, out)
        attributes.write(out, attributes.table_of(store, manifest))
        inputs.write_months(out, months_of(data, set(store.column("image_id"))))
        if config.stages:
            _write_stages(model, model_run, store, out)
        unknown = Counter(v for v in labels.values() if v not in model.classes)
        question = inputs.Question(
            target=model.target,
            classes=model.classes,
            thresholds=model.thresholds,
            rule=str(model.record.get("threshold_rule", "")),
            label_table=label_table,
            unknown=dict(unknown.most_common(10)),
            flow=_flow(manifest, store, labels, model.classes),
            notes=_notes(known, store, labels, config.target, model.target),
            provenance=_provenance(model, manifest, model_run),
            model=_about_model(model, model_run),
        )
        inputs.write_question(out, question)
        here = inputs.read_here(out, question)
        summary |= evaluate(question, reference, here, config, out, compare)
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
        "masks": len(MASKS) if config.masks else 0,
        "encoders_audited": len(_chain(model, model_run)) if config.stages else 0,
    }


def _labels(data: Path, target: str) -> tuple[bool, Labels]:
    """Return whether the cohort has the label, and its values; without it: none."""
    if target not in label_room.available(data):
        return False, {}
    return True, label_room.read(data, target)


def months_of(data: Path, images: set[str]) -> dict[str, str]:
    """Return the true month of every dated image, from the cohort's private folder."""
    file = data / "private" / "identifiers.csv"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [(r["image_id"], r.get("study_date") or "") for r in csv.DictReader(lines)]
    good = {i: f"{d[:4]}-{d[4:6]}" for i, d in rows if i in images and _is_date(d)}
    return dict(sorted(good.items()))


def _is_date(text: str) -> bool:
    return len(text) == 8 and text.isdecimal() and text.isascii() and "01" <= text[4:6] <= "12"


def _write_predictions(
    config: EvaluateConfig, model: Classifier, store: Store, labels: Labels, out: Path
) -> None:
    every = np.arange(len(store))
    scores, features = model.predict(store, every)
    table = _table(store, labels, scores, model.classes, CLASSIFIER)
    runs.write_predictions(out / "predictions.parquet", table)
    with atomic(out / "embeddings.npy") as file:
        np.save(file, features, allow_pickle=False)
    if config.masks:
        hidden = [
            _table(store, labels, model.predict(store, every, mask)[0], model.classes, name)
            for name, mask in MASKS.items()
        ]
        runs.write_predictions(out / "masked.parquet", pa.concat_tables(hidden))


def _chain(model: Classifier, run: Path) -> list[tuple[str, Path | None]]:
    """Return every encoder from a random one to the classifier's own: its words, and its run.

    Runs that are no longer beside the classifier are left out.
    """
    found: list[tuple[str, Path | None]] = []
    at, file = run, "encoder.json"
    while True:
        record = runs.read(at).record
        above = [at / p["path"] for p in record.get("parents", []) if p["file"] == file]
        if not above or not (above[0] / "encoder.safetensors").is_file():
            break
        at = above[0].resolve()
        found.insert(0, (at.name, at))
    own = model.record.get("encoder_sha256")
    kept = [(n, p) for n, p in found if p is not None]
    if not kept or weights.read_card(kept[-1][1])[1] != own or _tuned(model):
        kept.append(("the classifier's own encoder", Path()))
    return [("random weights", None), *kept]


def _tuned(model: Classifier) -> bool:
    return str(model.record.get("chosen", {}).get("mode")) == "full"


def _encoder_at(model: Classifier, place: Path | None) -> tuple[Encoder, float, float]:
    card = model.card
    if place is None:
        whole = card.encoder.name.endswith("_3d")
        size, channels = card.decode.size, card.decode.channels
        random = build(card.encoder, size, whole=whole, seed=1, channels=channels)
        return random, card.mean, card.std
    if place == Path():
        return model.encoder, card.mean, card.std
    encoder, own, _ = weights.load_encoder(place)
    return encoder, own.mean, own.std


def _write_stages(model: Classifier, run: Path, store: Store, out: Path) -> None:
    """Embed pictures of both hospitals by every encoder of the chain; the source's held-out ones."""
    source = _source_store(model, run)
    mine = _some(np.arange(len(store)))
    for number, (name, place) in enumerate(_chain(model, run)):
        encoder, mean, std = _encoder_at(model, place)
        parts, key, patient = [embed(encoder, store, mine, mean, std)], _keys(store, mine), []
        patient += store.column("patient_id")[mine].tolist()
        if source is not None:
            other, theirs = source
            parts.append(embed(encoder, other, theirs, mean, std))
            key += _keys(other, theirs)
            patient += other.column("patient_id")[theirs].tolist()
        flags = np.arange(len(key)) >= len(mine)
        rows = np.concatenate(parts).astype(np.float64)
        inputs.write_stage(
            out, number, inputs.Stage(name, rows, flags, np.array(patient), tuple(key))
        )


def _source_store(model: Classifier, run: Path) -> tuple[Store, npt.NDArray[np.int64]] | None:
    """Return the source's store and its held-out rows; None where its cohort is not here."""
    found = [
        run / p["path"]
        for p in runs.read(run).record.get("parents", [])
        if p["file"] == "manifest.parquet"
    ]
    index = run / "embeddings.parquet"
    if not found or not (found[0] / "manifest.parquet").is_file() or not index.is_file():
        return None
    try:
        store = open_store(found[0], model.card.decode)
    except MedsslError:
        return None
    split = np.asarray(runs.read_table(index).column("split").to_pylist())
    if len(split) != len(store):
        return None
    return store, _some(np.flatnonzero(np.isin(split, ["val", "test"])))


def _some(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if len(rows) <= MOST_STAGE_ROWS:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, MOST_STAGE_ROWS, replace=False))


def _keys(store: Store, rows: npt.NDArray[np.int64]) -> list[tuple[str, int]]:
    images, slices = store.column("image_id")[rows], store.column("slice")[rows]
    return [(str(i), int(s)) for i, s in zip(images, slices, strict=True)]


def _table(
    store: Store,
    labels: Labels,
    scores: npt.NDArray[np.float64],
    classes: tuple[str, ...],
    mode: str,
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
        "mode": [mode] * n,
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


def _flow(
    manifest: manifest_room.Manifest, store: Store, labels: Labels, classes: tuple[str, ...]
) -> tuple[tuple[str, int, int], ...]:
    """Return what became of the cohort's images, step by step: words, pictures, patients."""
    images, owner = store.column("image_id"), store.column("patient_id")
    places = [(str(i), int(s)) for i, s in zip(images, store.column("slice"), strict=True)]
    values = [label_room.lookup(labels, *place) for place in places]
    doubted = [label_room.is_uncertain(labels, *place) for place in places]
    whose = dict(zip(manifest.column("image_id"), manifest.column("patient_id"), strict=True))
    lost = sorted(set(whose) - set(images))
    picked = {
        "labelled uncertain, in no figure": [k for k, d in enumerate(doubted) if d],
        "without this label, in no figure about performance": [
            k for k, v in enumerate(values) if v is None and not doubted[k]
        ],
        "labelled with a value the model does not know": [
            k for k, v in enumerate(values) if v is not None and v not in classes
        ],
        "analysed": [k for k, v in enumerate(values) if v in classes],
    }
    steps = [
        ("images in the cohort", len(whose), len(set(whose.values()))),
        ("could not be decoded (quarantine.csv)", len(lost), len({whose[i] for i in lost})),
        ("pictures predicted", len(places), len(set(owner))),
    ]
    steps += [(w, len(rows), len({owner[k] for k in rows})) for w, rows in picked.items()]
    return tuple(steps)


def _notes(
    known: int, store: Store, labels: Labels, column: str | None, target: str
) -> tuple[str, ...]:
    out = [
        "Every interval resamples patients; images of one patient are never counted as independent.",
        "Percentages and thresholds come from the source hospital and were not adjusted here.",
    ]
    if column is not None and column != target:
        out.append(f"The answers here are the column {column}; the model was taught {target}.")
    places = zip(store.column("image_id"), store.column("slice"), strict=True)
    doubted = sum(label_room.is_uncertain(labels, str(i), int(s)) for i, s in places)
    if doubted:
        out.append(f"{count(doubted)} pictures are labelled uncertain here and are in no figure.")
    if store.colour:
        out.append(
            "Figures of single pictures are of their luminance (ITU-R BT.601): what tint, stain or "
            "white balance tell by themselves was not looked for."
        )
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


def _about_model(model: Classifier, run: Path) -> dict[str, Any]:
    """Return what a model card says of the model; no digest of a patient."""
    card = model.card
    above = [(n, p) for n, p in reversed(_chain(model, run)) if p is not None and p != Path()]
    return {
        "chain": [
            {"name": n, "sha256": weights.read_card(p)[1], "made_by": "medssl pretrain"}
            for n, p in above
        ],
        "encoder": card.encoder.model_dump(mode="json"),
        "decode": card.decode.model_dump(mode="json"),
        "chosen": model.record.get("chosen", {}),
        "temperature": model.temperature,
        "trained_sites": sorted(card.site_keys),
        "patients_seen": len(card.seen),
        "pictures_seen": len(card.pictures),
    }
