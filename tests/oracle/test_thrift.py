"""The gradient of a large batch in small memory, against the plain gradient of the same batch."""

import pytest
import torch

from medssl.config import EncoderConfig, PretrainConfig
from medssl.errors import UsageError
from medssl.loading import validate
from medssl.methods import build_method
from medssl.methods.base import Seen
from medssl.models import thrift
from medssl.models.encoder import build

NETS = {
    "2-D": (EncoderConfig(name="resnet10t", norm="group"), (40, 32), False),
    "transformer": (EncoderConfig(name="vit_tiny_patch16_224"), (32, 32), False),
    "3-D": (EncoderConfig(name="resnet10_3d", norm="group"), (20, 24, 16), True),
}
BATCH = 6


def make(net, **extra):
    config, shape, whole = NETS[net]
    encoder = build(config, 32, whole=whole, seed=0)
    settings = validate(PretrainConfig, {"method": {"name": "simclr", "hidden": 16, "out": 8}}, "t")
    method = build_method(settings.method, encoder, 0).double()
    stream = torch.Generator().manual_seed(1)
    views = torch.rand(BATCH, 2, 1, *shape, generator=stream, dtype=torch.float64)
    return method, views


def shown(views):
    return Seen(views, torch.arange(BATCH), torch.zeros(BATCH, 2, dtype=torch.int32))


def gradient(method, views):
    method.zero_grad()
    loss = method.loss(shown(views)).total
    loss.backward()
    return float(loss.detach()), [p.grad.clone() for p in method.parameters()]


def same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-9)
    for x, y in zip(a[1], b[1], strict=True):
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 5, 7, 12, 40])
@pytest.mark.parametrize("net", sorted(NETS))
def test_chunks_give_the_gradient_of_the_whole_batch(net, chunk):
    method, views = make(net)
    plain = gradient(method, views)
    method.encoder.chunk = chunk
    same(plain, gradient(method, views))


@pytest.mark.parametrize("net", sorted(NETS))
def test_forgotten_blocks_give_the_same_gradient_and_keys(net):
    method, views = make(net)
    keys, plain = list(method.state_dict()), gradient(method, views)
    thrift.forget_blocks(method.encoder.net, net)
    same(plain, gradient(method, views))
    assert list(method.state_dict()) == keys


def held_bytes(method, views):
    """Bytes that autograd keeps for the way back."""
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.data_ptr() for p in method.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        method.loss(shown(views))
    return sum(n for where, n in kept.items() if where not in weights)


def test_they_hold_less():
    method, views = make("2-D")
    plain = held_bytes(method, views)
    method.encoder.chunk = 3
    assert held_bytes(method, views) < 0.35 * plain
    method.encoder.chunk = None
    thrift.forget_blocks(method.encoder.net, "resnet10t")
    assert held_bytes(method, views) < 0.8 * plain


def test_running_statistics_move_once():
    """What is computed again must not be counted again."""
    nets = []
    for forgets in (False, True):
        encoder = build(EncoderConfig(name="resnet10t"), 32, whole=False, seed=0)
        if forgets:
            thrift.forget_blocks(encoder.net, "resnet10t")
        x = torch.rand(4, 1, 40, 32, generator=torch.Generator().manual_seed(2))
        encoder(x).sum().backward()
        nets.append(encoder.state_dict())
    for name, value in nets[0].items():
        torch.testing.assert_close(value, nets[1][name], msg=name)
    chunked = build(EncoderConfig(name="resnet10t"), 32, whole=False, seed=0)
    chunked.chunk = 2
    chunked(x).sum().backward()
    counts = [v for k, v in chunked.state_dict().items() if k.endswith("num_batches_tracked")]
    assert {int(c) for c in counts} == {2}  # two chunks, each counted once


def test_a_network_without_blocks_is_refused():
    with pytest.raises(UsageError, match="chunk"):
        thrift.forget_blocks(torch.nn.Sequential(torch.nn.ReLU()), "x")
