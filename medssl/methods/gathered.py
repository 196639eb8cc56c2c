"""One batch over all processes: every process sees all samples, and its gradient is exact."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)


class _Gather(torch.autograd.Function):
    """Concatenate over processes; the gradient of the own part, times their number.

    Every process computes the same loss of the same global batch, so the gradient of its own part
    is known at home. DistributedDataParallel then averages over W processes: times W makes the
    average a sum.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        count = torch.tensor([len(own)], device=own.device)
        counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
        dist.all_gather(counts, count)
        sizes = [int(c) for c in counts]
        ctx.begin, ctx.size = sum(sizes[: dist.get_rank()]), len(own)
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([p[:n] for p, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        own = grads[0][ctx.begin : ctx.begin + ctx.size]
        return own * dist.get_world_size()


def full(values: Tensor) -> Tensor:
    """Return half precision as float32, all else as it is."""
    return values.float() if values.dtype in HALVES else values


def gathered(own: Tensor) -> Tensor:
    """Return all processes' rows in the order of the ranks, ``[N_global, ...]``; alone, the rows.

    Args:
        own: the rows of this process, ``[N, ...]``; counts may differ between processes. What
            follows must be computed alike in every process from the whole result.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return own
    # gloo adds no bf16; what is half precision keeps its values in float32.
    kept = full(own)
    out: Tensor = _Gather.apply(kept)  # type: ignore[no-untyped-call]
    return out
