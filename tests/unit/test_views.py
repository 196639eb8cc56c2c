"""Views: pure functions of seed, epoch and place; every setting bites."""

import math

import numpy as np
import pytest
import torch

from medssl import views
from medssl.config import ViewsConfig

STILL = {
    "crop_area": (1.0, 1.0),
    "rotation_deg": 0,
    "shift": 0,
    "brightness": 0,
    "contrast": 0,
    "gamma": 0,
}


def picture(n=4, shape=(24, 32)):
    stream = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, *shape, generator=stream)


def see(config, images, seed=0, epoch=0, view=0, start=0):
    u = views.uniforms(seed, epoch, view, slice(start, start + len(images)))
    how = views.sample(config, u, images.ndim - 2)
    return views.apply(images, how, config)


def test_numbers_depend_on_the_place_alone():
    whole = views.uniforms(3, 5, 1, slice(0, 40))
    assert ((whole >= 0) & (whole < 1)).all()
    np.testing.assert_array_equal(views.uniforms(3, 5, 1, slice(17, 29)), whole[17:29])
    others = [views.uniforms(*k, slice(0, 40)) for k in ((4, 5, 1), (3, 6, 1), (3, 5, 0))]
    assert all((o != whole).all() for o in others)
    assert abs(whole.mean() - 0.5) < 0.05


def test_neighbouring_seeds_and_views_do_not_repeat_each_other():
    streams = [
        views.uniforms(s, e, v, slice(0, 8)).ravel() for s in (0, 1) for e in (0, 1) for v in (0, 1)
    ]
    flat = np.concatenate(streams)
    assert len(np.unique(flat)) == len(flat)


@pytest.mark.parametrize("shape", [(24, 32), (6, 10, 14)])
def test_still_settings_change_nothing(shape):
    images = picture(shape=shape)
    torch.testing.assert_close(see(ViewsConfig(**STILL), images), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"crop_area": (0.3, 0.5)},
        {"rotation_deg": 30},
        {"shift": 0.3},
        {"flip": True},
        {"brightness": 0.5},
        {"contrast": 0.5},
        {"gamma": 0.5},
        {"blur_sigma": 2.0, "blur_probability": 1.0},
        {"cutout": 0.5},
    ],
)
def test_every_setting_bites(change):
    images = picture(8)
    seen = see(ViewsConfig(**{**STILL, **change}), images)
    assert (seen - images).abs().max() > 0.01
    assert seen.shape == images.shape
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1


def test_blur_probability_bites():
    images = picture(64)
    base = {**STILL, "blur_sigma": 2.0}
    never = see(ViewsConfig(**base, blur_probability=0), images)
    torch.testing.assert_close(never, images, atol=1e-4, rtol=0)
    half = see(ViewsConfig(**base, blur_probability=0.5), images)
    share = ((half - images).abs().amax((1, 2, 3)) > 1e-3).float().mean()
    assert 0.25 < float(share) < 0.75


def test_each_image_gets_its_own_parameters():
    images = picture(1).repeat(8, 1, 1, 1)
    seen = see(ViewsConfig(), images).flatten(1)
    assert len({tuple(row.tolist()) for row in seen}) == 8


def test_mirror_is_left_and_right():
    images = picture(64)
    seen = see(ViewsConfig(**{**STILL, "flip": True}), images)
    same = (seen - images).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (seen - images.flip(-1)).abs().amax((1, 2, 3)) < 1e-4
    assert bool((same ^ mirrored).all())
    assert 10 < int(mirrored.sum()) < 54


def test_quarter_turn_by_hand():
    """A fixed turn of 90 degrees equals a transposition of a square picture."""
    images = picture(2, (16, 16))
    n = len(images)
    still = views.sample(ViewsConfig(**STILL), np.zeros((n, views.DRAWS)), 2)
    turned = views.ViewParameters(**{**vars(still), "angle": torch.full((n,), math.pi / 2)})
    got = views.apply(images, turned, ViewsConfig(**STILL))
    options = [torch.rot90(images, k, (-2, -1)) for k in (1, 3)]
    assert any(torch.allclose(got, o, atol=1e-4) for o in options)


def test_blur_against_scipy():
    from scipy.ndimage import gaussian_filter

    images = picture(1, (40, 30))
    got = views._blur(images, torch.tensor([1.5]), 1.5)[0, 0, 8:-8, 8:-8]
    wanted = gaussian_filter(images[0, 0].numpy(), 1.5, mode="nearest", truncate=4 / 1.5)[
        8:-8, 8:-8
    ]
    np.testing.assert_allclose(got, wanted, atol=1e-3)
