"""Slices in a row: ordered by position along their normal, never by instance number alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHORT_NORMAL = 0.1
SAME_POSITION_MM = 1e-3
STEP_TOLERANCE = 0.05
SHIFT_MM = 1.0


@dataclass(frozen=True)
class Line:
    """Slices ordered along their normal.

    Attributes:
        order: indices by rising position, int64 ``[n]``.
        step: median mm between neighbours.
        notes: ``W-GAP`` where slices seem to be missing, ``W-SPACING`` where steps differ otherwise,
            ``W-SHIFTED`` where slices do not lie on one straight line.
    """

    order: npt.NDArray[np.int64]
    step: float
    notes: tuple[str, ...]


def is_axial(orientation: Sequence[float]) -> bool:
    """Return whether the normal of ImageOrientationPatient points most nearly along the body."""
    turn = np.asarray(orientation, dtype=np.float64)
    return int(np.abs(np.cross(turn[:3], turn[3:])).argmax()) == 2


def line_up(
    positions: npt.NDArray[np.float64], orientation: npt.NDArray[np.float64]
) -> Line | None:
    """Order slices by position along the normal; None where two share one, or there is no normal.

    Args:
        positions: ImagePositionPatient, mm, ``[n, 3]``.
        orientation: ImageOrientationPatient, ``[6]``.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    length = float(np.linalg.norm(normal))
    if not length > SHORT_NORMAL:
        return None
    along = np.asarray(positions) @ (normal / length)
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    if steps.size and steps.min() < SAME_POSITION_MM:
        return None
    step = float(np.median(steps)) if steps.size else 0.0
    odd = np.abs(steps - step) > STEP_TOLERANCE * step
    whole = np.abs(steps / step - np.rint(steps / step)) < STEP_TOLERANCE if step else odd
    notes = ["W-GAP"] if (odd & whole & (steps > step)).any() else []
    notes += ["W-SPACING"] if (odd & ~(whole & (steps > step))).any() else []
    places, share = np.asarray(positions)[order], along[order] - along[order[0]]
    ahead = places[-1] - places[0]
    straight = places[0] + np.outer(share / share[-1] if share[-1] else share, ahead)
    off = float(np.abs(places - straight).max())
    notes += ["W-SHIFTED"] if off > SHIFT_MM else []
    return Line(order, step, tuple(notes))
