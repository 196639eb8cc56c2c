"""Denoising: the clean picture from a spoilt one (Vincent et al. 2008); without noise, an autoencoder."""

from typing import Any

import torch
from torch import Tensor

from medssl.methods.base import Loss, Method, Picture, Seen
from medssl.methods.painting import decoder, error
from medssl.methods.patches import skill
from medssl.models.encoder import Encoder
from medssl.views.texture import cut, noise


class Denoising(Method):
    """All that the decoder knows of a picture is its features."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.decoder = decoder(encoder, encoder.channels, config.decoder_width)

    def loss(self, seen: Seen) -> Loss:
        """Return the mean error of all pixels, and the skill against painting each picture's mean."""
        clean, _, told = self._answer(seen)
        total = error(told, clean, self.config.error)
        axes = tuple(range(1, clean.ndim))
        flat = error(clean.mean(axes, keepdim=True).expand_as(clean), clean, self.config.error)
        return Loss(total, {"skill": skill(total.detach(), flat)})

    def _answer(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return clean pictures, spoilt ones and what is told of these."""
        clean = seen.views[:, 0]
        spoilt = clean.clone(memory_format=torch.contiguous_format)
        drawn = seen.uniform(4)
        spoilt = noise(spoilt, drawn[:, 0].to(clean.dtype) * self.config.noise, seen.key)
        if self.config.hole > 0:
            spoilt = cut(spoilt, drawn[:, 1] * self.config.hole, 2 * drawn[:, 2:] - 1)
        return clean, spoilt, self.decoder(self.encoder(spoilt))

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return clean, spoilt and painted pictures."""
        tiles = torch.stack([t.float() for t in self._answer(seen)], 1)
        figures = {k: float(v) for k, v in self.loss(seen).parts.items()}
        return Picture(("picture", "spoilt", "painted"), tiles, (), figures)
