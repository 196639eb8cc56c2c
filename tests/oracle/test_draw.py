"""Draws by brute force: who meets whom, how often, and that nothing else decides it."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.cohort import draw
from medssl.errors import NothingUsableError, UsageError


def bags_of(patients, studies=None, pictures=None):
    n = len(patients)
    rows = np.arange(n) * 3 + 5  # store rows are not 0..n-1
    bag = np.array(studies if studies is not None else patients).astype(str)
    picture = np.array(pictures if pictures is not None else [f"x{k}" for k in range(n)])
    return rows, draw.make_bags(rows, bag, np.array(patients).astype(str), picture)


people = st.lists(st.integers(0, 12), min_size=2, max_size=60).filter(
    lambda p: max(Counter(p).values()) > 1
)


@settings(max_examples=60, deadline=None)
@given(people, st.integers(0, 2**31), st.integers(0, 50), st.integers(2, 16))
def test_micle_epoch(patients, seed, epoch, batch):
    """Every patient once; two different images of that patient where there are two."""
    rows, bags = bags_of(patients)
    owner = dict(zip(rows.tolist(), patients, strict=True))
    plan = draw.plan_patients(bags, seed, epoch, batch, single_images=True)
    met = [owner[int(r)] for r in plan.rows[:, 0]]
    assert sorted(met) == sorted(set(patients))
    counts = Counter(patients)
    for a, b in plan.rows.tolist():
        assert owner[a] == owner[b]
        assert (a != b) == (counts[owner[a]] > 1)
    for step in range(len(plan.limits) - 1):
        here = plan.patient[plan.batch(step)]
        assert len(set(here.tolist())) == len(here) <= batch
    assert draw.pair_share(plan) == np.mean([counts[p] > 1 for p in set(patients)])


@settings(max_examples=40, deadline=None)
@given(people, st.integers(0, 2**31), st.integers(1, 4), st.integers(2, 16))
def test_ranks_share_the_global_batch(patients, seed, world, batch):
    """The slices of all processes are the batch: nothing doubled, nothing lost."""
    _, bags = bags_of(patients)
    plan = draw.plan_patients(bags, seed, 0, batch, single_images=True)
    for step in range(len(plan.limits) - 1):
        whole = np.arange(len(plan.patient))[plan.batch(step)].tolist()
        parts = [
            np.arange(len(plan.patient))[plan.batch(step, r, world)].tolist() for r in range(world)
        ]
        assert [x for part in parts for x in part] == whole


@settings(max_examples=40, deadline=None)
@given(people, st.integers(0, 2**31), st.integers(2, 16))
def test_simclr_epoch_draws_every_image_once(patients, seed, batch):
    rows, bags = bags_of(patients)
    owner = dict(zip(rows.tolist(), patients, strict=True))
    plan = draw.plan_images(bags, seed, 3, batch)
    assert sorted(plan.rows[:, 0].tolist()) == sorted(rows.tolist())
    codes = defaultdict(set)
    for row, code in zip(plan.rows[:, 0].tolist(), plan.patient.tolist(), strict=True):
        codes[code].add(owner[row])
    assert all(len(v) == 1 for v in codes.values())
    assert np.diff(plan.limits).max() <= batch


def test_pairs_are_uniform_over_ordered_pairs():
    _, bags = bags_of([1, 1, 1, 2])
    seen = Counter()
    for epoch in range(3000):
        plan = draw.plan_patients(bags, 0, epoch, 2, single_images=True)
        a, b = next(r for r in plan.rows.tolist() if r[0] != r[1])
        seen[a, b] += 1
    assert len(seen) == 6
    assert all(abs(n - 500) < 5 * np.sqrt(500) for n in seen.values())


def test_identical_pictures_are_no_pair():
    """A picture stored twice under one patient is one picture."""
    _, bags = bags_of([1, 1, 2, 2], pictures=["a", "a", "b", "c"])
    assert sorted(bags.sizes.tolist()) == [1, 2]


def test_bag_by_study_keeps_the_patient_as_unit():
    patients, studies = [1, 1, 1, 1, 2], ["s", "s", "t", "t", "u"]
    rows, bags = bags_of(patients, studies)
    study = dict(zip(rows.tolist(), studies, strict=True))
    met = set()
    for epoch in range(40):
        plan = draw.plan_patients(bags, 0, epoch, 2, single_images=True)
        assert len(plan.rows) == 2
        for a, b in plan.rows.tolist():
            assert study[a] == study[b]
            met.add(study[a])
    assert met == {"s", "t", "u"}


def test_single_images_can_be_left_out():
    _, bags = bags_of([1, 1, 2, 3])
    plan = draw.plan_patients(bags, 0, 0, 4, single_images=False)
    assert plan.rows.shape == (1, 2)


def test_refusals():
    _, lonely = bags_of([1, 2, 3])
    with pytest.raises(NothingUsableError, match="no patient has two"):
        draw.check_pairs(lonely, 2, single_images=True)
    _, few = bags_of([1, 1, 2])
    with pytest.raises(UsageError, match="batch 8 is larger than the 2 patients"):
        draw.check_pairs(few, 8, single_images=True)


def test_epochs_differ_and_repeat():
    _, bags = bags_of([1, 1, 2, 2, 3, 3, 4])
    first, again, other = (
        draw.plan_patients(bags, 5, e, 4, single_images=True).rows.tolist() for e in (0, 0, 1)
    )
    assert first == again != other
