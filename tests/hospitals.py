"""Two hospitals as arrays: a classifier's predictions, embeddings and headers, with planted truths."""

import numpy as np
import pyarrow as pa
from scipy.special import expit

from medssl import runs
from medssl.evaluate import attributes
from medssl.evaluate.answers import answers_of
from medssl.evaluate.inputs import Here, Question
from medssl.evaluate.reference import Reference, columns_of, keys

WIDTH = 6
CLASSES = ("0", "1")
LINES = {"1": 0.5}


def predictions(g, patients, images, *, name, skill=2.0, mode="classifier", split="new", classes=2):
    """A predictions table; patients differ, their images resemble each other."""
    many = np.full(patients, images) if np.isscalar(images) else g.integers(*images, patients)
    who = np.repeat(np.arange(patients), many)
    ill = g.integers(0, classes, patients)
    latent = g.normal(0, 0.7, (patients, classes)) + skill * np.eye(classes)[ill]
    logits = latent[who] + g.normal(0, 0.5, (who.size, classes))
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    n = who.size
    columns = {
        "image_id": [f"i_{name}{k:05d}" for k in range(n)],
        "slice": [-1] * n,
        "patient_id": [f"p_{name}{k:04d}" for k in who],
        "site": [name] * n,
        "split": [split] * n,
        "init": ["pretrained"] * n,
        "mode": [mode] * n,
        "budget": [100.0] * n,
        "seed": [0] * n,
        "label": [str(v) for v in ill[who]],
    }
    arrays = {k: pa.array(columns[k], kind) for k, kind in runs.PREDICTION_COLUMNS.items()}
    for k in range(classes):
        arrays[f"{runs.SCORE}{k}"] = pa.array(scores[:, k], pa.float64())
    return pa.table(arrays), who


def pictures(g, table, who, **levels):
    """A pictures table: header fields as given, pixel figures of plain noise."""
    n = table.num_rows
    columns = {c: table.column(c) for c in ("image_id", "slice", "patient_id")}
    for one in attributes.ATTRIBUTES:
        kind = pa.string() if one.levels else pa.float64()
        values = levels.get(one.name)
        if values is None and one.name in attributes.PIXELS:
            values = g.normal(size=n)
        if one.name == "site":
            values = table.column("site").to_pylist()
        columns[one.name] = pa.array([None] * n if values is None else list(values), kind)
    return pa.table(columns)


def embeddings(g, who, shift=0.0):
    """Patient effects larger than image noise."""
    centre = shift + g.normal(size=(who.max() + 1, WIDTH))
    return centre[who] + 0.5 * g.normal(size=(who.size, WIDTH))


def source(seed=0, patients=60, images=2, classes=2):
    """The hospital that a classifier comes from."""
    g = np.random.default_rng(seed)
    names = tuple(str(k) for k in range(classes))
    lines = LINES if classes == 2 else dict.fromkeys(names, 0.4)
    test, who = predictions(g, patients, images, name="a", classes=classes)
    val, _ = predictions(g, patients, images, name="v", classes=classes)
    table = pictures(g, test, who, sex=np.array(["F", "M"])[who % 2])
    answers = answers_of(test, names, lines)
    return Reference(
        about={"sites": ["a"], "images": test.num_rows, "patients": patients, "labelled": test.num_rows},
        columns=columns_of(table),
        scores=answers.scores,
        score_patient=answers.patient,
        answers=answers,
        validation=answers_of(val, names, lines),
        embeddings=embeddings(g, who),
        embedded_patient=answers.patient,
        embedded_row=np.arange(test.num_rows),
        key=tuple(keys(table)),
        name="classifier",
    )  # fmt: skip


def target(seed=1, patients=70, images=2, skill=2.0, shift=0.0, classes=2, months=None, **levels):
    """The new hospital."""
    g = np.random.default_rng(seed)
    table, who = predictions(g, patients, images, name="b", skill=skill, classes=classes)
    held = {"sex": np.array(["F", "M"])[who % 2], **levels}
    when = np.full(who.size, "") if months is None else np.asarray(months)[who % len(months)]
    return Here(
        predictions=table,
        embeddings=embeddings(g, who, shift),
        pictures=pictures(g, table, who, **held),
        month=when.astype(str),
        masked={},
        stages=(),
    )


def question(classes=2, label_table=True, unknown=None):
    """What was asked."""
    names = tuple(str(k) for k in range(classes))
    return Question(
        target="finding",
        classes=names,
        thresholds=LINES if classes == 2 else dict.fromkeys(names, 0.4),
        rule="youden",
        label_table=label_table,
        unknown=unknown or {},
        flow=(("images in the cohort", 140, 70),),
        notes=("A note.",),
        provenance={"classifier": "f" * 64, "cohort manifest": "e" * 64, "medssl": "0"},
        model={
            "encoder": {"name": "resnet18"},
            "decode": {"size": 64},
            "chosen": {"mode": "linear", "budget": 100.0, "seed": 0},
            "temperature": 1.0,
            "trained_sites": ["a"],
            "patients_seen": 100,
            "pictures_seen": 200,
        },
    )


def relabel(here, values):
    """The same hospital with other labels (None: no label)."""
    table = here.predictions
    place = table.column_names.index("label")
    column = pa.array([None if v is None else str(v) for v in values], pa.string())
    from dataclasses import replace

    return replace(here, predictions=table.set_column(place, "label", column))


__all__ = ["expit", "predictions", "question", "relabel", "source", "target"]
