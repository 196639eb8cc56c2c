"""What changes the grey values and the colours of images in [0, 1]; all but colour in place."""

import functools

import torch
from torch import Tensor

LEVELS = 256
# Luminance and the two axes of colour of NTSC (ITU-R BT.470), rows; red, green, blue, columns.
YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def equalise(images: Tensor) -> Tensor:
    """Replace each value by the share of its image's values that it reaches; zero stays zero.

    One histogram of 256 levels per image, over all channels, linear inside a level so that no
    detail is lost. Zeros are the letterbox and are not counted.

    Args:
        images: ``[N, ...]`` in [0, 1], changed in place.
    """
    n = len(images)
    values = images.view(n, -1).mul_(LEVELS)
    top = values.ceil()
    row = torch.arange(n, dtype=torch.int32, device=images.device) * (LEVELS + 1)
    level = top.int().add_(row[:, None]).view(-1)
    counts = torch.bincount(level, minlength=n * (LEVELS + 1)).view(n, -1)
    counts[:, 0] = 0
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    values.sub_(top)
    for table, put in ((share, values.mul_), (share.cumsum(1), values.add_)):
        put(torch.index_select(table.view(-1), 0, level, out=top.view(-1)).view_as(values))
    return images


def grey(images: Tensor, gamma: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Raise to ``gamma``, stretch about the mean by ``contrast``, add ``brightness``, all ``[N]``."""
    shape = (-1, *(1,) * (images.ndim - 1))
    images.pow_(gamma.view(shape))
    middle = images.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    images.sub_(middle).mul_(contrast.view(shape)).add_(middle).add_(brightness.view(shape))
    return images


def colour(images: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Turn and stretch the colours of ``[N, 3, ...]`` about the axis of greys, at equal luminance.

    Args:
        images: left as they are.
        saturation: factor, ``[N]``; 0 leaves grey.
        hue: turn in the plane of the two colour axes, radians, ``[N]``.
    """
    across, along = saturation * torch.cos(hue), saturation * torch.sin(hue)
    nothing, one = torch.zeros_like(hue), torch.ones_like(hue)
    rows = [one, nothing, nothing, nothing, across, -along, nothing, along, across]
    turn = torch.stack(rows, 1).view(-1, 3, 3)
    there, back = _axes(images.device)
    return (back @ turn @ there @ images.flatten(2)).view(images.shape)


@functools.lru_cache(maxsize=4)
def _axes(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the way from red, green and blue to luminance and colour, and the way back."""
    there = torch.tensor(YIQ, dtype=torch.float64)
    return there.float().to(device), torch.linalg.inv(there).float().to(device)
