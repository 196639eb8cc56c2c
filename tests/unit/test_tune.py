"""Full fine-tuning's parts: rates by layer, weights of classes, averages, and that every setting bites."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SIZE

from medssl.config import DecodeConfig, EncoderConfig, FinetuneConfig, FullConfig
from medssl.finetune.probe import Linear
from medssl.finetune.starts import Start
from medssl.finetune.tune import Labelled, class_weight, parameter_groups, tune
from medssl.loading import validate
from medssl.models import weights
from medssl.models.depths import depths
from medssl.models.encoder import build
from medssl.store import open_store
from medssl.train import optim

FULL = {"epochs": 1, "steps_floor": 4, "batch": 8, "encoder_lr": 0.5}
NAMES = [
    ("vit_tiny_3d", 16, True),
    ("resnet10t", SIZE, False),
    ("vit_tiny_patch16_224", 32, False),
    ("resnet10_3d", 16, True),
]


def made(**full):
    tree = {"target": "finding", "full": FULL | full}
    return validate(FinetuneConfig, tree, "test")


@pytest.fixture(scope="module")
def labelled():
    return Labelled(np.arange(12), np.array([0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1]), 2)


@pytest.fixture(scope="module")
def start(cohorts):
    decode = DecodeConfig(size=SIZE)
    store = open_store(cohorts / "hospital_a", decode)
    config = EncoderConfig(name="resnet10t")
    encoder = build(config, SIZE, whole=False, seed=0)
    card = weights.Card(config, decode, 0.5, 0.25, {}, (), (), "")
    return Start("pretrained", encoder, card, store, np.zeros((0, 0)), np.zeros((0, 0)), True, True)


def trained(start, labelled, config, **more):
    found = tune(start, labelled, config, 0, rate=config.full.lr, **more)
    return torch.cat([p.detach().flatten() for p in found.module().parameters()])


@pytest.mark.parametrize(
    "other",
    [
        made(layer_decay=0.5),
        made(encoder_lr=1.0),
        made(smoothing=0.3),
        made(average=0.9),
        made(weight_decay=0.5),
        made(lr=0.01),
        made(batch=4),
        made(steps_floor=5),
        made(epochs=4),
        made(precision="bf16"),
        made().model_copy(update={"balance": True}),
        made().model_copy(update={"views": made().views.model_copy(update={"brightness": 0.9})}),
    ],
    ids=lambda c: str(c.full.model_dump(exclude_defaults=True) if hasattr(c, "full") else c),
)
def test_every_setting_bites(start, labelled, other):
    base = trained(start, labelled, made())
    assert torch.equal(base, trained(start, labelled, made()))
    assert not torch.equal(base, trained(start, labelled, other))


def test_the_probes_head_comes_first(start, labelled):
    probe = Linear(np.full((2, start.encoder.width), 0.25), np.array([1.0, -1.0]))
    config = made(lr=1e-12)
    found = tune(start, labelled, config, 0, rate=1e-12, probe=probe)
    np.testing.assert_allclose(found.head.linear.weight.detach().cpu(), 0.25, atol=1e-6)
    np.testing.assert_allclose(found.head.linear.bias.detach().cpu(), [1, -1], atol=1e-6)


@pytest.mark.parametrize(("name", "size", "whole"), NAMES)
def test_rates_fall_towards_the_pixels(name, size, whole):
    encoder = build(EncoderConfig(name=name), size, whole=whole, seed=0)
    place, many = depths(encoder)
    full = FullConfig(encoder_lr=0.5, layer_decay=0.8)
    groups = parameter_groups(encoder, full, 0.1, slow=True)
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    learnt = {k: p for k, p in encoder.named_parameters() if p.requires_grad}
    assert sum(len(g["params"]) for g in groups) == len(learnt)
    for key, parameter in learnt.items():
        assert rate[id(parameter)] == pytest.approx(0.1 * 0.5 * 0.8 ** (many - 1 - place[key]))
    first = next(iter(encoder.named_parameters()))[0]
    assert place[first] == 0
    assert max(place.values()) == many - 1
    flat = parameter_groups(encoder, full, 0.1, slow=False)
    assert {g["lr"] for g in flat} == {0.1}
    decayed = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    for parameter in learnt.values():
        assert parameter.ndim > 1 or decayed[id(parameter)] == 0


def test_chances_are_learnt_instead_of_codes(start, labelled):
    """Certain chances are the codes; others are another lesson."""
    sure = replace(labelled, soft=np.eye(2)[labelled.codes])
    base = trained(start, labelled, made())
    torch.testing.assert_close(trained(start, sure, made()), base, rtol=1e-4, atol=1e-6)
    unsure = replace(labelled, soft=np.full((12, 2), 0.5))
    assert not torch.allclose(trained(start, unsure, made()), base, rtol=1e-4, atol=1e-6)


def test_classes_weigh_alike(labelled):
    weight = class_weight(labelled)
    total = [float(weight[k]) * int((labelled.codes == k).sum()) for k in (0, 1)]
    assert total[0] == pytest.approx(total[1])
    assert sum(total) == pytest.approx(len(labelled.codes))


def test_the_average_by_hand(start, labelled, monkeypatch):
    """Three steps at one rate: the weights after each, averaged by a loop."""
    monkeypatch.setattr(optim, "factor", lambda *_: 1.0)
    key = "head.linear.weight"

    def after(steps, rate, **full):
        config = made(epochs=1, steps_floor=steps, batch=12, **full)
        return tune(start, labelled, config, 0, rate=rate).module().state_dict()[key]

    wanted = after(1, 1e-30)  # the head before its first step
    for k in range(3):
        decay = min(0.9, (1 + k) / (10 + k))
        wanted = decay * wanted + (1 - decay) * after(k + 1, 1e-3)
    got = after(3, 1e-3, average=0.9)
    assert not torch.equal(got, after(3, 1e-3))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
