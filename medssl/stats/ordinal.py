"""Ordered classes by one direction: the adjacent-categories logit model."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from medssl.stats.metrics import FloatArray, IntArray


def fit_adjacent(
    x: npt.ArrayLike, codes: IntArray, classes: int, penalty: float, weight: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Fit log odds of every step over the one below: a threshold plus one linear function.

    Chances are the softmax over k of k * (x @ direction) + bias[k].

    Args:
        x: standardised rows [n, d].
        codes: step of each [n], from 0, every step present.
        classes: K.
        penalty: on half the squared direction, as scikit-learn's 1/C.
        weight: of each row [n].

    Returns:
        The direction [d], and biases [K] of which the first is 0.

    Source: Agresti, Analysis of Ordinal Categorical Data, 2010, section 4.1.
    """
    rows, share = np.asarray(x, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    steps, width, place = np.arange(classes), rows.shape[1], np.arange(len(codes))

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        direction, bias = flat[:width], np.concatenate([[0.0], flat[width:]])
        logits = (rows @ direction)[:, None] * steps + bias
        logits -= logits.max(1, keepdims=True)
        logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        value = -float(share @ logp[place, codes]) + 0.5 * penalty * float(direction @ direction)
        wrong = np.exp(logp)
        wrong[place, codes] -= 1
        wrong *= share[:, None]
        slope = [rows.T @ (wrong @ steps) + penalty * direction, wrong.sum(0)[1:]]
        return value, np.concatenate(slope)

    begin = np.zeros(width + classes - 1)
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    return found[:width], np.concatenate([[0.0], found[width:]])
