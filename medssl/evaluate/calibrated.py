"""Do the percentages hold, what would a local update change, and where should the line be."""

from functools import partial
from typing import Any

import numpy.typing as npt

from medssl.config import EvaluateConfig
from medssl.evaluate.answers import Answers, FloatArray, IntArray
from medssl.evaluate.groups import count
from medssl.evaluate.plain import attempt
from medssl.stats import bands, guarantee, net_benefit, recalibration, usefulness

CURVE_RESAMPLES = 500
JUDGE_RESAMPLES = 200


def of_class(answers: Answers, k: int, config: EvaluateConfig) -> dict[str, Any]:
    """Return calibration, updates, the decision curve and thresholds of one class.

    Args:
        answers: labelled pictures of the new hospital.
        k: place of the class.
        config: seeds, targets and repeats.

    Returns:
        ``bands`` (curve, points, ICI to ECE), ``judged`` (updates on patients they did not see),
        ``update`` (the one the rule picks, fitted to all), ``decision`` (net benefit by threshold),
        ``guarantees`` (thresholds chosen anew) ``measures`` at the working
        threshold; a part that cannot be computed is
        ``{"note": why}``.
    """
    known = answers.known(k)
    y, p = known.of(k)
    who, name = known.patient, answers.classes[k]
    line = answers.thresholds[name]
    return {
        "class": name,
        "bands": _bands(y, p, who, config.seed),
        "judged": attempt(
            lambda: recalibration.judge(
                y,
                p,
                who,
                repeats=config.cv_repeats,
                resamples=JUDGE_RESAMPLES,
                seed=config.seed,
            )
        ),
        "update": _update(y, p, who),
        "decision": attempt(
            lambda: net_benefit.decision_curve(
                y, p, who, resamples=CURVE_RESAMPLES, seed=config.seed
            )
        ),
        "guarantees": _guarantees(answers, k, config),
        "measures": attempt(
            lambda: usefulness.measures_at(
                y, p, line, who, resamples=config.resamples, seed=config.seed
            )
        ),
    }


def _bands(y: IntArray, p: FloatArray, who: npt.NDArray[Any], seed: int) -> dict[str, Any]:
    """Return the calibration picture, the small counts of its points hidden."""
    found = attempt(
        lambda: bands.calibration_bands(y, p, who, resamples=JUDGE_RESAMPLES, seed=seed)
    )
    for name in ("n", "events", "patients") if "points" in found else ():
        found["points"][name] = [count(int(v)) for v in found["points"][name]]
    return found


def _update(y: IntArray, p: FloatArray, who: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the update the rule picks, fitted to all; none that would turn the model round."""
    found = attempt(lambda: recalibration.fit(recalibration.chosen(y, who), y, p))
    if found.get("b", 1.0) <= 0:
        words = (
            "No update is offered: here higher percentages go with fewer findings, and the fitted one "
            f"(log-odds times {found['b']:.3f}) would turn the model round."
        )
        return {"note": words}
    return found


def _guarantees(answers: Answers, k: int, config: EvaluateConfig) -> list[dict[str, Any]]:
    known = answers.known(k)
    y, p = known.of(k)
    asked: list[tuple[guarantee.Rate, float]] = [("sensitivity", config.target_sensitivity)]
    if config.target_ppv is not None:
        asked.append(("ppv", config.target_ppv))
    options: Any = {"confidence": config.confidence, "seed": config.seed}
    out = []
    for rate, target in asked:
        choose = partial(
            guarantee.guaranteed_threshold, y, p, known.patient, rate=rate, target=target
        )
        out.append({"rate": rate, "target": target} | attempt(partial(choose, **options)))
    return out
