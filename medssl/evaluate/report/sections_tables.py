"""The report's tables as files: every number, Parquet and CSV, columns in a fixed order."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medssl.files import atomic, safe_cell, write_csv

Row = dict[str, Any]
NUMBER, TEXT, TRUTH = pa.float64(), pa.string(), pa.bool_()
INTERVAL = ("value", "lower", "upper")
TEXTS = {
    "attribute", "class", "cohort", "column", "covered", "criterion", "empty", "encoder", "events", "figure",
    "group",    "hospital", "images", "kind", "level", "levels", "mask", "meaning", "method", "metric", "mode",
    "n", "name", "note", "part", "patients", "patients_with", "patients_without", "remedy", "single", "site",
    "source_patients", "start", "unseen", "unsure", "what", "when",
}  # fmt: skip
"""Counts are text: one to four are '<5'."""
TRUTHS = {"picked", "enough"}


def _performance(report: Row) -> Iterable[Row]:
    return report["performance"]  # type: ignore[no-any-return]


def _groups(report: Row) -> Iterable[Row]:
    return report["groups"]["rows"]  # type: ignore[no-any-return]


def _columns(report: Row) -> Iterable[Row]:
    for row in report["shift"]["columns"]:
        shares = zip(
            row.get("levels", []),
            row.get("source_share", []),
            row.get("target_share", []),
            strict=True,
        )
        levels = "; ".join(f"{name}: {a:.4f} / {b:.4f}" for name, a, b in shares)
        unseen = "; ".join(f"{name}: {n}" for name, n in row.get("unseen", []))
        yield {**row, "levels": levels, "unseen": unseen}


def _points(report: Row) -> Iterable[Row]:
    for one in report["calibration"]:
        points = one["bands"].get("points", {})
        for k in range(len(points.get("predicted", []))):
            yield {
                "class": one["class"],
                "point": k + 1,
                **{key: v[k] for key, v in points.items()},
            }


def _updates(report: Row) -> Iterable[Row]:
    for one in report["calibration"]:
        for m in one["judged"].get("methods", []):
            row = {
                "class": one["class"],
                "method": m["method"],
                "picked": m["method"] == one["judged"]["best"],
            }
            for key in UPDATED:
                row |= {
                    key: m[key]["value"],
                    f"{key}_lower": m[key]["lower"],
                    f"{key}_upper": m[key]["upper"],
                }
            yield row


UPDATED = ("slope", "intercept", "oe", "brier", "ici", "log_loss")


def _decision(report: Row) -> Iterable[Row]:
    for one in report["calibration"]:
        curve = one["decision"]
        for k, at in enumerate(curve.get("threshold", [])):
            numbers = {key: None if curve[key] is None else curve[key][k] for key in CURVE}
            yield {"class": one["class"], "threshold": at, **numbers}


def _measures(report: Row) -> Iterable[Row]:
    for one in report["calibration"]:
        for name, row in (one.get("measures") or {}).items():
            if isinstance(row, dict):
                yield {"class": one["class"], "metric": name, **row}


CURVE = ("model", "lower", "upper", "treat_all", "gain", "gain_lower", "gain_upper", "standardised")


def _readable(report: Row) -> Iterable[Row]:
    part = report["shortcuts"]
    for row in [*part["readable"], *part["identity"], *part["simple"]]:
        yield {**row, "levels": "; ".join(row.get("levels", []))}


def _remedies(report: Row) -> Iterable[Row]:
    return (report["remedies"] or {}).get("rows", [])  # type: ignore[no-any-return]


def _sample_size(report: Row) -> Iterable[Row]:
    for one in report["sample_size"]:
        for when in ("before", "after"):
            for c in one.get(when, {}).get("criteria", []):
                yield {**c, "class": one["class"], "when": when, "criterion": c["name"]}


def _drift(report: Row) -> Iterable[Row]:
    for one in report["drift"]:
        total = one.get("cusum", {})
        path = dict(zip(total.get("months", []), total.get("path", []), strict=True))
        for m in one.get("months", []):
            yield {"class": one["class"], **m, "cusum": path.get(m["month"])}


GAP = ("difference", "difference_lower", "difference_upper", "p")
AGAINST = tuple(
    f"against_{a}{b}" for a in ("original", "scratch") for b in ("", "_lower", "_upper", "_p")
)

TABLES: dict[str, tuple[Callable[[Row], Iterable[Row]], tuple[str, ...]]] = {
    "performance": (
        _performance,
        ("cohort", "site", "level", "metric", "class", *INTERVAL, "n", "patients", "events", "se",
         "formula_lower", "formula_upper", "note"),
    ),
    "groups": (
        _groups,
        ("group", "level", "class", "metric", "images", "patients", "patients_with", *INTERVAL, *GAP,
         "p_adjusted", "note"),
    ),
    "columns": (
        _columns,
        ("column", "meaning", "kind", "smd", "ks", "wasserstein", "value_p", "source_absent",
         "target_absent", "absent_p", "chi2", "cramers_v", "levels", "unseen", "p", "p_adjusted",
         "permutations", "source_patients", "target_patients", "note"),
    ),
    "calibration_points": (
        _points,
        ("class", "point", "predicted", "observed", "lower", "upper", "n", "events", "patients"),
    ),
    "updates": (
        _updates,
        ("class", "method", "picked", *(f"{k}{e}" for k in UPDATED for e in ("", "_lower", "_upper"))),
    ),
    "decision_curve": (_decision, ("class", "threshold", *CURVE)),
    "measures": (_measures, ("class", "metric", *INTERVAL, "n", "patients", "note")),
    "cues": (
        lambda report: report["shortcuts"]["cues"],
        ("class", "figure", *INTERVAL, "patients", "p", "p_adjusted"),
    ),
    "readable": (_readable, ("encoder", "what", "class", "levels", *INTERVAL, "patients", "chance", "note")),
    "masks": (
        lambda report: report["shortcuts"]["masks"],
        ("hospital", "mask", "class", *INTERVAL, "patients", *GAP, "note"),
    ),
    "coverage": (
        lambda report: report["abstention"].get("coverage", []),
        ("part", "name", "patients", "covered", "coverage", "lower", "upper", "mean_size", "empty",
         "single", "unsure"),
    ),
    "remedies": (
        _remedies,
        ("remedy", "start", "mode", "labelled_patients", *INTERVAL, "images", *AGAINST, "note"),
    ),
    "sample_size": (
        _sample_size,
        ("class", "when", "criterion", "needed", "had", "enough", "target", "foreseen", "achieved", "note"),
    ),
    "drift": (
        _drift,
        ("class", "month", "n", "patients", "events", "expected", "oe", "lower", "upper", "auroc",
         "cusum", "note"),
    ),
    "flow": (lambda report: report["flow"], ("what", "images", "patients")),
    "participants": (
        lambda report: report["participants"],
        ("attribute", "level", "patients", "patients_with", "patients_without", "source_patients"),
    ),
}  # fmt: skip


def write_tables(folder: Path, report: Row) -> None:
    """Write every table of ``TABLES``; one without rows still has its columns.

    Args:
        folder: where to.
        report: the plain report.

    Raises:
        DiskError: no room.
    """
    for name, (rows_of, columns) in TABLES.items():
        rows = list(rows_of(report))
        table = pa.table(
            {c: pa.array([_cell(r.get(c), c) for r in rows], _kind(c)) for c in columns}
        )
        with atomic(folder / f"{name}.parquet") as out:
            pq.write_table(table, out)
        lines = (["" if (v := r.get(c)) is None else v for c in columns] for r in rows)
        write_csv(folder / f"{name}.csv", columns, lines)


def _kind(column: str) -> Any:
    if column in TRUTHS:
        return TRUTH
    return TEXT if column in TEXTS else NUMBER


def _cell(value: Any, column: str) -> Any:
    """Return a value of the column's kind; text that no spreadsheet runs, wherever it is opened."""
    if value is None or column in TRUTHS:
        return value
    # A lone surrogate is no UTF-8, which is all that Parquet holds.
    return safe_cell(value).encode(errors="replace").decode() if column in TEXTS else float(value)
