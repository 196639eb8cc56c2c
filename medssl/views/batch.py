"""From a batch and its parameters to its views."""

from collections.abc import Callable

import torch
from torch import Tensor

from medssl.config import ViewsConfig
from medssl.errors import UsageError
from medssl.views import geometry, texture, tone
from medssl.views.parameters import ViewParameters

# What one CPU core works on at a time, in values: 2 MiB of float32 stay in its cache.
BLOCK = 1 << 19
COLOURS = ("saturation", "hue_deg", "grey_probability")


def check(config: ViewsConfig, channels: int, dims: int) -> None:
    """Refuse settings that could not act on such images.

    Args:
        config: of the views.
        channels: of the images, 1 or 3.
        dims: 2 for images, 3 for volumes.

    Raises:
        UsageError: settings of colour for grey images, blur for volumes; all of them at once.
    """
    words = []
    asked = [f"views.{n} {getattr(config, n):g}" for n in COLOURS if getattr(config, n) > 0]
    if asked and channels != 3:
        words.append(
            f"{', '.join(asked)}: acts on colour, and the images have {channels} channel(s); set "
            "to 0, or decode in colour."
        )
    if config.blur_sigma > 0 and dims == 3:
        words.append("views.blur_sigma acts on images only; set it to 0 for whole volumes.")
    if words:
        raise UsageError(" ".join(words), "E-VIEWS")


def apply(images: Tensor, how: ViewParameters, config: ViewsConfig) -> Tensor:
    """Apply parameters to images; geometry, tone, blur, noise and cut-out, in this order.

    Computed in float32 whatever autocast is on: in bfloat16 a crop would miss by half a pixel.

    Args:
        images: float32 ``[N, C, (D,) H, W]`` in [0, 1], C = 1 or 3; left as they are.
        how: best on the CPU, where it is asked what is to be done without waiting for the device.
        config: that the parameters were sampled from.

    Returns:
        Of the shape and range of the images.

    Raises:
        UsageError: settings that could not act on such images.
    """
    check(config, images.shape[1], images.ndim - 2)
    with torch.autocast(images.device.type, enabled=False):
        if images.device.type != "cpu":
            return _block(images, how, config)
        out = torch.empty_like(images, memory_format=torch.contiguous_format)
        step = block(images)
        for first in range(0, len(images), step):
            last = first + step
            out[first:last] = _block(images[first:last], how.part(first, last), config)
        return out


def block(images: Tensor) -> int:
    """Return how many images at a time keep the CPU's caches warm.

    Not below the number of threads: torch would split the mean of an image among them.
    """
    cores = torch.get_num_threads()
    return max(cores, cores * BLOCK // max(1, images.shape[1:].numel()))


def _block(images: Tensor, known: ViewParameters, config: ViewsConfig) -> Tensor:
    how = known.to(images.device)
    out = geometry.move(images, how, bent=bool(known.control.any())).clamp_(0, 1)
    out = _some(out, known.equalised, lambda part, _: tone.equalise(part))
    out = tone.grey(out, how.gamma, how.contrast, how.brightness)
    if bool(((known.saturation != 1) | (known.hue != 0)).any()):
        out = tone.colour(out, how.saturation, how.hue)
    if images.ndim == 4:
        largest = config.blur_sigma
        out = _some(out, known.sigma > 0, lambda part, k: texture.blur(part, how.sigma[k], largest))
    out = _some(
        out, known.noise > 0, lambda part, k: texture.noise(part, how.noise[k], how.noise_key[k])
    )
    if bool((known.hole_size > 0).any()):
        texture.cut(out, how.hole_size, how.hole_centre)
    return out.clamp_(0, 1)


def _some(out: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Change the chosen images of a batch, in place where not all of them are chosen."""
    index = chosen.nonzero()[:, 0]
    if len(index) == 0:
        return out
    there = index.to(out.device, non_blocking=True)
    if len(index) == len(out):
        return change(out, there)
    return out.index_copy_(0, there, change(out.index_select(0, there), there))
