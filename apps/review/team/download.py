"""Report: the files, what a person must still write, and what changed since another report."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

import evaluations
import frame
import text as app_text
import text_team as text
from medssl import runs
from medssl.errors import MedsslError
from medssl.evaluate import diff
from medssl.evaluate.report import checklists
from medssl.evaluate.report.page import Page, clean
from medssl.evaluate.report.sections import page_of
from team import parts

MIME = {
    "report.html": "text/html",
    "report.pdf": "application/pdf",
    "report.json": "application/json",
    "CARD.md": "text/markdown",
}


@dataclass(frozen=True)
class Filled:
    """A checklist and what became of its items in this report."""

    name: str
    rows: tuple[checklists.Row, ...]

    def count(self, *states: str) -> int:
        """Return how many items are in one of these states."""
        return sum(row.state in states for row in self.rows)


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.REPORT_TITLE, text.REPORT_WHY, desk.at)
    _files(desk.at.run.path)
    found = parts.material(desk.at)
    if isinstance(found, str):
        parts.unread(found)
    else:
        _checklists(page_of(found))
    _compare(desk)


def _files(run: Path) -> None:
    st.subheader(text.FILES)
    columns = st.columns(2)
    for number, (name, words) in enumerate(text.FILE_NAMES.items()):
        with columns[number % 2]:
            if not (run / name).is_file():
                st.text(text.ABSENT_FILE.format(name=words))
                continue
            st.download_button(words, (run / name).read_bytes(), name, MIME[name], width="stretch",
                               on_click="ignore", key=f"get_{name}")  # fmt: skip
    packed = zipped(run / "tables")
    if packed is None:
        st.text(text.ABSENT_FILE.format(name=text.TABLES_ZIP))
        return
    columns[0].download_button(text.TABLES_ZIP, packed, text.TABLES_FILE, "application/zip",
                               width="stretch", on_click="ignore", key="get_tables")  # fmt: skip


def zipped(folder: Path) -> bytes | None:
    """Return the tables of a report as one file that begins with the banner; None without any."""
    files = sorted(p for p in folder.glob("*") if p.suffix in {".csv", ".parquet"})
    if not files:
        return None
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(text.NOTE_FILE, app_text.BANNER + "\n")
        for file in files:
            packed.write(file, file.name)
    return out.getvalue()


def filled(page: Page) -> list[Filled]:
    """Return every checklist with what this report answers of it."""
    present = {s.id: s.present for s in page.sections}
    hollow = {s.id for s in page.sections if s.present and not s.told}
    lists = [checklists.load(name) for name in checklists.names()]
    return [Filled(one.name, checklists.status(one.items, present, hollow)) for one in lists]


def _checklists(page: Page) -> None:
    st.subheader(text.CHECKLISTS)
    st.caption(text.CHECKLIST_NOTE)
    only = st.checkbox(text.ONLY_OPEN, value=True, key="only_open")
    for one in filled(page):
        words = text.CHECKLIST_LINE.format(
            name=one.name, filled=one.count("filled"), all=len(one.rows), part=one.count("part"),
            person=one.count("person"),
        )  # fmt: skip
        st.progress(one.count("filled", "part") / len(one.rows), words)
        with st.expander(one.name):
            rows = [
                dict(
                    zip(
                        text.CHECKLIST_COLUMNS,
                        (f"{r.item.id} {r.item.title}", r.item.text, text.STATES[r.state], r.words),
                        strict=True,
                    )
                )
                for r in one.rows
                if not only or r.state != "filled"
            ]
            parts.show_rows(rows, text.CHECKLIST_ALT.format(name=one.name))
    st.subheader(text.MUST_WRITE)
    parts.say([f"{clean(title)}: {words}" for title, words in to_write(page)])


def to_write(page: Page) -> list[tuple[str, str]]:
    """Return what the report leaves to a person, with the section that it belongs to."""
    return [
        (section.title, words.removeprefix(text.PERSON_MARK).strip())
        for section in page.sections
        for words in section.words
        if words.startswith(text.PERSON_MARK)
    ]


def others(desk: frame.Desk) -> dict[str, Path]:
    """Return the other finished evaluations of this model by name, newest first."""
    mine = desk.at.run.path.resolve()
    model, names = _model(mine), {}
    for path in frame.finished().values():
        if model and path.resolve() != mine and _model(path) == model:
            names[str(path.relative_to(desk.root))] = path
    return names


def _model(path: Path) -> str:
    """Return the digest of the classifier's card, from the record; empty where none is named."""
    parents = runs.read(path).record.get("parents", [])
    return next((str(p.get("sha256", "")) for p in parents if p["file"] == "classifier.json"), "")


def _compare(desk: frame.Desk) -> None:
    st.subheader(text.COMPARE)
    found = others(desk)
    if not found:
        st.text(text.NO_OTHER)
        return
    picked = st.selectbox(
        text.COMPARE_WITH, list(found), format_func=evaluations.short, key="other"
    )
    try:
        rows = diff.compare(found[picked], desk.at.run.path)
    except (MedsslError, OSError, ValueError) as error:
        parts.say([text.CANNOT_COMPARE.format(why=clean(error, 400))])
        return
    names = {"old": clean(picked), "new": clean(desk.at.run.path.name)}
    header = parts.unique([c.format(**names) for c in text.COMPARE_COLUMNS])
    table = [dict(zip(header, map(clean, row), strict=True)) for row in rows]
    parts.show_rows(table, text.COMPARE_ALT)
