"""The verb evaluate, its torch-free part: predictions and embeddings become a report."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medssl import runs
from medssl.config import EvaluateConfig
from medssl.evaluate import figures as fig
from medssl.evaluate import performance as perf
from medssl.evaluate import report as report_room
from medssl.evaluate.performance import Answers
from medssl.evaluate.verdict import Evidence, decide
from medssl.stats import shift

CLASSIFIER = "classifier"
UNLIKE = 99.0
LEAST_SHIFT_PATIENTS = 10


@dataclass(frozen=True)
class Side:
    """One hospital's predictions and embeddings, row by row.

    Attributes:
        predictions: columns of ``runs.PREDICTION_COLUMNS`` and the scores.
        embeddings: float ``[m, width]``; for the source of held-out patients.
        embedded_patient: their patients ``[m]``.
    """

    predictions: pa.Table
    embeddings: npt.NDArray[Any]
    embedded_patient: npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """Everything a report is made from.

    Attributes:
        target: name of the label; classes: its values in order.
        thresholds: the source's working threshold per reported class.
        source, here: the two hospitals.
        label_table: whether the new cohort has that label at all.
        unknown: values of the label that the classifier does not know, with their counts.
        notes, provenance: sentences and digests for the last sections.
    """

    target: str
    classes: tuple[str, ...]
    thresholds: dict[str, float]
    source: Side
    here: Side
    label_table: bool
    unknown: dict[str, int]
    notes: tuple[str, ...]
    provenance: dict[str, str]


def answers_of(table: pa.Table, classes: tuple[str, ...], thresholds: dict[str, float]) -> Answers:
    """Return the labelled rows of a predictions table."""
    label = np.asarray(table.column("label").to_pylist(), dtype=object)
    known = np.array([v in classes for v in label], dtype=bool)
    codes = np.array([classes.index(v) for v in label[known]], dtype=np.int64)
    return Answers(
        codes,
        scores_of(table, classes)[known],
        np.asarray(table.column("patient_id").to_pylist(), dtype=str)[known],
        np.asarray(table.column("site").to_pylist(), dtype=str)[known],
        classes,
        thresholds,
    )


def scores_of(table: pa.Table, classes: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return float64 ``[n, K]`` in class order."""
    columns = [table.column(f"{runs.SCORE}{c}").to_numpy() for c in classes]
    return np.stack(columns, 1).astype(np.float64)


def source_side(run: Path, classes: tuple[str, ...]) -> Side:
    """Read a finetune run's own held-out predictions and embeddings.

    Embeddings are those of validation and test patients: training pictures lie closer together.
    """
    table = runs.read_predictions(run / "predictions.parquet")
    mode = np.asarray(table.column("mode").to_pylist())
    split = np.asarray(table.column("split").to_pylist())
    predictions = table.filter(pa.array((mode == CLASSIFIER) & (split == "test")))
    reference = runs.read_table(run / "embeddings.parquet")
    held = np.isin(np.asarray(reference.column("split").to_pylist()), ["val", "test"])
    embeddings = np.load(run / "embeddings.npy", mmap_mode="r", allow_pickle=False)[held]
    patients = np.asarray(reference.column("patient_id").to_pylist(), dtype=str)[held]
    scores_of(predictions, classes)
    return Side(predictions, embeddings, patients)


def evaluate(case: Case, config: EvaluateConfig, out: Path) -> dict[str, Any]:
    """Compute every figure, decide, and write the report; return its summary."""
    source = answers_of(case.source.predictions, case.classes, case.thresholds)
    here = answers_of(case.here.predictions, case.classes, case.thresholds)
    options = (config.resamples, config.seed, config.min_cell_patients)
    table = perf.rows(source, "source", *options) + perf.rows(here, "target", *options)
    updated = perf.after_local_update(here, config.seed) if len(here.codes) else []
    verdict = decide(_evidence(case, table, here, updated), config)
    report: dict[str, Any] = {
        "target": case.target,
        "classes": list(case.classes),
        "thresholds": case.thresholds,
        "verdict": asdict(verdict),
        "source": _about(case.source.predictions, len(source.codes)),
        "cohort": _about(case.here.predictions, len(here.codes)),
        "performance": table,
        "updated": updated,
        "shift": shift_of(case.source, case.here, config),
        "notes": [*case.notes, *_label_notes(case)],
        "provenance": case.provenance,
        "settings": config.model_dump(mode="json"),
    }
    report_room.write(out, report, _figures(case, config, table, source, here))
    headline = perf.find(table, perf.headline(case.classes))
    return {
        "verdict": verdict.answer,
        "reasons": list(verdict.reasons),
        "auroc_here": report_room.interval(headline[0] if headline else None),
        "auroc_source": report_room.interval(
            next(iter(perf.find(table, perf.headline(case.classes), "source")), None)
        ),
        "shift_p": report["shift"].get("p"),
        "images": report["cohort"]["images"],
        "patients": report["cohort"]["patients"],
        "labelled": len(here.codes),
    }


def _evidence(
    case: Case, table: list[dict[str, Any]], here: Answers, updated: list[dict[str, Any]]
) -> Evidence:
    counts = []
    for k in here.shown:
        positive = set(here.patient[here.codes == k].tolist())
        negative = set(here.patient[here.codes != k].tolist())
        counts.append((len(positive), len(negative)))
    share = len(here.codes) / max(1, case.here.predictions.num_rows)
    return Evidence(
        table=table,
        headline=perf.headline(case.classes),
        updated=updated,
        join=share if case.label_table and len(here.codes) else None,
        with_event=min(c[0] for c in counts),
        without=min(c[1] for c in counts),
        missing=_missing(case),
    )


def _missing(case: Case) -> str:
    if not case.unknown:
        return ""
    listed = ", ".join(repr(v) for v in case.unknown)
    return f"The labels here ({listed}) are none of the model's ({', '.join(case.classes)})"


def _about(table: pa.Table, labelled: int) -> dict[str, Any]:
    sites = sorted(set(table.column("site").to_pylist()))
    patients = len(set(table.column("patient_id").to_pylist()))
    return {"sites": sites, "images": table.num_rows, "patients": patients, "labelled": labelled}


def _label_notes(case: Case) -> list[str]:
    out = []
    if case.unknown:
        listed = ", ".join(f"{v!r} ({n})" for v, n in case.unknown.items())
        out.append(f"Labels that the model does not know were left out: {listed}.")
    names = Counter(case.here.predictions.column("label").to_pylist())
    if case.label_table and names.get(None):
        out.append(f"{names[None]} images have no label and are in no figure above.")
    return out


def shift_of(source: Side, here: Side, config: EvaluateConfig) -> dict[str, Any]:
    """Compare the embeddings of the two hospitals; patients are permuted, not rows."""
    few = min(len(set(source.embedded_patient.tolist())), len(set(here.embedded_patient.tolist())))
    if few < LEAST_SHIFT_PATIENTS:
        return {"note": f"{few} patients on one side: too few for a shift test."}
    pair = (source.embeddings, source.embedded_patient, here.embeddings, here.embedded_patient)
    test = shift.patient_mmd(*pair, permutations=config.permutations, seed=config.seed)
    # A name of the other hospital never excludes a neighbour: the two key spaces are apart.
    likeness = shift.likeness(
        source.embeddings,
        np.char.add("source ", source.embedded_patient.astype(str)),
        here.embeddings,
        np.char.add("here ", here.embedded_patient.astype(str)),
    )
    return {
        "mmd": test.statistic,
        "p": test.p,
        "permutations": test.permutations,
        "source_patients": test.source_patients,
        "target_patients": test.target_patients,
        "subsampled": test.subsampled,
        "site_auroc": shift.site_classifier_auroc(*pair, seed=config.seed),
        "unlike_percent": float(100 * (likeness > UNLIKE).mean()),
    }


def _figures(
    case: Case,
    config: EvaluateConfig,
    table: list[dict[str, Any]],
    source: Answers,
    here: Answers,
) -> dict[str, Any]:
    metric = perf.headline(case.classes)
    out: dict[str, Any] = {"forest": fig.forest(table, metric, config.floor_auroc), "by_class": {}}
    all_scores = scores_of(case.here.predictions, case.classes)
    labelled = here if len(here.codes) else None
    for k in here.shown:
        out["by_class"][case.classes[k]] = {
            "roc": fig.roc(source, labelled, k),
            "reliability": fig.reliability(here, k) if labelled is not None else None,
            "histogram": fig.histogram(source, all_scores, k),
        }
    return out
