"""The child process pays for a file, the parent never does."""

import os
import time
from pathlib import Path

import numpy as np
from conftest import PROOF

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
    assert set(tasks.TASKS) == {"header", "decode", "show", "identify", "deidentify"}


def _mutated(raw, stream):
    """Flip bytes, overwrite a run, or cut: one fault per file."""
    data = bytearray(raw)
    kind = stream.integers(3)
    place = int(stream.integers(128, len(data)))
    if kind == 0:
        for k in stream.integers(132, len(data), 8):
            data[int(k)] ^= 1 << int(stream.integers(8))
    elif kind == 1:
        data[place : place + 16] = bytes([int(stream.choice([0, 255]))]) * len(
            data[place : place + 16]
        )
    else:
        del data[place:]
    return bytes(data)


def test_mutated_files_are_answered_one_by_one(tree, tmp_path):
    """Every mutated file has a verdict, and the good ones between them are read."""
    stream = np.random.default_rng(0)
    sources = sorted((tree / "hospital_a" / "dicom").glob("*.dcm"))
    count = 2000 if PROOF else 60
    jobs = []
    for k in range(count):
        good = sources[k % len(sources)]
        path = tmp_path / f"{k}.dcm"
        path.write_bytes(_mutated(good.read_bytes(), stream))
        task = "decode" if k % 2 else "header"
        settings = {"size": 16} if k % 2 else {}
        jobs += [worker.Job(f"m{k}", task, (str(path),), settings)]
        jobs += [worker.Job(f"g{k}", task, (str(good),), settings)] if k % 10 == 0 else []
    got = {a.key: a for a in worker.run(jobs, workers=2, deadline_s=30)}
    assert set(got) == {j.key for j in jobs}
    assert all(not got[j.key].code for j in jobs if j.key.startswith("g"))
    refused = [a for a in got.values() if a.code]
    assert refused
    assert all(len(a.sentence) > 8 for a in refused)
