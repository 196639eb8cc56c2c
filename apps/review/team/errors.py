"""Errors: confident ones in groups that look alike, and labels to look at again."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

import frame
import text_team as text
from medssl.evaluate.groups import count
from medssl.evaluate.report import sections_answer
from medssl.evaluate.report.page import Material, span
from medssl.stats.usefulness import proportion_by_patient
from team import clusters, parts

IntArray = npt.NDArray[np.int64]
NEIGHBOURS, MOST_ASKED = 10, 200
SUSPECT = 0.3
"""A label is looked at again if at most so many of its neighbours share it."""


@dataclass(frozen=True)
class Wrong:
    """Cases on the wrong side of the line.

    Attributes:
        places: of all of them, rows of the evaluation's cases; confident: the farthest half, farthest first.
        outcome: confirmed answer of every case, 0, 1 or -1, [n].
        known: which cases have one, [n].
    """

    places: IntArray
    confident: IntArray
    outcome: IntArray
    known: npt.NDArray[np.bool_]


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.ERRORS_TITLE, text.ERRORS_WHY, desk.at)
    found = of_cases(desk)
    if not found.known.any():
        st.info(text.NO_LABELS)
        return
    if not len(found.places):
        st.info(text.NO_ERRORS)
        return
    parts.say([summary(desk, found)])
    st.caption(text.CONFIDENT_WORDS.format(count=len(found.confident)))
    rows = parts.material(desk.at)
    if isinstance(rows, str):
        parts.unread(rows)
        parts.case_list(desk, found.confident.tolist(), "error")
        return
    _errors(desk, found, rows)
    _suspects(desk, found, rows)


def of_cases(desk: frame.Desk) -> Wrong:
    """Return the cases on the wrong side of the line; far in log odds from it means confident."""
    known, outcome = parts.outcomes(desk)
    score = np.clip(desk.at.numbers(parts.score_column(desk.name)), 1e-6, 1 - 1e-6)
    line = min(max(float(desk.at.report["thresholds"][desk.name]), 1e-6), 1 - 1e-6)
    far = np.abs(np.log(score / (1 - score)) - np.log(line / (1 - line)))
    places = np.flatnonzero(parts.wrong(desk))
    middle = float(np.median(far)) if far.size else 0.0
    sure = places[far[places] > middle]
    sure = sure[np.argsort(-far[sure], kind="stable")]
    return Wrong(places, sure, outcome, known)


def summary(desk: frame.Desk, found: Wrong) -> str:
    """Return how many are wrong, of which kind, with the interval of their share."""
    patient = np.asarray(desk.at.column("patient_id"), dtype=str)
    hit = np.zeros(len(desk.at), dtype=np.bool_)
    hit[found.places] = True
    share = proportion_by_patient(hit[found.known], patient[found.known])
    missed = int((found.outcome[found.places] == 1).sum())
    limits = f"{parts.percent(share.lower, 1)} to {parts.percent(share.upper, 1)}"
    return text.ERRORS_WORDS.format(
        errors=f"{len(found.places):,}",
        labelled=f"{int(found.known.sum()):,}",
        share=f"{parts.percent(share.value, 1)}, 95 % interval {limits}",
        missed=f"{missed:,}",
        alarms=f"{len(found.places) - missed:,}",
    )


def _errors(desk: frame.Desk, found: Wrong, rows: Material) -> None:
    kind = st.radio(
        text.KIND,
        list(text.KINDS),
        format_func=lambda k: text.KINDS[k],
        horizontal=True,
        key="kind",
    )
    wanted = {"all": (0, 1), "missed": (1,), "alarms": (0,)}[kind]
    places = found.confident[np.isin(found.outcome[found.confident], wanted)]
    if not len(places):
        st.text(text.NO_CASES)
        return
    st.subheader(text.ERROR_GROUPS)
    code = _grouped(desk, rows, places)
    st.caption(text.GROUPS_FOUND)
    names = [text.GROUP_NAME.format(number=g + 1) for g in range(int(code.max()) + 1)]
    parts.say(_group_lines(desk, rows, places, code, names))
    picked = st.selectbox(text.WHICH_ERRORS, [text.GROUP_ALL, *names], key=f"errors_{kind}")
    shown = places if picked == text.GROUP_ALL else places[code == names.index(picked)]
    parts.case_list(desk, shown.tolist(), "error")


def _grouped(desk: frame.Desk, rows: Material, places: IntArray) -> IntArray:
    embedded = rows.here.embeddings[parts.rows_here(desk, rows)[places]]
    return clusters.groups_of(embedded, clusters.how_many(len(places)))


def _group_lines(
    desk: frame.Desk, rows: Material, places: IntArray, code: IntArray, names: list[str]
) -> list[str]:
    order = parts.rows_here(desk, rows)
    known = clusters.levels(rows.here.pictures.take(order))
    patient = np.asarray(desk.at.column("patient_id"), dtype=str)
    out = []
    for number, name in enumerate(names):
        mine = places[code == number]
        inside = np.zeros(len(desk.at), dtype=np.bool_)
        inside[mine] = True
        few = len(mine) < clusters.LEAST_ROWS
        told = {
            "errors": count(len(mine)),
            "patients": count(len(set(patient[mine].tolist()))),
            "words": text.TOO_SMALL if few else clusters.named(inside, known),
        }
        out.append(text.GROUP_LINE.format(name=name, **told))
    return out


def _suspects(desk: frame.Desk, found: Wrong, rows: Material) -> None:
    st.subheader(text.SUSPECTS)
    st.caption(text.SUSPECTS_WORDS.format(many=NEIGHBOURS))
    ranking = sections_answer.of_class(desk.at.report, "auroc", desk.name)
    floor = desk.at.report["settings"]["floor_auroc"]
    if ranking is None or ranking.get("lower") is None or ranking["lower"] < floor:
        st.warning(text.SUSPECTS_WEAK.format(auroc=f"AUROC {frame.escape(span(ranking, 2))}"))
    asked, share = suspects(desk, found, rows)
    if not len(asked):
        st.text(text.NO_SUSPECTS)
        return
    told = [parts.percent(float(s)) for s in share]
    parts.case_list(desk, asked.tolist(), "suspect", {text.SUSPECT_COLUMN: told})


def suspects(desk: frame.Desk, found: Wrong, rows: Material) -> tuple[IntArray, Any]:
    """Return confident errors whose neighbours mostly have the other answer, the fewest alike first."""
    known = np.flatnonzero(found.known)
    place = {int(p): k for k, p in enumerate(known)}
    asked = found.confident[:MOST_ASKED]
    share = clusters.share_alike(
        rows.here.embeddings[parts.rows_here(desk, rows)[known]],
        np.asarray(desk.at.column("patient_id"), dtype=str)[known],
        found.outcome[known],
        np.array([place[int(p)] for p in asked], dtype=np.int64),
        NEIGHBOURS,
    )
    kept = np.flatnonzero(share <= SUSPECT)
    kept = kept[np.argsort(share[kept], kind="stable")]
    return asked[kept], share[kept]
