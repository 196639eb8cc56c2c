"""The command that lists runs, and sets two beside each other."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medssl.cli.base import app
from medssl.terminal import duration, say

if TYPE_CHECKING:
    from medssl.overview import Comparison, Entry

COLUMNS = ("run", "verb", "status", "started (UTC)", "time", "figures")
NAMES = {"effective_rank": "rank", "images_per_s": "img/s", "auroc": "AUROC"}


@app.command()
def runs(
    places: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER | A B]", help="A folder with runs (runs), or two runs."),
    ] = None,
    verb: Annotated[str | None, typer.Option(help="Only runs of this verb.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only done, running, stopped, failed, unknown or broken.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List runs with their status and figures, or say what differs between two.

    Example: medssl runs runs --verb pretrain

    Two runs: medssl runs runs/simclr runs/micle
    """
    from medssl import overview
    from medssl.errors import UsageError

    given = places or [Path("runs")]
    if len(given) > 2:
        raise UsageError(f"{len(given)} places; give one folder, or two runs.", "E-USAGE")
    if status is not None and status not in overview.STATUSES:
        words = f"--status {status!r}: is none of {', '.join(overview.STATUSES)}."
        raise UsageError(words, "E-USAGE")
    if len(given) == 2:
        if verb is not None or status is not None:
            raise UsageError("--verb and --status choose from a list; leave them out.", "E-USAGE")
        found = overview.compare(*given)
        say(_as_json(asdict(found)) if as_json else _differences(found, given))
        return
    entries = [
        e for e in overview.find(given[0]) if verb in {None, e.verb} and status in {None, e.status}
    ]
    if as_json:
        say(_as_json([asdict(e) for e in entries]))
        return
    rows = [COLUMNS, *[_row(e) for e in entries]]
    asked = verb is not None or status is not None
    say(_table(rows) if entries else f"{overview.plain(given[0])}: no {'such ' * asked}runs there.")


def _as_json(data: Any) -> str:
    return json.dumps(data, indent=2)


def _row(entry: "Entry") -> tuple[str, ...]:
    spent = "" if entry.minutes is None else duration(60 * entry.minutes)
    started = entry.started[:16].replace("T", " ")
    return (entry.name, entry.verb, _status(entry), started, spent, _figures(entry))


def _status(entry: "Entry") -> str:
    words = entry.status
    if entry.status in {"running", "stopped", "failed"} and entry.step is not None:
        planned = f"/{entry.total}" if entry.total is not None else ""
        words += f" at {entry.step}{planned}"
    return f"{words} ({entry.code})" if entry.code else words


def _figures(entry: "Entry") -> str:
    shown = {k: v for k, v in entry.figures.items() if k not in {"lower", "upper"}}
    words = [f"{NAMES.get(k, k)} {_number(v)}" for k, v in shown.items() if k != "verdict"]
    if "lower" in entry.figures and "upper" in entry.figures:
        words[-1] += f" ({_number(entry.figures['lower'])} to {_number(entry.figures['upper'])})"
    verdict = [str(shown["verdict"])] if "verdict" in shown else []
    return ", ".join([*verdict, *words]).replace("auroc_here", "AUROC")


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _differences(found: "Comparison", places: Sequence[Path]) -> str:
    from medssl.overview import plain

    parts = [f"A  {plain(places[0])}\nB  {plain(places[1])}"]
    parts += [_section("settings", found.settings)]
    parts += [_section("code, machine and data", found.facts)]
    parts += [_curves(found)] if found.curves else ["No figure was logged by both."]
    parts += ["\n".join(f"Note: {note}" for note in found.notes)] if found.notes else []
    return "\n\n".join(parts)


def _section(title: str, differing: dict[str, tuple[Any, Any]]) -> str:
    from medssl.overview import plain

    if not differing:
        return f"{title}: the same"
    told = [(k, *("-" if v is None else plain(v) for v in pair)) for k, pair in differing.items()]
    # Digests differ in their first characters or not at all.
    short = [
        [plain(key), *(v if len(v) <= 40 else f"{v[:12]}..." for v in two)] for key, *two in told
    ]
    return _table([[title, "A", "B"], *short])


def _curves(found: "Comparison") -> str:
    from medssl.overview import SHARES

    drawn = _drawn()
    rows = [["curves", "", *(f"{share:.0%}" for share in SHARES), ""]]
    for curve in found.curves:
        for name, values, line in (("A", curve.a, curve.drawn[0]), ("B", curve.b, curve.drawn[1])):
            numbers = [f"{value:.4g}" for value in values]
            label = curve.key if name == "A" else ""
            rows.append([label, name, *numbers, line if drawn else ""])
    return _table(rows)


def _drawn() -> bool:
    return sys.stdout.isatty()
