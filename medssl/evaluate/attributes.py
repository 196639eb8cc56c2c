"""What is known of every picture besides its label: header fields, and figures of its pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl import runs
from medssl.cohort.manifest import Manifest
from medssl.files import atomic
from medssl.store import STORED_MAX, Store

FILE = "pictures.parquet"
HEADER = (
    "site",
    "modality",
    "manufacturer",
    "model",
    "view",
    "laterality",
    "body_part",
    "sex",
    "age_band",
    "year",
    "photometric",
    "transfer_syntax",
    "bits",
)
"""Fields with levels; an absent one is a level of its own."""
MEASURED = ("rows", "columns", "spacing_row_mm")
PIXELS = (
    "brightness",
    "contrast",
    "dark_share",
    "bright_share",
    "sharpness",
    "border_brightness",
    "centre_brightness",
    "left_right_difference",
    "entropy",
    "tone_10",
    "tone_25",
    "tone_50",
    "tone_75",
    "tone_90",
    "padding",
)
TONES = ("dark_share", "bright_share", "entropy", "brightness", "contrast",
         "tone_10", "tone_25", "tone_50", "tone_75", "tone_90")  # fmt: skip
"""Figures of the grey-level histogram alone: where things are in the picture, they do not know."""

CHUNK = 512
RING = 0.1
EDGE = 0.02
BINS = 64


@dataclass(frozen=True)
class Attribute:
    """One column of the table: its name, what it means, whether it has levels or is a number."""

    name: str
    words: str
    levels: bool


ATTRIBUTES = (
    *(Attribute(n, n.replace("_", " "), levels=True) for n in HEADER),
    *(Attribute(n, n.replace("_", " "), levels=False) for n in MEASURED),
    Attribute("brightness", "mean of the stored range", levels=False),
    Attribute("contrast", "standard deviation of the stored range", levels=False),
    Attribute("dark_share", "share of pixels in the lowest 2 % of the range", levels=False),
    Attribute("bright_share", "share of pixels in the highest 2 % of the range", levels=False),
    Attribute("sharpness", "log of the Laplacian's variance over the picture's own", levels=False),
    Attribute("border_brightness", "mean of the outer tenth on every side", levels=False),
    Attribute("centre_brightness", "mean of the middle half", levels=False),
    Attribute("left_right_difference", "right half less left half", levels=False),
    Attribute("entropy", "of 64 grey levels, bits", levels=False),
    *(
        Attribute(f"tone_{q}", f"{q} % of the picture is darker than this", levels=False)
        for q in (10, 25, 50, 75, 90)
    ),
    Attribute("padding", "share of the square outside the picture", levels=False),
)


def of_pixels(planes: npt.NDArray[np.uint16]) -> dict[str, npt.NDArray[np.float64]]:
    """Return one number per picture and figure.

    Args:
        planes: stored pictures, uint16 ``[n, S, S]``; colours as their luma (``Store.pictures``).

    Returns:
        Float64 ``[n]`` by name, all of ``PIXELS`` but the padding.
    """
    n, side = len(planes), planes.shape[1]
    unit = planes.astype(np.float64) / STORED_MAX
    flat = unit.reshape(n, -1)
    ring, half = max(1, int(RING * side)), side // 4
    inner = np.zeros((side, side), dtype=bool)
    inner[ring:-ring, ring:-ring] = True
    centre = unit[:, half:-half, half:-half].reshape(n, -1)
    middle = unit[:, 1:-1, 1:-1]
    around = unit[:, :-2, 1:-1] + unit[:, 2:, 1:-1] + unit[:, 1:-1, :-2] + unit[:, 1:-1, 2:]
    rough = (around - 4 * middle).reshape(n, -1).var(1)
    spread = flat.std(1)
    levels = np.minimum((flat * BINS).astype(np.int64), BINS - 1) + BINS * np.arange(n)[:, None]
    shares = np.bincount(levels.ravel(), minlength=n * BINS).reshape(n, BINS) / flat.shape[1]
    tones = np.quantile(flat, [0.1, 0.25, 0.5, 0.75, 0.9], axis=1)
    return {
        **{f"tone_{q}": t for q, t in zip((10, 25, 50, 75, 90), tones, strict=True)},
        "brightness": flat.mean(1),
        "contrast": spread,
        "dark_share": (flat <= EDGE).mean(1),
        "bright_share": (flat >= 1 - EDGE).mean(1),
        "sharpness": np.log10((rough + 1e-12) / (spread**2 + 1e-9)),
        "border_brightness": flat[:, ~inner.ravel()].mean(1),
        "centre_brightness": centre.mean(1),
        "left_right_difference": unit[:, :, side // 2 :].mean((1, 2))
        - unit[:, :, : side // 2].mean((1, 2)),
        "entropy": -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1),
    }


def table_of(store: Store, manifest: Manifest) -> pa.Table:
    """Return one row per stored picture, in store order: keys, header fields, pixel figures."""
    images = store.column("image_id")
    place = {i: k for k, i in enumerate(manifest.column("image_id"))}
    at = np.array([place[i] for i in images], dtype=np.int64)
    columns: dict[str, Any] = {
        "image_id": pa.array(list(images), pa.string()),
        "slice": pa.array(store.column("slice"), pa.int32()),
        "patient_id": pa.array(list(store.column("patient_id")), pa.string()),
    }
    for name in HEADER:
        values = manifest.column(name)[at]
        columns[name] = pa.array([None if v in (None, "") else str(v) for v in values], pa.string())
    for name in MEASURED:
        columns[name] = pa.array(manifest.column(name)[at].tolist(), pa.float64())
    parts = np.array_split(np.arange(len(store)), max(1, -(-len(store) // CHUNK)))
    found = [of_pixels(store.pictures(part)) for part in parts]
    for name in PIXELS[:-1]:
        columns[name] = pa.array(np.concatenate([f[name] for f in found]), pa.float64())
    columns["padding"] = pa.array(_padding(store), pa.float64())
    return pa.table(columns)


def _padding(store: Store) -> npt.NDArray[np.float64]:
    """Return the share of the stored square outside the box (top, left, height, width)."""
    side = store.config.size
    boxes = np.array(store.index.column("box").to_pylist(), dtype=np.float64).reshape(-1, 4)
    area = boxes[:, 2] * boxes[:, 3]
    return np.asarray(1 - area / side**2, dtype=np.float64)


def write(run: Path, table: pa.Table) -> None:
    """Write ``pictures.parquet``."""
    with atomic(run / FILE) as out:
        pq.write_table(table, out)


def read(run: Path) -> pa.Table | None:
    """Read ``pictures.parquet``; None where the run was made before it was written."""
    return runs.read_table(run / FILE) if (run / FILE).is_file() else None
