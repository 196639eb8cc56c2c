"""What the reader says of the computer's answer: saved at once, taken back within reach."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import streamlit as st

import text
from clinician.read import is_yes_or_no
from evaluations import LIKELY, UNSURE, Key, Review
from frame import Desk, escape
from journal import Status

ACTS = ("agree", "disagree", "unsure")
UNDO_S = 10.0


def say(desk: Desk, case: int, verdict: str, go_on: Callable[[], None]) -> None:
    """Save a verdict at once; agreement and ``can't tell`` go on, where the reader likes so.

    A disagreement is saved with what follows from it (the other of two answers, a miss or a false
    alarm), and stays to be told more of.
    """
    before = desk.standing().get(desk.at.keys[case], Status()).feedback
    if verdict == "disagree" and before is not None and before["verdict"] == verdict:
        st.session_state["disagreeing"] = desk.at.keys[case]
        return
    if verdict == "disagree":
        data = {"verdict": verdict, "box": _drawn(desk.at.keys[case])}
        _save(desk, case, data | implied(desk.at, case, desk.name))
        st.session_state["disagreeing"] = desk.at.keys[case]
        return
    saved = _save(desk, case, {"verdict": verdict})
    if saved and st.session_state.get("habit_go_on", True):
        go_on()


def implied(review: Review, case: int, name: str) -> dict[str, Any]:
    """Return what a disagreement means where the question has two answers; empty where it is open."""
    word = str(review.words(name)[case])
    if not is_yes_or_no(review) or word == UNSURE:
        return {}
    other = next(str(c) for c in review.report["classes"] if str(c) != name)
    if word == LIKELY:
        return {"corrected": other, "reasons": [text.FALSE_ALARM]}
    return {"corrected": name, "reasons": [text.MISSED]}


def _save(desk: Desk, case: int, data: dict[str, Any]) -> bool:
    """Write a verdict; return whether it is on the disk."""
    key = desk.at.keys[case]
    number = desk.note("feedback", data, key)
    if number:
        saved = (number, key, data["verdict"], datetime.now(UTC), desk.at.model)
        st.session_state["saved"] = saved
        st.session_state.pop("disagreeing", None)
    return bool(number)


def flag(desk: Desk, case: int, *, on: bool) -> None:
    """Mark a case for later, or take the mark away."""
    desk.note("flag", {"on": on}, desk.at.keys[case])


def undo(desk: Desk, number: int, model: str) -> None:
    """Take one event back; it stays on record, and so does this."""
    if desk.journal.add(desk.reader.code, "undo", {"event": number}, model=model):
        st.session_state.pop("saved", None)
        st.toast(text.UNDONE)


def saved_before(desk: Desk) -> None:
    """After going on by itself, say what was saved on the case before, with a way back."""
    saved = st.session_state.get("saved")
    if saved is None or saved[1] == st.session_state.get("case"):
        return
    if (datetime.now(UTC) - saved[3]).total_seconds() > UNDO_S:
        return

    def back() -> None:
        undo(desk, saved[0], saved[4])
        if saved[4] == desk.at.model:
            st.session_state["case"] = saved[1]

    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(text.SAVED_BEFORE.format(verdict=text.VERDICTS[saved[2]]))
        st.button(text.UNDO, key=f"undo_before_{saved[0]}", on_click=back)


def bar(desk: Desk, case: int, status: Status, go_on: Callable[[], None]) -> None:
    """Draw the three verdicts, what a disagreement needs, the flag and undo."""
    st.markdown(f"**{text.FEEDBACK}**")
    said = status.feedback["verdict"] if status.feedback is not None else ""
    with st.container(horizontal=True):
        for verdict, shortcut in zip(ACTS, ("Shift+A", "Shift+D", "Shift+U"), strict=True):
            st.button(
                text.VERDICTS[verdict],
                key=f"{verdict}_{case}",
                shortcut=shortcut,
                type="primary" if said == verdict else "secondary",
                on_click=say,
                args=(desk, case, verdict, go_on),
            )
        words = text.UNFLAG if status.flagged else text.FLAG
        toggle = partial(flag, desk, case, on=not status.flagged)
        st.button(words, key=f"flag_{case}", on_click=toggle)
    if st.session_state.get("disagreeing") == desk.at.keys[case]:
        _why(desk, case, status)
    if status.feedback is not None:
        _saved(desk, case, status)


def _saved(desk: Desk, case: int, status: Status) -> None:
    said = status.feedback or {}
    time, number = str(said["at"])[11:19], int(said["number"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(text.SAVED.format(time=time, verdict=text.VERDICTS[said["verdict"]]))
        st.button(
            text.UNDO,
            key=f"undo_{case}_{number}",
            on_click=undo,
            args=(desk, number, desk.at.model),
        )
    details = [
        corrections(desk.at).get(str(said.get("corrected")), ""),
        "; ".join(said.get("reasons") or []),
        said.get("note") or "",
    ]
    for line in (d for d in details if d):
        st.text(line)


def _why(desk: Desk, case: int, status: Status) -> None:
    """Ask what is wrong: corrected answer, reasons, box and note, saved together."""
    key = desk.at.keys[case]
    before = status.feedback or {}
    keep: Any = {"persist_state": "session"}
    with st.container(border=True):
        options = corrections(desk.at)
        held = before.get("corrected")
        place = list(options).index(held) if held in options else None
        corrected = st.selectbox(
            text.CORRECTED, list(options.values()), index=place, key=f"right_{case}", **keep
        )
        reasons = st.pills(
            text.REASONS_ASK,
            text.REASONS,
            selection_mode="multi",
            default=[r for r in before.get("reasons") or [] if r in text.REASONS],
            key=f"reasons_{case}",
            **keep,
        )
        drawn = _drawn(key) or before.get("box")
        if drawn:
            st.caption(text.BOX.format(image=drawn["slice"] + 1, **drawn))
        else:
            st.caption(text.NO_BOX)
        note = st.text_area(
            text.NOTE, value=before.get("note", ""), max_chars=2000, key=f"note_{case}", **keep
        )
        if st.button(text.SAVE, type="primary", key=f"save_{case}"):
            value = next((v for v, words in options.items() if words == corrected), None)
            data = {"verdict": "disagree", "corrected": value, "reasons": list(reasons or [])}
            _save(desk, case, data | {"box": drawn, "note": note.strip()})
            st.rerun()


def _drawn(key: Key) -> dict[str, int] | None:
    """Return the box that was drawn on a case in this session."""
    box = st.session_state.get("box")
    return box[1] if box is not None and box[0] == key else None


def corrections(review: Review) -> dict[str, str]:
    """Return the answers that may be right, by value, as the page says them."""
    names = [str(c) for c in review.report["classes"]]
    found = {name: review.label_in_words(name) or name for name in names}
    return found | {"cannot tell": text.CANNOT_TELL}


def confirmed(review: Review, case: int, status: Status) -> None:
    """Show the confirmed answer, once the reader has said what they think."""
    label = review.column_at("label", case)
    if label is None:
        st.caption(text.NOT_CONFIRMED)
    elif status.feedback is None:
        st.caption(text.AFTER_YOURS)
    else:
        st.markdown(text.CONFIRMED.format(label=escape(review.label_in_words(label))))
