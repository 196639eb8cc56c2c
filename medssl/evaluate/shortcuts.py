"""What the model might be reading instead: site, device and person in the embedding, cues, borders."""

from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.config import EvaluateConfig
from medssl.evaluate import attributes
from medssl.evaluate.answers import Answers, FloatArray, in_words
from medssl.evaluate.groups import ABSENT
from medssl.evaluate.inputs import Here, Stage
from medssl.evaluate.performance import Row
from medssl.evaluate.plain import plain
from medssl.evaluate.reference import Column, Reference
from medssl.stats import counted
from medssl.stats.bootstrap import Patients, difference, draws, interval_of, intervals, two_sided_p
from medssl.stats.multiplicity import adjust
from medssl.stats.readable import readable, same_patient

ASKED = (
    "site",
    "manufacturer",
    "model",
    "view",
    "sex",
    "age_band",
    "photometric",
    "transfer_syntax",
)
RESAMPLES = 500
CUE = 0.65
"""AUROC from which figures of the grey levels alone count as a cue worth a warning."""


def of(
    target: str, reference: Reference, here: Here, answers: Answers, config: EvaluateConfig
) -> dict[str, Any]:
    """Return what can be read where it should not be.

    Returns:
        ``readable`` (level by encoder), ``identity`` (same-patient retrieval by encoder), ``cues``
        (every pixel figure alone against the label here), ``simple`` (figures together, judged on
        patients they did not see), ``masks`` (performance with a part hidden) and ``sentences``.
    """
    cues = _cues(here, answers, config)
    simple = _simple(here, answers, config)
    masks = _masks("source", reference.answers, reference.masked, config)
    masks += _masks("here", answers, here.masked, config)
    stages = here.stages or _only_stage(reference, here)
    probes = [r for s in stages for r in _readable(s, here, config)]
    out = {
        "readable": probes,
        "identity": [_identity(s, config) for s in stages],
        "cues": cues,
        "simple": simple,
        "masks": masks,
    }
    return {**out, "sentences": _sentences(out, target, answers.thresholds)}


def _only_stage(reference: Reference, here: Here) -> tuple[Stage, ...]:
    """The classifier's own embeddings, where no chain was embedded."""
    mine = _keys(here)
    if reference.embeddings is None or reference.embedded_patient is None:
        none = np.zeros(len(mine), dtype=bool)
        return (Stage("the classifier's encoder", here.embeddings, none, here.patient, mine),)
    rows = np.concatenate([here.embeddings, reference.embeddings])
    theirs = tuple(("", -1) for _ in reference.embedded_patient)
    source = np.arange(len(rows)) >= len(mine)
    patient = np.concatenate([here.patient, reference.embedded_patient])
    return (Stage("the classifier's encoder", rows, source, patient, mine + theirs),)


def _keys(here: Here) -> tuple[tuple[str, int], ...]:
    images = here.predictions.column("image_id").to_pylist()
    return tuple(zip(images, here.predictions.column("slice").to_pylist(), strict=True))


def _readable(stage: Stage, here: Here, config: EvaluateConfig) -> list[Row]:
    """Ask one encoder for every attribute: the site from both hospitals, the rest here."""
    mine = ~stage.source
    place = {k: r for r, k in enumerate(_keys(here))}
    at = np.array([place[k] for k, m in zip(stage.key, mine, strict=True) if m], dtype=np.int64)
    out = []
    if stage.source.any():
        side = np.where(stage.source, "source", "here")
        # A number that occurs at both hospitals is two patients: the two key spaces are apart.
        who = np.char.add(side, stage.patient.astype(str))
        out.append(_probe(stage.name, "hospital", stage.embeddings, side, who, config))
    for name in ASKED:
        column = here.columns.get(name)
        if column is None:
            continue
        level = _levels(column, at)
        if len(set(level.tolist())) > 1:
            rows, who = stage.embeddings[mine], stage.patient[mine]
            out.append(
                _probe(stage.name, f"{name} (here)".replace("_", " "), rows, level, who, config)
            )
    return out


def _levels(column: Column, at: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    return np.array([ABSENT if v is None else str(v) for v in column.values[at]])


def _probe(
    stage: str,
    what: str,
    rows: FloatArray,
    level: npt.NDArray[Any],
    patient: npt.NDArray[Any],
    config: EvaluateConfig,
) -> Row:
    row: Row = {"encoder": stage, "what": what, "levels": []}
    try:
        found = readable(rows, level, patient, resamples=RESAMPLES, seed=config.seed)
    except ValueError as error:
        return row | {"note": str(error)} | _numbers(None)
    return row | {"levels": list(found.levels), "note": found.note} | _numbers(found.auroc)


def _identity(stage: Stage, config: EvaluateConfig) -> Row:
    """Ask one encoder to find a patient's other images among those of this hospital."""
    mine = ~stage.source
    rows, who = stage.embeddings[mine], stage.patient[mine]
    row: Row = {"encoder": stage.name, "what": "same patient (here)", "chance": None}
    try:
        found = same_patient(rows, who, resamples=RESAMPLES, seed=config.seed)
    except ValueError as error:
        return row | {"note": str(error)} | _numbers(None)
    return row | {"note": found.note, "chance": found.chance} | _numbers(found.share)


def _numbers(interval: Any) -> Row:
    if interval is None:
        return {"value": None, "lower": None, "upper": None, "patients": None}
    picked = ("value", "lower", "upper", "patients")
    return {k: v for k, v in plain(interval).items() if k in picked}


def _figures(here: Here, names: tuple[str, ...], row: npt.NDArray[np.int64]) -> FloatArray:
    columns = [here.columns[n].values[row].astype(np.float64) for n in names if n in here.columns]
    return np.stack(columns, 1) if columns else np.zeros((len(row), 0))


def _cues(here: Here, answers: Answers, config: EvaluateConfig) -> list[Row]:
    """Return how well each single pixel figure ranks the label here, with Holm's p."""
    out: list[Row] = []
    for k in answers.shown:
        known = answers.known(k)
        y, _ = known.of(k)
        if len(known) == 0 or y.min() == y.max():
            continue
        groups = Patients.of(known.patient)
        for name in attributes.PIXELS:
            if name not in here.columns:
                continue
            value = here.columns[name].values[known.row].astype(np.float64)
            if np.ptp(value) == 0:
                continue
            statistic = counted.auroc(y, value, groups)
            options: Any = {"resamples": config.resamples, "seed": config.seed}
            drawn = draws({"": statistic}, groups, **options)[""]
            found, p = interval_of(statistic, groups, drawn), two_sided_p(drawn - 0.5)
            out.append({"class": answers.classes[k], "figure": name, **_numbers(found), "p": p})
    for row, adjusted in zip(out, adjust([r["p"] for r in out], "holm"), strict=True):
        row["p_adjusted"] = adjusted
    return sorted(out, key=lambda r: -abs((r["value"] or 0.5) - 0.5))


def _simple(here: Here, answers: Answers, config: EvaluateConfig) -> list[Row]:
    """Return how well simple descriptions tell the label here, on patients they did not see."""
    out: list[Row] = []
    kinds = {"grey-level histogram": attributes.TONES, "all pixel figures": attributes.PIXELS}
    for k in answers.shown:
        known = answers.known(k)
        y, _ = known.of(k)
        for words, names in kinds.items():
            rows = _figures(here, names, known.row)
            if rows.shape[1] == 0 or len(known) == 0:
                continue
            probe = _probe(words, answers.classes[k], rows, y.astype(str), known.patient, config)
            out.append({**probe, "class": answers.classes[k]})
    return out


def _masks(
    hospital: str, answers: Answers | None, masked: dict[str, Answers], config: EvaluateConfig
) -> list[Row]:
    """Return the AUROC with a part of every picture hidden, and its paired change."""
    out: list[Row] = []
    if answers is None or len(answers) == 0:
        return out
    for name, hidden in masked.items():
        if hidden.patient.tolist() != answers.patient.tolist():
            words = "Not run: the masked predictions are of other pictures; predict anew."
            out.append({"hospital": hospital, "mask": name, "class": "", "note": words})
            out[-1] |= {**_numbers(None), "difference": None, "p": None}
            out[-1] |= {"difference_lower": None, "difference_upper": None}
            continue
        for k in answers.shown:
            there = answers.outcome[:, k] >= 0
            y, p = answers.outcome[there, k], answers.scores[there, k]
            groups = Patients.of(answers.patient[there])
            other = counted.auroc(y, hidden.scores[there, k], groups)
            found = difference(
                other,
                counted.auroc(y, p, groups),
                groups,
                resamples=config.resamples,
                seed=config.seed,
            )
            own = intervals({"": other}, groups, resamples=config.resamples, seed=config.seed)[""]
            gap = found.interval
            row: Row = {"hospital": hospital, "mask": name, "class": answers.classes[k]}
            row |= {**_numbers(own), "difference": gap.value, "difference_lower": gap.lower}
            out.append(row | {"difference_upper": gap.upper, "p": found.p, "note": own.note})
    return out


def _sentences(found: dict[str, Any], target: str, lines: dict[str, float]) -> list[str]:
    """Return what a reader should take away, in words."""

    def named(row: Row) -> str:
        return in_words(target, str(row["class"]), lines)

    out = []
    for row in found["simple"]:
        if row["lower"] is not None and row["lower"] > CUE and row["encoder"].startswith("grey"):
            best = next(r for r in found["cues"] if r["class"] == row["class"])
            out.append(
                f"The grey-level histogram alone tells {named(row)} with AUROC "
                f"{row['value']:.2f} ({row['lower']:.2f} to {row['upper']:.2f}) on patients it did "
                f"not see; the strongest single figure is {best['figure'].replace('_', ' ')} "
                f"({best['value']:.2f}). It knows nothing of where things are. A radiologist should "
                "say whether that is disease or exposure and processing."
            )
    for row in found["masks"]:
        if row["mask"].startswith("centre") and row["lower"] is not None and row["lower"] > CUE:
            out.append(
                f"With the centre of every picture hidden the model still scores {row['value']:.2f} "
                f"({row['lower']:.2f} to {row['upper']:.2f}) for {named(row)} at the "
                f"{'source' if row['hospital'] == 'source' else 'new hospital'}: what lies outside the centre is "
                "enough for that, be it anatomy or border."
            )
    site = [r for r in found["readable"] if r["what"] == "hospital" and r["value"] is not None]
    if site:
        last = site[-1]
        out.append(
            f"The hospital can be read from the embedding of {last['encoder']} with AUROC "
            f"{last['value']:.2f} ({_short(last)}); 0.50 is not at all."
        )
    return out


def _short(row: Row) -> str:
    if row["lower"] is None:
        return str(row["note"])
    return f"{row['lower']:.2f} to {row['upper']:.2f}"
