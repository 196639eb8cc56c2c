"""The patient bootstrap against a plain loop that resamples rows and recomputes, in one run.

Command: python benchmarks/bootstrap.py
Prints seconds for 2,000 resamples of 100,000 images of 30,000 patients, ours measured in full, the loop
measured on a few resamples and multiplied; both on the same draws, and the largest difference between them.
"""

import argparse
import time

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from medssl.evaluate.performance import statistics
from medssl.stats.bootstrap import Patients, draws
from medssl.stats.calibration import intercept_in_the_large, slope


def plain(y, p, line):
    """Each statistic from rows, by the library that everyone uses where there is one."""
    flag = p >= line
    return {
        "auroc": lambda r: roc_auc_score(y[r], p[r]),
        "average_precision": lambda r: average_precision_score(y[r], p[r]),
        "sensitivity": lambda r: flag[r][y[r] == 1].mean(),
        "brier": lambda r: np.mean((p[r] - y[r]) ** 2),
        "calibration_slope": lambda r: slope(y[r], p[r]),
        "calibration_intercept": lambda r: intercept_in_the_large(y[r], p[r]),
        "observed_over_expected": lambda r: y[r].sum() / p[r].sum(),
    }


def loop(statistic, rows_of, count, resamples, seed):
    """Draw patients, collect their rows, recompute."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(resamples):
        rows = np.concatenate([rows_of[i] for i in rng.integers(0, count, count)])
        out.append(statistic(rows))
    return np.array(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--patients", type=int, default=30_000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--loop", type=int, default=5, help="resamples of the plain loop")
    args = parser.parse_args()
    g = np.random.default_rng(0)
    who = g.permutation(
        np.r_[np.arange(args.patients), g.integers(0, args.patients, args.images - args.patients)]
    )
    y = (g.random(args.images) < 0.1).astype(int)
    p = 1 / (1 + np.exp(-g.normal(1.5 * y - 2.5, 1)))
    groups = Patients.of(who)
    rows_of = [groups.order[groups.start[i] : groups.start[i + 1]] for i in range(groups.count)]
    ours, theirs = statistics(y, p, 0.2, groups), plain(y, p, 0.2)
    begun = time.perf_counter()
    draws(ours, groups, resamples=args.resamples)
    together = time.perf_counter() - begun
    print(
        f"{args.images:,} images of {groups.count:,} patients, {args.resamples:,} resamples, one process\n"
    )
    print("| statistic | ours, s | plain loop, s | ratio | largest difference |")
    print("|---|---|---|---|---|")
    total = 0.0
    for name, statistic in theirs.items():
        begun = time.perf_counter()
        first = draws({name: ours[name]}, groups, resamples=args.resamples)[name]
        mine = time.perf_counter() - begun
        begun = time.perf_counter()
        slow = loop(statistic, rows_of, groups.count, args.loop, 0)
        other = (time.perf_counter() - begun) * args.resamples / args.loop
        total += other
        apart = np.abs(first[: args.loop] - slow).max()
        print(
            f"| {name} | {mine:.1f} | {other:.0f} | {other / mine:.0f} | {apart:.1e} |", flush=True
        )
    print(f"\nAll {len(ours)} statistics of a report on the same draws: {together:.1f} s;")
    print(
        f"the {len(theirs)} plain loops above one after the other: {total:.0f} s, {total / together:.0f} times."
    )


if __name__ == "__main__":
    main()
