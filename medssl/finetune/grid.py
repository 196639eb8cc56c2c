"""The grid: every start, mode, budget and draw on the identical labels; one failure loses one cell."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from medssl.cohort import split as split_room
from medssl.config import FinetuneConfig
from medssl.errors import DiskError, MedsslError, NothingUsableError, StoppedError
from medssl.finetune import modes
from medssl.finetune.cells import Cell, Failed, Shelf, Where
from medssl.finetune.modes import Plan
from medssl.finetune.probe import softmax
from medssl.finetune.starts import Start
from medssl.finetune.task import Task, all_budgets, draws, strata_of
from medssl.finetune.tune import Labelled, Tuned, tune
from medssl.stats.probes import score

FULL, DISTILLED = "full", "full distilled"
TUNED = (FULL, DISTILLED)
KEEPABLE = ("linear", "ridge", "pseudo", "distilled", *TUNED)
DRAWN_ALIKE = ("linear", "ridge", "knn")
"""Modes that the labelled pictures alone decide: draws that agree, as at 100 %, are fitted once."""
Progress = Callable[[str], None]


def cells(
    task: Task,
    starts: list[Start],
    config: FinetuneConfig,
    shelf: Shelf,
    progress: Progress | None = None,
) -> Iterator[Cell | Failed]:
    """Train the whole grid, one cell after the other; full trainings that are on the shelf stay."""
    leader: Cell | None = None
    held: dict[tuple[str, str, float], tuple[npt.NDArray[np.int64], Cell]] = {}
    for plan in plans(task, starts, config):
        if progress is not None:
            words = (
                f"{plan.start.name}, {plan.budget:.4g} %, draw {plan.seed + 1} of {config.seeds}"
            )
            progress(words)
        for mode in config.modes:
            key = (plan.start.name, mode, plan.budget)
            before = held.get(key)
            if before is not None and np.array_equal(before[0], plan.places):
                yield replace(before[1], where=plan.where(mode))
                continue
            found = _guarded(plan.where(mode), partial(modes.probe, task, plan, mode, config))
            if mode in DRAWN_ALIKE and isinstance(found, Cell):
                held[key] = (plan.places, found)
            yield found
        full = plan.budget in config.full.budgets and plan.seed < config.full.seeds
        if not full or plan.start.encoder is None:
            continue
        for found in _full(task, plan, config, shelf, progress):
            if isinstance(found, Cell) and plan.start.kept:
                leader = leading(task, found, leader, shelf)
            yield found


def plans(task: Task, starts: list[Start], config: FinetuneConfig) -> Iterator[Plan]:
    """Yield every draw of every start that can be drawn, in the order of training."""
    for seed in range(config.seeds):
        drawn = draws(task, all_budgets(task, config), seed=config.seed * 1000 + seed)
        for budget, places in drawn.items():
            if places is not None:
                yield from (Plan(start, budget, seed, places) for start in starts)


def drawn_patients(task: Task, plan: Plan, config: FinetuneConfig) -> list[str]:
    """Return the patients of a draw, whether or not they have the task's label."""
    seed = config.seed * 1000 + plan.seed
    return split_room.budgets(strata_of(task), (plan.budget,), seed)[plan.budget] or []


def _guarded(where: Where, work: Callable[[], Cell]) -> Cell | Failed:
    """Let a cell fail alone; a stop or a full disk ends them all."""
    try:
        return work()
    except (StoppedError, DiskError):
        raise
    except MedsslError as error:
        return Failed(where, " ".join(error.problems))
    except (torch.OutOfMemoryError, MemoryError):
        return Failed(where, "out of memory; lower full.batch.")


def _full(
    task: Task, plan: Plan, config: FinetuneConfig, shelf: Shelf, progress: Progress | None
) -> Iterator[Cell | Failed]:
    """Train everything on the labels of one draw; then, if asked, a student on what that one says."""
    start, places = plan.start, plan.places
    tell = progress if progress is not None else _nothing
    said = f"{start.name}, {plan.budget:.4g} %, draw {plan.seed + 1}"
    labelled = Labelled(task.rows[places], task.codes[places], len(task.classes), task.ordered)
    teacher: list[Tuned] = []

    def plain() -> Cell:
        tell(f"{said}: full fine-tuning")
        cell, tuned = _trained(task, plan, config, shelf, FULL, labelled)
        teacher.append(tuned)
        return cell

    def student() -> Cell:
        if not teacher:  # the plain cell is of an earlier call
            plain()
        tell(f"{said}: distilled to a student")
        taught = _taught(task, plan, teacher[0], labelled)
        return _trained(task, plan, config, shelf, DISTILLED, taught)[0]

    for mode, work in ((FULL, plain), (DISTILLED, student))[: 1 + config.full.distil]:
        where = plan.where(mode)
        earlier = shelf.get(where, len(task.rows), len(task.classes))
        yield earlier if earlier is not None else _guarded(where, work)


def _nothing(_: str) -> None:
    return None


def _trained(
    task: Task, plan: Plan, config: FinetuneConfig, shelf: Shelf, mode: str, labelled: Labelled
) -> tuple[Cell, Tuned]:
    """Train at every rate, put the best by validation patients on the shelf, and return it."""
    start, places = plan.start, plan.places
    probe = None
    if config.full.linear_first:
        known = (start.features[places], task.codes[places], task.patient[places])
        probe = modes.linear(modes.Given(task, plan, config, *known))
    patients = len(set(task.patient[places]))
    best: tuple[Cell, Tuned] | None = None
    for rate in config.full.rates:
        seed = config.seed * 1000 + plan.seed
        tuned = tune(start, labelled, config, seed, rate=rate, probe=probe)
        # The training pictures' scores are never reported; skipping them saves most of the time.
        scores = np.full((len(task.rows), len(task.classes)), np.nan)
        rows = task.rows[shelf.held]
        scores[shelf.held] = softmax(tuned.logits(start.store, rows, *start.normal))
        cell = Cell(plan.where(mode), patients, len(places), scores, facts={"lr": rate})
        if best is None or validation(task, cell) > validation(task, best[0]):
            best = cell, tuned
    assert best is not None  # noqa: S101
    shelf.put(best[0], best[1].module() if start.kept else None)
    return best


def _taught(task: Task, plan: Plan, teacher: Tuned, labelled: Labelled) -> Labelled:
    """Return the labels of a draw, and what a teacher says of all other training pictures."""
    start = plan.start
    rest = task.split == "train"
    rest[plan.places] = False
    rows = np.concatenate([task.rows[rest], task.free])
    said = softmax(teacher.logits(start.store, rows, *start.normal))
    soft = np.concatenate([np.eye(labelled.classes)[labelled.codes], said])
    return Labelled(
        np.concatenate([labelled.rows, rows]),
        soft.argmax(1),
        labelled.classes,
        labelled.ordered,
        soft,
    )


def leading(task: Task, cell: Cell, leader: Cell | None, shelf: Shelf) -> Cell:
    """Return the better of two full cells; the weights of the other go."""
    if leader is None:
        return cell
    worse, better = sorted((leader, cell), key=lambda c: rank(task, c))
    shelf.drop_model(worse.where)
    return better


def validation(task: Task, cell: Cell) -> float:
    """Return the score on validation patients; what cannot be computed is worst."""
    val = task.at("val")
    found = score(task.codes[val], cell.scores[val], ordered=task.ordered)
    return 0.0 if found is None else found


def rank(task: Task, cell: Cell) -> tuple[float, float, str, int]:
    """Return what decides which cell is kept: the largest budget, then validation patients."""
    where = cell.where
    return where.budget, validation(task, cell), where.mode, -where.seed


def best(task: Task, grid: list[Cell], starts: list[Start]) -> Cell:
    """Return the cell to keep: of a start that may be kept, by ``rank``.

    Random weights and raw pixels are yardsticks and are never kept.

    Raises:
        NothingUsableError: no cell of a start that may be kept was trained.
    """
    kept = {s.name for s in starts if s.kept}
    offered = [c for c in grid if c.where.init in kept and c.where.mode in KEEPABLE]
    if not offered:
        raise NothingUsableError("no classifier could be trained; see the curve.", "E-NOCELL")
    return max(offered, key=lambda c: rank(task, c))
