"""One person under two identifiers: aliases that a person has confirmed, and suspicions to confirm."""

import itertools
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medssl.cohort import sheets
from medssl.cohort.privacy import normalise_id
from medssl.errors import UsageError
from medssl.files import atomic, plain_cell, write_csv

Who = tuple[str, str]
COLUMNS = ("patient_id", "issuer", "same_as", "same_as_issuer", "site", "reason")
LINKS = pa.schema([("patient_a", pa.string()), ("patient_b", pa.string()), ("reason", pa.string())])
WHY_SPELLING = "identifiers differ in case, width or blanks only"
WHY_NAME = "same name and birth date"
NO_BIRTH, MOST_NAMES = "19000101", 6
NO_NAME = {
    "",
    "ANONPATIENT",
    "PATIENT",
    "ANONYMOUSPATIENT",
    "ANONYMOUS",
    "ANON",
    "ANONYMIZED",
    "ANONYMISED",
    "UNKNOWN",
    "NONE",
    "TEST",
}


SUSPECTS, CONFIRMED = "suspects.csv", "merge.csv"
NOBODY = "\0nobody"


def is_nobody(who: Who) -> bool:
    """Return whether an identifier stands for a study without a PatientID."""
    return who[0] == NOBODY


@dataclass(frozen=True)
class Aliases:
    """Confirmed identities: (site, issuer, PatientID) to the (issuer, PatientID) that stands for both.

    An empty site or issuer of an alias means any.
    """

    of: dict[tuple[str, str, str], Who] = field(default_factory=dict)

    def settle(self, site: str, who: Who) -> Who:
        """Return the identifier that stands for a person."""
        for key in ((site, *who), (site, "", who[1]), ("", *who), ("", "", who[1])):
            if key in self.of:
                return self.of[key]
        return who

    def unused(self, here: Iterable[tuple[str, Who]]) -> int:
        """Return how many aliases name nobody of a cohort."""
        known: set[tuple[str, str, str]] = set()
        for site, (issuer, name) in here:
            known |= {(s, i, name) for s in (site, "") for i in (issuer, "")}
        return len(set(self.of) - known)


def read_aliases(files: Iterable[Path]) -> Aliases:
    """Read merge tables: ``patient_id, same_as``, optionally ``issuer, same_as_issuer, site``.

    Raises:
        UsageError: a missing column, a blank, an identifier merged into two, or a circle.
    """
    direct: dict[tuple[str, str, str], Who] = {}
    problems: list[str] = []
    for path in files:
        for number, raw in sheets.numbered_rows(path):
            row = {k.lower(): normalise_id(plain_cell(v)) for k, v in raw.items()}
            if not {"patient_id", "same_as"} <= set(row):
                problems.append(f"{path.name}: needs the columns patient_id and same_as.")
                break
            alias = (row.get("site", ""), row.get("issuer", ""), row["patient_id"])
            chief = (row.get("same_as_issuer", ""), row["same_as"])
            if not alias[2] or not chief[1]:
                problems.append(f"{path.name}, line {number}: a blank identifier.")
            elif alias[1:] == chief:
                problems.append(f"{path.name}, line {number}: merges an identifier into itself.")
            elif direct.setdefault(alias, chief) != chief:
                problems.append(f"{path.name}, line {number}: is merged into two others.")
    if problems:
        raise UsageError(problems[:20], "E-MERGE")
    return Aliases({alias: _end(alias, direct) for alias in direct})


def write_aliases(path: Path, aliases: Aliases) -> None:
    """Write the confirmed identities, to be read again at every later scan of the cohort."""
    if aliases.of:
        rows = ((a[2], a[1], c[1], c[0], a[0], "confirmed") for a, c in sorted(aliases.of.items()))
        write_csv(path, COLUMNS, rows, 0o600)


def _end(alias: tuple[str, str, str], direct: dict[tuple[str, str, str], Who]) -> Who:
    seen = {alias}
    place = direct[alias]
    while (key := (alias[0], *place)) in direct:
        if key in seen:
            words = "the merge table goes round in a circle; name one identifier."
            raise UsageError(words, "E-MERGE")
        seen.add(key)
        place = direct[key]
    return place


@dataclass(frozen=True)
class Suspicion:
    """Two identifiers at one site that may be one person; neither is merged."""

    first: Who
    second: Who
    site: str
    reason: str


def suspicions(people: Iterable[tuple[str, Who, str, str]]) -> list[Suspicion]:
    """Return pairs of identifiers of a site that differ in case or width, or share name and birth.

    Args:
        people: (site, (issuer, PatientID), PatientName, PatientBirthDate) of every image; repeated
            and blank ones are welcome.
    """
    folds: dict[tuple[str, str], set[Who]] = defaultdict(set)
    names: dict[tuple[str, str, str], set[Who]] = defaultdict(set)
    for site, who, name, birth in sorted(set(people)):
        if not is_nobody(who):
            folds[site, fold(who[1])].add(who)
        plain = fold(name.replace("^", " "))
        if plain.upper() not in NO_NAME and birth.strip() and birth.strip() != NO_BIRTH:
            names[site, plain, birth.strip()].add(who)
    found: dict[tuple[str, Who, Who], str] = {}
    for (site, *_), group in folds.items():
        ordered = sorted(group)
        for other in ordered[1:]:
            partner = next((w for w in ordered if w[1] != other[1]), None)
            if partner is not None:
                found.setdefault((site, partner, other), WHY_SPELLING)
    for (site, *_), group in names.items():
        ordered = sorted(group)
        if len(ordered) > MOST_NAMES:
            continue  # a placeholder under everybody's name, not a person
        for first, other in itertools.pairwise(ordered):
            found.setdefault((site, first, other), WHY_NAME)
    return [Suspicion(a, b, site, reason) for (site, a, b), reason in sorted(found.items())]


def fold(text: str) -> str:
    """Return text without case, width and blanks: what a typist may change unawares."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def write_links(root: Path, pairs: Iterable[tuple[str, str, str]]) -> None:
    """Write ``links.parquet``: pseudonyms of patients that a split keeps together, and why."""
    rows = [dict(zip(LINKS.names, pair, strict=True)) for pair in sorted(set(pairs))]
    with atomic(root / "links.parquet") as out:
        pq.write_table(pa.Table.from_pylist(rows, schema=LINKS), out)


def read_links(root: Path) -> list[dict[str, Any]]:
    """Return the suspected pairs of a cohort; none where it has no such file."""
    path = root / "links.parquet"
    return pq.read_table(path, schema=LINKS).to_pylist() if path.is_file() else []
