"""One row per picture for the person who reviews it: how sure, how unlike, how such ones ended.

``cases.parquet``: ``image_id``, ``slice``, ``unlike`` (percentile among the source's own pictures,
null where not known) and per reported class ``may_<class>`` (whether the conformal set holds it,
null without sets), ``chance_<class>`` with ``lower_`` and ``upper_`` (how many of those given such a
figure had the class, smoothed, with limits over patients), and ``checked_<class>``: ``here`` or
``source``, the hospital whose confirmed answers say so; empty where neither can.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.config import EvaluateConfig
from medssl.evaluate import abstention, shifted
from medssl.evaluate.answers import Answers, FloatArray
from medssl.evaluate.inputs import Here, Question
from medssl.evaluate.plain import attempt, plain
from medssl.evaluate.reference import Reference, keys
from medssl.files import atomic
from medssl.stats import bands, conformal

FILE = "cases.parquet"
SOURCE_RESAMPLES = 200
LEAST_EVENTS = 10
"""Patients with and without a class below which no curve is drawn through their answers."""

Curve = dict[str, Any]


def table(
    question: Question,
    reference: Reference,
    here: Here,
    answers: Answers,
    classes: list[dict[str, Any]],
    config: EvaluateConfig,
) -> pa.Table:
    """Return the rows in the order of the predictions.

    Args:
        question, reference, here, answers, config: as everywhere.
        classes: of ``calibrated.of_class``, one per class that has pictures with and without it.
    """
    scores = here.scores(question)
    names = list(question.classes)
    rows = keys(here.predictions)
    columns: dict[str, Any] = {
        "image_id": pa.array([image for image, _ in rows], pa.string()),
        "slice": pa.array([place for _, place in rows], pa.int32()),
        "unlike": pa.array(_unlike(reference, here, config), pa.float64()),
    }
    sets = _sets(question, reference, here, config)
    curves = {c["class"]: c["bands"].get("curve") for c in classes}
    for k, name in enumerate(names):
        may = [None] * len(rows) if sets is None else sets[:, k].tolist()
        columns[f"may_{name}"] = pa.array(may, pa.bool_())
    for name in question.thresholds:
        curve, basis = _curve(curves.get(name), name, answers, reference, config)
        for column, values in _read_off(curve, scores[:, names.index(name)]).items():
            columns[f"{column}_{name}"] = pa.array(values, pa.float64())
        columns[f"checked_{name}"] = pa.array([basis] * len(rows), pa.string())
    return pa.table(columns)


def write(out: Path, rows: pa.Table) -> None:
    """Write ``cases.parquet`` of an evaluation."""
    with atomic(out / FILE) as file:
        pq.write_table(rows, file)


def _unlike(reference: Reference, here: Here, config: EvaluateConfig) -> list[float | None]:
    found = shifted.percentiles(reference, here, config)
    return [None] * len(here.patient) if found is None else found.tolist()


def _sets(
    question: Question, reference: Reference, here: Here, config: EvaluateConfig
) -> npt.NDArray[np.bool_] | None:
    if not here.answers(question).exclusive:
        return None
    try:
        rule = abstention.rule_of(reference, config)
    except ValueError:
        return None
    return conformal.prediction_sets(rule, here.scores(question))


def _curve(
    local: Curve | None, name: str, answers: Answers, reference: Reference, config: EvaluateConfig
) -> tuple[Curve | None, str]:
    """Return the smoothed frequency of a class and whose it is: here's, else the source's."""
    if local is not None and _enough(answers, name):
        return local, "here"
    held = reference.answers
    if held is None or not _enough(held, name):
        return None, ""
    k = held.classes.index(name)
    known = held.known(k)
    y, p = known.of(k)
    options: dict[str, Any] = {"resamples": SOURCE_RESAMPLES, "seed": config.seed}
    found = attempt(lambda: plain(bands.calibration_bands(y, p, known.patient, **options)))
    curve = found.get("curve")
    return (None, "") if curve is None else (curve, "source")


def _enough(answers: Answers, name: str) -> bool:
    """Return whether enough patients have the class, and enough have not."""
    k = answers.classes.index(name)
    known = answers.known(k)
    with_it = {*known.patient[known.outcome[:, k] == 1].tolist()}
    without = {*known.patient[known.outcome[:, k] == 0].tolist()}
    return min(len(with_it), len(without)) >= LEAST_EVENTS


def _read_off(curve: Curve | None, scores: FloatArray) -> dict[str, list[float | None]]:
    """Return the curve and its limits at every score; no straight line beyond its ends."""
    nothing: list[float | None] = [None] * len(scores)
    if curve is None:
        return {"chance": nothing, "lower": nothing, "upper": nothing}
    at = np.asarray(curve["p"], dtype=np.float64)
    out = {}
    for column, source in (("chance", "observed"), ("lower", "lower"), ("upper", "upper")):
        found = curve.get(source)
        if found is None:
            out[column] = nothing
            continue
        values = np.array([np.nan if v is None else v for v in found], dtype=np.float64)
        read = np.clip(np.interp(scores, at, values), 0, 1)
        out[column] = [None if np.isnan(v) else float(v) for v in read]
    return out
