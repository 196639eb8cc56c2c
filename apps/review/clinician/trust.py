"""Page How far to trust it here: four questions, each with one sentence and one small picture."""

from typing import Any

import numpy as np
import streamlit as st

import frame
import text
import text_pages as pages
from clinician import drawn, panes
from clinician.drawn import Bar
from evaluations import Review
from frame import Desk, escape
from medssl import runs

MISSES = 6


def show(desk: Desk) -> None:
    """Draw the page."""
    review, name = desk.at, desk.name
    frame.head(text.REVIEW_TITLES["trust"], pages.TRUST_WHY, review)
    report = review.report
    _checked(report, name)
    st.subheader(
        text.VERDICT_WORDS.get(str(report["verdict"]["answer"]), text.CANNOT_SAY), anchor=False
    )
    upper, lower = st.columns(2), st.columns(2)
    cards = (_rank, _percentages, _groups, _likeness)
    for column, card in zip((*upper, *lower), cards, strict=True):
        with column.container(border=True, height="stretch"):
            card(review, name)
    _misses(desk)
    _report(review)


def _checked(report: dict[str, Any], name: str) -> None:
    about, period = report["cohort"], report["period"]
    figure = row_of(report, "prevalence", name, "target")
    if figure is None:
        st.info(pages.NOT_CHECKED)
        return
    when = ""
    if period["since"] or period["until"]:
        since, until = (escape(period[k] or "...") for k in ("since", "until"))
        when = pages.CHECKED_WHEN.format(since=since, until=until)
    sites = escape(", ".join(map(str, about["sites"])))
    st.markdown(pages.CHECKED_ON.format(patients=figure["patients"], sites=sites, when=when))


def none_because(report: dict[str, Any], name: str) -> str:
    """Return why a figure about answers is absent: none is confirmed, or all are the same."""
    figure = row_of(report, "prevalence", name, "target")
    return pages.CARD_NONE if figure is None else pages.CARD_ALIKE


def row_of(report: dict[str, Any], metric: str, name: str, cohort: str) -> dict[str, Any] | None:
    """Return a figure of one hospital over all sites, by image; None where there is none."""
    for row in report["performance"]:
        same = (row["metric"], row["cohort"], row["level"], row["site"]) == (
            metric,
            cohort,
            "image",
            "all",
        )
        if same and row["class"] == name and row.get("value") is not None:
            return dict(row)
    return None


def hundred(row: dict[str, Any]) -> str:
    """Return a share as ``83 (79 to 87)`` of a hundred."""
    value, low, high = row["value"], row.get("lower"), row.get("upper")
    if low is None or high is None:
        return f"{100 * value:.0f}"
    return pages.OF_HUNDRED.format(
        value=f"{100 * value:.0f}", lower=f"{100 * low:.0f}", upper=f"{100 * high:.0f}"
    )


def _bars(rows: list[tuple[str, dict[str, Any] | None, bool]], alt: str) -> None:
    shown = [
        Bar(n, 100 * r["value"], _percent(r.get("lower")), _percent(r.get("upper")), here)
        for n, r, here in rows if r is not None
    ]  # fmt: skip
    if shown:
        told = "; ".join(f"{b.name} {b.value:.0f}" for b in shown)
        st.image(drawn.bars(shown), alt=f"{alt} {told}.", width=drawn.WIDTH)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _rank(review: Review, name: str) -> None:
    st.markdown(f"**{pages.CARD_RANK}**")
    finding = escape(review.in_words(name))
    here = row_of(review.report, "auroc", name, "target")
    home = row_of(review.report, "auroc", name, "source")
    if here is None:
        st.write(none_because(review.report, name))
    else:
        st.markdown(pages.RANK.format(finding=finding, hundred=hundred(here)))
        low, high = here.get("lower"), here.get("upper")
        if high is not None and high < 0.5:
            st.markdown(pages.RANK_BACKWARDS)
        elif low is None or low <= 0.5:
            st.markdown(pages.RANK_COIN)
    _bars([(pages.AT_HOME, home, False), (pages.HERE, here, True)], pages.RANK_ALT)


def _percentages(review: Review, name: str) -> None:
    st.markdown(f"**{pages.CARD_PERCENT}**")
    had = row_of(review.report, "prevalence", name, "target")
    ratio = row_of(review.report, "observed_over_expected", name, "target")
    if had is None or ratio is None or not ratio["value"] or had["value"] in {0.0, 1.0}:
        st.write(none_because(review.report, name))
        return
    said = had["value"] / ratio["value"]
    low, high = ratio.get("lower"), ratio.get("upper")
    finding = escape(review.in_words(name))
    verdict = pages.RIGHT
    if low is None or high is None:
        verdict = pages.NOT_SURE
    elif low > 1:
        verdict = pages.TOO_LOW
    elif high < 1:
        verdict = pages.TOO_HIGH
    st.markdown(
        pages.PERCENTAGES.format(
            said=f"{100 * said:.0f}", had=hundred(had), finding=finding, verdict=verdict
        )
    )
    if "here" in review.column(f"checked_{name}")[:1]:
        st.caption(pages.CORRECTED_THERE)
    slope = row_of(review.report, "calibration_slope", name, "target")
    if slope is not None and slope.get("upper") is not None and slope["upper"] <= 0:
        st.markdown(pages.SLOPE_BACKWARDS)
    _bars([(pages.IT_SAYS, {"value": said}, False), (pages.IT_IS, had, True)], pages.PERCENT_ALT)


def _groups(review: Review, name: str) -> None:
    st.markdown(f"**{pages.CARD_GROUPS}**")
    found = [
        _worst(review, name, metric, words)
        for metric, words in (("sensitivity", pages.GROUPS_WORST), ("specificity", pages.GROUPS_LEAVES))
    ]  # fmt: skip
    if not any(found):
        st.write(pages.GROUPS_FEW)
        return
    rows = _group_rows(review, name, "sensitivity")
    rest = row_of(review.report, "sensitivity", name, "target")
    shown = [(cut(str(r["level"])), r, True) for r in sorted(rows, key=lambda r: r["value"])[:4]]
    _bars([*shown, (pages.ALL_HERE, rest, False)], pages.GROUPS_ALT)


def _group_rows(review: Review, name: str, metric: str) -> list[dict[str, Any]]:
    return [
        r for r in review.report["groups"]["rows"]
        if r["metric"] == metric and r["class"] == name and r.get("value") is not None
    ]  # fmt: skip


def _worst(review: Review, name: str, metric: str, words: str) -> bool:
    """Say for whom one figure is worst; return whether there was a group to say it of."""
    rows = _group_rows(review, name, metric)
    if not rows:
        return False
    worst = min(rows, key=lambda r: r["value"])
    rest = row_of(review.report, metric, name, "target")
    group = pages.GROUP_WORDS.get(worst["group"], str(worst["group"]).replace("_", " "))
    told = words.format(
        group=escape(f"{worst['level']} ({group})"),
        finding=escape(review.in_words(name)),
        hundred=hundred(worst),
        patients=worst["patients"],
        all="-" if rest is None else hundred(rest),
    )
    p = worst.get("p_adjusted")
    sure = pages.GROUPS_SURE if p is not None and p < 0.05 else pages.GROUPS_UNSURE
    st.markdown(f"{told} {sure}")
    return True


def cut(words: str, most: int = 13) -> str:
    """Return words short enough to stand before a bar."""
    return words if len(words) <= most else words[: most - 1] + "…"


def _likeness(review: Review, name: str) -> None:
    del name
    st.markdown(f"**{pages.CARD_LIKE}**")
    share = review.report["shift"]["unlike"].get("share") or {}
    if share.get("value") is None:
        st.write(pages.LIKE_NONE)
        return
    words = pages.LIKE_MOSTLY if share["value"] < 0.1 else pages.LIKE_OFTEN
    st.markdown(words.format(hundred=hundred(share)))
    p = review.report["shift"]["embedding"].get("p")
    if p is not None and p < 0.05:
        st.markdown(pages.LIKE_DIFFERENT)
    expected = {"value": 0.01}
    _bars([(pages.EXPECTED, expected, False), (pages.HERE, share, True)], pages.LIKE_ALT)


def _misses(desk: Desk) -> None:
    """Show what it misses: how many of a hundred, and typical ones with the lowest chance."""
    review, name = desk.at, desk.name
    found = row_of(review.report, "sensitivity", name, "target")
    if found is None:
        return
    finding = escape(review.in_words(name))
    st.subheader(pages.MISSES, anchor=False)
    missed = {k: None if v is None else 1 - v for k, v in (
        ("value", found["value"]), ("lower", found.get("upper")), ("upper", found.get("lower"))
    )}  # fmt: skip
    st.markdown(pages.MISSES_OF.format(finding=finding, hundred=hundred(missed)))
    source = panes.source_of(review)
    for column, case in zip(st.columns(MISSES), typical_misses(review, name), strict=False):
        with column:
            key = review.keys[case]
            picture = source.thumbnail(key)
            if picture is not None:
                alt = text.ALT.format(code=panes.code_of(key), what=panes.view_of(review, key[0]))
                st.image(picture, alt=alt, width=110)
            if st.button(pages.OPEN_CASE, key=f"miss_{case}", help=panes.code_of(key)):
                frame.open_case(key, told=desk)


def typical_misses(review: Review, name: str) -> list[int]:
    """Return cases with a finding that were not flagged, of different patients, the surest first."""
    score = review.numbers(runs.SCORE + name)
    labels, patients = review.column("label"), review.column("patient_id")
    line = review.report["thresholds"][name]
    found: list[int] = []
    seen: set[str] = set()
    for k in np.argsort(score, kind="stable"):
        if labels[k] == name and score[k] < line and patients[k] not in seen:
            seen.add(patients[k])
            found.append(int(k))
        if len(found) == MISSES:
            break
    return found


def _report(review: Review) -> None:
    page = review.run.path / "report.html"
    if page.is_file():
        st.download_button(pages.FULL_REPORT, page.read_bytes(), "report.html", "text/html")
