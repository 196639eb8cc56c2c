"""Many jobs in a pipe, a million rows in a table: as careful as one by one, and as true as the slow way."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from medssl.cohort import draw
from medssl.cohort import manifest as manifest_room
from medssl.errors import MedsslError
from medssl.formats import worker


@pytest.fixture
def good(tree):
    return str(next((tree / "hospital_a" / "dicom").glob("*.dcm")))


@pytest.fixture
def pipe(tmp_path):
    """A file that nobody ever writes: its reader hangs until the deadline."""
    path = tmp_path / "hang.dcm"
    os.mkfifo(path)
    return str(path)


def _tell(script, monkeypatch):
    """Have every child run a script of ours in place of the server."""
    monkeypatch.setattr(worker, "BOOT", script)


DEADLY = """
import json, os, sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
pipe.send_bytes(b"ready")
while True:
    name = json.loads(pipe.recv_bytes())["paths"][0]
    if name.startswith("die"):
        os.kill(os.getpid(), 6)
    if name.startswith("exit"):
        os._exit(3)
    if name.startswith("lie"):
        pipe.send_bytes(name[3:].encode())
        continue
    pipe.send_bytes(json.dumps({"code": "", "sentence": "", "data": {"saw": name}, "arrays": []}).encode())
"""


def test_only_the_job_in_hand_is_charged_while_others_wait_in_the_pipe(monkeypatch):
    """The jobs behind the deadly one are in the dead child's pipe: each is answered by the next."""
    _tell(DEADLY, monkeypatch)
    deadly = {40, 41, 77, 150}
    names = [f"{'die' if k in deadly else 'ok'}{k}" for k in range(300)]
    held = []
    real = worker._Child._died

    def died(self):
        held.append(len(self.jobs))
        return real(self)

    monkeypatch.setattr(worker._Child, "_died", died)
    jobs = [worker.Job(str(k), "header", (n,)) for k, n in enumerate(names)]
    got = list(worker.run(jobs, workers=2))
    assert sorted(int(a.key) for a in got) == list(range(300))
    assert {int(a.key) for a in got if a.code} == deadly
    assert all("signal 6" in a.sentence for a in got if a.code)
    assert all(a.data["saw"] == names[int(a.key)] for a in got if not a.code)
    assert max(held) > 2, "no job waited behind a deadly one, so nothing was proved"


@pytest.mark.parametrize(
    "lie",
    [
        "not json",
        "[]",
        '{"code": ""}',
        '{"code": "", "sentence": "", "data": {}, "arrays": [[[4], "O"]]}',
        '{"code": "", "sentence": "", "data": {}, "arrays": [[[-9, 2], "nonsense"]]}',
    ],
)
def test_a_child_that_answers_nonsense_costs_its_file_not_the_parent(monkeypatch, lie):
    _tell(DEADLY, monkeypatch)
    jobs = [worker.Job(n, "header", (n,)) for n in ("ok1", f"lie{lie}", "ok2", "exit")]
    got = {a.key: a for a in worker.run(jobs, workers=1)}
    assert {k: a.code for k, a in got.items()} == {
        "ok1": "", f"lie{lie}": "E-CRASH", "ok2": "", "exit": "E-CRASH",
    }  # fmt: skip


def test_a_child_that_never_starts_is_no_files_fault(monkeypatch):
    """A broken installation must not set aside a whole archive as crashes."""
    _tell("raise SystemExit(7)", monkeypatch)
    with pytest.raises(MedsslError, match=r"ended 3 times before it was ready \(exit code 7\)"):
        list(worker.run([worker.Job("x", "header", ("x",))], workers=1))


def test_the_deadline_is_of_a_file_not_of_those_behind_it(good, pipe):
    """Fast jobs fill the pipe behind the hanging one; they are answered, it alone is late."""
    jobs = [worker.Job(f"g{k}", "header", (good,)) for k in range(60)]
    jobs.insert(30, worker.Job("hang", "header", (pipe,)))
    begun = time.monotonic()
    got = {a.key: a.code for a in worker.run(jobs, workers=1, deadline_s=1.0)}
    assert got.pop("hang") == "E-DEADLINE"
    assert set(got.values()) == {""}
    assert len(got) == 60
    assert time.monotonic() - begun < 60


def test_larger_files_get_more_time(tmp_path):
    """Ten seconds for small ones, and one more for every megabyte; absent files count nothing."""
    big, other = tmp_path / "big", tmp_path / "other"
    for path, size in ((big, 7_000_000), (other, 1_500_000)):
        with path.open("wb") as out:
            out.truncate(size)
    job = worker.Job("x", "decode", (str(big), str(other), str(tmp_path / "gone")))
    assert worker._megabytes(job) * worker.SECONDS_PER_MB == pytest.approx(8.5)
    assert worker.DEADLINE_S == 10


def test_a_caller_that_pauses_beyond_the_deadline_charges_nobody(monkeypatch):
    """An answer that lies in the pipe is in time, however late somebody comes to take it."""
    _tell(DEADLY, monkeypatch)
    child = worker._Child()
    try:
        child.give(worker.Job("x", "header", ("ok",)))
        while not child.ready:
            child.take(60)
        assert child.connection.poll(30)
        child.since -= 1000
        assert child.judge(1.0) is None
        answer = child.receive()
    finally:
        child.stop()
    assert (answer.key, answer.code, answer.data) == ("x", "", {"saw": "ok"})


def test_a_child_does_not_outlive_a_parent_that_was_killed(pipe):
    """It hangs in a file; nobody is left to tell it that it is late."""
    script = f"""
from medssl.formats import worker
pool = worker.Pool(1)
for answer in pool.run([worker.Job("x", "header", ({pipe!r},))], 600): pass
"""
    parent = subprocess.Popen([sys.executable, "-P", "-c", script])
    try:
        held = None
        while held is None:  # until the child reads the pipe
            with contextlib.suppress(OSError):
                held = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            time.sleep(0.02)
        (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    gone = not Path(f"/proc/{child}").exists()
    os.close(held)
    assert gone


def test_a_run_given_up_in_the_middle_leaves_no_child(good):
    pool = worker.Pool(2)
    answers = pool.run(worker.Job(str(k), "header", (good,)) for k in range(10_000))
    got = [next(answers) for _ in range(20)]
    children = [c.process for c in pool._children]
    answers.close()
    assert all(p.poll() is not None for p in children)
    again = list(pool.run([worker.Job("x", "header", (good,))]))
    pool.stop()
    assert [a.code for a in [*got, *again]] == [""] * 21


def test_children_run_one_thread_and_no_module_of_the_caller(tmp_path, good, monkeypatch):
    """They start as programs of their own: the caller's main module and folder are not theirs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numpy.py").write_text("raise SystemExit('the data folder was imported')\n")
    (answer,) = worker.run([worker.Job("x", "header", (good,))], workers=1)
    assert not answer.code


def _bags_one_by_one(rows, bag, patient, picture):
    """Return the bags by dictionaries: patient and bag in order of their names, rows ascending."""
    found = {}
    for row, group, owner, digest in zip(rows, bag, patient, picture, strict=True):
        found.setdefault((owner, group), {}).setdefault(digest, row)
    names = sorted({owner for owner, _ in found})
    return [(names.index(k[0]), sorted(found[k].values())) for k in sorted(found)]


def _pairs_one_by_one(bags, seed, epoch, *, single_images):
    """Draw as the page on MICLe says it, a patient at a time, from the same stream."""
    stream = draw.generator(seed, epoch, 2)
    patients = sorted(set(bags.patient.tolist()))
    pick, first, second = stream.random((3, len(patients)))
    out = {}
    for k, patient in enumerate(patients):
        own = [b for b, p in enumerate(bags.patient.tolist()) if p == patient]
        paired = [b for b in own if bags.start[b + 1] - bags.start[b] > 1]
        if not paired and not single_images:
            continue
        choice = paired or own
        bag = choice[int(pick[k] * len(choice))]
        members = bags.order[bags.start[bag] : bags.start[bag + 1]].tolist()
        a = int(first[k] * len(members))
        rest = members[a + 1 :] + members[:a]
        out[patient] = (members[a], rest[int(second[k] * len(rest))] if rest else members[a])
    order = [patients[i] for i in stream.permutation(len(patients))]
    return [(p, *out[p]) for p in order if p in out]


@pytest.mark.parametrize("seed", range(6))
def test_bags_and_draws_are_those_of_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    n = 400
    patient = np.array([f"p_{k}" for k in rng.integers(0, 90, n)], object)
    bag = np.array(
        [f"{p}/{k}" for p, k in zip(patient, rng.integers(0, 3, n), strict=True)], object
    )
    bag[::7] = "shared name"  # a study label of several patients is a bag of each
    picture = np.array([f"x{k}" for k in rng.integers(0, 250, n)], object)
    rows = rng.permutation(5 * n)[:n]
    bags = draw.make_bags(rows, bag, patient, picture)
    wanted = _bags_one_by_one(rows.tolist(), bag, patient, picture)
    got = [
        (int(p), bags.order[a:b].tolist())
        for p, a, b in zip(bags.patient, bags.start[:-1], bags.start[1:], strict=True)
    ]
    assert got == wanted
    for single in (True, False):
        plan = draw.plan_patients(bags, seed, 3, 16, single_images=single)
        drawn = [(p, *r) for p, r in zip(plan.patient.tolist(), plan.rows.tolist(), strict=True)]
        assert drawn == _pairs_one_by_one(bags, seed, 3, single_images=single)


def test_no_rows_make_no_bags():
    none = np.array([], object)
    bags = draw.make_bags(np.array([], np.int64), none, none, none)
    assert bags.start.tolist() == [0]
    assert len(bags.order) == len(bags.patient) == 0


def _row(k):
    return {c.name: None for c in manifest_room.COLUMNS} | {
        "image_id": f"i_{k:03d}", "patient_id": f"p_{k // 3}", "site": "a",
        "rows": 7 + k, "spacing_row_mm": 0.25 * k, "view": "PA" if k % 2 else None,
    }  # fmt: skip


def test_digest_is_of_the_content_alone(tmp_path):
    """However the rows lie in memory; and every changed, moved or missing value changes it."""
    whole = manifest_room.write(tmp_path, [_row(k) for k in range(60)], {"a": "x"})
    sliced = pa.concat_tables(
        [whole.table.slice(0, 17), whole.table.slice(17, 1), whole.table.slice(18)]
    )
    assert manifest_room.read(tmp_path).digest() == whole.digest()
    assert manifest_room.Manifest(sliced, tmp_path, {}).digest() == whole.digest()
    seen = {whole.digest()}
    changes = [("view", ""), ("view", "AP"), ("rows", 0), ("rows", None), ("spacing_row_mm", None)]
    for column, value in changes:
        other = [_row(k) for k in range(60)]
        other[9][column] = value
        seen.add(manifest_room.make(tmp_path, other, {}).digest())
    shifted = [_row(k) for k in range(60)]
    shifted[3]["site"], shifted[4]["site"] = "aa", ""
    seen.add(manifest_room.make(tmp_path, shifted, {}).digest())
    assert len(seen) == len(changes) + 2


def test_columns_keep_absent_values_absent(tmp_path):
    manifest = manifest_room.write(tmp_path, [_row(k) for k in range(4)], {})
    assert manifest.column("view").tolist() == [None, "PA", None, "PA"]
    assert manifest.column("rows").tolist() == [7, 8, 9, 10]
    assert manifest.column("bits").tolist() == [None] * 4
    assert manifest.patients == ["p_0", "p_1"]
