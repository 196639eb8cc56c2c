"""The page Representation: where an encoder puts every picture, and how well it keeps people together."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

import frame
import text_research as text
from evaluations import short
from medssl.errors import MedsslError
from medssl.evaluate.report import figures_curves
from medssl.store import Store
from research import atlas as atlas_room
from research import charts, nearness, records, told
from research.atlas import Atlas

NEAREST = 6
THUMB = 150
FIGURE = 720


def show(desk: frame.Desk) -> None:
    """Draw the page."""
    frame.head(text.MAP_TITLE, text.MAP_PURPOSE)
    entries = records.find(desk.root)
    names = {e.name: e for e in entries if atlas_room.has_embeddings(e)}
    if not names:
        st.info(text.NO_MAPS)
        return
    left, right = st.columns(2)
    first = left.selectbox(text.PICK_MAP, list(names), format_func=short, key="map_run")
    rest = [text.ALONE, *(n for n in names if n != first)]
    second = right.selectbox(text.PICK_OTHER, rest, format_func=short, key="map_other")
    chosen = [names[n] for n in (first, second) if n in names]
    try:
        found = [_opened(e.path, str(e.record.get("ended")), e) for e in chosen]
    except MedsslError as error:
        told.trouble(error)
        return
    found, together = _comparable(found)
    by = _colour_by(found)
    picks = _picks(chosen, found, together=together)
    for k, (column, entry, atlas) in enumerate(
        zip(st.columns(len(found)), chosen, found, strict=True)
    ):
        with column:
            st.header(frame.escape(entry.name))
            _map(desk, entry, atlas, by, picks[k])
            _numbers(atlas, "ab"[k])
            _readable(entries, entry, "ab"[k])
            _efficiency(entry)


@st.cache_data(scope="session", max_entries=4, show_spinner=False)
def _opened(path: Path, ended: str, _entry: records.Entry) -> Atlas:
    del path, ended
    return atlas_room.open_atlas(_entry)


def _comparable(found: list[Atlas]) -> tuple[list[Atlas], bool]:
    """Return the maps, of the same pictures where that can be, and whether it could."""
    if len(found) == 2:
        both = atlas_room.shared(*found)
        if both is None:
            st.warning(text.OTHER_PICTURES)
            return found, False
        st.caption(text.SAME_PICTURES.format(n=len(both[0])))
        return list(both), True
    one = found[0]
    part = text.PART_SHOWN if len(one) < one.every else text.ALL_SHOWN
    st.caption(part.format(shown=len(one), all=one.every))
    return found, True


def _picks(chosen: list[records.Entry], found: list[Atlas], *, together: bool) -> list[str]:
    """Draw the lists that choose a picture; return which one leads each map."""
    if together:
        pick = "map_pick_" + "_".join(frame.tag(e.path) for e in chosen)
        picks = [pick] * len(found)
    else:
        picks = [f"map_pick_{k}_{frame.tag(e.path)}" for k, e in enumerate(chosen)]
    for pick, atlas in dict(zip(picks, found, strict=True)).items():
        rows = list(range(len(atlas)))
        st.selectbox(text.PICK_PICTURE, rows, format_func=partial(_name, atlas), key=pick)
    return picks


def _colour_by(found: list[Atlas]) -> str:
    common = [c for c in found[0].columns if all(c in a.columns for a in found)]
    return str(st.selectbox(text.COLOUR_BY, common, format_func=short, key="map_by"))


def _map(desk: frame.Desk, entry: records.Entry, atlas: Atlas, by: str, pick: str) -> None:
    named, levels = atlas_room.kinds(atlas.columns[by])
    parts = nearness.components(atlas.rows)
    row = int(st.session_state[pick])
    counts = Counter(named)
    told_kinds = ", ".join(text.KIND_ALT.format(n=counts[v], level=short(v)) for v in levels)
    axes = [text.COMPONENT.format(k=k + 1, percent=100 * s) for k, s in enumerate(parts.share)]
    figure = charts.cloud(parts.points, named, levels, row, (axes[0], axes[1], text.THIS_ONE))
    plot = f"map_plot_{pick}_{frame.tag(entry.path)}"
    st.plotly_chart(
        figure,
        config=charts.QUIET,
        alt=text.MAP_ALT.format(n=len(atlas), by=short(by), kinds=told_kinds),
        key=plot,
        on_select=partial(_pointed, plot, pick),
        selection_mode="points",
    )
    _picture(desk, entry, atlas, row, pick)


def _pointed(plot: str, pick: str) -> None:
    """Take the point that was clicked to hand."""
    points = st.session_state[plot]["selection"]["points"]
    if points:
        told_row = points[0].get("customdata")
        row = told_row[0] if isinstance(told_row, list | tuple) else told_row
        if isinstance(row, int | float):
            st.session_state[pick] = int(row)


def _choose(pick: str, row: int) -> None:
    st.session_state[pick] = row


def _name(atlas: Atlas, row: int) -> str:
    image, place = atlas.keys[row]
    words = text.PICTURE_NAME if place < 0 else text.PICTURE_NAME_SLICE
    patient = short(atlas.patient[row])
    return words.format(k=row + 1, image=short(image), slice=place, patient=patient)


def _picture(desk: frame.Desk, entry: records.Entry, atlas: Atlas, row: int, pick: str) -> None:
    near = nearness.neighbours(atlas.rows, row, atlas.image, NEAREST)
    try:
        store: Store | None = atlas_room.open_pictures(entry)
    except MedsslError as error:
        told.trouble(error)
        store = None
    thumbs = _thumbs(store, atlas, [row, *(k for k, _ in near)])
    label, site, split = (_words(atlas, n, row) for n in (text.LABEL, text.SITE, text.SPLIT))
    patient = frame.escape(atlas.patient[row])
    one, facts = st.columns([1, 2])
    with one:
        _thumb(thumbs[0], atlas, row)
    with facts:
        st.markdown(text.PICTURE_FACTS.format(patient=patient, label=label, site=site, split=split))
        review = desk.review
        key = atlas.keys[row]
        mine = review is not None and review.run.path == entry.path and key in review.place
        if mine and st.button(text.OPEN_VIEWER, key=f"open_{pick}_{frame.tag(entry.path)}"):
            frame.open_case(key)
    st.subheader(text.NEIGHBOURS)
    for start in range(0, len(near), 3):
        for column, place in zip(st.columns(3), range(start, start + 3), strict=True):
            if place < len(near):
                with column:
                    _neighbour(atlas, (row, *near[place]), place + 1, thumbs[place + 1])
                    key = f"near_{pick}_{frame.tag(entry.path)}_{place}"
                    other = near[place][0]
                    st.button(text.SHOW_ON_MAP, key=key, on_click=_choose, args=(pick, other))


def _neighbour(atlas: Atlas, pair: tuple[int, int, float], rank: int, thumb: Any) -> None:
    row, other, cosine = pair
    _thumb(thumb, atlas, other)
    same = atlas.patient[other] == atlas.patient[row]
    whose = text.SAME_PATIENT if same else text.OTHER_PATIENT
    label = _words(atlas, text.LABEL, other)
    st.caption(text.NEIGHBOUR.format(rank=rank, cosine=cosine, whose=whose, label=label))


def _words(atlas: Atlas, column: str, row: int) -> str:
    value = atlas.columns[column][row]
    return text.NOT_KNOWN if value is None else frame.escape(value)


def _thumbs(store: Store | None, atlas: Atlas, rows: list[int]) -> list[Any]:
    if store is None:
        return [None] * len(rows)
    try:
        return list(atlas_room.thumbnails(store, [atlas.keys[k] for k in rows]))
    except MedsslError as error:
        told.trouble(error)
        return [None] * len(rows)


def _thumb(picture: Any, atlas: Atlas, row: int) -> None:
    if picture is None:
        return
    label = atlas.columns[text.LABEL][row]
    words = text.PICTURE_ALT.format(
        image=short(atlas.keys[row][0]),
        patient=short(atlas.patient[row]),
        label=text.NOT_KNOWN if label is None else short(label),
    )
    st.image(picture, width=THUMB, alt=words)


def _numbers(atlas: Atlas, side: str) -> None:
    st.subheader(text.NUMBERS)
    found = nearness.retrieval(atlas.rows, atlas.patient, atlas.image)
    rows = [_retrieved(f) for f in found]
    if not found:
        st.info(text.NO_QUERIES)
    rank = {
        text.MEASURE: text.RANK,
        text.VALUE: f"{nearness.components(atlas.rows).rank:.1f}",
        text.INTERVAL: "",
        text.BY_CHANCE: text.OF_WIDTH.format(n=min(len(atlas) - 1, atlas.rows.shape[1])),
    }
    st.dataframe([*rows, rank], hide_index=True, alt=text.NUMBERS_ALT, key=f"map_numbers_{side}")
    asked = text.QUERIES.format(n=found[0].queries, patients=found[0].patients) if found else ""
    st.caption(" ".join((text.RETRIEVAL_WHY, asked)).strip())


def _retrieved(one: nearness.Found) -> dict[str, str]:
    i = one.interval
    limits = "" if i.lower is None or i.upper is None else f"{i.lower:.3f} to {i.upper:.3f}"
    return {
        text.MEASURE: text.RETRIEVAL.format(k=one.k),
        text.VALUE: "" if i.value is None else f"{i.value:.3f}",
        text.INTERVAL: limits,
        text.BY_CHANCE: f"{one.chance:.3f}",
    }


def _readable(entries: list[records.Entry], entry: records.Entry, side: str) -> None:
    """Draw what a linear classifier reads from the encoder, from an evaluation's report."""
    st.subheader(text.READABLE)
    tests = [e for e in entries if e.verb == "evaluate" and (e is entry or _tests(e, entry.path))]
    for test in tests:
        rows = _report_rows(test)
        if rows:
            st.markdown(text.READABLE_WHY.format(run=frame.escape(test.name)))
            alt = text.READABLE_ALT.format(n=len(rows))
            st.dataframe(rows, hide_index=True, alt=alt, key=f"map_readable_{side}")
            return
    st.info(text.NO_READABLE)


def _tests(test: records.Entry, path: Path) -> bool:
    return path.resolve() in {p.resolve() for p in test.parents("classifier.json")}


def _report_rows(test: records.Entry) -> list[dict[str, str]]:
    file = test.path / "report.json"
    try:
        with records.reading(file):
            report = json.loads(file.read_text(encoding="utf-8"))
            return [
                _readable_row(r) for r in report["shortcuts"]["readable"] if r["value"] is not None
            ]
    except MedsslError:
        return []


def _readable_row(row: dict[str, Any]) -> dict[str, str]:
    low, high = row.get("lower"), row.get("upper")
    return {
        text.ENCODER: short(row["encoder"]),
        text.WHAT: short(row["what"]),
        text.VALUE: f"{row['value']:.3f}",
        text.INTERVAL: "" if low is None or high is None else f"{low:.3f} to {high:.3f}",
        text.COUNTED: short(row.get("patients", "")),
    }


def _efficiency(entry: records.Entry) -> None:
    st.subheader(text.EFFICIENCY)
    file = entry.path / "curve.parquet"
    if not file.is_file():
        st.info(text.NO_CURVE)
        return
    try:
        table = records.table(file, "init", "mode", "patients", "metric", "value", "lower", "upper")
    except MedsslError as error:
        told.trouble(error)
        return
    rows = [
        r for r in table.to_pylist()
        if r["value"] is not None and r["patients"] and r.get("level", "image") == "image"
    ]  # fmt: skip
    lines = _lines(rows)
    if not lines:
        st.info(text.NO_CURVE)
        return
    metric = short(rows[0]["metric"])
    spans = "; ".join(
        text.LINE_ALT.format(
            name=line.label, first=line.y[0], last=line.y[-1], low=line.x[0], high=line.x[-1]
        )
        for line in lines
    )
    alt = text.EFFICIENCY_ALT.format(metric=metric, lines=spans)
    axes = (text.LABELLED_PATIENTS, text.TEST_METRIC.format(metric=metric))
    name = f"curve{frame.tag(entry.path)}"
    with st.container(width=FIGURE):
        frame.picture(
            figures_curves.lines(name, lines, alt, axes, logarithmic=True, direct=True), alt
        )
    with st.expander(text.AS_TABLE.format(what=text.EFFICIENCY)):
        st.dataframe(rows, hide_index=True, alt=alt, key=f"map_curve_{name}")


def _lines(rows: list[dict[str, Any]]) -> list[figures_curves.Line]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda r: r["patients"]):
        name = text.CURVE_NAME.format(init=short(row["init"]), mode=short(row["mode"]))
        grouped.setdefault(name, []).append(row)
    return [
        figures_curves.Line(
            n, *([r[k] for r in part] for k in ("patients", "value", "lower", "upper"))
        )
        for n, part in grouped.items()
    ]
