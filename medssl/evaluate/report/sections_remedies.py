"""The section about remedies: what local labels or local training would bring."""

from typing import Any

from medssl.evaluate.report.figures_curves import Line, lines
from medssl.evaluate.report.page import (
    Figure,
    Material,
    Section,
    Table,
    absent,
    clean,
    listed,
    number,
    p_cell,
    section,
    span,
    table,
)

Row = dict[str, Any]
ORIGINAL = "original model"
BASES = ("pixels", "scratch")
"""Starts that take nothing from pretraining."""

EVERY = "every remedy"
NEAR = 0.9
"""A budget of at least this share of a larger one is the same budget."""

LEGEND = (
    "Starts: 'pixels' is no encoder, raw pixels of 16 x 16; 'scratch' is the same network with random "
    "weights; 'pretrained' is the run's own encoder. 'Linear' trains the last layer only, 'finetune' all. "
    "AUROCs are averages over folds, so the original's differs a little from that of the ranking section."
)


def remedies(material: Material) -> Section:
    """Return what local labels or local pretraining would bring."""
    report = material.report
    part = report["remedies"]
    title = "Remedies: what would local labels or local training bring?"
    if not part or not part["rows"]:
        return absent(
            "remedies", title, "Not run: no local run was given to compare (--compare NAME=RUN)."
        )
    words = [
        "Every remedy and the original model are judged on the same patients, none of whom the remedy "
        "saw; differences are paired over the same draws of patients.",
        LEGEND,
    ]
    rows = merged(part["rows"])
    tables = [_remedy_table(rows), _reach(part)]
    return section("remedies", title, words, [_remedy_figure(report, rows)], tables)


def merged(rows: list[Row]) -> list[Row]:
    """Return the rows to show: near budgets once (the larger), equal baselines of all remedies once."""
    names = list(dict.fromkeys(r["remedy"] for r in rows))
    kept = [r for r in rows if not _smaller_twin(r, rows)]
    found: dict[tuple[Any, ...], list[Row]] = {}
    for r in kept:
        same = _baseline(r) if r["start"] in (*BASES, ORIGINAL) else (id(r),)
        found.setdefault(same, []).append(r)
    out = []
    for same_rows in found.values():
        everywhere = len(names) > 1 and len({r["remedy"] for r in same_rows}) == len(names)
        out += [{**same_rows[0], "remedy": EVERY}] if everywhere else same_rows
    place = {name: k for k, name in enumerate([EVERY, *names])}
    return sorted(out, key=lambda r: place[r["remedy"]])


def _baseline(r: Row) -> tuple[Any, ...]:
    numbers = (r[k] if r[k] is None else round(r[k], 6) for k in ("value", "lower", "upper"))
    return (r["start"], r["mode"], r["labelled_patients"], *numbers)


def _smaller_twin(r: Row, rows: list[Row]) -> bool:
    where = ("remedy", "start", "mode")
    return any(
        all(r[k] == other[k] for k in where)
        and NEAR * other["labelled_patients"] <= r["labelled_patients"] < other["labelled_patients"]
        for other in rows
    )


def _remedy_table(shown: list[Row]) -> Table:
    rows = []
    for r in shown:
        start = " ".join(clean(r[k]) for k in ("start", "mode") if r[k])
        gaps = (
            span(r, 3, "against_original"),
            p_cell(r.get("against_original_p")),
            span(r, 3, "against_scratch"),
        )
        counts = (number(r["labelled_patients"]), number(r["images"]))
        rows.append((clean(r["remedy"]), start, *counts, span(r), *gaps))
    header = ("remedy", "start, mode", "labelled patients", "n, images judged", "AUROC (95 % interval)",
              "less the original", "p", "less scratch")  # fmt: skip
    return table("Local runs beside the original model", header, rows)


def _reach(part: Row) -> Table:
    rows = []
    for r in part["reach"]:
        start = f"{clean(r['remedy'])}: {clean(r['start'])} {clean(r['mode'])}"
        most = f"more than {r['most_tried']}"
        rows.append(
            (
                start,
                *(most if r[k] is None else number(r[k]) for k in ("patients", "lower", "upper")),
            )
        )
    header = ("remedy", "patients", "at best", "at worst")
    return table(
        "Locally labelled patients until the source's own AUROC is reached (95 % interval)",
        header,
        rows,
    )


def _remedy_figure(report: Row, rows: list[Row]) -> Figure | None:
    part = report["remedies"]
    modes = {r["mode"] for r in rows if r["mode"]}
    found: dict[str, list[Row]] = {}
    for r in rows:
        if r["labelled_patients"] > 0 and r["value"] is not None:
            mode = f" {clean(r['mode'], 12)}" if len(modes) > 1 else ""
            whose = "" if r["remedy"] == EVERY else f"{clean(r['remedy'], 20)}: "
            found.setdefault(f"{whose}{clean(r['start'], 20)}{mode}", []).append(r)
    if not found:
        return None
    shown = []
    for name, mine in found.items():
        mine.sort(key=lambda r: r["labelled_patients"])
        x, y, low, high = (
            [r[k] for r in mine] for k in ("labelled_patients", "value", "lower", "upper")
        )
        shown.append(Line(name, x, y, low, high))
    original = next((r["value"] for r in part["rows"] if not r["labelled_patients"]), None)
    levels = [(part["source_auroc"], "source's own"), (original, "original model here"),
              (report["settings"]["floor_auroc"], "floor")]  # fmt: skip
    known = [(v, words) for v, words in levels if v is not None]
    names = ("locally labelled patients (log scale)", "AUROC with 95 % interval")
    words = f"AUROC by number of locally labelled patients for {listed(found)}."
    picture = lines("remedies", shown, words, names, known, logarithmic=True, direct=True)
    return Figure(picture, "What local labels bring: AUROC by number of labelled patients.")
