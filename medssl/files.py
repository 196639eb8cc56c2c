"""Writing so that a file is old or new, never half; reading tables as text."""

import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from medssl.errors import DiskError, RefusedError, UsageError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
LOCK_TRIES, LOCK_PAUSE_S = 4, 0.05


@contextmanager
def atomic(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing: a temporary beside it, synced, then renamed over it.

    Raises:
        DiskError: no room; whatever stood at ``path`` is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb"
        ) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        # NumPy tells of a short write in words only: "N requested and M written".
        if error.errno in NO_ROOM or (error.errno is None and " written" in str(error)):
            words = (
                f"{path.name}: the disk is full; nothing was replaced. Free some space and repeat."
            )
            raise DiskError(words, "E-DISK") from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Have the new name survive a power cut; where folders cannot be synced, nothing is lost by it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Holder:
    """Who holds a folder, as far as its lock says.

    Attributes:
        pid: its process; None where the lock does not say.
        since: start in UTC, ISO 8601; None where the lock does not say.
        here: on this machine, since its last start.
    """

    pid: int | None = None
    since: str | None = None
    here: bool = True

    def __str__(self) -> str:
        if self.pid is None:
            return ""
        where = "" if self.here else " on another machine"
        return f"process {self.pid}{where}" + (f" since {_clock(self.since)}" if self.since else "")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a folder for one process; the system lets go when the process dies.

    The lock is the system's (flock); what ``.lock`` holds only tells others who has it.

    Raises:
        RefusedError: another process holds it, or the file system has no locks.
    """
    with (path / ".lock").open("a+b") as handle:
        if not _taken(handle, path):
            holder = _told(handle)
            who = f" ({holder})" if str(holder) else ""
            words = (
                f"{path}: in use by another run{who}. Wait for it to end, or use another folder."
            )
            raise RefusedError(words, "E-LOCKED")
        _tell(handle, {"pid": os.getpid(), "since": _now(), "machine": _machine()})
        try:
            yield
        finally:
            _tell(handle, {})


def holder(path: Path) -> Holder | None:
    """Return who holds a folder; None when nobody does. Never takes it from anybody.

    Raises:
        OSError: the lock cannot be read.
    """
    try:
        handle = (path / ".lock").open("rb")
    except FileNotFoundError:
        return None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _told(handle)
    return None


def _taken(handle: IO[bytes], path: Path) -> bool:
    # A glance by ``holder`` lasts microseconds; only who stays is a run.
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)
        except OSError as error:
            words = (
                f"{path}: this file system cannot lock files ({error.strerror}), so that two runs "
                "could share the folder. Use a folder on another file system."
            )
            raise RefusedError(words, "E-LOCKED") from error
        else:
            return True
    return False


def _tell(handle: IO[bytes], facts: dict[str, Any]) -> None:
    """Write who holds the lock; a courtesy, so a full disk does not matter."""
    with suppress(OSError):
        os.ftruncate(handle.fileno(), 0)
        os.write(handle.fileno(), json.dumps(facts).encode() if facts else b"")


def _told(handle: IO[bytes]) -> Holder:
    """Read who holds the lock; an empty holder where it does not say."""
    try:
        handle.seek(0)
        facts = json.loads(handle.read(512))
        pid, since = int(facts["pid"]), str(facts["since"])
        datetime.fromisoformat(since)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Holder()
    return Holder(pid, since, facts.get("machine") == _machine())


def _machine() -> str:
    """Return a digest of this machine since its last start; it tells no name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    start = boot.read_text().strip() if boot.is_file() else ""
    return hashlib.sha256(f"{platform.node()} {start}".encode()).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _clock(since: str) -> str:
    """Return a start as people read it: the time, and the day if it was another."""
    begun = datetime.fromisoformat(since)
    today = begun.date() == datetime.now(UTC).date()
    return begun.strftime("%H:%M UTC" if today else "%Y-%m-%d %H:%M UTC")


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write UTF-8 text in one piece."""
    with atomic(path, mode) as out:
        out.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, data: Any, mode: int = 0o644) -> None:
    """Write indented JSON in one piece."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n", mode)


def safe_cell(value: object) -> str:
    """Return text that no spreadsheet runs and no terminal obeys."""
    if isinstance(value, int | float):
        return str(value)
    text = CONTROL.sub("", str(value))
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def plain_cell(text: str) -> str:
    """Return the text behind a cell that ``safe_cell`` made harmless."""
    return text[1:] if text.startswith("'") and safe_cell(text[1:]) == text else text


def write_csv(
    path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]], mode: int = 0o644
) -> None:
    """Write a CSV with every cell quoted and made harmless."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(list(columns))
    writer.writerows([safe_cell(v) for v in row] for row in rows)
    write_text(path, text.getvalue(), mode)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV or TSV as text: ``007`` stays ``007``; see ``numbered_table``."""
    return [row for _, row in numbered_table(path)]


def numbered_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV or TSV as text, with the line on which every row begins.

    Comma, semicolon and tab are understood; UTF-8 with or without BOM, and UTF-16 with BOM.

    Raises:
        UsageError: absent, empty, repeated column names, or rows of another length.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such table; check the path.", "E-TABLE")
    raw = path.read_bytes()
    encoding = "utf-16" if raw[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path.name}: not UTF-8 (byte {error.start}); save it as UTF-8.", "E-TABLE"
        ) from error
    lines = list(_rows(text, path.name))
    if not lines or not any(lines[0][1]):
        raise UsageError(f"{path.name}: the table is empty.", "E-TABLE")
    names = [name.strip() for name in lines[0][1]]
    problems = [
        f"{path.name}: column {n!r} stands twice." for n in sorted(set(names)) if names.count(n) > 1
    ]
    body = [(i, line) for i, line in lines[1:] if any(cell.strip() for cell in line)]
    for number, line in body:
        if len(line) != len(names):
            problems.append(f"{path.name}, line {number}: {len(line)} cells, {len(names)} columns.")
    if problems:
        raise UsageError(problems[:20], "E-TABLE")
    return [(i, dict(zip(names, (cell.strip() for cell in line), strict=True))) for i, line in body]


def _rows(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    csv.field_size_limit(1 << 20)
    reader = csv.reader(io.StringIO(text.replace("\0", ""), newline=""), delimiter=delimiter)
    begun = 1
    try:
        for line in reader:
            yield begun, line
            begun = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{name}: not readable as a table ({error}).", "E-TABLE") from error


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
