"""The patient-block kernel test against double loops and reference values."""

import itertools

import numpy as np
import pytest
from conftest import PROOF
from two_sites import sites

from medssl.stats import embeddings, mmd
from medssl.stats.mmd import patient_mmd

pytestmark = pytest.mark.filterwarnings("error")


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

    def test_reference_value_further_down_the_main_stream(self):
        rng = np.random.default_rng(0)
        for draw in (rng.normal, rng.random, rng.normal):
            draw(size=1200)
        for _ in range(500):
            rng.integers(0, 600, 600)
        rng.random(1200)
        x, y = rng.normal(size=(400, 64)), rng.normal(0.12, 1, (400, 64))
        found = patient_mmd(x, np.arange(400), y, np.arange(400), permutations=300, seed=0)
        assert found.statistic == pytest.approx(0.0050460, abs=5e-8)
        assert found.p == pytest.approx(0.003322, abs=5e-7)

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
        for trial in range(1000 if PROOF else 100):
            x, px, y, py = sites(g, 20, 20, 8, 8, 0.0)
            by_patient.append(patient_mmd(x, px, y, py, permutations=99, seed=trial).p)
            if trial < (100 if PROOF else 10):
                each = np.arange(160)
                by_row.append(patient_mmd(x, each, y, each, permutations=99, seed=trial).p)
        share = np.mean(np.array(by_patient) <= 0.05)
        assert (0.03 <= share <= 0.07) if PROOF else (share <= 0.12)
        assert np.mean(np.array(by_row) <= 0.05) >= 0.9

    def test_rows_for_patients_would_find_a_shift_where_there_is_none(self):
        x, _, y, _ = sites(np.random.default_rng(5), 40, 40, 10, 16, 0.0)
        each = np.arange(400)
        assert patient_mmd(x, each, y, each, seed=6).p == pytest.approx(0.001)

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
            monkeypatch.setattr(embeddings, "BLOCK", block)
            parts = patient_mmd(x, px, y, py)
            assert parts.statistic == pytest.approx(whole.statistic, abs=1e-13)
            assert parts.p == whole.p

    def test_a_sampled_kernel_width_is_close_to_the_median(self, monkeypatch):
        x, px, y, py = sites(np.random.default_rng(5), 40, 40, 10, 16, 0.25)
        exact = patient_mmd(x, px, y, py, seed=6)
        monkeypatch.setattr(mmd, "EXACT_MEDIAN", 10)
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
