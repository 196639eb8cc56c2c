"""Several two-class labels of the same pictures: one run each, the full fine-tunings learnt together.

Every label is asked on its own labelled pictures; where a picture lacks one of the labels, the joint loss
leaves that label out. All labels share the draws of patients, so that frozen and joint are comparable.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from medssl import runs
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split as split_room
from medssl.config import FinetuneConfig
from medssl.errors import RefusedError, UsageError
from medssl.files import locked, sha256_file, write_json
from medssl.finetune import grid
from medssl.finetune.cells import Cell, Shelf, Where
from medssl.finetune.finetune import finetune
from medssl.finetune.modes import Plan
from medssl.finetune.probe import softmax
from medssl.finetune.starts import Source, Start, check_held, make_starts, read_sources
from medssl.finetune.task import Task, make_task
from medssl.finetune.tune import Labelled, Tuned, tune
from medssl.models.heads import LinearHead

JOINT = "joint"
MADE_OF = "made_of.json"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Question:
    """All labels of one cohort.

    Attributes:
        tasks: by label, with common strata.
        rows: store rows with any of the labels ``[n]``.
        answers: 0, 1, or -1 where a picture lacks a label ``[n, L]``.
    """

    tasks: dict[str, Task]
    rows: npt.NDArray[np.int64]
    answers: npt.NDArray[np.int64]


def finetune_several(
    config: FinetuneConfig,
    encoders: dict[str, Path],
    data: Path,
    out: Path,
    *,
    allow_seen: bool = False,
    resume: bool = False,
    progress: Tell | None = None,
) -> tuple[runs.Run, ...]:
    """Fine-tune for every label of ``targets``; the runs are ``out/<label>``.

    Raises:
        UsageError: a label is not of two classes.
        RefusedError: the folder is in use, not empty, or of other settings, data or encoders.
        MedsslError: see ``finetune``.
    """
    sources = read_sources(encoders, data, manifest_room.read(data))
    single = [config.model_copy(update={"target": t, "targets": ()}) for t in config.targets]
    asked = ask(single, data, sources[0].store)
    for task in asked.tasks.values():
        check_held(sources, task, allow=allow_seen)
    made_of = {
        "settings": config.digest(),
        "split": split_room.split_digest(data),
        "manifest": sha256_file(data / "manifest.parquet"),
        "encoders": {s.name: s.digest for s in sources},
    }
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _check_same(out, made_of, resume=resume)
        return _train(config, single, asked, sources, (encoders, data, out), allow_seen, progress)


def _check_same(out: Path, made_of: dict[str, Any], *, resume: bool) -> None:
    """Refuse a folder whose trainings were made otherwise; note what these are made of.

    Raises:
        RefusedError: the folder is not empty, or was made with something else.
    """
    there = [p.name for p in out.iterdir() if p.name != ".lock"]
    if there and not resume:
        words = f"{out}: not empty ({len(there)} entries); use another --out, or --resume this one."
        raise RefusedError(words, "E-NOTEMPTY")
    if there:
        file = out / MADE_OF
        before = json.loads(file.read_text()) if file.is_file() else {}
        changed = [k for k in made_of if before.get(k) != made_of[k]]
        if changed:
            words = f"{out}: was made with other {', '.join(changed)}; use another --out."
            raise RefusedError(words, "E-RESUME")
    write_json(out / MADE_OF, made_of)


def _train(
    config: FinetuneConfig,
    single: list[FinetuneConfig],
    asked: Question,
    sources: list[Source],
    places: tuple[dict[str, Path], Path, Path],
    allow_seen: bool,
    progress: Tell | None,
) -> tuple[runs.Run, ...]:
    """Train together, then finish every label's run; what is done stays."""
    encoders, data, out = places
    joint = out / JOINT
    if config.full.budgets:
        tell = progress if progress is not None else _nothing
        starts = make_starts(sources, next(iter(asked.tasks.values())), config)
        _train_together(config, asked, starts, joint, tell)
    made = []
    for own in single:
        folder = out / own.target
        if (folder / "run.json").is_file() and runs.read(folder).record.get("status") == "done":
            made.append(runs.read(folder))
            continue
        made.append(
            finetune(
                own,
                encoders,
                data,
                folder,
                allow_seen=allow_seen,
                resume=True,
                progress=progress,
                strata=asked.tasks[own.target].strata,
                shelf=joint / own.target,
            )
        )
    shutil.rmtree(joint, ignore_errors=True)
    return tuple(made)


def _nothing(_: str) -> None:
    return None


def ask(configs: list[FinetuneConfig], data: Path, store: Any) -> Question:
    """Return every label's task, with patients stratified by their rarest finding.

    Raises:
        UsageError: a label has more than two classes; all at once.
        MedsslError: see ``make_task``.
    """
    tasks = {c.target: make_task(c, data, store) for c in configs}
    wrong = [f"{t}: {len(k.classes)} classes; targets are labels of two." for t, k in tasks.items()
             if len(k.classes) != 2]  # fmt: skip
    if wrong:
        raise UsageError(wrong, "E-TARGETS")
    rows = np.unique(np.concatenate([t.rows for t in tasks.values()]))
    answers = np.full((len(rows), len(tasks)), -1, np.int64)
    for k, task in enumerate(tasks.values()):
        answers[np.searchsorted(rows, task.rows), k] = task.codes
    strata = _strata(tasks)
    return Question({t: replace(k, strata=strata) for t, k in tasks.items()}, rows, answers)


def _strata(tasks: dict[str, Task]) -> dict[str, str]:
    """Return for every training patient the rarest label they are positive for, or none."""
    positive = {
        name: {p for p, c, s in zip(t.patient, t.codes, t.split, strict=True) if c and s == "train"}
        for name, t in tasks.items()
    }
    out = {
        p: "none"
        for t in tasks.values()
        for p, s in zip(t.patient, t.split, strict=True)
        if s == "train"
    }
    for name in sorted(positive, key=lambda n: -len(positive[n])):
        out |= dict.fromkeys(positive[name], name)
    return out


def _train_together(
    config: FinetuneConfig, asked: Question, starts: list[Start], joint: Path, tell: Tell
) -> None:
    """Train every full cell once for all labels and put each label's part on its own shelf."""
    shelves = {
        name: Shelf(joint / name, np.flatnonzero(task.split != "train"))
        for name, task in asked.tasks.items()
    }
    first = next(iter(asked.tasks.values()))
    leaders: dict[str, Cell] = {}
    for plan in grid.plans(first, starts, config):
        if plan.budget not in config.full.budgets or plan.seed >= config.full.seeds:
            continue
        if plan.start.encoder is None or all(
            s.get(plan.where(grid.FULL), len(asked.tasks[n].rows), 2) is not None
            for n, s in shelves.items()
        ):
            continue
        tell(f"{plan.start.name}, {plan.budget:.4g} %, draw {plan.seed + 1}: all labels together")
        _one_together(config, asked, plan, shelves, leaders)


def _one_together(
    config: FinetuneConfig,
    asked: Question,
    plan: Plan,
    shelves: dict[str, Shelf],
    leaders: dict[str, Cell],
) -> None:
    """Train one cell at every rate; each label keeps the rate that suits it on validation patients."""
    start = plan.start
    people = set(grid.drawn_patients(next(iter(asked.tasks.values())), plan, config))
    owner = start.store.column("patient_id")[asked.rows].astype(str)
    inside = np.isin(owner, list(people))
    labelled = Labelled(
        asked.rows[inside], asked.answers[inside].max(1), 2, answers=asked.answers[inside]
    )
    best: dict[str, tuple[Cell, Tuned]] = {}
    for rate in config.full.rates:
        seed = config.seed * 1000 + plan.seed
        tuned = tune(start, labelled, config, seed, rate=rate)
        for k, (name, task) in enumerate(asked.tasks.items()):
            own = Tuned(tuned.encoder, two_classes(tuned.head, k))
            held = shelves[name].held
            scores = np.full((len(task.rows), 2), np.nan)
            scores[held] = softmax(own.logits(start.store, task.rows[held], *start.normal))
            seen = np.isin(task.patient, list(people)) & (task.split == "train")
            where = Where(start.name, grid.FULL, plan.budget, plan.seed)
            many = len(set(task.patient[seen]))
            cell = Cell(where, many, int(seen.sum()), scores, facts={"lr": rate})
            if name not in best or grid.validation(task, cell) > grid.validation(
                task, best[name][0]
            ):
                best[name] = cell, own
    for name, (cell, own) in best.items():
        shelves[name].put(cell, own.module() if start.kept else None)
        if start.kept:
            task = asked.tasks[name]
            leaders[name] = grid.leading(task, cell, leaders.get(name), shelves[name])


def two_classes(head: LinearHead, k: int) -> LinearHead:
    """Return output k of a head, a log odds, as two logits."""
    out = LinearHead(head.linear.in_features, 2)
    with torch.no_grad():
        signs = torch.tensor([[-0.5], [0.5]])
        out.linear.weight.copy_(signs * head.linear.weight[k].cpu())
        out.linear.bias.copy_(signs[:, 0] * head.linear.bias[k].cpu())
    return out


def as_text(out: Path, targets: tuple[str, ...]) -> str:
    """Return the score of every label at the largest budget, and their mean, as an aligned table."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for name in targets:
        for row in pq.read_table(out / name / "curve.parquet").to_pylist():
            if row.get("value") is not None and row["level"] == "image" and row["budget"] == 100:
                rows.setdefault((row["init"], row["mode"]), {})[name] = row["value"]
    lines = [
        f"      {'start':<13}{'mode':<16}{'mean':>7}" + "".join(f"{t[:12]:>14}" for t in targets)
    ]
    for (init, mode), found in rows.items():
        mean = f"{np.mean(list(found.values())):.3f}" if len(found) == len(targets) else ""
        cells = "".join(f"{found[t]:>14.3f}" if t in found else f"{'':>14}" for t in targets)
        lines.append(f"      {init:<13}{mode:<16}{mean:>7}{cells}")
    return "\n".join(lines)
