"""What a pretext task asks and what the network answers: the pictures that pretraining left in a run."""

import json
from typing import Any

import streamlit as st

import frame
import text_research as text
from evaluations import short
from research import records

FACTS, SHEET = "pretext.json", "pretext.png"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 32 << 20


def show(entries: list[records.Entry]) -> None:
    """Draw the section of the page Runs."""
    st.header(text.TASK)
    named = {e.name: e for e in entries if (e.path / FACTS).is_file()}
    if not named:
        st.info(text.TASK_NONE)
        return
    picked = st.selectbox(text.PICK_RUN, list(named), format_func=short, key="runs_task")
    found = read(named[picked])
    if found is None:
        st.warning(text.TASK_BROKEN.format(run=frame.escape(picked)))
        return
    facts, sheet = found
    columns = ", ".join(facts["columns"])
    words = {"run": frame.escape(picked), "method": frame.escape(facts["method"])}
    st.markdown(text.TASK_WHY.format(judged=facts["judged"], **words))
    figures = [f"{frame.escape(k)} {v:.3f}" for k, v in facts["figures"].items()]
    st.markdown(" · ".join(figures))
    st.image(sheet, alt=short(text.TASK_ALT.format(shown=facts["shown"], columns=columns)))
    st.caption(text.TASK_COLUMNS.format(columns=frame.escape(columns)))
    if facts["rows"]:
        with st.expander(text.TASK_ROWS):
            rows = enumerate(facts["rows"], start=1)
            table = [{text.TASK_ROW: k, text.TASK_SAYS: short(words)} for k, words in rows]
            st.dataframe(table, hide_index=True, alt=text.TASK_ROWS, key="runs_task_rows")


def read(entry: records.Entry) -> tuple[dict[str, Any], bytes] | None:
    """Return what was written of a task, and its picture as PNG; None where they are damaged."""
    try:
        facts = json.loads((entry.path / FACTS).read_text())
        with (entry.path / SHEET).open("rb") as file:
            sheet = file.read(MOST_BYTES)
        told = {
            "method": str(facts["method"]),
            "columns": [str(c) for c in facts["columns"]],
            "rows": [str(r) for r in facts["rows"]],
            "shown": int(facts["shown"]),
            "judged": int(facts["judged"]),
            "figures": {str(k): float(v) for k, v in facts["figures"].items()},
        }
    except records.DAMAGES:
        return None
    return (told, sheet) if sheet.startswith(SIGNATURE) else None
