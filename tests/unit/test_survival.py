"""What a training tells and leaves when something is wrong, and figures that must be true."""

import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SIZE
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from medssl import runs
from medssl.config import EncoderConfig, PretrainConfig
from medssl.errors import MedsslError, NumericalStopError, RefusedError, UsageError
from medssl.loading import validate
from medssl.methods.ntxent import ntxent
from medssl.models import thrift
from medssl.models.encoder import Encoder, build, synchronise
from medssl.train import checkpoints, faults, loop
from medssl.train.feed import Feed
from medssl.train.pretrain import pretrain
from medssl.train.world import World

TREE = {
    "decode": {"size": SIZE},
    "encoder": {"name": "resnet10t", "norm": "group"},
    "method": {"name": "simclr", "hidden": 16, "out": 8},
    "batch": 8,
    "duration": {"epochs": 3},
    "watch": {"every": 0},
    "log": {"tensorboard": False},
    "log_every": 1,
}


def settings(**extra):
    return validate(PretrainConfig, TREE | extra, "test")


@pytest.mark.parametrize("where", ["pixels", "features"])
def test_a_loss_that_is_no_number_names_its_rows(cohorts, tmp_path, monkeypatch, where):
    real, chosen = loop.see, []

    def spoilt(batch, *rest):
        shown = real(batch, *rest)
        seen = shown.views.clone()
        chosen.extend(batch.row[1:3, 0].tolist() if not chosen else [])
        hit = torch.from_numpy(np.isin(batch.row[:, 0].numpy(), chosen))
        seen[hit] = torch.nan if where == "pixels" else 1e38
        return replace(shown, views=seen)

    monkeypatch.setattr(loop, "see", spoilt)
    with pytest.raises(NumericalStopError) as caught:
        pretrain(settings(), cohorts / "hospital_a", tmp_path / "run")
    words = caught.value.problems[0]
    named = words.partition("no numbers (")[2].partition(")")[0].split(", ")
    assert named == [str(r) for r in sorted(chosen)], words
    assert ("augmented pixels" if where == "pixels" else "features") in words


def test_the_wait_for_data_is_the_wait_for_data(cohorts, tmp_path, monkeypatch):
    """Reading takes far longer than a step, in every epoch."""
    real = Feed._read

    def slow(self, step):
        time.sleep(1.0)
        return real(self, step)

    monkeypatch.setattr(Feed, "_read", slow)
    config = settings(batch=16, duration={"epochs": 3})
    run = pretrain(config, cohorts / "hospital_a", tmp_path / "run")
    lines = [x for x in checkpoints.read_log(run.path / "log.jsonl") if "wait" in x]
    for epoch in range(3):
        assert max(x["wait"] for x in lines if x["epoch"] == epoch) > 0.3


def test_the_rate_that_was_used_is_logged(cohorts, tmp_path):
    optim = {"name": "sgd", "lr": 0.01, "lr_scaling": "none", "warmup": 0, "weight_decay": 0}
    config = settings(optim=optim, duration={"steps": 4})
    run = pretrain(config, cohorts / "hospital_a", tmp_path / "run")
    logged = [x["lr"] for x in checkpoints.read_log(run.path / "log.jsonl")]
    assert logged == pytest.approx([0.005 * (1 + np.cos(np.pi * k / 4)) for k in range(4)])


def test_a_kill_in_the_first_save_costs_nothing(cohorts, tmp_path, monkeypatch):
    """Whatever is there afterwards, --resume goes on to the same weights."""
    config, data = settings(), cohorts / "hospital_a"
    straight = pretrain(config, data, tmp_path / "straight").summary["encoder_sha256"]
    real, out = checkpoints.atomic, tmp_path / "run"

    def killed(path, *rest):
        if path.suffix == ".ckpt":
            path.with_name(f".{path.name}.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        return real(path, *rest)

    monkeypatch.setattr(checkpoints, "atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, data, out)
    (out / "checkpoints" / "step-00000004.sha256").write_text("0\n")  # a kill leaves it
    monkeypatch.setattr(checkpoints, "atomic", real)
    again = pretrain(config, data, out, resume=True)
    assert again.summary["encoder_sha256"] == straight
    assert not list((out / "checkpoints").glob(".*.tmp"))


@pytest.mark.parametrize(
    "left", [["config.yaml"], [".config.yaml.tmp"], ["config.yaml", ".run.json.tmp"]]
)
def test_a_kill_before_the_record_leaves_an_empty_run(cohorts, tmp_path, left):
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_text("{}")
    for resume in (False, True):
        with runs.open_run(tmp_path / "run", "x", settings(), {"parents": []}, resume=resume):
            pass
        (tmp_path / "run" / "run.json").unlink()
    (tmp_path / "run" / "thesis.docx").touch()
    with (
        pytest.raises(RefusedError, match="not empty"),
        runs.open_run(tmp_path / "run", "x", settings(), {"parents": []}),
    ):
        pass


def test_a_resumed_run_remembers_its_beginning(cohorts, tmp_path, monkeypatch):
    data, out, said = cohorts / "hospital_a", tmp_path / "run", []
    real = loop.figures_of
    count = iter(range(99))

    def stop(loss):
        if next(count) == 6:
            raise MedsslError("stopped here.", "E-TEST")
        return real(loss)

    monkeypatch.setattr(loop, "figures_of", stop)
    with pytest.raises(MedsslError, match="stopped here"):
        pretrain(settings(), data, out)
    record = json.loads((out / "run.json").read_text())
    record["started"] = "2020-01-01T00:00:00+00:00"
    record["environment"]["versions"]["torch"] = "1.0"
    (out / "run.json").write_text(json.dumps(record))
    kept = checkpoints.last_good(out / "checkpoints", print)
    held = torch.load(kept, weights_only=True)
    held["seconds"] += 1000.0
    torch.save(held, kept)
    kept.with_suffix(".sha256").write_text(checkpoints.sha256_file(kept))
    run = pretrain(settings(), data, out, resume=True, note=said.append)
    assert run.record["started"] == "2020-01-01T00:00:00+00:00"
    assert run.record["resumed"][0]["versions_changed"]["torch"][0] == "1.0"
    assert any("torch 1.0 then" in s and "W-VERSIONS" in s for s in said)
    assert 1000 < run.summary["seconds"] < 1100


def test_batches_that_hold_less_are_told(cohorts, tmp_path):
    said = []
    pretrain(
        settings(batch=24, duration={"steps": 1}),
        cohorts / "hospital_a",
        tmp_path / "run",
        note=said.append,
    )
    told = [
        re.match(r"Batches hold (\d+) \(batch=24\): (\d+) are shared out equally to 2 ", s)
        for s in said
    ]
    largest, count = (int(x) for x in next(m for m in told if m).groups())
    assert 24 < count < 48
    assert largest == -(-count // 2)


def test_every_process_needs_samples():
    with pytest.raises(UsageError, match="less than two samples"):
        faults.check_world(settings(batch=6), World(0, 4, 4, 0, "torchrun"))


@pytest.mark.parametrize(
    "name", ["resnet18", "efficientnet_b0", "mobilenetv3_small_050", "regnety_002", "densenet121"]
)
def test_shared_norms_keep_the_function(name):
    """torch's own conversion drops the activations that timm's norms hold."""
    encoder = build(EncoderConfig(name=name), 32, whole=False, seed=0).eval()
    images, keys = torch.randn(2, 1, 32, 32), list(encoder.state_dict())
    with torch.no_grad():
        before = encoder(images)
        synchronise(encoder)
        after = encoder(images)
    torch.testing.assert_close(after, before)
    assert list(encoder.state_dict()) == keys
    assert any(isinstance(m, nn.SyncBatchNorm) for m in encoder.modules())


def test_chunks_use_the_compiled_network():
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    encoder = Encoder(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 3, 2)
    encoder.net.compile(backend=backend)
    thrift.in_chunks(encoder.net, torch.randn(6, 1, 4, 4), 2).sum().backward()
    assert graphs


def test_chunks_are_even():
    seen = []

    class Count(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x

    thrift.in_chunks(Count(), torch.randn(9, 2), 4)
    assert seen == [3, 3, 3]  # 4, 4, 1 would leave a norm one picture


def test_the_loss_is_not_rounded_by_autocast():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(64, 32, generator=generator)
    bag = torch.arange(32)
    unit = normalize(z.double(), dim=1)
    similarity = unit @ unit.T / 0.05
    similarity.fill_diagonal_(-torch.inf)
    wanted = cross_entropy(similarity, (torch.arange(64) + 32) % 64)
    with torch.autocast("cpu", torch.bfloat16):
        got = ntxent(z[:32], z[32:], bag, 0.05, mask=True)
    assert float(got) == pytest.approx(float(wanted), rel=1e-5)


def test_compile_and_checkpointing_are_refused():
    with pytest.raises(UsageError, match="compile cannot follow checkpointing"):
        settings(compile=True, checkpointing=True)
