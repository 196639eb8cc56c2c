"""What a finetune leaves behind: the classifier, predictions, embeddings, the curve and its tables."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from medssl import runs
from medssl.cohort import split as split_room
from medssl.cohort.privacy import patient_digest
from medssl.config import FinetuneConfig
from medssl.files import atomic, write_json
from medssl.finetune.cells import Cell, Shelf
from medssl.finetune.grid import TUNED
from medssl.finetune.probe import FloatArray, softmax
from medssl.finetune.starts import Start
from medssl.finetune.task import Task
from medssl.finetune.tune import head_of
from medssl.models import weights
from medssl.models.embed import MASKS, embed
from medssl.models.encoder import Encoder, build
from medssl.models.heads import LinearHead
from medssl.stats.calibration import fit_temperature
from medssl.stats.metrics import threshold_for_sensitivity, youden_threshold
from medssl.store import Store

CLASSIFIER = "classifier"


@dataclass(frozen=True)
class Kept:
    """The classifier that stays.

    Attributes:
        start: the initialisation it comes from.
        cell: its place in the grid.
        encoder, head: trained.
        temperature: fitted on validation patients.
        scores: calibrated, float64 ``[n, K]``, NaN where the cell has none.
    """

    start: Start
    cell: Cell
    encoder: Encoder
    head: LinearHead
    temperature: float
    scores: FloatArray


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as parquet; a name that a row lacks is empty there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.Table.from_pylist([{n: row.get(n) for n in names} for row in rows])
    with atomic(path) as file:
        pq.write_table(table, file)


def keep(chosen: Cell, starts: list[Start], task: Task, shelf: Shelf) -> Kept:
    """Return the chosen cell as a classifier, calibrated on validation patients."""
    start = next(s for s in starts if s.name == chosen.where.init)
    assert start.encoder is not None  # noqa: S101
    if chosen.where.mode not in TUNED:
        encoder, head = start.encoder, head_of(chosen.model)
    else:
        encoder, head = _blank(start, task)
        shelf.load_model(chosen.where, torch.nn.ModuleDict({"encoder": encoder, "head": head}))
    logits = np.log(np.clip(chosen.scores, 1e-12, 1))
    val = task.at("val")
    temperature = fit_temperature(logits[val], task.codes[val])
    return Kept(start, chosen, encoder, head, temperature, softmax(logits / temperature))


def _blank(start: Start, task: Task) -> tuple[Encoder, LinearHead]:
    """Return an encoder and a head of the right shape."""
    decode, whole = start.card.decode, start.store.whole
    encoder = build(
        start.card.encoder, decode.size, whole=whole, seed=0, channels=decode.channels
    ).eval()
    return encoder, LinearHead(encoder.width, len(task.classes)).eval()


def write_classifier(
    out: Path, kept: Kept, task: Task, config: FinetuneConfig, sites: dict[str, str]
) -> str:
    """Write the classifier, encoder and head in one file; return the digest of the weights."""
    module = torch.nn.ModuleDict({"encoder": kept.encoder.cpu(), "head": kept.head.cpu()})
    sha = weights.save_tensors(out / "classifier.safetensors", module)
    card, where = kept.start.card, kept.cell.where
    # Validation patients chose the cell, the temperature and the thresholds: they count as seen.
    labelled = {patient_digest(p) for p in task.patient[task.split != "test"]}
    shown = kept.start.store.picture_digests(task.rows[task.split != "test"])
    whole_card = asdict(card) | {
        "seen": tuple(sorted(labelled | set(card.seen) | set(card.chosen))),
        "pictures": tuple(sorted(set(card.pictures) | shown)),
        "site_keys": {**card.site_keys, **sites},
        "encoder": card.encoder.model_dump(),
        "decode": card.decode.model_dump(),
    }
    data = {
        "format": weights.FORMAT,
        "sha256": sha,
        **whole_card,
        "target": task.target,
        "classes": task.classes,
        "temperature": kept.temperature,
        "thresholds": _thresholds(task, kept.scores, config),
        "threshold_rule": config.threshold,
        "chosen": {
            "init": where.init, "mode": where.mode, "budget": where.budget, "seed": where.seed,
            **kept.cell.facts,
        },
        "encoder_sha256": kept.start.digest,
    }  # fmt: skip
    write_json(out / "classifier.json", data)
    return sha


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


def predictions(task: Task, grid: list[Cell], kept: Kept, held: npt.NDArray[np.int64]) -> pa.Table:
    """Return the predictions of every cell, and of the kept classifier, on held-out patients."""
    common = _common(task, kept.start.store, held)
    blocks = [(_key(c), c.scores) for c in grid]
    init, _, *draw = _key(kept.cell)
    blocks.append(((init, CLASSIFIER, *draw), kept.scores))
    tables = [_block(common, where, scores[held], task.classes) for where, scores in blocks]
    return pa.concat_tables(tables)


def _key(cell: Cell) -> tuple[Any, ...]:
    return cell.where.init, cell.where.mode, cell.where.budget, cell.where.seed


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


def write_embeddings(out: Path, kept: Kept, data: Path) -> None:
    """Write the kept encoder's features of the whole cohort: the reference of every shift test."""
    place, store = split_room.read(data), kept.start.store
    features = embed(kept.encoder, store, np.arange(len(store)), *kept.start.normal)
    with atomic(out / "embeddings.npy") as file:
        np.save(file, features, allow_pickle=False)
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


def write_masked(out: Path, kept: Kept, task: Task) -> None:
    """Write the kept classifier's predictions of test pictures with a part of each hidden."""
    held, store = task.at("test"), kept.start.store
    rows, common = task.rows[held], _common(task, store, held)
    tables = []
    for name, mask in MASKS.items():
        features = embed(kept.encoder, store, rows, *kept.start.normal, mask)
        scores = head_scores(kept.head, features, kept.temperature)
        tables.append(_block(common, (kept.start.name, name, 100.0, 0), scores, task.classes))
    runs.write_predictions(out / "masked.parquet", pa.concat_tables(tables))


def head_scores(
    head: LinearHead, features: npt.NDArray[np.float32], temperature: float
) -> FloatArray:
    """Return calibrated probabilities ``[n, K]`` of features ``[n, width]``."""
    with torch.inference_mode():
        logits = head.double()(torch.from_numpy(features).double()).numpy()
    return softmax(logits / temperature)
