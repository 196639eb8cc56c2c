"""Labelled predictions of one hospital, by image or by patient; several answers may hold at once."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medssl import runs
from medssl.stats.bootstrap import Patients

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MISSING = -1
YES = frozenset({"1", "true", "yes", "y", "positive", "present"})
LABEL = "label_"
"""Columns ``label_<class>`` with 1, 0 or null make a predictions table multi-label."""


@dataclass(frozen=True)
class Answers:
    """Labelled predictions.

    Attributes:
        outcome: 1, 0 or -1 (missing) for every picture and class, int64 ``[n, K]``.
        scores: probabilities, float64 ``[n, K]``.
        patient, site: one entry per picture.
        row: place of every picture in the table it came from, int64 ``[n]``.
        classes: names of the K classes.
        thresholds: the source's working threshold of every reported class.
        exclusive: one class per picture; otherwise each class is a question of its own.
    """

    outcome: IntArray
    scores: FloatArray
    patient: npt.NDArray[Any]
    site: npt.NDArray[Any]
    row: IntArray
    classes: tuple[str, ...]
    thresholds: dict[str, float]
    exclusive: bool = True

    def __len__(self) -> int:
        """Return the number of labelled pictures."""
        return len(self.outcome)

    def part(self, places: npt.NDArray[Any]) -> "Answers":
        """Return the pictures at some places (numbers or a mask)."""
        return Answers(
            self.outcome[places],
            self.scores[places],
            self.patient[places],
            self.site[places],
            self.row[places],
            self.classes,
            self.thresholds,
            self.exclusive,
        )

    @property
    def shown(self) -> list[int]:
        """Return the reported classes, those with a threshold: the positive one of two, else all."""
        return [k for k, name in enumerate(self.classes) if name in self.thresholds]

    @property
    def codes(self) -> IntArray:
        """Return the class of every picture, where exactly one holds."""
        found: IntArray = self.outcome.argmax(1).astype(np.int64)
        return found

    def known(self, k: int) -> "Answers":
        """Return the pictures whose class k is not missing."""
        there = self.outcome[:, k] != MISSING
        return self if there.all() else self.part(there)

    def of(self, k: int) -> tuple[IntArray, FloatArray]:
        """Return outcome 0/1 and probability of class k, which must nowhere be missing."""
        return self.outcome[:, k], self.scores[:, k]

    def by_patient(self, how: Literal["mean", "max"] = "mean") -> "Answers":
        """Return one row per patient: the mean (or largest) probability; positive if any picture is.

        Another question than that of single pictures. A class is missing where all of a patient's
        pictures miss it; where classes exclude each other, a patient may still have had several.
        """
        groups = Patients.of(self.patient)
        outcome = np.full((groups.count, len(self.classes)), MISSING, dtype=np.int64)
        np.maximum.at(outcome, groups.code, self.outcome)
        images = np.bincount(groups.code, minlength=groups.count)[:, None]
        scores = np.zeros((groups.count, len(self.classes)))
        if how == "mean":
            np.add.at(scores, groups.code, self.scores / images[groups.code])
        else:
            np.maximum.at(scores, groups.code, self.scores)
        first = groups.order[groups.start[:-1]]
        mixed = bool((outcome == 1).sum(1).max(initial=0) > 1)
        return Answers(
            outcome,
            scores,
            self.patient[first],
            self.site[first],
            self.row[first],
            self.classes,
            self.thresholds,
            self.exclusive and not mixed,
        )


def in_words(target: str, name: str, thresholds: dict[str, float]) -> str:
    """Return a class in words: the target alone where the class only says yes."""
    only = len(thresholds) == 1 and name.casefold() in YES
    return target if only else f"{target} = {name}"


def answers_of(table: pa.Table, classes: tuple[str, ...], thresholds: dict[str, float]) -> Answers:
    """Return the labelled rows of a predictions table.

    Args:
        table: columns as ``runs.PREDICTION_COLUMNS``, scores, and for multi-label questions
            ``label_<class>`` with 1, 0 or null.
        classes: names in the order of the scores.
        thresholds: of the reported classes.
    """
    multi = all(f"{LABEL}{c}" in table.column_names for c in classes)
    outcome = _multi(table, classes) if multi else _single(table, classes)
    there = (outcome != MISSING).any(1)
    return Answers(
        outcome[there],
        scores_of(table, classes)[there],
        text_column(table, "patient_id")[there],
        text_column(table, "site")[there],
        np.flatnonzero(there),
        classes,
        thresholds,
        exclusive=not multi,
    )


def scores_of(table: pa.Table, classes: tuple[str, ...]) -> FloatArray:
    """Return float64 ``[n, K]`` in class order."""
    columns = [table.column(f"{runs.SCORE}{c}").to_numpy() for c in classes]
    return np.stack(columns, 1).astype(np.float64)


def text_column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """Return one text column as NumPy text."""
    return np.asarray(table.column(name).to_pylist(), dtype=str)


def _single(table: pa.Table, classes: tuple[str, ...]) -> IntArray:
    label = np.asarray(table.column("label").to_pylist(), dtype=object)
    outcome = np.stack([(label == c).astype(np.int64) for c in classes], 1)
    outcome[outcome.sum(1) == 0] = MISSING
    return outcome


def _multi(table: pa.Table, classes: tuple[str, ...]) -> IntArray:
    columns = [table.column(f"{LABEL}{c}").to_pylist() for c in classes]
    coded = [[MISSING if v is None else int(bool(v)) for v in column] for column in columns]
    return np.array(coded, dtype=np.int64).reshape(len(classes), -1).T
