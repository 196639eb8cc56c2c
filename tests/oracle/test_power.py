"""The smallest detectable shift against the test that it speaks for."""

import numpy as np
import pytest
from conftest import PROOF
from two_sites import sites

from medssl.stats import power as room
from medssl.stats.mmd import patient_mmd
from medssl.stats.power import detectable_shift

pytestmark = pytest.mark.filterwarnings("error")

MANY = ((20, 20, 8, 0), (60, 30, 4, 1), (150, 150, 2, 2))


@pytest.mark.parametrize(("source", "target", "each", "seed"), MANY)
def test_the_shift_is_found_by_the_real_test_as_often_as_promised(source, target, each, seed):
    g = np.random.default_rng(seed)
    found = detectable_shift(*sites(g, source, target, each, 8, 0.0))
    # A patient's mean has the patient's variance and that of his images.
    moved = found.shift * np.sqrt(1 + 0.25 / each)
    trials = 400 if PROOF else (60 if source < 100 else 25)
    hits = [
        patient_mmd(*sites(g, source, target, each, 8, moved), permutations=99, seed=i).p <= 0.05
        for i in range(trials)
    ]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.08 if PROOF else 0.2)


def test_holds_for_an_uneven_spectrum():
    g = np.random.default_rng(3)
    scale = 1 / np.arange(1, 41)

    def draw(moved):
        x, px, y, py = sites(g, 40, 40, 3, 40, 0.0)
        spread = scale * np.sqrt(1 + 0.25 / 3)
        y = y * scale + moved * np.where(np.arange(40) < 16, spread, 0)
        return x * scale, px, y, py

    found = detectable_shift(*draw(0.0))
    assert found.dims == 16
    trials = 400 if PROOF else 60
    hits = [
        patient_mmd(*draw(found.shift), permutations=99, seed=i).p <= 0.05 for i in range(trials)
    ]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.1 if PROOF else 0.2)


def test_moving_a_draw_equals_the_kernel_of_moved_patients():
    spread = np.array([1.0, 0.5, 0.2])
    draws = room._Draws.of(spread, (7, 5), 4, 2)
    rng = np.random.default_rng(2)
    width = np.median(2 * rng.chisquare(1, (20_000, 3)) @ spread**2)
    one, two = (rng.normal(size=(4, n, 3)) * spread for n in (7, 5))
    two = two + 0.7 * spread

    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return np.mean([np.exp(-((a[i] - b[j]) ** 2).sum() / width) for i, j in pairs])

    expected = [
        mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
        for a, b in zip(one, two, strict=True)
    ]
    np.testing.assert_allclose(draws.statistic(0.7), expected, atol=1e-12)


def test_more_patients_and_less_power_see_smaller_shifts():
    def shift(count, **options):
        return detectable_shift(
            *sites(np.random.default_rng(1), count, count, 4, 8, 0.0), **options
        )

    few, many, most = (shift(n).shift for n in (15, 60, 240))
    assert few > many > most
    assert many / most == pytest.approx(2, abs=0.35)
    assert shift(60, power=0.5).shift < many
    assert shift(60, level=0.01).shift > many
    assert shift(60) == shift(60)
    assert shift(60, dims=4).dims == 4
    assert shift(60).distance == pytest.approx(many * np.sqrt(8))


def test_numbers_above_the_cap_are_scaled(monkeypatch):
    pair = sites(np.random.default_rng(6), 80, 80, 3, 8, 0.0)
    whole = detectable_shift(*pair)
    monkeypatch.setattr(room, "SIMULATED_PATIENTS", 40)
    assert detectable_shift(*pair).shift == pytest.approx(whole.shift, rel=0.12)


def test_a_shift_between_the_sites_does_not_matter():
    still = detectable_shift(*sites(np.random.default_rng(7), 40, 30, 3, 8, 0.0))
    moved = detectable_shift(*sites(np.random.default_rng(7), 40, 30, 3, 8, 9.0))
    assert moved.shift == pytest.approx(still.shift, rel=0.02)


def test_what_cannot_be_said_is_none_with_a_note():
    same = detectable_shift(np.ones((10, 3)), np.arange(10), np.ones((8, 3)), np.arange(8))
    assert (same.shift, same.distance, same.dims) == (None, None, 0)
    assert "do not differ" in same.note
    x = np.random.default_rng(0).normal(size=(4, 3))
    two = detectable_shift(x, [0, 0, 1, 1], x, [0, 0, 1, 1])
    assert two.shift is None
    assert "missed too often" in two.note


def test_refusals_are_sentences():
    x, p = np.random.default_rng(0).normal(size=(4, 3)), np.arange(4)
    with pytest.raises(ValueError, match="level < power"):
        detectable_shift(x, p, x, p, power=0.01)
    with pytest.raises(ValueError, match="100 simulations"):
        detectable_shift(x, p, x, p, simulations=10)
    with pytest.raises(ValueError, match="target site has 1 patient"):
        detectable_shift(x, p, x, 0 * p)
