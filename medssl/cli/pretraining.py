"""The command pretrain: one run, a chain of them, or a script for a batch system."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medssl.cli.base import Config, DryRun, Overrides, ShowSettings, app, need
from medssl.terminal import print_settings, say, show, training, warn

if TYPE_CHECKING:
    from medssl.config import ChainConfig

BATCH = "Batch system (with --sbatch)"


@app.command()
def pretrain(
    config: Config = None,
    overrides: Overrides = None,
    data: Annotated[Path | None, typer.Option("--data", help="A decoded cohort.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run directory; new or empty.")
    ] = None,
    split: Annotated[
        Literal["file", "none"], typer.Option(help="none: use every patient; recorded.")
    ] = "file",
    resume: Annotated[bool, typer.Option("--resume", help="Continue, or start if empty.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only what matters.")] = False,
    settings: ShowSettings = False,
    dry_run: DryRun = False,
    sbatch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a SLURM script that runs, requeues and resumes this; submit nothing.",
            rich_help_panel=BATCH,
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(help="Machines.", min=1, rich_help_panel=BATCH)] = 1,
    gpus: Annotated[
        int, typer.Option(help="GPUs per machine, a process each.", min=0, rich_help_panel=BATCH)
    ] = 1,
    cpus: Annotated[int, typer.Option(help="Cores per process.", min=1, rich_help_panel=BATCH)] = 8,
    time: Annotated[
        str, typer.Option(help="Limit of one stretch, as SLURM writes it.", rich_help_panel=BATCH)
    ] = "24:00:00",
    partition: Annotated[
        str | None, typer.Option(help="As the site names it.", rich_help_panel=BATCH)
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="As the site names it.", rich_help_panel=BATCH)
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Per machine, such as 64G.", rich_help_panel=BATCH)
    ] = None,
) -> None:
    """Pretrain an encoder on training and unlabelled patients.

    Example: medssl pretrain configs/pretrain/micle-cxr.yaml batch=128 --data cohorts/a --out runs/micle

    Several GPUs: torchrun --nproc-per-node 4 -m medssl.cli pretrain CONFIG --data D --out O --resume
    """
    from medssl.config import ChainConfig, PretrainConfig
    from medssl.loading import has_stages, load, to_yaml

    if settings:
        print_settings(PretrainConfig)
    file, given = need(config, "CONFIG"), tuple(overrides or ())
    resolved: PretrainConfig | ChainConfig = (
        load(ChainConfig, file, given) if has_stages(file) else load(PretrainConfig, file, given)
    )
    cohort = need(data, "--data")
    if sbatch is not None:
        words = ["pretrain", str(config), *(overrides or ()), "--data", str(cohort)]
        words += ["--out", str(need(out, "--out")), "--split", split]
        words += ["--quiet"] if quiet else []
        _write(sbatch, words, (nodes, gpus, cpus, time, partition, account, memory))
        return
    from medssl.train import pretrain as room

    if isinstance(resolved, ChainConfig):
        _chain(resolved, cohort, out, split, resume=resume, quiet=quiet, dry_run=dry_run)
        return
    if dry_run:
        say(to_yaml(resolved))
        show("would run (nothing written):", room.cost(resolved, cohort, split, out, warn))
        return
    with training(quiet=quiet or not room.speaks()) as progress:
        run = room.pretrain(
            resolved,
            cohort,
            need(out, "--out"),
            split=split,
            resume=resume,
            progress=progress,
            note=warn,
        )
    if run.record:
        show(f"{run.path}: encoder written", run.summary)


def _chain(
    config: "ChainConfig",
    cohort: Path,
    out: Path | None,
    split: Literal["file", "none"],
    *,
    resume: bool,
    quiet: bool,
    dry_run: bool,
) -> None:
    """Run the stages of a chain, or say what each would cost."""
    from medssl.loading import to_yaml
    from medssl.train import chain, pretrain

    if dry_run:
        say(to_yaml(config))
        for name, facts in chain.cost(config, cohort, split, out, warn).items():
            show(f"{name}: would run (nothing written):", facts)
        return
    speaks = pretrain.speaks()
    made = chain.run_chain(
        config,
        cohort,
        need(out, "--out"),
        split=split,
        resume=resume,
        progress=lambda: training(quiet=quiet or not speaks),
        note=warn,
    )
    for run in made if speaks else ():
        show(f"{run.path}: encoder written", run.summary)


def _write(path: Path, words: list[str], wanted: tuple[Any, ...]) -> None:
    from medssl.sbatch import Wanted, write

    write(path, words, Wanted(*wanted))
    say(f"{path}: written, not submitted; fill in the marked lines, then: sbatch {path}")
