"""One trained classifier of the grid, and the folder in which finished ones outlive a stop."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from medssl.files import atomic, write_json
from medssl.finetune.probe import FloatArray
from medssl.models import weights
from medssl.stats.metrics import IntArray

FOLDER = "cells"


@dataclass(frozen=True)
class Where:
    """A place in the grid: start, mode, budget in percent, draw."""

    init: str
    mode: str
    budget: float
    seed: int

    @property
    def file(self) -> str:
        """Return its name on disk."""
        return f"{self.init}-{self.mode.replace(' ', '-')}-{self.budget:g}-{self.seed}"


@dataclass(frozen=True)
class Cell:
    """One trained classifier of the grid.

    Attributes:
        where: its place.
        patients, images: how many labels it saw.
        scores: float64 ``[n, K]`` for every picture of the task; NaN where nothing asks for them.
        model: a linear probe; None for kNN, and for what lies on the shelf.
        facts: what was chosen on the way (a rate, a penalty), for the curve.
    """

    where: Where
    patients: int
    images: int
    scores: FloatArray
    model: Any = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A cell that could not be trained, with the sentence."""

    where: Where
    sentence: str


@dataclass(frozen=True)
class Shelf:
    """Finished full trainings of a run, on disk until the run is done.

    Attributes:
        folder: of the cells.
        held: places of the task whose scores are kept ``[h]``.
    """

    folder: Path
    held: IntArray

    def put(self, cell: Cell, module: nn.Module | None = None) -> None:
        """Write a cell: its weights if they may be kept, its facts, the scores last and whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        told: dict[str, Any] = {"patients": cell.patients, "images": cell.images}
        told["facts"] = cell.facts
        if module is not None:
            told["sha256"] = weights.save_tensors(self._file(cell.where, "safetensors"), module)
        write_json(self._file(cell.where, "json"), told)
        with atomic(self._file(cell.where, "npy")) as out:
            np.save(out, cell.scores[self.held], allow_pickle=False)

    def get(self, where: Where, pictures: int, classes: int) -> Cell | None:
        """Return a cell of an earlier call, or None."""
        scores = self._file(where, "npy")
        if not scores.is_file():
            return None
        whole = np.full((pictures, classes), np.nan)
        whole[self.held] = np.load(scores, allow_pickle=False)
        told = self._told(where)
        return Cell(where, told["patients"], told["images"], whole, None, told["facts"])

    def load_model(self, where: Where, module: nn.Module) -> None:
        """Load a cell's weights into a module of its shape."""
        digest = str(self._told(where)["sha256"])
        weights.load_tensors(self._file(where, "safetensors"), module, digest)

    def drop_model(self, where: Where) -> None:
        """Remove the weights of a cell that is not kept."""
        self._file(where, "safetensors").unlink(missing_ok=True)

    def _file(self, where: Where, kind: str) -> Path:
        return self.folder / f"{where.file}.{kind}"

    def _told(self, where: Where) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self._file(where, "json").read_text())
        return record
