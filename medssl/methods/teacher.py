"""A slowly moving copy of a network, and how slowly."""

import copy
import math
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T", bound=nn.Module)


def copy_of(module: T) -> T:
    """Return a copy that no gradient changes."""
    twin = copy.deepcopy(module)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin


def momentum(start: float, progress: float) -> float:
    """Return the share of the old weights, from ``start`` to 1 along a cosine (Grill et al. 2020).

    Args:
        start: at the beginning.
        progress: of the training, in [0, 1].
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, share: float) -> None:
    """Move the teacher's weights to ``share`` of the old ones plus the rest of the student's.

    Buffers are the teacher's own: its batch norm sees its own activations.
    """
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.lerp_(new.detach().to(old.dtype), 1 - share)


def follow_both(method: Any, share: float) -> None:
    """Move a method's slow encoder and its slow head; see ``follow``."""
    follow(method.slow, method.encoder, share)
    follow(method.slow_head, method.head, share)
