"""Commands about images: scan, decode, split, check, deid."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medssl.cli.base import Cluster, DryRun, ShowSettings, Workers, app
from medssl.terminal import bar, print_settings, say, show


@app.command()
def scan(
    sources: Annotated[list[Path], typer.Argument(help="Folders or files to read.")],
    out: Annotated[Path, typer.Option("--out", help="The cohort's folder.")],
    site: Annotated[str | None, typer.Option(help="The hospital's name.")] = None,
    site_column: Annotated[str | None, typer.Option(help="Table column that names it.")] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label table(s): CSV, TSV or FILE.xlsx#Sheet.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Label column(s) to take.")] = None,
    label_schema: Annotated[
        Path | None,
        typer.Option(help="Table of label columns: kind, values, missing, uncertain, min, max."),
    ] = None,
    table: Annotated[
        list[Path] | None, typer.Option(help="Table(s) naming each file's patient.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="The site's key; made on first use.")
    ] = None,
    merge: Annotated[
        list[Path] | None, typer.Option(help="Table(s) of identifiers confirmed to be one patient.")
    ] = None,
    allow_unknown: Annotated[
        bool,
        typer.Option(
            "--allow-unknown-patient",
            help="Take objects without a PatientID, each study as a patient of its own, for training only.",
        ),
    ] = False,
    allow_burned_in: Annotated[
        bool,
        typer.Option("--allow-burned-in", help="Take objects whose header says text is burned in."),
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Scan again into this cohort.")] = False,
    workers: Workers = 2,
    cluster: Cluster = None,
    dry_run: DryRun = False,
) -> None:
    """Read headers; write the manifest, the quarantine list and accounts that add up.

    Example: medssl scan /data/hospital_a --site a --labels labels.csv --out cohorts/a
    """
    from medssl.cohort import scan as room
    from medssl.cohort.labels import report_lines

    settings = room.ScanSettings(
        sources=tuple(sources),
        out=out,
        site=site,
        site_column=site_column,
        labels=tuple(labels or ()),
        label_columns=tuple(label or ()),
        label_schema=label_schema,
        tables=tuple(table or ()),
        key_file=key_file,
        merge=tuple(merge or ()),
        allow_unknown=allow_unknown,
        allow_burned_in=allow_burned_in,
        update=update,
        workers=workers,
        cluster=cluster,
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
    if done.suspects:
        say(
            f"  {done.suspects} pair(s) of identifiers may be one person and were not merged. Read "
            f"{out}/private/suspects.csv, keep the lines that are right, then scan with --update --merge FILE"
        )
    if done.merge_unused:
        say(f"  {done.merge_unused} confirmed identities (--merge) name nobody of this cohort")
    if done.gone:
        say(
            f"  {done.gone} images of the earlier scan were not found again and have left the manifest"
        )
    for report in done.labels:
        for line in report_lines(report):
            say(f"  {line}")
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
    cluster: Cluster = None,
    settings: ShowSettings = False,
    dry_run: DryRun = False,
) -> None:
    """Read the pixels once, into a store named by the settings.

    Example: medssl decode cohorts/a --size 96
    """
    from medssl import decode as room
    from medssl.cohort import manifest
    from medssl.config import DecodeConfig, PretrainConfig
    from medssl.loading import load, validate
    from medssl.store import store_digest

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
        numbers = resolved.channels * resolved.size ** (3 if resolved.volumes == "whole" else 2)
        size_mib = items * numbers * 2 / 2**20
        facts = {
            **resolved.model_dump(),
            "images": table.num_rows,
            "at_most_MiB": round(size_mib, 1),
        }
        show(f"would decode into store {store_digest(resolved)} (nothing written):", facts)
        return
    with bar("pixels") as progress:
        done = room.decode(cohort, resolved, workers, progress, cluster)
    show(
        f"{cohort}: {done.images} images = {done.reused} there already + {done.decoded} decoded "
        f"+ {done.set_aside} set aside",
        {
            "stored_items": done.items,
            "set_aside": ", ".join(f"{c} {n}" for c, n in done.reasons.items()) or "nothing",
            "copies": f"{done.copies} pair(s) of pictures are one picture, {done.shared} of two patients",
            **(
                {}
                if done.grey is None
                else {"without_colour": f"{done.grey} (three equal channels)"}
            ),
            "store": done.store,
        },
    )
    for note in done.notes:
        say(f"  {note}")


@app.command()
def split(
    cohort: Annotated[Path, typer.Argument(help="A scanned cohort.")],
    seed: Annotated[int, typer.Option(help="Decides who goes where.", min=0)] = 0,
    val: Annotated[float, typer.Option(help="Share of patients for validation.")] = 0.15,
    test: Annotated[float, typer.Option(help="Share of patients held out.")] = 0.2,
    file: Annotated[Path | None, typer.Option(help="CSV with patient_id and split.")] = None,
    test_site: Annotated[
        str | None, typer.Option(help="Hold out this site whole, and draw from the others.")
    ] = None,
) -> None:
    """Divide the patients into train, validation and test; earlier patients never move.

    Example: medssl split cohorts/a --seed 0
    """
    from medssl.cohort import split as room

    done = room.split(cohort, seed, (val, test), file, test_site)
    show(
        f"{cohort}/split.parquet",
        {
            "patients": ", ".join(f"{s} {n}" for s, n in done.patients.items()),
            "images": ", ".join(f"{s} {n}" for s, n in done.images.items()),
            "new_patients": done.new,
            "kept_with_another": f"{done.linked} (a picture in common, or perhaps one person)",
            "suspects_on_two_sides": done.torn,
        },
    )
    if not done.copies_known:
        say(
            "  not decoded yet: pictures under two names were not looked for; decode first, then split"
        )


@app.command()
def check(
    cohort: Annotated[Path, typer.Argument(help="A scanned cohort.")],
    store: Annotated[
        str | None,
        typer.Option(help="Name of the store to look into; default: the one decoded last."),
    ] = None,
) -> None:
    """Look for what would spoil a long run; write health.html and health.json into the cohort.

    Example: medssl check cohorts/a
    """
    from medssl import check as room

    health = room.check(cohort, store)
    room.write_page(health, cohort)
    for line in health.lines():
        say(line)
    say(f"  page: {cohort}/health.html")
    if health.level == "stop":
        raise typer.Exit(4)


@app.command()
def deid(
    source: Annotated[Path, typer.Argument(help="Folder or file to copy.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the copies.")],
    key_file: Annotated[Path, typer.Option(help="The site's key; made on first use.")],
    site: Annotated[
        str | None, typer.Option(help="The hospital's name; else the key file's.")
    ] = None,
    approve: Annotated[
        Path | None, typer.Option(help="Paths that a person has looked at, one per line.")
    ] = None,
    private: Annotated[
        Path | None, typer.Option(help="List of all files; else beside the key.")
    ] = None,
    merge: Annotated[
        list[Path] | None, typer.Option(help="Table(s) of identifiers confirmed to be one patient.")
    ] = None,
    workers: Workers = 2,
    dry_run: DryRun = False,
) -> None:
    """Write de-identified DICOM copies; what needs a person's eye waits.

    Example: medssl deid /data/a --out copies/a --key-file keys/a.key
    """
    from medssl.cohort import deid as room

    settings = room.DeidSettings(
        source, out, key_file, site, approve, private, tuple(merge or ()), workers
    )
    if dry_run:
        show("would read (nothing written):", room.plan(settings))
        return
    with bar("copies") as progress:
        done = room.deid(settings, progress)
    show(
        f"{out}: {done.found} files found = {done.written} written + {done.refused} refused "
        f"+ {done.skipped} skipped",
        {
            "waiting_for_review": done.review,
            "reasons": ", ".join(f"{c} {n}" for c, n in done.reasons.items()) or "none",
            "private_list": done.private,
        },
    )
    say(f"  {room.PROMISE}")
