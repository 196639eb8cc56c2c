"""The verb deid: de-identified copies of DICOM images, accounts that add up, a list for a person."""

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.cohort import rows as rows_room
from medssl.cohort import terms
from medssl.cohort.people import People, check_site
from medssl.cohort.privacy import SiteKey, open_key
from medssl.cohort.same import read_aliases
from medssl.cohort.walk import Found, walk
from medssl.errors import MedsslError, NothingUsableError, RefusedError, UsageError
from medssl.files import atomic, write_csv, write_json
from medssl.formats import worker

Progress = Callable[[int, int], None]
Header = dict[str, Any]

SCHEMA = 1
RULES = "medssl deid 1 on dicom-anonymizer, PS3.15 2024b"
PROMISE = (
    "Known identifiers were removed. Nobody can promise that none is left: text in the pixels is "
    "found by header and a screen of the border only, and faces and anatomy identify."
)
REVIEW = "R-BURNED-IN"
FILES = ("file_id", "file", "verdict", "code", "reason", "patient_id", "pseudonym", "copy")
# The shared tables' names for the elements whose values they decide.
SHARED = {
    "Modality": "modality",
    "ViewPosition": "view",
    "BodyPartExamined": "body_part",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "model",
}
LEAST_LOOKED_FOR = 6  # shorter identifiers occur in pixels by chance


@dataclass(frozen=True)
class DeidSettings:
    """What to copy, and under whose key.

    Attributes:
        source: folder or file.
        out: an empty or new folder for the copies, outside the source.
        key_file: the site's key, the one that ``scan`` uses; made on first use.
        site: the hospital's name; by default the key file's name without its ending.
        approve: text file, one path below the source per line: pictures that a person has seen.
        private: where the list of all files with their identifiers goes (mode 0600); by default
            beside the key.
        merge: tables of identifiers confirmed to be one patient, as ``scan`` takes them.
        workers: child processes that open the files.
    """

    source: Path
    out: Path
    key_file: Path
    site: str | None = None
    approve: Path | None = None
    private: Path | None = None
    merge: tuple[Path, ...] = ()
    workers: int = 2


@dataclass(frozen=True)
class DeidSummary:
    """Counts that add up: found = written + refused + skipped.

    ``review`` of the refused wait for a person's look; ``private`` is the list that names them.
    ``dropped`` counts elements left out of the copies, by reason; ``blanked`` bytes of text inside
    or after compressed pixels.
    """

    found: int
    written: int
    refused: int
    skipped: int
    review: int
    reasons: dict[str, int]
    dropped: dict[str, int]
    blanked: int
    site: str
    key: str
    private: Path
    approved: int = 0


@dataclass
class _Work:
    """One run's entries, headers and what became of them."""

    entries: dict[str, Found]
    headers: dict[str, Header] = field(default_factory=dict)
    pseudonyms: dict[str, str] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    blanked: int = 0


def deid(settings: DeidSettings, progress: Progress | None = None) -> DeidSummary:
    """Write de-identified copies of the images below a source.

    Every copy's PatientID is the pseudonym that ``scan`` gives the same patient under the same site
    and key. No copy is proof against re-identification; see ``PROMISE``.

    Raises:
        UsageError: no source, a bad site name, or lines of ``approve`` that name no file.
        RefusedError: the folder for the copies is not empty, or the places lie inside each other.
        NothingUsableError: no copy was made; the private list says why.
    """
    private = _check(settings)
    site = check_site(settings.site if settings.site is not None else settings.key_file.stem)
    key = open_key(site, settings.key_file, settings.out)
    entries = walk((settings.source,))
    approved = _approved(settings, {e.relative.as_posix() for e in entries})
    work = _Work({e.file_id: e for e in entries})
    pool = worker.Pool(settings.workers)
    try:
        _identify(work, settings, pool)
        for done, answer in enumerate(pool.run(_jobs(work, key, approved)), start=1):
            _take(work, answer, key, settings.out)
            if progress is not None:
                progress(done, len(work.headers))
    finally:
        pool.stop()
    summary = _summary(work, key, private, len(approved))
    _write_accounts(work, summary, settings)
    if not summary.written:
        words = f"{summary.found} files found, none copied; {private} says why."
        raise NothingUsableError(words, "E-NOTHING")
    return summary


def plan(settings: DeidSettings) -> dict[str, int]:
    """Return what a run would read, without reading or writing (``--dry-run``)."""
    _check(settings)
    entries = walk((settings.source,))
    readable = [e for e in entries if e.state == "found"]
    size = sum(e.path.stat().st_size for e in readable)
    return {"entries": len(entries), "readable": len(readable), "bytes": size}


def _check(settings: DeidSettings) -> Path:
    """Return the place of the private list; refuse places that would mix or leak."""
    source, out = settings.source.resolve(), settings.out.resolve()
    if not source.exists():
        raise UsageError(f"{settings.source}: no such file or folder.", "E-USAGE")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{settings.out}: is a file; --out is a folder.", "E-USAGE")
    if out.is_relative_to(source) or source.is_relative_to(out):
        words = f"{settings.out}: the copies and the source would lie in one another. Use another --out."
        raise RefusedError(words, "E-PLACE")
    if out.exists() and any(out.iterdir()):
        words = f"{settings.out}: not empty; nothing was written. Use a new --out."
        raise RefusedError(words, "E-NOTEMPTY")
    beside = settings.key_file.parent / f"{out.name}.deid-files.csv"
    private = settings.private if settings.private is not None else beside
    if private.resolve().is_relative_to(out):
        words = (
            f"{private}: names patients and would travel with the copies. Use another --private."
        )
        raise RefusedError(words, "E-PLACE")
    if private.exists():
        words = f"{private}: is there already. Move it away, or name another with --private."
        raise RefusedError(words, "E-EXISTS")
    return private


def _approved(settings: DeidSettings, known: set[str]) -> frozenset[str]:
    """Return the paths that a person has approved."""
    if settings.approve is None:
        return frozenset()
    if not settings.approve.is_file():
        raise UsageError(f"{settings.approve}: no such file; check --approve.", "E-APPROVE")
    text = settings.approve.read_text(encoding="utf-8-sig", errors="surrogateescape")
    lines = {number: line.strip() for number, line in enumerate(text.splitlines(), start=1)}
    unknown = [number for number, line in lines.items() if line and line not in known]
    if unknown:
        words = (
            f"{settings.approve}: {len(unknown)} line(s) name no file below the source (line "
            f"{unknown[0]} first). Write paths relative to it, one per line."
        )
        raise UsageError(words, "E-APPROVE")
    return frozenset(line for line in lines.values() if line)


def _identify(work: _Work, settings: DeidSettings, pool: worker.Pool) -> None:
    """Read whose every object is; set aside what has no patient, no UID, or one met before."""
    todo = [e for e in work.entries.values() if e.state == "found"]
    jobs = (worker.Job(e.file_id, "identify", (str(e.path),)) for e in todo)
    found: dict[str, Header] = {}
    for answer in pool.run(jobs):
        if answer.code:
            _refuse(work, answer.key, answer.code, answer.sentence)
        else:
            found[answer.key] = answer.data
    work.headers = {name: found[name] for name in work.entries if name in found}
    for name in list(work.headers):
        if not all(
            work.headers[name]["private"][k] for k in ("study_uid", "series_uid", "sop_uid")
        ):
            words = "has no study, series or SOP instance UID, so nothing could refer to its copy"
            _refuse(work, name, "E-NOUID", words)
            del work.headers[name]
    rules = rows_room.Rules(aliases=read_aliases(settings.merge))
    # One judgement of who is whom: a copy's PatientID must be the manifest's pseudonym.
    sites = rows_room.Sites(settings.site or settings.key_file.stem, None)
    rows_room.set_aside_doubtful(work.entries, work.headers, People(), rules, sites)


def _refuse(work: _Work, name: str, code: str, sentence: str) -> None:
    work.entries[name] = work.entries[name].refused(code, sentence)


def _jobs(work: _Work, key: SiteKey, approved: frozenset[str]) -> Iterator[worker.Job]:
    for name, head in work.headers.items():
        entry = work.entries[name]
        patient = _patient(head)
        work.pseudonyms[name] = key.pseudonym("p", *patient)
        values = terms.public({SHARED[k]: v for k, v in head["terms"].items()})
        settings = {
            "patient": work.pseudonyms[name],
            "days": days_back(key, *patient),
            "uids": {uid: new_uid(key, uid) for uid in head["uids"]},
            "terms": {k: _term(k, values[SHARED[k]]) for k in SHARED},
            "approved": entry.relative.as_posix() in approved,
        }
        yield worker.Job(name, "deidentify", (str(entry.path),), settings)


def _patient(head: Header) -> tuple[str, str]:
    return head["private"]["issuer"], head["patient"]


def _term(keyword: str, value: str | None) -> str:
    """Return a table's value; one that the table lacks is left out, but Modality must be something."""
    if value is not None and value != terms.OTHER:
        return value
    return "OT" if keyword == "Modality" else ""


def new_uid(key: SiteKey, uid: str) -> str:
    """Return the keyed UID of a UID: the same in every copy of a site, under the root 2.25."""
    return f"2.25.{int.from_bytes(_keyed(key, 'uid', uid)[:16])}"


def days_back(key: SiteKey, issuer: str, patient_id: str) -> int:
    """Return how many days (1 to 365) a patient's dates go back; their intervals survive."""
    return int.from_bytes(_keyed(key, "days", issuer, patient_id)) % 365 + 1


def _keyed(key: SiteKey, purpose: str, *parts: str) -> bytes:
    """HMAC-SHA256 as of ``SiteKey.pseudonym``, apart from it by a purpose no identifier can hold."""
    message = "\x1f".join((key.site, f"\x1e{purpose}", *parts)).encode(errors="surrogateescape")
    return hmac.new(key.secret, message, hashlib.sha256).digest()


def _take(work: _Work, answer: worker.Answer, key: SiteKey, out: Path) -> None:
    """Write one copy, or note why there is none."""
    if answer.code:
        _refuse(work, answer.key, answer.code, answer.sentence)
        return
    head = work.headers[answer.key]
    content = answer.arrays[0].tobytes()
    if _shows(content, head["identifiers"]):
        words = "an identifier of the header stands in the copy as well; nothing was written"
        _refuse(work, answer.key, "E-LEAK", words)
        return
    place = _place(head, key)
    with atomic(out / place) as stream:
        stream.write(content)
    work.dropped.update(answer.data["dropped"])
    work.blanked += int(answer.data["blanked"])
    work.entries[answer.key] = work.entries[answer.key].judged("indexed", image=place.as_posix())


def _shows(content: bytes, identifiers: list[str]) -> bool:
    """Return whether an identifier stands in the bytes as a word of its own: a last look."""
    long = {i.strip().encode() for i in identifiers if len(i.strip()) >= LEAST_LOOKED_FOR}
    found = (i for i in long if i in content)
    return any(
        re.search(rb"(?<![0-9A-Za-z.])" + re.escape(i) + rb"(?![0-9A-Za-z.])", content)
        for i in found
    )


def _place(head: Header, key: SiteKey) -> Path:
    """Return where a copy goes: patient, study, series and image as the manifest names them."""
    patient, private = _patient(head), head["private"]
    return Path(
        key.pseudonym("p", *patient),
        key.pseudonym("t", *patient, private["study_uid"]),
        key.pseudonym("s", *patient, private["series_uid"]),
        key.pseudonym("i", private["sop_uid"]) + ".dcm",
    )


def _verdict(entry: Found) -> str:
    if entry.state == "indexed":
        return "written"
    if entry.code == REVIEW:
        return "review"
    return "skipped" if entry.state == "skipped" else "refused"


def _summary(work: _Work, key: SiteKey, private: Path, approved: int) -> DeidSummary:
    entries = work.entries.values()
    verdicts = Counter(_verdict(e) for e in entries if e.state != "found")
    if verdicts.total() != len(entries):
        words = f"the accounts do not add up: {dict(verdicts)} of {len(entries)}."
        raise MedsslError(words, "E-ACCOUNTS")
    return DeidSummary(
        found=len(entries),
        written=verdicts["written"],
        refused=verdicts["refused"] + verdicts["review"],
        skipped=verdicts["skipped"],
        review=verdicts["review"],
        reasons=dict(Counter(e.code for e in entries if e.code).most_common()),
        dropped=dict(work.dropped.most_common()),
        blanked=work.blanked,
        site=key.site,
        key=key.digest,
        private=private,
        approved=approved,
    )


def _write_accounts(work: _Work, summary: DeidSummary, settings: DeidSettings) -> None:
    """Write the private list, and beside the copies counts that name nobody."""
    write_csv(
        summary.private,
        FILES,
        (
            (
                e.file_id,
                e.relative.as_posix(),
                _verdict(e),
                e.code,
                e.sentence,
                e.patient,
                work.pseudonyms.get(e.file_id, ""),
                e.image_id,
            )
            for e in work.entries.values()
        ),
        0o600,
    )
    counts = ("found", "written", "refused", "skipped", "review", "approved")
    told = {k: getattr(summary, k) for k in (*counts, "reasons", "dropped", "blanked", "site")}
    record = {"schema": SCHEMA, "rules": RULES, "key_digest": summary.key, **told, "note": PROMISE}
    write_json(settings.out / "deid.json", record)
