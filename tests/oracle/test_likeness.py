"""Likeness of single images against plain loops, and its share's interval against simulation."""

import numpy as np
import pytest
from conftest import PROOF
from scipy.stats import t as student
from two_sites import sites

from medssl.stats import embeddings
from medssl.stats import likeness as room
from medssl.stats.likeness import clustered_share, likeness, unlike
from medssl.stats.metrics import wilson

pytestmark = pytest.mark.filterwarnings("error")


class TestLikeness:
    # Twenty of at most thirty neighbours reach to where similarities are negative.
    @pytest.mark.parametrize("k", [3, 20])
    def test_equals_loops(self, k):
        g = np.random.default_rng(14)
        ref, rp = g.normal(size=(30, 4)), g.integers(0, 9, 30)
        new, np_ = g.normal(0.5, 1, (12, 4)), g.integers(5, 14, 12)

        def distance(row, who):
            all_of = sorted(
                1 - row @ r / np.linalg.norm(row) / np.linalg.norm(r)
                for r, other in zip(ref, rp, strict=True)
                if other != who
            )
            return np.mean(all_of[:k])

        own = [distance(r, who) for r, who in zip(ref, rp, strict=True)]
        expected = [
            100 * np.mean([o < distance(r, who) for o in own])
            for r, who in zip(new, np_, strict=True)
        ]
        np.testing.assert_allclose(likeness(ref, rp, new, np_, k=k), expected, atol=1e-9)

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
        monkeypatch.setattr(embeddings, "BLOCK", 3000)
        np.testing.assert_allclose(likeness(ref, rp, new, tp), whole, atol=0.26)
        monkeypatch.setattr(room, "OWN_ROWS", 200)
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


class TestUnlike:
    def test_percentiles_are_those_of_likeness_and_rows_run_by_distance(self):
        g = np.random.default_rng(41)
        ref, rp, new, tp = sites(g, 80, 20, 3, 6, 0.8)
        tp = tp + 1000
        found = unlike(ref, rp, new, tp, k=4)
        np.testing.assert_array_equal(found.percentile, likeness(ref, rp, new, tp, k=4))
        assert found.share.value == np.mean(found.percentile > 99)
        assert sorted(found.rows.tolist()) == list(range(60))
        assert (np.diff(found.percentile[found.rows]) <= 0).all()

    def test_rows_beyond_all_are_still_told_apart(self):
        g = np.random.default_rng(42)
        ref = np.c_[np.ones(80), g.normal(0, 0.05, (80, 2))]
        angle = np.radians([90.0, 170.0, 120.0])
        new = np.c_[np.cos(angle), np.sin(angle), np.zeros(3)]
        found = unlike(ref, np.arange(80), new, np.arange(100, 103))
        assert found.percentile.tolist() == [100.0] * 3
        assert found.rows.tolist() == [1, 2, 0]

    def test_refuses_a_percentile_out_of_range(self):
        x = np.ones((9, 2))
        with pytest.raises(ValueError, match="99 is usual"):
            unlike(x, np.arange(9), x, np.arange(9), beyond=100)

    def test_nothing_to_judge_has_no_share(self):
        ref = np.random.default_rng(0).normal(size=(9, 3))
        share = unlike(ref, np.arange(9), np.empty((0, 3)), []).share
        assert (share.value, share.lower, share.upper) == (None, None, None)
        assert "0 patients" in share.note


class TestClusteredShare:
    def test_equals_wilson_with_one_image_a_patient_and_many_patients(self):
        flag = np.arange(40_000) % 50 == 0
        found = clustered_share(flag, np.arange(40_000))
        assert found.value == 0.02
        # Variance over P - 1 and Student's t differ from Wilson by next to nothing.
        assert (found.lower, found.upper) == pytest.approx(wilson(800, 40_000), rel=1e-4)
        assert (found.patients, found.patients_with_any) == (40_000, 800)

    def test_copies_of_every_image_change_nothing(self):
        flag = np.random.default_rng(43).random(60) < 0.2
        one = clustered_share(flag, np.arange(60))
        five = clustered_share(np.repeat(flag, 5), np.repeat(np.arange(60), 5))
        assert (five.lower, five.upper) == pytest.approx((one.lower, one.upper))
        assert five.n == 300

    def test_variance_equals_the_jackknife_over_patients(self):
        g = np.random.default_rng(44)
        who = g.integers(0, 400, 3000)
        rate = g.beta(1, 4, 400)
        flag = g.random(3000) < rate[who]
        found = clustered_share(flag, who)
        names = np.unique(who)
        left = np.array([flag[who != i].mean() for i in names])
        spread = np.sqrt((names.size - 1) / names.size * np.sum((left - left.mean()) ** 2))
        assert found.upper - found.lower == pytest.approx(2 * 1.966 * spread, rel=0.02)

    def test_few_equal_patients_equal_wilson_on_the_jackknifes_effective_images(self):
        found = np.array([0, 3, 1, 0, 2, 0, 1])
        flag = (np.arange(4) < found[:, None]).ravel()
        who = np.repeat(np.arange(7), 4)
        left = np.array([flag[who != i].mean() for i in range(7)])
        size = 0.25 * 0.75 / (6 / 7 * np.sum((left - left.mean()) ** 2))
        assert 7 < size < 28
        z = student.ppf(0.975, 6)
        share = clustered_share(flag, who)
        # Wilson's limits are where the score test just rejects.
        for limit in (share.lower, share.upper):
            assert (0.25 - limit) ** 2 == pytest.approx(z**2 * limit * (1 - limit) / size)

    def test_covers_the_truth_where_rows_for_patients_do_not(self):
        g = np.random.default_rng(45)
        trials, hits, by_row = 4000 if PROOF else 400, 0, 0
        for _ in range(trials):
            images = g.integers(1, 12, 60)
            who = np.repeat(np.arange(60), images)
            flag = g.random(who.size) < g.beta(0.5, 4.5, 60)[who]
            found = clustered_share(flag, who)
            hits += found.lower <= 0.1 <= found.upper
            lower, upper = wilson(int(flag.sum()), flag.size)
            by_row += lower <= 0.1 <= upper
        slack = 0.02 if PROOF else 0.04
        assert hits / trials == pytest.approx(0.95, abs=slack)
        assert by_row / trials < 0.85

    def test_none_and_all_have_a_limit_by_patients(self):
        none = clustered_share(np.zeros(300), np.repeat(np.arange(30), 10))
        assert (none.value, none.lower) == (0.0, 0.0)
        # Thirty patients without it, with t = 2.0452 instead of 1.96.
        assert none.upper == pytest.approx(2.04523**2 / (30 + 2.04523**2), abs=1e-5)
        every = clustered_share(np.ones(300), np.repeat(np.arange(30), 10))
        assert (every.lower, every.upper) == (pytest.approx(1 - none.upper), 1.0)

    def test_one_large_patient_is_worth_few(self):
        sizes = np.r_[1000, np.ones(10, int)]
        found = clustered_share(np.zeros(1010), np.repeat(np.arange(11), sizes))
        assert found.upper > 0.8

    def test_one_patient_has_no_limits_and_bad_input_no_value(self):
        one = clustered_share([True, False], ["a", "a"])
        assert (one.value, one.lower, one.upper) == (0.5, None, None)
        with pytest.raises(ValueError, match="one per row"):
            clustered_share([True], ["a", "b"])
        with pytest.raises(ValueError, match="level"):
            clustered_share([True, False], ["a", "b"], level=1)
