"""Child processes that open foreign files under limits: a crash, a hang or a bomb costs one file.

Messages cross the pipe as JSON and raw array bytes, never as pickles: a child that a hostile file
took over can lie about one picture, not run code in the parent.
"""

import contextlib
import json
import multiprocessing as mp
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

MEMORY_BYTES = 2 << 30
DEADLINE_S = 60.0
STARTUP_S = 120.0


@dataclass(frozen=True)
class Job:
    """One thing to do: a task of the table, the files, and settings as JSON."""

    key: str
    task: str
    paths: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What became of a job: ``code`` is empty when it went well."""

    key: str
    code: str
    sentence: str
    data: dict[str, Any]
    arrays: tuple[np.ndarray[Any, Any], ...] = ()


def run(jobs: Iterable[Job], workers: int = 2, deadline_s: float = DEADLINE_S) -> Iterator[Answer]:
    """Yield one answer per job, in order of completion.

    Args:
        jobs: consumed lazily.
        workers: child processes.
        deadline_s: seconds one job may take before its child is ended and the job charged.
    """
    queue = iter(jobs)
    first = list(islice(queue, max(1, workers)))
    pool = [_Child() for _ in first]
    try:
        for child, job in zip(pool, first, strict=True):
            child.give(job)
        while busy := [c for c in pool if c.job is not None]:
            wait([c.connection for c in busy], timeout=0.2)
            for child in busy:
                answer = child.take(deadline_s)
                if answer is not None:
                    child.give(next(queue, None))
                    yield answer
    finally:
        for child in pool:
            child.stop()


class _Child:
    """One persistent process and the job in its hand."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.since = 0.0
        self._start()

    def _start(self) -> None:
        context = mp.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, MEMORY_BYTES), daemon=True)
        self.process.start()
        other.close()
        self.ready = False

    def give(self, job: Job | None) -> None:
        self.job, self.since = job, time.monotonic()
        if job is None:
            return
        message = json.dumps({"task": job.task, "paths": job.paths, "settings": job.settings})
        try:
            self.connection.send_bytes(message.encode())
        except (BrokenPipeError, OSError):
            self.process.join(1)  # take() charges the job and starts the child anew

    def take(self, deadline_s: float) -> Answer | None:
        assert self.job is not None  # noqa: S101
        try:
            if self.connection.poll() and not self.ready:
                self.connection.recv_bytes()
                self.ready, self.since = True, time.monotonic()
            if self.connection.poll():
                return _receive(self.connection, self.job.key)
        except (EOFError, OSError):
            return self._charge()
        if not self.process.is_alive():
            return self._charge()
        # Starting a child is not the file's fault: the clock of the job runs once it is ready.
        if time.monotonic() - self.since > (deadline_s if self.ready else STARTUP_S):
            self.process.kill()
            return self._charge(
                f"took longer than {deadline_s:.0f} s; set aside so that the import goes on",
                "E-DEADLINE",
            )
        return None

    def _charge(self, sentence: str = "", code: str = "E-CRASH") -> Answer:
        self.process.join(5)
        signal = -(self.process.exitcode or 0)
        words = sentence or f"the reader crashed on this file (signal {signal}); the import went on"
        key = self.job.key if self.job is not None else ""
        self.connection.close()
        self._start()
        return Answer(key, code, words, {})

    def stop(self) -> None:
        self.connection.close()
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _receive(connection: Connection, key: str) -> Answer:
    head = json.loads(connection.recv_bytes().decode())
    arrays = []
    for shape, dtype in head["arrays"]:
        flat = np.frombuffer(connection.recv_bytes(), dtype=np.dtype(str(dtype)))
        arrays.append(flat.reshape([int(n) for n in shape]))
    return Answer(key, head["code"], head["sentence"], head["data"], tuple(arrays))


def _serve(connection: Connection, memory: int) -> None:
    """Answer jobs until the parent hangs up."""
    _limit(memory)
    from medssl.formats.tasks import TASKS

    with contextlib.suppress(BrokenPipeError):
        connection.send_bytes(b"ready")
    while True:
        try:
            message = json.loads(connection.recv_bytes().decode())
        except (EOFError, OSError):
            return
        paths = [Path(p) for p in message["paths"]]
        head, arrays = _answer(TASKS[message["task"]], paths, message["settings"])
        head["arrays"] = [(a.shape, a.dtype.str) for a in arrays]
        connection.send_bytes(json.dumps(head, allow_nan=True).encode())
        for array in arrays:
            connection.send_bytes(np.ascontiguousarray(array).tobytes())


Task = Callable[[list[Path], dict[str, Any]], tuple[dict[str, Any], list[np.ndarray[Any, Any]]]]


def _answer(
    task: Task, paths: list[Path], settings: dict[str, Any]
) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]]:
    from medssl.formats.geometry import FormatError

    try:
        data, arrays = task(paths, settings)
    except FormatError as error:
        return {"code": error.code, "sentence": error.sentence, "data": {}}, []
    except MemoryError:
        words = "needs more memory than one file may take (2 GiB)"
        return {"code": "E-MEMORY", "sentence": words, "data": {}}, []
    except Exception as error:  # noqa: BLE001  malformed files raise anything; each is charged to its file
        words = f"could not be read ({type(error).__name__})"
        return {"code": "E-READ", "sentence": words, "data": {}}, []
    return {"code": "", "sentence": "", "data": data}, arrays


def _limit(memory: int) -> None:
    """Cap memory and forbid core files where the system can (Linux, macOS)."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if hasattr(resource, "RLIMIT_AS") and os.uname().sysname == "Linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
