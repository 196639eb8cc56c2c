"""Rotation: by which quarter turns was the picture turned? (Gidaris et al. 2018, arXiv 1803.07728)."""

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from medssl.methods.base import Loss, Method, Picture, Seen
from medssl.methods.classes import classified
from medssl.models.encoder import Encoder


class Rotation(Method):
    """Four classes of images; of volumes ten: as it is, and three turns in each of three planes.

    The square inside the letterbox alone is shown: the place of the bars would give the answer.
    """

    squared = True

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        planes = list(itertools.combinations(range(2, 2 + encoder.dims), 2))
        self.turns = [(0, planes[0])] + [(k, plane) for plane in planes for k in (1, 2, 3)]
        self.head = nn.Linear(encoder.width, len(self.turns))

    def loss(self, seen: Seen) -> Loss:
        """Return the cross entropy of the turn, and how often it is told."""
        _, turn, told = self._answer(seen)
        return classified(told, turn)

    def _answer(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return turned pictures, their turns and the logits."""
        turn = seen.choice(1, len(self.turns))[:, 0]
        square = seen.views[:, 0]
        turned = torch.empty_like(square)
        for code, (quarter, plane) in enumerate(self.turns):
            here = turn == code
            turned[here] = torch.rot90(square[here], quarter, plane)
        return turned, turn, self.head(self.encoder(turned))

    def name(self, code: int) -> str:
        """Return a turn in words."""
        quarter, plane = self.turns[code]
        if self.encoder.dims == 2 or quarter == 0:
            return f"{90 * quarter} degrees"
        axes = {2: "z", 3: "y", 4: "x"}
        return f"{90 * quarter} degrees in {axes[plane[0]]}{axes[plane[1]]}"

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return pictures before and after the turn, with the turn and the answer."""
        turned, turn, told = self._answer(seen)
        pairs = zip(turn.tolist(), told.argmax(1).tolist(), strict=True)
        words = tuple(f"turned by {self.name(a)}, told {self.name(b)}" for a, b in pairs)
        tiles = torch.stack([seen.views[:, 0], turned], 1).float()
        figures = {
            "accuracy": float(self.loss(seen).parts["accuracy"]),
            "chance": 1 / len(self.turns),
        }
        return Picture(("picture", "turned"), tiles, words, figures)
