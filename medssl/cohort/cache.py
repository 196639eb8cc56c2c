"""Headers read before: an interrupted scan continues, an unchanged file is not opened again."""

import hashlib
import json
import os
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medssl.cohort.accounts import private_folder
from medssl.cohort.walk import Found
from medssl.errors import DiskError
from medssl.files import NO_ROOM
from medssl.formats.worker import Answer

CACHE_VERSION = 1
READERS = ("medssl", "pydicom", "nibabel", "pillow")
FLUSH_EVERY = 256
FRESH_NS = 2_000_000_000
PASSING = {"E-CRASH", "E-DEADLINE", "E-MEMORY", "E-PAIR", "S-PARTNER"}


class HeaderCache:
    """``private/headers.jsonl``: one line per file read, keyed by its path, size, times and inode.

    A file changed less than two seconds before it was read is read again: a later change within
    the clock's grain would not show.
    """

    def __init__(self, root: Path) -> None:
        self.path = private_folder(root) / "headers.jsonl"
        self.stamp = _stamp()
        self.known = self._read()
        self.fresh: list[str] = []
        self._start()

    def get(self, entry: Found) -> Answer | None:
        """Return what was read of an unchanged file; None if it must be opened."""
        found = self.known.get(str(entry.path.absolute()))
        if found is None or found["stat"] != _stat(entry.path):
            return None
        return Answer(entry.file_id, found["code"], found["sentence"], found["data"])

    def put(self, entry: Found, answer: Answer, now_ns: int) -> None:
        """Remember an answer; crashes and halves of pairs are not remembered, they may not repeat."""
        stat = _stat(entry.path)
        if answer.code in PASSING or now_ns - max(stat[1:3]) < FRESH_NS:
            return
        line: dict[str, Any] = {
            "path": str(entry.path.absolute()),
            "stat": stat,
            "code": answer.code,
        }
        line |= {"sentence": answer.sentence, "data": answer.data}
        self.fresh.append(json.dumps(line))
        if len(self.fresh) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what is in hand.

        Raises:
            DiskError: no room; what was read before is still there.
        """
        try:
            with self.path.open("a", encoding="utf-8") as out:
                out.writelines(line + "\n" for line in self.fresh)
        except OSError as error:
            if error.errno in NO_ROOM:
                words = f"{self.path.name}: the disk is full; free some space and repeat."
                raise DiskError(words, "E-DISK") from error
            raise
        self.fresh = []

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.is_file():
            return {}
        known: dict[str, dict[str, Any]] = {}
        with self.path.open(encoding="utf-8", errors="replace") as stream:
            if stream.readline().strip() != self.stamp:
                return {}
            for line in stream:
                try:
                    found = json.loads(line)
                    known[found["path"]] = found
                except (ValueError, KeyError, TypeError):
                    continue  # the line in hand when a scan was killed
        return known

    def _start(self) -> None:
        """Begin the file anew where it is absent or of other readers; end a line cut by a kill."""
        if not self.known:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w") as out:
                out.write(self.stamp + "\n")
        else:
            self.path.chmod(0o600)
            with self.path.open("a", encoding="utf-8") as out:
                out.write("\n")


def _stat(path: Path) -> list[int]:
    try:
        found = path.lstat()
    except OSError:
        return [-1, -1, -1, -1]
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _stamp() -> str:
    """Return one line that changes with the cache's form and with every reader's version."""
    text = json.dumps([CACHE_VERSION, {name: version(name) for name in READERS}])
    return f"medssl headers {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def tree_mark(entries: Iterable[Found], asked: Iterable[str], beside: Iterable[Path]) -> str:
    """Return a digest of a tree as it is: a scan of the same tree for the same would write the same.

    Args:
        entries: what was found, with size and time.
        asked: the settings, as text.
        beside: tables and keys, whose size and time count too.
    """
    digest = hashlib.sha256(_stamp().encode())
    for text in asked:
        digest.update(f"{text}\0".encode(errors="surrogateescape"))
    for path in beside:
        digest.update(f"{path}\0{_stat(path)}\0".encode(errors="surrogateescape"))
    for entry in entries:
        told = f"{os.path.abspath(entry.path)}\0{_stat(entry.path)}\0{entry.code}\0"  # noqa: PTH100
        digest.update(told.encode(errors="surrogateescape"))
    return digest.hexdigest()


def is_settled(beside: Iterable[Path], now_ns: int) -> bool:
    """Return whether files are older than the grain of the clock."""
    return all(now_ns - max(_stat(path)[1:3]) >= FRESH_NS for path in beside)
