"""The verb check: one page on the health of a cohort, before a long run spends days on it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from medssl.check import accounts, duplicates, headers, labels, orientation, pictures
from medssl.check.health import Finding, Health, Section, Table, finding
from medssl.check.page import write_page
from medssl.cohort import manifest as manifest_room
from medssl.files import sha256_file
from medssl.store import Store

__all__ = ["Finding", "Health", "Table", "check", "write_page"]


def check(root: Path, store: str | None = None) -> Health:
    """Look at everything a cohort's folder holds and say what is wrong with it.

    Args:
        root: the cohort's folder; nothing in it is changed.
        store: name of one store below ``root/store``; default: the one decoded last.

    Returns:
        Findings, the worst first, and the tables behind them. A damaged file is a finding too.

    Raises:
        NothingUsableError: no manifest, no image, or no store of that name.
        RefusedError: the manifest was written by another version.
    """
    table = manifest_room.read(root).table
    folder = pictures.newest(root, store)
    parts = list(_parts(root, table, folder))
    return Health(
        cohort=root.resolve().name,
        manifest_sha256=sha256_file(root / "manifest.parquet"),
        store=None if folder is None else folder.name,
        images=table.num_rows,
        findings=tuple(sorted((f for p in parts for f in p.findings), key=lambda f: -f.rank)),
        tables=tuple(t for p in parts for t in p.tables),
    )


def _parts(root: Path, table: pa.Table, folder: Path | None) -> Iterator[Section]:
    opened: list[Store] = []
    yield _guarded("cohort.json or a list of files", lambda: accounts.check(root, table))
    yield _guarded("manifest.parquet", lambda: headers.check(table))
    yield _guarded("labels.parquet", lambda: labels.check(root, table))
    if folder is None:
        yield pictures.undecoded(root)
    else:
        yield _guarded(f"store {folder.name}", lambda: _pixels(root, table, folder, opened))
    last = opened[0] if opened else None
    yield _guarded("split.parquet or a list of pairs", lambda: duplicates.check(root, table, last))


def _pixels(root: Path, table: pa.Table, folder: Path, opened: list[Store]) -> Section:
    store = pictures.opened(folder)
    seen = pictures.measure(store)
    opened.append(store)
    first = pictures.check(root, table, store, seen)
    second = orientation.check(table, store, seen)
    return Section(first.findings + second.findings, first.tables + second.tables)


def _guarded(what: str, part: Callable[[], Section]) -> Section:
    """Turn a file that cannot be read into a finding, so that the rest is still looked at."""
    try:
        return part()
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        words = "{what} cannot be judged ({kind}): damaged, or not written by medssl. Make it anew."
        kind = type(error).__name__
        return Section((finding("stop", "H-UNREADABLE", words, what=what, kind=kind),))
