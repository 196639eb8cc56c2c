"""From headers to manifest rows: whose each object is, and the identifiers kept apart."""

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort import terms
from medssl.cohort.people import People, check_site, details, study_of
from medssl.cohort.privacy import SiteKey, age_band, normalise_id, open_key
from medssl.cohort.same import NOBODY, Aliases
from medssl.cohort.stacks import stack
from medssl.cohort.walk import Found
from medssl.errors import MedsslError, RefusedError
from medssl.formats.slices import is_axial

Header = dict[str, Any]


BURNED_IN = "the header says that text is burned into the picture; it may name the patient"
UNKNOWN = "W-UNKNOWN-PATIENT"


@dataclass(frozen=True)
class Sites:
    """How a site is told: one name for all, or the table column that holds it."""

    name: str | None
    column: str | None


@dataclass(frozen=True)
class Rules:
    """What a person has decided about doubtful objects.

    Attributes:
        aliases: identifiers confirmed to be one person.
        allow_unknown: take objects without a PatientID, each study as a patient of its own.
        allow_burned_in: take objects whose header says that text is burned in.
    """

    aliases: Aliases = field(default_factory=Aliases)
    allow_unknown: bool = False
    allow_burned_in: bool = False


class Keys:
    """The key of every site met, opened once."""

    def __init__(self, cohort: Path, file: Path | None) -> None:
        self.cohort, self.file = cohort, file
        self.keys: dict[str, SiteKey] = {}
        self.earlier: dict[str, str] = {}
        with contextlib.suppress(MedsslError):
            self.earlier = manifest_room.read(cohort).sites

    def of(self, site: str) -> SiteKey:
        """Return the key of a site; refuse one that differs from the earlier scan's."""
        if site not in self.keys:
            key = open_key(site, self.file, self.cohort)
            if self.earlier.get(site, key.digest) != key.digest:
                words = (
                    f"site {site}: this cohort was scanned with another key ({self.earlier[site]}, now "
                    f"{key.digest}); the same patient would get two names. Give the site's own --key-file."
                )
                raise RefusedError(words, "E-KEY-CHANGED")
            self.keys[site] = key
        return self.keys[site]

    @property
    def digests(self) -> dict[str, str]:
        """Return the digest of every key met."""
        return {site: key.digest for site, key in sorted(self.keys.items())}


@dataclass(frozen=True)
class Private:
    """The identifiers behind one image; stays in ``private/``."""

    image_id: str
    patient_id: str
    files: tuple[str, ...]
    original: dict[str, str]
    members: tuple[tuple[str, str], ...] = ()
    identities: tuple[str, ...] = ()
    axial: bool = True

    @property
    def who(self) -> tuple[str, str]:
        """Return (issuer, PatientID) as found; of a study without one, its pseudonym and a mark."""
        if not self.original["patient_id"].strip("^. -_"):
            return NOBODY, self.patient_id
        return self.original["issuer"], self.original["patient_id"]

    def originals(self, kind: str) -> list[tuple[int, str]]:
        """Return (plane, value) of one key; UIDs and files of a stack's members name one plane.

        Stored planes are axial: the files of a sagittal or coronal stack name none of them.
        """
        whole = label_room.WHOLE
        if not self.axial and kind in {"file", "sop_uid"}:
            return []
        if kind == "file":
            own = [(whole, self.original["file"])]
            paths = [(k, f) for k, (_, f) in enumerate(self.members)] or own
            return [*paths, *((k, Path(f).name) for k, f in paths if Path(f).name != f)]
        if kind == "sop_uid" and self.members:
            return [(k, uid) for k, (uid, _) in enumerate(self.members)]
        value = self.original.get(kind, "")
        return [(whole, value)] if value else []


def build(
    entries: dict[str, Found],
    headers: dict[str, Header],
    people: People,
    keys: Keys,
    sites: Sites,
    rules: Rules,
) -> tuple[list[dict[str, Any]], list[Private]]:
    """Return the manifest rows and the identifiers behind them; every entry gets its verdict.

    Args:
        entries: by file id; judged in place.
        headers: of the readable ones, as the readers return them.
        people, keys, sites: who is whom, under which name, where.
        rules: what a person has decided about doubtful objects.

    Raises:
        RefusedError: a site scanned earlier with another key.
    """
    set_aside_doubtful(entries, headers, people, rules, sites)
    rows: list[dict[str, Any]] = []
    private: list[Private] = []
    for files, notes, step in stack(headers):
        entry, head = entries[files[0]], headers[files[0]]
        site = _site(entry, head, people, sites)
        if site is None:
            for name in files:
                words = f"no site: the table has no {sites.column} for this patient"
                entries[name] = entries[name].refused("E-NOSITE", words)
            continue
        row, secret = _row(entry, head, files, (site, keys.of(site)), people)
        if len(files) > 1:
            uids = [headers[f]["private"]["sop_uid"] for f in files]
            names = [entries[f].relative.as_posix() for f in files]
            # A series may hold several stacks: a volume is named by its members, not its series.
            row["image_id"] = keys.of(site).pseudonym("i", *sorted(uids))
            members = tuple(zip(uids, names, strict=True))
            axial = is_axial(head["stack"]["orientation"])
            secret = replace(secret, members=members, image_id=row["image_id"], axial=axial)
        told = tuple(headers[f]["identity"] for f in files if "identity" in headers[f])
        secret = replace(secret, identities=told)
        row["notes"] = " ".join([*row["notes"], *notes])
        if step is not None:
            row["spacing_slice_mm"] = step
        rows.append(row)
        private.append(secret)
        for name in files:
            entries[name] = entries[name].judged("indexed", image=row["image_id"])
    _set_days(rows, private)
    return rows, private


def set_aside_doubtful(
    entries: dict[str, Found],
    headers: dict[str, Header],
    people: People,
    rules: Rules,
    sites: Sites,
) -> None:
    """Quarantine what has no patient, a UID met before, a series of two patients, burned-in text."""
    seen: dict[str, str] = {}
    known = _issuers(headers)
    unclear = _settle_issuers(headers, known)
    owners: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name, head in headers.items():
        _settle_patient(entries[name], head, people, (rules, sites), known)
        entries[name] = replace(entries[name], patient=head["told"])
        if head["private"].get("series_uid") and head["patient"]:
            who = (head["private"].get("issuer", ""), head["patient"])
            owners[head["private"]["series_uid"]].add(who)
    # Of files with one UID the longest is kept: a copy that was cut off is shorter.
    for name in sorted(headers, key=lambda n: (-_size(entries[n].path), n)):
        head = headers[name]
        uid = head["private"].get("sop_uid") or entries[name].relative.as_posix()
        if not head["patient"]:
            code, words = (
                "E-NOPATIENT",
                "no patient: PatientID is blank, or no table or label names one",
            )
        elif len(owners.get(head["private"].get("series_uid", ""), ())) > 1:
            code, words = "E-TWO-PATIENTS", "its series names two patients; ask which is right"
        elif name in unclear:
            words = "no issuer, and its PatientID has several issuers elsewhere; ask whose it is"
            code = "E-ISSUER"
        elif head.get("burned_in") and not rules.allow_burned_in:
            code, words = "R-BURNED-IN", f"{BURNED_IN}; look at it, then --allow-burned-in"
        elif uid in seen:
            what = "SOPInstanceUID" if head["private"].get("sop_uid") else "relative path"
            code, words = "E-SAME-UID", f"the same {what} as {seen[uid]}; one of them was kept"
        else:
            seen[uid] = name
            continue
        entries[name] = entries[name].refused(code, words)
        del headers[name]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _settle_patient(
    entry: Found,
    head: Header,
    people: People,
    decided: tuple[Rules, Sites],
    known: dict[str, set[str]],
) -> None:
    """Set ``told`` (the identifier as found) and ``patient`` (who it stands for; empty: nobody)."""
    rules, sites = decided
    told = normalise_id(_patient(entry, head, people) or "")
    head["told"], head["patient"] = told, told if told.strip("^. -_") else ""
    if head["patient"]:
        site = _site(entry, head, people, sites) or ""
        issuer, chief = rules.aliases.settle(site, (head["private"].get("issuer", ""), told))
        if not issuer and len(known.get(chief, ())) == 1:
            issuer = next(iter(known[chief]))
        head["private"]["issuer"], head["patient"] = issuer, chief
    elif rules.allow_unknown and head["kind"] == "dicom":
        secret = head["private"]
        own = secret.get("study_uid") or secret.get("series_uid") or entry.relative.as_posix()
        head["patient"] = f"unknown patient of study {own}"
        head["public"]["notes"] = [*head["public"]["notes"], UNKNOWN]


def _issuers(headers: dict[str, Header]) -> dict[str, set[str]]:
    """Return every issuer that each PatientID comes with."""
    known: dict[str, set[str]] = defaultdict(set)
    for head in headers.values():
        secret = head["private"]
        if secret.get("issuer"):
            secret["issuer"] = normalise_id(secret["issuer"])
            known[normalise_id(secret["patient_id"])].add(secret["issuer"])
    return known


def _settle_issuers(headers: dict[str, Header], known: dict[str, set[str]]) -> set[str]:
    """Give a blank issuer the only one its PatientID has elsewhere; return whom that leaves unclear."""
    unclear = set()
    for name, head in headers.items():
        secret = head["private"]
        found = known.get(normalise_id(secret.get("patient_id", "")), set())
        if secret.get("issuer") or not found:
            continue
        if len(found) == 1:
            secret["issuer"] = next(iter(found))
        else:
            unclear.add(name)
    return unclear


def _patient(entry: Found, head: dict[str, Any], people: People) -> str | None:
    if head["kind"] == "dicom":
        return str(head["private"]["patient_id"])
    if head["kind"] == "raster" and not people.row(entry.relative, None):
        return None
    return people.patient(entry.relative)


def _site(entry: Found, head: dict[str, Any], people: People, sites: Sites) -> str | None:
    if sites.name is not None:
        return sites.name
    row = people.row(entry.relative, head["told"])
    value = row.get((sites.column or "").lower(), "")
    return check_site(value) if value else None


def _row(
    entry: Found,
    head: dict[str, Any],
    files: tuple[str, ...],
    place: tuple[str, SiteKey],
    people: People,
) -> tuple[dict[str, Any], Private]:
    site, key = place
    secret, public = head["private"], terms.public(head["public"])
    patient = (secret.get("issuer", ""), head["patient"])
    study = secret.get("study_uid") or study_of(entry.relative) or head["patient"]
    series = secret.get("series_uid") or entry.relative.as_posix()
    many = len(files) > 1
    told = details(people.row(entry.relative, head["told"]))
    years = public.pop("age_years", None)
    volume = many or head["volume"]
    row = {
        **{c.name: None for c in manifest_room.COLUMNS},
        **public,
        "image_id": key.pseudonym("i", secret.get("sop_uid") or entry.relative.as_posix()),
        "patient_id": key.pseudonym("p", *patient),
        "study_id": key.pseudonym("t", *patient, study),
        "series_id": key.pseudonym("s", *patient, series),
        "site": site,
        "format": head["kind"],
        "kind": "volume" if volume else "frames" if public["frames"] > 1 else "image",
        "frames": len(files) if many else public["frames"],
        "sex": public.get("sex") or told["sex"],
        "age_band": age_band(told["age_years"] if years is None else years),
        "file_id": entry.file_id,
    }
    original = {
        "sop_uid": secret.get("sop_uid", ""),
        "series_uid": secret.get("series_uid", ""),
        "study_uid": secret.get("study_uid", ""),
        "accession": secret.get("accession", ""),
        "patient_id": head["told"],
        "issuer": secret.get("issuer", ""),
        "name": secret.get("name", ""),
        "birth_date": secret.get("birth_date", ""),
        "study_date": secret.get("study_date", ""),
        "file": entry.relative.as_posix(),
    }
    return row, Private(row["image_id"], row["patient_id"], files, original)


def _set_days(rows: list[dict[str, Any]], private: list[Private]) -> None:
    """Replace dates by the year and days since the patient's first study: intervals survive."""
    dates: dict[str, date] = {}
    for one in private:
        with contextlib.suppress(ValueError):
            dates[one.image_id] = (
                datetime.strptime(one.original["study_date"], "%Y%m%d").replace(tzinfo=UTC).date()
            )
    first: dict[str, date] = {}
    for row in rows:
        day = dates.get(row["image_id"])
        if day is not None:
            first[row["patient_id"]] = min(day, first.get(row["patient_id"], day))
    for row in rows:
        day = dates.get(row["image_id"])
        row["day"] = None if day is None else (day - first[row["patient_id"]]).days
        row["year"] = None if day is None else day.year
