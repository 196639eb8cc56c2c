"""One person under two identifiers: aliases that a person has confirmed, and suspicions to confirm."""

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
from medssl.files import atomic, plain_cell

Who = tuple[str, str]
COLUMNS = ("patient_id", "issuer", "same_as", "same_as_issuer", "reason")
LINKS = pa.schema([("patient_a", pa.string()), ("patient_b", pa.string()), ("reason", pa.string())])
NO_NAME = {"", "ANONYMOUS", "ANON", "ANONYMIZED", "ANONYMISED", "UNKNOWN", "NONE", "TEST"}


@dataclass(frozen=True)
class Aliases:
    """Confirmed identities: (issuer, PatientID) to the one that stands for both."""

    of: dict[Who, Who] = field(default_factory=dict)

    def settle(self, who: Who) -> Who:
        """Return the identifier that stands for a person."""
        return self.of.get(who, self.of.get(("", who[1]), who) if ("", who[1]) in self.of else who)


def read_aliases(files: Iterable[Path]) -> Aliases:
    """Read merge tables: ``patient_id, same_as`` and optionally ``issuer, same_as_issuer``.

    Raises:
        UsageError: a missing column, a blank, an identifier merged into two, or a circle.
    """
    direct: dict[Who, Who] = {}
    problems: list[str] = []
    for path in files:
        for number, raw in sheets.numbered_rows(path):
            row = {k.lower(): normalise_id(plain_cell(v)) for k, v in raw.items()}
            if not {"patient_id", "same_as"} <= set(row):
                problems.append(f"{path.name}: needs the columns patient_id and same_as.")
                break
            alias = (row.get("issuer", ""), row["patient_id"])
            chief = (row.get("same_as_issuer", ""), row["same_as"])
            if not alias[1] or not chief[1]:
                problems.append(f"{path.name}, line {number}: a blank identifier.")
            elif alias == chief:
                problems.append(f"{path.name}, line {number}: merges an identifier into itself.")
            elif direct.setdefault(alias, chief) != chief:
                problems.append(f"{path.name}, line {number}: is merged into two others.")
    if problems:
        raise UsageError(problems[:20], "E-MERGE")
    return Aliases({alias: _end(alias, direct) for alias in direct})


def _end(alias: Who, direct: dict[Who, Who]) -> Who:
    seen = {alias}
    place = direct[alias]
    while place in direct:
        if place in seen:
            raise UsageError(
                "the merge table goes round in a circle; name one identifier.", "E-MERGE"
            )
        seen.add(place)
        place = direct[place]
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
        folds[site, fold(who[1])].add(who)
        plain = fold(name.replace("^", " "))
        if plain.upper() not in NO_NAME and birth.strip():
            names[site, plain, birth.strip()].add(who)
    found: dict[tuple[str, Who, Who], str] = {}
    for (site, *_), group in folds.items():
        _pairs(found, site, group, "identifiers differ in case, width or blanks only")
    for (site, *_), group in names.items():
        _pairs(found, site, group, "same name and birth date")
    return [Suspicion(a, b, site, reason) for (site, a, b), reason in sorted(found.items())]


def _pairs(found: dict[tuple[str, Who, Who], str], site: str, group: set[Who], why: str) -> None:
    """Note a group as pairs with its first member."""
    first, *others = sorted(group)
    for other in others:
        if other[1] != first[1]:
            found.setdefault((site, first, other), why)


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
