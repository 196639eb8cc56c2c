"""Counts of a cohort that tell no one apart, and the leak check of its split; no Streamlit here."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import text_research as text
from medssl.cohort import manifest as manifest_room
from medssl.cohort import same, twins
from medssl.cohort import split as split_room
from medssl.cohort.manifest import Manifest
from medssl.cohort.privacy import patient_digest
from medssl.errors import MedsslError, RefusedError
from research import records
from research.records import Entry

LEAST = 5
MOST_LEVELS = 30
IN_ORDER = {"year", "age_band"}
EXACT_TO = 4
WIDER = ((5, 9), (10, 19), (20, 49))

Row = dict[str, Any]
Pair = tuple[Any, str]


@dataclass(frozen=True)
class Check:
    """One question of the leak check.

    Attributes:
        name: of ``text.CHECKS``.
        found: how many; None where it could not be looked for.
        why: why it could not.
    """

    name: str
    found: int | None
    why: str = ""


def open_manifest(cohort: Path) -> Manifest:
    """Read a cohort's manifest.

    Raises:
        MedsslError: it is absent, damaged or of another version.
    """
    with records.reading(cohort / records.MANIFEST):
        return manifest_room.read(cohort)


def open_split(cohort: Path) -> list[tuple[str, str]]:
    """Return patient and part of every row of the split file, as it stands there.

    Raises:
        MedsslError: it is absent or damaged.
    """
    table = records.table(cohort / "split.parquet", *split_room.SCHEMA.names)
    columns = (table.column(n).to_pylist() for n in split_room.SCHEMA.names)
    return [(str(p), str(s)) for p, s in zip(*columns, strict=True)]


def counted(pairs: Iterable[Pair]) -> list[tuple[Any, int, int]]:
    """Return level, patients and images of every level, most patients first.

    Args:
        pairs: level and patient of every image.
    """
    images: Counter[Any] = Counter()
    people: dict[Any, set[str]] = defaultdict(set)
    for level, patient in pairs:
        images[level] += 1
        people[level].add(patient)
    found = [(level, len(people[level]), n) for level, n in images.items()]
    return sorted(found, key=lambda r: (-r[1], str(r[0])))


def hidden(patients: Sequence[int]) -> list[str | None]:
    """Return what to show instead of each count, None for the count itself.

    Fewer than five patients are "<5"; where that hides one count only, the total would tell it, so
    the next smallest is hidden too.
    """
    few = [0 < n < LEAST for n in patients]
    out = [text.FEW if small else None for small in few]
    rest = [k for k, n in enumerate(patients) if n >= LEAST]
    if sum(few) == 1 and rest:
        out[min(rest, key=lambda k: patients[k])] = text.SEVERAL
    return out


def shown(found: Sequence[tuple[Any, int, int]]) -> list[Row]:
    """Return counts as rows of a table; images of a hidden level are hidden with it."""
    masks = hidden([people for _, people, _ in found])
    return [
        {
            text.LEVEL: text.ABSENT_LEVEL if level is None else str(level),
            text.PATIENTS: str(people) if mask is None else mask,
            text.IMAGES: str(images) if mask is None else "",
        }
        for (level, people, images), mask in zip(found, masks, strict=True)
    ]


def levels(manifest: Manifest, column: str) -> list[Row]:
    """Return the counts of one column; rare levels beyond ``MOST_LEVELS`` are one level."""
    values, patients = manifest.column(column), manifest.column("patient_id")
    every = counted(zip(values, patients, strict=True))
    if len(every) > MOST_LEVELS:
        kept = {level for level, _, _ in every[:MOST_LEVELS]}
        named = [v if v in kept else text.MORE_LEVELS for v in values]
        every = counted(zip(named, patients, strict=True))
    if column in IN_ORDER:
        every.sort(key=lambda r: (r[0] is None, str(r[0])))
    return shown(every)


def per_patient(manifest: Manifest) -> list[Row]:
    """Return how many patients have one image, two, and so on."""
    counts = Counter(_step(n) for n in Counter(manifest.column("patient_id")).values())
    order = [*(str(k) for k in range(1, EXACT_TO + 1)), *(f"{a} to {b}" for a, b in WIDER)]
    names = [n for n in [*order, _step(WIDER[-1][1] + 1)] if n in counts]
    masks = hidden([counts[n] for n in names])
    return [
        {text.PER_PATIENT_COLUMN: n, text.PATIENTS: str(counts[n]) if mask is None else mask}
        for n, mask in zip(names, masks, strict=True)
    ]


def _step(n: int) -> str:
    if n <= EXACT_TO:
        return str(n)
    inside = [f"{a} to {b}" for a, b in WIDER if n <= b]
    return inside[0] if inside else f"{WIDER[-1][1] + 1} or more"


def parts(manifest: Manifest, place: Mapping[str, str]) -> list[Row]:
    """Return patients and images of every part of the split."""
    owners = manifest.column("patient_id")
    return shown(counted((place.get(p), p) for p in owners))


def missing(manifest: Manifest) -> list[Row]:
    """Return the share of images without a value of incomplete columns, the emptiest first."""
    total = manifest.table.num_rows
    share = {n: manifest.table.column(n).null_count / total for n in manifest.table.column_names}
    ranked = sorted(share.items(), key=lambda item: -item[1])
    return [
        {text.COLUMN: n, text.MISSING_SHARE: text.PERCENT.format(n=100 * s)} for n, s in ranked if s
    ]


def prevalence(
    labels: Sequence[tuple[str, str | None]], owner: Mapping[str, str], place: Mapping[str, str]
) -> list[Row]:
    """Return every value of a label in every part: patients, images, share of the labelled images.

    Args:
        labels: image and known answer of every labelled picture.
        owner: patient of every image.
        place: part of every patient; empty where there is no split.
    """
    rows: list[Row] = []
    known = [(owner[image], value) for image, value in labels if image in owner]
    names = [*split_room.SPLITS, split_room.UNLABELLED] if place else [text.WHOLE_COHORT]
    for part in names:
        here = [(v, p) for p, v in known if not place or place.get(p) == part]
        found = counted(here)
        total = sum(images for _, _, images in found)
        for row, (_, _, images) in zip(shown(found), found, strict=True):
            share = text.PERCENT.format(n=100 * images / total) if row[text.IMAGES] else ""
            value = row.pop(text.LEVEL)
            rows.append({text.PART: part, text.CLASS: value, **row, text.SHARE_OF_PART: share})
    return rows


def leak_check(entry: Entry, cohort: Path, manifest: Manifest) -> list[Check]:
    """Ask of the files as they are now whether anybody stands on two sides of the split.

    Raises:
        MedsslError: the split is absent or damaged.
    """
    listed = open_split(cohort)
    sides: dict[str, set[str]] = defaultdict(set)
    for patient, part in listed:
        sides[patient].add("train" if part == split_room.UNLABELLED else part)
    owner = dict(zip(manifest.column("image_id"), manifest.column("patient_id"), strict=True))
    return [
        Check("twice", sum(len(s) > 1 for s in sides.values())),
        Check("placeless", len(set(owner.values()) - set(sides))),
        _copies(cohort, manifest, dict(listed)),
        _twins(cohort, owner, sides),
        _links(cohort, sides),
        _seen(entry, listed),
    ]


def _apart(one: str | None, two: str | None, sides: Mapping[str, set[str]]) -> bool:
    here, there = sides.get(one or "", set()), sides.get(two or "", set())
    return bool(here and there) and (here != there or len(here) > 1)


def _copies(cohort: Path, manifest: Manifest, place: dict[str, str]) -> Check:
    if not list((cohort / "store").glob("*/index.parquet")):
        return Check("copies", None, text.NO_FILE.format(file="store"))
    try:
        with records.reading(cohort / "store"):
            split_room.check_units(cohort, manifest, place)
    except RefusedError as error:
        if error.code != "E-LEAK":
            return Check("copies", None, error.problems[0])
        # The refusal begins with how many groups it found.
        return Check("copies", int(error.problems[0].split()[0]))
    return Check("copies", 0)


def _twins(cohort: Path, owner: Mapping[str, str], sides: Mapping[str, set[str]]) -> Check:
    try:
        with records.reading(cohort / twins.FILE):
            table = twins.read(cohort)
            columns = (table.column(f"image_id_{n}").to_pylist() for n in "ab")
            pairs = [(owner.get(a), owner.get(b)) for a, b in zip(*columns, strict=True)]
    except MedsslError as error:
        return Check("twins", None, error.problems[0])
    return Check("twins", sum(_apart(a, b, sides) for a, b in pairs))


def _links(cohort: Path, sides: Mapping[str, set[str]]) -> Check:
    file = cohort / "links.parquet"
    if not file.is_file():
        return Check("links", None, text.NO_FILE.format(file=file.name))
    try:
        with records.reading(file):
            pairs = [(r["patient_a"], r["patient_b"]) for r in same.read_links(cohort)]
    except MedsslError as error:
        return Check("links", None, error.problems[0])
    return Check("links", sum(_apart(a, b, sides) for a, b in pairs))


def _seen(entry: Entry, listed: Sequence[tuple[str, str]]) -> Check:
    """Look for patients of validation and test among those that the run's encoder was trained on."""
    folders = [entry.path, *entry.parents("encoder.json")]
    files = [f / "encoder.json" for f in folders if (f / "encoder.json").is_file()]
    if not files:
        return Check("seen", None, text.NO_FILE.format(file="encoder.json"))
    try:
        with records.reading(files[0]):
            seen = set(json.loads(files[0].read_text(encoding="utf-8"))["seen"])
    except MedsslError as error:
        return Check("seen", None, error.problems[0])
    held = {p for p, part in listed if part in {"val", "test"}}
    return Check("seen", sum(patient_digest(p) in seen for p in held))
