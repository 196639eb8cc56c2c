"""What ends a training, each with its sentence: a bad number, no memory, a lost process, collapse."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medssl.config import PretrainConfig
from medssl.errors import MedsslError, NumericalStopError, UsageError
from medssl.methods.base import Method
from medssl.train.world import World

NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "alloc_failed",
)
COMPILERS = ("torch._dynamo", "torch._inductor")
LOST = ("gloo", "nccl", "connection closed by peer", "connection reset", "socket", "timed out")


@torch.no_grad()
def no_number(method: Method, views: Tensor, row: Tensor, step: int) -> NumericalStopError:
    """Return the error of a loss that is not a number, with the rows that make it so.

    Args:
        method: asked once more, without batch statistics, which pictures it has no features for.
        views: of the batch, ``[B, K, C, ...]``.
        row: rows of the store, int64 ``[B, I]``.
        step: about to be taken.
    """
    encoder = method.encoder
    was = encoder.training
    features = encoder.eval()(views.flatten(0, 1)).float().unflatten(0, views.shape[:2])
    encoder.train(was)
    bad = [~torch.isfinite(x).flatten(1).all(1).cpu() for x in (views, features)]
    which = bad[0] if bad[0].any() else bad[1]
    rows = sorted(set(row[which].flatten().tolist()))
    if not rows:
        cause = f"no picture of it alone is to blame. {_remedy(method)}"
    else:
        shown = ", ".join(str(r) for r in rows[:8]) + (" ..." if len(rows) > 8 else "")
        part = "augmented pixels" if bad[0].any() else "features"
        cause = f"{len(rows)} store rows have {part} that are no numbers ({shown})"
        cause += ". Look at them with medssl check" if bad[0].any() else ". Lower optim.lr"
    words = (
        f"Step {step}: the loss of a batch of {row.numel()} pictures is not a number; {cause}, then "
        "--resume or start anew. Stopped before the update; the last checkpoint is intact."
    )
    return NumericalStopError(words, "E-NONFINITE")


def _remedy(method: Method) -> str:
    warm = hasattr(method.config, "temperature")
    return "Lower optim.lr" + (" or raise method.temperature" if warm else "")


def collapsed(problem: str, folder: Path, healthy: str | None) -> NumericalStopError:
    """Return the error of a collapse, which points to the last checkpoint before it."""
    where = f"The last healthy checkpoint is {folder / healthy}" if healthy else "None was healthy"
    words = (
        f"{problem} {where}. Start anew with a lower optim.lr or other method settings; "
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


def check_world(config: PretrainConfig, world: World) -> None:
    """Refuse what several processes cannot do: batch norm on CPUs, a process without a sample.

    Raises:
        UsageError: names the setting to change.
    """
    if config.batch < 2 * world.size:
        words = (
            f"batch={config.batch} leaves some of {world.size} processes less than two samples; raise "
            "batch, or start fewer processes."
        )
        raise UsageError(words, "E-RANKS")
    if world.size > 1 and config.encoder.norm == "batch" and not torch.cuda.is_available():
        words = (
            f"{world.size} CPU processes cannot share batch normalisation's statistics; set "
            "encoder.norm=group, or start one process."
        )
        raise UsageError(words, "E-NORM")
