"""Colourisation: the colours of a grey picture (Zhang et al. 2016, arXiv 1603.08511)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.errors import UsageError
from medssl.methods.base import Loss, Method, Picture, Seen
from medssl.methods.gathered import full, gathered
from medssl.methods.lab import gamut, nearest, to_colours, to_lab
from medssl.models.decoders import PictureDecoder
from medssl.models.encoder import Encoder

UNIFORM = 0.5
"""Share of the uniform distribution in the weights of rare colours (the paper's lambda)."""
MEMORY = 0.99
SHARE, LEAST = 0.25, 8
"""Side of what is coloured, share of the picture's (the paper: 56 of 224 pixels), and at least."""


class Colourisation(Method):
    """Each pixel's bin of a and b, rare colours weighing more; the network sees lightness alone."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if encoder.channels != 3:
            words = (
                "colourisation needs colours, and these pictures are grey. Decode with colour=rgb."
            )
            raise UsageError(words, "E-METHOD")
        self.register_buffer("bins", gamut(), persistent=False)
        self.bins: Tensor
        many = len(self.bins)
        self.register_buffer("share", torch.full((many,), 1 / many))
        self.share: Tensor
        self.fresh: list[Tensor] = []
        side = max(LEAST, round(SHARE * encoder.size))
        self.decoder = PictureDecoder(encoder.width, many, side, encoder.dims, config.decoder_width)

    def loss(self, seen: Seen) -> Loss:
        """Return the weighted cross entropy of the bins; ``commonest``: the share of one bin for all."""
        _, truth, told = self._answer(seen)
        weight = rare(self.share, self.config.rebalance)[truth]
        with torch.autocast(told.device.type, enabled=False):
            found = F.cross_entropy(full(told), truth, reduction="none")
        sums = [t.flatten(1).mean(1) for t in (found * weight, weight)]
        right = (told.argmax(1) == truth).float().flatten(1).mean(1)
        total, counted, share = gathered(torch.stack([*sums, right], 1)).mean(0)
        here = gathered(counts(truth, len(self.share)).to(found.dtype)).mean(0)
        if self.training:
            self.fresh.append(here.detach())
        parts = {"accuracy": share.detach(), "commonest": here.max().detach()}
        return Loss(total / counted, parts)

    def after_step(self, progress: float) -> None:
        """Learn how common each bin is."""
        del progress
        for seen in self.fresh:
            self.share.lerp_(seen.to(self.share.dtype), 1 - MEMORY)
        self.fresh.clear()

    def _answer(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return L, a, b of the pictures, the true bins ``[B, h, w]`` and logits ``[B, Q, h, w]``."""
        images, (mean, std) = seen.views[:, 0], seen.scale
        with torch.autocast(images.device.type, enabled=False):
            colours = (images.float() * std + mean).clamp(0, 1)
            lab = to_lab(colours)
            few = F.interpolate(colours, (self.decoder.side,) * 2, mode="area")
            truth = nearest(to_lab(few)[:, 1:], self.bins)
        grey = (lab[:, :1] / 100 - mean) / std
        told = self.decoder(self.encoder(grey.to(images.dtype).expand(-1, 3, -1, -1)))
        return lab, truth, told

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return pictures, their lightness, and that with the likeliest colours."""
        lab, _, told = self._answer(seen)
        mean, std = seen.scale
        ab = F.interpolate(self.bins[told.argmax(1)].movedim(-1, 1), lab.shape[2:], mode="nearest")
        grey = (lab[:, :1] / 100).expand(-1, 3, -1, -1)
        painted = (to_colours(torch.cat([lab[:, :1], ab], 1)) - mean) / std
        tiles = [seen.views[:, 0].float(), (grey - mean) / std, painted]
        figures = {k: float(v) for k, v in self.loss(seen).parts.items()}
        return Picture(("picture", "lightness", "coloured"), torch.stack(tiles, 1), (), figures)


def counts(codes: Tensor, many: int) -> Tensor:
    """Return each sample's share of every code, ``[N, many]``, of codes ``[N, ...]``."""
    flat = codes.flatten(1)
    place = flat + many * torch.arange(len(flat), device=flat.device)[:, None]
    found = torch.bincount(place.flatten(), minlength=many * len(flat))
    return found.view(len(flat), many) / flat.shape[1]


def rare(share: Tensor, rebalance: float) -> Tensor:
    """Return weights of bins by how rare they are, of expectation 1.

    Args:
        share: of each bin, ``[Q]``.
        rebalance: 0: all alike; 1: the paper's, the inverse of the share mixed half and half with the
            uniform distribution.
    """
    mixed = (1 - UNIFORM) * share + UNIFORM / len(share)
    weight = (1 / mixed) ** rebalance
    return weight / (weight * share).sum()
