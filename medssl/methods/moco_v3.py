"""MoCo v3: contrast with a slow encoder's keys of the same batch (Chen et al. 2021, arXiv 2104.02057)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.methods.base import Loss, Seen
from medssl.methods.gathered import full, gathered
from medssl.methods.pairs import Pairs, each, everyones, spread
from medssl.methods.teacher import copy_of, follow_both, momentum
from medssl.models.encoder import Encoder
from medssl.models.heads import moco_projection, prediction


class MoCoV3(Pairs):
    """Contrast of each view's prediction with the keys of the other views in the batch."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = moco_projection(encoder.width, config.hidden, config.out, layers=3)
        self.prediction = prediction(config.out, config.hidden)
        self.slow, self.slow_head = copy_of(encoder), copy_of(self.head)

    def loss(self, seen: Seen) -> Loss:
        """Return the symmetric cross entropy of queries and keys, times twice the temperature."""
        with torch.no_grad():
            k = each(self.slow_head, everyones(self.slow, seen))
        bag, z = gathered(seen.bag), each(self.head, everyones(self.encoder, seen))
        q, mask = each(self.prediction, z), self.config.mask_same_patient
        hidden = hidden_keys(bag, mask=mask)
        total = sum(
            (keyed(q[:, a], k[:, b], hidden, self.config.temperature) for a, b in ((0, 1), (1, 0))),
            torch.zeros((), device=bag.device),
        )
        equal = 4 * self.config.temperature * (~hidden).sum(1).float().log().mean()
        return Loss(total, {"z_std": spread(z.flatten(0, 1))}, equal)

    def encoders(self) -> list[Encoder]:
        """Return the encoder and its slow copy."""
        return [self.encoder, self.slow]

    def after_step(self, progress: float) -> None:
        """Move the slow encoder, ever more slowly."""
        follow_both(self, momentum(self.config.momentum, progress))


def hidden_keys(bag: Tensor, *, mask: bool) -> Tensor:
    """Return which keys are no candidates, bool ``[N, N]``: other samples of the own patient."""
    own = torch.eye(len(bag), dtype=torch.bool, device=bag.device)
    return (bag[:, None] == bag[None, :]) & ~own if mask else torch.zeros_like(own)


def keyed(q: Tensor, k: Tensor, hidden: Tensor, temperature: float) -> Tensor:
    """Return 2 t times the cross entropy of row i of ``q [N, d]`` finding row i of ``k [N, d]``."""
    with torch.autocast(q.device.type, enabled=False):
        q, k = F.normalize(full(q), dim=1), F.normalize(full(k), dim=1)
        logits = (q @ k.T / temperature).masked_fill(hidden, float("-inf"))
        own = torch.arange(len(q), device=q.device)
        return 2 * temperature * F.cross_entropy(logits, own)
