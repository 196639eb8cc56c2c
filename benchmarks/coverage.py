"""Do 95 % intervals hold the truth, and do site tests stay quiet, where patients have several images.

Command: python benchmarks/coverage.py [--runs N] [--seed N] [--resamples N] [--out FILE]. Prints markdown
tables, a scenario at a time, and writes them to FILE as they come. Nothing is asserted. A coverage of 500
runs has a standard error of one point.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from scipy.special import expit, logit
from scipy.stats import ks_2samp

from medssl.stats import bands, bootstrap, calibration, counted, metrics
from medssl.stats.bootstrap import Patients
from medssl.stats.usefulness import proportion_by_patient

THRESHOLD = 0.4
Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class Scenario:
    """Patients, images of each, how strongly images resemble, and whether labels vary within one."""

    patients: int
    images: int
    noise: float = 0.7
    mixed: bool = False

    def __str__(self) -> str:
        label = "label per image" if self.mixed else "label per patient"
        return f"{self.patients} patients x {self.images}, {label}, noise {self.noise:g}"


# The second is the clustered reference set of the statistics.
SCENARIOS = (
    Scenario(60, 4),
    Scenario(200, 4),
    Scenario(600, 4),
    Scenario(200, 1),
    Scenario(100, 16),
    Scenario(200, 4, mixed=True),
    Scenario(60, 8, mixed=True),
    Scenario(200, 8, noise=0.2),
)


def draw(rng, scenario, patients=None):
    """y, score, p and patient of a scenario."""
    many, images = patients or scenario.patients, scenario.images
    u = rng.normal(0, 1, many)
    chance = expit(-0.5 + 1.5 * u)
    shape = (many, images) if scenario.mixed else (many, 1)
    y = np.broadcast_to(rng.random(shape) < chance[:, None], (many, images)).ravel()
    score = (u[:, None] + rng.normal(0, scenario.noise, (many, images))).ravel()
    return y, score, expit(-0.3 + 0.8 * score), np.repeat(np.arange(many), images)


def truth(scenario, seed):
    """Every quantity on 100,000 patients."""
    y, score, p, _ = draw(np.random.default_rng([seed, 1]), scenario, 100_000)
    return {
        "AUROC": metrics.auroc(y, score),
        "sensitivity": metrics.operating(y, p, THRESHOLD).sensitivity,
        "O/E": calibration.oe_ratio(y, p),
        "slope": calibration.slope(y, p),
        "ICI": calibration.integrated_calibration_index(y, p),
    }


def logit_limits(value, se) -> Limits:
    """The row-wise DeLong interval."""
    if value is None or se is None or not 0 < value < 1:
        return None, None
    reach = 1.959964 * se / (value * (1 - value))
    return float(expit(logit(value) - reach)), float(expit(logit(value) + reach))


def wald_slope(y, p) -> Limits:
    """The row-wise interval of the calibration slope."""
    found = sm.GLM(y.astype(float), sm.add_constant(logit(p)), family=sm.families.Binomial()).fit()
    low, high = found.conf_int()[1]
    return float(low), float(high)


def oe_limits(y, p) -> Limits:
    """The row-wise log interval of O/E."""
    events = int(y.sum())
    if events == 0:
        return None, None
    reach = math.exp(1.959964 * math.sqrt((1 - y.mean()) / events))
    value = events / p.sum()
    return value / reach, value * reach


def intervals(y, score, p, patient, resamples, seed) -> Iterator[tuple[str, str, Limits]]:
    """Quantity, method and limits of one set of rows."""
    groups, rows = Patients.of(patient), Patients.of(np.arange(y.size))
    hit = (p >= THRESHOLD) & y

    def statistics(by):
        return {
            "AUROC": counted.auroc(y, score, by),
            "sensitivity": counted.ratio(hit, y, by),
            "O/E": counted.ratio(y, p, by),
            "slope": counted.slope(y, p, by),
        }

    for name, by, method in (
        ("patient bootstrap, percentile", groups, "percentile"),
        ("patient bootstrap, BCa", groups, "bca"),
        ("row bootstrap, percentile", rows, "percentile"),
    ):
        found = bootstrap.intervals(
            statistics(by), by, resamples=resamples, seed=seed, method=method
        )
        for quantity, i in found.items():
            yield quantity, name, (i.lower, i.upper)
    try:
        from medssl.stats.delong import clustered_auroc
    except ImportError:
        pass
    else:
        area = clustered_auroc(y, score, patient)
        yield "AUROC", "DeLong by patient", (area.lower, area.upper)
        yield "AUROC", "DeLong by row", logit_limits(area.value, area.naive_se)
    if y.any():
        share = proportion_by_patient(hit[y], patient[y])
        yield "sensitivity", "Wilson by patient", (share.lower, share.upper)
        yield "sensitivity", "Wilson by row", metrics.wilson(share.hits, share.n)
    yield "O/E", "log interval by row", oe_limits(y, p)
    yield "slope", "Wald by row", wald_slope(y, p)
    ici = bands.calibration_bands(y, p, patient, resamples=200, seed=seed).ici.interval
    yield "ICI", "patient bootstrap, basic and percentile", (ici.lower, ici.upper)


def coverage(scenario, runs, resamples, seed) -> Iterator[str]:
    """Table rows of one scenario."""
    true = truth(scenario, seed)
    held, width, missing = defaultdict(int), defaultdict(float), defaultdict(int)
    for run in range(runs):
        data = draw(np.random.default_rng([seed, 2, run]), scenario)
        for quantity, method, (low, high) in intervals(*data, resamples, run):
            key = quantity, method
            if low is None or high is None:
                missing[key] += 1
                continue
            held[key] += low <= true[quantity] <= high
            width[key] += high - low
            missing[key] += 0
    for key in sorted(missing, key=lambda k: (list(true).index(k[0]), k[1])):
        known = runs - missing[key]
        share = f"{100 * held[key] / known:.1f}" if known else "-"
        mean = f"{width[key] / known:.3f}" if known else "-"
        yield f"| {scenario} | {key[0]} | {key[1]} | {share} | {mean} | {missing[key]} | {runs} |"


def two_sites(rng, patients, images, width):
    """Embeddings of two sites that do not differ, and the patients of each."""
    return tuple(
        (rng.normal(0, 1, (patients, 1, width)) + rng.normal(0, 0.5, (patients, images, width)))
        .reshape(-1, width)
        for _ in range(2)
    )  # fmt: skip


def site_tests() -> dict[str, Callable]:
    """p of every test that can be imported, from rows, patients and a seed."""
    from medssl.stats.mmd import patient_mmd

    found = {
        "MMD": lambda x, px, y, py, s: patient_mmd(x, px, y, py, permutations=99, seed=s).p,
    }
    try:
        from medssl.stats.columns import compare_numbers
        from medssl.stats.domain import site_classifier
    except ImportError:
        return found
    return found | {
        "column": lambda x, px, y, py, s: (
            compare_numbers(x[:, 0], px, y[:, 0], py, permutations=99, seed=s).value_p
        ),
        "site classifier": lambda x, px, y, py, s: (
            site_classifier(x, px, y, py, permutations=99, seed=s).p
        ),
    }


def alarms(patients, images, runs, seed) -> Iterator[str]:
    """Table rows: how often each test calls two equal sites different at 0.05."""
    tests, reached = site_tests(), defaultdict(int)
    owner = np.repeat(np.arange(patients), images)
    rows = np.arange(owner.size)
    for run in range(runs):
        x, y = two_sites(np.random.default_rng([seed, 3, run]), patients, images, 8)
        for name, test in tests.items():
            reached[f"{name}, by patient"] += test(x, owner, y, owner, run) <= 0.05
            reached[f"{name}, by row"] += test(x, rows, y, rows, run) <= 0.05
        reached["Kolmogorov-Smirnov of scipy, by row"] += ks_2samp(x[:, 0], y[:, 0]).pvalue <= 0.05
    for name in sorted(reached):
        share = 100 * reached[name] / runs
        yield f"| {patients} + {patients} patients x {images} | {name} | {share:.1f} | {runs} |"


def tables(runs, resamples, seed, small) -> Iterator[str]:
    """All lines of the result."""
    yield f"# Coverage of 95 % intervals ({runs} runs, {resamples} resamples, seed {seed})"
    yield ""
    yield "| rows | quantity | interval | holds the truth, % | mean width | none | runs |"
    yield "|---|---|---|---|---|---|---|"
    for scenario in SCENARIOS[:1] if small else SCENARIOS:
        yield from coverage(scenario, runs, resamples, seed)
    yield ""
    yield f"# False alarms at 0.05 between sites that do not differ ({runs} runs)"
    yield ""
    yield "| rows | test | says different, % | runs |"
    yield "|---|---|---|---|"
    for patients, images in ((20, 8),) if small else ((20, 8), (60, 4)):
        yield from alarms(patients, images, runs, seed)


def main(argv: list[str] | None = None) -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--runs", type=int, default=500)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--resamples", type=int, default=500)
    words.add_argument("--out", type=Path, help="markdown file, written as results come")
    words.add_argument("--small", action="store_true", help="the first scenario of each table only")
    asked = words.parse_args(argv)
    if asked.runs < 1 or asked.resamples < 1:
        words.error("--runs and --resamples must be at least 1")
    if asked.out:
        asked.out.write_text("", encoding="utf-8")
    for line in tables(asked.runs, asked.resamples, asked.seed, asked.small):
        print(line, flush=True)
        if asked.out:
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
