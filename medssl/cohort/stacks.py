"""Which files are one volume: same series, size and orientation, positions along the normal."""

from collections import defaultdict
from typing import Any

import numpy as np

MIN_SLICES = 3
GAP_TOLERANCE = 0.05

Header = dict[str, Any]


def stack(headers: dict[str, Header]) -> list[tuple[tuple[str, ...], list[str], float | None]]:
    """Group headers into images and volumes.

    Args:
        headers: by file id, as ``dicom.header`` returns them.

    Returns:
        (file ids, notes, mm between slices) of every image or volume; volumes have several ids,
        ordered along the normal.
    """
    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    out: list[tuple[tuple[str, ...], list[str], float | None]] = []
    for name, header in headers.items():
        if header.get("stack") is None or not header["private"].get("series_uid"):
            out.append(((name,), [], None))
            continue
        turn = tuple(round(v, 3) for v in header["stack"]["orientation"])
        size = (header["public"]["rows"], header["public"]["columns"])
        groups[header["private"]["series_uid"], turn, size].append(name)
    for names in groups.values():
        out += _volume(names, headers)
    return out


def _volume(
    names: list[str], headers: dict[str, Header]
) -> list[tuple[tuple[str, ...], list[str], float | None]]:
    if len(names) < MIN_SLICES:
        return [((name,), [], None) for name in names]
    turn = np.array(headers[names[0]]["stack"]["orientation"])
    normal = np.cross(turn[:3], turn[3:])
    positions = np.array([headers[n]["stack"]["position"] for n in names])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    if (steps < 1e-3).any():
        return [((name,), ["W-SAME-POSITION"], None) for name in names]
    typical = float(np.median(steps))
    notes = ["W-GAP"] if (np.abs(steps - typical) > GAP_TOLERANCE * typical).any() else []
    return [(tuple(names[i] for i in order), notes, typical)]
