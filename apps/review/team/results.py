"""Results: how well it ranks here beside the source, what happens per 100, and whether it is enough."""

from typing import Any

import streamlit as st

import frame
import text_team as text
from medssl.evaluate.performance import find
from medssl.evaluate.report import figures, figures_curves, sections_answer, sections_pictures
from medssl.evaluate.report import sections_performance as performance
from medssl.evaluate.report.figures import GREY, ORANGE, Mark
from medssl.evaluate.report.page import Material
from team import at_line, parts

FIGURE = (5.2, 4.4)
SHOWN = (*performance.RANKING, "brier", "scaled_brier", "sensitivity", "specificity", "ppv", "npv")


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.RESULTS_TITLE, text.RESULTS_WHY, desk.at)
    report = desk.at.report
    if not report["cohort"]["labelled"]:
        st.info(text.NO_LABELS)
    parts.say([sections_answer.ranking(report)])
    found = parts.material(desk.at)
    if isinstance(found, str):
        parts.unread(found)
    _figures(desk, None if isinstance(found, str) else found)
    parts.show_table(performance.beside(report, SHOWN, text.IMAGES_TABLE))
    if find(report["performance"], "auroc", level="patient"):
        ranking = performance.RANKING
        parts.show_table(performance.beside(report, ranking, text.PATIENTS_TABLE, "patient"))
    if not isinstance(found, str):
        _people(desk, found)
    _enough(desk)
    if not isinstance(found, str):
        with st.expander(text.MORE_TABLES):
            parts.tables(performance.discrimination(found))
            parts.tables(performance.threshold(found))


def _figures(desk: frame.Desk, found: Material | None) -> None:
    left, right = st.columns(2)
    bars = sections_pictures.rank_bars(desk.at.report)[: sections_pictures.MOST_BARS]
    if bars:
        told = "; ".join(f"{b.label} {b.value:.2f}" for b in bars)
        marks = (
            Mark(desk.at.report["settings"]["floor_auroc"], text.FLOOR, ORANGE, "--"),
            Mark(0.5, text.COIN, GREY),
        )
        words = text.RANK_ALT.format(told=told)
        picture = figures.forest("rank", bars, words, text.RANK_TITLE, marks, (0.4, 1.0), FIGURE)
        with left:
            st.subheader(text.RANK_TITLE)
            frame.picture(picture, words)
    lines = [] if found is None else _curves(found, desk.name)
    if lines:
        with right:
            st.subheader(text.ROC_TITLE)
            words = text.ROC_ALT.format(name=desk.at.in_words(desk.name))
            frame.picture(figures_curves.roc("roc", lines, _working(desk)), words)
    if found is not None and not parts.source_is_here(found):
        st.caption(text.NO_SOURCE)


def _curves(found: Material, name: str) -> list[tuple[str, Any, Any]]:
    """Return ROC curves as name and points, the source's first; empty without labels here."""
    here, outcome, score = parts.of_class(found, name)
    mine = figures_curves.roc_points(outcome, score) if len(here) else None
    if mine is None:
        return []
    theirs = _source_curve(found, name)
    return ([(text.SOURCE, *theirs)] if theirs is not None else []) + [(text.HERE, *mine)]


def _source_curve(found: Material, name: str) -> tuple[Any, Any] | None:
    held = found.reference.answers
    if held is not None:
        k = held.classes.index(name)
        known = held.known(k)
        return figures_curves.roc_points(*known.of(k)) if len(known) else None
    stored = (found.reference.pack or {}).get("roc", {}).get(name)
    return (stored[0], stored[1]) if stored else None


def _working(desk: frame.Desk) -> tuple[float, float] | None:
    """Return false alarms and findings at the source's line, here."""
    pair = [
        sections_answer.of_class(desk.at.report, m, desk.name)
        for m in ("specificity", "sensitivity")
    ]
    values = [r["value"] for r in pair if r is not None and r.get("value") is not None]
    return (1 - values[0], values[1]) if len(values) == 2 else None


def _people(desk: frame.Desk, found: Material) -> None:
    known, outcome, score = parts.of_class(found, desk.name)
    if not len(known):
        return
    cells = at_line.cells(outcome, score, known.patient, desk.at.report["thresholds"][desk.name])
    counts = at_line.whole_hundred({k: v.value for k, v in cells.items()})
    st.subheader(text.PEOPLE)
    parts.say([text.PEOPLE_WORDS.format(**counts)])
    left, right = st.columns(2)
    with left:
        frame.picture(at_line.hundred(counts), text.PEOPLE_ALT.format(**counts))
    rows = [
        dict(zip(text.CELL_COLUMNS, (text.CELLS[k], *at_line.per_hundred(v)), strict=True))
        for k, v in cells.items()
    ]
    with right:
        parts.show_rows(rows, text.CELLS_ALT)


def _enough(desk: frame.Desk) -> None:
    st.subheader(text.ENOUGH)
    found = [r for r in desk.at.report["sample_size"] if r["class"] == desk.name]
    known = [(w, found[0][k]) for k, w in (("after", text.AFTER), ("before", text.BEFORE))
             if found and found[0].get(k, {}).get("criteria")]  # fmt: skip
    if not known:
        st.text(text.NO_SIZE)
        return
    when, part = known[0]
    st.text(when)
    for one in part["criteria"]:
        _meter(one)
    parts.say([part.get("note", "")])


def _meter(one: dict[str, Any]) -> None:
    name = text.CRITERIA.get(one["name"], one["name"])
    if not one["needed"]:
        st.text(text.ENOUGH_NO_NEED.format(name=name))
        return
    share = min(1.0, one["had"] / one["needed"])
    narrow = text.ENOUGH_FOUND if one["enough"] and share < 1 else ""
    words = text.ENOUGH_ROW.format(
        name=name, had=f"{one['had']:,}", needed=f"{one['needed']:,}", found=narrow
    )
    st.progress(share, words)
