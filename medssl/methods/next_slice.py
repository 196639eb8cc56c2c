"""Next slice: paint a slice's neighbour (the still cousin of next-frame prediction, Mathieu et al. 2016)."""

from typing import Any

import torch
from torch import Tensor

from medssl.methods.base import Loss, Method, Picture, Seen
from medssl.methods.painting import decoder, edge_error, error
from medssl.methods.patches import skill
from medssl.models.encoder import Encoder


class NextSlice(Method):
    """The decoder paints the difference between a slice and its neighbour, in a drawn direction.

    Both are augmented alike, so that the change lies in the anatomy.
    """

    images, aligned = 2, True

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.decoder = decoder(encoder, encoder.channels, config.decoder_width)

    def loss(self, seen: Seen) -> Loss:
        """Return L1 plus the weighted error of edges; skill 0 is a copy of the slice."""
        now, later, told = self._answer(seen)
        plain = error(told, later, "l1")
        copied = error(now, later, "l1")
        total = plain + self.config.edges * edge_error(told, later)
        return Loss(total, {"skill": skill(plain.detach(), copied)})

    def _answer(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return slices, their neighbours and these as they are told."""
        now, later = seen.views[:, 0], seen.views[:, 1]
        return now, later, now + self.decoder(self.encoder(now))

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return slices, their neighbours and these as they were painted."""
        tiles = torch.stack([t.float() for t in self._answer(seen)], 1)
        figures = {k: float(v) for k, v in self.loss(seen).parts.items()}
        return Picture(("slice", "neighbour", "painted"), tiles, (), figures)
