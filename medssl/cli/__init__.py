"""The verbs, as commands. Every heavy import waits until its verb is called."""

import os
import sys
from typing import Annotated

import typer

from medssl import __version__, exits
from medssl.cli import data, models, pretraining, runs, share
from medssl.cli.base import app
from medssl.terminal import say

__all__ = ["app", "data", "entry", "main", "models", "pretraining", "runs", "share"]


def _version(value: bool) -> None:
    if value:
        say(f"medssl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Research use only. Not for diagnosis."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return exits.run(app, arguments)


def entry() -> None:
    """Entry point of the installed command."""
    os.environ.setdefault("MONAI_EVAL_EXPR", "0")
    sys.exit(main())
