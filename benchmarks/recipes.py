"""Which pretraining recipe gives the best probe: one thing changed at a time, judged on validation patients.

Command: python benchmarks/recipes.py --data cohorts/a --runs runs/recipes [--views 67000] [--only temp-0.1,blur]
         [--seeds 1] [--out FILE.md]
Needs a decoded, split and labelled cohort, decoded at every size that is tried. Test patients' pictures are never
read. Every recipe sees as many pictures from random weights; a linear probe learns from nested draws of training
patients (1, 10 and 100 %, five each) and is scored on the validation patients. Differences to the first recipe are
paired by patients.
Finished runs are kept: call it again to go on.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pairs import told
from sheet import Sheet

from medssl import runs
from medssl.cli import main as medssl
from medssl.config import FinetuneConfig, PretrainConfig
from medssl.errors import MedsslError
from medssl.finetune.probe import fit_linear, softmax
from medssl.finetune.task import Task, make_task
from medssl.finetune.task import draws as label_draws
from medssl.loading import load
from medssl.models import weights
from medssl.models.embed import embed
from medssl.stats import counted
from medssl.stats.bootstrap import Patients, Statistic, draws
from medssl.stats.probes import score_statistic
from medssl.store import open_store

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "pretrain" / "micle-cxr.yaml"
BASE = ("init=null", "optim.lr=0.002")
BUDGETS = (1.0, 10.0, 100.0)
LABEL_SEEDS = 5
RESAMPLES = 2000
RECIPES: dict[str, tuple[str, ...]] = {
    "base": (),
    "simclr": ("method.name=simclr",),
    "simclr, no mask": ("method={name: simclr, mask_same_patient: false}",),
    "same study": ("method.bag=study_id",),
    "pairs only": ("method.single_images=false", "batch=128"),
    "temperature 0.1": ("method.temperature=0.1",),
    "temperature 0.5": ("method.temperature=0.5",),
    "crop 0.3": ("views.crop_area=[0.3, 1.0]",),
    "crop 0.7": ("views.crop_area=[0.7, 1.0]",),
    "no shift": ("views.shift=0",),
    "rotation 0": ("views.rotation_deg=0",),
    "rotation 15": ("views.rotation_deg=15",),
    "flip": ("views.flip=true",),
    "tone 0": ("views.brightness=0", "views.contrast=0", "views.gamma=0"),
    "tone x 2": ("views.brightness=0.2", "views.contrast=0.4", "views.gamma=0.4"),
    "blur": ("views.blur_sigma=1.5",),
    "noise": ("views.noise_std=0.05",),
    "equalise": ("views.equalise_probability=0.5",),
    "elastic": ("views.elastic=0.03",),
    "cut-out": ("views.cutout=0.3",),
    "batch 128": ("batch=128",),
    "batch 512": ("batch=512",),
    "lr 0.001": ("optim.lr=0.001",),
    "lr 0.004": ("optim.lr=0.004",),
    "sgd": ("optim={name: sgd, lr: 0.05}",),
    "lars": ("optim={name: lars, lr: 1.2, weight_decay: 0.000001}",),
    "decay 0.01": ("optim.weight_decay=0.01",),
    "head 2048": ("method.hidden=2048",),
    "out 32": ("method.out=32",),
    "group norm": ("encoder.norm=group",),
    "resnet34": ("encoder.name=resnet34",),
    "resnet50": ("encoder.name=resnet50",),
    "vit": ("encoder={name: vit_tiny_patch16_224, patch: 8, pool: mean}", "optim.lr=0.001"),
    "96 px": ("decode.size=96",),
    "128 px": ("decode.size=128",),
}


@dataclass(frozen=True)
class Judged:
    """Validation scores of one recipe: per budget and draw a statistic over the same patients."""

    parts: dict[float, list[Statistic]]
    seconds: float


def settings(recipe: str, views: int, seed: int) -> list[str]:
    """Return a recipe's settings; MICLe and SimCLR both show two pictures per sample."""
    words = [*BASE, *RECIPES[recipe], f"seed={seed}", "watch.every=0", "log.pictures=false"]
    return [*words, f"duration={{examples: {views // 2}}}"]


def train(recipe: str, args: argparse.Namespace, seed: int) -> Path | None:
    """Pretrain unless that is done; None where the recipe cannot be run, which is told."""
    words = settings(recipe, args.views, seed)
    name = recipe.replace(" ", "-").replace(",", "")
    mark = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]
    out: Path = args.runs / f"{name}-{seed}-{mark}"
    if (out / "run.json").is_file() and runs.read(out).record.get("status") == "done":
        return out
    line = ["pretrain", str(CONFIG), *words, "--data", str(args.data), "--out", str(out)]
    code = medssl([*line, "--resume", "--quiet"])
    if code not in {0, None}:
        print(f"{recipe}: not run, exit {code}", flush=True)
        return None
    return out


def judge(run: Path, args: argparse.Namespace, groups_of: dict[str, Any]) -> Judged:
    """Score probes of one encoder on validation patients."""
    encoder, card, _ = weights.load_encoder(run)
    store = open_store(args.data, card.decode)
    task = make_task(FinetuneConfig(target=args.target), args.data, store)
    val = task.at("val")
    own = np.concatenate([task.at("train"), val])
    features = np.zeros((len(task.rows), encoder.width), np.float32)
    features[own] = embed(encoder, store, task.rows[own], card.mean, card.std)
    groups = groups_of.setdefault("groups", Patients.of(task.patient[val]))
    parts: dict[float, list[Statistic]] = {b: [] for b in BUDGETS}
    for seed in range(LABEL_SEEDS):
        for budget, rows in label_draws(task, BUDGETS, seed).items():
            if rows is not None:
                parts[budget].append(_score(task, features, rows, val, groups))
    return Judged(parts, float(runs.read(run).record["summary"]["seconds"]))


def _score(
    task: Task,
    features: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    val: npt.NDArray[np.int64],
    groups: Patients,
) -> Statistic:
    penalty = FinetuneConfig(target=task.target).penalty
    model = fit_linear(features[rows], task.codes[rows], len(task.classes), penalty)
    scores = softmax(model.logits(features[val]))
    return score_statistic(task.codes[val], scores, groups, ordered=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--target", default="finding")
    parser.add_argument("--views", type=int, default=67_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    wanted = {w.replace("-", " ") for w in args.only.split(",") if w}
    chosen = [r for r in RECIPES if not wanted or r == "base" or r.replace("-", " ") in wanted]
    sheet = Sheet("Pretraining recipes, judged on validation patients", args.out)
    held: dict[str, Any] = {}
    found: dict[str, list[Judged]] = {}
    for recipe in chosen:
        for seed in range(args.seeds):
            try:
                load(PretrainConfig, CONFIG, settings(recipe, args.views, seed))
                run = train(recipe, args, seed)
                if run is not None:
                    found.setdefault(recipe, []).append(judge(run, args, held))
                    table(found, held["groups"], None)
            except MedsslError as error:
                print(f"{recipe}: not run: {error}", flush=True)
    table(found, held["groups"], sheet)
    sheet.write()


def table(found: dict[str, list[Judged]], groups: Patients, sheet: Sheet | None) -> None:
    """Print every recipe against the first, at every budget; the last line only without a sheet."""
    names = list(found) if sheet is not None else list(dict.fromkeys(["base", list(found)[-1]]))
    parts = {(n, b): [s for one in found[n] for s in one.parts[b]] for n in names for b in BUDGETS}
    mean = {k: counted.weighted_sum([(1 / len(p), s) for s in p]) for k, p in parts.items()}
    drawn = draws({str(k): s for k, s in mean.items()}, groups, resamples=RESAMPLES, seed=0)
    whole = np.ones((1, groups.count), np.int64)
    value = {k: float(s(whole)[0]) for k, s in mean.items()}
    lines = []
    for name in names:
        cells = []
        for budget in BUDGETS:
            key, base = (name, budget), ("base", budget)
            gap = drawn[str(key)] - drawn[str(base)]
            apart = told(value[key] - value[base], gap, signed=True) if name != "base" else ""
            cells += [f"{value[key]:.3f}", apart]
        lines.append((name, *cells, f"{np.mean([j.seconds for j in found[name]]):.0f}"))
    if sheet is None:
        print(*lines[-1], sep=" | ", flush=True)
        return
    columns = [c for b in BUDGETS for c in (f"{b:g} %", "against base")]
    sheet.head("recipe", *columns, "seconds")
    for line in lines:
        sheet.row(*line)
    sheet.end("recipes")


if __name__ == "__main__":
    main()
