"""The verbs, as commands. Every heavy import waits until its verb is called."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medssl import __version__, exits
from medssl.errors import UsageError
from medssl.terminal import bar, print_settings, say, show

app = typer.Typer(
    name="medssl",
    help="Unlabelled medical images become models: scan, decode, split, pretrain, finetune, evaluate, app.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Out = Annotated[Path, typer.Option("--out", help="Folder to write; new or empty.")]
Config = Annotated[Path | None, typer.Argument(help="YAML settings.", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides such as optim.lr=0.01.")]
ShowSettings = Annotated[
    bool,
    typer.Option("--settings", help="Print every setting with default and sentence, and stop."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would happen and its cost; write nothing.")
]
Workers = Annotated[int, typer.Option(help="Child processes that open the files.", min=1, max=64)]
AllowSeen = Annotated[
    bool, typer.Option("--allow-seen-patients", help="Test on patients seen in training; recorded.")
]


def need(value: Any, name: str) -> Any:
    """Return a value that this call cannot do without, or say which is missing."""
    if value is None:
        raise UsageError(f"{name} is required here; see --help.", "E-USAGE")
    return value


@app.command()
def scan(
    sources: Annotated[list[Path], typer.Argument(help="Folders or files to read.")],
    out: Annotated[Path, typer.Option("--out", help="The cohort's folder.")],
    site: Annotated[str | None, typer.Option(help="The hospital's name.")] = None,
    site_column: Annotated[str | None, typer.Option(help="Table column that names it.")] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Label table(s), CSV or TSV.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Label column(s) to take.")] = None,
    table: Annotated[
        list[Path] | None, typer.Option(help="Table(s) naming each file's patient.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="The site's key; made on first use.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Scan again into this cohort.")] = False,
    workers: Workers = 2,
    dry_run: DryRun = False,
) -> None:
    """Read headers; write the manifest, the quarantine list and accounts that add up.

    Example: medssl scan /data/hospital_a --site a --labels labels.csv --out cohorts/a
    """
    from medssl.cohort import scan as room

    settings = room.ScanSettings(
        sources=tuple(sources),
        out=out,
        site=site,
        site_column=site_column,
        labels=tuple(labels or ()),
        label_columns=tuple(label or ()),
        tables=tuple(table or ()),
        key_file=key_file,
        update=update,
        workers=workers,
    )
    if dry_run:
        show("would read (nothing written):", room.plan(settings))
        return
    with bar("headers") as progress:
        done = room.scan(settings, progress)
    show(
        f"{out}: {done.found} files found = {done.indexed} indexed + {done.skipped} skipped "
        f"+ {done.quarantined} quarantined",
        {
            "images": done.images,
            "patients": f"{done.patients} ({done.patients_with_two} with two or more images)",
            "sites": ", ".join(f"{s} {n}" for s, n in done.sites.items()),
            "labelled_images": done.labelled_images,
            "set_aside": ", ".join(f"{c} {n}" for c, n in done.reasons.items()) or "nothing",
            "notes": ", ".join(f"{c} {n}" for c, n in done.notes.items()) or "none",
        },
    )
    if done.gone:
        say(
            f"  {done.gone} images of the earlier scan were not found again and have left the manifest"
        )
    for report in done.labels:
        say(
            f"  labels {report.table}: {report.joined} of {report.rows} rows joined by {report.key}, "
            f"{report.orphans} without an image; took {', '.join(report.columns) or 'no column'}"
        )
        for column, reason in report.left_out.items():
            say(f"    left out {column}: {reason}")
    say(f"  next: medssl decode {out} --size 96")


@app.command()
def decode(
    cohort: Annotated[Path, typer.Argument(help="A scanned cohort.")],
    size: Annotated[int | None, typer.Option(help="Side of the stored square, pixels.")] = None,
    volumes: Annotated[
        Literal["slices", "whole"] | None, typer.Option(help="Volumes as axial slices or whole.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A pretraining config; its decode: block is used.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Other decode settings, key=value.")
    ] = None,
    workers: Workers = 2,
    settings: ShowSettings = False,
    dry_run: DryRun = False,
) -> None:
    """Read the pixels once, into a store named by the settings.

    Example: medssl decode cohorts/a --size 96
    """
    from medssl import store as room
    from medssl.cohort import manifest
    from medssl.config import DecodeConfig, PretrainConfig
    from medssl.loading import load, validate

    if settings:
        print_settings(DecodeConfig)
    base = load(PretrainConfig, config).decode.model_dump() if config is not None else {}
    given = {"size": size, "volumes": volumes}
    base |= {k: v for k, v in given.items() if v is not None}
    chosen = load(DecodeConfig, None, tuple(overrides or ())).model_dump(exclude_unset=True)
    resolved = validate(DecodeConfig, {**base, **chosen}, "decode")
    if dry_run:
        table = manifest.read(cohort).table
        items = (
            sum(table.column("frames").to_pylist())
            if resolved.volumes == "slices"
            else table.num_rows
        )
        size_mib = items * resolved.size ** (3 if resolved.volumes == "whole" else 2) * 2 / 2**20
        facts = {
            **resolved.model_dump(),
            "images": table.num_rows,
            "at_most_MiB": round(size_mib, 1),
        }
        show(f"would decode into store {room.store_digest(resolved)} (nothing written):", facts)
        return
    with bar("pixels") as progress:
        done = room.decode(cohort, resolved, workers, progress)
    show(
        f"{cohort}: {done.images} images = {done.reused} there already + {done.decoded} decoded "
        f"+ {done.set_aside} set aside",
        {
            "stored_items": done.items,
            "set_aside": ", ".join(f"{c} {n}" for c, n in done.reasons.items()) or "nothing",
            "store": done.store,
        },
    )


@app.command()
def split(
    cohort: Annotated[Path, typer.Argument(help="A scanned cohort.")],
    seed: Annotated[int, typer.Option(help="Decides who goes where.", min=0)] = 0,
    val: Annotated[float, typer.Option(help="Share of patients for validation.")] = 0.15,
    test: Annotated[float, typer.Option(help="Share of patients held out.")] = 0.2,
    file: Annotated[Path | None, typer.Option(help="CSV with patient_id and split.")] = None,
) -> None:
    """Divide the patients into train, validation and test; earlier patients never move.

    Example: medssl split cohorts/a --seed 0
    """
    from medssl.cohort import split as room

    done = room.split(cohort, seed, (val, test), file)
    show(
        f"{cohort}/split.parquet",
        {
            "patients": ", ".join(f"{s} {n}" for s, n in done.patients.items()),
            "images": ", ".join(f"{s} {n}" for s, n in done.images.items()),
            "new_patients": done.new,
            "linked_by_identical_pictures": done.linked,
        },
    )


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
    settings: ShowSettings = False,
    dry_run: DryRun = False,
) -> None:
    """Pretrain an encoder on training and unlabelled patients.

    Example: medssl pretrain configs/pretrain/micle-cxr.yaml batch=128 --data cohorts/a --out runs/micle
    """
    from medssl.config import PretrainConfig
    from medssl.loading import load, to_yaml

    if settings:
        print_settings(PretrainConfig)
    resolved = load(PretrainConfig, need(config, "CONFIG"), tuple(overrides or ()))
    cohort = need(data, "--data")
    from medssl.train import pretrain as room

    if dry_run:
        say(to_yaml(resolved))
        show("would run (nothing written):", room.cost(resolved, cohort, split))
        return
    with bar("steps") as progress:
        run = room.pretrain(
            resolved,
            cohort,
            need(out, "--out"),
            split=split,
            resume=resume,
            progress=lambda done, total, _: progress(done, total),
        )
    show(f"{run.path}: encoder written", run.summary)


@app.command()
def finetune(
    config: Config = None,
    overrides: Overrides = None,
    encoder: Annotated[
        Path | None, typer.Option("--encoder", help="A finished pretraining run.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A decoded, split, labelled cohort.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run directory; new or empty.")
    ] = None,
    allow_seen: AllowSeen = False,
    settings: ShowSettings = False,
    dry_run: DryRun = False,
) -> None:
    """Fit classifiers on nested label budgets; keep one, and draw the label-efficiency curve.

    Example: medssl finetune configs/finetune/probe.yaml target=finding --encoder runs/micle
    --data cohorts/a --out runs/finding
    """
    from medssl.config import FinetuneConfig
    from medssl.loading import load, to_yaml

    if settings:
        print_settings(FinetuneConfig)
    resolved = load(FinetuneConfig, need(config, "CONFIG"), tuple(overrides or ()))
    run_of, cohort = need(encoder, "--encoder"), need(data, "--data")
    from medssl.finetune import finetune as room

    if dry_run:
        say(to_yaml(resolved))
        show("would run (nothing written):", room.plan(resolved, run_of, cohort))
        return
    run = room.finetune(
        resolved, run_of, cohort, need(out, "--out"), allow_seen=allow_seen, progress=_cell_line
    )
    show(f"{run.path}: classifier, predictions and curve written", run.summary)
    from medssl.finetune.curve import as_text

    say(as_text(run.path / "curve.parquet"))


def _cell_line(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K{text}", err=True, nl=False)


@app.command()
def evaluate(
    model: Annotated[Path | None, typer.Argument(help="A finished finetune run.")] = None,
    overrides: Overrides = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="The new hospital's scanned cohort.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run directory; new or empty.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML settings; the defaults if absent.")
    ] = None,
    allow_seen: AllowSeen = False,
    workers: Workers = 2,
    settings: ShowSettings = False,
    dry_run: DryRun = False,
) -> None:
    """Test a classifier on a new hospital's cohort and say plainly whether it holds.

    Example: medssl evaluate runs/finding --data cohorts/b --out runs/finding-at-b
    """
    from medssl.config import EvaluateConfig
    from medssl.loading import load, to_yaml

    if settings:
        print_settings(EvaluateConfig)
    resolved = load(EvaluateConfig, config, tuple(overrides or ()))
    run_of, cohort = need(model, "RUN"), need(data, "--data")
    from medssl import infer

    if dry_run:
        say(to_yaml(resolved))
        show(
            "would run (nothing written):",
            infer.plan(resolved, run_of, cohort, allow_seen=allow_seen),
        )
        return
    with bar("pixels") as progress:
        run = infer.evaluate_at(
            resolved,
            run_of,
            cohort,
            need(out, "--out"),
            allow_seen=allow_seen,
            workers=workers,
            progress=progress,
        )
    show(
        f"verdict: {run.summary['verdict']}",
        {k: v for k, v in run.summary.items() if k != "verdict"},
    )
    say(f"  report: {run.path}/report.html")


@app.command(name="app")
def app_command(
    root: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder with finished runs.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 8501,
    address: Annotated[
        str, typer.Option(help="Only loopback is served without sign-in.")
    ] = "127.0.0.1",
) -> None:
    """Open finished evaluations in a browser: figures, cases, similar cases.

    Example: medssl app runs
    """
    from medssl import serve

    raise typer.Exit(serve.serve(root, port, address))


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for cohorts and runs; new or empty.")
    ] = Path("runs/demo"),
    sample_data: Annotated[Path, typer.Option(help="The sample tree; made if absent.")] = Path(
        "sample_data"
    ),
) -> None:
    """Run the main job on sample_data/: both hospitals, SimCLR, MICLe, a classifier, a report."""
    from medssl import demo as room

    room.demo(out, sample_data, say)


@app.command()
def synthesize(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; new or empty.")],
    patients: Annotated[
        int, typer.Option(help="Patients of hospital A; B gets half.", min=2)
    ] = 160,
    mri_patients: Annotated[int, typer.Option(help="MR patients per site.", min=0)] = 16,
    size: Annotated[int, typer.Option(help="Base of the radiograph matrix, pixels.")] = 96,
    seed: Annotated[int, typer.Option(help="Everything is a function of it.", min=0)] = 0,
    subgroup_effect: Annotated[bool, typer.Option(help="Fainter findings in some groups.")] = True,
    drift: Annotated[bool, typer.Option(help="Exposure drifts with the date.")] = True,
    nuisances: Annotated[bool, typer.Option(help="Markers and collimation.")] = True,
    detector_difference: Annotated[
        bool, typer.Option(help="Hospital B has another detector.")
    ] = True,
) -> None:
    """Make two synthetic hospitals and small MR volumes with planted findings."""
    from medssl.synthetic import SynthesisSettings
    from medssl.synthetic import synthesize as make

    made = make(
        out,
        SynthesisSettings(
            patients=patients,
            mri_patients=mri_patients,
            size=size,
            seed=seed,
            subgroup_effect=subgroup_effect,
            drift=drift,
            nuisances=nuisances,
            detector_difference=detector_difference,
        ),
    )
    show(f"{out}: written", {k: getattr(made, k) for k in made.__dataclass_fields__})


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


if __name__ == "__main__":
    entry()
