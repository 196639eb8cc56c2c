"""The report's sections in their order, and the page around them."""

from collections.abc import Callable

from medssl.evaluate.report import checklists
from medssl.evaluate.report import sections_answer as answer
from medssl.evaluate.report import sections_glossary as words
from medssl.evaluate.report import sections_groups as groups
from medssl.evaluate.report import sections_percentages as percentages
from medssl.evaluate.report import sections_performance as performance
from medssl.evaluate.report import sections_pictures as pictures
from medssl.evaluate.report import sections_shift as shift
from medssl.evaluate.report import sections_shortcuts as shortcuts
from medssl.evaluate.report import sections_study as study
from medssl.evaluate.report.page import SENTENCE, Material, Page, Section, clean, section, table
from medssl.evaluate.verdict import RULES

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
    "uncertainty": study.uncertainty,
    "shortcuts": shortcuts.shortcuts,
    "remedies": shortcuts.remedies,
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
    made["checklists"] = _checklists({n: s.present for n, s in made.items()})
    verdict = report["verdict"]
    rules = tuple((rule, k == verdict["rule"]) for k, rule in enumerate(RULES))
    return Page(
        title=f"New-hospital report: {clean(report['target'])}",
        question=clean(answer.question(report), SENTENCE),
        verdict=verdict["answer"],
        reasons=tuple(clean(r, SENTENCE) for r in verdict["reasons"]),
        lead=tuple((q, clean(w, 2 * SENTENCE)) for q, w in answer.lead(report)),
        rules=rules,
        sections=tuple(made[name] for name in checklists.SECTIONS),
    )


def _checklists(present: dict[str, bool]) -> Section:
    """Return every reporting checklist: where an item is filled, or that a person must write it."""
    tables, points = [], []
    shown = {**present, "checklists": True}
    for name in checklists.names():
        one = checklists.load(name)
        rows = checklists.status(one.items, shown)
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
