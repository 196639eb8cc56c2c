"""Is this site different: one sentence, ranked differences, and a map that leads to the cases."""

from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st

import frame
import text_team as text
from medssl.evaluate.report import sections_performance as performance
from medssl.evaluate.report import sections_shift
from medssl.evaluate.report.page import NONE, Material, Table, clean, number, p_words, ran
from team import embedding_map, parts
from team.embedding_map import Axes, FloatArray

SURE = 0.05
MOST_STRANGE = 50


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.DIFFERENT_TITLE, text.DIFFERENT_WHY, desk.at)
    report = desk.at.report
    found = parts.material(desk.at)
    st.subheader(text.IN_SHORT)
    parts.say(verdict(report))
    parts.say([mix_words(report, desk.name)])
    if isinstance(found, str):
        parts.unread(found)
        return
    _map(desk, found)
    _strangest(desk)
    st.subheader(text.RANKED)
    st.caption(text.LEVEL_OF_P)
    section = sections_shift.shift(found)
    parts.say([] if section.present else section.words)
    for table in sorted(section.tables, key=lambda t: not _is_ranked(t)):
        parts.show_table(ranked(table) if _is_ranked(table) else table)
    parts.say(section.points)
    why = performance.discrimination(found)
    for table in why.tables:
        if "mix of patients" in " ".join(table.header):
            parts.show_table(table)


def verdict(report: dict[str, Any]) -> list[str]:
    """Return whether the site is different, in a sentence, and the figures behind it."""
    shift = report["shift"]
    if shift.get("note"):
        return [text.NOT_RUN.format(why=clean(shift["note"], 600))]
    one, domain, unlike = (shift[n] for n in ("embedding", "domain", "unlike"))
    if not ran(one, "p"):
        first = text.DIFFERENT_OPEN.format(why=clean(one.get("note", ""), 400))
    else:
        words = text.DIFFERENT_YES if one["p"] < SURE else text.DIFFERENT_NO
        first = words.format(p=p_words(one["p"]))
    told = []
    if ran(domain, "auroc"):
        told.append(
            text.TOLD_APART.format(
                auroc=number(domain["auroc"], 2),
                chance=number(domain["chance"], 2),
                p=p_words(domain["p"]),
            )
        )
    if ran(unlike, "share") and unlike["share"]["value"] is not None:
        told.append(text.STRANGEST_WORDS.format(beyond=unlike["beyond"], share=_share(unlike)))
    return [first, " ".join([*told, columns_words(shift["columns"])]).strip()]


def columns_words(columns: list[dict[str, Any]]) -> str:
    """Return how many header fields and pixel figures differ; empty where none was compared."""
    compared = [c for c in columns if c.get("p_adjusted") is not None]
    sure = [c for c in compared if c["p_adjusted"] < SURE]
    if not compared:
        return ""
    return text.COLUMNS_DIFFER.format(sure=len(sure), all=len(compared))


def _share(unlike: dict[str, Any]) -> str:
    value, lower, upper = (
        parts.percent(unlike["share"][k], 1) for k in ("value", "lower", "upper")
    )
    return f"{value} ({lower} to {upper})"


def _is_ranked(table: Table) -> bool:
    return table.header[0] == "column"


def ranked(table: Table) -> Table:
    """Return the table of columns with those last whose difference is not known."""
    return replace(table, rows=tuple(sorted(table.rows, key=lambda row: row[1] == NONE)))


def mix_words(report: dict[str, Any], name: str) -> str:
    """Return what was expected if only the mix of patients differed, and what came; or why not known."""
    row = next((r for r in report["mix"] if r.get("class") == name), None)
    if row is None:
        row = next(iter(report["mix"]), None)
    if row is None:
        return ""
    if row.get("weighted") is None:
        return text.MIX_NONE.format(why=clean(row.get("note") or text.UNKNOWN, 400))
    weighted, source, target = (row.get(k) for k in ("weighted", "source", "target"))
    numbers = [w["value"] if isinstance(w, dict) else w for w in (source, weighted, target)]
    told = dict(zip(("source", "weighted", "target"), (number(n, 2) for n in numbers), strict=True))
    return text.MIX_WORDS.format(**told)


def _map(desk: frame.Desk, found: Material) -> None:
    st.subheader(text.MAP)
    if len(found.here.patient) < embedding_map.LEAST:
        st.info(text.MAP_NONE)
        return
    keys = desk.at.keys
    here = found.here.embeddings[parts.rows_here(desk, found)]
    source = found.reference.embeddings
    hand = desk.at.place.get(st.session_state.get("case", ("", -1)))
    axes = _axes(str(desk.at.run.path), str(desk.at.run.record.get("ended")), here, source)
    at = embedding_map.places(here, source, axes, [] if hand is None else [hand])
    if source is None:
        st.caption(text.MAP_ALONE)
    st.caption(
        text.MAP_WORDS.format(
            share=parts.percent(at.share), here=len(at.shown), all_here=len(here),
            source=len(at.shown_source), all_source=len(at.source),
        )
    )  # fmt: skip
    st.plotly_chart(
        embedding_map.figure(at, keys, hand), key="map", on_select=lambda: _take(desk),
        selection_mode="points", alt=text.MAP_ALT.format(here=text.HERE),
        config={"displayModeBar": False, "scrollZoom": True},
    )  # fmt: skip
    if hand is None:
        st.text(text.HAND_NONE)
        return
    st.text(text.HAND.format(case=parts.called(keys[hand])))
    parts.show_rows(parts.case_rows(desk.at, desk.name, [hand]), text.CASES_ALT)
    parts.case_buttons(desk, keys[hand], "hand")


@st.cache_resource(scope="session", max_entries=4, show_spinner=False)
def _axes(path: str, ended: str, _here: FloatArray, _source: FloatArray | None) -> Axes:
    """Find the axes of one evaluation once per session."""
    del path, ended
    return embedding_map.axes(_here, _source)


def _take(desk: frame.Desk) -> None:
    """Take the case of the selected mark to hand."""
    points = st.session_state["map"]["selection"]["points"]
    known = [p["customdata"] for p in points if p.get("customdata") is not None]
    if known:
        st.session_state["case"] = desk.at.keys[int(np.ravel(known[0])[0])]


def _strangest(desk: frame.Desk) -> None:
    st.subheader(text.STRANGEST)
    unlike = desk.at.numbers("unlike")
    known = np.flatnonzero(~np.isnan(unlike))
    if not len(known):
        parts.say(
            [clean(desk.at.report["shift"].get("unlike", {}).get("note") or text.NO_STRANGEST, 400)]
        )
        return
    order = known[np.argsort(-unlike[known], kind="stable")]
    parts.case_list(desk, order[:MOST_STRANGE].tolist(), "strange")
