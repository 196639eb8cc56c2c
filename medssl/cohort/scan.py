"""The verb scan: a folder becomes a manifest, a quarantine list and accounts that add up."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from medssl.cohort import accounts, same
from medssl.cohort import labels as label_room
from medssl.cohort import manifest as manifest_room
from medssl.cohort.cache import HeaderCache, is_settled, tree_mark
from medssl.cohort.label_schema import read_schema
from medssl.cohort.people import check_site, is_derivative, read_people
from medssl.cohort.privacy import default_key_file, normalise_id
from medssl.cohort.rows import Keys, Private, Rules, Sites, build
from medssl.cohort.walk import Found, walk
from medssl.errors import NothingUsableError, RefusedError, UsageError
from medssl.files import locked, write_csv, write_json, write_text
from medssl.formats import cluster, worker

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ScanSettings:
    """What to scan and whose it is.

    Attributes:
        sources: folders or files.
        out: the cohort's folder.
        site, site_column: the hospital, or the table column that names it; exactly one.
        labels: label tables; label_columns: columns to take from them (empty: those with few values).
        label_schema: a table of the label columns and their possible, missing and uncertain values.
        tables: CSV or TSV that name patients by file; ``participants.tsv`` is found by itself.
        key_file: the site's key; default one file per site under ``~/.medssl/keys``.
        merge: tables of identifiers that a person has confirmed to be one patient.
        allow_unknown: take objects without a PatientID, each study as a patient of its own.
        allow_burned_in: take objects whose header says that text is burned in.
        update: scan again into a cohort that exists; sources given earlier are read again.
        workers: child processes that open the files.
        cluster: address of a dask scheduler whose workers open them instead.
    """

    sources: tuple[Path, ...]
    out: Path
    site: str | None = None
    site_column: str | None = None
    labels: tuple[Path, ...] = ()
    label_columns: tuple[str, ...] = ()
    label_schema: Path | None = None
    tables: tuple[Path, ...] = ()
    key_file: Path | None = None
    merge: tuple[Path, ...] = ()
    allow_unknown: bool = False
    allow_burned_in: bool = False
    update: bool = False
    workers: int = 2
    cluster: str | None = None


@dataclass(frozen=True)
class ScanSummary:
    """Counts that add up: found = indexed + skipped + quarantined.

    ``gone`` counts images of the earlier scan that this one no longer found (``--update``);
    ``suspects`` counts pairs of identifiers that may be one person; ``merge_unused`` counts lines of
    merge tables that name nobody here.
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
    suspects: int = 0
    merge_unused: int = 0


def scan(settings: ScanSettings, progress: Progress | None = None) -> ScanSummary:
    """Read every header below the sources and write the cohort.

    Raises:
        UsageError: a source is absent, or tables contradict themselves.
        RefusedError: the cohort exists, or its site was scanned with another key.
        NothingUsableError: no image; ``quarantine.csv`` says why.
    """
    settings = _with_earlier(settings)
    _check(settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    with locked(settings.out):
        return _scan(settings, progress)


def _scan(settings: ScanSettings, progress: Progress | None) -> ScanSummary:
    entries = {e.file_id: e for e in walk(settings.sources)}
    began, walked = time.time_ns(), dict(entries)
    before = _unchanged(settings.out, _mark(settings, walked)) if settings.update else None
    if before is not None:
        return before
    headers = _headers(entries, settings, progress)
    tables = [*settings.tables, *_participants(settings.sources)]
    people = read_people(tables, (e.path.name for e in entries.values()))
    keys = Keys(settings.out, settings.key_file)
    sites = Sites(settings.site, settings.site_column)
    confirmed = settings.out / accounts.FOLDER / same.CONFIRMED
    tables_of_aliases = [confirmed, *settings.merge] if confirmed.is_file() else settings.merge
    aliases = same.read_aliases(tables_of_aliases)
    rules = Rules(aliases, settings.allow_unknown, settings.allow_burned_in)
    rows, private = build(entries, headers, people, keys, sites, rules)
    if not rows:
        if not settings.update:
            _write_accounts(settings, entries, private)
        words = f"{len(entries)} files found, none usable; {settings.out}/quarantine.csv says why."
        raise NothingUsableError(words, "E-NOTHING")
    # Everything that may be refused comes before the first write.
    joined, reports = _labels(settings, rows, private)
    gone = _gone(settings, rows)
    suspects = _suspects(settings, rows, private)
    same.write_aliases(confirmed, aliases)
    _write_accounts(settings, entries, private)
    if settings.labels:
        label_room.write(settings.out, joined)
    manifest = manifest_room.make(settings.out, rows, keys.digests)
    found = _summary(entries, manifest, reports, joined)
    here = {(row["site"], one.who) for row, one in zip(rows, private, strict=True)}
    unused = aliases.unused(here)
    summary = replace(found, gone=gone, suspects=suspects, merge_unused=unused)
    _write_cohort(settings, summary)
    # The manifest comes last: it says that the scan is whole, and a scan without one continues.
    manifest_room.store(manifest)
    if is_settled((e.path for e in entries.values()), began):
        # Taken anew: a key may have been made since.
        write_text(_mark_file(settings.out), _mark(settings, walked), 0o600)
    return summary


OUTPUTS = ("manifest.parquet", "quarantine.csv", "cohort.json", "links.parquet")
PRIVATE = ("files.csv", "identifiers.csv", "paths.json", same.SUSPECTS)
FREE = {"workers", "cluster", "update", "out"}


def _mark_file(root: Path) -> Path:
    return root / accounts.FOLDER / "tree.sha256"


def _mark(settings: ScanSettings, entries: dict[str, Found]) -> str:
    """Return a digest of everything that decides what a scan writes."""
    asked = [f"{k}={_absolute(v)}" for k, v in vars(settings).items() if k not in FREE]
    schema = () if settings.label_schema is None else (settings.label_schema,)
    tables = (*settings.tables, *_participants(settings.sources), *settings.labels, *settings.merge)
    sites = [settings.site] if settings.site is not None else []
    if settings.site is None and (settings.out / "manifest.parquet").is_file():
        sites = sorted(manifest_room.read(settings.out).sites)
    keys = (settings.key_file or default_key_file(site) for site in sites)
    # A sheet of a workbook is named behind its file.
    files = (Path(str(t).partition("#")[0]) for t in (*tables, *schema))
    return tree_mark(entries.values(), asked, (*files, *keys))


def _absolute(value: Any) -> Any:
    """Return paths as they are from everywhere; an earlier scan may have named them from elsewhere."""
    if isinstance(value, tuple):
        return [_absolute(v) for v in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def _unchanged(root: Path, mark: str) -> ScanSummary | None:
    """Return what the last scan of this tree said, where nothing that it read has changed."""
    there = [root / n for n in OUTPUTS] + [root / accounts.FOLDER / n for n in PRIVATE]
    if not all(p.is_file() for p in [*there, _mark_file(root)]):
        return None
    if _mark_file(root).read_text() != mark:
        return None
    told = json.loads((root / "cohort.json").read_text())
    if told.pop("schema") != manifest_room.SCHEMA_VERSION:
        return None
    reports = tuple(_report(r) for r in told.pop("labels"))
    return ScanSummary(**{**told, "labels": reports, "gone": 0})


def _report(told: dict[str, Any]) -> label_room.JoinReport:
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
    return label_room.JoinReport(**lists)


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
    marks = ("manifest.parquet", "quarantine.csv", ".lock", "private/headers.jsonl")
    ours = any((settings.out / n).exists() for n in marks)
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
        label_schema=settings.label_schema
        or (Path(old) if (old := before.get("label_schema")) else None),
        allow_unknown=settings.allow_unknown or before.get("allow_unknown", False),
        allow_burned_in=settings.allow_burned_in or before.get("allow_burned_in", False),
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
    """Return the headers of all readable files, from the cache where they did not change."""
    todo = [e for e in entries.values() if e.state == "found"]
    cache = HeaderCache(settings.out)
    known = {e.file_id: answer for e in todo if (answer := cache.get(e)) is not None}
    jobs = (worker.Job(e.file_id, "header", (str(e.path),)) for e in todo if e.file_id not in known)
    headers: dict[str, dict[str, Any]] = {}
    try:
        for done, answer in enumerate(chain(known.values(), answers(jobs, settings)), start=1):
            if answer.key not in known:
                cache.put(entries[answer.key], answer, time.time_ns())
            _judge(entries, answer, headers)
            if progress is not None:
                progress(done, len(todo))
    finally:
        cache.flush()
    return {key: headers[key] for key in entries if key in headers}


def _judge(
    entries: dict[str, Found], answer: worker.Answer, headers: dict[str, dict[str, Any]]
) -> None:
    entry = entries[answer.key]
    if answer.code:
        entries[answer.key] = entry.refused(answer.code, answer.sentence)
    elif answer.data["kind"] == "nifti" and is_derivative(entry.relative):
        entries[answer.key] = entry.refused("S-DERIVATIVE", "a mask or other result, not an image")
    else:
        headers[answer.key] = answer.data


def answers(jobs: Iterator[worker.Job], settings: ScanSettings) -> Iterator[worker.Answer]:
    """Have the jobs done by child processes here, or on a cluster."""
    if settings.cluster is not None:
        return cluster.run(jobs, settings.cluster)
    return worker.run(jobs, settings.workers)


def _labels(
    settings: ScanSettings, rows: list[dict[str, Any]], private: list[Private]
) -> tuple[dict[label_room.Item, dict[str, str]], list[label_room.JoinReport]]:
    index: label_room.Index = defaultdict(lambda: defaultdict(list))
    for one in private:
        for kind in label_room.KEYS:
            for plane, value in one.originals(kind):
                index[kind][normalise_id(value)].append((one.image_id, plane))
    axial = {one.image_id: one.axial for one in private}
    depth = {row["image_id"]: row["frames"] if axial[row["image_id"]] else 0 for row in rows}
    found, reports = [], []
    schema = read_schema(settings.label_schema) if settings.label_schema is not None else {}
    owner = {row["image_id"]: row["patient_id"] for row in rows}
    for path in settings.labels:
        labels, report = label_room.join(
            path, index, depth, settings.label_columns, schema=schema, images=owner
        )
        found.append(labels)
        reports.append(report)
    label_room.check_used(schema, reports)
    return label_room.merge(found), reports


def _write_accounts(
    settings: ScanSettings, entries: dict[str, Found], private: list[Private]
) -> None:
    """Write the accounts, and beside them what this scan was asked for."""
    given = {k: getattr(settings, k) for k in ("sources", "tables", "labels")}
    record = {
        "site": settings.site,
        "site_column": settings.site_column,
        "label_columns": settings.label_columns,
        "label_schema": None
        if settings.label_schema is None
        else str(settings.label_schema.absolute()),
        "allow_unknown": settings.allow_unknown,
        "allow_burned_in": settings.allow_burned_in,
        **{k: [str(p.absolute()) for p in places] for k, places in given.items()},
    }
    accounts.write(settings.out, entries, private, record)


def _suspects(settings: ScanSettings, rows: list[dict[str, Any]], private: list[Private]) -> int:
    """Write what may be one person under two identifiers: for a person to confirm, and for the split."""
    site_of = {row["image_id"]: row["site"] for row in rows}
    whose = {(site_of[p.image_id], p.who): p.patient_id for p in private}
    told = (
        (site_of[p.image_id], p.who, p.original["name"], p.original["birth_date"]) for p in private
    )
    found = [s for s in same.suspicions(told) if whose[s.site, s.first] != whose[s.site, s.second]]
    # One line per identifier, so that the file can be confirmed as it is.
    lines = {s.second: s for s in reversed(found)}
    write_csv(
        accounts.private_folder(settings.out) / same.SUSPECTS,
        same.COLUMNS,
        (
            (s.second[1], s.second[0], s.first[1], s.first[0], s.site, s.reason)
            for s in lines.values()
            if not same.is_nobody(s.first) and not same.is_nobody(s.second)
        ),
        0o600,
    )
    pairs = ((whose[s.site, s.first], whose[s.site, s.second], s.reason) for s in found)
    same.write_links(settings.out, pairs)
    return len(found)


def _summary(
    entries: dict[str, Found],
    manifest: manifest_room.Manifest,
    reports: list[label_room.JoinReport],
    joined: dict[label_room.Item, dict[str, str]],
) -> ScanSummary:
    states = accounts.balance(entries.values())
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
        labelled_images=len(label_room.known_images(joined) & images),
        notes=dict(notes.most_common()),
    )


def _write_cohort(settings: ScanSettings, summary: ScanSummary) -> None:
    data = {"schema": manifest_room.SCHEMA_VERSION, **asdict(summary)}
    write_json(settings.out / "cohort.json", data)
