"""Results as plain data: what report.json can hold, and refusals as notes."""

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def plain(value: Any, without: tuple[str, ...] = ()) -> Any:
    """Return records, arrays and numbers as dicts, lists and numbers; NaN becomes None.

    Args:
        value: anything made of frozen records, NumPy arrays and scalars, containers, text.
        without: names of fields that are left out, at any depth.
    """
    if is_dataclass(value) and not isinstance(value, type):
        named = {f.name: getattr(value, f.name) for f in fields(value)}
        return {k: plain(v, without) for k, v in named.items() if k not in without}
    if isinstance(value, dict):
        return {str(k): plain(v, without) for k, v in value.items() if k not in without}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), without)
    if isinstance(value, list | tuple):
        return [plain(v, without) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value if value is None else str(value)


def attempt(function: Callable[[], Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a result as plain data, or the sentence with which it was refused."""
    try:
        return dict(plain(function(), without))
    except ValueError as error:
        return {"note": str(error)}
