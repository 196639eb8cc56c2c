"""Geometry of multi-frame objects: are their frames one volume, and where does each lie?"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medssl.formats.elements import value
from medssl.formats.geometry import FloatArray
from medssl.formats.slices import SHORT_NORMAL, line_up

MIN_FRAMES = 3


@dataclass(frozen=True)
class FrameGeometry:
    """Frames that are one volume.

    Attributes:
        order: frame indices along the normal, int64 ``[n]``.
        positions: ImagePositionPatient of every frame, mm, float64 ``[n, 3]``, in file order.
        orientation: ImageOrientationPatient, shared, float64 ``[6]``.
        step: mm between slices.
        notes: what is unusual.
    """

    order: npt.NDArray[np.int64]
    positions: FloatArray
    orientation: FloatArray
    step: float
    notes: tuple[str, ...]


def vector(ds: Dataset, keyword: str, length: int) -> list[float] | None:
    """Return ``length`` finite numbers of an element; None where it has not just those."""
    try:
        values = [float(v) for v in value(ds, keyword) or ()]
    except (TypeError, ValueError):
        return None
    good = len(values) == length and all(math.isfinite(v) for v in values)
    return values if good else None


def is_plane(orientation: list[float] | None) -> bool:
    """Return whether six direction cosines span a plane."""
    if orientation is None:
        return False
    turn = np.array(orientation)
    return bool(np.linalg.norm(np.cross(turn[:3], turn[3:])) > SHORT_NORMAL)


def functional(ds: Dataset, sequence: str, frame: int = 0) -> Dataset | None:
    """Return a functional-group item of a frame: its own before the shared (PS3.3 C.7.6.16)."""
    frames = list(value(ds, "PerFrameFunctionalGroupsSequence") or [])
    own = frames[frame : frame + 1]
    for item in [*own, *list(value(ds, "SharedFunctionalGroupsSequence") or [])[:1]]:
        found = list(item.get(sequence) or [])
        if found:
            return found[0]  # type: ignore[no-any-return]
    return None


def placed(ds: Dataset) -> tuple[list[float] | None, list[float] | None]:
    """Return position and orientation of a single slice: its own, or its first frame's."""
    position = vector(ds, "ImagePositionPatient", 3)
    orientation = vector(ds, "ImageOrientationPatient", 6)
    if position is None and (item := functional(ds, "PlanePositionSequence")) is not None:
        position = vector(item, "ImagePositionPatient", 3)
    if orientation is None and (item := functional(ds, "PlaneOrientationSequence")) is not None:
        orientation = vector(item, "ImageOrientationPatient", 6)
    return position, orientation


def is_hounsfield(ds: Dataset) -> bool:
    """Return whether a CT says how to get Hounsfield units (PS3.3 C.8.2.1.1.2, C.11.1.1.2)."""
    item = functional(ds, "PixelValueTransformationSequence")
    source = ds if item is None else item
    rescaled = "RescaleSlope" in source or "ModalityLUTSequence" in source
    return rescaled and str(source.get("RescaleType") or "HU").strip().upper() == "HU"


def frame_geometry(ds: Dataset) -> FrameGeometry | None:
    """Return the geometry of an enhanced object whose frames are one volume; None for all else.

    One orientation, and every position once; cines, several time points, echoes or stacks are not
    one volume and stay frames.
    """
    frames = list(value(ds, "PerFrameFunctionalGroupsSequence") or [])
    if len(frames) < MIN_FRAMES or len(frames) != int(value(ds, "NumberOfFrames") or 1):
        return None
    turns, places, sizes = [], [], set()
    for k in range(len(frames)):
        plane = functional(ds, "PlaneOrientationSequence", k)
        position = functional(ds, "PlanePositionSequence", k)
        if plane is None or position is None:
            return None
        turn = vector(plane, "ImageOrientationPatient", 6)
        place = vector(position, "ImagePositionPatient", 3)
        if turn is None or place is None:
            return None
        measures = functional(ds, "PixelMeasuresSequence", k)
        sizes.add(None if measures is None else tuple(vector(measures, "PixelSpacing", 2) or ()))
        turns.append(turn)
        places.append(place)
    orientation, positions = np.array(turns), np.array(places)
    if np.abs(orientation - orientation[0]).max() > 1e-3 or len(sizes) > 1:
        return None
    line = line_up(positions, orientation[0])
    if line is None:
        return None
    return FrameGeometry(line.order, positions, orientation[0], line.step, line.notes)
