"""Barlow Twins: the cross-correlation of two views is the identity (Zbontar et al. 2021, arXiv 2103.03230)."""

from typing import Any

import torch
from lightly.loss import BarlowTwinsLoss

from medssl.methods.base import Loss, Seen
from medssl.methods.gathered import full
from medssl.methods.pairs import Pairs, each, everyones, spread
from medssl.models.encoder import Encoder
from medssl.models.heads import barlow_projection


class BarlowTwins(Pairs):
    """Every output agrees between the views, and no two outputs say the same."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = barlow_projection(encoder.width, config.hidden, config.out)
        # The features are those of all processes already.
        self.measure = BarlowTwinsLoss(lambda_param=config.redundancy, gather_distributed=False)

    def loss(self, seen: Seen) -> Loss:
        """Return the sum over the cross-correlation; equal outputs give their number."""
        z = each(self.head, everyones(self.encoder, seen))
        with torch.autocast(z.device.type, enabled=False):
            total = self.measure(full(z[:, 0]), full(z[:, 1]))
        equal = torch.full_like(total, float(z.shape[2]))
        return Loss(total, {"z_std": spread(z.flatten(0, 1))}, equal.detach())
