"""Label efficiency from the grid's cells: points, differences between starts, labels to match."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from medssl.config import FinetuneConfig
from medssl.finetune.cells import Cell, Failed
from medssl.finetune.levels import Asked, Level, asked, pooled
from medssl.finetune.probe import FloatArray
from medssl.finetune.starts import PIXELS, SCRATCH
from medssl.finetune.task import Task, all_budgets
from medssl.stats import counted
from medssl.stats.bootstrap import Interval, Patients, Statistic, draws, interval_of, two_sided_p
from medssl.stats.matching import Match, Resampled, labels_to_match
from medssl.stats.probes import score_statistic

Key = tuple[str, str, float, Level]


@dataclass(frozen=True)
class Scored:
    """The grid on the test patients, every resample drawn once.

    Attributes:
        groups: the test patients.
        cells: cells of every start, mode and budget, at every level.
        left_out: per level, patients whose pictures carry different answers.
        mean: the mean of one statistic per cell.
        resampled: every cell in every resample.
    """

    groups: Patients
    cells: dict[Key, list[Cell]]
    left_out: dict[Level, int]
    mean: dict[Key, Statistic]
    resampled: dict[Key, Resampled]

    def drawn(self, key: Key) -> FloatArray:
        """Return the mean over draws in every resample, float64 ``[B]``."""
        return np.asarray(self.resampled[key].drawn.mean(axis=0), dtype=np.float64)

    def interval(self, key: Key) -> Interval:
        """Return the interval of one point."""
        return interval_of(self.mean[key], self.groups, self.drawn(key))

    def apart(self, a: Key, b: Key) -> tuple[Interval, float | None]:
        """Return the interval of the difference a - b and its two-sided p."""
        gap = self.drawn(a) - self.drawn(b)
        mean = counted.weighted_sum([(1, self.mean[a]), (-1, self.mean[b])])
        interval = interval_of(mean, self.groups, gap)
        return interval, None if interval.lower is None else two_sided_p(gap)


def scored(task: Task, grid: Iterable[Cell], config: FinetuneConfig) -> Scored:
    """Score every cell on the test patients, and in every resample of them.

    Intervals resample patients and keep the draws of labels.
    """
    test = task.at("test")
    levels: tuple[Level, ...] = ("image", *config.levels)
    items = {level: asked(task, test, level) for level in levels}
    groups = items["image"].groups
    found: dict[Key, list[Cell]] = {}
    for cell in grid:
        where = cell.where
        for level in levels:
            found.setdefault((where.init, where.mode, where.budget, level), []).append(cell)
    found = dict(sorted(found.items(), key=lambda one: (levels.index(one[0][3]), one[0])))
    parts = {
        key: [_statistic(task, items[key[3]], c.scores[test], key[3]) for c in group]
        for key, group in found.items()
    }
    mean = {k: counted.weighted_sum([(1 / len(p), s) for s in p]) for k, p in parts.items()}
    named = {f"{i} {k}": s for i, some in enumerate(parts.values()) for k, s in enumerate(some)}
    drawn = draws(named, groups, resamples=config.resamples, seed=config.seed)
    whole = np.ones((1, groups.count), np.int64)
    resampled = {
        key: Resampled(
            np.array([float(s(whole)[0]) for s in some]),
            np.stack([drawn[f"{i} {k}"] for k in range(len(some))]),
        )
        for i, (key, some) in enumerate(parts.items())
    }
    left_out = {level: one.left_out for level, one in items.items()}
    return Scored(groups, found, left_out, mean, resampled)


def _statistic(task: Task, items: Asked, scores: FloatArray, level: Level) -> Statistic:
    own = pooled(items, scores, level)
    return score_statistic(items.codes, own, items.groups, ordered=task.ordered)


def points(
    task: Task, found: Scored, failed: list[Failed], config: FinetuneConfig
) -> list[dict[str, Any]]:
    """Return one row per initialisation, mode and budget: the mean over draws on test patients.

    ``difference`` is against random weights on the same draws and the same resampled patients.
    Budgets that could not be drawn, and points whose every cell failed, are rows without numbers.
    """
    rows = [_point(task, key, found) for key in found.cells]
    lost: dict[tuple[str, str, float], list[Failed]] = {}
    for one in failed:
        lost.setdefault((one.where.init, one.where.mode, one.where.budget), []).append(one)
    for key, some in sorted(lost.items()):
        words = f"{len(some)} of the draws failed: {some[0].sentence}"
        row = next((r for r in rows if (r["init"], r["mode"], r["budget"]) == key), None)
        if row is None:
            names = ("init", "mode", "budget", "level")
            rows.append(dict(zip(names, (*key, "image"), strict=True)) | {"note": words})
        else:
            row["note"] = " ".join(filter(None, (row["note"], words)))
    reached = {row["budget"] for row in rows}
    for budget in all_budgets(task, config):
        if budget not in reached:
            few = "more patients than there are" if budget > 100 else "fewer patients than classes"
            rows.append({"budget": budget, "note": f"not reachable: {few}"})
    return rows


def _point(task: Task, key: Key, found: Scored) -> dict[str, Any]:
    init, mode, budget, level = key
    group, interval = found.cells[key], found.interval(key)
    row: dict[str, Any] = {
        "init": init,
        "mode": mode,
        "budget": budget,
        "level": level,
        "draws": len(group),
        "patients": int(np.mean([c.patients for c in group])),
        "images": int(np.mean([c.images for c in group])),
        "metric": task.metric,
        "value": interval.value,
        "lower": interval.lower,
        "upper": interval.upper,
        "note": interval.note,
    }
    if found.left_out[level]:
        words = f"{found.left_out[level]} patients whose pictures disagree left out."
        row["note"] = " ".join(filter(None, (interval.note, words)))
    base: Key = (SCRATCH, mode, budget, level)
    if base in found.cells and init not in {SCRATCH, PIXELS}:
        row |= _gap("difference", *found.apart(key, base))
    return row


def _gap(name: str, interval: Interval, p: float | None) -> dict[str, Any]:
    ends = {f"{name}_lower": interval.lower, f"{name}_upper": interval.upper, f"{name}_p": p}
    return {name: interval.value, **ends}


def differences(found: Scored) -> list[dict[str, Any]]:
    """Return the paired difference of every two starts at every mode and budget."""
    keys = list(found.cells)
    rows = []
    for a in keys:
        for b in keys:
            if a[0] < b[0] and a[1:] == b[1:]:
                row = {"init": a[0], "against": b[0], "mode": a[1], "budget": a[2], "level": a[3]}
                rows.append(row | _gap("difference", *found.apart(a, b)))
    return rows


def matches(found: Scored, config: FinetuneConfig) -> list[tuple[dict[str, str], Match]]:
    """Return how few labels each start needs for another's score with all of its labels.

    Asked of every start and mode against every other start in the same mode, and against random
    weights in whatever mode they were trained, full fine-tuning above all.
    """
    lines: dict[tuple[str, str], list[float]] = {}
    for init, mode, budget, level in found.cells:
        if level != "image":
            continue
        lines.setdefault((init, mode), []).append(budget)
    out = []
    for own, budgets in lines.items():
        for other, others in lines.items():
            asked = own[0] != other[0] and (own[1] == other[1] or other == (SCRATCH, "full"))
            if not asked or own[0] in {SCRATCH, PIXELS} or len(budgets) < 2:
                continue
            scores = [found.resampled[*own, b, "image"] for b in sorted(budgets)]
            target = found.resampled[*other, max(others), "image"]
            if any(np.isnan(r.drawn).all() for r in (*scores, target)):
                continue  # too few test patients of one kind; the curve's notes say so
            match = labels_to_match(sorted(budgets), scores, target, seed=config.seed)
            names = {"init": own[0], "mode": own[1], "against": other[0], "against_mode": other[1]}
            out.append((names | {"against_budget": f"{max(others):g}"}, match))
    return out


def match_rows(found: list[tuple[dict[str, str], Match]]) -> list[dict[str, Any]]:
    """Return matches as rows of a table, each with its sentence."""
    return [names | asdict(match) | {"sentence": told(names, match)} for names, match in found]


def told(names: dict[str, str], match: Match) -> str:
    """Return a match as a sentence."""
    own = f"{names['init']}, {names['mode']},"
    share = "all labels" if names["against_budget"] == "100" else f"{names['against_budget']} %"
    other = f"{names['against']}, {names['against_mode']}, with {share}"
    return match.sentence(own, other)


def as_text(run: Path) -> str:
    """Return a run's curve as an aligned table for a terminal, and its matches as sentences."""
    rows = pq.read_table(run / "curve.parquet").to_pylist()
    wide = max([9, *(len(r["init"]) for r in rows if r.get("init"))]) + 2
    lines = [
        f"      {'start':<{wide}}{'mode':<8}{'labels':>8}{'patients':>10}   score (95 % interval)"
    ]
    for row in rows:
        if row.get("value") is None:
            start = f"      {row.get('init') or '':<{wide}}{row.get('mode') or '':<8}"
            lines.append(f"{start}{row['budget']:>7.4g}%   {row.get('note')}")
            continue
        text = f"{row['value']:.3f}"
        if row["lower"] is not None:
            text += f" ({row['lower']:.3f} to {row['upper']:.3f})"
        if row.get("level", "image") != "image":
            text += f"   by {row['level']}"
        if row.get("difference_lower") is not None:
            low, high = row["difference_lower"], row["difference_upper"]
            text += f"   against scratch {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
        head = f"      {row['init']:<{wide}}{row['mode']:<8}{row['budget']:>7.4g}%{row['patients']:>10}   "
        lines.append(head + text)
    if (run / "matches.parquet").is_file():
        said = pq.read_table(run / "matches.parquet").to_pylist()
        lines += ["", *(f"      {row['sentence']}" for row in said)]
    return "\n".join(lines)
