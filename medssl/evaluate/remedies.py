"""Local runs set beside the original: what k local labels, or local pretraining, would bring."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl import runs
from medssl.config import EvaluateConfig
from medssl.errors import RefusedError, UsageError
from medssl.evaluate.answers import Answers, FloatArray, IntArray, scores_of, text_column
from medssl.evaluate.performance import Row
from medssl.evaluate.reference import keys
from medssl.stats import counted
from medssl.stats.bootstrap import Interval, Patients, Statistic, draws, interval_of, two_sided_p

SCRATCH = "scratch"
CLASSIFIER = "classifier"
KNN = "knn"


@dataclass(frozen=True)
class Fold:
    """One finetune run at the new hospital.

    Attributes:
        places: rows of the new hospital's answers that this run tested on, int64 ``[m]``.
        patients: training patients by initialisation, mode and budget (the mean over draws).
        scores: by initialisation, mode and budget, the chances ``[m, K]`` of every draw.
    """

    places: IntArray
    patients: dict[tuple[str, str, float], float]
    scores: dict[tuple[str, str, float], list[FloatArray]]


def parse(words: tuple[str, ...]) -> dict[str, tuple[Path, ...]]:
    """Return remedies by name: ``RUN``, ``NAME=RUN`` or ``NAME=RUN,RUN`` (folds).

    Raises:
        UsageError: an empty part, or a name given twice.
    """
    out: dict[str, tuple[Path, ...]] = {}
    problems = []
    for word in words:
        name, _, rest = word.rpartition("=")
        paths = tuple(Path(p) for p in rest.split(",") if p)
        name = name or (paths[0].name if paths else "")
        if not paths or not name:
            problems.append(f"--compare {word!r}: give RUN, NAME=RUN or NAME=RUN,RUN.")
        elif name in out:
            problems.append(f"--compare {word!r}: the name {name!r} is given twice.")
        out[name] = paths
    if problems:
        raise UsageError(problems, "E-COMPARE")
    return out


def read_fold(run: Path, answers: Answers, table: pa.Table) -> Fold:
    """Read one finetune run at the new hospital.

    Args:
        run: the run; its test pictures must be among the answers.
        answers: labelled pictures of the new hospital; table: its predictions.

    Raises:
        RefusedError: other classes, or test pictures that are not here.
        MedsslError: not a finished finetune run.
    """
    runs.finished(run, "finetune")
    found = runs.read_predictions(run / "predictions.parquet")
    classes = tuple(c.removeprefix(runs.SCORE) for c in runs.score_columns(found))
    if classes != answers.classes:
        words = f"{run}: answers {', '.join(classes)}; the model here answers {', '.join(answers.classes)}."
        raise RefusedError(words, "E-COMPARE")
    every = keys(table)
    place = {every[int(r)]: k for k, r in enumerate(answers.row)}
    test = found.filter(pa.array(text_column(found, "split") == "test"))
    mode = text_column(test, "mode")
    test = test.filter(pa.array((mode != CLASSIFIER) & (mode != KNN)))
    absent = sum(k not in place for k in set(keys(test)))
    if absent or test.num_rows == 0:
        words = f"{run}: {absent} of its test pictures are not among the labelled ones here; other cohort?"
        raise RefusedError(words, "E-COMPARE")
    _check_labels(run, test, place, answers)
    curve = pq.read_table(run / "curve.parquet").to_pylist()
    patients = {
        (r["init"], r["mode"], r["budget"]): float(r["patients"])
        for r in curve
        if r.get("value") is not None
    }
    places, scores = _cells(test, place, classes)
    return Fold(places, patients, scores)


def _check_labels(
    run: Path, test: pa.Table, place: dict[tuple[str, int], int], answers: Answers
) -> None:
    """Raise unless the run was judged on the same answers as the model here."""
    told = dict(zip(keys(test), test.column("label").to_pylist(), strict=True))
    code = answers.codes
    other = sum(answers.classes[code[place[k]]] != v for k, v in told.items())
    if other:
        words = (
            f"{run}: {other} of its {len(told)} test pictures have another answer there than here; it "
            "learnt another question, or from other labels."
        )
        raise RefusedError(words, "E-COMPARE")


def _cells(
    test: pa.Table, place: dict[tuple[str, int], int], classes: tuple[str, ...]
) -> tuple[IntArray, dict[tuple[str, str, float], list[FloatArray]]]:
    """Return the places of the test pictures, and the chances of every cell in their order."""
    where = np.array([place[k] for k in keys(test)], dtype=np.int64)
    places = np.unique(where)
    chances = scores_of(test, classes)
    names = [text_column(test, c) for c in ("init", "mode")]
    numbers = [np.asarray(test.column(c).to_pylist()) for c in ("budget", "seed")]
    out: dict[tuple[str, str, float], list[FloatArray]] = {}
    listed = zip(*(a.tolist() for a in (*names, *numbers)), strict=True)
    rows_of: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(listed):
        rows_of.setdefault(key, []).append(row)
    for (init, mode, budget, _), rows in sorted(rows_of.items()):
        cell = np.full((len(places), len(classes)), np.nan)
        cell[np.searchsorted(places, where[rows])] = chances[rows]
        out.setdefault((init, mode, budget), []).append(cell)
    return places, out


def of(
    compare: dict[str, tuple[Path, ...]],
    answers: Answers,
    table: pa.Table,
    source: Row | None,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Return one row per remedy, initialisation, mode and budget, and the labels to reach the source.

    AUROCs are means over draws, and over folds weighted by their pictures; the original model is
    judged on the same pictures in the same folds, and differences are paired over the same draws of
    patients.

    Args:
        compare: runs by the remedy's name.
        answers: labelled pictures here; table: the predictions they come from.
        source: the source's own AUROC row.
        config: resamples and seed.

    Raises:
        RefusedError: two folds of one remedy test on the same patients.
    """
    groups = Patients.of(answers.patient)
    rows, reach = [], []
    for name, paths in compare.items():
        folds = [read_fold(p, answers, table) for p in paths]
        _check_apart(name, folds, answers.patient)
        found, drawn = _remedy(name, folds, answers, groups, config)
        rows += found
        reach += _reach(found, drawn, source)
    return {
        "rows": rows,
        "reach": reach,
        "source_auroc": None if source is None else source["value"],
    }


def _check_apart(name: str, folds: list[Fold], patient: npt.NDArray[Any]) -> None:
    seen: set[str] = set()
    for fold in folds:
        mine = set(patient[fold.places].tolist())
        if mine & seen:
            words = f"{name}: {len(mine & seen)} patients are tested in two of its runs; give folds that differ."
            raise RefusedError(words, "E-COMPARE")
        seen |= mine


def _auroc(answers: Answers, scores: FloatArray, places: IntArray, groups: Patients) -> Statistic:
    inner = groups.part(places)
    if len(answers.shown) == 1:
        k = answers.shown[0]
        return counted.auroc(answers.outcome[places, k], scores[:, k], inner)
    return counted.macro_auroc(answers.outcome[places].argmax(1), scores, inner)


def _remedy(
    name: str, folds: list[Fold], answers: Answers, groups: Patients, config: EvaluateConfig
) -> tuple[list[Row], dict[tuple[str, str, float], FloatArray]]:
    total = sum(len(f.places) for f in folds)
    shares = [len(f.places) / total for f in folds]
    original = counted.weighted_sum(
        [
            (s, _auroc(answers, answers.scores[f.places], f.places, groups))
            for s, f in zip(shares, folds, strict=True)
        ]
    )
    statistics: dict[tuple[str, str, float], Statistic] = {}
    for key in _common(folds):
        parts = []
        for share, fold in zip(shares, folds, strict=True):
            cells = fold.scores[_nearest(fold, key)]
            parts += [(share / len(cells), _auroc(answers, c, fold.places, groups)) for c in cells]
        statistics[key] = counted.weighted_sum(parts)
    options: Any = {"resamples": config.resamples, "seed": config.seed}
    named = {"|".join(map(str, k)): s for k, s in statistics.items()}
    every = {"original": original, **named}
    drawn = draws(every, groups, **options)
    values = {n: interval_of(s, groups, drawn[n]) for n, s in every.items()}
    rows = [_row(name, ("original model", "", 0.0), 0.0, values["original"], total)]
    by_key = {k: drawn["|".join(map(str, k))] for k in statistics}
    for key in statistics:
        own = values["|".join(map(str, key))]
        row = _row(name, key, _patients(folds, key), own, total)
        row |= _apart("original", own, by_key[key], values["original"], drawn["original"])
        scratch = (SCRATCH, key[1], key[2])
        if key[0] != SCRATCH and scratch in statistics:
            text = "|".join(map(str, scratch))
            row |= _apart("scratch", own, by_key[key], values[text], drawn[text])
        rows.append(row)
    return rows, by_key


def _common(folds: list[Fold]) -> list[tuple[str, str, float]]:
    """Return the cells that every fold has; budgets in percent differ a little between folds."""
    return [k for k in folds[0].scores if all(_nearest(f, k) in f.scores for f in folds)]


def _nearest(fold: Fold, key: tuple[str, str, float]) -> tuple[str, str, float]:
    """Return the fold's own cell with the same start and mode and the nearest budget, within a tenth."""
    init, mode, budget = key
    near = [k for k in fold.scores if k[:2] == (init, mode) and abs(k[2] - budget) <= 0.1 * budget]
    return min(near, key=lambda k: abs(k[2] - budget), default=("", "", 0.0))


def _patients(folds: list[Fold], key: tuple[str, str, float]) -> float:
    return float(np.mean([f.patients[_nearest(f, key)] for f in folds]))


def _row(
    name: str, key: tuple[str, str, float], patients: float, found: Interval, images: int
) -> Row:
    return {
        "remedy": name,
        "start": key[0],
        "mode": key[1],
        "labelled_patients": round(patients),
        "value": found.value,
        "lower": found.lower,
        "upper": found.upper,
        "images": images,
        "note": found.note,
    }


def _apart(name: str, own: Interval, drawn: FloatArray, other: Interval, others: FloatArray) -> Row:
    """Return the paired difference to another model under names of its own."""
    gap = drawn - others
    gap = gap[np.isfinite(gap)]
    if own.lower is None or other.lower is None or own.value is None or other.value is None:
        return {}
    low, high = np.quantile(gap, [0.025, 0.975])
    return {
        f"against_{name}": own.value - other.value,
        f"against_{name}_lower": float(low),
        f"against_{name}_upper": float(high),
        f"against_{name}_p": two_sided_p(gap),
    }


def _reach(
    rows: list[Row], drawn: dict[tuple[str, str, float], FloatArray], source: Row | None
) -> list[Row]:
    """Return the fewest local patients with which each start reaches the source's own score.

    The interval counts, over the draws of patients, the first budget that reaches it.
    """
    if source is None or source.get("value") is None:
        return []
    out = []
    named = dict(zip(drawn, rows[1:], strict=True))
    for start, mode in dict.fromkeys(k[:2] for k in drawn):
        mine = sorted((k for k in drawn if k[:2] == (start, mode)), key=lambda k: k[2])
        labels = np.array([named[k]["labelled_patients"] for k in mine], dtype=float)
        every = np.stack([drawn[k] for k in mine])
        reached = every >= source["value"]
        first = np.where(reached.any(0), labels[reached.argmax(0)], np.inf)
        whole = [
            named[k]["labelled_patients"]
            for k in mine
            if (named[k]["value"] or 0) >= source["value"]
        ]
        low, high = np.quantile(first, [0.025, 0.975], method="nearest")
        out.append(
            {
                "remedy": rows[0]["remedy"],
                "start": start,
                "mode": mode,
                "patients": min(whole, default=None),
                "lower": None if np.isinf(low) else int(low),
                "upper": None if np.isinf(high) else int(high),
                "most_tried": int(labels.max()),
            }
        )
    return out
