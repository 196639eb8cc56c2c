"""Draws of slices in a row, and of two images that differ, against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.cohort import draw, draw_slices, draw_unlike
from medssl.cohort.policy import policy
from medssl.config import NextSliceConfig, SimCLRConfig, SliceOrderConfig
from medssl.errors import NothingUsableError, UsageError

COHORTS = st.lists(
    st.tuples(st.sampled_from("pqr"), st.sampled_from("ab"), st.integers(-1, 9)),
    min_size=1, max_size=40, unique=True,
)  # fmt: skip


def table(cohort):
    """Rows with patient, series and slice; a patient's series are his own."""
    patient = np.array([p for p, _, _ in cohort], object)
    series = np.array([p + s for p, s, _ in cohort], object)
    return np.arange(len(cohort)), patient, series, np.array([k for *_, k in cohort], np.int64)


def reach(cohort, a, within):
    """Return the rows that lie near another one, by the definition."""
    return [
        b
        for b in range(len(cohort))
        if b != a
        and cohort[a][:2] == cohort[b][:2]
        and min(cohort[a][2], cohort[b][2]) >= 0
        and abs(cohort[a][2] - cohort[b][2]) <= within
    ]


@settings(max_examples=150, deadline=None)
@given(COHORTS, st.integers(1, 4), st.integers(0, 99))
def test_every_slice_with_a_neighbour_once_with_one_of_them(cohort, within, seed):
    near = draw.neighbours(*table(cohort), within)
    plan = draw_slices.plan_next(near, seed, 3, 5)
    wanted = {a for a in range(len(cohort)) if reach(cohort, a, within)}
    assert sorted(plan.rows[:, 0].tolist()) == sorted(wanted)
    assert all(b in reach(cohort, a, within) for a, b in plan.rows.tolist())
    again = draw_slices.plan_next(near, seed, 3, 5)
    np.testing.assert_array_equal(plan.rows, again.rows)


@settings(max_examples=150, deadline=None)
@given(COHORTS, st.integers(1, 4), st.integers(0, 99))
def test_three_slices_stand_in_order(cohort, within, seed):
    near = draw.neighbours(*table(cohort), within)
    plan = draw_slices.plan_triples(near, seed, 0, 4)
    wanted = set()
    for m in range(len(cohort)):
        others = [cohort[b][2] for b in reach(cohort, m, within)]
        if any(k < cohort[m][2] for k in others) and any(k > cohort[m][2] for k in others):
            wanted.add(m)
    assert sorted(plan.rows[:, 1].tolist()) == sorted(wanted)
    for a, m, b in plan.rows.tolist():
        assert {a, b} <= set(reach(cohort, m, within))
        assert cohort[a][2] < cohort[m][2] < cohort[b][2]


def test_every_neighbour_comes_up():
    cohort = [("p", "a", k) for k in range(7)]
    near = draw.neighbours(*table(cohort), 2)
    drawn = {
        tuple(row) for e in range(300) for row in draw_slices.plan_next(near, 0, e, 4).rows.tolist()
    }
    assert drawn == {(a, b) for a in range(7) for b in reach(cohort, a, 2)}
    threes = {
        tuple(row)
        for e in range(300)
        for row in draw_slices.plan_triples(near, 0, e, 4).rows.tolist()
    }
    assert threes == {
        (a, m, b) for a, m, b in itertools.combinations(range(7), 3) if m - a <= 2 and b - m <= 2
    }


ROWS = st.lists(
    st.tuples(st.sampled_from("pqrs"), st.sampled_from("xy"), st.sampled_from(["T1", "T2", "", None])),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(ROWS, st.booleans(), st.integers(0, 99))
def test_pairs_that_differ(cohort, single, seed):
    patient, study, level = (np.array([r[k] for r in cohort], object) for k in range(3))
    bag = np.array([p + s for p, s in zip(patient, study, strict=True)], object)
    held = draw_unlike.unlike(np.arange(len(cohort)), bag, patient, level)
    plan = draw_unlike.plan_unlike(held, seed, 1, 3, single_images=single)
    known = [k for k in range(len(cohort)) if cohort[k][2]]
    pairs = {
        (a, b)
        for a, b in itertools.permutations(known, 2)
        if bag[a] == bag[b] and level[a] != level[b]
    }
    paired = {patient[a] for a, _ in pairs}
    wanted = {patient[k] for k in known} if single else paired
    drawn = [patient[a] for a, _ in plan.rows.tolist()]
    assert sorted(drawn) == sorted(wanted)  # every patient once
    for a, b in plan.rows.tolist():
        assert ((a, b) in pairs) if patient[a] in paired else a == b


def test_every_unlike_pair_comes_up():
    patient = np.array(["p"] * 6, object)
    level = np.array(["T1", "T1", "T2", "FLAIR", "T2", "T1"], object)
    held = draw_unlike.unlike(np.arange(6), patient, patient, level)
    drawn = set()
    for epoch in range(400):
        plan = draw_unlike.plan_unlike(held, 0, epoch, 1, single_images=False)
        drawn |= {tuple(r) for r in plan.rows.tolist()}
    assert drawn == {(a, b) for a, b in itertools.permutations(range(6), 2) if level[a] != level[b]}


def column(cohort):
    rows, patient, series, slices = table(cohort)
    held = {"patient_id": patient, "series_id": series, "slice": slices}
    held["pixels"] = np.array([str(k) for k in rows], object)
    held["view"] = np.array([("PA", "LL")[k % 2] for k in rows], object)
    return held.__getitem__


def test_the_policy_follows_the_settings():
    cohort = [(p, "a", k) for p in "pqr" for k in range(5)]
    rows = np.arange(len(cohort))
    slices = policy(NextSliceConfig(name="next_slice"), rows, column(cohort), seed=0, batch=4)
    assert slices.plan(0).rows.shape == (15, 2)
    triples = policy(SliceOrderConfig(name="slice_order"), rows, column(cohort), seed=0, batch=4)
    assert triples.plan(0).rows.shape == (9, 3)
    views = SimCLRConfig(name="simclr", images=2, differ="view")
    pairs = policy(views, rows, column(cohort), seed=0, batch=3).plan(0).rows
    assert pairs.shape == (3, 2)
    assert all((a + b) % 2 for a, b in pairs.tolist())


@pytest.mark.parametrize("kind", [NextSliceConfig, SliceOrderConfig])
def test_without_slices_there_is_nothing_to_learn(kind):
    config = kind(name="next_slice" if kind is NextSliceConfig else "slice_order")
    cohort = [(p, "a", -1) for p in "pqr"]
    with pytest.raises(NothingUsableError, match=f"{config.name} has nothing to learn"):
        policy(config, np.arange(3), column(cohort), seed=0, batch=2)


def test_two_rules_of_pairs_are_refused():
    from medssl.config import PretrainConfig
    from medssl.loading import validate

    tree = {"method": {"name": "byol", "images": 2, "differ": "view", "within_slices": 2}}
    with pytest.raises(UsageError, match="give one"):
        validate(PretrainConfig, tree, "test")
