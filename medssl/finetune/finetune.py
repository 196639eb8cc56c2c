"""The verb finetune: an encoder and few labels become a classifier, predictions and a curve."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from medssl import runs
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split as split_room
from medssl.cohort.privacy import check_keys, patient_digest
from medssl.config import FinetuneConfig
from medssl.errors import NothingUsableError, RefusedError, UsageError
from medssl.evaluate import attributes
from medssl.files import atomic, write_json
from medssl.finetune import curve as curve_room
from medssl.finetune.curve import BASELINE, PIXELS, PRETRAINED, Cell, Progress, Start
from medssl.finetune.probe import FloatArray, softmax
from medssl.finetune.task import Task, all_budgets, draws, make_task
from medssl.models import weights
from medssl.models.embed import MASKS, embed
from medssl.models.encoder import Encoder, build
from medssl.models.heads import LinearHead
from medssl.models.precision import check_precision
from medssl.stats.calibration import fit_temperature
from medssl.stats.metrics import threshold_for_sensitivity, youden_threshold
from medssl.store import STORED_MAX, Store, open_store

CLASSIFIER = "classifier"
PIXEL_SIDE = 16


def check_unseen(seen: tuple[str, ...], patients: npt.NDArray[Any], *, allow: bool) -> int:
    """Return how many of the patients an encoder was pretrained on.

    Raises:
        RefusedError: some, and ``allow`` was not given; says how many and why it matters.
    """
    digests = {patient_digest(p) for p in set(patients.tolist())}
    known = len(digests & set(seen))
    if known and not allow:
        words = (
            f"{known} of the {len(digests)} patients to be tested on were seen in pretraining, so the "
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


def finetune(
    config: FinetuneConfig,
    encoder_run: Path,
    data: Path,
    out: Path,
    *,
    allow_seen: bool = False,
    progress: Progress | None = None,
) -> runs.Run:
    """Fit classifiers on nested label budgets and keep one.

    Raises:
        MedsslError: see ``make_task``, ``check_unseen``, ``check_keys`` and ``open_run``.
    """
    runs.finished(encoder_run, "pretrain")
    encoder, card, digest = weights.load_encoder(encoder_run)
    manifest = manifest_room.read(data)
    check_keys(card.site_keys, manifest.sites)
    store = open_store(data, card.decode)
    task = make_task(config, data, store)
    _check_modes(config)
    if config.full.budgets:
        check_precision(encoder, config.full.precision, card.decode.size)
    budgets = all_budgets(task, config)
    if all(v is None for v in draws(task, budgets, config.seed * 1000).values()):
        words = f"{data}: no budget of {budgets} % holds a patient of every class; raise budgets."
        raise NothingUsableError(words, "E-BUDGETS")
    held = np.isin(task.split, ["val", "test"])
    known = check_unseen(card.seen, task.patient[held], allow=allow_seen)
    if not allow_seen:
        check_pictures(card, store, task.rows[held])
    store.verify(task.rows)
    parents = [runs.parent(data, "manifest.parquet"), runs.parent(encoder_run, "encoder.json")]
    facts = {"seed": config.seed, "parents": parents, "manifest": manifest.summary()}
    facts |= {"split": split_room.split_digest(data), "seen_patients_tested": known}
    with runs.open_run(out, "finetune", config, facts) as (_, summary):
        begun = time.monotonic()
        normal = (card.mean, card.std)
        starts = _starts(encoder, card, task, store, config)
        grid = list(curve_room.cells(task, starts, store, normal, config, progress))
        rows = curve_room.points(task, grid, config)
        _write_curve(out, rows)
        chosen = curve_room.best(task, grid)
        shown = store.picture_digests(task.rows[task.split != "test"])
        kept = _keep(out, chosen, encoder, card, task, config, digest, manifest.sites, shown)
        runs.write_predictions(
            out / "predictions.parquet", _predictions(task, store, grid, chosen, kept["scores"])
        )
        _write_embeddings(out, kept["encoder"], card, store, data)
        attributes.write(out, attributes.table_of(store, manifest))
        _write_masked(out, kept, task, store, normal)
        summary |= _summary(task, chosen, rows, begun) | {"classifier_sha256": kept["sha256"]}
    return runs.read(out)


def _check_modes(config: FinetuneConfig) -> None:
    if "linear" not in config.modes and max((*config.budgets, 0)) not in config.full.budgets:
        words = "modes has no linear and full.budgets lacks the largest budget: no classifier could be kept."
        raise UsageError(words, "E-CONFIG")


def _starts(
    encoder: Encoder, card: weights.Card, task: Task, store: Store, config: FinetuneConfig
) -> list[Start]:
    encoders = {PRETRAINED: encoder}
    if config.baseline:
        seed = config.seed + 1
        whole, channels = store.whole, card.decode.channels
        encoders[BASELINE] = build(
            card.encoder, card.decode.size, whole=whole, seed=seed, channels=channels
        )
    normal = (card.mean, card.std)
    starts = [Start(n, e, embed(e, store, task.rows, *normal)) for n, e in encoders.items()]
    if config.pixels:
        starts.append(Start(PIXELS, None, raw_pixels(store, task.rows)))
    return starts


def raw_pixels(store: Store, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return float32 ``[n, 256]``: pictures averaged to 16 x 16 (the middle slice of a volume).

    Colours by their luma, so that this baseline knows nothing of tint.
    """
    flat = store.pictures(rows)
    side = flat.shape[1] // PIXEL_SIDE * PIXEL_SIDE
    blocks = flat[:, :side, :side].reshape(
        len(rows), PIXEL_SIDE, side // PIXEL_SIDE, PIXEL_SIDE, -1
    )
    small: npt.NDArray[np.float32] = blocks.mean((2, 4), dtype=np.float32) / STORED_MAX
    return small.reshape(len(rows), -1)


def _write_curve(out: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.Table.from_pylist([{n: row.get(n) for n in names} for row in rows])
    with atomic(out / "curve.parquet") as file:
        pq.write_table(table, file)


def _keep(
    out: Path,
    chosen: Cell,
    encoder: Encoder,
    card: weights.Card,
    task: Task,
    config: FinetuneConfig,
    digest: str,
    site_keys: dict[str, str],
    shown: set[str],
) -> dict[str, Any]:
    """Write the classifier: encoder and head in one file, calibrated on validation patients."""
    if chosen.mode == "linear":
        kept, head = encoder, LinearHead(encoder.width, len(task.classes))
        with torch.no_grad():
            head.linear.weight.copy_(torch.from_numpy(chosen.model.weight))
            head.linear.bias.copy_(torch.from_numpy(chosen.model.bias))
    else:
        kept, head = chosen.model.encoder, chosen.model.head
    logits = np.log(np.clip(chosen.scores, 1e-12, 1))
    val = task.at("val")
    temperature = fit_temperature(logits[val], task.codes[val])
    scores = softmax(logits / temperature)
    module = torch.nn.ModuleDict({"encoder": kept.cpu(), "head": head.cpu()})
    sha = weights.save_tensors(out / "classifier.safetensors", module)
    # Validation patients chose the cell, the temperature and the thresholds: they count as seen.
    labelled = {patient_digest(p) for p in task.patient[task.split != "test"]}
    seen = tuple(sorted(labelled | set(card.seen)))
    pictures = tuple(sorted(set(card.pictures) | shown))
    whole_card = asdict(card) | {"seen": seen, "pictures": pictures}
    whole_card |= {"site_keys": {**card.site_keys, **site_keys}}
    whole_card |= {"encoder": card.encoder.model_dump(), "decode": card.decode.model_dump()}
    data = {
        "format": weights.FORMAT,
        "sha256": sha,
        **whole_card,
        "target": task.target,
        "classes": task.classes,
        "temperature": temperature,
        "thresholds": _thresholds(task, scores, config),
        "threshold_rule": config.threshold,
        "chosen": {"mode": chosen.mode, "budget": chosen.budget, "seed": chosen.seed},
        "encoder_sha256": digest,
    }
    write_json(out / "classifier.json", data)
    return {
        "scores": scores,
        "encoder": kept,
        "head": head,
        "temperature": temperature,
        "sha256": sha,
    }


def _thresholds(task: Task, scores: FloatArray, config: FinetuneConfig) -> dict[str, float]:
    """Choose a working threshold per reported class, on validation patients only."""
    val = task.at("val")
    out = {}
    for k in task.shown:
        y, p = task.outcome(k)[val], scores[val, k]
        if config.threshold == "youden":
            out[task.classes[k]] = youden_threshold(y, p)
        else:
            out[task.classes[k]] = threshold_for_sensitivity(y, p, config.target_sensitivity)
    return out


def _predictions(
    task: Task, store: Store, grid: list[Cell], chosen: Cell, final: FloatArray
) -> pa.Table:
    """Return the predictions of every cell, and of the kept classifier, on held-out patients."""
    held = np.flatnonzero(np.isin(task.split, ["val", "test"]))
    common = _common(task, store, held)
    blocks = [((c.init, c.mode, c.budget, c.seed), c.scores) for c in grid]
    blocks.append(((PRETRAINED, CLASSIFIER, chosen.budget, chosen.seed), final))
    tables = [_block(common, where, scores[held], task.classes) for where, scores in blocks]
    return pa.concat_tables(tables)


def _common(task: Task, store: Store, held: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return what predictions say of some pictures of the task, whatever predicted them."""
    rows = task.rows[held]
    return {
        "image_id": store.column("image_id")[rows],
        "slice": store.column("slice")[rows],
        "patient_id": task.patient[held],
        "site": store.column("site")[rows],
        "split": task.split[held],
        "label": np.array(task.classes, dtype=object)[task.codes[held]],
    }


def _block(
    common: dict[str, Any], where: tuple[Any, ...], scores: FloatArray, classes: tuple[str, ...]
) -> pa.Table:
    n = len(scores)
    own = dict(zip(("init", "mode", "budget", "seed"), ([v] * n for v in where), strict=True))
    columns = {**common, **own}
    arrays = {
        name: pa.array(list(columns[name]), kind) for name, kind in runs.PREDICTION_COLUMNS.items()
    }
    for k, value in enumerate(classes):
        arrays[f"{runs.SCORE}{value}"] = pa.array(scores[:, k], pa.float64())
    return pa.table(arrays)


def _write_embeddings(
    out: Path, encoder: Encoder, card: weights.Card, store: Store, data: Path
) -> None:
    """Write the kept encoder's features of the whole cohort: the reference of every shift test."""
    place = split_room.read(data)
    rows = np.arange(len(store))
    with atomic(out / "embeddings.npy") as file:
        np.save(file, embed(encoder, store, rows, card.mean, card.std), allow_pickle=False)
    owner = store.column("patient_id")
    table = pa.table(
        {
            "image_id": list(store.column("image_id")),
            "slice": pa.array(store.column("slice"), pa.int32()),
            "patient_id": list(owner),
            "site": list(store.column("site")),
            "split": [place[p] for p in owner],
        }
    )
    with atomic(out / "embeddings.parquet") as file:
        pq.write_table(table, file)


def _write_masked(
    out: Path, kept: dict[str, Any], task: Task, store: Store, normal: tuple[float, float]
) -> None:
    """Write the kept classifier's predictions of test pictures with a part of each hidden."""
    held = np.flatnonzero(task.split == "test")
    rows, common = task.rows[held], _common(task, store, held)
    tables = []
    for name, mask in MASKS.items():
        features = embed(kept["encoder"], store, rows, *normal, mask)
        scores = head_scores(kept["head"], features, kept["temperature"])
        tables.append(_block(common, (PRETRAINED, name, 100.0, 0), scores, task.classes))
    runs.write_predictions(out / "masked.parquet", pa.concat_tables(tables))


def head_scores(
    head: LinearHead, features: npt.NDArray[np.float32], temperature: float
) -> FloatArray:
    """Return calibrated probabilities ``[n, K]`` of features ``[n, width]``."""
    with torch.inference_mode():
        logits = head.double()(torch.from_numpy(features).double()).numpy()
    return softmax(logits / temperature)


def _summary(task: Task, chosen: Cell, rows: list[dict[str, Any]], begun: float) -> dict[str, Any]:
    test = [
        r for r in rows
        if (r.get("init"), r.get("mode"), r["budget"]) == (chosen.init, chosen.mode, chosen.budget)
    ]  # fmt: skip
    return {
        "target": task.target,
        "classes": list(task.classes),
        "kept": {"mode": chosen.mode, "budget": chosen.budget, "seed": chosen.seed},
        "test": {k: test[0][k] for k in ("metric", "value", "lower", "upper")},
        "images": {s: len(task.at(s)) for s in split_room.SPLITS},
        "uncertain": task.uncertain,
        "seconds": round(time.monotonic() - begun, 1),
    }


def plan(config: FinetuneConfig, encoder_run: Path, data: Path) -> dict[str, Any]:
    """Return what a finetune would train on and how many cells it has; writes nothing."""
    runs.finished(encoder_run, "pretrain")
    card, _ = weights.read_card(encoder_run)
    store = open_store(data, card.decode)
    task = make_task(config, data, store)
    starts = 1 + config.baseline + config.pixels
    full = len(config.full.budgets) * min(config.full.seeds, config.seeds) * (1 + config.baseline)
    return {
        "classes": ", ".join(task.classes),
        **{f"{s}_pictures": len(task.at(s)) for s in split_room.SPLITS},
        "uncertain_pictures_left_out": sum(task.uncertain.values()),
        "probe_cells": len(all_budgets(task, config)) * config.seeds * len(config.modes) * starts,
        "full_cells": full,
        "full_pictures_shown": round(
            sum(len(task.at("train")) * b / 100 for b in config.full.budgets)
            * config.full.epochs
            * min(config.full.seeds, config.seeds)
            * (1 + config.baseline)
        ),
    }
