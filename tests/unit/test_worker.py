"""The child process pays for a file, the parent never does."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medssl.formats import tasks, worker


def test_answers_and_arrays(tree):
    path = next((tree / "hospital_a" / "dicom").glob("*.dcm"))
    jobs = [
        worker.Job("h", "header", (str(path),)),
        worker.Job("d", "decode", (str(path),), {"size": 16}),
    ]
    got = {a.key: a for a in worker.run(jobs, workers=2)}
    assert got["h"].data["kind"] == "dicom"
    assert got["d"].arrays[0].shape == (1, 16, 16)
    assert got["d"].arrays[0].dtype == np.uint16
    assert not got["h"].code
    assert not got["d"].code


def test_reader_errors_are_charged_to_the_file(tmp_path):
    bad = tmp_path / "x.dcm"
    bad.write_bytes(b"\0" * 128 + b"DICM" + os.urandom(200))
    (answer,) = worker.run([worker.Job("x", "header", (str(bad),))], workers=1)
    assert answer.code.startswith(("E-", "S-"))
    assert len(answer.sentence) > 8


@pytest.mark.skipif(sys.platform != "linux", reason="the memory cap holds on Linux")
def test_hang_and_crash_cost_one_file(tree, monkeypatch):
    """A job that kills or stalls its child is named; its neighbours are answered."""
    good = str(next((tree / "hospital_a" / "dicom").glob("*.dcm")))
    fifo = Path(good).parent.parent / "pipe.dcm"
    os.mkfifo(fifo)
    try:
        jobs = [worker.Job(f"g{k}", "header", (good,)) for k in range(3)]
        jobs.insert(1, worker.Job("hang", "header", (str(fifo),)))
        begun = time.monotonic()
        got = {a.key: a for a in worker.run(jobs, workers=1, deadline_s=3)}
    finally:
        fifo.unlink()
    assert got["hang"].code == "E-DEADLINE"
    assert all(not got[f"g{k}"].code for k in range(3))
    assert time.monotonic() - begun < 60


def test_crash_is_charged(tree):
    good = str(next((tree / "hospital_a" / "dicom").glob("*.dcm")))
    child = worker._Child()
    child.give(worker.Job("x", "header", (good,)))
    child.process.kill()
    deadline = time.monotonic() + 20
    answer = None
    while answer is None and time.monotonic() < deadline:
        answer = child.take(60)
    assert answer is not None
    assert answer.code in {"E-CRASH", ""}
    child.stop()


def test_task_table_is_closed():
    assert set(tasks.TASKS) == {"header", "decode"}
