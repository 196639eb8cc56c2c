"""Which patient an object belongs to: its header, a table, or its BIDS label."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.cohort import sheets
from medssl.cohort.privacy import normalise_id
from medssl.errors import UsageError

BIDS_SUBJECT = re.compile(r"sub-([A-Za-z0-9]+)(?=[_.])")
BIDS_SESSION = re.compile(r"ses-([A-Za-z0-9]+)")
SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
PATIENT = ("patient_id", "participant_id", "subject", "patient")
FILE = ("file", "path", "filename", "image")


@dataclass(frozen=True)
class People:
    """What tables say: rows by file (relative path, or a name that one file has) and by patient."""

    by_file: dict[str, dict[str, str]] = field(default_factory=dict)
    by_patient: dict[str, dict[str, str]] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()

    def row(self, relative: Path, patient: str | None) -> dict[str, str]:
        """Return the table row of a file, else of a patient, else nothing."""
        for name in (relative.as_posix(), relative.name):
            if name in self.by_file and name not in self.ambiguous:
                return self.by_file[name]
        return self.by_patient.get(patient or "", {})

    def patient(self, relative: Path) -> str | None:
        """Return the patient of a file without a header of its own: table first, then BIDS."""
        row = self.row(relative, None)
        named = next((row[c] for c in PATIENT if row.get(c)), None)
        if named is not None:
            return named
        match = BIDS_SUBJECT.match(relative.name)
        return match[0] if match is not None else None


def read_people(tables: list[Path], names: Iterable[str] = ()) -> People:
    """Read tables that name patients; ``participants.tsv`` is one.

    Args:
        tables: CSV, TSV or Excel.
        names: bare names of all files found; one that two files have names neither.

    Raises:
        UsageError: a table without a patient column, or a file named for two patients.
    """
    by_file: dict[str, dict[str, str]] = {}
    by_patient: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for path in tables:
        for number, raw in sheets.numbered_rows(path):
            row = {key.lower(): value for key, value in raw.items()}
            patient = next((row[c] for c in PATIENT if row.get(c)), "")
            name = next((row[c] for c in FILE if c in row), None)
            if not set(PATIENT) & set(row):
                problems.append(f"{path.name}: needs a column patient_id or participant_id.")
                break
            if not patient:
                continue  # its file is set aside as having no patient, and listed so
            if name is None:
                known = by_patient.setdefault(normalise_id(patient), row)
                # Where two lines of a patient disagree, neither is believed.
                by_patient[normalise_id(patient)] = {
                    k: v for k, v in known.items() if row.get(k, v) == v
                }
            elif by_file.setdefault(name, row) != row:
                problems.append(f"{path.name}, line {number}: a file is named twice.")
    if problems:
        raise UsageError(problems[:20], "E-PEOPLE")
    twice = frozenset(n for n, count in Counter(names).items() if count > 1)
    return People(by_file, by_patient, twice)


def study_of(relative: Path) -> str:
    """Return the BIDS session of a file, or nothing."""
    match = BIDS_SESSION.search(relative.as_posix())
    return match[0] if match is not None else ""


def is_derivative(relative: Path) -> bool:
    """Return whether BIDS says the file is a result (mask, segmentation), not an image."""
    stem = relative.name.partition(".")[0].lower()
    return "derivatives" in relative.parts or stem.endswith(("_seg", "_dseg", "_mask", "_roi"))


def check_site(name: str) -> str:
    """Return the site name, or raise UsageError if it could not name a file."""
    if SITE_NAME.fullmatch(name) is None:
        words = "a site name has 1 to 32 letters, digits, '-' or '_', the first no '-' or '_'."
        raise UsageError(words, "E-SITE")
    return name


def details(row: dict[str, str]) -> dict[str, Any]:
    """Return sex and age in years as a table states them."""
    sex = row.get("sex", "").upper()[:1]
    try:
        age: float | None = float(row.get("age", ""))
    except ValueError:
        age = None
    return {"sex": sex if sex in {"F", "M", "O"} else None, "age_years": age}
