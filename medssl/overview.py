"""All runs below a folder at a glance, and what differs between two; reads text, needs no torch."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from medssl.errors import NothingUsableError
from medssl.files import CONTROL, holder

STATUSES = ("done", "running", "stopped", "failed", "unknown", "broken")
PASSED_BY = frozenset({"private", "store", "checkpoints", "tables", "stages", "tb", "wandb"})
TAIL_BYTES, TAIL_LINES = 1 << 18, 100
LOGGED = ("loss", "effective_rank", "ridge", "knn", "retrieval", "images_per_s")
"""Figures of a log that the list shows: the last of each, if it was ever logged."""
NO_CURVES = frozenset({"step", "epoch", "time"})
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
NO_DIFFERENCE = frozenset({"status", "started", "ended", "summary", "error", "config_digest"})
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Entry:
    """One run of the list.

    Attributes:
        name: its place below the folder asked for.
        path: the run directory, as it was asked for.
        verb: what made it; empty where unknown.
        status: one of ``STATUSES``; stopped is a run that says running while nobody holds it, or
            that was interrupted.
        code: why it failed, or what is broken; empty otherwise.
        started: UTC, ISO 8601; empty where unknown.
        minutes: of the last stretch; None where unknown.
        step, total: optimiser steps done and planned; None where unknown.
        figures: what came out so far: numbers, or words of a verdict.
    """

    name: str
    path: str
    verb: str = ""
    status: str = "broken"
    code: str = ""
    started: str = ""
    minutes: float | None = None
    step: int | None = None
    total: int | None = None
    figures: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """One figure of two runs: its values at ``SHARES`` of each run, and a drawing of each."""

    key: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    drawn: tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs.

    Attributes:
        settings: dotted setting to both values; None where a run has no such setting.
        facts: the same of environment, versions, seeds and digests of data.
        curves: the figures that both logged.
        notes: sentences on what may not be compared.
    """

    settings: dict[str, tuple[Any, Any]]
    facts: dict[str, tuple[Any, Any]]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]


def find(root: Path) -> list[Entry]:
    """Return every run below a folder (or that the folder is), newest first.

    Raises:
        NothingUsableError: no such folder.
    """
    if not root.is_dir():
        raise NothingUsableError(
            f"{root}: no such folder. Give a folder with runs, or two runs.", "E-NORUNS"
        )
    found = [_entry(root, place) for place in _places(root)]
    return sorted(found, key=lambda e: (_time(e.started) or _OLD, e.name), reverse=True)


def _places(root: Path) -> Iterator[Path]:
    for folder, inner, names in os.walk(root):
        inner[:] = [n for n in inner if n not in PASSED_BY and not n.startswith(".")]
        if "run.json" in names:
            yield Path(folder)


def _entry(root: Path, path: Path) -> Entry:
    name = plain(str(path.relative_to(root)) if path != root else path.name or str(path))
    where = plain(str(path))
    try:
        record = _record(path)
    except (OSError, ValueError, RecursionError):
        return Entry(name, where, code="run.json is not readable", started=_changed(path))
    status, code = _status(path, record)
    figures, step = last_figures(path / "log.jsonl")
    summary = _table(record, "summary")
    return Entry(
        name=name,
        path=where,
        verb=plain(record.get("verb", "")),
        status=status,
        code=code,
        started=plain(record.get("started", "")),
        minutes=_minutes(path, record, status),
        step=step,
        total=_whole(record.get("total_steps", summary.get("steps"))),
        figures=_figures(summary, figures),
    )


def _record(path: Path) -> dict[str, Any]:
    record = json.loads((path / "run.json").read_bytes())
    if not isinstance(record, dict):
        raise ValueError
    return record


def _status(path: Path, record: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a run is, whatever it says, and why it failed."""
    told, code = record.get("status"), plain(record.get("error", ""))
    if told == "running":
        try:
            return ("stopped" if holder(path) is None else "running"), ""
        except OSError:
            return "unknown", ""
    if told == "failed":
        return ("stopped", "interrupted") if code == "KeyboardInterrupt" else ("failed", code)
    return (str(told) if told in {"done", "stopped"} else "unknown"), ""


def _minutes(path: Path, record: Mapping[str, Any], status: str) -> float | None:
    begun, ended = _time(record.get("started")), _time(record.get("ended"))
    if ended is None and status == "running":
        ended = datetime.now(UTC)
    if ended is None:
        ended = _time(_changed(path))
    if begun is None or ended is None:
        return None
    return round(max(0.0, (ended - begun).total_seconds() / 60), 2)


_OLD = datetime.fromtimestamp(0, UTC)


def _time(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _changed(path: Path) -> str:
    """Return when a run last wrote its record or its log."""
    times = [p.stat().st_mtime for n in ("run.json", "log.jsonl") if (p := path / n).is_file()]
    last = datetime.fromtimestamp(max(times), UTC) if times else None
    return last.isoformat(timespec="seconds") if last is not None else ""


def _figures(summary: Mapping[str, Any], logged: Mapping[str, float]) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for key in LOGGED:
        value = logged.get(key, summary.get(key))
        if _finite(value):
            found[key] = float(value)  # type: ignore[arg-type]
    test = summary.get("test")
    if isinstance(test, dict) and _finite(test.get("value")):
        found[plain(test.get("metric", "test"))] = float(test["value"])
        found |= {k: float(test[k]) for k in ("lower", "upper") if _finite(test.get(k))}
    found |= {k: plain(summary[k]) for k in ("verdict", "auroc_here") if k in summary}
    return found


def last_figures(log: Path) -> tuple[dict[str, float], int | None]:
    """Return the last value of every figure near the end of a log, and the last step."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL_BYTES))
            data = stream.read()
    except OSError:
        return {}, None
    lines = [numbers(x) for x in data.split(b"\n")[-TAIL_LINES:]]
    # Measurements stand many lines apart: each is looked for by its name.
    rare = [_last_with(data, key) for key in LOGGED]
    found: dict[str, float] = {}
    for line in [*rare, *lines]:
        found |= line
    step = found.pop("step", None)
    return found, None if step is None else int(step)


def _last_with(data: bytes, key: str) -> dict[str, float]:
    place = data.rfind(f'"{key}"'.encode())
    if place < 0:
        return {}
    line = numbers(data[data.rfind(b"\n", 0, place) + 1 :].partition(b"\n")[0])
    return {key: line[key]} if key in line else {}


def numbers(raw: bytes) -> dict[str, float]:
    """Return the finite numbers of one line of a log; empty where it is torn."""
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return {k: float(v) for k, v in told.items() if _finite(v)} if isinstance(told, dict) else {}


def _finite(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _whole(value: Any) -> int | None:
    return int(value) if _finite(value) else None


def _table(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = record.get(key)
    return found if isinstance(found, dict) else {}


def plain(value: Any) -> str:
    """Return text that no terminal obeys and every file holds."""
    text = str(value).replace("\n", " ").replace("\t", " ")
    return CONTROL.sub("", text).encode(errors="backslashreplace").decode()


def dotted(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, by dotted key."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree} if prefix else {}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= dotted(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def compare(a: Path, b: Path) -> Comparison:
    """Return what differs between two runs, finished or not.

    Raises:
        NothingUsableError: one is not a run, or its record is not readable.
    """
    records = [_told(path) for path in (a, b)]
    settings = _differences(*[_settings(path) for path in (a, b)])
    facts = _differences(*[_facts(record) for record in records])
    logs = [_points(path / "log.jsonl") for path in (a, b)]
    curves = tuple(_curve(k, logs[0][k], logs[1][k]) for k in logs[0] if k in logs[1])
    steps = [max((p[-1][0] for p in log.values()), default=None) for log in logs]
    notes = tuple(_notes(settings, facts, steps))
    return Comparison(settings, facts, curves, notes)


def _told(path: Path) -> dict[str, Any]:
    try:
        return _record(path)
    except (OSError, ValueError, RecursionError) as error:
        words = f"{path}: not a run, or its run.json is not readable. Give the --out of a run."
        raise NothingUsableError(words, "E-NORUN") from error


def _settings(path: Path) -> dict[str, Any]:
    # The list needs neither YAML nor pydantic, and is there at once.
    from medssl.config import Settings
    from medssl.errors import UsageError
    from medssl.loading import load

    class Written(Settings, extra="allow"):
        """Whatever a run wrote, of this version or another."""

    try:
        return dotted(load(Written, path / "config.yaml").model_dump())
    except UsageError as error:
        raise NothingUsableError(error.problems, "E-NOCONFIG") from error


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of code, machine and data; of parents, their digests."""
    kept = {k: v for k, v in record.items() if k not in NO_DIFFERENCE and k != "parents"}
    told = record.get("parents")
    parents = [p for p in told if isinstance(p, dict)] if isinstance(told, list) else []
    digests = {f"parent {p.get('file')}": p.get("sha256") for p in parents}
    return {**dotted(kept), **digests}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = list(dict.fromkeys([*a, *b]))
    return {k: (a.get(k), b.get(k)) for k in keys if a.get(k) != b.get(k)}


Points = list[tuple[float, float]]


def _points(log: Path) -> dict[str, Points]:
    """Return ``(step, value)`` of every figure of a log, in the order of steps."""
    found: dict[str, Points] = {}
    try:
        raw = log.read_bytes()
    except OSError:
        return found
    for line in map(numbers, raw.split(b"\n")):
        for key, value in line.items():
            if "step" in line and key not in NO_CURVES:
                found.setdefault(key, []).append((line["step"], value))
    return {key: sorted(points) for key, points in found.items()}


def _curve(key: str, a: Points, b: Points) -> Curve:
    values = [v for _, v in (*a, *b)]
    low, high = min(values), max(values)
    drawn = (sparkline([v for _, v in a], low, high), sparkline([v for _, v in b], low, high))
    return Curve(key, _at_shares(a), _at_shares(b), drawn)


def _at_shares(points: Points) -> tuple[float, ...]:
    """Return the values nearest to ``SHARES`` of the last step."""
    last = points[-1][0]
    return tuple(min(points, key=lambda p: abs(p[0] - share * last))[1] for share in SHARES)


def sparkline(values: list[float], low: float, high: float, width: int = 20) -> str:
    """Return values as a line of blocks, between two limits; many are averaged into ``width``."""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[i:j]) / (j - i) for i, j in pairwise(edges)]
    span = high - low
    return "".join(BARS[round((m - low) / span * 7) if span > 0 else 3] for m in means)


def _notes(
    settings: Mapping[str, Any], facts: Mapping[str, Any], steps: list[float | None]
) -> Iterator[str]:
    """Yield what keeps figures of two runs from being compared."""
    if "verb" in facts:
        yield f"Runs of two verbs ({' and '.join(map(plain, facts['verb']))})."
    if None not in steps and steps[0] != steps[1]:
        yield (
            f"{steps[0]:.0f} and {steps[1]:.0f} steps: the columns are shares of each run, "
            "not equal steps."
        )
    if "batch" in settings:
        yield "Other batch sizes: equal steps are not equal numbers of images shown."
    if any(k.split(".")[0] == "manifest" or k == "split" for k in facts):
        yield "Other cohorts or another split: figures were measured on other patients."
    loss = [k for k in settings if k == "batch" or k.startswith(("method.", "views."))]
    if loss:
        yield f"The losses are not on one scale ({', '.join(map(plain, loss))} differ)."
    if any(k in settings for k in ("watch.target", "watch.pictures", "decode.size", "seed")):
        yield "Measurements may have looked at other pictures (watch, decode or seed differ)."
