"""AUROC theory against pair loops, the jackknife, simulated patients, and reference values."""

import itertools
import math
import time

import numpy as np
import pytest
from conftest import PROOF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, ndtr
from sklearn.metrics import roc_auc_score

from medssl.stats import metrics
from medssl.stats.delong import AurocEstimate, clustered_auroc, paired, unpaired

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def r3():
    """The clustered set, 200 patients with 4 images and one label: y, two scores, patient."""
    g = np.random.default_rng(2)
    u = g.normal(0, 1, 200)
    label = (g.random(200) < expit(-0.5 + 1.5 * u)).astype(int)
    s = (u[:, None] + g.normal(0, 0.7, (200, 4))).ravel()
    s2 = (0.6 * u[:, None] + np.random.default_rng(9).normal(0, 0.9, (200, 4))).ravel()
    np.testing.assert_allclose(u[:3], [0.18905338, -0.52274844, -0.41306354], atol=1e-8)
    assert s.sum() == pytest.approx(-38.225709, abs=1e-6)
    return np.repeat(label, 4), s, s2, np.repeat(np.arange(200), 4)


def structural(y, s):
    """Placements by their definition: mean over the rows of the other kind, pair by pair."""
    psi = [[float(a > b) + 0.5 * (a == b) for b in s[y == 0]] for a in s[y == 1]]
    v10 = np.array([np.mean(row) for row in psi])
    return v10, np.array([np.mean(column) for column in zip(*psi, strict=True)])


def covariance_by_loops(y, a, b, patient):
    """Obuchowski's covariance written out patient by patient."""
    m, n = int((y == 1).sum()), int((y == 0).sum())
    sums = []
    for score in (a, b):
        v10, v01 = structural(y, score)
        auroc = v10.mean()
        ill, well = patient[y == 1], patient[y == 0]
        names = sorted(set(patient))
        sums.append(
            (
                [sum(v10[ill == i]) - (ill == i).sum() * auroc for i in names],
                [sum(v01[well == i]) - (well == i).sum() * auroc for i in names],
            )
        )
    (xa, ya), (xb, yb) = sums
    i10, i01, i = len(set(patient[y == 1])), len(set(patient[y == 0])), len(set(patient))
    s10 = i10 / ((i10 - 1) * m) * sum(u * v for u, v in zip(xa, xb, strict=True))
    s01 = i01 / ((i01 - 1) * n) * sum(u * v for u, v in zip(ya, yb, strict=True))
    s11 = i / (i - 1) * sum(u * v for u, v in zip(xa, yb, strict=True))
    s11 += i / (i - 1) * sum(u * v for u, v in zip(xb, ya, strict=True))
    return s10 / m + s01 / n + s11 / (m * n)


def jackknife_se(y, s, patient):
    """Standard error from leaving out one patient at a time."""
    names = np.unique(patient)
    left = [metrics.auroc(y[patient != i], s[patient != i]) for i in names]
    return math.sqrt((len(names) - 1) / len(names) * np.sum((left - np.mean(left)) ** 2))


def hospital(g, patients, mixed, shift=1.2, models=1):
    """Patients of one to five images, patient effect sd 1, image noise sd 0.7: y, scores, patient."""
    patient = np.repeat(np.arange(patients), g.integers(1, 6, patients))
    leaning = g.random(patients)
    y = g.random(patient.size) < leaning[patient] if mixed else leaning[patient] < 0.4
    common = g.normal(size=patients)
    scores = [
        shift * y + (common + g.normal(0, 0.3, patients))[patient] + g.normal(0, 0.7, patient.size)
        for _ in range(models)
    ]
    return y.astype(int), scores, patient


class TestClusteredAuroc:
    def test_reference_values_one_row_per_patient(self, r1):
        y, p, q = r1
        found = clustered_auroc(y, p, np.arange(len(y)))
        assert found.value == pytest.approx(0.705244, abs=5e-7)
        assert found.se == pytest.approx(0.0151566, abs=5e-8)
        assert (found.lower, found.upper) == pytest.approx((0.6747, 0.7341), abs=5e-5)
        assert found.naive_se == pytest.approx(found.se, rel=1e-12)
        assert found.design_effect == pytest.approx(1.0)
        assert found.note == ""
        second = clustered_auroc(y, q, np.arange(len(y)))
        assert (second.value, second.se) == pytest.approx((0.682895, 0.0156704), abs=5e-7)

    def test_reference_value_with_ties(self):
        found = clustered_auroc([0, 0, 0, 1, 1, 1], [0.1, 0.4, 0.4, 0.4, 0.8, 0.9], list("abcdef"))
        assert found.value == pytest.approx(8 / 9)
        assert found.se == pytest.approx(0.124226, abs=5e-7)

    def test_reference_values_of_clusters(self, r3):
        y, s, _, patient = r3
        found = clustered_auroc(y, s, patient)
        assert found.value == pytest.approx(0.768665, abs=5e-7)
        assert found.se == pytest.approx(0.026385, abs=5e-7)
        assert found.naive_se == pytest.approx(0.016550, abs=5e-7)
        assert found.design_effect == pytest.approx(2.54, abs=0.005)
        assert (found.patients, found.patients_positive, found.patients_negative) == (200, 87, 113)
        assert (found.positives, found.negatives) == (348, 452)

    def test_reference_value_of_the_mean_score_per_patient(self, r3):
        y, s, _, _ = r3
        found = clustered_auroc(y[::4], s.reshape(200, 4).mean(axis=1), np.arange(200))
        assert (found.value, found.se) == pytest.approx((0.817414, 0.029834), abs=5e-7)

    def test_naive_error_equals_structural_components(self, r3):
        y, s, _, patient = r3
        v10, v01 = structural(y, s)
        by_definition = np.var(v10, ddof=1) / v10.size + np.var(v01, ddof=1) / v01.size
        assert clustered_auroc(y, s, patient).naive_se == pytest.approx(math.sqrt(by_definition))

    def test_near_the_jackknife(self, r3):
        y, s, _, patient = r3
        jackknife = jackknife_se(y, s, patient)
        assert jackknife == pytest.approx(0.026457, abs=5e-7)
        assert clustered_auroc(y, s, patient).se == pytest.approx(jackknife, rel=0.01)

    @pytest.mark.parametrize("seed", range(3))
    def test_near_the_jackknife_with_mixed_patients(self, seed):
        y, (s,), patient = hospital(np.random.default_rng(seed), 150, mixed=True)
        found = clustered_auroc(y, s, patient).se
        assert found == pytest.approx(jackknife_se(y, s, patient), rel=0.03)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 5)),
            min_size=4,
            max_size=30,
        )
    )
    def test_equals_loops_whatever_the_ties_and_patients(self, rows):
        y, s, patient = (np.array(column) for column in zip(*rows, strict=True))
        found = clustered_auroc(y, s, patient)
        assert found.value == metrics.auroc(y, s)
        if len(set(patient[y == 1])) < 2 or len(set(patient[y == 0])) < 2:
            assert found.se is None
            assert found.note.startswith("Not computable")
            return
        expected = covariance_by_loops(y, s, s, patient)
        if found.se is None:
            assert expected == pytest.approx(0, abs=1e-12)
            assert "standard error would be zero" in found.note.replace("\n", " ")
        else:
            assert found.se**2 == pytest.approx(expected, rel=1e-9)
            assert 0 <= found.lower < found.value < found.upper <= 1

    def test_a_copy_of_every_row_changes_only_the_naive_error(self, r1):
        y, p, _ = r1
        once = clustered_auroc(y, p, np.arange(len(y)))
        twice = clustered_auroc(np.tile(y, 2), np.tile(p, 2), np.tile(np.arange(len(y)), 2))
        assert twice.value == pytest.approx(once.value)
        assert twice.se == pytest.approx(once.se)
        assert twice.design_effect == pytest.approx(2, rel=0.01)

    def test_order_names_and_scale_do_not_matter(self, r3):
        y, s, _, patient = r3
        order = np.random.default_rng(0).permutation(y.size)
        moved = clustered_auroc(y[order], np.exp(s[order]), [f"p{i}" for i in patient[order]])
        found = clustered_auroc(y, s, patient)
        assert moved.value == found.value
        assert (moved.se, moved.lower, moved.upper) == pytest.approx(
            (found.se, found.lower, found.upper), rel=1e-12
        )

    def test_a_wider_level_is_wider(self, r3):
        y, s, _, patient = r3
        wide, usual = (clustered_auroc(y, s, patient, level=k) for k in (0.99, 0.95))
        assert wide.lower < usual.lower < usual.upper < wide.upper
        gap = math.log(wide.upper / (1 - wide.upper)) - math.log(wide.value / (1 - wide.value))
        assert gap == pytest.approx(2.5758293 * wide.se / (wide.value * (1 - wide.value)))

    def test_quick_at_a_hundred_thousand_rows(self):
        g = np.random.default_rng(0)
        y, patient = g.integers(0, 2, 100_000), g.integers(0, 20_000, 100_000)
        score = g.normal(y, 1)
        begin = time.process_time()
        found = clustered_auroc(y, score, patient)
        assert time.process_time() - begin < 1
        assert found.value == pytest.approx(roc_auc_score(y, score), abs=1e-12)

    @pytest.mark.parametrize("mixed", [False, True])
    def test_intervals_cover(self, mixed):
        g, runs = np.random.default_rng(5), 10_000 if PROOF else 600
        truth, covered, naive = ndtr(1.2 / math.sqrt(2 * (1 + 0.09 + 0.49))), 0, 0
        for _ in range(runs):
            y, (s,), patient = hospital(g, 80, mixed)
            found = clustered_auroc(y, s, patient)
            covered += found.lower <= truth <= found.upper
            naive += abs(found.value - truth) <= 1.96 * found.naive_se
        low, high = (0.93, 0.97) if PROOF else (0.915, 0.98)
        assert low <= covered / runs <= high
        assert naive / runs < 0.9

    def test_few_patients_are_named(self):
        y, (s,), patient = hospital(np.random.default_rng(3), 15, mixed=False)
        found = clustered_auroc(y, s, patient)
        assert found.lower is not None
        assert "normal approximation is doubtful" in found.note


class TestPaired:
    def test_reference_values(self, r1):
        y, p, q = r1
        found = paired(y, p, q, np.arange(len(y)))
        assert found.value == pytest.approx(0.0223490, abs=5e-8)
        assert found.se == pytest.approx(0.00662631, abs=5e-9)
        assert found.z == pytest.approx(3.372769, abs=5e-7)
        assert found.p == pytest.approx(0.000744164, abs=5e-10)
        assert found.covariance == pytest.approx(2.15687e-4, abs=5e-10)
        assert (found.lower, found.upper) == pytest.approx(
            (found.value - 1.959964 * found.se, found.value + 1.959964 * found.se), abs=1e-8
        )

    def test_equals_loops_over_clusters(self, r3):
        y, a, b, patient = r3
        found = paired(y, a, b, patient)
        assert found.value == pytest.approx(0.089074, abs=5e-7)
        aa, bb = (covariance_by_loops(y, s, s, patient) for s in (a, b))
        ab = covariance_by_loops(y, a, b, patient)
        assert found.covariance == pytest.approx(ab, rel=1e-9)
        assert found.se**2 == pytest.approx(aa + bb - 2 * ab, rel=1e-9)
        # The bootstrap over patients gives 0.0470 to 0.1326 on this set.
        assert (found.lower, found.upper) == pytest.approx((0.0470, 0.1326), abs=0.004)

    def test_equals_loops_with_mixed_patients(self):
        y, (a, b), patient = hospital(np.random.default_rng(1), 40, mixed=True, models=2)
        a, b = np.round(a), np.round(b, 1)
        aa, bb = (covariance_by_loops(y, s, s, patient) for s in (a, b))
        ab = covariance_by_loops(y, a, b, patient)
        assert paired(y, a, b, patient).se ** 2 == pytest.approx(aa + bb - 2 * ab, rel=1e-9)

    def test_exchanging_the_models_changes_the_sign(self, r3):
        y, a, b, patient = r3
        there, back = paired(y, a, b, patient), paired(y, b, a, patient)
        assert (back.value, back.z, back.p) == pytest.approx((-there.value, -there.z, there.p))
        assert there.a == back.b

    @pytest.mark.parametrize("mixed", [False, True])
    def test_false_alarms_are_as_rare_as_promised(self, mixed):
        g, runs = np.random.default_rng(6), 4000 if PROOF else 300
        alarms = 0
        for _ in range(runs):
            y, (a, b), patient = hospital(g, 80, mixed, models=2)
            alarms += paired(y, a, b, patient).p <= 0.05
        assert alarms / runs <= (0.065 if PROOF else 0.09)

    def test_power(self):
        g = np.random.default_rng(8)
        found = []
        for _ in range(40):
            y, (a, _), patient = hospital(g, 120, mixed=False, models=2)
            found.append(paired(y, a, a + g.normal(0, 2, a.size), patient).p)
        assert np.mean(np.array(found) <= 0.05) >= 0.8

    @pytest.mark.parametrize("other", [lambda s: s, lambda s: 3 * s + 1, np.exp])
    def test_equal_rankings_leave_nothing_to_test(self, r3, other):
        y, a, _, patient = r3
        found = paired(y, a, other(a), patient)
        assert found.value == 0
        assert (found.se, found.z, found.p, found.lower) == (None, None, None, None)
        assert "nothing to test" in found.note

    def test_one_class_has_no_difference(self):
        found = paired([1, 1], [0.1, 0.2], [0.3, 0.1], ["a", "b"])
        assert (found.value, found.p) == (None, None)
        assert "2 positive and 0 negative rows" in found.note

    def test_one_positive_patient_has_a_difference_without_error(self):
        found = paired([1, 1, 0, 0], [3, 1, 2, 0], [3, 4, 2, 0], ["a", "a", "b", "c"])
        assert found.value == pytest.approx(-0.25)
        assert found.p is None
        assert "positive images come from 1 and" in found.note

    def test_a_perfect_model_can_be_compared_and_says_so(self, r3):
        y, a, _, patient = r3
        found = paired(y, y, a, patient)
        assert found.value == pytest.approx(1 - 0.768665, abs=5e-7)
        assert found.se == pytest.approx(0.026385, abs=5e-7)
        assert "All pairs are ranked rightly" in found.note


class TestUnpaired:
    def test_reference_values(self, r1):
        y, p, _ = r1
        halves = [
            clustered_auroc(y[k], p[k], np.arange(600)) for k in (slice(600), slice(600, 1200))
        ]
        found = unpaired(*halves)
        assert [h.value for h in halves] == pytest.approx([0.672182, 0.739687], abs=5e-7)
        assert (found.z, found.p) == pytest.approx((-2.22134, 0.026328), abs=5e-6)
        assert found.se == pytest.approx(math.hypot(halves[0].se, halves[1].se))
        assert found.covariance == 0

    def test_false_alarms_between_equal_sites_are_rare(self):
        g, found = np.random.default_rng(2), []
        for _ in range(300):
            (y1, (a,), p1), (y2, (b,), p2) = (hospital(g, 60, mixed=False) for _ in range(2))
            found.append(unpaired(clustered_auroc(y1, a, p1), clustered_auroc(y2, b, p2)).p)
        assert np.mean(np.array(found) <= 0.05) <= 0.09

    def test_no_error_on_one_side(self, r1):
        y, p, _ = r1
        good = clustered_auroc(y, p, np.arange(len(y)))
        perfect = clustered_auroc(y, y, np.arange(len(y)))
        found = unpaired(good, perfect)
        assert found.value == pytest.approx(good.value - 1)
        assert found.p is None
        assert "one side has no standard error. All pairs" in found.note

    def test_level_out_of_range(self, r1):
        y, p, _ = r1
        e = clustered_auroc(y, p, np.arange(len(y)))
        with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
            unpaired(e, e, level=95)


class TestDegenerate:
    def test_one_class(self):
        found = clustered_auroc([0, 0, 0], [1, 2, 3], list("abc"))
        assert (found.value, found.se, found.naive_se, found.lower) == (None, None, None, None)
        assert "0 positive and 3 negative rows" in found.note
        assert found.design_effect is None

    def test_no_row(self):
        found = clustered_auroc([], [], [])
        assert found.value is None
        assert (found.positives, found.patients) == (0, 0)

    def test_one_patient(self):
        found = clustered_auroc([0, 1, 1, 0], [1, 2, 0, 0], ["a"] * 4)
        assert isinstance(found, AurocEstimate)
        assert found.value == pytest.approx(0.625)
        assert found.se is None
        assert found.naive_se > 0
        assert "positive images come from 1 and negative ones from 1 patients" in found.note

    @pytest.mark.parametrize(("sign", "value", "way"), [(1, 1.0, "rightly"), (-1, 0.0, "wrongly")])
    def test_perfect_ranking_has_no_interval(self, sign, value, way):
        y = np.repeat([0, 1], 6)
        found = clustered_auroc(y, sign * np.arange(12), np.repeat(np.arange(6), 2))
        assert found.value == value
        assert (found.se, found.lower, found.upper) == (None, None, None)
        assert f"ranked {way}" in found.note
        assert "3 patients with positive and 3 with negative" in found.note

    def test_constant_scores(self):
        found = clustered_auroc([0, 0, 1, 1], [7, 7, 7, 7], list("abcd"))
        assert found.value == 0.5
        assert (found.se, found.lower) == (None, None)
        assert "constant scores?" in found.note

    def test_limits_stay_within_the_unit_interval(self):
        for seed, k in itertools.product(range(5), (4, 6, 9)):
            y, (s,), patient = hospital(np.random.default_rng(seed), k, mixed=True, shift=3)
            found = clustered_auroc(y, s, patient)
            if found.lower is not None:
                assert 0 <= found.lower < found.value < found.upper <= 1

    def test_bad_input(self):
        with pytest.raises(ValueError, match="score has NaN"):
            clustered_auroc([0, 1], [0.2, np.nan], ["a", "b"])
        with pytest.raises(ValueError, match="only 0 and 1"):
            clustered_auroc([0, 2], [0.2, 0.1], ["a", "b"])
        with pytest.raises(ValueError, match="1 patient entries for 2 rows"):
            clustered_auroc([0, 1], [0.2, 0.1], ["a"])
        with pytest.raises(ValueError, match="equally long"):
            clustered_auroc([0, 1], [0.2, 0.1, 0.3], ["a", "b"])
        with pytest.raises(ValueError, match="level must lie"):
            clustered_auroc([0, 1], [0.2, 0.1], ["a", "b"], level=1)
