"""Accounts that must add up: found = indexed + skipped + quarantined, and a file behind each image."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from medssl.check.health import Finding, Section, Table, finding

CODE = "H-ACCOUNTS"
STATES = ("indexed", "skipped", "quarantined")
AGAIN = "Scan again with --update; if that does not help, scan into a new folder."


def check(root: Path, manifest: pa.Table) -> Section:
    """Recompute the accounts of a cohort.

    Args:
        root: the cohort's folder.
        manifest: its table of images.
    """
    record = root / "cohort.json"
    told = json.loads(record.read_text()) if record.is_file() else None
    files = _text_table(root / "private" / "files.csv")
    aside = _text_table(root / "quarantine.csv")
    problems: list[Finding] = []
    if told is None:
        words = "cohort.json is not here, so the counts of the scan cannot be compared. {do}"
        problems.append(finding("warn", CODE, words, do=AGAIN))
    else:
        problems += _recorded(told, manifest, aside)
    if files is not None:
        problems += _files(files, told, manifest)
    tables = [] if aside is None else [_reasons(aside)]
    if told is not None:
        rows = tuple((name, told.get(name)) for name in ("found", *STATES))
        tables.insert(0, Table("Files found by the scan", ("verdict", "files"), rows))
    return Section((*problems,) if problems else (_adds_up(told, files),), tuple(tables))


def _adds_up(told: dict[str, Any] | None, files: pa.Table | None) -> Finding:
    words = "{found} files found = {indexed} indexed + {skipped} skipped + {quarantined} quarantined; {how}."
    how = (
        "private/files.csv is not here, so single files were not counted"
        if files is None
        else "private/files.csv has a line for each of them"
    )
    return finding("ok", CODE, words, how=how, **{n: (told or {})[n] for n in ("found", *STATES)})


def _recorded(told: dict[str, Any], manifest: pa.Table, aside: pa.Table | None) -> list[Finding]:
    out = []
    total = sum(told[state] for state in STATES)
    if total != told["found"]:
        words = "cohort.json: {found} files found, but indexed, skipped and quarantined are {total}. {do}"
        out.append(finding("stop", CODE, words, found=told["found"], total=total, do=AGAIN))
    if told["images"] != manifest.num_rows:
        words = "cohort.json counts {told} images and manifest.parquet holds {here}. {do}"
        out.append(
            finding("stop", CODE, words, told=told["images"], here=manifest.num_rows, do=AGAIN)
        )
    if aside is not None:
        here = pc.sum(pc.equal(aside["stage"], "scan")).as_py() or 0
        wanted = told["skipped"] + told["quarantined"]
        if here != wanted:
            words = (
                "quarantine.csv lists {here} files of the scan, cohort.json counts {wanted}. {do}"
            )
            out.append(finding("warn", CODE, words, here=here, wanted=wanted, do=AGAIN))
    return out


def _files(files: pa.Table, told: dict[str, Any] | None, manifest: pa.Table) -> list[Finding]:
    column = files[_verdict(files)]
    counts = {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}
    out = []
    lost = files.num_rows - sum(counts.get(state, 0) for state in STATES)
    if lost:
        words = "private/files.csv: {lost} files have no verdict, so what became of them is unknown. {do}"
        out.append(finding("stop", CODE, words, lost=lost, do=AGAIN))
    if told is not None and (words := _disagreement(told, counts, files.num_rows)):
        out.append(finding("stop", CODE, words + " {do}", do=AGAIN))
    behind = pc.is_in(manifest["image_id"], value_set=pc.unique(files["image_id"]))
    orphans = manifest["image_id"].filter(pc.invert(behind))
    if len(orphans):
        words = "{n} images of the manifest have no file behind them in private/files.csv. {do}"
        out.append(finding("stop", CODE, words, _head(orphans), n=len(orphans), do=AGAIN))
    return out


def _disagreement(told: dict[str, Any], counts: dict[str, int], total: int) -> str:
    """Return how files.csv contradicts cohort.json; decoding may have set indexed files aside."""
    moved = told["indexed"] - counts.get("indexed", 0)
    same = (
        total == told["found"]
        and moved >= 0
        and counts.get("skipped", 0) == told["skipped"]
        and counts.get("quarantined", 0) == told["quarantined"] + moved
    )
    if same:
        return ""
    here = ", ".join(f"{counts.get(state, 0):,} {state}" for state in STATES)
    scan = ", ".join(f"{told[state]:,} {state}" for state in STATES)
    return f"private/files.csv has {here}; cohort.json counts {scan}."


def _head(column: pa.ChunkedArray) -> list[str]:
    return column.slice(0, 20).to_pylist()  # type: ignore[no-any-return]


def _reasons(aside: pa.Table) -> Table:
    keys = ["stage", _verdict(aside), "code"]
    groups = aside.group_by(keys).aggregate([("file_id", "count"), ("reason", "min")])
    rows = [
        (r["code"], r["stage"], r[keys[1]], r["file_id_count"], r["reason_min"])
        for r in groups.sort_by([("file_id_count", "descending")]).to_pylist()
    ]
    return Table(
        "Files set aside", ("code", "stage", "verdict", "files", "for example"), tuple(rows)
    )


def _verdict(table: pa.Table) -> str:
    return "verdict" if "verdict" in table.column_names else "state"


def _text_table(path: Path) -> pa.Table | None:
    """Read a CSV of ours, every cell as text; None where it is not there."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as stream:
        names = [name.strip().strip('"') for name in stream.readline().split(",")]
    with csv.open_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    ) as reader:
        return reader.read_all()
