"""Remedies at a new hospital by patient cross-validation, as ordinary runs; pretraining refitted per fold.

Command: python benchmarks/remedies.py --data cohorts/b --encoder runs/micle --target pneumonia --positive 1 \
    --out runs/remedies
For every fold the cohort gets a split of its own; the source's encoder is kept frozen, and once more
pretrained on that fold's training patients; then k local labels are learnt on either, on random weights
and on raw pixels. It ends with the --compare arguments for medssl evaluate.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.files import write_csv

ROOT = Path(__file__).parent.parent
MEDSSL = [sys.executable, "-c", "from medssl.cli import entry; entry()"]


def medssl(*words):
    """Run a verb; it stops the whole on failure."""
    subprocess.run([*MEDSSL, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def folds_of(cohort, target, folds, seed):
    """Fold of every patient, stratified by whether any picture has the last value of the label."""
    manifest = manifest_room.read(cohort)
    labels = label_room.read(cohort, target)
    values = sorted(set(labels.values()))
    owner = dict(zip(manifest.column("image_id"), manifest.column("patient_id"), strict=True))
    found = dict.fromkeys(manifest.patients, "")
    for (image, _), value in labels.items():
        found[owner[image]] = max(found[owner[image]], value) if value in values else ""
    rng = np.random.default_rng(seed)
    out = {}
    for value in ["", *values]:
        mine = sorted(p for p, v in found.items() if v == value)
        for place, who in enumerate(rng.permutation(len(mine))):
            out[mine[who]] = place % folds
    return out


def cohort_of(cohort, fold, number, seed, out):
    """Copy a cohort and give it a split: this fold is the test, an eighth of the rest validates."""
    if (out / "split.parquet").is_file():
        return
    shutil.copytree(cohort, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("split.parquet"))
    rest = sorted(p for p, k in fold.items() if k != number)
    shuffled = np.random.default_rng([seed, number]).permutation(len(rest))
    val = {rest[i] for i in shuffled[: len(rest) // 8]}
    place = {p: "test" if k == number else "val" if p in val else "train" for p, k in fold.items()}
    table = out / "private" / "folds.csv"
    write_csv(table, ["patient_id", "split"], sorted(place.items()), 0o600)
    medssl("split", out, "--file", table)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="decoded cohort of the new hospital"
    )
    parser.add_argument("--encoder", type=Path, required=True, help="the source's pretraining run")
    parser.add_argument("--target", required=True)
    parser.add_argument("--positive")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="settings of the pretraining")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    fold = folds_of(args.data, args.target, args.folds, args.seed)
    words = [f"target={args.target}", *([f"positive={args.positive}"] if args.positive else [])]
    names = {"frozen": [], "continued": []}
    for number in range(args.folds):
        place = args.out / f"fold{number}"
        cohort_of(args.data, fold, number, args.seed, place / "cohort")
        encoders = {"frozen": args.encoder, "continued": place / "pretrained"}
        if not (place / "pretrained" / "encoder.json").is_file():
            config = ROOT / "configs" / "pretrain" / "site-cxr.yaml"
            settings = [f"init={args.encoder}", *args.set]
            medssl(
                "pretrain",
                config,
                *settings,
                "--data",
                place / "cohort",
                "--out",
                place / "pretrained",
            )
        for name, encoder in encoders.items():
            run = place / name
            if not (run / "curve.parquet").is_file():
                config = ROOT / "configs" / "finetune" / "local.yaml"
                medssl(
                    "finetune",
                    config,
                    *words,
                    "--encoder",
                    encoder,
                    "--data",
                    place / "cohort",
                    "--out",
                    run,
                )
            names[name].append(str(run))
        print(f"fold {number + 1} of {args.folds} done", flush=True)
    for name, runs in names.items():
        print(f"--compare {name}={','.join(runs)}")


if __name__ == "__main__":
    main()
