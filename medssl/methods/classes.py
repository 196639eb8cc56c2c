"""What tasks with an answer share: the cross entropy of a class, and how often it is told."""

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.methods.base import Loss
from medssl.methods.gathered import full, gathered


def classified(told: Tensor, truth: Tensor) -> Loss:
    """Return the mean cross entropy over all processes, and the accuracy.

    Args:
        told: logits ``[B, K]``.
        truth: class codes, int64 ``[B]``.
    """
    each = F.cross_entropy(full(told), truth, reduction="none")
    right = (told.argmax(1) == truth).to(each.dtype)
    total, share = gathered(torch.stack([each, right], 1)).mean(0)
    return Loss(total, {"accuracy": share.detach()})
