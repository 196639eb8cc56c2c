"""Sections about the study: context, data, participants, model, uncertainty, size, limits, origin."""

from typing import Any

from medssl.evaluate.report.figures import Mark, dots
from medssl.evaluate.report.page import (
    NONE,
    Figure,
    Material,
    Section,
    Table,
    absent,
    clean,
    finding,
    listed,
    number,
    percent,
    ran,
    section,
    span,
    table,
)

Row = dict[str, Any]
PERSON = "To be written by a person:"
CRITERIA = {"oe": "observed / expected", "auroc": "AUROC", "slope": "calibration slope",
            "net_benefit": "net benefit"}  # fmt: skip


def context(material: Material) -> Section:
    """Return what was asked, and what only a person can say of it."""
    report = material.report
    words = [
        f"A model for {clean(report['target'])} that learnt at {listed(report['source']['sites'])} is tried, "
        f"unchanged, at {listed(report['cohort']['sites'])}. The answer is a verdict by printed rules, with "
        "floors that were set before looking.",
        f"{PERSON} the intended use, who acts on a flag and how, the time point in care, and what it "
        "is compared with.",
    ]
    rows = [(clean(c), "yes" if c in report["thresholds"] else "no") for c in report["classes"]]
    many = "one class per picture" if report["exclusive"] else "several classes may hold at once"
    caption = f"Classes of the model ({many})"
    return section(
        "context",
        "Context: what was asked",
        words,
        (),
        [table(caption, ("class", "reported"), rows)],
    )


def data(material: Material) -> Section:
    """Return the flow from found to analysed, and the period."""
    report = material.report
    about, source, period = report["cohort"], report["source"], report["period"]
    words = []
    if period["since"] or period["until"]:
        words.append(
            f"Only studies from {period['since'] or 'the first'} to {period['until'] or 'the last'} month were "
            f"taken; {number(period['left_out'])} pictures of other months, or without a date, were left out."
        )
    words += [
        "Names are pseudonyms, dates are left out; no picture and no identifier stands in this report.",
        f"{PERSON} setting, dates and eligibility, how the reference labels were made and by whom, and "
        "under which permission.",
    ]
    counted = [(f["what"], number(f["images"]), number(f["patients"])) for f in report["flow"]]
    sizes = [
        (
            whose,
            listed(part["sites"]),
            *(number(part[k]) for k in ("images", "patients", "labelled")),
        )
        for whose, part in (("here", about), ("source, held-out", source))
    ]
    tables = [
        table("From found to analysed, here", ("what", "images", "patients"), counted),
        table(
            "The two hospitals",
            ("hospital", "sites", "images", "patients", "labelled images"),
            sizes,
        ),
    ]
    return section(
        "data", "Data: what was found and what was analysed", words, (), tables, report["notes"]
    )


def participants(material: Material) -> Section:
    """Return table one."""
    report = material.report
    named = next(iter(report["thresholds"]), "")
    keys = ("patients", "patients_with", "patients_without", "source_patients")
    rows = [
        (f"{clean(r['attribute'])}: {clean(r['level'])}", *(number(r.get(k)) for k in keys))
        for r in report["participants"]
    ]
    words = [
        "A patient with several levels counts in each. Counts of one to four are '<5'; '-' says that nothing "
        f"is known. 'With' and 'without' are patients with a labelled picture of {finding(report, named)}."
    ]
    header = ("attribute", "here", "with", "without", "source")
    tables = [table("Patients here, by outcome, beside those the model learnt from", header, rows)]
    return section("participants", "Patients: who was looked at", words, (), tables)


def model(material: Material) -> Section:
    """Return what the model is."""
    report = material.report
    about = report["model"]
    rows = [("weights (SHA-256)", report["provenance"].get("classifier", "not recorded"))]
    rows += [(key.replace("_", " "), _flat(value)) for key, value in about.items()]
    rows += [
        (
            f"threshold of {finding(report, n)}",
            f"{number(v)} ({clean(report['threshold_rule'])}, source's validation)",
        )
        for n, v in report["thresholds"].items()
    ]
    words = [
        "The model was not changed for this evaluation. CARD.md beside this report is its card."
    ]
    return section(
        "model", "Model: what was tried", words, (), [table("The model", ("fact", "value"), rows)]
    )


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{k.replace('_', ' ')} {_flat(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def uncertainty(material: Material) -> Section:
    """Return sets of answers and what is won by leaving the unsure to a person."""
    report = material.report
    part = report["abstention"]
    title = "Not sure: when should a person decide?"
    if not ran(part, "rule"):
        return absent("uncertainty", title, part["note"])
    words = [
        f"Sets of answers were made at the source to miss the right one in at most {percent(part['miss_rate'])} of "
        f"patients. Here {number(part['unsure_percent'], 1)} % of the pictures get several answers (not sure) and "
        f"{number(part['empty_percent'], 1)} % none at all (unlike anything seen). The promise holds only for "
        "patients like the source's.",
        part["rule"].get("note", ""),
    ]
    rows = [
        (r["name"] if r["part"] == "all" else f"{clean(r['part'])}: {clean(r['name'])}", number(r["patients"]),
         span({**r, "value": r["coverage"]}), number(r["mean_size"], 2), number(r["unsure"]), number(r["empty"]))
        for r in part["coverage"]
    ]  # fmt: skip
    header = (
        "patients",
        "number",
        "right one in the set (95 % interval)",
        "answers per set",
        "not sure",
        "none",
    )
    tables = [
        table("How often the set holds the right answer, here", header, rows),
        _selective(part),
    ]
    return section("uncertainty", title, words, [_coverage(part)], tables)


def _selective(part: Row) -> Table:
    found = part["selective"]
    shares = list(found[0]["error_at"]) if found else []
    rows = [
        (r["hospital"], span(r["aurc"]), *(percent(r["error_at"].get(s)) for s in shares))
        for r in found
    ]
    header = (
        "hospital",
        "area under the curve (95 % interval)",
        *(f"errors, surest {percent(float(s))}" for s in shares),
    )
    return table("Errors when only the surest answers are given", header, rows)


def _coverage(part: Row) -> Figure | None:
    found = [r for r in part["coverage"] if r["coverage"] is not None]
    if not found:
        return None
    names = [
        r["name"] if r["part"] == "all" else f"{clean(r['part'])}: {clean(r['name'], 40)}"
        for r in found
    ]
    series: Any = {"here": [(r["coverage"], r["lower"], r["upper"]) for r in found]}
    words = "How often the set of answers holds the right one, by class and group; the numbers are in the table."
    marks = (Mark(1 - part["miss_rate"], "promised", "#D55E00", "--"),)
    picture = dots(
        "coverage", names, series, words, "share with the right answer in the set", marks
    )
    return Figure(picture, "How often the set holds the right answer, by class and group.")


def size(material: Material) -> Section:
    """Return whether the study is large enough."""
    report = material.report
    title = "Size: is the study large enough to say anything?"
    rows, notes = [], []
    for one in report["sample_size"]:
        name = finding(report, one["class"])
        for key, when in (("before", "foreseen from the source"), ("after", "as it turned out")):
            found = one.get(key, {})
            if found.get("note"):
                notes.append(f"{name}, {when}: {found['note']}")
            for c in found.get("criteria", []):
                enough = {True: "yes", False: "no", None: "open"}[c["enough"]]
                cells = (number(c["target"], 2), number(c["foreseen"], 2), number(c["achieved"], 2))
                rows.append((f"{CRITERIA.get(c['name'], c['name'])}, {when}", name, number(c["needed"]),
                             number(c["had"]), enough, *cells))  # fmt: skip
    if not rows:
        return absent("size", title, "; ".join(notes) or "Not run: neither hospital has labels.")
    words = [
        "The widths of 95 % intervals that let a reader conclude something were set beforehand; net "
        "benefit is in units of the prevalence, observed / expected on the log scale."
    ]
    header = (
        "number",
        "class",
        "patients needed",
        "patients had",
        "enough",
        "width asked",
        "foreseen",
        "found",
    )
    return section("size", title, words, (), [table("Patients needed", header, rows)], notes)


def limits(material: Material) -> Section:
    """Return what this report cannot say."""
    report = material.report
    points = [
        "Not rejecting is not proof: a wide interval that holds the floor says 'cannot tell', never 'as is'.",
        "The reference labels are taken as the truth; where they err, so do these numbers.",
        "Retrospective pictures say how well it ranks and foretells, not whether patients fare better.",
        "Groups that no header names could be served worse without a trace here.",
        *(f"Not known: {n}" for n in report["groups"]["notes"]),
    ]
    if report["source"]["pack"]:
        points.append(
            "The source is known by a pack of summaries only; what needs its single answers was not run."
        )
    words = [
        f"{PERSON} harms of a missed finding and of a false alarm, who answers for the model, how it is "
        "watched in use, and when it is withdrawn."
    ]
    return section("limits", "Limits and harms", words, points=points)


def reproducibility(material: Material) -> Section:
    """Return digests, versions, settings."""
    report = material.report
    rows = [(k, str(v)) for k, v in report["provenance"].items()]
    settings = [
        (k.replace("_", " "), NONE if v is None else _flat(v))
        for k, v in report["settings"].items()
    ]
    tables = [table("Where it comes from", ("what", "value"), rows),
              table("Settings", ("setting", "value"), settings)]  # fmt: skip
    words = ["Equal inputs, settings and seed give equal numbers. report.json holds them all, tables/ every table "
             "as Parquet and CSV; medssl evaluate on this run's folder writes the report anew."]  # fmt: skip
    return section("reproducibility", "Reproducibility", words, (), tables)
