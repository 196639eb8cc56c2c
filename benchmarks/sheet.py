"""What the benchmarks of pretraining share: two clocks, the machine in a sentence, a sheet of tables."""

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROVISIONAL = 0.5  # load beyond the processors counted here says that others were busy


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall, and of processors by this process and its ended children."""

    wall: float
    core: float


def spent(work: Callable[[], Any]) -> Spent:
    """Run once and return what it took."""
    wall, core = time.perf_counter(), cores()
    work()
    return Spent(time.perf_counter() - wall, cores() - core)


def cores() -> float:
    """Return processor seconds used so far; those of children count when they end."""
    used = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def middle(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: list[float]) -> str:
    """Return the lowest and the highest value."""
    return f"{min(values):.3g} to {max(values):.3g}"


def usable() -> int:
    """Return the processors that this process may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> str:
    """Return processors, threads, load and versions in one sentence."""
    parts = [f"{usable()} of {os.cpu_count()} processors ({_processor()})"]
    parts += [f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"]
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        parts += [f"{torch.get_num_threads()} torch threads", f"torch {torch.__version__}"]
        if torch.cuda.is_available():
            parts += [torch.cuda.get_device_name(0)]
    load = os.getloadavg()[0]
    parts += [f"load {load:.1f} when asked", f"Python {platform.python_version()}"]
    words = ", ".join(parts)
    busy = load > usable() + PROVISIONAL
    return (
        f"{words}. {'Others were at work: these figures are provisional.' if busy else ''}".strip()
    )


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


class Sheet:
    """Lines and tables, printed as they come and written at the end as Markdown and JSON."""

    def __init__(self, title: str, out: Path | None) -> None:
        self.out, self.lines, self.facts = out, [], {}
        self.say(f"# {title}\n")
        self.say(machine() + "\n")

    def say(self, text: str) -> None:
        """Print and keep a line."""
        print(text, flush=True)
        self.lines.append(text)

    def head(self, *columns: str) -> None:
        """Begin a table."""
        self.columns, self.rows = columns, []
        self.say("| " + " | ".join(columns) + " |")
        self.say("|" + "---|" * len(columns))

    def row(self, *values: Any) -> None:
        """Add a row to the table begun last."""
        told = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in values]
        self.say("| " + " | ".join(told) + " |")
        self.rows.append(dict(zip(self.columns, values, strict=True)))

    def end(self, name: str) -> None:
        """End a table; its rows go into the JSON under a name."""
        self.facts[name] = self.rows
        self.say("")

    def write(self) -> None:
        """Write FILE.md and, beside it, FILE.json, where --out was given."""
        if self.out is None:
            return
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text("\n".join(self.lines) + "\n")
        facts = {"machine": machine(), **self.facts}
        self.out.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
