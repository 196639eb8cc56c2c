"""Usefulness at a threshold against scikit-learn, statsmodels, loops, and reference values."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest
from sklearn import metrics as sk
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint

from medssl.stats.agreement import kappa, mcnemar, mcnemar_by_patient
from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import Operating, operating
from medssl.stats.net_benefit import counted_gain, decision_curve, net_benefit
from medssl.stats.usefulness import (
    MEASURES,
    best_sensitivity,
    best_specificity,
    diagnostic_ratios,
    measures_at,
    proportion_by_patient,
)

pytestmark = pytest.mark.filterwarnings("error")


def clustered(seed, patients, images, spread):
    """0/1 rows whose patients differ in their share, and the patients."""
    rng = np.random.default_rng(seed)
    share = expit(rng.normal(1, spread, patients))
    return (rng.random((patients, images)) < share[:, None]).ravel(), np.repeat(
        np.arange(patients), images
    )


class TestMeasures:
    def test_reference_values(self, r1):
        y, p, _ = r1
        found = measures_at(y, p, 0.25, np.arange(1200) // 2, resamples=50)
        expected = {
            "sensitivity": 0.644351,
            "specificity": 0.668975,
            "ppv": 0.563071,
            "npv": 0.739663,
            "lr_positive": 1.946535,
            "lr_negative": 0.531632,
            "diagnostic_odds": 3.661432,
            "f1": 0.600976,
            "mcc": 0.307985,
            "balanced_accuracy": 0.656663,
            "youden": 0.313327,
            "kappa": 0.305866,
        }
        for name, value in expected.items():
            assert found[name].value == pytest.approx(value, abs=5e-7), name
        assert found["alerts_per_100"].value == pytest.approx(45.58, abs=5e-3)
        assert found["reads_per_finding"].value == pytest.approx(1.776, abs=5e-4)
        assert found.keys() == MEASURES.keys()

    def test_values_and_limits_equal_scikit_learn_on_repeated_rows(self):
        y, patient = clustered(1, 30, 3, 1.0)
        score = np.random.default_rng(2).normal(y, 1.2)
        found = measures_at(y, score, 0.4, patient, resamples=40, seed=3)
        rng, groups = np.random.default_rng(3), Patients.of(patient)
        functions = {
            "mcc": sk.matthews_corrcoef,
            "kappa": sk.cohen_kappa_score,
            "f1": sk.f1_score,
            "sensitivity": sk.recall_score,
            "ppv": sk.precision_score,
            "balanced_accuracy": sk.balanced_accuracy_score,
        }
        rows = [groups.rows(rng.integers(0, 30, 30)) for _ in range(40)]
        for name, function in functions.items():
            assert found[name].value == pytest.approx(function(y, score >= 0.4), abs=1e-12)
            drawn = [function(y[r], score[r] >= 0.4) for r in rows]
            limits = np.quantile(drawn, [0.025, 0.975])
            assert (found[name].lower, found[name].upper) == pytest.approx(tuple(limits), abs=1e-12)

    def test_what_counts_do_not_determine_is_none_with_a_note(self):
        found = measures_at([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 0.9, [0, 1, 2, 3], resamples=20)
        assert found["ppv"].value is None
        assert "Not computable" in found["ppv"].note
        assert found["mcc"].value is None
        assert found["sensitivity"].value == 0
        one = measures_at([0, 0], [0.1, 0.2], 0.15, ["a", "a"], resamples=20)
        assert one["sensitivity"].value is None
        assert one["specificity"].value == 0.5
        assert one["specificity"].lower is None
        assert "one patient" in one["specificity"].note

    def test_refuses_with_a_sentence(self):
        with pytest.raises(ValueError, match="threshold is NaN"):
            measures_at([0, 1], [0.1, 0.2], math.nan, [0, 1])
        with pytest.raises(ValueError, match="3 patient entries for 2 rows"):
            measures_at([0, 1], [0.1, 0.2], 0.1, [0, 1, 2])
        with pytest.raises(ValueError, match="no row"):
            measures_at([], [], 0.1, [])
        with pytest.raises(ValueError, match="NaN"):
            measures_at([0, 1], [0.1, math.nan], 0.1, [0, 1])


class TestProportion:
    @given(st.integers(1, 60), st.data())
    @settings(deadline=None)
    def test_one_row_each_is_wilson(self, n, data):
        k = data.draw(st.integers(0, n))
        found = proportion_by_patient(np.r_[np.ones(k), np.zeros(n - k)], np.arange(n))
        low, high = proportion_confint(k, n, method="wilson")
        assert (found.lower, found.upper) == pytest.approx((low, high), abs=1e-9)
        assert (found.value, found.hits, found.n, found.patients) == (k / n, k, n, n)

    @pytest.mark.parametrize(("k", "lower", "upper"), [(0, 0.0, 0.16113), (18, 0.69897, 0.97213)])
    def test_reference_values_with_one_row_each(self, k, lower, upper):
        found = proportion_by_patient(np.arange(20) < k, np.arange(20))
        assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=5e-6)

    def test_copies_of_every_row_change_nothing(self):
        hit = np.random.default_rng(4).random(40) < 0.7
        once = proportion_by_patient(hit, np.arange(40))
        thrice = proportion_by_patient(np.repeat(hit, 3), np.repeat(np.arange(40), 3))
        assert (thrice.lower, thrice.upper) == pytest.approx((once.lower, once.upper), abs=1e-12)
        assert thrice.design_effect == pytest.approx(3 * once.design_effect)

    def test_the_design_effect_by_loops(self):
        hit, patient = clustered(5, 12, 4, 2.0)
        total = sum(
            (hit[patient == i].sum() - (patient == i).sum() * hit.mean()) ** 2 for i in range(12)
        )
        variance = 12 / 11 * total / hit.size**2
        found = proportion_by_patient(hit, patient)
        worth = hit.mean() * (1 - hit.mean()) / variance + 1
        assert found.design_effect == pytest.approx(48 / worth)

    def test_where_all_agree_patients_are_counted(self):
        found = proportion_by_patient(np.ones(60), np.repeat(np.arange(20), 3))
        assert found.lower == pytest.approx(proportion_confint(20, 20, method="wilson")[0])
        assert (found.upper, found.design_effect) == (1.0, None)
        one = proportion_by_patient([0, 1, 1, 1], ["a"] * 4)
        assert one.upper - one.lower > 0.7

    def test_covers_where_wilson_on_rows_does_not(self):
        hits = rows = 0
        truth = clustered(0, 400_000, 1, 1.5)[0].mean()
        for seed in range(400):
            hit, patient = clustered(seed + 1, 50, 8, 1.5)
            found = proportion_by_patient(hit, patient)
            hits += found.lower <= truth <= found.upper
            low, high = proportion_confint(hit.sum(), hit.size, method="wilson")
            rows += low <= truth <= high
        assert 0.92 <= hits / 400 <= 0.98
        assert rows / 400 < 0.82

    def test_refuses_with_a_sentence(self):
        with pytest.raises(ValueError, match="no row"):
            proportion_by_patient([], [])
        with pytest.raises(ValueError, match="only 0 and 1"):
            proportion_by_patient([0, 2], [0, 1])
        with pytest.raises(ValueError, match="95 is usual"):
            proportion_by_patient([0, 1], [0, 1], level=95)


class TestRatios:
    def test_reference_values(self):
        found = diagnostic_ratios(Operating(0.25, 308, 239, 170, 483))
        assert found.positive.value == pytest.approx(1.946535, abs=5e-7)
        assert (found.positive.lower, found.positive.upper) == pytest.approx(
            (1.7208, 2.2018), abs=5e-5
        )
        assert found.negative.value == pytest.approx(0.531632, abs=5e-7)
        assert found.odds.value == pytest.approx(3.661432, abs=5e-7)

    def test_scikit_learn_and_the_log_errors(self):
        y, score = np.r_[np.ones(30), np.zeros(50)], np.random.default_rng(0).random(80)
        o = operating(y, score, 0.5)
        found = diagnostic_ratios(o)
        plus, minus = sk.class_likelihood_ratios(y, score >= 0.5)
        assert (found.positive.value, found.negative.value) == pytest.approx((plus, minus))
        for ratio, error in (
            (found.positive, 1 / o.tp - 1 / 30 + 1 / o.fp - 1 / 50),
            (found.negative, 1 / o.fn - 1 / 30 + 1 / o.tn - 1 / 50),
            (found.odds, 1 / o.tp + 1 / o.fp + 1 / o.fn + 1 / o.tn),
        ):
            half = 1.959964 * math.sqrt(error)
            assert math.log(ratio.upper / ratio.value) == pytest.approx(half, rel=1e-6)
            assert math.log(ratio.value / ratio.lower) == pytest.approx(half, rel=1e-6)

    def test_a_zero_is_no_ratio(self):
        found = diagnostic_ratios(Operating(0.5, 4, 0, 3, 9))
        assert found.positive.value is None
        assert "zero" in found.positive.note
        assert found.odds.value is None
        assert found.negative.value == pytest.approx(3 / 7)
        with pytest.raises(ValueError, match="95 is usual"):
            diagnostic_ratios(Operating(0.5, 4, 1, 3, 9), level=0)


class TestNetBenefit:
    def test_reference_values(self, r1):
        y, p, _ = r1
        found = [net_benefit(y, p, t) for t in (0.1, 0.2, 0.3)]
        assert found == pytest.approx([0.309444, 0.228958, 0.144881], abs=5e-7)
        curve = decision_curve(y, p, np.arange(1200) // 2, thresholds=[0.1, 0.2, 0.3], resamples=30)
        np.testing.assert_allclose(curve.model, found, atol=1e-12)
        np.testing.assert_allclose(curve.treat_all, [0.331481, 0.247917, 0.140476], atol=5e-7)
        np.testing.assert_allclose(curve.standardised, np.array(found) / y.mean(), atol=1e-12)
        rival = np.maximum(curve.treat_all, 0)
        np.testing.assert_allclose(curve.gain, curve.model - rival, atol=1e-12)

    def test_curve_and_band_equal_repeating_rows(self):
        rng = np.random.default_rng(7)
        patient = rng.integers(0, 25, 90)
        p = np.round(rng.random(90), 1)
        y = rng.random(90) < p
        at = [0.7, 0.05, 0.3, 0.3, 0.5]
        curve = decision_curve(y, p, patient, thresholds=at, resamples=60, seed=8)
        groups, rng = Patients.of(patient), np.random.default_rng(8)

        def gain(rows, t):
            prevalence = y[rows].mean()
            everyone = prevalence - (1 - prevalence) * t / (1 - t)
            return net_benefit(y[rows], p[rows], t) - max(everyone, 0)

        rows = [groups.rows(rng.integers(0, groups.count, groups.count)) for _ in range(60)]
        for j, t in enumerate(at):
            assert curve.model[j] == pytest.approx(net_benefit(y, p, t))
            drawn = np.quantile([net_benefit(y[r], p[r], t) for r in rows], [0.025, 0.975])
            assert (curve.lower[j], curve.upper[j]) == pytest.approx(tuple(drawn))
            drawn = np.quantile([gain(r, t) for r in rows], [0.025, 0.975])
            assert (curve.gain_lower[j], curve.gain_upper[j]) == pytest.approx(tuple(drawn))
        counts = np.ones((1, groups.count), dtype=int)
        assert counted_gain(y, p, 0.3, groups)(counts)[0] == pytest.approx(curve.gain[2])

    def test_default_range_one_class_one_patient(self):
        curve = decision_curve([0, 0, 0], [0.1, 0.5, 0.9], ["a"] * 3, resamples=10)
        assert curve.threshold.size == 99
        assert curve.standardised is None
        assert curve.lower is None
        assert curve.gain_upper is None
        assert (curve.gain <= 0).all()

    @pytest.mark.parametrize("t", [0.0, 1.0, math.nan])
    def test_refuses_thresholds_that_are_no_odds(self, t):
        with pytest.raises(ValueError, match="between 0 and 1"):
            net_benefit([0, 1], [0.2, 0.8], t)
        with pytest.raises(ValueError, match="between 0 and 1"):
            decision_curve([0, 1], [0.2, 0.8], [0, 1], thresholds=[0.5, t])

    def test_refuses_bad_rows(self):
        with pytest.raises(ValueError, match="no row"):
            decision_curve([], [], [])
        with pytest.raises(ValueError, match="not its logits"):
            net_benefit([0, 1], [0.2, 1.8], 0.5)
        with pytest.raises(ValueError, match="95 is usual"):
            decision_curve([0, 1], [0.2, 0.8], [0, 1], level=1)


class TestOperatingPoints:
    def test_reference_values(self, r1):
        y, p, _ = r1
        found = best_sensitivity(y, p, 0.9)
        assert found.sensitivity == pytest.approx(0.297071, abs=5e-7)
        assert found.threshold == pytest.approx(0.480006, abs=5e-7)
        found = best_specificity(y, p, 0.9)
        assert found.specificity == pytest.approx(0.279778, abs=5e-7)
        assert found.threshold == pytest.approx(0.096554, abs=5e-7)

    @given(
        st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=30),
        st.sampled_from([0.01, 0.25, 0.5, 0.8, 1.0]),
    )
    @settings(deadline=None)
    def test_no_observed_threshold_is_better(self, rows, target):
        y, score = np.array([[0, 3], [1, 3], *rows]).T
        every = [operating(y, score, t) for t in np.unique(score)]
        kept = [o.sensitivity for o in every if o.specificity >= target]
        found = best_sensitivity(y, score, target)
        assert found.sensitivity == max(kept, default=0)
        assert found.specificity >= target
        kept = [o.specificity for o in every if o.sensitivity >= target]
        found = best_specificity(y, score, target)
        assert found.specificity == max(kept)
        assert found.sensitivity >= target

    def test_refuses_with_a_sentence(self):
        with pytest.raises(ValueError, match="both classes"):
            best_sensitivity([1, 1], [0.1, 0.2], 0.9)
        with pytest.raises(ValueError, match="up to 1"):
            best_specificity([0, 1], [0.1, 0.2], 1.1)


class TestAgreement:
    def test_reference_values(self):
        found = mcnemar(10, 25)
        assert found.p == pytest.approx(0.0166738, abs=5e-8)
        assert found.chi_square == pytest.approx(5.6)
        assert found.p_corrected == pytest.approx(0.0179605, abs=5e-8)
        assert kappa([[40, 9], [6, 45]]) == pytest.approx(0.699519, abs=5e-7)

    @given(st.integers(0, 40), st.integers(0, 40))
    @settings(deadline=None)
    def test_mcnemar_equals_statsmodels(self, b, c):
        found = mcnemar(b, c)
        table = [[7, b], [c, 9]]
        assert found.p == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1.0)
        if b != c:
            assert found.p_corrected == pytest.approx(
                sm_mcnemar(table, exact=False, correction=True).pvalue
            )

    @given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=3, max_size=3))
    @settings(deadline=None)
    def test_kappa_equals_statsmodels(self, table):
        table = np.add(table, [[1, 0, 1], [0, 1, 0], [0, 0, 1]])
        assert kappa(table) == pytest.approx(cohens_kappa(table).kappa)

    def test_by_patient_reduces_to_mcnemar(self):
        rng = np.random.default_rng(9)
        a, b = rng.random(200) < 0.8, rng.random(200) < 0.7
        found = mcnemar_by_patient(a, b, np.arange(200))
        table = [[0, found.only_first], [found.only_second, 0]]
        plain = sm_mcnemar(table, exact=False, correction=False)
        assert found.z**2 == pytest.approx(plain.statistic)
        assert found.p == pytest.approx(plain.pvalue)
        assert found.difference == pytest.approx(a.mean() - b.mean())

    def test_copies_of_every_row_change_nothing(self):
        rng = np.random.default_rng(10)
        a, b = rng.random(80) < 0.8, rng.random(80) < 0.6
        once = mcnemar_by_patient(a, b, np.arange(80))
        often = mcnemar_by_patient(np.repeat(a, 5), np.repeat(b, 5), np.repeat(np.arange(80), 5))
        assert (often.z, often.difference) == pytest.approx((once.z, once.difference))

    def test_nothing_to_compare(self):
        assert mcnemar(0, 0).p == 1.0
        assert mcnemar(0, 0).chi_square is None
        same = mcnemar_by_patient([0, 1], [0, 1], [0, 1])
        assert same.p is None
        assert "no patient" in same.note
        assert kappa([[5, 0], [0, 0]]) is None

    def test_refuses_with_a_sentence(self):
        with pytest.raises(ValueError, match="cannot be negative"):
            mcnemar(-1, 2)
        with pytest.raises(ValueError, match="square table"):
            kappa([[1, 2, 3], [4, 5, 6]])
        with pytest.raises(ValueError, match="at least one pair"):
            kappa([[0, 0], [0, 0]])
        with pytest.raises(ValueError, match="one per row"):
            mcnemar_by_patient([0, 1], [0, 1], [0])
