"""What an evaluation knows of the hospital that a model comes from: its run, or a pack of summaries."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medssl import runs
from medssl.evaluate import attributes
from medssl.evaluate.answers import Answers, FloatArray, answers_of, scores_of, text_column

CLASSIFIER = "classifier"
RARE = "rare (fewer than 5 patients each)"
"""Levels that a pack does not name; the new hospital's are called the same before comparing."""
NO_PICTURES = (
    "The finetune run was made before header fields and pixel figures were kept; fit it again."
)


@dataclass(frozen=True)
class Column:
    """One attribute of the source: float64 with NaN, or text with None; and whose each row is."""

    values: npt.NDArray[Any]
    patient: npt.NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """The source hospital.

    Attributes:
        about: sites, and numbers of images, patients and labelled images that were held out.
        columns: header fields and pixel figures by name; empty where they were not kept.
        scores, score_patient: chances of held-out test pictures ``[n, K]``, and whose they are.
        answers: labelled test pictures; None in a pack.
        validation: labelled validation pictures; None in a pack.
        embeddings, embedded_patient: of held-out pictures; None where they were not shared.
        embedded_row: their rows in ``answers``' table order, -1 where not a test picture.
        masked: per mask, test answers with that part hidden; empty in a pack.
        key: image and slice of every row of the columns; empty in a pack.
        pack: summaries that stand in for what a pack does not hold.
    """

    about: dict[str, Any]
    columns: dict[str, Column]
    scores: FloatArray
    score_patient: npt.NDArray[Any]
    answers: Answers | None = None
    validation: Answers | None = None
    embeddings: FloatArray | None = None
    embedded_patient: npt.NDArray[Any] | None = None
    embedded_row: npt.NDArray[np.int64] | None = None
    masked: dict[str, Answers] = field(default_factory=dict)
    key: tuple[tuple[str, int], ...] = ()
    pack: dict[str, Any] | None = None
    name: str = ""


def of_run(run: Path, classes: tuple[str, ...], thresholds: dict[str, float]) -> Reference:
    """Read the source from a finetune run.

    Embeddings are those of validation and test patients: training pictures lie closer together.
    """
    table = runs.read_predictions(run / "predictions.parquet")
    kept = table.filter(pa.array(np.asarray(table.column("mode").to_pylist()) == CLASSIFIER))
    split = np.asarray(kept.column("split").to_pylist())
    test, val = (kept.filter(pa.array(split == s)) for s in ("test", "val"))
    answers = answers_of(test, classes, thresholds)
    pictures = attributes.read(run)
    embeddings, patients, row = _embedded(run, test)
    return Reference(
        about=about(test, len(answers)),
        columns=columns_of(pictures),
        key=() if pictures is None else tuple(keys(pictures)),
        scores=scores_of(test, classes),
        score_patient=text_column(test, "patient_id"),
        answers=answers,
        validation=answers_of(val, classes, thresholds),
        embeddings=embeddings,
        embedded_patient=patients,
        embedded_row=row,
        masked=_masked(run, classes, thresholds),
        name=run.name,
    )


def _embedded(
    run: Path, test: pa.Table
) -> tuple[FloatArray, npt.NDArray[Any], npt.NDArray[np.int64]]:
    table = runs.read_table(run / "embeddings.parquet")
    held = np.isin(np.asarray(table.column("split").to_pylist()), ["val", "test"])
    rows = np.load(run / "embeddings.npy", mmap_mode="r", allow_pickle=False)[held]
    kept = table.filter(pa.array(held))
    place = {key: k for k, key in enumerate(keys(test))}
    row = np.array([place.get(key, -1) for key in keys(kept)], dtype=np.int64)
    return np.asarray(rows, dtype=np.float64), text_column(kept, "patient_id"), row


def keys(table: pa.Table) -> list[tuple[str, int]]:
    """Return what names every picture: its image, and its slice."""
    images, slices = table.column("image_id").to_pylist(), table.column("slice").to_pylist()
    return list(zip(images, slices, strict=True))


def masked_of(
    file: Path, classes: tuple[str, ...], thresholds: dict[str, float]
) -> dict[str, Answers]:
    """Read ``masked.parquet``: answers by the name of the mask; empty where there is none."""
    if not file.is_file():
        return {}
    table = runs.read_predictions(file)
    mode = np.asarray(table.column("mode").to_pylist())
    return {
        str(name): answers_of(table.filter(pa.array(mode == name)), classes, thresholds)
        for name in dict.fromkeys(mode.tolist())
    }


def _masked(
    run: Path, classes: tuple[str, ...], thresholds: dict[str, float]
) -> dict[str, Answers]:
    return masked_of(run / "masked.parquet", classes, thresholds)


def columns_of(table: pa.Table | None) -> dict[str, Column]:
    """Return every attribute of a pictures table; one that nowhere has a value is left out."""
    if table is None:
        return {}
    patient = text_column(table, "patient_id")
    out = {}
    for one in attributes.ATTRIBUTES:
        if one.name not in table.column_names:
            continue
        column = table.column(one.name)
        if column.null_count == len(column):
            continue
        listed = column.to_pylist()
        values = (
            np.array(listed, dtype=object)
            if one.levels
            else np.array([np.nan if v is None else v for v in listed], dtype=np.float64)
        )
        out[one.name] = Column(values, patient)
    return out


def about(table: pa.Table, labelled: int) -> dict[str, Any]:
    """Return sites and counts of a predictions table."""
    return {
        "sites": sorted(set(table.column("site").to_pylist())),
        "images": table.num_rows,
        "patients": len(set(table.column("patient_id").to_pylist())),
        "labelled": labelled,
    }
