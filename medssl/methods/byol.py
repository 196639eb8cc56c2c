"""BYOL: predict a slow encoder's projection of the other view (Grill et al. 2020, arXiv 2006.07733)."""

from typing import Any

import torch

from medssl.methods.base import Loss, Seen
from medssl.methods.pairs import Pairs, each, everyones, negative_cosine, spread
from medssl.methods.teacher import copy_of, follow_both, momentum
from medssl.models.encoder import Encoder
from medssl.models.heads import byol_projection, prediction


class BYOL(Pairs):
    """No negatives: the predictor and the slow encoder keep the outputs apart."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = byol_projection(encoder.width, config.hidden, config.out)
        self.prediction = prediction(config.out, config.hidden)
        self.slow, self.slow_head = copy_of(encoder), copy_of(self.head)

    def loss(self, seen: Seen) -> Loss:
        """Return the mean negative cosine of both directions, -1 at best."""
        with torch.no_grad():
            aim = each(self.slow_head, everyones(self.slow, seen))
        z = each(self.head, everyones(self.encoder, seen))
        p = each(self.prediction, z)
        total = (negative_cosine(p[:, 0], aim[:, 1]) + negative_cosine(p[:, 1], aim[:, 0])) / 2
        return Loss(total, {"z_std": spread(z.flatten(0, 1))})

    def encoders(self) -> list[Encoder]:
        """Return the encoder and its slow copy."""
        return [self.encoder, self.slow]

    def after_step(self, progress: float) -> None:
        """Move the slow encoder, ever more slowly."""
        follow_both(self, momentum(self.config.momentum, progress))
