"""The first page: what a review board reads in two minutes, in five answers."""

from collections.abc import Iterable
from typing import Any

from medssl.evaluate.performance import MACRO, find
from medssl.evaluate.report.page import (
    clean,
    finding,
    listed,
    number,
    of_hundred,
    p_words,
    percent,
    ran,
    span,
)
from medssl.evaluate.verdict import ADJUST, AS_IS, CANNOT_TELL, DO_NOT_USE

Report = dict[str, Any]
SURE = 0.05
NEXT = {
    DO_NOT_USE: "Do not use it on patients of this hospital as it is.",
    CANNOT_TELL: "Nothing here is proof either way: do not use it on patients of this hospital yet.",
    ADJUST: "Recalibrate it on local patients, freeze the result, and judge it once more on later "
    "patients before any trial in use.",
    AS_IS: "A supervised trial in use can be planned; evaluate again at regular times, since "
    "machines, patients and habits change.",
}
NO_LIMIT = "more than were tried"
WITHIN, HIGH, LOW, OPEN = "within", "too high", "too low", "open"


def question(report: Report) -> str:
    """Return what was asked, where, and on how many."""
    about, source = report["cohort"], report["source"]
    classes = "" if len(report["thresholds"]) == 1 else f" ({listed(report['classes'][:12])})"
    return (
        f"Does the model for {clean(report['target'])}{classes}, trained at "
        f"{listed(source['sites'])}, hold at {listed(about['sites'])}? It was tried on "
        f"{number(about['images'])} images of {number(about['patients'])} patients, of which "
        f"{number(about['labelled'])} images have a label."
    )


def lead(report: Report) -> tuple[tuple[str, str], ...]:
    """Return the five sentences, each with the question that it answers."""
    return (
        ("Does it rank well here?", ranking(report)),
        ("Can its percentages be believed?", percentages(report)),
        ("For whom is it worst?", for_whom(report)),
        ("Do the pictures look alike?", likeness(report)),
        ("What to do next?", " ".join(next_steps(report))),
    )


def ranking(report: Report) -> str:
    """Return how well it ranks here and at the source, and the difference."""
    metric, rows = report["headline"], report["performance"]
    mine = next(iter(find(rows, metric)), None)
    theirs = next(iter(find(rows, metric, "source")), None)
    source = "" if theirs is None else f" At the source it was {_auroc(theirs)}."
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
        f"Here {pair} in {times} of 100 pairs: {_auroc(mine)}, "
        f"{number(mine['patients'])} patients{chance}.{source}{_difference(report)}"
    )


def _auroc(row: dict[str, Any]) -> str:
    if row.get("value") is None:
        return f"not computable ({row.get('note')})"
    if row.get("lower") is None:
        return f"AUROC {number(row['value'], 2)} without an interval ({row.get('note')})"
    low, high = number(row["lower"], 2), number(row["upper"], 2)
    return f"AUROC {number(row['value'], 2)} (95 % interval {low} to {high})"


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
    words = (
        f"For {len(good)} of {len(names)} classes they hold within the margins set before looking."
    )
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
    worst = report["groups"]["worst"]
    if worst is None:
        why = (
            "no label" if not report["cohort"]["labelled"] else "no group is known and large enough"
        )
        return f"Nothing can be said: {why}. That is not proof that it serves all alike."
    name = f"{clean(worst['group'])} = {clean(worst['level'])}"
    if len(report["thresholds"]) > 1:
        name += f" ({clean(worst['class'])})"
    words = f"Of the groups named before looking it ranks worst for {name}: {_auroc(worst)}, "
    words += f"{number(worst['patients'])} patients."
    p = worst.get("p_adjusted")
    if p is None:
        return words
    sure = "more than chance explains" if p < SURE else "chance could explain it"
    gap = span(worst, 2, "difference")
    return f"{words} The difference to all others is {gap}, {p_words(p)} after Holm: {sure}."


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


def next_steps(report: Report) -> tuple[str, ...]:
    """Return what follows: the verdict's step, labels to collect, remedies, shortcuts to exclude."""
    answer = report["verdict"]["answer"]
    out = [NEXT.get(answer, NEXT[CANNOT_TELL])]
    if not report["cohort"]["labelled"]:
        out.append(
            "Have a sample of local patients labelled; without labels nothing more can be said."
        )
    out += [_collect(report), _remedy(report), _recalibrate(report)]
    if any("alone tells" in s or "centre of every" in s for s in report["shortcuts"]["sentences"]):
        out.append("Before training anew, look at the section on shortcuts: grey tones or the border "
                   "tell more than they should.")  # fmt: skip
    return tuple(s for s in out if s)


def lacking(report: Report) -> list[tuple[str, str, int, int]]:
    """Return what the study is too small for: class, criterion, patients needed and had."""
    out = []
    for one in report["sample_size"]:
        found = one.get("after", one.get("before", {}))
        for c in found.get("criteria", []):
            if c["enough"] is False and c["needed"] is not None:
                out.append((one["class"], c["name"], c["needed"], c["had"]))
    return out


def _collect(report: Report) -> str:
    # The AUROC decides the verdict; the other criteria stand in their section.
    need = [row for row in lacking(report) if row[1] == "auroc"]
    if not need:
        return ""
    _, _, needed, had = max(need, key=lambda row: row[2] - row[3])
    width = next(s["targets"]["auroc"] for s in report["sample_size"])
    return (
        f"For an AUROC interval no wider than {number(width, 2)} label about {number(needed - had)} "
        f"more patients ({number(needed)} in all)."
    )


def _remedy(report: Report) -> str:
    remedies = report["remedies"]
    if not remedies or not remedies["reach"]:
        return ""
    reached = [r for r in remedies["reach"] if r["patients"] is not None]
    if not reached:
        most = max(r["most_tried"] for r in remedies["reach"])
        return f"Of the remedies tried, none reached the source's level with up to {most} labelled patients."
    best = min(reached, key=lambda r: r["patients"])
    low = NO_LIMIT if best["lower"] is None else str(best["lower"])
    high = NO_LIMIT if best["upper"] is None else str(best["upper"])
    return (
        f"A model started from {clean(best['start'])} ({clean(best['remedy'])}) reached the source's "
        f"level with {best['patients']} locally labelled patients (95 % interval {low} to {high})."
    )


def _recalibrate(report: Report) -> str:
    if report["verdict"]["answer"] != DO_NOT_USE:
        return ""
    names = [n for n in report["thresholds"] if best_update(report, n) is not None]
    if not names or report["verdict"]["rule"] != 0 or not _low_rank(report):
        return ""
    return "Recalibration changes percentages, not the ranking: it cannot mend this."


def _low_rank(report: Report) -> bool:
    row = next(iter(find(report["performance"], report["headline"])), None)
    return bool(
        row and row.get("upper") is not None and row["upper"] < report["settings"]["floor_auroc"]
    )
