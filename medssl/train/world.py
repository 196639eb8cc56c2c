"""Which processes train together: read from torchrun's or SLURM's environment, never asked for."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from medssl.errors import UsageError

PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class World:
    """The processes of one training.

    Attributes:
        rank: number of this process, from 0.
        size: processes in all.
        local: processes on this machine.
        local_rank: number of this process on this machine.
        launcher: ``alone``, ``torchrun`` or ``slurm``.
    """

    rank: int = 0
    size: int = 1
    local: int = 1
    local_rank: int = 0
    launcher: str = "alone"

    @property
    def first(self) -> bool:
        """Return whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Return the number of machines."""
        return max(1, self.size // self.local)


def environment() -> Any:
    """Return Lightning's view of the launcher; None when this process was started alone."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    with warnings.catch_warnings():
        # It warns where srun is installed and not used, which is a choice and no mistake.
        warnings.simplefilter("ignore")
        found = SLURMEnvironment.detect()
    # The batch script requeues by the exit code; Lightning's own handlers would save on top.
    return SLURMEnvironment(auto_requeue=False) if found else None


def find() -> World:
    """Return the world that the environment describes.

    Raises:
        UsageError: the processes are spread unevenly over the machines.
    """
    seen = environment()
    if seen is None or seen.world_size() == 1:
        return World()
    size, launcher = seen.world_size(), "torchrun"
    if isinstance(seen, SLURMEnvironment):
        launcher = "slurm"
        local = size // int(os.environ.get("SLURM_NNODES", "1"))
    else:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if local < 1 or size % local:
        words = (
            f"{size} processes are spread unevenly ({local} here); start equally many on every "
            "machine (SLURM: --ntasks-per-node; torchrun: --nproc-per-node)."
        )
        raise UsageError(words, "E-RANKS")
    return World(seen.global_rank(), size, local, seen.local_rank(), launcher)


@contextmanager
def joined(world: World) -> Iterator[None]:
    """Hold the connection between the processes: NCCL on GPUs, gloo on CPUs; nothing when alone.

    One that is held already is left to who made it: a launcher's meeting place serves once.
    """
    if world.size == 1 or dist.is_initialized():
        yield
        return
    launcher = environment()
    os.environ["MASTER_ADDR"] = launcher.main_address
    os.environ["MASTER_PORT"] = str(launcher.main_port)
    if torch.cuda.is_available():
        torch.cuda.set_device(world.local_rank)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, rank=world.rank, world_size=world.size, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def together(world: World) -> None:
    """Wait until every process is here."""
    if world.size > 1:
        dist.barrier()


def told(world: World, value: Any) -> Any:
    """Return the first process's value in every process; plain data only."""
    if world.size == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def anyone(world: World, flag: int, device: torch.device) -> int:
    """Return the largest flag of all processes, so that they decide alike."""
    if world.size == 1:
        return flag
    held = torch.tensor([flag], device=device)
    dist.all_reduce(held, op=dist.ReduceOp.MAX)
    return int(held.item())
