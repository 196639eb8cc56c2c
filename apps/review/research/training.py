"""The page Runs: every run below the root, their curves while they train, what differs, how to repeat."""

from collections import Counter
from pathlib import Path
from typing import Any

import streamlit as st

import frame
import text_research as text
from evaluations import short
from medssl.errors import MedsslError
from research import charts, logs, pretext, records, told

MOST_CURVES = 6
EVERY_S = 5


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.RUNS_TITLE, text.RUNS_PURPOSE)
    entries = records.find(desk.root)
    if not entries:
        st.info(text.NO_RUNS)
        return
    live = any(records.state(e) == "running" for e in entries)
    pause = not st.toggle(text.REFRESH, value=True, key="runs_refresh") if live else True
    every = None if pause else EVERY_S
    st.fragment(_overview, run_every=every)(desk.root)
    trained = [e.name for e in entries if e.has_log]
    st.header(text.CURVES)
    if trained:
        picked = st.multiselect(
            text.PICK_CURVES,
            trained,
            default=trained[:2],
            max_selections=MOST_CURVES,
            key="runs_curves",
        )
        st.fragment(_curves, run_every=every)(desk.root, picked)
    else:
        st.info(text.NO_LOGS)
    pretext.show(entries)
    _repeat(entries)
    _difference(entries)


def _overview(root: Path) -> None:
    entries = records.find(root)
    rows = [_row(e) for e in entries]
    st.dataframe(rows, hide_index=True, alt=text.RUNS_ALT.format(n=len(rows)), key="runs_table")
    for entry in entries:
        if entry.trouble:
            st.warning(
                text.BROKEN.format(run=frame.escape(entry.name), why=told.whole(entry.trouble))
            )


def _row(entry: records.Entry) -> dict[str, Any]:
    flat = _settings(entry)
    steps = logs.read(entry.path / "log.jsonl").series.get("loss") if entry.has_log else None
    return {
        text.RUN: short(entry.name),
        text.STATUS: text.STATES[records.state(entry)],
        text.VERB: short(entry.verb),
        text.METHOD: short(flat.get("method.name", "")),
        text.BACKBONE: short(flat.get("encoder.name", "")),
        text.FIGURES: records.figures(entry),
        text.STEP: str(steps.steps[-1]) if steps is not None and steps.steps.size else "",
        text.TIME: records.in_words(records.seconds(entry)),
        text.DEVICE: short(entry.record.get("device", "")),
        text.STARTED: short(entry.record.get("started", ""))[:16].replace("T", " "),
        text.NOTE: entry.trouble or _error(entry),
    }


def _error(entry: records.Entry) -> str:
    return short(entry.record["error"]) if "error" in entry.record else ""


def _settings(entry: records.Entry) -> dict[str, str]:
    try:
        return records.flat(records.settings(entry).model_dump(mode="json"))
    except MedsslError:
        return {}


def _curves(root: Path, picked: list[str]) -> None:
    entries = {e.name: e for e in records.find(root) if e.name in picked}
    found = {n: logs.read(entries[n].path / "log.jsonl") for n in picked if n in entries}
    for name, log in found.items():
        judged = logs.facts(entries[name], _settings(entries[name]), records.state(entries[name]))
        signs = logs.health(log, judged)
        words = f"**{frame.escape(name)}**: {told.whole(' '.join(s.words for s in signs))}"
        (st.warning if any(s.warning for s in signs) else st.success)(words)
    fields = list(dict.fromkeys(f for log in found.values() for f in log.curves))
    columns = st.columns(2)
    for k, field in enumerate(fields):
        named = [(n, log.series[field]) for n, log in found.items() if field in log.series]
        with columns[k % 2]:
            _curve(field, [(n, s) for n, s in named if s.steps.size])


def _curve(field: str, named: list[tuple[str, logs.Series]]) -> None:
    if not named:
        return
    title = text.FIELDS.get(field, short(field))
    st.subheader(frame.escape(title))
    thin = [(n, logs.thinned(s)) for n, s in named]
    spans = [
        text.CURVE_ALT.format(
            run=short(n),
            first=s.values[0],
            last=s.values[-1],
            low=s.values.min(),
            high=s.values.max(),
        )
        for n, s in thin
    ]
    alt = text.CURVES_ALT.format(field=title, runs="; ".join(spans))
    figure = charts.curves(thin, text.STEP, charts.plain(title))
    st.plotly_chart(figure, config=charts.QUIET, alt=alt, key=f"runs_curve_{field}")
    with st.expander(text.AS_TABLE.format(what=frame.escape(title))):
        st.dataframe(logs.rows(thin), hide_index=True, alt=alt, key=f"runs_numbers_{field}")


def _repeat(entries: list[records.Entry]) -> None:
    st.header(text.REPEAT)
    names = {e.name: e for e in entries if e.record}
    if not names:
        return
    picked = st.selectbox(text.PICK_RUN, list(names), format_func=short, key="runs_repeat")
    entry = names[picked]
    line = records.command(entry)
    if line is None:
        st.info(text.NO_COMMAND.format(verb=frame.escape(entry.verb)))
        return
    st.markdown(text.REPEAT_WHY)
    st.code(line, language=None, wrap_lines=True)
    if entry.verb == "pretrain" and records.state(entry) in {"stopped", "failed"}:
        st.markdown(text.RESUME_WHY)
        st.code(records.command(entry, resume=True), language=None, wrap_lines=True)


def _difference(entries: list[records.Entry]) -> None:
    st.header(text.DIFFERENCE)
    names = {e.name: e for e in entries if e.verb in records.CONFIGS}
    verbs = Counter(e.verb for e in names.values())
    several = [n for n, e in names.items() if verbs[e.verb] > 1]
    if not several:
        st.info(text.NEED_TWO)
        return
    left, right = st.columns(2)
    one = left.selectbox(text.FIRST_RUN, several, format_func=short, key="runs_one")
    rest = [n for n in several if n != one and names[n].verb == names[one].verb]
    two = right.selectbox(text.SECOND_RUN, rest, format_func=short, key="runs_two")
    try:
        sides = [
            records.flat(records.settings(names[n]).model_dump(mode="json")) for n in (one, two)
        ]
    except MedsslError as error:
        told.trouble(error)
        return
    rows = records.differences(*sides)
    if not rows:
        st.success(text.SAME_SETTINGS)
        return
    table = [dict(zip((text.SETTING, text.FIRST, text.SECOND), row, strict=True)) for row in rows]
    alt = text.DIFFERENCE_ALT.format(n=len(rows))
    st.dataframe(table, hide_index=True, alt=alt, key="runs_difference")
