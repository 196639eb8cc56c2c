"""Site comparison against double loops, scipy's matrix root, and reference values."""

import itertools

import numpy as np
import pytest
from scipy.linalg import sqrtm

from medssl.stats import shift
from medssl.stats.shift import (
    frechet_distance,
    frechet_noise_floor,
    likeness,
    patient_mmd,
    site_classifier_auroc,
)

pytestmark = pytest.mark.filterwarnings("error")


def sites(g, source, target, m, d, moved):
    """Two sites by recipe R5: (rows, patients) of each."""
    x = (g.normal(0, 1, (source, 1, d)) + g.normal(0, 0.5, (source, m, d))).reshape(-1, d)
    y = (moved + g.normal(0, 1, (target, 1, d)) + g.normal(0, 0.5, (target, m, d))).reshape(-1, d)
    return x, np.repeat(np.arange(source), m), y, np.repeat(source + np.arange(target), m)


def mmd_by_loops(x, px, y, py):
    """The patient-block statistic from its definition, pair by pair."""
    rows = [*x, *y]
    gaps = [float(((a - b) ** 2).sum()) for a, b in itertools.product(rows, rows)]
    width = np.median([g for g in gaps if g > 0])
    members = [[x[px == i] for i in dict.fromkeys(px)], [y[py == i] for i in dict.fromkeys(py)]]

    def kernel(a, b):
        return np.mean([np.exp(-((u - v) ** 2).sum() / width) for u in a for v in b])

    def within(site):
        return np.mean([kernel(a, b) for a, b in itertools.permutations(site, 2)])

    across = np.mean([kernel(a, b) for a in members[0] for b in members[1]])
    return within(members[0]) + within(members[1]) - 2 * across


@pytest.fixture
def uneven():
    """Three and four patients with one to three images, in mixed order of rows."""
    g = np.random.default_rng(8)
    px, py = np.array([2, 7, 2, 2, 5, 7]), np.array(["d", "a", "c", "c", "b", "a", "a"])
    return g.normal(size=(6, 3)), px, g.normal(0.4, 1, (7, 3)), py


class TestPatientMmd:
    @pytest.mark.parametrize(
        ("moved", "statistic", "p"), [(0.0, 0.0026408, 0.278), (0.25, 0.0263339, 0.002)]
    )
    def test_reference_values(self, moved, statistic, p):
        x, px, y, py = sites(np.random.default_rng(5), 40, 40, 10, 16, moved)
        if moved == 0.25:
            np.testing.assert_allclose(x[0, :3], [-0.74562287, -2.31638806, -0.554496], atol=1e-8)
        found = patient_mmd(x, px, y, py, permutations=999, seed=6)
        assert found.statistic == pytest.approx(statistic, abs=5e-8)
        assert found.p == pytest.approx(p, abs=1e-12)
        assert (found.source_patients, found.target_patients) == (40, 40)
        assert found.permutations == 999
        assert found.subsampled is False

    def test_reference_value_without_patients(self):
        g = np.random.default_rng(1)
        x, y = g.normal(size=(400, 64)), g.normal(0.12, 1, (400, 64))
        found = patient_mmd(x, np.arange(400), y, np.arange(400), permutations=300, seed=0)
        assert found.statistic == pytest.approx(0.0055828, abs=5e-8)
        assert found.p == pytest.approx(1 / 301)

    def test_equals_double_loops(self, uneven):
        found = patient_mmd(*uneven, permutations=10)
        assert found.statistic == pytest.approx(mmd_by_loops(*uneven), abs=1e-12)

    def test_p_equals_the_share_of_relabellings_by_loops(self, uneven):
        x, px, y, py = uneven
        names = [*dict.fromkeys(px), *dict.fromkeys(py)]
        rows, owner = np.r_[x, y], np.array([*px.astype(str), *py])
        site = np.array([0] * 3 + [1] * 4)

        def statistic(labels):
            away = np.isin(owner, [str(n) for n, s in zip(names, labels, strict=True) if s == 1])
            return mmd_by_loops(rows[~away], owner[~away], rows[away], owner[away])

        rng, truth = np.random.default_rng(4), statistic(site)
        reached = sum(statistic(rng.permutation(site)) >= truth - 1e-12 for _ in range(60))
        assert patient_mmd(*uneven, permutations=60, seed=4).p == pytest.approx((1 + reached) / 61)

    def test_relabellings_equal_on_paper_count_as_reached(self):
        # Two far clusters of two patients: 2 of the 6 splits reach the maximum, the own included.
        x, y = np.array([[0.0, 0], [0.1, 0]]), np.array([[5.0, 0.3], [5.1, 0.3]])
        found = patient_mmd(x, [0, 1], y, [2, 3], permutations=3000, seed=0)
        assert found.p == pytest.approx(1 / 3, abs=0.03)

    def test_p_is_never_zero(self):
        x, px, y, py = sites(np.random.default_rng(0), 20, 20, 2, 4, 5.0)
        assert patient_mmd(x, px, y, py, permutations=99).p == pytest.approx(0.01)

    def test_false_alarms_are_rare_by_patient_and_certain_by_row(self):
        g = np.random.default_rng(11)
        by_patient, by_row = [], []
        for trial in range(100):
            x, px, y, py = sites(g, 20, 20, 8, 8, 0.0)
            by_patient.append(patient_mmd(x, px, y, py, permutations=99, seed=trial).p)
            if trial < 10:
                each = np.arange(160)
                by_row.append(patient_mmd(x, each, y, each, permutations=99, seed=trial).p)
        assert np.mean(np.array(by_patient) <= 0.05) <= 0.12
        assert np.mean(np.array(by_row) <= 0.05) >= 0.9

    def test_power(self):
        g = np.random.default_rng(12)
        found = [
            patient_mmd(*sites(g, 20, 20, 8, 8, 0.5), permutations=99, seed=i).p for i in range(60)
        ]
        assert np.mean(np.array(found) <= 0.05) >= 0.7

    def test_equal_means_with_different_variance_are_detected(self):
        g = np.random.default_rng(13)
        x, y = g.normal(0, 1, (60, 8)), g.normal(0, 2, (60, 8))
        assert patient_mmd(x, np.arange(60), y, np.arange(60), permutations=199).p <= 0.01

    def test_names_do_not_matter_even_if_both_sites_count_from_zero(self):
        x, px, y, py = sites(np.random.default_rng(3), 12, 9, 3, 5, 0.1)
        names = np.array([f"p{99 - i}" for i in range(30)])
        assert patient_mmd(x, px, y, py) == patient_mmd(x, names[px], y, py - 12)

    def test_blocks_change_nothing(self, monkeypatch):
        x, px, y, py = sites(np.random.default_rng(3), 30, 20, 4, 6, 0.1)
        whole = patient_mmd(x, px, y, py)
        for block in (1, 7 * 200, 90 * 200):
            monkeypatch.setattr(shift, "BLOCK", block)
            parts = patient_mmd(x, px, y, py)
            assert parts.statistic == pytest.approx(whole.statistic, abs=1e-13)
            assert parts.p == whole.p

    def test_a_sampled_kernel_width_is_close_to_the_median(self, monkeypatch):
        x, px, y, py = sites(np.random.default_rng(5), 40, 40, 10, 16, 0.25)
        exact = patient_mmd(x, px, y, py, seed=6)
        monkeypatch.setattr(shift, "EXACT_MEDIAN", 10)
        sampled = patient_mmd(x, px, y, py, seed=6)
        assert sampled.statistic != exact.statistic
        assert sampled.statistic == pytest.approx(exact.statistic, rel=0.01)

    def test_patients_are_subsampled_and_it_says_so(self):
        x, px, y, py = sites(np.random.default_rng(5), 40, 15, 3, 8, 0.0)
        found = patient_mmd(x, px, y, py, max_patients=20, seed=1)
        assert (found.source_patients, found.target_patients) == (20, 15)
        assert found.subsampled is True
        assert found == patient_mmd(x, px, y, py, max_patients=20, seed=1)
        assert found.statistic != patient_mmd(x, px, y, py, max_patients=20, seed=2).statistic

    def test_images_beyond_sixteen_are_subsampled(self):
        g = np.random.default_rng(5)
        x, y = g.normal(size=(40, 4)), g.normal(size=(20, 4))
        px, py = np.r_[np.zeros(17), np.arange(1, 24)], np.arange(20)
        assert patient_mmd(x, px, y, py).subsampled is True
        assert patient_mmd(x[1:], px[1:], y, py).subsampled is False

    def test_each_patient_counts_once_however_many_images(self):
        g = np.random.default_rng(6)
        x, y = g.normal(size=(10, 4)), g.normal(size=(10, 4))
        once = mmd_by_loops(x, np.arange(10), y, np.arange(10))
        # Nine copies of one image leave its patient where he was; only the kernel width moves.
        x9, p9 = np.r_[x, np.repeat(x[:1], 8, axis=0)], np.r_[np.arange(10), np.zeros(8)]
        copies = patient_mmd(x9, p9, y, np.arange(10), permutations=9).statistic
        assert copies == pytest.approx(once, abs=0.01)
        assert copies == pytest.approx(mmd_by_loops(x9, p9, y, np.arange(10)), abs=1e-12)

    def test_identical_images_everywhere_are_no_shift(self):
        found = patient_mmd(np.ones((6, 3)), np.arange(6), np.ones((4, 3)), np.arange(4))
        assert found.statistic == pytest.approx(0, abs=1e-12)
        assert found.p == 1.0

    def test_refusals_are_sentences(self):
        x, p = np.ones((4, 3)), np.arange(4)
        with pytest.raises(ValueError, match=r"source site has 1 patient"):
            patient_mmd(x, np.zeros(4), x, p)
        with pytest.raises(ValueError, match="widths are 3 and 2"):
            patient_mmd(x, p, x[:, :2], p)
        with pytest.raises(ValueError, match="NaN or infinity"):
            patient_mmd(x, p, x * np.nan, p)
        with pytest.raises(ValueError, match="one name per row"):
            patient_mmd(x, p[:3], x, p)
        with pytest.raises(ValueError, match="at least one permutation"):
            patient_mmd(x, p, x, p, permutations=0)
        with pytest.raises(ValueError, match="max_patients"):
            patient_mmd(x, p, x, p, max_patients=1)
        with pytest.raises(ValueError, match=r"\[n, d\]"):
            patient_mmd(x[:, 0], p, x, p)


class TestLikeness:
    def test_equals_loops(self):
        g = np.random.default_rng(14)
        ref, rp = g.normal(size=(30, 4)), g.integers(0, 9, 30)
        new, np_ = g.normal(0.5, 1, (12, 4)), g.integers(5, 14, 12)

        def distance(row, who):
            all_of = sorted(
                1 - row @ r / np.linalg.norm(row) / np.linalg.norm(r)
                for r, other in zip(ref, rp, strict=True)
                if other != who
            )
            return np.mean(all_of[:3])

        own = [distance(r, who) for r, who in zip(ref, rp, strict=True)]
        expected = [
            100 * np.mean([o < distance(r, who) for o in own])
            for r, who in zip(new, np_, strict=True)
        ]
        np.testing.assert_allclose(likeness(ref, rp, new, np_, k=3), expected, atol=1e-9)

    def test_images_like_the_reference_are_spread_evenly(self):
        g = np.random.default_rng(15)
        ref, rp, new, _ = sites(g, 300, 300, 4, 8, 0.0)
        found = likeness(ref, rp, new, 1000 + np.repeat(np.arange(300), 4))
        assert found.mean() == pytest.approx(50, abs=4)
        assert np.mean(found > 99) == pytest.approx(0.01, abs=0.01)

    def test_the_reference_judged_by_itself_is_uniform(self):
        g = np.random.default_rng(16)
        ref, rp, _, _ = sites(g, 50, 1, 4, 8, 0.0)
        expected = 100 * (np.arange(200) + 0.5) / 200
        np.testing.assert_allclose(np.sort(likeness(ref, rp, ref, rp)), expected, atol=0.51)

    def test_neighbours_of_the_own_patient_do_not_count(self):
        g = np.random.default_rng(17)
        ref, rp, _, _ = sites(g, 60, 1, 5, 8, 0.0)
        known, stranger = likeness(ref, rp, ref, rp), likeness(ref, rp, ref, rp + 1000)
        assert known.mean() == pytest.approx(50, abs=1)
        # As a stranger an image finds itself and its siblings, and looks too familiar.
        assert (stranger <= known).all()
        assert stranger.mean() < 10

    def test_ties_count_half(self):
        axes = np.eye(6)
        assert likeness(axes[:5], np.arange(5), axes[5:], [9], k=2).tolist() == [50.0]

    def test_far_images_are_beyond_all(self):
        g = np.random.default_rng(18)
        ref = np.c_[np.ones(80), g.normal(0, 0.1, (80, 3))]
        far = -ref[:5]
        assert likeness(ref, np.arange(80), far, np.arange(100, 105)).tolist() == [100.0] * 5

    def test_only_direction_counts_and_zero_is_no_accident(self):
        g = np.random.default_rng(19)
        ref, new = g.normal(size=(40, 4)), g.normal(size=(6, 4))
        who, other = np.arange(40), np.arange(50, 56)
        np.testing.assert_allclose(
            likeness(ref, who, new, other), likeness(3 * ref, who, 0.2 * new, other), atol=1e-9
        )
        assert np.isfinite(likeness(ref, who, 0 * new, other)).all()

    def test_blocks_and_a_sampled_yardstick(self, monkeypatch):
        g = np.random.default_rng(20)
        ref, rp, new, tp = sites(g, 100, 20, 4, 8, 0.3)
        whole = likeness(ref, rp, new, tp)
        monkeypatch.setattr(shift, "BLOCK", 3000)
        np.testing.assert_allclose(likeness(ref, rp, new, tp), whole, atol=0.26)
        monkeypatch.setattr(shift, "OWN_ROWS", 200)
        sampled = likeness(ref, rp, new, tp, seed=1)
        assert np.abs(sampled - whole).mean() < 5
        np.testing.assert_array_equal(sampled, likeness(ref, rp, new, tp, seed=1))

    def test_nothing_to_judge_is_nothing(self):
        ref = np.random.default_rng(0).normal(size=(9, 3))
        assert likeness(ref, np.arange(9), np.empty((0, 3)), []).size == 0

    def test_refuses_too_small_a_reference(self):
        x = np.ones((6, 2))
        with pytest.raises(ValueError, match="reference has 2 rows"):
            likeness(x, [0, 0, 0, 0, 1, 2], x, np.arange(6), k=3)
        with pytest.raises(ValueError, match="k >= 1"):
            likeness(x, np.arange(6), x, np.arange(6), k=0)


class TestSiteClassifier:
    def test_close_to_the_reference_value(self):
        g = np.random.default_rng(1)
        x, y = g.normal(size=(400, 64)), g.normal(0.12, 1, (400, 64))
        found = site_classifier_auroc(x, np.arange(400), y, np.arange(400))
        assert found == pytest.approx(0.706, abs=0.04)

    def test_no_difference_is_near_a_half_by_patient_and_far_above_by_row(self):
        g = np.random.default_rng(15)
        by_patient, by_row = [], []
        for _ in range(6):
            x, px, y, py = sites(g, 30, 30, 6, 16, 0.0)
            by_patient.append(site_classifier_auroc(x, px, y, py))
            by_row.append(site_classifier_auroc(x, np.arange(180), y, np.arange(180)))
        assert np.mean(by_patient) == pytest.approx(0.5, abs=0.1)
        assert np.mean(by_row) > 0.62

    def test_a_plain_difference_is_found_whatever_the_scale(self):
        x, px, y, py = sites(np.random.default_rng(2), 20, 25, 3, 6, 3.0)
        assert site_classifier_auroc(x, px, y, py) == 1.0
        assert site_classifier_auroc(1e-6 * x, px, 1e-6 * y, py) == 1.0

    def test_the_unit_of_a_column_does_not_matter(self):
        x, px, y, py = sites(np.random.default_rng(2), 20, 25, 3, 4, 0.5)
        unit = np.array([1e-3, 1.0, 50.0, 1e4])
        found = site_classifier_auroc(x, px, y, py)
        assert 0.5 < found < 1
        assert site_classifier_auroc(x * unit, px, y * unit, py) == pytest.approx(found, abs=5e-3)

    def test_few_patients_get_fewer_folds(self):
        x, px, y, py = sites(np.random.default_rng(2), 3, 8, 2, 3, 6.0)
        assert site_classifier_auroc(x, px, y, py) > 0.8

    def test_refusals_are_sentences(self):
        x, px, y, py = sites(np.random.default_rng(2), 4, 4, 2, 3, 0.0)
        with pytest.raises(ValueError, match="at least two folds"):
            site_classifier_auroc(x, px, y, py, folds=1)
        with pytest.raises(ValueError, match="target site has 1 patient"):
            site_classifier_auroc(x, px, y, 0 * py)


class TestFrechet:
    def test_equals_the_matrix_root(self):
        g = np.random.default_rng(21)
        a, b = g.normal(size=(50, 5)), g.normal(0.5, 1, (40, 5)) @ g.normal(size=(5, 5))
        s, t = np.cov(a.T), np.cov(b.T)
        root = np.real(sqrtm(s @ t))
        expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root)
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
        assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)

    def test_one_dimension_by_hand(self):
        a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [9.0]])
        assert frechet_distance(a, b) == pytest.approx(16 + (np.sqrt(32) - np.sqrt(2)) ** 2)

    def test_a_moved_copy_is_as_far_as_it_was_moved(self):
        a = np.random.default_rng(22).normal(size=(30, 4))
        assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
        assert frechet_distance(a, a + 0.5) == pytest.approx(4 * 0.25, abs=1e-9)

    def test_fewer_rows_than_columns(self):
        g = np.random.default_rng(23)
        a, b = g.normal(size=(6, 20)), g.normal(size=(9, 20))
        x, y = (a - a.mean(0)) / np.sqrt(5), (b - b.mean(0)) / np.sqrt(8)
        # tr (S1 S2)^1/2 is the sum of the singular values of X Y'.
        shared = np.linalg.svd(x @ y.T, compute_uv=False).sum()
        apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
        expected = apart + (x**2).sum() + (y**2).sum() - 2 * shared
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)

    def test_the_noise_floor_lies_below_a_shift_and_halves_patients(self, monkeypatch):
        x, px, y, _ = sites(np.random.default_rng(24), 60, 60, 4, 6, 1.0)
        assert frechet_noise_floor(x, px, 0) < frechet_distance(x, y) / 3
        assert frechet_noise_floor(x, px, 0) != frechet_noise_floor(x, px, 1)
        halves = []
        monkeypatch.setattr(shift, "frechet_distance", lambda a, b: halves.extend([a, b]) or 0.0)
        frechet_noise_floor(px[:, None], px, 0)
        one, two = (set(h.ravel()) for h in halves)
        assert len(one) == len(two) == 30
        assert not one & two
        assert len(halves[0]) + len(halves[1]) == 240

    def test_refuses_one_row(self):
        with pytest.raises(ValueError, match="two rows on each side"):
            frechet_distance(np.ones((1, 3)), np.ones((5, 3)))
