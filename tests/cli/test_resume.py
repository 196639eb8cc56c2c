"""A resumed run is the same run, bit for bit; one directory has one owner."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import PROOF, SMALL

from medssl import overview, runs
from medssl.cli import main

MICLE = "configs/pretrain/micle-cxr.yaml"
LINE = [
    MICLE,
    *SMALL,
    "duration={epochs: 6}",
    "log_every=1",
    "save_minutes=0.0001",
    "watch.every=2",
]


def words(cohorts, out, *more):
    return ["pretrain", *LINE, "--data", str(cohorts / "hospital_a"), "--out", str(out), *more]


def start(cohorts, out, *more):
    command = [sys.executable, "-m", "medssl.cli", *words(cohorts, out, *more)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def straight(cohorts, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight") / "run"
    assert main(words(cohorts, out)) == 0
    return out


CLOCK = {"images_per_s", "wait"}


def lines_of(run):
    read = (json.loads(x) for x in (run / "log.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read]


def same(a, b):
    """Byte-equal weights, and every figure of the log, each step once."""
    assert lines_of(b) == lines_of(a)
    assert (a / "encoder.safetensors").read_bytes() == (b / "encoder.safetensors").read_bytes()


def wait_for(path, process, seconds=90):
    end = time.monotonic() + seconds
    while not path() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def status_of(run):
    return json.loads((run / "run.json").read_text())["status"]


def logged(run):
    path = run / "log.jsonl"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def test_killed_at_random_moments(cohorts, straight, tmp_path):
    """Killed again and again, inside epochs and while saving; the bytes are those of the straight run."""
    out, stream, kills = tmp_path / "run", random.Random(7), 0
    for _ in range(25 if PROOF else 3):
        process = start(cohorts, out, "--resume")
        wanted = logged(out) + stream.randint(1, 4)
        wait_for(lambda wanted=wanted: logged(out) >= wanted, process)
        time.sleep(0.2 * stream.random())
        process.kill()
        process.communicate()
        if status_of(out) == "done":
            break
        kills += 1
    assert kills
    if status_of(out) != "done":
        assert main(words(cohorts, out, "--resume")) == 0
    same(straight, out)


def test_terminated_says_how_to_go_on(cohorts, straight, tmp_path):
    out = tmp_path / "run"
    process = start(cohorts, out)
    wait_for(lambda: list(out.glob("checkpoints/*.sha256")), process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    if process.returncode == 0:
        pytest.skip("the run was faster than the signal")
    assert process.returncode == 143
    assert "saved as step-" in said
    assert "--resume" in said
    assert status_of(out) == "stopped"
    listed = overview.find(out)[0]
    assert (listed.status, listed.total) == ("stopped", runs.read(out).record["total_steps"])
    assert main(words(cohorts, out, "--resume")) == 0
    same(straight, out)


def test_damaged_checkpoint_is_passed_over(cohorts, straight, tmp_path):
    out = shutil.copytree(straight, tmp_path / "run")
    state = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**state, "status": "running"}))
    (out / "encoder.safetensors").unlink()
    last = max(out.glob("checkpoints/*.ckpt"))
    last.write_bytes(last.read_bytes()[:-100])
    assert main(words(cohorts, out, "--resume")) == 0
    same(straight, out)


def test_resume_on_an_empty_directory_starts(cohorts, straight, tmp_path):
    assert main(words(cohorts, tmp_path / "run", "--resume")) == 0
    same(straight, tmp_path / "run")


def test_resume_refuses_other_settings_and_finished_runs(cohorts, straight, capsys):
    assert main(words(cohorts, straight, "--resume")) == 4
    assert "finished" in capsys.readouterr().err
    other = [
        "pretrain",
        *LINE,
        "seed=1",
        "--data",
        str(cohorts / "hospital_a"),
        "--out",
        str(straight),
        "--resume",
    ]
    assert main(other) == 4
    assert "other settings" in capsys.readouterr().err


def test_one_directory_one_owner(cohorts, tmp_path):
    import fcntl

    out = tmp_path / "run"
    out.mkdir()
    with (out / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        process = start(cohorts, out)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 4
    assert "in use by another run" in said
    assert os.listdir(out) == [".lock"]  # noqa: PTH208
