"""The external-validation report: one JSON, one self-contained HTML page, and its tables."""

from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.evaluate.verdict import RULES
from medssl.files import atomic, write_csv, write_json, write_text

SCHEMA = 1
TEMPLATE = Path(__file__).with_name("report.html.j2")
NAMES = {
    "auroc": "AUROC",
    "macro_auroc": "AUROC, mean over classes",
    "average_precision": "average precision",
    "prevalence": "prevalence",
    "sensitivity": "sensitivity at the source's threshold",
    "specificity": "specificity at the source's threshold",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "brier": "Brier score",
    "calibration_slope": "calibration slope",
    "observed_over_expected": "observed / expected",
}


def interval(row: dict[str, Any] | None) -> str:
    """Return a number with its interval, or why there is none."""
    if row is None:
        return "-"
    if row.get("value") is None:
        return row.get("note") or "not computable"
    if row.get("lower") is None:
        return f"{row['value']:.3f} (no interval: {row.get('note')})"
    return f"{row['value']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})"


def side_by_side(table: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the metrics of all sites together, source beside target."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table:
        if row["site"] == "all":
            found.setdefault((row["class"], row["metric"]), {})[row["cohort"]] = row
    return [
        {
            "metric": NAMES[metric],
            "class": name,
            "source": interval(pair.get("source")),
            "target": interval(pair.get("target")),
        }
        for (name, metric), pair in found.items()
    ]


def write(out: Path, report: dict[str, Any], figures: dict[str, Any]) -> None:
    """Write ``report.json``, ``report.html`` and ``tables/``.

    Args:
        out: the run directory.
        report: everything that was found; ``performance`` is a list of rows.
        figures: inline SVG by name, or by class and name.
    """
    write_json(out / "report.json", {"schema": SCHEMA, **report})
    write_tables(out / "tables", report["performance"])
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        rows=side_by_side(report["performance"]),
        sites=[r for r in report["performance"] if r["site"] != "all" and "auroc" in r["metric"]],
        interval=interval,
        names=NAMES,
        rules=RULES,
        figures=_markup(figures),
    )
    write_text(out / "report.html", page)


def write_tables(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the performance rows as parquet and CSV."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["metric"]
    table = pa.Table.from_pylist([{n: row.get(n) for n in names} for row in rows])
    if not rows:
        table = pa.table({"metric": pa.array([], pa.string())})
    with atomic(folder / "performance.parquet") as file:
        pq.write_table(table, file)
    lines = (["" if row.get(n) is None else row[n] for n in names] for row in rows)
    write_csv(folder / "performance.csv", names, lines)


def _markup(value: Any) -> Any:
    """Mark our own SVG as markup, at any depth; all other text of the page is escaped."""
    if isinstance(value, dict):
        return {name: _markup(inner) for name, inner in value.items()}
    return jinja2.filters.do_mark_safe(value) if isinstance(value, str) else value
