"""The list of cases: tens of thousands of rows by drawing only those in sight, all by keyboard."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent


@lru_cache(maxsize=1)
def _component() -> Any:
    return st.components.v2.component(
        "medssl_listing",
        html='<div class="listing"></div>\n',
        css=(HERE / "listing.css").read_text(encoding="utf-8"),
        js=(HERE / "listing.js").read_text(encoding="utf-8"),
    )


def listing(data: dict[str, Any], key: str, on_open: Callable[[], None] | None = None) -> Any:
    """Draw the list; its ``open`` is the place of the row that was opened, None before.

    Args:
        data: ``id`` (another list has another), ``rows`` (texts, one list per case: code, where,
            when, answer, chance, tag, status), ``tone`` (likely, unsure, not or hidden, per case),
            ``thumbs`` (address of the small pictures, to which ``/row`` is added; empty without),
            ``side`` (their pixels), ``numbers`` (row of every case at that address), ``at`` (the row
            to begin at) and ``words``.
        key: of the element.
        on_open: called when a row is opened.
    """
    return _component()(data=data, key=key, on_open_change=on_open or (lambda: None))
