"""One process against two of a gloo group: the same run, loss by loss and weight by weight.

Command: python benchmarks/ranks.py [--epochs N] [--methods NAME ...] [--usual] [--out FILE.md]
Runs ``medssl pretrain`` alone, alone again, alone with two threads, and by torchrun on two processes of this
machine, with norm=group (batch norm would see halves of the batch), the same seed, batch and views. Prints the
largest difference of the loss at any step and of any weight at the end, each against the run that was alone.
Again must be 0. Two threads add the same numbers in another order, and nothing else: two processes can agree no
better than that. The encoder of a short run is the start, because fresh weights map all pictures to nearly the
same features, and the head's batch norm amplifies their last digits. Nothing is asserted.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from sheet import Sheet

ROOT = Path(__file__).resolve().parent.parent
SIZE = 32
WARM = 8  # epochs of the run whose encoder is the start
# At usual rates the last digits grow within a dozen steps, with two threads as with two processes.
STEADY = ("optim.name=sgd", "optim.lr=1e-5")
CONFIGS = {"micle": "micle-cxr.yaml", "simclr": "simclr-cxr.yaml"}


def prepare(work: Path) -> Path:
    """Scan, decode and split the sample hospital."""
    os.environ["MEDSSL_KEYS"] = str(work / "keys")
    (work / "keys").mkdir()
    source, out = ROOT / "sample_data" / "hospital_a", work / "cohort"
    call("scan", source, "--site", "a", "--out", out)
    call("decode", out, "--size", SIZE)
    call("split", out, "--seed", 0)
    return out


def call(*words: Any, launcher: tuple[str, ...] = (), threads: int = 1) -> float:
    """Run the command line; return its seconds, or end with what it said."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    begun = time.perf_counter()
    command = [sys.executable, *launcher, "-m", "medssl.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return time.perf_counter() - begun


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@dataclass(frozen=True)
class Way:
    """How a run is started."""

    name: str
    processes: int = 1
    threads: int = 1


WAYS = (
    Way("alone, again"),
    Way("alone, two threads", threads=2),
    Way("two processes", processes=2),
)


def pretrain(
    method: str, data: Path, out: Path, epochs: int, way: Way, more: tuple[str, ...] = ()
) -> float:
    """Pretrain in some way; return the seconds."""
    processes = way.processes
    launcher: tuple[str, ...] = ()
    if processes > 1:
        launcher = ("-m", "torch.distributed.run", "--nproc-per-node", str(processes),
                    "--master-addr", "127.0.0.1", "--master-port", str(free_port()))  # fmt: skip
    config = ROOT / "configs" / "pretrain" / CONFIGS[method]
    small = [f"decode.size={SIZE}", "encoder.name=resnet10t", "encoder.norm=group"]
    small += [
        "method.hidden=32",
        "method.out=16",
        "batch=16",
        "log_every=1",
        "watch.every=0",
        "precision=32",
    ]
    long = f"duration={{epochs: {epochs}}}"
    places = ("--data", data, "--out", out)
    return call(
        "pretrain", config, *small, *more, long, *places, launcher=launcher, threads=way.threads
    )


def losses(run: Path) -> dict[int, float]:
    """Return the loss of every step."""
    lines = [json.loads(x) for x in (run / "log.jsonl").read_text().splitlines()]
    return {x["step"]: x["loss"] for x in lines if "loss" in x}


def apart(start: Path, first: Path, second: Path) -> tuple[str, list[float]]:
    """Return steps compared, and the differences of two runs from one start.

    Those are of the first loss, the largest of any loss, the largest of any weight, and the norm of the
    difference of all weights over the norm of what the training changed.
    """
    a, b = losses(first), losses(second)
    steps = f"{len(a)}" if a.keys() == b.keys() else f"{len(a)} and {len(b)}, **not the same**"
    gaps = [abs(a[k] - b[k]) for k in sorted(a.keys() & b.keys())]
    zero, one, two = (weights(p) for p in (start, first, second))
    apart, moved = one - two, one - zero
    return steps, [
        gaps[0],
        max(gaps),
        apart.abs().max().item(),
        (apart.norm() / moved.norm()).item(),
    ]


def weights(run: Path) -> torch.Tensor:
    """Return all weights of an encoder as one float64 vector."""
    held = load_file(run / "encoder.safetensors")
    return torch.cat([held[k].double().flatten() for k in sorted(held)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument(
        "--methods", nargs="+", choices=sorted(CONFIGS), default=["micle", "simclr"]
    )
    parser.add_argument("--usual", action="store_true", help="AdamW at the config's rate.")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    sheet = Sheet("One process against two", args.out)
    rate = "the config's AdamW" if args.usual else "SGD at 1e-5"
    sheet.say(
        f"Synthetic hospital A, ResNet-10t with group norm, {SIZE} px, batch 16 over all processes, "
        f"{args.epochs} epochs, float32, {rate}, gloo on one machine.\n"
    )
    sheet.head(
        "method", "compared", "steps", "first loss, difference", "loss, largest difference",
        "weights, largest difference",
        "weights, difference / change", "seconds",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = prepare(work)
        for method in args.methods:
            compare(method, data, work, args.epochs, sheet, () if args.usual else STEADY)
    sheet.end("ranks")
    sheet.write()


def compare(
    method: str, data: Path, work: Path, epochs: int, sheet: Sheet, steady: tuple[str, ...]
) -> None:
    """Print a line for every other way: against the run that was alone."""
    start, base = work / f"{method}-start", work / f"{method}-base"
    pretrain(method, data, start, WARM, Way("alone"))
    more = (*steady, f"init={start}")
    alone = pretrain(method, data, base, epochs, Way("alone"), more)
    for number, way in enumerate(WAYS):
        other = work / f"{method}-{number}"
        seconds = pretrain(method, data, other, epochs, way, more)
        steps, gaps = apart(start, base, other)
        told = [f"{gap:.2e}" for gap in gaps]
        sheet.row(method, way.name, steps, *told, f"{alone:.0f}, {seconds:.0f}")


if __name__ == "__main__":
    main()
