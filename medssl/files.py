"""Writing so that a file is old or new, never half; reading tables as text."""

import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from medssl.errors import DiskError, RefusedError, UsageError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a folder for one process; the system lets go when the process dies.

    Raises:
        RefusedError: another process holds it.
    """
    with (path / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            words = f"{path}: in use by another run. Wait for it to end, or use another folder."
            raise RefusedError(words, "E-LOCKED") from error
        yield


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
