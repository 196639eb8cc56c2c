"""Two finetune runs on the same draws: paired differences per budget, and the partner confound.

Command: python benchmarks/compare_runs.py RUNS/A RUNS/B COHORT
Prints A - B with patient intervals, then each kept classifier's score on held-out patients with one
and with several different images, and how common several images are per class.
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from medssl import runs
from medssl.cohort import labels as label_room
from medssl.stats.bootstrap import paired_difference
from medssl.stats.metrics import auroc, macro_auroc

RESAMPLES = 500


def score(codes, scores):
    """AUROC of two classes, macro AUROC of more."""
    return auroc(codes, scores[:, 1]) if scores.shape[1] == 2 else macro_auroc(codes, scores)


class Predictions:
    """The held-out predictions of one finetune run."""

    def __init__(self, path):
        table = runs.read_predictions(path / "predictions.parquet")
        names = runs.score_columns(table)
        self.classes = [n.removeprefix(runs.SCORE) for n in names]
        self.scores = np.stack([table.column(n).to_numpy() for n in names], 1)
        self.columns = {
            n: np.array(table.column(n).to_pylist(), dtype=object) for n in runs.PREDICTION_COLUMNS
        }

    def cell(self, **where):
        """Codes, scores and patients of one cell's test pictures, in picture order."""
        mask = self.columns["split"] == "test"
        for name, value in where.items():
            mask &= self.columns[name] == value
        places = np.flatnonzero(mask)
        key = [f"{self.columns['image_id'][p]} {self.columns['slice'][p]:06d}" for p in places]
        places = places[np.argsort(key)]
        codes = np.array([self.classes.index(v) for v in self.columns["label"][places]])
        return codes, self.scores[places], self.columns["patient_id"][places].astype(str)


def mean_over_draws(cells):
    return lambda rows: float(np.mean([score(codes[rows], s[rows]) for codes, s, _ in cells]))


def differences(a, b):
    for mode in sorted(set(a.columns["mode"]) - {"classifier"}):
        for budget in sorted(set(a.columns["budget"])):
            both = []
            for side in (a, b):
                cells = [
                    side.cell(init="pretrained", mode=mode, budget=budget, seed=s)
                    for s in range(99)
                ]
                both.append([c for c in cells if len(c[0])])
            if not both[0] or len(both[0]) != len(both[1]):
                continue
            first, second = map(mean_over_draws, both)
            gap = paired_difference(first, second, both[0][0][2], resamples=RESAMPLES, seed=0)
            low, high = gap.interval.lower, gap.interval.upper
            print(
                f"{mode:<8}{budget:>5g} %   {gap.interval.value:+.4f} ({low:+.4f} to {high:+.4f})  p {gap.p:.3f}"
            )


def confound(sides, cohort, target):
    index = runs.read_table(next((cohort / "store").glob("*/index.parquet")))
    pictures, found = defaultdict(set), defaultdict(set)
    labels = label_room.read(cohort, target)
    for row in index.to_pylist():
        pictures[row["patient_id"]].add(row["pixels"])
        found[row["patient_id"]].add(label_room.lookup(labels, row["image_id"], row["slice"]))
    total = Counter(v for values in found.values() for v in values)
    several = Counter(v for p, values in found.items() if len(pictures[p]) > 1 for v in values)
    for value, count in total.items():
        share = 100 * several[value] / count
        print(
            f"{target} = {value}: {several[value]} of {count} patients have several images ({share:.1f} %)"
        )
    for name, side in sides.items():
        codes, scores, patient = side.cell(mode="classifier")
        many = np.array([len(pictures[p]) > 1 for p in patient])
        one, more = (score(codes[m], scores[m]) for m in (~many, many))
        print(f"{name}: one image {one:.3f}, several {more:.3f}")


def main():
    first, second, cohort = map(Path, sys.argv[1:4])
    sides = {p.name: Predictions(p) for p in (first, second)}
    print(f"{first.name} - {second.name}, pretrained, held-out patients")
    differences(*sides.values())
    confound(sides, cohort, runs.read(first).summary["target"])


if __name__ == "__main__":
    main()
