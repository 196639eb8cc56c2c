"""A real scheduler and two real workers on loopback: the cluster answers as this machine does."""

import builtins
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import count

import numpy as np
import pytest
from conftest import PROOF, ok

from medssl.errors import RefusedError, UsageError
from medssl.formats import cluster, worker

distributed = pytest.importorskip(
    "distributed", reason="needs the extra: pip install 'medssl[cluster]'"
)


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _wait_for_port(port, process):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "the scheduler ended before it listened"
        with socket.socket() as one:
            one.settimeout(0.2)
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the scheduler never listened")


def _dask(folder, *words, failures=1):
    """Start one dask program in a process group of its own, its log beside the test's files."""
    settings = {
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(failures),
        "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
    }
    command = [sys.executable, "-m", "dask", *map(str, words), "--host", "127.0.0.1"]
    with (folder / f"{words[0]}.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--no-dashboard"], cwd=folder, stdout=log, stderr=log,
            env=os.environ | settings, start_new_session=True,
        )  # fmt: skip


def _wait_for_workers(address, number):
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(number, timeout=60)


def _end(processes):
    for process in processes:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sign)
                process.wait(3)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


@pytest.fixture(scope="module")
def cluster_here(tmp_path_factory):
    """A scheduler with two workers of one thread: one under a (daemonic) nanny, one without."""
    folder = tmp_path_factory.mktemp("cluster")
    port = _free_port()
    where = f"tcp://127.0.0.1:{port}"
    started = [_dask(folder, "scheduler", "--port", port)]
    _wait_for_port(port, started[0])
    one = ("--nthreads", 1, "--nworkers", 1, "--local-directory", folder)
    started += [_dask(folder, "worker", where, *one, "--nanny")]
    started += [_dask(folder, "worker", where, *one, "--no-nanny")]
    _wait_for_workers(where, 2)
    yield where, started[0]
    _end(started)


@pytest.fixture
def address(cluster_here):
    return cluster_here[0]


def _same(one, other):
    assert (one.key, one.code, one.sentence, one.data) == (
        other.key,
        other.code,
        other.sentence,
        other.data,
    )
    for a, b in zip(one.arrays, other.arrays, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_scan_and_decode_on_the_cluster_write_the_same_bytes(address, tree, tmp_path):
    source = tree / "hospital_a"
    for name, more in (("here", []), ("there", ["--cluster", address])):
        root = tmp_path / name
        ok("scan", source, "--site", "hospital_a", "--out", root, *more)
        ok("decode", root, "--size", 24, *more)
    names = ["manifest.parquet", "quarantine.csv", "twins.parquet"]
    stored = (tmp_path / "here").glob("store/*/*")
    names += [
        str(p.relative_to(tmp_path / "here")) for p in stored if p.suffix in {".npy", ".parquet"}
    ]
    assert len(names) > 4
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_the_cluster_answers_as_this_machine_does(address, tree, tmp_path):
    """Headers, pixels and refusals: the same, job by job, whatever the batch."""
    files = sorted((tree / "hospital_a" / "dicom").glob("*.dcm"))[:40]
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(files[0].read_bytes()[:700])
    jobs = [worker.Job(f"h{k}", "header", (str(f),)) for k, f in enumerate([*files, broken])]
    jobs += [worker.Job(f"d{k}", "decode", (str(f),), {"size": 24}) for k, f in enumerate(files)]
    here = {a.key: a for a in worker.run(jobs, workers=1)}
    there = {a.key: a for a in cluster.run(iter(jobs), address, batch=7)}
    assert set(there) == set(here) == {j.key for j in jobs}
    assert here["h40"].code
    assert here["d0"].arrays[0].shape == (1, 24, 24)
    for key, answer in here.items():
        _same(there[key], answer)


def test_a_hang_on_the_cluster_costs_one_file(address, tree):
    """The capped children exist over there too: the pipe nobody writes is charged, alone."""
    good = str(next((tree / "hospital_a" / "dicom").glob("*.dcm")))
    pipe = tree / "never.dcm"
    os.mkfifo(pipe)
    try:
        paths = [good, good, str(pipe), good, good]
        jobs = [worker.Job(str(k), "header", (p,)) for k, p in enumerate(paths)]
        got = {a.key: a for a in cluster.run(jobs, address, batch=5, deadline_s=1.5)}
    finally:
        pipe.unlink()
    assert {k: a.code for k, a in got.items()} == {
        "0": "", "1": "", "2": "E-DEADLINE", "3": "", "4": "",
    }  # fmt: skip


def test_jobs_are_pulled_as_they_are_needed(address, tree):
    """Of endless jobs only so many are on the way as the two threads can soon answer."""
    good = str(next((tree / "hospital_a" / "dicom").glob("*.dcm")))
    drawn = []

    def endless():
        for k in count():
            drawn.append(k)
            yield worker.Job(str(k), "header", (good,))

    answers = cluster.run(endless(), address, batch=3)
    got = [next(answers) for _ in range(9)]
    answers.close()
    assert len({a.key for a in got}) == 9
    # two threads, twice over, refilled a few times, and one job read ahead
    assert len(drawn) <= 3 * 2 * cluster.AHEAD * 4 + 1


def test_a_machine_that_lacks_the_share_is_refused_before_anything_is_set_aside(
    address, tree, monkeypatch
):
    good = str(next((tree / "hospital_a" / "dicom").glob("*.dcm")))
    monkeypatch.setattr(cluster, "__version__", "9.9.9")
    with pytest.raises(RefusedError, match=r"this machine 9\.9\.9; install the same") as caught:
        list(cluster.run([worker.Job("x", "header", (good,))], address))
    assert caught.value.code == "E-CLUSTER"
    assert len(caught.value.problems) == 2


def test_no_scheduler_there_is_said_within_ten_seconds(monkeypatch):
    assert cluster.CONNECT_S < 10
    monkeypatch.setattr(cluster, "CONNECT_S", 1.5)
    job = worker.Job("x", "header", ("nowhere",))
    begun = time.monotonic()
    with pytest.raises(RefusedError, match="no dask scheduler answers there") as caught:
        list(cluster.run([job], f"tcp://127.0.0.1:{_free_port()}"))
    assert time.monotonic() - begun < 1.5 + 2
    assert caught.value.code == "E-CLUSTER"
    with pytest.raises(UsageError, match="write it like tcp://host:8786"):
        list(cluster.run([job], "carrier-pigeon://coop"))


def test_nothing_to_do_asks_for_no_cluster():
    assert list(cluster.run([], "tcp://127.0.0.1:1")) == []


def test_without_the_extra_the_command_is_told(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.partition(".")[0] in {"dask", "distributed"}:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'medssl\[cluster\]'"):
        list(cluster.run([worker.Job("x", "header", ("a",))], "tcp://127.0.0.1:1"))


def test_batches_count_files_and_lose_no_job():
    jobs = [
        worker.Job(str(k), "decode", tuple("f" * n), {}) for k, n in enumerate([1, 1, 9, 2, 2, 1])
    ]
    got = list(cluster._batches(jobs, 4))
    assert [[j.key for j in b] for b in got] == [["0", "1"], ["2"], ["3", "4"], ["5"]]
    assert all(p.startswith("/") for b in got for j in b for p in j.paths)


class _Future:
    """What dask says of a batch: it kills its workers, or it is answered."""

    def __init__(self, batch, deadly):
        self.status = "error" if any(j.key in deadly for j in batch) else "finished"
        self.batch = batch

    def result(self):
        return [worker.Answer(j.key, "", "", {}) for j in self.batch]

    def exception(self):
        return distributed.scheduler.KilledWorker("t", None, 1)

    def cancelled(self):
        return False


class _Client:
    """A cluster of three threads that some jobs end."""

    status = "running"

    def __init__(self, deadly):
        self.deadly, self.sent = deadly, []

    def nthreads(self):
        return {"one": 1, "two": 2}

    def submit(self, _, batch, *settings, **options):
        self.sent.append([j.key for j in batch])
        return _Future(batch, self.deadly)


def test_a_batch_that_ends_its_workers_is_sent_anew_job_by_job(monkeypatch):
    """Each job has one answer; the two deadly ones are charged after they failed alone."""
    client = _Client({"3", "8"})
    flight = cluster._Flight(client, "tcp://here", 1, 10.0)
    most = []

    def landed():
        most.append(len(flight._flying))
        return list(flight._flying)

    monkeypatch.setattr(flight, "_landed", landed)
    jobs = [worker.Job(str(k), "header", (f"f{k}",)) for k in range(40)]
    got = list(flight.run(cluster._batches(jobs, 5)))
    assert sorted(a.key for a in got) == sorted(j.key for j in jobs)
    assert {a.key: a.code for a in got if a.code} == {"3": "E-CRASH", "8": "E-CRASH"}
    assert ["3"] in client.sent
    assert [["0", "1", "2", "3", "4"]].count(client.sent[0]) == 1
    assert max(most) <= 3 * cluster.AHEAD


@pytest.fixture(scope="module")
def lone(tmp_path_factory):
    """A scheduler that gives nobody a second chance, and one worker that its nanny replaces."""
    folder = tmp_path_factory.mktemp("lone")
    port = _free_port()
    where = f"tcp://127.0.0.1:{port}"
    scheduler = _dask(folder, "scheduler", "--port", port, failures=0)
    _wait_for_port(port, scheduler)
    one = ("--nthreads", 1, "--nworkers", 1, "--local-directory", folder)
    nanny = _dask(folder, "worker", where, *one, "--nanny")
    _wait_for_workers(where, 1)
    yield where
    _end([scheduler, nanny])


def _reader(pipe):
    """Hold the pipe's other end if somebody reads it now."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        time.sleep(0.02)
        return None


def _kill_the_reader(address, pipe, told, times):
    """Kill the dask worker each time that a child of it opens the pipe."""
    with distributed.Client(address, set_as_default=False) as client:
        while len(told) < times:
            held = _reader(pipe)
            if held is None:
                continue
            for process in client.run(os.getpid).values():
                os.kill(process, signal.SIGKILL)
                told.append(process)
            os.close(held)
            while (held := _reader(pipe)) is not None:  # the orphan reads to the end, then goes
                os.close(held)
                time.sleep(0.02)


@pytest.mark.skipif(not PROOF, reason="waits for nannies; make proof")
def test_a_job_that_ends_dask_workers_is_charged_alone(lone, tree):
    """Its batch fails, its neighbours are answered one by one, and it fails by itself."""
    address = lone
    good = str(next((tree / "hospital_a" / "dicom").glob("*.dcm")))
    pipe = tree / "deadly.dcm"
    os.mkfifo(pipe)
    killed = []
    killer = threading.Thread(target=_kill_the_reader, args=(address, pipe, killed, 2), daemon=True)
    try:
        jobs = [worker.Job("g", "header", (good,)), worker.Job("x", "header", (str(pipe),))]
        killer.start()
        got = {a.key: a for a in cluster.run(jobs, address, batch=2, deadline_s=30)}
        killer.join(10)
    finally:
        pipe.unlink()
    assert {k: a.code for k, a in got.items()} == {"g": "", "x": "E-CRASH"}
    assert "KilledWorker" in got["x"].sentence
    assert len(set(killed)) == 2


def test_a_scheduler_that_goes_away_ends_the_run_with_a_sentence(cluster_here, tree):
    """Nothing is set aside for it, and nobody waits for ever."""
    address, scheduler = cluster_here
    pipe = tree / "slow.dcm"
    os.mkfifo(pipe)
    try:
        answers = cluster.run([worker.Job("x", "header", (str(pipe),))], address, deadline_s=60)
        threading.Timer(3, scheduler.kill).start()
        begun = time.monotonic()
        with pytest.raises(RefusedError, match="the scheduler is gone, with 1 batches") as caught:
            list(answers)
    finally:
        pipe.unlink()
    assert caught.value.code == "E-CLUSTER"
    assert time.monotonic() - begun < 15
