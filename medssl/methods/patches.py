"""What tasks on patches share: their targets, and which of them hold nothing."""

import torch
from torch import Tensor

from medssl.methods.gathered import full

FLAT = 1e-6


def targets(patches: Tensor, *, norm: bool) -> Tensor:
    """Return what is to be predicted of patches ``[N, L, P]``: each normalised, or as it is.

    A patch's own mean and variance (He et al. 2022, section 4.1).
    """
    patches = full(patches)
    if not norm:
        return patches
    mean = patches.mean(2, keepdim=True)
    variance = patches.var(2, keepdim=True, unbiased=False)
    return (patches - mean) / (variance + FLAT) ** 0.5


def pictured(patches: Tensor, like: Tensor, *, norm: bool) -> Tensor:
    """Return predictions as pixels: the reverse of ``targets``, by the true mean and variance."""
    if not norm:
        return patches
    like = full(like)
    variance = like.var(2, keepdim=True, unbiased=False)
    return patches * (variance + FLAT) ** 0.5 + like.mean(2, keepdim=True)


def empty(patches: Tensor) -> Tensor:
    """Return which patches ``[N, L, P]`` hold one value only: letterbox, black border; bool ``[N, L]``."""
    return (patches.amax(2) - patches.amin(2)) < FLAT


def per_sample(error: Tensor, counted: Tensor) -> Tensor:
    """Return each sample's mean error over the patches that count, ``[N]``; 0 where none does."""
    weight = counted.to(error.dtype)
    return (error * weight).sum(1) / weight.sum(1).clamp_min(1)


def skill(error: Tensor, plain: Tensor) -> Tensor:
    """Return 1 - error / error of a plain guess: 1 is perfect, 0 no better; scalars."""
    return 1 - error / plain.clamp_min(torch.finfo(plain.dtype).tiny)
