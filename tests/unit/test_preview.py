"""What the page of positive pairs shows is what training draws and sees."""

import itertools

import numpy as np
import pytest
import torch

from medssl import preview, views
from medssl.cohort.draw import Plan
from medssl.config import MICLeConfig, PretrainConfig, SimCLRConfig, ViewsConfig
from medssl.errors import NothingUsableError, UsageError
from medssl.store import open_store
from medssl.train.course import Course, make_views
from medssl.train.feed import Feed
from medssl.train.pretrain import gather

STRONG = ViewsConfig(
    crop_area=(0.3, 0.6), rotation_deg=40, shift=0.2, flip=True, brightness=0.5, contrast=0.5,
    gamma=0.5, blur_sigma=3, blur_probability=0.9, cutout=0.4, flip_vertical=True, elastic=0.1,
    elastic_probability=0.9, equalise_probability=0.5, noise_std=0.3, noise_probability=0.9,
)  # fmt: skip
COLOUR = {"saturation": 0.5, "hue_deg": 40, "grey_probability": 0.5}
SIMCLR = SimCLRConfig(name="simclr")
MICLE = MICLeConfig(name="micle")


def config_of(method, views_config=STRONG):
    return PretrainConfig(decode={"size": 32}, method=method, views=views_config, batch=8, seed=3)


@pytest.fixture
def planes():
    return np.random.default_rng(0).integers(0, 65536, (6, 24, 24), dtype=np.uint16)


def test_a_view_is_what_the_views_make_directly(planes):
    got = preview.view(planes, STRONG, seed=5, epoch=2, number=1, places=slice(4, 10))
    images = torch.from_numpy(planes.astype(np.float32) / 65535)[:, None]
    u = views.uniforms(5, 2, 1, slice(4, 10))
    wanted = views.apply(images, views.sample(STRONG, u, 2), STRONG)[:, 0].numpy()
    assert got.shape == (6, 24, 24)
    np.testing.assert_array_equal(got, wanted)


def test_of_volumes_the_middle_plane():
    config = ViewsConfig(blur_sigma=0)
    volumes = np.random.default_rng(1).integers(0, 65536, (2, 8, 8, 8), dtype=np.uint16)
    got = preview.view(volumes, config, seed=0, epoch=0, number=0, places=slice(0, 2))
    images = torch.from_numpy(volumes.astype(np.float32) / 65535)[:, None]
    u = views.uniforms(0, 0, 0, slice(0, 2))
    wanted = views.apply(images, views.sample(config, u, 3), config)[:, 0, 4].numpy()
    np.testing.assert_array_equal(got, wanted)


def test_off_changes_nothing(planes):
    got = preview.view(planes, preview.OFF, seed=0, epoch=0, number=0, places=slice(0, 6))
    np.testing.assert_allclose(got, planes / 65535, atol=1e-5)


KNOBS = [n for n in ViewsConfig.model_fields if n not in {*preview.TOGETHER, *COLOUR}]


@pytest.mark.parametrize("name", [*KNOBS, *preview.TOGETHER])
def test_every_knob_changes_something_alone(planes, name):
    lone = preview.only(STRONG, name)
    changed = [n for n in ViewsConfig.model_fields if getattr(lone, n) != getattr(preview.OFF, n)]
    assert set(changed) <= set(preview.TOGETHER.get(name, (name,)))
    got = preview.view(planes, lone, seed=1, epoch=0, number=0, places=slice(0, 6))
    assert np.abs(got - planes / 65535).max() > 0.01


@pytest.mark.parametrize("name", COLOUR)
def test_a_knob_of_colour_is_refused_for_grey(planes, name):
    lone = preview.only(STRONG.model_copy(update=COLOUR), name)
    with pytest.raises(UsageError, match=name):
        preview.view(planes, lone, seed=1, epoch=0, number=0, places=slice(0, 6))


@pytest.mark.parametrize("method", [SIMCLR, MICLE, MICLeConfig(name="micle", bag="study_id")])
def test_the_plan_and_the_pairs_are_those_of_training(cohorts, method):
    """The oracle is the code that trains: its material, its planner, its feed and its views."""
    config, data = config_of(method), cohorts / "hospital_a"
    material = gather(config, data, "file")
    store = open_store(data, config.decode)
    rows = preview.trained_rows(data, store, split=True)
    np.testing.assert_array_equal(rows, material.rows)
    for epoch in (0, 3):
        wanted = material.policy.plan(epoch)
        got = preview.plan(store, rows, method, seed=3, epoch=epoch, batch=8)
        np.testing.assert_array_equal(got.rows, wanted.rows)
        np.testing.assert_array_equal(got.limits, wanted.limits)
        batch = next(iter(Feed(store, wanted)))
        course = Course(store, material.policy.plan, 1, 0.0, 1.0)
        count = 1 if isinstance(method, MICLeConfig) else 2
        seen = make_views(batch, config, epoch, course, count)[:, :, 0].numpy()
        first, second = preview.pairs(store, got, STRONG, seed=3, epoch=epoch, places=batch.places)
        np.testing.assert_array_equal(first, seen[:, 0])
        np.testing.assert_array_equal(second, seen[:, 1])


def test_without_a_split_everybody_is_trained_on(cohorts):
    data = cohorts / "hospital_a"
    store = open_store(data, config_of(SIMCLR).decode)
    assert len(preview.trained_rows(data, store, split=False)) == len(store)
    with pytest.raises(NothingUsableError, match="no split"):
        preview.trained_rows(cohorts / "hospital_b", store, split=True)


def test_what_training_refuses_is_refused(cohorts):
    data = cohorts / "hospital_a"
    store = open_store(data, config_of(SIMCLR).decode)
    rows = preview.trained_rows(data, store, split=True)
    with pytest.raises(UsageError, match="batch 500"):
        preview.plan(store, rows, MICLE, seed=0, epoch=0, batch=500)


def test_shares_by_plain_loops():
    rng = np.random.default_rng(4)
    n = 40
    label = np.array(
        [rng.choice(["0", "1", None], p=[0.5, 0.3, 0.2]) for _ in range(n)], dtype=object
    )
    patient = np.array([f"p{k // 3}" for k in range(n)], dtype=object)
    pairs = np.array([(k, k + 1 if k % 3 < 2 and k + 1 < n else k) for k in range(0, n, 2)])
    plan = Plan(pairs, np.arange(len(pairs)), np.array([0, len(pairs)]))
    rows = np.arange(n)
    got = preview.shares(plan, rows, label, patient)
    two = [(a, b) for a, b in pairs if a != b]
    known = [(a, b) for a, b in two if label[a] is not None and label[b] is not None]
    assert got.pairs == len(pairs)
    assert got.two == pytest.approx(len(two) / len(pairs))
    assert got.agree == pytest.approx(sum(label[a] == label[b] for a, b in known) / len(known))
    meetings = [
        label[a] == label[b]
        for a, b in itertools.permutations(rows, 2)
        if patient[a] != patient[b] and label[a] is not None and label[b] is not None
    ]
    assert got.chance == pytest.approx(sum(meetings) / len(meetings))


def test_shares_without_labels():
    plan = Plan(np.array([[0, 1]]), np.array([0]), np.array([0, 1]))
    nothing = np.full(2, None, dtype=object)
    got = preview.shares(plan, np.arange(2), nothing, np.array(["a", "b"], dtype=object))
    assert got.agree is None
    assert got.chance is None
