"""Sample size against published values, brute force, quadrature by scipy, and simulated studies."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from conftest import PROOF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from medssl.stats.sample_size import (
    NAMES,
    Expected,
    Widths,
    assess,
    design_effect,
    months_needed,
    observed,
    rows_needed,
    width_foreseen,
)

pytestmark = pytest.mark.filterwarnings("error")

FULL = Expected(0.2, 0.8, -1.75, 1.47, 0.8, 0.7, 0.15)


def c_statistic_se(n, c, prevalence):
    """Newcombe's method 4, as the reference prints it."""
    half = n / 2 - 1
    inner = 1 + half * (1 - c) / (2 - c) + half * c / (1 + c)
    return math.sqrt(c * (1 - c) * inner / (n**2 * prevalence * (1 - prevalence)))


class TestRowsNeeded:
    def test_oe(self):
        assert rows_needed("oe", Expected(0.2), 0.2) == 1537
        # pmvalsampsize takes the width of the ratio itself.
        assert rows_needed("oe", Expected(0.2), 2 * math.asinh(0.2 / 2)) == 1542

    @pytest.mark.parametrize(
        ("prevalence", "c", "n"),
        [(0.2, 0.8, 471), (0.018, 0.8, 4252), (0.1, 0.75, 1008), (0.4, 0.85, 243)],
    )
    def test_auroc(self, prevalence, c, n):
        assert rows_needed("auroc", Expected(prevalence, c), 0.1) == n

    @pytest.mark.parametrize(
        ("mean", "sd", "n"), [(-5, 2.5, 4554), (-1.2, 1.3, 2350), (-1.75, 1.47, 2406)]
    )
    def test_slope(self, mean, sd, n):
        assert rows_needed("slope", Expected(0.2, lp_mean=mean, lp_sd=sd), 0.2) == n

    def test_net_benefit(self):
        assert rows_needed("net_benefit", FULL, 0.2) == 466

    @settings(max_examples=60, deadline=None)
    @given(st.floats(0.1, 0.9), st.floats(0.05, 0.95), st.floats(0.1, 0.5))
    def test_auroc_is_the_smallest_by_search(self, prevalence, c, width):
        found = rows_needed("auroc", Expected(prevalence, c), width)
        n = 1
        z = norm.ppf(0.975)
        while 2 * z * c_statistic_se(n, c, prevalence) > width:
            n += 1
        assert found == n

    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from(list(NAMES)), st.floats(0.03, 1), st.sampled_from([0.8, 0.95, 0.99]))
    def test_size_and_width_are_each_others_inverse(self, name, width, level):
        n = rows_needed(name, FULL, width, level)
        assert width_foreseen(name, FULL, n, level) <= width * (1 + 1e-9)
        if n > 1:
            assert width_foreseen(name, FULL, n - 1, level) > width

    @pytest.mark.parametrize(("mean", "sd"), [(-5, 2.5), (0, 0.1), (2, 6), (-1.2, 1.3)])
    def test_slope_equals_scipys_quadrature(self, mean, sd):
        def moment(power):
            def inside(z):
                lp = mean + sd * z
                return lp**power * expit(lp) * expit(-lp) * norm.pdf(z)

            return quad(inside, -9, 9, epsabs=1e-13, epsrel=1e-11, limit=500)[0]

        a, ab, b = moment(0), moment(1), moment(2)
        e = Expected(0.3, lp_mean=mean, lp_sd=sd)
        variance = (width_foreseen("slope", e, 1) / (2 * norm.ppf(0.975))) ** 2
        assert variance == pytest.approx(a / (a * b - ab**2), rel=1e-7)

    def test_slope_equals_the_spread_of_fitted_slopes(self):
        g, runs = np.random.default_rng(4), 600 if PROOF else 60
        slopes = []
        for _ in range(runs):
            lp = g.normal(-1.2, 1.3, 2350)
            y = g.random(2350) < expit(lp)
            fit = sm.GLM(y.astype(float), sm.add_constant(lp), family=sm.families.Binomial()).fit()
            slopes.append(fit.params[1])
        expected = 0.2 / (2 * 1.959964)
        assert np.std(slopes) == pytest.approx(expected, rel=0.1 if PROOF else 0.3)

    def test_oe_and_net_benefit_equal_the_spread_of_simulated_studies(self):
        g, runs = np.random.default_rng(5), 40_000
        tp, fn, fp, tn = g.multinomial(1537, [0.16, 0.04, 0.24, 0.56], runs).T
        events = tp + fn
        width = 2 * 1.959964 * np.std(np.log(events / (0.2 * 1537)))
        assert width == pytest.approx(0.2, rel=0.02)
        benefit = (tp - fp * 0.15 / 0.85) / events
        foreseen = width_foreseen("net_benefit", FULL, 1537)
        assert 2 * 1.959964 * np.std(benefit) == pytest.approx(foreseen, rel=0.02)
        assert (fp + tn + events).max() == 1537

    def test_auroc_equals_the_spread_of_simulated_studies(self):
        g = np.random.default_rng(6)
        shift, found = math.sqrt(2) * norm.ppf(0.8), []
        for _ in range(1500):
            y = g.random(471) < 0.2
            s = g.normal(shift * y, 1)
            up, down = s[y], np.sort(s[~y])
            found.append(down.searchsorted(up).mean() / down.size)
        assert 2 * 1.959964 * np.std(found) == pytest.approx(0.1, rel=0.08)

    @pytest.mark.parametrize(
        ("name", "expected", "words"),
        [
            ("oe", Expected(0.0), "prevalence must lie strictly between 0 and 1, got 0.0"),
            ("oe", Expected(math.nan), "prevalence must lie strictly between"),
            ("auroc", Expected(0.2, 1.0), "AUROC must lie strictly between 0 and 1, got 1.0"),
            ("auroc", Expected(0.2), "No AUROC is known"),
            ("slope", Expected(0.2, lp_mean=0.0, lp_sd=0.0), "spread above 0, got 0.0 and 0.0"),
            ("slope", Expected(0.2, lp_mean=math.inf, lp_sd=1.0), "finite mean"),
            ("net_benefit", Expected(0.2, 0.8), "No sensitivity is known"),
            (
                "net_benefit",
                Expected(0.2, None, 0, 1, 1.2, 0.7, 0.1),
                "must lie in .0, 1., got 1.2",
            ),
            ("net_benefit", Expected(0.2, None, 0, 1, 0.8, 0.7, 1.0), "threshold must lie"),
        ],
    )
    def test_what_cannot_be_planned(self, name, expected, words):
        with pytest.raises(ValueError, match=words):
            rows_needed(name, expected, 0.2)

    def test_bad_width_rows_and_level(self):
        with pytest.raises(ValueError, match="width of the interval must be above 0, got 0"):
            rows_needed("oe", FULL, 0)
        with pytest.raises(ValueError, match="more than 0 rows, got 0"):
            width_foreseen("oe", FULL, 0)
        with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
            rows_needed("oe", FULL, 0.2, 95)


class TestObserved:
    def test_describes_the_main_set(self, r1):
        y, p, _ = r1
        found = observed(y, p, 0.25)
        assert found.prevalence == pytest.approx(478 / 1200)
        assert found.auroc == pytest.approx(0.705244, abs=5e-7)
        lp = np.log(p) - np.log1p(-p)
        assert (found.lp_mean, found.lp_sd) == pytest.approx((lp.mean(), lp.std()))
        assert (found.sensitivity, found.specificity) == pytest.approx((308 / 478, 483 / 722))
        assert found.threshold == 0.25

    def test_one_class_constant_and_empty(self):
        found = observed([0, 0], [0.5, 0.5])
        assert (found.prevalence, found.auroc, found.lp_sd) == (0, None, 0)
        assert (found.sensitivity, found.threshold) == (None, None)
        assert math.isfinite(observed([0, 1], [0.0, 1.0]).lp_sd)
        with pytest.raises(ValueError, match="no row to compute"):
            observed([], [])
        with pytest.raises(ValueError, match="NaN"):
            observed([0, 1], [0.1, np.nan])


class TestAssess:
    def test_before_the_study(self):
        found = assess(FULL, 1000)
        needed = {c.name: c.needed for c in found.criteria}
        assert needed == {"oe": 1537, "auroc": 471, "slope": 2406, "net_benefit": 466}
        assert {c.name for c in found.criteria if c.enough} == {"auroc", "net_benefit"}
        assert found.enough is False
        assert (found.events, found.non_events, found.floor_reached) == (200, 800, True)
        assert found.note == (
            "Large enough for AUROC (needs 471 patients), net benefit (needs 466 patients). "
            "Too small for observed over expected (needs 1,537 patients), calibration slope "
            "(needs 2,406 patients)."
        )
        for c in found.criteria:
            assert c.foreseen == width_foreseen(c.name, FULL, 1000)
            assert (c.foreseen <= c.target) is c.enough
            assert (c.had, c.achieved, c.note) == (1000, None, "")

    def test_exactly_enough(self):
        only = Widths(oe=None, slope=None, net_benefit=None)
        assert assess(FULL, 471, targets=only).enough is True
        assert assess(FULL, 470, targets=only).enough is False

    def test_a_plan_without_patients(self):
        found = assess(FULL, 0)
        assert found.enough is False
        assert [c.foreseen for c in found.criteria] == [None] * 4
        assert [c.needed for c in found.criteria] == [1537, 471, 2406, 466]

    def test_clusters_cost_patients(self):
        only = Widths(oe=None, slope=None, net_benefit=None)
        found = assess(FULL, 200, rows_per_patient=4, design_effect=2.54, targets=only)
        assert found.criteria[0].needed == math.ceil(471 * 2.54 / 4)
        assert found.criteria[0].foreseen == pytest.approx(
            width_foreseen("auroc", FULL, 800 / 2.54)
        )
        assert (found.events, found.non_events) == pytest.approx((160, 640))
        # Images that say nothing new: the design effect is their number, and patients count.
        copies = assess(FULL, 471, rows_per_patient=4, design_effect=4, targets=only)
        assert (copies.criteria[0].needed, copies.enough) == (471, True)

    def test_after_the_study_its_own_intervals_decide(self):
        done = Widths(oe=0.19, auroc=0.12, slope=None, net_benefit=0.2)
        found = assess(FULL, 1000, achieved=done)
        by_name = {c.name: c for c in found.criteria}
        assert [by_name[n].enough for n in NAMES] == [True, False, None, True]
        assert by_name["oe"].needed == 1537
        assert by_name["oe"].achieved == 0.19
        assert "interval is not computable" in by_name["slope"].note
        assert found.enough is False
        assert "Open for calibration slope" in found.note

    def test_open_is_not_enough(self):
        found = assess(Expected(0.2, 0.8), 5000)
        assert found.enough is None
        notes = {c.name: c.note for c in found.criteria}
        assert notes["slope"] == "Not computable. No mean log-odds is known; assume one."
        assert "No sensitivity" in notes["net_benefit"]
        assert assess(FULL, 100, targets=Widths(None, None, None, None)).enough is None

    @pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1]])
    def test_a_study_with_one_class_is_open_and_below_the_floor(self, y):
        found = assess(observed(y, [0.4, 0.4, 0.4]), 3)
        assert found.enough is None
        assert found.floor_reached is False
        assert all(c.note.startswith("Not computable.") for c in found.criteria)

    @pytest.mark.parametrize(
        "bad", [{"patients": -1}, {"rows_per_patient": 0}, {"design_effect": math.nan}]
    )
    def test_bad_numbers(self, bad):
        with pytest.raises(ValueError, match="A study has 0 or more patients"):
            assess(FULL, **({"patients": 10} | bad))

    def test_bad_level(self):
        with pytest.raises(ValueError, match="level must lie"):
            assess(FULL, 10, level=1)


def test_design_effect():
    assert design_effect(0.026385, 0.016550) == pytest.approx(2.54, abs=0.005)
    for bad in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="Standard errors must be above 0"):
            design_effect(0.1, bad)


def test_months_needed():
    assert months_needed(471, 40) == 12
    assert months_needed(480, 40) == 12
    assert months_needed(3, 0.1) == 30
    with pytest.raises(ValueError, match="more than 0 patients a month, got 0"):
        months_needed(3, 0)
