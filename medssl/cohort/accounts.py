"""Every file and its verdict: the private accounts, and the list that may leave."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medssl.cohort.labels import KEYS
from medssl.cohort.rows import Private
from medssl.cohort.walk import Found
from medssl.errors import MedsslError
from medssl.files import plain_cell, write_csv, write_text

QUARANTINE = ("file_id", "stage", "verdict", "code", "reason")
FILES = ("file_id", "file", "verdict", "code", "reason", "patient_id", "pseudonym", "image_id")
IDENTIFIERS = ("image_id", "pseudonym", "files", *KEYS, "issuer", "study_date")
FOLDER = "private"
Failures = dict[str, tuple[str, str]]


def private_folder(root: Path) -> Path:
    """Return ``COHORT/private``, made for its owner alone."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def balance(entries: Iterable[Found]) -> Counter[str]:
    """Return how many files were indexed, skipped and quarantined.

    Raises:
        MedsslError: some file has no verdict, or a refused one no reason.
    """
    every = list(entries)
    states: Counter[str] = Counter(e.state for e in every)
    mute = sum(not (e.code and e.sentence) for e in every if e.state != "indexed")
    if states["indexed"] + states["skipped"] + states["quarantined"] != len(every) or mute:
        words = (
            f"the accounts do not add up: {dict(states)} of {len(every)}, {mute} without a reason."
        )
        raise MedsslError(words, "E-ACCOUNTS")
    return states


def write(
    root: Path, entries: dict[str, Found], private: list[Private], record: dict[str, Any]
) -> None:
    """Write ``quarantine.csv`` and, under ``private/``, files, identifiers and paths.

    Args:
        root: the cohort's folder.
        entries: every file found, judged.
        private: the identifiers behind every image.
        record: what the scan was asked for, to be asked again on ``--update``.
    """
    folder = private_folder(root)
    aside = [e for e in entries.values() if e.state != "indexed"]
    rows = ((e.file_id, "scan", e.state, e.code, e.sentence) for e in aside)
    write_csv(root / "quarantine.csv", QUARANTINE, rows)
    owner = {p.image_id: p for p in private}
    write_csv(folder / "files.csv", FILES, (_file_row(e, owner) for e in entries.values()), 0o600)
    write_csv(
        folder / "identifiers.csv",
        IDENTIFIERS,
        (
            (
                p.image_id,
                p.patient_id,
                " ".join(p.files),
                *(p.original.get(k, "") for k in IDENTIFIERS[3:]),
            )
            for p in private
        ),
        0o600,
    )
    paths = {p.image_id: [str(entries[f].path.absolute()) for f in p.files] for p in private}
    # ASCII JSON keeps file names that are not UTF-8; a CSV for people would not.
    known = {p.image_id: p.identities for p in private if p.identities}
    told = {**record, "images": paths, "identities": known}
    write_text(folder / "paths.json", json.dumps(told, indent=0), 0o600)


def _file_row(entry: Found, owner: dict[str, Private]) -> tuple[object, ...]:
    one = owner.get(entry.image_id)
    patient = entry.patient if one is None else one.original["patient_id"]
    pseudonym = "" if one is None else one.patient_id
    return (
        entry.file_id,
        entry.path.absolute(),
        entry.state,
        entry.code,
        entry.sentence,
        patient,
        pseudonym,
        entry.image_id,
    )


def settle(root: Path, file_ids: dict[str, str], failed: Failures) -> None:
    """Write the final verdicts after a decode: what it could not read is quarantined.

    A repeated decode repeats no line, and takes back what can be read now.

    Args:
        root: the cohort's folder.
        file_ids: first file of every image.
        failed: (code, sentence) of every image that could not be decoded.
    """
    at = FILES.index("image_id")
    told = list(_lines(root / FOLDER / "files.csv"))
    members: dict[str, list[str]] = {image: [] for image in file_ids}
    for row in told:
        image = row[at]
        if image in members:
            code, sentence = failed.get(image, ("", ""))
            row[2:5] = ["quarantined" if code else "indexed", code, sentence]
            members[image].append(row[0])
    if told:
        _rewrite(root / FOLDER / "files.csv", FILES, told, 0o600)
    path = root / "quarantine.csv"
    rows = [r for r in _lines(path) if r[1] != "decode"]
    for image, (code, sentence) in sorted(failed.items()):
        for name in members[image] or [file_ids[image]]:
            rows.append([name, "decode", "quarantined", code, sentence])
    _rewrite(path, QUARANTINE, rows, 0o644)


def _rewrite(path: Path, columns: tuple[str, ...], rows: list[list[str]], mode: int) -> None:
    """Write rows back; cells made harmless before stay as they are."""
    write_csv(path, columns, ([plain_cell(c) for c in row] for row in rows), mode)


def _lines(path: Path) -> Iterator[list[str]]:
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            lines = csv.reader(stream)
            next(lines, None)
            yield from lines
