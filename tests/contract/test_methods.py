"""Every method of the table through one door."""

import pytest
import torch

from medssl.config import EncoderConfig, PretrainConfig
from medssl.loading import validate
from medssl.methods import METHODS, build_method
from medssl.models.encoder import build

BATCH, SIDE = 8, 32
VARIED = {"temperature": 0.9, "hidden": 24, "out": 12, "mask_same_patient": False}


def settings(name, **extra):
    tree = {"method": {"name": name, "hidden": 32, "out": 16, **extra}}
    return validate(PretrainConfig, tree, "test").method


def make(name, **extra):
    encoder = build(EncoderConfig(name="resnet10t"), SIDE, whole=False, seed=0)
    return build_method(settings(name, **extra), encoder, seed=0)


def batch(method, seed=0):
    stream = torch.Generator().manual_seed(seed)
    k = method.images * method.views
    pattern = torch.rand(BATCH, 1, 1, SIDE, SIDE, generator=stream)
    views = pattern + 0.1 * torch.rand(BATCH, k, 1, SIDE, SIDE, generator=stream)
    return views, torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])


@pytest.fixture(params=sorted(METHODS))
def name(request):
    return request.param


def test_table_is_the_union_of_settings():
    """A method with settings and no line in the table, or the reverse, is a forgotten touch."""
    for name in METHODS:
        assert settings(name).name == name
    field = PretrainConfig.model_fields["method"]
    named = {m.model_fields["name"].annotation.__args__[0] for m in field.annotation.__args__}
    assert named == set(METHODS)


def test_finite_and_reaches_the_first_layer(name):
    method = make(name)
    loss = method.loss(*batch(method))
    assert torch.isfinite(loss.total)
    loss.total.backward()
    first = next(method.encoder.parameters())
    assert first.grad is not None
    assert float(first.grad.abs().sum()) > 0
    assert "z_std" in loss.parts


def test_loss_falls(name):
    method = make(name)
    views, bag = batch(method)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    values = []
    for _ in range(30):
        loss = method.loss(views, bag).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.7 * values[0]


def test_order_of_the_batch_does_not_matter(name):
    method = make(name)
    views, bag = batch(method)
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(3))
    first, second = (method.loss(v, b).total for v, b in ((views, bag), (views[order], bag[order])))
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_state_survives_a_round_trip(name):
    method, other = make(name), make(name)
    views, bag = batch(method)
    method.loss(views, bag).total.backward()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.01)
    other.load_state_dict(method.state_dict())
    torch.testing.assert_close(other.loss(views, bag).total, method.loss(views, bag).total)


def test_bf16_is_near(name):
    method = make(name)
    views, bag = batch(method)
    plain = method.loss(views, bag).total
    with torch.autocast("cpu", torch.bfloat16):
        half = method.loss(views, bag).total
    torch.testing.assert_close(plain, half.float(), atol=0.15, rtol=0.05)


@pytest.mark.parametrize("field", sorted(VARIED))
def test_each_setting_changes_something(name, field):
    if field not in type(settings(name)).model_fields:
        return  # MICLe has no such setting: its batch holds a patient once
    plain, varied = make(name), make(name, **{field: VARIED[field]})
    views, bag = batch(plain)
    assert float(plain.loss(views, bag).total.detach()) != float(
        varied.loss(views, bag).total.detach()
    )


def test_micle_pairs_are_different_images(name):
    """The loss contrasts view 0 with view 1: for MICLe these come from two images."""
    method = make(name)
    assert (method.images, method.views) == ((2, 1) if name == "micle" else (1, 2))
    views, bag = batch(method)
    before = method.loss(views, bag).total
    views = views.clone()
    views[:, 1] = torch.rand_like(views[:, 1])
    assert float(method.loss(views, bag).total.detach()) != float(before.detach())
