"""Labels to match: the fewest labels with which one start is as good as another with all of its labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import isotonic_regression

from medssl.stats.metrics import FloatArray

LEVEL = 0.95


@dataclass(frozen=True)
class Match:
    """Labels needed to match a score, in the budgets' unit.

    Attributes:
        value: None if even the largest budget does not match.
        lower, upper: the interval; None says beyond the largest budget.
        least, most: smallest and largest budget. A value at ``least`` means "at most".
        reached: share of the resamples in which some budget matched.
        target: the score to match.
    """

    value: float | None
    lower: float | None
    upper: float | None
    least: float
    most: float
    reached: float
    target: float

    def sentence(self, own: str, other: str, unit: str = "% of the labels") -> str:
        """Say it in words: what matches what, with how few labels."""

        def told(number: float | None) -> str:
            if number is None:
                return f"more than {self.most:.3g}"
            return f"at most {self.least:.3g}" if number <= self.least else f"{number:.3g}"

        ends = f"95 % interval {told(self.lower)} to {told(self.upper)}"
        if self.value is None:
            return f"{own} does not reach {other} ({self.target:.3f}) with any of its labels ({ends} {unit})."
        return f"{own} reaches {other} ({self.target:.3f}) with {told(self.value)} {unit} ({ends})."


def first_reach(budgets: FloatArray, scores: FloatArray, target: float) -> float:
    """Return the smallest budget whose score is the target's, infinity if there is none.

    The curve is made monotone (least squares) and read between budgets on a logarithmic axis.

    Args:
        budgets: rising, positive, [b].
        scores: one per budget [b].
        target: the score to reach.
    """
    curve = isotonic_regression(scores)
    above = np.flatnonzero(curve >= target)
    if above.size == 0:
        return math.inf
    k = int(above[0])
    if k == 0:
        return float(budgets[0])
    low, high = curve[k - 1], curve[k]
    part = (target - low) / (high - low)
    return float(np.exp(np.log(budgets[k - 1]) * (1 - part) + np.log(budgets[k]) * part))


@dataclass(frozen=True)
class Resampled:
    """Scores of one point of a curve: one row per draw of labels.

    Attributes:
        value: on all test patients [D].
        drawn: on the same resamples of them everywhere [D, B].
    """

    value: FloatArray
    drawn: FloatArray


def labels_to_match(
    budgets: Sequence[float], own: Sequence[Resampled], other: Resampled, *, seed: int = 0
) -> Match:
    """How few labels a start needs for the mean score that another has with all of its labels.

    Args:
        budgets: positive, rising [b].
        own: scores at every budget [b].
        other: the other's scores at its largest budget, on the same resamples.
        seed: every resample also draws the draws of labels anew, with replacement.

    Returns:
        The estimate and its percentile interval; resamples that never match count as beyond the
        largest budget, so an interval may be open above.

    Raises:
        ValueError: no budget, budgets that do not rise, or no resample in which all have a number.
    """
    axis = np.asarray(budgets, dtype=np.float64)
    if axis.size == 0 or len(own) != axis.size or (axis <= 0).any() or (np.diff(axis) <= 0).any():
        raise ValueError(f"One score is needed per budget, positive and rising; got {budgets}.")
    means = np.stack([_over_draws(r.drawn, seed) for r in (*own, other)])
    known = means[:, np.isfinite(means).all(axis=0)]
    if known.size == 0:
        raise ValueError("No resample gives every point a number; there are too few patients.")
    found = np.sort([first_reach(axis, c[:-1], float(c[-1])) for c in known.T])
    target = float(other.value.mean())
    point = first_reach(axis, np.array([r.value.mean() for r in own]), target)
    tail = (1 - LEVEL) / 2
    ends = np.quantile(found, [tail, 1 - tail], method="inverted_cdf")
    value, lower, upper = (float(e) if math.isfinite(e) else None for e in (point, *ends))
    share = float(np.isfinite(found).mean())
    return Match(value, lower, upper, float(axis[0]), float(axis[-1]), share, target)


def _over_draws(scores: FloatArray, seed: int) -> FloatArray:
    """Mean over draws of labels, themselves drawn anew in every resample: [D, B] to [B].

    Equal numbers of draws are drawn alike, so that budgets and starts stay paired.
    """
    many, resamples = scores.shape
    picked = np.random.default_rng([seed, 1, many]).integers(0, many, (many, resamples))
    return np.asarray(np.take_along_axis(scores, picked, axis=0).mean(axis=0), dtype=np.float64)
