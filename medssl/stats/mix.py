"""How much of a drop in AUROC comes from other patients rather than from failing on them.

The source's patients are weighted until their covariates look like the target's. What the weighted
source AUROC has lost is the mix; what the target has lost beyond that is not explained by it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medssl.stats import embeddings
from medssl.stats.bootstrap import Patients
from medssl.stats.embeddings import checked, same_width
from medssl.stats.metrics import BoolArray, FloatArray, IntArray, outcome_and_score

CAP = 10.0
"""Largest weight of a patient, the mean being 1; a few heavier ones would decide alone."""

EFFECTIVE_PATIENTS = 30
"""Effective source patients below which nothing is attributed."""

EFFECTIVE_SHARE = 0.1
"""The same as a share of the source's patients."""

BALANCE = 0.25
"""Standardised difference that may remain in a covariate after weighting."""

SKIPPED_LIMIT = 0.05
"""Largest share of resamples that may be uncomputable before the interval is withheld."""


@dataclass(frozen=True)
class Part:
    """A difference of AUROCs with its percentile interval over patients of both sites."""

    value: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Mix:
    """The drop source - target in two parts: `mix` = source - weighted, `rest` = weighted - target.

    `weighted`, `mix` and `rest` are None where the drop cannot be attributed, `note` saying why.
    `effective` is the effective number of source patients, `capped` the share of them at the cap,
    `balance_before` and `balance_after` the largest standardised difference of a covariate.
    """

    source: float | None
    weighted: float | None
    target: float | None
    drop: Part | None
    mix: Part | None
    rest: Part | None
    effective: float
    capped: float
    balance_before: float
    balance_after: float
    source_patients: int
    target_patients: int
    level: float
    resamples: int
    skipped: int
    note: str = ""


@dataclass(frozen=True)
class Scored:
    """One site: `covariates` [n, q], `patient` [n], `y` [n] 0/1 and `score` [n], a row per image.

    Covariates are what may differ between patients without any fault of the model: leading
    principal components of embeddings, age, image statistics; finite numbers.
    """

    covariates: npt.ArrayLike
    patient: npt.ArrayLike
    y: npt.ArrayLike
    score: npt.ArrayLike


@dataclass(frozen=True)
class _Ranked:
    """Rows in the order of their scores, so that any weighting is one pass."""

    owner: IntArray
    positive: BoolArray
    ends: IntArray


def patient_mix(
    source: Scored,
    target: Scored,
    *,
    folds: int = 5,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Mix:
    """Split a drop in AUROC into a part due to the mix of patients and a rest.

    Weights are the odds of being a target patient given the mean covariates (importance weighting,
    Shimodaira 2000), from a logistic regression that did not see the patient, capped at 10 times
    the mean. It is linear in the covariates: pass squares too where spreads differ. The interval
    draws patients and takes the weights as given.

    Args:
        source: the source's held-out rows.
        target: the target's labelled rows.
        folds: of the cross-fitting, at most; fewer when a site has fewer patients.
        resamples: B.
        level: coverage in (0, 1).
        seed: of folds and resamples.

    Returns:
        The parts, and how far the weights can be believed.

    Raises:
        ValueError: if shapes do not fit, a number is not finite, a site has fewer than two patients
            or an option is out of range.
    """
    if folds < 2 or resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"A mix needs folds >= 2, resamples >= 1 and a level within (0, 1); got {folds} folds, "
            f"{resamples} resamples, level {level}."
        )
    here, home = _patient_means(source, "source")
    there, away = _patient_means(target, "target")
    same_width(here, there)
    near, far = _ranked(source, home), _ranked(target, away)
    weight, capped = _weights(here, there, folds, seed)
    effective, after = float(weight.sum() ** 2 / np.sum(weight**2)), _imbalance(here, there, weight)
    plain, even = np.ones((1, home.count)), np.ones((1, away.count))
    values = [
        _number(v[0])
        for v in (_aurocs(near, plain), _aurocs(near, weight[None]), _aurocs(far, even))
    ]
    note = _doubt(values, effective, home.count, after)
    if note:
        values[1] = None
    drawn = _resampled(near, far, weight, resamples, seed)
    skipped = resamples - drawn.shape[1]
    if not note and skipped > SKIPPED_LIMIT * resamples:
        note = f"No intervals: {skipped} of {resamples} resamples lacked a class at one site."
    limits = skipped <= SKIPPED_LIMIT * resamples
    parts = [
        _part(values[i], values[j], drawn[i] - drawn[j] if limits else None, level)
        for i, j in ((0, 2), (0, 1), (1, 2))
    ]
    return Mix(
        source=values[0],
        weighted=values[1],
        target=values[2],
        drop=parts[0],
        mix=parts[1],
        rest=parts[2],
        effective=effective,
        capped=capped,
        balance_before=_imbalance(here, there, np.ones(home.count)),
        balance_after=after,
        source_patients=home.count,
        target_patients=away.count,
        level=level,
        resamples=resamples,
        skipped=skipped,
        note=note,
    )


def _patient_means(site: Scored, name: str) -> tuple[FloatArray, Patients]:
    """Mean covariates of each patient [P, q] and the patients, two at least."""
    rows = checked(site.covariates, site.patient, name)
    groups = Patients.of(site.patient)
    if groups.count < 2:
        raise ValueError(
            f"The {name} site has {groups.count} patient(s); comparing sites needs two at each."
        )
    summed = np.add.reduceat(rows[groups.order], groups.start[:-1], axis=0)
    return np.asarray(summed / np.diff(groups.start)[:, None], dtype=np.float64), groups


def _ranked(site: Scored, groups: Patients) -> _Ranked:
    """The rows of a site in the order of their scores."""
    positive, value = outcome_and_score(site.y, site.score)
    if positive.size != groups.code.size:
        raise ValueError(
            f"Outcomes and covariates must be one per row; there are {positive.size} outcomes and "
            f"{groups.code.size} rows of covariates."
        )
    order = np.argsort(value, kind="stable")
    ranked = value[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), value.size - 1)
    return _Ranked(groups.code[order], positive[order], ends)


def _aurocs(site: _Ranked, weight: FloatArray) -> FloatArray:
    """AUROC [B] under weights of patients [B, P]; NaN where a class has no weight."""
    rows = weight[:, site.owner]
    edge = np.zeros((len(weight), 1))
    events = np.cumsum(rows * site.positive, axis=1)[:, site.ends]
    others = np.cumsum(rows * ~site.positive, axis=1)[:, site.ends]
    # Between two scores both curves rise at once: a tie counts half.
    below = (others + np.concatenate([edge, others[:, :-1]], axis=1)) / 2
    area = np.sum(np.diff(events, axis=1, prepend=0.0) * below, axis=1)
    pairs = events[:, -1] * others[:, -1]
    value = np.full(len(weight), np.nan)
    np.divide(area, pairs, out=value, where=pairs > 0)
    return value


def _weights(
    source: FloatArray, target: FloatArray, folds: int, seed: int
) -> tuple[FloatArray, float]:
    """Importance of each source patient [P], mean 1, and the share that was capped."""
    rows = np.concatenate([source, target])
    away = np.arange(len(rows)) >= len(source)
    odds = np.empty(len(rows))
    cut = StratifiedKFold(min(folds, len(source), len(target)), shuffle=True, random_state=seed)
    for train, test in cut.split(rows, away):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        prior = np.log(np.count_nonzero(away[train]) / np.count_nonzero(~away[train]))
        odds[test] = model.fit(rows[train], away[train]).decision_function(rows[test]) - prior
    mine = odds[: len(source)]
    # Only ratios of weights matter; around the largest nothing overflows.
    weight = np.exp(mine - mine.max())
    weight /= weight.mean()
    heavy = weight > CAP
    weight = np.minimum(weight, CAP)
    return weight / weight.mean(), float(heavy.mean())


def _imbalance(source: FloatArray, target: FloatArray, weight: FloatArray) -> float:
    """Largest standardised difference of a covariate between weighted source and target."""
    apart = np.abs(weight @ source / weight.sum() - target.mean(axis=0))
    spread = np.sqrt((source.var(axis=0, ddof=1) + target.var(axis=0, ddof=1)) / 2)
    # A column without spread is balanced if it is the same everywhere.
    size = 1e-9 * np.maximum(np.abs(source).max(axis=0), np.abs(target).max(axis=0))
    apart = np.where(apart <= size, 0.0, apart)
    found = np.divide(apart, spread, out=np.full(apart.size, np.inf), where=spread > size)
    return float(np.where(apart == 0, 0.0, found).max())


def _doubt(values: list[float | None], effective: float, patients: int, after: float) -> str:
    """Why the drop cannot be attributed, as a sentence; empty if it can."""
    if None in values:
        return "Cannot be attributed: a site has one class only, so it has no AUROC."
    if effective < EFFECTIVE_PATIENTS or effective < EFFECTIVE_SHARE * patients:
        return (
            f"Cannot be attributed: of the source's {patients} patients only {effective:.0f} "
            f"effective ones resemble the target's, fewer than {EFFECTIVE_PATIENTS} or "
            f"{EFFECTIVE_SHARE:.0%}."
        )
    if after > BALANCE:
        return (
            "Cannot be attributed: no weighting makes the source's patients look like the "
            f"target's; a covariate still differs by {after:.2f} standard deviations."
        )
    return ""


def _resampled(
    near: _Ranked, far: _Ranked, weight: FloatArray, resamples: int, seed: int
) -> FloatArray:
    """Source, weighted and target AUROC over resampled patients [3, at most B]."""
    rng = np.random.default_rng(seed)
    home, away = weight.size, int(far.owner.max()) + 1
    found, step = [], max(1, embeddings.BLOCK // (near.owner.size + far.owner.size))
    for low in range(0, resamples, step):
        size = min(step, resamples - low)
        one = rng.multinomial(home, np.full(home, 1 / home), size).astype(np.float64)
        two = rng.multinomial(away, np.full(away, 1 / away), size).astype(np.float64)
        found.append(np.stack([_aurocs(near, one), _aurocs(near, one * weight), _aurocs(far, two)]))
    drawn = np.concatenate(found, axis=1)
    return np.asarray(drawn[:, ~np.isnan(drawn).any(axis=0)], dtype=np.float64)


def _part(a: float | None, b: float | None, drawn: FloatArray | None, level: float) -> Part | None:
    """The difference a - b with its limits, where there are any."""
    if a is None or b is None:
        return None
    if drawn is None:
        return Part(a - b, None, None)
    tail = (1 - level) / 2
    lower, upper = np.quantile(drawn, [tail, 1 - tail])
    return Part(a - b, float(lower), float(upper))


def _number(value: float) -> float | None:
    """The number, None for NaN."""
    return None if np.isnan(value) else float(value)
