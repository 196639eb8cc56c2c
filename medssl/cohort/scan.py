"""The verb scan: a folder becomes a manifest, a quarantine list and accounts that add up."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort.people import check_site, is_derivative, read_people
from medssl.cohort.privacy import normalise_id
from medssl.cohort.rows import Keys, Private, Sites, build
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
    """Counts that add up: found = indexed + skipped + quarantined.

    ``gone`` counts images of the earlier scan that this one no longer found (``--update``).
    """

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
    notes: dict[str, int] = field(default_factory=dict)
    gone: int = 0


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
    tables = [*settings.tables, *_participants(settings.sources)]
    people = read_people(tables, (e.path.name for e in entries.values()))
    keys = Keys(settings.out, settings.key_file)
    sites = Sites(settings.site, settings.site_column)
    rows, private = build(entries, headers, people, keys, sites)
    if not rows:
        if not settings.update:
            _write_accounts(settings, entries, private)
        words = f"{len(entries)} files found, none usable; {settings.out}/quarantine.csv says why."
        raise NothingUsableError(words, "E-NOTHING")
    # Everything that may be refused comes before the first write.
    joined, reports = _labels(settings, rows, private)
    gone = _gone(settings, rows)
    manifest = manifest_room.write(settings.out, rows, keys.digests)
    _write_accounts(settings, entries, private)
    if settings.labels:
        label_room.write(settings.out, joined)
    summary = replace(_summary(entries, manifest, reports, joined), gone=gone)
    _write_cohort(settings, summary)
    return summary


def _gone(settings: ScanSettings, rows: list[dict[str, Any]]) -> int:
    """Return how many images of the earlier manifest are in the new one no more."""
    if not (settings.out / "manifest.parquet").is_file():
        return 0
    before = set(manifest_room.read(settings.out).column("image_id"))
    return len(before - {row["image_id"] for row in rows})


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
    if settings.out.exists() and not settings.out.is_dir():
        raise UsageError(f"{settings.out}: is a file; --out is a folder.", "E-USAGE")
    if settings.out.exists() and any(settings.out.iterdir()) and not ours:
        words = (
            f"{settings.out}: not empty and not a cohort; nothing was written. Use another --out."
        )
        raise RefusedError(words, "E-NOTEMPTY")


def _with_earlier(settings: ScanSettings) -> ScanSettings:
    """On --update, read the sources, tables and labels of the earlier scans again, as they were.

    Raises:
        RefusedError: an earlier source is not there, or belongs to another site.
    """
    record = settings.out / "private" / "paths.json"
    if not settings.update or not record.is_file():
        return settings
    before = json.loads(record.read_text())
    problems = []
    if (settings.site, settings.site_column) != (before["site"], before["site_column"]):
        problems.append(
            f"{settings.out}: was scanned as site {before['site'] or before['site_column']}; a cohort of "
            "another site needs a folder of its own."
        )
    gone = [k for k in before["sources"] if not Path(k).exists()]
    if gone:
        problems.append(
            f"{settings.out}: {len(gone)} source(s) of the earlier scan are not there now, so their images "
            "would vanish. Mount them, or scan into a new folder."
        )
    if problems:
        raise RefusedError(problems, "E-UPDATE")
    return replace(
        settings,
        sources=_joined(before["sources"], settings.sources),
        tables=_joined(before["tables"], settings.tables),
        labels=_joined(before["labels"], settings.labels),
        label_columns=tuple(dict.fromkeys([*before["label_columns"], *settings.label_columns])),
    )


def _joined(earlier: list[str], now: tuple[Path, ...]) -> tuple[Path, ...]:
    places = {p.resolve(): p for p in [*map(Path, earlier), *now]}
    return tuple(places.values())


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


def _labels(
    settings: ScanSettings, rows: list[dict[str, Any]], private: list[Private]
) -> tuple[dict[label_room.Item, dict[str, str]], list[label_room.JoinReport]]:
    index: label_room.Index = defaultdict(lambda: defaultdict(list))
    for one in private:
        for kind in label_room.KEYS:
            for plane, value in one.originals(kind):
                index[kind][normalise_id(value)].append((one.image_id, plane))
    depth = {row["image_id"]: row["frames"] for row in rows}
    found, reports = [], []
    for path in settings.labels:
        labels, report = label_room.join(path, index, depth, settings.label_columns)
        found.append(labels)
        reports.append(report)
    return label_room.merge(found), reports


def _write_accounts(
    settings: ScanSettings, entries: dict[str, Found], private: list[Private]
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
    given = {k: getattr(settings, k) for k in ("sources", "tables", "labels")}
    record = {
        "site": settings.site,
        "site_column": settings.site_column,
        "label_columns": settings.label_columns,
        **{k: [str(p.absolute()) for p in places] for k, places in given.items()},
        "images": paths,
    }
    # ASCII JSON keeps file names that are not UTF-8; a CSV for people would not.
    text = json.dumps(record, indent=0)
    write_text(folder / "paths.json", text, 0o600)


def _summary(
    entries: dict[str, Found],
    manifest: manifest_room.Manifest,
    reports: list[label_room.JoinReport],
    joined: dict[label_room.Item, dict[str, str]],
) -> ScanSummary:
    states = Counter(e.state for e in entries.values())
    if states["indexed"] + states["skipped"] + states["quarantined"] != len(entries):
        raise MedsslError(
            f"the accounts do not add up: {dict(states)} of {len(entries)}.", "E-ACCOUNTS"
        )
    per_patient = Counter(manifest.column("patient_id"))
    images = set(manifest.column("image_id"))
    site_of = dict(zip(manifest.column("patient_id"), manifest.column("site"), strict=True))
    notes = Counter(code for text in manifest.column("notes") for code in text.split())
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
        notes=dict(notes.most_common()),
    )


def _write_cohort(settings: ScanSettings, summary: ScanSummary) -> None:
    data = {"schema": manifest_room.SCHEMA_VERSION, **asdict(summary)}
    write_json(settings.out / "cohort.json", data)
