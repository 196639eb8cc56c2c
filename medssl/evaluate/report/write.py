"""The external-validation report: one JSON, one self-contained HTML page, its PDF, card and tables."""

from pathlib import Path
from typing import Any

import jinja2

from medssl.evaluate.inputs import Here, Question
from medssl.evaluate.reference import Reference
from medssl.evaluate.report import pdf, schema
from medssl.evaluate.report.page import Material, Page, interval
from medssl.evaluate.report.sections import page_of
from medssl.evaluate.report.sections_card import card_text
from medssl.evaluate.report.sections_performance import NAMES
from medssl.evaluate.report.sections_tables import write_tables
from medssl.files import write_json, write_text

__all__ = ["NAMES", "html_of", "interval", "side_by_side", "write", "write_tables"]

LONG_WORD = 24
TEMPLATE = Path(__file__).with_name("report.html.j2")


def side_by_side(table: list[dict[str, Any]], level: str = "image") -> list[dict[str, str]]:
    """Return the metrics of all sites together, source beside target.

    Args:
        table: rows of ``performance.rows``.
        level: ``image``, or ``patient`` for the mean chance of each patient's images.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table:
        if row["site"] == "all" and row.get("level", "image") == level:
            found.setdefault((row["class"], row["metric"]), {})[row["cohort"]] = row
    return [
        {
            "metric": NAMES.get(metric, metric),
            "class": name,
            "source": interval(pair.get("source")),
            "target": interval(pair.get("target")),
        }
        for (name, metric), pair in found.items()
    ]


def write(
    out: Path, report: dict[str, Any], reference: Reference, here: Here, question: Question
) -> str | None:
    """Write ``report.json``, ``report.html``, ``report.pdf``, ``CARD.md`` and ``tables/``.

    Args:
        out: the run directory.
        report: everything that was found, as plain data; see ``schema``.
        reference, here, question: the rows behind it, for the figures.

    Returns:
        The sentence why there is no PDF; None when it was written.

    Raises:
        MedsslError: the report lacks what it must hold; nothing was written.
        DiskError: no room.
    """
    told = {**report, "schema": schema.SCHEMA}
    schema.check(told)
    page = html_of(page_of(Material(report, reference, here, question)))
    card = card_text(report)
    write_json(out / "report.json", {"schema": schema.SCHEMA, **report})
    write_tables(out / "tables", report)
    write_text(out / "report.html", page)
    if card is not None:
        write_text(out / "CARD.md", card)
    if not report["settings"]["pdf"]:
        return "not asked for (pdf=false)"
    return pdf.write_pdf(page, out / "report.pdf")


def html_of(page: Page) -> str:
    """Return the page as HTML; all of its text is escaped, only our own SVG is markup.

    Args:
        page: the report as data.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False
    )
    # Only our own SVG: its text was escaped when it was drawn.
    environment.filters["own"] = jinja2.filters.do_mark_safe
    environment.filters["runs_on"] = _runs_on
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page=page)
    return text.rstrip() + "\n"


def _runs_on(cell: str) -> bool:
    """Return whether a word is too long for a column: only such a one is broken anywhere."""
    return any(len(word) > LONG_WORD for word in cell.split())
