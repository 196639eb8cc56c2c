"""Where the computer looked: asked for once, then made ready for the cases that come next."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

import text
from clinician import panes
from evaluations import Key, Review, parent
from frame import Desk
from medssl import infer, looked
from medssl.errors import MedsslError
from pixels import Source

KEPT = 500
Map = looked.Looked | None

_found: OrderedDict[tuple[str, str, Key, str], Map] = OrderedDict()
_models: dict[str, infer.Classifier] = {}
_turn = threading.Lock()


def _name(desk: Desk, case: int) -> tuple[str, str, Key, str]:
    return panes.session(), str(desk.at.run.path), desk.at.keys[case], desk.name


def heat(desk: Desk, case: int) -> dict[str, Any] | None:
    """Return the map of a case as the viewer takes it; None where it was not asked for yet."""
    found = _found.get(_name(desk, case))
    if found is None:
        return None
    review = desk.at
    key = review.keys[case]
    source = panes.source_of(review)
    box = source.box(key)
    values = onto_picture(found.values, box, source.side) if box is not None else found.values
    opened = panes.pixels.opened(source, panes.session(), key[0], panes.pixels.FRONT)
    if isinstance(opened, str):
        return None
    return {
        "rows": int(values.shape[0]),
        "cols": int(values.shape[1]),
        "slice": panes.start_of(opened[1].facts["slice_index"], key[1]),
        "values": [round(float(v), 3) for v in values.ravel()],
        "legend": text.WHERE_LEGEND.format(version=review.model[:8]),
    }


def onto_picture(
    values: npt.NDArray[np.float64], box: tuple[int, int, int, int], side: int
) -> npt.NDArray[np.float64]:
    """Return a map of the stored square as one of the picture inside it, read off bilinearly.

    Args:
        values: ``[G, G]`` over the square.
        box: top, left, height and width of the picture in the square, pixels.
        side: of the square, pixels.
    """
    grid = len(values)
    top, left, height, width = box

    def places(start: int, length: int) -> npt.NDArray[np.float64]:
        middle = start + (np.arange(grid) + 0.5) * length / grid
        return np.clip(middle / side * grid - 0.5, 0, grid - 1)

    rows, columns = places(top, height), places(left, width)
    low = np.minimum(np.floor(rows).astype(int), grid - 2)
    along = values[low] + (rows - low)[:, None] * (values[low + 1] - values[low])
    near = np.minimum(np.floor(columns).astype(int), grid - 2)
    made = along[:, near] + (columns - near)[None, :] * (along[:, near + 1] - along[:, near])
    return np.asarray(made)


def explain(desk: Desk, case: int) -> None:
    """Draw the words beside the map, and the button that asks for it."""
    st.caption(text.WHERE_WHY)
    name = _name(desk, case)
    if name not in _found:
        if not st.button(text.WHERE_BUTTON, key=f"where_{case}"):
            return
        st.session_state["wants_maps"] = True
        with st.spinner(text.WHERE_LOOKING):
            _find(desk.at, panes.source_of(desk.at), name)
        st.rerun()
    found = _found[name]
    if found is None:
        st.write(text.WHERE_NONE)
        return
    if not found.values.any():
        st.write(text.WHERE_FLAT)
        return
    st.write(text.WHERE_SWITCH)
    way = text.DOWN if found.change >= 0 else text.UP
    st.write(text.WHERE_CHANGE.format(way=way, points=f"{100 * abs(found.change):.0f}"))
    if found.random is None:
        st.write(text.WHERE_UNCHECKED)
    else:
        st.write(text.WHERE_OWN if found.own else text.WHERE_SAME)


def ahead(desk: Desk, case: int, order: list[int]) -> None:
    """Make the maps of the next two cases ready, once this reader has asked for one."""
    if not st.session_state.get("wants_maps", False):
        return
    at = order.index(case) if case in order else -1
    names = [_name(desk, k) for k in order[at + 1 : at + 3]]
    review, source = desk.at, panes.source_of(desk.at)
    todo = [n for n in names if n not in _found]

    def work() -> None:
        for name in todo:
            _find(review, source, name)

    if todo:
        threading.Thread(target=work, daemon=True).start()


def _find(review: Review, source: Source, name: tuple[str, str, Key, str]) -> None:
    """Make one map and keep it; None where none can be made."""
    with _turn:
        if name in _found:
            return
        _found[name] = _made(review, source, name[2], name[3])
        while len(_found) > KEPT:
            _found.popitem(last=False)


def _made(review: Review, source: Source, key: Key, finding: str) -> Map:
    place = parent(review.run, "classifier.json")
    picture = source.plane(key)
    if place is None or picture is None:
        return None
    try:
        model = _model(place)
        return looked.look(model, picture, finding)
    except (MedsslError, ValueError):
        return None


def _model(place: Path) -> infer.Classifier:
    if str(place) not in _models:
        _models.clear()
        _models[str(place)] = infer.load(place)
    return _models[str(place)]
