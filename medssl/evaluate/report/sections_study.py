"""Sections about the study: context, data, participants, model, size, limits, origin."""

import json
import shlex
from typing import Any

from medssl.config import EvaluateConfig
from medssl.evaluate.groups import count
from medssl.evaluate.report.page import (
    NONE,
    Material,
    Section,
    Table,
    absent,
    clean,
    finding,
    in_class,
    listed,
    number,
    people,
    section,
    table,
    unmoved,
)
from medssl.evaluate.report.sections_next import settings_words

Row = dict[str, Any]
PERSON = "To be written by a person:"
TRAINED = {"chosen", "trained_sites", "patients_seen", "pictures_seen"}
CRITERIA = {"oe": "observed / expected", "auroc": "AUROC", "slope": "calibration slope",
            "net_benefit": "net benefit"}  # fmt: skip


def context(material: Material) -> Section:
    """Return what was asked, and what only a person can say of it."""
    report = material.report
    since = "floors that were set before looking" if unmoved(report) else "floors"
    words = [
        f"A model for {clean(report['target'])} that learnt at {listed(report['source']['sites'])} is tried, "
        f"unchanged, at {listed(report['cohort']['sites'])}. The answer is a verdict by printed rules, with "
        f"{since}.",
        settings_words(report),
        f"{PERSON} the intended use, who acts on a flag and how, the time point in care, and what it "
        "is compared with.",
    ]
    rows = [
        (in_class(report, c), "yes" if c in report["thresholds"] else "no")
        for c in report["classes"]
    ]
    many = "one class per picture" if report["exclusive"] else "several classes may hold at once"
    caption = f"Classes of the model ({many})"
    return section(
        "context",
        "Context: what was asked",
        words,
        (),
        [table(caption, ("class", "reported"), rows)],
    )


def pictures(material: Material) -> str:
    """Return how many pictures of what were tried: files with several slices are volumes."""
    table_ = material.here.predictions
    place = table_.column("slice").to_pylist()
    images = table_.column("image_id").to_pylist()
    volumes = {i for i, s in zip(images, place, strict=True) if s >= 0}
    rows = number(len(place))
    if not volumes:
        return f"{rows} images"
    single = sum(s < 0 for s in place)
    more = f" and {number(single)} single images" if single else ""
    return f"{number(len(place) - single)} slices of {number(len(volumes))} volumes{more}"


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
    what = pictures(material)
    sliced = "slices of" in what
    counted = [
        (_step(f["what"], what if sliced else ""), number(f["images"]), number(f["patients"]))
        for f in report["flow"]
    ]
    many = "images or slices" if sliced else "images"
    sizes = [
        (
            whose,
            listed(part["sites"]),
            *(number(part[k]) for k in ("images", "patients", "labelled")),
        )
        for whose, part in (("here", about), ("source, held-out", source))
    ]
    tables = [
        table("From found to analysed, here", ("what", many, "patients"), counted),
        table(
            "The two hospitals",
            ("hospital", "sites", many, "patients", f"labelled {many}"),
            sizes,
        ),
    ]
    return section(
        "data", "Data: what was found and what was analysed", words, (), tables, report["notes"]
    )


def _step(words: str, pictures_: str) -> str:
    """Return a step of the flow; after a volume is cut, what is counted are its slices."""
    return f"{words} ({pictures_})" if pictures_ and words == "pictures predicted" else words


def participants(material: Material) -> Section:
    """Return table one."""
    report = material.report
    named = next(iter(report["thresholds"]), "")
    first, both = _everyone(material, named)
    keys = ("patients", "patients_with", "patients_without", "source_patients")
    rows = [first] + [
        (f"{clean(r['attribute'])}: {clean(r['level'])}", *(number(r.get(k)) for k in keys))
        for r in report["participants"]
    ]
    words = [
        "A patient with several levels counts in each. Counts of one to four are '<5'; '-' says that nothing "
        f"is known. 'With' and 'without' are patients with a labelled picture of that kind "
        f"({finding(report, named)}); the source's are all of its patients, not the held-out ones only.",
        both,
    ]
    header = ("attribute", "here", "with", "without", "source")
    tables = [table("Patients here, by outcome, beside those the model learnt from", header, rows)]
    # The row of all patients tells nothing of who they are.
    known = any(r.get("patients") is not None for r in report["participants"])
    title = "Patients: who was looked at"
    return section("participants", title, words, (), tables, hollow=not known)


def _everyone(material: Material, name: str) -> tuple[tuple[str, ...], str]:
    """Return the first row of table one, and how many patients have pictures of both kinds."""
    counts = [NONE, NONE]
    words = ""
    answers = material.here.answers(material.question)
    if name and len(answers):
        y = answers.outcome[:, answers.classes.index(name)]
        held, free = (set(answers.patient[y == k].tolist()) for k in (1, 0))
        counts = [number(count(len(held))), number(count(len(free)))]
        both = count(len(held & free))
        words = f"{people(both)[0].upper()}{people(both)[1:]} have pictures of both kinds."
    column = next(iter(material.reference.columns.values()), None)
    known = column is not None and material.reference.pack is None
    source = number(len(set(column.patient.tolist()))) if column is not None and known else NONE
    here = number(material.report["cohort"]["patients"])
    return ("all patients", here, *counts, source), words


def model(material: Material) -> Section:
    """Return what the model is."""
    report = material.report
    about = report["model"]
    rows = [("weights (SHA-256)", report["provenance"].get("classifier", "not recorded"))]
    rows += [
        (key.replace("_", " "), _flat(value)) for key, value in about.items() if key not in TRAINED
    ]
    rows += [
        (
            f"threshold of {finding(report, n)}",
            f"{number(v)} ({clean(report['threshold_rule'])}, source's validation)",
        )
        for n, v in report["thresholds"].items()
    ]
    words = [
        "The model was not changed for this evaluation. CARD.md beside this report is its card.",
        "The source's patients were divided by patient: no patient is in two of the parts below.",
    ]
    tables = [table("The model", ("fact", "value"), rows), _parts(material)]
    return section("model", "Model: what was tried", words, (), tables)


def _parts(material: Material) -> Table:
    """Return whom the model learnt from, was chosen on, and was tested on."""
    report, about = material.report, material.report["model"]
    sites = listed(about.get("trained_sites", [])) or NONE
    drawn = about.get("chosen") or {}
    budget = drawn.get("budget")
    share = "" if budget is None else f", {number(budget, 0)} % of the labels" if drawn.get(
        "mode") else ""  # fmt: skip
    label_draw = (
        f"draw {drawn.get('seed', NONE)}: {clean(drawn.get('mode', NONE))}{share}"
        if drawn
        else NONE
    )
    held = material.reference.validation
    chosen = (NONE, NONE) if held is None or not len(held) else (
        number(count(len(set(held.patient.tolist())))), number(count(len(held))))  # fmt: skip
    tested = report["source"]
    rows = [
        ("training", sites, number(about.get("patients_seen")), number(about.get("pictures_seen")), label_draw),
        ("validation: choice, threshold", sites, *chosen, NONE),
        ("held-out test", listed(tested["sites"]), number(tested["patients"]), number(tested["images"]), NONE),
    ]  # fmt: skip
    header = ("part of the source", "sites", "patients", "pictures", "label draw chosen")
    return table("Whom it learnt from, was chosen on, and was tested on", header, rows)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{k.replace('_', ' ')} {_flat(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


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
                if c["enough"] and c["needed"] is not None and c["needed"] > c["had"]:
                    enough = "yes, by the width found"
                cells = (number(c["target"], 2), number(c["foreseen"], 2), number(c["achieved"], 2))
                rows.append((f"{CRITERIA.get(c['name'], c['name'])}, {when}", name, number(c["needed"]),
                             number(c["had"]), enough, *cells))  # fmt: skip
    if not rows:
        return absent("size", title, "; ".join(notes) or "Not run: neither hospital has labels.")
    words = [
        "The widths of 95 % intervals are those that let a reader conclude something, the same for every "
        "study; net benefit is in units of the prevalence, observed / expected on the log scale."
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
             "as Parquet and CSV. To report anew from this run's folder, without predicting:",
             command(report)]  # fmt: skip
    return section("reproducibility", "Reproducibility", words, (), tables)


def command(report: Row) -> str:
    """Return the command that reports anew with the same settings and remedies; capitals are yours.

    Args:
        report: the plain report.
    """
    usual = EvaluateConfig().model_dump(mode="json")
    parts = ["medssl evaluate THIS-RUN"]
    for name, value in report["settings"].items():
        if name in usual and value != usual[name]:
            parts.append(shlex.quote(f"{name}={json.dumps(value)}".replace('"', "")))
    rows = (report["remedies"] or {}).get("rows", [])
    for name in dict.fromkeys(clean(r["remedy"]) for r in rows):
        parts.append(f"--compare {shlex.quote(name)}=RUN,RUN")
    return " ".join([*parts, "--out NEW-RUN"])
