"""Which patients to label next, chosen or at random: scores on held-out patients as labels come in rounds.

Command: python benchmarks/suggest.py --encoder RUN --data COHORT --target LABEL [--start N] [--each N]
[--rounds N] [--seeds N] [--out FILE.md]
Every way begins with the same random patients (each class among them), fits the logistic probe on frozen
features, names the next patients and gets their true labels. `typical` and `gradients` are what `medssl suggest`
does with few and with more labels; `unsure` takes the least sure, `different` ignores the classifier.
Intervals resample test patients and keep the seeds; the
difference to random is paired.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pairs import told
from sheet import Sheet

from medssl.cohort import split as split_room
from medssl.config import FinetuneConfig
from medssl.finetune.probe import fit_linear, softmax
from medssl.finetune.task import Task, make_task, patient_classes
from medssl.models import weights
from medssl.models.embed import embed
from medssl.stats import counted
from medssl.stats.bootstrap import Patients, Statistic, draws
from medssl.stats.probes import score_statistic
from medssl.stats.typical import typical
from medssl.store import open_store
from medssl.suggest import choose, spread

RESAMPLES = 2000
Way = Callable[[Any, Any, Any, int, int], list[str]]


def at_random(_f: Any, _c: Any, patient: Any, count: int, seed: int) -> list[str]:
    """Take anybody."""
    return np.random.default_rng([seed, 5]).permutation(np.unique(patient))[:count].tolist()


def unsure(_f: Any, chance: Any, patient: Any, count: int, _s: int) -> list[str]:
    """Take those with the least sure picture."""
    worst: dict[str, float] = {}
    for p, top in zip(patient.tolist(), chance.max(1), strict=True):
        worst[p] = max(worst.get(p, 0.0), 1 - float(top))
    return sorted(worst, key=lambda p: -worst[p])[:count]


def different(features: Any, _c: Any, patient: Any, count: int, seed: int) -> list[str]:
    """Take those that look different, whatever the classifier says."""
    names, owner = np.unique(patient, return_inverse=True)
    points = np.stack([features[owner == k].mean(0) for k in range(len(names))])
    return [str(names[k]) for k in spread(points - points.mean(0), count, seed)]


def typical_ones(*_: Any) -> list[str]:
    """Take typical patients of groups without one; see ``play``."""
    return []


WAYS: dict[str, Way] = {
    "random": at_random,
    "gradients": choose,
    "unsure": unsure,
    "different": different,
    "typical": typical_ones,
}


def play(task: Task, features: Any, way: Way, args: argparse.Namespace, seed: int) -> list[Any]:
    """Return test scores after every round."""
    train, config = task.at("train"), FinetuneConfig(target=task.target)
    classes = patient_classes(task)
    share = 100 * args.start / len(classes)
    known = set(split_room.budgets(classes, (share,), seed)[share] or [])
    found = []
    for step in range(args.rounds + 1):
        inside = np.isin(task.patient[train], list(known))
        own = train[inside]
        model = fit_linear(features[own], task.codes[own], len(task.classes), config.penalty)
        found.append(softmax(model.logits(features[task.at(args.judge)])))
        rest = train[~inside]
        if step < args.rounds and rest.size:
            chance = softmax(model.logits(features[rest]))
            if way is typical_ones:
                names, own = np.unique(task.patient[train], return_inverse=True)
                points = np.stack([features[train][own == k].mean(0) for k in range(len(names))])
                picked = typical(points, np.isin(names, list(known)), args.each, seed + step)
                known |= {str(names[k]) for k in picked}
                continue
            known |= set(way(features[rest], chance, task.patient[rest], args.each, seed + step))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--start", type=int, default=12, help="patients labelled at first")
    parser.add_argument("--each", type=int, default=12, help="patients labelled in a round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--judge", choices=("val", "test"), default="test")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    encoder, card, _ = weights.load_encoder(args.encoder)
    store = open_store(args.data, card.decode)
    task = make_task(FinetuneConfig(target=args.target), args.data, store)
    features = embed(encoder, store, task.rows, card.mean, card.std)
    test = task.at(args.judge)
    groups = Patients.of(task.patient[test])
    sheet = Sheet(f"Whom to label next: {args.target}", args.out)
    sheet.say(
        f"{groups.count} {args.judge} patients, {args.seeds} seeds, {args.start} patients at first and "
        f"{args.each} more in each of {args.rounds} rounds.\n"
    )
    parts: dict[tuple[str, int], list[Statistic]] = {}
    for name, way in WAYS.items():
        for seed in range(args.seeds):
            for step, scores in enumerate(play(task, features, way, args, 1000 * seed)):
                one = score_statistic(task.codes[test], scores, groups, ordered=False)
                parts.setdefault((name, step), []).append(one)
    mean = {k: counted.weighted_sum([(1 / len(p), s) for s in p]) for k, p in parts.items()}
    drawn = draws({str(k): s for k, s in mean.items()}, groups, resamples=RESAMPLES, seed=0)
    whole = np.ones((1, groups.count), np.int64)
    value = {k: float(s(whole)[0]) for k, s in mean.items()}
    sheet.head("patients", "way", f"{task.metric}", "against random")
    for step in range(args.rounds + 1):
        for name in WAYS:
            key, base = (name, step), ("random", step)
            gap = drawn[str(key)] - drawn[str(base)]
            apart = told(value[key] - value[base], gap, signed=True) if name != "random" else ""
            count = args.start + step * args.each
            sheet.row(f"about {count}", name, told(value[key], drawn[str(key)]), apart)
    sheet.end("suggest")
    sheet.write()


if __name__ == "__main__":
    main()
