"""How much of a drop is patient mix: scikit-learn's weighted AUROC, and worlds with a known answer."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import PROOF
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from medssl.stats import embeddings, mix
from medssl.stats.mix import Scored, patient_mix

pytestmark = pytest.mark.filterwarnings("error")


def world(g, patients, hard, failing=0.0, each=2):
    """A site: hard patients (x large) are scored at random; `failing` blurs the scores of all."""
    x = g.normal(hard, 1, patients)
    sick = g.random(patients) < 0.4
    clear = expit(-2 * x)
    row = np.repeat(np.arange(patients), each)
    noise = g.normal(size=row.size) * (1 + failing)
    score = 2.5 * clear[row] * sick[row] + noise
    covariates = np.c_[x[row], g.normal(size=row.size)]
    return Scored(covariates, row, sick[row].astype(int), score)


class TestPatientMix:
    def test_weighted_auroc_equals_scikit_learn(self, monkeypatch):
        g = np.random.default_rng(101)
        source, target = world(g, 80, 0.0, each=3), world(g, 60, 0.4)
        source = replace(source, score=np.round(source.score, 1))
        seen, inner = [], mix._weights
        monkeypatch.setattr(mix, "_weights", lambda *a: seen.append(inner(*a)) or seen[0])
        found = patient_mix(source, target, resamples=50)
        weight = seen[0][0]
        each = weight[source.patient]
        assert found.source == pytest.approx(roc_auc_score(source.y, source.score))
        assert found.weighted == pytest.approx(
            roc_auc_score(source.y, source.score, sample_weight=each)
        )
        assert found.target == pytest.approx(roc_auc_score(target.y, target.score))
        assert found.effective == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
        assert found.drop.value == pytest.approx(found.mix.value + found.rest.value)
        assert found.mix.value == pytest.approx(found.source - found.weighted)

    def test_weights_equal_plain_code(self):
        g = np.random.default_rng(102)
        here, there = g.normal(size=(40, 2)), g.normal(0.5, 1, (30, 2))
        rows, away = np.r_[here, there], np.repeat([0, 1], [40, 30])
        raw = np.empty(70)
        for train, test in StratifiedKFold(4, shuffle=True, random_state=9).split(rows, away):
            scaler = StandardScaler().fit(rows[train])
            model = LogisticRegression(max_iter=2000).fit(
                scaler.transform(rows[train]), away[train]
            )
            p = model.predict_proba(scaler.transform(rows[test]))[:, 1]
            raw[test] = p / (1 - p) * np.sum(away[train] == 0) / np.sum(away[train])
        found, capped = mix._weights(here, there, 4, 9)
        np.testing.assert_allclose(found, raw[:40] / raw[:40].mean(), rtol=1e-6)
        assert capped == 0

    def test_a_drop_by_harder_patients_is_mix(self):
        g = np.random.default_rng(103)
        found = patient_mix(world(g, 1500, 0.0), world(g, 1500, 0.7), resamples=300)
        assert found.drop.lower > 0
        assert found.mix.value == pytest.approx(found.drop.value, abs=0.03)
        assert found.rest.lower < 0 < found.rest.upper
        assert found.balance_before > 0.6 > 0.15 > found.balance_after
        assert found.effective < 1500
        assert found.note == ""

    def test_a_drop_on_equal_patients_is_no_mix(self):
        g = np.random.default_rng(104)
        found = patient_mix(world(g, 800, 0.0), world(g, 800, 0.0, failing=1.5), resamples=300)
        assert found.rest.lower > 0
        assert abs(found.mix.value) < 0.01
        assert found.effective > 700

    def test_too_far_apart_is_not_attributed(self):
        g = np.random.default_rng(105)
        source, target = world(g, 300, 0.0), world(g, 300, 6.0)
        found = patient_mix(source, target, resamples=50)
        assert (found.weighted, found.mix, found.rest) == (None, None, None)
        assert found.note.startswith("Cannot be attributed")
        assert found.drop.lower < found.drop.value < found.drop.upper

    def test_few_effective_patients_are_not_attributed(self):
        g = np.random.default_rng(106)
        found = patient_mix(world(g, 25, 0.0), world(g, 25, 0.0), resamples=50)
        assert found.mix is None
        assert "fewer than 30" in found.note

    def test_a_difference_that_no_weight_removes_is_not_attributed(self):
        g = np.random.default_rng(107)
        source, target = world(g, 300, 0.0), world(g, 300, 0.0)
        # Constant within each site, so every source patient weighs about the same.
        source = replace(source, covariates=np.c_[source.covariates, np.zeros(600)])
        target = replace(target, covariates=np.c_[target.covariates, np.ones(600)])
        found = patient_mix(source, target, resamples=50)
        assert found.mix is None
        assert found.effective > 30
        assert found.balance_after == np.inf
        assert "no weighting" in found.note

    def test_heavy_weights_are_capped(self, monkeypatch):
        g = np.random.default_rng(108)
        here, there = g.normal(size=(400, 1)), g.normal(2.5, 0.5, (400, 1))
        weight, capped = mix._weights(here, there, 5, 0)
        assert capped > 0
        assert weight.mean() == pytest.approx(1)
        monkeypatch.setattr(mix, "CAP", 1e9)
        free, none = mix._weights(here, there, 5, 0)
        assert none == 0
        assert free.max() > weight.max()
        np.testing.assert_allclose(np.argsort(free)[:300], np.argsort(weight)[:300])

    def test_interval_equals_a_bootstrap_by_loops(self):
        g = np.random.default_rng(109)
        source, target = world(g, 60, 0.0), world(g, 50, 0.5)
        found = patient_mix(source, target, resamples=4000)
        drawn = []
        for _ in range(1500):
            values = []
            for site, count in ((source, 60), (target, 50)):
                who = g.integers(0, count, count)
                rows = np.r_[2 * who, 2 * who + 1]
                y, s = site.y[rows] == 1, site.score[rows]
                values.append(np.mean(s[y][:, None] > s[~y]) + np.mean(s[y][:, None] == s[~y]) / 2)
            drawn.append(values[0] - values[1])
        lower, upper = np.quantile(drawn, [0.025, 0.975])
        assert found.drop.lower == pytest.approx(lower, abs=0.02)
        assert found.drop.upper == pytest.approx(upper, abs=0.02)

    def test_the_interval_of_the_rest_covers(self):
        g = np.random.default_rng(110)
        trials, hits = 300 if PROOF else 40, 0
        for seed in range(trials):
            found = patient_mix(world(g, 200, 0.0), world(g, 150, 0.4), resamples=200, seed=seed)
            hits += found.rest.lower <= 0 <= found.rest.upper
        assert hits / trials >= (0.92 if PROOF else 0.85)

    def test_one_class_has_no_auroc(self):
        g = np.random.default_rng(111)
        source, target = world(g, 80, 0.0), world(g, 80, 0.0)
        found = patient_mix(source, replace(target, y=np.zeros(160)), resamples=20)
        assert (found.target, found.drop, found.mix, found.rest) == (None, None, None, None)
        assert "one class only" in found.note
        assert found.skipped == 20

    def test_few_patients_of_a_class_have_no_interval(self):
        g = np.random.default_rng(112)
        target = world(g, 80, 0.0)
        rare = replace(target, y=(np.arange(160) < 2).astype(int))
        found = patient_mix(world(g, 80, 0.0), rare, resamples=200)
        assert found.mix.lower is None
        assert "lacked a class" in found.note

    def test_blocks_and_seeds(self, monkeypatch):
        g = np.random.default_rng(113)
        source, target = world(g, 60, 0.0), world(g, 50, 0.2)
        whole = patient_mix(source, target, resamples=100, seed=3)
        assert whole == patient_mix(source, target, resamples=100, seed=3)
        monkeypatch.setattr(embeddings, "BLOCK", 5000)
        parts = patient_mix(source, target, resamples=100, seed=3)
        assert parts.drop.value == whole.drop.value
        assert parts.drop.lower == pytest.approx(whole.drop.lower, abs=0.05)

    def test_refusals_are_sentences(self):
        g = np.random.default_rng(114)
        site = world(g, 20, 0.0)
        with pytest.raises(ValueError, match="folds >= 2"):
            patient_mix(site, site, folds=1)
        with pytest.raises(ValueError, match="source site has 1 patient"):
            patient_mix(replace(site, patient=np.zeros(40)), site)
        with pytest.raises(ValueError, match="39 outcomes"):
            patient_mix(replace(site, y=site.y[:39], score=site.score[:39]), site)
        with pytest.raises(ValueError, match="NaN or infinity"):
            patient_mix(replace(site, covariates=site.covariates * np.nan), site)
        with pytest.raises(ValueError, match="widths are 1 and 2"):
            patient_mix(replace(site, covariates=site.covariates[:, :1]), site)
