"""Relative patch location: where does the second patch lie? (Doersch et al. 2015, arXiv 1505.05192)."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.methods.base import Loss, Method, Picture, Seen
from medssl.methods.classes import classified
from medssl.models.encoder import Encoder
from medssl.views.square import take

CELL = 1 / 3
COARSE = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
"""Sides that a down-sampled patch may have, shares of its own (the authors: 10 to 95 of 96 pixels)."""


class PatchLocation(Method):
    """A patch and one of its eight neighbours (26 in a volume), the features side by side.

    Against shortcuts: a gap between the cells, jitter inside them, some patches down-sampled, each
    with its own brightness and contrast, and of colours one channel kept. Patches are shares of the
    side, which a store brings to the same number of pixels whatever its millimetres; the letterbox,
    whose bars would tell the place, is cut away first.
    """

    squared = True

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        steps = itertools.product((-1, 0, 1), repeat=encoder.dims)
        where = [s for s in steps if any(s)]
        self.register_buffer("where", torch.tensor(where, dtype=torch.float32), persistent=False)
        self.where: Tensor
        hidden = config.hidden
        self.head = nn.Sequential(
            nn.Linear(2 * encoder.width, hidden), nn.ReLU(), nn.Linear(hidden, len(where))
        )

    def loss(self, seen: Seen) -> Loss:
        """Return the cross entropy of the place, and how often it is told."""
        _, place, told = self._answer(seen)
        return classified(told, place)

    def _answer(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pairs ``[B, 2, C, (D,) H, W]``, their places and the logits."""
        pairs, place = self.patches(seen)
        found = self.encoder(pairs.flatten(0, 1))
        return pairs, place, self.head(found.reshape(len(pairs), -1))

    def patches(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return pairs of patches ``[B, 2, C, (D,) H, W]`` and where the second lies, int64 ``[B]``."""
        images, dims = seen.views[:, 0], self.encoder.dims
        place = seen.choice(1, len(self.where))[:, 0]
        drawn = seen.uniform(1 + 2 * (dims + 5))[:, 1:].reshape(-1, 2, dims + 5)
        half = CELL * (1 - self.config.gap) * torch.ones(len(images), device=images.device)
        # Cells are thirds of the side; the jitter takes at most what the gap leaves free.
        free = 2 * CELL * self.config.gap / 2 * self.config.jitter
        steps = torch.stack([torch.zeros_like(self.where[place]), self.where[place]], 1)
        centre = 2 * CELL * steps + free * (2 * drawn[:, :, :dims] - 1)
        pairs = [take(images, centre[:, k].flip(1), half, self.encoder.size) for k in (0, 1)]
        return self._disguised(torch.stack(pairs, 1), drawn[:, :, dims:]), place

    def _disguised(self, pairs: Tensor, drawn: Tensor) -> Tensor:
        """Blur some patches, normalise each, change its tone, and keep one channel of colours."""
        flat, u = pairs.flatten(0, 1), drawn.flatten(0, 1)
        coarse = torch.where(
            u[:, 0] < self.config.downsampled, (u[:, 1] * len(COARSE)).long(), len(COARSE)
        )
        for number, share in enumerate(COARSE):
            here = coarse == number
            side = max(2, round(share * flat.shape[-1]))
            small = F.interpolate(flat[here], (side,) * (flat.ndim - 2), mode="area")
            flat[here] = F.interpolate(small, flat.shape[2:], mode="nearest")
        axes = tuple(range(1, flat.ndim))
        mean, spread = flat.mean(axes, keepdim=True), flat.std(axes, keepdim=True)
        flat = (flat - mean) / spread.clamp_min(1e-3)
        sign = (2 * u[:, 2:4] - 1).view(-1, 2, *(1,) * (flat.ndim - 1))
        flat = flat * (1 + self.config.tone * sign[:, 0]) + self.config.tone * sign[:, 1]
        if flat.shape[1] == 3:
            kept = (u[:, 4] * 3).long().clamp(max=2)
            only = torch.zeros(len(flat), 3, device=flat.device).scatter(1, kept[:, None], 1.0)
            flat = flat * only.view(-1, 3, *(1,) * (flat.ndim - 2))
        back: Tensor = flat.view(pairs.shape).to(pairs.dtype)
        return back

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return pictures, the middle patch and its neighbour, with the place and the answer."""
        pairs, place, told = self._answer(seen)
        pairs_ = zip(place.tolist(), told.argmax(1).tolist(), strict=True)
        words = tuple(f"lies {self.name(a)}, told {self.name(b)}" for a, b in pairs_)
        tiles = torch.cat([seen.views[:, :1], pairs], 1).float()
        figures = {
            "accuracy": float(self.loss(seen).parts["accuracy"]),
            "chance": 1 / len(self.where),
        }
        return Picture(("picture", "middle", "neighbour"), tiles, words, figures)

    def name(self, code: int) -> str:
        """Return a place in words."""
        steps = [int(s) for s in self.where[code]]
        named = [("above", "below"), ("left", "right")]
        named = ([("before", "behind")] if len(steps) == 3 else []) + named
        told = [names[s > 0] for names, s in zip(named, steps, strict=True) if s]
        return " ".join(told)
