"""Recalibration against statsmodels, scikit-learn and plain loops over folds."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from medssl.stats import calibration as cal
from medssl.stats.bootstrap import Patients
from medssl.stats.recalibration import (
    METHODS,
    Update,
    admitted,
    chosen,
    fit,
    judge,
    out_of_fold,
    recalibrate_by_patients,
)

pytestmark = pytest.mark.filterwarnings("error")


def draw(seed, patients, images, a, b, mean=-0.5):
    rng = np.random.default_rng(seed)
    x = (rng.normal(mean, 1.2, (patients, 1)) + rng.normal(0, 0.6, (patients, images))).ravel()
    y = (rng.random(x.size) < expit(a + b * x)).astype(int)
    return y, expit(x), np.repeat(np.arange(patients), images)


def with_events(ill, well, images=1):
    """Rows of patients who have events only, or none."""
    y = np.repeat(np.r_[np.ones(ill), np.zeros(well)], images)
    return y, np.repeat(np.arange(ill + well), images)


class TestRule:
    @pytest.mark.parametrize(
        ("ill", "well", "expected"),
        [
            (99, 500, METHODS[:2]),
            (100, 500, METHODS[:3]),
            (199, 500, METHODS[:3]),
            (200, 199, METHODS[:3]),
            (200, 200, METHODS),
        ],
    )
    def test_what_is_admitted(self, ill, well, expected):
        y, patient = with_events(ill, well)
        assert admitted(y, patient) == expected
        assert chosen(y, patient) == ("intercept" if ill < 100 else "intercept+slope")

    def test_events_are_counted_in_patients(self):
        y, patient = with_events(99, 300, images=5)
        assert y.sum() == 495
        assert chosen(y, patient) == "intercept"

    def test_the_result_plays_no_part(self):
        y, p, patient = draw(1, 400, 1, 0, 1)
        better, worse = judge(y, p, patient, resamples=5), judge(y, 1 - p, patient, resamples=5)
        assert better.best == worse.best == chosen(y, patient) == "intercept+slope"
        assert str(better.patients_with) in better.rule


class TestFit:
    def test_equals_statsmodels(self):
        y, p, _ = draw(2, 600, 1, 0.4, 0.6)
        x = logit(p)
        whole = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial()).fit(tol=1e-12)
        found = fit("intercept+slope", y, p)
        assert (found.a, found.b) == pytest.approx(tuple(whole.params), abs=1e-7)
        np.testing.assert_allclose(found.apply(p), whole.fittedvalues, atol=1e-8)
        only = sm.GLM(y, np.ones(600), family=sm.families.Binomial(), offset=x).fit(tol=1e-12)
        found = fit("intercept", y, p)
        assert (found.a, found.b) == pytest.approx((only.params[0], 1.0), abs=1e-7)

    def test_isotonic_equals_scikit_learn_but_for_its_ends(self):
        y, p, _ = draw(3, 500, 1, 0.4, 0.6)
        model = IsotonicRegression(out_of_bounds="clip").fit(p, y)
        new = np.random.default_rng(0).random(200)
        expected = np.clip(model.predict(new), 1 / 502, 501 / 502)
        np.testing.assert_allclose(fit("isotonic", y, p).apply(new), expected, atol=1e-12)

    def test_isotonic_equals_pooling_adjacent_violators_by_hand(self):
        found = fit("isotonic", [0, 1, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        blocks = [1 / 8, 1 / 3, 1 / 3, 1 / 3, 7 / 8, 7 / 8]
        np.testing.assert_allclose(found.apply([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), blocks)

    def test_none_changes_nothing(self):
        p = np.array([0.0, 0.3, 1.0])
        np.testing.assert_array_equal(fit("none", [0, 1, 0], p).apply(p), p)

    def test_a_slope_that_does_not_exist_stays_one(self):
        found = fit("intercept+slope", [0, 0, 1, 1], [0.1, 0.2, 0.6, 0.7])
        assert found.b == 1.0
        assert found.apply([0.1, 0.2, 0.6, 0.7]).sum() == pytest.approx(2)

    @given(st.sampled_from(METHODS), st.integers(0, 50))
    @settings(deadline=None, max_examples=25)
    def test_survives_json(self, method, seed):
        y, p, _ = draw(seed, 80, 1, 0.5, 0.8)
        update = fit(method, y, p)
        again = Update(**json.loads(json.dumps(asdict(update))))
        new = np.linspace(0, 1, 33)
        np.testing.assert_array_equal(again.apply(new), update.apply(new))
        assert ((update.apply(new) >= 0) & (update.apply(new) <= 1)).all()
        assert (np.diff(update.apply(new)) >= -1e-12).all() or update.b < 0

    def test_refuses_with_a_sentence(self):
        with pytest.raises(ValueError, match="no update 'platt'"):
            fit("platt", [0, 1], [0.1, 0.2])
        for method in METHODS[1:]:
            with pytest.raises(ValueError, match="with and without an event; 2 of 2"):
                fit(method, [1, 1], [0.1, 0.2])
        with pytest.raises(ValueError, match="not be NaN"):
            Update("none").apply([0.1, np.nan])
        with pytest.raises(ValueError, match="no row"):
            fit("intercept", [], [])


class TestOutOfFold:
    @pytest.mark.parametrize("method", METHODS)
    def test_no_patient_is_updated_by_a_fit_that_saw_it(self, method):
        y, p, patient = draw(4, 60, 3, 0.3, 0.7)
        base = out_of_fold(method, y, p, patient, repeats=2, seed=5)
        for who in (0, 7, 31):
            own = patient == who
            flipped = np.where(own, 1 - y, y)
            # The patient's own outcomes must not move its own probabilities, if it keeps its kind.
            if len(set(y[own])) == 2:
                moved = out_of_fold(method, flipped, p, patient, repeats=2, seed=5)
                np.testing.assert_allclose(moved[:, own], base[:, own], atol=1e-12)

    def test_each_repeat_is_its_own_deal_and_seed(self):
        y, p, patient = draw(5, 80, 2, 0.3, 0.7)
        found = out_of_fold("intercept", y, p, patient, repeats=3, seed=4)
        for r in range(3):
            one = out_of_fold("intercept", y, p, patient, repeats=1, seed=4 + r)
            np.testing.assert_array_equal(found[r], one[0])
        assert (found[0] != found[1]).any()
        shift = np.round(logit(found[0]) - logit(p), 9)
        assert len(np.unique(shift)) == 5
        np.testing.assert_array_equal(
            recalibrate_by_patients(y, p, patient, seed=4),
            out_of_fold(chosen(y, patient), y, p, patient, repeats=1, seed=4)[0],
        )

    def test_folds_hold_equally_many_patients_with_events(self):
        y, patient = with_events(40, 85, images=2)
        p = np.linspace(0.1, 0.9, y.size)
        shift = np.round(logit(out_of_fold("intercept", y, p, patient, repeats=1)[0]) - logit(p), 9)
        for value in np.unique(shift):
            own = shift == value
            assert np.unique(patient[own & (y == 1)]).size == 8
            assert np.unique(patient[own & (y == 0)]).size == 17

    def test_refuses_with_a_sentence(self):
        with pytest.raises(ValueError, match="at least one repeat"):
            out_of_fold("none", [0, 1], [0.1, 0.2], [0, 1], repeats=0)
        with pytest.raises(ValueError, match="two folds"):
            out_of_fold("intercept", [0, 1, 1], [0.1, 0.2, 0.3], ["a", "a", "a"])


@pytest.fixture(scope="module")
def rows():
    """Three images each of 320 patients, for whom the model says too little and too surely."""
    return draw(6, 320, 3, 0.6, 0.6)


@pytest.fixture(scope="module")
def judgement(rows):
    return judge(*rows, repeats=3, resamples=60, seed=2)


class TestJudge:
    def test_values_are_means_over_repeats(self, rows, judgement):
        y, p, patient = rows
        assert [m.method for m in judgement.methods] == list(admitted(y, patient))
        for m in judgement.methods:
            each = out_of_fold(m.method, y, p, patient, repeats=3, seed=2)
            expected = {
                "slope": [cal.slope(y, q) for q in each],
                "intercept": [cal.intercept_in_the_large(y, q) for q in each],
                "oe": [y.sum() / q.sum() for q in each],
                "brier": [brier_score_loss(y, q) for q in each],
                "ici": [cal.integrated_calibration_index(y, q) for q in each],
                "log_loss": [log_loss(y, q) for q in each],
            }
            for name, values in expected.items():
                assert getattr(m, name).value == pytest.approx(np.mean(values), abs=1e-9), name

    def test_limits_hold_the_predictions_fixed(self, rows, judgement):
        y, p, patient = rows
        groups, rng = Patients.of(patient), np.random.default_rng(2)
        drawn = [groups.rows(rng.integers(0, 320, 320)) for _ in range(60)]
        m = judgement.methods[2]
        each = out_of_fold(m.method, y, p, patient, repeats=3, seed=2)
        brier = [np.mean([brier_score_loss(y[r], q[r]) for q in each]) for r in drawn]
        oe = [np.mean([y[r].sum() / q[r].sum() for q in each]) for r in drawn]
        slope = [cal.slope(y[r], each[b % 3][r]) for b, r in enumerate(drawn)]
        for name, values in (("brier", brier), ("oe", oe), ("slope", slope)):
            found = getattr(m, name)
            limits = np.quantile(values, [0.025, 0.975])
            assert (found.lower, found.upper) == pytest.approx(tuple(limits), abs=1e-6), name
            assert (found.patients, found.n, found.resamples) == (320, 960, 60)

    def test_an_update_brings_slope_and_oe_home(self, judgement):
        before, shift, line = judgement.methods[:3]
        assert before.slope.upper < 0.9
        assert before.oe.lower > 1.1
        assert shift.oe.value == pytest.approx(1, abs=0.01)
        assert shift.slope.value < 0.8
        assert line.slope.lower < 1 < line.slope.upper
        assert line.brier.value < shift.brier.value < before.brier.value
        assert line.ici.lower <= line.ici.value <= line.ici.upper
        assert judgement.folds == 5

    def test_fewer_methods_and_their_refusal(self, rows):
        y, p, patient = rows
        found = judge(y, p, patient, methods=["none"], repeats=2, resamples=10)
        assert [m.method for m in found.methods] == ["none"]
        few = patient < 60
        with pytest.raises(
            ValueError, match=r"carry the updates none, intercept; asked for were iso"
        ):
            judge(y[few], p[few], patient[few], methods=["isotonic"])
        with pytest.raises(ValueError, match="none at all"):
            judge(y, p, patient, methods=[])

    def test_a_slope_that_no_repeat_has_is_none(self):
        y, p = np.r_[np.zeros(15), np.ones(15)], np.linspace(0.1, 0.9, 30)
        found = judge(y, p, np.arange(30), repeats=2, resamples=20)
        assert found.methods[0].slope.value is None
        assert "Not computable" in found.methods[0].slope.note
        assert found.methods[0].oe.lower is not None

    def test_refuses_with_a_sentence(self):
        with pytest.raises(ValueError, match="two folds"):
            judge([0, 0, 0], [0.1, 0.2, 0.3], [0, 1, 2])
        with pytest.raises(ValueError, match="no row"):
            judge([], [], [])
        with pytest.raises(ValueError, match="patient entries"):
            judge([0, 1], [0.1, 0.2], [0])
