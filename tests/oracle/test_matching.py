"""Labels to match, against plain loops and curves whose crossing is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.stats import counted
from medssl.stats.bootstrap import Patients, draws
from medssl.stats.matching import Match, Resampled, first_reach, labels_to_match


def by_loops(budgets, scores, target):
    """Pool adjacent violators, then walk a fine logarithmic grid."""
    blocks = [[s, 1] for s in scores]
    k = 0
    while k < len(blocks) - 1:
        if blocks[k][0] > blocks[k + 1][0]:
            (a, n), (b, m) = blocks[k], blocks[k + 1]
            blocks[k : k + 2] = [[(a * n + b * m) / (n + m), n + m]]
            k = max(0, k - 1)
        else:
            k += 1
    curve = [v for v, n in blocks for _ in range(n)]
    grid = np.exp(np.linspace(math.log(budgets[0]), math.log(budgets[-1]), 200_001))
    level = np.interp(np.log(grid), np.log(budgets), curve)
    hit = np.flatnonzero(level >= target - 1e-12)
    return math.inf if hit.size == 0 else float(grid[hit[0]])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.5, 1), min_size=1, max_size=8), st.floats(0.5, 1), st.integers(0, 99))
def test_the_first_budget_that_reaches(scores, target, seed):
    budgets = np.cumsum(np.random.default_rng(seed).uniform(0.5, 20, len(scores)))
    got, wanted = first_reach(budgets, np.array(scores), target), by_loops(budgets, scores, target)
    if math.isinf(wanted) or math.isinf(got):
        assert math.isinf(got) == math.isinf(wanted) or abs(max(scores) - target) < 1e-9
    else:
        assert math.log(got) == pytest.approx(math.log(wanted), abs=1e-3)


def resampled(parts, groups, resamples):
    found = draws({str(k): s for k, s in enumerate(parts)}, groups, resamples=resamples)
    whole = np.ones((1, groups.count), np.int64)
    value = np.array([float(s(whole)[0]) for s in parts])
    return Resampled(value, np.stack([found[str(k)] for k in range(len(parts))]))


def noisy(rng, y, quality):
    """A score of 0/1 outcomes that separates them by so many deviations."""
    return quality * y + rng.normal(size=len(y))


def test_a_crossing_that_is_known():
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(1500), 2)
    y = np.repeat(rng.random(1500) < 0.4, 2)
    groups, budgets = Patients.of(patient), (1.0, 10.0, 100.0)
    own = [made(rng, y, 0.5 + math.log10(b), groups) for b in budgets]
    other = made(rng, y, 1.5, groups)  # the other start has what ten percent give
    match = labels_to_match(budgets, own, other)
    assert match.value is not None
    assert 6 < match.value < 16
    assert match.lower < match.value < match.upper
    assert match.reached == 1.0
    never = labels_to_match(budgets[:1], own[:1], other)
    assert (never.value, never.upper, never.reached) == (None, None, 0.0)
    always = labels_to_match(budgets[1:], own[1:], own[0])
    assert always.value == always.lower == 10.0


def made(rng, y, quality, groups):
    """Three draws of labels whose scores separate 0/1 outcomes by so many deviations."""
    parts = [counted.auroc(y, noisy(rng, y, quality), groups) for _ in range(3)]
    return resampled(parts, groups, resamples=400)


def test_pairs_of_draws_stay_together():
    """The other start is the same curve at 100 %: matched exactly there, in every resample."""
    groups = Patients.of(np.arange(50))
    rng = np.random.default_rng(0)
    at = [
        resampled([one(rng.normal(b, 3, 50)) for _ in range(5)], groups, resamples=300)
        for b in (1.0, 100.0)
    ]
    match = labels_to_match((1.0, 100.0), at, at[1])
    assert match.value == pytest.approx(100.0)
    assert match.lower == pytest.approx(100.0)
    assert match.reached == 1.0


def one(values):
    def statistic(counts):
        return counts @ values / counts.sum(axis=1)

    return statistic


def test_words():
    assert Match(12.3, 5.0, None, 1, 100, 0.9, 0.9).sentence("MICLe", "scratch") == (
        "MICLe reaches scratch (0.900) with 12.3 % of the labels "
        "(95 % interval 5 to more than 100)."
    )
    assert "at most 1" in Match(1.0, 1.0, 4.0, 1, 100, 1, 0.9).sentence("a", "b")
    assert "does not reach" in Match(None, None, None, 1, 100, 0, 0.9).sentence("a", "b")


def test_what_cannot_be_asked():
    groups = Patients.of(np.arange(4))
    value = resampled([one(np.arange(4.0))], groups, resamples=10)
    lost = Resampled(value.value, value.drawn * math.nan)
    for budgets, own, other in (
        ((), [], value),
        ((1.0,), [], value),
        ((2.0, 1.0), [value, value], value),
        ((0.0,), [value], value),
        ((1.0,), [value], lost),
    ):
        with pytest.raises(ValueError, match=r"positive and rising|too few patients"):
            labels_to_match(budgets, own, other)
