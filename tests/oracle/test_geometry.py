"""One oblique 2 x 3 x 4 volume through DICOM, NIfTI, nibabel and SimpleITK: one world point per voxel."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medssl.formats import dicom_pixels, nifti
from medssl.formats.geometry import FormatError, check_affine, ras_to_lps, to_house_order

SPACING = (1.0, 2.0, 3.0)  # rows, columns, slices: all different


def oblique():
    """Right-handed axes turned about all three directions."""
    a, b, c = 0.3, -0.2, 0.5
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


@pytest.fixture
def series(tmp_path):
    """A CT series whose InstanceNumber runs against its position."""
    turn, volume = oblique(), np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    origin, uid, paths, worlds = np.array([5.0, -7.0, 11.0]), generate_uid(), [], {}
    volume = np.concatenate([volume, volume[:1] + 24])  # three slices: 3 x 3 x 4
    for k, plane in enumerate(volume):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.SeriesInstanceUID = ds.StudyInstanceUID = uid
        ds.PatientID, ds.Modality, ds.InstanceNumber = "P", "CT", 10 - k
        ds.Rows, ds.Columns, ds.SamplesPerPixel = 3, 4, 1
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.PixelSpacing = [SPACING[0], SPACING[1]]
        row_direction, column_direction, normal = turn[:, 0], turn[:, 1], turn[:, 2]
        ds.ImageOrientationPatient = [*row_direction, *column_direction]
        position = origin + normal * SPACING[2] * k
        ds.ImagePositionPatient = list(position)
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PixelData = plane.tobytes()
        path = tmp_path / f"{9 - k}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
        for r in range(3):
            for c in range(4):
                where = (
                    position + row_direction * SPACING[1] * c + column_direction * SPACING[0] * r
                )
                worlds[int(plane[r, c])] = where
    return paths, worlds


def points(array, affine):
    """World LPS point of every value."""
    out = {}
    for index in np.ndindex(array.shape):
        out[int(array[index])] = affine[:3, :3] @ index + affine[:3, 3]
    return out


def agree(found, wanted):
    assert set(found) == set(wanted)
    for value, where in wanted.items():
        np.testing.assert_allclose(found[value], where, atol=1e-3)


def test_dicom_series(series):
    paths, worlds = series
    for order in ((2, 1, 0), (1, 2, 0)):
        pixels = dicom_pixels.pixels([paths[k] for k in order])
        agree(points(pixels.array, pixels.affine_lps), worlds)
    assert pixels.units == "HU"


def test_house_order_points_to_superior_posterior_left(series):
    pixels = dicom_pixels.pixels(series[0])
    turn = pixels.affine_lps[:3, :3]
    assert [int(np.argmax(np.abs(turn[:, k]))) for k in range(3)] == [2, 1, 0]
    assert all(turn[[2, 1, 0][k], k] > 0 for k in range(3))


def test_simpleitk_agrees(series):
    paths, worlds = series
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(p) for p in paths])
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    found = {
        int(array[k, j, i]): np.array(image.TransformIndexToPhysicalPoint((i, j, k)))
        for k, j, i in np.ndindex(array.shape)
    }
    agree(found, worlds)


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_nifti_agrees_with_nibabel(tmp_path, flip, order):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    affine = np.eye(4)
    affine[:3, :3] = (oblique() * np.array(SPACING) * np.array(flip))[:, list(order)]
    affine[:3, 3] = (5, -7, 11)
    path = tmp_path / "v.nii.gz"
    nib.save(nib.Nifti1Image(array, affine), path)
    worlds = {}
    for index in np.ndindex(array.shape):
        ras = nib.affines.apply_affine(nib.load(path).affine, index)
        worlds[int(array[index])] = ras * np.array([-1, -1, 1])
    pixels = nifti.pixels(path)
    agree(points(pixels.array, pixels.affine_lps), worlds)


def test_slice_index_is_the_files_own(tmp_path):
    """A file that runs from top to bottom keeps its own slice numbers."""
    array = np.zeros((2, 3, 4), np.int16)
    array[:] = np.arange(4)
    for sign in (1, -1):
        path = tmp_path / f"{sign}.nii"
        nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0 * sign, 1.0])), path)
        pixels = nifti.pixels(path)
        assert [int(plane[0, 0]) for plane in pixels.array] == list(pixels.slice_index)
    assert pixels.slice_index == (3, 2, 1, 0)


axis = st.permutations([0, 1, 2])
signs = st.tuples(*[st.sampled_from([-1, 1])] * 3)


@settings(max_examples=48, deadline=None)
@given(axis, signs)
def test_every_orientation_keeps_every_point(order, sign):
    array = np.arange(24).reshape(2, 3, 4)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(SPACING)[:, list(order)] * np.array(sign)
    house, after, _ = to_house_order(array, ras_to_lps(affine))
    agree(points(house, after), points(array, ras_to_lps(affine)))


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.full((4, 4), np.nan)])
def test_no_volume_no_geometry(bad):
    with pytest.raises(FormatError):
        check_affine(bad)
