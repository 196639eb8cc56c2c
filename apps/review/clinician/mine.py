"""Page My feedback: what I said, how it compares with colleagues, and the export."""

from functools import partial
from typing import Any

import numpy as np
import streamlit as st

import frame
import text
import text_pages as pages
from clinician import answer, panes, read
from evaluations import Key, Review
from frame import Desk
from journal import Event, Status, as_csv, as_json, export, fold
from medssl.stats import agreement

LEAST_SHARED = 10


def show(desk: Desk) -> None:
    """Draw the page."""
    review = desk.at
    frame.head(text.REVIEW_TITLES["mine"], pages.MINE_WHY, review)
    mine = desk.standing()
    own = {k: s for k, s in mine.items() if s.revealed or s.feedback is not None or s.flagged}
    if not own:
        st.info(pages.MINE_NONE)
        return
    _entries(desk, own)
    _colleagues(desk, own)
    _export(desk, own)


def _entries(desk: Desk, own: dict[Key, Status]) -> None:
    review = desk.at
    here = [k for k in own if k in review.place]
    left_out = len(own) - len(here)
    rows = [_row(review, desk.name, key, own[key]) for key in here]
    st.subheader(pages.MINE_ENTRIES.format(n=len(rows)), anchor=False)
    if left_out:
        st.caption(pages.MINE_ELSEWHERE.format(n=left_out))
    picked = st.dataframe(
        rows, hide_index=True, alt=pages.MINE_ALT, on_select="rerun", selection_mode="single-row",
        key="mine_rows",
    )  # fmt: skip
    chosen = picked.selection.rows if picked is not None else []
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = [panes.code_of(k) for k in here]
        start = chosen[0] if chosen else 0
        code = st.selectbox(pages.MINE_EDIT, names, index=start, key=f"edit_{start}")
        if st.button(pages.OPEN_CASE):
            frame.open_case(here[names.index(code)])


def _row(review: Review, name: str, key: Key, status: Status) -> dict[str, Any]:
    said, own = status.feedback or {}, status.read
    case = review.place[key]
    word = answer.word_of(review, str(review.words(name)[case]), name) if status.revealed else ""
    return {
        pages.COL_CODE: panes.code_of(key),
        pages.COL_OWN: read.own_in_words(review, own["answer"]) if own is not None else "",
        pages.COL_COMPUTER: word,
        pages.COL_VERDICT: text.VERDICTS.get(said.get("verdict", ""), ""),
        pages.COL_CHANGED: ""
        if status.changed is None
        else (text.YES if status.changed else text.NO),
        pages.COL_WHY: "; ".join(said.get("reasons") or []),
        pages.COL_NOTE: said.get("note") or "",
        pages.COL_FLAG: text.MARK_FLAG if status.flagged else "",
        pages.COL_WHEN: str(said.get("at") or status.revealed)[:16].replace("T", " "),
    }


def by_reader(
    events: list[Event], finding: str, apart: frozenset[str]
) -> dict[str, dict[Key, Status]]:
    """Return every reader's standing for one finding."""
    parts: dict[str, list[Event]] = {}
    for event in events:
        parts.setdefault(event.user, []).append(event)
    return {user: fold(mine, finding, apart) for user, mine in parts.items()}


def shared(
    own: dict[Key, Status], others: dict[str, dict[Key, Status]]
) -> list[tuple[Key, str, str]]:
    """Return the reads of cases that I have read and others too: case, mine, theirs.

    A case that I have not read yet stays out: nobody sees another's read before their own.
    """
    out = []
    for standing in others.values():
        for key, status in standing.items():
            mine = own.get(key)
            if mine is None or mine.read is None or status.read is None:
                continue
            out.append((key, str(mine.read["answer"]), str(status.read["answer"])))
    return out


def _colleagues(desk: Desk, own: dict[Key, Status]) -> None:
    review = desk.at
    everyone = by_reader(desk.journal.events(model=review.model), desk.name, review.apart)
    everyone.pop(desk.reader.code, None)
    pairs = shared(own, everyone)
    st.subheader(pages.COLLEAGUES, anchor=False)
    if len(pairs) < LEAST_SHARED:
        st.write(pages.COLLEAGUES_FEW.format(n=len(pairs), least=LEAST_SHARED))
    else:
        st.markdown(words_of_kappa(pairs))
    apart = sorted(
        {k for k, a, b in pairs if a != b and "cannot tell" not in (a, b) and k in review.place}
    )
    if not apart:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = [panes.code_of(k) for k in apart]
        code = st.selectbox(pages.DISCUSS.format(n=len(apart)), names, key="discuss")
        if st.button(pages.OPEN_CASE, key="open_discuss"):
            frame.open_case(apart[names.index(code)])


def words_of_kappa(pairs: list[tuple[Key, str, str]]) -> str:
    """Return how far two readers agree beyond chance, in words."""
    levels = sorted({a for _, a, _ in pairs} | {b for _, _, b in pairs})
    code = {level: k for k, level in enumerate(levels)}
    table = np.zeros((len(levels), len(levels)), dtype=np.int64)
    for _, mine, theirs in pairs:
        table[code[mine], code[theirs]] += 1
    told = pages.AGREED.format(same=int(table.trace()), n=len(pairs))
    kappa = agreement.kappa(table) if len(levels) > 1 else None
    if kappa is None:
        return f"{told} {pages.KAPPA_NONE}"
    word = next(w for limit, w in pages.KAPPA_WORDS if kappa >= limit - 1e-9)
    return f"{told} {pages.KAPPA.format(word=word)}"


def _export(desk: Desk, own: dict[Key, Status]) -> None:
    st.subheader(pages.EXPORT, anchor=False)
    everybody = "admin" in desk.reader.roles and st.toggle(pages.EXPORT_ALL, key="export_all")
    rows = _rows(desk, everybody=everybody, seen={k for k, s in own.items() if s.read is not None})
    flat = export(rows, text.BANNER)
    st.caption(pages.EXPORT_PREVIEW.format(n=len(flat)))
    shown = [{k: "" if v is None else str(v) for k, v in row.items()} for row in flat[:5]]
    st.dataframe(shown, hide_index=True, alt=pages.EXPORT)
    with st.container(horizontal=True):
        for words, make, name, kind in (
            (pages.EXPORT_CSV, as_csv, "feedback.csv", "text/csv"),
            (pages.EXPORT_JSON, as_json, "feedback.json", "application/json"),
        ):
            noted = partial(_noted, desk, name, len(flat))
            st.download_button(words, make(flat), name, kind, on_click=noted)
    st.caption(pages.EXPORT_WHAT)


def _rows(
    desk: Desk, *, everybody: bool, seen: set[Key]
) -> dict[tuple[str, str, Key, str], Status]:
    """Return what the export holds: every finding of mine, or of all readers.

    Without sign-in nobody knows who asks, so nobody gets a read of a case before their own.
    """
    review = desk.at
    events = desk.journal.events(None if everybody else desk.reader.code, review.model)
    rows = {}
    for name in review.shown:
        for user, mine in by_reader(events, name, review.apart).items():
            for key, status in mine.items():
                blind = user != desk.reader.code and not desk.reader.signed_in and key not in seen
                if status != Status() and not blind:
                    rows[user, review.model, key, name] = status
    return rows


def _noted(desk: Desk, name: str, rows: int) -> None:
    data = {"file": name, "rows": rows}
    desk.journal.add(desk.reader.code, "exported", data, model=desk.at.model)
