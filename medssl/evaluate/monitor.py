"""Does it drift: observed over expected by month, with limits. True months stay private."""

from functools import partial
from pathlib import Path
from typing import Any

from medssl.config import EvaluateConfig
from medssl.evaluate.answers import Answers
from medssl.evaluate.groups import count
from medssl.evaluate.inputs import Here
from medssl.evaluate.plain import attempt, plain
from medssl.files import write_csv
from medssl.stats import cusum, drift

FILE = Path("private") / "drift.csv"
NO_DATES = (
    "Not run: no labelled picture has a study date (scan keeps dates where headers have them)."
)
FEW_MONTHS = 3


def of(here: Here, answers: Answers, config: EvaluateConfig, out: Path) -> list[dict[str, Any]]:
    """Return drift per class, months counted from the first; the true ones go to ``private/``.

    Args:
        here: with the true month of every picture.
        answers: labelled pictures.
        config: seeds and permutations.
        out: the run directory.
    """
    month = here.month[answers.row]
    if len(answers) == 0 or not (month != "").any():
        return [{"class": "", "note": NO_DATES}]
    found: list[dict[str, Any]] = []
    private = []
    first = min(m for m in month if m)
    for k in answers.shown:
        there = answers.outcome[:, k] >= 0
        known, when = answers.known(k), month[there]
        y, p = known.of(k)
        name = answers.classes[k]
        if not (when != "").any():
            found.append({"class": name, "note": NO_DATES})
            continue
        table = drift.monthly(y, p, known.patient, when)
        private += [(name, r.month, r.n, r.patients, r.events, r.expected) for r in table.rows]
        one = {
            "class": name,
            "months": [_month(plain(r), first) for r in table.rows],
            "gaps": len(table.gaps),
            "undated": table.undated,
            "note": _note(table, first),
        }
        if len(table.rows) >= FEW_MONTHS:
            data = (y, p, known.patient, when)
            seeded: Any = {"permutations": config.permutations, "seed": config.seed}
            one["trend"] = attempt(partial(drift.trend, *data))
            one["cusum"] = _cusum(attempt(partial(cusum.cusum, *data, **seeded)), first)
        found.append(one)
    columns = ["class", "month", "images", "patients", "events", "expected"]
    write_csv(out / FILE, columns, private, 0o600)
    return found


def number_of(month: str, first: str) -> int:
    """Return how many months after the first, which is month 1."""
    years, months = int(month[:4]) - int(first[:4]), int(month[5:7]) - int(first[5:7])
    return 12 * years + months + 1


def _note(table: drift.Months, first: str) -> str:
    """Return what is missing, months as numbers."""
    out = [f"{table.undated} pictures have no month and are left out."] if table.undated else []
    if table.gaps:
        listed = ", ".join(str(number_of(m, first)) for m in table.gaps)
        out.append(f"No picture comes from month {listed}.")
    return " ".join(out)


def _month(row: dict[str, Any], first: str) -> dict[str, Any]:
    """Return a row with its month as a number; what would tell of one to four patients is hidden."""
    shown = {k: v for k, v in row.items() if k != "month"}
    shown |= {k: count(row[k]) for k in ("patients", "events", "n")}
    if any(isinstance(shown[k], str) for k in ("patients", "events", "n")):
        nothing = ("expected", "oe", "lower", "upper", "auroc")
        shown |= dict.fromkeys(nothing) | {"note": "Counts below five are not shown."}
    elif row["auroc"] is None:
        shown["note"] = "Too few patients of either kind for an AUROC."
    return {"month": number_of(row["month"], first), **shown}


def _cusum(found: dict[str, Any], first: str) -> dict[str, Any]:
    if "months" not in found:
        return found
    crossed = found["crossed"]
    return {
        **found,
        "months": [number_of(m, first) for m in found["months"]],
        "crossed": None if crossed is None else number_of(crossed, first),
    }
