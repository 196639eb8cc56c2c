"""A local update of a model's probabilities, and what it would be worth at this hospital.

`y` is 0/1 and `p` a probability, 1-D, one row per image. How much may be updated follows from how
many patients have an event, and is fixed before any result is looked at; what an update is worth is
judged on patients that it never saw, over several ways of dealing patients into folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.special import logit as log_odds
from sklearn.isotonic import IsotonicRegression

from medssl.stats import calibration as cal
from medssl.stats import counted
from medssl.stats.bands import distance, limits
from medssl.stats.bootstrap import Interval, Patients, Statistic, draws
from medssl.stats.metrics import BoolArray, FloatArray, IntArray, brier, outcome_and_probability
from medssl.stats.smoother import counted_ici
from medssl.stats.usefulness import patients_of_rows

METHODS = ("none", "intercept", "intercept+slope", "isotonic")
"""From no freedom to most."""

SLOPE_EVENTS = 100
"""Patients with an event from which a slope is fitted besides an intercept."""

ISOTONIC_EVENTS = 200
"""Patients with, and patients without an event from which an isotonic update is admitted."""

MEASURES = ("slope", "intercept", "oe", "brier", "ici", "log_loss")


@dataclass(frozen=True)
class Update:
    """A fitted update, made of plain numbers: p' = expit(a + b logit p), or straight lines in p.

    `knots_p` and `knots_to` are the corners of an isotonic update, empty for the other methods.
    """

    method: str
    a: float = 0.0
    b: float = 1.0
    knots_p: tuple[float, ...] = ()
    knots_to: tuple[float, ...] = ()

    def apply(self, p: npt.ArrayLike) -> FloatArray:
        """Update probabilities.

        Args:
            p: probabilities [n] in [0, 1].

        Returns:
            Updated probabilities [n], float64; "none" returns p.

        Raises:
            ValueError: if a probability lies outside [0, 1] or is NaN.
        """
        value = np.asarray(p, dtype=np.float64)
        if not np.all((value >= 0) & (value <= 1)):
            raise ValueError("Probabilities to update must lie in [0, 1] and not be NaN.")
        if self.method == "none":
            return value.copy()
        if self.method == "isotonic":
            return np.interp(value, self.knots_p, self.knots_to)
        x = log_odds(np.clip(value, cal.EDGE, 1 - cal.EDGE))
        return np.asarray(expit(self.a + self.b * x), dtype=np.float64)


@dataclass(frozen=True)
class Judged:
    """One method on patients it never saw, each number the mean over repeats."""

    method: str
    slope: Interval
    intercept: Interval
    oe: Interval
    brier: Interval
    ici: Interval
    log_loss: Interval


@dataclass(frozen=True)
class Judgement:
    """Every admitted method, and the one that the rule, not the result, picks as `best`."""

    methods: tuple[Judged, ...]
    best: str
    rule: str
    repeats: int
    folds: int
    patients: int
    patients_with: int
    patients_without: int


def admitted(y: npt.ArrayLike, patient: npt.ArrayLike) -> tuple[str, ...]:
    """Methods that these patients can carry; the rule's choice is `chosen`.

    Args:
        y: 0/1 outcomes [n].
        patient: one code or pseudonym per row [n].

    Returns:
        Names from `METHODS`, in its order.

    Raises:
        ValueError: if arrays do not fit or are empty.
    """
    ill, well = _patients_by_outcome(y, patient)
    slope, isotonic = ill >= SLOPE_EVENTS, min(ill, well) >= ISOTONIC_EVENTS
    carried = {"intercept+slope": slope, "isotonic": isotonic}
    return tuple(m for m in METHODS if carried.get(m, True))


def chosen(y: npt.ArrayLike, patient: npt.ArrayLike) -> str:
    """The update that the rule picks: intercept below 100 events, intercept and slope from 100.

    Events are counted in patients: twenty images of one patient are one event. Isotonic updates
    are admitted with many patients but never picked, for they gain little and generalise worse.

    Args:
        y: 0/1 outcomes [n].
        patient: one code or pseudonym per row [n].

    Returns:
        "intercept" or "intercept+slope".

    Raises:
        ValueError: if arrays do not fit or are empty.
    """
    return "intercept+slope" if "intercept+slope" in admitted(y, patient) else "intercept"


def fit(method: str, y: npt.ArrayLike, p: npt.ArrayLike) -> Update:
    """Fit one update to all rows; classes of several are handled one against the rest.

    A slope that does not exist (separated or constant p) stays 1. An isotonic update stays n rows'
    worth away from 0 and 1: what never happened in n rows is not impossible.

    Args:
        method: one of `METHODS`; whether these patients can carry it is `admitted`.
        y: 0/1 outcomes [n].
        p: probabilities [n].

    Returns:
        The update.

    Raises:
        ValueError: if the method is unknown, a class is absent, or a probability is out of range.
    """
    positive, value = outcome_and_probability(y, p)
    if method not in METHODS:
        raise ValueError(f"There is no update {method!r}; choose one of {', '.join(METHODS)}.")
    if method == "none":
        return Update("none")
    a = cal.intercept_in_the_large(positive, value)
    if a is None:
        raise ValueError(
            f"An update needs rows with and without an event; {np.count_nonzero(positive)} of "
            f"{positive.size} rows have one. Use fewer folds or more patients."
        )
    if method == "isotonic":
        edge = 1 / (value.size + 2)
        model = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(value, positive)
        knots = (model.X_thresholds_.tolist(), model.y_thresholds_.tolist())
        return Update("isotonic", knots_p=tuple(knots[0]), knots_to=tuple(knots[1]))
    pair = cal.logistic_update(positive, value) if method == "intercept+slope" else None
    return Update(method, *(pair or (a, 1.0)))


def out_of_fold(
    method: str,
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    repeats: int = 10,
    folds: int = 5,
    seed: int = 0,
) -> FloatArray:
    """Probabilities after an update that never saw the patient it is applied to.

    Args:
        method: one of `METHODS`.
        y: 0/1 outcomes [n].
        p: probabilities [n].
        patient: one code or pseudonym per row [n].
        repeats: ways of dealing the patients into folds.
        folds: at most this many; fewer when there are fewer patients with (or without) an event.
        seed: repeat r deals by seed + r.

    Returns:
        Updated probabilities [repeats, n], float64.

    Raises:
        ValueError: if fewer than two folds or no repeat is possible, or arrays do not fit.
    """
    positive, value = outcome_and_probability(y, p)
    groups = patients_of_rows(patient, value.size)
    if repeats < 1:
        raise ValueError(f"Cross-validation needs at least one repeat, got {repeats}; 10 is usual.")
    updated = np.empty((repeats, value.size))
    for r in range(repeats):
        fold = _deal(positive, groups, seed + r, folds)[groups.code]
        for k in range(int(fold.max()) + 1):
            held = fold == k
            updated[r, held] = fit(method, positive[~held], value[~held]).apply(value[held])
    return updated


def recalibrate_by_patients(
    y: npt.ArrayLike, p: npt.ArrayLike, patient: npt.ArrayLike, seed: int, folds: int = 5
) -> FloatArray:
    """Out-of-fold probabilities of the update that the rule picks, dealt once.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        patient: one code or pseudonym per row [n].
        seed: of the dealing of patients into folds.
        folds: at most this many; fewer when there are fewer patients with (or without) an event.

    Returns:
        Out-of-fold probabilities [n], float64.

    Raises:
        ValueError: if fewer than two folds are possible, or patients and rows differ in number.
    """
    outcome_and_probability(y, p)
    method = chosen(y, patient)
    dealt = out_of_fold(method, y, p, patient, repeats=1, folds=folds, seed=seed)
    return np.asarray(dealt[0], dtype=np.float64)


def judge(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    methods: Sequence[str] | None = None,
    repeats: int = 10,
    folds: int = 5,
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Judgement:
    """Compare updates by repeated cross-validation over patients.

    The limits draw patients with their out-of-fold probabilities held fixed: they tell how well
    these patients pin the numbers down, not how the update would vary with other patients.
    Slope, intercept and ICI of a resample come from one repeat, the repeats taking turns.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        patient: one code or pseudonym per row [n].
        methods: which to judge; all that are `admitted` by default.
        repeats: ways of dealing the patients into folds.
        folds: at most this many; fewer when there are fewer patients with (or without) an event.
        resamples: of patients.
        seed: of the folds and of the draws.
        level: coverage in (0, 1).

    Returns:
        The judgement.

    Raises:
        ValueError: if a method is not admitted, two folds are not possible, or arrays do not fit.
    """
    positive, value = outcome_and_probability(y, p)
    groups = patients_of_rows(patient, value.size)
    possible = admitted(positive, patient)
    wanted = tuple(possible if methods is None else methods)
    ill, well = _patients_by_outcome(positive, patient)
    if not wanted or not set(wanted) <= set(possible):
        raise ValueError(
            f"{ill} patients with and {well} without an event carry the updates "
            f"{', '.join(possible)}; asked for were {', '.join(wanted) or 'none at all'}."
        )
    dealt = {"repeats": repeats, "folds": folds, "seed": seed}
    judged = []
    for method in wanted:
        updated = out_of_fold(method, positive, value, patient, **dealt)
        updated = updated[:1] if method == "none" else updated  # all repeats are one
        judged.append(_judged(method, positive, updated, groups, (resamples, seed, level)))
    return Judgement(
        methods=tuple(judged),
        best=chosen(positive, patient),
        rule=(
            f"{ill} patients have an event: below {SLOPE_EVENTS} only the intercept is updated, "
            f"from there intercept and slope. Results played no part."
        ),
        repeats=repeats,
        folds=min(folds, ill, well),
        patients=groups.count,
        patients_with=ill,
        patients_without=well,
    )


def _judged(
    method: str,
    positive: BoolArray,
    updated: FloatArray,
    groups: Patients,
    options: tuple[int, int, float],
) -> Judged:
    """The measures of out-of-fold probabilities [repeats, n]; options are B, seed and level."""
    resamples, seed, level = options
    values = np.array([_measures(positive, q) for q in updated], dtype=np.float64)
    statistics = _counted(positive, updated, groups)
    drawn = draws(statistics, groups, resamples=resamples, seed=seed)
    # One repeat without a number makes the mean a NaN, which `limits` calls not computable.
    mean = values.mean(axis=0)
    each = {m: limits(mean[k], drawn[m], groups, level) for k, m in enumerate(MEASURES)}
    whole = np.ones((len(updated), groups.count), dtype=np.int64)
    near = float(statistics["ici"](whole).mean())
    each["ici"] = distance(each["ici"].value, near, drawn["ici"], groups, level).interval
    return Judged(method, **each)


def _measures(positive: BoolArray, q: FloatArray) -> list[float | None]:
    """The numbers of one repeat in the order of `MEASURES`."""
    return [
        cal.slope(positive, q),
        cal.intercept_in_the_large(positive, q),
        cal.oe_ratio(positive, q),
        brier(positive, q),
        cal.integrated_calibration_index(positive, q),
        float(_log_loss(positive, q).mean()),
    ]


def _counted(positive: BoolArray, updated: FloatArray, groups: Patients) -> dict[str, Statistic]:
    """The measures as statistics of counts; sums over all repeats, fits over one in turn."""
    rows = np.ones(positive.size)
    share = 1 / len(updated)
    squares = ((updated - positive) ** 2).mean(axis=0)
    losses = np.mean([_log_loss(positive, q) for q in updated], axis=0)
    return {
        "slope": _in_turn([counted.slope(positive, q, groups) for q in updated]),
        "intercept": _in_turn(
            [counted.intercept_in_the_large(positive, q, groups) for q in updated]
        ),
        "oe": counted.weighted_sum([(share, counted.ratio(positive, q, groups)) for q in updated]),
        "brier": counted.ratio(squares, rows, groups),
        "ici": _in_turn([counted_ici(positive, q, groups) for q in updated]),
        "log_loss": counted.ratio(losses, rows, groups),
    }


def _in_turn(each: list[Statistic]) -> Statistic:
    """A statistic that reads resample b by statistic b modulo their number."""

    def statistic(counts: IntArray) -> FloatArray:
        out = np.empty(len(counts))
        for r, one in enumerate(each[: len(counts)]):
            out[r :: len(each)] = one(counts[r :: len(each)])
        return out

    return statistic


def _log_loss(positive: BoolArray, q: FloatArray) -> FloatArray:
    """-log of the probability given to what happened [n], kept finite by EDGE."""
    return np.asarray(-np.log(np.clip(np.where(positive, q, 1 - q), cal.EDGE, 1.0)))


def _patients_by_outcome(y: npt.ArrayLike, patient: npt.ArrayLike) -> tuple[int, int]:
    """How many patients have an event, and how many a row without one; some have both."""
    positive, _ = outcome_and_probability(y, np.zeros(np.shape(y)))
    groups = patients_of_rows(patient, positive.size)
    return np.unique(groups.code[positive]).size, np.unique(groups.code[~positive]).size


def _deal(positive: BoolArray, groups: Patients, seed: int, folds: int) -> IntArray:
    """Fold of each patient [P]; every fold's complement holds events and non-events."""
    rows = np.diff(groups.start)
    events = np.bincount(groups.code, weights=positive, minlength=groups.count)
    ill, well = int(np.count_nonzero(events > 0)), int(np.count_nonzero(events < rows))
    count = min(folds, ill, well)
    if count < 2:
        raise ValueError(
            f"Recalibration needs two folds of patients with both outcomes in each remainder; "
            f"there are {ill} patients with and {well} without an event, {folds} folds asked for."
        )
    # Ordered by all ill, mixed, all well, the carriers of either outcome are neighbours, so dealing
    # in turn gives both outcomes to at least two folds.
    kind = np.where(events == 0, 2, np.where(events < rows, 1, 0))
    shuffled = np.random.default_rng(seed).permutation(groups.count)
    order = shuffled[np.argsort(kind[shuffled], kind="stable")]
    fold = np.empty(groups.count, dtype=np.int64)
    fold[order] = np.arange(groups.count) % count
    return fold
