"""CIE L*a*b* (1976) from sRGB under D65 and back, and the bins of a and b that sRGB can show."""

import torch
from torch import Tensor

STEP = 10.0
"""Side of a bin of a and b (Zhang et al. 2016)."""
SIDE = 33
"""Levels of red, green and blue that the gamut is found with."""
TO_XYZ = torch.tensor(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
WHITE = torch.tensor([0.950456, 1.0, 1.088754])
KNEE = 6 / 29
GRID = 31
"""Bins along a and b that may be asked for, the middle one at 0."""


def to_lab(colours: Tensor) -> Tensor:
    """Return L, a, b ``[N, 3, ...]`` of sRGB colours in [0, 1], ``[N, 3, ...]``."""
    linear = torch.where(
        colours <= 0.04045, colours / 12.92, ((colours.clamp_min(0) + 0.055) / 1.055) ** 2.4
    )
    xyz = torch.einsum("kc,nc...->nk...", TO_XYZ.to(linear), linear)
    ratio = xyz / WHITE.to(linear).view(1, 3, *(1,) * (colours.ndim - 2))
    f = torch.where(
        ratio > KNEE**3, ratio.clamp_min(1e-12) ** (1 / 3), ratio / (3 * KNEE**2) + 4 / 29
    )
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def to_colours(lab: Tensor) -> Tensor:
    """Return sRGB colours in [0, 1] of L, a, b, both ``[N, 3, ...]``; what cannot be shown is cut off."""
    light, a, b = lab.unbind(1)
    y = (light + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], 1)
    ratio = torch.where(f > KNEE, f**3, 3 * KNEE**2 * (f - 4 / 29))
    xyz = ratio * WHITE.to(lab).view(1, 3, *(1,) * (lab.ndim - 2))
    linear = torch.einsum("kc,nc...->nk...", torch.linalg.inv(TO_XYZ).to(lab), xyz).clamp(0, 1)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    found: Tensor = torch.where(linear <= 0.0031308, 12.92 * linear, curved)
    return found


def gamut() -> Tensor:
    """Return the centres of all bins that some sRGB colour falls into, ``[Q, 2]``, in order."""
    level = torch.linspace(0, 1, SIDE)
    every = torch.cartesian_prod(level, level, level)[:, :, None]
    bins = (to_lab(every)[:, 1:, 0] / STEP).round()
    found: Tensor = torch.unique(bins, dim=0) * STEP
    return found


def nearest(ab: Tensor, bins: Tensor) -> Tensor:
    """Return the number of the nearest bin of ``[N, 2, ...]``, int64 ``[N, ...]``.

    By the grid that the bins lie on; a colour beside the gamut is compared with all of them.
    """
    flat = ab.movedim(1, -1).reshape(-1, 2)
    number = torch.full((GRID, GRID), -1, dtype=torch.int64, device=ab.device)
    at = (bins / STEP).round().long().to(ab.device) + GRID // 2
    number[at[:, 0], at[:, 1]] = torch.arange(len(bins), device=ab.device)
    place = ((flat / STEP).round().long() + GRID // 2).clamp(0, GRID - 1)
    found = number[place[:, 0], place[:, 1]]
    beside = found < 0
    found[beside] = torch.cdist(flat[beside], bins.to(flat)).argmin(1)
    return found.view(len(ab), *ab.shape[2:])
