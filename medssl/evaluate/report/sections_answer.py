"""The first page: what a review board reads in two minutes, in a few answers."""

from collections.abc import Iterable
from typing import Any

from medssl.evaluate.groups import FEW
from medssl.evaluate.performance import MACRO, find
from medssl.evaluate.report.page import (
    FEW_PATIENTS,
    clean,
    digits_of,
    finding,
    listed,
    number,
    of_hundred,
    p_words,
    people,
    percent,
    ran,
    span,
    unmoved,
)

Report = dict[str, Any]
SURE = 0.05
MOST_NAMED = 6
"""Groups too small to say that the first page names."""

WITHIN, HIGH, LOW, OPEN = "within", "too high", "too low", "open"


def question(report: Report, pictures: str = "") -> str:
    """Return what was asked, where, and on how many.

    Args:
        report: the plain report.
        pictures: how many of what; without it so many images.
    """
    about, source = report["cohort"], report["source"]
    classes = "" if len(report["thresholds"]) == 1 else f" ({listed(report['classes'][:12])})"
    return (
        f"Does the model for {clean(report['target'])}{classes}, trained at "
        f"{listed(source['sites'])}, hold at {listed(about['sites'])}? It was tried on "
        f"{pictures or number(about['images']) + ' images'} of {people(about['patients'])}; "
        f"{number(about['labelled'])} of the pictures have a label."
    )


def ranking(report: Report) -> str:
    """Return how well it ranks here and at the source, and the difference."""
    metric, rows = report["headline"], report["performance"]
    mine = next(iter(find(rows, metric)), None)
    theirs = next(iter(find(rows, metric, "source")), None)
    source = "" if theirs is None else f" At the source it was {of_source(theirs)}."
    if mine is None:
        return f"Nothing can be said: no picture here has a usable label.{source}"
    if mine.get("value") is None:
        return f"It could not be computed here: {mine.get('note') or 'no reason is known'}.{source}"
    # A leading count of a hundred says what an AUROC means without naming one first.
    times = of_hundred(mine["value"])
    if mine["class"] == MACRO:
        pair = "on average over the classes, a picture of a class is scored above another"
    else:
        pair = f"a picture with {finding(report, mine['class'])} is scored above one without"
    chance = _beside_chance(mine)
    return (
        f"Here {pair} in {times} of 100 pairs: {auroc(mine)}, "
        f"{people(mine['patients'])}{chance}.{source}{_difference(report)}"
    )


def of_source(row: dict[str, Any]) -> str:
    """Return the source's AUROC with its patients, and a warning where they are few."""
    told = f"{auroc(row)}, {people(row.get('patients'))}"
    return f"{told} only: weak ground to compare with" if is_few(row.get("patients")) else told


def is_few(patients: Any) -> bool:
    """Return whether so many patients of the source are too few to lean on; hidden counts are."""
    return patients is not None and (not isinstance(patients, int) or patients < FEW_PATIENTS)


def auroc(row: dict[str, Any]) -> str:
    """Return an AUROC with its interval in words."""
    if row.get("value") is None:
        return f"not computable ({row.get('note')})"
    if row.get("lower") is None:
        return f"AUROC {number(row['value'], 2)} without an interval ({row.get('note')})"
    three = [row[k] for k in ("value", "lower", "upper")]
    digits = digits_of(three, 2)
    value, low, high = (number(v, digits) for v in three)
    return f"AUROC {value} (95 % interval {low} to {high})"


def _beside_chance(row: dict[str, Any]) -> str:
    low, high = row.get("lower"), row.get("upper")
    if high is not None and high < 0.5:
        return "; worse than a coin, which is right in 50"
    if low is not None and low <= 0.5:
        return "; a coin, which is right in 50, is not excluded"
    return ""


def _difference(report: Report) -> str:
    known = [d for d in report["differences"] if d.get("value") is not None]
    if not known:
        return ""
    row = min(known, key=lambda d: d["value"])
    name = "" if len(report["thresholds"]) == 1 else f" is largest for {clean(row['class'])} and"
    sure = row["p"] is not None and row["p"] < SURE
    words = "more than chance explains" if sure else "chance could explain it, which proves nothing"
    return f" The difference{name} is {span(row, 2, '')} ({p_words(row['p'])}): {words}."


def kept(row: dict[str, Any] | None, margin: Iterable[float]) -> str:
    """Return where an interval lies beside its margins: within, too high, too low, or open."""
    low, high = margin
    if row is None or row.get("lower") is None or row.get("upper") is None:
        return OPEN
    if low <= row["lower"] and row["upper"] <= high:
        return WITHIN
    if row["lower"] > 1:
        return HIGH
    return LOW if row["upper"] < 1 else OPEN


def of_class(report: Report, metric: str, name: str) -> dict[str, Any] | None:
    """Return this hospital's row of a metric and class; None without one."""
    rows = find(report["performance"], metric)
    return next((r for r in rows if r["class"] == name), None)


def percentages(report: Report) -> str:
    """Return whether the percentages hold, and what a local update would make of them."""
    names = [c for c in report["thresholds"] if of_class(report, "prevalence", c) is not None]
    if not names:
        return "Nothing can be said: no picture here has a usable label."
    settings = report["settings"]
    margins = {
        "observed_over_expected": settings["margin_oe"],
        "calibration_slope": settings["margin_slope"],
    }
    states = {n: {m: kept(of_class(report, m, n), g) for m, g in margins.items()} for n in names}
    good = [n for n in names if set(states[n].values()) == {WITHIN}]
    if len(names) == 1:
        return _percentages_of(report, names[0], states[names[0]])
    bad = [n for n in names if n not in good]
    since = " set before looking" if unmoved(report) else ""
    words = f"For {len(good)} of {len(names)} classes they hold within the margins{since}."
    if not bad:
        return words
    worst = max(bad, key=lambda n: _off(report, n))
    return (
        f"{words} Farthest off is {clean(worst)}: {_percentages_of(report, worst, states[worst])}"
    )


def _off(report: Report, name: str) -> float:
    row = of_class(report, "observed_over_expected", name)
    value = None if row is None else row.get("value")
    return 0.0 if not value else max(value, 1 / value)


def _percentages_of(report: Report, name: str, state: dict[str, str]) -> str:
    oe, slope = (of_class(report, m, name) for m in ("observed_over_expected", "calibration_slope"))
    common = of_class(report, "prevalence", name)
    first = {
        WITHIN: "On average they are right",
        HIGH: "They are too low",
        LOW: "They are too high",
        OPEN: "It is open whether they are right",
    }[state["observed_over_expected"]]
    means = ""
    if (
        oe is not None
        and oe.get("value")
        and common is not None
        and common.get("value") is not None
    ):
        expected = percent(common["value"] / oe["value"])
        means = f": they foretell {finding(report, name)} in {expected} of the images, "
        means += f"{percent(common['value'])} had it"
    words = f"{first}{means} (observed over expected {span(oe, 2)}; 1 is right)."
    shape = {
        WITHIN: "high and low ones are as far apart as they should be",
        HIGH: "high ones should be higher and low ones lower",
        LOW: "high ones are too high and low ones too low",
        OPEN: "it is open whether high and low ones are rightly apart",
    }[state["calibration_slope"]]
    if slope is not None and slope.get("upper") is not None and slope["upper"] <= 0:
        shape = "a higher one does not mean a higher chance"
    words += f" The slope is {span(slope, 2)}; 1 is right: {shape}."
    return words + ("" if set(state.values()) == {WITHIN} else _after_update(report, name))


def best_update(report: Report, name: str) -> dict[str, Any] | None:
    """Return the update that the rule picks for a class, judged on patients it did not see."""
    for one in report["calibration"]:
        judged = one["judged"]
        if one["class"] == name and ran(judged, "methods"):
            return next((m for m in judged["methods"] if m["method"] == judged["best"]), None)
    return None


def _after_update(report: Report, name: str) -> str:
    note = next(
        (c.get("update", {}).get("note") for c in report["calibration"] if c["class"] == name), None
    )
    if note:
        return f" {clean(note, 300)}"
    best = best_update(report, name)
    if best is None or best["method"] == "none":
        return ""
    settings = report["settings"]
    states = (
        kept(best["oe"], settings["margin_oe"]),
        kept(best["slope"], settings["margin_slope"]),
    )
    does = "would bring them inside" if set(states) == {WITHIN} else "would not surely mend them"
    return (
        f" A local update ({best['method'].replace('+', ' and ')}), judged on patients it did not "
        f"see, {does}: observed over expected {span(best['oe'], 2)}, slope {span(best['slope'], 2)}."
    )


def for_whom(report: Report) -> str:
    """Return the group for which it ranks worst, and whether that is more than chance."""
    worst, few = report["groups"]["worst"], too_few(report)
    if worst is None:
        why = (
            "no label"
            if not report["cohort"]["labelled"]
            else "no group has a rest to compare with that is known and large enough"
        )
        return f"{few}Nothing can be said: {why}. That is not proof that it serves all alike."
    name = f"{clean(worst['group'])} = {clean(worst['level'])}"
    if len(report["thresholds"]) > 1:
        name += f" ({clean(worst['class'])})"
    known = "groups named before looking" if unmoved(report) else "named groups"
    words = f"{few}Of the {known} it ranks worst for {name}: {auroc(worst)}, "
    words += f"{people(worst['patients'])}."
    p = worst.get("p_adjusted")
    if p is None:
        return words
    sure = "more than chance explains" if p < SURE else "chance could explain it"
    gap = span(worst, 2, "difference")
    return f"{words} The difference to all others is {gap}, {p_words(p)} after Holm: {sure}."


def too_few(report: Report, name: str | None = None) -> str:
    """Return which levels of which groups are too few to say, as a sentence; empty without any.

    Args:
        report: the plain report.
        name: of one class; without it of all.
    """
    found: dict[str, str] = {}
    for r in report["groups"].get("rows", []):
        if r.get("note") == FEW and (name is None or r["class"] == name):
            found.setdefault(f"{clean(r['group'])} {clean(r['level'])}", people(r["patients"]))
    if not found:
        return ""
    told = [f"{level} ({count})" for level, count in found.items()]
    more = f" and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
    return f"Too few to say: {', '.join(told[:MOST_NAMED])}{more}. "


def likeness(report: Report) -> str:
    """Return whether the pictures look like those of the source."""
    shift = report["shift"]
    embedding, domain, unlike = (shift[n] for n in ("embedding", "domain", "unlike"))
    if not ran(embedding, "p"):
        return f"Not compared. {embedding['note']}"
    sure = embedding["p"] < SURE
    words = (
        "No, they differ"
        if sure
        else "No difference was found, which does not prove that there is none"
    )
    words += f" ({p_words(embedding['p'])})."
    if ran(domain, "auroc"):
        words += (
            " From a patient's pictures alone a computer tells which of the two hospitals they come "
            f"from in {of_hundred(domain['auroc'])} of 100 pairs (50 is a coin)."
        )
    if ran(unlike, "share") and unlike["share"]["value"] is not None:
        share = unlike["share"]
        between = f"{number(100 * share['lower'], 1)} to {number(100 * share['upper'], 1)}"
        words += (
            f" {number(100 * share['value'], 1)} % of the images ({between}) are stranger than "
            f"{unlike['beyond']:g} % of the source's own; {100 - unlike['beyond']:g} % is expected."
        )
    return words
