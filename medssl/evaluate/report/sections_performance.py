"""Sections about the answers: ranking, and what happens at the threshold."""

from typing import Any

from medssl.evaluate.answers import Answers
from medssl.evaluate.performance import ALL_SITES, MACRO, find
from medssl.evaluate.report.figures import GREY, ORANGE, Mark, forest
from medssl.evaluate.report.figures_curves import roc, roc_points
from medssl.evaluate.report.page import (
    NONE,
    Figure,
    Material,
    Section,
    Table,
    absent,
    clean,
    finding,
    number,
    p_cell,
    people,
    percent,
    ran,
    section,
    span,
    table,
)
from medssl.evaluate.report.sections_answer import of_class
from medssl.evaluate.report.sections_pictures import rank_bars

Row = dict[str, Any]
MOST_CLASSES = 8
NO_LABELS = (
    "Not run: no picture here has a usable label, so nothing here says how well the model does."
)
NAMES = {
    "auroc": "AUROC",
    "macro_auroc": "AUROC, mean over classes",
    "average_precision": "average precision",
    "prevalence": "prevalence",
    "sensitivity": "sensitivity at the source's threshold",
    "specificity": "specificity at the source's threshold",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "alerts_per_100": "alerts per 100 images",
    "net_benefit": "net benefit",
    "net_benefit_gain": "net benefit over flagging all or none",
    "brier": "Brier score",
    "scaled_brier": "scaled Brier score",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration in the large",
    "observed_over_expected": "observed / expected",
}
BY_PATIENT = {"alerts_per_100": "alerts per 100 patients"}
RANKING = ("macro_auroc", "auroc", "average_precision", "prevalence")
MEASURES = {
    "lr_positive": "likelihood ratio of a flag (1 tells nothing)",
    "lr_negative": "likelihood ratio of no flag (1 tells nothing)",
    "diagnostic_odds": "diagnostic odds ratio",
    "reads_per_finding": "flagged images read for each finding",
    "balanced_accuracy": "balanced accuracy",
    "youden": "Youden's index",
    "f1": "F1",
    "mcc": "Matthews correlation",
    "kappa": "Cohen's kappa",
}
"""Of ``usefulness.MEASURES`` those that no other table has."""

RATES = ("sensitivity", "specificity", "ppv", "npv")
THRESHOLD = ("sensitivity", "specificity", "ppv", "npv", "alerts_per_100")


def beside(report: Row, metrics: tuple[str, ...], caption: str, level: str = "image") -> Table:
    """Return the source beside this hospital for some metrics, all sites together."""
    rows = []
    names = [MACRO, *report["thresholds"]]
    for name in names:
        for metric in metrics:
            pair = [
                next(
                    (
                        r
                        for r in find(report["performance"], metric, c, level=level)
                        if r["class"] == name
                    ),
                    None,
                )
                for c in ("source", "target")
            ]
            if pair[0] is None and pair[1] is None:
                continue
            mine, theirs = pair[1] or {}, pair[0] or {}
            shown = MACRO if name == MACRO else finding(report, name)
            events = None if name == MACRO else mine.get("events")
            words = BY_PATIENT.get(metric, NAMES[metric]) if level == "patient" else NAMES[metric]
            digits = 1 if metric == "alerts_per_100" else 3
            cells = (span(pair[0], digits), number(theirs.get("patients")), span(pair[1], digits))
            rows.append((words, shown, *cells, number(mine.get("patients")), number(events)))
    header = (
        "measure",
        "class",
        "source, held-out",
        "its patients",
        "here",
        "patients here",
        f"{level}s with it here",
    )
    return table(caption, header, rows)


def discrimination(material: Material) -> Section:
    """Return how well it ranks: AUROC by hospital, level and site, and the ROC curves."""
    report = material.report
    title = "Ranking: does it tell pictures with the finding from those without?"
    if not report["performance"]:
        return absent("discrimination", title, NO_LABELS)
    per_patient = bool(find(report["performance"], "auroc", level="patient"))
    words = [
        "The AUROC is the share of pairs, one picture with and one without the finding, in which the "
        "first gets the higher chance: 1 is perfect, 0.5 is a coin. Average precision depends on how "
        "common the finding is; read it beside the prevalence.",
        "Intervals hold 95 % and resample patients, never single images. The source's numbers are those of "
        "its held-out test patients, whom the model never saw."
        if report["cohort"]["labelled"]
        else NO_LABELS,
    ]
    tables = [
        beside(report, RANKING, "By image: value (95 % interval)"),
        *([beside(report, RANKING, PER_PATIENT, "patient")] if per_patient else []),
        _differences(report),
        _formula(report),
        _sites(report),
        _mix(report),
    ]
    notes = [
        (f"{finding(report, r['class'])}: " if r["class"] else "") + f"mix of patients: {r['note']}"
        for r in report["mix"]
        if r.get("note")
    ]
    return section(
        "discrimination", title, words, [_forest(report), *_rocs(material)], tables, notes
    )


PER_PATIENT = "By patient (another question: positive if any image is): AUROC, average precision of the mean chance"


def _forest(report: Row) -> Figure | None:
    bars = rank_bars(report)
    if not bars:
        return None
    marks = (
        Mark(report["settings"]["floor_auroc"], "floor", ORANGE, "--"),
        Mark(0.5, "a coin", GREY),
    )
    words = "AUROC with intervals by hospital and site; the numbers are in the tables."
    picture = forest("rank", bars, words, "AUROC with 95 % interval", marks, (0.4, 1.0))
    return Figure(picture, "AUROC by hospital and site; squares: the source, circles: here.")


def _differences(report: Row) -> Table:
    rows = [
        (
            finding(report, r["class"]),
            span(r) if r.get("value") is not None else r["note"],
            p_cell(r["p"]),
        )
        for r in report["differences"]
    ]
    counts = [next(iter(find(report["performance"], "auroc", c)), {}).get("patients")
              for c in ("target", "source")]  # fmt: skip
    caption = (
        f"AUROC here ({people(counts[0])}) less that at the source ({people(counts[1])}); unpaired, "
        "patients as the unit"
    )
    return table(caption, ("class", "difference (95 % interval)", "p"), rows)


def _formula(report: Row) -> Table:
    rows = []
    for cohort, whose in (("source", "source, held-out"), ("target", "here")):
        for r in find(report["performance"], "auroc", cohort):
            if r.get("formula_lower") is None:
                continue
            other = {"value": r["value"], "lower": r["formula_lower"], "upper": r["formula_upper"]}
            rows.append((whose, finding(report, r["class"]), span(r), span(other)))
    caption = "The same AUROC with intervals by resampling and by formula (DeLong over patients)"
    return table(caption, ("hospital", "class", "resampling", "formula"), rows)


def _sites(report: Row) -> Table:
    rows = []
    for r in report["performance"]:
        if r["site"] == ALL_SITES or "auroc" not in r["metric"]:
            continue
        whose = "source" if r["cohort"] == "source" else "here"
        name = r["class"] and (
            r["class"] if r["metric"] == "macro_auroc" else finding(report, r["class"])
        )
        rows.append(
            (clean(r["site"]), whose, NAMES[r["metric"]], name, span(r), number(r.get("patients")))
        )
    header = ("site", "hospital", "measure", "class", "value (95 % interval)", "patients")
    return table("AUROC by site", header, rows)


def _mix(report: Row) -> Table:
    rows, lower = [], True
    for r in report["mix"]:
        if not ran(r, "drop") or r["drop"] is None:
            continue
        parts = [NONE if r[k] is None else span(r[k]) for k in ("drop", "mix", "rest")]
        rows.append((finding(report, r["class"]), *parts, number(r["effective"], 0)))
        lower = lower and r["drop"]["value"] is not None and r["drop"]["value"] > 0
    why = "Why the AUROC is lower" if lower else "What makes up the difference in AUROC"
    caption = f"{why}: other kinds of patients, or the model itself"
    header = ("class", "drop from the source", "due to the mix of patients", "rest: the model",
              "source patients that resemble those here")  # fmt: skip
    return table(caption, header, rows)


def _rocs(material: Material) -> list[Figure | None]:
    out: list[Figure | None] = []
    for number_, (k, name) in enumerate(shown(material)):
        here = material.here.answers(material.question).known(k)
        found = roc_points(*here.of(k)) if len(here) else None
        lines = (
            [("source, held-out", *theirs)] if (theirs := _source_roc(material, k, name)) else []
        )
        if found is None:
            continue
        lines.append(("here", *found))
        at = _working_point(material.report, name)
        picture = roc(f"roc-{number_}", lines, at)
        words = f"{finding(material.report, name)}: of those with it how many are found, against false alarms."
        out.append(Figure(picture, words))
    return out


def _working_point(report: Row, name: str) -> tuple[float, float] | None:
    """Return false alarms and findings at the source's threshold, here."""
    pair = [of_class(report, m, name) for m in ("specificity", "sensitivity")]
    values = [r["value"] for r in pair if r is not None and r.get("value") is not None]
    return (1 - values[0], values[1]) if len(values) == 2 else None


def shown(material: Material) -> list[tuple[int, str]]:
    """Return place and name of the classes that get figures."""
    names = list(material.report["thresholds"])[:MOST_CLASSES]
    return [(material.question.classes.index(n), n) for n in names]


def _source_roc(material: Material, k: int, name: str) -> tuple[Any, Any] | None:
    answers: Answers | None = material.reference.answers
    if answers is not None:
        known = answers.known(k)
        return roc_points(*known.of(k)) if len(known) else None
    found = (material.reference.pack or {}).get("roc", {}).get(name)
    return (found[0], found[1]) if found else None


def threshold(material: Material) -> Section:
    """Return what happens at the working threshold, and what a new one would have to be."""
    report = material.report
    title = "At the threshold: who is flagged, who is missed?"
    lines = ", ".join(
        f"{finding(report, n)} from {number(v)}" for n, v in report["thresholds"].items()
    )
    words = [
        f"Working thresholds were chosen at the source on validation patients (rule: "
        f"{clean(report['threshold_rule'])}): {lines}. They were not changed here.",
        "Predictive values depend on how common the finding is.",
    ]
    if not report["cohort"]["labelled"]:
        return absent("threshold", title, f"{words[0]} {NO_LABELS}")
    per_patient = bool(find(report["performance"], "sensitivity", level="patient"))
    caption = "By patient at the same threshold (flagged if any image is)"
    tables = [
        beside(report, THRESHOLD, "By image at the source's threshold: value (95 % interval)"),
        *([beside(report, THRESHOLD, caption, "patient")] if per_patient else []),
        _wilson(report),
        _measures(report),
        _guarantees(report),
    ]
    notes = [
        f"{finding(report, one['class'])}: {g['note']}"
        for one in report["calibration"]
        for g in one["guarantees"]
        if g.get("note")
    ]
    return section("threshold", title, words, (), tables, notes)


def _measures(report: Row) -> Table:
    rows = []
    for one in report["calibration"]:
        found = one.get("measures") or {}
        for key, words in MEASURES.items():
            if ran(found, key):
                rows.append((words, finding(report, one["class"]), span(found[key])))
    caption = "Other measures at the threshold, here, by image; intervals resample patients"
    return table(caption, ("measure", "class", "value (95 % interval)"), rows)


def _wilson(report: Row) -> Table:
    """Return the rates with both intervals; Wilson's counts as many rows as the patients are worth."""
    rows = []
    for cohort, whose in (("source", "source, held-out"), ("target", "here")):
        for metric in RATES:
            for r in find(report["performance"], metric, cohort):
                if r.get("formula_lower") is None or r.get("value") is None:
                    continue
                other = {
                    "value": r["value"],
                    "lower": r["formula_lower"],
                    "upper": r["formula_upper"],
                }
                cells = (span(r), span(other), number(r.get("patients")))
                rows.append((f"{metric}, {whose}", finding(report, r["class"]), *cells))
    header = ("rate", "class", "resampling", "Wilson by patient", "patients")
    caption = "The same rates by image with intervals by resampling and by formula"
    return table(caption, header, rows)


def _guarantees(report: Row) -> Table:
    rows = []
    for one in report["calibration"]:
        for g in one["guarantees"]:
            asked = f"{g['rate'].upper() if g['rate'] == 'ppv' else g['rate']} of {percent(g['target'])}"
            found = ("not reachable", NONE, NONE)
            if g.get("threshold") is not None:
                hits = f"{number(g['hits'])} of {number(g['trials'])}"
                found = (number(g["threshold"]), hits, number(g["flagged"]))
            rows.append((asked, finding(report, one["class"]), *found))
    caption = "Thresholds chosen anew here that keep a promise for new patients"
    return table(caption, ("promise", "class", "flag from", "kept for", "patients flagged"), rows)
