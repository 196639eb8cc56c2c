"""Data check: what became of every file, and what the headers and copies say."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import streamlit as st

import frame
import text_team as text
from medssl.cohort import twins
from medssl.errors import MedsslError
from medssl.evaluate import attributes
from medssl.evaluate.groups import count
from medssl.evaluate.report.page import Material, clean
from medssl.files import sha256_file
from team import parts

Row = dict[str, Any]
MOST_PAIRS = 100
SEEN = "were seen in training"


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.DATA_TITLE, text.DATA_WHY, desk.at)
    cohort = desk.at.cohort
    account = _json(cohort, "cohort.json")
    if cohort is None or account is None:
        st.info(text.NO_COHORT)
    st.subheader(text.FUNNEL)
    parts.show_rows(funnel(desk.at.report["flow"], account), text.FUNNEL_ALT, _share_bar())
    st.caption(text.HIDDEN)
    if cohort is not None and account is not None:
        _reasons(cohort)
        _labels(account)
    _trained(desk.at.report)
    if cohort is not None:
        _copies(desk, cohort)
    found = parts.material(desk.at)
    if not isinstance(found, str):
        _headers(found)
    parts.say([clean(n, 600) for n in desk.at.report["notes"]])
    if cohort is not None:
        _check(cohort)


def _json(cohort: Path | None, name: str) -> Row | None:
    if cohort is None:
        return None
    try:
        found = json.loads((cohort / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _share_bar() -> dict[str, Any]:
    column = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    return {text.FUNNEL_COLUMNS[3]: column}


def funnel(flow: list[Row], account: Row | None) -> list[Row]:
    """Return the steps from files found to pictures analysed; a hidden count has no share."""
    steps: list[tuple[str, Any, Any]] = []
    if account is not None and isinstance(account.get("found"), int):
        steps.append((text.FOUND, account["found"], "-"))
        steps.append(
            (text.READABLE, account.get("indexed", "-"), count(account.get("patients", 0)))
        )
    steps += [(clean(f["what"]), f["images"], f["patients"]) for f in flow]
    whole = next((s[1] for s in steps if isinstance(s[1], int)), 0)
    out = []
    for words, images, patients in steps:
        share = images / whole if isinstance(images, int) and whole else None
        # A volume is one file and many pictures: shares above 1 mean nothing.
        share = None if share is None or share > 1 else share
        told = (words, _told(images), _told(patients), share)
        out.append(dict(zip(text.FUNNEL_COLUMNS, told, strict=True)))
    return out


def _told(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else str(number)


def _reasons(cohort: Path) -> None:
    st.subheader(text.REASONS)
    rows = reasons(cohort)
    if rows is None:
        st.text(text.NO_QUARANTINE)
    elif rows:
        parts.show_rows(rows, text.REASONS_ALT)
    else:
        st.text(text.NO_REASONS)


def reasons(cohort: Path) -> list[Row] | None:
    """Return the reasons of ``quarantine.csv`` with counts, the most frequent first; None without it."""
    try:
        with (cohort / "quarantine.csv").open(encoding="utf-8", newline="") as file:
            rows = [(r["code"], r["verdict"], r["reason"]) for r in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, csv.Error):
        return None
    first: dict[tuple[str, str], str] = {}
    for code, verdict, reason in rows:
        first.setdefault((code, verdict), reason)
    many = Counter((code, verdict) for code, verdict, _ in rows)
    return [
        dict(
            zip(
                text.REASON_COLUMNS,
                (clean(code), clean(verdict), clean(first[code, verdict], 200), f"{n:,}"),
                strict=True,
            )
        )
        for (code, verdict), n in many.most_common()
    ]


def _labels(account: Row) -> None:
    found = [t for t in account.get("labels", []) if isinstance(t, dict)]
    if not found:
        return
    st.subheader(text.LABELS)
    keys = ("rows", "joined", "orphans", "images_without_row", "duplicate_rows")
    rows = [
        dict(
            zip(
                text.LABEL_COLUMNS,
                (clean(t.get("table", "")), *(_told(t.get(k, "-")) for k in keys)),
                strict=True,
            )
        )
        for t in found
    ]
    parts.show_rows(rows, text.LABELS_ALT)
    for table in found:
        if table.get("rows") and table.get("joined", 0) < 0.9 * table["rows"]:
            told = {k: _told(table[k]) for k in ("joined", "rows")}
            parts.say([text.LABEL_FAILS.format(**told, table=clean(table["table"]))])
        parts.say([clean(n, 400) for n in table.get("notes", [])])


def _trained(report: Row) -> None:
    st.subheader(text.TRAINED)
    told = [n for n in report["notes"] if SEEN in n]
    if told:
        st.warning(text.TRAINED_HERE.format(note=frame.escape(told[0])))
    else:
        st.text(text.NOT_TRAINED)


def _copies(desk: frame.Desk, cohort: Path) -> None:
    st.subheader(text.COPIES)
    try:
        table = twins.read(cohort)
    except (MedsslError, OSError, pa.ArrowException) as error:
        why = str(error) if isinstance(error, MedsslError) else cohort.name
        parts.say([text.COPIES_UNKNOWN.format(why=clean(why, 300))])
        return
    pairs = table.to_pylist()
    if not pairs:
        st.text(text.NO_COPIES)
        return
    owner = {i: row.get("patient_id") for i, row in desk.at.manifest.items()}
    pairs = [p | {"same": _owner(owner, p, "a") == _owner(owner, p, "b")} for p in pairs]
    across = sum(not p["same"] for p in pairs)
    parts.say([text.COPIES_WORDS.format(pairs=f"{len(pairs):,}", across=f"{across:,}")])
    pairs.sort(key=lambda p: p["same"])
    rows = [
        dict(
            zip(
                text.COPY_COLUMNS,
                (_named(p, "a"), _named(p, "b"), text.COPY_KIND.get(p["kind"], clean(p["kind"])),
                 text.SAME if p["same"] else text.OTHER, f"{p['correlation']:.3f}"),
                strict=True,
            )
        )
        for p in pairs[:MOST_PAIRS]
    ]  # fmt: skip
    parts.show_rows(rows, text.COPIES_ALT)
    named = dict.fromkeys((p[f"image_id_{n}"], p[f"slice_{n}"]) for p in pairs for n in "ab")
    places = [desk.at.place[key] for key in named if key in desk.at.place]
    if places:
        parts.case_list(desk, places, "copy")


def _owner(owner: dict[str, Any], pair: Row, side: str) -> Any:
    """Return whose a picture is now; links may have joined patients since copies were looked for."""
    return owner.get(pair[f"image_id_{side}"], pair[f"patient_{side}"])


def _named(pair: Row, side: str) -> str:
    return parts.called((pair[f"image_id_{side}"], pair[f"slice_{side}"]))


def _headers(found: Material) -> None:
    st.subheader(text.HEADERS)
    parts.show_rows(absences(found), text.HEADERS_ALT)
    pictures = found.here.pictures
    kind = pictures.column("photometric").to_pylist()
    inverted = np.mean([v == "MONOCHROME1" for v in kind]) if kind else 0.0
    if inverted > 0:
        st.text(text.INVERTED.format(share=parts.percent(float(inverted))))
    spacing = pictures.column("spacing_row_mm")
    if spacing.null_count:
        st.text(text.NO_SPACING.format(share=parts.percent(spacing.null_count / len(spacing))))


def absences(found: Material) -> list[Row]:
    """Return per header field the share of pictures without it here, and at the source."""
    out = []
    for name in (*attributes.HEADER, *attributes.MEASURED):
        column = found.here.pictures.column(name)
        theirs = found.reference.columns.get(name)
        known = bool(found.reference.columns)
        if theirs is None:
            other = parts.percent(1.0) if known else "-"
        else:
            other = parts.percent(float(np.mean([_absent(v) for v in theirs.values])))
        cells = (
            name.replace("_", " "),
            parts.percent(column.null_count / max(1, len(column))),
            other,
        )
        out.append(dict(zip(text.HEADER_COLUMNS, cells, strict=True)))
    return out


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and bool(np.isnan(value)))


def _check(cohort: Path) -> None:
    st.subheader(text.CHECK)
    found = _json(cohort, "health.json")
    if found is None:
        st.text(text.NO_CHECK)
        return
    if _is_old(cohort, found):
        st.warning(text.OLD_CHECK)
    rows = [
        dict(
            zip(
                text.CHECK_COLUMNS,
                (text.LEVELS.get(f.get("level"), clean(f.get("level"))),
                 clean(f.get("sentence", ""), 400), clean(f.get("code", ""))),
                strict=True,
            )
        )
        for f in found.get("findings", [])
        if f.get("level") != "ok"
    ]  # fmt: skip
    if rows:
        parts.show_rows(rows, text.CHECK_ALT)
    else:
        st.text(text.CHECK_FINE)


def _is_old(cohort: Path, found: Row) -> bool:
    """Return whether the manifest is another one than the check looked at."""
    try:
        return sha256_file(cohort / "manifest.parquet") != found.get("manifest_sha256")
    except OSError:
        return False
