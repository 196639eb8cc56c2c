"""Blur, noise and cut-out."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.views.counter import words

LEAST_SIGMA = 1e-3
HALF_WORD = 1 << 16


def blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blur images ``[N, C, H, W]`` by Gaussians, each by its own; edges are repeated.

    Args:
        images: left as they are.
        sigma: pixels, ``[N]``.
        largest: kernels end at 2.5 times this sigma, whatever the batch holds.
    """
    radius = max(1, math.ceil(2.5 * largest))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp_min(LEAST_SIGMA)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).view(len(images), -1, 1, 1, 1)
    rows = _blur_along(F.pad(images, (0, 0, radius, radius), mode="replicate"), kernel, 2)
    return _blur_along(F.pad(rows, (radius, radius, 0, 0), mode="replicate"), kernel, 3)


def _blur_along(padded: Tensor, kernel: Tensor, axis: int) -> Tensor:
    # A sum of shifted images: torch's grouped convolution takes several times as long on a CPU.
    taps = kernel.shape[1]
    size = padded.shape[axis] - taps + 1
    out = padded.narrow(axis, 0, size) * kernel[:, 0]
    for k in range(1, taps):
        out.addcmul_(padded.narrow(axis, k, size), kernel[:, k])
    return out


def noise(images: Tensor, deviation: Tensor, key: Tensor) -> Tensor:
    """Add Gaussian noise in place, a function of the key and the pixel's number alone.

    Args:
        images: ``[N, ...]``, contiguous.
        deviation: ``[N]``.
        key: int32 ``[N, 2]``.
    """
    flat = images.view(len(images), -1)
    word = words(key, -(-flat.shape[1] // 2))
    halves = torch.empty(len(flat), 2, word.shape[1], dtype=word.dtype, device=word.device)
    torch.bitwise_right_shift(word, 16, out=halves[:, 1])
    torch.bitwise_xor(word, halves[:, 1], out=halves[:, 0])
    halves &= HALF_WORD - 1
    drawn = _normals(images.device).index_select(0, halves.view(-1)).view(len(flat), -1)
    flat.addcmul_(drawn[:, : flat.shape[1]], deviation[:, None])
    return images


@functools.lru_cache(maxsize=4)
def _normals(device: torch.device) -> Tensor:
    """Return the standard normal's quantiles of 65,536 equal shares: a table gives equal bits."""
    share = (torch.arange(HALF_WORD, dtype=torch.float64) + 0.5) / HALF_WORD
    quantiles: Tensor = torch.special.ndtri(share)
    return quantiles.float().to(device)


def cut(images: Tensor, size: Tensor, centre: Tensor) -> Tensor:
    """Erase one box per image in place, of all depths of a volume.

    Args:
        images: ``[N, C, (D,) H, W]``.
        size: half a side in units of the half side, ``[N]``.
        centre: y and x, ``[N, 2]``.
    """
    rows, columns = (
        (torch.linspace(-1, 1, side, device=images.device) - centre[:, k, None]).abs()
        < size[:, None]
        for k, side in enumerate(images.shape[-2:])
    )
    between = (1,) * (images.ndim - 3)
    erased = images * rows.view(len(images), *between, -1, 1)
    # A value less itself is exactly zero; a mask of all pixels would cost several times as much.
    return images.addcmul_(erased, columns.view(len(images), *between, 1, -1), value=-1)
