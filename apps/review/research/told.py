"""Sentences with foreign words in them, shown as they are and at full length."""

import streamlit as st

import frame
from medssl.errors import MedsslError

LIMIT = 600


def whole(words: object) -> str:
    """Return text so that markdown shows it as it is; longer than a name may be."""
    return frame.escape(words, LIMIT)


def trouble(error: MedsslError) -> None:
    """Say why something cannot be shown."""
    st.warning(whole("; ".join(error.problems)))
