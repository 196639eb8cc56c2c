"""Large batches in small memory: activations are forgotten and computed again.

The gradient of the whole batch in two passes (Gao et al. 2021, arXiv 2101.06983): the encoder runs
chunk by chunk and only the features stay; the loss sees all of them; on the way back every chunk
is computed once more. One graph, so it works under any strategy and with any method.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medssl.errors import UsageError
from medssl.models.volume_vit import VolumeViT


def in_chunks(net: nn.Module, images: Tensor, chunk: int) -> Tensor:
    """Return ``net(images)`` with the activations of one chunk in memory at a time.

    Args:
        net: its batch norm, if any, sees each chunk by itself.
        images: ``[N, C, ...]``.
        chunk: images at a time, at most; the parts are equal to within one.
    """
    many = -(-len(images) // chunk)
    return torch.cat([recomputed(net, net, part) for part in torch.tensor_split(images, many)])


def recomputed(net: nn.Module, forward: Callable[..., Any], *inputs: Any, **more: Any) -> Any:
    """Return ``forward(*inputs)``, keeping the inputs only; its statistics move once."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still(net)

    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **more)


@contextmanager
def _still(net: nn.Module) -> Iterator[None]:
    """Keep running statistics where they are while activations are computed again."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [m.momentum for m in norms]
    counts = [m.num_batches_tracked for m in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, before, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def forget_blocks(net: nn.Module, name: str) -> None:
    """Have every block of a network recomputed on the way back, in place; keys stay as they are.

    Raises:
        UsageError: the network has no sequence of blocks.
    """
    blocks = [
        block
        for child in (net.vit if isinstance(net, VolumeViT) else net).children()
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child)
        if any(True for _ in child.parameters())
        for block in child
        if any(True for _ in block.children())  # a stem of single layers works in place
    ]
    if not blocks:
        words = f"encoder {name} is not made of blocks; use chunk instead of checkpointing."
        raise UsageError(words, "E-ENCODER")
    for block in blocks:
        block.forward = functools.partial(_if_learning, block, block.forward)


def _if_learning(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **more: Any) -> Any:
    if torch.is_grad_enabled():
        return recomputed(block, forward, *inputs, **more)
    return forward(*inputs, **more)
