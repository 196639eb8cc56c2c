"""A chain of pretraining runs: generic weights, then SimCLR in domain, then MICLe, as one command.

Azizi et al. 2021, figure 1. Each stage is an ordinary run below the chain's folder.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from medssl import loading, runs
from medssl.cohort import split as split_room
from medssl.config import PretrainConfig
from medssl.config.chain import ChainConfig
from medssl.errors import MedsslError, RefusedError
from medssl.files import sha256_file
from medssl.train import faults
from medssl.train import pretrain as room
from medssl.train import world as world_room
from medssl.train.loop import Progress
from medssl.train.material import SplitChoice, gather
from medssl.train.world import World

CARD = "encoder.json"
WAIT_S = 0.2


@dataclass(frozen=True)
class Stage:
    """One run of a chain.

    Attributes:
        folder: its run directory.
        config: its settings; ``init`` is the folder of the stage before.
        done: whether it was finished when the chain was called.
    """

    folder: Path
    config: PretrainConfig
    done: bool


def run_chain(
    config: ChainConfig,
    data: Path,
    out: Path,
    *,
    split: SplitChoice = "file",
    resume: bool = False,
    progress: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[runs.Run, ...]:
    """Pretrain stage after stage, each from the encoder of the one before.

    Every stage is checked against the data before the first one starts. With ``resume``, finished
    stages are kept and the one that stopped goes on.

    Args:
        config: the stages.
        data: a decoded cohort.
        out: folder of the chain; the runs are ``out/1-simclr``, ``out/2-micle`` and so on.
        split: ``none`` uses every patient.
        resume: go on with a chain that did not finish.
        progress: opened for every stage; what it yields is called after every step.
        note: called with a sentence for a person, at every stage.

    Returns:
        The finished runs, in order.

    Raises:
        RefusedError: the folder is full, or a finished stage had other settings, data or start.
        MedsslError: see ``pretrain``.
    """
    world = world_room.find()
    stages = lay_out(config, out)
    if world.first and not resume:
        _check_empty(out)
    finished = [k for k, stage in enumerate(stages) if stage.done]
    problems = [p for k in finished for p in _changes(stages, k, data, split)]
    if problems:
        words = "Keep what the finished stages were made with, or use another --out."
        raise RefusedError([*problems, words], "E-RESUME")
    waiting = [s for s in stages if not s.done]
    # The first of them is checked by its own start; the others would be found out hours later.
    _check_later(waiting[1:], data, split, world)
    say = note if world.first else _nothing
    with world_room.joined(world):
        for number, stage in enumerate(stages, start=1):
            name = f"stage {number} of {len(stages)}, {stage.folder.name}"
            if stage.done:
                say(f"{name}: finished before, kept.")
                continue
            say(f"{name}: begins.")
            with progress() as told:
                room.pretrain(
                    stage.config,
                    data,
                    stage.folder,
                    split=split,
                    resume=resume,
                    progress=told,
                    note=note,
                )
            _await(stage.folder)
    return tuple(runs.read(s.folder) for s in stages)


def _nothing(_: str) -> None:
    return None


def lay_out(config: ChainConfig, out: Path) -> tuple[Stage, ...]:
    """Return the stages with their folders; writes nothing.

    Raises:
        RefusedError: a stage is finished, and one before it is not.
    """
    stages: list[Stage] = []
    for name, own in zip(config.names(), config.stages, strict=True):
        folder = out / name
        if stages:
            own = own.model_copy(update={"init": _spelling(folder, stages[-1].folder)})
        stages.append(Stage(folder, own, _finished(folder)))
    for before, after in pairwise(stages):
        if after.done and not before.done:
            words = f"{after.folder}: finished, and {before.folder} before it is not. Use another --out."
            raise RefusedError(words, "E-RESUME")
    return tuple(stages)


def cost(
    config: ChainConfig,
    data: Path,
    split: SplitChoice = "file",
    out: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """Return what each stage would cost, and the total; writes nothing.

    A later stage is timed from random weights: those it will start from are not there yet.
    """
    told: dict[str, dict[str, Any]] = {}
    for name, stage in zip(config.names(), config.stages, strict=True):
        own = stage.model_copy(update={"init": None}) if told else stage
        told[name] = room.cost(own, data, split, out, note)
    sums = {k: sum(one[k] for one in told.values()) for k in ("steps", "hours")}
    return {**told, "total": {k: round(v, 4) for k, v in sums.items()}}


def _settings(folder: Path) -> dict[str, Any]:
    return loading.load(PretrainConfig, folder / "config.yaml").model_dump()


def _finished(folder: Path) -> bool:
    return (folder / "run.json").is_file() and runs.read(folder).record.get("status") == "done"


def _spelling(folder: Path, before: Path) -> str:
    """Return the stage before as a run under way calls it, whose settings must not change."""
    file = folder / "config.yaml"
    if file.is_file():
        recorded: str | None = _settings(folder)["init"]
        if recorded is not None and Path(recorded).resolve() == before.resolve():
            return recorded
    return str(before)


def _check_empty(out: Path) -> None:
    there = [p.name for p in out.iterdir()] if out.is_dir() else []
    if there or out.is_file():
        words = f"{out}: not empty ({len(there)} entries); use another --out, or --resume this one."
        raise RefusedError(words, "E-NOTEMPTY")


def _changes(stages: tuple[Stage, ...], number: int, data: Path, split: SplitChoice) -> list[str]:
    """Say in what a finished stage differs from what would be run now."""
    stage = stages[number]
    then, now = _settings(stage.folder), stage.config.model_dump()
    record = runs.read(stage.folder).record
    parents = {p["file"]: p["sha256"] for p in record["parents"]}
    # Where a later stage began is told by a digest: its folder may be called by another path today.
    changed = [k for k in now if now[k] != then[k] and not (number and k == "init")]
    if number and parents.get(CARD) != sha256_file(stages[number - 1].folder / CARD):
        changed.append("init")
    if parents.get("manifest.parquet") != sha256_file(data / "manifest.parquet"):
        changed.append("cohort")
    if record["split"] != (split_room.split_digest(data) if split == "file" else "none"):
        changed.append("split")
    words = f"{stage.folder}: this stage is finished, and was made with other {', '.join(changed)}."
    return [words] if changed else []


def _check_later(stages: list[Stage], data: Path, split: SplitChoice, world: World) -> None:
    """Ask of every stage whether its data and its pairs are there; tell all that is wrong at once."""
    problems: list[MedsslError] = []
    for stage in stages:
        try:
            faults.check_world(stage.config, world)
            gather(stage.config, data, split, world)
        except MedsslError as error:
            problems.append(error)
    if problems:
        raise type(problems[0])([p for e in problems for p in e.problems], problems[0].code)


def _await(folder: Path) -> None:
    """Wait until the process that writes has finished the run; the others are there sooner."""
    while not _finished(folder):
        time.sleep(WAIT_S)
