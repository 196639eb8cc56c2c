"""Photometry against pydicom's own transforms and against plain loops."""

import math

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_voi_lut
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medssl.config import DecodeConfig
from medssl.formats import codestream, dicom_pixels
from medssl.formats.geometry import FormatError, Pixels
from medssl.formats.prepare import prepare
from medssl.formats.voi import Voi, voi_of

VALUES = np.arange(-300, 500, dtype=np.int16).reshape(20, 40)


def loop(function, x, c, w):
    """DICOM PS3.3 C.11.2.1.2, one value at a time, output range 0 to 1."""
    if function == "SIGMOID":
        return 1 / (1 + math.exp(min(80.0, -4 * (x - c) / w)))
    if function == "LINEAR_EXACT":
        return min(1.0, max(0.0, (x - c) / w + 0.5))
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 1.0
    return (x - (c - 0.5)) / (w - 1) + 0.5


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40.0, 400.0), (-20.5, 7.0), (10.0, 1.0)])
def test_windows_by_the_standards_own_formula(function, centre, width):
    ds = Dataset()
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = centre, width, function
    got = voi_of(ds).apply(VALUES.astype(np.float32))
    wanted = [[loop(function, float(x), centre, width) for x in row] for row in VALUES]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_windows_as_pydicom_shows_them():
    ds = Dataset()
    ds.WindowCenter, ds.WindowWidth = [40, 900], [400, 90]  # the first of several
    ds.BitsStored, ds.PixelRepresentation, ds.PhotometricInterpretation = 16, 1, "MONOCHROME2"
    shown = apply_voi_lut(VALUES, ds)
    unit = (shown - shown.min()) / (shown.max() - shown.min())
    np.testing.assert_allclose(voi_of(ds).apply(VALUES), unit, atol=1e-4)


@pytest.mark.parametrize("first", [-100, 0, 37])
def test_lookup_table_as_pydicom_applies_it(first):
    table = (np.sqrt(np.arange(256)) * 200).astype(np.uint16)
    item, ds = Dataset(), Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [256, first, 16])
    item.add_new(0x00283006, "US", table.tolist())
    ds.VOILUTSequence = [item]
    shown = apply_voi_lut(VALUES, ds).astype(float) / table.max()
    np.testing.assert_allclose(voi_of(ds).apply(VALUES.astype(np.float32)), shown, atol=1e-6)


@pytest.mark.parametrize(
    ("centre", "width", "function"), [(1, 0.5, "LINEAR"), (1, 0, "SIGMOID"), (1, 9, "CURVE")]
)
def test_windows_that_mean_nothing(centre, width, function):
    ds = Dataset()
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = centre, width, function
    assert voi_of(ds) is None


def radiograph(array, **elements):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID = (
        DigitalXRayImageStorageForPresentation,
        "1.2",
        "P",
    )
    ds.Rows, ds.Columns = array.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * array.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(array.dtype.kind == "i")
    ds.PixelData = array.tobytes()
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def read(ds, tmp_path):
    ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    return dicom_pixels.pixels([tmp_path / "x.dcm"])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", ["LINEAR", "SIGMOID"])
def test_the_store_holds_what_the_window_shows(tmp_path, photometric, function):
    array = np.random.default_rng(1).integers(0, 4000, (20, 30), dtype=np.uint16)
    pixels = read(
        radiograph(array, PhotometricInterpretation=photometric, WindowCenter=2000, WindowWidth=1500,
                   VOILUTFunction=function), tmp_path)  # fmt: skip
    made = prepare(pixels, DecodeConfig(size=30, scaling="window"))
    top, left, rows, columns = made.box
    stored = made.planes[0, top : top + rows, left : left + columns] / 65535
    shown = np.vectorize(lambda x: loop(function, float(x), 2000, 1500))(array)
    wanted = 1 - shown if photometric == "MONOCHROME1" else shown
    np.testing.assert_allclose(stored, wanted, atol=2e-5)
    assert made.scaling == f"voi {function}"
    if function == "LINEAR":  # value = low + stored * (high - low), as the index promises
        back = made.low + stored * (made.high - made.low)
        sign = -1 if photometric == "MONOCHROME1" else 1
        inside = (shown > 0) & (shown < 1)
        np.testing.assert_allclose(sign * back[inside], array[inside], atol=0.6)
    else:
        assert (made.low, made.high, made.units) == (0.0, 1.0, "shown")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_pixel_data(tmp_path, dtype):
    array = np.random.default_rng(2).normal(size=(6, 4)).astype(dtype)
    ds = radiograph(array.astype(np.uint16))
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated = 8 * array.dtype.itemsize
    setattr(ds, {4: "FloatPixelData", 8: "DoubleFloatPixelData"}[array.itemsize], array.tobytes())
    np.testing.assert_allclose(read(ds, tmp_path).array, array, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_every_depth_and_sign(tmp_path, dtype):
    limits = np.iinfo(dtype)
    array = np.linspace(limits.min, limits.max, 24).astype(dtype).reshape(6, 4)
    np.testing.assert_allclose(read(radiograph(array), tmp_path).array, array, rtol=1e-6)


def test_raw_and_presented_are_never_mixed(tmp_path):
    array = np.random.default_rng(3).integers(0, 4000, (6, 4), dtype=np.uint16)
    raw = read(radiograph(array, PresentationIntentType="FOR PROCESSING"), tmp_path)
    shown = read(radiograph(array, PresentationIntentType="FOR PRESENTATION"), tmp_path)
    silent = read(radiograph(array), tmp_path)
    for pixels, intent in ((raw, "presentation"), (shown, "processing"), (silent, "processing")):
        with pytest.raises(FormatError, match="never mixed") as caught:
            prepare(pixels, DecodeConfig(size=16, intent=intent))
        assert caught.value.code == "E-INTENT"
    assert prepare(raw, DecodeConfig(size=16, intent="processing")).planes.shape == (1, 16, 16)


def compressed(array, syntax):
    ds = radiograph(array)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(syntax, encoding_plugin={RLELossless: "pydicom", JPEGLSLossless: "pyjpegls",
                                         JPEG2000Lossless: "pylibjpeg"}[syntax])  # fmt: skip
    return ds


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_a_stream_of_another_size_is_not_decoded(tmp_path, syntax):
    array = np.random.default_rng(4).integers(0, 4000, (72, 90), dtype=np.uint16)
    good = compressed(array, syntax)
    frame = bytes(good.PixelData)
    at = (
        frame.index(b"\xff\x4f\xff\x51") if syntax == JPEG2000Lossless else frame.index(b"\xff\xd8")
    )
    said = codestream.declared(frame[at:])
    assert (said.rows, said.columns, said.samples) == (72, 90, 1)
    assert said.bits in {12, 16}
    np.testing.assert_array_equal(read(good, tmp_path).array, array)
    for name, value in (("Rows", 36), ("Columns", 180)):
        bad = compressed(array, syntax)
        setattr(bad, name, value)
        with pytest.raises(FormatError, match="stream is 72 x 90") as caught:
            read(bad, tmp_path)
        assert caught.value.code == "E-HEADER"


def test_headers_of_streams_by_hand():
    siz = b"\xff\x4f\xff\x51" + bytes([0, 41, 0, 0])
    siz += b"".join(n.to_bytes(4, "big") for n in (35, 24, 5, 4, 30, 20, 0, 0)) + bytes(
        [0, 3, 11, 1, 1]
    )
    assert codestream.declared(siz) == codestream.Declared(20, 30, 3, 12, 4)
    boxed = codestream.JP2_BOX + b"boxes" + siz
    assert codestream.declared(boxed) == codestream.declared(siz)
    sof = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc1\x00\x0b" + bytes([12, 0, 20, 0, 30, 1, 0, 0, 0, 0])
    assert codestream.declared(sof) == codestream.Declared(20, 30, 1, 12)
    for junk in (
        b"",
        b"\xff\xd8",
        siz[:20],
        b"RLE data",
        b"\xff\xd8\xff\xe0\xff\xff",
        b"\xff\xd8zzzzzzzzzzzzz",
    ):
        assert codestream.declared(junk) is None


def test_rle_needs_no_stream_header(tmp_path):
    array = np.random.default_rng(5).integers(0, 4000, (20, 30), dtype=np.uint16)
    ds = radiograph(array)
    ds.PixelData = encapsulate([RLELosslessEncoder.encode(ds, encoding_plugin="pydicom")])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = RLELossless
    np.testing.assert_array_equal(read(ds, tmp_path).array, array)


def test_a_threshold_window_is_two_greys():
    got = Voi("LINEAR", 10.0, 1.0).apply(np.array([9.0, 9.5, 9.6, 10.0, np.nan]))
    np.testing.assert_array_equal(got, [0, 0, 1, 1, np.nan])


def test_limits_of_a_large_picture_are_those_of_all_its_pixels():
    """Judged by every k-th pixel, also where columns carry a pattern of their own."""
    dice = np.random.default_rng(6)
    rows, columns = 1500, 2048
    array = dice.gamma(3, 200, (rows, columns)) + 300 * (np.arange(columns) % 8 == 0)
    made = prepare(Pixels(array.astype(np.float32), (1, 1), None, "stored"), DecodeConfig(size=32))
    low, high = np.percentile(array, [0.5, 99.5])
    assert abs(made.low - low) < 0.003 * (high - low)
    assert abs(made.high - high) < 0.003 * (high - low)


def test_hounsfield_units_mean_the_same_in_both_photometries(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(6, 4) * 100 - 900
    shared = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -100}
    dark, light = (
        prepare(
            read(radiograph(array, PhotometricInterpretation=p, **shared), tmp_path),
            DecodeConfig(size=16),
        )
        for p in ("MONOCHROME1", "MONOCHROME2")
    )
    np.testing.assert_array_equal(dark.planes, light.planes)
    assert (dark.low, dark.high, dark.units) == (light.low, light.high, "HU")


@pytest.mark.parametrize("photometric", ["YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"])
def test_colours_that_belong_to_jpeg_2000_are_not_guessed(tmp_path, photometric):
    array = np.random.default_rng(7).integers(0, 255, (6, 4, 3), dtype=np.uint8)
    ds = radiograph(
        array, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation=photometric
    )
    with pytest.raises(FormatError, match="cannot be told"):
        read(ds, tmp_path)


def test_a_palette_ignores_unused_bits(tmp_path):
    array = np.random.default_rng(8).integers(0, 16, (6, 4), dtype=np.uint16)
    tables = {}
    for colour in ("Red", "Green", "Blue"):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [16, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = (
            np.arange(16, dtype="<u2") * 4000
        ).tobytes()
    shared = {"PhotometricInterpretation": "PALETTE COLOR", "BitsStored": 4, "HighBit": 3, **tables}
    plain, noisy = (read(radiograph(a, **shared), tmp_path).array for a in (array, array | 0x0A00))
    np.testing.assert_array_equal(noisy, plain)


def test_a_table_of_single_bytes_and_a_first_value_below_zero():
    item, ds = Dataset(), Dataset()
    item.add_new(0x00283002, "US", [256, 65536 - 1024, 8])
    item.add_new(0x00283006, "OW", np.arange(256, dtype=np.uint8).tobytes())
    ds.VOILUTSequence, ds.RescaleIntercept, ds.RescaleSlope = [item], -1024, 1
    got = voi_of(ds).apply(np.array([-2000.0, -1024.0, -1023.0, -769.0, 0.0]))
    np.testing.assert_allclose(got, np.array([0, 0, 1, 255, 255]) / 255, atol=1e-6)


def test_pictures_are_turned_as_their_exif_says(tmp_path):
    from PIL import Image

    from medssl.formats import raster

    array = np.random.default_rng(9).integers(0, 255, (6, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(tmp_path / "x.png", exif=exif)
    assert raster.pixels(tmp_path / "x.png").array.shape == (4, 6)
    assert raster.header(tmp_path / "x.png")["public"]["rows"] == 4
    np.testing.assert_array_equal(raster.pixels(tmp_path / "x.png").array, np.rot90(array, -1))
