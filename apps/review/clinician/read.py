"""Read first, then reveal: the reader's own answer and how sure, before the computer's is shown."""

from datetime import UTC, datetime
from typing import Any

import streamlit as st

import text
from evaluations import Review
from frame import Desk, escape
from journal import Status

MOST_SECONDS = 3600


def is_on() -> bool:
    """Return whether this reader reads first; off only where they chose so."""
    return bool(st.session_state.get("habit_read_first", True))


def is_shown(status: Status) -> bool:
    """Return whether the computer's answer may be seen."""
    return bool(status.revealed) or not is_on()


def is_yes_or_no(review: Review) -> bool:
    """Return whether the question is one finding that is there or not."""
    return len(review.shown) == 1 and len(review.report["classes"]) == 2


def ask(desk: Desk, case: int) -> None:
    """Draw the question; an answer is saved at once, and reveals."""
    st.subheader(text.READ_FIRST)
    if is_yes_or_no(desk.at):
        _scale(desk, case)
    else:
        _classes(desk, case)
    st.caption(text.THEN_REVEAL)
    st.button(text.SKIP, type="tertiary", on_click=_reveal, args=(desk, case), key=f"skip_{case}")


def _scale(desk: Desk, case: int) -> None:
    """Five buttons hold answer and confidence together: one press or key a case."""
    finding = desk.at.in_words(desk.name)
    st.markdown(text.YOUR_READ.format(finding=escape(finding)))
    for k, (answer, sure, words) in enumerate(text.SCALE, start=1):
        st.button(
            f"{words}",
            key=f"own_{case}_{k}",
            shortcut=f"Alt+{k}",
            width="stretch",
            on_click=_save,
            args=(desk, case, answer, sure),
        )


def _classes(desk: Desk, case: int) -> None:
    """One row of buttons per class for how sure; the last says that it cannot be told."""
    st.markdown(text.YOUR_ANSWER)
    for c, name in enumerate(desk.at.report["classes"]):
        words = desk.at.label_in_words(str(name)) or str(name)
        with st.container(horizontal=True, vertical_alignment="center"):
            for sure, how in ((5, text.SURELY), (3, text.PROBABLY)):
                st.button(
                    f"{how} {escape(words)}",
                    key=f"own_{case}_{c}_{sure}",
                    on_click=_save,
                    args=(desk, case, str(name), sure),
                )
    st.button(
        text.CANNOT_TELL,
        key=f"own_{case}_none",
        on_click=_save,
        args=(desk, case, "cannot tell", 1),
    )


def _save(desk: Desk, case: int, answer: str, sure: int) -> None:
    """Write the reader's own answer, how long it took, and that the computer's is shown now."""
    key = desk.at.keys[case]
    opened = st.session_state.get("opened", (None, None))
    took = (datetime.now(UTC) - opened[1]).total_seconds() if opened[0] == key else None
    data: dict[str, Any] = {"answer": answer, "confidence": sure}
    data["seconds"] = None if took is None or took > MOST_SECONDS else round(took, 1)
    desk.note("read", data, key)
    _reveal(desk, case)


def _reveal(desk: Desk, case: int) -> None:
    desk.note("revealed", {}, desk.at.keys[case])


def tell(status: Status, review: Review) -> None:
    """Say what the reader answered before."""
    if status.read is None:
        if status.revealed:
            st.caption(text.SKIPPED)
        return
    answer = own_in_words(review, status.read["answer"])
    time = str(status.read["at"])[11:16]
    sure = text.SURE.get(int(status.read["confidence"]), "")
    st.markdown(text.READ_AS.format(answer=escape(answer), sure=sure, time=time))


def own_in_words(review: Review, answer: str) -> str:
    """Return an answer of the reader as the page says it."""
    if answer in text.OWN_WORDS:
        return text.OWN_WORDS[answer]
    return review.label_in_words(answer) or answer


def differs(review: Review, case: int, name: str, own: str) -> bool:
    """Return whether a reader's own answer and the computer's say different things."""
    word = str(review.words(name)[case])
    if word == "unsure" or own == "cannot tell":
        return False
    if is_yes_or_no(review):
        return (own == "present") != (word == "likely")
    return (own == name) != (word == "likely")
