"""The verdict: printed rules, tested in order; the first that fires wins. Not rejecting is not proof."""

from dataclasses import dataclass
from typing import Any

from medssl.config import EvaluateConfig
from medssl.evaluate.performance import ALL_SITES, find

DO_NOT_USE = "do not use here"
CANNOT_TELL = "cannot tell"
ADJUST = "use after local adjustment"
AS_IS = "use as is"
RULES = (
    f"{DO_NOT_USE}: the upper limit of the AUROC, here or at one of the sites, is below the floor",
    f"{CANNOT_TELL}: no labels, too few labelled images or patients, an interval too wide, or a "
    "lower limit of the AUROC below the floor",
    f"{ADJUST}: ranks well enough, but its percentages are off, and a recalibration judged on "
    "patients it did not see brings them back",
    f"{AS_IS}: the lower limit of the AUROC is at or above the floor, and the intervals of the "
    "calibration slope and of observed over expected lie inside their margins",
)


@dataclass(frozen=True)
class Verdict:
    """One answer, the rule that fired, and the numbers behind it in words."""

    answer: str
    rule: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """What the rules read.

    Attributes:
        table: rows of ``performance.rows``.
        headline: metric of the first two rules.
        updated: rows of ``performance.after_local_update``.
        join: share of pictures with a usable label; None without a label table.
        missing: why there is no label, where it is not for want of a table.
        with_event, without: patients with and without the finding; the least over classes.
    """

    table: list[dict[str, Any]]
    headline: str
    updated: list[dict[str, Any]]
    join: float | None
    with_event: int
    without: int
    missing: str = ""


def decide(evidence: Evidence, config: EvaluateConfig) -> Verdict:
    """Return the verdict that the rules give."""
    if evidence.join is None:
        words = evidence.missing or "There are no labels here"
        words += ", so nothing can be said about how well the model does."
        return Verdict(CANNOT_TELL, 1, (words,))
    low = _below_floor(evidence, config)
    if low:
        return Verdict(DO_NOT_USE, 0, tuple(low))
    unclear = _unclear(evidence, config)
    if unclear:
        return Verdict(CANNOT_TELL, 1, tuple(unclear))
    off = _calibration(evidence, config)
    row = find(evidence.table, evidence.headline)[0]
    good = f"AUROC {_shown(row)}: its lower limit is at or above the floor of {config.floor_auroc:.2f}."
    if not off:
        margins = "Calibration slope and observed over expected lie inside their margins."
        return Verdict(AS_IS, 3, (good, margins))
    if _mended(evidence, config):
        words = "A local recalibration, judged on patients it did not see, brings them inside."
        return Verdict(ADJUST, 2, (good, *off, words))
    words = "A local recalibration does not bring them safely inside."
    return Verdict(CANNOT_TELL, 1, (good, *off, words))


def _shown(row: dict[str, Any]) -> str:
    return f"{row['value']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"


def _below_floor(evidence: Evidence, config: EvaluateConfig) -> list[str]:
    out = []
    for row in evidence.table:
        mine = row["metric"] == evidence.headline and row["cohort"] == "target"
        if not mine or row.get("upper") is None or row["upper"] >= config.floor_auroc:
            continue
        place = "here" if row["site"] == ALL_SITES else f"at site {row['site']}"
        out.append(
            f"AUROC {place} is {_shown(row)}: even its upper limit is below the floor of "
            f"{config.floor_auroc:.2f} that was set before looking."
        )
    return out


def _unclear(evidence: Evidence, config: EvaluateConfig) -> list[str]:
    out = []
    if evidence.join is not None and evidence.join < config.min_label_join:
        out.append(
            f"Only {100 * evidence.join:.0f} % of the images have a usable label "
            f"(at least {100 * config.min_label_join:.0f} % are asked)."
        )
    for count, what in ((evidence.with_event, "with"), (evidence.without, "without")):
        if count < config.min_events:
            out.append(
                f"{count} patients {what} the finding; at least {config.min_events} are asked."
            )
    row = next(iter(find(evidence.table, evidence.headline)), None)
    if row is None or row["lower"] is None:
        note = row["note"] if row is not None else "no labelled picture"
        return [*out, f"The AUROC cannot be given with an interval: {note}"]
    if row["upper"] - row["lower"] > config.max_width:
        out.append(f"The AUROC interval {_shown(row)} is wider than {config.max_width:.2f}.")
    if row["lower"] < config.floor_auroc:
        floor = f"below the floor of {config.floor_auroc:.2f}"
        out.append(f"AUROC {_shown(row)}: its lower limit is {floor}, so it may be too low.")
    return out


def _inside(low: float | None, high: float | None, margin: tuple[float, float]) -> bool:
    return low is not None and high is not None and margin[0] <= low and high <= margin[1]


def _calibration(evidence: Evidence, config: EvaluateConfig) -> list[str]:
    out = []
    names = {"calibration_slope": config.margin_slope, "observed_over_expected": config.margin_oe}
    for metric, margin in names.items():
        for row in find(evidence.table, metric):
            if not _inside(row["lower"], row["upper"], margin):
                shown = _shown(row) if row["lower"] is not None else "not computable"
                words = metric.replace("_", " ")
                out.append(
                    f"{words} ({row['class']}) is {shown}; asked: {margin[0]} to {margin[1]}."
                )
    return out


def _mended(evidence: Evidence, config: EvaluateConfig) -> bool:
    return bool(evidence.updated) and all(
        _inside(r.get("slope"), r.get("slope"), config.margin_slope)
        and _inside(r.get("oe"), r.get("oe"), config.margin_oe)
        for r in evidence.updated
    )
