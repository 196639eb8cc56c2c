"""Draws by brute force: who meets whom, how often, and that nothing else decides it."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.cohort import draw
from medssl.cohort.policy import policy
from medssl.config import MICLeConfig, SimCLRConfig
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


def columns_of(patients, series, slices):
    n = len(patients)
    held = {
        "patient_id": np.array([f"p{x}" for x in patients], object),
        "series_id": np.array([f"s{x}" for x in series], object),
        "slice": np.array(slices, np.int64),
        "pixels": np.array([f"x{k}" for k in range(n)], object),
    }
    held["study_id"] = held["series_id"]
    return held.__getitem__


def micle(**extra):
    return MICLeConfig(name="micle", **extra)


slabs = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 30)),
    min_size=4,
    max_size=60,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(slabs, st.integers(1, 6), st.integers(0, 99), st.integers(0, 5))
def test_near_slices_by_brute_force(items, within, seed, epoch):
    """Who may meet whom: same patient, same series, slices at most ``within`` apart."""
    patients, series, slices = zip(*items, strict=True)
    series = [10 * p + s for p, s in zip(patients, series, strict=True)]
    order = np.random.default_rng(seed).permutation(len(items))
    column = columns_of(
        [patients[k] for k in order], [series[k] for k in order], [slices[k] for k in order]
    )
    who, place, run = column("patient_id"), column("slice"), column("series_id")
    near = draw.neighbours(np.arange(len(items)), who, run, place, within)
    for k, row in enumerate(near.order):
        wanted = {
            j
            for j in range(len(items))
            if run[j] == run[row] and abs(place[j] - place[row]) <= within
        }
        assert set(near.order[near.low[k] : near.high[k]].tolist()) == wanted
    plan = draw.plan_neighbours(near, seed, epoch, 4, single_images=True)
    assert sorted(who[plan.rows[:, 0]]) == sorted(set(who))
    for a, b in plan.rows.tolist():
        mates = [j for j in range(len(who)) if j != a and run[j] == run[a]
                 and abs(place[j] - place[a]) <= within]  # fmt: skip
        assert who[a] == who[b]
        assert b in mates if a != b else not mates


def test_near_slices_are_drawn_evenly():
    """Of five slices in a row with reach one, every one of the eight ordered pairs, alike."""
    column = columns_of([0] * 5 + [1] * 2, [0] * 5 + [1] * 2, [3, 4, 5, 6, 7, 0, 1])
    rows = np.arange(7)
    near = draw.neighbours(rows, column("patient_id"), column("series_id"), column("slice"), 1)
    seen = Counter()
    for epoch in range(3000):
        plan = draw.plan_neighbours(near, 0, epoch, 2, single_images=True)
        seen.update(tuple(r) for r in plan.rows.tolist() if r[0] < 5)
    assert set(seen) == {(a, b) for a in range(5) for b in range(5) if abs(a - b) == 1}
    # Any slice first, then one of its neighbours: the ends have one, the others two.
    for (a, _), n in seen.items():
        expected = 3000 / 5 / (1 if a in (0, 4) else 2)
        assert abs(n - expected) < 5 * expected**0.5


def test_pictures_without_slices_have_no_neighbours():
    column = columns_of([0, 0, 1, 1], [0, 0, 1, 1], [-1, -1, 2, 3])
    made = policy(micle(within_slices=2), np.arange(4), column, seed=0, batch=2)
    plan = made.plan(0)
    pairs = {tuple(sorted(r)) for r in plan.rows.tolist()}
    assert (2, 3) in pairs
    assert len({a for a, b in pairs if a == b}) == 1
    with pytest.raises(NothingUsableError, match="within_slices"):
        policy(micle(within_slices=1), np.arange(2), column, seed=0, batch=2)


def test_policy_is_the_draw_of_its_settings():
    column = columns_of([0, 0, 1, 1, 2], [0, 1, 2, 2, 3], [0, 0, 1, 2, 0])
    rows = np.arange(5)
    bags = draw.make_bags(rows, *(column(n) for n in ("patient_id", "patient_id", "pixels")))
    for method, wanted in (
        (micle(), draw.plan_patients(bags, 3, 2, 2, single_images=True)),
        (micle(single_images=False), draw.plan_patients(bags, 3, 2, 2, single_images=False)),
        (SimCLRConfig(name="simclr"), draw.plan_images(bags, 3, 2, 2)),
    ):
        size = 2 if len(wanted.rows) == 2 else 3
        got = policy(method, rows, column, seed=3, batch=size).plan(2)
        assert got.rows.tolist() == wanted.rows.tolist()
    series = policy(micle(bag="series_id"), rows, column, seed=0, batch=3)
    assert {tuple(sorted(r)) for r in series.plan(0).rows.tolist()} >= {(2, 3)}
    assert series.patients == 3


@given(st.integers(2, 200), st.integers(1, 40), st.integers(1, 5))
def test_batches_come_in_whole_steps(count, batch, times):
    edges = draw.limits(count, batch, times)
    sizes = np.diff(edges)
    assert edges[0] == 0
    assert edges[-1] == count
    assert len(sizes) % times == 0
    assert sizes.max() <= batch
    assert sizes.max() - sizes.min() <= 1


def test_refusals():
    column = columns_of([1, 2, 3], [1, 2, 3], [0, 0, 0])
    with pytest.raises(NothingUsableError, match="no patient has two"):
        policy(micle(), np.arange(3), column, seed=0, batch=2)
    column = columns_of([1, 1, 2], [1, 1, 2], [0, 1, 0])
    with pytest.raises(UsageError, match="batch 8 is larger than the 2 patients"):
        policy(micle(), np.arange(3), column, seed=0, batch=8)
    with pytest.raises(UsageError, match="fewer than two"):
        policy(SimCLRConfig(name="simclr"), np.arange(3), column, seed=0, batch=2, times=2)


def test_epochs_differ_and_repeat():
    _, bags = bags_of([1, 1, 2, 2, 3, 3, 4])
    first, again, other = (
        draw.plan_patients(bags, 5, e, 4, single_images=True).rows.tolist() for e in (0, 0, 1)
    )
    assert first == again != other
