"""Commands that make and keep a cohort: scan, decode, split."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medssl.cli.base import DryRun, ShowSettings, Workers, app
from medssl.terminal import bar, print_settings, say, show


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
