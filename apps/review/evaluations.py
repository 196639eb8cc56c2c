"""A finished evaluation and its cases, read from files; nothing here knows Streamlit."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from journal import APART, APART_ALL
from medssl import runs
from medssl.cohort import manifest as manifest_room
from medssl.errors import MedsslError, RefusedError
from medssl.evaluate import cases as case_room
from medssl.evaluate.answers import YES
from medssl.files import sha256_file

LIKELY, NOT_LIKELY, UNSURE = "likely", "not likely", "unsure"
UNLIKE_BEYOND = 99.0
LIMIT = 60
CLASSIFIER = "classifier.json"

Key = tuple[str, int]


@dataclass(frozen=True)
class Answer:
    """What the model says of one case and one class, in the terms that a page shows.

    Attributes:
        word: likely, not likely or unsure.
        why: of an unsure one: ``both``, ``neither``, ``line`` (close to the line), ``against`` (its own
            scale says one thing and what became of such cases another); else empty.
        chance, lower, upper: share of such cases that had it; limits None where unknown.
        checked: ``here`` or ``source``, whose confirmed answers say so; empty where nobody's do.
        score: the model's own figure.
        line: where the line is drawn on the model's own figure.
        unlike: percentile among the pictures it was tested on at home; None where unknown.
    """

    word: str
    why: str
    chance: float
    lower: float | None
    upper: float | None
    checked: str
    score: float
    line: float
    unlike: float | None

    @property
    def flagged(self) -> bool:
        """Return whether the model's own figure reaches the line."""
        return self.score >= self.line

    @property
    def is_unlike(self) -> bool:
        """Return whether the picture is farther out than nearly all it was tested on."""
        return self.unlike is not None and self.unlike > UNLIKE_BEYOND


@dataclass(frozen=True)
class Review:
    """One finished evaluation.

    Attributes:
        run: its directory and record.
        report: ``report.json``.
        table: ``cases.parquet`` joined to the predictions, one row per case.
        rows: the rows of the predictions and embeddings behind the cases, int64 ``[n]``.
        manifest: header fields by image; empty where the cohort is not here.
    """

    run: runs.Run
    report: dict[str, Any]
    table: pa.Table
    rows: npt.NDArray[np.int64]
    manifest: dict[str, dict[str, Any]]

    def __len__(self) -> int:
        """Return the number of cases."""
        return int(self.table.num_rows)

    @property
    def apart(self) -> frozenset[str]:
        """Return the kinds of events that are kept for every finding by itself."""
        return APART if self.report.get("exclusive", True) else APART_ALL

    @property
    def shown(self) -> list[str]:
        """Return the reported classes."""
        return list(self.report["thresholds"])

    @cached_property
    def keys(self) -> list[Key]:
        """Return image and slice of every case."""
        images, slices = self.column("image_id"), self.column("slice")
        return list(zip(images, slices, strict=True))

    @cached_property
    def place(self) -> dict[Key, int]:
        """Return where every case stands."""
        return {key: k for k, key in enumerate(self.keys)}

    @cached_property
    def of_patient(self) -> dict[str, list[int]]:
        """Return the cases of every patient."""
        found: dict[str, list[int]] = {}
        for k, patient in enumerate(self.column("patient_id")):
            found.setdefault(patient, []).append(k)
        return found

    @cached_property
    def model(self) -> str:
        """Return the digest of the classifier's weights, which feedback is kept under."""
        return str(self.report["provenance"].get("classifier", ""))

    @cached_property
    def embeddings(self) -> npt.NDArray[np.float32]:
        """Return the features of every prediction ``[N, width]``, read as they are asked for."""
        try:
            return np.load(self.run.path / "embeddings.npy", mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
        except (OSError, ValueError) as error:
            words = f"{self.run.path.name}: embeddings.npy is absent or damaged. Evaluate again."
            raise RefusedError(words, "E-EMBEDDINGS") from error

    @property
    def cohort(self) -> Path | None:
        """Return the cohort's folder, if it is still where the evaluation read it."""
        return parent(self.run, "manifest.parquet")

    def column(self, name: str) -> list[Any]:
        """Return one column as a list."""
        return self.table.column(name).to_pylist()  # type: ignore[no-any-return]

    def column_at(self, name: str, case: int) -> Any:
        """Return one cell."""
        return self.table.column(name)[case].as_py()

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return one column as float64, NaN where it is empty or absent."""
        if name not in self.table.column_names:
            return np.full(len(self), np.nan)
        return np.asarray(self.table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)

    def in_words(self, name: str) -> str:
        """Return a class as a finding: the target alone where the class only says yes."""
        target = short(self.report["target"])
        only = len(self.shown) == 1 and name.casefold() in YES
        return target if only else short(name)

    def label_in_words(self, label: str | None) -> str | None:
        """Return a confirmed answer as a person would say it."""
        if label is None:
            return None
        yes = self.shown[0] if len(self.shown) == 1 else ""
        if yes and len(self.report["classes"]) == 2 and yes.casefold() in YES:
            return f"{short(self.report['target'])} {'present' if label == yes else 'absent'}"
        return short(label)

    @cached_property
    def _words(self) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        return {name: self._sound(name, *self._word_of(name)) for name in self.shown}

    def words(self, name: str) -> npt.NDArray[Any]:
        """Return likely, not likely or unsure for every case."""
        return self._words[name][0]

    def _word_of(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return words and reasons: by the sets of answers where they tell cases apart, else by bands."""
        may = [self.numbers(f"may_{c}") for c in self.report["classes"]]
        held = np.sum(may, axis=0)
        # Sets that hold every answer of every case say nothing: the source had too few to draw them.
        if np.isnan(held).any() or (held == len(may)).all():
            return self._by_band(name)
        mine = may[self.report["classes"].index(name)] == 1
        word = np.where(mine, LIKELY, NOT_LIKELY).astype(object)
        why = np.full(len(self), "", dtype=object)
        for unsure, reason in ((mine & (held > 1), "both"), (held == 0, "neither")):
            word[unsure], why[unsure] = UNSURE, reason
        return word, why

    def _sound(
        self, name: str, word: npt.NDArray[Any], why: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return words that never speak against the chance beside them: those become unsure."""
        chance = self.chances(name)
        against = ((word == LIKELY) & (chance < 0.5)) | ((word == NOT_LIKELY) & (chance >= 0.5))
        return np.where(against, UNSURE, word), np.where(against, "against", why)

    def _by_band(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return likely and not by the line, unsure where the chance's limits hold that of the line."""
        score, line = self.numbers(runs.SCORE + name), self.report["thresholds"][name]
        word = np.where(score >= line, LIKELY, NOT_LIKELY).astype(object)
        why = np.full(len(self), "", dtype=object)
        at = self._line_chance(name)
        close = (self.numbers(f"lower_{name}") <= at) & (at <= self.numbers(f"upper_{name}"))
        word[close], why[close] = UNSURE, "line"
        return word, why

    def _line_chance(self, name: str) -> float:
        """Return the chance that belongs to the line, read off the case nearest to it."""
        score, line = self.numbers(runs.SCORE + name), self.report["thresholds"][name]
        if not len(score):
            return float("nan")
        return float(self.numbers(f"chance_{name}")[int(np.argmin(np.abs(score - line)))])

    def chances(self, name: str) -> npt.NDArray[np.float64]:
        """Return the chance of every case: as checked where it was, else the model's own figure."""
        found = self.numbers(f"chance_{name}")
        return np.where(np.isnan(found), self.numbers(runs.SCORE + name), found)

    def answer(self, case: int, name: str) -> Answer:
        """Return what the model says of one case."""

        def one(column: str) -> float | None:
            value = float(self.numbers(column)[case])
            return None if np.isnan(value) else value

        word, why = self._words[name]
        checked = f"checked_{name}"
        known = checked in self.table.column_names
        return Answer(
            word=str(word[case]),
            why=str(why[case]),
            chance=float(self.chances(name)[case]),
            lower=one(f"lower_{name}"),
            upper=one(f"upper_{name}"),
            checked=str(self.table.column(checked)[case].as_py()) if known else "",
            score=float(self.numbers(runs.SCORE + name)[case]),
            line=float(self.report["thresholds"][name]),
            unlike=one("unlike"),
        )

    def uncertainty(self, name: str) -> npt.NDArray[np.float64]:
        """Return a sort key, smaller is less certain: unsure first, then by distance to the line."""
        score, line = self.numbers(runs.SCORE + name), self.report["thresholds"][name]
        odds = np.log(np.clip(score, 1e-6, 1 - 1e-6) / np.clip(1 - score, 1e-6, 1))
        at = np.log(max(line, 1e-6) / max(1 - line, 1e-6))
        return np.where(self.words(name) == UNSURE, 0.0, 1e6) + np.abs(odds - at)


def short(text: object, limit: int = LIMIT) -> str:
    """Return foreign text on one line, cut to a length that a page bears."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def parent(run: runs.Run, file: str) -> Path | None:
    """Return where a parent of a run lies, if it is still there and still the same.

    A classifier that was fitted anew in its folder is another one; a cohort may have grown.
    """
    told = [p for p in run.record.get("parents", []) if p["file"] == file]
    place = run.path / told[0]["path"] if told else None
    if place is None or not (place / file).is_file():
        return None
    same = file != CLASSIFIER or sha256_file(place / file) == told[0].get("sha256")
    return place.resolve() if same else None


def open_review(path: Path) -> Review:
    """Read a finished evaluation.

    Raises:
        MedsslError: it is incomplete, broken, or older than its list of cases.
    """
    run = runs.finished(path, "evaluate")
    try:
        report = json.loads((path / "report.json").read_text(encoding="utf-8"))
        list(report["thresholds"]), report["classes"], report["provenance"], report["verdict"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        words = f"{path.name}: its report.json is absent or not readable. Evaluate again."
        raise RefusedError(words, "E-REPORT") from error
    table = runs.read_predictions(path / "predictions.parquet")
    table, rows = _joined(path, table)
    return Review(run, report, table, rows, _headers(parent(run, "manifest.parquet")))


def _joined(path: Path, table: pa.Table) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    file = path / case_room.FILE
    if not file.is_file():
        words = (
            f"{path.name}: made before evaluations listed their cases ({case_room.FILE}). Report it "
            "anew: medssl evaluate RUN --out NEW."
        )
        raise RefusedError(words, "E-NOCASES")
    try:
        cases = pq.read_table(file)
        keys = [cases.column(n).to_pylist() for n in ("image_id", "slice")]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise RefusedError(f"{path.name}: {case_room.FILE} is damaged.", "E-SCHEMA") from error
    every = zip(*(table.column(n).to_pylist() for n in ("image_id", "slice")), strict=True)
    place = {key: k for k, key in enumerate(every)}
    try:
        rows = np.array([place[key] for key in zip(*keys, strict=True)], dtype=np.int64)
    except KeyError as error:
        words = f"{path.name}: {case_room.FILE} names a case that was not predicted."
        raise RefusedError(words, "E-SCHEMA") from error
    kept = table.take(pa.array(rows))
    for name in cases.column_names:
        if name not in kept.column_names:
            kept = kept.append_column(name, cases.column(name))
    return kept, rows


def _headers(cohort: Path | None) -> dict[str, dict[str, Any]]:
    if cohort is None:
        return {}
    try:
        table = manifest_room.read(cohort).table
    except MedsslError:
        return {}
    return {row["image_id"]: row for row in table.to_pylist()}
