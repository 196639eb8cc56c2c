"""The four pictures of the first page, and what other sections draw with the same rows."""

from typing import Any

from medssl.evaluate.performance import ALL_SITES
from medssl.evaluate.report.figures import BLACK, GREY, ORANGE, WIDTH, Bar, Mark, forest
from medssl.evaluate.report.figures_curves import calibration, histogram
from medssl.evaluate.report.page import (
    Figure,
    Material,
    Section,
    clean,
    finding,
    number,
    ran,
    section,
    unmoved,
)
from medssl.evaluate.report.sections_answer import of_class, too_few
from medssl.evaluate.report.sections_next import floor_words

Report = dict[str, Any]
MOST_BARS = 8
SIZE = (WIDTH, 2.5)
"""One size for all four: they stand side by side."""


def first_page(material: Material) -> Section:
    """Return the four pictures of the first page."""
    report = material.report
    pictures = [
        _rank_picture(report),
        _calibration_picture(material),
        _group_picture(report),
        _score_picture(material),
    ]
    return section("answer", "The answer on one page", figures=pictures)


def rank_bars(report: Report) -> list[Bar]:
    """Return the headline number of both hospitals and of every site, those with an interval."""
    out = []
    for row in report["performance"]:
        known = row.get("lower") is not None and row["level"] == "image"
        if row["metric"] != report["headline"] or not known:
            continue
        whose = "source, held-out" if row["cohort"] == "source" else "here"
        name = whose if row["site"] == ALL_SITES else f"{whose}: {clean(row['site'])}"
        if row["patients"] is not None:
            name = f"{name} (n = {number(row['patients'])})"
        source = row["cohort"] == "source"
        out.append(Bar(name, row["value"], row["lower"], row["upper"], source))
    return out


def _rank_picture(report: Report) -> Figure | None:
    bars = rank_bars(report)[:MOST_BARS]
    if not bars:
        return None
    floor = report["settings"]["floor_auroc"]
    marks = (Mark(floor, "floor", ORANGE, "--"), Mark(0.5, "a coin", GREY, ":"))
    told = "; ".join(f"{b.label} {number(b.value, 2)}" for b in bars)
    picture = forest(
        "answer-rank", bars, f"AUROC with 95 % intervals: {told}. Floor {floor:g}.",
        "AUROC with 95 % interval", marks, (0.4, 1.0), SIZE,
    )  # fmt: skip
    return Figure(picture, f"How well it ranks; n counts patients. {floor_words(report)}")


def _calibration_picture(material: Material) -> Figure | None:
    report = material.report
    shown = [c for c in report["calibration"] if ran(c["bands"], "points")]
    if not shown:
        return None
    one = max(shown, key=lambda c: _size(c["bands"]["events"]))
    name = finding(report, one["class"])
    scores = scores_here(material, one["class"])
    words = f"Chance given against share observed for {name}; the diagonal is right."
    picture = calibration("answer-calibration", one["bands"], scores, words, SIZE)
    return Figure(picture, f"Whether percentages are right ({name}): on the dotted line they are.")


def _size(count: Any) -> int:
    """Return a count to compare by; a hidden one is small."""
    return count if isinstance(count, int) else 0


def scores_here(material: Material, name: str) -> Any:
    """Return the chances that every picture here is given for a class."""
    k = material.question.classes.index(name)
    return material.here.scores(material.question)[:, k]


def group_bars(report: Report, metric: str, name: str) -> list[Bar]:
    """Return the groups of one class that are large enough, with their intervals."""
    return [
        Bar(f"{clean(r['group'])}: {clean(r['level'], 40)}", r["value"], r["lower"], r["upper"])
        for r in report["groups"]["rows"]
        if r["metric"] == metric and r["class"] == name and r.get("value") is not None
    ]


def _group_picture(report: Report) -> Figure | None:
    worst = report["groups"]["worst"]
    about = next(iter(report["thresholds"]), "") if worst is None else worst["class"]
    bars = group_bars(report, "auroc", about)
    if not bars:
        return None
    # The lowest are what this page is for; the section has them all.
    bars = sorted(bars, key=lambda b: b.value)[:MOST_BARS]
    whole = of_class(report, "auroc", about)
    marks = [] if whole is None else [Mark(whole["value"], "all patients here", BLACK, ":")]
    words = "AUROC by group: " + "; ".join(f"{b.label} {number(b.value, 2)}" for b in bars) + "."
    picture = forest(
        "answer-groups", bars, words, "AUROC with 95 % interval", marks, (0.4, 1.0), SIZE
    )
    name = finding(report, about)
    since = "groups named before looking" if unmoved(report) else "by group"
    first = "How it ranks" if worst is None else "For whom it ranks worst"
    few = too_few(report, about)
    return Figure(picture, f"{first} ({name}): {since}. {few}".strip())


def _score_picture(material: Material) -> Figure | None:
    name = next(iter(material.report["thresholds"]), None)
    if name is None:
        return None
    k = material.question.classes.index(name)
    picture = histogram(
        "answer-scores", material.reference.scores[:, k], scores_here(material, name),
        material.report["thresholds"][name], SIZE,
    )  # fmt: skip
    words = f"How often each chance of {finding(material.report, name)} is given: curves that lie "
    return Figure(picture, f"{words}apart say that the hospitals differ.")
