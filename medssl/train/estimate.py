"""What a pretraining will cost, from a few real steps: time, memory, disk, and the largest batch."""

import gc
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from torch import nn

from medssl.config import PretrainConfig
from medssl.methods.base import Method, Seen
from medssl.train import optim

MIB = 2**20
MARGIN = 0.85  # of the free memory; the rest is for fragments, other programs and the next epoch
SIGNAL = 96 * MIB  # growth that stands out from what an allocator keeps
MOST = 2**17
REPEATS = 3
BUDGET_S = 60.0  # a step foreseen to take longer is foreseen, not taken
LOG_LINE = 400
KEPT = 4  # three checkpoints and the last healthy one
BatchMaker = Callable[[int], Seen]
Step = Callable[[Seen], None]
SAMPLED_S = 0.002
PAIR_BYTES = 17  # of two views: similarity, its masked copy, probability, gradient, and the mask
NEGATIVES = (
    "a proposal only: with a contrastive loss another batch size means another number of negatives, "
    "so it is another experiment; lr follows it by optim.lr_scaling"
)


class Meter(Protocol):
    """Memory of one device."""

    def available(self) -> int:
        """Return bytes that are free for this process, without those it holds."""

    def peak(self, work: Callable[[], None]) -> int:
        """Run and return the most bytes held meanwhile."""


class ResidentMeter:
    """Resident memory of this process, sampled by a thread while the work runs."""

    def available(self) -> int:
        """Return free memory of the machine, or of the control group where that is less."""
        return min([int(psutil.virtual_memory().available), *_group_free()])

    def peak(self, work: Callable[[], None]) -> int:
        """Run and return the most resident bytes seen."""
        process, over = psutil.Process(), threading.Event()
        seen = [int(process.memory_info().rss)]

        def watch() -> None:
            while not over.wait(SAMPLED_S):
                seen.append(int(process.memory_info().rss))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            work()
        finally:
            over.set()
            watcher.join()
        return max([*seen, int(process.memory_info().rss)])


def _group_free(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return what the control group (SLURM, a container) leaves; empty where it sets no limit."""
    with suppress(OSError, ValueError):
        own = Path("/proc/self/cgroup").read_text().splitlines()[-1].rpartition(":")[2]
        for folder in (root / own.lstrip("/"), root):
            if (folder / "memory.max").is_file():
                limit = int((folder / "memory.max").read_text())
                return [max(0, limit - int((folder / "memory.current").read_text()))]
    return []


class CudaMeter:
    """Memory that tensors hold on the current GPU."""

    def available(self) -> int:
        """Return the GPU's free bytes and those that torch keeps without using them."""
        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())

    def peak(self, work: Callable[[], None]) -> int:
        """Run and return the most bytes allocated."""
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()


@dataclass(frozen=True)
class Cost:
    """What one step of a batch took: samples (bags), seconds, most bytes held."""

    samples: int
    seconds: float
    peak: int


@dataclass(frozen=True)
class Line:
    """A straight line through what was measured: ``fixed + each * samples``."""

    fixed: float
    each: float

    def at(self, samples: int) -> float:
        """Return the value foreseen for a number of samples."""
        return self.fixed + self.each * samples


def line(small: Cost, large: Cost, what: str) -> Line:
    """Return the line through two measurements of ``seconds`` or ``peak``; it never falls."""
    low, high = float(getattr(small, what)), float(getattr(large, what))
    each = max(0.0, (high - low) / max(1, large.samples - small.samples))
    return Line(max(0.0, low - each * small.samples), each)


@dataclass(frozen=True)
class Footprint:
    """Memory of one process as its part of a batch grows.

    Attributes:
        measured: bytes by samples, from small batches.
        views: views of a sample.
        sample: bytes of a sample's views.
        chunk: views whose activations are held together (gradient cache); None for all.
        world: processes, each of which contrasts the views of all.
    """

    measured: Line
    views: int
    sample: int
    chunk: int | None = None
    world: int = 1

    def at(self, samples: int) -> float:
        """Return the bytes foreseen: activations up to a chunk, views beyond it, pairs of views."""
        active = samples if self.chunk is None else min(samples, self.chunk / self.views)
        waiting = self.sample * (samples - active)
        pairs = PAIR_BYTES * (self.world * self.views * samples) ** 2
        return self.measured.fixed + self.measured.each * active + waiting + pairs


def largest_by_trial(fits: Callable[[int], bool], start: int, most: int) -> int:
    """Return the largest number that fits, found by doubling, then halving the gap; 0 for none.

    Args:
        fits: tries a number; true up to some number, false beyond.
        start, most: the first number tried, and the last worth trying.
    """
    good, bad, tried = 0, most + 1, min(start, most)
    while tried <= most and bad > most:
        if fits(tried):
            if tried == most:
                return most
            good, tried = tried, min(2 * tried, most)
        else:
            bad = tried
    while bad - good > max(1, good // 16):
        tried = (good + bad) // 2
        if fits(tried):
            good = tried
        else:
            bad = tried
    return good


def survives(work: Callable[[], None]) -> bool:
    """Run; return whether the GPU's memory sufficed, and free what was held."""
    enough = True
    try:
        work()
    except torch.OutOfMemoryError:
        enough = False
    except RuntimeError as error:
        # cuBLAS and cuDNN tell of it in words of their own.
        if not any(w in str(error) for w in ("out of memory", "ALLOC_FAILED")):
            raise
        enough = False
    # After the except block, because its traceback held the tensors of the step.
    gc.collect()
    torch.cuda.empty_cache()
    return enough


def plain_step(config: PretrainConfig, method: Method) -> Step:
    """Return loss, backward and optimiser step, without gradient cache."""
    optimizer = optim.build(config.optim, method, config.batch)

    def step(seen: Seen) -> None:
        bf16 = config.precision == "bf16"
        with torch.autocast(seen.views.device.type, torch.bfloat16, enabled=bf16):
            loss = method.loss(seen).total
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def parameter_bytes(module: nn.Module) -> int:
    """Return the bytes of weights and buffers."""
    held = [*module.parameters(), *module.buffers()]
    return sum(t.numel() * t.element_size() for t in held)


def learnt_bytes(module: nn.Module) -> int:
    """Return the bytes of the weights that are trained; their gradients take as many."""
    return sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)


def optimizer_bytes(config: PretrainConfig, module: nn.Module) -> int:
    """Return the bytes of the optimiser's moments: two for AdamW, one for SGD and LARS."""
    moments = 2 if config.optim.name == "adamw" else 1
    return moments * learnt_bytes(module)


def estimate(
    config: PretrainConfig,
    method: Method,
    batch_maker: BatchMaker,
    *,
    steps: int,
    world: int = 1,
    most: int = MOST,
    step: Step | None = None,
    meter: Meter | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Return the cost of a pretraining and the largest batch that fits; changes no setting.

    Takes real steps, so the method is to be thrown away afterwards.

    Args:
        config: the settings of the run.
        method: on the device it will train on.
        batch_maker: from a number of samples to what a method is shown of them, on the device; its
            time is part of a step's. It may repeat pictures.
        steps: optimiser steps of the whole run.
        world: processes that share a batch.
        most: samples that an epoch holds; no batch can be larger.
        step: takes one optimiser step as the loop does, gradient cache included; by default
            loss, backward and optimiser at once.
        meter: memory of the device.
        folder: where the run will be written; it need not exist yet.

    Returns:
        Names and values for a person, memory of one process in MiB.
    """
    on_gpu = next(method.parameters()).device.type == "cuda"
    held = meter if meter is not None else CudaMeter() if on_gpu else ResidentMeter()
    probe = _Probe(batch_maker, step if step is not None else plain_step(config, method), held)
    local, most = max(1, -(-config.batch // world)), max(1, most // world)
    ladder = probe.ladder(local)
    views = batch_maker(2).views
    grown = line(ladder[0], ladder[-1], "peak")
    memory = Footprint(grown, views.shape[1], views[0].nbytes, config.chunk, world)
    seconds, how = probe.seconds(local, ladder, memory)
    per_step = seconds * config.accumulate
    if on_gpu:
        largest, found_by = probe.by_trial(ladder[-1].samples, most), "tried"
    else:
        largest = largest_by_trial(lambda n: memory.at(n) <= probe.limit, 1, most)
        found_by = "foreseen from small batches"
    return {
        "seconds_per_step": round(per_step, 3),
        "step_time": how,
        "images_per_s": round(config.batch * method.images / seconds, 1),
        "hours": round(per_step * steps / 3600, 4),
        "time": _time(per_step * steps),
        "largest_batch": f"{largest * world} ({found_by}; now {config.batch})",
        "largest_batch_note": NEGATIVES,
        **_memory(config, method, memory, local, probe.limit),
        **_disk(config, method, steps, folder),
    }


class _Probe:
    """Takes steps of different batches, and knows how much memory there is for them."""

    def __init__(self, maker: BatchMaker, step: Step, meter: Meter) -> None:
        self.maker, self.step, self.meter = maker, step, meter
        self.limit = 0.0

    def take(self, samples: int) -> None:
        """Take one step."""
        self.step(self.maker(samples))

    def cost(self, samples: int) -> Cost:
        """Take a step to warm up, then some for the clock; memory is the most of all of them."""
        spent: list[float] = []

        def work() -> None:
            for _ in range(REPEATS):
                begun = time.perf_counter()
                self.take(samples)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                spent.append(time.perf_counter() - begun)

        self.take(samples)
        peak = self.meter.peak(work)
        return Cost(samples, statistics.median(spent), peak)

    def ladder(self, local: int) -> list[Cost]:
        """Measure small batches, each twice the one before, until memory grows visibly.

        The peaks are of a rising series, so that what an allocator keeps distorts none of them.
        """
        self.take(2)  # the optimiser's moments come with the first step
        self.limit = self.meter.peak(lambda: None) + MARGIN * self.meter.available()
        found = [self.cost(2), self.cost(4)]
        while found[-1].samples < local and found[-1].peak - found[0].peak < SIGNAL:
            found.append(self.cost(min(local, 2 * found[-1].samples)))
        return found

    def seconds(self, local: int, ladder: list[Cost], memory: Footprint) -> tuple[float, str]:
        """Return seconds of a full step: measured where it fits and is quick, else foreseen."""
        last = ladder[-1]
        if last.samples == local:
            return last.seconds, "measured"
        foreseen = line(ladder[0], last, "seconds").at(local)
        if memory.at(local) <= self.limit and foreseen * (REPEATS + 1) <= BUDGET_S:
            return self.cost(local).seconds, "measured"
        return foreseen, f"foreseen from batches of up to {last.samples}"

    def by_trial(self, start: int, most: int) -> int:
        """Return the largest batch that a GPU takes."""
        return largest_by_trial(lambda n: survives(lambda: self.take(n)), start, most)


def _memory(
    config: PretrainConfig, method: Method, memory: Footprint, local: int, limit: float
) -> dict[str, int | float | str]:
    """Return where the memory of a step goes, and whether it suffices."""
    needed = memory.at(local)
    chunk = "off" if config.chunk is None else f"{config.chunk} views at a time"
    return {
        "memory_weights_mib": _mib(parameter_bytes(method)),
        "memory_gradients_mib": _mib(learnt_bytes(method)),
        "memory_optimizer_mib": _mib(optimizer_bytes(config, method)),
        "memory_views_mib": _mib(memory.sample * local),
        "memory_per_active_view_mib": round(memory.measured.each / memory.views / MIB, 2),
        "gradient_cache": chunk,
        "memory_of_a_step_mib": _mib(needed),
        "memory_available_mib": _mib(limit),
        "memory_suffices": "yes" if needed <= limit else "no: lower batch, or set chunk",
    }


def _disk(
    config: PretrainConfig, method: Method, steps: int, folder: Path | None
) -> dict[str, int | str]:
    """Return what checkpoints and log will take, and what is free; one more while one is written."""
    checkpoints = (KEPT + 1) * (parameter_bytes(method) + optimizer_bytes(config, method))
    log = LOG_LINE * (1 + steps // config.log_every)
    facts: dict[str, int | str] = {
        "disk_checkpoints_mib": _mib(checkpoints),
        "disk_log_mib": _mib(log),
    }
    if folder is not None:
        there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free
        facts["disk_free_mib"] = _mib(free)
        facts["disk_suffices"] = "yes" if checkpoints + log < free else "no: free some space"
    return facts


def _time(seconds: float) -> str:
    """Return a duration as a person says it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _mib(size: float) -> int:
    return -(-int(size) // MIB)
