"""What a viewer is told of a picture: values against other readers, sides and windows by hand."""

import hashlib

import dicoms
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medssl.formats import display, tasks
from medssl.formats.geometry import FormatError, Pixels
from medssl.formats.voi import Voi


def shown(path, *more):
    facts, arrays = tasks.show([path, *more], {})
    return facts, arrays[0]


def test_a_radiograph_keeps_its_depth_window_and_sides(tmp_path):
    path = tmp_path / "a.dcm"
    dicoms.write(
        path, shape=(24, 18), WindowCenter=900, WindowWidth=1500, PatientOrientation=["L", "F"],
        PixelSpacing=[0.2, 0.3],
    )  # fmt: skip
    facts, values = shown(path)
    raw = dicoms.radiograph(0, (24, 18)).pixel_array
    np.testing.assert_array_equal(values[0], raw)
    assert facts["dtype"] in {"i2", "u2"}
    assert (facts["low"], facts["high"]) == (raw.min(), raw.max())
    assert facts["voi"] == {"curve": "LINEAR", "centre": 900, "width": 1500, "lut": None}
    assert facts["letters"] == {"right": "L", "left": "R", "bottom": "F", "top": "H"}
    assert facts["spacing"] == [None, 0.2, 0.3]
    assert facts["calibrated"]


def test_spacing_of_the_detector_is_not_calibrated(tmp_path):
    path = tmp_path / "a.dcm"
    dicoms.write(path, ImagerPixelSpacing=[0.1, 0.1])
    facts, _ = shown(path)
    assert not facts["calibrated"]
    assert facts["letters"] is None


def test_monochrome1_keeps_values_and_says_so(tmp_path):
    path = tmp_path / "a.dcm"
    dicoms.write(path, PhotometricInterpretation="MONOCHROME1")
    facts, values = shown(path)
    assert facts["inverted"]
    np.testing.assert_array_equal(values[0], dicoms.radiograph(0).pixel_array)


@pytest.mark.parametrize(
    ("turn", "right", "bottom"),
    [
        ([1, 0, 0, 0, 1, 0], "L", "P"),
        ([0, 1, 0, 0, 0, -1], "P", "I"),
        ([1, 0, 0, 0, 0, -1], "L", "I"),
        ([0.8, 0.6, 0, -0.6, 0.8, 0], "LP", "PR"),
    ],
)
def test_sides_follow_the_orientation(tmp_path, turn, right, bottom):
    path = tmp_path / "a.dcm"
    dicoms.write(path, ImageOrientationPatient=turn, PatientOrientation=["R", "H"])
    letters = shown(path)[0]["letters"]
    assert (letters["right"], letters["bottom"]) == (right, bottom)
    opposite = str.maketrans("LPISRA", "RASILP")
    assert letters["left"] == right.translate(opposite)


@pytest.mark.parametrize("words", [["X", "F"], ["L"], ["LLLL", "F"], ""])
def test_nonsense_sides_are_none(tmp_path, words):
    path = tmp_path / "a.dcm"
    dicoms.write(path, PatientOrientation=words)
    assert shown(path)[0]["letters"] is None


def test_a_volume_against_nibabel(tmp_path):
    """RAS file, house order: planes from inferior to superior, rows to posterior, columns to left."""
    data = np.arange(5 * 7 * 4, dtype=np.int16).reshape(5, 7, 4) - 40
    path = tmp_path / "v.nii.gz"
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 3.0, 4.0, 1.0])), path)
    facts, values = shown(path)
    assert facts["volume"]
    assert facts["spacing"] == [4.0, 3.0, 2.0]
    assert facts["letters"] == {"right": "L", "left": "R", "bottom": "P", "top": "A"}
    expected = data[::-1, ::-1, :].transpose(2, 1, 0)
    np.testing.assert_array_equal(values, expected)
    assert facts["slice_index"] == [0, 1, 2, 3]


def test_fractions_and_holes():
    array = np.array([[0.5, np.nan, 2.0], [3.0, 4.0, 5.0]], np.float32)
    facts, values = display.shown(Pixels(array, (None, None), None, "stored"))
    assert facts["dtype"] == "f4"
    assert facts["blank"] is None
    np.testing.assert_array_equal(values[0], array)
    whole = np.array([[-5, np.nan], [7, 9]], np.float32)
    facts, values = display.shown(Pixels(whole, (None, None), None, "HU"))
    assert (facts["dtype"], facts["blank"], facts["units"]) == ("i2", -32768.0, "HU")
    assert values[0].tolist() == [[-5, -32768], [7, 9]]
    assert (facts["low"], facts["high"]) == (-5, 9)


def test_deep_values_and_a_table():
    array = np.array([[0, 65535], [40000, 1]], np.float32)
    voi = Voi("LUT", first=10.0, table=np.array([0.0, 0.25, 1.0]))
    facts, values = display.shown(Pixels(array, (None, None), None, "stored", voi=voi))
    assert facts["dtype"] == "u2"
    assert values[0].tolist() == [[0, 65535], [40000, 1]]
    assert facts["voi"]["lut"] == {"first": 10.0, "table": [0.0, 0.25, 1.0]}
    assert (facts["voi"]["centre"], facts["voi"]["width"]) == (11.0, 2.0)


def test_colours_stay_colours_and_grey_stays_grey(tmp_path):
    colour = np.random.default_rng(0).integers(0, 255, (9, 5, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "c.png")
    facts, values = shown(tmp_path / "c.png")
    assert facts["dtype"] == "rgb"
    np.testing.assert_array_equal(values[0], colour)
    grey = np.repeat(colour[..., :1], 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "g.png")
    facts, values = shown(tmp_path / "g.png")
    assert facts["dtype"] == "i2"
    assert np.abs(values[0] - grey[..., 0].astype(int)).max() <= 1


def test_colour_dicom(tmp_path):
    colour = np.random.default_rng(1).integers(0, 255, (6, 4, 3), dtype=np.uint8)
    path = tmp_path / "c.dcm"
    dicoms.write(
        path, shape=(6, 4), SamplesPerPixel=3, PlanarConfiguration=0, BitsAllocated=8, BitsStored=8,
        HighBit=7, PhotometricInterpretation="RGB", PixelData=colour.tobytes(),
    )  # fmt: skip
    facts, values = shown(path)
    assert facts["dtype"] == "rgb"
    np.testing.assert_array_equal(values[0], colour)


def test_another_patients_file_under_the_same_name_is_refused(tmp_path):
    path = tmp_path / "a.dcm"
    dicoms.write(path)
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(FormatError):
        tasks.show([path], {"identities": [other]})
