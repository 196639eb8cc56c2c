"""Page Case: the image, the reader's own answer first, then the computer's and what to make of it."""

import functools
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import streamlit as st

import frame
import text
from clinician import answer, feedback, maps, panes, read
from evaluations import Key, Review
from frame import Desk
from journal import Status
from settings import choices
from viewer import viewer

VIEWER = "viewer"
STEPS = {"next": 1, "previous": -1}


def show(desk: Desk) -> None:
    """Draw the page."""
    review = desk.at
    frame.head(text.REVIEW_TITLES["case"], text.CASE_WHY, review)
    if not len(review):
        st.info(text.NOTHING)
        return
    order = order_of(review, desk.name)
    case = case_at_hand(review, order)
    key = review.keys[case]
    status = desk.standing().get(key, Status())
    _note_opened(desk, key)
    if not read.is_on() and not status.revealed:
        desk.note("revealed", {"before": "read"}, key)
        status = desk.standing()[key]
    _navigation(review, order, case)
    left, right = st.columns([2, 1], gap="medium")
    shown = read.is_shown(status)
    with left:
        _picture(desk, case, order, status, shown=shown)
    with right:
        feedback.saved_before(desk)
        if not shown:
            read.ask(desk, case)
            return
        read.tell(status, review)
        answer.panel(desk, case, status)
        feedback.bar(desk, case, status, functools.partial(step, review, order, 1))
        answer.tabs(desk, case)
        feedback.confirmed(review, case, status)


def order_of(review: Review, name: str) -> list[int]:
    """Return the reader's list of cases: as the worklist left it, else the least certain first."""
    kept = st.session_state.get("order")
    if kept is not None and kept[0] == (str(review.run.path), name):
        return list(kept[1])
    order = [int(k) for k in review.uncertainty(name).argsort(kind="stable")]
    set_order(review, name, order)
    return order


def set_order(review: Review, name: str, order: list[int]) -> None:
    """Keep the reader's list of cases."""
    st.session_state["order"] = ((str(review.run.path), name), order)


def case_at_hand(review: Review, order: list[int]) -> int:
    """Return the case chosen on any page; else the first of the list."""
    key = st.session_state.get("case")
    if key in review.place:
        return review.place[key]
    first = order[0] if order else 0
    st.session_state["case"] = review.keys[first]
    return first


def step(review: Review, order: list[int], by: int) -> None:
    """Take the next or an earlier case of the list to hand; at its ends, say so."""
    case = case_at_hand(review, order)
    at = order.index(case) if case in order else -1
    to = at + by
    if not 0 <= to < len(order):
        st.toast(text.LAST_CASE if by > 0 else text.FIRST_CASE)
        return
    st.session_state["case"] = review.keys[order[to]]


def _navigation(review: Review, order: list[int], case: int) -> None:
    key = review.keys[case]
    mine = review.of_patient[review.column_at("patient_id", case)]
    at = order.index(case) + 1 if case in order else 0
    parts = [text.CASE_PLACE.format(k=at, n=len(order))] if at else []
    parts += [panes.code_of(key), panes.view_of(review, key[0]), panes.when_of(review, key[0])]
    parts += [_person(review, key)]
    if len(mine) > 1:
        parts.append(text.IMAGE_OF.format(k=mine.index(case) + 1, n=len(mine)))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(text.PREVIOUS, on_click=step, args=(review, order, -1), shortcut="Shift+B")
        st.button(text.NEXT, on_click=step, args=(review, order, 1), shortcut="Shift+N")
        if st.button(text.BACK, shortcut="Shift+L"):
            frame.go_to("worklist")
        st.markdown(" · ".join(frame.escape(p) for p in parts if p))


def _person(review: Review, key: Key) -> str:
    row = review.manifest.get(key[0], {})
    words = [text.SEXES.get(str(row.get("sex")), ""), str(row.get("age_band") or "")]
    return " ".join(w for w in words if w)


def _picture(desk: Desk, case: int, order: list[int], status: Status, *, shown: bool) -> None:
    heat = maps.heat(desk, case) if shown else None
    made = panes.payload(desk, case, order, heat)
    if isinstance(made, str):
        st.warning(text.NO_PICTURE.format(why=made))
        return
    remark = made.pop("remark")
    st.session_state["in_sight"] = made["id"]
    act = functools.partial(_act, desk, case, order, status)
    viewer(made, VIEWER, on_act=act, on_box=functools.partial(_box, desk, case))
    if st.session_state.pop("to_worklist", False):
        frame.go_to("worklist")
    if remark:
        st.caption(text.NOT_FULL.format(size=made["panes"][0]["cols"], why=remark))
    if not made["panes"][0]["calibrated"]:
        st.caption(text.AT_DETECTOR)
    maps.ahead(desk, case, order)


def _told(name: str) -> Any:
    state = st.session_state.get(VIEWER)
    return None if state is None else state.get(name)


def _act(desk: Desk, case: int, order: list[int], status: Status) -> None:
    """Do what keys in the viewer asked for, each once and in turn.

    A message carries the keys before it too. A verdict counts for the picture that was in sight when
    its key was pressed; where that is no longer the case at hand, it is refused and said.
    """
    told = _told("act")
    if not isinstance(told, dict):
        return
    done = int(st.session_state.get("acts_done", 0))
    fresh = [a for a in (*told.get("earlier", []), told) if int(a["n"]) > done]
    for act in fresh:
        st.session_state["acts_done"] = int(act["n"])
        in_sight = act.get("id") == st.session_state.get("in_sight")
        at_hand = case_at_hand(desk.at, order) == case
        _do(desk, case, order, status, act, still=in_sight and at_hand)


def _do(
    desk: Desk, case: int, order: list[int], status: Status, act: dict[str, Any], *, still: bool
) -> None:
    what, review = str(act["what"]), desk.at
    if what in STEPS:
        step(review, order, STEPS[what])
    elif what == "list":
        st.session_state["to_worklist"] = True
    elif what == "habit":
        _keep_habit(desk, str(act.get("value")))
    elif what not in ("flag", "reveal", *feedback.ACTS):
        return
    elif not still:
        st.toast(text.TOO_FAST)
    elif what == "flag":
        feedback.flag(desk, case, on=not status.flagged)
    elif not read.is_shown(status):
        st.toast(text.READ_BEFORE)
    elif what in feedback.ACTS:
        feedback.say(desk, case, what, functools.partial(step, review, order, 1))


def _keep_habit(desk: Desk, drag: str) -> None:
    now = choices.current(desk.reader.code, desk.journal)
    if drag in choices.DRAGS:
        choices.keep(desk.reader.code, desk.journal, replace(now, drag=drag))


def _box(desk: Desk, case: int) -> None:
    """Keep the box that was drawn on this case's own image until it is saved."""
    box = _told("box")
    key = desk.at.keys[case]
    if isinstance(box, dict) and box.get("pane") == 0:
        st.session_state["box"] = (key, {k: int(box[k]) for k in ("slice", "x0", "y0", "x1", "y1")})
    else:
        st.session_state.pop("box", None)


def _note_opened(desk: Desk, key: Key) -> None:
    """Start the clock of this case, and write once a visit that it was opened."""
    if st.session_state.get("opened", (None,))[0] == key:
        return
    st.session_state["opened"] = (key, datetime.now(UTC))
    st.session_state.pop("box", None)
    desk.note("opened", {"run": frame.tag(desk.at.run.path)}, key)
