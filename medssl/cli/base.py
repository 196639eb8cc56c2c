"""What the commands share: the Typer app, their common options, one check."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.errors import UsageError

app = typer.Typer(
    name="medssl",
    help="Unlabelled medical images become models: scan, decode, split, pretrain, finetune, evaluate, app.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Config = Annotated[Path | None, typer.Argument(help="YAML settings.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings as KEY=VALUE; --settings lists them all.")
]
ShowSettings = Annotated[
    bool,
    typer.Option("--settings", help="Print every setting with default and sentence, and stop."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would happen and its cost; write nothing.")
]
Workers = Annotated[int, typer.Option(help="Child processes that open the files.", min=1, max=64)]
Cluster = Annotated[
    str | None,
    typer.Option(help="Scheduler such as tcp://host:8786 whose workers open the files instead."),
]
AllowSeen = Annotated[
    bool, typer.Option("--allow-seen-patients", help="Test on patients seen in training; recorded.")
]


def need(value: Any, name: str) -> Any:
    """Return a value that this call cannot do without, or say which is missing."""
    if value is None:
        raise UsageError(f"{name} is required here; see --help.", "E-USAGE")
    return value
