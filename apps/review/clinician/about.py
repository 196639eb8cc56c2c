"""Page About this model: made for, learnt from, tested on, where it fails, and its versions."""

from typing import Any

import streamlit as st

import frame
import text
import text_pages as pages
from clinician.trust import hundred, row_of
from frame import Desk, escape

TELLING, STILL_GOOD = 0.6, 0.75
"""Lower limits from which a simple figure, and a half-hidden image, tell too much."""


def show(desk: Desk) -> None:
    """Draw the page."""
    review = desk.at
    report = review.report
    frame.head(text.REVIEW_TITLES["about"], pages.ABOUT_WHY, review)
    source, cohort = report["source"], report["cohort"]
    finding = escape(review.in_words(desk.name))
    st.subheader(pages.MADE_FOR, anchor=False)
    st.markdown(pages.MADE_FOR_WORDS.format(finding=finding, image=_images(report)))
    st.markdown(pages.BY_A_PERSON)
    st.subheader(pages.LEARNT_FROM, anchor=False)
    model = report["model"]
    st.markdown(
        pages.LEARNT_WORDS.format(
            sites=_names(model.get("trained_sites") or source.get("sites", [])),
            patients=model.get("patients_seen", "?"),
            images=model.get("pictures_seen", "?"),
        )
    )
    st.subheader(pages.TESTED_ON, anchor=False)
    home = row_of(report, "auroc", desk.name, "source")
    here = row_of(report, "auroc", desk.name, "target")
    for row, about, words in (
        (home, source, pages.TESTED_HOME), (here, cohort, pages.TESTED_HERE),
    ):  # fmt: skip
        if row is not None:
            told = {"sites": _names(about["sites"]), "patients": row["patients"]}
            st.markdown(words.format(**told, hundred=hundred(row)))
    st.subheader(pages.FAILURES, anchor=False)
    st.markdown(pages.FAILURES_WORDS)
    for sentence in failures(report, desk.name) or [pages.FAIL_NONE]:
        st.markdown(f"- {sentence}")
    if st.button(pages.SEE_ERRORS):
        frame.go_to("trust")
    _versions(report, review.model)
    card = review.run.path / "CARD.md"
    if card.is_file():
        st.download_button(pages.CARD, card.read_bytes(), "CARD.md", "text/markdown")


def _images(report: dict[str, Any]) -> str:
    found = [c for c in report["shift"].get("columns", []) if c.get("column") == "modality"]
    told = found[0] if found else {}
    pairs = zip(told.get("levels") or [], told.get("source_share") or [], strict=False)
    levels = [level for level, share in pairs if share]
    return escape(", ".join(map(str, levels))) if levels else pages.IMAGES_LIKE


def _names(sites: list[Any]) -> str:
    return escape(", ".join(map(str, sites)))


def failures(report: dict[str, Any], name: str) -> list[str]:
    """Return what goes with the answer and is not disease, of what the evaluation looked for."""
    found = report["shortcuts"]
    out = []
    for row in found.get("simple", []):
        if row.get("what") == name and "histogram" in row["encoder"] and _above(row, TELLING):
            out.append(pages.FAIL_TONE.format(hundred=hundred(row)))
    for row in found.get("masks", []):
        hidden = row.get("hospital") == "source" and "centre" in row["mask"]
        if hidden and row.get("class") == name and _above(row, STILL_GOOD):
            out.append(pages.FAIL_CENTRE.format(hundred=hundred(row)))
    sites = [r for r in found.get("readable", []) if r.get("what") == "hospital"]
    if sites and _above(sites[-1], STILL_GOOD):
        out.append(pages.FAIL_SITE.format(hundred=hundred(sites[-1])))
    return out


def _above(row: dict[str, Any], least: float) -> bool:
    return row.get("lower") is not None and row["lower"] > least


def _versions(report: dict[str, Any], model: str) -> None:
    st.subheader(pages.VERSIONS, anchor=False)
    provenance = report["provenance"]
    rows = {
        pages.V_MODEL: model[:16],
        pages.V_SOFTWARE: str(provenance.get("medssl", "")),
        pages.V_REPORT: str(provenance.get("written", "")),
    }
    st.dataframe(
        [{pages.V_WHAT: k, pages.V_WHICH: v} for k, v in rows.items()],
        hide_index=True,
        alt=pages.VERSIONS,
    )
    st.caption(pages.WHO_TO_CALL)
