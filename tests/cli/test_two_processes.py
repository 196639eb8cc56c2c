"""Two processes by torchrun: the same training as one, and what happens when one is lost."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import SMALL
from safetensors.numpy import load_file

from medssl.cli import main

LINE = [
    "pretrain",
    "configs/pretrain/micle-cxr.yaml",
    *SMALL,
    "encoder.norm=group",
    "duration={epochs: 4}",
    "log_every=1",
    "watch.every=2",
    "precision=32",
    "optim.name=sgd",  # at usual rates the last digits grow within a dozen steps
    "optim.lr=0.0001",
]
TORCHRUN = ["-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def words(cohorts, out, *more):
    return [*LINE, "--data", str(cohorts / "hospital_a"), "--out", str(out), *more]


def two(cohorts, out, *more):
    line = [*TORCHRUN, "-m", "medssl.cli", *words(cohorts, out, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def lines_of(run):
    return [json.loads(x) for x in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one(cohorts, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    assert main(words(cohorts, out)) == 0
    return out


def agree(a, b):
    """Within what float32 sums in another order may differ by."""
    first, second = lines_of(a), lines_of(b)
    assert [x["step"] for x in first] == [x["step"] for x in second]
    for x, y in zip(first, second, strict=True):
        for key in ({"loss", "z_std", "effective_rank", "pair_share"} & set(x)) | {"epoch"}:
            assert y[key] == pytest.approx(x[key], rel=2e-3), (x["step"], key)
    left, right = (load_file(p / "encoder.safetensors") for p in (a, b))
    for key, value in left.items():
        assert abs(right[key] - value).max() < 5e-3, key


def test_two_processes_are_one(cohorts, one, tmp_path):
    out = tmp_path / "run"
    process = two(cohorts, out)
    said, complaints = process.communicate(timeout=280)
    assert process.returncode == 0, complaints
    assert said.count("encoder written") == 1  # the first process speaks for both
    assert json.loads((out / "run.json").read_text())["processes"] == 2
    agree(one, out)


def test_a_lost_process_ends_the_job_and_one_goes_on(cohorts, one, tmp_path):
    out = tmp_path / "run"
    process = two(cohorts, out)
    end = time.monotonic() + 200
    while not list(out.glob("checkpoints/*.sha256")) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    ranks = [
        p for p in psutil.Process(process.pid).children() if p.environ().get("RANK") is not None
    ]
    lost = next(p for p in ranks if p.environ()["RANK"] == "1")
    lost.send_signal(signal.SIGKILL)
    complaints = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert "another process stopped answering" in complaints or "E-STOPPED" in complaints
    assert json.loads((out / "run.json").read_text())["status"] in {"failed", "stopped"}
    assert main(words(cohorts, out, "--resume")) == 0
    agree(one, out)


def test_a_chain_over_two_processes(cohorts, tmp_path):
    """A launcher's meeting place serves once: the stages share the connection."""
    out = tmp_path / "chain"
    line = ["pretrain", "configs/pretrain/chain-cxr.yaml", *SMALL, "encoder.norm=group",
            "foreign=null", "duration={steps: 2}", "watch.every=0", "precision=32",
            "--data", str(cohorts / "hospital_a"), "--out", str(out)]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "medssl.cli", *line],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    for name in ("1-simclr", "2-micle"):
        record = json.loads((out / name / "run.json").read_text())
        assert (record["status"], record["processes"]) == ("done", 2)
    assert done.stderr.count("2-micle: begins") == 1  # the first process speaks for both


def test_batch_norm_over_cpu_processes_is_refused(cohorts, tmp_path, monkeypatch, capsys):
    for key, value in {
        "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "x",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    assert main(words(cohorts, tmp_path / "run", "encoder.norm=batch")) == 2
    assert "encoder.norm=group" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
