"""Statistics that read how often each patient was drawn, a block of resamples at once.

Everything that does not change between resamples (sorting, above all) is done once, when the
statistic is made: resampling then costs a few passes over the rows instead of a sort. Each equals
its plain namesake in `metrics` or `calibration` on the rows that the draws stand for.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.special import expit
from scipy.special import logit as log_odds

from medssl.stats import calibration as cal
from medssl.stats.bootstrap import Patients, Statistic
from medssl.stats.metrics import FloatArray, IntArray, outcome_and_probability, outcome_and_score

BLOCK = 1_000_000
"""Row weights held at once."""

EXACT = 20_000
"""Rows up to which logistic fits see every row by itself."""

CELLS = 2_000

NEWTON_STEPS = 25
CONVERGED = 1e-8
FAR = 1e3


def auroc(y: npt.ArrayLike, score: npt.ArrayLike, groups: Patients) -> Statistic:
    """AUROC, ties counting half; equals `metrics.auroc` to the last digit.

    Args:
        y: 0/1 outcomes [n].
        score: scores [n].
        groups: rows of each patient.
    """
    positive, value = outcome_and_score(y, score)
    codes = groups.code
    # The running sum goes over the larger class, the look-ups over the smaller one.
    flip = np.count_nonzero(positive) * 2 > positive.size
    many = positive if flip else ~positive
    order = np.argsort(value[many], kind="stable")
    ranked, steps = value[many][order], codes[many][order]
    few = np.sort(value[~many])
    asked = codes[~many][np.argsort(value[~many], kind="stable")]
    left, right = ranked.searchsorted(few, "left"), ranked.searchsorted(few, "right")

    def statistic(counts: IntArray) -> FloatArray:
        out = np.full(len(counts), np.nan)
        for k, drawn in enumerate(counts):
            running = np.concatenate([[0], np.cumsum(drawn[steps])])
            weight = drawn[asked]
            total, events = int(running[-1]), int(weight.sum())
            if total and events:
                twice = int(weight @ (running[left] + running[right]))
                twice = 2 * total * events - twice if flip else twice
                out[k] = twice / (2.0 * total * events)
        return out

    return statistic


def macro_auroc(codes: npt.ArrayLike, scores: npt.ArrayLike, groups: Patients) -> Statistic:
    """Mean AUROC of every class against the rest; no number unless all classes were drawn.

    Args:
        codes: class code of each row [n].
        scores: one column per class [n, K].
        groups: rows of each patient.
    """
    code, table = np.asarray(codes), np.asarray(scores, dtype=np.float64)
    many = table.shape[1]
    parts = [(1 / many, auroc(code == k, table[:, k], groups)) for k in range(many)]
    return weighted_sum(parts)


def average_precision(y: npt.ArrayLike, score: npt.ArrayLike, groups: Patients) -> Statistic:
    """Average precision; rows with one score are flagged together.

    Args:
        y: 0/1 outcomes [n].
        score: scores [n].
        groups: rows of each patient.
    """
    positive, value = outcome_and_score(y, score)
    order = np.argsort(-value, kind="stable")
    codes, hits = groups.code[order], positive[order]
    ends = np.flatnonzero(np.append(np.diff(value[order]) != 0, True))

    def statistic(counts: IntArray) -> FloatArray:
        out = np.full(len(counts), np.nan)
        for k, drawn in enumerate(counts):
            weight = drawn[codes]
            flagged = np.cumsum(weight)[ends]
            found = np.cumsum(weight * hits)[ends]
            events = int(found[-1]) if found.size else 0
            if 0 < events < int(flagged[-1]):
                precision = found / np.maximum(flagged, 1)
                out[k] = float(np.diff(found, prepend=0) @ precision) / events
        return out

    return statistic


def of_sums(
    columns: list[npt.ArrayLike], function: Callable[..., FloatArray], groups: Patients
) -> Statistic:
    """Any function of sums over rows: rates, the Brier score, O/E, net benefit.

    Args:
        columns: what each row adds to each sum, K arrays [n].
        function: K sums, each [b], to numbers [b]; a division by zero is no number.
        groups: rows of each patient.
    """
    sums = np.stack([_by_patient(c, groups) for c in columns], 1)

    def statistic(counts: IntArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.asarray(function(*(counts @ sums).T), dtype=np.float64)
        return np.where(np.isfinite(found), found, np.nan)

    return statistic


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike, groups: Patients) -> Statistic:
    """Sum over sum: sensitivity, predictive values, prevalence, Brier score, O/E, alerts.

    Args:
        numerator, denominator: what each row adds to either sum [n].
        groups: rows of each patient.
    """
    return of_sums([numerator, denominator], np.divide, groups)


def weighted_sum(parts: list[tuple[float, Statistic]]) -> Statistic:
    """Add statistics with weights: macro means, differences, net benefit less its rival."""

    def statistic(counts: IntArray) -> FloatArray:
        total = np.zeros(len(counts))
        for weight, one in parts:
            total += weight * one(counts)
        return total

    return statistic


def slope(y: npt.ArrayLike, p: npt.ArrayLike, groups: Patients) -> Statistic:
    """Calibration slope with an intercept, by Newton's method from the fit to all rows.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        groups: rows of each patient.

    Returns:
        The statistic; NaN where no maximum exists (one class, constant p, separated scores).
    """
    positive, value = outcome_and_probability(y, p)
    x = log_odds(np.clip(value, cal.EDGE, 1 - cal.EDGE))
    whole = cal.logistic_update(y, p)
    at = _places(x, groups)
    seen = np.stack([_by_patient(positive, groups), _by_patient(positive * x, groups)], 1)

    def exact(drawn: IntArray) -> float:
        rows = np.repeat(np.arange(x.size), drawn[groups.code])
        fit = cal.logistic_update(positive[rows], value[rows]) if rows.size else None
        return np.nan if fit is None else fit[1]

    def statistic(counts: IntArray) -> FloatArray:
        if whole is None:
            return np.array([exact(drawn) for drawn in counts])
        parts = [_newton(*at(part), part @ seen, whole) for part in _parts(counts, x.size)]
        out = np.concatenate(parts)
        for k in np.flatnonzero(~np.isfinite(out)):
            out[k] = exact(counts[k])
        return out

    return statistic


def intercept_in_the_large(y: npt.ArrayLike, p: npt.ArrayLike, groups: Patients) -> Statistic:
    """Log-odds to add to every row so that as many events are expected as were seen.

    Args:
        y: 0/1 outcomes [n].
        p: probabilities [n].
        groups: rows of each patient.
    """
    positive, value = outcome_and_probability(y, p)
    x = log_odds(np.clip(value, cal.EDGE, 1 - cal.EDGE))
    begin = cal.intercept_in_the_large(y, p) or 0.0
    at, seen = _places(x, groups), _by_patient(positive, groups)

    def exact(drawn: IntArray) -> float:
        rows = np.repeat(np.arange(x.size), drawn[groups.code])
        found = cal.intercept_in_the_large(positive[rows], value[rows]) if rows.size else None
        return np.nan if found is None else found

    def statistic(counts: IntArray) -> FloatArray:
        parts = [_offset(*at(part), part @ seen, begin) for part in _parts(counts, x.size)]
        out = np.concatenate(parts)
        for k in np.flatnonzero(~np.isfinite(out)):
            out[k] = exact(counts[k])
        return out

    return statistic


Places = Callable[[IntArray], tuple[FloatArray, FloatArray]]


def _places(x: FloatArray, groups: Patients) -> Places:
    """Where the rows lie: weights [b, G] and log-odds [b, G] (or [G]) of each resample.

    Up to `EXACT` rows every row is a place. Beyond, neighbours in log-odds share one of `CELLS`
    places, at their own mean in every resample: what is lost is of second order in the width of a
    cell, some 1e-6 of a slope.
    """
    if x.size <= EXACT:
        return lambda counts: (counts[:, groups.code].astype(np.float64), x)
    # Narrow where the rows are and where they are not: half by rank, half by width.
    rank = np.empty(x.size)
    rank[np.argsort(x, kind="stable")] = np.arange(x.size) / x.size
    width = (x - x.min()) / max(float(np.ptp(x)), cal.EDGE)
    cell = np.minimum((rank + width) / 2 * CELLS, CELLS - 1).astype(np.int64)
    shape = (CELLS, groups.count)
    number = csr_matrix((np.ones(x.size), (cell, groups.code)), shape)
    total = csr_matrix((x, (cell, groups.code)), shape)

    def at(counts: IntArray) -> tuple[FloatArray, FloatArray]:
        columns = counts.T.astype(np.float64)
        weight = np.asarray((number @ columns).T)
        centre = np.asarray((total @ columns).T) / np.maximum(weight, 1)
        return weight, centre

    return at


def _parts(counts: IntArray, rows: int) -> list[IntArray]:
    """The resamples in blocks that fit the cache."""
    return np.array_split(counts, max(1, len(counts) * min(rows, CELLS) // BLOCK))


def _newton(
    weight: FloatArray, x: FloatArray, seen: FloatArray, begin: tuple[float, float]
) -> FloatArray:
    """Slopes [b] of weighted logistic fits; NaN where it did not settle.

    Args:
        weight: [b, G]; x: log-odds [b, G] or [G].
        seen: sums over events of 1 and of the log-odds [b, 2].
        begin: intercept and slope to start from.
    """
    beta = np.tile(np.array(begin), (len(weight), 1))
    left = np.arange(len(weight))
    out = np.full(len(weight), np.nan)
    for _ in range(NEWTON_STEPS):
        own, at = beta[left], x[left] if x.ndim == 2 else x
        q = expit(own[:, :1] + own[:, 1:] * at)
        expected = weight[left] * q
        bend = expected * (1 - q)
        g0, g1 = seen[left, 0] - expected.sum(1), seen[left, 1] - (expected * at).sum(1)
        sloped = bend * at
        h0, h1, h2 = bend.sum(1), sloped.sum(1), (sloped * at).sum(1)
        size = h0 * h2 - h1 * h1
        with np.errstate(all="ignore"):
            move = np.stack([(h2 * g0 - h1 * g1) / size, (h0 * g1 - h1 * g0) / size], 1)
        beta[left] = own + move
        near = np.abs(move).max(1) <= CONVERGED * (1 + np.abs(own).max(1))
        out[left[near]] = beta[left[near], 1]
        lost = ~np.isfinite(move).all(1) | (np.abs(beta[left]).max(1) > FAR)
        left = left[~near & ~lost]
        if left.size == 0:
            break
    return out


def _offset(weight: FloatArray, x: FloatArray, seen: FloatArray, begin: float) -> FloatArray:
    """Intercepts [b] with log-odds x as offset and `seen` events [b]; NaN where not settled."""
    a = np.full(len(weight), begin)
    out = np.full(len(weight), np.nan)
    left = np.flatnonzero((seen > 0) & (seen < weight.sum(1)))
    for _ in range(NEWTON_STEPS):
        q = expit(a[left, None] + (x[left] if x.ndim == 2 else x))
        expected = weight[left] * q
        with np.errstate(all="ignore"):
            move = (seen[left] - expected.sum(1)) / (expected * (1 - q)).sum(1)
        a[left] += move
        near = np.abs(move) <= CONVERGED
        out[left[near]] = a[left[near]]
        left = left[~near & np.isfinite(move) & (np.abs(a[left]) <= FAR)]
        if left.size == 0:
            break
    return out


def _by_patient(values: npt.ArrayLike, groups: Patients) -> FloatArray:
    """Sum of each patient's rows, float64 [P]."""
    each = np.asarray(values, dtype=np.float64)
    if each.shape != groups.code.shape:
        raise ValueError(
            f"One value per row is needed: {groups.code.size} rows, values of shape {each.shape}."
        )
    return np.bincount(groups.code, weights=each, minlength=groups.count).astype(np.float64)
