"""Which files are one volume: same series, size and orientation, positions along the normal."""

from collections import defaultdict
from typing import Any

import numpy as np

from medssl.formats.slices import line_up

MIN_SLICES = 3
TURN_TOLERANCE = 1e-3

Header = dict[str, Any]
Stacked = tuple[tuple[str, ...], list[str], float | None]


def stack(headers: dict[str, Header]) -> list[Stacked]:
    """Group headers into images and volumes.

    Args:
        headers: by file id, as ``dicom.header`` returns them.

    Returns:
        (file ids, notes, mm between slices) of every image or volume; volumes have several ids,
        ordered along the normal. A series with several orientations, sizes, echoes or time points
        gives several volumes, and says so.
    """
    series: dict[str, dict[tuple[Any, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    out: list[Stacked] = []
    for name, header in headers.items():
        uid = header["private"].get("series_uid")
        if header.get("stack") is None or not uid:
            out.append(((name,), [], None))
            continue
        public, place = header["public"], header["stack"]
        spacing = (public.get("spacing_row_mm"), public.get("spacing_col_mm"))
        size = (public["rows"], public["columns"], spacing)
        # Raw and presented slices, two photometries, frames of reference or echoes are no volume.
        kind = (
            public.get("photometric"),
            public.get("intent"),
            place.get("frame"),
            *place["part"][:2],
        )
        turn = _turn(place["orientation"], [key[0] for key in series[uid]])
        series[uid][turn, size, kind].append(name)
    for groups in series.values():
        mixed = _mixed(list(groups))
        for names in groups.values():
            out += [(n, [*notes, *mixed], step) for n, notes, step in _volumes(names, headers)]
    return out


def _turn(orientation: list[float], known: list[tuple[float, ...]]) -> tuple[float, ...]:
    """Return the orientation met before that this one equals but for rounding, or this one."""
    here = np.array(orientation)
    same = (turn for turn in known if np.abs(np.array(turn) - here).max() < TURN_TOLERANCE)
    return next(same, tuple(orientation))


def _mixed(groups: list[tuple[Any, ...]]) -> list[str]:
    """Return what differs between the groups of one series."""
    names = ("W-MIXED-ORIENTATION", "W-MIXED-SIZE", "W-MIXED-KIND")
    return [n for k, n in enumerate(names) if len({group[k] for group in groups}) > 1]


def _volumes(names: list[str], headers: dict[str, Header]) -> list[Stacked]:
    whole = _line(names, headers, [])
    if whole is not None:
        return [whole]
    parts: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        parts[tuple(headers[name]["stack"].get("part", ()))].append(name)
    split = [_line(part, headers, ["W-SPLIT-SERIES"]) for part in parts.values()]
    if len(parts) > 1 and all(s is not None for s in split):
        return [s for s in split if s is not None]
    note = ["W-SAME-POSITION"] if len(names) >= MIN_SLICES else []
    return [((name,), note, None) for name in names]


def _line(names: list[str], headers: dict[str, Header], notes: list[str]) -> Stacked | None:
    """Return the slices as one volume; None where too few, or two share a position."""
    if len(names) < MIN_SLICES:
        return None
    positions = np.array([headers[n]["stack"]["position"] for n in names])
    line = line_up(positions, np.array(headers[names[0]]["stack"]["orientation"]))
    if line is None:
        return None
    return tuple(names[i] for i in line.order), [*notes, *line.notes], line.step
