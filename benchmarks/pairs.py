"""SimCLR against MICLe on one cohort: several pretraining seeds, probe and fine-tune, the same patients.

Command: python benchmarks/pairs.py cxr --data cohorts/a --runs runs/pairs-cxr [--seeds 3] [--out FILE.md]
         python benchmarks/pairs.py mr --data cohorts/du --runs runs/pairs-mr [--seeds 3] [--out FILE.md]
Needs a decoded, split and labelled cohort. Every recipe starts from random weights and sees about as many views.
Runs that are finished are kept, one that stopped goes on: call it again. The test patients are scored once, by
whatever was trained; nothing is chosen on them. Intervals resample test patients and keep seeds and draws.
"""

import argparse
import itertools
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from sheet import Sheet

from medssl import preview, runs
from medssl.cli import main as medssl
from medssl.cohort import labels as label_room
from medssl.config import PretrainConfig
from medssl.loading import load
from medssl.stats import counted
from medssl.stats.bootstrap import Patients, Statistic, draws
from medssl.stats.probes import macro_statistic
from medssl.store import open_store

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PRETRAIN = CONFIGS / "pretrain"
RESAMPLES = 2000
FULL = ("full.budgets=[10, 100]", "full.seeds=1")


@dataclass(frozen=True)
class Recipe:
    """A way to pretrain: a config of ``configs/pretrain`` and what is changed in it."""

    name: str
    config: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A cohort's recipes, the question, and the shares of labels asked with."""

    recipes: tuple[Recipe, ...]
    target: str
    budgets: str
    finetune: tuple[str, ...]


# MICLe alone, from random weights, at SimCLR's rate and for SimCLR's number of views.
STUDIES = {
    "cxr": Study(
        (
            Recipe("SimCLR", "simclr-cxr.yaml"),
            Recipe(
                "MICLe, patient",
                "micle-cxr.yaml",
                ("init=null", "optim.lr=0.002", "duration={steps: 280}"),
            ),
        ),
        "finding",
        "[1, 10, 100]",
        FULL,
    ),
    "mr": Study(
        (
            Recipe("SimCLR", "simclr-mr.yaml", ("duration={steps: 125}",)),
            Recipe(
                "MICLe, patient",
                "micle-mr.yaml",
                ("init=null", "optim.lr=0.002", "duration={steps: 571}"),
            ),
            Recipe(
                "MICLe, adjacent slices",
                "micle-mr.yaml",
                (
                    "init=null",
                    "optim.lr=0.002",
                    "duration={steps: 571}",
                    "method.within_slices=1",
                ),
            ),
        ),
        "tumour",
        "[10, 50, 100]",
        ("full.budgets=[50, 100]", "full.seeds=1"),
    ),
}


def call(words: list[str], out: Path, *, resumes: bool) -> None:
    """Run a verb unless its run is done."""
    if (out / "run.json").is_file() and runs.read(out).record.get("status") == "done":
        return
    more = ["--resume", "--quiet"] if resumes else []
    code = medssl([*words, "--out", str(out), *more])
    if code:
        raise SystemExit(code)


def train(study: Study, args: argparse.Namespace) -> dict[str, list[Path]]:
    """Pretrain and fine-tune every recipe with every seed; return the finetune runs by recipe."""
    found: dict[str, list[Path]] = defaultdict(list)
    for seed in range(args.seeds):
        for number, recipe in enumerate(study.recipes):
            encoder = args.runs / f"{number}-{seed}"
            words = ["pretrain", str(PRETRAIN / recipe.config), *recipe.changes, f"seed={seed}"]
            words += ["watch.every=0", "--data", str(args.data)]
            call(words, encoder, resumes=True)
            words = ["finetune", str(CONFIGS / "finetune" / "full.yaml"), f"target={study.target}"]
            words += [f"budgets={study.budgets}", "modes=[linear]", "pixels=false", *study.finetune]
            words += [f"baseline={'true' if number == 0 else 'false'}"]
            words += ["--encoder", str(encoder), "--data", str(args.data)]
            call(words, args.runs / f"{number}-{seed}-finetune", resumes=False)
            found[recipe.name].append(args.runs / f"{number}-{seed}-finetune")
    return found


@dataclass(frozen=True)
class Scores:
    """Test pictures of one cell: codes ``[n]``, patients ``[n]`` and scores ``[n, K]``."""

    codes: npt.NDArray[np.int64]
    patient: npt.NDArray[Any]
    scores: npt.NDArray[np.float64]


def cells(run: Path) -> dict[tuple[str, str, float], list[Scores]]:
    """Return the test scores of every start, mode and budget; one entry per draw of labels."""
    table = pq.read_table(run / "predictions.parquet", filters=[("split", "==", "test")])
    names = [c for c in table.column_names if c.startswith("score_")]
    classes = [n.removeprefix("score_") for n in names]
    table = table.sort_by(
        [(k, "ascending") for k in ("init", "mode", "budget", "seed", "image_id", "slice")]
    )
    keys = list(
        zip(*(table.column(k).to_pylist() for k in ("init", "mode", "budget", "seed")), strict=True)
    )
    scores = np.stack([np.asarray(table.column(n), np.float64) for n in names], axis=1)
    codes = np.array([classes.index(v) for v in table.column("label").to_pylist()])
    patient = np.array(table.column("patient_id").to_pylist(), object)
    out: dict[tuple[str, str, float], list[Scores]] = defaultdict(list)
    edges = [0, *(k for k in range(1, len(keys)) if keys[k] != keys[k - 1]), len(keys)]
    for low, high in itertools.pairwise(edges):
        at = slice(low, high)
        out[keys[low][:3]].append(Scores(codes[at], patient[at], scores[at]))
    return out


def mean_of(parts: list[Scores], groups: Patients, pick: int | None = None) -> Statistic:
    """Return the mean AUROC over seeds and draws: macro, or of one class against the rest."""
    own = [
        macro_statistic(p.codes, p.scores, groups)
        if pick is None
        else counted.auroc(p.codes == pick, p.scores[:, pick], groups)
        for p in parts
    ]
    return counted.weighted_sum([(1 / len(own), one) for one in own])


def told(value: float, drawn: npt.NDArray[np.float64], *, signed: bool = False) -> str:
    """Return a number with its percentile interval."""
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    form = "{:+.3f}" if signed else "{:.3f}"
    return f"{form.format(value)} ({form.format(low)} to {form.format(high)})"


def compare(found: dict[str, list[Path]], study: Study, sheet: Sheet) -> None:
    """Print every recipe's score, and its paired difference to the first recipe."""
    held = {name: [cells(run) for run in paths] for name, paths in found.items()}
    first = next(iter(held))
    keys = sorted(k for k in held[first][0] if k[0] == "pretrained")
    sheet.head(
        "recipe", "mode", "labels", "macro AUROC, seeds' mean", "per seed", f"against {first}"
    )
    for key in keys:
        base = [p for run in held[first] for p in run[key]]
        groups = Patients.of(base[0].patient)
        parts = {n: [p for run in all_runs for p in run[key]] for n, all_runs in held.items()}
        scratch = [p for run in held[first] for p in run.get(("scratch", *key[1:]), [])]
        parts |= {"random weights": scratch} if scratch else {}
        statistics = {n: mean_of(p, groups) for n, p in parts.items()}
        drawn = draws(statistics, groups, resamples=RESAMPLES, seed=0)
        whole = np.ones((1, groups.count), np.int64)
        value = {n: float(s(whole)[0]) for n, s in statistics.items()}
        for name in parts:
            each = [
                f"{float(mean_of(run[key], groups)(whole)[0]):.3f}" for run in held.get(name, [])
            ]
            gap = (
                told(value[name] - value[first], drawn[name] - drawn[first], signed=True)
                if name != first
                else ""
            )
            sheet.row(
                name, key[1], f"{key[2]:g} %", told(value[name], drawn[name]), ", ".join(each), gap
            )
    by_class(held, study, first, sheet)


def by_class(held: dict[str, list[Any]], study: Study, first: str, sheet: Sheet) -> None:
    """Print which class gains and which loses, with all labels on frozen features."""
    key = ("pretrained", "linear", 100.0)
    base = [p for run in held[first] for p in run[key]]
    if base[0].scores.shape[1] < 3:
        return
    groups = Patients.of(base[0].patient)
    sheet.say(f"\n{study.target} by class, linear probe, all labels, against {first}:\n")
    sheet.head("recipe", "class", "AUROC", "against")
    for name, all_runs in held.items():
        parts = [p for one in all_runs for p in one[key]]
        for k in range(base[0].scores.shape[1]):
            pair = {"own": mean_of(parts, groups, k), "first": mean_of(base, groups, k)}
            drawn = draws(pair, groups, resamples=RESAMPLES, seed=0)
            whole = np.ones((1, groups.count), np.int64)
            own, other = (float(s(whole)[0]) for s in pair.values())
            gap = (
                told(own - other, drawn["own"] - drawn["first"], signed=True)
                if name != first
                else ""
            )
            sheet.row(name, k, told(own, drawn["own"]), gap)


def mixes(study: Study, args: argparse.Namespace, sheet: Sheet) -> None:
    """Print what the drawn pairs have in common: how many hold two pictures, whose labels agree."""
    sheet.say("\nThe pairs of 20 epochs:\n")
    sheet.head(
        "recipe", "pairs with two pictures", "of these, labels agree", "by chance", "pairs by label"
    )
    for recipe in study.recipes:
        config = load(PretrainConfig, PRETRAIN / recipe.config, recipe.changes)
        store = open_store(args.data, config.decode)
        rows = preview.trained_rows(args.data, store, split=True)
        table = label_room.read(args.data, study.target)
        items = zip(store.column("image_id"), store.column("slice"), strict=True)
        known = np.array([label_room.lookup(table, str(i), int(s)) for i, s in items], object)
        patient = store.column("patient_id")
        shares, mix = [], Counter[str]()
        for epoch in range(20):
            plan = preview.plan(store, rows, config.method, seed=0, epoch=epoch, batch=config.batch)
            shares.append(preview.shares(plan, rows, known, patient))
            two = plan.rows[:, 0] != plan.rows[:, -1]
            mix.update(
                "/".join(sorted({str(known[a]), str(known[b])}))
                for a, b in plan.rows[two][:, [0, -1]]
            )
        agree = [s.agree for s in shares if s.agree is not None]
        total = sum(mix.values())
        sheet.row(
            recipe.name,
            f"{100 * np.mean([s.two for s in shares]):.1f} %",
            f"{100 * np.mean(agree):.1f} %" if agree else "",
            f"{100 * shares[0].chance:.1f} %" if shares[0].chance is not None else "",
            ", ".join(f"{k} {100 * n / total:.1f} %" for k, n in mix.most_common(6)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", choices=sorted(STUDIES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    study = STUDIES[args.study]
    found = train(study, args)
    sheet = Sheet(f"SimCLR and MICLe, {args.study}", args.out)
    record = json.loads((next(iter(found.values()))[0] / "run.json").read_text())
    sheet.say(
        f"{study.target}; {args.seeds} pretraining seeds; summary of one: {record['summary']}\n"
    )
    compare(found, study, sheet)
    mixes(study, args, sheet)
    sheet.end(f"pairs {args.study}")
    sheet.write()


if __name__ == "__main__":
    main()
