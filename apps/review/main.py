"""The review app: sign-in, the choice of evaluation, and the pages that a person's roles open."""

import importlib
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).parent))

import frame
import text
import who
from settings import choices


@dataclass(frozen=True)
class Page:
    """One page: the module that draws it, and whether it needs an evaluation."""

    module: str
    title: str
    needs_review: bool = True


GROUPS: dict[str, tuple[str, tuple[Page, ...]]] = {
    text.GROUP_REVIEW: (
        "clinician",
        tuple(Page(f"clinician.{m}", t) for m, t in text.REVIEW_PAGES),
    ),
    text.GROUP_TEAM: ("evaluation", tuple(Page(f"team.{m}", t) for m, t in text.TEAM_PAGES)),
    text.GROUP_RESEARCH: (
        "research",
        tuple(Page(f"research.{m}", t, needs_review=False) for m, t in text.RESEARCH_PAGES),
    ),
    text.GROUP_SETTINGS: (
        "",
        tuple(Page(f"settings.{m}", t, needs_review=False) for m, t in text.SETTINGS_PAGES),
    ),
}


def draw(page: Page, desk: frame.Desk, trouble: str | None) -> None:
    """Draw one page, or what keeps it from being drawn."""
    if page.needs_review and desk.review is None:
        st.title(page.title)
        st.info(trouble or text.NO_RUNS)
        return
    importlib.import_module(page.module).show(desk)


def navigation(reader: who.Reader | None, drawn: Callable[[Page], Callable[[], None]]) -> st.Page:
    """Return the page asked for, of those that the reader's roles open.

    Without a reader every address is known and none draws anything: one that were not known would
    lay a dialog over the page that asks who is there. Streamlit's own list of pages has headings
    among its items, which assistive software cannot tell apart; ours is drawn with plain links.
    """
    groups: dict[str, list[st.Page]] = {}
    for name, (role, pages) in GROUPS.items():
        if reader is not None and role and not reader.roles & {role, "admin"}:
            continue
        groups[name] = [
            st.Page(drawn(p), title=p.title, url_path=p.module.rsplit(".", 1)[1]) for p in pages
        ]
    st.session_state["pages"] = {p.url_path: p for pages in groups.values() for p in pages}
    chosen = st.navigation(groups, position="hidden")
    if reader is not None:
        for name, pages in groups.items():
            with st.sidebar.container(gap="xxsmall"):
                st.markdown(f"**{name}**")
                for page in pages:
                    st.page_link(page)
    return chosen


def nothing(page: Page) -> Callable[[], None]:
    """Return what draws nothing, under the name of a page."""
    call = partial(int)
    call.__name__ = page.module.replace(".", "_")
    return call


def main() -> None:
    """Draw the app."""
    st.set_page_config(page_title=text.TITLE, layout="wide", initial_sidebar_state="auto")
    frame.banner()
    reader = who.reader()
    if reader is None:
        navigation(None, nothing).run()
        return
    try:
        book = frame.journal()
        choices.current(reader.code, book)
        who.arrived(reader, book)
        evaluations = frame.finished()
        frame.take_up(reader, book, evaluations)
    except (OSError, sqlite3.Error):
        navigation(None, nothing).run()
        st.error(text.NO_JOURNAL)
        return
    found, name = frame.choose(evaluations)
    trouble = found if isinstance(found, str) else None
    review = None if isinstance(found, str) else found
    desk = frame.Desk(reader, frame.root(), book, review, name)

    def drawn(page: Page) -> Callable[[], None]:
        call = partial(draw, page, desk, trouble)
        call.__name__ = page.module.replace(".", "_")
        return call

    chosen = navigation(reader, drawn)
    who.way_out(reader)
    if st.session_state.get("not_saved"):
        st.error(text.NOT_SAVED)
    chosen.run()
    if st.session_state.get("not_saved"):
        st.toast(text.NOT_SAVED)


main()
