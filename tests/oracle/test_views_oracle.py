"""Views against independent paths: plain loops, SciPy, NumPy, and the views of before."""

import colorsys
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage, stats
from scipy.interpolate import BSpline

from medssl import views
from medssl.config import ViewsConfig
from medssl.views import counter, geometry, texture, tone

CXR = Path(__file__).parents[2] / "configs" / "pretrain" / "cxr-base.yaml"
COLOUR = ("saturation", "hue_deg", "grey_probability")
STILL = {
    "crop_area": (1.0, 1.0),
    "rotation_deg": 0,
    "shift": 0,
    "brightness": 0,
    "contrast": 0,
    "gamma": 0,
}
SHAPES = [(5, 1, 24, 40), (4, 1, 31, 17), (3, 1, 12, 20, 28)]


def picture(n=4, shape=(24, 32), channels=1):
    stream = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, *shape, generator=stream)


def drawn(config, n, dims, start=0):
    u = views.uniforms(7, 3, 1, slice(start, start + n))
    return views.sample(config, u, dims)


# --- existing runs keep their bits ---


def before(images, how, config):
    """The views as they were before elastic deformation, noise and colour, spelled out."""
    n, dims = len(images), images.ndim - 2
    cos, sin = torch.cos(how.angle) * how.scale, torch.sin(how.angle) * how.scale
    theta = torch.zeros(n, dims, dims + 1)
    theta[:, 0, 0], theta[:, 0, 1] = cos * how.mirror, -sin
    theta[:, 1, 0], theta[:, 1, 1] = sin * how.mirror, cos
    if dims == 3:
        theta[:, 2, 2] = how.scale
    theta[:, :, dims] = how.centre
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    out = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    shape = (-1, *(1,) * (images.ndim - 1))
    out = out.clamp(0, 1) ** how.gamma.view(shape)
    middle = out.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    out = (out - middle) * how.contrast.view(shape) + middle + how.brightness.view(shape)
    if config.cutout > 0:
        axes = [torch.linspace(-1, 1, s) for s in images.shape[-2:]]
        inside = [
            (axis[None] - how.hole_centre[:, k, None]).abs() < how.hole_size[:, None]
            for k, axis in enumerate(axes)
        ]
        box = inside[0][:, :, None] & inside[1][:, None, :]
        out = out.masked_fill(box.view(n, *(1,) * (dims - 1), *images.shape[-2:]), 0.0)
    return out.clamp(0, 1)


@pytest.mark.parametrize("shape", [*SHAPES, (130, 1, 64, 64)])
@pytest.mark.parametrize("name", ["default", "cxr-base", "mirrored and cut"])
def test_existing_settings_keep_their_bits(name, shape):
    config = {
        "default": ViewsConfig(),
        "cxr-base": ViewsConfig(**yaml.safe_load(CXR.read_text())["views"]),
        "mirrored and cut": ViewsConfig(flip=True, rotation_deg=40, cutout=0.4),
    }[name]
    images = picture(shape[0], shape[2:])
    how = drawn(config, shape[0], len(shape) - 2)
    assert torch.equal(views.apply(images, how, config), before(images, how, config))


def test_the_first_numbers_are_those_of_before():
    """Philox with the key (seed, epoch * 256 + 16 + view), 16 numbers a place."""
    u = views.uniforms(5, 2, 1, slice(3, 9))
    whole = np.random.Generator(np.random.Philox(key=[5, (2 << 8) | 17])).random((9, 16))
    np.testing.assert_array_equal(u[:, :16], whole[3:])
    assert not np.isin(u[:, 16:], u[:, :16]).any()


# --- geometry ---


def spline_by_scipy(control, places):
    """A uniform cubic B-spline surface (or solid), one axis at a time; places in [0, 4)."""
    knots = np.arange(-3, 8)
    for axis, at in enumerate(places):
        spline = BSpline(knots, np.moveaxis(control, axis, 0), 3)
        control = np.moveaxis(spline(at), 0, axis)
    return control


def through_the_crop(image, how, k):
    """One view by the inverse map of every pixel, interpolated by SciPy; image [(D,) H, W]."""
    shape, dims = image.shape, image.ndim
    units = [(np.arange(s) + 0.5) / s * 2 - 1 for s in shape]
    at = np.stack(np.meshgrid(*units, indexing="ij")[::-1])  # x, y(, z)
    places = [(np.arange(s) + 0.5) / s * 4 for s in shape]
    at = at + np.stack([spline_by_scipy(c, places) for c in how.control[k].double().numpy()])
    at[0] *= float(how.mirror[k])
    at[1] *= float(how.mirror_vertical[k])
    c, s = math.cos(float(how.angle[k])), math.sin(float(how.angle[k]))
    at[0], at[1] = c * at[0] - s * at[1], s * at[0] + c * at[1]
    at = at * float(how.scale[k]) + how.centre[k].double().numpy().reshape(-1, *[1] * dims)
    pixels = [((a + 1) * s - 1) / 2 for a, s in zip(at[::-1], shape, strict=True)]
    return ndimage.map_coordinates(image, pixels, order=1, mode="grid-constant", cval=0.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("elastic", [0.0, 0.1])
def test_geometry_is_the_inverse_map_in_one_interpolation(shape, elastic):
    config = ViewsConfig(
        crop_area=(0.3, 0.9), rotation_deg=70, shift=0.2, flip=True, flip_vertical=True,
        elastic=elastic, elastic_probability=0.7,
    )  # fmt: skip
    images = picture(shape[0], shape[2:])
    how = drawn(config, shape[0], len(shape) - 2)
    assert bool(how.control.any()) == (elastic > 0)
    got = geometry.move(images, how, bent=elastic > 0)
    for k, image in enumerate(images[:, 0].double().numpy()):
        wanted = through_the_crop(image, how, k)
        np.testing.assert_allclose(got[k, 0], wanted, atol=2e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_folds_over_at_the_strongest(dims):
    """The worst control points: displacements at the bound, signs alternating or random."""
    rng = np.random.default_rng(0)
    side = 24
    places = [(np.arange(side) + 0.5) / side * 4] * dims
    largest = ViewsConfig.model_fields["elastic"].metadata[1].le
    for turn in range(8):
        signs = rng.choice([-1, 1], (dims, *[7] * dims))
        if turn == 0:
            signs = np.broadcast_to((-1) ** np.indices([7] * dims).sum(0), signs.shape)
        moved = [spline_by_scipy(largest * s, places) for s in signs]
        slope = np.stack([np.stack(np.gradient(m, 1 / side)) for m in moved])
        jacobian = np.moveaxis(slope, (0, 1), (-2, -1)) + np.eye(dims)
        assert np.linalg.det(jacobian).min() > 0


def test_the_displacement_is_within_its_share_and_fills_it():
    how = drawn(ViewsConfig(elastic=0.08, elastic_probability=1), 200, 2)
    share = how.control / 2
    assert float(share.abs().max()) <= 0.08
    assert stats.kstest(share.flatten().numpy() / 0.08, stats.uniform(-1, 2).cdf).pvalue > 1e-3


# --- tone ---


def equalised_by_hand(image):
    """Count, sum up, look up: one image, one pixel at a time; linear inside a level."""
    counts = [0] * 256
    seen = image[image > 0]
    for v in seen:
        counts[min(math.ceil(v * 256), 256) - 1] += 1
    below = np.concatenate([[0], np.cumsum(counts)]) / max(1, len(seen))
    return np.interp(image, np.arange(257) / 256, below)


@pytest.mark.parametrize("channels", [1, 3])
def test_equalisation_by_hand(channels):
    images = picture(4, (15, 22), channels) ** 2
    images[:, :, :4] = 0  # letterbox
    images[2] = 0  # nothing but letterbox
    images[3, :, 4:] = 1
    got = tone.equalise(images.clone()).numpy()
    for k, image in enumerate(images.double().numpy()):
        np.testing.assert_allclose(got[k], equalised_by_hand(image), atol=1e-5)
    assert not got[:, :, :4].any()
    shares = np.sort(got[0, :, 4:].ravel())
    np.testing.assert_allclose(shares, np.linspace(0, 1, shares.size), atol=0.03)


def test_interpolation_cannot_leave_the_levels():
    """Weights that sum to a little above 1 would count a white pixel beyond the last level."""
    config = ViewsConfig(**{**STILL, "rotation_deg": 40, "equalise_probability": 1})
    images = torch.ones(32, 1, 47, 33)
    how = drawn(config, 32, 2)
    beyond = geometry.move(images, how, bent=False) > 1
    assert beyond.any()
    seen = views.apply(images, how, config)
    assert float(seen[beyond].min()) == pytest.approx(1, abs=1e-3)


def test_a_volume_is_equalised_as_one():
    volumes = picture(2, (6, 7, 9))
    flat = tone.equalise(volumes.reshape(2, 1, 42, 9).clone())
    assert torch.equal(tone.equalise(volumes.clone()).view_as(flat), flat)


def test_colour_keeps_luminance_and_turns_the_hue():
    images = picture(6, (9, 11), 3) * 0.2 + 0.4
    hue = torch.tensor([0.0, 0.3, -0.3, 0.0, 1.0, 2.0])
    saturation = torch.tensor([1.0, 1.0, 1.0, 0.5, 1.2, 0.0])
    got = tone.colour(images, saturation, hue)
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(
        torch.einsum("c,nchw->nhw", luma, got), torch.einsum("c,nchw->nhw", luma, images)
    )
    torch.testing.assert_close(got[0], images[0])
    assert (got[5].amax(0) - got[5].amin(0)).max() < 1e-5
    for k in range(6):  # by colorsys, whose YIQ is FCC's, the same to three figures
        for y, x in ((0, 0), (4, 7), (8, 10)):
            level, i, q = colorsys.rgb_to_yiq(*images[k, :, y, x].tolist())
            turned = complex(i, q) * float(saturation[k]) * np.exp(1j * float(hue[k]))
            wanted = colorsys.yiq_to_rgb(level, turned.real, turned.imag)
            np.testing.assert_allclose(got[k, :, y, x], wanted, atol=4e-3)


# --- blur, noise, cut-out ---


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_by_scipy(channels):
    images, sigma = picture(4, (40, 30), channels), torch.tensor([0.0, 0.6, 1.5, 2.0])
    got = texture.blur(images, sigma, 2.0)
    assert torch.equal(got[0], images[0])
    for k in range(1, 4):
        s = float(sigma[k])
        for c in range(channels):
            wanted = ndimage.gaussian_filter(
                images[k, c].numpy(), s, mode="nearest", truncate=5 / s
            )
            np.testing.assert_allclose(got[k, c], wanted, atol=2e-6)


def test_words_by_plain_arithmetic():
    """The hash in Python's own integers; the shift keeps the sign, as torch's does."""
    key = torch.tensor([[5, -7], [-(2**31), 2**31 - 1]], dtype=torch.int32)

    def signed(v):
        return (v + 2**31) % 2**32 - 2**31

    for row, got in zip(key.tolist(), counter.words(key, 50).tolist(), strict=True):
        for k, word in enumerate(got):
            x = signed(k * 0x9E3779B9) ^ row[0]
            x = signed((x ^ (x >> 16)) * 0x21F0AAAD) ^ row[1]
            assert word == signed((x ^ (x >> 15)) * 0xD35A2D97)


def test_noise_is_the_quantile_of_each_half_of_a_word():
    key = torch.tensor([[11, -12], [13, 14]], dtype=torch.int32)
    got = texture.noise(torch.zeros(2, 1, 3, 5), torch.tensor([1.0, 0.5]), key).view(2, 15)
    for k, word in enumerate(counter.words(key, 8).numpy().view(np.uint32).astype(np.int64)):
        high = word >> 16
        halves = np.concatenate([(word & 0xFFFF) ^ high, high])[:15]
        wanted = stats.norm.ppf((halves + 0.5) / 65536) * (1.0, 0.5)[k]
        np.testing.assert_allclose(got[k], wanted, rtol=1e-6)


NOISY = ViewsConfig(**{**STILL, "noise_std": 0.1, "noise_probability": 1})


def noise_of(seed=0, epoch=0, view=0, start=0, n=24, shape=(33, 21)):
    """Standard noise, undisturbed by the range: on grey 0.5."""
    how = views.sample(
        NOISY, views.uniforms(seed, epoch, view, slice(start, start + n)), len(shape)
    )
    images = torch.full((n, 1, *shape), 0.5)
    made = texture.noise(images, torch.full((n,), 0.1), how.noise_key) - 0.5
    return made.flatten(1).double().numpy() / 0.1


def test_noise_is_standard_normal():
    z = noise_of(n=200)
    count = z.size
    assert abs(z.mean()) < 4 / math.sqrt(count)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / count)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / count)
    assert stats.kstest(z.ravel()[:: z.size // 20000], "norm").pvalue > 1e-3
    assert stats.kstest(z.mean(1) * math.sqrt(z.shape[1]), "norm").pvalue > 1e-3
    assert stats.kstest(z.mean(0) * math.sqrt(z.shape[0]), "norm").pvalue > 1e-3


def test_noise_of_pixels_samples_views_epochs_and_seeds_is_independent():
    z = noise_of(n=200)
    limit = 5 / math.sqrt(z.size)
    middle = (z.shape[1] + 1) // 2  # the two halves share their words
    for lag in (1, 2, 21, 64, 256, middle):
        assert abs((z[:, lag:] * z[:, :-lag]).mean()) < limit * 2, lag
        assert abs((z[:, lag:] ** 2 * z[:, :-lag] ** 2).mean() - 1) < 8 * limit * 2, lag
    assert abs((z[1:] * z[:-1]).mean()) < limit
    for other in ({"epoch": 1}, {"view": 1}, {"seed": 1}, {"start": 200}):
        assert abs((noise_of(n=200, **other) * z).mean()) < limit, other


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(1, 11), shape=st.sampled_from([(9, 14), (8, 8), (5, 6, 7)]))
def test_two_processes_see_what_one_sees(cut, shape):
    """Every random part on; the batch cut anywhere gives the same bits."""
    config = ViewsConfig(
        flip=True, flip_vertical=True, elastic=0.1, equalise_probability=0.5, noise_std=0.2,
        cutout=0.3, blur_sigma=1.5 if len(shape) == 2 else 0,
    )  # fmt: skip
    images = picture(12, shape)

    def made(first, last):
        how = drawn(config, last - first, len(shape), start=100 + first)
        return views.apply(images[first:last], how, config)

    assert torch.equal(torch.cat([made(0, cut), made(cut, 12)]), made(0, 12))


def test_no_global_generator_is_touched():
    state = torch.get_rng_state()
    config = ViewsConfig(elastic=0.1, noise_std=0.2)
    one = views.apply(picture(4), drawn(config, 4, 2), config)
    torch.manual_seed(99)
    again = views.apply(picture(4), drawn(config, 4, 2), config)
    torch.set_rng_state(state)
    assert torch.equal(one, again)


def test_one_box_is_erased_by_plain_loops():
    config = ViewsConfig(**{**STILL, "cutout": 0.5})
    images = picture(6, (20, 14), 3) + 0.1
    how = drawn(config, 6, 2)
    got = texture.cut(images.clone(), how.hole_size, how.hole_centre)
    for k in range(6):
        for y, at_y in enumerate(np.linspace(-1, 1, 20)):
            for x, at_x in enumerate(np.linspace(-1, 1, 14)):
                away = np.abs([at_y, at_x] - how.hole_centre[k].numpy())
                if (away < float(how.hole_size[k])).all():
                    assert not got[k, :, y, x].any()
                else:
                    assert torch.equal(got[k, :, y, x], images[k, :, y, x])


# --- whatever the settings ---

RANGES = {
    name: st.floats(0, field.metadata[1].le if hasattr(field.metadata[1], "le") else 0.99)
    for name, field in ViewsConfig.model_fields.items()
    if field.annotation is float
}


@st.composite
def any_case(draw):
    shape = draw(st.sampled_from([(5, 1, 24, 40), (4, 3, 9, 31), (3, 1, 12, 20, 28), (1, 1, 1, 2)]))
    chosen = {name: draw(values) for name, values in RANGES.items()}
    if shape[1] == 1:
        chosen.update(dict.fromkeys(COLOUR, 0))
    if len(shape) == 5:
        chosen["blur_sigma"] = 0
    area = sorted(draw(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1))))
    flips = {"flip": draw(st.booleans()), "flip_vertical": draw(st.booleans())}
    pixels = draw(arrays(np.float32, shape[2:], elements=st.floats(0, 1, width=32)))
    images = torch.from_numpy(pixels).expand(shape).contiguous()
    return images, ViewsConfig(crop_area=tuple(area), **flips, **chosen)


@settings(max_examples=40, deadline=None)
@given(case=any_case(), seed=st.integers(0, 2**31 - 1))
def test_range_and_shape_hold(case, seed):
    images, config = case
    u = views.uniforms(seed, 1, 0, slice(2, 2 + len(images)))
    seen = views.apply(images, views.sample(config, u, images.ndim - 2), config)
    assert seen.shape == images.shape
    assert seen.dtype == torch.float32
    assert bool(torch.isfinite(seen).all())
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1


def test_every_setting_is_in_the_random_ones():
    assert {*RANGES, "crop_area", "flip", "flip_vertical"} == set(ViewsConfig.model_fields)
