"""What every page has: the banner, the evaluation at hand, a purpose, and a way to help."""

import hashlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

import evaluations
import text
from evaluations import Review
from journal import Event, Journal, Status, fold
from medssl import runs
from medssl.errors import MedsslError
from who import Reader

JOINER = "\u2060"
STYLE = """
<style>
  [data-testid="stMainBlockContainer"] { padding: 3.2rem 1.6rem 3rem; }
  .st-key-banner {
    position: fixed; top: 0.7rem; z-index: 1000000; width: auto; pointer-events: none; }
  [data-testid="stMainBlockContainer"] h1 { font-size: 1.7rem; padding: 0.2rem 0; }
  [data-testid="stMainBlockContainer"] h2 { font-size: 1.35rem; padding: 0.2rem 0; }
  [data-testid="stMainBlockContainer"] h3 { font-size: 1.2rem; padding: 0.2rem 0; }
  [data-testid="stSidebar"] [data-testid="stPageLink"] { min-height: 1.75rem; }
  [data-testid^="stBaseButton-primary"], [data-testid^="stBaseButton-primary"] * { color: #06131d; }
  [data-testid="stMultiSelect"] span[title], [data-testid="stMultiSelect"] span[title] ~ * {
    color: #06131d; fill: #06131d; }
  [data-testid="stMainBlockContainer"] h4 { padding: 0.2rem 0; }
  :focus-visible { outline: 3px solid #56B4E9 !important; outline-offset: 2px; }
  @media (prefers-reduced-motion: reduce) {
    * { animation: none !important; transition: none !important; }
  }
</style>
"""


@dataclass(frozen=True)
class Desk:
    """What a page works with.

    Attributes:
        reader: who is at the screen.
        root: the folder of runs.
        journal: what readers did and said.
        review: the evaluation at hand; None on pages that need none.
        name: the class (finding) at hand; empty without an evaluation.
    """

    reader: Reader
    root: Path
    journal: Journal
    review: Review | None = None
    name: str = ""

    def standing(self) -> dict[tuple[str, int], Status]:
        """Return this reader's standing on every case, for the finding at hand.

        Events are read once a session and added to: a long sitting has tens of thousands.
        """
        about = (self.reader.code, self.at.model, str(self.journal.file))
        kept = st.session_state.get("events")
        events: list[Event] = kept[1] if kept is not None and kept[0] == about else []
        last = events[-1].number if events else 0
        events = [*events, *self.journal.events(about[0], about[1], last)]
        st.session_state["events"] = (about, events)
        return fold(events, self.name, self.at.apart)

    def note(self, kind: str, data: dict[str, Any], key: tuple[str, int]) -> int:
        """Write what this reader did at a case, with the finding at hand; return its number.

        Where it cannot be written 0 is returned, and every page says so until something is.
        """
        told = {"finding": self.name, **data}
        try:
            number = self.journal.add(self.reader.code, kind, told, model=self.at.model, key=key)
        except sqlite3.Error:
            st.session_state["not_saved"] = True
            return 0
        st.session_state.pop("not_saved", None)
        return number

    @property
    def at(self) -> Review:
        """Return the evaluation at hand; pages of the groups Review and New hospital have one."""
        if self.review is None:
            raise LookupError("This page needs an evaluation.")
        return self.review


def root() -> Path:
    """Return the folder of runs that the server was started with."""
    return Path(os.environ.get("MEDSSL_RUNS", "runs"))


def journal() -> Journal:
    """Return where feedback is kept."""
    given = os.environ.get("MEDSSL_FEEDBACK")
    return Journal(Path(given) if given else root() / ".review" / "review.sqlite")


def digest(words: str) -> str:
    """Return eight hex digits that tell one text from another."""
    return hashlib.sha256(words.encode()).hexdigest()[:8]


def tag(path: Path) -> str:
    """Return a short name of a run that tells nothing, for the address line."""
    return digest(str(path.resolve()))


def finished() -> dict[str, Path]:
    """Return the finished evaluations by tag, newest first."""
    return {tag(r.path): r.path for r in runs.find(root(), "evaluate")}


def _opened(path: Path, ended: str) -> Review | str:
    """Return an evaluation, read once a session (patients' data is never shared between two)."""
    kept = st.session_state.get("review")
    if kept is None or kept[0] != (path, ended):
        try:
            found: Review | str = evaluations.open_review(path)
        except MedsslError as error:
            found = str(error)
        kept = st.session_state["review"] = ((path, ended), found)
    return kept[1]


def choose(found: dict[str, Path]) -> tuple[Review | str | None, str]:
    """Draw the choice of evaluation and finding in the sidebar; return both, or why it cannot open."""
    if not found:
        return None, ""
    before = st.session_state.get("run")
    if before is not None and before not in found:
        if not st.sidebar.button(text.CHOOSE_ANOTHER):
            return text.GONE, ""
        del st.session_state["run"]
    names = {t: str(p.relative_to(root())) if p != root() else p.name for t, p in found.items()}
    picked = st.sidebar.selectbox(
        text.PICK, list(found), format_func=lambda t: names[t], key="run", persist_state="session"
    )
    path = found[picked]
    review = _opened(path, str(runs.read(path).record.get("ended")))
    if isinstance(review, str):
        return review, ""
    if len(review.shown) == 1:
        return review, review.shown[0]
    name = st.sidebar.selectbox(
        text.FINDING, review.shown, format_func=review.in_words, key=f"finding_{picked}"
    )
    return review, name


def take_up(reader: Reader, book: Journal, found: dict[str, Path]) -> None:
    """After a reload, go on where this reader was: the same evaluation, the same case."""
    if "run" in st.session_state or "case" in st.session_state:
        return
    opened = [e for e in book.events(reader.code) if e.kind == "opened"]
    if opened and opened[-1].data.get("run") in found:
        st.session_state["run"] = opened[-1].data["run"]
        st.session_state["case"] = opened[-1].key


def banner() -> None:
    """Draw the line that stands on every page."""
    st.html(STYLE)
    with st.container(key="banner"):
        st.markdown(f":orange-background[**{text.BANNER}**]")


def head(title: str, purpose: str, review: Review | None = None) -> None:
    """Draw a page's title, its one-line purpose, and which model it speaks of."""
    st.title(title, anchor=False)
    st.markdown(purpose if review is None else f"{purpose} {_about(review)}")


def _about(review: Review) -> str:
    report = review.report
    sites = ", ".join(evaluations.short(s) for s in report["cohort"].get("sites", []))
    words = text.ABOUT_LINE.format(
        model=escape(report["source"].get("name", "")),
        version=review.model[:8],
        site=escape(sites),
        written=escape(str(report["provenance"].get("written", ""))[:10]),
    )
    return f":gray[{words}]"


def escape(words: object, limit: int = evaluations.LIMIT) -> str:
    """Return foreign text so that markdown shows it as it is, cut to a length."""
    line = evaluations.short(words, limit)
    # Bare addresses become links after the marks are taken off; a joiner that nobody sees breaks them.
    line = (
        line.replace("://", f":{JOINER}//")
        .replace("www.", f"www{JOINER}.")
        .replace("@", f"{JOINER}@")
    )
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-.!|~$:&" else c for c in line)


def open_case(key: tuple[str, int], told: Desk | None = None) -> None:
    """Take a case to hand and show it.

    Args:
        key: image and slice.
        told: the desk, where the page that leads there has told the computer's answer: what is read
            afterwards is no read of one's own.
    """
    if told is not None:
        told.note("revealed", {"before": "read"}, key)
    st.session_state["case"] = key
    go_to("case")


def go_to(page: str) -> None:
    """Show another page, by the last part of its address."""
    st.switch_page(st.session_state["pages"][page])


def picture(svg: str, alt: str) -> None:
    """Show a figure of the report on the light card that it is drawn for."""
    card = svg.replace("<svg ", '<svg style="background:#fff;border-radius:6px" ', 1)
    st.image(card, alt=alt, width="stretch")
