"""Views: pure functions of seed, epoch and place; every setting bites."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from medssl import views
from medssl.config import ViewsConfig
from medssl.errors import UsageError
from medssl.views import batch

RECIPES = Path(__file__).parents[2] / "configs" / "pretrain"

STILL = {
    "crop_area": (1.0, 1.0),
    "rotation_deg": 0,
    "shift": 0,
    "brightness": 0,
    "contrast": 0,
    "gamma": 0,
}


def picture(n=4, shape=(24, 32), channels=1):
    stream = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, *shape, generator=stream)


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
    assert whole.shape == (40, views.DRAWS)


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


# Of every setting: what to switch on with it, and two values that must differ on the batch.
BITES = {
    "crop_area": ({}, (1.0, 1.0), (0.3, 0.5)),
    "rotation_deg": ({}, 0, 30),
    "shift": ({}, 0, 0.3),
    "flip": ({}, False, True),
    "flip_vertical": ({}, False, True),
    "elastic": ({}, 0, 0.1),
    "elastic_probability": ({"elastic": 0.1}, 0.5, 1),
    "equalise_probability": ({}, 0, 0.5),
    "brightness": ({}, 0, 0.5),
    "contrast": ({}, 0, 0.5),
    "gamma": ({}, 0, 0.5),
    "saturation": ({}, 0, 0.8),
    "hue_deg": ({}, 0, 90),
    "grey_probability": ({}, 0, 0.5),
    "blur_sigma": ({}, 0, 2.0),
    "blur_probability": ({"blur_sigma": 2.0}, 0.5, 1),
    "noise_std": ({}, 0, 0.2),
    "noise_probability": ({"noise_std": 0.2}, 0.5, 1),
    "cutout": ({}, 0, 0.5),
}
COLOUR = {"saturation", "hue_deg", "grey_probability"}
PROBABILITIES = {
    "elastic_probability": {"elastic": 0.1},
    "equalise_probability": {},
    "grey_probability": {},
    "blur_probability": {"blur_sigma": 4.0},
    "noise_probability": {"noise_std": 0.4},
}


@pytest.mark.parametrize("name", ViewsConfig.model_fields)
def test_every_setting_bites(name):
    beside, one, other = BITES[name]
    for channels in (1, 3)[name in COLOUR :]:
        images = picture(8, channels=channels)
        seen = [see(ViewsConfig(**{**STILL, **beside, name: v}), images) for v in (one, other)]
        assert (seen[0] - seen[1]).abs().max() > 0.01
        assert seen[1].shape == images.shape
        assert 0 <= float(seen[1].min()) <= float(seen[1].max()) <= 1


@pytest.mark.parametrize("name", sorted(set(ViewsConfig.model_fields) - COLOUR))
def test_every_setting_bites_on_volumes_or_is_refused(name):
    beside, one, other = BITES[name]
    images = picture(8, (6, 20, 14))
    configs = [ViewsConfig(**{**STILL, **beside, name: v}) for v in (one, other)]
    if name.startswith("blur"):
        with pytest.raises(UsageError, match="blur_sigma"):
            see(configs[1], images)
    else:
        assert (see(configs[0], images) - see(configs[1], images)).abs().max() > 0.01


@pytest.mark.parametrize("name", PROBABILITIES)
def test_a_probability_is_a_share_of_the_views(name):
    images = picture(64, channels=3)
    base = {**STILL, **PROBABILITIES[name]}
    still = see(ViewsConfig(**STILL), images)
    never = see(ViewsConfig(**base, **{name: 0}), images)
    assert torch.equal(never, still)
    half = see(ViewsConfig(**base, **{name: 0.5}), images)
    share = ((half - still).abs().amax((1, 2, 3)) > 1e-3).float().mean()
    assert 0.25 < float(share) < 0.75


def test_what_cannot_act_is_refused_all_at_once():
    config = ViewsConfig(saturation=0.2, hue_deg=10, blur_sigma=1)
    with pytest.raises(
        UsageError, match=r"saturation 0.2, views.hue_deg 10.*1 channel.*blur_sigma"
    ):
        views.check(config, channels=1, dims=3)
    views.check(config, channels=3, dims=2)
    views.check(ViewsConfig(), channels=1, dims=3)


def test_the_given_images_stay_as_they_are():
    images = picture(3, channels=3)
    kept = images.clone()
    see(ViewsConfig(**{n: BITES[n][2] for n in BITES}), images)
    assert torch.equal(images, kept)


def test_autocast_changes_nothing():
    """In bfloat16 a place on a side of 224 pixels is off by half a pixel."""
    config = ViewsConfig(elastic=0.05, blur_sigma=1, noise_std=0.1, saturation=0.3)
    images = picture(4, channels=3)
    with torch.autocast("cpu", torch.bfloat16):
        inside = see(config, images)
    assert torch.equal(inside, see(config, images))


def test_views_are_the_same_in_any_blocks(monkeypatch):
    config = ViewsConfig(**{n: BITES[n][2] for n in BITES})
    images = picture(9, channels=3)
    whole = see(config, images)
    monkeypatch.setattr(batch, "BLOCK", 4 * images[0].numel())
    assert batch.block(images) == 4 * torch.get_num_threads()
    assert torch.equal(see(config, images), whole)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*-base.yaml")), ids=lambda p: p.name)
def test_every_recipe_acts(recipe):
    """Its views open, and bend a picture of its own kind."""
    config = ViewsConfig.model_validate(yaml.safe_load(recipe.read_text())["views"])
    images = picture(4, channels=3 if config.saturation > 0 else 1)
    seen = see(config, images)
    assert (seen - images).abs().mean() > 0.02
    assert (see(config, images, view=1) - seen).abs().mean() > 0.02


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


def test_vertical_mirror_is_top_and_bottom():
    images = picture(64)
    seen = see(ViewsConfig(**{**STILL, "flip_vertical": True}), images)
    same = (seen - images).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (seen - images.flip(-2)).abs().amax((1, 2, 3)) < 1e-4
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
