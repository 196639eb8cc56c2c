"""The verb pack: a classifier with summaries of its hospital, so that another can test it alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import runs
from medssl.config import EvaluateConfig
from medssl.errors import RefusedError
from medssl.evaluate import attributes
from medssl.evaluate import performance as perf
from medssl.evaluate.answers import Answers
from medssl.evaluate.performance import SMALL
from medssl.evaluate.plain import attempt, plain
from medssl.evaluate.reference import RARE, Column, Reference, of_run
from medssl.files import atomic, write_json
from medssl.stats import conformal
from medssl.stats.bootstrap import Patients

SCHEMA = 1
FILE = "reference.json"
EMBEDDINGS = "reference.npy"
COPIED = ("classifier.json", "classifier.safetensors")
MOST_EMBEDDINGS = 2000
QUANTILES = 201
LEAST = 20
"""Patients below which nothing of a column travels."""
ROC_POINTS = 101
MOST_STAND_INS = 1000


def pack(
    run: Path, out: Path, *, share_embeddings: bool = False, config: EvaluateConfig | None = None
) -> runs.Run:
    """Write a folder that another hospital can evaluate without this hospital's data.

    It holds the weights, their card (with digests of seen patients and pictures, so that nobody is
    tested on what was learnt) and summaries: figures with intervals, quantiles and shares over
    patients. No image, no identifier, no row of a patient.

    Args:
        run: a finished finetune run.
        out: the folder; new or empty.
        share_embeddings: add at most 2,000 embeddings of held-out pictures, in random order and
            without names. Embeddings can identify people: ask first.
        config: resamples, seed and the miss rate of conformal sets.

    Raises:
        MedsslError: not a finetune run, or a folder that is in use.
    """
    runs.finished(run, "finetune")
    config = config or EvaluateConfig()
    card = json.loads((run / "classifier.json").read_text(encoding="utf-8"))
    classes = tuple(str(c) for c in card["classes"])
    thresholds = {str(k): float(v) for k, v in card["thresholds"].items()}
    reference = of_run(run, classes, thresholds)
    facts = {"seed": config.seed, "parents": [runs.parent(run, "classifier.json")], "manifest": {}}
    with runs.open_run(out, "pack", config, facts) as (_, summary):
        for name in COPIED:
            with atomic(out / name) as file, (run / name).open("rb") as source:
                shutil.copyfileobj(source, file)
        write_json(out / FILE, summary_of(reference, config))
        shared = 0
        if share_embeddings and reference.embeddings is not None:
            rows = _some(len(reference.embeddings), config.seed)
            shared = len(rows)
            with atomic(out / EMBEDDINGS) as file:
                np.save(file, reference.embeddings[rows].astype(np.float32), allow_pickle=False)
            write_json(out / "reference_patients.json", _owners(reference, rows))
        summary |= {"embeddings": shared, "columns": len(reference.columns), **reference.about}
    return runs.read(out)


def _some(many: int, seed: int) -> npt.NDArray[np.int64]:
    """Return which embeddings travel, in an order that tells nothing."""
    return np.random.default_rng(seed).permutation(many)[:MOST_EMBEDDINGS]


def _owners(reference: Reference, rows: npt.NDArray[np.int64]) -> list[int]:
    """Return which shared embeddings are of one patient, as numbers from 0."""
    assert reference.embedded_patient is not None  # noqa: S101
    owners: list[int] = Patients.of(reference.embedded_patient[rows]).code.tolist()
    return owners


def summary_of(reference: Reference, config: EvaluateConfig) -> dict[str, Any]:
    """Return what a pack tells of the source: numbers over patients, none of one patient."""
    answers, held = reference.answers, reference.validation
    assert answers is not None  # noqa: S101
    assert held is not None  # noqa: S101
    options = (config.resamples, config.seed, config.min_cell_patients)
    return {
        "schema": SCHEMA,
        "about": reference.about,
        "performance": plain(perf.rows(answers, "source", *options)),
        "columns": {n: _told(c) for n, c in reference.columns.items()},
        "scores": {
            name: _told(Column(reference.scores[:, k], reference.score_patient))
            for k, name in enumerate(answers.classes)
        },
        "conformal": _conformal(held, config),
        "roc": {answers.classes[k]: _roc(answers, k) for k in answers.shown},
    }


def _conformal(held: Answers, config: EvaluateConfig) -> dict[str, Any]:
    def rule() -> dict[str, Any]:
        found = conformal.calibrate(
            held.codes, held.scores, held.patient, alpha=config.miss_rate, seed=config.seed
        )
        told = plain(found)
        return {**{k: v for k, v in told.items() if k != "note"}, "note_words": found.note}

    return attempt(rule)


def _told(column: Column) -> dict[str, Any]:
    """Return a column as quantiles of patient means, or as shares of levels over patients."""
    groups = Patients.of(column.patient)
    if column.values.dtype == object:
        return {"kind": "levels", "patients": groups.count, "shares": _shares(column, groups)}
    values = column.values.astype(np.float64)
    there = np.isfinite(values)
    known = np.bincount(groups.code, weights=there, minlength=groups.count)
    total = np.bincount(groups.code, weights=np.where(there, values, 0), minlength=groups.count)
    means = np.sort(total[known > 0] / known[known > 0])
    return {
        "kind": "number",
        "patients": groups.count,
        "absent": float((known == 0).mean()),
        "quantiles": _quantiles(means) if len(means) >= LEAST else [],
    }


def _quantiles(means: npt.NDArray[np.float64]) -> list[float]:
    """Return rounded means of neighbours in rank, five patients or more each: nobody's own value."""
    many = min(QUANTILES, len(means) // SMALL)
    parts = np.array_split(means, many)
    return [float(f"{part.mean():.4g}") for part in parts]


def _shares(column: Column, groups: Patients) -> dict[str, float]:
    """Return the share of patients per level; levels of fewer than five patients are one."""
    text = np.array(["" if v is None else str(v) for v in column.values])
    images = np.diff(groups.start)
    out: dict[str, float] = {}
    for name in np.unique(text):
        held = np.bincount(groups.code, weights=text == name, minlength=groups.count) / images
        key = RARE if np.count_nonzero(held) < SMALL else str(name)
        out[key] = out.get(key, 0.0) + float(held.mean())
    return {k: round(v, 3) for k, v in out.items() if round(v, 3) > 0}


def _roc(answers: Answers, k: int) -> list[list[float]]:
    """Return the ROC curve on an even grid of false alarms."""
    known = answers.known(k)
    y, p = known.of(k)
    if y.min() == y.max():
        return []
    order = np.argsort(-p, kind="stable")
    rises = np.r_[0, np.cumsum(y[order]) / y.sum()]
    falls = np.r_[0, np.cumsum(1 - y[order]) / (1 - y).sum()]
    grid = np.linspace(0, 1, ROC_POINTS)
    return [grid.tolist(), np.interp(grid, falls, rises).tolist()]


def reference_of(run: Path, classes: tuple[str, ...], thresholds: dict[str, float]) -> Reference:
    """Read the source hospital from a finetune run or a pack."""
    pack = runs.read(run).verb == "pack"
    return read_pack(run, classes, thresholds) if pack else of_run(run, classes, thresholds)


def read_pack(folder: Path, classes: tuple[str, ...], thresholds: dict[str, float]) -> Reference:
    """Read the source from a pack; columns and scores are stand-ins with the same quantiles.

    Raises:
        RefusedError: not a pack of this schema.
    """
    del thresholds
    runs.finished(folder, "pack")
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise KeyError("schema")
        columns = {n: _stand_in(t) for n, t in data["columns"].items()}
        scores = [_stand_in(data["scores"][c]) for c in classes]
        embeddings, patient = _shared(folder)
        about = dict(data["about"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        words = f"{folder}: not a reference pack that this medssl reads ({error})."
        raise RefusedError(words, "E-PACK") from error
    known = {a.name for a in attributes.ATTRIBUTES}
    return Reference(
        about=about,
        columns={n: c for n, c in columns.items() if n in known},
        scores=np.stack([s.values for s in scores], 1),
        score_patient=scores[0].patient,
        embeddings=embeddings,
        embedded_patient=patient,
        pack=data,
        name=folder.name,
    )


def _shared(folder: Path) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[Any] | None]:
    if not (folder / EMBEDDINGS).is_file():
        return None, None
    rows = np.load(folder / EMBEDDINGS, allow_pickle=False).astype(np.float64)
    owners = json.loads((folder / "reference_patients.json").read_text(encoding="utf-8"))
    return rows, np.array([f"p{n}" for n in owners])


def _stand_in(told: dict[str, Any]) -> Column:
    """Return as many values as there were patients (1,000 at most) with the same quantiles."""
    many = min(MOST_STAND_INS, max(2, int(told["patients"])))
    at = (np.arange(many) + 0.5) / many
    patient = np.array([f"p{k}" for k in range(many)])
    if told["kind"] == "levels":
        ends = np.cumsum(list(told["shares"].values()))
        names = [None if n == "" else n for n in told["shares"]]
        place = np.minimum(np.searchsorted(ends, at * ends[-1]), len(names) - 1)
        return Column(np.array([names[k] for k in place], dtype=object), patient)
    quantiles, absent = told["quantiles"], round(float(told["absent"]) * many)
    values = np.full(many, np.nan)
    if quantiles:
        kept = many - absent
        where = (np.arange(kept) + 0.5) / max(1, kept)
        middles = (np.arange(len(quantiles)) + 0.5) / len(quantiles)
        values[:kept] = np.interp(where, middles, quantiles)
    return Column(values, patient)
