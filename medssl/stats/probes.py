"""What frozen features know of a label: ridge regression in closed form, and nearest neighbours.

A bank is labelled rows [n, d] with class codes 0..K-1; queries are rows of patients who are not in it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.stats import counted
from medssl.stats.bootstrap import Patients, Statistic, draws
from medssl.stats.embeddings import checked, embedding
from medssl.stats.metrics import FloatArray, IntArray, auroc, macro_auroc
from medssl.stats.representation import unit

PENALTIES = tuple(float(p) for p in np.logspace(-4, 3, 15))
"""Penalties that are tried, per row and standardised column."""

NEIGHBOURS = 20
TEMPERATURE = 0.1
RESAMPLES = 200
"""Draws behind a standard error: it is itself known to 5 % then."""


@dataclass(frozen=True)
class Ridge:
    """Scores of K classes = rows @ weight.T + bias; standardisation is folded in.

    Attributes:
        weight: float64 [K, d].
        bias: float64 [K].
        penalty: the one that predicted left-out patients of the bank best.
    """

    weight: FloatArray
    bias: FloatArray
    penalty: float

    def scores(self, rows: npt.ArrayLike) -> FloatArray:
        """Scores [m, K] of rows [m, d]; about 1 for a class, about -1 for the others."""
        return embedding(rows, "given") @ self.weight.T + self.bias


@dataclass(frozen=True)
class _Decomposed:
    """A bank, standardised and decomposed once for all penalties.

    `left` [n, r] and `right` [d, r] are the singular vectors of the standardised rows, `square` [r]
    their squared singular values, `centre` and `scale` [d] the standardisation.
    """

    left: FloatArray
    right: FloatArray
    square: FloatArray
    centre: FloatArray
    scale: FloatArray


def fit_ridge(
    bank: npt.ArrayLike,
    codes: npt.ArrayLike,
    patient: npt.ArrayLike,
    classes: int,
    penalties: tuple[float, ...] = PENALTIES,
) -> Ridge:
    """Fit least squares on -1/+1 targets with the penalty that predicts left-out patients best.

    One eigendecomposition serves every penalty and every left-out patient. Columns are standardised;
    the intercept is free. Nothing but the bank decides.

    Args:
        bank: labelled rows [n, d].
        codes: class of each row [n], integers in 0..classes - 1.
        patient: one code or pseudonym per row [n], at least two different.
        classes: K.
        penalties: candidates; the penalty on the squared weights is n times one.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, a code is out of range, or all rows
            are one patient's.

    Source: Hoerl & Kennard 1970; Allen 1974 (PRESS) and Golub et al. 1979 for leaving out in closed
    form, here by patient instead of by row.
    """
    x, code = checked(bank, patient, "labelled"), np.asarray(codes, dtype=np.int64)
    groups = Patients.of(patient)
    if code.shape != (len(x),) or code.min() < 0 or code.max() >= classes:
        raise ValueError(f"One class code in 0..{classes - 1} is needed for each of {len(x)} rows.")
    if groups.count < 2:
        raise ValueError("All labelled rows are one patient's; nobody can be left out.")
    target = np.where(code[:, None] == np.arange(classes), 1.0, -1.0)
    parts = _decompose(x)
    known = parts.left.T @ (target - target.mean(axis=0))
    errors = [_left_out_error(parts, target, known, groups, len(x) * p) for p in penalties]
    penalty = penalties[int(np.argmin(errors))]
    inner = np.sqrt(parts.square) / (parts.square + len(x) * penalty)
    weight = (parts.right * inner @ known / parts.scale[:, None]).T
    return Ridge(weight, target.mean(axis=0) - weight @ parts.centre, penalty)


def _decompose(x: FloatArray) -> _Decomposed:
    """Standardise and decompose by the smaller of the two Gram matrices."""
    centre, scale = x.mean(axis=0), x.std(axis=0)
    # A column that differs in its last digits only would be blown up into noise.
    scale[scale <= 1e-6 * np.abs(centre)] = np.inf
    scale[scale == 0] = np.inf
    z = (x - centre) / scale
    wide = x.shape[1] > len(x)
    square, vectors = np.linalg.eigh(z @ z.T if wide else z.T @ z)
    used = square > 1e-10 * max(float(square[-1]), 1e-300)
    square, vectors = square[used], vectors[:, used]
    other = (z.T if wide else z) @ vectors / np.sqrt(square)
    left, right = (vectors, other) if wide else (other, vectors)
    return _Decomposed(left, right, square, centre, scale)


def _left_out_error(
    parts: _Decomposed, target: FloatArray, known: FloatArray, groups: Patients, penalty: float
) -> float:
    """Squared error of rows predicted by a fit without their patient, summed over rows and classes.

    With the hat matrix H, rows G of a patient have the error (I - H_GG)^-1 (y - Hy)_G when the fit
    leaves them out: no refit is needed.
    """
    n = len(target)
    share = parts.square / (parts.square + penalty)
    rest = target - target.mean(axis=0) - (parts.left * share) @ known
    size, total = np.diff(groups.start), 0.0
    for m in np.unique(size):
        rows = groups.order[groups.start[:-1][size == m][:, None] + np.arange(m)]
        left = parts.left[rows]
        hat = (left * share) @ left.swapaxes(1, 2) + 1 / n
        total += float((np.linalg.solve(np.eye(m) - hat, rest[rows]) ** 2).sum())
    return total


def knn_scores(
    bank: npt.ArrayLike,
    codes: npt.ArrayLike,
    classes: int,
    queries: npt.ArrayLike,
    neighbours: int = NEIGHBOURS,
) -> FloatArray:
    """Class shares among the nearest labelled rows by cosine, each voting exp(similarity / 0.1).

    Args:
        bank: labelled rows [n, d].
        codes: class of each [n], integers in 0..classes - 1.
        classes: K.
        queries: rows [m, d].
        neighbours: k; at most a fifth of the bank, at least one.

    Returns:
        Scores [m, K]; rows sum to one.

    Source: Wu et al. 2018, arXiv 1805.01978, section 3.4.
    """
    code, many = np.asarray(codes, dtype=np.int64), len(np.asarray(queries))
    k = max(1, min(neighbours, len(code) // 5))
    near = unit(embedding(queries, "asked")) @ unit(embedding(bank, "labelled")).T
    found = np.argpartition(-near, k - 1, axis=1)[:, :k]
    vote = np.exp((np.take_along_axis(near, found, 1) - 1) / TEMPERATURE)
    out = np.zeros((many, classes))
    np.add.at(out, (np.arange(many)[:, None], code[found]), vote)
    return np.asarray(out / out.sum(axis=1, keepdims=True), dtype=np.float64)


def macro(codes: npt.ArrayLike, scores: FloatArray) -> float | None:
    """AUROC of the last of two classes, the mean over classes against the rest of more.

    Args:
        codes: class of each row [n].
        scores: [n, K].
    """
    code = np.asarray(codes)
    return auroc(code == 1, scores[:, 1]) if scores.shape[1] == 2 else macro_auroc(code, scores)


def cut_points(codes: npt.ArrayLike, scores: FloatArray) -> list[tuple[IntArray, FloatArray]]:
    """Return 0/1 outcomes above each step of ordered classes that occur, with the expected step.

    Args:
        codes: step of each row [n], from the least.
        scores: [n, K], rows sum to one.
    """
    code: IntArray = np.asarray(codes, dtype=np.int64)
    expected = np.asarray(scores @ np.arange(scores.shape[1]), dtype=np.float64)
    above = [(code > k).astype(np.int64) for k in range(scores.shape[1] - 1)]
    return [(one, expected) for one in above if 0 < one.sum() < len(one)]


def score(codes: npt.ArrayLike, scores: FloatArray, *, ordered: bool) -> float | None:
    """`macro`, or of ordered classes the mean AUROC of the expected step over all cut points.

    Args:
        codes: class of each row [n].
        scores: [n, K].
        ordered: whether classes are steps of one scale.
    """
    if not ordered:
        return macro(codes, scores)
    found = [auroc(y, expected) for y, expected in cut_points(codes, scores)]
    known = [f for f in found if f is not None]
    return float(np.mean(known)) if known else None


def score_statistic(
    codes: npt.ArrayLike, scores: FloatArray, groups: Patients, *, ordered: bool
) -> Statistic:
    """`score` as a function of how often each patient was drawn.

    Args:
        codes: class of each row [n].
        scores: [n, K].
        groups: rows of each patient.
        ordered: whether classes are steps of one scale.
    """
    if not ordered:
        return macro_statistic(codes, scores, groups)
    found = cut_points(codes, scores)
    parts = [(1 / len(found), counted.auroc(y, expected, groups)) for y, expected in found]
    return counted.weighted_sum(parts)


def macro_statistic(codes: npt.ArrayLike, scores: FloatArray, groups: Patients) -> Statistic:
    """`macro` as a function of how often each patient was drawn.

    Args:
        codes: class of each row [n].
        scores: [n, K].
        groups: rows of each patient.
    """
    code: IntArray = np.asarray(codes, dtype=np.int64)
    if scores.shape[1] == 2:
        return counted.auroc(code == 1, scores[:, 1], groups)
    return counted.macro_auroc(code, scores, groups)


def standard_error(statistic: Statistic, groups: Patients) -> float | None:
    """Standard error by the patient bootstrap; None if fewer than half the draws give a number.

    Args:
        statistic: of how often each patient was drawn.
        groups: rows of each patient.
    """
    drawn = draws({"": statistic}, groups, resamples=RESAMPLES, seed=0)[""]
    known = drawn[np.isfinite(drawn)]
    return float(known.std(ddof=1)) if known.size >= max(2, RESAMPLES // 2) else None
