"""New prevalences without labels: loops, general optimisers and reference values."""

import numpy as np
import pytest
from conftest import PROOF
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax

from medssl.stats import embeddings
from medssl.stats.label_shift import black_box_prevalence, expected_prevalence

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def recipe():
    """Outcomes and probabilities of the reference's two sites."""
    g, out = np.random.default_rng(4), []
    for n, share in ((4000, 0.3), (2000, 0.6)):
        y = g.random(n) < share
        x = g.normal(1.5 * y, 1)
        out.extend([y.astype(int), expit(logit(0.3) + 1.5 * x - 1.125)])
    return out


def three(g, n, prevalence, quality=2.0):
    """Three classes: (labels, predictions) of n images by a classifier that errs."""
    label = g.choice(3, n, p=prevalence)
    score = g.normal(size=(n, 3))
    score[np.arange(n), label] += quality
    return label, score.argmax(axis=1)


class TestBlackBox:
    def test_reference_value(self, recipe):
        y, p, new, q = recipe
        found = black_box_prevalence(
            y, (p >= 0.5).astype(int), np.arange(4000), (q >= 0.5).astype(int), np.arange(2000), 2
        )
        assert found.value[1] == pytest.approx(0.551945, abs=5e-7)
        assert found.lower[1] < new.mean() + 0.03
        assert found.lower[1] < found.value[1] < found.upper[1]
        assert found.note == ""

    def test_equals_loops_with_three_classes(self):
        g = np.random.default_rng(91)
        label, said = three(g, 600, [0.5, 0.3, 0.2])
        truth, new = three(g, 500, [0.2, 0.2, 0.6])
        found = black_box_prevalence(label, said, np.arange(600) // 3, new, np.arange(500) // 2, 3)
        c = [[np.mean(said[label == j] == i) for j in range(3)] for i in range(3)]
        mu = [np.mean(new == i) for i in range(3)]
        np.testing.assert_allclose(found.value, np.linalg.solve(c, mu), atol=1e-12)
        np.testing.assert_array_equal(found.value, found.raw)
        assert found.condition == pytest.approx(np.linalg.cond(c))
        shares = np.bincount(truth) / 500
        assert ((found.lower < shares) & (shares < found.upper)).all()
        assert (found.source_patients, found.target_patients) == (200, 250)

    def test_interval_equals_a_bootstrap_by_loops(self):
        g = np.random.default_rng(92)
        label, said = three(g, 300, [0.5, 0.3, 0.2])
        _, new = three(g, 200, [0.2, 0.2, 0.6])
        one, two = g.integers(0, 60, 300), g.integers(0, 40, 200)
        found = black_box_prevalence(label, said, one, new, two, 3, resamples=4000)
        drawn = []
        for _ in range(600):
            rows = np.concatenate([np.flatnonzero(one == i) for i in g.choice(np.unique(one), 60)])
            far = np.concatenate([np.flatnonzero(two == i) for i in g.choice(np.unique(two), 40)])
            y, s = label[rows], said[rows]
            c = [[np.mean(s[y == j] == i) for j in range(3)] for i in range(3)]
            drawn.append(np.linalg.solve(c, np.bincount(new[far], minlength=3) / far.size))
        lower, upper = np.quantile(drawn, [0.025, 0.975], axis=0)
        np.testing.assert_allclose(found.lower, np.clip(lower, 0, None), atol=0.025)
        np.testing.assert_allclose(found.upper, upper, atol=0.025)

    def test_the_interval_covers_and_knows_of_patients(self):
        g = np.random.default_rng(93)
        trials, hits, narrow = 400 if PROOF else 60, 0, 0
        for _ in range(trials):
            label, said = three(g, 400, [0.6, 0.2, 0.2])
            # Four images of each patient share the class.
            own = g.choice(3, 60, p=[0.3, 0.3, 0.4])
            score = g.normal(size=(240, 3))
            score[np.arange(240), np.repeat(own, 4)] += 2.0
            new, who = score.argmax(axis=1), np.repeat(np.arange(60), 4)
            pair = label, said, np.arange(400), new
            by_patient = black_box_prevalence(*pair, who, 3, resamples=400)
            by_row = black_box_prevalence(*pair, np.arange(240), 3, resamples=400)
            hits += by_patient.lower[2] <= 0.4 <= by_patient.upper[2]
            narrow += by_row.lower[2] <= 0.4 <= by_row.upper[2]
        assert hits / trials == pytest.approx(0.95, abs=0.03 if PROOF else 0.07)
        assert narrow / trials < 0.85

    def test_a_classifier_that_knows_nothing_is_refused(self):
        g = np.random.default_rng(94)
        y, said, new = g.integers(0, 2, 400), g.integers(0, 2, 400), g.integers(0, 2, 300)
        found = black_box_prevalence(y, said, np.arange(400), new, np.arange(300), 2)
        assert (found.value, found.lower, found.upper, found.raw) == (None,) * 4
        assert "hardly tells the classes apart" in found.note
        constant = black_box_prevalence(y, 0 * said, np.arange(400), new, np.arange(300), 2)
        assert constant.value is None
        assert constant.condition is None
        assert "hardly tells" in constant.note

    def test_a_class_that_the_source_lacks_is_named(self):
        y, who = np.array([0, 0, 2, 2]), np.arange(4)
        found = black_box_prevalence(y, y, who, y, who, 3)
        assert found.value is None
        assert found.note == "Not computable: no source row has class 1."

    def test_negative_shares_are_clipped_and_doubted(self):
        y = np.repeat([0, 1], 100)
        said = np.r_[np.repeat([0, 1], [60, 40]), np.repeat([0, 1], [20, 80])]
        found = black_box_prevalence(y, said, np.arange(200), np.zeros(50), np.arange(50), 2)
        # (0.6 - 1) / (0.6 - 0.2) of class 1.
        np.testing.assert_allclose(found.raw, [2.0, -1.0])
        assert found.value.tolist() == [1.0, 0.0]
        assert "doubt" in found.note

    def test_too_few_patients_have_no_interval(self):
        y = np.repeat([0, 1], [40, 2])
        found = black_box_prevalence(y, y, np.arange(42), y, np.arange(42), 2)
        assert found.value is not None
        assert found.lower is None
        assert "could not be solved" in found.note
        one = black_box_prevalence(y, y, np.arange(42), y, np.zeros(42), 2)
        assert one.lower is None
        assert "one patient" in one.note

    def test_blocks_and_seeds(self, monkeypatch):
        g = np.random.default_rng(95)
        label, said = three(g, 100, [0.4, 0.3, 0.3])
        arguments = label, said, np.arange(100), said, np.arange(100), 3
        whole = black_box_prevalence(*arguments, seed=1)
        monkeypatch.setattr(embeddings, "BLOCK", 20_000)
        parts = black_box_prevalence(*arguments, seed=1)
        np.testing.assert_allclose(parts.lower, whole.lower, atol=0.02)
        again = black_box_prevalence(*arguments, seed=1)
        np.testing.assert_array_equal(parts.lower, again.lower)

    def test_refusals_are_sentences(self):
        y, who = np.array([0, 1, 1]), np.arange(3)
        with pytest.raises(ValueError, match="two classes"):
            black_box_prevalence(y, y, who, y, who, 1)
        with pytest.raises(ValueError, match="from 0 to 1"):
            black_box_prevalence(y + 1, y, who, y, who, 2)
        with pytest.raises(ValueError, match="target predictions must be one code per row"):
            black_box_prevalence(y, y, who, [], [], 2)
        with pytest.raises(ValueError, match="source predictions must be one code per row"):
            black_box_prevalence(y, y[:2], who, y, who, 2)


class TestExpected:
    def test_reference_values(self, recipe):
        _, _, new, q = recipe
        found = expected_prevalence([0.7, 0.3], np.c_[1 - q, q])
        assert found.value[1] == pytest.approx(0.589392, abs=5e-7)
        assert new.mean() == pytest.approx(0.592)
        p = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
        assert expected_prevalence([0.5, 0.5], np.c_[1 - p, p]).value[1] == pytest.approx(
            0.399940, abs=5e-7
        )

    def test_equals_a_general_optimiser_with_three_classes(self):
        g = np.random.default_rng(96)
        prior = np.array([0.5, 0.3, 0.2])
        label = g.choice(3, 800, p=[0.2, 0.3, 0.5])
        x = g.normal(size=(800, 3)) + 1.5 * np.eye(3)[label]
        p = softmax(1.5 * x + np.log(prior), axis=1)
        found = expected_prevalence(prior, p)

        def lost(free):
            share = softmax(np.r_[0, free])
            return -np.log((p / prior) @ share).mean()

        best = softmax(np.r_[0, minimize(lost, [0, 0], tol=1e-12).x])
        np.testing.assert_allclose(found.value, best, atol=1e-5)
        np.testing.assert_allclose(found.value, [0.2, 0.3, 0.5], atol=0.06)
        assert found.value.sum() == pytest.approx(1)

    def test_the_prior_stays_where_nothing_has_changed(self):
        g = np.random.default_rng(97)
        x = g.normal(1.5 * (g.random(20_000) < 0.3), 1)
        p = expit(logit(0.3) + 1.5 * x - 1.125)
        assert expected_prevalence([0.7, 0.3], np.c_[1 - p, p]).value[1] == pytest.approx(
            0.3, abs=0.015
        )

    def test_sure_rows_are_counted(self):
        p = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
        assert expected_prevalence([0.5, 0.5], p).value.tolist() == pytest.approx([0.6, 0.4])

    def test_equal_rows_are_not_computable(self):
        found = expected_prevalence([0.5, 0.5], np.full((6, 2), 0.5))
        assert found.value is None
        assert "all rows have the same" in found.note

    def test_weak_probabilities_do_not_settle(self):
        p = 0.5 + np.tile([1e-3, -0.9e-3], 50)
        found = expected_prevalence([0.5, 0.5], np.c_[1 - p, p])
        assert (found.value, found.steps) == (None, 10_000)
        assert "hardly tell" in found.note

    def test_refusals_are_sentences(self):
        p = np.full((3, 2), 0.5)
        with pytest.raises(ValueError, match="must be above 0"):
            expected_prevalence([1.0, 0.0], p)
        with pytest.raises(ValueError, match="sum to one"):
            expected_prevalence([0.5, 0.5], p * 0.9)
        with pytest.raises(ValueError, match=r"\[m, K\]"):
            expected_prevalence([0.5, 0.3, 0.2], p)
        with pytest.raises(ValueError, match="no row"):
            expected_prevalence([0.5, 0.5], np.empty((0, 2)))
        with pytest.raises(ValueError, match="sum to one"):
            expected_prevalence([0.5, 0.5], p * np.nan)
