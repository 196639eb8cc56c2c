"""Started by torchrun: one method's gradient and update, shared out over the processes.

Arguments: folder of the result. What one process does with the whole batch is the oracle.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from medssl.config import EncoderConfig, PretrainConfig
from medssl.loading import validate
from medssl.methods import METHODS, build_method
from medssl.models.encoder import build

BATCH, SIDE = 7, (40, 32)  # an odd batch: the processes hold 4 and 3 (or 3 and 4) samples
BAG = [0, 0, 1, 2, 3, 3, 4]


class Wrapped(torch.nn.Module):
    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, views, bag):
        return self.method.loss(views, bag)


def make(name, chunk):
    encoder = build(EncoderConfig(name="resnet10t", norm="group"), 32, whole=False, seed=0)
    encoder.chunk = chunk
    tree = {"method": {"name": name, "hidden": 16, "out": 8}}
    return build_method(validate(PretrainConfig, tree, "t").method, encoder, 0).double()


def batch(method):
    stream = torch.Generator().manual_seed(1)
    views = torch.rand(
        BATCH, method.images * method.views, 1, *SIDE, generator=stream, dtype=torch.float64
    )
    return views, torch.tensor(BAG)


def result(method, loss):
    return {
        "loss": loss.total.detach(),
        "z_std": loss.parts["z_std"],
        "gradient": {k: p.grad for k, p in method.named_parameters()},
        "buffers": dict(method.named_buffers()),
    }


def main(folder):
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    edges = [round(BATCH * k / size) for k in range(size + 1)]
    own = slice(edges[rank], edges[rank + 1])
    for name in sorted(METHODS):
        for chunk in (None, 3):
            method = make(name, chunk)
            views, bag = batch(method)
            wide = DistributedDataParallel(Wrapped(method))  # it must live until the way back
            loss = wide(views[own], bag[own])
            loss.total.backward()
            torch.save(result(method, loss), folder / f"{name}-{chunk}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
