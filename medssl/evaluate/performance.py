"""Every number about a model's answers, by hospital and class, each with a patient interval."""

from collections import Counter
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.evaluate.answers import MISSING, Answers, FloatArray, IntArray
from medssl.stats import counted, delong
from medssl.stats.bootstrap import Interval, Patients, Statistic, intervals
from medssl.stats.multiplicity import adjust
from medssl.stats.usefulness import proportion_by_patient

MACRO = "all classes"
ALL_SITES = "all"
Z95 = 1.959964
IMAGE, PATIENT = "image", "patient"
SMALL = 5
RATES = ("sensitivity", "specificity", "ppv", "npv")
AT_LINE = (*RATES, "alerts_per_100", "net_benefit", "net_benefit_gain")
Row = dict[str, Any]


def rows(answers: Answers, cohort: str, resamples: int, seed: int, least: int) -> list[Row]:
    """Return one row per hospital, level, class and metric: value, interval, n, patients, events.

    Args:
        answers: labelled predictions; may be empty.
        cohort: ``source`` or ``target``.
        resamples, seed: of the patient bootstrap (BCa).
        least: hospitals with fewer patients get a row that says so, without numbers.
    """
    out: list[Row] = []
    # A hospital that is called what all of them together are called gets another name.
    named = np.array([f"site {s}" if s == ALL_SITES else s for s in answers.site.tolist()])
    sites = sorted(set(named.tolist()))
    for site in [ALL_SITES, *(sites if len(sites) > 1 else [])]:
        here = answers if site == ALL_SITES else answers.part(named == site)
        patients = len(set(here.patient.tolist()))
        where = {"cohort": cohort, "site": site}
        if site != ALL_SITES and patients < least:
            words = f"fewer than {least} patients: too few to say"
            out.append({**where, "level": IMAGE, "metric": "auroc", "class": "", "note": words})
            continue
        if len(here) == 0:
            continue
        out += [{**where, "level": IMAGE, **r} for r in of_group(here, resamples, seed)]
        if site == ALL_SITES and patients < len(here):
            merged = _by_patient(here, resamples, seed)
            out += [{**where, "level": PATIENT, **r} for r in merged]
    return _covered(out, Counter(dict(zip(answers.patient, named, strict=True)).values()))


def _covered(table: list[Row], patients: Counter[str]) -> list[Row]:
    """Hide the counts of a second hospital where one alone has fewer than five, or the total tells."""
    few = [s for s, n in patients.items() if n < SMALL]
    shown = sorted((n, s) for s, n in patients.items() if n >= SMALL)
    if len(few) != 1 or not shown:
        return table
    hidden = {"n": None, "patients": None, "events": None}
    return [r | hidden if r["site"] == shown[0][1] and "n" in r else r for r in table]


def _by_patient(here: Answers, resamples: int, seed: int) -> list[Row]:
    """Return rows with one entry per patient: the mean chance, and flagged if any image is.

    A class that every patient has, or none, leaves one row that says so: rates of one kind of
    patient mean nothing.
    """
    out = [r for r in of_group(here.by_patient(), resamples, seed) if r["metric"] not in AT_LINE]
    out += [r for r in of_group(here.by_patient("max"), resamples, seed) if r["metric"] in AT_LINE]
    told = {r["class"] for r in out if r["metric"] == "auroc" and r["value"] is not None}
    return [r for r in out if r["class"] in told or r["metric"] in ("auroc", "macro_auroc")]


def of_group(answers: Answers, resamples: int, seed: int) -> list[Row]:
    """Return one row per class and metric of some labelled pictures."""
    out: list[Row] = []
    if len(answers.shown) > 1:
        out.append(_macro(answers, resamples, seed))
    for k in answers.shown:
        known = answers.known(k)
        if len(known) == 0:
            continue
        y, p = known.of(k)
        groups = Patients.of(known.patient)
        name = answers.classes[k]
        found = intervals(
            statistics(y, p, answers.thresholds[name], groups),
            groups,
            resamples=resamples,
            seed=seed,
            method="bca",
        )
        extra = _theory(y, p, known.patient, answers.thresholds[name])
        events = int(y.sum())
        for metric, interval in found.items():
            out.append(told(row(metric, name, interval, events) | extra.get(metric, {})))
    return out


def _macro(answers: Answers, resamples: int, seed: int) -> Row:
    """The mean AUROC over all classes; a mean over fewer would be another quantity."""
    groups = Patients.of(answers.patient)
    if answers.exclusive:
        statistic = counted.macro_auroc(answers.codes, answers.scores, groups)
    else:
        # Missing answers leave that class alone: each AUROC reads the rows that have it.
        many = len(answers.classes)
        parts = [(1 / many, _known_auroc(answers, k, groups)) for k in range(many)]
        statistic = counted.weighted_sum(parts)
    found = intervals({"": statistic}, groups, resamples=resamples, seed=seed, method="bca")[""]
    return row("macro_auroc", MACRO, found, len(answers))


def _known_auroc(answers: Answers, k: int, groups: Patients) -> Statistic:
    there = answers.outcome[:, k] != MISSING
    return counted.auroc(*answers.known(k).of(k), groups.part(there))


def statistics(
    y: IntArray, p: FloatArray, threshold: float, groups: Patients
) -> dict[str, Statistic]:
    """Return every reported statistic of one outcome, counted over patients.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        threshold: the working threshold.
        groups: rows of each patient.
    """
    one, flag = np.ones(y.size), (p >= threshold).astype(np.float64)
    ill, well = y.astype(np.float64), 1.0 - y
    odds = odds_of(threshold)

    def benefit(tp: FloatArray, fp: FloatArray, n: FloatArray) -> FloatArray:
        return np.asarray((tp - odds * fp) / n)

    def gain(tp: FloatArray, fp: FloatArray, n: FloatArray, events: FloatArray) -> FloatArray:
        everyone = (events - odds * (n - events)) / n
        return benefit(tp, fp, n) - np.maximum(everyone, 0)

    def scaled(loss: FloatArray, n: FloatArray, events: FloatArray) -> FloatArray:
        share = events / n
        return np.asarray(1 - loss / n / (share * (1 - share)))

    return {
        "auroc": counted.auroc(y, p, groups),
        "average_precision": counted.average_precision(y, p, groups),
        "prevalence": counted.ratio(ill, one, groups),
        "sensitivity": counted.ratio(flag * ill, ill, groups),
        "specificity": counted.ratio((1 - flag) * well, well, groups),
        "ppv": counted.ratio(flag * ill, flag, groups),
        "npv": counted.ratio((1 - flag) * well, 1 - flag, groups),
        "alerts_per_100": counted.ratio(100 * flag, one, groups),
        "net_benefit": counted.of_sums([flag * ill, flag * well, one], benefit, groups),
        "net_benefit_gain": counted.of_sums([flag * ill, flag * well, one, ill], gain, groups),
        "brier": counted.ratio((p - y) ** 2, one, groups),
        "scaled_brier": counted.of_sums([(p - y) ** 2, one, ill], scaled, groups),
        "calibration_slope": counted.slope(y, p, groups),
        "calibration_intercept": counted.intercept_in_the_large(y, p, groups),
        "observed_over_expected": counted.ratio(ill, p, groups),
    }


def odds_of(threshold: float) -> float:
    """Return the harm of a false alarm in units of a finding, t / (1 - t), t within 0.01 and 0.99."""
    inside = min(max(threshold, 0.01), 0.99)
    return inside / (1 - inside)


def _theory(
    y: IntArray, p: FloatArray, patient: npt.NDArray[Any], threshold: float
) -> dict[str, Row]:
    """Intervals by formula beside those by resampling: clustered DeLong, and Wilson by patient."""
    found = delong.clustered_auroc(y, p, patient)
    out: dict[str, Row] = {
        "auroc": {"se": found.se, "formula_lower": found.lower, "formula_upper": found.upper}
    }
    flag, ill = p >= threshold, y == 1
    parts = {
        "sensitivity": (flag, ill),
        "specificity": (~flag, ~ill),
        "ppv": (ill, flag),
        "npv": (~ill, ~flag),
    }
    for metric in RATES:
        hit, among = parts[metric]
        if among.any():
            share = proportion_by_patient(hit[among], patient[among])
            out[metric] = {"formula_lower": share.lower, "formula_upper": share.upper}
    return out


def row(metric: str, name: str, interval: Interval, events: int) -> Row:
    """Return one row of a table from an interval."""
    return {
        "metric": metric,
        "class": name,
        "value": interval.value,
        "lower": interval.lower,
        "upper": interval.upper,
        "n": interval.n,
        "patients": interval.patients,
        "events": events,
        "note": interval.note,
    }


def told(found: Row) -> Row:
    """Return a row whose interval has a width: one without says nothing about other patients."""
    if found["lower"] is None or found["lower"] < found["upper"]:
        return found
    if found["metric"] in RATES and found.get("formula_lower") is not None:
        words = "Every patient drawn gave the same; the interval is Wilson's, by patient."
        limits = {"lower": found["formula_lower"], "upper": found["formula_upper"]}
        return found | limits | {"note": words}
    return found | {"lower": None, "upper": None}


def find(
    table: list[Row], metric: str, cohort: str = "target", site: str = ALL_SITES, level: str = IMAGE
) -> list[Row]:
    """Return the rows of one metric."""
    wanted = (metric, cohort, site, level)
    return [r for r in table if (r["metric"], r["cohort"], r["site"], r["level"]) == wanted]


def headline(answers: Answers) -> str:
    """Return the metric that the verdict reads."""
    return "macro_auroc" if len(answers.shown) > 1 else "auroc"


def between_hospitals(source: list[Row], here: list[Row]) -> list[Row]:
    """Return the unpaired difference of the AUROC, here less source, per class; p after Holm.

    Args:
        source, here: rows of ``rows`` with the clustered standard error.
    """
    out = []
    theirs = {r["class"]: r for r in source if r["metric"] == "auroc"}
    for mine in here:
        other = theirs.get(mine["class"])
        if mine["metric"] != "auroc" or other is None:
            continue
        name = {"metric": "auroc", "class": mine["class"]}
        if mine.get("se") is None or other.get("se") is None:
            words = "Not computable: one of the two has no standard error."
            out.append(
                {**name, "value": None, "lower": None, "upper": None, "p": None, "note": words}
            )
            continue
        se = float(np.hypot(mine["se"], other["se"]))
        value = mine["value"] - other["value"]
        z = value / se if se else 0.0
        low, high = value - Z95 * se, value + Z95 * se
        out.append(
            {**name, "value": value, "lower": low, "upper": high, "p": two_sided(z), "note": ""}
        )
    known = [r for r in out if r["p"] is not None]
    for one, p in zip(known, adjust([r["p"] for r in known], "holm"), strict=True):
        one["p"] = p
    return out


def two_sided(z: float) -> float:
    """Return the two-sided normal p of a z value; never 0, which would be more than is known."""
    return max(2 * NormalDist().cdf(-abs(z)), 1e-16)
