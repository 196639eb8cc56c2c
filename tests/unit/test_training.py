"""Feed, optimiser, probes and budgets: small, and against another path."""

import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from medssl.cohort import draw
from medssl.config import DecodeConfig, EncoderConfig, OptimConfig, SimCLRConfig
from medssl.errors import MedsslError, NumericalStopError, RefusedError, UsageError
from medssl.finetune import probe
from medssl.methods import build_method
from medssl.models import weights
from medssl.models.encoder import build
from medssl.stats import probes
from medssl.store import Store, open_store, store_digest
from medssl.train import optim
from medssl.train.feed import Feed

RNG = np.random.default_rng(0)


@pytest.fixture
def store(cohorts):
    return open_store(cohorts / "hospital_a", DecodeConfig(size=32))


def test_store_reads_what_was_written(store):
    shard = np.load(store.path / "pixels-000.npy")
    offsets = np.asarray(store.index.column("offset"))
    rows = RNG.permutation(len(store))[:20]
    np.testing.assert_array_equal(store.planes(rows), shard[offsets[rows]])
    assert shard.dtype == np.uint16
    store.verify(np.arange(len(store)))


def test_store_is_light_to_send(store):
    """An open memory map would be pickled whole; the store opens its shards where it is used."""
    store.planes(np.arange(3))
    assert len(pickle.dumps(store)) < 3 * store.index.nbytes + 20_000


def test_every_decode_setting_names_another_store():
    plain = store_digest(DecodeConfig())
    changes = [
        {"size": 64},
        {"intent": "processing"},
        {"volumes": "whole"},
        {"scaling": "full"},
        {"low_percentile": 1.0},
        {"high_percentile": 99.0},
        {"ct_range_hu": (-100, 100)},
        {"min_slice_fill": 0.1},
        {"colour": "rgb"},
    ]
    assert len({plain, *(store_digest(DecodeConfig(**c)) for c in changes)}) == len(changes) + 1
    assert {k for c in changes for k in c} == set(DecodeConfig.model_fields)


def test_feed_yields_the_plan(store):
    rows = np.arange(len(store))
    bags = draw.make_bags(
        rows, store.column("patient_id"), store.column("patient_id"), store.column("pixels")
    )
    plan = draw.plan_patients(bags, 0, 0, 8, single_images=True)
    feed = Feed(store, plan)
    seen = []
    for batch in feed:
        assert batch.images.shape == (len(batch.bag), 2, 1, 32, 32)
        wanted = store.planes(batch.row[:, 1].numpy())
        np.testing.assert_array_equal(batch.images[:, 1, 0].numpy(), wanted)
        seen += batch.row.tolist()
    assert seen == plan.rows.tolist()
    assert len(feed) == len(plan.limits) - 1
    rest = Feed(store, plan, start=2)
    assert [b.row.tolist() for b in rest] == [b.row.tolist() for b in feed][2:]
    assert len(rest) == len(feed) - 2


def test_feed_of_two_processes_is_the_feed_of_one(store):
    rows = np.arange(len(store))
    column = [store.column(n) for n in ("patient_id", "patient_id", "pixels")]
    plan = draw.plan_images(draw.make_bags(rows, *column), 0, 0, 9)
    for whole, *parts in zip(
        Feed(store, plan), *(Feed(store, plan, r, 2) for r in (0, 1)), strict=True
    ):
        assert torch.equal(whole.row, torch.cat([p.row for p in parts]))
        assert torch.equal(whole.images, torch.cat([p.images for p in parts]))
        assert torch.equal(whole.bag, torch.cat([p.bag for p in parts]))


def test_a_shard_cut_short_is_told_with_its_rows(store, tmp_path):
    """A map into a file that shrank would end the process without a word."""
    twin = Store(shutil.copytree(store.path, tmp_path / "store"), store.config, store.index)
    plan = draw.Plan(np.arange(12)[:, None], np.arange(12), np.arange(0, 13, 2))
    twin.planes(plan.rows[:, 0])  # mapped from here on
    shard = next(twin.path.glob("pixels-*.npy"))
    with shard.open("r+b") as out:
        out.truncate(2000)
    with pytest.raises(RefusedError, match=r"Store rows .*cut short"):
        list(Feed(twin, plan))


def test_a_reader_that_fails_is_told_with_its_rows(store, monkeypatch):
    plan = draw.Plan(np.arange(4)[:, None], np.arange(4), np.array([0, 2, 4]))
    monkeypatch.setattr(Store, "planes", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O")))
    with pytest.raises(MedsslError, match="Reading store rows 0, 1 failed with a OSError"):
        list(Feed(store, plan))


def test_schedule_by_hand():
    total, warmup = 100, 0.1
    got = [optim.factor(s, total, warmup) for s in range(total)]
    assert got[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert got[10] == pytest.approx(1.0)
    assert got[55] == pytest.approx(0.5)
    assert got[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert optim.factor(100, 100, 0.0) == pytest.approx(0)


@pytest.mark.parametrize(("scaling", "wanted"), [("none", 0.1), ("sqrt", 0.05), ("linear", 0.025)])
def test_peak_follows_the_batch(scaling, wanted):
    assert optim.peak(OptimConfig(lr=0.1, lr_scaling=scaling), 64) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_biases_and_norms_are_not_decayed(name):
    encoder = build(EncoderConfig(name="resnet10t"), 32, whole=False, seed=0)
    method = build_method(SimCLRConfig(name="simclr"), encoder, 0)
    optimizer = optim.build(OptimConfig(name=name, weight_decay=0.1), method, 256)
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim <= 1 for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(method.parameters()))


def test_encoders_repeat_and_refuse():
    a, b = (build(EncoderConfig(name="resnet10t"), 32, whole=False, seed=s) for s in (3, 3))
    assert all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
    grouped = build(EncoderConfig(name="resnet18", norm="group"), 32, whole=False, seed=0)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in grouped.modules())
    for config, whole in ((EncoderConfig(name="nonsense"), False), (EncoderConfig(), True),
                          (EncoderConfig(name="resnet10_3d"), False)):  # fmt: skip
        with pytest.raises(UsageError):
            build(config, 32, whole=whole, seed=0)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_image_encoders_take_any_size(name):
    encoder = build(EncoderConfig(name=name), 48, whole=False, seed=0).eval()
    assert encoder(torch.zeros(2, 1, 48, 48)).shape == (2, encoder.width)


def test_volume_encoder():
    encoder = build(EncoderConfig(name="resnet10_3d"), 16, whole=True, seed=0).eval()
    assert encoder(torch.zeros(2, 1, 16, 16, 16)).shape == (2, encoder.width)


def test_weights_round_trip_and_refusals(tmp_path):
    encoder = build(EncoderConfig(name="resnet10t"), 32, whole=False, seed=1)
    card = weights.Card(
        encoder=EncoderConfig(name="resnet10t"),
        decode=DecodeConfig(size=32),
        mean=0.4,
        std=0.2,
        site_keys={"a": "1"},
        seen=("x",),
        pictures=("0123456789abcdef",),
        source="r",
    )
    weights.save_encoder(tmp_path, encoder, card)
    again, got, _ = weights.load_encoder(tmp_path)
    assert got == card
    assert all(
        torch.equal(x, y)
        for x, y in zip(encoder.state_dict().values(), again.state_dict().values(), strict=True)
    )
    with torch.no_grad():
        next(encoder.parameters()).fill_(math.nan)
    with pytest.raises(NumericalStopError):
        weights.save_encoder(tmp_path, encoder, card)
    (tmp_path / "encoder.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(RefusedError, match="digest"):
        weights.load_encoder(tmp_path)


@pytest.mark.parametrize("classes", [2, 3])
def test_linear_probe_equals_scikit_learn(classes):
    x = RNG.normal(2.0, 3.0, (150, 8))
    codes = (x[:, 0] + RNG.normal(0, 2, 150) > 2).astype(int) + (classes == 3) * (x[:, 1] > 3)
    model = probe.fit_linear(x, codes, classes, penalty=2.0)
    scaled = (x - x.mean(0)) / x.std(0)
    wanted = (
        LogisticRegression(C=0.5, max_iter=2000, tol=1e-8).fit(scaled, codes).predict_proba(scaled)
    )
    np.testing.assert_allclose(probe.softmax(model.logits(x)), wanted, atol=1e-3)


def test_knn_equals_scikit_learn_where_votes_are_equal():
    bank, codes = RNG.normal(size=(100, 5)), RNG.integers(0, 3, 100)
    queries = RNG.normal(size=(30, 5))
    got = probes.knn_scores(bank, codes, 3, queries, 1)
    wanted = KNeighborsClassifier(1, metric="cosine").fit(bank, codes).predict_proba(queries)
    np.testing.assert_allclose(got, wanted)
    many = probes.knn_scores(bank, codes, 3, queries, 10)
    np.testing.assert_allclose(many.sum(1), 1)


def test_knn_by_loops():
    bank, codes, query = RNG.normal(size=(50, 4)), RNG.integers(0, 2, 50), RNG.normal(size=(1, 4))
    cosine = [float(b @ query[0] / np.linalg.norm(b) / np.linalg.norm(query[0])) for b in bank]
    near = sorted(range(50), key=lambda k: -cosine[k])[:7]
    votes = [sum(math.exp(cosine[k] / 0.1) for k in near if codes[k] == c) for c in (0, 1)]
    got = probes.knn_scores(bank, codes, 2, query, 7)
    np.testing.assert_allclose(got[0], np.array(votes) / sum(votes), rtol=1e-9)


def test_configs_are_found_from_the_root():
    assert Path("configs/pretrain/micle-cxr.yaml").is_file()
