"""The audit log as rows: what a reader may see of it, and as CSV."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

import text_settings as words
from journal import CASE_KINDS, Event
from medssl.files import safe_cell

COLUMNS = ("note", "number", "at", "reader", "event", "image_id", "slice", "model", "details")


def rows(events: Iterable[Event], reader: str, banner: str) -> list[dict[str, Any]]:
    """Return one flat row per event, newest first.

    What another reader answered about a case stays out, so that a second reader is blind to the
    first; that they answered, and when, is there.

    Args:
        events: of one reader or of all.
        reader: who looks.
        banner: the note that every exported row carries.
    """
    out = []
    for event in events:
        hidden = event.user != reader and event.kind in (*CASE_KINDS, "undo")
        details = words.HIDDEN if hidden else json.dumps(event.data, ensure_ascii=False)
        at_case = event.key[0] != ""
        values = (
            banner, event.number, event.at, event.user, event.kind, event.key[0],
            event.key[1] if at_case and event.key[1] >= 0 else None, event.model, details,
        )  # fmt: skip
        out.append(dict(zip(COLUMNS, values, strict=True)))
    return out[::-1]


def shown(row: dict[str, Any]) -> dict[str, str]:
    """Return a row as the page shows it."""
    case = row["image_id"] if row["slice"] is None else f"{row['image_id']} / {row['slice'] + 1}"
    return {
        words.AT: f"{row['at'][:10]} {row['at'][11:19]}",
        words.READER: row["reader"],
        words.EVENT: words.EVENTS.get(row["event"], row["event"]),
        words.CASE: case,
        words.DETAILS: _plain(row["details"]),
    }


def _plain(details: str) -> str:
    """Return details as a person reads them."""
    if details == words.HIDDEN:
        return details
    told = json.loads(details)
    return "; ".join(f"{k}: {_value(v)}" for k, v in told.items())


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return words.YES if value else words.NO
    return str(value)


def as_csv(found: list[dict[str, Any]]) -> str:
    """Return rows as CSV; cells that a spreadsheet would run as formulas are made harmless."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if v is None else safe_cell(v) for v in row.values()] for row in found)
    return out.getvalue()
