"""The object's own VOI transform: which values are shown from black to white."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Voi:
    """A window or a lookup table (DICOM PS3.3 C.11.2).

    Attributes:
        function: ``LINEAR``, ``LINEAR_EXACT``, ``SIGMOID`` or ``LUT``.
        centre, width: the window, in the units of the values; of a LUT, unused.
        first: of a LUT, the value of its first entry.
        table: of a LUT, its entries as shares of the largest, float64 ``[n]``.
    """

    function: str
    centre: float = 0.0
    width: float = 1.0
    first: float = 0.0
    table: npt.NDArray[np.float64] | None = None

    def limits(self) -> tuple[float, float] | None:
        """Return the values shown black and white; None where the transform is no straight line."""
        if self.function == "LINEAR_EXACT":
            return self.centre - self.width / 2, self.centre + self.width / 2
        if self.function == "LINEAR" and self.width > 1:
            half = (self.width - 1) / 2
            return self.centre - 0.5 - half, self.centre - 0.5 + half
        return None

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Map values to [0, 1], black to white; NaN stays NaN."""
        limits = self.limits()
        if limits is not None:
            shown = np.clip((values - limits[0]) / (limits[1] - limits[0]), 0, 1)
        elif self.function == "SIGMOID":
            shown = 1 / (1 + np.exp(np.clip(-4 * (values - self.centre) / self.width, -80, 80)))
        elif self.table is not None:
            place = np.nan_to_num(values - self.first, nan=0.0)
            index = np.clip(np.rint(place), 0, len(self.table) - 1).astype(np.int64)
            shown = np.where(np.isnan(values), np.nan, self.table[index])
        else:  # LINEAR of width 1 is a threshold
            shown = np.where(np.isnan(values), np.nan, values > self.centre - 0.5)
        return np.asarray(shown, dtype=np.float32)


def voi_of(ds: Any) -> Voi | None:
    """Return the first VOI of an object or functional group: its window, else its LUT, else None."""
    centre, width = _first(ds, "WindowCenter"), _first(ds, "WindowWidth")
    function = str(ds.get("VOILUTFunction") or "LINEAR").strip().upper()
    if centre is not None and width is not None and function in FUNCTIONS:
        least = 1 if function == "LINEAR" else 0
        if width >= least and width > 0:
            return Voi(function, centre, width)
    items = list(ds.get("VOILUTSequence") or [])
    intercept = _first(ds, "RescaleIntercept")
    signed = ds.get("PixelRepresentation") == 1 or (intercept is not None and intercept < 0)
    return _table(items[0], signed=signed) if items else None


def _first(ds: Any, keyword: str) -> float | None:
    value = ds.get(keyword)
    try:
        number = float(
            value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value
        )
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None


def _table(item: Any, *, signed: bool) -> Voi | None:
    try:
        count, first = int(item.LUTDescriptor[0]) or 1 << 16, int(item.LUTDescriptor[1])
        raw = item.LUTData
        packed = "u1" if isinstance(raw, bytes) and len(raw) in {count, count + 1} else "<u2"
        data = np.frombuffer(raw, packed)[:count] if isinstance(raw, bytes) else np.asarray(raw)
        # Implicit VR cannot say that the first value is signed.
        first -= 65536 if signed and first > 32767 else 0
        entries = data.astype(np.float64)
    except (AttributeError, TypeError, ValueError, IndexError):
        return None
    if entries.size < 2 or entries.max() <= 0:
        return None
    return Voi("LUT", first=float(first), table=entries / entries.max())
