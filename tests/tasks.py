"""Every pretext task on small networks and pictures, for the suites that run over all of them."""

from unittest import mock

import torch

from medssl.config import EncoderConfig, PretrainConfig
from medssl.loading import validate
from medssl.methods import METHODS, build_method
from medssl.methods.base import Seen
from medssl.models import volume_vit
from medssl.models.encoder import build

SIDES = {2: 32, 3: 8}
TRANSFORMERS = {"mae", "aim"}
SMALL = {"hidden": 32, "out": 16, "bottleneck": 8, "decoder_width": 32, "queue": 12}
BAG = [0, 0, 1, 2, 3, 4, 5, 6]


def settings(name, dims=2, **extra):
    """Return the whole config of one task, its networks small."""
    colour = "rgb" if name == "colourisation" else "grey"
    decode = {
        "size": max(16, SIDES[dims]),
        "colour": colour,
        "volumes": "whole" if dims == 3 else "slices",
    }
    tree = {"decode": decode, "method": {"name": name, **extra}}
    plain = validate(PretrainConfig, tree, "test")
    small = {k: v for k, v in SMALL.items() if k in type(plain.method).model_fields}
    tree["method"] = {"name": name, **small, **extra}
    return validate(PretrainConfig, tree, "test")


def encoder_config(name, dims=2, norm="batch"):
    """Return a small network that the task can use."""
    if name in TRANSFORMERS:
        if dims == 3:
            return EncoderConfig(name="vit_tiny_3d", patch=2)
        pool = "mean" if name == "aim" else "default"
        return EncoderConfig(name="vit_tiny_patch16_224", patch=8, pool=pool)
    return EncoderConfig(name="resnet10t" if dims == 2 else "resnet10_3d", norm=norm)


def make(name, dims=2, *, norm="batch", **extra):
    """Return a task of the table, always with the same weights."""
    config = settings(name, dims, **extra)
    channels = config.decode.channels
    with mock.patch.dict(volume_vit.SIZES, {"vit_tiny_3d": (64, 2, 2)}):
        encoder = build(
            encoder_config(name, dims, norm),
            SIDES[dims],
            whole=dims == 3,
            seed=0,
            channels=channels,
        )
    return build_method(config.method, encoder, seed=0)


def batch(method, seed=0, bag=BAG, dtype=torch.float32):
    """Return smooth pictures with a little of each view's own."""
    stream = torch.Generator().manual_seed(seed)
    dims, channels, n = method.encoder.dims, method.encoder.channels, len(bag)
    shape = (channels, *(SIDES[dims],) * dims)
    many = method.images * method.views
    coarse = torch.rand(n, channels, *(4,) * dims, generator=stream)
    mode = "bilinear" if dims == 2 else "trilinear"
    pattern = torch.nn.functional.interpolate(coarse, shape[1:], mode=mode)[:, None]
    views = pattern + 0.1 * torch.rand(n, many, *shape, generator=stream)
    small = None
    if method.small_views:
        sides = (SIDES[dims] // 2,) * dims
        small = torch.rand(n, method.small_views, channels, *sides, generator=stream).to(dtype)
    key = torch.randint(-(2**31), 2**31 - 1, (n, 2), dtype=torch.int32, generator=stream)
    return Seen(views.to(dtype), torch.tensor(bag), key, small)


def part(seen, which):
    """Return some samples of a batch."""
    small = None if seen.small is None else seen.small[which]
    return Seen(seen.views[which], seen.bag[which], seen.key[which], small, seen.scale)


def step(method, seen, optimizer):
    """Take one optimiser step as the loop does; return the loss."""
    loss = method.loss(seen).total
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    method.after_step(0.5)
    return float(loss.detach())


def sensible():
    """Return every (task, dims) that the house offers."""
    volumes = {n: settings(n).method.volumes for n in METHODS}
    return [(n, d) for n in sorted(METHODS) for d in (2, 3) if d == 2 or volumes[n]]
