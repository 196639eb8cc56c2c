"""Sections about the percentages and what a decision by them is worth."""

from itertools import chain
from typing import Any

from medssl.evaluate.report.figures_curves import calibration as calibration_figure
from medssl.evaluate.report.figures_curves import decision, histogram
from medssl.evaluate.report.page import (
    Figure,
    Material,
    Section,
    Table,
    absent,
    finding,
    number,
    percent,
    ran,
    section,
    span,
    table,
)
from medssl.evaluate.report.sections_performance import NO_LABELS, beside, shown
from medssl.evaluate.report.sections_pictures import scores_here

Row = dict[str, Any]
CALIBRATION = (
    "observed_over_expected",
    "calibration_slope",
    "calibration_intercept",
    "brier",
    "scaled_brier",
)
BENEFIT = ("net_benefit", "net_benefit_gain")
UPDATES = {
    "none": "none (as it came)",
    "intercept": "level (intercept)",
    "intercept+slope": "level and spread (intercept and slope)",
    "isotonic": "any rising curve",
}


def calibration(material: Material) -> Section:
    """Return whether the percentages are right, before and after a local update."""
    report = material.report
    title = "Percentages: does 30 % mean 30 of 100?"
    figures = list(chain.from_iterable(_calibration_figures(material)))
    if not report["calibration"]:
        why = NO_LABELS if not report["cohort"]["labelled"] else ONE_CLASS
        return Section("calibration", title, (why,), tuple(f for f in figures if f), present=False)
    words = [
        "Observed over expected compares how many had the finding with how many the percentages "
        "foretold: above 1 they are too low, below 1 too high. A slope below 1 says that high "
        "percentages are too high and low ones too low. ICI is the mean distance between percentage "
        "and truth.",
        "Updates were fitted on some patients and judged on others, in turn; the rule that picks one "
        "counts patients and never looks at the result.",
    ]
    tables = [
        beside(report, CALIBRATION, "Calibration by image: value (95 % interval)"),
        _distances(report),
        _updates(report),
    ]
    return section("calibration", title, words, figures, tables, _rules(report))


ONE_CLASS = "Not run: of every class, either all labelled pictures here have it or none."


def _calibration_figures(material: Material) -> list[list[Figure | None]]:
    out: list[list[Figure | None]] = []
    found = {c["class"]: c for c in material.report["calibration"]}
    for n, (k, name) in enumerate(shown(material)):
        words = finding(material.report, name)
        mine = scores_here(material, name)
        pair: list[Figure | None] = []
        if name in found and ran(found[name]["bands"], "points"):
            told = f"Chance given against share observed for {words}, with band and ten groups."
            picture = calibration_figure(f"calibration-{n}", found[name]["bands"], mine, told)
            pair.append(
                Figure(picture, f"{words}: percentages against what happened; the band holds 95 %.")
            )
        scores = histogram(
            f"scores-{n}",
            material.reference.scores[:, k],
            mine,
            material.report["thresholds"][name],
        )
        pair.append(Figure(scores, f"{words}: how often each chance is given at both hospitals."))
        out.append(pair)
    return out


def _distances(report: Row) -> Table:
    rows = []
    names = {"ici": "ICI, mean", "e50": "E50, median", "e90": "E90, exceeded by 10 %",
             "emax": "Emax, largest", "ece": "ECE, ten groups"}  # fmt: skip
    for one in report["calibration"]:
        for key, words in names.items():
            if ran(one["bands"], key):
                part = one["bands"][key]
                rows.append(
                    (
                        words,
                        finding(report, one["class"]),
                        span(part["interval"]),
                        number(part["bias"]),
                    )
                )
    caption = "Distance between percentage and truth, here (0 is perfect)"
    header = ("distance", "class", "value (95 % interval)", "of which noise alone")
    return table(caption, header, rows)


def _updates(report: Row) -> Table:
    rows = []
    for one in report["calibration"]:
        for m in one["judged"].get("methods", []):
            mark = " (picked by the rule)" if m["method"] == one["judged"]["best"] else ""
            numbers = (span(m[k]) for k in ("oe", "slope", "brier", "ici"))
            words = UPDATES.get(m["method"], m["method"])
            rows.append((f"{words}{mark}", finding(report, one["class"]), *numbers))
    caption = (
        "Local updates of the percentages, judged on patients they did not see (95 % interval)"
    )
    return table(
        caption, ("what is updated", "class", "observed / expected", "slope", "Brier", "ICI"), rows
    )


def _rules(report: Row) -> list[str]:
    out = []
    for one in report["calibration"]:
        name, update = finding(report, one["class"]), one["update"]
        out.append(f"{name}: {one['judged'].get('rule') or one['judged'].get('note', '')}")
        if update.get("note"):
            out.append(f"{name}: {update['note']}")
        if ran(update, "a") and update["method"].startswith("intercept"):
            out.append(
                f"{name}: fitted to all patients here, the picked update is log-odds times "
                f"{number(update['b'])} + ({number(update['a'])})."
            )
        if one["bands"].get("note"):
            out.append(f"{name}: {one['bands']['note']}")
    return out


def usefulness(material: Material) -> Section:
    """Return net benefit by threshold: is it better than flagging everyone or no one."""
    report = material.report
    title = "Usefulness: better than flagging everyone, or no one?"
    if not report["calibration"]:
        why = NO_LABELS if not report["cohort"]["labelled"] else ONE_CLASS
        return absent("usefulness", title, why)
    words = [
        "Net benefit counts findings per picture, less false alarms at the price that the threshold "
        "puts on them (in units of one finding missed per image): who flags from 10 % accepts nine false "
        "alarms for one finding. A model that "
        "lies below either plain policy at the threshold in use does harm there."
    ]
    figures = []
    found = {c["class"]: c for c in report["calibration"]}
    for n, (_, name) in enumerate(shown(material)):
        if name in found and ran(found[name]["decision"], "threshold"):
            picture = decision(f"decision-{n}", found[name]["decision"], report["thresholds"][name])
            figures.append(
                Figure(
                    picture,
                    f"Net benefit for {finding(report, name)} in findings per image; band: 95 %.",
                )
            )
    notes = [
        f"{finding(report, c['class'])}: {c['decision']['note']}"
        for c in report["calibration"]
        if c["decision"].get("note")
    ]
    tables = [
        beside(report, BENEFIT, "At the working threshold, in findings per image (95 % interval)"),
        _curve(report),
    ]
    return section("usefulness", title, words, figures, tables, notes)


def _curve(report: Row) -> Table:
    rows = []
    for one in report["calibration"]:
        curve = one["decision"]
        if not ran(curve, "threshold"):
            continue
        for k, at in enumerate(curve["threshold"]):
            if round(100 * at) % 10 == 0:
                model = {"value": curve["model"][k], **_ends(curve, "lower", "upper", k)}
                gain = {"value": curve["gain"][k], **_ends(curve, "gain_lower", "gain_upper", k)}
                cells = (span(model), number(curve["treat_all"][k]), span(gain))
                rows.append((percent(at), finding(report, one["class"]), *cells))
    header = (
        "flag from",
        "class",
        "the model",
        "flag everyone",
        "model less the better of all and none",
    )
    return table("Net benefit at some thresholds (95 % interval)", header, rows)


def _ends(curve: Row, low: str, high: str, k: int) -> Row:
    ends = (curve[low], curve[high])
    return {n: None if e is None else e[k] for n, e in zip(("lower", "upper"), ends, strict=True)}
