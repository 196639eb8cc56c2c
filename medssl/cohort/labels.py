"""Label tables joined to images, by the most specific key they carry, and reported."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medssl.cohort.label_schema import MAX_VALUES, RESERVED, UNCERTAIN, Cells, Schema, label_columns
from medssl.cohort.privacy import normalise_id
from medssl.cohort.sheets import SHOWN, Rows, numbered_rows, shown
from medssl.errors import NothingUsableError, UsageError
from medssl.files import atomic

WHOLE = -1
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
ALIASES = frozenset(name for names in (*KEYS.values(), SLICE) for name in names)
SLICE_NUMBER = re.compile(r"([0-9]{1,9})(?:\.0*)?")


@dataclass(frozen=True)
class JoinReport:
    """What became of one label table; rows = joined + orphans.

    Attributes:
        table, key: the table's name, and the kind of key that joined it.
        rows, joined, orphans: rows of the table, those with an image, those without.
        columns: label columns taken; left_out: the others, with the reason.
        orphan_lines: the first 20 rows without an image.
        images_without_row: images of the cohort that no row names; None where not asked.
        duplicate_rows: rows that repeat the key and every value of an earlier row.
        items: images or slices that rows named; per column they are the sum of ``values``,
            ``other_values``, ``uncertain`` and ``missing``.
        values: per column, how many items have each of the 20 commonest values.
        other_values: per column, how many items have a rarer value than those.
        uncertain, missing: per column, how many items are said to be so, or have a blank cell.
        mixed_patients: per column, patients whose images have several values: legitimate, but told.
        notes: sentences on what was not taken as it stands.
    """

    table: str
    key: str
    rows: int
    joined: int
    orphans: int
    columns: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    orphan_lines: tuple[int, ...] = ()
    images_without_row: int | None = None
    duplicate_rows: int = 0
    items: int = 0
    values: dict[str, dict[str, int]] = field(default_factory=dict)
    other_values: dict[str, int] = field(default_factory=dict)
    uncertain: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    mixed_patients: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def report_lines(report: JoinReport) -> list[str]:
    """Return a join report in lines for a person."""
    some = ", ".join(map(str, report.orphan_lines))
    more = ", ..." if report.orphans > len(report.orphan_lines) else ""
    without = f" (rows {some}{more})" if some else ""
    out = [
        f"labels {report.table}: {report.joined} of {report.rows} rows joined by {report.key}, "
        f"{report.orphans} without an image{without}; took {', '.join(report.columns) or 'no column'}"
    ]
    if report.images_without_row:
        out.append(f"  {report.images_without_row} images have no row")
    if report.duplicate_rows:
        out.append(f"  {report.duplicate_rows} rows repeat an earlier one and change nothing")
    for column in report.columns:
        counts = [f"{v} {n}" for v, n in report.values.get(column, {}).items()]
        parts = (
            ("other values", report.other_values),
            (UNCERTAIN, report.uncertain),
            ("missing", report.missing),
            ("patients with several values", report.mixed_patients),
        )
        counts += [f"{words} {found[column]}" for words, found in parts if found.get(column)]
        out.append(f"  {column}: {', '.join(counts) or 'no value'}")
    out += [f"  {note}" for note in report.notes]
    out += [f"  left out {column}: {reason}" for column, reason in report.left_out.items()]
    return out


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
    words = (
        f"none of the {len(columns)} names in the first line is that of an image or patient; rename one "
        f"to: {known}."
    )
    raise UsageError(words, "E-LABEL-KEY")


Item = tuple[str, int]
Index = dict[str, dict[str, list[Item]]]
Found = dict[Item, dict[str, str]]


def join(
    path: Path,
    index: Index,
    depth: dict[str, int],
    wanted: tuple[str, ...] = (),
    *,
    schema: Schema | None = None,
    images: Mapping[str, str] | None = None,
) -> tuple[Found, JoinReport]:
    """Join one table to images.

    Args:
        path: CSV, TSV or ``FILE.xlsx`` (``FILE.xlsx#Sheet``), read as text.
        index: for every key kind, the images (or single planes of them) behind each key value.
        depth: number of planes of every image.
        wanted: label columns to take; empty takes those with few values, and those of the schema.
        schema: what columns may hold; the others may hold anything.
        images: patient of every image, to count images without a row and patients with several values.

    Returns:
        Labels by (image_id, slice), slice -1 for the whole image, and the report. A value is text,
        ``uncertain`` where the table says so, and absent where it is missing.

    Raises:
        UsageError: no key column, impossible values, conflicts or broken slice numbers, all by line.
    """
    rows = numbered_rows(path)
    if not rows:
        raise UsageError(f"{path.name}: a header and no rows.", "E-TABLE")
    filled = [c for c in rows[0][1] if any(row[c] for _, row in rows)]
    kind, key, slice_column = key_columns(filled or list(rows[0][1]))
    patient = _find(list(rows[0][1]), KEYS["patient_id"])
    columns, left_out = label_columns(rows, wanted, schema or {}, path.name, ALIASES, patient)
    impossible = [p for cells in columns.values() for p in cells.problems]
    finder = _Finder(kind, key, slice_column, index.get(kind, {}), depth, images or {})
    placed = _place(rows, finder, path.name)
    found, conflicts = _fill(rows, placed, columns, images or {}, path.name)
    problems = [*impossible, *placed.problems, *conflicts]
    if problems:
        raise UsageError(shown(problems), "E-LABEL-VALUE" if impossible else "E-LABEL-CONFLICT")
    report = JoinReport(
        table=path.name,
        key=f"{kind} + slice" if slice_column is not None else kind,
        rows=len(rows),
        joined=len(rows) - len(placed.orphan_lines),
        orphans=len(placed.orphan_lines),
        columns=tuple(columns),
        left_out=left_out,
        orphan_lines=tuple(placed.orphan_lines[:SHOWN]),
        duplicate_rows=_duplicates(placed, columns),
        notes=(*placed.notes, *(note for cells in columns.values() for note in cells.notes)),
        **_counts(placed, found, tuple(columns), images),
    )
    return found, report


@dataclass(frozen=True)
class _Placed:
    """Where the rows of one table lead: per row its key and its images or slices."""

    keys: list[tuple[str, int]]
    items: list[list[Item]]
    orphan_lines: list[int]
    problems: list[str]
    notes: tuple[str, ...]

    @property
    def touched(self) -> set[Item]:
        return {item for items in self.items for item in items}


@dataclass(frozen=True)
class _Finder:
    """What leads from a row to images: the columns to read, and what they may hold."""

    kind: str
    column: str
    slice_column: str | None
    index: Mapping[str, list[Item]]
    depth: Mapping[str, int]
    owner: Mapping[str, str]

    def find(self, value: str) -> tuple[list[Item], str | None]:
        """Return the items behind a key value, or none and why it names no single thing."""
        found = list(dict.fromkeys(self.index.get(value, []))) if value else []
        images = {image for image, _ in found}
        if self.kind == "file" and len(images) > 1:
            return [], f"{len(images)} files have that name; give the path."
        people = {self.owner[image] for image in images if image in self.owner}
        if len(people) > 1:
            return [], (
                f"{self.column} stands for {len(people)} different patients (of several sites or issuers); "
                "give the file or a UID instead."
            )
        return found, None


def _place(rows: Rows, finder: _Finder, name: str) -> _Placed:
    keys: list[tuple[str, int]] = []
    placed: list[list[Item]] = []
    orphans: list[int] = []
    problems: list[str] = []
    overruled = 0
    for number, row in rows:
        place = _slice_of(row, finder.slice_column, name, number, problems)
        value = normalise_id(row[finder.column])
        found, fault = finder.find(value)
        if fault is not None:
            problems.append(f"{name}, line {number}: {fault}")
        # A file or UID that is itself one plane of a stack says more than a number beside it.
        overruled += place != WHOLE and any(at not in (WHOLE, place) for _, at in found)
        items = [
            (image, place if at == WHOLE else at)
            for image, at in found
            if at != WHOLE or place < finder.depth[image]
        ]
        keys.append((value, place))
        placed.append(items)
        orphans += [] if items else [number]
    notes = []
    if overruled:
        notes.append(
            f"{overruled} rows name one plane by {finder.column} and another by {finder.slice_column}; "
            f"{finder.column} was followed."
        )
    if len(orphans) == len(rows):
        notes.append(
            f"no row met an image by {finder.column}; check that it holds what the images hold."
        )
    return _Placed(keys, placed, orphans, problems, tuple(notes))


def _fill(
    rows: Rows, placed: _Placed, columns: dict[str, Cells], owner: Mapping[str, str], name: str
) -> tuple[Found, list[str]]:
    """Return the values of every item, and one sentence per pair of rows that disagree on one."""
    found: Found = {}
    opened: dict[Item, int] = {}
    later: dict[tuple[Item, str], int] = {}
    problems: dict[tuple[int, int, str], str] = {}
    for k, (number, _) in enumerate(rows):
        values = {c: v for c, cells in columns.items() if (v := cells.values[k]) is not None}
        for item in placed.items[k] if values else ():
            if item not in found:
                found[item], opened[item] = dict(values), number
                continue
            for column, value in values.items():
                if column not in found[item]:
                    found[item][column], later[item, column] = value, number
                elif found[item][column] != value:
                    first = later.get((item, column), opened[item])
                    pair = f"{found[item][column]!r} and {value!r}"
                    whose = f" of patient {owner[item[0]]}" if item[0] in owner else ""
                    words = (
                        f"{name}, lines {first} and {number}: {column} is {pair} for the same image "
                        f"({item[0]}{whose}); decide which is right."
                    )
                    problems.setdefault((first, number, column), words)
    return found, list(problems.values())


def _duplicates(placed: _Placed, columns: dict[str, Cells]) -> int:
    cells = zip(*(c.values for c in columns.values()), strict=True) if columns else None
    values = cells if cells is not None else iter([()] * len(placed.keys))
    seen = Counter((key, row) for key, row in zip(placed.keys, values, strict=True) if key[0])
    return sum(seen.values()) - len(seen)


def _counts(
    placed: _Placed, found: Found, columns: tuple[str, ...], images: Mapping[str, str] | None
) -> dict[str, Any]:
    """Return the counted fields of a report, over the images and slices that rows named."""
    touched = placed.touched
    out: dict[str, Any] = {
        n: {} for n in ("values", "other_values", "uncertain", "missing", "mixed_patients")
    }
    for column in columns:
        counts = Counter(found.get(item, {}).get(column) for item in touched)
        out["missing"][column] = counts.pop(None, 0)
        out["uncertain"][column] = counts.pop(UNCERTAIN, 0)
        common = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
        out["values"][column] = dict(common[:MAX_VALUES])
        out["other_values"][column] = sum(n for _, n in common[MAX_VALUES:])
        out["mixed_patients"][column] = _mixed(found, column, images or {})
    out["items"] = len(touched)
    if images is not None:
        out["images_without_row"] = len(set(images) - {image for image, _ in touched})
    return out


def _mixed(found: Found, column: str, owner: Mapping[str, str]) -> int:
    """Return how many patients have two or more known values of one column."""
    values: dict[str, set[str]] = defaultdict(set)
    for (image, _), row in found.items():
        if image in owner and row.get(column, UNCERTAIN) != UNCERTAIN:
            values[owner[image]].add(row[column])
    return sum(len(several) > 1 for several in values.values())


def check_used(schema: Schema, reports: Iterable[JoinReport]) -> None:
    """Raise UsageError if a schema describes a column that no label table has."""
    taken = {c for report in reports for c in report.columns}
    unused = [c for c in schema if c not in taken]
    if unused:
        words = (
            f"the label schema describes {unused}, which no label table gave; check the spelling."
        )
        raise UsageError(words, "E-LABEL-SCHEMA")


def merge(tables: list[Found]) -> Found:
    """Return the labels of several tables as one.

    Raises:
        UsageError: two tables give one image two values of one column.
    """
    out: Found = defaultdict(dict)
    problems = []
    for table in tables:
        for item, values in table.items():
            for column, value in values.items():
                if out[item].setdefault(column, value) != value:
                    problems.append(f"two label tables give {item[0]} two values of {column}.")
    if problems:
        raise UsageError(shown(problems), "E-LABEL-CONFLICT")
    return dict(out)


def known_images(labels: Found) -> set[str]:
    """Return the images with a known value of some column, of their own or of a slice of theirs."""
    return {image for (image, _), row in labels.items() if set(row.values()) - {UNCERTAIN}}


def _slice_of(
    row: dict[str, str], column: str | None, name: str, number: int, problems: list[str]
) -> int:
    if column is None or row[column] == "":
        return WHOLE
    found = SLICE_NUMBER.fullmatch(row[column])
    if found is None:
        problems.append(
            f"{name}, line {number}: slice {row[column][:40]!r} is not a whole number from 0."
        )
        return WHOLE
    return int(found[1])


def write(root: Path, labels: Found) -> None:
    """Write ``labels.parquet``: image_id, slice, and one text column per label.

    A cell is the value, the reserved word ``uncertain``, or null where the value is missing.
    """
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


class Known(dict[Item, str]):
    """The known values of one label by (image_id, slice).

    Attributes:
        uncertain: the items whose value the label table calls uncertain; they have no known value.
    """

    def __init__(self, values: Mapping[Item, str], uncertain: Iterable[Item] = ()) -> None:
        super().__init__(values)
        self.uncertain = frozenset(uncertain)


def read(root: Path, target: str) -> Known:
    """Return the known values of one label column by (image_id, slice), the uncertain ones beside.

    Raises:
        NothingUsableError: the cohort has no labels, or no such column.
    """
    path = root / "labels.parquet"
    if not path.is_file():
        words = f"{root}: has no labels; add them with: medssl scan ... --labels FILE --update"
        raise NothingUsableError(words, "E-NOLABELS")
    table = pq.read_table(path)
    names = [n for n in table.column_names if n not in RESERVED]
    if target not in names:
        words = f"{root}: no label {target!r}; the label table has {', '.join(names) or 'none'}."
        raise NothingUsableError(words, "E-NOLABEL")
    rows = list(zip(*(table.column(n).to_pylist() for n in (*RESERVED, target)), strict=True))
    return Known(
        {(image, at): value for image, at, value in rows if value not in (None, UNCERTAIN)},
        ((image, at) for image, at, value in rows if value == UNCERTAIN),
    )


def available(root: Path) -> list[str]:
    """Return the names of the cohort's labels; none where it has no label table."""
    path = root / "labels.parquet"
    if not path.is_file():
        return []
    return [n for n in pq.read_schema(path).names if n not in RESERVED]


def lookup(labels: Mapping[Item, str], image: str, place: int) -> str | None:
    """Return the known label of one stored item: its own slice's first, then its image's."""
    if is_uncertain(labels, image, place):
        return None
    return labels.get((image, place), labels.get((image, WHOLE)))


def is_uncertain(labels: Mapping[Item, str], image: str, place: int) -> bool:
    """Return whether the label of one stored item is uncertain: its own slice's word goes first."""
    doubts = labels.uncertain if isinstance(labels, Known) else frozenset()
    own = (image, place)
    return own in doubts or (own not in labels and (image, WHOLE) in doubts)
