"""A reader's habits: kept in the journal, so that the next sign-in finds them again."""

from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from journal import Journal

DRAGS = ("window", "scroll", "pan")
OWNER, DRAG, FIRST = "habits_of", "habit_drag", "habit_read_first"
"""Where a session holds them; the picture and the reading read the last two."""


@dataclass(frozen=True)
class Habits:
    """How one reader likes to work.

    Attributes:
        drag: what dragging with the left button does, of ``DRAGS``.
        read_first: whether the own answer comes before the computer's.
    """

    drag: str = DRAGS[0]
    read_first: bool = True


def current(code: str, journal: Journal) -> Habits:
    """Return a reader's habits: of this session, else what they last chose, else the usual ones."""
    if st.session_state.get(OWNER) != code:
        said = [e.data for e in journal.events(code) if e.kind == "habit"]
        _hold(code, of_event(said[-1] if said else {}))
    return Habits(st.session_state[DRAG], st.session_state[FIRST])


def _hold(code: str, habits: Habits) -> None:
    st.session_state.update({OWNER: code, DRAG: habits.drag, FIRST: habits.read_first})


def of_event(data: dict[str, Any]) -> Habits:
    """Return habits as an event tells them; what it does not tell well is as usual."""
    usual = Habits()
    drag, first = data.get("drag"), data.get("read_first")
    return Habits(
        drag=drag if drag in DRAGS else usual.drag,
        read_first=first if isinstance(first, bool) else usual.read_first,
    )


def keep(code: str, journal: Journal, habits: Habits) -> None:
    """Keep a reader's habits; the same ones again leave no trace."""
    if habits != current(code, journal):
        journal.add(code, "habit", asdict(habits))
        _hold(code, habits)
