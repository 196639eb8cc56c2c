"""The image viewer: a Streamlit component of our own, in plain JavaScript without a build step."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import streamlit as st

from .words import WORDS

FOLDER = Path(__file__).parent
PARTS = (
    "dom",
    "pixels",
    "geometry",
    "loader",
    "source",
    "marks",
    "link",
    "overlay",
    "pointer",
    "view",
    "commands",
    "keys",
    "toolbar",
    "app",
    "main",
)


def joined(texts: Iterable[str]) -> str:
    """Join ES modules into one: without their imports, only the default export kept."""
    lines = (line for text in texts for line in text.splitlines())
    own = (line for line in lines if not line.startswith("import "))
    return "\n".join(
        line if line.startswith("export default ") else line.removeprefix("export ") for line in own
    )


def script() -> str:
    """The component's one ES module."""
    return joined((FOLDER / f"{part}.js").read_text(encoding="utf-8") for part in PARTS)


_mount = st.components.v2.component(
    "medssl_viewer",
    html='<div class="viewer"></div>\n',
    css=(FOLDER / "viewer.css").read_text(encoding="utf-8"),
    js=script(),
)


def _nothing() -> None:
    """Stand in for a callback that was not given."""


def viewer(
    data: dict[str, Any],
    key: str,
    on_act: Callable[[], None] | None = None,
    on_box: Callable[[], None] | None = None,
    on_slice: Callable[[], None] | None = None,
) -> Any:
    """Mount the viewer of a case.

    data: id, panes, next, habits and, to change some sentences of words.py, words. The result has
    act (dict or None), box (dict in image pixels, or None) and slice (index or None).
    """
    return _mount(
        data={**data, "words": {**WORDS, **data.get("words", {})}},
        key=key,
        on_act_change=on_act or _nothing,
        on_box_change=on_box or _nothing,
        on_slice_change=on_slice or _nothing,
    )
