"""Calibration bands against statsmodels' lowess on repeated rows, loops, and simulation."""

import time

import numpy as np
import pytest
from conftest import PROOF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from statsmodels.nonparametric.smoothers_lowess import lowess

from medssl.stats.bands import calibration_bands, limits
from medssl.stats.bootstrap import Patients
from medssl.stats.calibration import calibration, equal_mass
from medssl.stats.smoother import counted_ece, counted_ici, counted_smooth, narrow_cells
from medssl.stats.usefulness import proportion_by_patient

pytestmark = pytest.mark.filterwarnings("error")


def draw(seed, patients, images, a, b):
    """Rows whose patients differ: y, p, patient; the truth is expit(a + b logit p)."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(-0.8, 1, (patients, 1)) + rng.normal(0, 0.5, (patients, images))).ravel()
    return rng.random(x.size) < expit(a + b * x), expit(x), np.repeat(np.arange(patients), images)


def repeated(counts, groups):
    return groups.rows(np.repeat(np.arange(groups.count), counts))


class TestSmoother:
    def test_equals_lowess_on_repeated_rows(self):
        y, p, patient = draw(1, 80, 3, 0.3, 0.7)
        p = np.round(p, 2)
        groups = Patients.of(patient)
        counts = np.random.default_rng(2).multinomial(80, np.full(80, 1 / 80), size=5)
        at = np.unique(p)
        found = counted_smooth(y, p, groups, at)(counts)
        for got, drawn in zip(found, counts, strict=True):
            rows = repeated(drawn, groups)
            fitted = lowess(y[rows], p[rows], frac=0.66, it=0, return_sorted=False)
            np.testing.assert_allclose(np.interp(p[rows], at, got[:-4]), fitted, atol=1e-9)
            gap = np.sort(np.abs(fitted - p[rows]))
            four = [gap.mean(), *(gap[int(np.ceil(q * gap.size)) - 1] for q in (0.5, 0.9)), gap[-1]]
            np.testing.assert_allclose(got[-4:], four, atol=1e-9)
        np.testing.assert_allclose(counted_ici(y, p, groups)(counts), found[:, -4])

    @pytest.mark.parametrize("rarer", [0.0, 3.0])
    def test_cells_are_near_to_rows(self, rarer):
        y, p, patient = draw(3, 500, 4, 0.3, 0.7)
        p = expit(np.log(p / (1 - p)) - rarer)
        groups = Patients.of(patient)
        whole = np.ones((1, 500), dtype=int)
        grid = np.linspace(p.min(), p.max(), 40)
        fitted = lowess(y, p, frac=0.66, it=0, xvals=grid)
        found = counted_smooth(y, p, groups, grid)(whole)[0]
        np.testing.assert_allclose(found[:40], fitted, atol=4e-3)
        exact = np.abs(lowess(y, p, frac=0.66, it=0, return_sorted=False) - p).mean()
        assert found[40] == pytest.approx(exact, abs=5e-4)

    def test_a_neighbourhood_of_one_value_has_its_mean(self):
        y, p = np.array([0, 1, 1, 1, 0, 0]), np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.9])
        groups = Patients.of(np.arange(6))
        found = counted_smooth(y, p, groups, [0.2, 0.5])(np.ones((1, 6), dtype=int))[0]
        np.testing.assert_allclose(found[:2], 3 / 5)

    @given(st.integers(0, 999), st.integers(1, 3000))
    @settings(deadline=None, max_examples=30)
    def test_cells_ascend_and_are_few(self, seed, n):
        p = np.random.default_rng(seed).beta(0.3, 5, n)
        which = narrow_cells(p)
        assert which.max() < 128
        assert (np.diff(which[np.argsort(p)]) >= 0).all()
        assert np.bincount(which).min() > 0

    def test_ece_equals_repeating_rows(self):
        y, p, patient = draw(4, 40, 3, 0.3, 0.7)
        groups, which = Patients.of(patient), equal_mass(p, 10)
        counts = np.random.default_rng(5).multinomial(40, np.full(40, 1 / 40), size=4)
        for got, drawn in zip(counted_ece(y, p, groups, which)(counts), counts, strict=True):
            r = repeated(drawn, groups)
            parts = [r[which[r] == k] for k in range(10)]
            gaps = [abs(y[q].mean() - p[q].mean()) * q.size for q in parts if q.size]
            assert got == pytest.approx(sum(gaps) / r.size)


class TestBands:
    def test_values_are_those_of_the_bare_numbers(self, r1):
        y, p, _ = r1
        found = calibration_bands(y, p, np.arange(1200) // 2)
        bare = calibration(y, p)
        assert found.ici.interval.value == bare.ici == pytest.approx(0.123695, abs=5e-7)
        assert found.ece.interval.value == bare.ece == pytest.approx(0.122848, abs=5e-7)
        assert found.ece_squared_debiased == pytest.approx(0.018131, abs=5e-7)
        gap = np.abs(lowess(y, p, frac=0.66, it=0, return_sorted=False) - p)
        four = [found.ici, found.e50, found.e90, found.emax]
        expected = [gap.mean(), np.median(gap), np.quantile(gap, 0.9), gap.max()]
        assert [d.interval.value for d in four] == pytest.approx(expected, abs=1e-12)
        for distance in [*four, found.ece]:
            i = distance.interval
            assert i.lower < i.value < i.upper
            assert (i.n, i.patients, i.resamples, i.level) == (1200, 600, 200, 0.95)
        assert (found.n, found.events, found.patients, found.note) == (1200, 478, 600, "")

    def test_the_reference_with_robust_passes_is_not_ours(self, r1):
        """Reference E50, E90, Emax 0.105237, 0.157418, 0.163663 belong to lowess' default."""
        y, p, _ = r1
        gap = np.abs(lowess(y, p, frac=0.66, return_sorted=False) - p)
        robust = [np.median(gap), np.quantile(gap, 0.9), gap.max()]
        assert robust == pytest.approx([0.105237, 0.157418, 0.163663], abs=5e-7)
        assert calibration_bands(y, p, np.arange(1200), resamples=5).e50.interval.value > 0.12

    def test_interval_and_bias_by_hand(self):
        y, p, patient = draw(6, 60, 2, 0.2, 0.8)
        found = calibration_bands(y, p, patient, resamples=300, seed=9).ece
        groups, rng = Patients.of(patient), np.random.default_rng(9)
        which = equal_mass(p, 10)
        drawn = []
        for _ in range(300):
            r = groups.rows(rng.integers(0, 60, 60))
            n = np.bincount(which[r], minlength=10)
            gap = np.bincount(which[r], weights=y[r] - p[r], minlength=10)
            drawn.append(np.abs(gap).sum() / n.sum())
        low, high = np.quantile(drawn, [0.025, 0.975])
        value = found.interval.value
        assert found.bias == pytest.approx(np.mean(drawn) - value)
        assert found.interval.lower == pytest.approx(max(0, min(low, 2 * value - high)))
        assert found.interval.upper == pytest.approx(max(high, 2 * value - low))

    def test_points_are_the_reliability_curve_with_limits_by_patient(self):
        y, p, patient = draw(7, 100, 5, 0.3, 0.7)
        points = calibration_bands(y, p, patient, bins=4, resamples=5).points
        parts = np.array_split(np.argsort(p), 4)
        for k, rows in enumerate(parts):
            assert points.predicted[k] == pytest.approx(p[rows].mean())
            assert points.observed[k] == pytest.approx(y[rows].mean())
            assert points.events[k] == y[rows].sum()
            assert points.patients[k] == len(set(patient[rows]))
            own = proportion_by_patient(y[rows], patient[rows])
            assert (points.lower[k], points.upper[k]) == pytest.approx((own.lower, own.upper))
        assert points.n.tolist() == [125] * 4

    def test_the_band_widens_when_patients_repeat(self):
        y, p, _ = draw(8, 300, 1, 0, 1)
        once = calibration_bands(y, p, np.arange(300)).curve
        four = calibration_bands(np.repeat(y, 4), np.repeat(p, 4), np.repeat(np.arange(300), 4))
        rows = calibration_bands(np.repeat(y, 4), np.repeat(p, 4), np.arange(1200))
        np.testing.assert_allclose(four.curve.upper, once.upper, atol=0.02)
        width = np.mean(rows.curve.upper - rows.curve.lower)
        assert width < 0.6 * np.mean(once.upper - once.lower)

    def test_the_curve_lies_in_its_band_and_in_0_1(self):
        for seed in range(5):
            curve = calibration_bands(*draw(seed, 150, 2, 0.5, 1.5), resamples=100).curve
            assert (curve.lower <= curve.observed + 0.02).all()
            assert (curve.observed <= curve.upper + 0.02).all()
            assert curve.lower.min() >= 0
            assert curve.upper.max() <= 1
            assert (np.diff(curve.p) > 0).all()

    def test_the_seed_is_part_of_the_result(self):
        rows = draw(9, 50, 2, 0, 1)
        one, two, three = (calibration_bands(*rows, resamples=50, seed=s) for s in (1, 1, 2))
        assert one.ici == two.ici
        assert one.ici != three.ici

    def test_coverage_of_distances_and_of_the_band(self):
        runs = 400 if PROOF else 40
        _, p, _ = draw(0, 40_000, 1, 0.4, 0.7)
        x = np.log(p / (1 - p))
        gap = expit(0.4 + 0.7 * x) - p
        inside = np.zeros(3)
        for seed in range(runs):
            found = calibration_bands(*draw(100 + seed, 250, 3, 0.4, 0.7), seed=seed)
            i, curve = found.ici.interval, found.curve
            inside[0] += i.lower <= np.abs(gap).mean() <= i.upper
            at = curve.p[30]
            truth = expit(0.4 + 0.7 * np.log(at / (1 - at)))
            inside[1] += curve.lower[30] <= truth <= curve.upper[30]
            # A calibrated model: the interval must reach down to 0.
            inside[2] += (
                calibration_bands(*draw(100 + seed, 250, 3, 0, 1), seed=seed).ici.interval.lower
                <= 0.004
            )
        assert (inside / runs > (0.91 if PROOF else 0.85)).all(), inside / runs

    def test_twenty_thousand_rows_take_seconds(self):
        rows = draw(10, 5000, 4, 0.3, 0.7)
        begin = time.perf_counter()
        calibration_bands(*rows)
        assert time.perf_counter() - begin < 10


class TestDegenerate:
    def test_constant_p_has_no_curve(self):
        found = calibration_bands([0, 1] * 10, [0.3] * 20, np.arange(20), resamples=20)
        assert found.curve is None
        assert found.ici.interval.value is None
        assert "Not computable" in found.ici.interval.note
        assert found.ece.interval.value == pytest.approx(0.2)

    def test_one_class_says_so(self):
        found = calibration_bands([0] * 20, np.linspace(0.1, 0.6, 20), np.arange(20), resamples=20)
        assert "one class" in found.note
        assert found.ici.interval.value == pytest.approx(0.35)

    def test_one_patient_has_no_limits(self):
        found = calibration_bands([0, 1] * 5, np.linspace(0.1, 0.9, 10), ["a"] * 10, resamples=20)
        assert found.curve.lower is None
        assert found.ici.interval.lower is None
        assert found.ici.bias is None
        assert "one patient" in found.note

    def test_refuses_with_a_sentence(self):
        with pytest.raises(ValueError, match="no row"):
            calibration_bands([], [], [])
        with pytest.raises(ValueError, match="NaN"):
            calibration_bands([0, 1], [0.1, np.nan], [0, 1])
        with pytest.raises(ValueError, match="1 patient entries for 2 rows"):
            calibration_bands([0, 1], [0.1, 0.2], [0])
        with pytest.raises(ValueError, match="at least one bin"):
            calibration_bands([0, 1], [0.1, 0.2], [0, 1], bins=0)
        with pytest.raises(ValueError, match="95 is usual"):
            calibration_bands([0, 1], [0.1, 0.2], [0, 1], level=95)

    def test_limits_are_withheld_when_resamples_fail(self):
        groups = Patients.of(np.arange(4))
        found = limits(1.0, np.r_[np.full(10, np.nan), np.ones(90)], groups, 0.95)
        assert found.lower is None
        assert "10 of 100" in found.note
        assert limits(None, np.ones(5), groups, 0.95).value is None
