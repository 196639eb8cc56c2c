"""The first page, second part: what limits the answer, and what to do next."""

from typing import Any

from medssl.evaluate.performance import find
from medssl.evaluate.report.page import clean, finding, listed, number, people, span, unmoved
from medssl.evaluate.report.sections_answer import (
    WITHIN,
    auroc,
    best_update,
    is_few,
    kept,
    of_class,
)
from medssl.evaluate.report.sections_remedies import BASES, ORIGINAL
from medssl.evaluate.verdict import ADJUST, AS_IS, CANNOT_TELL, DO_NOT_USE

Report = dict[str, Any]
NEXT = {
    DO_NOT_USE: "Do not use it on patients of this hospital as it is.",
    CANNOT_TELL: "Nothing here is proof either way: do not use it on patients of this hospital yet.",
    ADJUST: "Recalibrate it on local patients, freeze the result, and judge it once more on later "
    "patients before any trial in use.",
    AS_IS: "A supervised trial in use can be planned; evaluate again at regular times, since "
    "machines, patients and habits change.",
}
NO_LIMIT = "more than were tried"
ALIKE = 0.02
"""AUROCs no farther apart are told as equally good."""

FAIRNESS = {"sex": "sex", "age band": "age", "manufacturer": "maker", "view": "view"}
UNTOLD = {"pdf"}
"""Settings that change no number."""

CRITERIA = {"auroc": "auroc", "calibration_slope": "slope", "observed_over_expected": "oe"}
METRICS = {
    "auroc": "the AUROC",
    "macro_auroc": "the mean AUROC",
    "calibration_slope": "the calibration slope",
    "observed_over_expected": "observed over expected",
    "sensitivity": "the sensitivity at the threshold",
}


def limits_of_answer(report: Report) -> str:
    """Return what the reader must know before leaning on the answer: one paragraph."""
    return " ".join(s for s in (*_never(report), _few_source(report), _unknown(report),
                                settings_words(report)) if s)  # fmt: skip


def _never(report: Report) -> list[str]:
    out = []
    for name, patients in (report.get("patients_never") or {}).items():
        if patients == 0 and report["cohort"]["labelled"]:
            out.append(
                f"Every patient here has {finding(report, name)}: this report says which pictures show it, not "
                "whether a patient has it; nothing is known about false alarms in patients without."
            )
    return out


def _few_source(report: Report) -> str:
    row = next(iter(find(report["performance"], report["headline"], "source")), None)
    if row is None or not is_few(row.get("patients")):
        return ""
    return (
        f"The source's own numbers rest on {people(row['patients'])}: a difference from them is "
        "hardly more than a hint."
    )


def unknown_groups(report: Report) -> list[str]:
    """Return which of sex, age, maker and view are known of no patient here."""
    known = {
        r["attribute"]
        for r in report.get("participants", [])
        if r.get("patients") not in {None, 0} and r["level"] != "not stated"
    }
    return [words for name, words in FAIRNESS.items() if name not in known]


def _unknown(report: Report) -> str:
    names = unknown_groups(report)
    if not names:
        return ""
    return (
        f"Unknown here: {listed(names)}; whether it serves such groups alike could not be judged."
    )


def settings_words(report: Report) -> str:
    """Return which settings are not the default, and which changed after a first report."""
    changed = report.get("settings_changed") or {}
    parts = []
    for key, words, was in (
        ("from_default", "Settings that differ from the default", "default"),
        ("from_before", "changed after a first report", "before"),
    ):
        rows = [r for r in changed.get(key, []) if r[0] not in UNTOLD]
        if rows:
            told = [f"{clean(n)} {_value(v)} ({was} {_value(other)})" for n, v, other in rows]
            parts.append(f"{words}: {', '.join(told)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return listed(value) if isinstance(value, list) else clean(value)


def next_steps(report: Report) -> tuple[str, ...]:
    """Return what follows: the verdict's step, labels to collect, remedies, shortcuts to exclude."""
    answer = report["verdict"]["answer"]
    out = [NEXT.get(answer, NEXT[CANNOT_TELL])]
    if not report["cohort"]["labelled"]:
        out.append(
            "Have a sample of local patients labelled; without labels nothing more can be said."
        )
    elif answer == CANNOT_TELL:
        out.append(_failed_words(report))
    elif answer != DO_NOT_USE:
        out.append(_collect(report))
    # A model that must not be used gains nothing from a narrower interval.
    remedy = _remedy(report)
    out += [remedy, _recalibrate(report)]
    if remedy and any("alone tells" in s or "centre of every" in s for s in
                      report["shortcuts"]["sentences"]) and LOOK not in remedy:  # fmt: skip
        out.append("Before training anew, look at the section on shortcuts: grey tones or the border "
                   "tell more than they should.")  # fmt: skip
    return tuple(s for s in out if s)


def failed(report: Report) -> list[tuple[str, dict[str, Any]]]:
    """Return metric and row of everything that keeps the answer from being a yes."""
    settings, metric = report["settings"], report["headline"]
    out = []
    row = next(iter(find(report["performance"], metric)), None)
    if row is not None and row.get("lower") is not None:
        wide = row["upper"] - row["lower"] > settings.get("max_width", 1)
        if wide or row["lower"] < settings["floor_auroc"]:
            out.append((metric, row))
    for one in find(report["performance"], "sensitivity"):
        if one.get("lower") is not None and one["lower"] < settings.get("floor_sensitivity", 0):
            out.append(("sensitivity", one))
    margins = {
        "calibration_slope": settings["margin_slope"],
        "observed_over_expected": settings["margin_oe"],
    }
    for name in report["thresholds"]:
        for key, margin in margins.items():
            found = of_class(report, key, name)
            if found is not None and kept(found, margin) != WITHIN:
                out.append((key, found))
    return out


def _failed_words(report: Report) -> str:
    told = []
    for metric, row in failed(report):
        name = "" if len(report["thresholds"]) == 1 else f" ({clean(row['class'])})"
        words = f"{METRICS[metric]}{name}, {span(row)}{_asked(report, metric)}"
        need = _needed(report, CRITERIA.get(metric, ""), row["class"])
        told.append(f"{words}{need}")
    if not told:
        return "What failed is named under the verdict: label more patients, and judge on new ones."
    return f"What failed: {'; '.join(told)}. Judge on new patients, not on these again."


def _asked(report: Report, metric: str) -> str:
    """Return what was asked of a metric."""
    settings = report["settings"]
    if metric == "sensitivity":
        return f"; asked: at least {settings['floor_sensitivity']:g}"
    margins = {"calibration_slope": "margin_slope", "observed_over_expected": "margin_oe"}
    if metric in margins:
        low, high = settings[margins[metric]]
        return f"; asked: {low:g} to {high:g}"
    return f"; asked: at least {settings['floor_auroc']:g}, {settings.get('max_width', 1):g} wide at most"


def _needed(report: Report, criterion: str, name: str) -> str:
    """Return about how many patients one criterion needs, as it turned out."""
    for one in report["sample_size"]:
        for c in one.get("after", {}).get("criteria", []):
            if one["class"] == name and c["name"] == criterion and c["needed"] is not None:
                width = number(c["target"], 2) if "target" in c else "asked"
                return (
                    f" (an interval no wider than {width} takes about {number(c['needed'])} patients; "
                    f"{number(c['had'])} were had)"
                )
    return ""


def lacking(report: Report) -> list[tuple[str, str, int, int]]:
    """Return what the study is too small for: class, criterion, patients needed and had."""
    out = []
    for one in report["sample_size"]:
        found = one.get("after", one.get("before", {}))
        for c in found.get("criteria", []):
            if c["enough"] is False and c["needed"] is not None:
                out.append((one["class"], c["name"], c["needed"], c["had"]))
    return out


def _collect(report: Report) -> str:
    # The AUROC decides the verdict; the other criteria stand in their section.
    need = [row for row in lacking(report) if row[1] == "auroc"]
    if not need:
        return ""
    _, _, needed, had = max(need, key=lambda row: row[2] - row[3])
    width = next(s["targets"]["auroc"] for s in report["sample_size"])
    return (
        f"For an AUROC interval no wider than {number(width, 2)} label about {number(needed - had)} "
        f"more patients ({number(needed)} in all)."
    )


LOOK = "look at the shortcuts first: have a radiologist say whether that is disease or exposure"


def _remedy(report: Report) -> str:
    part = report["remedies"]
    tried = [r for r in (part or {}).get("rows", []) if _usable(r)]
    if not tried:
        return ""
    trained = [r for r in tried if r["start"] not in BASES] or tried
    best = max(trained, key=lambda r: r["value"])
    how = " ".join(clean(best[k]) for k in ("start", "mode") if best[k])
    words = (
        f"Of the remedies tried the best is {clean(best['remedy'])} ({how}) with "
        f"{number(best['labelled_patients'])} locally labelled patients: {auroc(best)}, "
        f"{_beside_floor(report, best)}."
    )
    return f"{words} {_reach(part)}{_as_well(report, tried, best)}".strip()


def _usable(row: dict[str, Any]) -> bool:
    return row["start"] != ORIGINAL and row["labelled_patients"] > 0 and row["value"] is not None


def _beside_floor(report: Report, row: dict[str, Any]) -> str:
    floor = report["settings"]["floor_auroc"]
    if row["lower"] is not None and row["lower"] >= floor:
        return f"its whole interval at or above the floor of {floor:.2f}"
    if row["value"] >= floor:
        return f"above the floor of {floor:.2f}, but not its whole interval"
    return f"below the floor of {floor:.2f}"


def _reach(part: Report) -> str:
    if not part["reach"]:
        return ""
    found = [r for r in part["reach"] if r["patients"] is not None]
    if not found:
        most = max(r["most_tried"] for r in part["reach"])
        return f"None reached the source's level with up to {most} labelled patients. "
    best = min(found, key=lambda r: r["patients"])
    low = NO_LIMIT if best["lower"] is None else str(best["lower"])
    high = NO_LIMIT if best["upper"] is None else str(best["upper"])
    return (
        f"A model started from {clean(best['start'])} ({clean(best['remedy'])}) reached the source's "
        f"level with {best['patients']} locally labelled patients (95 % interval {low} to {high}). "
    )


def _as_well(report: Report, tried: list[dict[str, Any]], best: dict[str, Any]) -> str:
    """Return what does as well without any encoder; then it may not be disease that is learnt."""
    level = best["value"] - ALIKE
    plain = [r["value"] for r in tried if r["start"] == "pixels" and r["value"] >= level]
    tones = [
        r["value"]
        for r in report["shortcuts"].get("simple", [])
        if r["encoder"].startswith("grey") and r["value"] is not None and r["value"] >= level
    ]
    named = [f"{words} ({number(max(values), 2)})" for words, values in
             (("raw pixels", plain), ("the grey-level histogram", tones)) if values]  # fmt: skip
    if not named:
        return ""
    does = "do" if len(named) > 1 or plain else "does"
    text = " and ".join(named)
    return f"{text[0].upper()}{text[1:]} {does} as well: {LOOK}."


def _recalibrate(report: Report) -> str:
    if report["verdict"]["answer"] != DO_NOT_USE:
        return ""
    names = [n for n in report["thresholds"] if best_update(report, n) is not None]
    if not names or report["verdict"]["rule"] != 0 or not _low_rank(report):
        return ""
    return "Recalibration changes percentages, not the ranking: it cannot mend this."


def _low_rank(report: Report) -> bool:
    row = next(iter(find(report["performance"], report["headline"])), None)
    return bool(
        row and row.get("upper") is not None and row["upper"] < report["settings"]["floor_auroc"]
    )


def floor_words(report: Report) -> str:
    """Return the floor in words; only one that never moved was set before looking."""
    floor = report["settings"]["floor_auroc"]
    return "The floor was set before looking." if unmoved(report) else f"The floor is {floor:g}."
