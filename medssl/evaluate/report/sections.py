"""The report's sections in their order, and the page around them."""

from collections.abc import Callable
from typing import Any

from medssl.evaluate.report import checklists
from medssl.evaluate.report import sections_answer as answer
from medssl.evaluate.report import sections_glossary as words
from medssl.evaluate.report import sections_groups as groups
from medssl.evaluate.report import sections_next as following
from medssl.evaluate.report import sections_percentages as percentages
from medssl.evaluate.report import sections_performance as performance
from medssl.evaluate.report import sections_pictures as pictures
from medssl.evaluate.report import sections_remedies as remedies
from medssl.evaluate.report import sections_sets as sets
from medssl.evaluate.report import sections_shift as shift
from medssl.evaluate.report import sections_shortcuts as shortcuts
from medssl.evaluate.report import sections_study as study
from medssl.evaluate.report.page import SENTENCE, Material, Page, Section, clean, section, table
from medssl.evaluate.verdict import RULES

UNIT = "in units of one finding missed per image"
MAKERS: dict[str, Callable[[Material], Section]] = {
    "answer": pictures.first_page,
    "context": study.context,
    "data": study.data,
    "participants": study.participants,
    "model": study.model,
    "shift": shift.shift,
    "discrimination": performance.discrimination,
    "calibration": percentages.calibration,
    "threshold": performance.threshold,
    "usefulness": percentages.usefulness,
    "groups": groups.groups,
    "time": shift.time,
    "uncertainty": sets.uncertainty,
    "shortcuts": shortcuts.shortcuts,
    "remedies": remedies.remedies,
    "size": study.size,
    "limits": study.limits,
    "reproducibility": study.reproducibility,
    "glossary": words.glossary,
}


def page_of(material: Material) -> Page:
    """Return the whole report as data.

    Args:
        material: the plain report and the rows behind it.
    """
    report = material.report
    made = {name: make(material) for name, make in MAKERS.items()}
    made["checklists"] = _checklists(made)
    verdict = report["verdict"]
    rules = tuple((rule, k == verdict["rule"]) for k, rule in enumerate(RULES))
    return Page(
        title=f"New-hospital report: {clean(report['target'])}",
        question=clean(answer.question(report, study.pictures(material)), SENTENCE),
        verdict=verdict["answer"],
        reasons=tuple(clean(_with_unit(r), SENTENCE) for r in verdict["reasons"]),
        lead=tuple((q, clean(w, 2 * SENTENCE)) for q, w in lead(report)),
        rules=rules,
        sections=tuple(made[name] for name in checklists.SECTIONS),
    )


def _with_unit(reason: str) -> str:
    """Return a reason; one about net benefit says in which unit it counts."""
    if not reason.startswith("Net benefit") or UNIT in reason:
        return reason
    return f"{reason.removesuffix('.')} ({UNIT})."


def lead(report: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the sentences of the first page, each with the question that it answers.

    Args:
        report: the plain report.
    """
    told = (
        ("Does it rank well here?", answer.ranking(report)),
        ("Can its percentages be believed?", answer.percentages(report)),
        ("For whom is it worst?", answer.for_whom(report)),
        ("Do the pictures look alike?", answer.likeness(report)),
        ("What limits this answer?", following.limits_of_answer(report)),
        ("What to do next?", " ".join(following.next_steps(report))),
    )
    return tuple(pair for pair in told if pair[1])


def _checklists(made: dict[str, Section]) -> Section:
    """Return every reporting checklist: where an item is filled, or that a person must write it."""
    tables, points = [], []
    shown = {**{n: s.present for n, s in made.items()}, "checklists": True}
    hollow = {n for n, s in made.items() if s.present and not s.told}
    for name in checklists.names():
        one = checklists.load(name)
        rows = checklists.status(one.items, shown, hollow)
        cells = [(f"{r.item.id} {r.item.title}", r.item.text, r.words) for r in rows]
        tables.append(table(f"{one.name} ({one.source})", ("item", "what it asks", "here"), cells))
        open_ = sum(r.state in {"person", "part"} for r in rows)
        points.append(
            f"{one.name}: {len(rows)} items, {open_} of which need a person. Official wording: {one.link}"
        )
    told = [
        "A section that is there answers an item; it does not say that the answer is good. Items are in our words."
    ]
    return section("checklists", "Reporting checklists", told, (), tables, points)
