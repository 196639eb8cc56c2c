"""The verb split: train, validation and test by patient; nested label budgets."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort import sheets, twins
from medssl.cohort.manifest import Manifest
from medssl.cohort.people import PATIENT
from medssl.cohort.privacy import normalise_id
from medssl.cohort.rows import UNKNOWN
from medssl.cohort.same import read_links
from medssl.errors import NothingUsableError, RefusedError, UsageError
from medssl.files import atomic, locked, plain_cell, read_table, sha256_file

SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"
SCHEMA = pa.schema([("patient_id", pa.string()), ("split", pa.string())])


@dataclass(frozen=True)
class SplitSummary:
    """Patients per split, how many joined an earlier one, and how many stay beside another.

    ``copies_known`` is false before a decode: copies under two names were not looked for.
    ``torn`` counts groups of suspected patients that an earlier split or a table put on two sides.
    """

    patients: dict[str, int]
    images: dict[str, int]
    new: int
    linked: int
    torn: int
    copies_known: bool
    sha256: str


def rank(seed: int, *parts: str) -> float:
    """Return a number in [0, 1) that depends on the seed and the parts alone."""
    text = "\x1f".join((str(seed), *parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64


def assign(strata: dict[str, str], seed: int, fractions: tuple[float, float]) -> dict[str, str]:
    """Assign patients to splits, each stratum in the same proportions.

    Args:
        strata: stratum of every patient.
        seed: decides the order inside a stratum.
        fractions: shares of validation and test.

    Returns:
        ``train``, ``val`` or ``test`` for every patient.
    """
    val, test = fractions
    groups: dict[str, list[str]] = defaultdict(list)
    for patient, stratum in strata.items():
        groups[stratum].append(patient)
    out: dict[str, str] = {}
    spare = {"val": 0.0, "test": 0.0}
    for stratum in sorted(groups):
        order = sorted(groups[stratum], key=lambda p: rank(seed, "split", p))
        spare["test"] += test * len(order)
        spare["val"] += val * len(order)
        tests = min(len(order), round(spare["test"]))
        vals = min(len(order) - tests, round(spare["val"]))
        spare["test"] -= tests
        spare["val"] -= vals
        for place, patient in enumerate(order):
            out[patient] = "test" if place < tests else "val" if place < tests + vals else "train"
    return out


def split(
    root: Path,
    seed: int,
    fractions: tuple[float, float] = (0.15, 0.2),
    file: Path | None = None,
    test_site: str | None = None,
) -> SplitSummary:
    """Write ``split.parquet``; patients of an earlier split stay where they are.

    Patients with a picture in common, or suspected to be one person, are one unit: they move
    together. Patients without any label in a cohort that has labels are ``unlabelled``: pretraining
    may read them, tests never do; when labels arrive later they become ``train``. Studies without a
    PatientID are ``train``, since nobody knows whose they are.

    Args:
        root: the cohort's folder.
        seed: decides who goes where.
        fractions: shares of validation and test.
        file: a table of patients and their place instead of a draw.
        test_site: this site's patients are the test, all others train and validation.

    Raises:
        UsageError: impossible fractions, an unknown site, or a table that contradicts itself.
        RefusedError: a patient of an earlier split would move.
    """
    val, test = fractions
    if not (0 <= val < 1 and 0 < test < 1 and val + test < 1):
        words = f"--val {val} and --test {test}: each in [0, 1), test above 0, together below 1."
        raise UsageError(words, "E-FRACTIONS")
    with locked(root):
        return _split(root, seed, fractions, file, test_site)


def _split(
    root: Path,
    seed: int,
    fractions: tuple[float, float],
    file: Path | None,
    test_site: str | None,
) -> SplitSummary:
    val = fractions[0]
    manifest = manifest_room.read(root)
    before = read(root) if (root / "split.parquet").is_file() else {}
    same, unit = _units(root, manifest, []), _units(root, manifest, _suspects(root, manifest))
    if file is not None:
        after = _from_file(root, file, manifest, before)
    elif test_site is not None:
        after = _left_out(root, manifest, before, unit, seed, (val, test_site))
    else:
        after = _drawn(root, manifest, before, unit, seed, fractions)
    _check_units(same, after)
    names = sorted(after)
    table = pa.table({"patient_id": names, "split": [after[n] for n in names]}, schema=SCHEMA)
    with atomic(root / "split.parquet") as out:
        pq.write_table(table, out)
    images = Counter(after[p] for p in manifest.column("patient_id"))
    linked = sum(unit[p] != p for p in after if p in unit)
    torn = len(_torn(unit, after))
    digest = sha256_file(root / "split.parquet")
    here = Counter(after.values())
    return SplitSummary(
        dict(sorted(here.items())),
        dict(sorted(images.items())),
        len(after) - len(before),
        linked,
        torn,
        (root / twins.FILE).is_file(),
        digest,
    )


def _left_out(
    root: Path,
    manifest: Manifest,
    before: dict[str, str],
    unit: dict[str, str],
    seed: int,
    choice: tuple[float, str],
) -> dict[str, str]:
    """Hold out one site whole; divide the others into training and validation."""
    val, site = choice
    sites = dict(zip(manifest.column("patient_id"), manifest.column("site"), strict=True))
    if site not in set(sites.values()) or len(set(sites.values())) < 2:
        words = f"--test-site {site}: the cohort has the sites {', '.join(sorted(set(sites.values())))}."
        raise UsageError(words, "E-SITE")
    held = {unit[p] for p, s in sites.items() if s == site}
    nobody = [p for p in _nobody(manifest) if unit[p] in held]
    if nobody:
        words = (
            f"--test-site {site}: {len(nobody)} studies there have no PatientID and may only be trained "
            "on. Scan without --allow-unknown-patient."
        )
        raise RefusedError(words, "E-NOPATIENT")
    drawn = _drawn(root, manifest, {}, unit, seed, (val, 0.0))
    after = {p: "test" if unit[p] in held else place for p, place in drawn.items()}
    moved = [p for p in before if after.get(p, before[p]) != before[p]]
    if moved:
        words = (
            f"--test-site {site}: moves {len(moved)} patients of the split that is there ({moved[0]} "
            "first). Scan into another folder for another split."
        )
        raise RefusedError(words, "E-SPLIT-MOVED")
    return {**after, **before}


def _drawn(
    root: Path,
    manifest: Manifest,
    before: dict[str, str],
    unit: dict[str, str],
    seed: int,
    fractions: tuple[float, float],
) -> dict[str, str]:
    strata = _strata(root, manifest)
    after = {**dict.fromkeys(_nobody(manifest), "train"), **before}
    placed = {unit[p]: place for p, place in after.items() if p in unit}
    for patient in manifest.patients:
        if patient not in after and unit[patient] in placed:
            after[patient] = placed[unit[patient]]
        if after.get(patient) == UNLABELLED and patient in strata:
            after[patient] = "train"  # it may have been pretrained on, so never val or test
    labelled = {p: s for p, s in strata.items() if p not in after}
    heads = {unit[p]: labelled[p] for p in sorted(labelled, reverse=True)}
    drawn = assign(heads, seed, fractions) if not before else _alone(heads, seed, fractions)
    for patient in manifest.patients:
        if patient not in after:
            after[patient] = drawn.get(unit[patient], UNLABELLED)
    return after


def _nobody(manifest: Manifest) -> list[str]:
    """Return the patients that stand for a study without a PatientID."""
    notes = manifest.column("notes")
    known = zip(manifest.column("patient_id"), notes, strict=True)
    return sorted({p for p, note in known if UNKNOWN in str(note or "").split()})


def _alone(strata: Iterable[str], seed: int, fractions: tuple[float, float]) -> dict[str, str]:
    """Place late-comers one by one, so that nobody who is there already moves."""
    val, test = fractions
    out = {}
    for patient in strata:
        place = rank(seed, "split", patient)
        out[patient] = "test" if place < test else "val" if place < test + val else "train"
    return out


def _strata(root: Path, manifest: Manifest) -> dict[str, str]:
    """Return site, number of images (one or more) and labels of every labelled patient."""
    counts = Counter(manifest.column("patient_id"))
    values: dict[str, set[str]] = defaultdict(set)
    owner = dict(zip(manifest.column("image_id"), manifest.column("patient_id"), strict=True))
    for target in label_room.available(root):
        for (image, place), value in label_room.read(root, target).items():
            if image in owner and place == label_room.WHOLE:
                values[owner[image]].add(f"{target}={value}")
            elif image in owner:
                values[owner[image]].add(target)
    sites = dict(zip(manifest.column("patient_id"), manifest.column("site"), strict=True))
    patients = values if values else {p: set() for p in counts}
    return {p: f"{sites[p]}|{counts[p] > 1}|{sorted(values.get(p, ()))}" for p in patients}


def _suspects(root: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """Return pairs of patients that may be one person: by identifiers, or by near-identical pictures."""
    links = [(r["patient_a"], r["patient_b"]) for r in read_links(root)]
    return links + twins.suspects(root, _owner(manifest))


def _owner(manifest: Manifest) -> dict[str, str]:
    return dict(zip(manifest.column("image_id"), manifest.column("patient_id"), strict=True))


def _units(root: Path, manifest: Manifest, pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return, for every patient, the first who shares a picture with them or is paired with them."""
    head = {p: p for p in manifest.patients}

    def find(patient: str) -> str:
        while head[patient] != patient:
            patient = head[patient]
        return patient

    def link(one: str, two: str) -> None:
        here, other = find(one), find(two)
        head[max(here, other)] = min(here, other)

    for one, two in pairs:
        if one in head and two in head:
            link(one, two)
    first: dict[str, str] = {}
    owner = _owner(manifest)
    for index in sorted((root / "store").glob("*/index.parquet")):
        size = json.loads((index.parent / "decode.json").read_text())["size"]
        numbers = (size**2, 3 * size**2, size**3)  # grey, colours, whole volumes
        blank = {hashlib.sha256(bytes(2 * n)).hexdigest() for n in numbers}
        table = pq.read_table(index, columns=["pixels", "image_id", "low", "high"])
        for row in table.to_pylist():
            patient = owner.get(row["image_id"])
            if patient is None or row["pixels"] in blank:
                continue
            picture = f"{index.parent.name}{row['pixels']}{row['low']}{row['high']}"
            link(first.setdefault(picture, patient), patient)
    return {p: find(p) for p in head}


def check_units(root: Path, manifest: Manifest, after: dict[str, str]) -> None:
    """Raise RefusedError if patients with a picture in common are trained on and tested on."""
    _check_units(_units(root, manifest, []), after)


def _torn(unit: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the first patients of units that lie in two splits."""
    places: dict[str, set[str]] = defaultdict(set)
    for patient, place in after.items():
        if patient in unit:
            places[unit[patient]].add("train" if place == UNLABELLED else place)
    return [p for p, found in places.items() if len(found) > 1]


def _check_units(unit: dict[str, str], after: dict[str, str]) -> None:
    torn = _torn(unit, after)
    if torn:
        words = (
            f"{len(torn)} group(s) of patients share identical pictures and lie in two splits "
            f"({torn[0]} first). They may be one person. Remove split.parquet and split anew after "
            "decoding, or name them together in --file; encoders of the old split are void."
        )
        raise RefusedError(words, "E-LEAK")


def _from_file(
    root: Path, file: Path, manifest: Manifest, before: dict[str, str]
) -> dict[str, str]:
    rows = [(n, {k.lower(): v for k, v in row.items()}) for n, row in sheets.numbered_rows(file)]
    names = _pseudonyms(root, manifest)
    after: dict[str, str] = {}
    problems: list[str] = []
    for number, row in rows:
        given = next((row[c] for c in PATIENT if row.get(c)), "")
        found = names.get(normalise_id(given), [])
        place = row.get("split", "").lower()
        if place not in (*SPLITS, UNLABELLED):
            problems.append(f"line {number}: split {place!r} is none of {', '.join(SPLITS)}.")
        problems += [] if found else [f"line {number}: no such patient in the cohort."]
        for patient in found:
            if after.setdefault(patient, place) != place:
                problems.append(f"line {number}: {patient} stands in two splits.")
    if problems:
        raise UsageError([f"{file.name}, {p}" for p in problems[:20]], "E-SPLIT-FILE")
    moved = [p for p in before if after.get(p, before[p]) != before[p]]
    if moved:
        words = f"{file.name}: moves {len(moved)} patients of the split that is there ({moved[0]} first)."
        raise RefusedError(words, "E-SPLIT-MOVED")
    unit = _units(root, manifest, _suspects(root, manifest))
    beside = {unit[p]: place for p, place in {**after, **before}.items() if p in unit}
    rest = {p: beside.get(unit[p], UNLABELLED) for p in manifest.patients if p not in after}
    return {**rest, **after, **before}


def _pseudonyms(root: Path, manifest: Manifest) -> dict[str, list[str]]:
    """Return the pseudonyms behind every original or pseudonymous patient name."""
    names = {p: [p] for p in manifest.patients}
    private = root / "private" / "identifiers.csv"
    if private.is_file():
        for row in read_table(private):
            known = names.setdefault(normalise_id(plain_cell(row["patient_id"])), [])
            if row["pseudonym"] not in known:
                known.append(row["pseudonym"])
    return names


def read(root: Path) -> dict[str, str]:
    """Return the split of every patient.

    Raises:
        NothingUsableError: no split yet; says the command.
        RefusedError: a patient stands in it twice.
    """
    path = root / "split.parquet"
    if not path.is_file():
        words = f"{root}: no split yet. Run: medssl split {root} --seed 0 (or pass --split none)."
        raise NothingUsableError(words, "E-NOSPLIT")
    table = pq.read_table(path)
    patients, places = (table.column(c).to_pylist() for c in SCHEMA.names)
    twice = [p for p, n in Counter(patients).items() if n > 1]
    if twice:
        words = f"{path}: {len(twice)} patients stand in it twice ({twice[0]} first). Write a new split."
        raise RefusedError(words, "E-LEAK")
    return dict(zip(patients, places, strict=True))


def check_covers(split_of: dict[str, str], patients: Iterable[str], root: Path) -> None:
    """Raise RefusedError if a patient of the cohort has no place in the split."""
    new = sorted(set(patients) - set(split_of))
    if new:
        words = (
            f"{root}: {len(new)} patients joined after the split. Run: medssl split {root} --seed 0"
        )
        raise RefusedError(words, "E-SPLIT-OLD")


def budgets(
    classes: dict[str, str], percents: Sequence[float], seed: int
) -> dict[float, list[str] | None]:
    """Draw nested label budgets of patients, stratified by class.

    Args:
        classes: class of every training patient.
        percents: budgets, in percent of the patients.
        seed: one draw.

    Returns:
        Patients of every budget, smaller ones inside larger ones; None where the budget has fewer
        patients than there are classes, or misses one.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for patient, value in classes.items():
        groups[value].append(patient)
    order = {c: sorted(g, key=lambda p: rank(seed, "budget", p)) for c, g in groups.items()}
    out: dict[float, list[str] | None] = {}
    for percent in percents:
        wanted = round(len(classes) * percent / 100)
        if wanted < len(groups):
            out[percent] = None
            continue
        counts = {c: max(1, round(len(g) * percent / 100)) for c, g in groups.items()}
        out[percent] = sorted(p for c, g in order.items() for p in g[: counts[c]])
    return out


def split_digest(root: Path) -> str:
    """Return the SHA-256 of the split file."""
    return sha256_file(root / "split.parquet")


def counts(split_of: dict[str, str], patients: Iterable[str]) -> dict[str, Any]:
    """Return patients per split, for the record of a run."""
    return dict(sorted(Counter(split_of[p] for p in set(patients)).items()))
