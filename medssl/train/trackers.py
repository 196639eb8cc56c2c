"""Where the figures of a training go beside log.jsonl; one that fails never stops the training.

None of them learns who trained where: no user, no host, no path of the machine.
"""

import importlib.util
import json
import logging
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path, PurePath
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

from medssl.config.pretraining import LogConfig
from medssl.errors import UsageError
from medssl.files import write_json
from medssl.overview import dotted, numbers

LOGGER = logging.getLogger("medssl")
PROJECT, NOBODY = "medssl", "none"
NOT_FIGURES = frozenset({"step"})
MLFLOW_ROWS, MLFLOW_LETTERS = 100, 500
"""MLflow's limits of one request."""
OFF = {
    # MLflow: no usage report; a server that is down costs seconds, not minutes.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # W&B: no crash reports.
    "WANDB_ERROR_REPORTING": "false",
}
PACKAGES = {"mlflow": "mlflow", "wandb": "wandb"}
Line = Mapping[str, float]


class Tracker(Protocol):
    """Takes finite figures, ends with done, failed or stopped."""

    def write(self, step: int, line: Line) -> None:
        """Take the figures of a step."""

    def close(self, status: str) -> None:
        """Write what is left and end."""


def check(config: LogConfig) -> None:
    """Ask, before a run directory is opened, whether what the settings name is installed.

    Raises:
        UsageError: a package is absent; its extra is named.
    """
    wanted = [k for k in PACKAGES if getattr(config, k) is not None]
    absent = [k for k in wanted if importlib.util.find_spec(PACKAGES[k]) is None]
    if absent:
        told = [
            f"log.{k} needs a package: pip install 'medssl[{k}]', or leave it out." for k in absent
        ]
        raise UsageError(told, "E-EXTRA")


class Trackers:
    """All trackers of a run as one.

    Args:
        config: which ones.
        folder: the run directory; ``tracker.json`` there lets a resumed run go on in the same ones.
        settings: settings to show beside the figures; paths and addresses are left out.
        name: what the run is called.
        tell: takes a sentence when one fails.

    Raises:
        UsageError: a package is absent, or a tracker of a new run does not answer.
    """

    def __init__(
        self,
        config: LogConfig,
        folder: Path,
        settings: Mapping[str, Any],
        name: str,
        tell: Callable[[str], None] = LOGGER.warning,
    ) -> None:
        check(config)
        self._tell, self._open = tell, dict[str, Tracker]()
        memory, shown = _Memory(folder / "tracker.json"), harmless(settings)
        if config.tensorboard:
            self._start("TensorBoard", True, lambda: _TensorBoard(folder / "tb"))
        if config.mlflow is not None:
            address, known = config.mlflow, memory.run("mlflow") is not None
            self._start("MLflow", known, lambda: _MLflow(address, memory, shown, name))
        if config.wandb is not None:
            mode, known = config.wandb, memory.run("wandb") is not None
            self._start("W&B", known, lambda: _Wandb(mode, folder, memory, shown, name))

    def _start(self, title: str, known: bool, make: Callable[[], Tracker]) -> None:
        """Open a tracker; on a first start a failure is an error, later it costs no training."""
        try:
            self._open[title] = make()
        except UsageError:
            raise
        except Exception as error:
            if not known:
                words = (
                    f"{title} did not start ({type(error).__name__}); nothing was trained. Check "
                    "its address and login under log, or leave it out."
                )
                raise UsageError(words, "E-TRACKER") from error
            self._lose(title, error)

    def _lose(self, title: str, error: Exception) -> None:
        self._open.pop(title, None)
        # The message of a client may hold an address or a path; its kind does not.
        self._tell(
            f"{title} takes no more figures ({type(error).__name__}); the training goes on and "
            "log.jsonl stays complete. [W-TRACKER]"
        )

    def write(self, step: int, line: Mapping[str, Any]) -> None:
        """Pass on the finite numbers of a line; the rest is left out."""
        figures = {k: float(v) for k, v in line.items() if k not in NOT_FIGURES and _is_figure(v)}
        for title, tracker in list(self._open.items()):
            try:
                tracker.write(step, figures)
            except Exception as error:  # noqa: BLE001  whatever a client raises, the training goes on
                self._lose(title, error)

    def close(self, status: str) -> None:
        """End with done, failed or stopped; twice is once."""
        for title, tracker in list(self._open.items()):
            try:
                tracker.close(status)
            except Exception as error:  # noqa: BLE001  as above
                self._lose(title, error)
        self._open.clear()


def _is_figure(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def harmless(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted key, without where figures go and where on a machine files lie."""
    shown = {k: v for k, v in dotted(dict(settings)).items() if not k.startswith("log.")}
    return {k: v if _is_words(k, v) else _no_path(v) for k, v in shown.items()}


def _is_words(key: str, value: Any) -> bool:
    """Return whether a slash in a setting is no path's: a licence such as MIT/Apache-2.0."""
    return key.endswith("licence") and not str(value).startswith(("/", "~", "\\", "."))


def _no_path(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return json.dumps([_no_path(v) for v in value])
    if isinstance(value, str | PurePath) and ("/" in str(value) or "\\" in str(value)):
        return str(value).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return value


class _Memory:
    """What a resumed run must know: the trackers' own runs, and the last step of every figure."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):
            told = {}
        self.told: dict[str, Any] = told if isinstance(told, dict) else {}

    def run(self, tracker: str) -> str | None:
        found = self.told.get(tracker, {}).get("run")
        return None if found is None else str(found)

    def begin(self, tracker: str, run: str) -> None:
        self.told[tracker] = {"run": run, "steps": {}}
        write_json(self.path, self.told)

    def new(self, tracker: str, step: int, line: Line) -> dict[str, float]:
        """Return the figures that a tracker was not given before, and note them as given."""
        steps = self.told[tracker]["steps"]
        fresh = {k: v for k, v in line.items() if step > steps.get(k, -1)}
        if fresh:
            steps.update(dict.fromkeys(fresh, step))
            write_json(self.path, self.told)
        return fresh


class _TensorBoard:
    """Event files, written by ourselves: the usual writer puts the host's name into theirs."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import (  # type: ignore[import-untyped]
            RecordWriter,
        )

        folder.mkdir(parents=True, exist_ok=True)
        # They are read in the order of their names.
        names = sorted(p.name for p in folder.glob("events.out.tfevents.*"))
        number = int(names[-1].split(".")[3]) + 1 if names else 0
        stream = (folder / f"events.out.tfevents.{number:010d}.{PROJECT}").open("xb")
        self._event, self._writer, self._resumed = Event, RecordWriter(stream), bool(names)
        self._write(file_version="brain.Event:2")

    def _write(self, **facts: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **facts).SerializeToString())
        self._writer.flush()

    def write(self, step: int, line: Line) -> None:
        if self._resumed:
            # A reader then forgets what an interrupted run wrote from this step on.
            self._write(step=step, session_log={"status": "START"})
            self._resumed = False
        values = [{"tag": k, "simple_value": v} for k, v in line.items()]
        self._write(step=step, summary={"value": values})

    def close(self, _: str) -> None:
        self._writer.close()


class _MLflow:
    """A run of an MLflow server or folder, by the plain client: it adds no user, host or source."""

    def __init__(
        self, address: str, memory: _Memory, settings: Mapping[str, Any], name: str
    ) -> None:
        os.environ.update({k: os.environ.get(k, v) for k, v in OFF.items()})
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient

        self._metric, self._memory = Metric, memory
        place = _local(address)
        if place is not None:
            # A folder that MLflow makes itself begins with a file that holds its absolute path.
            place.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(address)
        run = memory.run("mlflow")
        if run is None:
            run = self._begin(settings, name, place is not None)
            memory.begin("mlflow", run)
        else:
            self._client.update_run(run, status="RUNNING")
        self._run = run

    def _begin(self, settings: Mapping[str, Any], name: str, local: bool) -> str:
        from mlflow.entities import Param

        known = self._client.get_experiment_by_name(PROJECT)
        if known is not None:
            experiment = known.experiment_id
        else:
            artifacts = f"mlflow-artifacts:/{PROJECT}" if local else None
            experiment = self._client.create_experiment(PROJECT, artifact_location=artifacts)
        run = self._client.create_run(experiment, tags={"mlflow.user": NOBODY}, run_name=name)
        told = [Param(k, str(v)[:MLFLOW_LETTERS]) for k, v in settings.items() if v is not None]
        for start in range(0, len(told), MLFLOW_ROWS):
            self._client.log_batch(run.info.run_id, params=told[start : start + MLFLOW_ROWS])
        return str(run.info.run_id)

    def write(self, step: int, line: Line) -> None:
        now = int(time.time() * 1000)
        fresh = self._memory.new("mlflow", step, line)
        metrics = [self._metric(k, v, now, step) for k, v in fresh.items()]
        if metrics:
            self._client.log_batch(self._run, metrics=metrics)

    def close(self, status: str) -> None:
        words = {"done": "FINISHED", "failed": "FAILED"}
        self._client.set_terminated(self._run, words.get(status, "KILLED"))


def _local(address: str) -> Path | None:
    """Return the folder behind an MLflow address; None where it names a server."""
    if "://" not in address and not address.startswith("file:"):
        return Path(address)
    parts = urlparse(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


class _Wandb:
    """A W&B run, told as little as it can be; offline it lies below the run directory."""

    def __init__(
        self, mode: str, folder: Path, memory: _Memory, settings: Mapping[str, Any], name: str
    ) -> None:
        hidden = folder / "wandb" / ".service"
        kept = {k: str(hidden) for k in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")}
        os.environ.update({**kept, "WANDB_ERROR_REPORTING": OFF["WANDB_ERROR_REPORTING"]})
        import wandb

        if mode == "online" and not wandb.api.api_key:
            words = "log.wandb=online needs a login: set WANDB_API_KEY, or run wandb login once."
            raise UsageError(words, "E-TRACKER")
        known = memory.run("wandb")
        run = known or uuid.uuid4().hex[:12]
        self._replay: Path | None = None
        if known is not None and mode == "offline":
            # What a killed process had not yet written is lost; our own log is complete.
            self._replay = folder / "log.jsonl"
            for before in (folder / "wandb").glob(f"offline-run-*-{known}"):
                shutil.rmtree(before, ignore_errors=True)
        self._run = wandb.init(
            project=PROJECT,
            name=name,
            id=run,
            dir=str(folder),
            config=dict(settings),
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(mode=mode, **WANDB_TOLD),
        )
        if known is None:
            memory.begin("wandb", run)
        _remove_logs(folder / "wandb", hidden)

    def write(self, step: int, line: Line) -> None:
        if self._replay is not None:
            for earlier in _before(self._replay, step):
                self._run.log(earlier, step=int(earlier.pop("step")))
            self._replay = None
        # Online, W&B itself passes over steps that it has.
        self._run.log(dict(line), step=step)

    def close(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "done" else 1)


def _before(log: Path, step: int) -> list[dict[str, float]]:
    """Return what a log holds of the steps before one."""
    lines = map(numbers, log.read_bytes().split(b"\n")) if log.is_file() else ()
    return [line for line in lines if line.get("step", math.inf) < step]


WANDB_TOLD: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "host": NOBODY,
    "username": NOBODY,
    "email": NOBODY,
    "program": PROJECT,
    "program_relpath": PROJECT,
    "program_abspath": PROJECT,
    "x_executable": NOBODY,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "x_log_level": logging.ERROR,
    "silent": True,
    "symlink": False,
    "init_timeout": 30,
    "x_graphql_retry_max": 3,
    "x_graphql_timeout_seconds": 10,
    "x_file_stream_retry_max": 5,
    "x_file_stream_retry_wait_max_seconds": 5,
    "x_file_stream_timeout_seconds": 20,
}


def _remove_logs(folder: Path, hidden: Path) -> None:
    """Remove W&B's own logs: they, and a link to them, tell paths of the machine."""
    for logs in [hidden, *folder.glob("*run-*/logs")]:
        shutil.rmtree(logs, ignore_errors=True)
