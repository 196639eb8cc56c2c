"""The verb evaluate, its torch-free part: predictions and embeddings become a report."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medssl import runs
from medssl.config import EvaluateConfig
from medssl.errors import NothingUsableError
from medssl.evaluate import (
    abstention,
    calibrated,
    cases,
    enough,
    groups,
    inputs,
    monitor,
    remedies,
    shifted,
    shortcuts,
)
from medssl.evaluate import performance as perf
from medssl.evaluate.answers import Answers, in_words
from medssl.evaluate.inputs import Here, Question
from medssl.evaluate.pack import reference_of
from medssl.evaluate.plain import plain
from medssl.evaluate.reference import Reference, about
from medssl.evaluate.report import write as report_room
from medssl.evaluate.tables import table_one
from medssl.evaluate.verdict import Evidence, Verdict, decide


def evaluate(
    question: Question,
    reference: Reference,
    here: Here,
    config: EvaluateConfig,
    out: Path,
    compare: tuple[str, ...] = (),
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Compute every figure, decide, and write the report; return its summary.

    Args:
        question: what was asked of which model.
        reference: the source hospital.
        here: the new one, all of its pictures.
        config: floors, seeds, and the months to report on.
        out: the run directory.
        compare: remedies, as ``NAME=RUN,RUN``.
        before: settings of the evaluation that is reported anew.

    Raises:
        MedsslError: no picture in the months asked for, or runs that cannot be compared.
    """
    runs_by_name = remedies.parse(compare)
    everything = len(here.patient)
    here = here.between(config.since, config.until)
    answers = here.answers(question)
    options = (config.resamples, config.seed, config.min_cell_patients)
    theirs = _source_rows(reference, options)
    mine = perf.rows(answers, "target", *options)
    table = theirs + mine
    by_group, group_notes = groups.rows(
        answers, here.columns, reference.columns, config, len(here.patient)
    )
    classes = [calibrated.of_class(answers, k, config) for k in answers.shown if _both(answers, k)]
    metric = perf.headline(answers)
    judged = [{"class": c["class"], **c["judged"]} for c in classes]
    evidence = _evidence(question, answers, here, table, by_group, judged, metric)
    verdict = decide(evidence, config)
    headline = next(iter(perf.find(theirs, metric, "source")), None)
    shift = shifted.of(question, reference, here, config)
    report: dict[str, Any] = {
        "target": question.target,
        "classes": list(question.classes),
        "exclusive": answers.exclusive,
        "thresholds": question.thresholds,
        "threshold_rule": question.rule,
        "verdict": asdict(verdict),
        "headline": metric,
        "source": {**reference.about, "name": reference.name, "pack": reference.pack is not None},
        "cohort": about(here.predictions, len(answers)),
        "period": {
            "since": config.since,
            "until": config.until,
            "left_out": everything - len(here.patient),
        },
        "patients_never": _never(answers),
        "settings_changed": _changed(config, before),
        "flow": _flow(question, here, answers, everything),
        "participants": table_one(here, answers, reference),
        "performance": table,
        "differences": perf.between_hospitals(perf_all(theirs, "source"), perf_all(mine, "target")),
        "calibration": classes,
        "groups": {
            "rows": by_group,
            "notes": group_notes,
            "worst": groups.worst(by_group),
        },
        "shift": shift,
        "mix": shifted.mix_of(reference, here, answers, config),
        "shortcuts": shortcuts.of(question.target, reference, here, answers, config),
        "abstention": abstention.of(question, reference, here, answers, config, shift),
        "sample_size": enough.of(
            table, reference.answers, answers, len(set(here.patient.tolist()))
        ),
        "drift": monitor.of(here, answers, config, out),
        "remedies": remedies.of(runs_by_name, answers, here.predictions, headline, config)
        if runs_by_name
        else None,
        "notes": [*question.notes, *_label_notes(question, here)],
        "model": question.model,
        "provenance": question.provenance,
        "settings": config.model_dump(mode="json"),
    }
    report = plain(report)
    cases.write(out, cases.table(question, reference, here, answers, classes, config))
    missing_pdf = report_room.write(out, report, reference, here, question)
    return _summary(report, verdict) | {"pdf": missing_pdf or "report.pdf"}


def perf_all(table: list[perf.Row], cohort: str) -> list[perf.Row]:
    """Return the AUROC rows of all sites together, by image."""
    return perf.find(table, "auroc", cohort)


def _source_rows(reference: Reference, options: tuple[int, int, int]) -> list[perf.Row]:
    if reference.pack is not None:
        return list(reference.pack["performance"])
    return [] if reference.answers is None else perf.rows(reference.answers, "source", *options)


def _flow(
    question: Question, here: Here, answers: Answers, everything: int
) -> list[dict[str, Any]]:
    """Return what became of the images; of a range of months, what of them was analysed."""
    steps = list(question.flow)
    if everything > len(here.patient):
        inside = len(set(here.patient.tolist()))
        steps.append(("of these, in the months asked for", len(here.patient), inside))
        analysed = len(set(answers.patient.tolist()))
        steps.append(("analysed in these months", len(answers), analysed))
    return [
        {"what": w, "images": groups.count(i), "patients": groups.count(p)} for w, i, p in steps
    ]


def _never(answers: Answers) -> dict[str, int | str]:
    """Return, per class, how many patients have no picture with it."""
    out: dict[str, int | str] = {}
    for k in answers.shown:
        known = answers.known(k)
        everyone = set(known.patient.tolist())
        with_it = set(known.patient[known.outcome[:, k] == 1].tolist())
        out[answers.classes[k]] = groups.count(len(everyone - with_it))
    return out


def _changed(config: EvaluateConfig, before: dict[str, Any] | None) -> dict[str, Any]:
    """Return settings that differ from the default, and from an earlier report on the same run."""
    mine, usual = config.model_dump(mode="json"), EvaluateConfig().model_dump(mode="json")
    earlier = mine if before is None else before
    return {
        "from_default": [[k, v, usual[k]] for k, v in mine.items() if v != usual[k]],
        "from_before": [[k, v, earlier[k]] for k, v in mine.items() if v != earlier.get(k, v)],
    }


def _both(answers: Answers, k: int) -> bool:
    """Return whether class k has pictures with and without it."""
    held = set(answers.outcome[:, k].tolist())
    return {0, 1} <= held


def _evidence(
    question: Question,
    answers: Answers,
    here: Here,
    table: list[perf.Row],
    by_group: list[perf.Row],
    judged: list[dict[str, Any]],
    metric: str,
) -> Evidence:
    counts = []
    for k in answers.shown:
        known = answers.known(k)
        y = known.outcome[:, k]
        counts.append((len(set(known.patient[y == 1])), len(set(known.patient[y == 0]))))
    join = len(answers) / max(1, len(here.patient)) if question.label_table else None
    missing = ""
    if question.label_table and len(answers) == 0:
        join, missing = None, _no_labels(question)
    return Evidence(
        table=table,
        headline=metric,
        groups=by_group,
        judged=judged,
        join=join,
        with_event=min((a for a, _ in counts), default=0),
        without=min((b for _, b in counts), default=0),
        missing=missing,
        words={c: in_words(question.target, c, question.thresholds) for c in question.classes},
    )


def _no_labels(question: Question) -> str:
    if question.unknown:
        listed = ", ".join(f"{v!r} ({groups.count(n)})" for v, n in question.unknown.items())
        return f"The labels here hold none of the model's classes; they say {listed}"
    return f"No picture here has a value of {question.target}"


def _label_notes(question: Question, here: Here) -> list[str]:
    out = []
    if question.unknown:
        listed = ", ".join(f"{v!r} ({groups.count(n)})" for v, n in question.unknown.items())
        out.append(f"Labels that the model does not know were left out: {listed}.")
    names = Counter(here.predictions.column("label").to_pylist())
    if question.label_table and names.get(None):
        out.append(
            f"{groups.count(names[None])} images have no label and are in no figure about performance."
        )
    return out


def _summary(report: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    metric, table = report["headline"], report["performance"]
    here, source = perf.find(table, metric), perf.find(table, metric, "source")
    return {
        "verdict": verdict.answer,
        "reasons": list(verdict.reasons),
        "auroc_here": report_room.interval(here[0] if here else None),
        "auroc_source": report_room.interval(source[0] if source else None),
        "shift_p": report["shift"]["embedding"].get("p"),
        "images": report["cohort"]["images"],
        "patients": report["cohort"]["patients"],
        "labelled": report["cohort"]["labelled"],
    }


def plan_again(run: Path, config: EvaluateConfig, compare: tuple[str, ...]) -> dict[str, Any]:
    """Return what a report anew would be made from; every check is made, nothing is written."""
    runs.finished(run, "evaluate")
    question = inputs.read_question(run)
    here = inputs.read_here(run, question).between(config.since, config.until)
    return {
        "target": question.target,
        "pictures": len(here.patient),
        "patients": len(set(here.patient.tolist())),
        "labelled": len(here.answers(question)),
        "remedies": ", ".join(remedies.parse(compare)) or "none",
    }


def again(
    run: Path,
    config: EvaluateConfig,
    out: Path,
    compare: tuple[str, ...] = (),
) -> runs.Run:
    """Report anew on the predictions of a finished evaluation: other floors, months, remedies.

    Args:
        run: a finished evaluate run; its predictions are copied, nothing is predicted again.
        config, out, compare: see ``evaluate``.

    Raises:
        NothingUsableError: the classifier is no longer where it was, or the run keeps no inputs.
    """
    before = runs.finished(run, "evaluate").record["parents"]
    question = inputs.read_question(run)
    model = next((run / p["path"] for p in before if p["file"] == "classifier.json"), None)
    if model is None or not model.is_dir():
        words = f"{run}: its classifier is no longer at {model}; put it back, or evaluate anew."
        raise NothingUsableError(words, "E-NOREFERENCE")
    reference = reference_of(model, question.classes, question.thresholds)
    here = inputs.read_here(run, question)
    parents = [{**p, "path": str(run / p["path"])} for p in before]
    parents.append(runs.parent(run, "predictions.parquet"))
    facts = {"seed": config.seed, "parents": parents, "manifest": runs.read(run).record["manifest"]}
    with runs.open_run(out, "evaluate", config, facts) as (_, summary):
        inputs.copy(run, out)
        summary |= evaluate(question, reference, here, config, out, compare, _settings(run))
    return runs.read(out)


def _settings(run: Path) -> dict[str, Any] | None:
    """Return the settings of an earlier report; None where it cannot be read."""
    try:
        found = json.loads((run / "report.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError):
        return None
    return dict(found)
