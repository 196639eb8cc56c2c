"""What changed between two evaluations of one question: every figure beside its older self."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from medssl import runs
from medssl.errors import RefusedError
from medssl.evaluate import inputs
from medssl.evaluate.answers import Answers, answers_of
from medssl.evaluate.performance import ALL_SITES, IMAGE
from medssl.evaluate.reference import keys
from medssl.evaluate.report.write import NAMES, interval
from medssl.stats.agreement import mcnemar_by_patient
from medssl.stats.delong import AurocDifference, paired

SHOWN = ("images", "patients", "labelled")


def compare(old: Path, new: Path) -> list[tuple[str, str, str, str]]:
    """Return rows of (what, old, new, how they compare) of two finished evaluations.

    Two intervals that do not overlap are called apart; overlapping ones prove nothing. Pictures that
    both hold are compared in pairs: the same cohort under two models, or after an update.

    Raises:
        RefusedError: they answer different questions.
        MedsslError: not finished evaluations.
    """
    one, two = _report(old), _report(new)
    if (one["target"], one["classes"]) != (two["target"], two["classes"]):
        words = (
            f"{old} asks for {one['target']} ({', '.join(one['classes'])}), {new} for {two['target']} "
            f"({', '.join(two['classes'])}); only evaluations of one question can be compared."
        )
        raise RefusedError(words, "E-DIFF")
    rows = [("verdict", one["verdict"]["answer"], two["verdict"]["answer"], "")]
    rows += [(n, str(one["cohort"][n]), str(two["cohort"][n]), "") for n in SHOWN]
    for name in ("classifier", "cohort manifest", "medssl"):
        was, now = (str(r["provenance"].get(name, "-"))[:16] for r in (one, two))
        rows.append((name, was, now, "same" if was == now else "another"))
    theirs, mine = _rows(one), _rows(two)
    for key in dict.fromkeys([*theirs, *mine]):
        a, b = theirs.get(key), mine.get(key)
        metric, name = key
        words = NAMES.get(metric, metric) + (f" ({name})" if name else "")
        rows.append((words, interval(a), interval(b), _apart(a, b)))
    rows.append(_shift("embedding shift p", one, two, "embedding"))
    rows.append(_shift("site can be told, AUROC", one, two, "domain", "auroc"))
    rows += _paired(old, new, one)
    for name, value in two["settings"].items():
        before = one["settings"].get(name)
        if before != value:
            rows.append((f"setting {name}", str(before), str(value), "another"))
    return rows


def as_text(old: Path, new: Path) -> str:
    """Return the comparison as aligned text."""
    rows = [("", "old", "new", ""), *compare(old, new)]
    width = [max(len(r[k]) for r in rows) for k in range(3)]
    lines = [
        "  ".join([*(c.ljust(w) for c, w in zip(r[:3], width, strict=True)), r[3]]) for r in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _report(run: Path) -> dict[str, Any]:
    runs.finished(run, "evaluate")
    try:
        found = json.loads((run / "report.json").read_text(encoding="utf-8"))
        if not {"target", "classes", "verdict", "cohort", "performance", "shift", "period"} <= set(
            found
        ):
            raise ValueError("parts are absent")
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"{run}: its report.json cannot be read ({error}).", "E-REPORT"
        ) from error
    return dict(found)


def _rows(report: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (r["metric"], r.get("class", "")): r
        for r in report["performance"]
        if (r["cohort"], r["site"], r.get("level", IMAGE)) == ("target", ALL_SITES, IMAGE)
    }


def _apart(a: dict[str, Any] | None, b: dict[str, Any] | None) -> str:
    if a is None or b is None or a.get("lower") is None or b.get("lower") is None:
        return "cannot be compared"
    if a["upper"] < b["lower"]:
        return "higher: the intervals are apart"
    return "lower: the intervals are apart" if b["upper"] < a["lower"] else "the intervals overlap"


def _shift(
    words: str, one: dict[str, Any], two: dict[str, Any], part: str, key: str = "p"
) -> tuple[str, str, str, str]:
    values = [r["shift"].get(part, {}).get(key) for r in (one, two)]
    a, b = ("not run" if v is None else f"{v:.3g}" for v in values)
    return words, a, b, ""


def _paired(old: Path, new: Path, report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return paired comparisons on the labelled pictures that both evaluations hold."""
    classes = tuple(report["classes"])
    one, two = (_answers(run, classes, report["thresholds"]) for run in (old, new))
    both = [k for k in one[1] if k in two[1]]
    if not both:
        return [("labelled pictures in both", "0", "0", "no paired comparison")]
    first = one[0].part(np.array([one[1][k] for k in both]))
    second = two[0].part(np.array([two[1][k] for k in both]))
    rows = [("labelled pictures in both", str(len(both)), str(len(both)), "")]
    for k in first.shown:
        name = classes[k]
        a, b = first.known(k), second.known(k)
        if len(a) != len(b) or len(set(a.outcome[:, k].tolist())) < 2:
            continue
        found = paired(a.outcome[:, k], b.scores[:, k], a.scores[:, k], a.patient)
        rows.append((f"AUROC, paired ({name})", *_difference(found)))
        line = report["thresholds"][name]
        right = [(x.scores[:, k] >= line) == (x.outcome[:, k] == 1) for x in (a, b)]
        test = mcnemar_by_patient(right[1], right[0], a.patient)
        words = (
            test.note if test.p is None else f"new less old {test.difference:+.3f}, {_p(test.p)}"
        )
        was, now = (f"{float(r.mean()):.3f}" for r in right)
        rows.append((f"share right at {line:.3f} ({name})", was, now, words))
    return rows


def _difference(found: AurocDifference) -> tuple[str, str, str]:
    new, old = found.a.value, found.b.value
    told = ["-" if v is None else f"{v:.3f}" for v in (old, new)]
    if found.value is None or found.lower is None or found.p is None:
        return told[0], told[1], found.note
    limits = f"({found.lower:+.3f} to {found.upper:+.3f})"
    return told[0], told[1], f"new less old {found.value:+.3f} {limits}, {_p(found.p)}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _answers(
    run: Path, classes: tuple[str, ...], thresholds: dict[str, float]
) -> tuple[Answers, dict[tuple[str, int], int]]:
    here = inputs.read_here(run, inputs.read_question(run))
    asked = _report(run)["period"]
    kept = here.between(asked["since"], asked["until"]).predictions
    answers = answers_of(kept, classes, thresholds)
    every = keys(kept)
    return answers, {every[int(r)]: k for k, r in enumerate(answers.row)}
