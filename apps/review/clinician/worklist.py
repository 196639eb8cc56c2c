"""Page Worklist: cases that wait, the least certain first."""

from typing import Any

import numpy as np
import streamlit as st

import frame
import pixels
import text
from clinician import answer, panes, read
from clinician.case import set_order
from evaluations import LIKELY, UNLIKE_BEYOND, UNSURE, Key, Review
from frame import Desk
from journal import Status
from listing import listing

TONES = {LIKELY: "likely", UNSURE: "unsure"}
LIST = "worklist"


def show(desk: Desk) -> None:
    """Draw the page."""
    review = desk.at
    frame.head(text.REVIEW_TITLES["worklist"], text.WORKLIST_WHY, review)
    standing = desk.standing()
    _counts(review, standing)
    chosen = _filters(desk, standing)
    if not len(chosen):
        st.info(text.NOTHING)
        return
    order = [int(k) for k in chosen]
    set_order(review, desk.name, order)
    if st.session_state.pop("open_now", False):
        frame.go_to("case")
    _list(desk, standing, order)


def _counts(review: Review, standing: dict[Key, Status]) -> None:
    read_ = sum(1 for key in review.place if (s := standing.get(key)) is not None and s.revealed)
    unlike = int((review.numbers("unlike") > UNLIKE_BEYOND).sum())
    words = text.WAITING if read_ < len(review) else text.ALL_READ
    st.markdown(words.format(waiting=len(review) - read_, total=len(review), unlike=unlike))


def _filters(desk: Desk, standing: dict[Key, Status]) -> np.ndarray[Any, Any]:
    """Draw filters and order; return the cases that remain, in order."""
    review = desk.at
    left, middle, right = st.columns([5, 2, 2], vertical_alignment="bottom")
    chips = left.pills(
        text.SHOW_ONLY, list(text.CHIPS), selection_mode="multi", format_func=text.CHIPS.get,
        key="chips", persist_state="session",
    )  # fmt: skip
    order = middle.selectbox(
        text.ORDER, list(text.ORDERS), format_func=text.ORDERS.get, key="sort",
        persist_state="session",
    )  # fmt: skip
    code = right.text_input(text.SEARCH, key="code", persist_state="session", autocomplete="off")
    kept = _handed_over(review)
    for chip in chips or []:
        kept &= _fits(desk, standing, chip)
    if code:
        start = code.strip().casefold()
        kept &= np.array([image.casefold().startswith(start) for image, _ in review.keys])
    ranks = _ranks(review, desk.name, order, _told(desk, standing))
    chosen = np.flatnonzero(kept)
    return chosen[np.argsort(ranks[chosen], kind="stable")]


def _handed_over(review: Review) -> np.ndarray[Any, Any]:
    """Return the cases that another page asked to see, all where none did; a button lets go of them."""
    asked = st.session_state.get("only_cases")
    if asked is None:
        return np.ones(len(review), dtype=bool)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(text.HANDED_OVER.format(words=frame.escape(asked["words"])))
        if st.button(text.SHOW_ALL):
            del st.session_state["only_cases"]
            st.rerun()
    wanted = set(asked["keys"])
    return np.array([key in wanted for key in review.keys], dtype=bool)


def _fits(desk: Desk, standing: dict[Key, Status], chip: str) -> np.ndarray[Any, Any]:
    review, name = desk.at, desk.name
    if chip == "unsure":
        return np.asarray(review.words(name) == UNSURE) & _told(desk, standing)
    if chip == "unlike":
        return np.asarray(review.numbers("unlike") > UNLIKE_BEYOND)
    if chip == "patient":
        many = {p for p, cases in review.of_patient.items() if len(cases) > 1}
        return np.array([p in many for p in review.column("patient_id")])
    out = np.full(len(review), chip == "waiting")
    for key, status in standing.items():
        if key in review.place:
            k = review.place[key]
            out[k] = _holds(review, k, name, status, chip)
    return out


def _holds(review: Review, case: int, name: str, status: Status, chip: str) -> bool:
    if chip == "waiting":
        return not status.revealed
    if chip == "flagged":
        return status.flagged
    own = status.read
    return (
        own is not None
        and bool(status.revealed)
        and read.differs(review, case, name, own["answer"])
    )


def _told(desk: Desk, standing: dict[Key, Status]) -> np.ndarray[Any, Any]:
    """Return the cases whose answer this reader has seen: the others tell nothing by their place."""
    if not read.is_on():
        return np.ones(len(desk.at), dtype=bool)
    return np.array([_is_read(standing, key) for key in desk.at.keys], dtype=bool)


def _ranks(
    review: Review, name: str, order: str, told: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    if order == "chance":
        return np.where(told, -review.chances(name), 1.0)
    if order == "unlike":
        return -np.nan_to_num(review.numbers("unlike"), nan=-1.0)
    if order == "code":
        codes = sorted(range(len(review)), key=review.keys.__getitem__)
        ranks = np.empty(len(review))
        ranks[codes] = np.arange(len(review))
        return ranks
    return review.uncertainty(name)


def _list(desk: Desk, standing: dict[Key, Status], order: list[int]) -> None:
    review = desk.at
    blind = read.is_on()
    rows, tones = _rows(desk, standing, order, blind=blind)
    source = panes.source_of(review)
    side = source.side
    thumbs = pixels.thumbs(source, panes.session(), review.keys) if side else ""
    at_hand = st.session_state.get("case")
    at = next((k for k, case in enumerate(order) if review.keys[case] == at_hand), 0)
    data = {
        "id": f"{frame.tag(review.run.path)}{hash_of(rows)}",
        "rows": rows, "tone": tones, "thumbs": thumbs, "side": side, "numbers": order, "at": at,
        "focus": True,
        "words": {"label": text.LIST_LABEL, "place": text.LIST_PLACE, "columns": text.LIST_COLUMNS},
    }  # fmt: skip

    def opened() -> None:
        told = st.session_state[LIST].get("open")
        # A row of a list that was sorted anew meanwhile is another case.
        if told is not None and told.get("id") == data["id"] and 0 <= int(told["row"]) < len(order):
            st.session_state["case"] = review.keys[order[int(told["row"])]]
            st.session_state["open_now"] = True

    if st.button(text.START, shortcut="Shift+Enter"):
        first = next((k for k in order if not _is_read(standing, review.keys[k])), order[0])
        frame.open_case(review.keys[first])
    listing(data, LIST, on_open=opened)


def _is_read(standing: dict[Key, Status], key: Key) -> bool:
    status = standing.get(key)
    return status is not None and bool(status.revealed)


def hash_of(rows: list[list[str]]) -> str:
    """Return a short digest by which the browser knows that the list is another."""
    return frame.digest("\x1f".join("\x1e".join(row) for row in rows))


def _rows(
    desk: Desk, standing: dict[Key, Status], order: list[int], *, blind: bool
) -> tuple[list[list[str]], list[str]]:
    """Return the texts and tones of the list; what was not read yet hides the answer."""
    review, name = desk.at, desk.name
    words, unlike = review.words(name), review.numbers("unlike") > UNLIKE_BEYOND
    chances = _chances(review, name)
    rows, tones = [], []
    for k in order:
        key = review.keys[k]
        status = standing.get(key, Status())
        hidden = blind and not status.revealed
        told = [
            text.HIDDEN if hidden else answer.word_of(review, str(words[k]), name),
            "" if hidden else chances[k],
        ]
        rows.append(
            [panes.code_of(key), panes.view_of(review, key[0]), panes.when_of(review, key[0]), *told,
             text.TAG_UNLIKE if unlike[k] else "", _own(review, status)]
        )  # fmt: skip
        tones.append("hidden" if hidden else TONES.get(str(words[k]), "not"))
    return rows, tones


def _chances(review: Review, name: str) -> list[str]:
    parts = (review.chances(name), review.numbers(f"lower_{name}"), review.numbers(f"upper_{name}"))
    return [answer.range_words(*row) for row in zip(*(p.tolist() for p in parts), strict=True)]


def _own(review: Review, status: Status) -> str:
    if status.read is not None:
        said = read.own_in_words(review, status.read["answer"])
        return f"{said} ({text.MARK_FLAG})" if status.flagged else said
    if status.flagged:
        return text.MARK_FLAG
    return text.READ_ONLY if status.revealed else text.NOT_READ
