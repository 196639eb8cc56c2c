"""What the list of runs says against what was put there; the lock that tells running from stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise

import pytest

from medssl import files, overview, terminal
from medssl.errors import NothingUsableError, RefusedError

DAY = "2026-03-01T10:00:00+00:00"
HOLD = """
import os, sys, time
from pathlib import Path
from medssl.files import locked
with locked(Path(sys.argv[1])):
    Path(sys.argv[1], "held").touch()
    time.sleep(60)
"""


def put(path, log=(), config="", **facts):
    path.mkdir(parents=True)
    record = {"verb": "pretrain", "status": "done", "started": DAY, **facts}
    (path / "run.json").write_text(json.dumps(record))
    if log:
        (path / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in log))
    if config:
        (path / "config.yaml").write_text(config)
    return path


def only(root):
    (entry,) = overview.find(root)
    return entry


@pytest.fixture
def held(tmp_path):
    """A run that another, living process holds."""
    run = put(tmp_path / "root" / "held", status="running", total_steps=100, log=[{"step": 40}])
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run)])
    while not (run / "held").exists():
        assert process.poll() is None
        time.sleep(0.01)
    yield run, process
    process.kill()
    process.wait()


# --- the lock ---


def test_running_is_believed_only_while_somebody_holds_the_lock(held):
    run, process = held
    entry = only(run.parent)
    assert (entry.status, entry.step, entry.total) == ("running", 40, 100)
    who = rf"in use by another run \(process {process.pid} since "
    with pytest.raises(RefusedError, match=who), files.locked(run):
        pass
    # Looking takes nothing away: the owner still has it.
    assert files.holder(run).pid == process.pid
    assert only(run.parent).status == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (run / ".lock").stat().st_size > 0  # left behind
    assert only(run.parent).status == "stopped"
    with files.locked(run):  # taken over without a word
        assert files.holder(run).pid == os.getpid()
    assert files.holder(run) is None
    assert (run / ".lock").stat().st_size == 0


def test_the_refusal_tells_the_time_and_another_machine_and_no_name(tmp_path, monkeypatch):
    def refused():
        with pytest.raises(RefusedError) as told, files.locked(tmp_path):
            pass
        return str(told.value)

    monkeypatch.setattr(files.platform, "node", lambda: "radiology-ws-17")
    with files.locked(tmp_path):
        written = (tmp_path / ".lock").read_text()
        assert "radiology" not in written
        facts = json.loads(written)
        assert set(facts) == {"pid", "since", "machine"}
        begun = datetime.fromisoformat(facts["since"])
        assert abs(begun - datetime.now(UTC)) < timedelta(minutes=1)
        assert f"(process {os.getpid()} since {begun:%H:%M} UTC)" in refused()
        monkeypatch.setattr(files.platform, "node", lambda: "radiology-ws-18")
        assert "on another machine since" in refused()
        old = {**facts, "since": "2020-01-02T03:04:05+00:00"}
        (tmp_path / ".lock").write_text(json.dumps(old))
        assert "since 2020-01-02 03:04 UTC" in refused()
        for torn in ("", "{", "[1]", '{"pid": "x"}', "\x00" * 600):
            (tmp_path / ".lock").write_text(torn)
            assert "in use by another run. Wait" in refused()


def test_a_glance_does_not_keep_a_run_from_starting(tmp_path, monkeypatch):
    """A reader may hold the shared lock for an instant; a run waits that instant."""
    import fcntl

    (tmp_path / ".lock").touch()
    glance = (tmp_path / ".lock").open("rb")
    fcntl.flock(glance, fcntl.LOCK_SH)
    monkeypatch.setattr(files.time, "sleep", lambda _: glance.close())
    with files.locked(tmp_path):
        assert glance.closed


def test_a_file_system_without_locks_says_so(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.raises(RefusedError, match="cannot lock files"), files.locked(tmp_path):
        pass
    put(tmp_path / "run", status="running")
    (tmp_path / "run" / ".lock").touch()
    assert only(tmp_path).status == "unknown"


def test_a_full_disk_does_not_keep_a_run_from_its_lock(tmp_path, monkeypatch):
    def write(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "write", write)
    with files.locked(tmp_path):
        assert files.holder(tmp_path) == files.Holder()


# --- the list ---


def test_every_kind_of_run_is_told(tmp_path):
    log = [{"step": s, "loss": 9.0 - s, "images_per_s": 100.0 + s} for s in range(1, 6)]
    log.insert(2, {"step": 2, "effective_rank": 31.5, "ridge": 0.75})
    later, test = (
        "2026-03-01T10:30:00+00:00",
        {"metric": "auroc", "value": 0.9, "lower": 0.8, "upper": 0.95},
    )
    put(tmp_path / "chain" / "1-simclr", log=log, ended=later, summary={"steps": 5, "loss": 4.0})
    put(tmp_path / "probe", verb="finetune", started=later, summary={"test": test})
    put(tmp_path / "at-b", verb="evaluate", summary={"verdict": "cannot tell", "auroc_here": "0.7"})
    put(tmp_path / "nan", status="failed", error="E-NONFINITE", log=log[:3])
    put(tmp_path / "told", status="failed", error="KeyboardInterrupt", log=log[:3])
    put(tmp_path / "gone", status="running")
    put(tmp_path / "new", verb="distil", status="paused", started="2030-01-01T00:00:00+00:00")
    found = {e.name: e for e in overview.find(tmp_path)}
    assert next(iter(found)) == "new"
    assert list(found)[1] == "probe"
    told = {k: (e.verb, e.status, e.code) for k, e in found.items()}
    assert told == {
        "chain/1-simclr": ("pretrain", "done", ""),
        "probe": ("finetune", "done", ""),
        "at-b": ("evaluate", "done", ""),
        "nan": ("pretrain", "failed", "E-NONFINITE"),
        "told": ("pretrain", "stopped", "interrupted"),
        "gone": ("pretrain", "stopped", ""),
        "new": ("distil", "unknown", ""),
    }
    chain = found["chain/1-simclr"]
    assert (chain.minutes, chain.step, chain.total, chain.started) == (30.0, 5, 5, DAY)
    assert chain.figures == {
        "loss": 4.0,
        "effective_rank": 31.5,
        "ridge": 0.75,
        "images_per_s": 105.0,
    }
    assert found["probe"].figures == {"auroc": 0.9, "lower": 0.8, "upper": 0.95}
    assert found["at-b"].figures == {"verdict": "cannot tell", "auroc_here": "0.7"}
    assert found["nan"].step == 2


def test_a_rare_measurement_is_found_far_above_the_end(tmp_path):
    """Against a reading of the whole log."""
    log = [{"step": s, "loss": 1 / (s + 1), "lr": 0.1} for s in range(3000)]
    log.insert(100, {"step": 99, "ridge": 0.5, "knn": 0.4})
    log.insert(900, {"step": 898, "ridge": 0.6, "note": '"knn"'})
    run = put(tmp_path / "run", log=log)
    assert 150_000 < (run / "log.jsonl").stat().st_size < overview.TAIL_BYTES
    figures, step = overview.last_figures(run / "log.jsonl")
    whole = {}
    for line in log:
        whole |= {k: v for k, v in line.items() if k != "note"}
    whole.pop("step")
    assert figures == whole
    assert step == 2999


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"verb": "pre', b'"run"'],
)
def test_a_broken_record_is_listed_and_never_a_crash(tmp_path, raw):
    put(tmp_path / "good")
    run = put(tmp_path / "bad")
    (run / "run.json").write_bytes(raw)
    bad = {e.name: e for e in overview.find(tmp_path)}["bad"]
    assert (bad.status, bad.code) == ("broken", "run.json is not readable")
    with pytest.raises(NothingUsableError, match="not a run"):
        overview.compare(run, run)


@pytest.mark.parametrize(
    "facts",
    [
        {"started": None}, {"started": "yesterday"}, {"started": "2026-03-01T10:00:00"},
        {"summary": 3}, {"summary": {"test": "x", "loss": "y", "steps": "z"}}, {"error": {"a": 1}},
        {"summary": {"steps": 10**400, "loss": 10**400, "verdict": ["\x1b[31m"]}}, {"verb": None},
        {"summary": {"test": {"value": float("nan")}}}, {"parents": 3}, {"total_steps": True},
        {"status": 5}, {"verb": "\ud800\x1b[2J\n"}, {"started": "9999-12-31T23:59:59+00:00"},
    ],
)  # fmt: skip
def test_odd_records_are_listed(tmp_path, facts):
    log = ['{"step": 1, "loss": NaN}', "{", "3", '{"step": 2, "loss": 1e999}', '{"loss": 1']
    run = put(tmp_path / "run", **facts)
    (run / "log.jsonl").write_text("\n".join(log))
    entry = only(tmp_path)
    assert json.loads(json.dumps(entry.__dict__))["name"] == "run"
    text = f"{entry.verb}{entry.code}{entry.figures}"
    assert "\x1b" not in text
    assert "\n" not in text
    entry.verb.encode()


def test_private_rooms_are_not_searched_and_no_folder_is_a_sentence(tmp_path):
    for inner in ("checkpoints/x", ".review/x", "private/x", "wandb/x", "tb/x"):
        put(tmp_path / "run" / inner)
    put(tmp_path / "run" / "1-simclr")
    assert [e.name for e in overview.find(tmp_path)] == ["run/1-simclr"]
    assert only(tmp_path / "run" / "1-simclr").name == "1-simclr"
    with pytest.raises(NothingUsableError, match="no such folder"):
        overview.find(tmp_path / "none")


def test_two_hundred_runs_within_a_second(tmp_path):
    log = [
        {"step": s, "epoch": 0, "loss": 1.25, "lr": 1e-3, "images_per_s": 9.5} for s in range(4000)
    ]
    first = put(tmp_path / "0", log=log)
    for k in range(1, 200):
        put(tmp_path / str(k))
        (tmp_path / str(k) / "log.jsonl").hardlink_to(first / "log.jsonl")
    begun = time.process_time()
    assert len(overview.find(tmp_path)) == 200
    assert time.process_time() - begun < 1


# --- two runs ---

A = "batch: 8\nmethod: {name: simclr, temperature: 0.2}\noptim: {lr: 0.1}\nviews: {crop_area: [0.5, 1.0]}\n"
B = "batch: 8\nmethod: {name: micle}\noptim: {lr: 0.1}\nviews: {crop_area: [0.2, 1.0]}\nlater: 3\n"


def test_differences_of_settings_facts_and_curves(tmp_path):
    parents = [{"path": "../x", "file": "manifest.parquet", "sha256": "1"}]
    others = [{"path": "../y", "file": "manifest.parquet", "sha256": "1"}]
    a = put(tmp_path / "a", config=A, seed=0, environment={"git": "1", "versions": {"torch": "2.10"}},
            parents=parents, log=[{"step": s, "loss": 100.0 - s, "only": 1} for s in range(101)])  # fmt: skip
    b = put(tmp_path / "b", config=B, seed=0, environment={"git": "1", "versions": {"torch": "2.15"}},
            parents=others, log=[{"step": s, "loss": 50.0 - s} for s in range(0, 51, 5)])  # fmt: skip
    found = overview.compare(a, b)
    assert found.settings == {
        "method.name": ("simclr", "micle"),
        "method.temperature": (0.2, None),
        "views.crop_area": ([0.5, 1.0], [0.2, 1.0]),
        "later": (None, 3),
    }
    assert found.facts == {"environment.versions.torch": ("2.10", "2.15")}
    (curve,) = found.curves
    assert curve.key == "loss"
    assert curve.a == (100.0, 75.0, 50.0, 25.0, 0.0)
    assert curve.b[0] == 50.0
    assert curve.b[2] == 25.0
    assert curve.b[4] == 0.0
    # Both on one scale, each over its own steps, and both only fall.
    assert curve.drawn[0][0] == "█"
    assert curve.drawn[1][0] == "▅"
    assert curve.drawn[0][-1] == curve.drawn[1][-1] == "▁"
    for line in curve.drawn:
        assert all(x >= y for x, y in pairwise(line))
    assert any("100 and 50 steps" in note for note in found.notes)
    assert any(
        "not on one scale (method.name, method.temperature, views.crop_area" in n
        for n in found.notes
    )
    assert not any("cohort" in note for note in found.notes)


@pytest.mark.parametrize(
    ("facts", "config", "part"),
    [
        ({"manifest": {"sha256": "2"}}, A, "Other cohorts"),
        ({"split": "2"}, A, "another split"),
        ({"verb": "finetune"}, A, "two verbs"),
        ({}, A.replace("batch: 8", "batch: 16"), "batch sizes"),
        ({}, A + "seed: 1\n", "Measurements"),
        ({}, A, None),
    ],
)
def test_what_may_not_be_compared_is_said(tmp_path, facts, config, part):
    log = [{"step": s, "loss": 1.0} for s in range(3)]
    same = {"manifest": {"sha256": "1"}, "split": "1"}
    a = put(tmp_path / "a", config=A, log=log, **same)
    b = put(tmp_path / "b", config=config, log=log, **{**same, **facts})
    notes = overview.compare(a, b).notes
    assert any(part in n for n in notes) if part is not None else notes == ()


def test_a_log_out_of_order_is_put_in_order_and_a_flat_one_drawn(tmp_path):
    a = put(tmp_path / "a", config=A, log=[{"step": s, "loss": float(s)} for s in (4, 0, 2, 1, 3)])
    b = put(tmp_path / "b", config=A, log=[{"step": 7, "loss": 2.0}])
    (curve,) = overview.compare(a, b).curves
    assert curve.a == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert curve.b == (2.0,) * 5
    assert curve.drawn == ("▁▃▅▆█", "▅")
    assert overview.sparkline([3.0] * 40, 3.0, 3.0) == "▄" * 20


# --- the progress of a training ---

FACTS = {
    "epoch": 3,
    "loss": 2.34567,
    "images_per_s": 812.4,
    "wait": 0.034,
    "memory": 3 * 2**30,
    "lr": 9,
}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(terminal, "time", made)
    return made


def run_training(console, clock, steps, seconds, total=200, first=0, facts=FACTS, **options):
    with terminal.training(total, console=console, **options) as tell:
        for step in range(first + 1, first + steps + 1):
            clock.now += seconds
            tell(step, total, facts)


def lines_of(clock, steps, seconds, **options):
    from rich.console import Console

    out = StringIO()
    run_training(
        Console(file=out, force_terminal=False, width=20), clock, steps, seconds, **options
    )
    return out.getvalue().splitlines()


def test_plain_lines_say_everything_and_come_at_every_twentieth(clock):
    lines = lines_of(clock, 200, 0.1)
    assert lines[0] == "step 1/200  epoch 3  loss 2.346  812 img/s  wait 3 %  3.0 GiB"
    assert [int(x.split()[1].split("/")[0]) for x in lines] == [1, *range(10, 201, 10)]
    assert lines[-2].endswith("1 s left")
    assert "left" not in lines[-1]


def test_a_long_run_is_told_every_ten_seconds(clock):
    lines = lines_of(clock, 100, 1.0, total=100_000)
    assert [int(x.split()[1].split("/")[0]) for x in lines] == [1, *range(11, 101, 10)]
    assert lines[-1].endswith("27:45 h left")


def test_a_resumed_run_knows_its_pace(clock):
    """2 s per step since it went on at step 500; not 500 steps in no time."""
    lines = lines_of(clock, 40, 2.0, total=1000, first=500)
    step = int(lines[-1].split()[1].split("/")[0])
    assert lines[-1].endswith(f"{terminal.duration(2.0 * (1000 - step))} left")


def test_the_time_left_follows_the_last_minute(clock):
    """A slow start is forgotten."""
    from rich.console import Console

    out = StringIO()
    with terminal.training(console=Console(file=out, force_terminal=False)) as tell:
        for step in range(1, 301):
            clock.now += 60.0 if step < 10 else 1.0
            tell(step, 1000, FACTS)
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("step 300/1000")
    assert last.endswith("11:40 min left")


def test_absent_facts_are_left_out(clock):
    lines = lines_of(clock, 1, 1.0, facts={"loss": 1.0, "memory": None})
    assert lines == ["step 1/200  loss 1"]


def test_on_a_terminal_there_is_one_bar(clock):
    from rich.console import Console

    out = StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    run_training(console, clock, 50, 0.1)
    text = out.getvalue()
    assert "\x1b[" in text
    assert "step 50/200  epoch 3  loss 2.346  812 img/s  wait 3 %  3.0 GiB  15 s left" in text
    assert text.rstrip().count("\n") <= 3


def test_quiet_is_quiet(clock, capsys):
    from rich.console import Console

    out = StringIO()
    run_training(Console(file=out, force_terminal=True), clock, 30, 1.0, quiet=True)
    assert out.getvalue() == ""
    run_training(None, clock, 1, 1.0)
    assert capsys.readouterr().out.startswith("step 1/200")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00 min"),
        (185, "3:05 min"),
        (3600, "1:00 h"),
        (7620, "2:07 h"),
    ],
)
def test_durations(seconds, words):
    assert terminal.duration(seconds) == words
