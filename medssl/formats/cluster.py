"""Jobs on many machines: batches to the workers of a dask cluster, capped children on each.

The contract is that of ``worker.run``. What opens a file is still a child process with capped
memory and time, now on the machine of the dask worker; the dask worker itself reads no file. A
dask cluster obeys whoever can reach it: keep it on a network of your own, or use ``tls://``.
"""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from socket import gethostname
from typing import Any

from medssl import __version__
from medssl.errors import MedsslError, RefusedError, UsageError
from medssl.formats.worker import DEADLINE_S, Answer, Job, Pool

CONNECT_S = 8.0
ALONE_S = 30.0
TICK_S = 1.0
AHEAD = 2

Batch = tuple[Job, ...]
_here = threading.local()


def run(
    jobs: Iterable[Job],
    address: str,
    batch: int = 32,
    workers: int = 1,
    deadline_s: float = DEADLINE_S,
) -> Iterator[Answer]:
    """Yield one answer per job, in order of completion.

    Args:
        jobs: consumed lazily; paths must lead to the same files on every machine.
        address: the scheduler, such as ``tcp://host:8786``.
        batch: files per dask task; a stack counts as many as it has.
        workers: child processes of every dask thread.
        deadline_s: seconds one job may take, as for ``worker.run``.

    Raises:
        UsageError: the extra is not installed, or the address is none (``E-EXTRA``, ``E-CLUSTER``).
        RefusedError: no scheduler or worker there, one that is not as this machine, or all of them
            gone in the middle (``E-CLUSTER``).
    """
    queue = _batches(jobs, max(1, batch))
    first = next(queue, None)
    if first is None:
        return
    client = _connect(address)
    try:
        _check_workers(client, address, first[0].paths[:1])
        flight = _Flight(client, address, workers, deadline_s)
        yield from flight.run(itertools.chain([first], queue))
    finally:
        with contextlib.suppress(Exception):  # a scheduler that is gone cannot be told goodbye
            client.close(timeout=5)


def _batches(jobs: Iterable[Job], size: int) -> Iterator[Batch]:
    """Group jobs into batches of about ``size`` files, with absolute paths."""
    hand: list[Job] = []
    files = 0
    for job in jobs:
        paths = tuple(str(Path(p).absolute()) for p in job.paths)
        if hand and files + len(paths) > size:
            yield tuple(hand)
            hand, files = [], 0
        hand.append(Job(job.key, job.task, paths, job.settings))
        files += len(paths)
    if hand:
        yield tuple(hand)


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        words = "A cluster needs its extra: pip install 'medssl[cluster]'."
        raise UsageError(words, "E-EXTRA") from error
    # What it would log with a traceback, such as a lost scheduler, is told by our own sentences.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError) as error:
        words = (
            f"{address}: no dask scheduler answers there. Check the address, or start one with: "
            "dask scheduler --port 8786."
        )
        raise RefusedError(words, "E-CLUSTER") from error
    except (ValueError, TypeError, RuntimeError) as error:
        words = f"{address}: not the address of a scheduler; write it like tcp://host:8786."
        raise UsageError(words, "E-CLUSTER") from error


def _check_workers(client: Any, address: str, paths: tuple[str, ...]) -> None:
    """Raise RefusedError unless there are workers with this medssl that see the first file.

    A share that one machine lacks would otherwise set aside every file that lands there.
    """
    with contextlib.suppress(TimeoutError):
        client.wait_for_workers(1, timeout=CONNECT_S)
    seen = tuple(p for p in paths if os.access(p, os.R_OK))
    found = client.run(_obstacle, __version__, seen, on_error="return") or {}
    problems = [f"{where}: {_told(words)}" for where, words in sorted(found.items()) if words != ""]
    if not found:
        problems = [
            f"{address}: the scheduler has no worker. Start some with: dask worker {address}."
        ]
    if problems:
        raise RefusedError(problems[:20], "E-CLUSTER")


def _told(words: Any) -> str:
    if isinstance(words, str):
        return words
    return f"medssl does not start there ({type(words).__name__}); install the same release."


def _obstacle(version: str, paths: tuple[str, ...]) -> str:
    """Return, on a dask worker, why it could not do what is asked; nothing if it can."""
    if version != __version__:
        return f"has medssl {__version__}, this machine {version}; install the same release."
    if not all(os.access(p, os.R_OK) for p in paths):
        return "does not see the files to read; mount the share there under the same path."
    return ""


def _answer_batch(jobs: Batch, workers: int, deadline_s: float) -> list[Answer]:
    """Answer one batch on a dask worker; its children stay for the thread's next batch."""
    pool = getattr(_here, "pool", None)
    if pool is None or _here.size != workers:
        if pool is not None:
            pool.stop()
        pool = _here.pool = Pool(workers)
        _here.size = workers
    try:
        return list(pool.run(jobs, deadline_s))
    except MedsslError as error:  # the machine's fault, not a file's
        return [Answer(jobs[0].key, "E-CLUSTER", f"{gethostname()}: {error.problems[0]}", {})]


class _Flight:
    """The batches that are on the cluster at one time: a bounded number."""

    def __init__(self, client: Any, address: str, workers: int, deadline_s: float) -> None:
        self._client, self._address = client, address
        self._settings = (workers, deadline_s)
        self._flying: dict[Any, Batch] = {}
        self._again: deque[Batch] = deque()
        self._met_s = time.monotonic()

    def run(self, queue: Iterator[Batch]) -> Iterator[Answer]:
        """Send batches as others come back; yield their answers."""
        self._fill(queue)
        while self._flying:
            landed = self._landed()
            answers = [a for future in landed for a in self._answers(future)]
            self._fill(queue)
            yield from answers

    def _fill(self, queue: Iterator[Batch]) -> None:
        room = AHEAD * max(1, self._threads()) - len(self._flying)
        for _ in range(room):
            batch = self._again.popleft() if self._again else next(queue, None)
            if batch is None:
                return
            # A batch whose worker died is sent again by the scheduler itself; the retry is for
            # what goes wrong on a worker that lives.
            future = self._client.submit(
                _answer_batch, batch, *self._settings, pure=False, retries=1
            )
            self._flying[future] = batch

    def _threads(self) -> int:
        """Return how many batches the workers can answer at once, and note that there are some."""
        threads = 0
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            threads = sum(self._client.nthreads().values())
        if threads:
            self._met_s = time.monotonic()
        return threads

    def _landed(self) -> list[Any]:
        """Wait until some batch is back.

        Raises:
            RefusedError: the scheduler is gone, or no worker was there for half a minute.
        """
        from distributed import wait
        from distributed.client import FuturesCancelledError

        while True:
            with (
                self._client.as_current(),
                contextlib.suppress(TimeoutError, FuturesCancelledError),
            ):
                wait(list(self._flying), timeout=TICK_S, return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
            landed = [f for f in self._flying if f.status != "pending"]
            lost = self._client.status != "running" or any(f.cancelled() for f in landed)
            if not lost and landed:
                return landed
            if lost or (not self._threads() and time.monotonic() - self._met_s > ALONE_S):
                what = "the scheduler is gone" if lost else f"no worker for {ALONE_S:.0f} s"
                words = (
                    f"{self._address}: {what}, with {len(self._flying)} batches unanswered. Look at "
                    "its log, start it anew and repeat; nothing was set aside for this."
                )
                raise RefusedError(words, "E-CLUSTER")

    def _answers(self, future: Any) -> list[Answer]:
        """Return the answers of one batch; a batch that failed is sent anew, job by job."""
        batch = self._flying.pop(future)
        if future.status == "finished":
            answers: list[Answer] = future.result()
            refused = [a.sentence for a in answers if a.code == "E-CLUSTER"]
            if refused:
                raise RefusedError(refused[0], "E-CLUSTER")
            return answers
        if len(batch) > 1:
            self._again.extend((job,) for job in batch)
            return []
        kind = type(future.exception()).__name__
        words = f"ended the cluster's workers, alone and with others ({kind}); the import went on"
        return [Answer(batch[0].key, "E-CRASH", words, {})]
