"""When the model should say that it does not know: sets of answers, and what is left to a person."""

from typing import Any

import numpy as np

from medssl.config import EvaluateConfig
from medssl.evaluate.answers import Answers, FloatArray
from medssl.evaluate.groups import count, levels_of
from medssl.evaluate.inputs import Here, Question
from medssl.evaluate.plain import plain
from medssl.evaluate.reference import Reference
from medssl.stats import conformal
from medssl.stats.bootstrap import Patients, intervals
from medssl.stats.likeness import clustered_share

SHIFTS = {"embedding": "of the embeddings", "outputs": "of the predictions"}
SHOWN_COVERAGES = (0.25, 0.5, 0.75, 1.0)


def of(
    question: Question,
    reference: Reference,
    here: Here,
    answers: Answers,
    config: EvaluateConfig,
    shift: dict[str, Any],
) -> dict[str, Any]:
    """Return conformal sets calibrated at the source, their coverage here, and selective risk.

    Args:
        question, reference, here, answers, config: as everywhere.
        shift: of ``shifted.of``: the promise of the sets rests on there being none.

    Returns:
        ``rule`` (limits per class), ``unsure_percent`` of all pictures here, ``coverage`` rows over
        all, by class and by group, ``selective`` rows at both hospitals; or ``{"note": why}``.
    """
    if not answers.exclusive:
        return {"note": "Not run: sets of answers need classes that exclude each other."}
    try:
        rule = rule_of(reference, config)
    except ValueError as error:
        return {"note": str(error)}
    every = conformal.prediction_sets(rule, here.scores(question))
    out: dict[str, Any] = {
        "rule": plain(rule) | {"patients": [count(int(n)) for n in rule.patients]},
        "miss_rate": rule.alpha,
        "unsure_percent": float(100 * (every.sum(1) > 1).mean()),
        "empty_percent": float(100 * (every.sum(1) == 0).mean()),
        "unsure": plain(clustered_share(every.sum(1) > 1, here.patient)),
        "empty": plain(clustered_share(every.sum(1) == 0, here.patient)),
        "caution": _caution(rule, shift, config),
        "coverage": [],
        "selective": [],
    }
    if out["unsure_percent"] == 100.0:
        out["caution"] += (
            " The sets are useless here: every one holds several answers; the source had too few "
            "validation patients to draw them tighter."
        )
    if reference.answers is not None and len(reference.answers):
        out["selective"].append({"hospital": "source", **_selective(reference.answers, config)})
    if len(answers):
        out["coverage"] = _coverage(rule, reference, here, answers, config)
        out["selective"].append({"hospital": "here", **_selective(answers, config)})
        out["selective"] += _selective_parts(reference, here, answers, config)
    return out


def _caution(rule: conformal.ConformalRule, shift: dict[str, Any], config: EvaluateConfig) -> str:
    """Return what the promise rests on, with the shift test beside it."""
    told = [f"{n} p = {shift[k]['p']:.3g}" for k, n in SHIFTS.items() if "p" in shift[k]]
    beside = f" The shift tests here: {', '.join(told)}." if told else ""
    other = ""
    if rule.alpha != config.miss_rate:
        other = f" The pack was made for a miss rate of {rule.alpha:g}, not {config.miss_rate:g}."
    return (
        "The promise holds for patients who come from where the calibrating ones came from; a small p "
        f"says that these do not.{beside}{other}"
    )


def _selective_parts(
    reference: Reference, here: Here, answers: Answers, config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return the selective risk here by class and by group, of parts large enough to say."""
    parts = [("class", answers.classes[k], answers.codes == k) for k in range(len(answers.classes))]
    for group in config.groups:
        level = levels_of(group, here.columns, reference.columns, len(here.patient))
        if level is not None:
            mine = level[answers.row]
            found = sorted(set(mine.tolist()))
            parts += [
                (group.replace("_", " "), one, mine == one) for one in found if len(found) > 1
            ]
    out = []
    for part, name, inside in parts:
        one = answers.part(inside)
        if len(set(one.patient.tolist())) >= config.min_cell_patients:
            row = {"hospital": "here", "part": part, "name": str(name)}
            out.append({**row, **_selective(one, config)})
    return out


def rule_of(reference: Reference, config: EvaluateConfig) -> conformal.ConformalRule:
    """Return the limits per class, from validation patients of the source.

    Raises:
        ValueError: there are none.
    """
    if reference.pack is not None:
        kept = reference.pack["conformal"]
        if "note" in kept:
            raise ValueError(kept["note"])
        return conformal.ConformalRule(
            np.array([np.inf if v is None else v for v in kept["limit"]]),
            float(kept["alpha"]),
            bool(kept["by_class"]),
            np.array(kept["patients"]),
            str(kept["note_words"]),
        )
    held = reference.validation
    if held is None or len(held) == 0:
        raise ValueError("Not run: the source has no labelled validation patients.")
    return conformal.calibrate(
        held.codes, held.scores, held.patient, alpha=config.miss_rate, seed=config.seed
    )


def _coverage(
    rule: conformal.ConformalRule,
    reference: Reference,
    here: Here,
    answers: Answers,
    config: EvaluateConfig,
) -> list[dict[str, Any]]:
    sets = conformal.prediction_sets(rule, answers.scores)
    names = np.array(answers.classes)
    out = []
    options: dict[str, Any] = {"seed": config.seed}
    for one in conformal.set_coverage(sets, answers.codes, answers.patient, **options):
        row = plain(one)
        if row["part"] == "class":
            row["name"] = str(names[int(row["name"])])
        out.append(_hidden(row))
    for name in config.groups:
        level = levels_of(name, here.columns, reference.columns, len(here.patient))
        if level is None or len(set(level[answers.row].tolist())) < 2:
            continue
        mine = level[answers.row]
        found = conformal.set_coverage(sets, answers.codes, answers.patient, group=mine, **options)
        words = name.replace("_", " ")
        out += [
            {**_hidden(plain(one)), "part": words}
            for one in found
            if one.part == "group" and one.patients >= config.min_cell_patients
        ]
    return out


def _hidden(row: dict[str, Any]) -> dict[str, Any]:
    """Return a coverage row with its small counts hidden."""
    counts = ("patients", "covered", "empty", "single", "unsure")
    return {**row, **{k: count(row[k]) for k in counts}}


def _selective(answers: Answers, config: EvaluateConfig) -> dict[str, Any]:
    """Return the area under risk against coverage with its interval, and the risk at some shares."""
    wrong, sure = conformal.decisions(answers.codes, answers.scores)
    curve = conformal.risk_coverage(wrong, sure)
    groups = Patients.of(answers.patient)
    area = intervals(
        {"": conformal.counted_aurc(wrong, sure, groups)},
        groups,
        resamples=min(config.resamples, 500),
        seed=config.seed,
    )[""]
    picked: FloatArray = np.ceil(np.array(SHOWN_COVERAGES) * len(wrong)).astype(int) - 1
    return {
        "aurc": plain(area),
        "error_at": {
            f"{c:g}": float(curve.risk[i]) for c, i in zip(SHOWN_COVERAGES, picked, strict=True)
        },
    }
