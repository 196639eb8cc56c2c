"""Every number about a model's answers, by hospital and class, each with a patient interval."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.stats import calibration as cal
from medssl.stats import metrics as met
from medssl.stats.bootstrap import Interval, patient_bootstrap

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MACRO = "all classes"
ALL_SITES = "all"


@dataclass(frozen=True)
class Answers:
    """Labelled predictions of one hospital or group.

    Attributes:
        codes: class code of every picture, int64 ``[n]``.
        scores: probabilities, float64 ``[n, K]``.
        patient, site: one entry per picture.
        classes: names of the K classes.
        thresholds: the source's working threshold of every reported class.
    """

    codes: IntArray
    scores: FloatArray
    patient: npt.NDArray[Any]
    site: npt.NDArray[Any]
    classes: tuple[str, ...]
    thresholds: dict[str, float]

    def part(self, places: IntArray) -> "Answers":
        """Return the pictures at some places."""
        return Answers(
            self.codes[places],
            self.scores[places],
            self.patient[places],
            self.site[places],
            self.classes,
            self.thresholds,
        )

    @property
    def shown(self) -> list[int]:
        """Return the reported classes: the positive one of two, else all."""
        return [1] if len(self.classes) == 2 else list(range(len(self.classes)))


Statistic = Callable[[IntArray], float | None]


def rows(
    answers: Answers, cohort: str, resamples: int, seed: int, least: int
) -> list[dict[str, Any]]:
    """Return one row per hospital, class and metric: value, interval, n, patients, events.

    Args:
        answers: labelled predictions; may be empty.
        cohort: ``source`` or ``target``.
        resamples, seed: of the patient bootstrap.
        least: hospitals with fewer patients get a row that says so, without numbers.
    """
    out: list[dict[str, Any]] = []
    sites = sorted(set(answers.site.tolist()))
    for site in [ALL_SITES, *(sites if len(sites) > 1 else [])]:
        places = np.arange(len(answers.codes))
        here = answers if site == ALL_SITES else answers.part(places[answers.site == site])
        patients = len(set(here.patient.tolist()))
        if site != ALL_SITES and patients < least:
            words = f"{patients} patients: too few to say"
            out.append({"cohort": cohort, "site": site, "metric": "auroc", "note": words})
            continue
        out += [{"cohort": cohort, "site": site, **row} for row in _of_group(here, resamples, seed)]
    return out


def _of_group(answers: Answers, resamples: int, seed: int) -> list[dict[str, Any]]:
    if len(answers.codes) == 0:
        return []
    out = []
    if len(answers.classes) > 2:
        interval = patient_bootstrap(
            lambda r: _macro(answers, r),
            answers.patient,
            resamples=resamples,
            seed=seed,
        )
        out.append(_row("macro_auroc", MACRO, interval, len(answers.codes)))
    for k in answers.shown:
        y, p = (answers.codes == k).astype(np.int64), answers.scores[:, k]
        for name, statistic in statistics(y, p, answers.thresholds[answers.classes[k]]).items():
            interval = patient_bootstrap(statistic, answers.patient, resamples=resamples, seed=seed)
            out.append(_row(name, answers.classes[k], interval, int(y.sum())))
    return out


def _macro(answers: Answers, rows: IntArray) -> float | None:
    """Return the mean AUROC over all classes; a mean over fewer would be another quantity."""
    codes = answers.codes[rows]
    if len(np.unique(codes)) < len(answers.classes):
        return None
    return met.macro_auroc(codes, answers.scores[rows])


def statistics(y: IntArray, p: FloatArray, threshold: float) -> dict[str, Statistic]:
    """Return every reported statistic of one outcome as a function of row indices."""

    def at(name: str) -> Statistic:
        return lambda r: getattr(met.operating(y[r], p[r], threshold), name)

    return {
        "auroc": lambda r: met.auroc(y[r], p[r]),
        "average_precision": lambda r: met.average_precision(y[r], p[r]),
        "prevalence": lambda r: float(y[r].mean()),
        "sensitivity": at("sensitivity"),
        "specificity": at("specificity"),
        "ppv": at("ppv"),
        "npv": at("npv"),
        "brier": lambda r: met.brier(y[r], p[r]),
        "calibration_slope": lambda r: cal.slope(y[r], p[r]),
        "observed_over_expected": lambda r: cal.oe_ratio(y[r], p[r]),
    }


def _row(metric: str, name: str, interval: Interval, events: int) -> dict[str, Any]:
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


def find(
    table: list[dict[str, Any]], metric: str, cohort: str = "target", site: str = ALL_SITES
) -> list[dict[str, Any]]:
    """Return the rows of one metric."""
    return [
        r for r in table if (r["metric"], r["cohort"], r["site"]) == (metric, cohort, site)
    ]  # fmt: skip


def headline(classes: tuple[str, ...]) -> str:
    """Return the metric that the verdict reads."""
    return "auroc" if len(classes) == 2 else "macro_auroc"


def after_local_update(answers: Answers, seed: int) -> list[dict[str, Any]]:
    """Return slope and O/E per class after a recalibration judged by patient cross-validation.

    A class whose patients do not make two folds has a row with the reason.
    """
    out = []
    for k in answers.shown:
        y, p = (answers.codes == k).astype(np.int64), answers.scores[:, k]
        row: dict[str, Any] = {"class": answers.classes[k]}
        try:
            updated = cal.recalibrate_by_patients(y, p, answers.patient, seed)
            row |= {"slope": cal.slope(y, updated), "oe": cal.oe_ratio(y, updated)}
            row |= {"brier_before": met.brier(y, p), "brier_after": met.brier(y, updated)}
        except ValueError as error:
            row["note"] = str(error)
        out.append(row)
    return out
