"""Drift over months against statsmodels, scipy, plain loops, and simulation."""

import numpy as np
import pytest
import statsmodels.api as sm
from conftest import PROOF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import kstest, norm, poisson
from sklearn.metrics import roc_auc_score

from medssl.stats.cusum import cusum
from medssl.stats.drift import monthly, poisson_ratio, trend

pytestmark = pytest.mark.filterwarnings("error")


def record(seed, patients, images, months=12, change=0.0, since=6, alike=0.0):
    """Patients of one visit each: y, p, patient, month; log-odds change by `change` from `since`.

    `alike` correlates the outcomes of a patient's images beyond p, leaving each one's chance at p.
    """
    rng = np.random.default_rng(seed)
    when = rng.integers(0, months, patients)
    x = np.repeat(rng.normal(-0.5, 1, patients), images) + rng.normal(0, 0.3, patients * images)
    luck = np.sqrt(alike) * np.repeat(rng.normal(size=patients), images)
    luck += np.sqrt(1 - alike) * rng.normal(size=x.size)
    y = norm.cdf(luck) < expit(x + np.repeat(change * (when >= since), images))
    names = np.array([f"{2023 + m // 12}-{m % 12 + 1:02d}" for m in range(months)])
    return y, expit(x), np.repeat(np.arange(patients), images), np.repeat(names[when], images)


class TestMonthly:
    def test_equals_loops(self):
        y, p, patient, month = record(1, 400, 2)
        table = monthly(y, p, patient, month)
        assert [r.month for r in table.rows] == sorted(set(month))
        assert table.gaps == ()
        for row in table.rows:
            own = month == row.month
            assert (row.n, row.events) == (own.sum(), y[own].sum())
            assert row.patients == len(set(patient[own]))
            assert row.expected == pytest.approx(p[own].sum())
            assert row.oe == pytest.approx(y[own].sum() / p[own].sum())
            assert row.auroc == pytest.approx(roc_auc_score(y[own], p[own]))
            # Wider than rows alone would say, by the spread of O - r E over patients.
            who = sorted(set(patient[own]))
            excess = [
                (y[own & (patient == w)] - row.oe * p[own & (patient == w)]).sum() for w in who
            ]
            spread = len(who) / (len(who) - 1) * np.dot(excess, excess)
            effect = max(1.0, spread / row.events)
            low, high = poisson_ratio(row.events / effect, row.expected / effect)
            assert (row.lower, row.upper) == pytest.approx((low, high))
            assert row.note == ""

    def test_limits_hold_the_truth_with_several_images_a_patient(self):
        """One hundred months of 40 patients x 10 images whose O/E is 1; rows alone hold half."""
        held = []
        for seed in range(100):
            g = np.random.default_rng(seed)
            patient = np.repeat(np.arange(40), 10)
            y = np.repeat((g.random(40) < 0.3).astype(int), 10)
            month = np.full(400, "2024-01")
            (row,) = monthly(y, np.full(400, 0.3), patient, month).rows
            held.append(row.lower <= 1 <= row.upper)
        assert np.mean(held) > 0.88

    def test_one_row_each_has_no_note(self):
        assert all(r.note == "" for r in monthly(*record(2, 400, 1)).rows)

    @given(st.integers(0, 60), st.floats(0.1, 80), st.sampled_from([0.9, 0.95]))
    @settings(deadline=None)
    def test_poisson_limits_are_exact(self, events, expected, level):
        lower, upper = poisson_ratio(events, expected, level)
        tail = (1 - level) / 2
        assert poisson.cdf(events, upper * expected) == pytest.approx(tail)
        if events:
            assert poisson.sf(events - 1, lower * expected) == pytest.approx(tail)
        else:
            assert lower == 0
        assert lower <= events / expected <= upper

    def test_gaps_across_a_new_year_and_undated_rows(self):
        month = np.array(["2023-11", "2024-02", None, "", "NaT", np.nan], dtype=object)
        table = monthly([0, 1, 0, 1, 0, 1], [0.2] * 6, np.arange(6), month)
        assert table.gaps == ("2023-12", "2024-01")
        assert table.undated == 4
        assert "4 rows have no month" in table.note
        assert "2023-12, 2024-01" in table.note
        assert [r.month for r in table.rows] == ["2023-11", "2024-02"]
        assert sum(r.n for r in table.rows) == 2

    def test_dates_of_numpy_are_months(self):
        month = np.array(["2024-01", "2024-02", "NaT"], dtype="datetime64[M]")
        assert [r.month for r in monthly([0, 1, 1], [0.5] * 3, [0, 1, 2], month).rows] == [
            "2024-01",
            "2024-02",
        ]

    def test_few_patients_have_counts_only(self):
        y, p = np.array([1, 0] * 8), np.full(16, 0.4)
        patient = np.r_[np.repeat(np.arange(4), 2), np.arange(10, 18)]
        month = np.repeat(["2024-01", "2024-02"], 8)
        four, eight = monthly(y, p, patient, month).rows
        assert (four.n, four.patients, four.events) == (8, 4, 4)
        assert four.oe is four.lower is four.auroc is None
        assert "Fewer than 5 patients" in four.note
        assert eight.oe == pytest.approx(4 / 3.2)
        assert eight.auroc is None
        assert "AUROC needs 5 patients of either kind, not 4" in eight.note

    def test_no_expected_event(self):
        row = monthly([0] * 6, [0.0] * 6, np.arange(6), ["2024-01"] * 6).rows[0]
        assert row.oe is None
        assert "No event is expected" in row.note

    def test_refuses_with_a_sentence(self):
        good = ([0, 1], [0.1, 0.2], [0, 1])
        with pytest.raises(ValueError, match="do not: 2024-13, Jan 2024"):
            monthly(*good, ["2024-13", "Jan 2024"])
        with pytest.raises(ValueError, match="No row has a month"):
            monthly(*good, ["", None])
        with pytest.raises(ValueError, match="1 months for 2 rows"):
            monthly(*good, ["2024-01"])
        with pytest.raises(ValueError, match="95 is usual"):
            monthly(*good, ["2024-01"] * 2, level=95)
        with pytest.raises(ValueError, match="no row"):
            monthly([], [], [], [])
        with pytest.raises(ValueError, match="expected > 0"):
            poisson_ratio(1, 0.0)


class TestCusum:
    def test_the_path_by_loops(self):
        y, p, patient, month = record(3, 200, 2)
        names = sorted(set(month))
        for against, residual in (("zero", y - p), ("itself", (y - p) - (y - p).mean())):
            scale = np.sqrt(sum(residual[patient == i].sum() ** 2 for i in range(200)))
            path = [residual[month <= m].sum() / scale for m in names]
            found = cusum(y, p, patient, month, against=against, permutations=19)
            np.testing.assert_allclose(found.path, path, atol=1e-12)
            assert found.months == tuple(names)
            assert found.statistic == pytest.approx(np.abs(path).max())
            assert 0.05 <= found.p <= 1

    def test_permuting_months_equals_relabelling_patients(self):
        y, p, patient, month = record(4, 60, 1, months=4)
        residual = (y - p) - (y - p).mean()
        scale, rng = np.sqrt(residual @ residual), np.random.default_rng(8)
        names, reached = sorted(set(month)), 0
        found = cusum(y, p, patient, month, permutations=99, seed=8)
        for _ in range(99):
            moved = month[rng.permutation(60)]
            path = [residual[moved <= m].sum() / scale for m in names]
            reached += np.abs(path).max() >= found.statistic - 1e-9
        assert found.p == pytest.approx((1 + reached) / 100)

    def test_finds_a_change_and_names_a_month_after_it(self):
        rows = record(5, 1200, 2, change=1.5, since=6)
        for against in ("itself", "zero"):
            found = cusum(*rows, against=against, seed=1)
            assert found.p == 1 / 1000
            assert found.statistic > found.limit
            assert found.crossed is not None
        assert "2023-07" <= cusum(*rows, against="zero").crossed <= "2023-10"

    def test_constant_miscalibration_is_no_change_but_not_zero(self):
        y, p, patient, month = record(6, 900, 1)
        wrong = expit(logit(p) + 0.6)
        assert cusum(y, wrong, patient, month, against="zero").p < 0.01
        assert cusum(y, wrong, patient, month, against="itself").p > 0.05

    @pytest.mark.parametrize("against", ["itself", "zero"])
    def test_false_alarms_with_several_images_a_patient(self, against):
        runs = 1000 if PROOF else 120
        alarms = [
            cusum(*record(50 + r, 120, 6, alike=0.5), against=against, permutations=99, seed=r).p
            <= 0.05
            for r in range(runs)
        ]
        torn = []
        for r in range(0, runs, 3):
            y, p, _, month = record(50 + r, 120, 6, alike=0.5)
            p_row = cusum(y, p, np.arange(y.size), month, against=against, permutations=99).p
            torn.append(p_row <= 0.05)
        assert np.mean(alarms) <= (0.07 if PROOF else 0.11)
        assert np.mean(torn) > 0.2

    def test_p_is_uniform_without_drift(self):
        runs = 600 if PROOF else 100
        found = [cusum(*record(900 + r, 80, 2), permutations=99, seed=r).p for r in range(runs)]
        assert kstest(np.array(found) - 0.005, "uniform").pvalue > 0.005

    def test_patients_of_several_months_move_as_wholes(self):
        y, p, _, month = record(7, 90, 1, months=6)
        found = cusum(y, p, np.arange(90) // 3, month, permutations=49)
        assert found.patients == 30
        assert found.limit is not None

    def test_without_partners_there_is_no_limit(self):
        patient = np.repeat(np.arange(12), np.arange(1, 13))
        rng = np.random.default_rng(0)
        y, p = rng.random(patient.size) < 0.4, np.full(patient.size, 0.4)
        month = np.where(rng.random(patient.size) < 0.5, "2024-01", "2024-03")
        found = cusum(y, p, patient, month)
        assert found.limit is found.p is None
        assert "only 0 of 12 patients" in found.note
        assert found.months == ("2024-01", "2024-02", "2024-03")
        assert cusum(y, p, patient, month, against="zero", permutations=19).p is not None

    def test_degenerate_records(self):
        one = cusum([0, 1], [0.5, 0.5], [0, 1], ["2024-01"] * 2)
        assert "one month" in one.note
        sure = cusum([0, 1], [0.0, 1.0], [0, 1], ["2024-01", "2024-02"], against="zero")
        assert "No" in sure.note
        assert sure.path.tolist() == [0, 0]

    def test_refuses_with_a_sentence(self):
        rows = record(8, 20, 1)
        with pytest.raises(ValueError, match="against 'itself' or 'zero'"):
            cusum(*rows, against="nothing")
        with pytest.raises(ValueError, match="permutations >= 1"):
            cusum(*rows, permutations=0)


class TestTrend:
    def test_equals_gee_and_a_sandwich_by_hand(self):
        y, p, patient, month = record(9, 300, 3, change=0.8, alike=0.3)
        found = trend(y, p, patient, month)
        t = np.array([int(m[5:]) - 1.0 for m in month])
        design = np.c_[np.ones(t.size), t]
        gee = sm.GEE(
            y.astype(float), design, groups=patient, family=sm.families.Binomial(), offset=logit(p)
        ).fit(ctol=1e-10)
        assert found.per_month == pytest.approx(gee.params[1], abs=1e-6)
        q = expit(logit(p) + design @ gee.params)
        bread = np.linalg.inv((design * (q * (1 - q))[:, None]).T @ design)
        score = np.array(
            [((y - q)[:, None] * design)[patient == i].sum(axis=0) for i in range(300)]
        )
        meat = score.T @ score
        se = np.sqrt((bread @ meat @ bread)[1, 1])
        # Statsmodels' small-sample factor: G / (G - 1) (n - 1) / (n - k).
        factor = np.sqrt(300 / 299 * 899 / 898)
        assert found.se == pytest.approx(se * factor, rel=1e-5)
        assert found.lower == pytest.approx(found.per_month - 1.959964 * found.se, rel=1e-5)
        assert found.per_month > 0.05
        assert (found.span, found.n, found.patients, found.note) == (12, 900, 300, "")

    def test_months_are_those_of_the_calendar(self):
        y, p, patient, month = record(10, 300, 1, months=2, change=1.0, since=1)
        apart = np.where(month == "2023-01", "2023-01", "2024-01")
        near, far = trend(y, p, patient, month), trend(y, p, patient, apart)
        assert far.per_month == pytest.approx(near.per_month / 12)
        assert far.span == 13

    def test_covers_with_several_images_a_patient(self):
        runs = 600 if PROOF else 100
        hits = rows = 0
        for r in range(runs):
            y, p, patient, month = record(3000 + r, 120, 8, alike=0.8)
            found = trend(y, p, patient, month)
            hits += found.lower <= 0 <= found.upper
            torn = trend(y, p, np.arange(y.size), month)
            rows += torn.lower <= 0 <= torn.upper
        assert hits / runs >= (0.92 if PROOF else 0.88)
        assert rows / runs < 0.85

    def test_what_cannot_be_fitted_is_none_with_a_note(self):
        four = ([0, 0, 1, 1], [0.4] * 4, [0, 1, 2, 3])
        found = trend(*four, ["2024-01", "2024-01", "2024-02", "2024-02"])
        assert found.per_month is None
        assert "different months" in found.note
        assert "one month" in trend(*four, ["2024-01"] * 4).note
        mixed = ["2024-01", "2024-02", "2024-01", "2024-02"]
        assert "one class" in trend([0] * 4, *four[1:], mixed).note
        assert "one patient" in trend(*four[:2], [0] * 4, mixed).note
        assert "too small" in trend(*four, mixed).note
        with pytest.raises(ValueError, match="95 is usual"):
            trend(*four, mixed, level=0)
