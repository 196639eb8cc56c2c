"""Groups: for whom it holds, as a forest whose rows lead to their cases."""

import html
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

import frame
import text_team as text
from medssl.evaluate import groups as group_room
from medssl.evaluate.report import sections_answer
from medssl.evaluate.report import sections_groups as sections
from medssl.evaluate.report.page import FEW, Material, clean
from team import parts

ROW_PIXELS, AROUND_PIXELS = 34, 110
Row = dict[str, Any]
LINES = {"auroc": "floor_auroc", "sensitivity": "floor_sensitivity"}
BLUE, ORANGE, GREY = "#56B4E9", "#E69F00", "#B8B8B8"


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.GROUPS_TITLE, text.GROUPS_WHY, desk.at)
    report = desk.at.report
    if not report["cohort"]["labelled"]:
        st.info(text.NO_LABELS)
    settings = report["settings"]
    parts.say([sections_answer.for_whom(report)])
    patients, events = settings["min_cell_patients"], settings["min_cell_events"]
    st.caption(text.FEW_RULE.format(patients=patients, events=events))
    rows = [r for r in report["groups"]["rows"] if r["class"] == desk.name]
    if not rows:
        st.info(text.NO_GROUPS)
        parts.say([sections.clean_note(n) for n in report["groups"]["notes"]])
        return
    metric = st.selectbox(
        text.METRIC, list(text.METRICS), format_func=lambda m: text.METRICS[m], key="group_metric"
    )
    _forest(desk, [r for r in rows if r["metric"] == metric], metric)
    found = parts.material(desk.at)
    if isinstance(found, str):
        parts.unread(found)
        return
    _cases(desk, found, rows)
    with st.expander(text.MORE_TABLES):
        parts.tables(sections.groups(found))


def called(row: Row) -> str:
    """Return a group and its level."""
    return f"{clean(row['group'])}: {clean(row['level'], 40)}"


def ordered(rows: list[Row]) -> list[Row]:
    """Return the rows that have a value, the lowest first."""
    return sorted((r for r in rows if r.get("value") is not None), key=lambda r: r["value"])


def _forest(desk: frame.Desk, rows: list[Row], metric: str) -> None:
    known = ordered(rows)
    few = [called(r) for r in rows if r.get("note") == FEW]
    if known:
        told = "; ".join(f"{called(r)} {r['value']:.2f}" for r in known)
        words = text.GROUPS_ALT.format(metric=text.METRICS[metric]) + f" {told}."
        st.plotly_chart(
            _figure(desk, known, metric), key="forest", on_select=_take, alt=words,
            selection_mode="points", config={"displayModeBar": False},
        )  # fmt: skip
    if few:
        parts.say([f"{FEW}: {', '.join(few)}."])


def _figure(desk: frame.Desk, rows: list[Row], metric: str) -> go.Figure:
    value = [r["value"] for r in rows]
    above = [0 if r.get("upper") is None else r["upper"] - r["value"] for r in rows]
    below = [0 if r.get("lower") is None else r["value"] - r["lower"] for r in rows]
    # Plotly reads a few tags of HTML in text.
    names = [html.escape(called(r), quote=False) for r in rows]
    figure = go.Figure(
        go.Scatter(
            x=value, y=list(range(len(rows))), mode="markers", customdata=[called(r) for r in rows],
            marker={"color": BLUE, "size": 12}, text=names, hovertemplate="%{text}: %{x:.3f}<extra></extra>",
            error_x={"type": "data", "array": above, "arrayminus": below, "color": BLUE},
        )
    )  # fmt: skip
    whole = sections_answer.of_class(desk.at.report, metric, desk.name)
    if whole is not None and whole.get("value") is not None:
        words = {"annotation_text": text.ALL_HERE, "annotation_position": "top"}
        figure.add_vline(whole["value"], line_dash="dot", line_color=GREY, **words)
    if metric in LINES:
        at = desk.at.report["settings"][LINES[metric]]
        words = {
            "annotation_text": text.FLOOR,
            "annotation_position": "top",
            "annotation_yshift": 14,
        }
        figure.add_vline(at, line_dash="dash", line_color=ORANGE, **words)
    ticks = {"tickvals": list(range(len(rows))), "ticktext": names, "autorange": "reversed"}
    figure.update_layout(
        height=AROUND_PIXELS + ROW_PIXELS * len(rows), margin={"t": 50, "b": 50},
        xaxis_title=text.METRICS[metric], yaxis=ticks, showlegend=False,
    )  # fmt: skip
    return figure


def _take() -> None:
    """Take the group of the selected mark to hand."""
    points = st.session_state["forest"]["selection"]["points"]
    if points:
        st.session_state["which_group"] = points[0]["customdata"]


def _cases(desk: frame.Desk, found: Material, rows: list[Row]) -> None:
    st.subheader(text.GROUP_CASES)
    named = {called(r): r for r in ordered([r for r in rows if r["metric"] == "auroc"])}
    named |= {called(r): r for r in rows if called(r) not in named}
    if st.session_state.get("which_group") not in named:
        st.session_state.pop("which_group", None)
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    picked = left.selectbox(text.WHICH_GROUP, list(named), key="which_group")
    only = right.checkbox(text.ONLY_WRONG, key="group_wrong")
    places = members(desk, found, named[picked])
    if places is None:
        st.info(text.GROUP_UNKNOWN)
        return
    if only:
        wrong = parts.wrong(desk)
        places = [k for k in places if wrong[k]]
    parts.case_list(desk, places, "group")
    if places and st.button(text.TO_WORKLIST):
        keys = tuple(desk.at.keys[k] for k in places)
        st.session_state["only_cases"] = {"words": picked, "keys": keys}
        parts.say([text.SENT.format(count=len(keys), words=picked)])


def members(desk: frame.Desk, found: Material, row: Row) -> list[int] | None:
    """Return which cases are of a group; None where the files do not tell.

    Args:
        desk: of the page.
        found: the rows behind the report.
        row: of the report's groups.
    """
    name = row["group"].replace(" ", "_")
    here, source = found.here.columns, found.reference.columns
    level = group_room.levels_of(name, here, source, len(found.here.patient))
    if level is None:
        return None
    return np.flatnonzero(level[parts.rows_here(desk, found)] == row["level"]).tolist()
