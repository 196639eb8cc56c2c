"""End-to-end pretraining steps against the same steps on one resident random batch, in one run.

Command: make bench, or python benchmarks/throughput.py [--quick] [--seconds S] [--repeats N] [--cell NET-PX-ARITH]
[--whole] [--out FILE.md]. Prints images per second of: the bare step (loss, backward, optimiser, on one batch
that never leaves the device), the same step fed by the store and the views, and with --whole the verb
``pretrain`` itself, from the first step's end to the last's, without checkpoints: one is timed apart
(``save``), as a training saves once an epoch. Repeats are interleaved, figures are medians.
``core`` compares processor seconds: what a busy machine changes least, and what a reading thread cannot hide.
On a GPU ResNet-50 at 224 px, batch 512, bf16 is measured too, compiled and not. Nothing is asserted.
"""

import argparse
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simulated
import torch
from sheet import Sheet, Spent, middle, spent, spread

from medssl.config import (
    DecodeConfig,
    Duration,
    EncoderConfig,
    LogConfig,
    MICLeConfig,
    PretrainConfig,
    WatchConfig,
)
from medssl.methods import build_method
from medssl.methods.base import Seen
from medssl.models.encoder import build
from medssl.models.precision import one_pixel_strides
from medssl.train import checkpoints, optim
from medssl.train.course import Course, see
from medssl.train.feed import Feed
from medssl.train.material import gather
from medssl.train.pretrain import pretrain

GOAL = 0.95
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCHES = {64: 64, 128: 32, 224: 8}  # what a processor finishes in seconds


@dataclass(frozen=True)
class Cell:
    """One line of the table: network, side in pixels, arithmetic, patients of a batch."""

    net: str
    size: int
    precision: str
    batch: int
    compiled: bool = False

    def __str__(self) -> str:
        more = ", compiled" if self.compiled else ""
        return f"{self.net}, {self.size} px, batch {self.batch} x 2, {self.precision}{more}"

    def config(self) -> PretrainConfig:
        """Return the settings: MICLe, two images of a patient."""
        return PretrainConfig(
            method=MICLeConfig(name="micle"),
            decode=DecodeConfig(size=self.size),
            encoder=EncoderConfig(name=self.net),
            batch=self.batch,
            precision=self.precision,
            duration=Duration(epochs=1),
            compile=self.compiled,
            watch=WatchConfig(every=0),
            log=LogConfig(tensorboard=False),
            log_every=10,
            save_every=10**6,
        )


class Bench:
    """A method, its optimiser, a resident batch and a feed that never ends."""

    def __init__(self, cell: Cell, cohort: Path) -> None:
        self.cell, self.config = cell, cell.config()
        material = gather(self.config, cohort, "none")
        self.plan = material.policy.plan
        self.course = Course(material.store, self.plan, 1, 0.5, 0.25)
        encoder = build(self.config.encoder, cell.size, whole=False, seed=0)
        self.method = build_method(self.config.method, encoder, 0).to(DEVICE)
        if cell.compiled:
            self.method.encoder.net.compile()
        self.optimizer = optim.build(self.config.optim, self.method, cell.batch)
        self.resident = Seen(
            torch.randn(cell.batch, 2, 1, cell.size, cell.size, device=DEVICE),
            torch.arange(cell.batch, device=DEVICE),
            torch.zeros(cell.batch, 2, dtype=torch.int32, device=DEVICE),
        )
        self.batches = self._forever()

    def _forever(self) -> Any:
        for epoch in itertools.count():
            for batch in Feed(self.course.store, self.plan(epoch)):
                if len(batch.bag) == self.cell.batch:
                    yield epoch, batch

    def read(self) -> Any:
        """Take the next batch and bring it to the device."""
        epoch, batch = next(self.batches)
        return epoch, batch.to(DEVICE)

    def views(self, epoch: int, batch: Any) -> Seen:
        """Return the views of a batch."""
        return see(batch, self.config, epoch, self.course, self.method)

    def step(self, seen: Seen) -> None:
        """Loss, backward, optimiser."""
        bf16 = self.cell.precision == "bf16"
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            loss = self.method.loss(seen).total
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def bare(self) -> None:
        """One step on the resident batch."""
        self.step(self.resident)

    def fed(self) -> None:
        """One step on the next batch of the store."""
        epoch, batch = self.read()
        self.step(self.views(epoch, batch))


def wait() -> None:
    """Wait for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def timed(work: Any, steps: int) -> Spent:
    """Return what one of ``steps`` steps took."""

    def all_of_them() -> None:
        for _ in range(steps):
            work()
        wait()

    took = spent(all_of_them)
    return Spent(took.wall / steps, took.core / steps)


def through_the_verb(cell: Cell, cohort: Path, steps: int) -> Spent:
    """Return what a step of ``medssl pretrain`` takes, all that it does in its steps included."""
    stamps: list[Spent] = []

    def progress(*_: Any) -> None:
        wait()
        stamps.append(Spent(time.perf_counter(), time.process_time()))

    config = cell.config().model_copy(update={"duration": Duration(steps=steps + 1)})
    with tempfile.TemporaryDirectory() as folder:
        pretrain(config, cohort, Path(folder) / "run", split="none", progress=progress)
    first, last = stamps[0], stamps[steps]
    return Spent((last.wall - first.wall) / steps, (last.core - first.core) / steps)


def measure(cell: Cell, cohort: Path, args: argparse.Namespace, sheet: Sheet) -> None:
    """Add one line to the table."""
    bench = Bench(cell, cohort)
    for work in (bench.bare, bench.fed):
        timed(work, 1)
    pace = timed(bench.bare, 1).wall
    steps = max(2, min(200, round(args.seconds / pace)))
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    got: dict[str, list[Spent]] = {"bare": [], "fed": [], "verb": []}
    for _ in range(args.repeats):
        got["bare"].append(timed(bench.bare, steps))
        got["fed"].append(timed(bench.fed, steps))
        if args.whole:
            got["verb"].append(through_the_verb(cell, cohort, steps))
    peak = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else None
    parts = pieces(bench, steps)
    images = 2 * cell.batch
    bare = middle([t.wall for t in got["bare"]])
    fed = [t.wall for t in got["fed"]]
    ratios = [b.wall / f.wall for b, f in zip(got["bare"], got["fed"], strict=True)]
    core = [b.core / f.core for b, f in zip(got["bare"], got["fed"], strict=True)]
    verb = [b.wall / v.wall for b, v in zip(got["bare"], got["verb"], strict=False)]
    sheet.row(
        str(cell),
        steps,
        images / bare,
        images / middle(fed),
        f"{middle(ratios):.3f} ({spread(ratios)})",
        f"{middle(core):.3f}",
        f"{middle(verb):.3f} ({spread(verb)})" if verb else "-",
        f"{1000 * parts['read']:.1f}",
        f"{1000 * parts['views']:.1f}",
        f"{1000 * parts['step']:.1f}",
        f"{1000 * saved(bench):.0f}",
        "-" if peak is None else f"{peak:.1f}",
    )


def saved(bench: Bench) -> float:
    """Return seconds of one checkpoint: weights and the optimiser's state, synced to the disk."""
    state = checkpoints.State(step=1, optimizer=bench.optimizer.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        return spent(lambda: checkpoints.save(Path(folder), bench.method, state)).wall


def pieces(bench: Bench, steps: int) -> dict[str, float]:
    """Return seconds of one step by piece, measured one after the other, nothing overlapping."""
    store, plan = bench.course.store, bench.plan(0)

    def read() -> None:
        store.planes(plan.rows[plan.batch(0)].ravel())

    epoch, batch = bench.read()
    views = bench.views(epoch, batch)
    return {
        "read": timed(read, steps).wall,
        "views": timed(lambda: bench.views(epoch, batch), steps).wall,
        "step": timed(lambda: bench.step(views, batch.bag), steps).wall,
    }


def cells(args: argparse.Namespace) -> list[Cell]:
    """Return what is affordable here; bf16 where a processor's gradients can be trusted."""
    if args.cell:
        return [_parsed(text, args.batch) for text in args.cell]
    if DEVICE.type == "cuda":
        large = [Cell("resnet50", 224, "bf16", 512, compiled) for compiled in (False, True)]
        return [*large, Cell("resnet50", 224, "32", 128), Cell("resnet18", 64, "bf16", 1024)]
    nets = ("resnet18",) if args.quick else ("resnet18", "resnet50")
    sizes = (64,) if args.quick else (64, 128, 224)
    found = [Cell(n, s, "32", BATCHES[s]) for n in nets for s in sizes]
    if not args.quick:
        found += [Cell("resnet18", s, "bf16", BATCHES[s]) for s in sizes if _bf16_holds(s)]
    return found


def _bf16_holds(size: int) -> bool:
    net = build(EncoderConfig(name="resnet18"), size, whole=False, seed=0)
    return not one_pixel_strides(net, size)


def _parsed(text: str, batch: int | None) -> Cell:
    net, size, precision, *more = text.split("-")
    return Cell(net, int(size), precision, batch or BATCHES.get(int(size), 8), bool(more))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ResNet-18 at 64 px alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the bare step, a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="also the verb pretrain itself")
    parser.add_argument("--cell", action="append", help="such as resnet18-64-32[-compiled]")
    parser.add_argument("--batch", type=int, help="patients of a batch, with --cell")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    sheet = Sheet("Steps from the store against bare steps", args.out)
    sheet.say(
        f"Device {DEVICE}; MICLe, two images of a patient; {args.repeats} interleaved repeats of at "
        f"least {args.seconds:g} s, medians (lowest to highest). Goal: ratio >= {GOAL}.\n"
    )
    sheet.head(
        "cell", "steps", "bare, images/s", "fed, images/s", "fed/bare", "core", "pretrain/bare",
        "read, ms", "views, ms", "step, ms", "save, ms", "peak GiB",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        made: dict[int, tuple[int, Path]] = {}
        for cell in cells(args):
            patients = max(256, 4 * cell.batch)
            if made.get(cell.size, (0,))[0] < patients:
                root = Path(folder) / f"{cell.size}-{patients}"
                simulated.cohort(root, 2 * patients, patients, cell.size, real=True)
                made[cell.size] = (patients, root)
            measure(cell, made[cell.size][1], args, sheet)
    sheet.end("throughput")
    sheet.write()


if __name__ == "__main__":
    main()
