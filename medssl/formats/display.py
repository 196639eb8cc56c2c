"""One picture for a person's eye: its values at full depth, its window, its sides. In the worker only."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medssl.formats import dicom, dicom_pixels, enhanced, raster
from medssl.formats.elements import text
from medssl.formats.geometry import FloatArray, Pixels
from medssl.formats.voi import Voi

OBLIQUE = 0.25
"""Share of a unit direction from which a second letter is named beside the first."""
LPS = (("R", "L"), ("A", "P"), ("I", "S"))
OPPOSITE = str.maketrans("RLAPISHF", "LRPASIFH")
BLANK = -32768


def shown(pixels: Pixels) -> tuple[dict[str, Any], npt.NDArray[Any]]:
    """Return what a viewer must know of a picture, and its values as compactly as they fit.

    Returns:
        The facts: ``dtype`` (i2, u2 or f4), ``blank`` (the value of padding; NaN has none), ``low``
        and ``high``, ``units``, ``inverted``, ``voi``, ``spacing`` (slice, row, column; mm or None),
        ``letters`` (sides of the first-axis planes, None where unknown), ``volume`` (whether other
        planes can be cut), ``slice_index``. And the values ``[D, H, W]``, little-endian.
    """
    values = pixels.array if pixels.array.ndim == 3 else pixels.array[None]
    dtype, blank, packed = _packed(values)
    finite = values[np.isfinite(values)]
    volume = pixels.array.ndim == 3 and pixels.affine_lps is not None
    spacing = (None, None, None, *pixels.spacing_mm)[-3:]
    facts = {
        "dtype": dtype,
        "blank": blank,
        "low": float(finite.min()) if finite.size else 0.0,
        "high": float(finite.max()) if finite.size else 0.0,
        "units": "HU" if pixels.units == "HU" else "",
        "inverted": pixels.inverted,
        "voi": _voi(pixels.voi),
        "spacing": list(spacing),
        "letters": None if pixels.affine_lps is None else of_affine(pixels.affine_lps),
        "volume": volume,
        "slice_index": list(pixels.slice_index) or [-1],
    }
    return facts, packed


def _packed(values: npt.NDArray[np.float32]) -> tuple[str, float | None, npt.NDArray[Any]]:
    """Return whole numbers as 16 bits where they fit, anything else as float32."""
    hole = ~np.isfinite(values)
    filled = np.where(hole, np.float32(0), values)
    whole = bool((filled == np.rint(filled)).all())
    low, high = (float(filled.min()), float(filled.max())) if filled.size else (0.0, 0.0)
    if whole and low > BLANK and high <= 32767:
        packed = filled.astype("<i2")
        packed[hole] = BLANK
        return "i2", float(BLANK) if hole.any() else None, packed
    if whole and low >= 0 and high <= 65535 and not hole.any():
        return "u2", None, filled.astype("<u2")
    return "f4", None, np.where(hole, np.float32("nan"), values).astype("<f4")


def _voi(voi: Voi | None) -> dict[str, Any] | None:
    if voi is None:
        return None
    if voi.table is None:
        return {"curve": voi.function, "centre": voi.centre, "width": voi.width, "lut": None}
    first, last = voi.first, voi.first + len(voi.table) - 1
    lut = {"first": first, "table": [round(float(v), 5) for v in voi.table]}
    middle, width = (first + last) / 2, last - first
    return {"curve": "LUT", "centre": middle, "width": width, "lut": lut}


def direction(vector: FloatArray) -> str:
    """Return the letters of an LPS direction, the strongest first (PS3.3 C.7.6.1.1.1)."""
    unit = np.asarray(vector, dtype=np.float64) / max(float(np.linalg.norm(vector)), 1e-12)
    order = sorted(range(3), key=lambda k: -abs(unit[k]))
    kept = [k for k in order if abs(unit[k]) >= OBLIQUE] or order[:1]
    return "".join(LPS[k][int(unit[k] > 0)] for k in kept)


def _sides(right: str, bottom: str) -> dict[str, str]:
    return {
        "right": right,
        "left": right.translate(OPPOSITE),
        "bottom": bottom,
        "top": bottom.translate(OPPOSITE),
    }


def of_affine(affine: FloatArray) -> dict[str, str]:
    """Return the letters around a plane ``[row, column]`` of a volume ``[slice, row, column]``."""
    return _sides(direction(affine[:3, 2]), direction(affine[:3, 1]))


def letters_of(ds: Dataset) -> dict[str, str] | None:
    """Return the letters around a single DICOM image; None where nothing says its sides.

    A direction of the rows and of the columns (ImageOrientationPatient), else PatientOrientation.
    """
    _, turn = enhanced.placed(ds)
    if turn is not None and all(math.isfinite(v) for v in turn):
        return _sides(direction(np.array(turn[:3])), direction(np.array(turn[3:])))
    words = ds.get("PatientOrientation")
    pair = [str(w).strip().upper() for w in words] if words is not None and words != "" else []
    if len(pair) != 2 or not all(re.fullmatch("[RLAPHF]{1,3}", w) for w in pair):
        return None
    return _sides(pair[0], pair[1])


def beside(path: Path, kind: str) -> tuple[dict[str, str] | None, bool, npt.NDArray[Any] | None]:
    """Return what the grey values of a single image do not say: sides, whether calibrated, colours.

    Returns:
        Letters or None; False where its spacing is that of the detector; uint8 ``[H, W, 3]`` or None.
    """
    if kind == "raster":
        return None, True, raster.colour(path)
    if kind != "dicom":
        return None, True, None
    ds = dicom.read(path, pixels=True)
    colour = None
    if text(ds, "PhotometricInterpretation") in dicom_pixels.COLOUR:
        colour = dicom_pixels.colour_values(ds)
    return letters_of(ds), dicom.pixel_spacing(ds)[1], colour
