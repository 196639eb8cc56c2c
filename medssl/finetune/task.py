"""The question: which stored pictures carry which answer, and in which split."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split as split_room
from medssl.config import FinetuneConfig
from medssl.errors import NothingUsableError, UsageError
from medssl.store import Store

IntArray = npt.NDArray[np.int64]
MAX_CLASSES = 20


@dataclass(frozen=True)
class Task:
    """Labelled pictures of one cohort.

    Attributes:
        target: name of the label.
        classes: values in order; for two classes the positive one is last.
        rows: store rows with a label, int64 ``[n]``.
        codes: class code of each, int64 ``[n]``.
        patient, split: pseudonym and split of each.
        uncertain: per split, the stored pictures whose label is uncertain; they are in no row.
        ordered: whether the classes are steps of one scale, from the least.
        free: store rows of training (and unlabelled) patients without a label, int64 ``[f]``.
        strata: what draws of labels are stratified by, per training patient; None: the classes.
    """

    target: str
    classes: tuple[str, ...]
    rows: IntArray
    codes: IntArray
    patient: npt.NDArray[Any]
    split: npt.NDArray[Any]
    uncertain: dict[str, int] = field(default_factory=dict)
    ordered: bool = False
    free: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    strata: dict[str, str] | None = None

    def at(self, split: str) -> IntArray:
        """Return the places (not store rows) of one split."""
        return np.flatnonzero(self.split == split)

    def outcome(self, k: int) -> npt.NDArray[np.int64]:
        """Return 0/1 for class k against the rest."""
        found: npt.NDArray[np.int64] = (self.codes == k).astype(np.int64)
        return found

    @property
    def metric(self) -> str:
        """Return the name of the score: AUROC of two classes, its mean over classes or cut points."""
        if self.ordered and len(self.classes) > 2:
            return "ordinal_auroc"
        return "auroc" if len(self.classes) == 2 else "macro_auroc"

    @property
    def shown(self) -> tuple[int, ...]:
        """Return the class codes that are reported: the positive one of two, else all."""
        return (1,) if len(self.classes) == 2 else tuple(range(len(self.classes)))


def make_task(config: FinetuneConfig, data: Path, store: Store) -> Task:
    """Join labels and splits to the stored pictures; those of uncertain label are left out, counted.

    Raises:
        NothingUsableError: no labels, no split, or a split without both kinds of answers.
        UsageError: the label is not a class, or ``positive`` is not one of its values.
    """
    labels = label_room.read(data, config.target)
    place = split_room.read(data)
    owner = store.column("patient_id")
    split_room.check_covers(place, owner, data)
    split_room.check_units(data, manifest_room.read(data), place)
    images, slices = store.column("image_id"), store.column("slice")
    items = [(str(i), int(s)) for i, s in zip(images, slices, strict=True)]
    values = [label_room.lookup(labels, *item) for item in items]
    doubted = [k for k, item in enumerate(items) if label_room.is_uncertain(labels, *item)]
    rows = np.array([k for k, v in enumerate(values) if v is not None], dtype=np.int64)
    if rows.size == 0:
        words = f"{data}: no decoded picture has a value of {config.target!r} ({len(doubted)} are uncertain)."
        raise NothingUsableError(words, "E-NOLABELS")
    answers = np.array([values[k] for k in rows])
    classes = _classes(config, answers)
    codes = np.searchsorted(sorted(classes), answers)
    codes = np.array([classes.index(sorted(classes)[c]) for c in codes], dtype=np.int64)
    split = np.array([place[p] for p in owner[rows]])
    taught = [place[p] in {"train", split_room.UNLABELLED} for p in owner]
    free = np.array([k for k, v in enumerate(values) if v is None and taught[k]], dtype=np.int64)
    uncertain = dict(sorted(Counter(place[owner[k]] for k in doubted).items()))
    ordered = bool(config.order)
    task = Task(
        config.target,
        classes,
        rows,
        codes,
        owner[rows].astype(str),
        split,
        uncertain,
        ordered,
        free,
    )
    _check(task, data)
    return task


def _classes(config: FinetuneConfig, answers: npt.NDArray[Any]) -> tuple[str, ...]:
    found = sorted(set(answers.tolist()))
    if len(found) > MAX_CLASSES:
        words = f"{config.target}: {len(found)} different values; a class label has at most {MAX_CLASSES}."
        raise UsageError(words, "E-NOTACLASS")
    if config.order:
        if sorted(config.order) != found:
            words = f"order={list(config.order)}: {config.target} has the values {found}; name each once."
            raise UsageError(words, "E-ORDER")
        return config.order
    if config.positive is None:
        return tuple(found)
    if config.positive not in found or len(found) != 2:
        words = f"positive={config.positive!r}: {config.target} has the values {found}."
        raise UsageError(words, "E-POSITIVE")
    return (*(v for v in found if v != config.positive), config.positive)


def _check(task: Task, data: Path) -> None:
    problems = []
    for split in split_room.SPLITS:
        counts = Counter(task.codes[task.at(split)].tolist())
        absent = [task.classes[k] for k in range(len(task.classes)) if k not in counts]
        if absent:
            problems.append(
                f"{data}: {split} has no picture with {task.target} = {', '.join(absent)}."
            )
    if len(task.classes) < 2:
        problems = [
            f"{data}: every {task.target} is {task.classes[0]!r}; there is nothing to tell apart."
        ]
    if problems:
        raise NothingUsableError(problems, "E-ONECLASS")


def patient_classes(task: Task) -> dict[str, str]:
    """Return one class per training patient, the rarest of those they have, for stratified draws."""
    train = task.at("train")
    frequency = Counter(task.codes[train].tolist())
    found: dict[str, int] = {}
    for patient, code in zip(task.patient[train], task.codes[train], strict=True):
        best = found.setdefault(patient, int(code))
        if frequency[int(code)] < frequency[best]:
            found[patient] = int(code)
    return {p: task.classes[c] for p, c in found.items()}


def strata_of(task: Task) -> dict[str, str]:
    """Return what draws are stratified by, for every training patient."""
    return task.strata if task.strata is not None else patient_classes(task)


def all_budgets(task: Task, config: FinetuneConfig) -> tuple[float, ...]:
    """Return every budget in percent, those given as numbers of patients among them, rising.

    More patients than there are stay above 100 and cannot be drawn.
    """
    many = len(strata_of(task))
    asked = {*config.budgets, *(100 * k / many for k in config.patients)}
    return tuple(sorted(float(b) for b in asked))


def draws(task: Task, percents: tuple[float, ...], seed: int) -> dict[float, IntArray | None]:
    """Return the places of the labelled training images of every nested budget of one draw.

    None where a budget cannot hold every class, or asks for more patients than there are.
    """
    chosen = split_room.budgets(strata_of(task), percents, seed)
    train = task.at("train")
    out: dict[float, IntArray | None] = {}
    for percent, patients in chosen.items():
        if patients is None or percent > 100:
            out[percent] = None
            continue
        places = train[np.isin(task.patient[train], patients)]
        complete = len(set(task.codes[places].tolist())) == len(task.classes)
        out[percent] = places if complete else None
    return out
