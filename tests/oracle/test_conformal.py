"""Conformal sets and selective risk against MAPIE, loops, simulated patients, and reference values."""

import math
import warnings

import numpy as np
import pytest
from conftest import PROOF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from statsmodels.stats.proportion import proportion_confint

from medssl.stats.bootstrap import Patients
from medssl.stats.conformal import (
    calibrate,
    counted_aurc,
    decisions,
    one_row_per_patient,
    prediction_sets,
    risk_coverage,
    set_coverage,
)

pytestmark = pytest.mark.filterwarnings("error")

CAL, TEST, ONE = slice(0, 600), slice(600, 1200), np.arange(600)


def mapie_limit(codes, p):
    """Split conformal limit and a function from probabilities to sets, by MAPIE."""
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """Hands its input back as probabilities."""

        def fit(self, x, y):
            self.classes_ = np.arange(x.shape[1])
            return self

        def predict_proba(self, x):
            return x

        def predict(self, x):
            return x.argmax(axis=1)

    model = Given().fit(p, codes)
    split = SplitConformalClassifier(model, confidence_level=0.9, prefit=True)
    with warnings.catch_warnings():
        # It warns of classes that do not occur; here it is asked for one class at a time.
        warnings.simplefilter("ignore", UserWarning)
        split.conformalize(p, codes)
    split.predict_set(p)
    limit = split._mapie_classifier.conformity_score_function_.quantiles_[0]
    return limit, lambda q: split.predict_set(q)[1][:, :, 0]


def both(p):
    return np.column_stack([1 - p, p])


class TestCalibrate:
    def test_reference_values_plain(self, r1):
        y, p, _ = r1
        rule = calibrate(y[CAL], p[CAL], ONE, by_class=False)
        misfit = np.sort(np.where(y[CAL] == 1, 1 - p[CAL], p[CAL]))
        # ceil(601 * 0.9) = 541: MAPIE's limit too. The reference's 0.812430 is what np.quantile
        # makes of 541/600 with method "higher", which counts from rank 0: the 542nd, one too many.
        assert rule.limit == pytest.approx([misfit[540]] * 2)
        assert misfit[541] == pytest.approx(0.812430, abs=5e-7)
        assert np.quantile(misfit, 541 / 600, method="higher") == misfit[541]
        assert rule.patients.tolist() == [600, 600]
        every, zero, one = set_coverage(prediction_sets(rule, p[TEST]), y[TEST], ONE)
        assert every.coverage == pytest.approx(0.9, abs=5e-4)
        assert (every.single, every.unsure, every.empty) == (271, 329, 0)
        assert (zero.coverage, one.coverage) == pytest.approx((0.988, 0.780), abs=5e-4)
        assert every.mean_size == pytest.approx((271 + 2 * 329) / 600)

    def test_reference_values_by_class(self, r1):
        y, p, _ = r1
        rule = calibrate(y[CAL], p[CAL], ONE)
        ranked = [np.sort((p if k == 0 else 1 - p)[CAL][y[CAL] == k]) for k in (0, 1)]
        ranks = [math.ceil((r.size + 1) * 0.9) for r in ranked]
        assert rule.limit == pytest.approx([r[k - 1] for r, k in zip(ranked, ranks, strict=True)])
        # The reference is one rank further here as well; with its limits we count what it counts.
        further = [r[k] for r, k in zip(ranked, ranks, strict=True)]
        assert further == pytest.approx([0.544350, 0.927969], abs=5e-7)
        every, zero, one = set_coverage(both(1 - p[TEST]) <= further, y[TEST], ONE)
        assert (zero.coverage, one.coverage) == pytest.approx((0.948, 0.953), abs=5e-4)
        assert (every.single, every.unsure) == (161, 439)
        own = set_coverage(prediction_sets(rule, p[TEST]), y[TEST], ONE)
        assert [c.coverage for c in own[1:]] == pytest.approx([0.948, 0.949], abs=5e-4)

    def test_equals_mapie(self, r1):
        y, p, _ = r1
        limit, sets = mapie_limit(y[CAL], both(p[CAL]))
        rule = calibrate(y[CAL], p[CAL], ONE, by_class=False)
        assert rule.limit == pytest.approx([limit] * 2, abs=1e-12)
        np.testing.assert_array_equal(prediction_sets(rule, p[TEST]), sets(both(p[TEST])))

    def test_equals_mapie_with_four_classes_and_by_class(self):
        g = np.random.default_rng(0)
        p = softmax(g.normal(0, 1.5, (900, 4)), axis=1)
        y = np.array([g.choice(4, p=row) for row in p])
        half, rest = slice(0, 450), slice(450, 900)
        limit, sets = mapie_limit(y[half], p[half])
        plain = calibrate(y[half], p[half], np.arange(450), by_class=False)
        assert plain.limit == pytest.approx([limit] * 4, abs=1e-12)
        np.testing.assert_array_equal(prediction_sets(plain, p[rest]), sets(p[rest]))
        by_class = calibrate(y[half], p[half], np.arange(450)).limit
        for k in range(4):
            only = np.flatnonzero(y[half] == k)
            # MAPIE knows no classes of its own: one run on the rows of each is the same.
            limit, _ = mapie_limit(y[half][only], p[half][only])
            assert by_class[k] == pytest.approx(limit, abs=1e-12)

    @pytest.mark.parametrize(("n", "alpha", "rank"), [(9, 0.1, 9), (29, 0.1, 27), (99, 0.07, 93)])
    def test_ranks_at_whole_numbers(self, n, alpha, rank):
        p = np.linspace(0.99, 0.01, n)
        rule = calibrate(np.ones(n, int), p, np.arange(n), alpha=alpha, by_class=False)
        assert rule.limit[1] == pytest.approx((1 - p)[rank - 1])

    @pytest.mark.parametrize("by_class", [False, True])
    def test_new_patients_are_covered_as_promised(self, by_class):
        """Images of a patient alike, calibrated on few patients: coverage over many hospitals."""
        g, runs = np.random.default_rng(3), 5000 if PROOF else 500
        hits, rows = np.zeros(2), np.zeros(2)
        for _ in range(runs):
            u, label = g.normal(size=80), (g.random(80) < 0.3).astype(int)
            patient = np.repeat(np.arange(80), g.integers(1, 8, 80))
            y = label[patient]
            p = expit(1.5 * (y - 1.0) + u[patient] + g.normal(0, 0.3, y.size))
            old = patient < 60
            rule = calibrate(y[old], p[old], patient[old], alpha=0.2, by_class=by_class)
            sets = prediction_sets(rule, p[~old])
            for c in set_coverage(sets, y[~old], patient[~old])[1:]:
                hits[int(c.name)] += c.covered
                rows[int(c.name)] += c.patients
        assert hits.sum() / rows.sum() >= 0.8 - (0.004 if PROOF else 0.015)
        worst = (hits / rows).min()
        assert (worst >= 0.79) if by_class else (worst < 0.7)

    def test_many_images_of_one_patient_do_not_outvote_the_others(self):
        y = np.ones(1009, int)
        p = np.r_[np.full(1000, 0.01), np.linspace(0.55, 0.95, 9)]
        patient = np.r_[np.zeros(1000, int), np.arange(1, 10)]
        rule = calibrate(y, p, patient, alpha=0.2, by_class=False)
        assert rule.patients[1] == 10
        assert rule.limit[1] == pytest.approx(0.45)
        assert calibrate(y, p, np.arange(1009), alpha=0.2, by_class=False).limit[1] > 0.98

    def test_a_class_with_too_few_patients_is_always_in_the_set(self):
        y, p = np.r_[np.zeros(50, int), 1, 1], np.r_[np.full(50, 0.1), 0.9, 0.8]
        rule = calibrate(y, p, np.arange(52))
        assert np.isfinite(rule.limit).tolist() == [True, False]
        assert rule.patients.tolist() == [50, 2]
        assert "takes 9 each: every set holds class 1 (2 patients)" in rule.note
        assert prediction_sets(rule, [0.01, 0.5])[:, 1].all()
        absent = calibrate(np.zeros(50, int), p[:50], np.arange(50))
        assert "class 1 (0 patients)" in absent.note

    def test_one_patient(self):
        rule = calibrate([0, 0], [0.2, 0.3], ["a", "a"], by_class=False)
        assert np.isinf(rule.limit).all()
        assert prediction_sets(rule, [0.5]).all()

    def test_constant_scores_give_full_sets(self):
        y = np.array([0, 1] * 20)
        assert prediction_sets(calibrate(y, np.full(40, 0.5), np.arange(40)), [0.5]).all()

    def test_bad_input(self):
        with pytest.raises(ValueError, match="Alpha must lie between 0 and 1, got 10"):
            calibrate([0, 1], [0.1, 0.2], [0, 1], alpha=10)
        with pytest.raises(ValueError, match="no logits and no unscored rows"):
            calibrate([0, 1], [0.1, np.nan], [0, 1])
        with pytest.raises(ValueError, match="no logits"):
            calibrate([0, 1], [0.1, 2.0], [0, 1])
        with pytest.raises(ValueError, match="whole numbers from 0 to 1"):
            calibrate([0, 2], [0.1, 0.2], [0, 1])
        with pytest.raises(ValueError, match="3 patient entries for 2 rows"):
            calibrate([0, 1], [0.1, 0.2], [0, 1, 2])
        with pytest.raises(ValueError, match="a row at least"):
            calibrate([], [], [])
        with pytest.raises(ValueError, match="K >= 2"):
            calibrate([0, 0], [[0.1], [0.2]], [0, 1])
        with pytest.raises(ValueError, match="The rule knows 2 classes"):
            prediction_sets(calibrate([0, 1], [0.1, 0.2], [0, 1]), [[0.1, 0.2, 0.7]])


class TestOneRowPerPatient:
    def test_one_of_each_and_each_as_likely(self):
        patient = np.array(["b", "a", "b", "c", "b", "a"])
        drawn = np.array([one_row_per_patient(patient, seed) for seed in range(3000)])
        assert all(list(patient[row]) == ["b", "a", "c"] for row in drawn)
        assert np.bincount(drawn[:, 0], minlength=5)[[0, 2, 4]] / 3000 == pytest.approx(
            1 / 3, abs=0.03
        )
        assert one_row_per_patient(patient, 5).tolist() == drawn[5].tolist()

    def test_names_do_not_matter_and_nobody_is_nobody(self):
        patient = np.array([3, 1, 3, 2])
        np.testing.assert_array_equal(
            one_row_per_patient(patient, 4), one_row_per_patient(["x", "q", "x", "a"], 4)
        )
        assert one_row_per_patient([]).size == 0
        with pytest.raises(ValueError, match="1-D"):
            one_row_per_patient([[1, 2]])


class TestSetCoverage:
    def test_parts_by_hand(self):
        sets = [[1, 0], [1, 1], [0, 0], [0, 1], [1, 0]]
        found = set_coverage(sets, [0, 1, 1, 1, 1], np.arange(5), group=["f", "m", "f", "f", "m"])
        table = {(c.part, c.name): c for c in found}
        assert [(c.part, c.name) for c in found] == [
            ("all", "all"), ("class", "0"), ("class", "1"), ("group", "f"), ("group", "m")
        ]  # fmt: skip
        every = table["all", "all"]
        assert (every.patients, every.covered, every.coverage) == (5, 3, 0.6)
        assert (every.empty, every.single, every.unsure, every.mean_size) == (1, 3, 1, 1.0)
        assert table["class", "1"].coverage == 0.5
        assert table["group", "m"].covered == 1
        expected = proportion_confint(2, 3, method="wilson")
        assert (table["group", "f"].lower, table["group", "f"].upper) == pytest.approx(expected)

    def test_each_patient_counts_once(self):
        held = np.repeat([[True, False], [False, True]], [90, 10], axis=0)
        found = set_coverage(held, np.zeros(100, int), np.r_[np.zeros(90), np.arange(1, 11)])
        assert (found[0].patients, found[0].covered) == (11, 1)

    def test_a_class_that_does_not_occur_has_no_coverage(self):
        found = set_coverage([[1, 1]], [0], ["a"])[2]
        assert (found.patients, found.coverage, found.lower, found.mean_size) == (
            0,
            None,
            None,
            None,
        )

    def test_bad_input(self):
        with pytest.raises(ValueError, match="one name per row, got shape"):
            set_coverage([[1, 1]], [0], ["a"], group=["f", "m"])
        with pytest.raises(ValueError, match="a row at least"):
            set_coverage(np.zeros((0, 2)), [], [])


def aurc_by_loops(wrong, confidence):
    """Mean error of the k surest rows, in the order of a stable sort."""
    order = sorted(range(len(wrong)), key=lambda i: -confidence[i])
    risks = [np.mean([wrong[i] for i in order[:k]]) for k in range(1, len(wrong) + 1)]
    return risks, float(np.mean(risks))


class TestRiskCoverage:
    def test_reference_values(self, r1):
        y, p, _ = r1
        wrong, confidence = decisions(y, p)
        found = risk_coverage(wrong, confidence)
        assert wrong.mean() == pytest.approx(0.345, abs=5e-7)
        assert found.aurc == pytest.approx(0.239029, abs=5e-7)
        assert found.at(0.5) == pytest.approx(0.24)
        assert found.at(1) == found.risk[-1] == pytest.approx(0.345)

    def test_equals_loops_without_ties(self):
        g = np.random.default_rng(1)
        wrong, confidence = g.random(200) < 0.3, g.random(200)
        risks, mean = aurc_by_loops(wrong, confidence)
        found = risk_coverage(wrong, confidence)
        np.testing.assert_allclose(found.risk, risks)
        assert found.aurc == pytest.approx(mean)
        assert (np.diff(found.confidence) <= 0).all()

    def test_ties_are_the_mean_over_all_orders(self):
        g = np.random.default_rng(2)
        wrong, confidence = g.random(12) < 0.4, g.integers(0, 4, 12)
        means = []
        for _ in range(4000):
            order = g.permutation(12)
            means.append(aurc_by_loops(wrong[order], confidence[order])[1])
        found = risk_coverage(wrong, confidence).aurc
        assert found == pytest.approx(np.mean(means), abs=0.005)
        order = g.permutation(12)
        assert risk_coverage(wrong[order], confidence[order]).aurc == pytest.approx(
            found, abs=1e-12
        )

    def test_constant_confidence_is_the_error(self):
        found = risk_coverage([1, 0, 0, 1], [0.5] * 4)
        assert found.risk == pytest.approx([0.5] * 4)
        assert found.aurc == pytest.approx(0.5)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="not empty"):
            risk_coverage([], [])
        with pytest.raises(ValueError, match="confidence is NaN"):
            risk_coverage([0], [np.nan])
        with pytest.raises(ValueError, match="above 0 and up to 1, got 0"):
            risk_coverage([0, 1], [1, 2]).at(0)


class TestDecisions:
    def test_half_is_class_one(self):
        wrong, confidence = decisions([1, 0, 1, 0], [0.5, 0.5, 0.2, 0.1])
        assert wrong.tolist() == [False, True, True, False]
        assert confidence == pytest.approx([0.5, 0.5, 0.8, 0.9])

    def test_more_classes(self):
        wrong, confidence = decisions([2, 0], [[0.1, 0.2, 0.7], [0.2, 0.5, 0.3]])
        assert wrong.tolist() == [False, True]
        assert confidence == pytest.approx([0.7, 0.5])


class TestCountedAurc:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=25
        ),
        st.integers(0, 10_000),
    )
    def test_equals_the_rows_drawn(self, rows, seed):
        wrong, confidence, patient = (np.array(c) for c in zip(*rows, strict=True))
        groups = Patients.of(patient)
        g = np.random.default_rng(seed)
        draws = [g.integers(0, groups.count, groups.count) for _ in range(3)]
        counts = np.array([np.bincount(d, minlength=groups.count) for d in draws])
        found = counted_aurc(wrong, confidence, groups)(counts)
        for value, drawn in zip(found, draws, strict=True):
            picked = groups.rows(drawn)
            expected = risk_coverage(wrong[picked], confidence[picked]).aurc
            assert value == pytest.approx(expected, abs=1e-10)

    def test_nobody_drawn_is_not_a_number(self):
        statistic = counted_aurc([0, 1], [0.6, 0.7], Patients.of(["a", "b"]))
        found = statistic(np.array([[0, 0], [1, 1]]))
        assert np.isnan(found[0])
        assert found[1] == pytest.approx(0.75)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="1 patient entries for 2 rows"):
            counted_aurc([0, 1], [0.6, 0.7], Patients.of(["a"]))
