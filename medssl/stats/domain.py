"""Can a classifier tell the sites apart: a two-sample test by cross-validated AUROC.

Every patient is one row, the mean of his embeddings; a linear score of that mean is the mean score
of his images. A small p is not harm.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import rankdata
from sklearn.covariance import ledoit_wolf_shrinkage

from medssl.stats.embeddings import two_sites
from medssl.stats.metrics import FloatArray, IntArray
from medssl.stats.permutation import check_permutations, permutation_p


@dataclass(frozen=True)
class SiteClassifier:
    """How well a patient's site is told, and what chance alone tells (95th percentile)."""

    auroc: float
    p: float
    chance: float
    permutations: int
    folds: int
    source_patients: int
    target_patients: int
    subsampled: bool


def site_classifier(
    source_emb: npt.ArrayLike,
    source_patient: npt.ArrayLike,
    target_emb: npt.ArrayLike,
    target_patient: npt.ArrayLike,
    *,
    permutations: int = 999,
    folds: int = 5,
    seed: int = 0,
    max_patients: int = 1000,
) -> SiteClassifier:
    """Test whether a linear classifier that never saw a patient can tell his site.

    Regularised linear discriminant on standardised patient means: direction A^-1 (m1 - m0), A the
    Ledoit-Wolf covariance of the training patients of both sites, cut midway between the sites. A
    holds no site label, so it is factorised once a fold and every permutation is refitted exactly
    (Lopez-Paz and Oquab 2017 for the test). Folds hold each site's share of patients and sites are
    permuted within folds, which keeps that share and the test exact.

    Args:
        source_emb: embeddings [n, d].
        source_patient: one code or pseudonym per row [n].
        target_emb: embeddings [m, d].
        target_patient: likewise [m]; a name that occurs at both sites counts as two patients.
        permutations: B; p is at least 1 / (B + 1).
        folds: at most this many; fewer when a site has fewer patients.
        seed: of folds, permutations and any subsampling.
        max_patients: per site, as in `mmd.patient_mmd`.

    Returns:
        AUROC of the out-of-fold scores of the patients (0.5: not at all) with its permutation p.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, a site has fewer than two patients,
            or folds < 2 or permutations < 1.
    """
    source, target = two_sites(
        source_emb, source_patient, target_emb, target_patient, max_patients, seed
    )
    splits = min(folds, source.patients, target.patients)
    if splits < 2:
        raise ValueError(f"The site classifier needs at least two folds, got {folds}; 5 is usual.")
    check_permutations(permutations)
    rng = np.random.default_rng([seed, 4])
    fold = np.concatenate([_folds(s.patients, splits, rng) for s in (source, target)])
    away = np.repeat([0.0, 1.0], [source.patients, target.patients])
    labels = np.stack([away, *(_permuted(away, fold, splits, rng) for _ in range(permutations))])
    means = np.concatenate([source.means, target.means])
    value = _aurocs(labels, _out_of_fold(means, labels, fold, splits))
    return SiteClassifier(
        auroc=float(value[0]),
        p=permutation_p(value),
        chance=float(np.quantile(value[1:], 0.95)),
        permutations=permutations,
        folds=splits,
        source_patients=source.patients,
        target_patients=target.patients,
        subsampled=source.subsampled or target.subsampled,
    )


def _folds(patients: int, splits: int, rng: np.random.Generator) -> IntArray:
    """A fold for each patient of one site [P], their sizes one apart at most."""
    return np.asarray(rng.permutation(np.arange(patients) % splits), dtype=np.int64)


def _permuted(
    away: FloatArray, fold: IntArray, splits: int, rng: np.random.Generator
) -> FloatArray:
    """The site labels shuffled within each fold [P]."""
    shuffled = away.copy()
    for k in range(splits):
        shuffled[fold == k] = rng.permutation(away[fold == k])
    return shuffled


def _out_of_fold(means: FloatArray, labels: FloatArray, fold: IntArray, splits: int) -> FloatArray:
    """Score of each patient by a discriminant fitted without his fold, per labelling [B, P]."""
    score = np.empty(labels.shape)
    for k in range(splits):
        known, new = fold != k, fold == k
        centre = means[known].mean(axis=0)
        spread = means[known].std(axis=0)
        # A column that differs in its last digits only would be blown up into noise.
        spread[spread <= 1e-9 * np.abs(centre)] = np.inf
        spread[spread == 0] = np.inf
        train, test = (means[known] - centre) / spread, (means[new] - centre) / spread
        target = labels[:, known]
        n1 = target.sum(axis=1, keepdims=True)
        there = target @ train
        # The training rows have mean zero, so the source's sum is the target's with a minus.
        m1, m0 = there / n1, -there / (len(train) - n1)
        direction = cho_solve(cho_factor(_shrunk(train)), (m1 - m0).T).T
        midway = np.einsum("bd,bd->b", direction, (m1 + m0) / 2)
        score[:, new] = direction @ test.T - midway[:, None]
    return score


def _shrunk(rows: FloatArray) -> FloatArray:
    """Ledoit-Wolf covariance of rows with mean zero [d, d], never singular."""
    share = float(ledoit_wolf_shrinkage(rows, assume_centered=True))
    covariance = rows.T @ rows / len(rows)
    scale = float(np.trace(covariance)) / len(covariance) or 1.0
    # A thousandth at least: rows on a line may get a share of zero.
    share = max(share, 1e-3)
    covariance *= 1 - share
    covariance[np.diag_indices_from(covariance)] += share * scale
    return np.asarray(covariance, dtype=np.float64)


def _aurocs(labels: FloatArray, score: FloatArray) -> FloatArray:
    """AUROC of each row of scores [B] from mid-ranks."""
    # Scores that are equal on paper differ in the last digits and must tie.
    size = np.abs(score).max(axis=1, keepdims=True)
    rank = rankdata(np.round(score / np.where(size > 0, size, 1.0), 10), axis=1)
    n1 = labels.sum(axis=1)
    above = np.einsum("bp,bp->b", labels, rank) - n1 * (n1 + 1) / 2
    return np.asarray(above / (n1 * (labels.shape[1] - n1)), dtype=np.float64)
