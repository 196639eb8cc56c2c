"""The computer's read of a case in words a clinician can act on, and why."""

import math

import streamlit as st

import similar
import text
from clinician import drawn, maps, panes, stand_out
from evaluations import UNSURE, Answer, Review, short
from frame import Desk, escape
from journal import Status
from medssl.errors import MedsslError

VERDICTS = {
    "do not use here": text.DO_NOT_USE,
    "cannot tell": text.CANNOT_SAY,
    "use after local adjustment": text.AFTER_ADJUSTMENT,
}
NEIGHBOURS = 6


def percent(share: float) -> str:
    """Return a share as a whole number of a hundred; the ends as words."""
    if share < 0.01:
        return text.LESS_THAN_ONE
    if share > 0.99:
        return text.MORE_THAN_99
    return str(round(100 * share))


def about(share: float) -> str:
    """Return a share of a hundred as it stands in a sentence."""
    words = percent(share)
    return text.ABOUT.format(n=words) if words.isdecimal() else words


def figure(share: float) -> str:
    """Return the computer's own figure in per cent, with a decimal near the ends."""
    return f"{100 * share:.1f}" if min(share, 1 - share) < 0.1 else f"{100 * share:.0f}"


def range_words(value: float, lower: float, upper: float) -> str:
    """Return a chance with its interval, where there is one (not NaN)."""
    if math.isnan(lower) or math.isnan(upper):
        return text.PERCENT.format(chance=percent(value))
    return text.PERCENT_RANGE.format(
        chance=percent(value), lower=percent(lower), upper=percent(upper)
    )


def chance(found: Answer) -> str:
    """Return a case's chance with its interval."""
    limits = [math.nan if v is None else v for v in (found.lower, found.upper)]
    return range_words(found.chance, *limits)


def word_of(review: Review, word: str, name: str) -> str:
    """Return likely, not likely or unsure as the page says it."""
    if len(review.shown) == 1 and len(review.report["classes"]) == 2:
        return text.WORD_PRESENT[word]
    return text.WORD[word].format(finding=review.in_words(name))


def panel(desk: Desk, case: int, status: Status) -> None:
    """Draw the answer, what it rests on, and what to do where it is unsure."""
    review, name = desk.at, desk.name
    found = review.answer(case, name)
    st.subheader(text.COMPUTER)
    verdict = VERDICTS.get(str(review.report["verdict"]["answer"]))
    if verdict is not None:
        st.warning(verdict)
    words = word_of(review, found.word, name)
    st.markdown(f"#### {escape(words)}: {chance(found)}")
    _dots(review, found, name)
    _line(found)
    if found.word == UNSURE:
        st.info(text.UNSURE_CARD[found.why])
    if found.is_unlike:
        reasons = stand_out.of(review, case)
        told = text.UNLIKE_REASON.format(what=", ".join(reasons)) if reasons else ""
        far = min(99, math.floor(found.unlike or 0))
        st.info(text.UNLIKE_CARD.format(percent=far, reasons=told))
    if status.read is not None:
        _changed(desk, case, status)


def _dots(review: Review, found: Answer, name: str) -> None:
    filled = round(100 * found.chance)
    finding = review.in_words(name)
    alt = text.DOTS_ALT.format(n=filled, finding=finding)
    st.image(drawn.dots(filled), alt=alt, width=drawn.COLUMNS * drawn.STEP)
    between = ""
    if found.lower is not None and found.upper is not None:
        between = text.RANGE.format(lower=percent(found.lower), upper=percent(found.upper))
    words = {"here": text.CHECKED_HERE, "source": text.CHECKED_SOURCE}.get(
        found.checked, text.CHECKED_NOWHERE
    )
    told = words.format(n=about(found.chance), finding=escape(finding), range=between)
    st.caption(told)


def _line(found: Answer) -> None:
    would = text.WOULD if found.flagged else text.WOULD_NOT
    line, score = figure(found.line), figure(found.score)
    if line == score:
        line, score = (f"{100 * v:.2f}" for v in (found.line, found.score))
    st.caption(text.LINE.format(line=line, score=score, would=would))


def _changed(desk: Desk, case: int, status: Status) -> None:
    key = f"changed_{case}"

    def save() -> None:
        said = st.session_state[key]
        if said is not None:
            desk.note("changed", {"changed": said == text.YES}, desk.at.keys[case])

    before = None if status.changed is None else (text.YES if status.changed else text.NO)
    st.segmented_control(text.CHANGED, (text.YES, text.NO), default=before, key=key, on_change=save)


def tabs(desk: Desk, case: int) -> None:
    """Draw why: where it looked, similar past cases, and one sentence."""
    where, past, words = st.tabs([text.WHERE, text.SIMILAR, text.IN_WORDS])
    with where:
        maps.explain(desk, case)
    with past:
        _similar(desk, case)
    with words:
        st.markdown(sentence(desk, case))


def reference_of(review: Review) -> similar.Reference | None:
    """Return the training reference of an evaluation, read once a session."""
    kept = st.session_state.get("reference")
    if kept is None or kept[0] is not review:
        kept = st.session_state["reference"] = (review, similar.open_reference(review))
    return kept[1]


def _similar(desk: Desk, case: int) -> None:
    review = desk.at
    reference = reference_of(review)
    if reference is None:
        st.write(text.SIMILAR_NONE)
        return
    try:
        features = review.embeddings[int(review.rows[case])]
    except MedsslError:
        st.write(text.SIMILAR_NONE)
        return
    found = reference.nearest(features, review.column_at("patient_id", case), NEIGHBOURS)
    st.caption(text.SIMILAR_WHY)
    known = [s for s in found if s.label is not None]
    if known:
        finding = review.in_words(desk.name)
        had = sum(s.label == desk.name for s in known)
        told = text.SIMILAR_COUNT.format(k=had, n=len(known), finding=escape(finding))
        st.markdown(told)
    source = panes.pixels.Source(reference.cohort, reference.decode)
    pictures = [source.thumbnail(s.key) for s in found]
    if all(p is None for p in pictures):
        st.caption(text.SIMILAR_TEXT)
    for column, one, picture in zip(st.columns(3) * 2, found, pictures, strict=False):
        with column:
            words = similar_words(review, one)
            if picture is not None:
                st.image(picture, alt=words, width=96)
            st.caption(escape(words))


def similar_words(review: Review, one: similar.Similar) -> str:
    """Return how alike a past case is and what it turned out to be."""
    closeness = text.CLOSENESS[one.closeness]
    label = review.label_in_words(one.label)
    if label is None:
        return text.SIMILAR_UNKNOWN.format(closeness=closeness)
    return text.SIMILAR_ONE.format(closeness=closeness, label=short(label))


def sentence(desk: Desk, case: int) -> str:
    """Return the whole answer as one sentence."""
    review, name = desk.at, desk.name
    found = review.answer(case, name)
    parts = [
        text.SENTENCE.format(words=escape(word_of(review, found.word, name)), chance=chance(found)),
        text.SENTENCE_LINE[found.flagged],
        text.SENTENCE_LIKE[found.is_unlike],
        text.VERDICT_WORDS.get(str(review.report["verdict"]["answer"]), text.CANNOT_SAY),
    ]
    return " ".join(parts)
