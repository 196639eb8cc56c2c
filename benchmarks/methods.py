"""Every pretext task under one budget on one cohort: the same pictures seen, the same judges.

Command: python benchmarks/methods.py cxr --data cohorts/a --runs runs/methods-cxr [--views 120000] [--seeds 1]
         [--only simclr,byol] [--tuned] [--out FILE.md]
         python benchmarks/methods.py mr --data cohorts/du --runs runs/methods-mr
         python benchmarks/methods.py volumes --data cohorts/du --runs runs/methods-volumes
Needs a decoded, split cohort, labelled but for volumes. All tasks share optimiser, augmentation and the
number of pictures that pass the encoder; nothing is tuned for one of them. Scores are of the split's test patients,
which nothing was chosen on; intervals resample patients. Finished runs are kept: call it again to go on.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from sheet import Sheet

from medssl import runs
from medssl.cli import main as medssl
from medssl.config import PretrainConfig
from medssl.loading import load

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RESNET = ("encoder={name: resnet18}",)
PATCHES = ("encoder={name: vit_tiny_patch16_224, patch: 8, pool: mean}", "optim.lr=0.001")
# One network for all that need a transformer, so that their rows can be compared.
VOLUME = ("encoder={name: resnet18_3d}",)
VOLUME_PATCHES = ("encoder={name: vit_tiny_3d, patch: 8}", "optim.lr=0.001")


@dataclass(frozen=True)
class Recipe:
    """One row of the table: a task, its network, and what is changed in the shared config."""

    name: str
    task: str
    changes: tuple[str, ...]


def rows(net: tuple[str, ...], patches: tuple[str, ...]) -> list[Recipe]:
    """Return the tasks that suit every grey cohort, on a CNN and where needed a transformer."""
    pairs = ["simclr", "moco_v2", "moco_v3", "byol", "simsiam", "barlow_twins", "vicreg", "dino"]
    found = [Recipe(t, t, net) for t in pairs]
    single = ["context_encoder", "denoising", "rotation", "patch_location"]
    found += [Recipe(t, t, net) for t in single]
    joint = (*net, "method.loss=joint")
    found.append(Recipe("context_encoder, joint", "context_encoder", joint))
    found += [Recipe("mae (ViT)", "mae", patches), Recipe("aim (ViT)", "aim", patches)]
    found.append(Recipe("simclr (ViT)", "simclr", patches))
    return found


def two_images(net: tuple[str, ...], *more: str) -> list[Recipe]:
    """Return the patient forms of tasks of pairs."""
    tasks = ["simclr", "byol", "vicreg"]
    return [Recipe(f"{t}, two images", t, (*net, "method.images=2", *more)) for t in tasks]


@dataclass(frozen=True)
class Study:
    """A cohort's shared config, recipes, question and budgets of labels in percent."""

    config: str
    recipes: tuple[Recipe, ...]
    target: str
    budgets: tuple[int, ...]
    shared: tuple[str, ...] = ()


SLICES = tuple(Recipe(t, t, RESNET) for t in ("next_slice", "slice_order"))
STUDIES = {
    "cxr": Study(
        "simclr-cxr.yaml",
        (*rows(RESNET, PATCHES), *two_images(RESNET)),
        "finding",
        (1, 10, 100),
    ),
    "mr": Study(
        "simclr-mr.yaml",
        (
            *rows(RESNET, PATCHES),
            *two_images(RESNET, "method.within_slices=2", "batch=28"),
            *SLICES,
        ),
        "tumour",
        (10, 100),
    ),
    "volumes": Study(
        "simclr-mr.yaml",
        tuple(rows(VOLUME, VOLUME_PATCHES)),
        "",
        (),
        ("decode={size: 64, volumes: whole}", "batch=16", "optim.lr=0.001"),
    ),
}


def load_of(study: Study, recipe: Recipe) -> tuple[float, int]:
    """Return the pictures that pass the encoder per sample, and those that are read for it."""
    words = [f"method.name={recipe.task}", *study.shared, *recipe.changes]
    own = load(PretrainConfig, CONFIGS / "pretrain" / study.config, words).method
    read = {"images": 1, "pairs": 2, "neighbours": 2, "triples": 3}[own.drawn]
    two = hasattr(own, "images") or recipe.task == "patch_location"
    seen = {"triples": 3, "neighbours": 1}.get(own.drawn, 2 if two else 1)
    # A small view has half the side.
    least = 1 / (8 if "volumes: whole" in " ".join(study.shared) else 4)
    return seen + read * getattr(own, "small_views", 0) * least, read


def words_of(study: Study, recipe: Recipe, views: int, seed: int) -> list[str]:
    """Return the settings of one training that shows the encoder about as many pictures."""
    words = [f"method.name={recipe.task}", *study.shared, *recipe.changes, f"seed={seed}"]
    examples = round(views / load_of(study, recipe)[0])
    return [*words, "watch={every: 100000}", f"duration={{examples: {examples}}}"]


def mark(words: list[str]) -> str:
    """Return a short digest: other settings are another folder."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]


def done(out: Path) -> bool:
    """Return whether a run is finished."""
    return (out / "run.json").is_file() and runs.read(out).record.get("status") == "done"


def train(study: Study, recipe: Recipe, args: argparse.Namespace, seed: int) -> Path:
    """Pretrain in a process of its own, whose peak memory is kept, unless that is done."""
    words = words_of(study, recipe, args.views, seed)
    out = args.runs / f"{short(recipe.name)}-{seed}-{mark(words)}"
    if done(out):
        return out
    config = str(CONFIGS / "pretrain" / study.config)
    line = [sys.executable, "-W", "ignore", "-m", "medssl.cli", "pretrain", config, *words]
    line += ["--data", str(args.data), "--out", str(out), "--resume", "--quiet"]
    child = subprocess.Popen(line)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(
            f"{recipe.name}: pretraining ended with {os.waitstatus_to_exitcode(status)}"
        )
    (out / "memory.json").write_text(json.dumps({"peak_mib": round(used.ru_maxrss / 1024)}))
    return out


def judge(study: Study, found: dict[str, Path], args: argparse.Namespace, seed: int) -> Path:
    """Probe all encoders on the same draws of labels in one run, and fine-tune where asked."""
    budgets = list(study.budgets)
    words = [f"target={study.target}", f"budgets={budgets}", "modes=[ridge, knn]", "seeds=5"]
    if args.tuned:
        more = "seeds: 1, epochs: 5, linear_first: true, precision: bf16"
        words.append(f"full={{budgets: {budgets}, {more}}}")
    for name, run in found.items():
        words += ["--encoder", f"{name}={run}"]
    out = args.runs / f"judged-{seed}-{mark(words)}"
    if not done(out):
        config = str(CONFIGS / "finetune" / "probe.yaml")
        more = ["--data", str(args.data), "--out", str(out), "--resume"]
        code = medssl(["finetune", config, *words, *more])
        if code:
            raise SystemExit(code)
    return out


def short(name: str) -> str:
    """Return a recipe's name as an encoder may be called."""
    return name.replace(", ", "-").replace(" (ViT)", "-vit").replace(" ", "-")


def scores(judged: Path, budgets: tuple[int, ...]) -> dict[str, dict[str, str]]:
    """Return every start's scores with intervals, by column."""
    out: dict[str, dict[str, str]] = {}
    for row in pq.read_table(judged / "curve.parquet").to_pylist():
        if row["budget"] in budgets and row.get("level", "image") == "image":
            told = f"{row['value']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})"
            out.setdefault(row["init"], {})[f"{row['mode']} {row['budget']:g} %"] = told
    return out


def figure(summary: dict[str, Any], *names: str) -> str:
    """Return the first figure of a summary that is there."""
    return next((f"{summary[n]:.3g}" for n in names if n in summary), "")


def cost(run: Path, load: tuple[float, int]) -> tuple[str, str]:
    """Return the pictures that pass the encoder in a second, and the peak memory in MiB."""
    lines = [json.loads(x) for x in (run / "log.jsonl").read_text().splitlines()]
    pace = sorted(x["images_per_s"] for x in lines if "images_per_s" in x)
    memory = run / "memory.json"
    peak = json.loads(memory.read_text())["peak_mib"] if memory.is_file() else ""
    return (f"{pace[len(pace) // 2] * load[0] / load[1]:.0f}" if pace else "", f"{peak}")


def table(
    study: Study, found: dict[str, Path], told: dict[str, dict[str, str]], sheet: Sheet
) -> None:
    """Print one seed's rows, best probe first."""
    modes = ["ridge", "knn", "full"]
    columns = [f"{m} {b:g} %" for m in modes for b in study.budgets]
    columns = [c for c in columns if any(c in held for held in told.values())]
    more = ("rank", "site", "same patient", "chance", "images/s", "MiB")
    sheet.head("task", *columns, *more)
    last = columns[len(study.budgets) - 1] if columns else ""
    loads = {r.name: load_of(study, r) for r in study.recipes}
    order = sorted(found, key=lambda n: told.get(short(n), {}).get(last, ""), reverse=True)
    for name in order:
        summary = runs.read(found[name]).record["summary"]
        own = told.get(short(name), {})
        sheet.row(
            name,
            *(own.get(c, "") for c in columns),
            figure(summary, "effective_rank"),
            figure(summary, "site_auroc", "manufacturer_auroc"),
            figure(summary, "retrieval"),
            figure(summary, "retrieval_chance"),
            *cost(found[name], loads[name]),
        )
    for start in ("scratch", "pixels"):
        if start in told:
            sheet.row(start, *(told[start].get(c, "") for c in columns), *[""] * len(more))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", choices=sorted(STUDIES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--views", type=int, default=120_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    study = STUDIES[args.study]
    wanted = set(filter(None, args.only.split(",")))
    chosen = [r for r in study.recipes if not wanted or short(r.name) in wanted]
    sheet = Sheet(f"Pretext tasks, {args.study}", args.out)
    sheet.say(
        f"{args.views:,} pictures pass each encoder; {args.seeds} seed(s); {args.data.name}.\n"
    )
    for seed in range(args.seeds):
        found = {r.name: train(study, r, args, seed) for r in chosen}
        told: dict[str, dict[str, str]] = {}
        if study.target:
            named = {short(n): run for n, run in found.items()}
            told = scores(judge(study, named, args, seed), study.budgets)
        sheet.say(f"\nSeed {seed}:\n")
        table(study, found, told, sheet)
        sheet.end(f"methods {args.study} {seed}")
        sheet.write()


if __name__ == "__main__":
    main()
