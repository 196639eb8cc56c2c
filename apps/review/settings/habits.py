"""Habits and audit: the mouse, read first, the keys, and who did what when."""

import streamlit as st

import frame
import text
import text_settings as words
from settings import audit, choices


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(words.TITLE, words.PURPOSE)
    _mouse_and_reading(desk)
    st.subheader(words.KEYS_TITLE)
    st.markdown(words.KEYS_WHERE)
    st.table(
        [{words.KEY: key, words.DOES: does} for key, does in words.KEYS],
        hide_index=True,
        alt=words.KEYS_ALT,
    )
    st.subheader(words.SIGHT_TITLE)
    st.markdown(words.SIGHT)
    _audit(desk)


def _mouse_and_reading(desk: frame.Desk) -> None:
    now = choices.current(desk.reader.code, desk.journal)
    st.subheader(words.HABITS_TITLE)
    drag = st.radio(
        words.DRAG,
        choices.DRAGS,
        index=choices.DRAGS.index(now.drag),
        format_func=words.DRAGS.__getitem__,
        key="pick_drag",
    )
    first = st.toggle(words.READ_FIRST, value=now.read_first, key="pick_read_first")
    st.caption(words.READ_FIRST_WHY)
    choices.keep(desk.reader.code, desk.journal, choices.Habits(drag, first))


def _audit(desk: frame.Desk) -> None:
    st.subheader(words.AUDIT_TITLE)
    st.markdown(words.AUDIT_WHY)
    st.text(words.YOUR_CODE.format(code=desk.reader.code))
    everybody = "admin" in desk.reader.roles and st.toggle(words.EVERYBODY, key="audit_everybody")
    if everybody:
        st.caption(words.EVERYBODY_WHY)
    events = desk.journal.events(None if everybody else desk.reader.code)
    found = audit.rows(events, desk.reader.code, text.BANNER)
    st.dataframe(
        [audit.shown(row) for row in found],
        hide_index=True,
        alt=words.AUDIT_ALT.format(count=len(found)),
    )
    st.download_button(
        words.DOWNLOAD,
        audit.as_csv(found),
        "audit.csv",
        "text/csv",
        on_click=desk.journal.add,
        args=(desk.reader.code, "exported", {"what": "audit log", "rows": len(found)}),
        key="audit_download",
    )
