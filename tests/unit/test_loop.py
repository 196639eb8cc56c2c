"""The loop against a plain one written here, and what ends it."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SIZE
from safetensors.torch import load_file

from medssl import runs
from medssl.config import PretrainConfig
from medssl.errors import DiskError, MedsslError, RefusedError
from medssl.loading import validate
from medssl.methods import build_method
from medssl.methods.simclr import SimCLR
from medssl.models.encoder import build
from medssl.train import checkpoints
from medssl.train.course import see
from medssl.train.feed import Feed
from medssl.train.material import gather
from medssl.train.pretrain import course_of, pretrain

TREE = {
    "decode": {"size": SIZE},
    "encoder": {"name": "resnet10t", "norm": "group"},
    "method": {"name": "simclr", "hidden": 16, "out": 8},
    "batch": 8,
    "optim": {"name": "sgd", "lr": 0.0005, "lr_scaling": "none", "weight_decay": 0.01, "warmup": 0},
    "duration": {"steps": 3},
    "watch": {"every": 0},
    "log": {"tensorboard": False},
    "log_every": 1,
}


def settings(**extra):
    return validate(PretrainConfig, TREE | extra, "test")


def by_hand(config, data):
    """Plain torch: feed, views, loss, average, SGD with a cosine."""
    material = gather(config, data, "file")
    course = course_of(config, material)
    encoder = build(config.encoder, SIZE, whole=False, seed=config.seed)
    method = build_method(config.method, encoder, config.seed)
    plain = [p for p in method.parameters() if p.ndim <= 1]
    decayed = [p for p in method.parameters() if p.ndim > 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.0005, momentum=0.9, nesterov=True)
    batches = [(e, b) for e in range(3) for b in Feed(course.store, course.plan(e))]
    losses = []
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.0005 * 0.5 * (1 + np.cos(np.pi * step / 3))
        optimizer.zero_grad()
        parts = []
        for turn in range(config.accumulate):
            epoch, batch = batches[step * config.accumulate + turn]
            loss = method.loss(see(batch, config, epoch, course, method)).total
            (loss / config.accumulate).backward()
            parts.append(float(loss.detach()))
        losses.append(np.mean(parts))
        optimizer.step()
    return encoder.state_dict(), losses


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"accumulate": 2},
        {"chunk": 3},
        {"checkpointing": True},
        {"accumulate": 3, "chunk": 5},
    ],
    ids=str,
)
def test_the_loop_is_the_plain_loop(cohorts, tmp_path, extra):
    config, data = settings(**extra), cohorts / "hospital_a"
    run = pretrain(config, data, tmp_path / "run")
    wanted, losses = by_hand(config, data)
    got = load_file(run.path / "encoder.safetensors")
    start = build(config.encoder, SIZE, whole=False, seed=0).state_dict()
    apart, moved = (
        sum(float((a[k] - wanted[k]).square().sum()) for k in wanted) ** 0.5 for a in (got, start)
    )
    assert apart < 0.001 * moved  # float32 sums in another order: 1e-5 at so low a rate
    logged = [x["loss"] for x in checkpoints.read_log(run.path / "log.jsonl")]
    assert logged == pytest.approx(losses, rel=2e-3)


def test_compile_is_asked_for_in_place(cohorts, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: asked.append(type(self).__name__))
    run = pretrain(settings(compile=True), cohorts / "hospital_a", tmp_path / "run")
    assert asked == ["ResNet"]
    assert all(not k.startswith("_orig") for k in load_file(run.path / "encoder.safetensors"))


def test_no_compiler_is_a_sentence(cohorts, tmp_path, monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    def fail(self):
        raise BackendCompilerFailed(lambda: None, RuntimeError("no g++"), None)

    monkeypatch.setattr(torch.nn.Module, "compile", fail)
    with pytest.raises(MedsslError, match="compile=false"):
        pretrain(settings(compile=True), cohorts / "hospital_a", tmp_path / "run")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_out_of_memory_keeps_the_last_state(cohorts, tmp_path, monkeypatch, error):
    real, calls = SimCLR.loss, []

    def loss(self, seen):
        calls.append(1)
        if len(calls) == 6:
            raise error
        return real(self, seen)

    monkeypatch.setattr(SimCLR, "loss", loss)
    config = settings(duration={"steps": 12})
    with pytest.raises(MedsslError, match=r"Step 5: out of .*memory with 16 views .* chunk=8"):
        pretrain(config, cohorts / "hospital_a", tmp_path / "run")
    assert checkpoints.last_good(tmp_path / "run" / "checkpoints", print) is not None
    assert runs.read(tmp_path / "run").record["error"] == "E-OOM"
    monkeypatch.setattr(SimCLR, "loss", real)
    again = pretrain(config, cohorts / "hospital_a", tmp_path / "run", resume=True)
    straight = pretrain(config, cohorts / "hospital_a", tmp_path / "straight")
    assert again.summary["encoder_sha256"] == straight.summary["encoder_sha256"]


def a_method():
    return build_method(settings().method, build(settings().encoder, SIZE, whole=False, seed=0), 0)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    method = a_method()
    checkpoints.save(tmp_path, method, checkpoints.State(step=1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        with pytest.raises(DiskError, match="disk is full"):
            checkpoints.save(tmp_path, method, checkpoints.State(step=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints.last_good(tmp_path, print) == tmp_path / checkpoints.name_of(1)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".ckpt", ".sha256"]


def test_no_room_is_told_before_the_start(tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(DiskError, match="two checkpoints take"):
        checkpoints.check_room(tmp_path, a_method())


def test_three_are_kept_and_a_healthy_one(tmp_path):
    method = a_method()
    for step in range(1, 8):
        healthy = checkpoints.name_of(min(step, 2))
        checkpoints.save(tmp_path, method, checkpoints.State(step=step, healthy=healthy))
    left = [p.name for p in checkpoints.checkpoints(tmp_path)]
    assert left == [checkpoints.name_of(k) for k in (2, 5, 6, 7)]


def test_damage_falls_back_with_a_warning(tmp_path):
    method, said = a_method(), []
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, method, checkpoints.State(step=step))
    for step, damage in ((3, lambda b: b[:-9]), (2, lambda b: b[:50] + b"x" + b[51:])):
        path = tmp_path / checkpoints.name_of(step)
        path.write_bytes(damage(path.read_bytes()))
    assert checkpoints.last_good(tmp_path, said.append) == tmp_path / checkpoints.name_of(1)
    assert "W-CKPT-FALLBACK" in said[0]
    (tmp_path / checkpoints.name_of(1)).write_bytes(b"")
    with pytest.raises(RefusedError, match="every one damaged"):
        checkpoints.last_good(tmp_path, said.append)


def test_a_log_cut_by_a_crash_is_trimmed(tmp_path):
    path = Path(tmp_path / "log.jsonl")
    path.write_text('{"step": 0, "a": 1}\n{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    checkpoints.trim_log(path, 1)
    assert path.read_text() == '{"step": 0, "a": 1}\n{"step": 1}\n'
    checkpoints.trim_log(path, 0)
    assert path.read_text() == ""
