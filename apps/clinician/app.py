"""The review page: a finished evaluation's figures, its cases, and similar cases."""

import os
import sys
from pathlib import Path

import numpy as np
import streamlit as st

sys.path.insert(0, str(Path(__file__).parent))

import cases as data
import text

from medssl import runs
from medssl.evaluate.report.write import side_by_side

WIDTH = 420


def reviews_here() -> dict[str, Path]:
    """Return the finished evaluations by the name of their folder, newest first."""
    root = Path(os.environ.get("MEDSSL_RUNS", "runs"))
    return {
        str(r.path.relative_to(root)) or r.path.name: r.path for r in runs.find(root, "evaluate")
    }


@st.cache_resource(max_entries=4)
def review_of(path: Path, ended: str) -> data.Review:
    """Read an evaluation once for every time it ended."""
    del ended
    return data.open_review(path)


@st.cache_resource(max_entries=4)
def reference_of(path: Path, ended: str) -> data.Reference | None:
    """Read its training reference once."""
    return data.open_reference(review_of(path, ended))


def trust(review: data.Review) -> None:
    """Show the verdict, the figures side by side, and the shift."""
    report = review.report
    st.header(text.VERDICT.format(answer=report["verdict"]["answer"]))
    for reason in report["verdict"]["reasons"]:
        st.write(f"- {reason}")
    about = report["cohort"]
    st.write(
        text.EXPECTED.format(
            n=about["images"], patients=about["patients"], labelled=about["labelled"]
        )
    )
    if not about["labelled"]:
        st.info(text.UNLABELLED)
    st.subheader(text.TABLE)
    st.dataframe(side_by_side(report["performance"]), hide_index=True, alt=text.TABLE)
    test, share = report["shift"]["embedding"], report["shift"]["unlike"].get("share", {})
    if "p" not in test or share.get("value") is None:
        st.write(test.get("note") or share.get("note"))
    elif test["p"] < 0.05:
        st.write(text.SHIFT.format(p=test["p"], unlike=100 * share["value"]))
    else:
        st.write(text.NO_SHIFT.format(p=test["p"]))


def chosen_cases(review: data.Review, name: str) -> list[data.Case]:
    """Return the cases that fit the filter, in the order asked for."""
    left, right = st.columns(2)
    wanted = left.selectbox(text.FILTER, text.FILTERS, key="filter")
    order = right.selectbox(text.SORT, text.SORTS, key="sort")
    line = review.report["thresholds"][name]
    tests = {
        text.FILTERS[0]: lambda _: True,
        text.FILTERS[1]: lambda c: data.flagged(c, review, name),
        text.FILTERS[2]: lambda c: not data.flagged(c, review, name),
        text.FILTERS[3]: lambda c: data.disagrees(c, review, name),
    }
    keys = {
        text.SORTS[0]: lambda c: abs(c.scores[name] - line),
        text.SORTS[1]: lambda c: -c.scores[name],
        text.SORTS[2]: lambda c: c.code,
    }
    return sorted((c for c in review.cases if tests[wanted](c)), key=keys[order])


def show_picture(picture: np.ndarray | None, caption: str, width: int) -> None:
    """Show a stored picture, or say that it is not here."""
    if picture is None:
        st.caption(f"{caption}. {text.NOT_HERE}")
        return
    st.image(
        picture, caption=caption, width=width, alt=text.ALT.format(code=caption, size=len(picture))
    )


def show_case(
    review: data.Review, reference: data.Reference | None, case: data.Case, name: str
) -> None:
    """Show one case: picture, chance, confirmed answer, own other images, similar cases."""
    cohort = data.parent(review.run, "manifest.parquet")
    decode = reference.decode if reference is not None else {}
    left, right = st.columns([3, 2])
    with left:
        picture = data.picture(cohort, decode, (case.image_id, case.place))
        show_picture(picture, case.code, WIDTH)
        if picture is not None:
            st.caption(text.SMALL.format(size=len(picture)))
    with right:
        st.subheader(
            text.CHANCE.format(
                target=review.report["target"], name=name, percent=100 * case.scores[name]
            )
        )
        line = review.report["thresholds"][name]
        word = "" if data.flagged(case, review, name) else "not "
        st.write(text.LINE.format(percent=100 * line, word=word))
        known = (
            text.CONFIRMED.format(label=case.label)
            if case.label is not None
            else text.NOT_CONFIRMED
        )
        st.write(known)
        st.markdown(f"**{text.OTHERS}**")
        others = [c for c in review.cases if c.patient_id == case.patient_id and c != case][:6]
        if not others:
            st.write(text.NO_OTHERS)
        for column, other in zip(st.columns(3) * 2, others, strict=False):
            picture = data.picture(cohort, decode, (other.image_id, other.place))
            with column:
                show_picture(picture, other.code, 120)
    if reference is not None:
        show_similar(review, reference, case)


def show_similar(review: data.Review, reference: data.Reference, case: data.Case) -> None:
    """Show the nearest training cases of other patients."""
    st.markdown(f"**{text.SIMILAR}**")
    for column, one in zip(st.columns(6), data.similar(review, reference, case), strict=False):
        word = next(w for limit, w in text.CLOSENESS if one.similarity >= limit)
        with column:
            label = one.label if one.label is not None else "-"
            show_picture(one.picture, text.SIMILAR_TEXT.format(label=label, closeness=word), 120)


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title=text.TITLE, layout="wide")
    st.warning(text.BANNER)
    found = reviews_here()
    if not found:
        st.info(text.NO_RUNS)
        return
    path = found[st.sidebar.selectbox(text.PICK, list(found), key="run")]
    ended = str(runs.read(path).record.get("ended"))
    review, reference = review_of(path, ended), reference_of(path, ended)
    first, second = st.tabs([text.TRUST, text.CASES])
    with first:
        trust(review)
    with second:
        names = review.shown
        name = st.selectbox("Finding", names, key="class") if len(names) > 1 else names[0]
        listed = chosen_cases(review, name)
        if not listed:
            st.info(text.NOTHING)
            return
        picked = st.selectbox(
            text.CASE,
            range(len(listed)),
            format_func=lambda k: f"{listed[k].code}: {100 * listed[k].scores[name]:.0f} %",
            key="case",
        )
        show_case(review, reference, listed[picked], name)


main()
