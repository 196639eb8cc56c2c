"""Commands that make classifiers and show them: finetune, evaluate, pack, app, demo, synthesize."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.cli.base import AllowSeen, Config, DryRun, Overrides, ShowSettings, Workers, app, need
from medssl.terminal import bar, print_settings, say, show

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}")


@app.command()
def finetune(
    config: Config = None,
    overrides: Overrides = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            metavar="[NAME=]RUN",
            help="A finished pretraining run. May be repeated with names, to compare starts.",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A decoded, split, labelled cohort.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run directory; new or empty.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where it stopped; finished trainings stay.")
    ] = False,
    allow_seen: AllowSeen = False,
    settings: ShowSettings = False,
    dry_run: DryRun = False,
) -> None:
    """Fit classifiers on nested label budgets; keep one, and draw the label-efficiency curve.

    Example: medssl finetune configs/finetune/probe.yaml target=finding --encoder runs/micle
    --data cohorts/a --out runs/finding

    Several starts on the same labels: --encoder simclr=runs/simclr --encoder micle=runs/micle
    """
    from medssl.config import FinetuneConfig
    from medssl.loading import load, to_yaml

    if settings:
        print_settings(FinetuneConfig)
    resolved = load(FinetuneConfig, need(config, "CONFIG"), tuple(overrides or ()))
    encoders, cohort = _named_runs(need(encoder, "--encoder")), need(data, "--data")
    from medssl.finetune import finetune as room

    if dry_run:
        say(to_yaml(resolved))
        for name in resolved.targets or (resolved.target,):
            own = resolved.model_copy(update={"target": name, "targets": ()})
            show(f"{name}: would run (nothing written):", room.plan(own, encoders, cohort))
        return
    how: dict[str, Any] = {"allow_seen": allow_seen, "resume": resume, "progress": _cell_line}
    place = need(out, "--out")
    if resolved.targets:
        from medssl.finetune import several

        several.finetune_several(resolved, encoders, cohort, place, **how)
        say(f"{place}: one run per label, {', '.join(resolved.targets)}; with all labels:")
        say(several.as_text(place, resolved.targets))
        return
    run = room.finetune(resolved, encoders, cohort, place, **how)
    show(f"{run.path}: classifier, predictions and curve written", run.summary)
    from medssl.finetune.curve import as_text

    say(as_text(run.path))


def _named_runs(words: list[str]) -> dict[str, Path]:
    """Return runs by name from ``RUN`` or ``NAME=RUN``; a lone one is called pretrained.

    Raises:
        UsageError: two of one name, or a name that no file could carry.
    """
    from medssl.errors import UsageError

    found: dict[str, Path] = {}
    problems = []
    for word in words:
        name, mark, path = word.partition("=")
        if not mark or Path(word).is_dir():
            name, path = "pretrained", word
        if not NAME.fullmatch(name):
            problems.append(
                f"--encoder {word}: a name has letters, digits, . _ + or - (at most 40)."
            )
        if name in found:
            problems.append(f"--encoder {word}: a second {name!r}; name them NAME=RUN.")
        found[name] = Path(path)
    if problems:
        raise UsageError(problems, "E-NAMES")
    return found


def _cell_line(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K{text}", err=True, nl=False)


@app.command()
def suggest(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished finetune run, or a pretraining run.")
    ],
    data: Annotated[Path | None, typer.Option("--data", help="A decoded cohort.")] = None,
    patients: Annotated[int, typer.Option(help="How many patients to name.", min=1)] = 20,
    target: Annotated[
        str | None, typer.Option(help="The label; required with a pretraining run.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A CSV file; new.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.", min=0)] = 0,
) -> None:
    """Name the unlabelled patients whose labels would teach most: unsure, and unlike one another.

    Example: medssl suggest runs/finding --data cohorts/a --patients 20 --out next.csv

    Before any label there is: medssl suggest runs/micle --target finding --data cohorts/a
    """
    cohort = need(data, "--data")
    from medssl import suggest as room
    from medssl.errors import RefusedError
    from medssl.files import write_csv

    if out is not None and out.exists():
        raise RefusedError(
            f"{out}: there already; nothing was written. Use another --out.", "E-NOTEMPTY"
        )
    found = room.suggest(run, cohort, patients, target=target, seed=seed)
    names = ("rank", "patient_id", "pictures", "unsure")
    rows = [(s.rank, s.patient, s.pictures, "" if s.unsure is None else s.unsure) for s in found]
    if out is not None:
        write_csv(out, names, rows)
        say(f"{out}: {len(found)} patients to label next, by pseudonym")
        return
    say(f"{names[0]:>6}  {names[1]:<20}{names[2]:>9}{names[3]:>9}")
    for rank, patient, pictures, unsure in rows:
        say(f"{rank:>6}  {patient:<20}{pictures:>9}{unsure:>9}")


@app.command()
def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(help="A finished finetune run, a pack, or an evaluation to report anew."),
    ] = None,
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
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RUN,...",
            help="A remedy: finetune runs at this cohort (several are folds). May be repeated.",
        ),
    ] = None,
    diff: Annotated[
        Path | None,
        typer.Option(metavar="OLD", help="Print what changed since an older evaluation; no run."),
    ] = None,
    allow_seen: AllowSeen = False,
    workers: Workers = 2,
    settings: ShowSettings = False,
    dry_run: DryRun = False,
) -> None:
    """Test a classifier on a new hospital's cohort and say plainly whether it holds.

    Example: medssl evaluate runs/finding --data cohorts/b --out runs/finding-at-b

    Report anew, without predicting: medssl evaluate runs/finding-at-b since=2024-01 --out runs/at-b-2024

    What changed: medssl evaluate runs/finding-at-b-new --diff runs/finding-at-b
    """
    from medssl.config import EvaluateConfig
    from medssl.errors import UsageError
    from medssl.loading import load, to_yaml

    if settings:
        print_settings(EvaluateConfig)
    resolved = load(EvaluateConfig, config, tuple(overrides or ()))
    run_of = need(model, "RUN")
    if diff is not None:
        if out is not None or compare:
            raise UsageError(
                "--diff prints and writes nothing; leave out --out and --compare.", "E-USAGE"
            )
        from medssl.evaluate.diff import as_text

        say(as_text(diff, run_of))
        return
    from medssl import runs

    remedies = tuple(compare or ())
    if runs.read(run_of).verb == "evaluate":
        from medssl.evaluate.evaluate import again, plan_again

        if dry_run:
            say(to_yaml(resolved))
            show("would report (nothing written):", plan_again(run_of, resolved, remedies))
            return
        run = again(run_of, resolved, need(out, "--out"), remedies)
    else:
        from medssl import external

        cohort = need(data, "--data")
        if dry_run:
            say(to_yaml(resolved))
            planned = external.plan(resolved, run_of, cohort, allow_seen=allow_seen)
            show("would run (nothing written):", planned)
            return
        with bar("pixels") as progress:
            run = external.evaluate_at(
                resolved,
                run_of,
                cohort,
                need(out, "--out"),
                compare=remedies,
                allow_seen=allow_seen,
                workers=workers,
                progress=progress,
            )
    show(
        f"verdict: {run.summary['verdict']}",
        {k: v for k, v in run.summary.items() if k != "verdict"},
    )
    say(f"  report: {run.path}/report.html")


@app.command()
def pack(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished finetune run.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to ship; new or empty.")],
    share_embeddings: Annotated[
        bool,
        typer.Option(
            "--share-embeddings",
            help="Add at most 2,000 embeddings of held-out pictures. They can identify people.",
        ),
    ] = False,
) -> None:
    """Pack a classifier with summaries of its hospital, so that another can evaluate it alone.

    Example: medssl pack runs/finding --out ship/finding
    """
    from medssl.evaluate.pack import pack as make

    made = make(run, out, share_embeddings=share_embeddings)
    show(f"{made.path}: weights and summaries; no image, no patient", made.summary)


@app.command(name="app")
def app_command(
    root: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder with finished runs.")],
    port: Annotated[int, typer.Option(help="TCP port.", min=1, max=65535)] = 8501,
    address: Annotated[
        str, typer.Option(help="Where to listen; beyond loopback only with --sign-in.")
    ] = "127.0.0.1",
    sign_in: Annotated[
        Path | None,
        typer.Option("--sign-in", metavar="FILE.toml", help="Where people sign in (OpenID)."),
    ] = None,
) -> None:
    """Open finished runs in a browser: cases, trust, the new hospital, research.

    Example: medssl app runs

    For several readers: medssl app runs --address 0.0.0.0 --sign-in sign-in.toml
    """
    from medssl import serve

    serve.serve(root, port, address, sign_in)


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
