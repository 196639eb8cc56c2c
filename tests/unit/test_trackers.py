"""Figures reach every tracker once, tell nobody's name, and never cost a training."""

import gc
import getpass
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from medssl.config.pretraining import LogConfig
from medssl.errors import UsageError
from medssl.train import trackers
from medssl.train.trackers import Trackers

NONE = LogConfig(tensorboard=False)
SETTINGS = {
    "init": "/home/someone/runs/simclr",
    "foreign": {"file": Path("/data/w.npz"), "licence": "MIT"},
    "views": {"crop_area": [0.5, 1.0]},
    "batch": 8,
    "log": {"mlflow": "http://name:word@tracking.hospital:5000"},
}
LINES = [
    (step, {"step": step, "epoch": step // 20, "loss": 5.0 / (step + 1)})
    for step in range(0, 60, 10)
]


def feed(run, lines):
    for step, line in lines:
        run.write(step, line)


def log(folder, lines):
    folder.mkdir(exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for _, line in lines))


def events(folder):
    """TensorBoard's own reading of a folder: tag to (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {t: [(x.step, x.value) for x in read.Scalars(t)] for t in read.Tags()["scalars"]}


def test_tensorboard_is_on_by_default_and_reads_what_was_logged(tmp_path):
    run = Trackers(LogConfig(), tmp_path, SETTINGS, "run")
    feed(run, LINES)
    run.close("done")
    run.close("done")
    got = events(tmp_path / "tb")
    assert set(got) == {"epoch", "loss"}
    assert [s for s, _ in got["loss"]] == [s for s, _ in LINES]
    assert [v for _, v in got["loss"]] == pytest.approx([x["loss"] for _, x in LINES])
    assert not (tmp_path / "tracker.json").exists()


def test_switched_off_writes_nothing(tmp_path):
    run = Trackers(NONE, tmp_path, SETTINGS, "run")
    feed(run, LINES)
    run.close("done")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("torn", [0, 5])
def test_a_resumed_run_shows_no_step_twice(tmp_path, torn):
    """Killed at step 50 (perhaps in the middle of a record), resumed from a checkpoint at 25."""
    killed = Trackers(LogConfig(), tmp_path, SETTINGS, "run")
    feed(killed, LINES)
    killed.close("stopped")
    first = next((tmp_path / "tb").iterdir())
    if torn:
        first.write_bytes(first.read_bytes()[:-torn])
    again = Trackers(LogConfig(), tmp_path, SETTINGS, "run")
    other = [(s, {"loss": 100.0 + s}) for s, _ in LINES if s > 25]
    feed(again, other)
    again.write(50, {"effective_rank": 7.0})  # a measurement, at the step of a line
    again.close("done")
    got = events(tmp_path / "tb")
    assert [s for s, _ in got["loss"]] == [s for s, _ in LINES]
    assert [v for s, v in got["loss"] if s > 25] == [v["loss"] for _, v in other]
    assert got["effective_rank"] == [(50, 7.0)]
    assert len(list((tmp_path / "tb").iterdir())) == 2


def test_only_finite_numbers_pass(tmp_path):
    import numpy as np

    run = Trackers(LogConfig(), tmp_path, {}, "run")
    run.write(1, {"a": float("nan"), "b": None, "c": float("inf"), "d": "x", "e": True,
                  "f": np.float32(2.5), "g": 3, "step": 1})  # fmt: skip
    run.write(2, {"a": float("nan")})
    run.close("done")
    assert events(tmp_path / "tb") == {"f": [(1, 2.5)], "g": [(1, 3.0)]}


def test_nothing_in_the_settings_tells_where_or_whom():
    shown = trackers.harmless(SETTINGS)
    assert shown == {
        "init": "simclr",
        "foreign.file": "w.npz",
        "foreign.licence": "MIT",
        "views.crop_area": "[0.5, 1.0]",
        "batch": 8,
    }
    assert trackers.harmless({"a": "C:\\Users\\x\\w.npz", "b": ["/x/y"]}) == {
        "a": "w.npz",
        "b": '["y"]',
    }


def secrets(*folders):
    found = [socket.gethostname(), str(Path.cwd()), str(Path.home()), sys.executable, "someone"]
    found += [str(f) for f in folders]
    found += [getpass.getuser()]
    # Two letters stand in any bytes by chance.
    return [s.encode() for s in found if len(s) > 3]


def leaks(root, *folders):
    told = []
    for path in root.rglob("*"):
        where = str(path.readlink()).encode() if path.is_symlink() else path.name.encode()
        data = where + (path.read_bytes() if path.is_file() else b"")
        told += [(path.name, s) for s in secrets(*folders) if s in data]
    return told


def test_event_files_tell_no_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "radiology-ws-17")
    run = Trackers(LogConfig(), tmp_path / "run", SETTINGS, "run")
    feed(run, LINES)
    run.close("done")
    assert not leaks(tmp_path, tmp_path)
    # The search bites: the usual writer puts the name into that of its file.
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    EventFileWriter(str(tmp_path / "usual")).close()
    assert leaks(tmp_path, tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="extra mlflow")
def test_mlflow_goes_on_in_the_same_run_and_knows_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "radiology-ws-17")
    for key in trackers.OFF:
        monkeypatch.delenv(key, raising=False)
    address = f"file:{tmp_path}/ml%20runs"
    config = LogConfig(tensorboard=False, mlflow=address)
    feed(Trackers(config, tmp_path / "run", SETTINGS, "a run"), LINES)
    again = Trackers(config, tmp_path / "run", SETTINGS, "a run")
    feed(again, [(s, {"loss": -1.0}) for s in (30, 40, 50, 60)])
    again.write(50, {"knn": 0.5})
    again.close("done")

    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    runs = client.search_runs([client.get_experiment_by_name("medssl").experiment_id])
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    assert runs[0].info.run_name == "a run"
    assert runs[0].data.params["views.crop_area"] == "[0.5, 1.0]"
    assert not [k for k in runs[0].data.params if k.startswith("log.")]
    history = client.get_metric_history(runs[0].info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [*[(s, x["loss"]) for s, x in LINES], (60, -1.0)]
    assert [m.step for m in client.get_metric_history(runs[0].info.run_id, "knn")] == [50]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert not leaks(tmp_path, tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="extra mlflow")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_mlflow_that_does_not_answer_is_told_before_and_borne_afterwards(tmp_path):
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # nobody listens there
    address = f"http://name:word@127.0.0.1:{closed.getsockname()[1]}"
    config, told = LogConfig(tensorboard=False, mlflow=address), []
    with pytest.raises(UsageError, match="MLflow did not start") as refused:
        Trackers(config, tmp_path, {}, "run", told.append)
    assert "word" not in str(refused.value)
    (tmp_path / "tracker.json").write_text('{"mlflow": {"run": "0123", "steps": {}}}')
    run = Trackers(config, tmp_path, {}, "run", told.append)
    feed(run, LINES)
    run.close("done")
    assert len(told) == 1
    assert "log.jsonl stays complete" in told[0]
    closed.close()
    gc.collect()  # the client leaves sockets behind; here they may


class Broken:
    def __init__(self, error):
        self.error, self.calls = error, 0

    def write(self, step, line):
        self.calls += 1
        raise self.error

    def close(self, status):
        raise AssertionError("a lost tracker is not closed")


@pytest.mark.parametrize("error", [OSError(28, "/data/secret"), ConnectionError(), ValueError("x")])
def test_a_tracker_that_fails_is_told_once_and_costs_nothing(tmp_path, monkeypatch, caplog, error):
    broken = Broken(error)
    monkeypatch.setattr(trackers, "_MLflow", lambda *_: broken)
    run = Trackers(LogConfig(mlflow="http://x"), tmp_path, {}, "run")
    feed(run, LINES)
    run.close("done")
    assert broken.calls == 1
    assert len(caplog.messages) == 1
    assert type(error).__name__ in caplog.text
    assert "secret" not in caplog.text
    assert len(events(tmp_path / "tb")["loss"]) == len(LINES)


def test_a_full_disk_costs_only_the_events(tmp_path, caplog):
    run = Trackers(LogConfig(), tmp_path, {}, "run")
    run._open["TensorBoard"]._writer._writer.close()
    feed(run, LINES)
    run.close("done")
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_an_absent_package_is_a_sentence_with_its_extra(tmp_path, monkeypatch, name):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == name else real(n, *a)
    )
    config = LogConfig(**{name: "http://x" if name == "mlflow" else "offline"})
    with pytest.raises(UsageError, match=rf"medssl\[{name}\]"):
        Trackers(config, tmp_path, {}, "run")
    assert not list(tmp_path.iterdir())


def test_the_import_waits_until_it_is_asked_for():
    code = (
        "import sys, medssl.train.trackers as t; from medssl.config.pretraining import LogConfig\n"
    )
    code += (
        "from pathlib import Path; t.Trackers(LogConfig(tensorboard=False), Path('.'), {}, 'x')\n"
    )
    code += "print([m for m in ('tensorboard', 'mlflow', 'wandb', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


WANDB = """
import sys
from pathlib import Path
from medssl.config.pretraining import LogConfig
from medssl.train.trackers import Trackers
config = LogConfig(tensorboard=False, wandb="offline")
run = Trackers(config, Path(sys.argv[1]), {"batch": 8, "init": "/home/someone/x"}, "a run")
for step in (20, 30, 40, 50):
    run.write(step, {"loss": step / 10})
run.close("done")
"""


def history(file):
    """W&B's own reading of a transaction log: (step, loss)."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store, found = DataStore(), []
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = {
            i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item
        }
        if "loss" in items:
            found.append((record.history.step.num or items["_step"], items["loss"]))
    store._fp.close()
    return found


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="extra wandb")
def test_wandb_stays_below_the_run_and_a_killed_one_is_whole_again(tmp_path):
    """An earlier process was killed before W&B wrote anything: its file is a header of seven bytes."""
    folder, home = tmp_path / "run", tmp_path / "home"
    home.mkdir()
    log(folder, [(s, {"step": s, "loss": s / 10}) for s in (0, 10, 20)])  # trimmed to a checkpoint
    torn = folder / "wandb" / "offline-run-20260101_000000-abc" / "run-abc.wandb"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b":W&B\x7f\xbe\x00")
    (folder / "tracker.json").write_text('{"wandb": {"run": "abc", "steps": {}}}')
    own = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "XDG"))}
    done = subprocess.run([sys.executable, "-c", WANDB, str(folder)], env={**own, "HOME": str(home)},
                          cwd=tmp_path, capture_output=True, text=True, timeout=90)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    files = [p for p in tmp_path.rglob("*") if p.is_file() or p.is_symlink()]
    found = [p for p in files if p.suffix == ".wandb"]
    assert {p.name for p in files} == {"log.jsonl", "tracker.json", "run-abc.wandb"}
    assert len(found) == 1
    assert history(found[0]) == [(s, s / 10) for s in (0, 10, 20, 30, 40, 50)]
    assert not leaks(tmp_path, tmp_path)
