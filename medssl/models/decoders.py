"""From features back to pictures, and a judge of pictures; for images and for volumes."""

import math
from typing import Any

import torch
from torch import Tensor, nn

FIRST = 4
"""Side at which a decoder begins."""
LEAST = 16
GROUPS = 8


def _conv(dims: int) -> Any:
    return nn.Conv2d if dims == 2 else nn.Conv3d


class PictureDecoder(nn.Module):
    """Features ``[N, width]`` to pictures ``[N, out, (D,) H, W]``, doubling the side from four on.

    Args:
        width: of the features.
        out: channels of the pictures.
        side: of the pictures; any.
        dims: 2 or 3.
        inner: channels at the start; each doubling halves them.
    """

    def __init__(self, width: int, out: int, side: int, dims: int, inner: int) -> None:
        super().__init__()
        self.dims, self.inner, self.side = dims, inner, side
        self.first = nn.Linear(width, inner * FIRST**dims)
        layers: list[nn.Module] = []
        at, channels = FIRST, inner
        while at < side:
            at = min(2 * at, side)
            fewer = max(LEAST, channels // 2)
            layers += [
                nn.Upsample(size=(at,) * dims, mode="nearest"),
                _conv(dims)(channels, fewer, 3, padding=1),
                nn.GroupNorm(math.gcd(GROUPS, fewer), fewer),
                nn.ReLU(),
            ]
            channels = fewer
        self.layers = nn.Sequential(*layers, _conv(dims)(channels, out, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """Map features to pictures."""
        small = self.first(features).unflatten(1, (self.inner, *(FIRST,) * self.dims))
        found: Tensor = self.layers(torch.relu(small))
        return found


class Judge(nn.Module):
    """Logit that a picture ``[N, C, (D,) H, W]`` is real, ``[N]``."""

    def __init__(self, channels: int, dims: int, inner: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k in range(3):
            wider = inner * 2**k
            layers += [
                _conv(dims)(channels, wider, 4, stride=2, padding=1),
                nn.GroupNorm(GROUPS, wider) if k else nn.Identity(),
                nn.LeakyReLU(0.2),
            ]
            channels = wider
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(channels, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures to logits."""
        found: Tensor = self.last(self.layers(pictures).flatten(2).mean(2))[:, 0]
        return found
