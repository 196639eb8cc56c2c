"""Pixel meaning: one picture in every encoding; what cannot be taken says so."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medssl.cohort import terms
from medssl.config import DecodeConfig
from medssl.formats import dicom, dicom_pixels, nifti, raster, tasks
from medssl.formats.geometry import FormatError, Pixels
from medssl.formats.prepare import prepare
from medssl.formats.voi import Voi

RAMP = (np.arange(48 * 40).reshape(48, 40) * 2 + 7).astype(np.uint16)  # 12 bits, not square


def dataset(array=RAMP, *, bits=12, syntax=ExplicitVRLittleEndian, **elements):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID, ds.PatientID, ds.Modality = generate_uid(), "P1", "DX"
    ds.Rows, ds.Columns = array.shape[:2]
    ds.SamplesPerPixel = 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * array.dtype.itemsize, bits, bits - 1
    ds.PixelRepresentation = int(array.dtype.kind == "i")
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = array.astype(array.dtype.newbyteorder("<")).tobytes()
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def save(ds, path):
    if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path


def read(ds, tmp_path):
    return dicom_pixels.pixels([save(ds, tmp_path / "x.dcm")])


def stored(pixels):
    return prepare(pixels, DecodeConfig(size=16, scaling="full")).planes[0]


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_uncompressed(tmp_path, syntax):
    np.testing.assert_array_equal(read(dataset(syntax=syntax), tmp_path).array, RAMP)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed(tmp_path, syntax):
    ds = dataset()
    ds.compress(syntax)
    np.testing.assert_array_equal(read(ds, tmp_path).array, RAMP)


def test_one_picture_in_every_meaning(tmp_path):
    """Inversion, rescale, sign, unused bits and shifted bits all store the same picture."""
    plain = stored(read(dataset(), tmp_path))
    variants = {
        "inverted": dataset(4095 - RAMP, PhotometricInterpretation="MONOCHROME1"),
        "rescaled": dataset(RAMP, RescaleSlope=2, RescaleIntercept=-100),
        "signed": dataset((RAMP.astype(np.int16) - 2048), bits=12),
        "overlay in the high bits": dataset(RAMP | 0xF000),
        "high bit 15": dataset(RAMP << 4, HighBit=15),
        "low noise below": dataset((RAMP << 4) | 5, HighBit=15),
    }
    for name, ds in variants.items():
        np.testing.assert_array_equal(stored(read(ds, tmp_path)), plain, err_msg=name)


def test_ct_is_in_hounsfield_units(tmp_path):
    ds = dataset(
        RAMP, Modality="CT", SOPClassUID=CTImageStorage, RescaleSlope=1, RescaleIntercept=-1024
    )
    pixels = read(ds, tmp_path)
    assert pixels.units == "HU"
    np.testing.assert_array_equal(pixels.array, RAMP.astype(np.float32) - 1024)
    made = prepare(pixels, DecodeConfig(size=16))
    assert (made.low, made.high) == (-1024, 3071)


def test_padding_leaves_the_statistics(tmp_path):
    array = RAMP.copy()
    array[0] = 4000
    pixels = read(dataset(array, PixelPaddingValue=4000), tmp_path)
    assert np.isnan(pixels.array[0]).all()
    assert np.isfinite(pixels.array[1:]).all()
    assert prepare(pixels, DecodeConfig(size=16, scaling="full")).high == array[1:].max()


def test_colour_becomes_luma(tmp_path):
    colour = np.zeros((6, 4, 3), np.uint8)
    colour[..., 1] = 200
    ds = dataset(
        colour, bits=8, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB"
    )
    np.testing.assert_allclose(read(ds, tmp_path).array, 0.587 * 200, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"RescaleSlope": 0}, "E-RESCALE"),
        ({"Rows": 0}, "E-HEADER"),
        ({"Rows": 40000, "Columns": 40000}, "E-BOMB"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "S-NONIMAGE"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "S-NONIMAGE"),
    ],
)
def test_unusable_objects_say_why(tmp_path, change, code):
    ds = dataset(**change)
    with pytest.raises(FormatError) as caught:
        read(ds, tmp_path)
    assert caught.value.code == code


def test_cut_pixels_and_missing_decoder(tmp_path):
    ds = dataset()
    ds.PixelData = ds.PixelData[:-20]
    with pytest.raises(FormatError) as caught:
        read(ds, tmp_path)
    assert caught.value.code in {"E-TRUNCATED", "E-DECODE"}
    ds = dataset(PixelData=encapsulate([b"12"]))
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = MPEG2MPML
    with pytest.raises(FormatError, match="MPEG2") as caught:
        read(ds, tmp_path)
    assert caught.value.code == "E-CODEC"


def test_header_row(tmp_path):
    ds = dataset(PatientAge="007Y", PatientSex="F", ViewPosition="PA", PatientName="Doe^Jane",
                 Manufacturer="Doe Devices", ManufacturerModelName="X-1", ImagerPixelSpacing=[0.2, 0.3],
                 IssuerOfPatientID="H", StudyDate="20200101")  # fmt: skip
    got = dicom.header(save(ds, tmp_path / "x.dcm"))
    public, private = got["public"], got["private"]
    assert (public["sex"], public["age_years"], public["view"]) == ("F", 7, "PA")
    assert (public["spacing_row_mm"], public["spacing_col_mm"]) == (0.2, 0.3)
    assert public["notes"] == ["W-UNCALIBRATED"]
    assert terms.public(public)["manufacturer"] == "other"  # what no table holds does not leave
    assert terms.public(public)["model"] == "other"
    assert (private["patient_id"], private["issuer"]) == ("P1", "H")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_header_and_pixels_agree(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.set_slope_inter(2.0, 5.0)
    nib.save(image, path)
    head = nifti.header(path)["public"]
    assert (head["columns"], head["rows"], head["frames"]) == (2, 3, 4)
    assert (head["spacing_col_mm"], head["spacing_row_mm"], head["spacing_slice_mm"]) == (1, 2, 3)
    pixels = nifti.pixels(path)
    assert pixels.array.shape == (4, 3, 2)
    assert sorted(pixels.array.ravel()) == sorted(nib.load(path).get_fdata().ravel())


def test_broken_nifti(tmp_path):
    good = tmp_path / "good.nii"
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.int16), np.eye(4)), good)
    raw = good.read_bytes()
    squeezed = gzip.compress(raw)
    cases = {
        "cut.nii": (raw[:-10], "E-TRUNCATED"),
        "short.nii": (raw[:100], "E-TRUNCATED"),
        "cut.nii.gz": (squeezed[:-30], "E-TRUNCATED"),
        "crc.nii.gz": (squeezed[:-8] + b"\0\0\0\0" + squeezed[-4:], "E-TRUNCATED"),
        "text.nii": (b"hello" * 200, "E-NOTNIFTI"),
    }
    for name, (data, code) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(FormatError) as caught:
            nifti.pixels(path)
        assert caught.value.code == code, name
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6, 2), np.int16), np.eye(4)), tmp_path / "4d.nii")
    with pytest.raises(FormatError, match="3-D") as caught:
        nifti.header(tmp_path / "4d.nii")
    assert caught.value.code == "E-4D"


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "L"), ("a.tif", "I;16"), ("a.png", "RGB"), ("a.jpg", "L")]
)
def test_pictures(tmp_path, name, mode):
    array = np.tile(np.arange(0, 240, 40, dtype=np.uint16 if mode == "I;16" else np.uint8), (8, 1))
    if mode == "RGB":
        array = np.stack([array] * 3, -1)
    Image.fromarray(array).save(tmp_path / name)
    got = raster.pixels(tmp_path / name).array
    assert got.shape == (8, 6)
    np.testing.assert_allclose(
        got[0], np.arange(0, 240, 40), atol=30 if name.endswith("jpg") else 0.1
    )


def test_kind_by_content_first(tmp_path):
    save(dataset(), tmp_path / "no_extension")
    assert tasks.kind_of(tmp_path / "no_extension") == "dicom"
    for name, code in (("x.dcm", "E-FORMAT"), ("notes.txt", "S-NOTIMAGE")):
        (tmp_path / name).write_text("hello")
        with pytest.raises(FormatError) as caught:
            tasks.kind_of(tmp_path / name)
        assert caught.value.code == code


def image(array, spacing=(None, None), **more):
    return Pixels(np.asarray(array, np.float32), spacing, None, "stored", **more)


def test_letterbox_keeps_the_shape():
    made = prepare(image(np.arange(40 * 20).reshape(40, 20)), DecodeConfig(size=32))
    assert made.box == (0, 8, 32, 16)
    assert made.planes[0][:, :8].max() == 0
    tall = prepare(image(np.arange(40 * 20).reshape(40, 20), (1.0, 4.0)), DecodeConfig(size=32))
    assert tall.box == (8, 0, 16, 32)  # 40 mm high, 80 mm wide


def test_volumes_as_slices_and_whole():
    volume = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    pixels = image(volume, (3.0, 2.0, 1.0), slice_index=(2, 1, 0))
    slices = prepare(pixels, DecodeConfig(size=16))
    assert slices.planes.shape == (3, 16, 16)
    assert slices.slice_index == (2, 1, 0)
    whole = prepare(pixels, DecodeConfig(size=16, volumes="whole"))
    assert whole.planes.shape == (1, 16, 16, 16)
    assert (whole.planes[0] > 0).any(axis=(1, 2)).sum() == 16  # 9 mm deep: the longest side


def test_judged_by_meaning():
    with pytest.raises(FormatError, match="constant"):
        prepare(image(np.ones((6, 4))), DecodeConfig(size=16))
    bad = np.full((6, 4), np.nan)
    bad[0] = 1
    with pytest.raises(FormatError, match="numbers"):
        prepare(image(bad), DecodeConfig(size=16))


def test_window_without_a_window_is_set_aside():
    with pytest.raises(FormatError, match="VOI window") as caught:
        prepare(image(np.arange(24).reshape(6, 4)), DecodeConfig(size=16, scaling="window"))
    assert caught.value.code == "E-NOWINDOW"


def test_one_outlier_does_not_flatten_the_rest():
    values = np.random.default_rng(0).normal(size=(40, 30))
    struck = values.copy()
    struck[3, 3] = 3e38
    plain, other = (
        prepare(image(v), DecodeConfig(size=32)).planes[0].astype(float) for v in (values, struck)
    )
    assert np.corrcoef(plain.ravel(), other.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    "change",
    [
        {"size": 24},
        {"scaling": "full"},
        {"scaling": "window"},
        {"low_percentile": 20.0},
        {"high_percentile": 80.0},
    ],
)
def test_each_decode_setting_bites(change):
    pixels = image(np.random.default_rng(0).gamma(2, size=(40, 30)), voi=Voi("LINEAR", 2.0, 1.5))
    plain = prepare(pixels, DecodeConfig(size=32)).planes
    varied = prepare(pixels, DecodeConfig(**{"size": 32, **change})).planes
    assert plain.shape != varied.shape or (plain != varied).any()


def test_ct_range_and_slice_fill_bite():
    ct = Pixels(
        np.linspace(-1000, 1000, 24, dtype=np.float32).reshape(6, 4), (None, None), None, "HU"
    )
    wide, narrow = (
        prepare(ct, DecodeConfig(size=16, ct_range_hu=r)).planes
        for r in ((-1024, 3071), (-100, 100))
    )
    assert (wide != narrow).any()
    volume = np.zeros((3, 4, 5))
    volume[1] = np.arange(20).reshape(4, 5)
    pixels = image(volume, (1.0, 1.0, 1.0), slice_index=(0, 1, 2))
    assert prepare(pixels, DecodeConfig(size=16, min_slice_fill=0.5)).slice_index == (1,)


def test_each_frame_has_its_own_rescale(tmp_path):
    """Enhanced objects: PS3.3 C.7.6.16.2.9, one transformation per frame."""
    frames = np.stack([RAMP, RAMP])
    ds = dataset(frames[0], bits=12, NumberOfFrames=2)
    ds.PixelData = frames.tobytes()
    groups = []
    for slope in (1, 10):
        item, group = Dataset(), Dataset()
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = slope, 0, "US"
        group.PixelValueTransformationSequence = [item]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    got = read(ds, tmp_path).array
    np.testing.assert_array_equal(got[0], RAMP)
    np.testing.assert_array_equal(got[1], 10 * RAMP.astype(np.float32))


def test_pages_are_not_dropped_in_silence(tmp_path):
    pages = [Image.fromarray(np.full((6, 4), k, np.uint8)) for k in (10, 20)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(FormatError, match="2 pages"):
        raster.pixels(tmp_path / "a.tif")


def test_a_mostly_padded_picture_is_kept(tmp_path):
    array = RAMP.copy()
    array[:30] = 4000
    pixels = read(dataset(array, PixelPaddingValue=4000), tmp_path)
    assert 0.6 < pixels.padding < 0.7
    assert prepare(pixels, DecodeConfig(size=16)).planes.shape == (1, 16, 16)


@pytest.mark.parametrize("inverted", [False, True])
def test_equalise_leaves_the_order_and_nothing_else(inverted):
    """Oracle: scipy's ranks; any rising change of the tones gives the same picture."""
    from scipy.stats import rankdata

    array = np.random.default_rng(0).gamma(2.0, size=(20, 30)).round(1).astype(np.float32)
    array[0, :3] = np.nan
    settings = DecodeConfig(size=30, scaling="equalise")
    made = prepare(image(array, inverted=inverted), settings)
    finite = np.isfinite(array)
    ranks = (rankdata(array[finite] * (-1 if inverted else 1)) - 0.5) / finite.sum()
    top, left, rows, columns = made.box
    stored = made.planes[0][top : top + rows, left : left + columns]
    assert (rows, columns) == array.shape
    np.testing.assert_allclose(stored[finite] / 65535, ranks, atol=1e-5)
    assert (stored[~finite] == 0).all()
    assert made.scaling == "equalise"
    assert (made.low, made.high, made.units) == (0.0, 1.0, "shown")
    brighter = prepare(image(np.exp(array / 3) + 5, inverted=inverted), settings)
    assert (brighter.planes == made.planes).all()


@pytest.mark.parametrize("smooth", [0, 3])
def test_equalised_pictures_have_one_histogram(smooth):
    """After resizing too: neither tone nor texture leaves a trace in the stored grey levels."""
    from scipy.ndimage import gaussian_filter

    array = np.random.default_rng(1).gamma(1.5, size=(90, 60))
    array = gaussian_filter(array, smooth) if smooth else array
    made = prepare(image(array), DecodeConfig(size=30, scaling="equalise"))
    top, left, rows, columns = made.box
    stored = np.sort(made.planes[0][top : top + rows, left : left + columns].ravel()) / 65535
    np.testing.assert_allclose(stored, (np.arange(stored.size) + 0.5) / stored.size, atol=1e-3)


def test_equalise_refuses_a_constant_picture():
    with pytest.raises(FormatError, match="constant"):
        prepare(image(np.full((6, 4), 3.0)), DecodeConfig(size=16, scaling="equalise"))
