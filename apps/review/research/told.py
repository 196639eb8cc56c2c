"""Sentences with foreign words in them, shown as they are and at full length."""

import streamlit as st

from medssl.errors import MedsslError

LIMIT = 600
MARKUP = frozenset("\\`*_{}[]<>()#+-.!|~$:&")


def whole(words: object) -> str:
    """Return text so that markdown shows it as it is; longer than a name may be."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(words)).split())[:LIMIT]
    return "".join(f"\\{c}" if c in MARKUP else c for c in line)


def trouble(error: MedsslError) -> None:
    """Say why something cannot be shown."""
    st.warning(whole("; ".join(error.problems)))
