"""What readers did and said: one append-only SQLite table, nothing ever changed or removed.

The state of a case is the sum of its events, so an undo is an event too, and the table is the audit
log at the same time. Write-ahead logging with full synchronisation: what was answered ``saved``
survives a killed server and a power cut.
"""

import csv
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medssl.files import safe_cell

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL,
  user TEXT NOT NULL,
  model TEXT NOT NULL DEFAULT '',
  image_id TEXT NOT NULL DEFAULT '',
  slice INTEGER NOT NULL DEFAULT -1,
  kind TEXT NOT NULL,
  data TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS by_reader ON events (user, model);
CREATE TRIGGER IF NOT EXISTS keep_all BEFORE DELETE ON events
  BEGIN SELECT RAISE(ABORT, 'events are kept'); END;
CREATE TRIGGER IF NOT EXISTS keep_each BEFORE UPDATE ON events
  BEGIN SELECT RAISE(ABORT, 'events are kept'); END;
"""
CASE_KINDS = ("opened", "read", "revealed", "changed", "feedback", "flag")
APART = frozenset({"feedback", "changed"})
APART_ALL = APART | {"read", "revealed"}
OTHER_KINDS = ("signed in", "exported", "undo", "habit")
BUSY_S = 20.0

Key = tuple[str, int]


@dataclass(frozen=True)
class Status:
    """One reader's standing on one case.

    Attributes:
        read: own answer and confidence before the model's, with its time; None before it.
        revealed: time at which the model's answer was shown, empty before.
        changed: whether seeing it changed the reader's mind; None where not said.
        feedback: verdict, corrected answer, reasons, box and note, with its time and number (which an
            undo names); None before it.
        flagged: whether the reader marked the case.
    """

    read: dict[str, Any] | None = None
    revealed: str = ""
    changed: bool | None = None
    feedback: dict[str, Any] | None = None
    flagged: bool = False


@dataclass(frozen=True)
class Event:
    """One row of the table."""

    number: int
    at: str
    user: str
    model: str
    key: Key
    kind: str
    data: dict[str, Any] = field(default_factory=dict)


class Journal:
    """The table in a file of its own (mode 0600)."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = not file.exists()
        if new:
            file.touch(mode=0o600)
        with self._open() as base:
            base.executescript("PRAGMA journal_mode=WAL;" + SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        base = sqlite3.connect(self.file, timeout=BUSY_S, isolation_level=None)
        try:
            base.execute("PRAGMA synchronous=FULL")
            yield base
        finally:
            base.close()

    def add(
        self, user: str, kind: str, data: dict[str, Any], *, model: str = "", key: Key = ("", -1)
    ) -> int:
        """Write one event and return its number; when this returns, it is on the disk.

        Raises:
            ValueError: an unknown kind.
            sqlite3.OperationalError: the disk is full, or another writer held the file too long.
        """
        if kind not in CASE_KINDS + OTHER_KINDS:
            raise ValueError(f"{kind!r} is no kind of event; known: {CASE_KINDS + OTHER_KINDS}.")
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        words = "INSERT INTO events (at, user, model, image_id, slice, kind, data) VALUES (?,?,?,?,?,?,?)"
        with self._open() as base:
            done = base.execute(words, (at, user, model, key[0], key[1], kind, json.dumps(data)))
            return int(done.lastrowid or 0)

    def events(
        self, user: str | None = None, model: str | None = None, after: int = 0
    ) -> list[Event]:
        """Return the events of a reader and a model beyond a number, oldest first; None: of all."""
        words = (
            "SELECT id, at, user, model, image_id, slice, kind, data FROM events "
            "WHERE (?1 IS NULL OR user = ?1) AND (?2 IS NULL OR model = ?2) AND id > ?3 ORDER BY id"
        )
        with self._open() as base:
            rows = base.execute(words, (user, model, after)).fetchall()
        return [Event(r[0], r[1], r[2], r[3], (r[4], r[5]), r[6], json.loads(r[7])) for r in rows]

    def standing(
        self, user: str, model: str, finding: str | None = None, apart: frozenset[str] = APART
    ) -> dict[Key, Status]:
        """Return one reader's standing on every case of a model; see ``fold``."""
        return fold(self.events(user, model), finding, apart)


def fold(
    events: Iterable[Event], finding: str | None = None, apart: frozenset[str] = APART
) -> dict[Key, Status]:
    """Sum up events of one reader and model; an event that was undone counts as never made.

    Args:
        events: oldest first.
        finding: events of the kinds ``apart`` count only where they are about it; None takes all.
        apart: what is said of each finding by itself. Where classes exclude each other one own read
            answers for all of them; where they do not, reads are apart too (``APART_ALL``).
    """
    rows = list(events)
    undone = {int(e.data["event"]) for e in rows if e.kind == "undo"}
    found: dict[Key, Status] = {}
    for event in rows:
        other = event.kind in apart and finding not in {None, event.data.get("finding", finding)}
        if event.kind in CASE_KINDS and event.number not in undone and not other:
            found[event.key] = _after(found.get(event.key, Status()), event)
    return found


def _after(before: Status, event: Event) -> Status:
    if event.kind == "opened":
        return before
    if event.kind == "read":
        # What is answered after the computer's answer was seen is no read of one's own.
        seen = bool(before.revealed)
        return before if seen else replace(before, read=event.data | {"at": event.at})
    if event.kind == "revealed":
        return replace(before, revealed=before.revealed or event.at)
    if event.kind == "changed":
        return replace(before, changed=bool(event.data["changed"]))
    if event.kind == "flag":
        return replace(before, flagged=bool(event.data["on"]))
    return replace(before, feedback=event.data | {"at": event.at, "number": event.number})


COLUMNS = (
    "note", "user", "model", "image_id", "slice", "finding", "own_answer", "own_confidence", "own_seconds",
    "read_at", "revealed_at", "changed_mind", "verdict", "corrected", "reasons", "box",
    "comment", "answered_at", "flagged",
)  # fmt: skip


def export(rows: dict[tuple[str, str, Key, str], Status], banner: str) -> list[dict[str, Any]]:
    """Return one flat row per reader, model, case and finding, each with the banner."""
    out = []
    for (user, model, key, finding), status in sorted(rows.items()):
        read, said = status.read or {}, status.feedback or {}
        values = (
            banner, user, model, key[0], key[1], finding, read.get("answer"), read.get("confidence"),
            read.get("seconds"), read.get("at"), status.revealed or None, status.changed,
            said.get("verdict"), said.get("corrected"), said.get("reasons"), said.get("box"),
            said.get("note"), said.get("at"), status.flagged,
        )  # fmt: skip
        out.append(dict(zip(COLUMNS, values, strict=True)))
    return out


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return an export as CSV; cells that a spreadsheet would run as formulas are made harmless."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {k: v if type(v) is int else _cell(v) for k, v in row.items()}
        writer.writerow({k: safe_cell(v) for k, v in cells.items()})
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)


def as_json(rows: list[dict[str, Any]]) -> str:
    """Return an export as JSON."""
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
