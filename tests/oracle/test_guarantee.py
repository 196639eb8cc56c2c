"""Guaranteed thresholds against MAPIE, loops, simulated hospitals, and reference values."""

import math

import numpy as np
import pytest
from conftest import PROOF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from medssl.stats.guarantee import (
    STARTS,
    guaranteed_threshold,
    least_trials,
    one_trial_per_patient,
)

pytestmark = pytest.mark.filterwarnings("error")

CAL, ONE = slice(0, 600), np.arange(600)


def tail(hits, trials, target):
    """P(Bin(trials, target) >= hits) term by term."""
    return math.fsum(
        math.comb(trials, k) * target**k * (1 - target) ** (trials - k)
        for k in range(hits, trials + 1)
    )


def mapie_thresholds(y, p, risk, method):
    """Thresholds that MAPIE holds for guaranteed at 0.9 with confidence 0.9."""
    from mapie.risk_control import BinaryClassificationController

    found = BinaryClassificationController(
        lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
        risk,
        target_level=0.9,
        confidence_level=0.9,
        fwer_method=method,
    ).calibrate(p[:, None], y)
    return found.valid_predict_params


def hospital(g, patients):
    """Patients of one to seven images that resemble each other: y, probability, patient."""
    patient = np.repeat(np.arange(patients), g.integers(1, 8, patients))
    ill, u = g.random(patients) < 0.5, g.normal(size=patients)
    y = ill[patient] & (g.random(patient.size) < 0.7)
    return y.astype(int), expit(2 * y - 1 + u[patient] + g.normal(0, 0.3, y.size)), patient


@pytest.fixture(scope="module")
def truth():
    """Rate of each default threshold in a hospital without end: function of rate and unit."""
    y, p, patient = hospital(np.random.default_rng(99), 200_000)

    def rates(rate, unit):
        positive, score = one_trial_per_patient(y, p, patient, unit=unit)
        found, every = np.sort(score[positive]), np.sort(score)
        hits = found.size - found.searchsorted(np.arange(100) / 100)
        flagged = every.size - every.searchsorted(np.arange(100) / 100)
        return hits / (found.size if rate == "sensitivity" else np.maximum(flagged, 1))

    return rates


class TestSensitivity:
    def test_reference_value(self, r1):
        y, p, _ = r1
        found = guaranteed_threshold(y[CAL], p[CAL], ONE)
        assert found.threshold == 0.06
        assert (found.hits, found.trials) == (211, 223)
        assert found.p == pytest.approx(0.0098, abs=5e-5)
        assert found.p == pytest.approx(tail(211, 223, 0.9), rel=1e-9)
        rest = slice(600, 1200)
        assert np.mean(p[rest][y[rest] == 1] >= found.threshold) == pytest.approx(0.973, abs=5e-4)
        assert found.note == (
            "With 90% confidence more than 90% of patients with a positive image are flagged at "
            "threshold 0.06, provided that new patients come from where the calibrating ones came "
            "from."
        )

    def test_equals_mapie_in_a_fixed_sequence(self, r1):
        """MAPIE's default stops at 0.05, not 0.06: by default it corrects for 99 or so thresholds
        (Bonferroni-Holm) instead of walking them in order, which costs nothing. Told to walk, it
        agrees with us."""
        y, p, _ = r1
        walked = mapie_thresholds(y[CAL], p[CAL], "recall", "fixed_sequence")
        assert walked.max() == pytest.approx(guaranteed_threshold(y[CAL], p[CAL], ONE).threshold)
        assert mapie_thresholds(y[CAL], p[CAL], "recall", "bonferroni_holm").max() == 0.05

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(0, 10_000),
        st.integers(1, 150),
        st.sampled_from([0.5, 0.8, 0.9]),
        st.sampled_from([0.5, 0.9, 0.95]),
    )
    def test_equals_a_walk_by_loops(self, seed, n, target, confidence):
        g = np.random.default_rng(seed)
        y, p = (g.random(n) < 0.6).astype(int), np.round(g.random(n) ** 0.3, 2)
        found = guaranteed_threshold(y, p, np.arange(n), target=target, confidence=confidence)
        expected = None
        for t in np.arange(100) / 100:
            if tail(int(np.sum(p[y == 1] >= t)), int(y.sum()), target) > 1 - confidence + 1e-12:
                break
            expected = t
        assert found.threshold == expected

    @pytest.mark.parametrize("unit", ["patient", "image"])
    def test_is_broken_no_more_often_than_allowed(self, truth, unit):
        g, runs, rates = (
            np.random.default_rng(1),
            3000 if PROOF else 300,
            truth("sensitivity", unit),
        )
        broken = useful = 0
        for seed in range(runs):
            y, p, patient = hospital(g, 150)
            found = guaranteed_threshold(y, p, patient, target=0.8, unit=unit, seed=seed)
            if found.threshold is not None:
                useful += 1
                broken += rates[round(100 * found.threshold)] <= 0.8
        assert useful > 0.9 * runs
        assert broken / runs <= (0.115 if PROOF else 0.14)

    def test_taking_rows_for_patients_breaks_it(self, truth):
        g, rates = np.random.default_rng(1), truth("sensitivity", "image")
        broken = 0
        for _ in range(200):
            y, p, _ = hospital(g, 150)
            found = guaranteed_threshold(y, p, np.arange(y.size), target=0.8)
            broken += rates[round(100 * found.threshold)] <= 0.8
        assert broken / 200 > 0.14

    def test_copies_of_images_prove_nothing(self):
        y, p = np.ones(10, int), np.linspace(0.5, 0.9, 10)
        assert guaranteed_threshold(np.tile(y, 9), np.tile(p, 9), np.arange(90)).threshold == 0.5
        copied = guaranteed_threshold(np.tile(y, 9), np.tile(p, 9), np.tile(np.arange(10), 9))
        assert copied.threshold is None
        assert (copied.hits, copied.trials, copied.patients) == (10, 10, 10)

    def test_just_enough_and_one_short(self):
        p = np.full(22, 0.77)
        assert guaranteed_threshold(np.ones(22), p, np.arange(22)).threshold == 0.77
        short = guaranteed_threshold(np.ones(21), p[:21], np.arange(21))
        assert short.threshold is None
        assert short.note == (
            "No threshold can be guaranteed: at best 21 of 21 patients with a positive image "
            "counted as hits, which does not show more than 90% with 90% confidence. Without a "
            "single miss it takes 22."
        )
        assert least_trials(0.9) == 22
        assert least_trials(0.975, 0.95) == next(n for n in range(999) if 0.975**n <= 0.05)

    def test_a_threshold_that_flags_everybody_is_named(self):
        y = np.repeat([0, 1], 30)
        found = guaranteed_threshold(y, np.full(60, 0.4), np.arange(60))
        assert (found.threshold, found.flagged, found.patients) == (0.4, 60, 60)
        assert found.note.endswith("so it separates nobody.")

    def test_no_positive_patient(self):
        found = guaranteed_threshold([0, 0], [0.1, 0.2], ["a", "b"])
        assert (found.threshold, found.trials, found.p) == (None, 0, 1)
        assert "0 of 0 patients" in found.note

    def test_own_grid_and_unbounded_scores(self):
        y, s = np.ones(40), np.arange(40.0) - 5
        found = guaranteed_threshold(y, s, np.arange(40), grid=[-20, -5, -4, 30])
        assert found.threshold == -4
        assert guaranteed_threshold(y, s, np.arange(40), grid=[30, 40]).threshold is None


class TestPpv:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from([0.3, 0.6]))
    def test_equals_walks_by_loops(self, seed, n, target):
        g = np.random.default_rng(seed)
        p = g.random(n)
        y = (g.random(n) < p**0.5).astype(int)
        found = guaranteed_threshold(y, p, np.arange(n), rate="ppv", target=target)
        holds = set()
        for start in range(99, 0, -10):
            for step in range(start, -1, -1):
                flagged = p >= step / 100
                if tail(int(y[flagged].sum()), int(flagged.sum()), target) > 0.1 / STARTS:
                    break
                holds.add(step / 100)
        assert found.threshold == (min(holds) if holds else None)

    @pytest.mark.parametrize("unit", ["patient", "image"])
    def test_is_broken_no_more_often_than_allowed(self, truth, unit):
        g, runs, rates = np.random.default_rng(2), 3000 if PROOF else 300, truth("ppv", unit)
        target = 0.75 if unit == "patient" else 0.65
        broken = useful = 0
        for seed in range(runs):
            y, p, patient = hospital(g, 300)
            found = guaranteed_threshold(
                y, p, patient, rate="ppv", target=target, unit=unit, seed=seed
            )
            if found.threshold is not None:
                useful += 1
                broken += rates[round(100 * found.threshold)] <= target
        assert useful > 0.5 * runs
        assert broken / runs <= 0.1

    def test_near_mapie(self, r1):
        """MAPIE gives each of 99 or so thresholds a part of the error, we each of 10 walks, and so
        reach as low or lower. (Its Holm correction ends at thresholds that flag nobody.)"""
        y, p, _ = r1
        label = ((y == 1) | (p > 0.5)).astype(int)
        ours = guaranteed_threshold(label, p, np.arange(1200), rate="ppv").threshold
        theirs = mapie_thresholds(label, p, "precision", "bonferroni").min()
        assert theirs - 0.02 <= ours <= theirs

    def test_none_says_what_it_takes(self):
        found = guaranteed_threshold([1, 0, 1], [0.9, 0.2, 0.8], [0, 1, 2], rate="ppv", target=0.5)
        assert found.threshold is None
        assert (found.hits, found.trials) == (2, 2)
        assert "2 of 2 flagged patients" in found.note
        assert "walks of fixed order that share the error. Without a single miss it takes 7" in (
            found.note
        )
        assert 0.5**7 <= 0.01 < 0.5**6

    def test_nothing_flagged_proves_nothing(self):
        found = guaranteed_threshold([1] * 50, [0.1] * 50, np.arange(50), rate="ppv", grid=[0.5])
        assert (found.threshold, found.trials, found.p) == (None, 0, 1)


class TestOneTrialPerPatient:
    def test_patient_is_any_and_highest(self):
        y, score = one_trial_per_patient([0, 1, 0, 0], [0.9, 0.3, 0.2, 0.5], ["b", "b", "a", "a"])
        assert y.tolist() == [True, False]
        assert score.tolist() == [0.9, 0.5]

    def test_image_is_one_of_the_patients_own(self):
        g = np.random.default_rng(0)
        patient, value = g.integers(0, 20, 100), np.arange(100.0)
        y, score = one_trial_per_patient(value > 50, value, patient, unit="image", seed=3)
        rows = score.astype(int)
        assert patient[rows].tolist() == list(dict.fromkeys(patient))
        assert y.tolist() == (value[rows] > 50).tolist()

    def test_bad_input(self):
        with pytest.raises(ValueError, match="'patient' or 'image', got 'row'"):
            one_trial_per_patient([0], [1], [2], unit="row")
        with pytest.raises(ValueError, match="3 entries for 1 rows"):
            one_trial_per_patient([0], [1], [1, 2, 3])
        with pytest.raises(ValueError, match="a row at least"):
            one_trial_per_patient([], [], [])
        with pytest.raises(ValueError, match="NaN"):
            one_trial_per_patient([0], [np.nan], [1])


class TestBadInput:
    def test_numbers(self):
        with pytest.raises(ValueError, match=r"got 1 and 0\.9; nothing can be promised"):
            guaranteed_threshold([1], [0.5], [0], target=1)
        with pytest.raises(ValueError, match=r"got 0\.9 and 0"):
            least_trials(0.9, 0)
        with pytest.raises(ValueError, match="'sensitivity' or 'ppv', got 'npv'"):
            guaranteed_threshold([1], [0.5], [0], rate="npv")

    def test_grid(self):
        with pytest.raises(ValueError, match="scores run from -1 to 2"):
            guaranteed_threshold([1, 0], [2, -1], [0, 1])
        for grid, words in [([], "one threshold at least"), ([0.2, 0.2], "must increase")]:
            with pytest.raises(ValueError, match=words):
                guaranteed_threshold([1, 0], [0.2, 0.1], [0, 1], grid=grid)
        with pytest.raises(ValueError, match="without NaN"):
            guaranteed_threshold([1, 0], [0.2, 0.1], [0, 1], grid=[np.nan])
