"""The verb scan: a folder becomes a manifest, a quarantine list and accounts that add up."""

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort.people import People, check_site, details, is_derivative, read_people, study_of
from medssl.cohort.privacy import SiteKey, age_band, normalise_id, open_key
from medssl.cohort.stacks import stack
from medssl.cohort.walk import Found, walk
from medssl.errors import MedsslError, NothingUsableError, RefusedError, UsageError
from medssl.files import write_csv, write_json, write_text
from medssl.formats import worker

Progress = Callable[[int, int], None]
QUARANTINE = ("file_id", "stage", "state", "code", "reason")


@dataclass(frozen=True)
class ScanSettings:
    """What to scan and whose it is.

    Attributes:
        sources: folders or files.
        out: the cohort's folder.
        site, site_column: the hospital, or the table column that names it; exactly one.
        labels: label tables; label_columns: columns to take from them (empty: those with few values).
        tables: CSV or TSV that name patients by file; ``participants.tsv`` is found by itself.
        key_file: the site's key; default one file per site under ``~/.medssl/keys``.
        update: scan again into a cohort that exists; sources given earlier are read again.
        workers: child processes that open the files.
    """

    sources: tuple[Path, ...]
    out: Path
    site: str | None = None
    site_column: str | None = None
    labels: tuple[Path, ...] = ()
    label_columns: tuple[str, ...] = ()
    tables: tuple[Path, ...] = ()
    key_file: Path | None = None
    update: bool = False
    workers: int = 2


@dataclass(frozen=True)
class ScanSummary:
    """Counts that add up: found = indexed + skipped + quarantined."""

    found: int
    indexed: int
    skipped: int
    quarantined: int
    images: int
    patients: int
    patients_with_two: int
    sites: dict[str, int]
    reasons: dict[str, int]
    labels: tuple[label_room.JoinReport, ...]
    labelled_images: int
    key_files: dict[str, str] = field(default_factory=dict)


def scan(settings: ScanSettings, progress: Progress | None = None) -> ScanSummary:
    """Read every header below the sources and write the cohort.

    Raises:
        UsageError: a source is absent, or tables contradict themselves.
        RefusedError: the cohort exists, or its site was scanned with another key.
        NothingUsableError: no image; ``quarantine.csv`` says why.
    """
    settings = _with_earlier(settings)
    _check(settings)
    entries = {e.file_id: e for e in walk(settings.sources)}
    headers = _headers(entries, settings, progress)
    people = read_people([*settings.tables, *_participants(settings.sources)])
    keys = _Keys(settings)
    rows, private = _rows(entries, headers, people, keys)
    _write_accounts(settings, entries, private)
    if not rows:
        words = f"{len(entries)} files found, none usable; {settings.out}/quarantine.csv says why."
        raise NothingUsableError(words, "E-NOTHING")
    joined, reports = _labels(settings, private)
    manifest = manifest_room.write(settings.out, rows, keys.digests)
    if settings.labels:
        label_room.write(settings.out, joined)
    summary = _summary(entries, manifest, reports, joined, keys)
    _write_cohort(settings, summary)
    return summary


def plan(settings: ScanSettings) -> dict[str, int]:
    """Return what a scan would read, without reading it (``--dry-run``)."""
    _check(settings)
    entries = walk(settings.sources)
    readable = [e for e in entries if e.state == "found"]
    size = sum(e.path.stat().st_size for e in readable)
    return {"entries": len(entries), "readable": len(readable), "bytes": size}


def _check(settings: ScanSettings) -> None:
    problems = [f"{s}: no such file or folder." for s in settings.sources if not s.exists()]
    if (settings.site is None) == (settings.site_column is None):
        problems.append("give exactly one of --site NAME and --site-column COLUMN.")
    if settings.site is not None:
        check_site(settings.site)
    if problems:
        raise UsageError(problems, "E-USAGE")
    there = settings.out / "manifest.parquet"
    if there.exists() and not settings.update:
        words = f"{settings.out}: holds a cohort already. Use another --out, or --update to scan it again."
        raise RefusedError(words, "E-EXISTS")
    ours = any((settings.out / n).exists() for n in ("manifest.parquet", "quarantine.csv"))
    if settings.out.exists() and any(settings.out.iterdir()) and not ours:
        words = (
            f"{settings.out}: not empty and not a cohort; nothing was written. Use another --out."
        )
        raise RefusedError(words, "E-NOTEMPTY")


def _with_earlier(settings: ScanSettings) -> ScanSettings:
    """On --update, read the sources of the earlier scans again."""
    record = settings.out / "private" / "paths.json"
    if not settings.update or not record.is_file():
        return settings
    earlier = [Path(s) for s in json.loads(record.read_text())["sources"]]
    here = {s.resolve() for s in settings.sources}
    extra = tuple(s for s in earlier if s.resolve() not in here and s.exists())
    return replace(settings, sources=(*extra, *settings.sources))


def _participants(sources: tuple[Path, ...]) -> list[Path]:
    return [p for s in sources if (p := s / "participants.tsv").is_file()]


def _headers(
    entries: dict[str, Found], settings: ScanSettings, progress: Progress | None
) -> dict[str, dict[str, Any]]:
    todo = [e for e in entries.values() if e.state == "found"]
    jobs = (worker.Job(e.file_id, "header", (str(e.path),)) for e in todo)
    headers: dict[str, dict[str, Any]] = {}
    for done, answer in enumerate(worker.run(jobs, settings.workers), start=1):
        entry = entries[answer.key]
        if answer.code:
            entries[answer.key] = entry.refused(answer.code, answer.sentence)
        elif answer.data["kind"] == "nifti" and is_derivative(entry.relative):
            entries[answer.key] = entry.refused(
                "S-DERIVATIVE", "a mask or other result, not an image"
            )
        else:
            headers[answer.key] = answer.data
        if progress is not None:
            progress(done, len(todo))
    return {key: headers[key] for key in entries if key in headers}


class _Keys:
    """The key of every site met, opened once."""

    def __init__(self, settings: ScanSettings) -> None:
        self.settings = settings
        self.keys: dict[str, SiteKey] = {}
        self.earlier: dict[str, str] = {}
        with contextlib.suppress(MedsslError):
            self.earlier = manifest_room.read(settings.out).sites

    def of(self, site: str) -> SiteKey:
        if site not in self.keys:
            key = open_key(site, self.settings.key_file, self.settings.out)
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
        return {site: key.digest for site, key in sorted(self.keys.items())}


@dataclass(frozen=True)
class _Private:
    """The identifiers behind one image; stays in ``private/``."""

    image_id: str
    patient_id: str
    files: tuple[str, ...]
    original: dict[str, str]


def _rows(
    entries: dict[str, Found],
    headers: dict[str, dict[str, Any]],
    people: People,
    keys: _Keys,
) -> tuple[list[dict[str, Any]], list[_Private]]:
    _set_aside_doubtful(entries, headers, people)
    rows: list[dict[str, Any]] = []
    private: list[_Private] = []
    for files, notes, step in stack(headers):
        entry, head = entries[files[0]], headers[files[0]]
        site = _site(entry, head, people, keys.settings)
        if site is None:
            for name in files:
                words = f"no site: the table has no {keys.settings.site_column} for this patient"
                entries[name] = entries[name].refused("E-NOSITE", words)
            continue
        row, secret = _row(entry, head, files, (site, keys.of(site)), people)
        row["notes"] = " ".join([*row["notes"], *notes])
        if step is not None:
            row["spacing_slice_mm"] = step
        rows.append(row)
        private.append(secret)
        for name in files:
            entries[name] = entries[name].judged("indexed", image=row["image_id"])
    _set_days(rows, private)
    return rows, private


def _set_aside_doubtful(
    entries: dict[str, Found], headers: dict[str, dict[str, Any]], people: People
) -> None:
    """Quarantine what has no patient, a UID met before, or a series of two patients."""
    seen: dict[str, str] = {}
    owners: dict[str, set[str]] = defaultdict(set)
    for name, head in headers.items():
        head["patient"] = normalise_id(_patient(entries[name], head, people) or "")
        if head["private"].get("series_uid"):
            owners[head["private"]["series_uid"]].add(head["patient"])
    for name in list(headers):
        head = headers[name]
        uid = head["private"].get("sop_uid", "")
        if not head["patient"].strip("^. -_"):
            code, words = (
                "E-NOPATIENT",
                "no patient: PatientID is blank, or no table or label names one",
            )
        elif len(owners.get(head["private"].get("series_uid", ""), ())) > 1:
            code, words = "E-TWO-PATIENTS", "its series names two patients; ask which is right"
        elif uid and uid in seen:
            code, words = (
                "E-SAME-UID",
                f"the same SOPInstanceUID as {seen[uid]}; one of them was kept",
            )
        else:
            seen.setdefault(uid, name)
            continue
        entries[name] = entries[name].refused(code, words)
        del headers[name]


def _patient(entry: Found, head: dict[str, Any], people: People) -> str | None:
    if head["kind"] == "dicom":
        return str(head["private"]["patient_id"])
    if head["kind"] == "raster" and not people.row(entry.relative, None):
        return None
    return people.patient(entry.relative)


def _site(entry: Found, head: dict[str, Any], people: People, settings: ScanSettings) -> str | None:
    if settings.site is not None:
        return settings.site
    row = people.row(entry.relative, head["patient"])
    value = row.get((settings.site_column or "").lower(), "")
    return check_site(value) if value else None


def _row(
    entry: Found,
    head: dict[str, Any],
    files: tuple[str, ...],
    place: tuple[str, SiteKey],
    people: People,
) -> tuple[dict[str, Any], _Private]:
    site, key = place
    secret, public = head["private"], dict(head["public"])
    patient = (secret.get("issuer", ""), head["patient"])
    study = secret.get("study_uid") or study_of(entry.relative) or head["patient"]
    series = secret.get("series_uid") or entry.relative.as_posix()
    many = len(files) > 1
    told = details(people.row(entry.relative, head["patient"]))
    years = public.pop("age_years", None)
    volume = many or head["kind"] == "nifti"
    row = {
        **{c.name: None for c in manifest_room.COLUMNS},
        **public,
        "image_id": key.pseudonym("i", series if many else secret.get("sop_uid") or series),
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
        "patient_id": head["patient"],
        "study_date": secret.get("study_date", ""),
        "file": entry.relative.as_posix(),
    }
    return row, _Private(row["image_id"], row["patient_id"], files, original)


def _set_days(rows: list[dict[str, Any]], private: list[_Private]) -> None:
    """Replace dates by days since the patient's first study: intervals survive, dates do not."""
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


def _labels(
    settings: ScanSettings, private: list[_Private]
) -> tuple[dict[label_room.Item, dict[str, str]], list[label_room.JoinReport]]:
    index: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in private:
        for kind in label_room.KEYS:
            value = one.original.get(kind, "")
            if value:
                index[kind][normalise_id(value)].append(one.image_id)
        index["file"][Path(one.original["file"]).name].append(one.image_id)
    joined: dict[label_room.Item, dict[str, str]] = defaultdict(dict)
    reports = []
    for path in settings.labels:
        found, report = label_room.join(path, index, settings.label_columns)
        for item, values in found.items():
            joined[item].update(values)
        reports.append(report)
    return dict(joined), reports


def _write_accounts(
    settings: ScanSettings, entries: dict[str, Found], private: list[_Private]
) -> None:
    """Write ``quarantine.csv`` and the private files; every entry has a verdict by now."""
    folder = settings.out / "private"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    aside = [e for e in entries.values() if e.state != "indexed"]
    write_csv(
        settings.out / "quarantine.csv",
        QUARANTINE,
        ((e.file_id, "scan", e.state, e.code, e.sentence) for e in aside),
    )
    write_csv(
        folder / "files.csv",
        ("file_id", "path", "state", "code", "reason", "image_id"),
        (
            (e.file_id, e.path.absolute(), e.state, e.code, e.sentence, e.image_id)
            for e in entries.values()
        ),
        0o600,
    )
    names = ("image_id", "patient_id", "files", *label_room.KEYS, "study_date")
    write_csv(
        folder / "identifiers.csv",
        ("image_id", "pseudonym", *names[2:]),
        (
            (
                p.image_id,
                p.patient_id,
                " ".join(p.files),
                *(p.original.get(k, "") for k in names[3:]),
            )
            for p in private
        ),
        0o600,
    )
    paths = {p.image_id: [str(entries[f].path.absolute()) for f in p.files] for p in private}
    sources = [str(s.absolute()) for s in settings.sources]
    # ASCII JSON keeps file names that are not UTF-8; a CSV for people would not.
    text = json.dumps({"sources": sources, "images": paths}, indent=0)
    write_text(folder / "paths.json", text, 0o600)


def _summary(
    entries: dict[str, Found],
    manifest: manifest_room.Manifest,
    reports: list[label_room.JoinReport],
    joined: dict[label_room.Item, dict[str, str]],
    keys: _Keys,
) -> ScanSummary:
    states = Counter(e.state for e in entries.values())
    if states["indexed"] + states["skipped"] + states["quarantined"] != len(entries):
        raise MedsslError(
            f"the accounts do not add up: {dict(states)} of {len(entries)}.", "E-ACCOUNTS"
        )
    per_patient = Counter(manifest.column("patient_id"))
    images = set(manifest.column("image_id"))
    site_of = dict(zip(manifest.column("patient_id"), manifest.column("site"), strict=True))
    shown = {site: str(keys.settings.key_file or "default") for site in keys.keys}
    return ScanSummary(
        found=len(entries),
        indexed=states["indexed"],
        skipped=states["skipped"],
        quarantined=states["quarantined"],
        images=manifest.table.num_rows,
        patients=len(per_patient),
        patients_with_two=sum(n > 1 for n in per_patient.values()),
        sites=dict(sorted(Counter(site_of.values()).items())),
        reasons=dict(Counter(e.code for e in entries.values() if e.code).most_common()),
        labels=tuple(reports),
        labelled_images=len({image for image, _ in joined} & images),
        key_files=shown,
    )


def _write_cohort(settings: ScanSettings, summary: ScanSummary) -> None:
    data = asdict(summary)
    data.pop("key_files")
    write_json(settings.out / "cohort.json", {"schema": manifest_room.SCHEMA_VERSION, **data})
