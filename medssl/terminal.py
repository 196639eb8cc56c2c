"""What a person sees: lines, facts, how far a run is, every setting."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

LINE_EVERY_S, LINE_MARKS = 10.0, 20
PACE_S = 60.0
Tell = Callable[[int, int, Mapping[str, Any]], None]


def say(text: str) -> None:
    """Print one line for a person."""
    typer.echo(text)


def warn(text: str) -> None:
    """Print one line beside the results, for a person to read now."""
    typer.echo(text, err=True)


def show(title: str, facts: dict[str, Any]) -> None:
    """Print a title and aligned facts."""
    say(title)
    width = max((len(k) for k in facts), default=0)
    for key, value in facts.items():
        say(f"  {key.replace('_', ' '):<{width}}  {value}")


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal; elsewhere nothing."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def training(
    total: int | None = None, *, quiet: bool = False, console: Any = None
) -> Iterator[Tell]:
    """Show how a training goes: one bar on a terminal, plain lines elsewhere.

    Elsewhere there is a line every ten seconds, or at every twentieth of the run if that is sooner.

    Args:
        total: optimiser steps, where known before the first call.
        quiet: show nothing.
        console: a rich console; standard output if absent.

    Yields:
        A function of the steps done, all steps, and facts: ``epoch``, ``loss``, ``images_per_s``,
        ``wait`` (share of the time in [0, 1] that was spent waiting for data), ``memory`` (bytes);
        absent ones are left out, others ignored.
    """
    if quiet:
        yield lambda *_: None
        return
    from rich.console import Console

    console = console or Console(force_terminal=sys.stdout.isatty())
    shown = _bar(total, console) if console.is_terminal else _lines(console)
    with shown as tell:
        yield tell


@contextmanager
def _bar(total: int | None, console: Any) -> Iterator[Tell]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(20), TextColumn("{task.description}", markup=False))
    pace = _Pace()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=total)

        def tell(step: int, total: int, facts: Mapping[str, Any]) -> None:
            words = _in_words(step, total, facts, pace.left(step, total))
            progress.update(task, completed=step, total=total, description=words)

        yield tell


@contextmanager
def _lines(console: Any) -> Iterator[Tell]:
    pace, last = _Pace(), [-LINE_EVERY_S, -1.0]

    def tell(step: int, total: int, facts: Mapping[str, Any]) -> None:
        left, now = pace.left(step, total), time.monotonic()
        mark = LINE_MARKS * step // max(1, total)
        if now - last[0] >= LINE_EVERY_S or mark > last[1]:
            last[:] = [now, mark]
            console.file.write(_in_words(step, total, facts, left) + "\n")
            console.file.flush()

    yield tell


class _Pace:
    """Seconds left, from the steps of the last minute; a resumed run does not start at step 0."""

    def __init__(self) -> None:
        self.marks: deque[tuple[float, int]] = deque()

    def left(self, step: int, total: int) -> float | None:
        now = time.monotonic()
        self.marks.append((now, step))
        while len(self.marks) > 2 and now - self.marks[0][0] > PACE_S:
            self.marks.popleft()
        begun, first = self.marks[0]
        return (total - step) * (now - begun) / (step - first) if step > first else None


def _in_words(step: int, total: int, facts: Mapping[str, Any], left: float | None) -> str:
    parts = [f"step {step}/{total}"]
    shapes: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("epoch", lambda v: f"epoch {v:.0f}"),
        ("loss", lambda v: f"loss {v:.4g}"),
        ("images_per_s", lambda v: f"{v:.0f} img/s"),
        ("wait", lambda v: f"wait {100 * v:.0f} %"),
        ("memory", lambda v: f"{v / 2**30:.1f} GiB"),
    )
    parts += [shape(facts[key]) for key, shape in shapes if facts.get(key) is not None]
    parts += [f"{duration(left)} left"] if left is not None and step < total else []
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds as people read them: 42 s, 3:05 min, 2:07 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    big, small, unit = (whole // 60, whole % 60, "min")
    if whole >= 3600:
        big, small, unit = (whole // 3600, whole % 3600 // 60, "h")
    return f"{big}:{small:02d} {unit}"


def print_settings(model: Any) -> None:
    """Print every setting of a config, its default and its sentence."""
    from medssl.loading import describe

    for name, default, sentence in describe(model):
        say(f"{name} = {default}\n    {sentence}")
    raise typer.Exit
