"""Time and memory of everything but the model as a cohort grows to a million pictures, and as batches grow.

Command: python benchmarks/scale.py [--counts N ...] [--size PX] [--batch N] [--verify ROWS] [--out FILE.md]
Every count has a process of its own over a simulated store: an index with a row per picture, three tenths as
many patients, and sparse shards, which cost the disk nothing: reading them costs the page cache and no disk, so
the feed's figures are an upper limit. Checksums are taken of --verify rows; they are of no real picture, so that
pass ends in its refusal: the work is the same. ``peak`` is the most resident memory meanwhile, ``more`` what
stays. ``power`` is the exponent of processor seconds over pictures between the last two counts: above 1.2 is
superlinear.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from sheet import Sheet, spent

COUNTS = (10_000, 100_000, 1_000_000)
SHARE = 0.3  # patients per picture
STEADY_S = 3.0


def resident() -> tuple[float, float]:
    """Return resident MiB of this process: now, and the most since ``forget_peak``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    told = {x.partition(":")[0]: x.split()[1] for x in lines if x.startswith("Vm")}
    return int(told["VmRSS"]) / 1024, int(told["VmHWM"]) / 1024


def forget_peak() -> None:
    """Let the kernel count the most resident memory anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Steps:
    """Named pieces of work, each with its seconds and memory."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []

    def take(self, name: str, work: Callable[[], Any]) -> Any:
        """Run, remember, and return what the work returned."""
        forget_peak()
        before, held = resident()[0], []
        took = spent(lambda: held.append(work()))
        after, peak = resident()
        memory = {"more": after - before, "peak": peak - before}
        self.done.append({"step": name, "seconds": took.wall, "core": took.core, **memory})
        return held[0]


def config_of(size: int, batch: int, method: str) -> Any:
    from medssl.config import DecodeConfig, Duration, MICLeConfig, PretrainConfig, SimCLRConfig

    chosen = MICLeConfig(name="micle") if method == "micle" else SimCLRConfig(name="simclr")
    return PretrainConfig(
        method=chosen, decode=DecodeConfig(size=size), batch=batch, duration=Duration(epochs=1)
    )


def child(root: Path, size: int, batch: int, verified: int) -> list[dict[str, Any]]:
    """Do what a pretraining does before and between its steps, piece by piece."""
    from medssl.cohort import draw
    from medssl.cohort import manifest as manifest_room
    from medssl.cohort.policy import policy
    from medssl.cohort.privacy import patient_digest
    from medssl.errors import RefusedError
    from medssl.store import Store, open_store
    from medssl.train.material import gather, statistics

    config, steps = config_of(size, batch, "micle"), Steps()
    manifest = steps.take("read the manifest", lambda: manifest_room.read(root))
    steps.take("its digest and counts", manifest.summary)
    store = steps.take("open the store, checked", lambda: open_store(root, config.decode))
    owner = steps.take("a column of text", lambda: store.column("patient_id"))
    rows = np.arange(len(store))
    picture = store.column("pixels")
    steps.take("bags", lambda: draw.make_bags(rows, owner, owner, picture))

    def checksums() -> None:
        with suppress(RefusedError):
            store.verify(rows[np.linspace(0, len(rows) - 1, min(verified, len(rows))).astype(int)])

    steps.take(f"checksums of {min(verified, len(rows)):,}", checksums)
    steps.take("digests of pictures seen", lambda: store.picture_digests(rows))
    steps.take("digests of patients seen", lambda: {patient_digest(p) for p in set(owner)})
    Store.verify = lambda *_: None  # measured above
    material = steps.take("gather, without checksums", lambda: gather(config, root, "none"))

    def drawn(method: str) -> Any:
        chosen = config_of(size, batch, method).method
        return policy(chosen, material.rows, material.store.column, seed=0, batch=batch, times=1)

    plan = steps.take("bags and pairs checked, MICLe", lambda: drawn("micle")).plan
    images = drawn("simclr").plan
    steps.take("plan an epoch, MICLe", lambda: plan(0))
    steps.take("plan an epoch, SimCLR", lambda: images(0))
    steps.take("statistics of 4,096", lambda: statistics(material.store, material.rows))
    fed(steps, material.store, images(1), "")
    return steps.done


def fed(steps: Steps, store: Any, plan: Any, label: str) -> None:
    """Time the first batch, then as many as fit into some seconds."""
    from medssl.train.feed import Feed

    batches = iter(Feed(store, plan))
    steps.take(f"{label}first batch", lambda: next(batches))

    def many() -> int:
        count, begun = 0, time.perf_counter()
        for _ in batches:
            count += 1
            if time.perf_counter() - begun > STEADY_S:
                break
        return count

    count = steps.take(f"{label}batch", many)
    for clock in ("seconds", "core"):
        steps.done[-1][clock] /= max(1, count)


def growing(root: Path, size: int, batches: list[int]) -> list[dict[str, Any]]:
    """Time the feed and the views as the batch grows; twice, the second time with warm shards."""
    from medssl.store import Store, open_store
    from medssl.train.course import Course, make_views
    from medssl.train.feed import Feed
    from medssl.train.material import gather

    steps = Steps()
    Store.verify = lambda *_: None
    for batch in batches:
        config = config_of(size, batch, "simclr")
        material = gather(config, root, "none")
        plan = material.policy.plan
        fed(steps, material.store, plan(0), f"{size} px, batch {batch:,}: ")
        one = next(iter(Feed(material.store, plan(1))))
        course = Course(open_store(root, config.decode), plan, 1, 0.5, 0.25)

        def views(one: Any = one, config: Any = config, course: Any = course) -> None:
            make_views(one, config, 0, course, 2)

        steps.take(f"{size} px, batch {batch:,}: views", views)
    return steps.done


def ask(*words: Any) -> list[dict[str, Any]]:
    """Run this file as a child and return its rows."""
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout)


def compare_counts(args: argparse.Namespace, work: Path, sheet: Sheet) -> None:
    """Print one table: every piece at every count."""
    import simulated

    found = {}
    for count in args.counts:
        root = simulated.cohort(work / f"n{count}", count, max(2, int(SHARE * count)), args.size)
        held = sum(p.stat().st_blocks * 512 for p in root.rglob("*.npy")) / 2**20
        said = sum(p.stat().st_size for p in root.rglob("*.npy")) / 2**20
        sheet.say(f"{count:,} pictures: shards of {said:,.0f} MiB, {held:,.0f} MiB on disk\n")
        found[count] = ask("--child", root, "--size", args.size, "--batch", args.batch,
                           "--verify", args.verify)  # fmt: skip
    columns = [
        f"{n:,}: {what}" for n in args.counts for what in ("s", "core s", "peak MiB", "more MiB")
    ]
    sheet.head("piece", *columns, "power")
    for at, first in enumerate(found[args.counts[0]]):
        cells, last = [], [found[n][at]["core"] for n in args.counts[-2:]]
        for n in args.counts:
            got = found[n][at]
            cells += [f"{got['seconds']:.4f}", f"{got['core']:.4f}"]
            cells += [f"{got['peak']:.0f}", f"{got['more']:.0f}"]
        step = first["step"] if not first["step"].startswith("checksums") else "checksums of a part"
        sheet.row(step, *cells, _power(args.counts[-2:], last))
    sheet.end("pictures")


def _power(counts: list[int], seconds: list[float]) -> str:
    if len(seconds) < 2 or min(seconds) <= 0:
        return "-"
    return f"{math.log(seconds[1] / seconds[0]) / math.log(counts[1] / counts[0]):.2f}"


def compare_batches(args: argparse.Namespace, work: Path, sheet: Sheet) -> None:
    """Print one table: the feed and the views at growing batches and sides."""
    import simulated

    sheet.head("piece", "s", "core s", "peak MiB", "more MiB")
    for size in args.sides:
        root = simulated.cohort(work / f"side{size}", 20_000, 6_000, size)
        for got in ask("--growing", root, "--size", size, "--batches", *args.batches):
            sheet.row(
                got["step"],
                f"{got['seconds']:.4f}",
                f"{got['core']:.4f}",
                f"{got['peak']:.0f}",
                f"{got['more']:.0f}",
            )
    sheet.end("batches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 224])
    parser.add_argument("--verify", type=int, default=50_000, help="rows whose checksum is taken")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--growing", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(child(args.child, args.size, args.batch, args.verify)))
        return
    if args.growing is not None:
        print(json.dumps(growing(args.growing, args.size, args.batches)))
        return
    sheet = Sheet("What grows with the cohort and the batch", args.out)
    sheet.say(
        f"Simulated stores of {args.size} px, {SHARE:g} patients a picture, batches of {args.batch} images "
        f"(SimCLR), checksums of {args.verify:,} rows; a process for each count, one run each.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        compare_counts(args, Path(folder), sheet)
        compare_batches(args, Path(folder), sheet)
    sheet.write()


if __name__ == "__main__":
    main()
