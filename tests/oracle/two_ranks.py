"""Started by torchrun: every method's gradient and update, shared out over the processes.

Arguments: folder of the result. What one process does with the whole batch is the oracle.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1]))

import tasks
from torch.nn.parallel import DistributedDataParallel

BAG = [0, 0, 1, 2, 3, 3, 4]  # an odd batch: the processes hold 4 and 3 (or 3 and 4) samples
VOLUMES = {"simclr", "mae", "rotation", "context_encoder"}
CASES = [
    (name, dims, chunk)
    for name, dims in tasks.sensible()
    for chunk in ((None, 3) if name in {"simclr", "micle", "byol"} and dims == 2 else (None,))
    if dims == 2 or name in VOLUMES
]


class Wrapped(torch.nn.Module):
    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, seen):
        return self.method.loss(seen)


def make(name, dims, chunk):
    extra = {"loss": "joint"} if name == "context_encoder" else {}
    method = tasks.make(name, dims, norm="group", **extra).double()
    method.encoder.chunk = chunk
    return method


def batch(method):
    return tasks.batch(method, seed=1, bag=BAG, dtype=torch.float64)


def result(method, loss):
    """What a process knows after a step."""
    gradient = {k: p.grad for k, p in method.named_parameters() if p.grad is not None}
    method.after_step(0.3)
    return {
        "loss": loss.total.detach(),
        "parts": loss.parts,
        "gradient": gradient,
        "state": method.state_dict(),
    }


def main(folder):
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    edges = [round(len(BAG) * k / size) for k in range(size + 1)]
    own = slice(edges[rank], edges[rank + 1])
    for name, dims, chunk in CASES:
        method = make(name, dims, chunk)
        wide = DistributedDataParallel(Wrapped(method))  # it must live until the way back
        loss = wide(tasks.part(batch(method), own))
        loss.total.backward()
        torch.save(result(method, loss), folder / f"{name}-{dims}-{chunk}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
