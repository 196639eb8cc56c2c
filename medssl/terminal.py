"""What a person sees: lines, facts, a progress bar, every setting."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


def say(text: str) -> None:
    """Print one line for a person."""
    typer.echo(text)


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


def print_settings(model: Any) -> None:
    """Print every setting of a config, its default and its sentence."""
    from medssl.loading import describe

    for name, default, sentence in describe(model):
        say(f"{name} = {default}\n    {sentence}")
    raise typer.Exit
