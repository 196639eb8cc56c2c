"""Is this hospital different, before any label is read: pictures, headers, predictions; and why."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.config import EvaluateConfig
from medssl.evaluate import attributes
from medssl.evaluate.answers import MISSING, Answers, FloatArray
from medssl.evaluate.groups import count
from medssl.evaluate.inputs import Here, Question
from medssl.evaluate.performance import SMALL, Row
from medssl.evaluate.plain import attempt, plain
from medssl.evaluate.reference import NO_PICTURES, RARE, Reference
from medssl.stats import columns, domain, frechet, label_shift, likeness, mix, mmd, outputs, power
from medssl.stats.multiplicity import adjust

LEAST_PATIENTS = 8
"""Fewer patients at a hospital get a sentence instead of a test."""
NO_EMBEDDINGS = (
    "Not run: the pack holds no embeddings (they identify people; --share-embeddings shares some)."
)
NO_ANSWERS = "Not run: it needs the source's own answers, which a pack does not hold."
MIX_AXES = 8
MOST_UNLIKE = 10


def of(
    question: Question, reference: Reference, here: Here, config: EvaluateConfig
) -> dict[str, Any]:
    """Return every comparison of the two hospitals that needs no label here.

    Returns:
        ``embedding`` (patient-block MMD), ``domain``, ``frechet``, ``unlike``, ``detectable``,
        ``outputs`` (BBSD), ``columns`` (one row each, BH) and ``labels`` (how common each class
        seems); a part that cannot be computed is ``{"note": why}``.
    """
    return {
        **_embeddings(reference, here, config),
        "outputs": _outputs(question, reference, here, config),
        "columns": _columns(reference, here, config),
        "labels": _labels(question, reference, here, config),
    }


def _embeddings(reference: Reference, here: Here, config: EvaluateConfig) -> dict[str, Any]:
    parts = ("embedding", "domain", "frechet", "unlike", "detectable")
    if reference.embeddings is None or reference.embedded_patient is None:
        return {name: {"note": NO_EMBEDDINGS} for name in parts}
    few = _few(reference.embedded_patient, here.patient)
    if few:
        return {name: {"note": few} for name in parts}
    pair = (reference.embeddings, reference.embedded_patient, here.embeddings, here.patient)
    seeded = {"seed": config.seed}
    many = {"permutations": config.permutations, **seeded}
    found = {
        "embedding": attempt(lambda: mmd.patient_mmd(*pair, **many)),
        "domain": attempt(lambda: domain.site_classifier(*pair, **many)),
        "frechet": attempt(lambda: frechet.frechet_shift(*pair, **seeded)),
        "detectable": attempt(lambda: power.detectable_shift(*pair, **seeded)),
    }
    return {**found, "unlike": _unlike(_apart(*pair), here, config)}


def percentiles(reference: Reference, here: Here, config: EvaluateConfig) -> FloatArray | None:
    """Return how unusual every picture here is among the source's own, 0 to 100; None if unknown."""
    if reference.embeddings is None or reference.embedded_patient is None:
        return None
    pair = (reference.embeddings, reference.embedded_patient, here.embeddings, here.patient)
    try:
        return likeness.likeness(*_apart(*pair), seed=config.seed)
    except ValueError:
        return None


def _apart(
    source: FloatArray,
    source_patient: npt.NDArray[Any],
    here: FloatArray,
    patient: npt.NDArray[Any],
) -> tuple[FloatArray, npt.NDArray[Any], FloatArray, npt.NDArray[Any]]:
    """A name of the other hospital never excludes a neighbour: the two key spaces are apart."""
    theirs = np.char.add("source ", source_patient.astype(str))
    return source, theirs, here, np.char.add("here ", patient.astype(str))


def _few(source: npt.NDArray[Any], here: npt.NDArray[Any]) -> str:
    """Return why there are too few patients for a test; empty where there are enough."""
    few = min(len(set(source.tolist())), len(set(here.tolist())))
    return f"{few} patients on one side: too few for a shift test." if few < LEAST_PATIENTS else ""


def _unlike(
    pair: tuple[FloatArray, npt.NDArray[Any], FloatArray, npt.NDArray[Any]],
    here: Here,
    config: EvaluateConfig,
) -> dict[str, Any]:
    try:
        found = likeness.unlike(*pair, seed=config.seed)
    except ValueError as error:
        return {"note": str(error)}
    images = here.predictions.column("image_id").to_pylist()
    slices = here.predictions.column("slice").to_pylist()
    most = [
        {"image_id": images[r], "slice": slices[r], "percentile": float(found.percentile[r])}
        for r in found.rows[:MOST_UNLIKE]
    ]
    return {**plain(found, ("percentile", "rows")), "most": most}


def _outputs(
    question: Question, reference: Reference, here: Here, config: EvaluateConfig
) -> dict[str, Any]:
    shown = [k for k, name in enumerate(question.classes) if name in question.thresholds]
    few = _few(reference.score_patient, here.patient)
    if few:
        return {"note": few}
    if not np.isfinite(reference.scores).all():
        return {"note": "Not run: the pack holds no scores, for want of patients."}
    found = attempt(
        lambda: outputs.output_shift(
            reference.scores[:, shown],
            reference.score_patient,
            here.scores(question)[:, shown],
            here.patient,
            permutations=config.permutations,
            seed=config.seed,
        )
    )
    return {**found, "classes": [question.classes[k] for k in shown]}


def _columns(reference: Reference, here: Here, config: EvaluateConfig) -> list[Row]:
    """Return one row per attribute; p adjusted after Benjamini and Hochberg: a screen."""
    if not reference.columns:
        return [{"column": "header fields and pixel figures", "note": NO_PICTURES}]
    mine = here.columns
    whose = next(iter(reference.columns.values())).patient
    few = _few(whose, here.patient)
    if few:
        return [{"column": "header fields and pixel figures", "note": few}]
    out: list[Row] = []
    for one in attributes.ATTRIBUTES:
        if one.name not in mine and one.name not in reference.columns:
            continue
        if one.name == "site":
            continue
        row = {"column": one.name, "meaning": one.words}
        out.append(row | _column(one, reference, here, config))
    known: list[float | None] = [r.get("p") for r in out]
    adjusted = adjust(known, "bh")
    return [{**r, "p_adjusted": q} for r, q in zip(out, adjusted, strict=True)]


def _column(
    one: attributes.Attribute, reference: Reference, here: Here, config: EvaluateConfig
) -> Row:
    nothing: Any = None if one.levels else np.nan
    kind: Any = object if one.levels else np.float64
    source = reference.columns.get(one.name)
    whose = next(iter(reference.columns.values())).patient if source is None else source.patient
    theirs = np.full(len(whose), nothing, dtype=kind) if source is None else source.values
    target = here.columns.get(one.name)
    mine = np.full(len(here.patient), nothing, dtype=kind) if target is None else target.values
    if one.name in attributes.PIXELS and (source is None or target is None):
        where = "at the source" if source is None else "here"
        words = f"Not compared: this figure was not computed {where} (an older run)."
        return {"kind": "number", "note": words}
    if one.levels:
        theirs, mine = _pooled(theirs, mine, here.patient, pack=reference.pack is not None)
    options = {"permutations": config.permutations, "seed": config.seed}
    compare: Any = columns.compare_levels if one.levels else columns.compare_numbers
    found = attempt(lambda: compare(theirs, whose, mine, here.patient, **options))
    found["kind"] = "levels" if one.levels else "number"
    if "unseen" in found:
        kept = [[level, count(int(n))] for level, n in found["unseen"]]
        # What a pack calls rare may well have been seen.
        pooled = reference.pack is not None and RARE in set(theirs.tolist())
        found["unseen"] = [] if pooled else kept
    return found


def _pooled(
    theirs: npt.NDArray[Any], mine: npt.NDArray[Any], patient: npt.NDArray[Any], *, pack: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return levels with the rare ones under one name: of fewer than five patients, or in no pack.

    A share of one to four patients would tell of them; levels that neither side names together
    would be called new.
    """
    known = set(theirs.tolist())
    people = {v: len(set(patient[mine == v].tolist())) for v in set(mine.tolist())}
    if pack and RARE in known:
        rare = {v for v in people if v not in known}
    else:
        rare = {v for v, n in people.items() if v is not None and n < SMALL and v in known}
    if len(rare) < 2 and not pack:
        return theirs, mine
    renamed = [
        np.array([RARE if v in rare else v for v in a], dtype=object) for a in (theirs, mine)
    ]
    return renamed[0], renamed[1]


def _labels(
    question: Question, reference: Reference, here: Here, config: EvaluateConfig
) -> dict[str, Any]:
    """Return how common each class seems here, by two methods that read no label here."""
    answers = reference.answers
    if answers is None:
        return {"note": NO_ANSWERS}
    few = _few(answers.patient, here.patient)
    if few:
        return {"note": few}
    if not answers.exclusive:
        return {"note": "Not run: it needs classes that exclude each other."}
    many = len(question.classes)
    chances = here.scores(question)
    prior = np.bincount(answers.codes, minlength=many) / max(1, len(answers))
    return {
        "classes": list(question.classes),
        "source_share": plain(prior),
        "caution": "Both assume that only the shares of the classes differ between the hospitals, not "
        "how a class looks; where the pictures differ too, do not use them.",
        "bbse": attempt(
            lambda: label_shift.black_box_prevalence(
                answers.codes,
                answers.scores.argmax(1),
                answers.patient,
                chances.argmax(1),
                here.patient,
                many,
                resamples=config.resamples,
                seed=config.seed,
            )
        ),
        "em": attempt(lambda: label_shift.expected_prevalence(prior, chances)),
    }


def mix_of(reference: Reference, here: Here, answers: Answers, config: EvaluateConfig) -> list[Row]:
    """Return, per class, how much of a drop in AUROC the mix of patients explains.

    The mix is described by the leading axes of both hospitals' embeddings.
    """
    if reference.answers is None or reference.embeddings is None or reference.embedded_row is None:
        return [{"class": "", "note": NO_ANSWERS}]
    source = reference.answers
    place = {int(r): k for k, r in enumerate(reference.embedded_row) if r >= 0}
    there = np.array([int(r) in place for r in source.row], dtype=bool)
    if not there.any() or len(answers) == 0:
        return [{"class": "", "note": "Not run: no labelled picture with an embedding on a side."}]
    source = source.part(there)
    theirs = reference.embeddings[[place[int(r)] for r in source.row]]
    if not (np.isfinite(theirs).all() and np.isfinite(here.embeddings).all()):
        return [{"class": "", "note": "Not run: an embedding holds NaN or infinity."}]
    axes = _axes(np.concatenate([theirs, here.embeddings[answers.row]]))
    out = []
    for k in answers.shown:
        one = _scored(source, axes[: len(theirs)], k)
        two = _scored(answers, axes[len(theirs) :], k)
        found = attempt(partial(mix.patient_mix, one, two, seed=config.seed))
        out.append({"class": answers.classes[k], **found})
    return out


def _scored(answers: Answers, axes: FloatArray, k: int) -> mix.Scored:
    there = answers.outcome[:, k] != MISSING
    known = answers.known(k)
    return mix.Scored(axes[there], known.patient, *known.of(k))


def _axes(rows: FloatArray) -> FloatArray:
    """Return the leading principal axes of standardised embeddings ``[n, q]``."""
    spread = rows.std(0)
    scaled = (rows - rows.mean(0)) / np.where(spread > 0, spread, 1.0)
    _, _, directions = np.linalg.svd(scaled, full_matrices=False)
    found: FloatArray = scaled @ directions[:MIX_AXES].T
    return found
