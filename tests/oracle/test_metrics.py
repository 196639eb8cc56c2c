"""Discrimination and operating points against loops, scikit-learn and reference values."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve
from statsmodels.stats.proportion import proportion_confint

from medssl.stats.metrics import (
    Operating,
    auroc,
    average_precision,
    brier,
    macro_auroc,
    operating,
    threshold_for_sensitivity,
    wilson,
    youden_threshold,
)

pytestmark = pytest.mark.filterwarnings("error")


# Few distinct scores, so that ties between and within the classes are the rule.
rows = st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4)), min_size=1, max_size=40)
mixed = rows.filter(lambda r: {y for y, _ in r} == {0, 1})


def by_pairs(y, s):
    """AUROC by its definition."""
    good = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, i in zip(s, y, strict=True)
        if i == 1
        for b, j in zip(s, y, strict=True)
        if j == 0
    ]
    return sum(good) / len(good)


def split(pairs):
    y, s = zip(*pairs, strict=True)
    return np.array(y), np.array(s, dtype=float)


class TestAuroc:
    def test_reference_values(self, r1):
        y, p, q = r1
        assert auroc(y, p) == pytest.approx(0.705244, abs=5e-7)
        assert auroc(y, q) == pytest.approx(0.682895, abs=5e-7)
        assert auroc([0, 0, 0, 1, 1, 1], [0.1, 0.4, 0.4, 0.4, 0.8, 0.9]) == 8 / 9

    @given(mixed)
    @settings(deadline=None)
    def test_equals_the_loop_over_all_pairs(self, pairs):
        y, s = split(pairs)
        assert auroc(y, s) == pytest.approx(by_pairs(y, s), abs=1e-14)

    def test_equals_scikit_learn_on_many_tied_rows(self, r1):
        y, p, _ = r1
        coarse = np.round(p, 2)
        assert auroc(y, coarse) == pytest.approx(roc_auc_score(y, coarse), abs=1e-12)

    @given(mixed)
    @settings(deadline=None)
    def test_mirror(self, pairs):
        y, s = split(pairs)
        assert auroc(y, -s) == pytest.approx(1 - auroc(y, s), abs=1e-14)
        assert auroc(1 - y, s) == pytest.approx(1 - auroc(y, s), abs=1e-14)

    @given(mixed)
    @settings(deadline=None)
    def test_only_the_order_of_scores_counts(self, pairs):
        y, s = split(pairs)
        assert auroc(y, np.exp(s) * 3 - 7) == auroc(y, s)

    @given(mixed, st.randoms(use_true_random=False))
    @settings(deadline=None)
    def test_the_order_of_rows_does_not_count_to_the_last_bit(self, pairs, random):
        shuffled = list(pairs)
        random.shuffle(shuffled)
        assert auroc(*split(pairs)) == auroc(*split(shuffled))

    @pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1], []])
    def test_one_class_is_not_computable_and_never_a_half(self, y):
        assert auroc(y, np.arange(len(y), dtype=float)) is None

    def test_constant_score_is_a_half(self):
        assert auroc([0, 1, 1], [0.2, 0.2, 0.2]) == 0.5

    def test_infinite_scores_rank(self):
        assert auroc([0, 1, 0, 1], [-np.inf, np.inf, 0.0, 1.0]) == 1.0

    @pytest.mark.parametrize("dtype", [bool, np.int8, float, object])
    def test_outcomes_of_any_dtype(self, dtype):
        assert auroc(np.array([0, 1, 0, 1], dtype=dtype), [0.1, 0.2, 0.3, 0.4]) == 0.75

    def test_does_not_change_its_input(self):
        y, s = np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.2, 0.3])
        auroc(y, s)
        average_precision(y, s)
        assert y.tolist() == [1, 0, 1, 0]
        assert s.tolist() == [0.9, 0.1, 0.2, 0.3]

    @pytest.mark.parametrize(
        ("y", "s", "sentence"),
        [
            ([0, 1], [0.1], "equally long"),
            ([[0, 1]], [[0.1, 0.2]], "1-D"),
            ([0, 2], [0.1, 0.2], "only 0 and 1"),
            ([0, np.nan], [0.1, 0.2], "only 0 and 1"),
            ([0, 1], [0.1, np.nan], "NaN"),
        ],
    )
    def test_refuses_what_has_no_rank(self, y, s, sentence):
        with pytest.raises(ValueError, match=sentence):
            auroc(y, s)


class TestAveragePrecision:
    def test_reference_value(self, r1):
        y, p, _ = r1
        assert average_precision(y, p) == pytest.approx(0.591049, abs=1e-6)

    @given(mixed)
    @settings(deadline=None)
    def test_equals_scikit_learn(self, pairs):
        y, s = split(pairs)
        assert average_precision(y, s) == pytest.approx(average_precision_score(y, s), abs=1e-12)

    @pytest.mark.parametrize("y", [[0, 0], [1, 1], []])
    def test_one_class_is_not_computable(self, y):
        assert average_precision(y, np.ones(len(y))) is None

    def test_constant_score_gives_the_prevalence(self):
        assert average_precision([0, 1, 0, 0], [1, 1, 1, 1]) == 0.25


class TestBrier:
    def test_reference_value(self, r1):
        y, p, _ = r1
        assert brier(y, p) == pytest.approx(0.228685, abs=5e-7)
        assert brier(y, p) == pytest.approx(brier_score_loss(y, p), abs=1e-12)

    def test_refuses_logits_and_nothing(self):
        with pytest.raises(ValueError, match="not its logits"):
            brier([0, 1], [-2.0, 3.0])
        with pytest.raises(ValueError, match="no row"):
            brier([], [])


class TestOperating:
    def test_reference_counts_and_rates(self, r1):
        y, p, _ = r1
        at = operating(y, p, 0.25)
        assert at == Operating(0.25, tp=308, fp=239, fn=170, tn=483)
        assert at.sensitivity == pytest.approx(0.644351, abs=5e-7)
        assert at.specificity == pytest.approx(0.668975, abs=5e-7)
        assert at.ppv == pytest.approx(0.563071, abs=5e-7)
        assert at.npv == pytest.approx(0.739663, abs=5e-7)
        assert at.alerts_per_100 == pytest.approx(45.58, abs=5e-3)
        assert at.n == 1200

    @given(rows, st.integers(-5, 5))
    @settings(deadline=None)
    def test_equals_counting_row_by_row(self, pairs, threshold):
        at = operating(*split(pairs), threshold)
        cells = [(y, s >= threshold) for y, s in pairs]
        assert (at.tp, at.fp) == (cells.count((1, True)), cells.count((0, True)))
        assert (at.fn, at.tn) == (cells.count((1, False)), cells.count((0, False)))

    def test_a_score_at_the_threshold_is_flagged(self):
        assert operating([1, 0], [0.5, 0.4], 0.5).tp == 1

    def test_rates_without_a_denominator_are_none(self):
        ill = operating([1, 1], [0.1, 0.2], 0.5)
        assert (ill.sensitivity, ill.specificity, ill.ppv, ill.npv) == (0.0, None, None, 0.0)
        well = operating([0], [0.9], 0.5)
        assert (well.sensitivity, well.specificity, well.ppv, well.npv) == (None, 0.0, 0.0, None)
        assert operating([], [], 0.5).alerts_per_100 is None

    def test_refuses_a_missing_threshold(self):
        with pytest.raises(ValueError, match="threshold is NaN"):
            operating([0, 1], [0.1, 0.2], math.nan)

    def test_is_frozen(self):
        with pytest.raises(AttributeError):
            operating([0, 1], [0.1, 0.2], 0.1).tp = 3


class TestWilson:
    @pytest.mark.parametrize(
        ("k", "n", "lower", "upper"),
        [
            (308, 478, 0.6004, 0.6860),
            (483, 722, 0.6338, 0.7023),
            (308, 547, 0.5212, 0.6041),
            (483, 653, 0.7047, 0.7718),
        ],
    )
    def test_reference_values(self, k, n, lower, upper):
        assert wilson(k, n) == pytest.approx((lower, upper), abs=5e-5)

    def test_reference_edges(self):
        assert wilson(0, 20) == pytest.approx((0, 0.16113), abs=5e-6)
        assert wilson(18, 20) == pytest.approx((0.69897, 0.97213), abs=5e-6)
        assert wilson(0, 20)[0] == 0.0
        assert wilson(20, 20)[1] == 1.0
        assert wilson(0, 0) == (0.0, 1.0)

    @given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.8, 0.95, 0.99]))
    @settings(deadline=None)
    def test_equals_statsmodels(self, a, b, level):
        n = max(1, a, b)
        expected = proportion_confint(min(a, b), n, alpha=1 - level, method="wilson")
        assert wilson(min(a, b), n, level) == pytest.approx(expected, abs=1e-12)

    def test_refuses_impossible_counts(self):
        with pytest.raises(ValueError, match="between 0 and the 5 trials"):
            wilson(6, 5)
        with pytest.raises(ValueError, match="level"):
            wilson(1, 5, 95)


class TestMacro:
    def test_equals_scikit_learn_when_all_classes_occur(self):
        rng = np.random.default_rng(3)
        codes = rng.integers(0, 4, 300)
        scores = expit(rng.normal(size=(300, 4)) + np.eye(4)[codes])
        scores /= scores.sum(axis=1, keepdims=True)
        expected = roc_auc_score(codes, scores, multi_class="ovr", average="macro")
        assert macro_auroc(codes, scores) == pytest.approx(expected, abs=1e-12)

    def test_absent_classes_are_left_out(self):
        codes = np.array([0, 0, 2, 2, 2])
        scores = np.array([[3, 9, 1], [1, 9, 2], [2, 9, 3], [0, 9, 2], [0, 9, 9.0]])
        each = [by_pairs(codes == k, scores[:, k]) for k in (0, 2)]
        assert macro_auroc(codes, scores) == pytest.approx(sum(each) / 2)

    def test_two_classes_with_mirrored_scores_equal_the_binary_value(self, r1):
        y, p, _ = r1
        assert macro_auroc(y, np.c_[1 - p, p]) == pytest.approx(auroc(y, p), abs=1e-12)

    def test_fewer_than_two_classes_are_not_computable(self):
        assert macro_auroc([1, 1], np.ones((2, 3))) is None
        assert macro_auroc([], np.ones((0, 3))) is None

    def test_refuses_codes_without_a_column(self):
        with pytest.raises(ValueError, match="from 0 to 2"):
            macro_auroc([0, 3], np.ones((2, 3)))
        with pytest.raises(ValueError, match="from 0 to 2"):
            macro_auroc([0, -1], np.ones((2, 3)))
        with pytest.raises(ValueError, match=r"\[n, K\]"):
            macro_auroc([0, 1], np.ones(2))


class TestThresholds:
    def test_reference_value(self, r1):
        y, p, _ = r1
        t = threshold_for_sensitivity(y, p, 0.9)
        assert t == pytest.approx(0.096554, abs=5e-7)
        assert operating(y, p, t).specificity == pytest.approx(0.279778, abs=5e-7)

    @given(mixed, st.integers(1, 20))
    @settings(deadline=None)
    def test_no_higher_observed_score_reaches_the_target(self, pairs, twentieths):
        y, s = split(pairs)
        target = twentieths / 20
        t = threshold_for_sensitivity(y, s, target)
        enough = [u for u in set(s) if operating(y, s, u).sensitivity >= target]
        assert t == max(enough)

    @pytest.mark.parametrize("n", range(1, 60))
    def test_an_attainable_target_is_met_exactly(self, n):
        s = np.arange(n, dtype=float)
        for k in range(1, n + 1):
            t = threshold_for_sensitivity(np.ones(n), s, k / n)
            assert operating(np.ones(n), s, t).tp == k

    @given(mixed)
    @settings(deadline=None)
    def test_youden_equals_the_roc_curve(self, pairs):
        y, s = split(pairs)
        fpr, tpr, cut = roc_curve(y, s, drop_intermediate=False)
        t = youden_threshold(y, s)
        at = operating(y, s, t)
        best = (tpr - fpr)[1:].max()
        assert at.sensitivity + at.specificity - 1 == pytest.approx(best, abs=1e-12)
        assert t == max(cut[1:][np.isclose((tpr - fpr)[1:], best, atol=1e-12)])

    def test_refusals_are_sentences(self):
        with pytest.raises(ValueError, match="No row is positive"):
            threshold_for_sensitivity([0, 0], [0.1, 0.2], 0.9)
        with pytest.raises(ValueError, match="above 0 and up to 1"):
            threshold_for_sensitivity([0, 1], [0.1, 0.2], 0.0)
        with pytest.raises(ValueError, match="2 positive and 0 negative"):
            youden_threshold([1, 1], [0.1, 0.2])
