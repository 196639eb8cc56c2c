"""DINO: a student's small views predict a slow teacher's large ones (Caron et al. 2021, arXiv 2104.14294)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.methods.base import Loss, Seen
from medssl.methods.gathered import full
from medssl.methods.pairs import Pairs, each, everyones
from medssl.methods.teacher import copy_of, follow_both, momentum
from medssl.models.encoder import Encoder
from medssl.models.heads import Prototypes


class DINO(Pairs):
    """Soft classes of a teacher, centred over batches and sharpened; large views and small ones."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.small_views, self.small_area = config.small_views, config.small_area
        self.head = Prototypes(encoder.width, config.hidden, config.bottleneck, config.out)
        self.slow, self.slow_head = copy_of(encoder), copy_of(self.head)
        self.register_buffer("centre", torch.zeros(config.out))
        self.centre: Tensor
        self.fresh: list[Tensor] = []

    def loss(self, seen: Seen) -> Loss:
        """Return the mean cross entropy over all pairs of a large view and another one."""
        with torch.no_grad():
            aim = full(each(self.slow_head, everyones(self.slow, seen)))
        asked = [each(self.head, everyones(self.encoder, seen))]
        if seen.small is not None:
            small = Seen(seen.small, seen.bag, seen.key)
            asked.append(each(self.head, everyones(self.encoder, small)))
        own = self.config
        total = cross_entropy(
            torch.cat(asked, 1), aim, self.centre, own.temperature, own.teacher_temperature
        )
        if self.training:
            self.fresh.append(aim.mean((0, 1)))
        equal = torch.full_like(total.detach(), math.log(own.out))
        sharp = F.softmax((aim - self.centre) / own.teacher_temperature, dim=2)
        entropy = -(sharp * sharp.clamp_min(1e-12).log()).sum(2).mean()
        return Loss(total, {"teacher_entropy": entropy}, equal)

    def encoders(self) -> list[Encoder]:
        """Return the encoder and its slow copy."""
        return [self.encoder, self.slow]

    def after_step(self, progress: float) -> None:
        """Move the teacher, ever more slowly, and the centre of its outputs."""
        follow_both(self, momentum(self.config.momentum, progress))
        for mean in self.fresh:
            self.centre.lerp_(mean.to(self.centre.dtype), 1 - self.config.centre_momentum)
        self.fresh.clear()


def cross_entropy(
    asked: Tensor, aim: Tensor, centre: Tensor, temperature: float, teacher_temperature: float
) -> Tensor:
    """Return the mean cross entropy of student and teacher over all pairs of different views.

    Args:
        asked: student's outputs ``[N, V, K]``, the large views first.
        aim: teacher's outputs of the large views, ``[N, 2, K]``.
        centre: of the teacher's outputs, ``[K]``.
        temperature, teacher_temperature: divide the two.
    """
    with torch.autocast(asked.device.type, enabled=False):
        told = F.log_softmax(full(asked) / temperature, dim=2)
        sharp = F.softmax((aim - centre) / teacher_temperature, dim=2)
        found = -torch.einsum("ntk,nvk->tv", sharp, told.to(sharp.dtype)) / len(asked)
    other = ~torch.eye(*found.shape, dtype=torch.bool, device=found.device)
    return found[other].mean()
