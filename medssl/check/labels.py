"""What the labels say, and what gives them away without a look at the picture."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medssl.check.health import Cell, Finding, Part, Section, Table, finding
from medssl.cohort import labels as label_room
from medssl.cohort.label_schema import UNCERTAIN

LEAST_PATIENTS = 20
GAP = 0.1
SURE = 3.5  # standard errors between two shares
MOST_VALUES = 20
SEVERAL = "several values"


def check(root: Path, manifest: pa.Table) -> Section:
    """Judge the label table.

    Args:
        root: the cohort's folder.
        manifest: its table of images.
    """
    path = root / "labels.parquet"
    columns = label_room.available(root)
    if not columns:
        words = "No labels: pretraining needs none, fine-tuning does (medssl scan --labels FILE --update)."
        return Section((finding("note", "H-LABELS", words),))
    rows = pq.read_table(path)
    place = pc.index_in(rows["image_id"], value_set=manifest["image_id"].combine_chunks())
    findings = []
    orphans = place.null_count
    if orphans:
        words = (
            "labels.parquet: {n} rows belong to no image of the manifest. Scan again with --labels."
        )
        names = rows["image_id"].filter(pc.is_null(place)).slice(0, 20).to_pylist()
        findings.append(finding("warn", "H-LABELS", words, names, n=orphans))
    rows = rows.append_column("patient_id", manifest["patient_id"].take(place))
    images = manifest.group_by("patient_id").aggregate([("image_id", "count")])
    tables = []
    for column in columns:
        here, seen = _column(rows, images, column)
        findings += here
        tables += seen
    return Section(tuple(findings), tuple(tables))


def _column(rows: pa.Table, images: pa.Table, column: str) -> tuple[list[Finding], list[Table]]:
    known = rows.filter(pc.and_(pc.is_valid(rows[column]), pc.is_valid(rows["patient_id"])))
    # A column may carry any name, also one of ours.
    known = pa.table(
        {"patient_id": known["patient_id"], "slice": known["slice"], "value": known[column]}
    )
    if not known.num_rows:
        words = "Label {column} has no value on any image. Check the table's key."
        return [finding("warn", "H-LABELS", words, column=repr(column))], []
    values = _values(known, column)
    distinct = len(pc.unique(known["value"]))
    if distinct > MOST_VALUES:
        words = "Label {column}: {n} different values, so it was not looked at class by class."
        return [finding("ok", "H-LABELS", words, column=repr(column), n=distinct)], [values]
    known = known.filter(pc.not_equal(known["value"], UNCERTAIN))
    people = known.group_by("patient_id").aggregate(
        [("value", "count_distinct"), ("value", "min"), ("slice", "max")]
    )
    people = people.join(images, "patient_id")
    findings = [_spread(column, values, people)]
    findings += _conflicts(column, people)
    pairs, trap = _pairs(column, people)
    return [*findings, *trap], [values, pairs]


def _values(known: pa.Table, column: str) -> Table:
    groups = known.group_by("value").aggregate(
        [("patient_id", "count"), ("patient_id", "count_distinct")]
    )
    ordered = groups.sort_by([("patient_id_count", "descending")]).to_pylist()
    total = known.num_rows
    rows = tuple(
        (r["value"], Part(r["patient_id_count"], total), r["patient_id_count_distinct"])
        for r in ordered[:MOST_VALUES]
    )
    return Table(f"Label {column}", ("value", "labelled images or slices", "patients"), rows)


def _spread(column: str, values: Table, people: pa.Table) -> Finding:
    told = {"column": repr(column), "patients": people.num_rows}
    if people.num_rows == 0 or pc.max(people["value_count_distinct"]).as_py() == 1 == len(
        pc.unique(people["value_min"])
    ):
        words = "Label {column} has one value only ({patients} patients): nothing can be learned or tested."
        return finding("warn", "H-LABELS", words, **told)
    words = "Label {column}: {values} values over {patients} patients."
    return finding("ok", "H-LABELS", words, values=str(len(values.rows)), **told)


def _conflicts(column: str, people: pa.Table) -> list[Finding]:
    several = people.filter(pc.greater(people["value_count_distinct"], 1))
    by_slice = bool(several.num_rows) and pc.min(several["slice_max"]).as_py() >= 0
    if not several.num_rows:
        return []
    words = "Label {column}: patients with several values: {n}; " + (
        "slices differ within a volume, so a patient has no single class."
        if by_slice
        else "later images may show another state, or one value is wrong. A patient has no single class there."
    )
    part = Part(several.num_rows, people.num_rows)
    return [finding("note", "H-CONFLICT", words, column=repr(column), n=part)]


def _pairs(column: str, people: pa.Table) -> tuple[Table, list[Finding]]:
    """Compare how many patients of every class have a second image."""
    single = pc.equal(people["value_count_distinct"], 1)
    names = pc.if_else(single, people["value_min"], SEVERAL).to_pylist()
    many = people["image_id_count"].to_numpy() > 1
    classes = np.asarray(names, object)
    rows: list[tuple[Cell, ...]] = []
    shares: dict[str, Part] = {}
    for name in sorted(set(names)):
        inside = classes == name
        part = Part(int((many & inside).sum()), int(inside.sum()))
        rows.append((name, part.of, part, Part(part.count, int(many.sum()))))
        if name != SEVERAL and part.of >= LEAST_PATIENTS:
            shares[name] = part
    head = ("class of the patient", "patients", "with two or more images", "share of all such")
    table = Table(f"Second images by class of {column}", head, tuple(rows[: MOST_VALUES + 1]))
    return table, _trap(column, shares, int(many.sum()))


def _trap(column: str, shares: dict[str, Part], many: int) -> list[Finding]:
    if len(shares) < 2 or not many:
        return []
    high = max(shares, key=lambda name: shares[name].share)
    low = min(shares, key=lambda name: shares[name].share)
    a, b = shares[high], shares[low]
    pooled = (a.count + b.count) / (a.of + b.of)
    error = float(np.sqrt(pooled * (1 - pooled) * (1 / a.of + 1 / b.of)))
    told: dict[str, Cell] = {
        "column": repr(column), "high": repr(high), "low": repr(low), "a": a, "b": b,
        "of": Part(a.count, many),
    }  # fmt: skip
    if a.share - b.share >= GAP and a.share - b.share >= SURE * error:
        words = (
            "Label {column}: having a second image predicts it. Of the patients of class {high}, {a} have two "
            "or more images; of class {low}, {b}. Of all patients with two or more, {of} are {high}. Training "
            "on pairs sees mostly that class: keep patients with one image in (method.single_images), and "
            "report results for patients with one image apart."
        )
        return [finding("warn", "H-PAIRS", words, **told)]
    words = (
        "Label {column}: second images are spread alike over its classes ({high}: {a}; {low}: {b})."
    )
    return [finding("ok", "H-PAIRS", words, **told)]
