"""The verb finetune: encoders and few labels become a classifier, predictions and a curve."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medssl import runs
from medssl.cohort import manifest as manifest_room
from medssl.cohort import split as split_room
from medssl.config import FinetuneConfig
from medssl.errors import NothingUsableError, UsageError
from medssl.evaluate import attributes
from medssl.finetune import curve as curve_room
from medssl.finetune import written
from medssl.finetune.cells import FOLDER, Cell, Failed, Shelf
from medssl.finetune.figure import write_figure
from medssl.finetune.grid import KEEPABLE, Progress, best, cells
from medssl.finetune.starts import Source, check_held, make_starts, read_sources
from medssl.finetune.task import Task, all_budgets, draws, make_task
from medssl.models import weights
from medssl.models.precision import check_precision
from medssl.store import open_store


def finetune(
    config: FinetuneConfig,
    encoders: dict[str, Path],
    data: Path,
    out: Path,
    *,
    allow_seen: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    strata: dict[str, str] | None = None,
    shelf: Path | None = None,
) -> runs.Run:
    """Fit classifiers on nested label budgets from every start, and keep one.

    Args:
        config: settings.
        encoders: finished pretraining runs by the names that the curve gives them.
        data: a decoded, split, labelled cohort.
        out: the run directory.
        allow_seen: test on patients that an encoder has seen.
        resume: continue a run that did not finish; full trainings that are done are not repeated.
        progress: told what is trained.
        strata: what draws are stratified by, per training patient; the classes if absent.
        shelf: folder of full trainings that were made elsewhere.

    Raises:
        MedsslError: see ``read_sources``, ``make_task``, ``check_held`` and ``open_run``.
    """
    manifest = manifest_room.read(data)
    sources = read_sources(encoders, data, manifest)
    task = replace(make_task(config, data, sources[0].store), strata=strata)
    _check_config(config, sources, task, data)
    known = check_held(sources, task, allow=allow_seen)
    for one in sources:
        one.store.verify(task.rows)
    parents = [runs.parent(data, "manifest.parquet")]
    parents += [runs.parent(s.run, "encoder.json") for s in sources]
    facts = {"seed": config.seed, "parents": parents, "manifest": manifest.summary()}
    facts |= {"split": split_room.split_digest(data), "seen_patients_tested": known}
    held = np.flatnonzero(task.split != "train")
    with runs.open_run(out, "finetune", config, facts, resume=resume) as (_, summary):
        begun = time.monotonic()
        starts = make_starts(sources, task, config)
        place = Shelf(shelf if shelf is not None else out / FOLDER, held)
        found = list(cells(task, starts, config, place, progress))
        grid = [c for c in found if isinstance(c, Cell)]
        failed = [c for c in found if isinstance(c, Failed)]
        scored = curve_room.scored(task, grid, config)
        rows = curve_room.points(task, scored, failed, config)
        written.write_table(out / "curve.parquet", rows)
        write_figure(out / "curve.svg", rows, str(rows[0]["metric"]))
        _write_comparisons(out, scored, config)
        kept = written.keep(best(task, grid, starts), starts, task, place)
        sha = written.write_classifier(out, kept, task, config, manifest.sites)
        runs.write_predictions(
            out / "predictions.parquet", written.predictions(task, grid, kept, held)
        )
        written.write_embeddings(out, kept, data)
        attributes.write(out, attributes.table_of(kept.start.store, manifest))
        written.write_masked(out, kept, task)
        shutil.rmtree(out / FOLDER, ignore_errors=True)
        summary |= _summary(task, kept.cell, rows, failed, begun) | {"classifier_sha256": sha}
    return runs.read(out)


def _check_config(config: FinetuneConfig, sources: list[Source], task: Task, data: Path) -> None:
    """Refuse what could keep no classifier, before anything is trained.

    Raises:
        UsageError: no mode that can be kept at the largest budget.
        NothingUsableError: no budget can be drawn.
    """
    if (
        not set(KEEPABLE) & set(config.modes)
        and max((*config.budgets, 0)) not in config.full.budgets
    ):
        words = (
            f"modes {', '.join(config.modes)} leave no classifier to keep, and full.budgets lacks the "
            "largest budget; add linear or ridge."
        )
        raise UsageError(words, "E-CONFIG")
    if config.full.budgets:
        for one in sources:
            check_precision(one.encoder, config.full.precision, one.card.decode.size)
    budgets = all_budgets(task, config)
    if all(v is None for v in draws(task, budgets, config.seed * 1000).values()):
        words = f"{data}: no budget of {budgets} % holds a patient of every class; raise budgets."
        raise NothingUsableError(words, "E-BUDGETS")


def _write_comparisons(out: Path, scored: curve_room.Scored, config: FinetuneConfig) -> None:
    """Write differences between starts and labels to match, where there are two starts."""
    gaps, found = curve_room.differences(scored), curve_room.matches(scored, config)
    if gaps:
        written.write_table(out / "differences.parquet", gaps)
    if found:
        written.write_table(out / "matches.parquet", curve_room.match_rows(found))


def _summary(
    task: Task, chosen: Cell, rows: list[dict[str, Any]], failed: list[Failed], begun: float
) -> dict[str, Any]:
    where = chosen.where
    key = (where.init, where.mode, where.budget)
    test = next(r for r in rows if (r.get("init"), r.get("mode"), r["budget"]) == key)
    told = {
        "target": task.target,
        "classes": list(task.classes),
        "kept": {
            "init": where.init,
            "mode": where.mode,
            "budget": where.budget,
            "seed": where.seed,
        },
        "test": {k: test[k] for k in ("metric", "value", "lower", "upper")},
        "images": {s: len(task.at(s)) for s in split_room.SPLITS},
        "uncertain": task.uncertain,
        "seconds": round(time.monotonic() - begun, 1),
    }
    return told | ({"failed_cells": len(failed)} if failed else {})


def plan(config: FinetuneConfig, encoders: dict[str, Path], data: Path) -> dict[str, Any]:
    """Return what a finetune would train on and how many cells it has; writes nothing."""
    for run in encoders.values():
        runs.finished(run, "pretrain")
    card, _ = weights.read_card(next(iter(encoders.values())))
    store = open_store(data, card.decode)
    task = make_task(config, data, store)
    learned = len(encoders) + (config.foreign is not None) + config.baseline
    starts, shown = learned + config.pixels, len(config.full.rates) * learned
    draws_of = min(config.full.seeds, config.seeds)
    return {
        "classes": ", ".join(task.classes),
        **{f"{s}_pictures": len(task.at(s)) for s in split_room.SPLITS},
        "uncertain_pictures_left_out": sum(task.uncertain.values()),
        "probe_cells": len(all_budgets(task, config)) * config.seeds * len(config.modes) * starts,
        "full_cells": len(config.full.budgets) * draws_of * learned,
        "full_pictures_shown": round(
            sum(len(task.at("train")) * b / 100 for b in config.full.budgets)
            * config.full.epochs
            * draws_of
            * shown
        ),
    }
