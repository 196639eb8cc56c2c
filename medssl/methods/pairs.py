"""Tasks that compare two views: of one image, or of two images of one patient (MICLe's draw)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.methods.base import Method, Picture, Seen
from medssl.methods.gathered import full, gathered
from medssl.models.encoder import Encoder


class Pairs(Method):
    """Two views per sample; ``config.images`` says of how many images."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.images = int(config.images)
        self.views = 2 if self.images == 1 else 1

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return the pairs with their likeness, and how often a view finds its partner first."""
        features = features_of(self.encoder, seen)
        first, second = (F.normalize(features[:, k].float(), dim=1) for k in (0, 1))
        likeness = first @ second.T
        hit = likeness.argmax(1) == torch.arange(len(first), device=first.device)
        told = tuple(f"cosine of the features {v:.2f}" for v in likeness.diag().tolist())
        names = ("one view", "another view") if self.images == 1 else ("one image", "another image")
        tiles = seen.views[:, :2]
        return Picture(names, tiles, told, {"partner_first": float(hit.float().mean())})


def features_of(encoder: nn.Module, seen: Seen) -> Tensor:
    """Return the features of every view of this process, ``[B, K, width]``."""
    found: Tensor = encoder(seen.views.flatten(0, 1))
    return found.reshape(*seen.views.shape[:2], -1)


def everyones(encoder: nn.Module, seen: Seen) -> Tensor:
    """Return the features of every view of all processes, ``[N, K, width]``.

    What follows, such as a head's batch norm, sees the batch of all processes.
    """
    return gathered(features_of(encoder, seen))


def each(head: nn.Module, features: Tensor) -> Tensor:
    """Return a head's outputs ``[N, K, d]`` of features ``[N, K, width]``, all seen together."""
    found: Tensor = head(features.flatten(0, 1))
    return found.reshape(*features.shape[:2], -1)


def spread(z: Tensor) -> Tensor:
    """Return the mean deviation of outputs of length one, ``[N, d]``; healthy near 1/sqrt(d)."""
    return F.normalize(z.detach().float(), dim=1).std(0).mean()


def negative_cosine(asked: Tensor, aim: Tensor) -> Tensor:
    """Return the mean negative cosine of ``[N, d]`` and ``[N, d]``; no gradient to the aim."""
    return -F.cosine_similarity(full(asked), full(aim.detach()), dim=1).mean()
