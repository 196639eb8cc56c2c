"""How well a score ranks and decides: discrimination and operating points, as bare numbers.

Arrays are 1-D with one row per image unless said otherwise; `y` is 0/1 (any dtype), a score is any
real number of which larger means more suspect. What a set of rows cannot answer is None, never 0.5.
Intervals are the business of `bootstrap`, where the patient is the unit; only `wilson` lives here.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def outcome_and_score(y: npt.ArrayLike, score: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Check one outcome and one score per row and give them one dtype.

    Args:
        y: 0/1 outcomes [n], any dtype.
        score: scores [n]; infinities rank like any number, NaN has no rank.

    Returns:
        Outcome as bool [n] and score as float64 [n].

    Raises:
        ValueError: if the shapes differ, an outcome is neither 0 nor 1, or a score is NaN.
    """
    label, value = np.asarray(y), np.asarray(score, dtype=np.float64)
    if label.ndim != 1 or label.shape != value.shape:
        raise ValueError(
            f"y and score must be 1-D and equally long; y has shape {label.shape}, "
            f"score {value.shape}. Pass one row per image."
        )
    positive = np.asarray(label == 1)
    if np.count_nonzero(positive) + np.count_nonzero(label == 0) != label.size:
        raise ValueError("y must hold only 0 and 1; leave out the rows whose label is missing.")
    if np.isnan(value).any():
        raise ValueError("The score has NaN in it; leave out the rows that were not scored.")
    return positive, value


def auroc(y: npt.ArrayLike, score: npt.ArrayLike) -> float | None:
    """Share of (positive, negative) pairs ranked rightly, a tie counting half.

    Args:
        y: 0/1 outcomes [n].
        score: scores [n].

    Returns:
        AUROC in [0, 1], or None when only one class is present.

    Raises:
        ValueError: see `outcome_and_score`.
    """
    positive, value = outcome_and_score(y, score)
    events = np.count_nonzero(positive)
    others = positive.size - events
    if events == 0 or others == 0:
        return None
    negatives = np.sort(value[~positive])
    # Sorted needles keep the binary search in cache: half the time of unsorted ones.
    positives = np.sort(value[positive])
    # Below plus not-above counts every tie once, so half the sum is the mid-rank statistic in
    # whole numbers: the result does not depend on the order of the rows.
    twice = negatives.searchsorted(positives, "left").sum(dtype=np.int64)
    twice += negatives.searchsorted(positives, "right").sum(dtype=np.int64)
    return float(twice) / (2.0 * events * others)


def average_precision(y: npt.ArrayLike, score: npt.ArrayLike) -> float | None:
    """Mean precision over the steps of recall; its floor is the prevalence, not 0.5.

    Args:
        y: 0/1 outcomes [n].
        score: scores [n]; rows with one score are flagged together.

    Returns:
        Average precision in (0, 1], or None when only one class is present.

    Raises:
        ValueError: see `outcome_and_score`.
    """
    positive, value = outcome_and_score(y, score)
    events = np.count_nonzero(positive)
    if events in (0, positive.size):
        return None
    _, tp, fp = _cuts(positive, value)
    gain = np.diff(tp, prepend=0) / events
    return float(np.sum(gain * tp / (tp + fp)))


def brier(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Mean squared distance of probability and outcome; 0 is perfect.

    Args:
        y: 0/1 outcomes [n], n >= 1.
        p: probabilities [n] in [0, 1].

    Returns:
        Brier score in [0, 1].

    Raises:
        ValueError: if there is no row or a probability lies outside [0, 1].
    """
    positive, value = outcome_and_probability(y, p)
    return float(np.mean((value - positive) ** 2))


def outcome_and_probability(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Check one outcome and one probability per row and give them one dtype.

    Args:
        y: 0/1 outcomes [n], n >= 1.
        p: probabilities [n] in [0, 1].

    Returns:
        Outcome as bool [n] and probability as float64 [n].

    Raises:
        ValueError: if there is no row or a probability lies outside [0, 1].
    """
    positive, value = outcome_and_score(y, p)
    if positive.size == 0:
        raise ValueError("There is no row to compute from; check the filter before this step.")
    if value.min() < 0 or value.max() > 1:
        raise ValueError(
            f"Probabilities must lie in [0, 1]; these run from {value.min():g} to {value.max():g}. "
            "Pass the classifier's probabilities, not its logits."
        )
    return positive, value


@dataclass(frozen=True)
class Operating:
    """The four counts at one threshold, and the rates a clinician reads from them."""

    threshold: float
    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n(self) -> int:
        """Rows counted."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def sensitivity(self) -> float | None:
        """Share of the diseased that are flagged; None without diseased rows."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        """Share of the healthy that are not flagged; None without healthy rows."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def ppv(self) -> float | None:
        """Share of the flagged that are diseased; None when nothing is flagged."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> float | None:
        """Share of the unflagged that are healthy; None when everything is flagged."""
        return _share(self.tn, self.tn + self.fn)

    @property
    def alerts_per_100(self) -> float | None:
        """Flags raised per 100 rows; None without rows."""
        return _share(100 * (self.tp + self.fp), self.n)


def operating(y: npt.ArrayLike, score: npt.ArrayLike, threshold: float) -> Operating:
    """Count the four outcomes when every score at or above the threshold is flagged.

    Args:
        y: 0/1 outcomes [n].
        score: scores [n].
        threshold: in the units of the score; chosen on other rows than these.

    Returns:
        The counts at this threshold.

    Raises:
        ValueError: see `outcome_and_score`; also if the threshold is NaN.
    """
    positive, value = outcome_and_score(y, score)
    if math.isnan(threshold):
        raise ValueError("The threshold is NaN; choose one on the validation rows first.")
    flagged = value >= threshold
    tp = int(np.count_nonzero(flagged & positive))
    fp = int(np.count_nonzero(flagged)) - tp
    fn = int(np.count_nonzero(positive)) - tp
    return Operating(float(threshold), tp, fp, fn, positive.size - tp - fp - fn)


def wilson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion whose n trials are independent (one per patient).

    Args:
        k: successes, 0 <= k <= n.
        n: trials; none at all excludes nothing and gives (0, 1).
        level: coverage in (0, 1).

    Returns:
        Lower and upper limit in [0, 1].

    Raises:
        ValueError: if k is not within 0..n or the level not within (0, 1).
    """
    if not 0 <= k <= n:
        raise ValueError(f"Successes must lie between 0 and the {n} trials, got {k}.")
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, got {level}; 0.95 is usual.")
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + level / 2))
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    # Exact at the edges, where rounding would print a limit of -1e-17.
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def macro_auroc(label_codes: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Plain mean of the one-against-rest AUROC over the classes that occur.

    Args:
        label_codes: class of each row [n], integers in 0..K-1.
        scores: score of each class [n, K]; need not sum to one.

    Returns:
        Mean AUROC, or None when fewer than two classes occur.

    Raises:
        ValueError: if the shapes do not fit or a code is outside 0..K-1.
    """
    codes, values = np.asarray(label_codes), np.asarray(scores, dtype=np.float64)
    if codes.ndim != 1 or values.ndim != 2 or codes.size != values.shape[0]:
        raise ValueError(
            f"Scores must be [n, K] for n label codes; codes have shape {codes.shape}, "
            f"scores {values.shape}."
        )
    present = np.unique(codes)
    if present.size and not np.isin(present, np.arange(values.shape[1])).all():
        raise ValueError(
            f"Label codes must be whole numbers from 0 to {values.shape[1] - 1}, one per score "
            f"column; these run from {present[0]} to {present[-1]}."
        )
    each = [auroc(codes == k, values[:, int(k)]) for k in present]
    known = [a for a in each if a is not None]
    return None if len(known) < 2 else float(np.mean(known))


def threshold_for_sensitivity(y: npt.ArrayLike, score: npt.ArrayLike, target: float) -> float:
    """Highest threshold that still flags the target share of the diseased (validation rows only).

    Args:
        y: 0/1 outcomes [n] with at least one 1.
        score: scores [n].
        target: sensitivity to reach, in (0, 1].

    Returns:
        An observed score; `operating` at it has sensitivity >= target, at any higher one less.

    Raises:
        ValueError: if no row is positive or the target lies outside (0, 1].
    """
    positive, value = outcome_and_score(y, score)
    if not 0 < target <= 1:
        raise ValueError(f"The target sensitivity must lie above 0 and up to 1, got {target}.")
    found = np.sort(value[positive])[::-1]
    if found.size == 0:
        raise ValueError("No row is positive, so no threshold has a sensitivity; add positives.")
    # The same division as Operating.sensitivity: 0.28 * 25 rounds above 7, but 7 / 25 is 0.28.
    reached = np.arange(1, found.size + 1) / found.size
    return float(found[np.searchsorted(reached, target, side="left")])


def youden_threshold(y: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Observed score with the largest sensitivity + specificity; the highest of equals.

    Args:
        y: 0/1 outcomes [n] with both classes.
        score: scores [n].

    Returns:
        Threshold in the units of the score (validation rows only).

    Raises:
        ValueError: if only one class is present.
    """
    positive, value = outcome_and_score(y, score)
    events = int(np.count_nonzero(positive))
    others = positive.size - events
    if events == 0 or others == 0:
        raise ValueError(
            f"Youden's threshold needs both classes; there are {events} positive and {others} "
            "negative rows."
        )
    threshold, tp, fp = _cuts(positive, value)
    # Whole numbers, so that equal indices are equal and the first, highest threshold wins.
    return float(threshold[np.argmax(tp * others - fp * events)])


def _cuts(positive: BoolArray, value: FloatArray) -> tuple[FloatArray, IntArray, IntArray]:
    """Distinct scores from high to low [t] with true and false positives at each [t], int64."""
    order = np.argsort(value)[::-1]
    ranked = value[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], np.ones(min(1, ranked.size), bool)))
    tp = np.cumsum(positive[order], dtype=np.int64)[last]
    return ranked[last], tp, last + 1 - tp


def _share(part: int, whole: int) -> float | None:
    """Part of a whole, None where there is no whole."""
    return None if whole == 0 else part / whole
