"""Label efficiency: every initialisation, mode, budget and draw on the identical labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from medssl.config import FinetuneConfig
from medssl.finetune.probe import FloatArray, IntArray, fit_linear, softmax
from medssl.finetune.task import Task, all_budgets, draws
from medssl.finetune.tune import Labelled, Tuned, tune
from medssl.models.encoder import Encoder
from medssl.stats import counted
from medssl.stats.bootstrap import Patients, Statistic, difference, intervals
from medssl.stats.metrics import auroc, macro_auroc
from medssl.stats.probes import knn_scores
from medssl.store import Store

PRETRAINED, BASELINE, PIXELS = "pretrained", "scratch", "pixels"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Start:
    """One initialisation: its encoder (None for raw pixels) and its features of the pictures."""

    name: str
    encoder: Encoder | None
    features: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cell:
    """One trained classifier of the grid.

    Attributes:
        init, mode, budget, seed: where it stands.
        patients, images: how many labels it saw.
        scores: float64 ``[n, K]`` for every picture of the task.
        model: what can be kept of it; None for kNN.
    """

    init: str
    mode: str
    budget: float
    seed: int
    patients: int
    images: int
    scores: FloatArray
    model: Any


def score(task: Task, places: IntArray, scores: FloatArray) -> float | None:
    """Return AUROC of the positive class, or the macro mean over classes."""
    if len(task.classes) == 2:
        return auroc(task.codes[places] == 1, scores[places, 1])
    return macro_auroc(task.codes[places], scores[places])


def cells(
    task: Task,
    starts: list[Start],
    store: Store,
    normal: tuple[float, float],
    config: FinetuneConfig,
    progress: Progress | None = None,
) -> Iterator[Cell]:
    """Train the whole grid, one cell after the other."""
    for seed in range(config.seeds):
        drawn = draws(task, all_budgets(task, config), seed=config.seed * 1000 + seed)
        for budget, places in drawn.items():
            if places is None:
                continue
            for start in starts:
                if progress is not None:
                    progress(f"{start.name}, {budget:.4g} %, draw {seed + 1} of {config.seeds}")
                yield from _probes(task, start, places, config, (budget, seed))
                full = budget in config.full.budgets and seed < config.full.seeds
                if full and start.encoder is not None:
                    yield _full(task, start, places, store, normal, config, (budget, seed))


def _probes(
    task: Task, start: Start, places: IntArray, config: FinetuneConfig, where: tuple[float, int]
) -> Iterator[Cell]:
    features, codes = start.features[places], task.codes[places]
    patients = len(set(task.patient[places]))
    for mode in config.modes:
        model = None
        if mode == "linear":
            model = fit_linear(features, codes, len(task.classes), config.penalty)
            scores = softmax(model.logits(start.features))
        else:
            scores = knn_scores(
                features, codes, len(task.classes), start.features, config.neighbours
            )
        yield Cell(start.name, mode, *where, patients, len(places), scores, model)


def _full(
    task: Task,
    start: Start,
    places: IntArray,
    store: Store,
    normal: tuple[float, float],
    config: FinetuneConfig,
    where: tuple[float, int],
) -> Cell:
    labelled = Labelled(task.rows[places], task.codes[places], len(task.classes))
    seed = config.seed * 1000 + where[1]
    assert start.encoder is not None  # noqa: S101
    model: Tuned = tune(
        start.encoder, start.name == PRETRAINED, store, labelled, normal, config, seed
    )
    # The training pictures' scores are never reported; skipping them saves most of the time.
    held = np.flatnonzero(task.split != "train")
    scores = np.full((len(task.rows), len(task.classes)), np.nan)
    scores[held] = softmax(model.logits(store, task.rows[held], *normal))
    patients = len(set(task.patient[places]))
    return Cell(start.name, "full", *where, patients, len(places), scores, model)


def points(task: Task, grid: list[Cell], config: FinetuneConfig) -> list[dict[str, Any]]:
    """Return one row per initialisation, mode and budget: the mean over draws on test patients.

    Intervals resample patients and keep the draws; ``difference`` is against the baseline on the
    same draws and the same resampled patients. Budgets that could not be drawn are rows without
    numbers.
    """
    test = task.at("test")
    groups: dict[tuple[str, str, float], list[Cell]] = {}
    for cell in grid:
        groups.setdefault((cell.init, cell.mode, cell.budget), []).append(cell)
    rows = [_point(task, test, key, groups, config) for key in sorted(groups)]
    reached = {key[2] for key in groups}
    for budget in all_budgets(task, config):
        if budget not in reached:
            few = "more patients than there are" if budget > 100 else "fewer patients than classes"
            rows.append({"budget": budget, "note": f"not reachable: {few}"})
    return rows


def _mean_score(task: Task, test: IntArray, group: list[Cell], groups: Patients) -> Statistic:
    parts = []
    for cell in group:
        codes, scores = task.codes[test], cell.scores[test]
        one = (
            counted.auroc(codes == 1, scores[:, 1], groups)
            if len(task.classes) == 2
            else counted.macro_auroc(codes, scores, groups)
        )
        parts.append((1 / len(group), one))
    return counted.weighted_sum(parts)


def _point(
    task: Task,
    test: IntArray,
    key: tuple[str, str, float],
    groups: dict[tuple[str, str, float], list[Cell]],
    config: FinetuneConfig,
) -> dict[str, Any]:
    init, mode, budget = key
    group = groups[key]
    people = Patients.of(task.patient[test])
    own = _mean_score(task, test, group, people)
    interval = intervals({"": own}, people, resamples=config.resamples, seed=config.seed)[""]
    row: dict[str, Any] = {
        "init": init,
        "mode": mode,
        "budget": budget,
        "draws": len(group),
        "patients": int(np.mean([c.patients for c in group])),
        "images": int(np.mean([c.images for c in group])),
        "metric": "auroc" if len(task.classes) == 2 else "macro_auroc",
        "value": interval.value,
        "lower": interval.lower,
        "upper": interval.upper,
        "note": interval.note,
    }
    base = groups.get((BASELINE, mode, budget))
    if base is not None and init == PRETRAINED:
        other = _mean_score(task, test, base, people)
        gap = difference(own, other, people, resamples=config.resamples, seed=config.seed)
        row |= {"difference": gap.interval.value, "difference_lower": gap.interval.lower}
        row |= {"difference_upper": gap.interval.upper, "difference_p": gap.p}
    return row


def best(task: Task, grid: list[Cell]) -> Cell:
    """Return the cell to keep: the largest budget, the score on validation patients deciding.

    Only the pretrained initialisation is offered; the baselines are yardsticks.
    """
    val = task.at("val")
    offered = [c for c in grid if c.model is not None and c.init == PRETRAINED]
    largest = max(c.budget for c in offered)
    final = [c for c in offered if c.budget == largest]
    return max(final, key=lambda c: (score(task, val, c.scores) or 0.0, c.mode, -c.seed))


def as_text(path: Path) -> str:
    """Return a curve file as an aligned table for a terminal."""
    rows = pq.read_table(path).to_pylist()
    lines = [f"      {'start':<11}{'mode':<8}{'labels':>8}{'patients':>10}   score (95 % interval)"]
    for row in rows:
        if row.get("value") is None:
            lines.append(f"      {'':<19}{row['budget']:>7.4g}%   {row.get('note')}")
            continue
        text = f"{row['value']:.3f}"
        if row["lower"] is not None:
            text += f" ({row['lower']:.3f} to {row['upper']:.3f})"
        if row.get("difference_lower") is not None:
            low, high = row["difference_lower"], row["difference_upper"]
            text += f"   against scratch {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
        head = (
            f"      {row['init']:<11}{row['mode']:<8}{row['budget']:>7.4g}%{row['patients']:>10}   "
        )
        lines.append(head + text)
    return "\n".join(lines)
