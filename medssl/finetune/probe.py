"""Linear classifiers on frozen features: of classes, and of classes that are steps of a scale."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from medssl.stats.ordinal import fit_adjacent

FloatArray = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class Linear:
    """Logits = features @ weight.T + bias; standardisation is folded in.

    Attributes:
        weight: float64 ``[K, width]``.
        bias: float64 ``[K]``.
    """

    weight: FloatArray
    bias: FloatArray

    def logits(self, features: Features) -> FloatArray:
        """Return float64 ``[n, K]``."""
        out: FloatArray = features.astype(np.float64) @ self.weight.T + self.bias
        return out


def softmax(logits: FloatArray) -> FloatArray:
    """Return probabilities along the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    out: FloatArray = shifted / shifted.sum(-1, keepdims=True)
    return out


def fit_linear(
    features: Features,
    codes: IntArray,
    classes: int,
    penalty: float,
    *,
    balance: bool = False,
    weight: FloatArray | None = None,
) -> Linear:
    """Fit a multinomial logistic regression on standardised features.

    Args:
        features: float ``[n, width]``.
        codes: class codes ``[n]``, every class present.
        classes: K.
        penalty: L2 penalty on the weights of standardised features (scikit-learn's 1/C).
        balance: weigh classes equally.
        weight: of each row ``[n]``; standardisation ignores it.
    """
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > LEAST_DEVIATION, deviation, 1.0)
    share = "balanced" if balance else None
    model = LogisticRegression(C=1 / penalty, max_iter=2000, tol=1e-5, class_weight=share)
    model.fit((features - mean) / scale, codes, weight)
    rows, bias = model.coef_, model.intercept_
    if classes == 2:
        rows, bias = np.vstack([-rows / 2, rows / 2]), np.array([-bias[0] / 2, bias[0] / 2])
    rows = rows / scale
    return Linear(rows, bias - rows @ mean)


def fit_ordinal(
    features: Features, codes: IntArray, classes: int, penalty: float, *, balance: bool = False
) -> Linear:
    """Fit one direction for all steps of ordered classes on standardised features.

    The adjacent-categories logit model, so the result is a softmax over K logits like any other.

    Args:
        features: float ``[n, width]``.
        codes: class codes ``[n]``, from the least, every class present.
        classes: K.
        penalty: L2 penalty on the weights of standardised features.
        balance: weigh classes equally.
    """
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > LEAST_DEVIATION, deviation, 1.0)
    x = (features - mean) / scale
    weight = np.ones(len(codes))
    if balance:
        weight = len(codes) / (classes * np.bincount(codes, minlength=classes)[codes])
    direction, bias = fit_adjacent(x, codes, classes, penalty, weight)
    rows = np.arange(classes)[:, None] * (direction / scale)[None, :]
    return Linear(rows, bias - rows @ mean)
