"""What the team's pages share: the rows behind a report, its tables, and lists of cases."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

import evaluations
import frame
import text_team as text
from evaluations import Key, Review
from medssl import runs
from medssl.errors import MedsslError
from medssl.evaluate import inputs, pack
from medssl.evaluate.answers import MISSING, Answers, answers_of
from medssl.evaluate.inputs import Question
from medssl.evaluate.reference import Reference, keys
from medssl.evaluate.report.page import Material, Section, Table, clean

ROW_HEIGHT, HEAD_HEIGHT, MOST_ROWS = 35, 38, 14
MOST_CASES = 200


def material(review: Review) -> Material | str:
    """Return the report with the rows behind it, or the sentence why they cannot be read."""
    return _material(str(review.run.path), str(review.run.record.get("ended")), review)


@st.cache_resource(scope="session", max_entries=2, show_spinner=False)
def _material(path: str, ended: str, _review: Review) -> Material | str:
    del path, ended
    report, folder = _review.report, _review.run.path
    try:
        question = inputs.read_question(folder)
        here = inputs.read_here(folder, question)
        here = here.between(report["period"]["since"], report["period"]["until"])
    except MedsslError as error:
        return str(error).replace(str(folder), folder.name)
    except (OSError, ValueError, KeyError):
        return f"{folder.name}: its files are absent or damaged."
    return Material(report, _reference(_review, question), here, question)


def _reference(review: Review, question: Question) -> Reference:
    """Read the source's side; where it is gone, an empty one that still says whose it was."""
    model = evaluations.parent(review.run, "classifier.json")
    if model is not None:
        try:
            return pack.reference_of(model, question.classes, question.thresholds)
        except (MedsslError, OSError, ValueError, KeyError):
            model = None
    told = {k: v for k, v in review.report["source"].items() if k not in {"name", "pack"}}
    nobody = np.empty(0, dtype=str)
    scores = np.empty((0, len(question.classes)))
    return Reference(told, {}, scores, nobody, name=str(review.report["source"].get("name", "")))


def unread(why: str) -> None:
    """Say that the rows behind a report cannot be read, and why."""
    st.warning(text.NO_PARTS)
    st.text(why)


def source_is_here(found: Material) -> bool:
    """Return whether the source's own rows or summaries could be read."""
    return bool(found.reference.columns) or len(found.reference.scores) > 0


def answers(found: Material) -> Answers:
    """Return the labelled pictures here."""
    return found.here.answers(found.question)


def of_class(found: Material, name: str) -> tuple[Answers, npt.NDArray[np.int64], Any]:
    """Return the pictures whose answer for a class is known, their outcomes and scores, both [n]."""
    every = answers(found)
    k = every.classes.index(name)
    known = every.known(k)
    outcome, score = known.of(k)
    return known, outcome, score


def say(sentences: Sequence[str]) -> None:
    """Show sentences that may hold strangers' words, as plain text."""
    for sentence in sentences:
        if sentence:
            st.text(sentence)


def show_table(table: Table) -> None:
    """Show a table of the report; its caption stands above it."""
    if not table.rows:
        return
    st.text(table.caption)
    columns = unique(table.header)
    sides = zip(columns, table.numeric, strict=True)
    config = {c: st.column_config.TextColumn(alignment="right") for c, right in sides if right}
    rows = [dict(zip(columns, row, strict=True)) for row in table.rows]
    show_rows(rows, table.caption or text.UNNAMED_TABLE, config)


def show_rows(
    rows: Sequence[dict[str, Any]], alt: str, config: dict[str, Any] | None = None
) -> None:
    """Show rows by name of column, as high as they need and at most fourteen at once."""
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}
    height = HEAD_HEIGHT + ROW_HEIGHT * min(MOST_ROWS, max(1, len(rows)))
    st.dataframe(columns, hide_index=True, alt=alt, column_config=config, height=height)


def unique(names: Sequence[str]) -> list[str]:
    """Return names of columns, equal ones told apart by a number."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out


def tables(section: Section) -> None:
    """Show the tables of a section, and its points below them."""
    for table in section.tables:
        show_table(table)
    say(section.points)


def score_column(name: str) -> str:
    """Return the column of the predictions that holds a class's chance."""
    return f"{runs.SCORE}{name}"


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share in percent, only nothing as 0 and all as 100; a dash where it is not known."""
    if share is None or np.isnan(share):
        return "-"
    least = 10.0 ** -(digits + 2)
    if 0 < share < least / 2:
        return f"< {100 * least:.{digits}f} %"
    if 1 - least / 2 <= share < 1:
        return f"> {100 - 100 * least:.{digits}f} %"
    return f"{100 * share:.{digits}f} %"


def called(key: Key) -> str:
    """Return the pseudonym of a case."""
    return key[0] if key[1] < 0 else f"{key[0]} slice {key[1] + 1}"


def case_rows(review: Review, name: str, places: Sequence[int]) -> list[dict[str, Any]]:
    """Return what a list of cases shows of each; places are rows of ``review``."""
    score, unlike = review.numbers(score_column(name)), review.numbers("unlike")
    labels, named = review.column("label"), review.keys
    line = float(review.report["thresholds"][name])
    return [
        {
            text.CASE_COLUMNS["case"]: called(named[k]),
            text.CASE_COLUMNS["score"]: percent(float(score[k]), 1),
            text.CASE_COLUMNS["line"]: percent(line, 1),
            text.CASE_COLUMNS["label"]: clean(review.label_in_words(labels[k]) or "-"),
            text.CASE_COLUMNS["unlike"]: "-" if np.isnan(unlike[k]) else f"{unlike[k]:.1f}",
        }
        for k in places
    ]


def case_list(
    desk: frame.Desk,
    places: Sequence[int],
    key: str,
    more: dict[str, Sequence[str]] | None = None,
) -> None:
    """Show cases as a table, and a choice of one of them with a button that opens it.

    Args:
        desk: of the page.
        places: rows of the evaluation's cases.
        key: unique on the page.
        more: further columns, one entry per place.
    """
    if not len(places):
        st.text(text.NO_CASES)
        return
    shown = list(places)[:MOST_CASES]
    if len(places) > len(shown):
        st.caption(text.FIRST_OF.format(shown=len(shown), all=len(places)))
    rows = case_rows(desk.at, desk.name, shown)
    for column, values in (more or {}).items():
        rows = [row | {column: value} for row, value in zip(rows, values, strict=False)]
    show_rows(rows, text.CASES_ALT)
    named = [desk.at.keys[k] for k in shown]
    picked = st.selectbox(text.WHICH_CASE, named, format_func=called, key=f"{key}_which")
    case_buttons(desk, picked, key)


def case_buttons(desk: frame.Desk, picked: Key, key: str) -> None:
    """Draw the buttons that open a case, or put it on the reader's own list."""
    left, right, _ = st.columns([1, 1, 3])
    if left.button(text.OPEN, key=f"{key}_open", type="primary", width="stretch"):
        frame.open_case(picked, told=desk)
    if right.button(text.FLAG, key=f"{key}_flag", width="stretch"):
        desk.journal.add(desk.reader.code, "flag", {"on": True}, model=desk.at.model, key=picked)
        st.success(text.FLAGGED)


def wrong(desk: frame.Desk) -> npt.NDArray[np.bool_]:
    """Return which cases lie on the other side of the line than their confirmed answer, [n]."""
    review = desk.at
    known, outcome = outcomes(desk)
    line = float(review.report["thresholds"][desk.name])
    flagged = review.numbers(score_column(desk.name)) >= line
    return np.asarray(known & (flagged != (outcome == 1)), dtype=np.bool_)


def outcomes(desk: frame.Desk) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return which cases have a confirmed answer of the class at hand, and what it is, both [n]."""
    review = desk.at
    classes = tuple(review.report["classes"])
    found = answers_of(review.table, classes, review.report["thresholds"])
    k = classes.index(desk.name)
    outcome = np.full(len(review), MISSING, dtype=np.int64)
    outcome[found.row] = found.outcome[:, k]
    return outcome != MISSING, outcome


def rows_here(desk: frame.Desk, found: Material) -> npt.NDArray[np.int64]:
    """Return where every case stands among the rows behind the report, [n]."""
    row = {key: k for k, key in enumerate(keys(found.here.predictions))}
    return np.array([row[key] for key in desk.at.keys], dtype=np.int64)
