"""The one border between LPS, RAS and array order.

Inside the house a volume is ``[D, H, W]`` = (towards Superior, towards Posterior, towards Left),
so a slice ``[H, W]`` shows the patient's right on the left of the screen. World points are LPS mm
(DICOM PS3.3 C.7.6.2.1.1); NIfTI files are RAS mm and cross here.
"""

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medssl.formats.voi import Voi

FloatArray = npt.NDArray[np.floating[Any]]
MIN_DETERMINANT = 1e-8
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class FormatError(Exception):
    """A file that cannot be taken as it is: a sentence and a stable code."""

    def __init__(self, sentence: str, code: str) -> None:
        self.sentence, self.code = sentence, code
        super().__init__(sentence)


@dataclass(frozen=True)
class Pixels:
    """One image or volume as read.

    Attributes:
        array: float32 ``[H, W]`` or ``[D, H, W]`` in house order; padding is NaN. With ``colour`` a
            last axis of red, green and blue.
        spacing_mm: size of a pixel along each axis of ``array``; None where unknown.
        affine_lps: 4x4, array index (axis order of ``array``) to LPS mm; None for projections.
        units: ``HU`` or ``stored``.
        inverted: True when larger stored values are darker (MONOCHROME1).
        voi: the object's own VOI transform, of values in ``units``; None where absent.
        slice_index: for volumes, the file's own index of every plane along axis 0.
        padding: share of the pixels that the header declares as padding.
        decoder: what turned the stored bytes into numbers.
        intent: ``processing`` for raw detector data, ``presentation`` for all else.
        colour: whether the last axis holds colours.
    """

    array: npt.NDArray[np.float32]
    spacing_mm: tuple[float | None, ...]
    affine_lps: FloatArray | None
    units: str
    inverted: bool = False
    voi: Voi | None = None
    slice_index: tuple[int, ...] = ()
    padding: float = 0.0
    decoder: str = "own"
    intent: str = "presentation"
    colour: bool = False


def check_affine(affine: FloatArray) -> None:
    """Raise FormatError unless the 4x4 affine is finite and has a volume."""
    if not np.isfinite(affine).all():
        raise FormatError("the image geometry holds values that are not numbers", "E-AFFINE")
    determinant = float(np.linalg.det(affine[:3, :3]))
    if abs(determinant) < MIN_DETERMINANT:
        raise FormatError(
            f"the image geometry has no volume (determinant {determinant:.3g}), "
            "so left and right cannot be known; export it again",
            "E-AFFINE",
        )


def ras_to_lps(affine_ras: FloatArray) -> FloatArray:
    """Return the affine that maps the same indices to LPS instead of RAS mm."""
    return RAS_LPS @ np.asarray(affine_ras, dtype=np.float64)


def lps_to_ras(affine_lps: FloatArray) -> FloatArray:
    """Return the affine that maps the same indices to RAS instead of LPS mm."""
    return RAS_LPS @ np.asarray(affine_lps, dtype=np.float64)


def slice_affine(
    position: FloatArray, orientation: FloatArray, spacing: tuple[float, float], step: FloatArray
) -> FloatArray:
    """Return the LPS affine of (slice, row, column) indices of a DICOM stack.

    Args:
        position: ImagePositionPatient of the first slice, mm.
        orientation: ImageOrientationPatient: direction of rows, then of columns.
        spacing: PixelSpacing: mm between rows, mm between columns.
        step: mm vector from one slice to the next.

    Source: DICOM PS3.3 C.7.6.2.1.1.
    """
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = np.asarray(orientation[3:]) * spacing[0]
    affine[:3, 2] = np.asarray(orientation[:3]) * spacing[1]
    affine[:3, 3] = position
    return affine


def to_house_order(
    array: npt.NDArray[Any], affine_lps: FloatArray
) -> tuple[npt.NDArray[Any], FloatArray, tuple[int, ...]]:
    """Turn a volume into house order by flips and axis swaps only; no resampling.

    Args:
        array: any axis order, 3-D; axes after the third (colours) stay where they are.
        affine_lps: its index-to-LPS affine, same axis order.

    Returns:
        The array ``[S, P, L]`` ascending, its affine, and for every plane of axis 0 the index that
        plane had in the array given.

    Raises:
        FormatError: the affine has no volume, or two array axes point the same way.
    """
    check_affine(affine_lps)
    start = nib.orientations.io_orientation(lps_to_ras(affine_lps))
    if np.isnan(start).any():
        raise FormatError("two axes of the image geometry point the same way", "E-AFFINE")
    wanted = nib.orientations.axcodes2ornt(("S", "P", "L"))
    turn = nib.orientations.ornt_transform(start, wanted)
    turned = nib.orientations.apply_orientation(array, turn)
    affine = affine_lps @ nib.orientations.inv_ornt_aff(turn, array.shape)
    source_axis = int(np.flatnonzero(turn[:, 0] == 0)[0])
    length = array.shape[source_axis]
    order = range(length) if turn[source_axis, 1] > 0 else range(length - 1, -1, -1)
    return turned, affine, tuple(order)


def spacing_of(affine: FloatArray) -> tuple[float, float, float]:
    """Return the mm size of a voxel along each array axis."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return float(sizes[0]), float(sizes[1]), float(sizes[2])
