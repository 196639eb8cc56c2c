"""Calibration against statsmodels, plain loops, and reference values."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logit
from statsmodels.nonparametric.smoothers_lowess import lowess

from medssl.stats.calibration import (
    calibration,
    fit_temperature,
    integrated_calibration_index,
    intercept_in_the_large,
    logistic_update,
    oe_ratio,
    reliability_curve,
    slope,
)
from medssl.stats.metrics import auroc, brier, wilson
from medssl.stats.recalibration import recalibrate_by_patients

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def pairs(r1):
    """The main reference set with two rows of each patient: y, p, patient."""
    y, p, _ = r1
    return y, p, np.repeat(np.arange(len(y) // 2), 2)


def glm(y, x):
    """Intercept and slope by statsmodels."""
    fit = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial()).fit(tol=1e-12)
    return tuple(fit.params)


def glm_offset(y, x):
    fit = sm.GLM(y, np.ones(len(y)), family=sm.families.Binomial(), offset=x).fit(tol=1e-12)
    return float(fit.params[0])


def draw(seed, n, a, b, spread):
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.5, spread, n)
    return (rng.random(n) < expit(a + b * x)).astype(int), expit(x)


class TestPointEstimates:
    def test_reference_values(self, r1):
        y, p, _ = r1
        found = calibration(y, p)
        assert found.intercept_in_the_large == pytest.approx(0.69979, abs=5e-6)
        assert found.slope == pytest.approx(0.631946, abs=5e-7)
        assert found.oe == pytest.approx(1.432588, abs=5e-7)
        # Not 0.106760, lowess' default: see TestSmoothed.
        assert found.ici == pytest.approx(0.123695, abs=5e-7)
        assert found.ece == pytest.approx(0.122848, abs=5e-7)
        assert found.ece_squared_debiased == pytest.approx(0.018131, abs=5e-7)
        assert found.brier == pytest.approx(0.228685, abs=5e-7)

    def test_reference_values_after_an_update_in_sample(self, r1):
        y, p, _ = r1
        a, b = logistic_update(y, p)
        assert (a, b) == pytest.approx((0.313514, 0.631946), abs=5e-7)
        after = calibration(y, expit(a + b * logit(p)))
        assert after.brier == pytest.approx(0.210864, abs=5e-7)
        assert after.ici == pytest.approx(0.012672, abs=5e-7)
        assert after.slope == pytest.approx(1, abs=1e-9)
        assert after.oe == pytest.approx(1, abs=1e-9)

    def test_numbers_are_plain_floats(self, r1):
        y, p, _ = r1
        assert {type(v) for v in vars(calibration(y, p)).values()} == {float}

    @pytest.mark.parametrize("y", [[0, 0, 0, 0], [1, 1, 1, 1]])
    def test_one_class_leaves_the_fits_open(self, y):
        found = calibration(y, [0.1, 0.4, 0.6, 0.8])
        assert found.intercept_in_the_large is None
        assert found.slope is None
        assert found.oe == pytest.approx(sum(y) / 1.9)

    def test_refuses_what_is_no_probability(self):
        for f in (slope, intercept_in_the_large, oe_ratio, calibration, reliability_curve):
            with pytest.raises(ValueError, match="not its logits"):
                f([0, 1], [0.5, 1.5])
            with pytest.raises(ValueError, match="no row"):
                f([], [])


class TestFits:
    @given(
        st.integers(0, 10**6),
        st.integers(30, 400),
        st.floats(-2, 2),
        st.floats(-1, 2.5),
        st.floats(0.1, 3),
    )
    @settings(deadline=None, max_examples=40)
    def test_equal_statsmodels(self, seed, n, a, b, spread):
        y, p = draw(seed, n, a, b, spread)
        x = logit(p)
        # Where the classes hardly overlap, statsmodels itself has not converged to 1e-6.
        assume(3 <= y.sum() <= n - 3)
        assume(0.02 < auroc(y, x) < 0.98)
        assert logistic_update(y, p) == pytest.approx(glm(y, x), abs=1e-6, rel=1e-6)
        assert slope(y, p) == pytest.approx(glm(y, x)[1], abs=1e-6, rel=1e-6)
        assert intercept_in_the_large(y, p) == pytest.approx(glm_offset(y, x), abs=1e-6)

    def test_zero_and_one_are_kept_finite(self):
        y = np.array([0, 1, 0, 1, 1, 0])
        p = np.array([0.0, 0.0, 0.3, 0.6, 1.0, 1.0])
        x = logit(np.clip(p, 1e-6, 1 - 1e-6))
        assert slope(y, p) == pytest.approx(glm(y, x)[1], abs=1e-6)
        assert intercept_in_the_large(y, p) == pytest.approx(glm_offset(y, x), abs=1e-6)

    @pytest.mark.parametrize(
        ("y", "p"),
        [
            ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]),  # complete separation
            ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]),  # the other way round
            ([0, 0, 1, 1], [0.1, 0.2, 0.2, 0.4]),  # touching at one value
            ([0, 1, 0, 1], [0.3, 0.3, 0.3, 0.3]),  # constant
            ([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]),  # one class
        ],
    )
    def test_no_slope_where_none_exists(self, y, p):
        assert slope(y, p) is None
        assert logistic_update(y, p) is None

    def test_almost_separated_classes_still_have_a_steep_slope(self):
        y = np.r_[np.zeros(50), 1, 0, np.ones(50)]
        p = np.linspace(0.01, 0.99, 102)
        assert slope(y, p) == pytest.approx(glm(y, logit(p))[1], rel=1e-6)
        assert slope(y, p) > 5

    def test_a_constant_p_has_an_intercept(self):
        assert intercept_in_the_large([0, 1, 1, 1], [0.5] * 4) == pytest.approx(np.log(3))

    @given(st.integers(0, 999), st.floats(0.2, 3), st.floats(-2, 2))
    @settings(deadline=None, max_examples=30)
    def test_stretching_the_logit_divides_the_slope(self, seed, by, shift):
        y, p = draw(seed, 200, 0, 1, 1)
        moved = expit(shift + by * logit(p))
        assume(moved.min() > 1e-6)
        assume(moved.max() < 1 - 1e-6)
        assert slope(y, moved) == pytest.approx(slope(y, p) / by, rel=1e-6)

    def test_oe(self):
        assert oe_ratio([0, 1, 1, 0], [0.5, 0.5, 0.25, 0.25]) == 2 / 1.5
        assert oe_ratio([0, 1], [0.0, 0.0]) is None
        assert oe_ratio([0, 0], [0.5, 0.5]) == 0.0


class TestSmoothed:
    def test_interpolation_in_large_sets_moves_the_index_little(self):
        y, p = draw(1, 6000, 0.2, 0.7, 1.2)
        exact = np.abs(lowess(y, p, frac=0.66, it=0, return_sorted=False) - p).mean()
        assert integrated_calibration_index(y, p) == pytest.approx(exact, abs=5e-4)

    def test_equals_local_regression_by_loops(self):
        y, p = draw(9, 60, 0.3, 0.6, 1.2)
        fitted = []
        for at in p:
            gap = np.abs(p - at)
            # Cleveland's tricube weights over the nearest int(0.66 n) rows, one straight line.
            reach = np.sort(gap)[int(0.66 * 60 + 1e-10) - 1]
            weight = np.sqrt(np.clip(1 - (gap / reach) ** 3, 0, None) ** 3)
            line = np.linalg.lstsq(np.c_[np.ones(60), p - at] * weight[:, None], y * weight)[0]
            fitted.append(line[0])
        expected = np.mean(np.abs(np.array(fitted) - p))
        assert integrated_calibration_index(y, p) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("rarer", [0.0, 2.0])
    def test_a_calibrated_model_has_a_small_index(self, rarer):
        rng = np.random.default_rng(2)
        p = expit(rng.normal(-rarer, 1.2, 4000))
        y = (rng.random(4000) < p).astype(int)
        assert integrated_calibration_index(y, p) < 0.02

    def test_the_robust_smoother_of_the_reference_would_call_a_perfect_model_bad(self, r1):
        y, p, _ = r1
        robust = np.abs(lowess(y, p, frac=0.66, return_sorted=False) - p).mean()
        assert robust == pytest.approx(0.106760, abs=5e-7)
        assert robust < abs(y.mean() - p.mean()) <= integrated_calibration_index(y, p)
        rng = np.random.default_rng(2)
        p = expit(rng.normal(-2, 1.2, 1000))
        y = (rng.random(1000) < p).astype(int)
        assert np.abs(lowess(y, p, frac=0.66, return_sorted=False) - p).mean() > 0.14
        assert integrated_calibration_index(y, p) < 0.03

    @pytest.mark.parametrize("p", [[0.3] * 20, [0.2] * 10 + [0.7] * 10])
    def test_too_few_distinct_values_give_a_number_or_nothing(self, p):
        found = integrated_calibration_index([0, 1] * 10, p)
        assert found is None or 0 <= found <= 1


class TestReliability:
    def test_equals_cutting_the_sorted_rows(self):
        y, p = draw(3, 1000, 0.3, 0.7, 1.3)
        curve = reliability_curve(y, p)
        parts = np.array_split(np.argsort(p), 10)
        np.testing.assert_allclose(curve.predicted, [p[r].mean() for r in parts])
        np.testing.assert_allclose(curve.observed, [y[r].mean() for r in parts])
        assert curve.n.tolist() == [100] * 10
        limits = [wilson(int(y[r].sum()), 100) for r in parts]
        np.testing.assert_allclose(np.c_[curve.lower, curve.upper], limits)

    def test_a_row_on_an_edge_belongs_to_the_lower_bin(self):
        curve = reliability_curve([0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.5], bins=2)
        assert curve.n.tolist() == [3, 2]

    def test_equal_probabilities_share_a_bin(self):
        y, p = [0, 1, 0, 0, 1, 1], [0.2, 0.2, 0.2, 0.2, 0.9, 0.9]
        curve = reliability_curve(y, p, bins=10)
        assert curve.n.tolist() == [4, 2]
        np.testing.assert_allclose(curve.predicted, [0.2, 0.9])
        np.testing.assert_allclose(curve.observed, [0.25, 1.0])

    @given(
        st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=50),
        st.integers(1, 12),
    )
    @settings(deadline=None)
    def test_every_row_is_in_one_bin_and_bins_ascend(self, pairs, bins):
        y, p = (np.array(c) for c in zip(*pairs, strict=True))
        curve = reliability_curve(y, p, bins)
        assert curve.n.sum() == len(y)
        assert 1 <= curve.n.size <= bins
        assert (curve.n * curve.observed).sum() == pytest.approx(y.sum())
        assert (curve.n * curve.predicted).sum() == pytest.approx(p.sum())
        assert (np.diff(curve.predicted) > 0).all()
        assert (curve.lower <= curve.observed + 1e-12).all()
        assert (curve.observed <= curve.upper + 1e-12).all()

    def test_one_row_bins_have_no_debiased_error(self):
        assert calibration([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], bins=4).ece_squared_debiased is None

    def test_debiasing_removes_the_bias_of_a_calibrated_model(self):
        found = [calibration(*draw(seed, 300, 0, 1, 1)) for seed in range(300)]
        assert np.mean([c.ece for c in found]) > 0.04
        assert abs(np.mean([c.ece_squared_debiased for c in found])) < 5e-4

    def test_refuses_no_bins(self):
        with pytest.raises(ValueError, match="at least one bin"):
            reliability_curve([0, 1], [0.1, 0.2], bins=0)


class TestRecalibration:
    def test_each_patient_is_updated_by_the_fit_on_the_other_folds(self, pairs):
        y, p, patient = pairs
        x, moved = logit(p), logit(recalibrate_by_patients(y, p, patient, seed=0))
        # Two rows a patient determine the line that moved both; five lines in all are five folds.
        one, two = slice(0, None, 2), slice(1, None, 2)
        b = (moved[two] - moved[one]) / (x[two] - x[one])
        lines = np.round(np.c_[moved[one] - b * x[one], b], 6)
        folds, which = np.unique(lines, axis=0, return_inverse=True)
        assert len(folds) == 5
        assert set(np.bincount(which.ravel())) == {120}
        for k, (a, b) in enumerate(folds):
            rest = np.repeat(which.ravel() != k, 2)
            assert glm(y[rest], x[rest]) == pytest.approx((a, b), abs=5e-6)

    def test_it_helps_and_does_not_flatter(self, pairs):
        y, p, patient = pairs
        a, b = logistic_update(y, p)
        in_sample = brier(y, expit(a + b * logit(p)))
        out_of_fold = brier(y, recalibrate_by_patients(y, p, patient, seed=0))
        assert in_sample < out_of_fold < 0.213 < brier(y, p)

    def test_below_100_events_only_the_intercept_moves(self):
        y, p = draw(4, 150, -0.5, 0.5, 1.5)
        assert y.sum() < 100
        patient = np.arange(150) // 3
        shift = logit(recalibrate_by_patients(y, p, patient, seed=1)) - logit(p)
        assert len(np.unique(np.round(shift, 9))) == 5
        assert all(len(set(np.round(shift[patient == i], 9))) == 1 for i in range(50))

    @pytest.mark.parametrize(("events", "lines"), [(99, False), (100, True)])
    def test_the_slope_enters_at_100_events(self, events, lines):
        rng = np.random.default_rng(5)
        y = rng.permutation(np.r_[np.ones(events), np.zeros(150)])
        p = expit(rng.normal(0, 1, y.size) + y)
        shift = logit(recalibrate_by_patients(y, p, np.arange(y.size), seed=0)) - logit(p)
        assert (len(np.unique(np.round(shift, 8))) > 5) == lines

    def test_the_seed_deals_the_patients(self, pairs):
        y, p, patient = pairs
        first = recalibrate_by_patients(y, p, patient, seed=0)
        np.testing.assert_array_equal(first, recalibrate_by_patients(y, p, patient, seed=0))
        assert (first != recalibrate_by_patients(y, p, patient, seed=1)).any()

    @given(
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1)), min_size=4, max_size=40),
        st.integers(0, 99),
        st.integers(2, 6),
    )
    @settings(deadline=None)
    def test_two_patients_of_each_kind_always_suffice(self, pairs, seed, folds):
        patient, y = (np.array(c) for c in zip(*pairs, strict=True))
        assume(len(set(patient[y == 1])) >= 2)
        assume(len(set(patient[y == 0])) >= 2)
        p = np.linspace(0.1, 0.9, y.size)
        moved = recalibrate_by_patients(y, p, patient, seed, folds)
        assert ((moved > 0) & (moved < 1)).all()

    def test_refuses_with_a_sentence(self):
        y, p = [1, 1, 0, 0, 0], [0.1, 0.2, 0.3, 0.4, 0.5]
        with pytest.raises(ValueError, match="1 patients with and 3 without an event"):
            recalibrate_by_patients(y, p, ["a", "a", "b", "c", "d"], seed=0)
        with pytest.raises(ValueError, match="1 folds asked for"):
            recalibrate_by_patients(y, p, ["a", "b", "c", "d", "e"], seed=0, folds=1)
        with pytest.raises(ValueError, match="4 patient entries for 5 rows"):
            recalibrate_by_patients(y, p, ["a", "b", "c", "d"], seed=0)


class TestTemperature:
    @pytest.mark.parametrize("truth", [0.4, 1.0, 3.0])
    def test_finds_the_temperature_the_labels_were_drawn_at(self, truth):
        rng = np.random.default_rng(6)
        z = rng.normal(0, 2, (20000, 4))
        codes = (rng.gumbel(size=z.shape) + z).argmax(axis=1)
        assert fit_temperature(z * truth, codes) == pytest.approx(truth, rel=0.03)

    def test_no_grid_point_is_better(self):
        rng = np.random.default_rng(7)
        z = rng.normal(0, 3, (60, 3))
        codes = (2 * rng.gumbel(size=z.shape) + z).argmax(axis=1)

        def loss(t):
            return -log_softmax(z / t, axis=1)[np.arange(60), codes].mean()

        best = min(np.exp(np.linspace(-3, 3, 2001)), key=loss)
        assert loss(fit_temperature(z, codes)) <= loss(best) + 1e-12

    def test_stays_within_its_bounds(self):
        z = np.eye(3)[[0, 1, 2]]
        assert np.exp(-3) <= fit_temperature(z, [0, 1, 2]) < np.exp(-2.9)
        assert np.exp(2.9) < fit_temperature(z, [1, 2, 0]) <= np.exp(3)

    def test_refuses_with_a_sentence(self):
        with pytest.raises(ValueError, match="K >= 2"):
            fit_temperature(np.ones((3, 1)), [0, 0, 0])
        with pytest.raises(ValueError, match="from 0 to 1"):
            fit_temperature(np.ones((2, 2)), [0, 2])
        with pytest.raises(ValueError, match="finite"):
            fit_temperature([[0.0, np.inf], [1.0, 2.0]], [0, 1])
