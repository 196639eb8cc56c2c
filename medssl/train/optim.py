"""Optimisers, groups and schedules."""

import math
from collections.abc import Callable
from typing import Any

import torch
from lightly.utils.lars import LARS
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from medssl.config import OptimConfig
from medssl.errors import NumericalStopError
from medssl.methods.base import Method

REFERENCE_BATCH = 256
UNDECAYED = ("cls_token", "pos_embed", "reg_token", "position_embeddings", "mask_token")


def groups(
    module: nn.Module, weight_decay: float, chosen: Callable[[str], bool] = bool
) -> list[dict[str, Any]]:
    """Return parameter groups: biases, norms and ViT tokens are not decayed.

    Args:
        module: whose parameters with a gradient are grouped.
        weight_decay: of the first group.
        chosen: takes a parameter by its name.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad or not chosen(name):
            continue
        plain = parameter.ndim <= 1 or any(name.endswith(token) for token in UNDECAYED)
        (free if plain else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def peak(config: OptimConfig, batch: int) -> float:
    """Return the peak learning rate at a batch size."""
    ratio = batch / REFERENCE_BATCH
    return config.lr * {"none": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}[config.lr_scaling]


def build(config: OptimConfig, module: Method, batch: int) -> Optimizer:
    """Build the optimiser that the settings name."""
    lr = peak(config, batch)
    pace = module.pace
    parts = []
    for factor in sorted({pace(n) for n, _ in module.named_parameters()}, reverse=True):
        chosen = {n for n, _ in module.named_parameters() if pace(n) == factor}
        held = groups(module, config.weight_decay, chosen.__contains__)
        parts += [{**group, "lr": factor * lr} for group in held]
    if config.name == "adamw":
        return torch.optim.AdamW(parts, lr=lr, fused=True)
    if config.name == "sgd":
        return torch.optim.SGD(parts, lr=lr, momentum=0.9, nesterov=True, fused=True)
    return LARS(parts, lr=lr, momentum=0.9)  # type: ignore[no-any-return]


def factor(step: int, total: int, warmup: float) -> float:
    """Return the share of the peak at a step: linear rise, then cosine to zero."""
    rise = max(1, round(warmup * total)) if warmup > 0 else 0
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise))))


def schedule(optimizer: Optimizer, total: int, warmup: float) -> LambdaLR:
    """Attach the schedule, stepped once per optimiser step."""
    return LambdaLR(optimizer, lambda step: factor(step, total, warmup))


def check_gradients(module: nn.Module, where: str) -> None:
    """Stop before an update that would write what is not a number.

    Raises:
        NumericalStopError: the norm of all gradients is not finite; names the first parameter.
    """
    named = [(n, p.grad) for n, p in module.named_parameters() if p.grad is not None]
    if bool(torch.isfinite(torch.nn.utils.get_total_norm([g for _, g in named]))):
        return
    bad = [n for n, g in named if not bool(torch.isfinite(g).all())]
    words = (
        f"{where}: the gradient of {bad[0] if bad else 'all weights together'} is not a number "
        "(the loss is). Stopped before the update; the last checkpoint is intact. Lower the "
        "learning rate, or use precision=32."
    )
    raise NumericalStopError(words, "E-NONFINITE")
