"""The verdict: printed rules, tested in order; the first that fires wins. Not rejecting is not proof."""

from dataclasses import dataclass, field
from typing import Any

from medssl.config import EvaluateConfig
from medssl.evaluate.groups import FEW
from medssl.evaluate.groups import count as shown_count
from medssl.evaluate.performance import ALL_SITES, Row, find

DO_NOT_USE = "do not use here"
CANNOT_TELL = "cannot tell"
ADJUST = "use after local adjustment"
AS_IS = "use as is"
RULES = (
    f"{DO_NOT_USE}: an upper limit is below its floor: of the AUROC, here or at one of the sites; of "
    "the net benefit over flagging everyone or no one; or of the sensitivity, here or in a pre-named "
    "group",
    f"{CANNOT_TELL}: no labels or too few of them, too few patients, an interval too wide, or a "
    "lower limit below its floor: of the AUROC, or of the sensitivity, here or in a pre-named group",
    f"{ADJUST}: ranks well enough, but its percentages are off, and a recalibration judged on "
    "patients it did not see brings them back",
    f"{AS_IS}: all lower limits are at or above their floors, and the intervals of the calibration "
    "slope and of observed over expected lie inside their margins",
    f"{CANNOT_TELL}: anything else, such as percentages whose interval leaves its margin and that a "
    "recalibration does not bring safely inside",
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
        groups: rows of ``groups.rows``.
        judged: per class, the updates judged on patients they did not see.
        join: share of pictures with a usable label; None without a label table.
        missing: why there is no label, where it is not for want of a table.
        with_event, without: patients with and without the finding; the least over classes.
    """

    table: list[Row]
    headline: str
    groups: list[Row]
    judged: list[dict[str, Any]]
    join: float | None
    with_event: int
    without: int
    missing: str = ""
    words: dict[str, str] = field(default_factory=dict)

    def named(self, row: dict[str, Any]) -> str:
        """Return the class of a row in words."""
        name = str(row["class"])
        return self.words.get(name, name)


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
        return Verdict(AS_IS, 3, (good, margins, *_unjudged(evidence)))
    mended = _mended(evidence, config)
    if mended:
        return Verdict(ADJUST, 2, (good, *off, *mended, *_unjudged(evidence)))
    words = "A local recalibration, judged on patients it did not see, does not bring them safely inside."
    return Verdict(CANNOT_TELL, 4, (good, *off, words))


def _unjudged(evidence: Evidence) -> list[str]:
    """Return a sentence about the groups that were too small to be judged."""
    few = {(r["group"], r["level"]) for r in evidence.groups if r.get("note") == FEW}
    if not few:
        return []
    listed = ", ".join(f"{group} = {level}" for group, level in sorted(few))
    return [f"Not judged, too few patients to say: {listed}."]


def _shown(row: Row, digits: int = 2) -> str:
    value, low, high = (f"{row[k]:.{digits}f}" for k in ("value", "lower", "upper"))
    return f"{value} ({low} to {high})"


def _below_floor(evidence: Evidence, config: EvaluateConfig) -> list[str]:
    """Return a sentence for every upper limit that is below its floor."""
    out = []
    for row in evidence.table:
        mine = row["metric"] == evidence.headline and row["cohort"] == "target"
        if not mine or row["level"] != "image" or row.get("upper") is None:
            continue
        if row["upper"] < config.floor_auroc:
            place = "here" if row["site"] == ALL_SITES else f"at site {row['site']}"
            out.append(
                f"AUROC {place} is {_shown(row)}: even its upper limit is below the floor of "
                f"{config.floor_auroc:.2f} that was set before looking."
            )
    # Where nearly all or nearly none have the finding, flagging everyone or no one cannot be beaten.
    both = min(evidence.with_event, evidence.without) >= config.min_cell_events
    for row in find(evidence.table, "net_benefit_gain") if both else []:
        if row["upper"] is not None and row["upper"] < 0:
            out.append(
                f"Net benefit at the working threshold ({evidence.named(row)}) is below that of flagging "
                f"everyone or no one by {-row['value']:.3f} per image "
                f"({-row['upper']:.3f} to {-row['lower']:.3f})."
            )
    for row in _sensitivities(evidence):
        if row["upper"] < config.floor_sensitivity:
            out.append(
                f"Sensitivity for {evidence.named(row)} in {_where(row)} is "
                f"{_shown(row)}: even its upper limit is below the floor of "
                f"{config.floor_sensitivity:.2f}."
            )
    return out


def _where(row: Row) -> str:
    return "all pictures here" if row["group"] == "all" else f"{row['group']} = {row['level']}"


def _sensitivities(evidence: Evidence) -> list[Row]:
    everyone = [{**r, "group": "all", "level": "here"} for r in find(evidence.table, "sensitivity")]
    rows = [*everyone, *(r for r in evidence.groups if r["metric"] == "sensitivity")]
    return [r for r in rows if r.get("upper") is not None]


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
                f"{shown_count(count)} patients {what} the finding; at least {config.min_events} are "
                "asked."
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
    for one in _sensitivities(evidence):
        if one["lower"] < config.floor_sensitivity:
            out.append(
                f"Sensitivity for {evidence.named(one)} in {_where(one)} is "
                f"{_shown(one)}: its lower limit is below the floor of {config.floor_sensitivity:.2f}."
            )
    return out


def _inside(row: dict[str, Any], margin: tuple[float, float]) -> bool:
    low, high = row.get("lower"), row.get("upper")
    return low is not None and high is not None and margin[0] <= low and high <= margin[1]


def _calibration(evidence: Evidence, config: EvaluateConfig) -> list[str]:
    out = []
    names = {"calibration_slope": config.margin_slope, "observed_over_expected": config.margin_oe}
    for metric, margin in names.items():
        for row in find(evidence.table, metric):
            if not _inside(row, margin):
                shown = _shown(row, 3) if row["lower"] is not None else "not computable"
                words = metric.replace("_", " ")
                out.append(
                    f"{words} ({evidence.named(row)}) is {shown}; asked: {margin[0]} to {margin[1]}."
                )
    return out


def _mended(evidence: Evidence, config: EvaluateConfig) -> list[str]:
    """Return a sentence per class that the rule's update brings inside; empty unless all are."""
    out = []
    for judged in evidence.judged:
        best = next((m for m in judged.get("methods", []) if m["method"] == judged["best"]), None)
        if best is None:
            return []
        slope, oe = best["slope"], best["oe"]
        if not (_inside(slope, config.margin_slope) and _inside(oe, config.margin_oe)):
            return []
        out.append(
            f"After a local update ({best['method']}, {evidence.named(judged)}), judged on patients it did "
            f"not see: slope {_shown(slope)}, observed over expected {_shown(oe)}."
        )
    return out
