"""Child processes that open foreign files under limits: a crash, a hang or a bomb costs one file.

Messages cross the pipe as JSON and raw array bytes, never as pickles: a child that a hostile file
took over can lie about pictures, not run code in the parent.
"""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import MedsslError
from medssl.formats.limits import MIB, memory_bytes

DEADLINE_S = 10.0
SECONDS_PER_MB = 1.0
STARTUP_S = 120.0
STARTS = 3
# What a child may hold beyond the job in its hand: so much work, so many jobs, and so few bytes
# that a send never waits for a child which itself waits for its own answer to be taken.
AHEAD_S = 0.1
AHEAD_JOBS = 16
AHEAD_BYTES = 4096
TICK_S = 0.2
ORPHAN_S = 2.0
BOOT = "import sys; from medssl.formats import worker; worker.serve(*map(int, sys.argv[1:]))"


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
        deadline_s: seconds one job may take, plus one for every megabyte of its files, before its
            child is ended and the job charged.

    Raises:
        MedsslError: the children do not start (``E-WORKER``).
    """
    pool = Pool(workers)
    try:
        yield from pool.run(jobs, deadline_s)
    finally:
        pool.stop()


class Pool:
    """Children that outlive one run, for callers with many short runs."""

    def __init__(self, workers: int) -> None:
        self._size = max(1, workers)
        self._children: list[_Child] = []

    def run(self, jobs: Iterable[Job], deadline_s: float = DEADLINE_S) -> Iterator[Answer]:
        """Yield one answer per job; the contract of the function ``run``."""
        queue = _Queue(jobs)
        try:
            while self._fill(queue):
                busy = [c for c in self._children if c.jobs]
                told = wait([c.connection for c in busy], timeout=TICK_S)
                for child in busy:
                    spoke = child.connection in told
                    answer = child.receive() if spoke else child.judge(deadline_s)
                    if answer is not None:
                        child.fill(queue)
                        yield answer
        finally:
            self._drop_busy()

    def stop(self) -> None:
        """End every child."""
        for child in self._children:
            child.stop()
        self._children = []

    def _fill(self, queue: "_Queue") -> bool:
        """Hand out jobs; return whether any is in a child's hand."""
        for child in self._children:
            child.fill(queue)
        while len(self._children) < self._size and queue.peek() is not None:
            self._children.append(_Child())
            self._children[-1].fill(queue)
        return any(c.jobs for c in self._children)

    def _drop_busy(self) -> None:
        """A run given up in the middle leaves no child with a job whose answer nobody awaits."""
        for child in [c for c in self._children if c.jobs]:
            child.process.kill()
            child.stop()
            self._children.remove(child)


class _Queue:
    """The jobs to come; the first may be looked at before it is taken."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = iter(jobs)
        self._next: tuple[Job, bytes] | None = None

    def peek(self) -> tuple[Job, bytes] | None:
        if self._next is None:
            job = next(self._jobs, None)
            self._next = None if job is None else (job, _message(job))
        return self._next

    def drop(self) -> None:
        self._next = None


def _message(job: Job) -> bytes:
    return json.dumps({"task": job.task, "paths": job.paths, "settings": job.settings}).encode()


class _Child:
    """One persistent process, the job in its hand and a few that wait in its pipe.

    A plain program, not a ``multiprocessing`` process: that would run the caller's main module
    again, and be refused to the daemonic workers of a cluster.
    """

    def __init__(self) -> None:
        self.jobs: deque[tuple[Job, bytes]] = deque()
        self.since = 0.0
        self.pace_s: float | None = None
        self.failed_starts = 0
        self._start()

    def _start(self) -> None:
        self.connection, other = Pipe()
        handle = other.fileno()
        command = [sys.executable, "-P", "-c", BOOT, str(handle), str(memory_bytes())]
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        places = os.pathsep.join(str(Path(p).absolute()) for p in sys.path)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(handle,),
            env=os.environ | threads | {"PYTHONPATH": places},
        )
        other.close()
        self.ready, self.since = False, time.monotonic()

    def give(self, job: Job) -> None:
        """Send one job."""
        self._send(job, _message(job))

    def fill(self, queue: _Queue) -> None:
        """Take jobs from the queue while there is room."""
        while (found := queue.peek()) is not None and self._has_room(found[1]):
            queue.drop()
            self._send(*found)

    def _has_room(self, message: bytes) -> bool:
        if not self.jobs:
            return True
        if not self.ready or self.pace_s is None:
            return False
        waiting = len(message) + sum(len(m) for _, m in self.jobs)
        most = min(AHEAD_JOBS, AHEAD_S / max(self.pace_s, 1e-6))
        return waiting <= AHEAD_BYTES and len(self.jobs) <= most

    def _send(self, job: Job, message: bytes) -> None:
        if not self.jobs:
            self.since = time.monotonic()
        self.jobs.append((job, message))
        # A child that is gone is seen by the next receive(), which charges the job in its hand.
        with contextlib.suppress(OSError):
            self.connection.send_bytes(message)

    def take(self, deadline_s: float) -> Answer | None:
        """Return the answer to the job in hand, a charge against it, or None: not yet."""
        return self.receive() if self.connection.poll() else self.judge(deadline_s)

    def receive(self) -> Answer | None:
        """Read what the child sent; None for its first word, that it is ready."""
        try:
            if not self.ready:
                self.connection.recv_bytes(memory_bytes())
                # Starting a child is not the file's fault: the clock of the job runs from here.
                self.ready, self.since, self.failed_starts = True, time.monotonic(), 0
                return None
            answer = _receive(self.connection, self.jobs[0][0].key)
        except (EOFError, OSError):
            return self._died()
        except (ValueError, TypeError, KeyError):
            self.process.kill()
            return self._charge("made the reader answer nonsense; the import went on", "E-CRASH")
        now = time.monotonic()
        took, self.since = now - self.since, now
        self.pace_s = took if self.pace_s is None else 0.8 * self.pace_s + 0.2 * took
        self.jobs.popleft()
        return answer

    def judge(self, deadline_s: float) -> Answer | None:
        """Charge the job in hand of a silent child that is late or dead."""
        if self.process.poll() is not None and not self.connection.poll():
            return self._died()
        spent = time.monotonic() - self.since
        if spent <= (deadline_s if self.ready else STARTUP_S):
            return None
        allowed = deadline_s + SECONDS_PER_MB * _megabytes(self.jobs[0][0]) if self.ready else 0.0
        # The caller may have paused longer than that, with the answer waiting in the pipe.
        if spent <= allowed or self.connection.poll():
            return None
        self.process.kill()
        if not self.ready:
            return self._died()
        words = f"took longer than {allowed:.0f} s; set aside so that the import goes on"
        return self._charge(words, "E-DEADLINE")

    def _died(self) -> Answer | None:
        if not self.ready:
            self._try_again()
            return None
        self._wait()
        how = f"signal {-self.process.returncode}" if self.process.returncode < 0 else "ended"
        return self._charge(
            f"the reader crashed on this file ({how}); the import went on", "E-CRASH"
        )

    def _try_again(self) -> None:
        """Start once more a child that ended before it read any job, so none is to blame."""
        self._wait()
        self.failed_starts += 1
        if self.failed_starts >= STARTS:
            words = (
                f"the process that opens files ended {STARTS} times before it was ready (exit code "
                f"{self.process.returncode}). Check free memory and that medssl imports: "
                "python -c 'import medssl.formats.tasks'."
            )
            raise MedsslError(words, "E-WORKER")
        self._restart()

    def _charge(self, sentence: str, code: str) -> Answer:
        self._wait()
        job, _ = self.jobs.popleft()
        self._restart()
        return Answer(job.key, code, sentence, {})

    def _restart(self) -> None:
        self.connection.close()
        self._start()
        waiting, self.jobs = self.jobs, deque()
        for job, message in waiting:
            self._send(job, message)

    def _wait(self) -> None:
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Hang up and wait for the end."""
        self.connection.close()
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _megabytes(job: Job) -> float:
    """Return the size of a job's files; those that cannot be asked count nothing."""
    size = 0
    for path in job.paths:
        with contextlib.suppress(OSError, ValueError):
            size += Path(path).stat().st_size
    return size / 1e6


def _receive(connection: Connection, key: str) -> Answer:
    head = json.loads(connection.recv_bytes(memory_bytes()).decode())
    arrays = []
    for shape, dtype in head["arrays"]:
        kind = np.dtype(str(dtype))
        if kind.hasobject:
            raise ValueError(f"arrays of {kind} are not sent")
        flat = np.frombuffer(connection.recv_bytes(memory_bytes()), dtype=kind)
        arrays.append(flat.reshape([int(n) for n in shape]))
    return Answer(key, head["code"], head["sentence"], head["data"], tuple(arrays))


def serve(handle: int, memory: int) -> None:
    """Answer jobs in a child process until the parent hangs up.

    Args:
        handle: file descriptor of the pipe.
        memory: bytes of address space that this process may take.
    """
    # An interrupt from the keyboard reaches the parent too, which ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive_nobody, args=(os.getppid(),), daemon=True).start()
    _limit(memory)
    from medssl.formats.tasks import TASKS

    gc.freeze()  # the modules stay: no collection need walk them again for every file
    connection = Connection(handle)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, EOFError):
        connection.send_bytes(b"ready")
        # From here on, only decoders write to stderr, and what they write may quote a header.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        while True:
            message = json.loads(connection.recv_bytes().decode())
            paths = [Path(p) for p in message["paths"]]
            head, arrays = _answer(TASKS[message["task"]], paths, message["settings"])
            head["arrays"] = [(a.shape, a.dtype.str) for a in arrays]
            connection.send_bytes(json.dumps(head, allow_nan=True).encode())
            for array in arrays:
                connection.send_bytes(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _outlive_nobody(parent: int) -> None:
    """End a child that hangs in a file after its parent was killed."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_S)
    os._exit(1)


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
        words = f"needs more memory than one file may take ({memory_bytes() // MIB} MiB, MEDSSL_WORKER_MIB)"
        return {"code": "E-MEMORY", "sentence": words, "data": {}}, []
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  a decoder written in Rust panics past Exception
        words = f"could not be read ({type(error).__name__})"
        return {"code": "E-READ", "sentence": words, "data": {}}, []
    return {"code": "", "sentence": "", "data": data}, arrays


def _limit(memory: int) -> None:
    """Cap memory and forbid core files where the system can (Linux, macOS)."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if hasattr(resource, "RLIMIT_AS") and os.uname().sysname == "Linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
