"""What is done to each view: drawn from numbers that depend on seed, epoch, view and place alone."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medssl.cohort.draw import generator
from medssl.config import ViewsConfig
from medssl.views.counter import words

DRAWS = 32
STREAM = 16
# What is drawn from the second stream leaves the first as every earlier run had it.
STREAMS = (16, 128)
POINTS = 7

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ViewParameters:
    """What is done to each of N views; float32 ``[N]`` where nothing else is said.

    Lengths are in units of the half side, which runs from -1 to 1; axes are x, y(, z), which is
    width, height(, depth).

    Attributes:
        scale: side of the crop.
        centre: of the crop, ``[N, dims]``.
        angle: in-plane, radians.
        mirror, mirror_vertical: -1 mirrors left and right, or top and bottom; 1 does not.
        control: displacements of the elastic grid, ``[N, dims, (7,) 7, 7]``, axis first.
        equalised: bool.
        brightness: added.
        contrast: factor on the distance from the mean.
        gamma: exponent.
        saturation: factor on the colour; 0 leaves grey.
        hue: turn of the colour, radians.
        sigma: of the blur, pixels.
        noise: its standard deviation.
        noise_key: int32 ``[N, 2]``.
        hole_size: half the erased box.
        hole_centre: y and x, ``[N, 2]``.
    """

    scale: Tensor
    centre: Tensor
    angle: Tensor
    mirror: Tensor
    mirror_vertical: Tensor
    control: Tensor
    equalised: Tensor
    brightness: Tensor
    contrast: Tensor
    gamma: Tensor
    saturation: Tensor
    hue: Tensor
    sigma: Tensor
    noise: Tensor
    noise_key: Tensor
    hole_size: Tensor
    hole_centre: Tensor

    def part(self, first: int, last: int) -> "ViewParameters":
        """Return those of the views from ``first`` to before ``last``."""
        return ViewParameters(**{k: v[first:last] for k, v in vars(self).items()})

    def to(self, device: torch.device) -> "ViewParameters":
        """Return them on a device, without waiting for it."""
        return ViewParameters(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})


def uniforms(seed: int, epoch: int, view: int, places: slice) -> FloatArray:
    """Return ``[n, 32]`` numbers in [0, 1) that depend on seed, epoch, view and place alone."""
    parts = []
    for purpose in STREAMS:
        stream = generator(seed, epoch, purpose + view)
        bits = stream.bit_generator
        assert isinstance(bits, np.random.Philox)  # noqa: S101
        bits.advance(places.start * STREAM // 4)  # Philox yields four 64-bit words per count
        parts.append(stream.random((places.stop - places.start, STREAM)))
    return np.concatenate(parts, axis=1)


def sample(config: ViewsConfig, u: FloatArray, dims: int) -> ViewParameters:
    """Turn uniform numbers ``[n, 32]`` into parameters within the ranges of the settings."""
    sign = 2 * u - 1
    low, high = config.crop_area
    scale = (low + (high - low) * u[:, 0]) ** (1 / dims)
    room = (1 - scale)[:, None]
    blurred = u[:, 10] < config.blur_probability
    noisy = u[:, 21] < config.noise_probability
    grey = u[:, 27] < config.grey_probability
    return ViewParameters(
        scale=_tensor(scale),
        centre=_tensor(sign[:, 1 : 1 + dims] * room + sign[:, 4 : 4 + dims] * 2 * config.shift),
        angle=_tensor(sign[:, 7] * math.radians(config.rotation_deg)),
        mirror=_tensor(np.where(config.flip & (u[:, 8] < 0.5), -1.0, 1.0)),
        mirror_vertical=_tensor(np.where(config.flip_vertical & (u[:, 16] < 0.5), -1.0, 1.0)),
        control=_control(config, u, dims),
        equalised=torch.from_numpy(u[:, 20] < config.equalise_probability),
        brightness=_tensor(sign[:, 9] * config.brightness),
        contrast=_tensor(1 + sign[:, 11] * config.contrast),
        gamma=_tensor(2 ** (sign[:, 12] * config.gamma)),
        saturation=_tensor(np.where(grey, 0.0, 1 + sign[:, 25] * config.saturation)),
        hue=_tensor(sign[:, 26] * math.radians(config.hue_deg)),
        sigma=_tensor(np.where(blurred, u[:, 13] * config.blur_sigma, 0.0)),
        noise=_tensor(np.where(noisy, u[:, 22] * config.noise_std, 0.0)),
        noise_key=key(u[:, 23:25]),
        hole_size=_tensor(u[:, 14] * config.cutout),
        hole_centre=_tensor(np.stack([sign[:, 15], (2 * ((u[:, 15] * 7919) % 1)) - 1], 1)),
    )


def _tensor(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def key(u: FloatArray) -> Tensor:
    """Return int32 keys of numbers in [0, 1), of the same shape."""
    return torch.from_numpy((u * 2**32).astype(np.uint32).view(np.int32))


def _control(config: ViewsConfig, u: FloatArray, dims: int) -> Tensor:
    """Draw the elastic grid's displacements; all are zero for a view that is not bent."""
    shape = (len(u), dims, *[POINTS] * dims)
    if config.elastic == 0:
        return torch.zeros(shape)
    drawn = words(key(u[:, 18:20]), math.prod(shape[1:])).view(shape) / 2**31
    bent = _tensor(np.where(u[:, 17] < config.elastic_probability, 2 * config.elastic, 0.0))
    return drawn * bent.view(-1, *[1] * (dims + 1))
