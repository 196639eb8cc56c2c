"""Statistics that read how often each patient was drawn, a block of resamples at once.

Everything that does not change between resamples (sorting, above all) is done once, when the
statistic is made: resampling then costs a few passes over the rows instead of a sort. Each equals
its plain namesake in `metrics` or `calibration` on the rows that the draws stand for.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit
from scipy.special import logit as log_odds

from medssl.stats import calibration as cal
from medssl.stats.bootstrap import Patients, Statistic
from medssl.stats.metrics import FloatArray, IntArray, outcome_and_probability, outcome_and_score

BLOCK = 1_000_000
"""Row weights held at once."""

NEWTON_STEPS = 25
CONVERGED = 1e-8


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
    outcome, codes = positive.astype(np.float64), groups.code
    x = log_odds(np.clip(value, cal.EDGE, 1 - cal.EDGE))
    whole = cal.logistic_update(y, p)

    def exact(drawn: IntArray) -> float:
        rows = np.repeat(np.arange(x.size), drawn[codes])
        fit = cal.logistic_update(positive[rows], value[rows]) if rows.size else None
        return np.nan if fit is None else fit[1]

    def statistic(counts: IntArray) -> FloatArray:
        if whole is None:
            return np.array([exact(drawn) for drawn in counts])
        out = np.empty(len(counts))
        step = max(1, BLOCK // max(1, x.size))
        for begin in range(0, len(counts), step):
            part = counts[begin : begin + step]
            out[begin : begin + step] = _newton(
                part[:, codes].astype(np.float64), x, outcome, whole
            )
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
    outcome, codes = positive.astype(np.float64), groups.code
    x = log_odds(np.clip(value, cal.EDGE, 1 - cal.EDGE))

    begin = cal.intercept_in_the_large(y, p) or 0.0

    def one(drawn: IntArray) -> float:
        weight = drawn[codes].astype(np.float64)
        events, total = float(weight @ outcome), float(weight.sum())
        if events in (0.0, total):
            return np.nan
        a = begin
        for _ in range(NEWTON_STEPS):
            q = expit(a + x)
            move = (events - float(weight @ q)) / float(weight @ (q * (1 - q)))
            a += move
            if abs(move) <= CONVERGED:
                return a
        # Far from the start Newton may swing; were all rows like the largest (smallest) log-odds,
        # the root would be an end of this bracket.
        centre = float(log_odds(events / total))
        low, high = centre - float(x.max()) - 1e-6, centre - float(x.min()) + 1e-6
        return float(brentq(lambda v: float(weight @ expit(v + x)) - events, low, high))

    return lambda counts: np.array([one(drawn) for drawn in counts])


def _newton(
    weight: FloatArray, x: FloatArray, y: FloatArray, begin: tuple[float, float]
) -> FloatArray:
    """Slopes [b] of weighted logistic fits, weights [b, n]; NaN where it did not settle."""
    beta = np.tile(np.array(begin), (len(weight), 1))
    open_rows = np.arange(len(weight))
    out = np.full(len(weight), np.nan)
    for _ in range(NEWTON_STEPS):
        w, own = weight[open_rows], beta[open_rows]
        q = expit(own[:, :1] + own[:, 1:] * x)
        bend = w * q * (1 - q)
        residual = w * (y - q)
        g0, g1 = residual.sum(1), residual @ x
        h0, h1, h2 = bend.sum(1), bend @ x, bend @ (x * x)
        size = h0 * h2 - h1 * h1
        with np.errstate(all="ignore"):
            move = np.stack([(h2 * g0 - h1 * g1) / size, (h0 * g1 - h1 * g0) / size], 1)
        beta[open_rows] = own + move
        near = np.abs(move).max(1) <= CONVERGED * (1 + np.abs(own).max(1))
        out[open_rows[near]] = beta[open_rows[near], 1]
        lost = ~np.isfinite(move).all(1) | (np.abs(beta[open_rows]).max(1) > 1e3)
        open_rows = open_rows[~near & ~lost]
        if open_rows.size == 0:
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
