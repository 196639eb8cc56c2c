"""What can be read from a description of an image: levels told across patients, and patients again."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.stats import counted
from medssl.stats.bootstrap import Interval, Patients, intervals
from medssl.stats.embeddings import checked
from medssl.stats.metrics import FloatArray, IntArray

BLOCK = 2_000_000
MOST_ROWS = 6000
"""Rows beyond which the search for neighbours takes a seeded part of the patients."""


@dataclass(frozen=True)
class Readable:
    """How well a level is told: AUROC (mean over levels, each against the rest), 0.5 is not at all.

    The interval resamples patients and keeps the out-of-fold scores as they are. `levels` are those
    with enough patients to be asked; `left_out` counts the images of the others.
    """

    auroc: Interval | None
    levels: tuple[str, ...]
    left_out: int
    note: str = ""


@dataclass(frozen=True)
class Retrieval:
    """Share of images whose nearest neighbour is of the same patient, and what chance gives.

    Only patients with several images ask. None with a `note` where there are none.
    """

    share: Interval | None
    chance: float | None
    note: str = ""


def readable(
    rows: npt.ArrayLike,
    level: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    folds: int = 5,
    least: int = 10,
    resamples: int = 500,
    seed: int = 0,
) -> Readable:
    """Ask how well a linear classifier that never saw a patient tells a level of his images.

    Linear discriminant with Ledoit-Wolf shrinkage on standardised columns, patient-grouped folds.

    Args:
        rows: embeddings or figures [n, d].
        level: one level per row [n], compared as text.
        patient: one code or pseudonym per row [n].
        folds: at most this many.
        least: levels with fewer patients are left out, and counted.
        resamples, seed: of the patient bootstrap and the folds.

    Returns:
        The AUROC; None with a note where fewer than two levels have enough patients.

    Raises:
        ValueError: if shapes do not fit or a value is not finite.
    """
    x = checked(rows, patient, "given")
    names, who = np.asarray(level).astype(str), np.asarray(patient)
    if names.shape != who.shape:
        raise ValueError(f"One level per row is needed: {who.size} rows, {names.size} levels.")
    people = {str(n): len(set(who[names == n].tolist())) for n in np.unique(names)}
    kept = tuple(n for n, k in people.items() if k >= max(least, 2))
    there = np.isin(names, kept)
    left_out = int(np.count_nonzero(~there))
    if len(kept) < 2:
        listed = ", ".join(f"{n} ({k})" for n, k in people.items()) or "nothing"
        words = (
            f"Not computable: two levels with {least} patients each are needed; there is {listed}."
        )
        return Readable(None, kept, left_out, words)
    x, who = x[there], who[there]
    code = np.searchsorted(np.array(kept), names[there])
    splits = min(folds, *(people[n] for n in kept))
    score = _out_of_fold(x, code, who, splits, len(kept), seed)
    groups = Patients.of(who)
    statistic = (
        counted.auroc(code == 1, score[:, 1], groups)
        if len(kept) == 2
        else counted.macro_auroc(code, score, groups)
    )
    found = intervals({"": statistic}, groups, resamples=resamples, seed=seed)[""]
    return Readable(found, kept, left_out)


def _out_of_fold(
    x: FloatArray, code: IntArray, who: npt.NDArray[Any], splits: int, many: int, seed: int
) -> FloatArray:
    """Scores of every level [n, K] by a discriminant that saw neither the row nor its patient."""
    score = np.zeros((len(x), many))
    cut = StratifiedGroupKFold(n_splits=splits, shuffle=True, random_state=seed)
    for train, test in cut.split(x, code, who):
        seen = np.unique(code[train])
        if seen.size < 2:
            continue
        discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        model = make_pipeline(StandardScaler(), discriminant).fit(x[train], code[train])
        found = model.decision_function(x[test])
        if found.ndim == 1:
            found = np.column_stack([-found, found])
        score[np.ix_(test, seen)] = found
    return score


def same_patient(
    rows: npt.ArrayLike, patient: npt.ArrayLike, *, resamples: int = 500, seed: int = 0
) -> Retrieval:
    """Ask how often the nearest other image, by cosine, is of the same patient.

    Args:
        rows: embeddings [n, d].
        patient: one code or pseudonym per row [n].
        resamples, seed: of the patient bootstrap, neighbours held fixed.

    Returns:
        The share over images of patients with several, and the mean share of such images among the
        others: what a blind guess reaches.

    Raises:
        ValueError: if shapes do not fit or a value is not finite.
    """
    x, groups = checked(rows, patient, "given"), Patients.of(patient)
    if groups.code.size > MOST_ROWS:
        some = np.random.default_rng(seed).permutation(groups.count)
        size = np.cumsum(np.diff(groups.start)[some])
        taken = groups.rows(np.sort(some[: int(np.searchsorted(size, MOST_ROWS)) + 1]))
        x, groups = x[taken], Patients.of(groups.code[taken])
    images = np.diff(groups.start)
    asking = np.flatnonzero(images[groups.code] > 1)
    if asking.size == 0:
        return Retrieval(None, None, "Not computable: no patient has two images.")
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit = x / np.where(length > 0, length, 1.0)
    hit = np.zeros(len(x))
    for part in np.array_split(asking, 1 + asking.size * len(x) // BLOCK):
        near = unit[part] @ unit.T
        near[np.arange(part.size), part] = -np.inf
        hit[part] = groups.code[near.argmax(axis=1)] == groups.code[part]
    ask = np.zeros(len(x))
    ask[asking] = 1
    found = intervals(
        {"": counted.ratio(hit * ask, ask, groups)}, groups, resamples=resamples, seed=seed
    )[""]
    chance = float(np.mean((images[groups.code[asking]] - 1) / (len(x) - 1)))
    return Retrieval(found, chance)
