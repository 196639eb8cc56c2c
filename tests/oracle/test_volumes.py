"""Volumes however they are stored: enhanced objects, series with faults, pairs, MGH; same points."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid
from test_geometry import agree, oblique, points

from medssl.cohort.stacks import stack
from medssl.formats import dicom, dicom_pixels, nifti, tasks
from medssl.formats.geometry import FormatError, ras_to_lps
from medssl.formats.slices import line_up

SPACING = (1.0, 2.0, 3.0)
VOLUME = np.arange(24, dtype=np.int16).reshape(4, 2, 3)
ORIGIN = np.array([5.0, -7.0, 11.0])
ORDER = (2, 0, 3, 1)  # frames are stored in this order of slices


def enhanced(order=ORDER, gap=1.0, positions=None):
    turn = oblique()
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = (
        EnhancedCTImageStorage,
        generate_uid(),
        "1.5",
    )
    ds.PatientID, ds.Modality, ds.NumberOfFrames = "P", "CT", len(order)
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 2, 3, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = VOLUME[list(order)].tobytes()
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [SPACING[0], SPACING[1]]
    plane.ImageOrientationPatient = [*turn[:, 0], *turn[:, 1]]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in positions or order:
        item, place, window = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = list(
            ORIGIN + turn[:, 2] * SPACING[2] * (k if k < 3 else k - 1 + gap)
        )
        window.WindowCenter, window.WindowWidth = 5, 10
        item.PlanePositionSequence, item.FrameVOILUTSequence = [place], [window]
        frames.append(item)
    ds.PerFrameFunctionalGroupsSequence = frames
    return ds


def save(ds, path):
    ds.save_as(path, enforce_file_format=True)
    return path


def worlds():
    turn, out = oblique(), {}
    for k, r, c in np.ndindex(VOLUME.shape):
        out[int(VOLUME[k, r, c])] = (
            ORIGIN
            + turn[:, 2] * SPACING[2] * k
            + turn[:, 0] * SPACING[1] * c
            + turn[:, 1] * SPACING[0] * r
        )
    return out


def test_an_enhanced_object_is_a_volume(tmp_path):
    path = save(enhanced(), tmp_path / "e.dcm")
    head = dicom.header(path)
    assert head["volume"]
    assert head["public"]["spacing_slice_mm"] == pytest.approx(3.0)
    assert head["public"]["notes"] == []
    pixels = dicom_pixels.pixels([path])
    agree(points(pixels.array, pixels.affine_lps), worlds())
    for plane, frame in zip(pixels.array, pixels.slice_index, strict=True):
        assert set(plane.ravel()) == set(
            VOLUME[ORDER[frame]].ravel()
        )  # the file's own frame number
    assert pixels.voi.centre == 5


def test_an_enhanced_object_with_a_gap_says_so(tmp_path):
    head = dicom.header(save(enhanced(gap=3.0), tmp_path / "e.dcm"))
    assert head["public"]["notes"] == ["W-GAP"]


def test_frames_at_one_place_stay_frames(tmp_path):
    head = dicom.header(save(enhanced(positions=(0, 1, 1, 2)), tmp_path / "e.dcm"))
    assert not head["volume"]
    assert head["public"]["notes"] == ["W-FRAMES"]
    pixels = dicom_pixels.pixels([tmp_path / "e.dcm"])
    np.testing.assert_array_equal(pixels.array, VOLUME[list(ORDER)])
    assert pixels.affine_lps is None


def slices(positions, **changes):
    """Headers of a series with slices at these positions along z, mm."""
    level = [1, 0, 0, 0, 1, 0]
    public = {"rows": 2, "columns": 3, "photometric": "MONOCHROME2", "intent": ""}
    heads = {}
    for k, z in enumerate(positions):
        own = {name: changes.get(name, {}).get(k) for name in ("public", "turn", "part")}
        place = {
            "position": [0.0, 0.0, z],
            "orientation": own["turn"] or level,
            "part": own["part"] or ["", ""],
        }
        heads[f"f_{k}"] = {
            "public": {**public, **(own["public"] or {})},
            "private": {"series_uid": "1.5"},
            "stack": place,
        }
    return heads


@pytest.mark.parametrize(
    ("positions", "changes", "sizes", "notes"),
    [
        ([4, 0, 2, 6], {}, [4], [[]]),
        ([0, 2, 4, 8, 10], {}, [5], [["W-GAP"]]),
        ([0, 2, 4, 7, 9], {}, [5], [["W-SPACING"]]),
        ([0, 2, 4, 6, 10, 13], {}, [6], [["W-GAP", "W-SPACING"]]),
        ([0, 2, 2, 4], {}, [1] * 4, [["W-SAME-POSITION"]] * 4),
        ([0, 2, 4, 0, 2, 4], {"part": {k: ["", "", str(k // 3)] for k in range(6)}}, [3, 3],
         [["W-SPLIT-SERIES"]] * 2),
        ([0, 2, 4, 1, 3, 5], {"part": {k: ["", str(k // 3)] for k in range(6)}}, [3, 3],
         [["W-MIXED-KIND"]] * 2),
        ([0, 2, 4, 6], {"public": {3: {"spacing_row_mm": 2.0}}}, [3, 1], [["W-MIXED-SIZE"]] * 2),
        ([0, 2, 4, 0], {"turn": {3: [0, 1, 0, 0, 0, -1]}}, [3, 1], [["W-MIXED-ORIENTATION"]] * 2),
        ([0, 2, 4, 6], {"public": {3: {"rows": 4}}}, [3, 1], [["W-MIXED-SIZE"]] * 2),
        ([0, 2, 4, 6], {"public": {3: {"intent": "FOR PROCESSING"}}}, [3, 1], [["W-MIXED-KIND"]] * 2),
        ([0, 2], {}, [1, 1], [[], []]),
    ],
)  # fmt: skip
def test_series_faults_are_named(positions, changes, sizes, notes):
    got = stack(slices(positions, **changes))
    assert [len(names) for names, _, _ in got] == sizes
    assert [n for _, n, _ in got] == notes
    for names, _, _ in got:
        if len(names) > 1:
            z = [positions[int(n[2:])] for n in names]
            assert z == sorted(z)


def test_slices_beside_the_line_are_named():
    positions = np.array([[0, 0, 0], [40, 0, 2], [0, 0, 4], [0, 0, 6.0]])
    assert line_up(positions, np.array([1.0, 0, 0, 0, 1, 0])).notes == ("W-SHIFTED",)
    tilted = np.array([[0, k * 1.5, k * 2.0] for k in range(4)])  # a tilted gantry shears, evenly
    assert line_up(tilted, np.array([1.0, 0, 0, 0, 1, 0])).notes == ()


def test_ct_without_rescale_is_not_in_hounsfield_units(tmp_path):
    ds = enhanced()
    del ds.RescaleSlope
    head = dicom.header(save(ds, tmp_path / "e.dcm"))
    assert head["public"]["notes"] == ["W-NOHU"]
    assert dicom_pixels.pixels([tmp_path / "e.dcm"]).units == "stored"
    ds.RescaleSlope, ds.RescaleType = 1, "US"
    assert dicom_pixels.pixels([save(ds, tmp_path / "u.dcm")]).units == "stored"
    ds.RescaleType = "HU"
    assert dicom_pixels.pixels([save(ds, tmp_path / "h.dcm")]).units == "HU"


def test_no_normal_no_line():
    assert line_up(np.eye(3), np.array([1.0, 0, 0, 1.0, 0, 0])) is None


def test_a_localizer_joins_no_volume(tmp_path):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = CTImageStorage, generate_uid(), "1.5"
    ds.PatientID, ds.Modality, ds.ImageType = "P", "CT", ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated = 2, 3, 1, 16
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    head = dicom.header(save(ds, tmp_path / "l.dcm"))
    assert head["stack"] is None
    assert "W-LOCALIZER" in head["public"]["notes"]
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    with pytest.raises(FormatError, match="mosaic") as caught:
        dicom.header(save(ds, tmp_path / "m.dcm"))
    assert caught.value.code == "E-MOSAIC"


AFFINE = np.array([[0, -2.0, 0.3, 4], [1.5, 0, 0, -5], [0.1, 0, 3.0, 6], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.hdr", "v.mgz", "v.mgh"])
@pytest.mark.parametrize("version", [1, 2])
def test_every_container_gives_the_same_points(tmp_path, name, version):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    if name.endswith(("mgz", "mgh")):
        image = nib.MGHImage(array, AFFINE)
    elif name.endswith("hdr"):
        image = (nib.Nifti1Pair if version == 1 else nib.Nifti2Pair)(array, AFFINE)
    else:
        image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(array, AFFINE)
    nib.save(image, tmp_path / name)
    path = tmp_path / name
    assert tasks.kind_of(path) == "nifti"
    assert nifti.header(path)["public"]["frames"] == 4
    pixels = nifti.pixels(path)
    lps = ras_to_lps(AFFINE)
    wanted = {int(array[i]): lps[:3, :3] @ i + lps[:3, 3] for i in np.ndindex(array.shape)}
    agree(points(pixels.array, pixels.affine_lps), wanted)


def test_halves_of_a_pair(tmp_path):
    nib.save(
        nib.Nifti1Pair(np.arange(24, dtype=np.int16).reshape(2, 3, 4), AFFINE), tmp_path / "v.hdr"
    )
    with pytest.raises(FormatError, match="read with it") as caught:
        tasks.kind_of(tmp_path / "v.img")
    assert caught.value.code == "S-PARTNER"
    before = tasks.decode([tmp_path / "v.hdr"], {"size": 16})[0]["source"]
    voxels = bytearray((tmp_path / "v.img").read_bytes())
    voxels[0] ^= 1
    (tmp_path / "v.img").write_bytes(voxels)
    assert tasks.decode([tmp_path / "v.hdr"], {"size": 16})[0]["source"] != before
    (tmp_path / "v.img").write_bytes(voxels[:20])
    with pytest.raises(FormatError, match="short"):
        nifti.pixels(tmp_path / "v.hdr")
    (tmp_path / "v.img").unlink()
    with pytest.raises(FormatError, match="half of a pair"):
        tasks.kind_of(tmp_path / "v.hdr")


def test_analyze_is_not_believed(tmp_path):
    image = nib.AnalyzeImage(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    nib.save(image, tmp_path / "v.hdr")
    with pytest.raises(FormatError, match="which side is left"):
        nifti.header(tmp_path / "v.hdr")


def test_colour_voxels_become_luma(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 3), dtype=np.uint8)
    array = rgb.view([(c, "u1") for c in "RGB"])[..., 0]
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2, 3, 1])), tmp_path / "c.nii.gz")
    got = nifti.pixels(tmp_path / "c.nii.gz").array
    wanted = rgb.astype(float) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(np.sort(got.ravel()), np.sort(wanted.ravel()), atol=1e-3)


def test_what_places_nothing_is_noted(tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), None)
    nib.save(image, tmp_path / "n.nii")
    assert nifti.header(tmp_path / "n.nii")["public"]["notes"] == ["W-NOFORM"]


@pytest.mark.parametrize("meta", [True, False])
def test_dicom_without_its_preamble(tmp_path, meta):
    """As old archives keep it: PS3.10's preamble and prefix absent, with or without the meta group."""
    whole = save(enhanced(), tmp_path / "whole.dcm").read_bytes()
    bare = whole[132:]
    if not meta:
        length = int.from_bytes(bare[8:12], "little")
        bare = bare[12 + length :]
    path = tmp_path / "IM0001"
    path.write_bytes(bare)
    assert tasks.kind_of(path) == "dicom"
    want, got = dicom_pixels.pixels([tmp_path / "whole.dcm"]), dicom_pixels.pixels([path])
    np.testing.assert_array_equal(got.array, want.array)
    np.testing.assert_array_equal(got.affine_lps, want.affine_lps)


@pytest.mark.parametrize(
    "start", [b"", b"\x08", b"<html>" + bytes(200), b"PK\x03\x04" + bytes(200), b"\x08\x00" + b"text " * 40,
              gzip.compress(b"x" * 500, mtime=0), bytes(200), b"\x02\x00\x00" + b"\xff" * 200]
)  # fmt: skip
def test_what_is_no_dicom_is_not_taken_for_it(start):
    assert not dicom.looks_like_dicom(start[:132])
