"""Do two readers, or a reader and a model, agree: McNemar's test and Cohen's kappa.

Designs with several readers and several cases each are beyond this file; R's packages have them.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import binomtest, chi2

from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import outcome_and_score


@dataclass(frozen=True)
class McNemar:
    """The discordant pairs and two-sided p by the exact test and by corrected chi-square."""

    only_first: int
    only_second: int
    p: float
    chi_square: float | None
    p_corrected: float | None


@dataclass(frozen=True)
class ClusteredMcNemar:
    """Difference in shares that are right, with z and two-sided p over patients."""

    difference: float
    z: float | None
    p: float | None
    only_first: int
    only_second: int
    patients: int
    note: str = ""


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """Compare two answers to each of the same questions, one per patient (McNemar 1947).

    Args:
        only_first: pairs in which the first alone is right.
        only_second: pairs in which the second alone is right.

    Returns:
        The exact p is 1 and the chi-square None when no pair is discordant.

    Raises:
        ValueError: if a number is negative.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"Discordant pairs cannot be negative, got {only_first}, {only_second}.")
    apart = only_first + only_second
    if apart == 0:
        return McNemar(0, 0, 1.0, None, None)
    exact = float(binomtest(only_first, apart, 0.5).pvalue)
    square = max(0.0, abs(only_first - only_second) - 1) ** 2 / apart
    return McNemar(only_first, only_second, exact, square, float(chi2.sf(square, 1)))


def mcnemar_by_patient(
    first_right: npt.ArrayLike, second_right: npt.ArrayLike, patient: npt.ArrayLike
) -> ClusteredMcNemar:
    """Compare two answers on several images a patient (Obuchowski 1998).

    Args:
        first_right: 1 where the first is right, else 0 [n].
        second_right: likewise [n].
        patient: one code or pseudonym per row [n].

    Returns:
        z is the sum of the patients' differences over the root of the sum of their squares: with
        one image each McNemar's without correction.

    Raises:
        ValueError: if arrays do not fit, hold anything but 0 and 1, or are empty.
    """
    one, _ = outcome_and_score(first_right, np.zeros(np.shape(first_right)))
    two, _ = outcome_and_score(second_right, np.zeros(np.shape(second_right)))
    groups = Patients.of(patient)
    if one.shape != two.shape or groups.code.shape != one.shape or one.size == 0:
        raise ValueError(
            f"Both answers and the patients must be one per row and at least one; got {one.size}, "
            f"{two.size} and {groups.code.size}."
        )
    b, c = int(np.count_nonzero(one & ~two)), int(np.count_nonzero(two & ~one))
    apart = np.bincount(groups.code, weights=one.astype(float) - two, minlength=groups.count)
    difference, spread = (b - c) / one.size, float(apart @ apart)
    if groups.count < 2 or spread == 0:
        note = "Not computable: fewer than two patients, or no patient on whom the two differ."
        return ClusteredMcNemar(difference, None, None, b, c, groups.count, note)
    z = float(apart.sum()) / math.sqrt(spread)
    return ClusteredMcNemar(difference, z, float(2 * ndtr(-abs(z))), b, c, groups.count)


def kappa(table: npt.ArrayLike) -> float | None:
    """Agreement beyond chance (Cohen 1960).

    Args:
        table: how often the first answered i and the second j [K, K], K >= 2.

    Returns:
        Kappa, at most 1; None when both always gave one and the same answer.

    Raises:
        ValueError: if the table is not square, holds a negative number, or is empty.
    """
    count = np.asarray(table, dtype=np.float64)
    if count.ndim != 2 or count.shape[0] != count.shape[1] or count.shape[0] < 2:
        raise ValueError(f"Kappa needs a square table of at least 2 x 2, got shape {count.shape}.")
    if not np.isfinite(count).all() or count.min() < 0 or count.sum() == 0:
        raise ValueError("Kappa needs counts of 0 or more, and at least one pair of answers.")
    share = count / count.sum()
    chance = float(share.sum(axis=1) @ share.sum(axis=0))
    return None if chance >= 1 - 1e-15 else (float(np.trace(share)) - chance) / (1 - chance)
