"""What a report is made from, as files of an evaluate run: written once, read without torch."""

import csv
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl import runs
from medssl.errors import NothingUsableError, RefusedError
from medssl.evaluate import attributes
from medssl.evaluate.answers import Answers, FloatArray, answers_of, scores_of, text_column
from medssl.evaluate.reference import Column, columns_of, keys, masked_of
from medssl.files import atomic, write_csv, write_json

SCHEMA = 1
FILE = "inputs.json"
MONTHS = Path("private") / "months.csv"
STAGES = "stages"


@dataclass(frozen=True)
class Question:
    """What was asked of which model.

    Attributes:
        target: name of the label; classes: its values in order.
        thresholds: the source's working threshold per reported class; rule: how it was chosen.
        label_table: whether the new cohort has that label at all.
        unknown: values of the label that the classifier does not know, with their counts.
        flow: what became of the cohort's images: sentence, images, patients.
        notes, provenance: sentences and digests for the last sections.
        model: about the model, for its card.
    """

    target: str
    classes: tuple[str, ...]
    thresholds: dict[str, float]
    rule: str
    label_table: bool
    unknown: dict[str, int]
    flow: tuple[tuple[str, int, int], ...]
    notes: tuple[str, ...]
    provenance: dict[str, str]
    model: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """Embeddings of one encoder of the chain, of pictures of both hospitals.

    Attributes:
        name: of the encoder, in words.
        embeddings: ``[n, width]``; source: which rows are the source's; patient: of each row.
        key: image and slice of each row.
    """

    name: str
    embeddings: FloatArray
    source: npt.NDArray[np.bool_]
    patient: npt.NDArray[Any]
    key: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Here:
    """The new hospital's side, row by row.

    Attributes:
        predictions: columns of ``runs.PREDICTION_COLUMNS`` and the scores.
        embeddings: ``[n, width]``.
        pictures: header fields and pixel figures, row by row.
        month: ``YYYY-MM`` of every row, empty where unknown.
        masked: per mask, answers with that part hidden.
        stages: the encoders of the chain; empty where they were not asked for.
    """

    predictions: pa.Table
    embeddings: FloatArray
    pictures: pa.Table
    month: npt.NDArray[Any]
    masked: dict[str, Answers]
    stages: tuple[Stage, ...]

    def scores(self, question: Question) -> FloatArray:
        """Return the chances of every picture ``[n, K]``."""
        return scores_of(self.predictions, question.classes)

    def answers(self, question: Question) -> Answers:
        """Return the labelled pictures."""
        return answers_of(self.predictions, question.classes, question.thresholds)

    @property
    def patient(self) -> npt.NDArray[Any]:
        """Return whose every picture is."""
        return text_column(self.predictions, "patient_id")

    @property
    def columns(self) -> dict[str, Column]:
        """Return every attribute that has a value somewhere."""
        return columns_of(self.pictures)

    def between(self, since: str | None, until: str | None) -> "Here":
        """Return the pictures of studies of some months; those without a date are left out.

        Raises:
            NothingUsableError: no picture is of these months, or none has a date.
        """
        if since is None and until is None:
            return self
        inside = (self.month >= (since or "0000-00")) & (self.month <= (until or "9999-99"))
        inside &= self.month != ""
        if not inside.any():
            dated = int((self.month != "").sum())
            words = (
                f"No picture is of a study between {since or 'the first'} and {until or 'the last'}: "
                f"{dated} of {len(inside)} have a date. Change since and until."
            )
            raise NothingUsableError(words, "E-DATES")
        kept = {k for k, v in zip(keys(self.predictions), inside, strict=True) if v}
        mask = pa.array(inside)
        return replace(
            self,
            predictions=self.predictions.filter(mask),
            embeddings=self.embeddings[inside],
            pictures=self.pictures.filter(mask),
            month=self.month[inside],
            masked={n: _only(a, inside) for n, a in self.masked.items()},
            stages=tuple(_stage_part(s, kept) for s in self.stages),
        )


def _only(answers: Answers, inside: npt.NDArray[np.bool_]) -> Answers:
    return answers.part(inside[answers.row])


def _stage_part(stage: Stage, kept: set[tuple[str, int]]) -> Stage:
    stays = np.array([s or k in kept for s, k in zip(stage.source, stage.key, strict=True)])
    key = tuple(k for k, s in zip(stage.key, stays, strict=True) if s)
    return Stage(
        stage.name, stage.embeddings[stays], stage.source[stays], stage.patient[stays], key
    )


def write_question(run: Path, question: Question) -> None:
    """Write ``inputs.json``."""
    write_json(run / FILE, {"schema": SCHEMA, **asdict(question)})


def read_question(run: Path) -> Question:
    """Read ``inputs.json``.

    Raises:
        NothingUsableError: an evaluation of an older medssl, which kept no inputs.
        RefusedError: another schema, or parts absent.
    """
    file = run / FILE
    if not file.is_file():
        words = f"{run}: keeps no inputs ({FILE}); evaluate the classifier's own run again."
        raise NothingUsableError(words, "E-NOINPUTS")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if data.pop("schema") != SCHEMA:
            raise KeyError("schema")
        return Question(
            **{
                **data,
                "classes": tuple(data["classes"]),
                "flow": tuple((str(w), int(i), int(p)) for w, i, p in data["flow"]),
                "notes": tuple(data["notes"]),
            }
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{file}: not the inputs of a report ({error}).", "E-SCHEMA") from error


def write_months(run: Path, months: dict[str, str]) -> None:
    """Write the true month of every dated image, readable by the owner only."""
    write_csv(run / MONTHS, ["image_id", "month"], sorted(months.items()), 0o600)


def _read_months(run: Path) -> dict[str, str]:
    if not (run / MONTHS).is_file():
        return {}
    with (run / MONTHS).open(encoding="utf-8", newline="") as file:
        return {row["image_id"]: row["month"] for row in csv.DictReader(file)}


def write_stage(run: Path, number: int, stage: Stage) -> None:
    """Write the embeddings of one encoder of the chain, and of which pictures they are."""
    folder = run / STAGES
    with atomic(folder / f"{number}.npy") as out:
        np.save(out, stage.embeddings.astype(np.float32), allow_pickle=False)
    table = pa.table(
        {
            "image_id": [k[0] for k in stage.key],
            "slice": pa.array([k[1] for k in stage.key], pa.int32()),
            "patient_id": [str(p) for p in stage.patient],
            "source": stage.source,
        }
    ).replace_schema_metadata({"stage": stage.name})
    with atomic(folder / f"{number}.parquet") as out:
        pq.write_table(table, out)


def _read_stages(run: Path) -> tuple[Stage, ...]:
    out = []
    files = (run / STAGES).glob("*.parquet") if (run / STAGES).is_dir() else []
    for file in sorted(files, key=lambda p: int(p.stem)):
        table = runs.read_table(file)
        name = (table.schema.metadata or {}).get(b"stage", b"").decode()
        rows = np.load(file.with_suffix(".npy"), allow_pickle=False).astype(np.float64)
        source = np.asarray(table.column("source").to_pylist(), dtype=bool)
        out.append(Stage(name, rows, source, text_column(table, "patient_id"), tuple(keys(table))))
    return tuple(out)


def read_here(run: Path, question: Question) -> Here:
    """Read the new hospital's side of an evaluate run.

    Raises:
        NothingUsableError: a file is absent.
    """
    predictions = runs.read_predictions(run / "predictions.parquet")
    _check_once(run, predictions)
    pictures = attributes.read(run)
    if pictures is None:
        raise NothingUsableError(f"{run}: no {attributes.FILE}; evaluate anew.", "E-NOINPUTS")
    embeddings = np.load(run / "embeddings.npy", allow_pickle=False).astype(np.float64)
    if keys(pictures) != keys(predictions) or len(embeddings) != predictions.num_rows:
        words = f"{run}: predictions, {attributes.FILE} and embeddings are not of the same pictures in one order."
        raise RefusedError([f"{words} Evaluate anew."], "E-ROWS")
    months = _read_months(run)
    images = predictions.column("image_id").to_pylist()
    return Here(
        predictions,
        embeddings,
        pictures,
        np.array([months.get(i, "") for i in images], dtype=str),
        masked_of(run / "masked.parquet", question.classes, question.thresholds),
        _read_stages(run),
    )


def _check_once(run: Path, predictions: pa.Table) -> None:
    """Raise unless every picture stands once: a picture told twice would count twice."""
    every = keys(predictions)
    twice = len(every) - len(set(every))
    if twice:
        words = (
            f"{run}: {twice} pictures stand more than once in predictions.parquet; predict anew."
        )
        raise RefusedError(words, "E-TWICE")


def copy(run: Path, out: Path) -> None:
    """Copy the inputs of one evaluate run to another, private months with their mode."""
    names = [FILE, "predictions.parquet", "embeddings.npy", attributes.FILE, "masked.parquet"]
    files = [run / n for n in names if (run / n).is_file()]
    files += sorted((run / STAGES).glob("*")) if (run / STAGES).is_dir() else []
    for file in files:
        with atomic(out / file.relative_to(run)) as target, file.open("rb") as source:
            shutil.copyfileobj(source, target)
    write_months(out, _read_months(run))
