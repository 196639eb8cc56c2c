"""Label tables joined to images, by the most specific key they carry, and reported."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medssl.cohort.privacy import normalise_id
from medssl.errors import NothingUsableError, UsageError
from medssl.files import atomic, read_table

WHOLE = -1
MAX_VALUES = 20
LEAST_ROWS = 4
# Most specific first: the first key column found decides.
KEYS = {
    "sop_uid": ("sop_instance_uid", "sopinstanceuid", "sop_uid"),
    "file": ("file", "path", "filename", "image"),
    "series_uid": ("series_instance_uid", "seriesinstanceuid", "series_uid"),
    "accession": ("accession_number", "accessionnumber", "accession"),
    "study_uid": ("study_instance_uid", "studyinstanceuid", "study_uid"),
    "patient_id": ("patient_id", "patientid", "participant_id", "subject", "patient"),
}
SLICE = ("slice", "slice_index")
IDENTIFYING = re.compile(
    r"name|birth|dob|mrn|nhs|ssn|insur|versich|address|phone|mail|date|uid|number|nummer|(^|_)id$|_nr$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class JoinReport:
    """What became of one label table."""

    table: str
    key: str
    rows: int
    joined: int
    orphans: int
    columns: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)


def _find(columns: list[str], names: tuple[str, ...]) -> str | None:
    lower = {c.lower().strip(): c for c in columns}
    return next((lower[n] for n in names if n in lower), None)


def key_columns(columns: list[str]) -> tuple[str, str, str | None]:
    """Return (key kind, its column, the slice column or None).

    Raises:
        UsageError: no column names an image, a study or a patient.
    """
    for kind, names in KEYS.items():
        found = _find(columns, names)
        if found is not None:
            return kind, found, _find(columns, SLICE)
    known = ", ".join(names[0] for names in KEYS.values())
    words = f"none of the columns {columns} names an image or patient; rename one to: {known}."
    raise UsageError(words, "E-LABEL-KEY")


def _label_columns(
    rows: list[dict[str, str]], wanted: tuple[str, ...], name: str
) -> tuple[list[str], dict[str, str]]:
    columns = list(rows[0])
    known = {name for names in (*KEYS.values(), SLICE) for name in names}
    taken = {c for c in columns if c.lower() in known}
    patient = _find(columns, KEYS["patient_id"])
    if wanted:
        absent = [w for w in wanted if w not in columns]
        if absent:
            words = f"{name}: no column {absent}; it has {columns}."
            raise UsageError(words, "E-LABEL-COLUMN")
        return [w for w in wanted if w in columns], {}
    keep, out = [], {}
    for column in (c for c in columns if c not in taken):
        values = {row[column] for row in rows} - {""}
        if IDENTIFYING.search(column):
            out[column] = "its name says it may identify; name it with --label to take it"
        elif len(values) > min(MAX_VALUES, len(rows) // LEAST_ROWS):
            out[column] = f"{len(values)} different values; name it with --label to take it"
        elif len(values) > 2 and patient is not None and _one_patient_each(rows, column, patient):
            out[column] = "each value belongs to one patient; name it with --label to take it"
        else:
            keep.append(column)
    return keep, out


def _one_patient_each(rows: list[dict[str, str]], column: str, patient: str) -> bool:
    owners: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row[column]:
            owners[row[column]].add(row[patient])
    return all(len(found) == 1 for found in owners.values())


Item = tuple[str, int]
Index = dict[str, dict[str, list[Item]]]


def join(
    path: Path, index: Index, depth: dict[str, int], wanted: tuple[str, ...] = ()
) -> tuple[dict[Item, dict[str, str]], JoinReport]:
    """Join one table to images.

    Args:
        path: CSV or TSV, read as text.
        index: for every key kind, the images (or single planes of them) behind each key value.
        depth: number of planes of every image.
        wanted: label columns to take; empty takes those with few values.

    Returns:
        Labels by (image_id, slice), slice -1 for the whole image, and the report.

    Raises:
        UsageError: no key column, conflicts (all of them named by line), or a broken slice number.
    """
    rows = read_table(path)
    if not rows:
        raise UsageError(f"{path.name}: a header and no rows.", "E-TABLE")
    kind, key, slice_column = key_columns(list(rows[0]))
    columns, left_out = _label_columns(rows, wanted, path.name)
    found: dict[Item, dict[str, str]] = defaultdict(dict)
    lines: dict[tuple[Item, str], int] = {}
    problems: list[str] = []
    orphans = 0
    for number, row in enumerate(rows, start=2):
        place = _slice_of(row, slice_column, path.name, number, problems)
        found_here = index.get(kind, {}).get(normalise_id(row[key]), [])
        if kind == "file" and len({image for image, _ in found_here}) > 1:
            words = f"{path.name}, line {number}: {len(found_here)} files have that name; give the path."
            problems.append(words)
            continue
        items = [(i, at if place == WHOLE else place) for i, at in found_here if place < depth[i]]
        orphans += not items
        for item in items:
            for column in columns:
                value = row[column]
                if value == "":
                    continue
                old = found[item].setdefault(column, value)
                first = lines.setdefault((item, column), number)
                if old != value:
                    problems.append(
                        f"{path.name}, lines {first} and {number}: {column} is {old!r} and "
                        f"{value!r} for the same image ({item[0]}); decide which is right."
                    )
    if problems:
        raise UsageError(problems[:20], "E-LABEL-CONFLICT")
    shown = f"{kind} + slice" if slice_column is not None else kind
    report = JoinReport(
        path.name, shown, len(rows), len(rows) - orphans, orphans, tuple(columns), left_out
    )
    return dict(found), report


def merge(tables: list[dict[Item, dict[str, str]]]) -> dict[Item, dict[str, str]]:
    """Return the labels of several tables as one.

    Raises:
        UsageError: two tables give one image two values of one column.
    """
    out: dict[Item, dict[str, str]] = defaultdict(dict)
    problems = []
    for table in tables:
        for item, values in table.items():
            for column, value in values.items():
                if out[item].setdefault(column, value) != value:
                    problems.append(f"two label tables give {item[0]} two values of {column}.")
    if problems:
        raise UsageError(problems[:20], "E-LABEL-CONFLICT")
    return dict(out)


def _slice_of(
    row: dict[str, str], column: str | None, name: str, number: int, problems: list[str]
) -> int:
    if column is None or row[column] == "":
        return WHOLE
    if not row[column].isdigit():
        problems.append(
            f"{name}, line {number}: slice {row[column]!r} is not a whole number from 0."
        )
        return WHOLE
    return int(row[column])


def write(root: Path, labels: dict[Item, dict[str, str]]) -> None:
    """Write ``labels.parquet``: image_id, slice, and one text column per label."""
    columns = sorted({c for values in labels.values() for c in values})
    keys = sorted(labels)
    data: dict[str, Any] = {
        "image_id": pa.array([image for image, _ in keys], pa.string()),
        "slice": pa.array([place for _, place in keys], pa.int32()),
    }
    for column in columns:
        data[column] = pa.array([labels[key].get(column) for key in keys], pa.string())
    with atomic(root / "labels.parquet") as out:
        pq.write_table(pa.table(data), out)


def read(root: Path, target: str) -> dict[Item, str]:
    """Return the values of one label column by (image_id, slice).

    Raises:
        NothingUsableError: the cohort has no labels, or no such column.
    """
    path = root / "labels.parquet"
    if not path.is_file():
        words = f"{root}: has no labels; add them with: medssl scan ... --labels FILE --update"
        raise NothingUsableError(words, "E-NOLABELS")
    table = pq.read_table(path)
    names = [n for n in table.column_names if n not in {"image_id", "slice"}]
    if target not in names:
        words = f"{root}: no label {target!r}; the label table has {', '.join(names) or 'none'}."
        raise NothingUsableError(words, "E-NOLABEL")
    rows = zip(*(table.column(n).to_pylist() for n in ("image_id", "slice", target)), strict=True)
    return {(image, place): value for image, place, value in rows if value is not None}


def available(root: Path) -> list[str]:
    """Return the names of the cohort's labels; none where it has no label table."""
    path = root / "labels.parquet"
    if not path.is_file():
        return []
    return [n for n in pq.read_schema(path).names if n not in {"image_id", "slice"}]


def lookup(labels: dict[Item, str], image: str, place: int) -> str | None:
    """Return the label of one stored item: its own slice's first, then its image's."""
    return labels.get((image, place), labels.get((image, WHOLE)))
