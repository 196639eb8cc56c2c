"""Pixels for an exported network, by preprocess.json alone: NumPy and Pillow, nothing of medssl."""

import numpy as np
from PIL import Image


def prepared(told, values, *, inverted=False, spacing=None):
    """Float32 ``[C, H, W]`` of one picture ``[H, W]`` or ``[H, W, 3]``, ready for the network."""
    values = np.asarray(values, dtype=np.float32)
    if values.ndim == 3 and told["decode"]["colour"]["value"] == "grey":
        values = (values @ np.array([0.299, 0.587, 0.114])).astype(np.float32)
    unit = scaled(told["scaling"], -values if inverted else values)
    side = told["decode"]["size"]["value"]
    lengths = values.shape[:2] if spacing is None else np.multiply(values.shape[:2], spacing)
    rows, columns = (max(1, round(side * n / max(lengths))) for n in lengths)
    stored = np.zeros((side, side, unit.shape[2] if unit.ndim == 3 else 1), np.int64)
    top, left = (side - rows) // 2, (side - columns) // 2
    for c in range(stored.shape[2]):
        plane = Image.fromarray(unit[..., c].copy() if unit.ndim == 3 else unit)
        small = np.asarray(plane.resize((columns, rows), Image.Resampling.BILINEAR))
        stored[top : top + rows, left : left + columns, c] = np.round(small.clip(0, 1) * 65535)
    if told["scaling"]["rule"] == "equalise":
        stored = ranked(stored)
    feeds = stored.astype(np.float32) / np.float32(65535)
    fed = told["input"]
    out = (feeds - np.float32(fed["mean"])) / np.float32(fed["std"])
    return np.repeat(out, fed["shape"][1] // out.shape[2], axis=2).transpose(2, 0, 1)


def scaled(rule, values):
    """Float32 shares of the way from black to white."""
    if rule["rule"] == "auto":
        rule = rule["all_else"]
    if rule["rule"] == "equalise":
        flat = values.ravel()
        return np.array(
            [((flat < v).sum() + (flat <= v).sum()) / (2 * flat.size) for v in flat], np.float32
        ).reshape(values.shape)
    low, high = values.min(), values.max()
    if rule["rule"] == "percentile":
        pixels = values.shape[0] * values.shape[1]
        some = values.reshape(pixels, -1)[:: (pixels // rule["pixels_looked_at"]) | 1]
        wanted = [rule["low_percentile"], rule["high_percentile"]]
        found = np.percentile(some, wanted)
        low, high = found if found[1] > found[0] else (low, high)
    return ((values - np.float32(low)) / np.float32(high - low)).clip(0, 1)


def ranked(stored):
    """Stored numbers above 0 by their rank, by loops over levels."""
    out, shown = np.zeros_like(stored), stored[stored > 0]
    for level in np.unique(shown):
        share = ((shown < level).sum() + (shown == level).sum() / 2) / shown.size
        out[stored == level] = max(1, np.round(share * 65535))
    return out
