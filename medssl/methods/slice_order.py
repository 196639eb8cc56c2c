"""Slice order: do three slices follow one another? (the still cousin of Misra et al. 2016, arXiv 1603.08561)."""

from typing import Any

import torch
from torch import Tensor, nn

from medssl.methods.base import Loss, Method, Picture, Seen
from medssl.methods.classes import classified
from medssl.models.encoder import Encoder

ORDERS = torch.tensor(
    [[0, 1, 2], [2, 1, 0], [0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 0, 1]]
)
"""How three slices are laid out; the first half is in order, upwards or downwards."""


class SliceOrder(Method):
    """Three slices of one series, each augmented by itself: in order, or with the middle one outside.

    Without their own shifts and tones, the growth of the body's outline or a drift of gain would tell.
    """

    images = 3

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        hidden = config.hidden
        self.head = nn.Sequential(
            nn.Linear(3 * encoder.width, hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )

    def loss(self, seen: Seen) -> Loss:
        """Return the cross entropy of in order or not, and how often it is told."""
        _, sorted_, told = self._answer(seen)
        return classified(told, sorted_)

    def _answer(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return slices as laid out ``[B, 3, C, H, W]``, whether in order, and the logits."""
        code = seen.choice(1, len(ORDERS))[:, 0]
        order = ORDERS.to(code.device)[code]
        laid = seen.views[torch.arange(len(code), device=code.device)[:, None], order]
        found = self.encoder(laid.flatten(0, 1))
        return laid, (code < len(ORDERS) // 2).long(), self.head(found.reshape(len(laid), -1))

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return the slices as laid out, with the truth and the answer."""
        laid, sorted_, told = self._answer(seen)
        names = ("out of order", "in order")
        pairs = zip(sorted_.tolist(), told.argmax(1).tolist(), strict=True)
        words = tuple(f"{names[a]}, told {names[b]}" for a, b in pairs)
        figures = {"accuracy": float(self.loss(seen).parts["accuracy"]), "chance": 0.5}
        return Picture(("first", "second", "third"), laid.float(), words, figures)
