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


def frame_geometry(ds: Dataset) -> FrameGeometry | None:
    """Return the geometry of an enhanced object whose frames are one volume; None for all else.

    One orientation, and every position once; cines, several time points, echoes or stacks are not
    one volume and stay frames.
    """
    frames = list(value(ds, "PerFrameFunctionalGroupsSequence") or [])
    if len(frames) < MIN_FRAMES or len(frames) != int(value(ds, "NumberOfFrames") or 1):
        return None
    turns, places = [], []
    for k in range(len(frames)):
        plane = functional(ds, "PlaneOrientationSequence", k)
        position = functional(ds, "PlanePositionSequence", k)
        if plane is None or position is None:
            return None
        turn = vector(plane, "ImageOrientationPatient", 6)
        place = vector(position, "ImagePositionPatient", 3)
        if turn is None or place is None:
            return None
        turns.append(turn)
        places.append(place)
    orientation, positions = np.array(turns), np.array(places)
    if np.abs(orientation - orientation[0]).max() > 1e-3:
        return None
    line = line_up(positions, orientation[0])
    if line is None:
        return None
    return FrameGeometry(line.order, positions, orientation[0], line.step, line.notes)
