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
LIMIT_PIXELS = 1 << 19
CHANNELS = 3


@dataclass(frozen=True)
class Prepared:
    """What one image or volume becomes.

    Attributes:
        planes: uint16 ``[N, S, S]``, or ``[1, S, S, S]`` for a whole volume, or ``[N, S, S, 3]``.
        slice_index: the file's own index of every plane; -1 for images and whole volumes.
        low, high: values (``units``) that map to 0 and 65535; 0 and 1 where no straight line maps.
        units: ``HU``, ``stored``, or ``shown`` (share of the display range).
        scaling: how the two were found: ``hu``, ``percentile``, ``full``, ``voi LINEAR`` ...
        box: (top, left, height, width) of the picture inside the square, pixels.
        digests: SHA-256 of every plane.
        grey: of every plane, whether it has no colour of its own; empty unless colours are stored.
    """

    planes: npt.NDArray[np.uint16]
    slice_index: tuple[int, ...]
    low: float
    high: float
    units: str
    scaling: str
    box: tuple[int, int, int, int]
    digests: tuple[str, ...]
    grey: tuple[bool, ...] = ()


def prepare(pixels: Pixels, config: DecodeConfig) -> Prepared:
    """Scale, letterbox and resize one picture.

    Args:
        pixels: with colours only where ``config.colour`` keeps them.
        config: what is stored.

    Raises:
        FormatError: constant, less than half of it finite, or of the intent that is not wanted.
    """
    if pixels.intent != config.intent:
        words = (
            f"is meant for {pixels.intent}, this store holds pictures for {config.intent} "
            "(decode.intent); the two are never mixed"
        )
        raise FormatError(words, "E-INTENT")
    finite = np.isfinite(pixels.array)
    volume = pixels.array.ndim - pixels.colour == 3
    if not volume and config.volumes == "whole":
        raise FormatError("a 2-D image; this store holds whole volumes", "E-NOTAVOLUME")
    if finite.mean() + pixels.padding < MIN_FINITE or not finite.any():
        share = 100 * finite.mean()
        raise FormatError(f"only {share:.0f} % of the pixels are numbers", "E-NONFINITE")
    if volume and pixels.affine_lps is not None:
        _check_not_mask(pixels.array[finite])
    unit, scale = _scaled(pixels, finite, config)
    if volume:
        planes, index, box = _volume(unit, pixels, config)
    else:
        plane, box = _letterbox(unit, pixels.spacing_mm, config.size)
        planes, index = plane[None], (-1,)
    if config.scaling == "equalise":
        # Resizing mixes neighbours, and how much tells of tone and texture: ranked once more.
        planes = _levelled(planes)
    grey: tuple[bool, ...] = ()
    if config.colour == "rgb":
        planes = planes if pixels.colour else np.repeat(planes[..., None], CHANNELS, axis=-1)
        grey = tuple(bool((p == p[..., :1]).all()) for p in planes)
    digests = tuple(hashlib.sha256(p.tobytes()).hexdigest() for p in planes)
    found = scale.low, scale.high, scale.units, scale.name
    return Prepared(planes, index, *found, box, digests, grey)


def _volume(
    unit: npt.NDArray[np.float32], pixels: Pixels, config: DecodeConfig
) -> tuple[npt.NDArray[np.uint16], tuple[int, ...], tuple[int, int, int, int]]:
    """Return stored planes, the file's index of each, and their box."""
    if config.volumes == "whole":
        planes, box = _whole(unit, pixels.spacing_mm, config.size)
        return planes, (-1,), box
    lit = (plane > 0 for plane in unit)
    fill = [(p.any(axis=-1) if pixels.colour else p).mean() for p in lit]
    kept = [k for k, share in enumerate(fill) if share >= config.min_slice_fill]
    if not kept:
        raise FormatError("no slice is filled enough (decode.min_slice_fill)", "E-EMPTY")
    pairs = [_letterbox(unit[k], pixels.spacing_mm[-2:], config.size) for k in kept]
    index = tuple(pixels.slice_index[k] for k in kept)
    return np.stack([p for p, _ in pairs]), index, pairs[0][1]


def _check_not_mask(values: npt.NDArray[np.float32]) -> None:
    """Raise FormatError for a volume of two values: a mask under an image's name."""
    low, high = values.min(), values.max()
    if low < high and ((values == low) | (values == high)).all():
        words = f"holds two values only ({low:g} and {high:g}); a mask, not an image"
        raise FormatError(words, "E-MASK")


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    units: str
    name: str


def _scaled(
    pixels: Pixels, finite: npt.NDArray[np.bool_], config: DecodeConfig
) -> tuple[npt.NDArray[np.float32], _Scale]:
    """Return the picture in [0, 1], dark to bright, and what 0 and 1 stand for."""
    if config.scaling == "window":
        return _shown(pixels, finite)
    if config.scaling == "equalise":
        return _ranked(pixels, finite)
    # Hounsfield units mean the same however they are shown.
    values = -pixels.array if pixels.inverted and pixels.units != "HU" else pixels.array
    low, high, name = _limits(values.ravel() if finite.all() else values[finite], pixels, config)
    if not high > low or not np.isfinite(high - low):
        raise FormatError(f"the picture is constant (every pixel {low:g})", "E-CONSTANT")
    unit = _unit(values, finite, low, high)
    if name == "hu" and np.ptp(unit if finite.all() else unit[finite]) == 0:
        words = f"every pixel lies outside {low:g} to {high:g} HU, or is the same (ct_range_hu)"
        raise FormatError(words, "E-CONSTANT")
    return unit, _Scale(low, high, pixels.units, name)


def _unit(
    values: npt.NDArray[np.float32], finite: npt.NDArray[np.bool_], low: float, high: float
) -> npt.NDArray[np.float32]:
    """Return values as shares of the way from low to high, cut to [0, 1]; padding is 0."""
    unit = values - np.float32(low)
    unit /= np.float32(high - low)
    np.clip(unit, 0, 1, out=unit)
    if not finite.all():
        unit[~finite] = 0
    return unit


def _shown(pixels: Pixels, finite: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float32], _Scale]:
    """Return the picture as its own VOI transform shows it."""
    if pixels.voi is None:
        raise FormatError("has no VOI window to scale by (decode.scaling=window)", "E-NOWINDOW")
    shown = pixels.voi.apply(pixels.array)
    if shown[finite].max() == shown[finite].min():
        raise FormatError("its own VOI window shows nothing but one grey", "E-CONSTANT")
    unit = np.where(finite, 1 - shown if pixels.inverted else shown, 0).astype(np.float32)
    limits, name = pixels.voi.limits(), f"voi {pixels.voi.function}"
    if limits is None:
        return unit, _Scale(0.0, 1.0, "shown", name)
    low, high = (-limits[1], -limits[0]) if pixels.inverted else limits
    return unit, _Scale(low, high, pixels.units, name)


def _ranked(
    pixels: Pixels, finite: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], _Scale]:
    """Return every pixel as the share of pixels that are darker (equal ones counting half)."""
    values = -pixels.array if pixels.inverted else pixels.array
    held = values[finite]
    some = np.sort(_some(held, pixels))
    if some[0] == some[-1]:
        raise FormatError(f"the picture is constant (every pixel {some[0]:g})", "E-CONSTANT")
    below = some.searchsorted(held, "left") + some.searchsorted(held, "right")
    unit = np.zeros(values.shape, np.float32)
    unit[finite] = below / (2 * some.size)
    return unit, _Scale(0.0, 1.0, "shown", "equalise")


def _levelled(planes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Return stored planes with equally many pixels at every level; 0 is padding and stays."""
    shown = planes > 0
    values = planes[shown]
    many = np.bincount(values, minlength=STORED_MAX + 1)
    below = np.cumsum(many) - many / 2
    out = np.zeros_like(planes)
    out[shown] = np.maximum(np.rint(below / values.size * STORED_MAX), 1).astype(np.uint16)[values]
    return out


def _limits(
    finite: npt.NDArray[Any], pixels: Pixels, config: DecodeConfig
) -> tuple[float, float, str]:
    if config.scaling == "auto" and pixels.units == "HU":
        return *config.ct_range_hu, "hu"
    if config.scaling == "full":
        return float(finite.min()), float(finite.max()), "full"
    edges = np.percentile(_some(finite, pixels), [config.low_percentile, config.high_percentile])
    if edges[1] > edges[0]:
        return float(edges[0]), float(edges[1]), "percentile"
    return float(finite.min()), float(finite.max()), "full"


def _some(finite: npt.NDArray[Any], pixels: Pixels) -> npt.NDArray[Any]:
    """Return every k-th pixel of a large picture; k is odd, so that it falls on every column."""
    # Whole pixels, or one channel might speak for all three. Colours are never padding.
    whole = finite.reshape(-1, CHANNELS) if pixels.colour else finite
    return whole[:: len(whole) // LIMIT_PIXELS | 1].ravel()


def _resize(plane: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Antialiased bilinear resize of ``[H, W]``, or of every channel of ``[H, W, 3]``."""
    if plane.ndim == 3:
        channels = [_resize(plane[..., c], rows, columns) for c in range(CHANNELS)]
        return np.stack(channels, axis=-1)
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
    rows, columns = _fit(_physical(plane.shape[:2], spacing), side)
    top, left = (side - rows) // 2, (side - columns) // 2
    out = np.zeros((side, side, *plane.shape[2:]), np.uint16)
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
