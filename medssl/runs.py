"""The run directory: opened once, written piece by piece, finished last."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medssl import __version__
from medssl.config import Settings
from medssl.errors import MedsslError, NothingUsableError, RefusedError, StoppedError
from medssl.files import atomic, locked, sha256_file, write_json, write_text
from medssl.loading import to_yaml

RECORDED = ("torch", "pytorch_lightning", "timm", "monai", "numpy", "scikit-learn", "pydicom")
PREDICTION_COLUMNS = {
    "image_id": pa.string(),
    "slice": pa.int32(),
    "patient_id": pa.string(),
    "site": pa.string(),
    "split": pa.string(),
    "init": pa.string(),
    "mode": pa.string(),
    "budget": pa.float64(),
    "seed": pa.int32(),
    "label": pa.string(),
}
SCORE = "score_"
SAME_ON_RESUME = ("split", "manifest", "parents", "seed")


@dataclass(frozen=True)
class Run:
    """A directory with a life: running, then done, stopped or failed.

    Attributes:
        path: the folder.
        record: what ``run.json`` says.
    """

    path: Path
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def verb(self) -> str:
        """Return the verb that made it."""
        return str(self.record.get("verb"))

    @property
    def summary(self) -> dict[str, Any]:
        """Return the verb's own account of what came out."""
        return dict(self.record.get("summary", {}))

    def log(self, line: dict[str, Any]) -> None:
        """Append one object to ``log.jsonl``."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")


def now() -> str:
    """Return the time in UTC with its offset."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def open_run(
    path: Path,
    verb: str,
    settings: Settings,
    facts: dict[str, Any],
    *,
    resume: bool = False,
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Own a run directory while a verb works; its end is written last.

    Args:
        path: new or empty, or the same run with ``resume``.
        verb: name of the verb.
        settings: complete settings, written as ``config.yaml``.
        facts: parents, manifest, seed and the like, for ``run.json``.
        resume: continue a run that did not finish.

    Yields:
        The run, and a dictionary that becomes its summary.

    Raises:
        RefusedError: the directory is full, in use, finished, or of another run.
    """
    if path.exists() and not path.is_dir():
        raise RefusedError(f"{path}: is a file; a run needs a folder of its own.", "E-NOTEMPTY")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, PermissionError) as error:
        words = f"{path}: no folder can be made there ({error.strerror}). Use another --out."
        raise RefusedError(words, "E-NOTEMPTY") from error
    facts = {**facts, "parents": [_beside(p, path) for p in facts["parents"]]}
    with locked(path):
        before = _check_free(path, verb, settings, facts, resume=resume)
        record = {
            "verb": verb,
            "status": "running",
            "started": now(),
            "config_digest": settings.digest(),
            "environment": environment(),
            **facts,
        }
        if before:
            record |= _went_on(before, record)
        write_text(path / "config.yaml", to_yaml(settings))
        write_json(path / "run.json", record)
        summary: dict[str, Any] = {}
        try:
            yield Run(path, record), summary
        except BaseException as error:
            code = error.code if isinstance(error, MedsslError) else type(error).__name__
            asked = isinstance(error, StoppedError | KeyboardInterrupt)
            status = "stopped" if asked else "failed"
            write_json(
                path / "run.json", {**record, "status": status, "ended": now(), "error": code}
            )
            raise
        write_json(
            path / "run.json", {**record, "summary": summary, "ended": now(), "status": "done"}
        )


def _beside(parent: dict[str, str], path: Path) -> dict[str, str]:
    """Return a parent with its place relative to the run: no path of the machine is recorded."""
    return {**parent, "path": os.path.relpath(parent["path"], path)}


def _went_on(before: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return what a resumed run's record keeps of its beginning: when, and under which versions."""
    then, now_ = (r.get("environment", {}).get("versions", {}) for r in (before, record))
    changed = {k: [then[k], now_[k]] for k in then if k in now_ and then[k] != now_[k]}
    earlier = [*before.get("resumed", []), {"at": record["started"], "versions_changed": changed}]
    return {"started": before.get("started"), "resumed": earlier}


def _check_free(
    path: Path, verb: str, settings: Settings, facts: dict[str, Any], *, resume: bool
) -> dict[str, Any]:
    """Return the record of the run that goes on; empty for a new one."""
    there = [p.name for p in path.iterdir() if p.name != ".lock" and not _half_written(p.name)]
    # Settings without a record are of a run that was killed before it began.
    if not there or there == ["config.yaml"]:
        return {}
    if not resume:
        words = f"{path}: not empty ({len(there)} entries); nothing was written. Use another --out."
        raise RefusedError([words], "E-NOTEMPTY")
    before = read(path).record
    if before.get("verb") != verb or before.get("config_digest") != settings.digest():
        words = f"{path}: a run of another verb or with other settings; --resume continues the same one."
        raise RefusedError(words, "E-RESUME")
    changed = [k for k in SAME_ON_RESUME if _told(before.get(k)) != _told(facts.get(k))]
    if changed:
        words = f"{path}: its {', '.join(changed)} differ from now (other data or another split); start anew."
        raise RefusedError(words, "E-RESUME")
    if before.get("status") == "done":
        raise RefusedError(f"{path}: this run is finished; there is nothing to resume.", "E-DONE")
    return before


def _half_written(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _told(value: Any) -> Any:
    """Return a fact as JSON gives it back; of parents, what they are and not where they lie."""
    if isinstance(value, list):
        return [{k: v for k, v in item.items() if k != "path"} for item in value]
    return json.loads(json.dumps(value))


def environment() -> dict[str, Any]:
    """Return versions, platform and the state of the code, without importing anything heavy."""
    versions = {}
    for name in RECORDED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "medssl": __version__,
        "git": _git(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": versions,
    }


def _git() -> str | None:
    """Return the commit of the code, with ``+`` where it was changed since; None outside git."""
    here = Path(__file__).resolve().parent
    words = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def read(path: Path) -> Run:
    """Read a run.

    Raises:
        NothingUsableError: not a run directory.
    """
    file = path / "run.json"
    if not file.is_file():
        raise NothingUsableError(
            f"{path}: not a run (no run.json). Give the --out of a run.", "E-NORUN"
        )
    try:
        record = json.loads(file.read_text())
    except (ValueError, OSError) as error:
        raise RefusedError(f"{file}: not readable as JSON.", "E-RUN") from error
    if not isinstance(record, dict):
        raise RefusedError(f"{file}: not the record of a run.", "E-RUN")
    return Run(path, record)


def finished(path: Path, *verbs: str) -> Run:
    """Read a run that is done and of one of the verbs.

    Raises:
        NothingUsableError: it is not.
    """
    run = read(path)
    if run.verb not in verbs:
        words = f"{path}: a run of {run.verb}; this needs one of {' or '.join(verbs)}."
        raise NothingUsableError(words, "E-VERB")
    if run.record.get("status") != "done":
        words = f"{path}: its status is {run.record.get('status')}, not done. Resume or repeat it."
        raise NothingUsableError(words, "E-UNFINISHED")
    return run


def find(root: Path, *verbs: str) -> list[Run]:
    """Return finished runs of the verbs below a folder, newest first; broken records are no runs."""
    runs = []
    for place in sorted(root.glob("**/run.json")):
        with suppress(RefusedError):
            runs.append(read(place.parent))
    good = [r for r in runs if r.record.get("status") == "done" and r.verb in verbs]
    return sorted(good, key=lambda r: str(r.record.get("ended")), reverse=True)


def parent(path: Path, file: str) -> dict[str, str]:
    """Return where a run came from: the folder and the digest of its decisive file."""
    return {"path": str(path), "file": file, "sha256": sha256_file(path / file)}


def write_predictions(path: Path, table: pa.Table) -> None:
    """Write ``predictions.parquet``; scores are columns ``score_<class>`` in [0, 1].

    Raises:
        MedsslError: a column is absent or a score is out of range.
    """
    scores = score_columns(table)
    absent = [c for c in PREDICTION_COLUMNS if c not in table.column_names]
    if absent or not scores:
        raise MedsslError(f"predictions lack {absent or 'scores'}.", "E-PREDICTIONS")
    for name in scores:
        low_high = [v for v in table.column(name).to_pylist() if v is None or not 0 <= v <= 1]
        if low_high:
            words = (
                f"{len(low_high)} predictions of {name} are not in [0, 1] ({low_high[0]} first)."
            )
            raise MedsslError(words, "E-PREDICTIONS")
    with atomic(path) as out:
        pq.write_table(table, out)


def read_table(path: Path) -> pa.Table:
    """Read a parquet table of a run."""
    if not path.is_file():
        raise NothingUsableError(f"{path}: not there; the run is incomplete.", "E-NOTABLE")
    return _parquet(path)


def _parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        words = f"{path}: damaged, or no table. Make the run anew."
        raise RefusedError(words, "E-SCHEMA") from error


def read_predictions(path: Path) -> pa.Table:
    """Read and check ``predictions.parquet``."""
    if not path.is_file():
        raise NothingUsableError(f"{path}: no predictions there.", "E-NOPREDICTIONS")
    table = _parquet(path)
    absent = [c for c in PREDICTION_COLUMNS if c not in table.column_names]
    if absent or not score_columns(table):
        raise RefusedError(f"{path}: lacks the columns {absent or 'score_...'}.", "E-SCHEMA")
    return table


def score_columns(table: pa.Table) -> list[str]:
    """Return the names of the score columns, in class order."""
    return [c for c in table.column_names if c.startswith(SCORE)]
