"""MoCo v2: contrast with a queue of a slow encoder's keys (Chen et al. 2020, arXiv 2003.04297)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.methods.base import Loss, Seen
from medssl.methods.gathered import full, gathered
from medssl.methods.pairs import Pairs, each, everyones, spread
from medssl.methods.teacher import copy_of, follow_both
from medssl.models.encoder import Encoder
from medssl.models.heads import moco_projection

NOBODY = -1
"""Patient code of an empty place in the queue."""


class MoCoV2(Pairs):
    """Contrast of each view with the other one's key, against the keys of earlier batches.

    A key of the anchor's own patient is no negative, and an empty place of the queue is no key.
    """

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = moco_projection(encoder.width, config.hidden, config.out, layers=2)
        self.slow, self.slow_head = copy_of(encoder), copy_of(self.head)
        self.register_buffer("queue", torch.zeros(config.queue, config.out))
        self.register_buffer("queue_bag", torch.full((config.queue,), NOBODY))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.queue: Tensor
        self.queue_bag: Tensor
        self.place: Tensor
        self.fresh: list[tuple[Tensor, Tensor]] = []

    def loss(self, seen: Seen) -> Loss:
        """Return InfoNCE of both views."""
        q = F.normalize(full(each(self.head, everyones(self.encoder, seen))), dim=2)
        with torch.no_grad():
            k, bag = gathered(self._keys(seen)), gathered(seen.bag)
        q, k = torch.cat([q[:, 0], q[:, 1]]), torch.cat([k[:, 1], k[:, 0]])
        total, candidates = info_nce(
            q, k, torch.cat([bag, bag]), self.queue, self.queue_bag, self.config
        )
        if self.training:
            self.fresh.append((k[: len(bag)], bag))
        filled = (self.queue_bag != NOBODY).float().mean()
        return Loss(total, {"z_std": spread(q), "queue_filled": filled}, candidates)

    def _keys(self, seen: Seen) -> Tensor:
        """Return keys of length one, ``[B, 2, out]``.

        In two halves of a shuffled batch: the queries' statistics of a batch norm would otherwise
        be the keys' as well, and tell which key is whose.
        """
        order = seen.uniform(1)[:, 0].argsort()
        halves = order.chunk(2) if len(order) > 3 else (order,)
        found = torch.cat([self.slow(seen.views[half].flatten(0, 1)) for half in halves])
        features = found.reshape(*seen.views.shape[:2], -1)[order.argsort()]
        return F.normalize(full(each(self.slow_head, features)), dim=2)

    def after_step(self, progress: float) -> None:
        """Move the slow encoder, and put the newest keys into the queue over the oldest."""
        del progress
        follow_both(self, self.config.momentum)
        for every, codes in self.fresh:
            keys, bag = every[-len(self.queue) :], codes[-len(self.queue) :]
            where = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
            self.queue[where], self.queue_bag[where] = keys.to(self.queue.dtype), bag
            self.place.copy_((self.place + len(keys)) % len(self.queue))
        self.fresh.clear()


def info_nce(
    q: Tensor, k: Tensor, bag: Tensor, queue: Tensor, owner: Tensor, config: Any
) -> tuple[Tensor, Tensor]:
    """Return InfoNCE, and what it is when every output is the same.

    Args:
        q, k: queries and their keys of length one, ``[N, d]``.
        bag: patient codes of the queries, int64 ``[N]``.
        queue: earlier keys, ``[K, d]``.
        owner: their patients, int64 ``[K]``; -1 where there is none yet.
        config: with ``temperature`` and ``mask_same_patient``.
    """
    hidden = (owner == NOBODY)[None, :].expand(len(q), -1)
    if config.mask_same_patient:
        hidden = hidden | (owner[None, :] == bag[:, None])
    with torch.autocast(q.device.type, enabled=False):
        negative = (q @ queue.to(q.dtype).T).masked_fill(hidden, float("-inf"))
        logits = torch.cat([(q * k).sum(1, keepdim=True), negative], 1) / config.temperature
        total = F.cross_entropy(logits, torch.zeros_like(bag))
    return total, (1 + (~hidden).sum(1)).float().log().mean()
