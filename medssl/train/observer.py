"""What is written, measured and concluded while a method trains."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from medssl.config import PretrainConfig
from medssl.files import write_json
from medssl.models import weights
from medssl.models.encoder import Encoder
from medssl.runs import Run
from medssl.train import checkpoints, collapse, keeping
from medssl.train.panel import Panel
from medssl.train.trackers import Trackers
from medssl.train.watch import Measurement

KEPT = "kept"


@dataclass(frozen=True)
class Watched:
    """What measurements need; the first process has it.

    Attributes:
        panel: the pictures that are looked at.
        see: measures an encoder on them.
        start: figures of the encoder that was given, under a guard; else None.
    """

    panel: Panel
    see: Callable[[Encoder], Measurement]
    start: Measurement | None


class Observer:
    """The log, the measurements, the look-out for collapse, and the encoder worth keeping.

    Args:
        run: where log.jsonl and the kept weights go.
        config: settings of the training.
        total: optimiser steps of the whole training.
        watched: what to measure on; None where nothing is measured here.
        trackers: where else the figures go; None in all but the first process.
        note: takes a sentence for a person.
    """

    def __init__(
        self,
        run: Run,
        config: PretrainConfig,
        total: int,
        watched: Watched | None,
        trackers: Trackers | None,
        note: checkpoints.Note,
    ) -> None:
        self.run, self.config, self.watched = run, config, watched
        self.trackers, self.note, self.total = trackers, note, total
        self.look = collapse.Streak(total)
        self.start: dict[str, float] | None = None
        self.well = 0
        self.latest: dict[str, float] = {}
        self.given: dict[str, Any] | None = None

    @property
    def streak(self) -> int:
        """Return for how many steps the representation has looked collapsed."""
        return self.look.length

    def remember(self, encoder: Encoder) -> None:
        """Remember the weights that were given, before a checkpoint replaces them."""
        if self.watched is not None and self.watched.start is not None:
            self.given = copy.deepcopy(encoder.state_dict())

    def resume(self, step: int, streak: int) -> None:
        """Go on after the step of a checkpoint (0 without one): cut the log there."""
        self.look = collapse.Streak(self.total, streak)
        if self.trackers is None:
            return
        log = self.run.path / "log.jsonl"
        checkpoints.trim_log(log, step)
        for line in checkpoints.read_log(log):
            if "effective_rank" in line:
                self.latest = {k: v for k, v in line.items() if k not in {"step", "epoch"}}
                self.start = self.latest if self.start is None else self.start
                self.well = line["step"]

    def step(self, step: int, figures: dict[str, float]) -> collapse.Verdict | None:
        """Look at one step's figures; return a verdict that ends the training."""
        collapsed, spread = figures.get("collapsed"), figures.get("z_std")
        if not self._looks_for_collapse or collapsed is None or spread is None:
            return None
        width = getattr(self.config.method, "out", 1)
        verdict = self.look.feed(step, figures["loss"], collapsed, spread, width)
        if verdict is None or verdict.level == "stop":
            return verdict
        if self.trackers is not None:
            self.note(f"{verdict.words} [W-COLLAPSE]")
        return None

    @property
    def fresh(self) -> bool:
        """Return whether the encoder is still to be measured before its first step."""
        return self.config.watch.every > 0 and self.start is None

    def measure(self, encoder: Encoder, step: int, epoch: int) -> collapse.Verdict | None:
        """Measure, log, keep the weights if they are the best so far; return a verdict of collapse."""
        if self.watched is None:
            return None
        figures = self.watched.see(encoder).figures
        self.write({"step": step, "epoch": epoch, **figures})
        self.latest = figures
        if self.start is None:
            self.start = figures
        self._keep(encoder, step, figures)
        verdict = collapse.measured(self.start, figures, self.well, step)
        if verdict is None:
            self.well = step
        return verdict if self._looks_for_collapse else None

    @property
    def _looks_for_collapse(self) -> bool:
        """Return whether equal outputs are to be feared: a task with an answer may use few directions."""
        return self.config.watch.collapse and self.config.method.alike

    def write(self, line: dict[str, Any]) -> None:
        """Append a line to the log and to every tracker."""
        self.run.log(line)
        if self.trackers is not None:
            self.trackers.write(line["step"], line)

    def _keep(self, encoder: Encoder, step: int, figures: dict[str, float]) -> None:
        keep, folder = self.config.watch.keep, self.run.path / "checkpoints"
        if keep == "last" or step == 0:
            return
        before = self._kept()
        if keeping.better(keep, figures, before["figures"] if before is not None else None):
            digest = weights.save_tensors(folder / f"{KEPT}-{step:08d}.safetensors", encoder)
            held = {"step": step, "sha256": digest, "figures": figures}
            write_json(folder / f"{KEPT}.json", held)
            for old in folder.glob(f"{KEPT}-*.safetensors"):
                if not old.name.endswith(f"-{step:08d}.safetensors"):
                    old.unlink()

    def _kept(self) -> dict[str, Any] | None:
        path = self.run.path / "checkpoints" / f"{KEPT}.json"
        held: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
        return held

    def finish(self, encoder: Encoder) -> dict[str, Any]:
        """Put into the encoder what the run keeps, and say what that is.

        Returns:
            For the summary: figures of the encoder that is kept, ``kept_step``, and the guard's words;
            ``rolled_back`` true where it kept the start.
        """
        kept, figures, told = self._kept(), self.latest, {}
        if self.config.watch.keep != "last" and kept is not None:
            place = self.run.path / "checkpoints" / f"{KEPT}-{kept['step']:08d}.safetensors"
            weights.load_tensors(place, encoder, kept["sha256"])
            figures, told = kept["figures"], {"kept_step": kept["step"]}
        if self.watched is not None and self.watched.start is not None and self.given is not None:
            start = self.watched.start
            decision = keeping.guard(self.watched.panel, start, self.watched.see(encoder))
            if not decision.keep:
                encoder.load_state_dict(self.given)
                figures, told = start.figures, {"kept_step": 0}
            self.note(decision.words)
            told |= {"guard": decision.words, "rolled_back": not decision.keep}
        return {k: round(v, 4) for k, v in figures.items()} | told
