"""Commands that hand a model on: export."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medssl.cli.base import app
from medssl.terminal import show


@app.command()
def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished pretrain or finetune run, or a pack.")
    ],
    to: Annotated[
        Literal["timm", "torchvision", "safetensors", "onnx"],
        typer.Option(help="Which library shall read the weights."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to hand on; new or empty.")],
    channels: Annotated[
        int | None,
        typer.Option(
            help="3: let a grey network read the same picture on three channels. Default: as trained.",
            show_default=False,
        ),
    ] = None,
    with_ledger: Annotated[
        bool,
        typer.Option(
            "--with-ledger",
            help="Add digests of the patients and pictures seen, so that others can refuse them.",
        ),
    ] = False,
) -> None:
    """Write a run's weights for timm, torchvision, plain safetensors or ONNX.

    preprocess.json says what pixels must be, README.md how to load. The weights are read back and
    compared with the original first; what answers otherwise is refused.

    Example: medssl export runs/micle --to timm --out share/micle-timm

    For --to onnx, install medssl with its extra "onnx".
    """
    from medssl.export.export import export as make

    made = make(run, to, out, channels=channels, with_ledger=with_ledger)
    show(f"{made.path}: weights, preprocess.json and README.md written", made.summary)
