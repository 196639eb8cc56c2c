"""Calibration and threshold: are the percentages right, and what would another line do."""

from typing import Any

import numpy as np
import streamlit as st

import evaluations
import frame
import text as app_text
import text_team as text
from medssl.evaluate.report import figures_curves, sections_answer, sections_shift
from medssl.evaluate.report import sections_percentages as percentages
from medssl.evaluate.report.page import Material, Section, clean, number, ran
from medssl.stats.usefulness import Proportion, proportion_by_patient
from team import at_line, parts

STEP = 0.1
MOST_ALARMS = 200


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.THRESHOLD_TITLE, text.THRESHOLD_WHY, desk.at)
    found = parts.material(desk.at)
    labelled = bool(desk.at.report["cohort"]["labelled"])
    if not labelled:
        st.info(text.NO_LABELS)
    if isinstance(found, str):
        parts.unread(found)
        return
    if labelled:
        _calibration(desk, found)
        _promises(desk)
    _line(desk, found)
    if labelled:
        _time(sections_shift.time(found))
        _tables(percentages.usefulness(found))


def _of_class(desk: frame.Desk) -> dict[str, Any] | None:
    rows = desk.at.report["calibration"]
    return next((c for c in rows if c["class"] == desk.name), None)


def _calibration(desk: frame.Desk, found: Material) -> None:
    st.subheader(text.CALIBRATION)
    parts.say([sections_answer.percentages(desk.at.report)])
    one = _of_class(desk)
    if one is None:
        st.info(text.ONE_KIND)
        return
    left, right = st.columns(2)
    if ran(one["bands"], "points"):
        words = text.CALIBRATION_ALT.format(name=desk.at.in_words(desk.name))
        scores = found.here.scores(found.question)[:, found.question.classes.index(desk.name)]
        picture = figures_curves.calibration("calibration", one["bands"], scores, words)
        with left:
            frame.picture(picture, words)
    section = percentages.calibration(found)
    with right:
        parts.say([*section.words, *section.points])
    for table in section.tables:
        parts.show_table(table)


def _promises(desk: frame.Desk) -> None:
    one = _of_class(desk)
    promises = [] if one is None else one["guarantees"]
    if not promises:
        return
    st.subheader(text.PROMISES)
    for place, promise in enumerate(promises):
        told = {
            "rate": text.RATES.get(promise["rate"], promise["rate"]),
            "target": parts.percent(promise["target"]),
        }
        line, note = promise.get("threshold"), clean(promise.get("note", ""), 600)
        if line is None:
            parts.say([text.NOT_REACHED.format(**told, note=note)])
            continue
        parts.say([text.PROMISE_WORDS.format(**told, line=parts.percent(line, 1), note=note)])
        st.button(text.USE_PROMISE.format(**told), key=f"promise_{place}",
                  on_click=_set_line, args=(desk, line))  # fmt: skip


def _key(desk: frame.Desk) -> str:
    return f"line_{frame.tag(desk.at.run.path)}_{desk.at.shown.index(desk.name)}"


def _set_line(desk: frame.Desk, line: float) -> None:
    st.session_state[_key(desk)] = _step(line)


def _step(line: float) -> float:
    return float(np.clip(round(100 * line / STEP) * STEP, 0, 100))


def chosen(shown: float, known: list[float]) -> float:
    """Return the line that the slider stands for: one that is known exactly, else what it shows.

    Args:
        shown: the slider's value in percent.
        known: lines in 0 to 1 that may lie between two of its steps.
    """
    exact = [line for line in known if abs(_step(line) - shown) < STEP / 2]
    return exact[0] if exact else shown / 100


@st.fragment
def _line(desk: frame.Desk, found: Material) -> None:
    st.subheader(text.LINE)
    working = float(desk.at.report["thresholds"][desk.name])
    st.session_state.setdefault(_key(desk), _step(working))
    left, right, last = st.columns([4, 2, 2], vertical_alignment="bottom")
    shown = left.slider(text.SLIDER, 0.0, 100.0, step=STEP, format="%.1f", key=_key(desk))
    unit = right.radio(
        text.UNIT, [text.PER_PATIENT, text.PER_IMAGE], horizontal=True, key="line_unit"
    )
    last.button(text.USE_WORKING, on_click=_set_line, args=(desk, working), width="stretch")
    one = _of_class(desk)
    promised = [p["threshold"] for p in (one or {}).get("guarantees", []) if p.get("threshold")]
    line = chosen(shown, [working, *promised])
    st.caption(text.UNIT_WORDS[unit])
    _done(desk, found, line, unit)


def _done(desk: frame.Desk, found: Material, line: float, unit: str) -> None:
    """Show what the line does, its worth, and the button that saves it."""
    rows = parts.answers(found)
    rows = rows.by_patient("max") if unit == text.PER_PATIENT and len(rows) else rows
    k = found.question.classes.index(desk.name)
    known = rows.known(k)
    if not len(known):
        _flagged_only(found, k, line, unit)
        return
    done = at_line.figures_at(*known.of(k), known.patient, line)
    shares = at_line.cells(*known.of(k), known.patient, line)
    whole = at_line.whole_hundred({name: c.value for name, c in shares.items()})
    words = text.PER_HUNDRED.format(unit=unit, flagged=whole["found"] + whole["alarms"], **whole)
    st.markdown(f"#### {words}")
    parts.show_rows(told(done, unit), text.LINE_ALT)
    st.caption(text.OPTIMISM)
    export = _export(desk, line, unit, done)
    st.download_button(text.EXPORT, export, text.EXPORT_FILE, "text/plain", on_click="ignore")
    _benefit(desk, found, line)


def told(done: dict[str, Proportion], unit: str) -> list[dict[str, str]]:
    """Return the rows of the table: figure, value, limits, and what it was counted on."""
    return [
        dict(
            zip(
                text.LINE_COLUMNS,
                (text.LINE_ROWS[name], *at_line.per_hundred(one), f"{one.n:,} {unit}"),
                strict=True,
            )
        )
        for name, one in done.items()
    ]


def _flagged_only(found: Material, k: int, line: float, unit: str) -> None:
    """Show how many are flagged, which needs no label."""
    scores, patient = found.here.scores(found.question)[:, k], found.here.patient
    if unit == text.PER_PATIENT:
        names, place = np.unique(patient, return_inverse=True)
        highest = np.full(names.size, -np.inf)
        np.maximum.at(highest, place, scores)
        scores, patient = highest, names
    share = proportion_by_patient(scores >= line, patient)
    value, lower, upper = at_line.per_hundred(share)
    words = text.FLAGGED_ONLY.format(unit=unit, flagged=value, lower=lower, upper=upper)
    st.markdown(f"#### {words}")


def _export(desk: frame.Desk, line: float, unit: str, done: dict[str, Proportion]) -> str:
    report = desk.at.report
    head = text.EXPORT_HEAD.format(
        banner=app_text.BANNER,
        name=desk.at.in_words(desk.name),
        sites=", ".join(evaluations.short(s) for s in report["cohort"]["sites"]),
        model=evaluations.short(report["source"].get("name", "")),
        version=desk.at.model[:8],
        written=str(report["provenance"].get("written", ""))[:10],
        line=f"{line:.4f}",
        working=f"{report['thresholds'][desk.name]:.4f}",
        unit=unit,
        rows=done["flagged"].n,
        patients=done["flagged"].patients,
        unit_words=text.UNIT_WORDS[unit],
    )
    rows = [
        text.EXPORT_ROW.format(name=text.LINE_ROWS[name], value=value, lower=lower, upper=upper)
        for name, one in done.items()
        for value, lower, upper in [at_line.per_hundred(one)]
    ]
    return head + "\n".join(rows) + "\n" + text.EXPORT_FOOT.format(optimism=text.OPTIMISM)


def _benefit(desk: frame.Desk, found: Material, line: float) -> None:
    st.subheader(text.BENEFIT)
    known, outcome, score = parts.of_class(found, desk.name)
    working = float(desk.at.report["thresholds"][desk.name])
    usual = int(np.clip(round((1 - working) / max(working, 1e-3)), 1, MOST_ALARMS))
    alarms = st.number_input(text.HARM, 1, MOST_ALARMS, usual, key=f"harm_{_key(desk)}")
    one = at_line.gain(outcome, score, known.patient, line, float(alarms))
    if one.value is None or one.lower is None or one.upper is None:
        parts.say([text.BENEFIT_NONE.format(why=one.note)])
    else:
        told_ = (100 * one.value, 100 * one.lower, 100 * one.upper)
        value, lower, upper = (number(v, 1) for v in told_)
        parts.say([text.HARM_WORDS.format(chance=parts.percent(1 / (1 + alarms), 1), worth=worth(one),
                                          value=value, lower=lower, upper=upper)])  # fmt: skip
    found_here = _of_class(desk)
    if found_here is not None and ran(found_here["decision"], "threshold"):
        words = text.DECISION_ALT.format(name=desk.at.in_words(desk.name))
        picture = figures_curves.decision("decision", found_here["decision"], working)
        left, _ = st.columns(2)
        with left:
            frame.picture(picture, words)


def worth(one: Any) -> str:
    """Return in words on which side of nothing an interval lies."""
    if one.lower > 0:
        return text.BETTER
    return text.WORSE if one.upper < 0 else text.OPEN_WORTH


def _time(section: Section) -> None:
    """Show what came beside what was foretold by month, where months are known."""
    st.subheader(text.TIME)
    parts.say(section.words)
    columns = st.columns(2)
    for place, figure in enumerate(section.figures):
        with columns[place % 2]:
            frame.picture(figure.svg, figure.caption)
    parts.tables(section)


def _tables(section: Section) -> None:
    with st.expander(text.MORE_TABLES):
        parts.tables(section)
