"""The site classifier against ridge regression refitted by scikit-learn, and its false alarms."""

import numpy as np
import pytest
from conftest import PROOF
from scipy.stats import norm
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler
from two_sites import sites

from medssl.stats import domain
from medssl.stats.domain import site_classifier

pytestmark = pytest.mark.filterwarnings("error")


def by_hand(x, px, y, py, permutations, folds, seed):
    """The same AUROCs by refitting scikit-learn's ridge for every labelling and fold."""
    means = [
        np.array([rows[who == i].mean(axis=0) for i in dict.fromkeys(who.tolist())])
        for rows, who in ((x, px), (y, py))
    ]
    rng = np.random.default_rng([seed, 4])
    fold = np.concatenate([rng.permutation(np.arange(len(m)) % folds) for m in means])
    rows, site = np.concatenate(means), np.repeat([0, 1], [len(m) for m in means])
    labels = [site]
    for _ in range(permutations):
        shuffled = site.copy()
        for k in range(folds):
            shuffled[fold == k] = rng.permutation(site[fold == k])
        labels.append(shuffled)
    out = []
    for away in labels:
        score = np.empty(len(rows))
        for k in range(folds):
            scaler = StandardScaler().fit(rows[fold != k])
            train, test = scaler.transform(rows[fold != k]), scaler.transform(rows[fold == k])
            share = max(1e-3, ledoit_wolf_shrinkage(train, assume_centered=True))
            # Standardised columns have variance 1, the size of the shrinkage target.
            model = Ridge(alpha=len(train) * share / (1 - share)).fit(train, away[fold != k])
            own = [train[away[fold != k] == s].mean(axis=0) for s in (0, 1)]
            # Ridge's slope is the discriminant times n1 n0 / n^2 (1 - share); only its cut differs.
            size = (1 - share) * np.mean(away[fold != k]) * np.mean(away[fold != k] == 0)
            score[fold == k] = (test - (own[0] + own[1]) / 2) @ model.coef_ / size
        out.append(roc_auc_score(away, score))
    return np.array(out)


def correlated(moved):
    """Two sites of 14 and 9 patients whose columns are mixed, so that shrinkage is partial."""
    x, px, y, py = sites(np.random.default_rng(4), 14, 9, 3, 5, moved)
    turn = np.random.default_rng(5).normal(size=(5, 5))
    return x @ turn, px, y @ turn, py


class TestSiteClassifier:
    def test_every_permutation_is_a_refit(self, monkeypatch):
        x, px, y, py = correlated(0.4)
        seen = []
        monkeypatch.setattr(domain, "permutation_p", lambda v: seen.append(v) or 0.5)
        found = site_classifier(x, px, y, py, permutations=40, folds=4, seed=7)
        expected = by_hand(x, px, y, py, 40, 4, 7)
        np.testing.assert_allclose(seen[0], expected, atol=1e-12)
        assert found.auroc == pytest.approx(expected[0], abs=1e-12)
        assert found.chance == pytest.approx(np.quantile(expected[1:], 0.95), abs=1e-12)

    def test_p_counts_the_refits_that_reach_the_auroc(self):
        x, px, y, py = correlated(0.2)
        expected = by_hand(x, px, y, py, 60, 5, 1)
        found = site_classifier(x, px, y, py, permutations=60, seed=1)
        assert found.p == pytest.approx(np.mean(expected >= expected[0] - 1e-12))
        assert 1 / 61 < found.p < 1

    def test_close_to_theory_and_to_a_logistic_regression(self):
        g = np.random.default_rng(1)
        x, y = g.normal(size=(400, 64)), g.normal(0.12, 1, (400, 64))
        found = site_classifier(x, np.arange(400), y, np.arange(400), permutations=200)
        # The best classifier of two normals 0.12 * sqrt(64) apart; fitting one costs a little.
        assert norm.cdf(0.96 / 2**0.5) - 0.05 < found.auroc < norm.cdf(0.96 / 2**0.5) + 0.01
        away = np.arange(800) >= 400
        model = LogisticRegression(C=0.1, max_iter=500)
        score = cross_val_predict(model, np.r_[x, y], away, cv=5, method="decision_function")
        assert found.auroc == pytest.approx(roc_auc_score(away, score), abs=0.04)
        assert found.p == pytest.approx(1 / 201)
        assert 0.5 < found.chance < 0.56

    def test_no_difference_is_near_a_half_by_patient_and_far_above_by_row(self):
        g = np.random.default_rng(15)
        by_patient, by_row = [], []
        for seed in range(1000 if PROOF else 60):
            x, px, y, py = sites(g, 30, 30, 6, 16, 0.0)
            by_patient.append(site_classifier(x, px, y, py, permutations=99, seed=seed))
            if seed < 10:
                each = np.arange(180)
                by_row.append(site_classifier(x, each, y, each, permutations=99, seed=seed))
        assert np.mean([f.auroc for f in by_patient]) == pytest.approx(0.5, abs=0.05)
        alarms = np.mean([f.p <= 0.05 for f in by_patient])
        assert (0.03 <= alarms <= 0.07) if PROOF else (alarms <= 0.15)
        assert np.mean([f.auroc for f in by_row]) > 0.62
        assert np.mean([f.p <= 0.05 for f in by_row]) >= 0.9

    def test_a_plain_difference_is_found_whatever_the_scale(self):
        x, px, y, py = sites(np.random.default_rng(2), 20, 25, 3, 6, 3.0)
        assert site_classifier(x, px, y, py, permutations=99).auroc == 1.0
        small = site_classifier(1e-6 * x, px, 1e-6 * y, py, permutations=99)
        assert (small.auroc, small.p) == (1.0, pytest.approx(0.01))

    def test_the_unit_of_a_column_does_not_matter(self):
        x, px, y, py = sites(np.random.default_rng(2), 20, 25, 3, 4, 0.5)
        unit = np.array([1e-3, 1.0, 50.0, 1e4])
        found = site_classifier(x, px, y, py, permutations=99)
        assert 0.5 < found.auroc < 1
        assert site_classifier(x * unit, px, y * unit, py, permutations=99) == found

    def test_a_constant_column_and_constant_embeddings_say_nothing(self):
        x, px, y, py = sites(np.random.default_rng(2), 20, 25, 3, 4, 0.5)
        found = site_classifier(x, px, y, py, permutations=99)
        more = np.c_[x, np.full(len(x), 0.1)], px, np.c_[y, np.full(len(y), 0.1)], py
        assert site_classifier(*more, permutations=99).auroc == pytest.approx(found.auroc, abs=0.02)
        same = site_classifier(np.ones((6, 3)), np.arange(6), np.ones((4, 3)), np.arange(4))
        assert (same.auroc, same.p) == (0.5, 1.0)

    def test_more_dimensions_than_patients(self):
        x, px, y, py = sites(np.random.default_rng(6), 12, 10, 2, 80, 0.6)
        found = site_classifier(x, px, y, py, permutations=99)
        assert found.auroc > 0.8
        assert found.p <= 0.05

    def test_few_patients_get_fewer_folds(self):
        x, px, y, py = sites(np.random.default_rng(2), 3, 8, 2, 3, 6.0)
        found = site_classifier(x, px, y, py, permutations=99)
        assert found.folds == 3
        assert found.auroc > 0.8
        assert site_classifier(x[:4], px[:4], y, py, permutations=9).folds == 2

    def test_each_patient_counts_once_however_many_images(self):
        g = np.random.default_rng(6)
        x, y = g.normal(size=(10, 4)), g.normal(0.3, 1, (10, 4))
        x4, p4 = np.r_[x, np.repeat(x[:1], 3, axis=0)], np.r_[np.arange(10), 0, 0, 0]
        once = site_classifier(x, np.arange(10), y, np.arange(10), permutations=99)
        copies = site_classifier(x4, p4, y, np.arange(10), permutations=99)
        assert copies.auroc == pytest.approx(once.auroc, abs=1e-12)
        assert copies.p == once.p

    def test_patients_are_subsampled_and_it_says_so(self):
        x, px, y, py = sites(np.random.default_rng(5), 40, 15, 3, 8, 0.0)
        found = site_classifier(x, px, y, py, max_patients=20, permutations=19, seed=1)
        assert (found.source_patients, found.target_patients) == (20, 15)
        assert found.subsampled is True

    def test_refusals_are_sentences(self):
        x, px, y, py = sites(np.random.default_rng(2), 4, 4, 2, 3, 0.0)
        with pytest.raises(ValueError, match="at least two folds"):
            site_classifier(x, px, y, py, folds=1)
        with pytest.raises(ValueError, match="at least one permutation"):
            site_classifier(x, px, y, py, permutations=0)
        with pytest.raises(ValueError, match="target site has 1 patient"):
            site_classifier(x, px, y, 0 * py)
        with pytest.raises(ValueError, match="NaN or infinity"):
            site_classifier(x * np.nan, px, y, py)
