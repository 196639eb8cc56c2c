"""Sections about what the model might read instead of disease, and what would mend it."""

from typing import Any

from medssl.evaluate.report.figures import Bar, Mark, dots, forest
from medssl.evaluate.report.figures_curves import Line, lines
from medssl.evaluate.report.page import (
    Figure,
    Material,
    Section,
    Table,
    absent,
    clean,
    finding,
    listed,
    number,
    p_cell,
    section,
    span,
    table,
)

Row = dict[str, Any]
MOST_BARS = 25


def shortcuts(material: Material) -> Section:
    """Return what can be read where it should not be."""
    report = material.report
    part = report["shortcuts"]
    title = "Shortcuts: what might the model read instead of disease?"
    words = [
        "A network can score well by the machine, the border or the exposure instead of by disease. An "
        "AUROC of 0.5 says that something cannot be read; a high one says that it can be, not that the "
        "model uses it.",
    ]
    tables = [_readable(part), _identity(part), _simple(report), _cues(report), _masks(report)]
    figures = [_readable_figure(part), _mask_figure(report)]
    if not any(t.rows for t in tables):
        return absent(
            "shortcuts", title, "Not run: neither pictures of both hospitals nor labels are here."
        )
    return section("shortcuts", title, words, figures, tables, part["sentences"])


def _readable(part: Row) -> Table:
    rows = [(r["encoder"], r["what"], span(r), number(r["patients"])) for r in part["readable"]]
    header = ("encoder", "what is read", "AUROC (95 % interval)", "patients")
    return table(
        "What can be read from the embedding, on patients the reader did not see", header, rows
    )


def _identity(part: Row) -> Table:
    rows = [(r["encoder"], span(r), number(r["chance"])) for r in part["identity"]]
    caption = "Share of images whose nearest neighbour is the same patient's: who is it?"
    return table(caption, ("encoder", "share (95 % interval)", "by chance"), rows)


def _simple(report: Row) -> Table:
    rows = [
        (r["encoder"], finding(report, r["class"]), span(r), number(r["patients"]))
        for r in report["shortcuts"]["simple"]
    ]
    caption = "The finding told from plain figures of the pixels, on patients they did not see"
    return table(caption, ("figures", "class", "AUROC (95 % interval)", "patients"), rows)


def _cues(report: Row) -> Table:
    rows = [
        (
            r["figure"].replace("_", " "),
            finding(report, r["class"]),
            span(r),
            p_cell(r["p_adjusted"]),
        )
        for r in report["shortcuts"]["cues"]
    ]
    caption = (
        "The finding told from one figure alone (0.5 is not at all; below 0.5: the other way round)"
    )
    return table(caption, ("figure", "class", "AUROC (95 % interval)", "p (Holm)"), rows)


def _masks(report: Row) -> Table:
    rows = [
        (
            r["mask"],
            r["hospital"],
            finding(report, r["class"]),
            span(r),
            span(r, 3, "difference"),
            p_cell(r["p"]),
        )
        for r in report["shortcuts"]["masks"]
    ]
    header = ("what is hidden", "hospital", "class", "AUROC (95 % interval)", "change", "p")
    return table("The model with a part of every picture hidden", header, rows)


def _readable_figure(part: Row) -> Figure | None:
    found = [r for r in part["readable"] if r["value"] is not None]
    if not found:
        return None
    whats = list(dict.fromkeys(r["what"] for r in found))
    series: Any = {
        encoder: [
            next(
                (
                    (r["value"], r["lower"], r["upper"])
                    for r in found
                    if (r["encoder"], r["what"]) == (encoder, w)
                ),
                None,
            )
            for w in whats
        ]
        for encoder in dict.fromkeys(r["encoder"] for r in found)
    }
    words = "What can be read from the embedding of every encoder of the chain; the numbers are in the table."
    picture = dots(
        "readable", whats, series, words, "AUROC with 95 % interval", (Mark(0.5, "not at all"),)
    )
    return Figure(
        picture, "What can be read from the embedding, from random weights to the last encoder."
    )


def _mask_figure(report: Row) -> Figure | None:
    found = [r for r in report["shortcuts"]["masks"] if r["value"] is not None]
    if not found:
        return None
    bars = [
        Bar(_masked(report, r), r["value"], r["lower"], r["upper"], r["hospital"] == "source")
        for r in found
    ]
    words = "AUROC with a part of every picture hidden; the numbers are in the table."
    picture = forest(
        "masks",
        bars[:MOST_BARS],
        words,
        "AUROC with 95 % interval",
        (Mark(0.5, "a coin"),),
        (0.4, 1.0),
    )
    return Figure(
        picture, "AUROC with the border or the centre hidden; squares: the source, circles: here."
    )


def _masked(report: Row, r: Row) -> str:
    return f"{r['hospital']}, {clean(r['mask'])}: {finding(report, r['class'])}"


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
    ]
    tables = [_remedy_table(part), _reach(part)]
    return section("remedies", title, words, [_remedy_figure(report)], tables)


def _remedy_table(part: Row) -> Table:
    rows = []
    for r in part["rows"]:
        name = clean(r["remedy"])
        start = " ".join(clean(r[k]) for k in ("start", "mode") if r[k])
        gaps = (
            span(r, 3, "against_original"),
            p_cell(r.get("against_original_p")),
            span(r, 3, "against_scratch"),
        )
        rows.append((name, start, number(r["labelled_patients"]), span(r), *gaps))
    header = ("remedy", "start and mode", "labelled patients", "AUROC (95 % interval)", "less the original", "p",
              "less training from scratch")  # fmt: skip
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


def _remedy_figure(report: Row) -> Figure | None:
    part = report["remedies"]
    found: dict[str, list[Row]] = {}
    for r in part["rows"]:
        if r["labelled_patients"] > 0 and r["value"] is not None:
            found.setdefault(
                f"{clean(r['remedy'], 20)}: {clean(r['start'], 20)} {clean(r['mode'], 12)}", []
            ).append(r)
    if not found:
        return None
    shown = []
    for name, rows in found.items():
        rows.sort(key=lambda r: r["labelled_patients"])
        x, y, low, high = (
            [r[k] for r in rows] for k in ("labelled_patients", "value", "lower", "upper")
        )
        shown.append(Line(name, x, y, low, high))
    original = next((r["value"] for r in part["rows"] if not r["labelled_patients"]), None)
    levels = [(part["source_auroc"], "source's own"), (original, "original model here"),
              (report["settings"]["floor_auroc"], "floor")]  # fmt: skip
    known = [(v, words) for v, words in levels if v is not None]
    names = ("locally labelled patients", "AUROC with 95 % interval")
    words = f"AUROC by number of locally labelled patients for {listed(found)}."
    picture = lines("remedies", shown, words, names, known, logarithmic=True)
    return Figure(
        picture, "What local labels bring: AUROC by number of labelled patients (log scale)."
    )
