"""The section about what the model might read instead of disease."""

from typing import Any

from medssl.evaluate.report.figures import Bar, Mark, dots, forest
from medssl.evaluate.report.page import (
    Figure,
    Material,
    Section,
    Table,
    absent,
    clean,
    finding,
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
        "What can be read from the embedding, on patients the reader did not see (hospital: patients of both, "
        "at the source of validation and test)",
        header,
        rows,
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
            number(r["patients"]),
        )
        for r in report["shortcuts"]["masks"]
    ]
    header = (
        "what is hidden",
        "hospital",
        "class",
        "AUROC (95 % interval)",
        "change",
        "p",
        "patients",
    )
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
