"""What every page has: the banner, the evaluation at hand, a purpose, and a way to help."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

import evaluations
import text
from evaluations import Review
from journal import Journal
from medssl import runs
from medssl.errors import MedsslError
from who import Reader

JOINER = "\u2060"
STYLE = """
<style>
  [data-testid="stMainBlockContainer"] { padding: 3.2rem 1.6rem 3rem; }
  .st-key-banner { position: fixed; top: 0.7rem; z-index: 1000000; width: auto; }
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


def escape(words: object) -> str:
    """Return foreign text so that markdown shows it as it is."""
    line = evaluations.short(words)
    # Bare addresses become links after the marks are taken off; a joiner that nobody sees breaks them.
    line = (
        line.replace("://", f":{JOINER}//")
        .replace("www.", f"www{JOINER}.")
        .replace("@", f"{JOINER}@")
    )
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-.!|~$:&" else c for c in line)


def open_case(key: tuple[str, int]) -> None:
    """Take a case to hand and show it."""
    st.session_state["case"] = key
    go_to("case")


def go_to(page: str) -> None:
    """Show another page, by the last part of its address."""
    st.switch_page(st.session_state["pages"][page])


def picture(svg: str, alt: str) -> None:
    """Show a figure of the report on the light card that it is drawn for."""
    card = svg.replace("<svg ", '<svg style="background:#fff;border-radius:6px" ', 1)
    st.image(card, alt=alt, width="stretch")
