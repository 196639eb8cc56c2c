"""Every run below a folder, finished or not, whole or broken; nothing here knows Streamlit."""

import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import text_research as text
from evaluations import short
from medssl import config, files, loading, runs
from medssl.errors import MedsslError, RefusedError

CONFIGS: dict[str, type[config.Settings]] = {
    "pretrain": config.PretrainConfig,
    "finetune": config.FinetuneConfig,
    "evaluate": config.EvaluateConfig,
}
SIGNS = {"run.json", "log.jsonl", "config.yaml"}
PASSED_BY = {"private", "store", "checkpoints", "tables", "stages"}
QUIET_S = 60.0
MANIFEST = "manifest.parquet"
DAMAGES = (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, RecursionError)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn whatever a damaged file does to its reader into one sentence.

    Raises:
        RefusedError: the file is absent, truncated or not what its name says.
    """
    try:
        yield
    except MedsslError:
        raise
    except (*DAMAGES, pa.ArrowException) as error:
        words = text.DAMAGED.format(run=file.parent.name, file=file.name)
        raise RefusedError(words, "E-DAMAGED") from error


def table(file: Path, *columns: str) -> pa.Table:
    """Read a parquet file that must have some columns.

    Raises:
        RefusedError: it is damaged or lacks one.
    """
    with reading(file):
        found = pq.read_table(file)
        for name in columns:
            found.column(name)
        return found


@dataclass(frozen=True)
class Entry:
    """One folder that is, or was to be, a run.

    Attributes:
        path: the folder.
        name: its place below the root.
        record: what ``run.json`` says; empty where it cannot be read.
        trouble: why it cannot be read; empty where it can.
    """

    path: Path
    name: str
    record: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""

    @property
    def verb(self) -> str:
        """Return the verb that made it; empty where unknown."""
        return str(self.record.get("verb", ""))

    @property
    def has_log(self) -> bool:
        """Return whether it logs its steps."""
        return (self.path / "log.jsonl").is_file()

    def part(self, name: str) -> dict[str, Any]:
        """Return a table of the record; empty where it is absent or no table."""
        found = self.record.get(name)
        return found if isinstance(found, dict) else {}

    def parents(self, file: str) -> list[Path]:
        """Return where the parents with a decisive file are said to lie."""
        told = self.record.get("parents")
        rows = [p for p in told if isinstance(p, dict)] if isinstance(told, list) else []
        return [self.path / str(p.get("path", "")) for p in rows if p.get("file") == file]

    @property
    def cohort(self) -> Path | None:
        """Return its cohort, if it is still where the run read it."""
        found = [p.resolve() for p in self.parents(MANIFEST)[:1]]
        return found[0] if found and found[0].is_dir() else None


def find(root: Path) -> list[Entry]:
    """Return every folder below the root that looks like a run, the newest first."""
    found = []
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(n for n in inner if n not in PASSED_BY and not n.startswith("."))
        if SIGNS & set(names):
            found.append(_entry(root, Path(folder)))
    return sorted(found, key=lambda e: str(e.record.get("started", "")), reverse=True)


def _entry(root: Path, path: Path) -> Entry:
    name = str(path.relative_to(root)) if path != root else path.name
    try:
        return Entry(path, name, runs.read(path).record)
    except MedsslError as error:
        return Entry(path, name, trouble=text.UNREADABLE[error.code])
    except (OSError, RecursionError):
        return Entry(path, name, trouble=text.UNREADABLE["E-RUN"])


def state(entry: Entry) -> str:
    """Return done, failed, running, stopped, unknown or broken.

    A run that says it is running is believed while its folder grows or its lock is held.
    """
    told = str(entry.record.get("status", ""))
    if entry.trouble:
        return "broken"
    if told != "running":
        return told if told in {"done", "failed"} else "unknown"
    if _quiet_s(entry.path) < QUIET_S:
        return "running"
    held = _held(entry.path)
    return "unknown" if held is None else "running" if held else "stopped"


def _quiet_s(path: Path) -> float:
    """Return for how many seconds nothing was written to the run."""
    times = [p.stat().st_mtime for n in SIGNS if (p := path / n).is_file()]
    return time.time() - max(times) if times else float("inf")


def _held(path: Path) -> bool | None:
    """Return whether a process holds the run; None where it cannot be asked."""
    if not (path / ".lock").is_file():
        return False
    try:
        with files.locked(path):
            return False
    except RefusedError:
        return True
    except OSError:
        return None


def seconds(entry: Entry) -> float | None:
    """Return how long the run took or has taken; None where it does not say."""
    spent = entry.part("summary").get("seconds")
    if isinstance(spent, int | float):
        return float(spent)
    try:
        begun = datetime.fromisoformat(str(entry.record.get("started")))
        ended = datetime.fromisoformat(str(entry.record.get("ended")))
        return (ended - begun).total_seconds()
    except (ValueError, TypeError):
        return None


def in_words(spent: float | None) -> str:
    """Return a duration as hours, minutes or seconds."""
    if spent is None:
        return ""
    if spent < 120:
        return text.SECONDS.format(n=round(spent))
    if spent < 7200:
        return text.MINUTES.format(n=round(spent / 60))
    return text.HOURS.format(n=spent / 3600)


def figures(entry: Entry) -> str:
    """Return what came out of a run, in a few words."""
    told = entry.part("summary")
    test = told.get("test")
    if isinstance(test, dict):
        numbers = [test.get(k) for k in ("value", "lower", "upper")]
        if all(isinstance(n, int | float) for n in numbers):
            value, low, high = numbers
            metric = short(test.get("metric", ""))
            return text.TESTED.format(metric=metric, value=value, low=low, high=high)
    if "verdict" in told:
        return text.VERDICT.format(
            verdict=short(told["verdict"]), auroc=short(told.get("auroc_here"))
        )
    if isinstance(told.get("loss"), int | float):
        return text.LAST_LOSS.format(loss=told["loss"], steps=short(told.get("steps", "")))
    return ""


def settings(entry: Entry) -> config.Settings:
    """Return the complete settings of a run.

    Raises:
        MedsslError: no such file, another verb, or settings that this medssl does not know.
    """
    file = entry.path / "config.yaml"
    model = CONFIGS.get(entry.verb)
    if model is None:
        raise RefusedError(text.NO_SETTINGS.format(verb=short(entry.verb)), "E-VERB")
    with reading(file):
        return _loaded(model, file, file.stat().st_mtime_ns)


@lru_cache(maxsize=512)
def _loaded(model: type[config.Settings], file: Path, _: int) -> config.Settings:
    # A run is data: its settings may not make us read another file of this machine.
    if re.search(r"\bextends\b", file.read_text(encoding="utf-8")):
        raise RefusedError(text.EXTENDS.format(run=file.parent.name), "E-CONFIG")
    return loading.load(model, file)


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Return nested settings by dotted name, every value as text."""
    if isinstance(value, dict) and value:
        parts = [flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items()]
        return {k: v for part in parts for k, v in part.items()}
    return {prefix: "" if value is None else str(value)}


def differences(one: dict[str, str], two: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return the settings whose values differ; one that only one side has is empty on the other."""
    names = [*one, *(n for n in two if n not in one)]
    pairs = [(n, one.get(n, ""), two.get(n, "")) for n in names]
    return [row for row in pairs if row[1] != row[2]]


def command(entry: Entry, *, resume: bool = False) -> str | None:
    """Return the command line that repeats a run, or goes on with it; None for other verbs."""
    data = [_place(p) for p in entry.parents(MANIFEST)[:1]]
    given = _place(entry.path / "config.yaml")
    out = _place(entry.path) + ("" if resume else text.AGAIN)
    words = ["medssl", entry.verb]
    if entry.verb == "pretrain":
        words += [given]
    elif entry.verb == "finetune":
        words += [given, *_named("--encoder", entry.parents("encoder.json"))]
    elif entry.verb == "evaluate":
        model = [_place(p) for p in entry.parents("classifier.json")[:1]]
        words += [*model, "--config", given]
    else:
        return None
    words += ["--data", *data] if data else []
    words += ["--split", "none"] if entry.record.get("split") == "none" else []
    words += ["--out", out, *(["--resume"] if resume else [])]
    return shlex.join(words)


def _named(option: str, places: list[Path]) -> list[str]:
    return [option, _place(places[0])] if places else []


def _place(path: Path) -> str:
    """Return a path from where the server stands, or from the root of the disk if that is shorter."""
    beside = os.path.relpath(path)
    return beside if not beside.startswith("../..") else str(path.resolve())
