"""Augmentation on whole batches: parameters are sampled first, recorded, then applied.

Every parameter is a function of (seed, epoch, place in the epoch), so a resumed run, another number
of processes and another device see the same views.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.cohort.draw import generator
from medssl.config import ViewsConfig

DRAWS = 16
LEAST_SIGMA = 1e-3


@dataclass(frozen=True)
class ViewParameters:
    """What is done to each of N views; every field is float32 ``[N]`` or ``[N, dims]``.

    ``scale``, ``centre`` and ``angle`` are the crop in units of the half side (-1 to 1), radians.
    """

    scale: Tensor
    centre: Tensor
    angle: Tensor
    mirror: Tensor
    brightness: Tensor
    contrast: Tensor
    gamma: Tensor
    sigma: Tensor
    hole_size: Tensor
    hole_centre: Tensor


def uniforms(seed: int, epoch: int, view: int, places: slice) -> npt.NDArray[np.float64]:
    """Return ``[n, 16]`` numbers in [0, 1) that depend on seed, epoch, view and place alone."""
    stream = generator(seed, epoch, 16 + view)
    bits = stream.bit_generator
    assert isinstance(bits, np.random.Philox)  # noqa: S101
    bits.advance(places.start * DRAWS // 4)  # Philox yields four 64-bit words per count
    return stream.random((places.stop - places.start, DRAWS))


def sample(config: ViewsConfig, u: npt.NDArray[np.float64], dims: int) -> ViewParameters:
    """Turn uniform numbers ``[n, 16]`` into parameters within the ranges of the settings."""

    def tensor(values: npt.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    sign = 2 * u - 1
    low, high = config.crop_area
    scale = (low + (high - low) * u[:, 0]) ** (1 / dims)
    room = (1 - scale)[:, None]
    blurred = u[:, 10] < config.blur_probability
    return ViewParameters(
        scale=tensor(scale),
        centre=tensor(sign[:, 1 : 1 + dims] * room + sign[:, 4 : 4 + dims] * 2 * config.shift),
        angle=tensor(sign[:, 7] * math.radians(config.rotation_deg)),
        mirror=tensor(np.where(config.flip & (u[:, 8] < 0.5), -1.0, 1.0)),
        brightness=tensor(sign[:, 9] * config.brightness),
        contrast=tensor(1 + sign[:, 11] * config.contrast),
        gamma=tensor(2 ** (sign[:, 12] * config.gamma)),
        sigma=tensor(np.where(blurred, u[:, 13] * config.blur_sigma, 0.0)),
        hole_size=tensor(u[:, 14] * config.cutout),
        hole_centre=tensor(np.stack([sign[:, 15], (2 * ((u[:, 15] * 7919) % 1)) - 1], 1)),
    )


def apply(images: Tensor, how: ViewParameters, config: ViewsConfig) -> Tensor:
    """Apply parameters to float ``[N, 1, (D,) H, W]`` in [0, 1]; the result keeps shape and range."""
    how = ViewParameters(**{k: v.to(images.device) for k, v in vars(how).items()})
    out = _move(images, how)
    shape = (-1, *(1,) * (images.ndim - 1))
    out = out.clamp(0, 1) ** how.gamma.view(shape)
    middle = out.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    out = (out - middle) * how.contrast.view(shape) + middle + how.brightness.view(shape)
    if config.blur_sigma > 0 and images.ndim == 4:
        out = _blur(out, how.sigma, config.blur_sigma)
    if config.cutout > 0:
        out = _cut(out, how)
    return out.clamp(0, 1)


def _move(images: Tensor, how: ViewParameters) -> Tensor:
    """One interpolation for crop, shift, rotation (in the H-W plane) and mirror."""
    n, dims = len(images), images.ndim - 2
    cos, sin = torch.cos(how.angle) * how.scale, torch.sin(how.angle) * how.scale
    theta = torch.zeros(n, dims, dims + 1, dtype=images.dtype, device=images.device)
    theta[:, 0, 0], theta[:, 0, 1] = cos * how.mirror, -sin
    theta[:, 1, 0], theta[:, 1, 1] = sin * how.mirror, cos
    if dims == 3:
        theta[:, 2, 2] = how.scale
    theta[:, :, dims] = how.centre
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def _blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Separable Gaussian blur with a sigma of its own for each image."""
    radius = max(1, math.ceil(2.5 * largest))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp_min(LEAST_SIGMA)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    n = len(images)
    rows = F.pad(images.transpose(0, 1), (0, 0, radius, radius), mode="replicate")
    out = F.conv2d(rows, kernel[:, None, :, None], groups=n)
    columns = F.pad(out, (radius, radius, 0, 0), mode="replicate")
    return F.conv2d(columns, kernel[:, None, None, :], groups=n).transpose(0, 1)


def _cut(images: Tensor, how: ViewParameters) -> Tensor:
    """Erase one box per image (all depths of a volume)."""
    axes = [torch.linspace(-1, 1, s, device=images.device) for s in images.shape[-2:]]
    inside = [
        (axis[None] - how.hole_centre[:, k, None]).abs() < how.hole_size[:, None]
        for k, axis in enumerate(axes)
    ]
    box = inside[0][:, :, None] & inside[1][:, None, :]
    shape = (len(images), *(1,) * (images.ndim - 3), *images.shape[-2:])
    return images.masked_fill(box.view(shape), 0.0)
