"""Pixels to the numbers that are stored: scaled, letterboxed, judged. Runs in the worker only."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medssl.config import DecodeConfig
from medssl.formats.geometry import FormatError, Pixels

STORED_MAX = 65535
MIN_FINITE = 0.5


@dataclass(frozen=True)
class Prepared:
    """What one image or volume becomes.

    Attributes:
        planes: uint16 ``[N, S, S]``, or ``[1, S, S, S]`` for a whole volume.
        slice_index: the file's own index of every plane; -1 for images and whole volumes.
        low, high: values (``units``) that map to 0 and 65535.
        units: ``HU`` or ``stored``.
        box: (top, left, height, width) of the picture inside the square, pixels.
        digests: SHA-256 of every plane.
    """

    planes: npt.NDArray[np.uint16]
    slice_index: tuple[int, ...]
    low: float
    high: float
    units: str
    box: tuple[int, int, int, int]
    digests: tuple[str, ...]


def prepare(pixels: Pixels, config: DecodeConfig) -> Prepared:
    """Scale, letterbox and resize one picture.

    Raises:
        FormatError: constant, or less than half of it finite.
    """
    values = -pixels.array if pixels.inverted else pixels.array
    finite = np.isfinite(values)
    if values.ndim == 2 and config.volumes == "whole":
        raise FormatError("a 2-D image; this store holds whole volumes", "E-NOTAVOLUME")
    if finite.mean() + pixels.padding < MIN_FINITE or not finite.any():
        share = 100 * finite.mean()
        raise FormatError(f"only {share:.0f} % of the pixels are numbers", "E-NONFINITE")
    low, high = _limits(values[finite], pixels, config)
    unit = np.clip((np.where(finite, values, low) - low) / (high - low), 0, 1).astype(np.float32)
    if unit.ndim == 3 and config.volumes == "whole":
        planes, box = _whole(unit, pixels.spacing_mm, config.size)
        index: tuple[int, ...] = (-1,)
    elif unit.ndim == 3:
        kept = [k for k in range(len(unit)) if (unit[k] > 0).mean() >= config.min_slice_fill]
        if not kept:
            raise FormatError("no slice is filled enough (decode.min_slice_fill)", "E-EMPTY")
        pairs = [_letterbox(unit[k], pixels.spacing_mm[-2:], config.size) for k in kept]
        planes, box = np.stack([p for p, _ in pairs]), pairs[0][1]
        index = tuple(pixels.slice_index[k] for k in kept)
    else:
        plane, box = _letterbox(unit, pixels.spacing_mm, config.size)
        planes, index = plane[None], (-1,)
    digests = tuple(hashlib.sha256(p.tobytes()).hexdigest() for p in planes)
    return Prepared(planes, index, low, high, pixels.units, box, digests)


def _limits(finite: npt.NDArray[Any], pixels: Pixels, config: DecodeConfig) -> tuple[float, float]:
    scaling = config.scaling
    if scaling == "auto":
        scaling = "percentile" if pixels.units != "HU" else "full"
        if pixels.units == "HU":
            return config.ct_range_hu
    if scaling == "window" and pixels.window is None:
        raise FormatError("has no VOI window to scale by (decode.scaling=window)", "E-NOWINDOW")
    if scaling == "window" and pixels.window is not None:
        centre, width = pixels.window
        low, high = centre - width / 2, centre + width / 2
        low, high = (-high, -low) if pixels.inverted else (low, high)
    elif scaling == "full":
        low, high = float(finite.min()), float(finite.max())
    else:
        edges = np.percentile(finite, [config.low_percentile, config.high_percentile])
        low, high = float(edges[0]), float(edges[1])
        if high <= low:
            low, high = float(finite.min()), float(finite.max())
    if not high > low or not np.isfinite(high - low):
        raise FormatError(f"the picture is constant (every pixel {low:g})", "E-CONSTANT")
    return low, high


def _resize(plane: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Antialiased bilinear resize of ``[H, W]``."""
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))


def _fit(sizes: tuple[float, ...], side: int) -> tuple[int, ...]:
    longest = max(sizes)
    return tuple(max(1, min(side, round(side * s / longest))) for s in sizes)


def _physical(shape: tuple[int, ...], spacing: tuple[float | None, ...]) -> tuple[float, ...]:
    """Lengths along each axis: mm where every spacing is known, pixels where not."""
    known = [s for s in spacing if s is not None]
    return (
        tuple(n * s for n, s in zip(shape, known, strict=True))
        if len(known) == len(shape)
        else shape
    )


def _to_stored(unit: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    return np.rint(np.clip(unit, 0, 1) * STORED_MAX).astype(np.uint16)


def _letterbox(
    plane: npt.NDArray[np.float32], spacing: tuple[float | None, ...], side: int
) -> tuple[npt.NDArray[np.uint16], tuple[int, int, int, int]]:
    rows, columns = _fit(_physical(plane.shape, spacing), side)
    top, left = (side - rows) // 2, (side - columns) // 2
    out = np.zeros((side, side), np.uint16)
    out[top : top + rows, left : left + columns] = _to_stored(_resize(plane, rows, columns))
    return out, (top, left, rows, columns)


def _whole(
    volume: npt.NDArray[np.float32], spacing: tuple[float | None, ...], side: int
) -> tuple[npt.NDArray[np.uint16], tuple[int, int, int, int]]:
    depth, rows, columns = _fit(_physical(volume.shape, spacing), side)
    planes = np.stack([_resize(p, rows, columns) for p in volume])
    deep = _resize(planes.reshape(len(planes), -1), depth, rows * columns)
    out = np.zeros((1, side, side, side), np.uint16)
    near, top, left = (side - depth) // 2, (side - rows) // 2, (side - columns) // 2
    block = _to_stored(deep.reshape(depth, rows, columns))
    out[0, near : near + depth, top : top + rows, left : left + columns] = block
    return out, (top, left, rows, columns)
