"""Fréchet distances against scipy's matrix root, and the noise floor against its definition."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from two_sites import sites

from medssl.stats import frechet
from medssl.stats.frechet import frechet_distance, frechet_noise_floor, frechet_shift

pytestmark = pytest.mark.filterwarnings("error")


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
        monkeypatch.setattr(frechet, "frechet_distance", lambda a, b: halves.extend([a, b]) or 0.0)
        frechet_noise_floor(px[:, None], px, 0)
        one, two = (set(h.ravel()) for h in halves)
        assert len(one) == len(two) == 30
        assert not one & two
        assert len(halves[0]) + len(halves[1]) == 240

    def test_refuses_one_row(self):
        with pytest.raises(ValueError, match="two rows on each side"):
            frechet_distance(np.ones((1, 3)), np.ones((5, 3)))


class TestFrechetShift:
    def test_no_shift_lies_in_the_floor_and_a_shift_beyond(self):
        still = frechet_shift(*sites(np.random.default_rng(31), 60, 40, 4, 6, 0.0))
        moved = frechet_shift(*sites(np.random.default_rng(31), 60, 40, 4, 6, 1.0))
        assert still.share_beyond < 0.3
        assert 0.5 < still.ratio < 1.7
        assert moved.share_beyond == 1.0
        assert moved.ratio == pytest.approx(moved.distance / moved.floor)
        assert moved.ratio > 3
        # Each of six columns is moved by 1, up to the error of 60 and 40 patients' means.
        assert moved.distance == pytest.approx(6 + still.floor, abs=3)
        assert still.floor < still.floor_upper < moved.distance

    def test_splits_equal_plain_code(self):
        x, px, y, py = sites(np.random.default_rng(32), 12, 9, 2, 2, 0.5)
        found = frechet_shift(x, px, y, py, splits=7, dims=2, seed=3)
        rng = np.random.default_rng([3, 5])
        within, across = [], []
        for _ in range(7):
            own, other = rng.permutation(12), rng.permutation(9)
            groups = [own[:6], own[6:12], other[:6] + 12]
            one, two, three = (
                np.concatenate([np.r_[x, y][np.r_[px, py] == i] for i in g]) for g in groups
            )
            # With as many axes as columns the distance is that of the embeddings themselves.
            within.append(frechet_distance(one, two))
            across.append(frechet_distance(one, three))
        assert found.floor == pytest.approx(np.median(within), rel=1e-9)
        assert found.floor_upper == pytest.approx(np.quantile(within, 0.95), rel=1e-9)
        assert found.distance == pytest.approx(np.median(across), rel=1e-9)
        assert found.share_beyond == np.mean(np.array(across) > np.quantile(within, 0.95))
        assert (found.patients, found.dims, found.kept) == (6, 2, pytest.approx(1.0))

    def test_groups_are_equally_large_and_small_ones_are_named(self):
        many = frechet_shift(*sites(np.random.default_rng(33), 60, 11, 2, 4, 0.0))
        assert (many.patients, many.note) == (11, "")
        few = frechet_shift(*sites(np.random.default_rng(33), 8, 30, 2, 4, 0.0))
        assert few.patients == 4
        assert "4 patients" in few.note

    def test_axes_are_fewer_than_patients_and_hold_the_shift(self):
        g = np.random.default_rng(34)
        scale = np.r_[3.0, np.full(39, 0.05)]
        x, y = g.normal(size=(30, 40)) * scale, g.normal(size=(30, 40)) * scale
        y[:, 39] += 20
        found = frechet_shift(x, np.arange(30), y, np.arange(30), dims=2)
        # The axis that only the shift fills is the first.
        assert found.dims == 2
        assert found.distance > 350
        assert 0.98 < found.kept < 1
        assert frechet_shift(x, np.arange(30), y, np.arange(30)).dims == 7

    def test_identical_images_everywhere_have_no_ratio(self):
        found = frechet_shift(np.ones((30, 3)), np.arange(30), np.ones((20, 3)), np.arange(20))
        assert (found.distance, found.floor, found.ratio, found.share_beyond) == (0, 0, None, 0)

    def test_refusals_are_sentences(self):
        x, p = np.ones((4, 3)), np.arange(4)
        with pytest.raises(ValueError, match="which has 3 patients"):
            frechet_shift(x[:3], p[:3], x, p)
        with pytest.raises(ValueError, match="target site has 1 patient"):
            frechet_shift(x, p, x, 0 * p)
        with pytest.raises(ValueError, match="splits >= 1"):
            frechet_shift(x, p, x, p, splits=0)
