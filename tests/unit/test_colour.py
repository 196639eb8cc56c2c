"""Colours from the file to the encoder, against numpy and Pillow alone; grey stays what it was."""

import io
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pyarrow as pa
import pytest
import torch
from dicoms import radiograph, write
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, generate_uid

from medssl import decode, infer, looked, store
from medssl.config import DecodeConfig, EncoderConfig, PretrainConfig
from medssl.errors import UsageError
from medssl.finetune.starts import raw_pixels
from medssl.formats import dicom_pixels, nifti, prepare, raster, tasks
from medssl.formats.geometry import FormatError, Pixels
from medssl.loading import validate
from medssl.models import embed
from medssl.models.encoder import build
from medssl.models.precision import one_pixel_strides

SIDE = 32
RGB = DecodeConfig(size=SIDE, colour="rgb")
LUMA = np.array([0.299, 0.587, 0.114])


def photograph(seed=0, shape=(20, 44)):
    """A smooth picture of uneven tint: uint8 ``[H, W, 3]``, H != W."""
    g = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    waves = [np.sin(g.uniform(3, 9) * y + g.uniform(3, 9) * x + g.uniform(0, 6)) for _ in "RGB"]
    levels = np.array([170.0, 120.0, 80.0]) + np.array([60, 45, 30]) * np.stack(waves, -1)
    return np.clip(levels + g.normal(0, 4, (*shape, 3)), 0, 255).astype(np.uint8)


def png(folder, array, name="a.png", **options):
    path = folder / name
    Image.fromarray(array).save(path, **options)
    return path


def triangle(n, m):
    """Weights ``[m, n]`` of an antialiased linear resize, pixel by pixel."""
    scale = max(1.0, n / m)
    out = np.zeros((m, n))
    for i in range(m):
        centre = (i + 0.5) * n / m
        for k in range(n):
            out[i, k] = max(0.0, 1 - abs(k + 0.5 - centre) / scale)
        out[i] /= out[i].sum()
    return out


def decoded(path, config=RGB):
    data, (planes,) = tasks.decode([path], config.model_dump(mode="json"))
    return data, planes


# --- settings and names ---


def test_grey_stores_keep_their_names(monkeypatch):
    """The two digests were taken before the setting existed."""
    monkeypatch.setattr(store, "_version", lambda name: "1")
    other = {"volumes": "whole", "scaling": "full", "low_percentile": 1, "intent": "processing"}
    other |= {"ct_range_hu": (-100, 200), "min_slice_fill": 0.1, "size": 64}
    assert store.store_digest(DecodeConfig()) == "f6c5f26eb6e7cb69"
    assert store.store_digest(DecodeConfig(**other)) == "ab999fef83e6b581"
    assert store.store_digest(DecodeConfig(colour="rgb")) != "f6c5f26eb6e7cb69"
    assert "colour" not in DecodeConfig().naming()
    assert DecodeConfig(**RGB.naming()) == RGB
    old = {k: v for k, v in DecodeConfig().model_dump().items() if k != "colour"}
    assert validate(DecodeConfig, old, "encoder.json") == DecodeConfig()
    assert store.index_schema(DecodeConfig()) == store.INDEX


def test_what_has_no_meaning_is_refused_at_once():
    wrong = {"colour": "rgb", "volumes": "whole", "scaling": "window", "ct_range_hu": (5, 5)}
    with pytest.raises(UsageError) as caught:
        validate(PretrainConfig, {"decode": wrong, "method": {"name": "simclr"}}, "x.yaml")
    told = " ".join(caught.value.problems)
    for words in ("whole volumes are grey", "no VOI window", "must rise"):
        assert words in told
    assert (DecodeConfig().channels, RGB.channels) == (1, 3)


# --- photographs ---


def test_a_photograph_by_hand(tmp_path):
    """Limits over all channels together, a triangle filter by hand, and a letterbox."""
    array = photograph()
    data, planes = decoded(png(tmp_path, array))
    low, high = np.percentile(array, [0.5, 99.5])
    unit = np.clip((array - low) / (high - low), 0, 1)
    rows = round(SIDE * 20 / 44)
    small = np.einsum("ih,hwc,jw->ijc", triangle(20, rows), unit, triangle(44, SIDE))
    top = (SIDE - rows) // 2
    wanted = np.zeros((SIDE, SIDE, 3))
    wanted[top : top + rows] = small
    assert planes.shape == (1, SIDE, SIDE, 3)
    assert planes.dtype == np.uint16
    np.testing.assert_allclose(planes[0], wanted * 65535, atol=2)
    assert data["box"] == (top, 0, rows, SIDE)
    assert data["grey"] == (False,)
    assert (data["low"], data["high"]) == (pytest.approx(low), pytest.approx(high))
    assert data["scaling"] == "percentile"


@pytest.mark.parametrize("scaling", ["auto", "percentile", "full"])
def test_the_tint_stays(tmp_path, scaling):
    """Stored numbers give back the colours of every pixel between the limits."""
    array = photograph(1, (SIDE, 21))
    data, planes = decoded(png(tmp_path, array), RGB.model_copy(update={"scaling": scaling}))
    top, left, rows, columns = data["box"]
    assert (rows, columns) == array.shape[:2]
    held = planes[0, top : top + rows, left : left + columns] / 65535
    back = data["low"] + held * (data["high"] - data["low"])
    inside = (array >= data["low"]) & (array <= data["high"])
    assert inside.mean() > 0.98
    np.testing.assert_allclose(back[inside], array[inside], atol=0.01)
    if scaling == "full":
        assert (data["low"], data["high"]) == (array.min(), array.max())


def test_ranks_are_over_all_channels(tmp_path):
    array = photograph(2, (SIDE, SIDE))
    _, planes = decoded(png(tmp_path, array), RGB.model_copy(update={"scaling": "equalise"}))
    order = np.argsort(planes[0].ravel(), kind="stable")
    assert (np.diff(array.ravel()[order].astype(int)) >= 0).all()
    assert np.median(planes[0][..., 0]) > 1.5 * np.median(planes[0][..., 2])


def test_large_pictures_are_judged_by_whole_pixels(monkeypatch):
    """Every third number of a picture is one channel: its limits would be of red alone."""
    monkeypatch.setattr(prepare, "LIMIT_PIXELS", 100)
    array = np.zeros((30, 10, 3), np.float32)
    array[..., 0], array[..., 1], array[..., 2] = (
        10,
        100,
        np.linspace(200, 250, 300).reshape(30, 10),
    )
    pixels = Pixels(array, (None, None), None, "stored", colour=True)
    made = prepare.prepare(pixels, RGB)
    wanted = np.percentile(array.reshape(-1, 3)[::3], [0.5, 99.5])
    assert (made.low, made.high) == (pytest.approx(wanted[0]), pytest.approx(wanted[1]))
    assert made.low == 10
    assert made.high > 240


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16", "RGB of grey"])
def test_grey_pictures_become_three_equal_channels(tmp_path, mode):
    array = photograph(3)[..., 0]
    path = tmp_path / "a.png"
    if mode == "I;16":
        Image.fromarray(array.astype(np.uint16) * 200).save(path)
    elif mode == "RGB of grey":
        Image.fromarray(np.stack([array] * 3, -1)).save(path)
    else:
        Image.fromarray(array).convert(mode).save(path)
    data, planes = decoded(path)
    _, grey = decoded(path, DecodeConfig(size=SIDE))
    assert data["grey"] == (True,)
    for channel in range(3):
        np.testing.assert_allclose(planes[..., channel].astype(int), grey, atol=1)


def test_alpha_palette_and_inks(tmp_path):
    array = photograph(4)
    plain = decoded(png(tmp_path, array))[1]
    clear = np.dstack([array, np.full(array.shape[:2], 90, np.uint8)])
    np.testing.assert_array_equal(decoded(png(tmp_path, clear, "rgba.png"))[1], plain)
    few = Image.fromarray(array).quantize(60)
    few.save(tmp_path / "p.png")
    wanted = decoded(png(tmp_path, np.asarray(few.convert("RGB")), "flat.png"))[1]
    np.testing.assert_array_equal(decoded(tmp_path / "p.png")[1], wanted)
    inks = Image.fromarray(array).convert("CMYK")
    inks.save(tmp_path / "c.tif")
    wanted = decoded(png(tmp_path, np.asarray(inks.convert("RGB")), "ink.png"))[1]
    np.testing.assert_array_equal(decoded(tmp_path / "c.tif")[1], wanted)
    lab = Image.frombytes("LAB", (44, 20), array.tobytes())
    lab.save(tmp_path / "lab.tif")
    with pytest.raises(FormatError, match="not red, green and blue"):
        decoded(tmp_path / "lab.tif")


def test_photographs_are_turned_as_their_camera_says(tmp_path):
    array = photograph(5)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top row of the scene is the right column of the file
    turned = decoded(png(tmp_path, array, "turned.png", exif=exif))[1]
    upright = decoded(png(tmp_path, np.rot90(array, -1), "upright.png"))[1]
    np.testing.assert_array_equal(turned, upright)
    assert not np.array_equal(turned, decoded(png(tmp_path, array))[1])


def test_grey_settings_take_the_luma_as_before(tmp_path):
    array = photograph(6)
    path = png(tmp_path, array)
    got = raster.pixels(path)
    assert not got.colour
    np.testing.assert_allclose(got.array, array @ LUMA, atol=1e-4)
    data, planes = decoded(path, DecodeConfig(size=SIDE))
    assert planes.shape == (1, SIDE, SIDE)
    assert data["grey"] == ()


# --- DICOM ---


def coloured(path, array, **elements):
    """Write an RGB object; ``array`` is ``[(F,) H, W, 3]``."""
    bits = 8 * array.dtype.itemsize
    told = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    told |= {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "Modality": "XC"}
    told |= {"Rows": array.shape[-3], "Columns": array.shape[-2], "PixelData": array.tobytes()}
    if array.ndim == 4:
        told["NumberOfFrames"] = len(array)
    return write(path, **told | elements)


def test_planar_configurations_and_depths(tmp_path):
    array = photograph(7)
    wanted = decoded(png(tmp_path, array))[1]
    planar = array.transpose(2, 0, 1).tobytes()
    deep = array.astype(np.uint16) * 257
    for name, path in {
        "interleaved": coloured(tmp_path / "0.dcm", array),
        "planes": coloured(tmp_path / "1.dcm", array, PlanarConfiguration=1, PixelData=planar),
        "16 bits": coloured(tmp_path / "2.dcm", deep),
    }.items():
        data, planes = decoded(path)
        np.testing.assert_allclose(planes.astype(int), wanted, atol=1, err_msg=name)
        assert data["grey"] == (False,)
        assert data["units"] == "stored"


def test_16_bits_are_kept():
    """Neighbouring levels of a deep picture stay apart."""
    array = (np.arange(SIDE * SIDE * 3).reshape(SIDE, SIDE, 3) + 30000).astype(np.float32)
    made = prepare.prepare(Pixels(array, (None, None), None, "stored", colour=True), RGB)
    assert len(np.unique(made.planes)) > 0.98 * array.size


def full_range_ybr(array):
    """RGB to YBR_FULL by the matrix of PS3.3 C.7.6.3.1.2."""
    r, g, b = (array[..., k].astype(float) for k in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return np.stack([y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402], -1)


def test_luminance_and_chroma_become_colours(tmp_path):
    array = photograph(8, (20, 44))
    wanted = decoded(png(tmp_path, array))[1].astype(int)
    ybr = np.rint(full_range_ybr(array)).astype(np.uint8)
    full = coloured(tmp_path / "full.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(decoded(full)[1], wanted, atol=700)
    flat = np.repeat(array[:, ::2], 2, axis=1)  # pairs of equal columns lose nothing by halving
    ybr = np.rint(full_range_ybr(flat)).astype(np.uint8)
    halved = np.empty((20, 22, 4), np.uint8)
    halved[..., 0], halved[..., 1] = ybr[:, ::2, 0], ybr[:, 1::2, 0]
    halved[..., 2], halved[..., 3] = ybr[:, ::2, 1], ybr[:, ::2, 2]
    path = coloured(
        tmp_path / "422.dcm", flat, PhotometricInterpretation="YBR_FULL_422", PixelData=halved.tobytes()
    )  # fmt: skip
    wanted = decoded(png(tmp_path, flat))[1].astype(int)
    np.testing.assert_allclose(decoded(path)[1], wanted, atol=700)


def test_compressed_colours(tmp_path):
    """JPEG against Pillow's own decoder; JPEG 2000 (with its colour transform) and RLE are exact."""
    array = photograph(9)
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", quality=92, subsampling=1)
    ds = radiograph(PhotometricInterpretation="YBR_FULL_422", SamplesPerPixel=3, Modality="ES")
    ds.PlanarConfiguration, ds.Rows, ds.Columns = 0, 20, 44
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = encapsulate([stream.getvalue()])
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.save_as(tmp_path / "jpeg.dcm", enforce_file_format=True)
    stream.seek(0)
    wanted = decoded(png(tmp_path, np.asarray(Image.open(stream).convert("RGB"))))[1]
    np.testing.assert_allclose(decoded(tmp_path / "jpeg.dcm")[1].astype(int), wanted, atol=300)
    array = photograph(9, (40, 72))  # JPEG 2000 halves a picture five times
    wanted = decoded(png(tmp_path, array))[1]
    for syntax in (JPEG2000Lossless, RLELossless):
        path = tmp_path / f"{syntax.name}.dcm"
        ds = coloured_dataset(array)
        if syntax == JPEG2000Lossless:
            ds.PhotometricInterpretation = "YBR_RCT"
        ds.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
        ds.save_as(path, enforce_file_format=True)
        np.testing.assert_array_equal(decoded(path)[1], wanted, err_msg=syntax.name)


def coloured_dataset(array):
    ds = radiograph(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.Rows, ds.Columns = 7, *array.shape[:2]
    ds.PixelData = array.tobytes()
    return ds


def test_palettes(tmp_path):
    index = np.random.default_rng(10).integers(0, 256, (20, 44), dtype=np.uint8)
    ramps = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2], -1)
    told = {"PhotometricInterpretation": "PALETTE COLOR", "PixelData": index.tobytes()}
    told |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 20, "Columns": 44}
    for k, name in enumerate(("Red", "Green", "Blue")):
        told[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        told[f"{name}PaletteColorLookupTableData"] = (ramps[:, k] * 257).astype(np.uint16).tobytes()
    wanted = decoded(png(tmp_path, ramps[index].astype(np.uint8)))[1].astype(int)
    np.testing.assert_allclose(decoded(write(tmp_path / "p.dcm", **told))[1], wanted, atol=1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_grey_dicom_in_a_store_of_colours(tmp_path, photometric):
    path = write(tmp_path / "a.dcm", PhotometricInterpretation=photometric)
    data, planes = decoded(path)
    told, grey = decoded(path, DecodeConfig(size=SIDE))
    np.testing.assert_array_equal(planes, np.repeat(grey[..., None], 3, -1))
    assert data["grey"] == (True,)
    names = ("low", "high", "scaling", "inverted", "box", "source")
    assert {n: data[n] for n in names} == {n: told[n] for n in names}


def test_frames_of_a_film(tmp_path):
    film = np.stack([photograph(k) for k in range(3)])
    film[1] = film[1][..., :1]
    data, planes = decoded(coloured(tmp_path / "film.dcm", film, SOPInstanceUID=generate_uid()))
    assert planes.shape == (3, SIDE, SIDE, 3)
    assert data["slice_index"] == (0, 1, 2)
    assert data["grey"] == (False, True, False)
    low, high = np.percentile(film, [0.5, 99.5])
    assert (data["low"], data["high"]) == (pytest.approx(low), pytest.approx(high))


def test_a_stack_of_coloured_slices_in_house_order(tmp_path):
    """Cryosections: slices ordered by position, turned like grey ones, colours left alone."""
    series, study = generate_uid(), generate_uid()
    arrays = [photograph(k, (24, 18)) for k in range(4)]
    paths = []
    for k, array in enumerate(arrays):
        place = {"ImagePositionPatient": [0, 0, -3 * k], "PixelSpacing": [1, 1]}
        place |= {"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0], "SOPInstanceUID": generate_uid()}
        place |= {"SeriesInstanceUID": series, "StudyInstanceUID": study}
        paths.append(coloured(tmp_path / f"{k}.dcm", array, **place))
    got = dicom_pixels.pixels(paths, colour=True)
    # Rows run to the patient's right: house order (towards the left) mirrors them.
    np.testing.assert_array_equal(got.array, np.stack(arrays[::-1])[:, :, ::-1])
    grey = dicom_pixels.pixels(paths)
    np.testing.assert_allclose(grey.array, got.array @ LUMA, atol=1e-3)
    np.testing.assert_array_equal(grey.affine_lps, got.affine_lps)
    made = prepare.prepare(got, RGB.model_copy(update={"min_slice_fill": 0.5}))
    assert made.planes.shape == (4, SIDE, SIDE, 3)


def test_dim_slices_are_left_out_by_any_colour():
    volume = np.zeros((2, 20, 20, 3), np.float32)
    volume[0, ..., 2] = np.linspace(1, 2, 400).reshape(20, 20)
    pixels = Pixels(volume, (None, None, None), None, "stored", slice_index=(0, 1), colour=True)
    made = prepare.prepare(pixels, RGB.model_copy(update={"min_slice_fill": 0.5}))
    assert made.slice_index == (0,)


def test_colours_of_nifti_are_set_aside(tmp_path):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    g = np.random.default_rng(11)
    colours = g.integers(0, 255, (4, 5, 6, 3), dtype=np.uint8)
    nib.save(nib.Nifti1Image(colours.view(kind)[..., 0], np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(FormatError, match="colours of a NIfTI volume") as caught:
        decoded(tmp_path / "c.nii")
    assert caught.value.code == "E-PHOTOMETRIC"
    assert nifti.pixels(tmp_path / "c.nii").array.shape == (6, 5, 4)
    nib.save(nib.Nifti1Image(colours[..., 0].astype(np.int16), np.eye(4)), tmp_path / "g.nii")
    data, planes = decoded(tmp_path / "g.nii")
    assert planes.shape == (6, SIDE, SIDE, 3)
    assert all(data["grey"])


# --- from the store to the encoder ---


def make_store(folder, planes, config=RGB):
    """A store of one shard, without a cohort."""
    np.save(folder / "pixels-000.npy", planes)
    (folder / "decode.json").write_text(json.dumps(config.naming()))
    n = len(planes)
    digests = [store.hashlib.sha256(p.tobytes()).hexdigest() for p in planes]
    columns = {name: pa.nulls(n, store.index_schema(config).field(name).type)
               for name in store.index_schema(config).names}  # fmt: skip
    columns |= {"shard": pa.array([0] * n, pa.int32()), "offset": pa.array(range(n), pa.int32())}
    columns |= {"pixels": pa.array(digests), "slice": pa.array([-1] * n, pa.int32())}
    table = pa.table(columns)
    store.pq.write_table(table, folder / "index.parquet")
    return store.Store(folder, config, table)


@pytest.fixture
def planes():
    return np.random.default_rng(12).integers(0, 65536, (11, SIDE, SIDE, 3), dtype=np.uint16)


def test_store_of_colours(tmp_path, planes):
    planes[4] = 0
    planes[5] = planes[5][..., :1]
    held = make_store(tmp_path, planes)
    rows = np.array([5, 0, 4, 9, 10, 2, 1, 3, 7])
    np.testing.assert_array_equal(held.planes(rows), planes[rows])
    wanted = np.array([[[np.rint(pixel @ LUMA) for pixel in line] for line in planes[0]]])
    np.testing.assert_array_equal(held.pictures(rows[1:2]), wanted)
    np.testing.assert_array_equal(held.luminance(rows)[0], planes[5][..., 0])  # grey, exactly
    assert held.pictures(rows).shape == (9, SIDE, SIDE)
    assert held.colour
    assert not held.whole
    assert len(held.picture_digests(np.arange(11))) == 10  # the blank one identifies nothing
    held.verify(np.arange(11))


def test_the_pixel_baseline_is_of_luma(tmp_path, planes):
    held = make_store(tmp_path, planes)
    got = raw_pixels(held, np.array([3, 1]))
    luma = np.rint(planes[[3, 1]] @ LUMA)
    for i, j in ((0, 0), (5, 15), (15, 2)):
        wanted = luma[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2)) / 65535
        np.testing.assert_allclose(got[:, 16 * i + j], wanted, atol=1e-6)


def test_shards_of_colours_are_not_longer(monkeypatch):
    monkeypatch.setattr(decode, "SHARD_BYTES", 2 * 3 * SIDE**2 * 4)
    images = {f"i{k}": {"frames": 1} for k in range(24)}
    for config, wanted in ((RGB, 4), (DecodeConfig(size=SIDE), 12)):
        shards = decode._plan(list(images), images, config)
        assert {len(s) for s in shards} == {wanted}
        assert [i for shard in shards for i in shard] == list(images)


def test_to_unit_puts_channels_first(planes):
    got = embed.to_unit(planes)
    assert got.shape == (11, 3, SIDE, SIDE)
    for channel in range(3):
        wanted = planes[..., channel].astype(np.float32) / 65535
        np.testing.assert_array_equal(got[:, channel].numpy(), wanted)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert embed.to_unit(planes[..., 0]).shape == (11, 1, SIDE, SIDE)
    assert embed.to_unit(np.zeros((2, 16, 16, 16), np.uint16)).shape == (2, 1, 16, 16, 16)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_an_encoder_of_colours_sees_the_tint(tmp_path, planes, name):
    config = EncoderConfig(name=name)
    encoder = build(config, SIDE, whole=False, seed=0, channels=3).eval()
    again = build(config, SIDE, whole=False, seed=0, channels=3).eval()
    assert encoder.channels == 3
    held = make_store(tmp_path, planes)
    got = embed.embed(encoder, held, np.arange(11), 0.4, 0.2)
    images = (planes.astype(np.float32) / 65535 - np.float32(0.4)) / np.float32(0.2)
    with torch.inference_mode():
        wanted = again(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    swapped = make_store(tmp_path, planes[..., ::-1].copy())
    store.forget()
    assert np.abs(embed.embed(encoder, swapped, np.arange(11), 0.4, 0.2) - got).max() > 1e-3


def test_grey_encoders_are_those_of_before():
    config = EncoderConfig(name="resnet10t")
    one, two = (
        build(config, SIDE, whole=False, seed=3),
        build(config, SIDE, whole=False, seed=3, channels=1),
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert next(one.parameters()).shape[1] == 1


def test_masks_fill_with_grey(planes):
    """What is hidden becomes one number per picture, over channels and pixels: no tint is added."""
    pictures = embed.to_unit(planes)
    for name, mask in embed.MASKS.items():
        got = mask(pictures)
        changed = (got != pictures).any(1)
        assert 0.1 < changed.float().mean() < 0.9, name
        for k in range(3):
            held = got[k][:, changed[k]]
            np.testing.assert_allclose(held, planes[k].mean() / 65535, atol=1e-5)


def test_precision_is_checked_with_three_channels():
    encoder = build(EncoderConfig(name="resnet10t"), 16, whole=False, seed=0, channels=3)
    grey = build(EncoderConfig(name="resnet10t"), 16, whole=False, seed=0)
    assert one_pixel_strides(encoder, 16) == one_pixel_strides(grey, 16) != []


def test_where_a_model_of_colours_looked():
    """A model that reads the redness of one corner; squares are filled with one grey."""

    class Redness(torch.nn.Module):
        def forward(self, images):
            corner = images[:, :, :12, :16].mean((2, 3))
            return (corner[:, :1] - corner[:, 2:]).repeat(1, 512)

    head = torch.nn.Linear(512, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0] * 512, [0.02] * 512]))
        head.bias.zero_()
    card = infer.weights.Card(EncoderConfig(name="resnet10t"), RGB, 0.5, 0.25, {}, (), (), "x")
    model = infer.Classifier(
        Redness(), head, card, "t", ("0", "1"), 1.0, {"1": 0.5}, "0" * 64, {}
    )  # fmt: skip
    picture = photograph(13, (SIDE, SIDE)).astype(np.uint16) * 257
    found = looked.look(model, picture, "1")
    unit = torch.from_numpy(picture.astype(np.float32) / 65535)
    step, moved = SIDE / looked.GRID, []

    def odds(copy):
        images = (copy.permute(2, 0, 1)[None] - 0.5) / 0.25
        logits = head.double()(model.encoder(images).double())[0]
        return float((logits[1] - logits[0]).detach())

    for i in range(looked.GRID):
        for j in range(looked.GRID):
            copy = unit.clone()
            rows = slice(max(0, round((i - 0.5) * step)), round((i + 1.5) * step))
            columns = slice(max(0, round((j - 0.5) * step)), round((j + 1.5) * step))
            copy[rows, columns] = unit.mean()
            moved.append(abs(odds(copy) - odds(unit)))
    wanted = np.array(moved).reshape(looked.GRID, looked.GRID)
    np.testing.assert_allclose(found.values, wanted / wanted.max(), atol=1e-4)
    grey = replace(model, card=replace(card, decode=DecodeConfig(size=SIDE)))
    with pytest.raises(looked.NothingUsableError, match="whole volumes"):
        looked.look(grey, np.zeros((16, 16, 16), np.uint16), "1")
