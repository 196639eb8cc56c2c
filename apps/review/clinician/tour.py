"""Page Two-minute tour: cases of this hospital at which the computer is right, wrong, and out of place."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

import frame
import text
import text_pages as pages
from clinician import answer, panes
from clinician.panes import pane
from evaluations import LIKELY, UNLIKE_BEYOND, UNSURE, Review
from frame import Desk, escape
from viewer import viewer


@dataclass(frozen=True)
class Stop:
    """One stop of the tour: a case, and which lesson it teaches."""

    case: int
    lesson: str


def show(desk: Desk) -> None:
    """Draw the page."""
    review = desk.at
    frame.head(text.REVIEW_TITLES["tour"], pages.TOUR_WHY, review)
    stops = stops_of(review, desk.name)
    if not stops:
        st.info(pages.TOUR_NONE)
        return
    at = min(int(st.session_state.get("tour", 0)), len(stops))
    if at == len(stops):
        st.markdown(pages.TOUR_END)
        if st.button(text.START, type="primary"):
            st.session_state["tour"] = 0
            frame.go_to("worklist")
        return
    st.progress((at + 1) / len(stops), pages.TOUR_PLACE.format(k=at + 1, n=len(stops)))
    _stop(desk, stops[at], at)


def stops_of(review: Review, name: str) -> list[Stop]:
    """Return a right answer, a false alarm, a miss and an image out of place, as far as there are any.

    A label that is none of the model's classes says nothing about it; what it is unsure of is no error.
    """
    labels = review.column("label")
    known = np.isin(labels, review.report["classes"])
    positive = np.array([label == name for label in labels])
    word = review.words(name)
    said = word == LIKELY
    sure = np.abs(review.chances(name) - 0.5)
    unlike = review.numbers("unlike")
    clear = known & (word != UNSURE)
    picks = (
        ("right", clear & (said == positive), sure),
        ("alarm", clear & said & ~positive, sure),
        ("miss", clear & ~said & positive, sure),
        ("unlike", unlike > UNLIKE_BEYOND, np.nan_to_num(unlike)),
    )
    stops: list[Stop] = []
    for lesson, fits, rank in picks:
        taken = {stop.case for stop in stops}
        for k in np.argsort(-np.where(fits, rank, -np.inf), kind="stable"):
            if fits[k] and int(k) not in taken:
                stops.append(Stop(int(k), lesson))
                break
    return stops


def _stop(desk: Desk, stop: Stop, at: int) -> None:
    review, name = desk.at, desk.name
    left, right = st.columns([2, 1], gap="medium")
    key = review.keys[stop.case]
    with left:
        found = panes.pixels.opened(
            panes.source_of(review), panes.session(), key[0], panes.pixels.FRONT
        )
        if isinstance(found, str):
            st.warning(text.NO_PICTURE.format(why=found))
        else:
            one = pane(review, key, found[0], found[1])
            one |= {"label": panes.code_of(key), "frame": "blue", "heat": None}
            habits = {"drag": st.session_state.get("habit_drag", "window")}
            viewer(
                {"id": f"tour{found[0][:12]}", "panes": [one], "next": [], "habits": habits},
                "tour_viewer",
            )
    with right:
        st.markdown(pages.TOUR_QUESTION[stop.lesson].format(finding=escape(review.in_words(name))))
        if st.session_state.get("tour_shown") != at:
            if st.button(pages.TOUR_SHOW, shortcut="Shift+Enter"):
                st.session_state["tour_shown"] = at
                desk.note("revealed", {"before": "read"}, key)
                st.rerun()
            return
        given = review.answer(stop.case, name)
        words = answer.word_of(review, given.word, name)
        st.markdown(f"#### {escape(words)}: {answer.chance(given)}")
        label = review.label_in_words(review.column_at("label", stop.case))
        if label is not None:
            st.markdown(text.CONFIRMED.format(label=escape(label)))
        st.markdown(pages.TOUR_LESSON[stop.lesson])
        if st.button(pages.TOUR_ON, shortcut="Shift+N"):
            st.session_state["tour"] = at + 1
            st.session_state.pop("tour_shown", None)
            st.rerun()
