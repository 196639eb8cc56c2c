"""VICReg: variance, invariance and covariance, each for itself (Bardes et al. 2022, arXiv 2105.04906)."""

from typing import Any

import torch
from lightly.loss import VICRegLoss

from medssl.methods.base import Loss, Seen
from medssl.methods.gathered import full
from medssl.methods.pairs import Pairs, each, everyones, spread
from medssl.models.encoder import Encoder
from medssl.models.heads import vicreg_projection

FLOOR = 1e-4


class VICReg(Pairs):
    """Views agree, every output varies over the batch, and outputs do not repeat each other."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = vicreg_projection(encoder.width, config.hidden, config.out)
        self.measure = VICRegLoss(
            lambda_param=config.invariance, mu_param=config.variance, nu_param=config.covariance,
            eps=FLOOR,
        )  # fmt: skip

    def loss(self, seen: Seen) -> Loss:
        """Return the weighted sum; equal outputs give the variance term's most."""
        z = each(self.head, everyones(self.encoder, seen))
        with torch.autocast(z.device.type, enabled=False):
            total = self.measure(full(z[:, 0]), full(z[:, 1]))
        equal = torch.full_like(total, self.config.variance * (1 - FLOOR**0.5))
        return Loss(total, {"z_std": spread(z.flatten(0, 1))}, equal.detach())
