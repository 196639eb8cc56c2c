"""The page Cohort: who is in it, how it was split, whether the split holds, what is missing."""

from pathlib import Path
from typing import Any

import streamlit as st

import frame
import text_research as text
from evaluations import short
from medssl.cohort import labels as label_room
from medssl.cohort import split as split_room
from medssl.cohort.manifest import Manifest
from medssl.errors import MedsslError
from research import people, records, told


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.COHORT_TITLE, text.COHORT_PURPOSE)
    entries = [e for e in records.find(desk.root) if e.cohort]
    names = {e.name: e for e in sorted(entries, key=lambda e: "split" not in e.record)}
    if not names:
        st.info(text.NO_COHORTS)
        return
    picked = st.selectbox(text.PICK_RUN, list(names), format_func=short, key="cohort_run")
    entry = names[picked]
    cohort = entry.cohort
    assert cohort is not None  # noqa: S101
    try:
        manifest = people.open_manifest(cohort)
    except MedsslError as error:
        told.trouble(error)
        return
    _changed(entry, cohort, manifest)
    _counts(manifest)
    _split(entry, cohort, manifest)
    _labels(cohort, manifest)
    st.header(text.MISSING)
    gaps = people.missing(manifest)
    st.markdown(text.COMPLETE.format(n=manifest.table.num_columns - len(gaps)))
    if gaps:
        _table(gaps, text.MISSING_ALT, "cohort_missing")


def _changed(entry: records.Entry, cohort: Path, manifest: Manifest) -> None:
    sites = len(set(manifest.column("site")))
    counts = {"images": manifest.table.num_rows, "patients": len(manifest.patients), "sites": sites}
    st.markdown(text.TOTAL.format(**counts))
    if entry.part("manifest").get("sha256") not in {None, manifest.digest()}:
        st.warning(text.CHANGED_COHORT)
    split = entry.record.get("split")
    there = (cohort / "split.parquet").is_file()
    if split not in {None, "none"} and there and split != split_room.split_digest(cohort):
        st.warning(text.CHANGED_SPLIT)


def _counts(manifest: Manifest) -> None:
    st.header(text.COUNTS)
    columns = st.columns(2)
    for k, (name, title) in enumerate(text.COLUMNS.items()):
        with columns[k % 2]:
            st.subheader(title)
            _table(
                people.levels(manifest, name), text.COUNT_ALT.format(what=title), f"cohort_{name}"
            )
    st.subheader(text.PER_PATIENT)
    _table(
        people.per_patient(manifest), text.COUNT_ALT.format(what=text.PER_PATIENT), "cohort_images"
    )


def _table(rows: list[dict[str, Any]], alt: str, key: str) -> None:
    st.dataframe(rows, hide_index=True, alt=alt, key=key)


def _split(entry: records.Entry, cohort: Path, manifest: Manifest) -> None:
    st.header(text.PARTS)
    if not (cohort / "split.parquet").is_file():
        st.info(text.NO_SPLIT)
        return
    try:
        checks = people.leak_check(entry, cohort, manifest)
        place = dict(people.open_split(cohort))
    except MedsslError as error:
        told.trouble(error)
        return
    _table(people.parts(manifest, place), text.PARTS_ALT, "cohort_parts")
    st.subheader(text.LEAKS)
    st.markdown(text.LEAKS_WHY)
    leaks, blind = sum(bool(c.found) for c in checks), sum(c.found is None for c in checks)
    if leaks:
        st.error(text.LEAKING.format(n=leaks))
    elif blind:
        st.warning(text.PARTLY.format(n=blind))
    else:
        st.success(text.NO_LEAK.format(n=len(checks)))
    alt = text.LEAK_ALT.format(n=len(checks))
    _table([_check(c) for c in checks], alt, "cohort_leaks")


def _check(check: people.Check) -> dict[str, str]:
    words, meaning = text.CHECKS[check.name]
    found = text.NOT_LOOKED if check.found is None else str(check.found)
    return {text.CHECK: words, text.FOUND: found, text.MEANING: check.why or meaning}


def _labels(cohort: Path, manifest: Manifest) -> None:
    st.header(text.PREVALENCE)
    file = cohort / "labels.parquet"
    try:
        with records.reading(file):
            names = label_room.available(cohort)
        if not names:
            st.info(text.NO_LABELS)
            return
        picked = st.selectbox(text.PICK_LABEL, names, format_func=short, key="cohort_label")
        with records.reading(file):
            known = label_room.read(cohort, picked)
        there = (cohort / "split.parquet").is_file()
        place = dict(people.open_split(cohort)) if there else {}
    except MedsslError as error:
        told.trouble(error)
        return
    owner = dict(zip(manifest.column("image_id"), manifest.column("patient_id"), strict=True))
    values = [(image, value) for (image, _), value in known.items()]
    values += [(image, text.UNCERTAIN_VALUE) for image, _ in known.uncertain]
    rows = people.prevalence(values, owner, place)
    _table(rows, text.PREVALENCE_ALT.format(label=short(picked)), "cohort_prevalence")
