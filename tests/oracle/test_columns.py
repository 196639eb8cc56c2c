"""Columns compared patient by patient: scipy, plain loops, and reference values."""

import numpy as np
import pytest
from conftest import PROOF
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

from medssl.stats import embeddings
from medssl.stats.columns import compare_levels, compare_numbers, standardised_difference
from medssl.stats.outputs import output_shift

pytestmark = pytest.mark.filterwarnings("error")


def one_each(*values):
    """Source and target columns with one row a patient, as arguments."""
    return tuple(part for v in values for part in (v, np.arange(len(v))))


def images(g, patients, each, sd=1.0, noise=0.5):
    """A column with a patient effect: (values, patients)."""
    value = g.normal(0, sd, (patients, 1)) + g.normal(0, noise, (patients, each))
    return value.ravel(), np.repeat(np.arange(patients), each)


def p_by_loops(statistic, source, target, permutations, seed):
    """Permutation p of a statistic of one entry per patient, labelling by labelling."""
    pooled, rng = [*source, *target], np.random.default_rng(seed)
    site = np.repeat([0, 1], [len(source), len(target)])

    def value(labels):
        return statistic(
            *([v for v, s in zip(pooled, labels, strict=True) if s == k] for k in (0, 1))
        )

    truth = value(site)
    reached = sum(value(rng.permutation(site)) >= truth - 1e-12 for _ in range(permutations))
    return (1 + reached) / (1 + permutations)


class TestNumbers:
    def test_reference_values(self):
        g = np.random.default_rng(3)
        a, b = g.normal(60, 12, 500), g.normal(64, 12, 300)
        found = compare_numbers(*one_each(a, b))
        assert found.ks == pytest.approx(0.141333, abs=5e-7)
        assert found.wasserstein == pytest.approx(3.412865, abs=5e-7)
        assert found.smd == pytest.approx(0.281174, abs=5e-7)
        assert ks_2samp(a, b).pvalue == pytest.approx(0.0010088, abs=5e-8)
        assert found.value_p == found.p <= 0.005
        assert (found.source_absent, found.target_absent, found.absent_p) == (0, 0, 1)

    def test_equals_scipy_on_patient_means_with_ties(self):
        g = np.random.default_rng(51)
        a, b = g.integers(0, 6, 80).astype(float), g.integers(0, 7, 50).astype(float)
        pa, pb = g.integers(0, 25, 80), g.integers(0, 18, 50)
        means = [
            [round(v[p == i].mean(), 12) for i in dict.fromkeys(p.tolist())]
            for v, p in ((a, pa), (b, pb))
        ]
        found = compare_numbers(a, pa, b, pb, permutations=200, seed=5)
        assert found.ks == pytest.approx(ks_2samp(*means).statistic, abs=1e-12)
        assert found.wasserstein == pytest.approx(wasserstein_distance(*means), abs=1e-12)
        by_hand = p_by_loops(lambda x, y: ks_2samp(x, y).statistic, *means, 200, 5)
        assert found.p == pytest.approx(by_hand, abs=1e-12)
        assert 0.01 < found.p < 1

    def test_p_is_close_to_scipys(self):
        g = np.random.default_rng(52)
        a, b = g.normal(size=90), g.normal(0.3, 1, 70)
        found = compare_numbers(*one_each(a, b), permutations=5000)
        assert found.p == pytest.approx(ks_2samp(a, b).pvalue, abs=0.015)

    def test_absent_values_are_a_finding_of_their_own(self):
        g = np.random.default_rng(53)
        a, b = g.normal(size=60), g.normal(size=60)
        b[:30] = np.nan
        found = compare_numbers(*one_each(a, b))
        assert (found.source_absent, found.target_absent) == (0.0, 0.5)
        assert found.absent_p == 0.001
        assert found.value_p > 0.05
        assert found.p == 0.002
        assert found.ks == pytest.approx(ks_2samp(a, b[30:]).statistic)

    def test_absent_p_equals_loops(self):
        g = np.random.default_rng(54)
        (a, pa), (b, pb) = images(g, 12, 4), images(g, 9, 4)
        a[g.random(48) < 0.2] = np.nan
        b[g.random(36) < 0.4] = np.nan
        gone = [np.isnan(v).reshape(-1, 4).mean(axis=1) for v in (a, b)]
        found = compare_numbers(a, pa, b, pb, permutations=99, seed=2)
        by_hand = p_by_loops(lambda x, y: abs(np.mean(x) - np.mean(y)), *gone, 99, 2)
        assert found.absent_p == pytest.approx(by_hand)
        assert found.p == pytest.approx(min(1, 2 * min(found.absent_p, found.value_p)))
        # A patient's mean is that of the values he has.
        means = [np.nanmean(v.reshape(-1, 4), axis=1) for v in (a, b)]
        assert found.ks == pytest.approx(ks_2samp(*means).statistic)
        assert found.wasserstein == pytest.approx(wasserstein_distance(*means))

    def test_nothing_but_absent_values(self):
        gone, here = [None] * 20, list(range(20))
        both = compare_numbers(*one_each(gone, gone))
        assert (both.ks, both.smd, both.wasserstein, both.value_p) == (None,) * 4
        assert (both.p, both.note) == (1.0, "No patient of either site has a value.")
        one = compare_numbers(*one_each(here, gone))
        assert (one.value_p, one.absent_p, one.p) == (None, 0.001, 0.001)
        assert one.note == "No patient of the target has a value."
        assert "source" in compare_numbers(*one_each(gone, here)).note

    def test_a_constant_column_is_no_shift_and_two_constants_are(self):
        same = compare_numbers([0.1] * 9, [0, 0, 0, 1, 1, 2, 3, 4, 4], [0.1] * 5, np.arange(5))
        assert (same.ks, same.smd, same.p) == (0, 0, 1)
        assert same.wasserstein == pytest.approx(0, abs=1e-15)
        apart = compare_numbers(*one_each(np.full(20, 0.1), np.full(20, 0.3)))
        assert (apart.ks, apart.smd) == (1.0, None)
        assert apart.p <= 0.01
        assert "standardised" in apart.note

    def test_false_alarms_are_rare_by_patient_and_common_by_row(self):
        g = np.random.default_rng(55)
        trials = 1000 if PROOF else 150
        alarms, by_row = 0, 0
        for seed in range(trials):
            # Equally many patients would leave the distance few values and p conservative.
            (a, pa), (b, pb) = images(g, 30, 10), images(g, 31, 10)
            alarms += compare_numbers(a, pa, b, pb, permutations=99, seed=seed).p <= 0.05
            by_row += ks_2samp(a, b).pvalue <= 0.05
        assert (0.03 if PROOF else 0.005) <= alarms / trials <= (0.07 if PROOF else 0.12)
        assert by_row / trials >= 0.45

    def test_blocks_change_nothing(self, monkeypatch):
        g = np.random.default_rng(56)
        columns = one_each(g.normal(size=40), g.normal(0.5, 1, 30))
        whole = compare_numbers(*columns)
        monkeypatch.setattr(embeddings, "BLOCK", 500)
        assert compare_numbers(*columns) == whole

    def test_refusals_are_sentences(self):
        x, p = np.ones(4), np.arange(4)
        with pytest.raises(ValueError, match="1 infinite values"):
            compare_numbers([1, np.inf], [0, 1], x, p)
        with pytest.raises(ValueError, match="one finite number per row"):
            compare_numbers(np.ones((4, 2)), p, x, p)
        with pytest.raises(ValueError, match="target site has 1 patient"):
            compare_numbers(x, p, x, 0 * p)
        with pytest.raises(ValueError, match="source site has 0 patient"):
            compare_numbers([], [], x, p)
        with pytest.raises(ValueError, match="source patients must be one name per row"):
            compare_numbers(x, p[:3], x, p)
        with pytest.raises(ValueError, match="at least one permutation"):
            compare_numbers(x, p, x, p, permutations=0)


class TestStandardisedDifference:
    def test_by_hand(self):
        assert standardised_difference([0, 2], [3, 7]) == pytest.approx(4 / np.sqrt((2 + 8) / 2))
        assert standardised_difference([5, 5], [5, 5]) == 0
        assert standardised_difference([5, 5], [6, 6]) is None
        assert standardised_difference([5], [6, 7]) is None


class TestLevels:
    def test_reference_values(self):
        table = np.array([[120, 80], [90, 110]])
        source, target = (np.repeat(["F", "M"], row) for row in table)
        found = compare_levels(*one_each(source, target), permutations=4999)
        assert found.chi2 == pytest.approx(9.02256, abs=5e-6)
        assert found.cramers_v == pytest.approx(0.150188, abs=5e-7)
        plain, yates = (chi2_contingency(table, correction=c) for c in (False, True))
        assert plain.pvalue == pytest.approx(0.0026667, abs=5e-8)
        assert yates.statistic == pytest.approx(8.43108, abs=5e-6)
        assert yates.pvalue == pytest.approx(0.0036886, abs=5e-8)
        # The permutation p is exact where these two approximate from either side.
        assert found.p == pytest.approx(yates.pvalue, abs=0.0025)

    def test_equals_scipy_with_many_levels(self):
        g = np.random.default_rng(61)
        source, target = g.choice(list("abcde"), 70), g.choice(list("abce"), 50)
        names = sorted(set(source) | set(target))
        table = [[int(np.sum(v == n)) for n in names] for v in (source, target)]
        found = compare_levels(*one_each(source, target), permutations=5000)
        expected = chi2_contingency(table)
        assert found.chi2 == pytest.approx(expected.statistic)
        assert found.cramers_v == pytest.approx(np.sqrt(expected.statistic / 120))
        assert found.p == pytest.approx(expected.pvalue, abs=0.03)
        assert sum(found.source_share) == pytest.approx(1)

    def test_p_equals_loops_over_shares_of_patients(self):
        g = np.random.default_rng(62)
        pa, pb = g.integers(0, 9, 30), g.integers(0, 7, 25)
        a, b = g.choice(list("xyz"), 30), g.choice(list("xxyz"), 25)

        def shares(value, who):
            return [
                [np.mean(value[who == i] == n) for n in "xyz"] for i in dict.fromkeys(who.tolist())
            ]

        def chi2(one, two):
            table = np.array([np.sum(one, axis=0), np.sum(two, axis=0)])
            expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
            return ((table - expected) ** 2 / expected).sum()

        found = compare_levels(a, pa, b, pb, permutations=150, seed=8)
        assert found.chi2 == pytest.approx(chi2(shares(a, pa), shares(b, pb)))
        assert found.p == pytest.approx(p_by_loops(chi2, shares(a, pa), shares(b, pb), 150, 8))

    def test_levels_never_seen_at_the_source_come_with_their_images(self):
        source = ["GE"] * 10 + ["Philips"] * 5
        target = ["GE"] * 3 + ["Canon"] * 2 + ["Fuji"] * 4 + [None, float("nan"), " ", ""]
        found = compare_levels(source, np.arange(15), target, np.arange(13) // 2)
        assert found.unseen == (("Fuji", 4), ("absent", 4), ("Canon", 2))
        assert found.levels[0] == "GE"
        assert set(found.levels) == {"GE", "Philips", "Canon", "Fuji", "absent"}
        assert found.source_share[0] == pytest.approx(10 / 15)

    def test_absent_is_a_level(self):
        found = compare_levels(*one_each(["a"] * 30, ["a"] * 15 + [None] * 15))
        assert found.p <= 0.002
        assert dict(zip(found.levels, found.target_share, strict=True)) == {"a": 0.5, "absent": 0.5}

    def test_one_level_is_nothing_to_compare(self):
        same = compare_levels(*one_each(["a"] * 9, ["a"] * 5))
        assert (same.chi2, same.cramers_v, same.p) == (0.0, None, 1.0)
        assert "'a'" in same.note
        gone = compare_levels(*one_each([None] * 4, [""] * 5))
        assert "'absent'" in gone.note
        assert gone.unseen == ()

    def test_numbers_and_truths_are_compared_as_text(self):
        found = compare_levels(*one_each(np.array([True, False, True]), np.array([True, False])))
        assert set(found.levels) == {"True", "False"}
        assert compare_levels(*one_each(np.array([1, 2, 2]), ["1", "2"])).unseen == ()

    def test_false_alarms_are_rare_by_patient_and_common_by_row(self):
        g = np.random.default_rng(63)
        trials = 1000 if PROOF else 150
        alarms, by_row = 0, 0
        for seed in range(trials):
            (a, pa), (b, pb) = images(g, 30, 10), images(g, 30, 10)
            one, two = np.where(a > 0.3, "old", "young"), np.where(b > 0.3, "old", "young")
            alarms += compare_levels(one, pa, two, pb, permutations=99, seed=seed).p <= 0.05
            table = [[np.sum(v == n) for n in ("old", "young")] for v in (one, two)]
            by_row += chi2_contingency(table, correction=False).pvalue <= 0.05
        assert (0.03 if PROOF else 0.005) <= alarms / trials <= (0.07 if PROOF else 0.12)
        assert by_row / trials >= 0.35

    def test_refusals_are_sentences(self):
        with pytest.raises(ValueError, match="target site has 1 patient"):
            compare_levels(["a", "b"], [0, 1], ["a", "b"], [0, 0])
        with pytest.raises(ValueError, match="source patients must be one name per row"):
            compare_levels(["a", "b"], [0], ["a", "b"], [0, 1])


class TestOutputs:
    def test_equals_scipy_on_patient_means_with_holm(self):
        g = np.random.default_rng(71)
        a, b = g.normal(size=(90, 3)), g.normal(size=(60, 3)) + np.array([0.0, 0.5, 1.2])
        pa, pb = np.arange(90) // 3, np.arange(60) // 2
        found = output_shift(a, pa, b, pb)
        for k in range(3):
            means = a[:, k].reshape(-1, 3).mean(axis=1), b[:, k].reshape(-1, 2).mean(axis=1)
            assert found.ks[k] == pytest.approx(ks_2samp(*means).statistic)
        low, middle, high = np.sort(found.each_p)
        expected = np.maximum.accumulate([3 * low, 2 * middle, high])
        assert np.sort(found.adjusted_p).tolist() == pytest.approx(np.minimum(expected, 1).tolist())
        assert found.p == min(found.adjusted_p) == pytest.approx(3 * low)
        assert found.adjusted_p[2] < 0.01 < found.adjusted_p[0]
        assert (found.source_patients, found.target_patients) == (30, 30)

    def test_one_output_needs_no_holm(self):
        g = np.random.default_rng(72)
        found = output_shift(*one_each(g.random(30), g.random(20)), permutations=99)
        assert found.adjusted_p == found.each_p == (found.p,)

    def test_constant_outputs_are_no_shift(self):
        assert output_shift(*one_each(np.ones((5, 2)), np.ones((4, 2)))).p == 1.0

    def test_refusals_are_sentences(self):
        x = np.ones((4, 2))
        with pytest.raises(ValueError, match="finite numbers"):
            output_shift(*one_each(x * np.nan, x))
        with pytest.raises(ValueError, match="2 and 1 outputs"):
            output_shift(*one_each(x, x[:, :1]))
