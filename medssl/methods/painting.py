"""What tasks that paint a whole picture share."""

import torch
from torch import Tensor

from medssl.methods.gathered import full, gathered
from medssl.models.decoders import PictureDecoder
from medssl.models.encoder import Encoder


def decoder(encoder: Encoder, out: int, inner: int) -> PictureDecoder:
    """Return a decoder from an encoder's features to pictures of its size."""
    return PictureDecoder(encoder.width, out, encoder.size, encoder.dims, inner)


def error(told: Tensor, truth: Tensor, kind: str, weight: Tensor | None = None) -> Tensor:
    """Return the mean error over all samples of all processes, scalar.

    Args:
        told, truth: ``[B, C, (D,) H, W]``.
        kind: ``l1`` or ``l2``.
        weight: of every pixel, broadcast to ``truth``; None: all alike.
    """
    apart = full(told) - full(truth)
    found = apart.abs() if kind == "l1" else apart.square()
    if weight is None:
        return gathered(found.flatten(1).mean(1)).mean()
    share = weight.to(found.dtype).expand_as(found).flatten(1)
    return gathered((found.flatten(1) * share).sum(1) / share.sum(1).clamp_min(1e-6)).mean()


def rises(pictures: Tensor) -> list[Tensor]:
    """Return the differences of neighbouring pixels along every axis of ``[B, C, (D,) H, W]``."""
    return [pictures.diff(dim=k) for k in range(2, pictures.ndim)]


def edge_error(told: Tensor, truth: Tensor) -> Tensor:
    """Return the mean absolute error of the differences of neighbours (Mathieu et al. 2016), scalar."""
    pairs = zip(rises(full(told)), rises(full(truth)), strict=True)
    found = torch.stack([(a.abs() - b.abs()).abs().flatten(1).mean(1) for a, b in pairs])
    return gathered(found.mean(0)).mean()
