"""One page of the app on its own, headless."""

from streamlit.testing.v1 import AppTest

from medssl import serve

APP = serve.page().parent


def draw(module, name=None, reader="AB"):
    """What AppTest runs: the desk as main makes it, and one page."""
    import importlib

    import streamlit as st

    import frame
    import who

    st.session_state["reader_name"] = reader
    st.session_state.setdefault("pages", {})
    found, at_hand = frame.choose(frame.finished())
    review = None if isinstance(found, str) else found
    desk = frame.Desk(who.reader(), frame.root(), frame.journal(), review, name or at_hand)
    frame.banner()
    importlib.import_module(module).show(desk)


def page_of(module, **options):
    """A page, run once."""
    return AppTest.from_function(draw, args=(module,), kwargs=options, default_timeout=120).run()


def said(page):
    """Everything that a page says, but widgets' own labels."""
    kinds = (
        "title",
        "header",
        "subheader",
        "markdown",
        "caption",
        "info",
        "warning",
        "error",
        "text",
    )
    return " ".join(str(e.value) for kind in kinds for e in page.get(kind))


def labels(page):
    """The words on everything that can be pressed or chosen."""
    kinds = ("button", "selectbox", "text_input", "text_area", "toggle", "radio", "slider")
    return [str(e.label) for kind in kinds for e in page.get(kind)]
