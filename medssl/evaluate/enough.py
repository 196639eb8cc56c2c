"""Is this study large enough to say anything: before it by formula, after it by its intervals."""

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from medssl.evaluate.answers import Answers
from medssl.evaluate.performance import Row, find
from medssl.evaluate.plain import attempt
from medssl.stats import sample_size
from medssl.stats.delong import clustered_auroc

TARGETS = sample_size.Widths(oe=0.4, auroc=0.1, slope=0.4, net_benefit=0.4)
"""Widths of 95 % intervals that let a reader conclude something; printed with the result."""


def of(
    table: list[Row], source: Answers | None, here: Answers, patients: int
) -> list[dict[str, Any]]:
    """Return, per class, the patients needed as foreseen from the source, and as it turned out.

    Args:
        table: performance rows of both hospitals.
        source: its labelled test pictures; None in a pack.
        here: the new hospital's labelled pictures.
        patients: of the new hospital, labelled or not.
    """
    out = []
    for k in here.shown:
        name = here.classes[k]
        row: dict[str, Any] = {"class": name, "targets": asdict(TARGETS)}
        if source is not None and len(source):
            before = partial(sample_size.assess, _observed(source, k), patients, targets=TARGETS)
            row["before"] = attempt(before)
        if len(here):
            row["after"] = attempt(partial(_after, table, here, k, name))
        out.append(row)
    return out


def _observed(answers: Answers, k: int) -> sample_size.Expected:
    known = answers.known(k)
    return sample_size.observed(*known.of(k), answers.thresholds[answers.classes[k]])


def _after(table: list[Row], here: Answers, k: int, name: str) -> sample_size.Assessment:
    known = here.known(k)
    y, p = known.of(k)
    people = len(set(known.patient.tolist()))
    estimate = clustered_auroc(y, p, known.patient)
    effect = 1.0
    if estimate.se and estimate.naive_se:
        effect = max(1.0, sample_size.design_effect(estimate.se, estimate.naive_se))
    return sample_size.assess(
        _observed(here, k),
        people,
        rows_per_patient=len(known) / people,
        design_effect=effect,
        targets=TARGETS,
        achieved=_achieved(table, name),
    )


def _achieved(table: list[Row], name: str) -> sample_size.Widths:
    """Return the widths of the intervals that this study has."""

    def width(metric: str, *, logged: bool = False, share: float = 1.0) -> float | None:
        row = next((r for r in find(table, metric) if r["class"] == name), None)
        if row is None or row.get("lower") is None or row.get("upper") is None:
            return None
        low, high = row["lower"], row["upper"]
        if logged:
            return float(np.log(high / low)) if low > 0 else None
        return float((high - low) / share)

    common = next((r for r in find(table, "prevalence") if r["class"] == name), None)
    share = common["value"] if common is not None and common["value"] else 1.0
    return sample_size.Widths(
        oe=width("observed_over_expected", logged=True),
        auroc=width("auroc"),
        slope=width("calibration_slope"),
        net_benefit=width("net_benefit", share=share),
    )
