"""What ends a training, each with its sentence: a bad number, no memory, a lost process, collapse."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from medssl.config import PretrainConfig
from medssl.errors import MedsslError, NumericalStopError, UsageError
from medssl.train.world import World

NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
COMPILERS = ("torch._dynamo", "torch._inductor")
LOST = ("gloo", "nccl", "connection closed by peer", "connection reset", "socket", "timed out")


def check_loss(value: float, step: int, rows: list[int]) -> None:
    """Stop before the update that a loss which is not a number would make.

    Raises:
        NumericalStopError: names the step and the first rows of the batch.
    """
    if math.isfinite(value):
        return
    words = (
        f"Step {step}: the loss is not a number (store rows {rows[:8]} ...). Stopped "
        "before the update; the last checkpoint is intact. Lower optim.lr or raise "
        "method.temperature, then --resume or start anew."
    )
    raise NumericalStopError(words, "E-NONFINITE")


def collapsed(problem: str, folder: Path, healthy: str | None) -> NumericalStopError:
    """Return the error of a collapse, which points to the last checkpoint before it."""
    where = f"The last healthy checkpoint is {folder / healthy}" if healthy else "None was healthy"
    words = (
        f"{problem} {where}. Start anew with a lower optim.lr or another method.temperature; "
        "watch.collapse=false goes on regardless."
    )
    return NumericalStopError(words, "E-COLLAPSE")


@contextmanager
def told_plainly(module: Any, config: PretrainConfig, world: World) -> Iterator[None]:
    """Turn what torch says of memory and of lost processes into sentences.

    Raises:
        MedsslError: E-OOM, E-RANK or E-COMPILE.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _no_memory(module, config, world) from error
    except Exception as error:
        if type(error).__module__.startswith(COMPILERS):
            words = (
                "The encoder cannot be compiled on this machine (torch.compile needs a C++ compiler "
                "or a GPU it supports); set compile=false."
            )
            raise UsageError(words, "E-COMPILE") from error
        text = str(error).lower() if isinstance(error, RuntimeError) else ""
        if any(part in text for part in NO_MEMORY):
            raise _no_memory(module, config, world) from error
        if world.size > 1 and any(part in text for part in LOST):
            words = (
                f"Process {world.rank} of {world.size}: another process stopped answering near step "
                f"{module.step}; all are ended. Go on from the last checkpoint with --resume, on any "
                "number of processes."
            )
            raise MedsslError(words, "E-RANK") from error
        raise


def _no_memory(module: Any, config: PretrainConfig, world: World) -> MedsslError:
    views = config.batch * module.method.images * module.method.views // world.size
    chunk = max(1, min(config.chunk or views, views) // 2)
    where = "GPU memory" if torch.cuda.is_available() else "memory"
    words = (
        f"Step {module.step}: out of {where} with {views} views of {config.decode.size} pixels at "
        f"once; no update was begun that is not whole. chunk={chunk} keeps the batch and its "
        "negatives in less memory; a smaller batch has fewer negatives. See --dry-run for what fits."
    )
    return MedsslError(words, "E-OOM")


def check_norm(config: PretrainConfig, world: World) -> None:
    """Refuse batch norm over CPU processes: torch cannot share its statistics there.

    Raises:
        UsageError: names the setting to change.
    """
    if world.size > 1 and config.encoder.norm == "batch" and not torch.cuda.is_available():
        words = (
            f"{world.size} CPU processes cannot share batch normalisation's statistics; set "
            "encoder.norm=group, or start one process."
        )
        raise UsageError(words, "E-NORM")
