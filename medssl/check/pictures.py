"""What the stored pixels look like: intact, blank, saturated, noise, mostly padding."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medssl.check.health import Cell, Finding, Level, Part, Section, Table, finding
from medssl.config import DecodeConfig
from medssl.errors import NothingUsableError, RefusedError
from medssl.store import STORED_MAX, Store

MOST_PICTURES = 20_000
MOST_PIXELS = 1 << 29  # read in one check: a minute at most, whatever the stored size
CHUNK_PIXELS = 1 << 21
GRID = 16
LEVELS = 64
# Far outside what whole radiographs, CT and MR of several hospitals show (at most 0.92, 0.39; at
# least 0.72), so that a flagged picture is worth a look.
FLAT = 0.98
BURNT = 0.5
TWO_VALUED = 0.98
NOISE = 0.5
PADDED = 0.5

Reals = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """Figures of an even sample of a store; arrays have one entry (or row) per picture.

    Attributes:
        rows: index rows that were read and match their checksum.
        broken: index rows that do not, or cannot be read.
        damage: the store's own sentence about them, or nothing.
        flat: largest share of pixels within 1/32 of the stored range.
        bottom, top: share of pixels at the two ends of the range.
        correlation: of neighbouring pixels, mean of both directions; NaN where constant.
        thumbs: float32 ``[n, 16, 16]``, area means of the picture without its padding, in [0, 1].

    Colours are judged by their luma.
    """

    rows: Rows
    broken: Rows
    damage: str
    flat: Reals
    bottom: Reals
    top: Reals
    correlation: Reals
    thumbs: npt.NDArray[np.float32]

    @property
    def blank(self) -> npt.NDArray[np.bool_]:
        """Return which pictures are (nearly) one value."""
        return np.asarray(self.flat >= FLAT)

    @property
    def noise(self) -> npt.NDArray[np.bool_]:
        """Return which pictures look like noise."""
        return np.asarray(~self.blank & (self.correlation < NOISE))


def newest(root: Path, name: str | None) -> Path | None:
    """Return the folder of a store.

    Args:
        root: the cohort's folder.
        name: the store's folder; None takes the one decoded last.

    Returns:
        None where nothing was decoded and none was asked for.

    Raises:
        NothingUsableError: no store of that name.
    """
    found = {p.parent.name: p.parent for p in (root / "store").glob("*/index.parquet")}
    found = {n: p for n, p in found.items() if (p / "decode.json").is_file()}
    if name is not None and name not in found:
        there = ", ".join(sorted(found)) or "none"
        words = f"{root}: no store {name!r}; there are: {there}. Name one of them, or decode first."
        raise NothingUsableError(words, "E-NOSTORE")
    if not found:
        return None
    if name is None:
        name = max(found, key=lambda n: ((found[n] / "decode.json").stat().st_mtime_ns, n))
    return found[name]


def opened(folder: Path) -> Store:
    """Open a store as it is, even one older than the manifest or made by another version.

    Args:
        folder: with ``decode.json``, ``index.parquet`` and the shards.
    """
    settings = json.loads((folder / "decode.json").read_text())
    known = {k: v for k, v in settings.items() if k in DecodeConfig.model_fields}
    return Store(folder, DecodeConfig(**known), pq.read_table(folder / "index.parquet"))


def undecoded(root: Path) -> Section:
    """Return the one finding there is where nothing was decoded."""
    words = "Nothing is decoded yet, so no pixel was looked at. Run: medssl decode {root} --size 96"
    return Section((finding("note", "H-STORE", words, root=str(root)),))


def sample(total: int, most: int) -> Rows:
    """Return at most ``most`` of ``total`` rows, evenly spread."""
    if total <= most:
        return np.arange(total)
    return np.unique(np.linspace(0, total - 1, most).round().astype(np.int64))


def measure(store: Store) -> Pictures:
    """Verify and measure an even sample of a store.

    Args:
        store: as ``opened`` returns it.
    """
    size = store.config.channels * store.config.size ** (
        3 if store.config.volumes == "whole" else 2
    )
    rows = sample(len(store), min(MOST_PICTURES, max(1, MOST_PIXELS // size)))
    damage, broken = "", np.empty(0, np.int64)
    try:
        store.verify(rows)
    except (RefusedError, IndexError, OSError, ValueError) as error:
        damage = error.problems[0] if isinstance(error, RefusedError) else "a shard is cut or gone."
        broken = _broken(store, rows)
        rows = np.setdiff1d(rows, broken)
    n = len(rows)
    out = {name: np.zeros(n) for name in ("flat", "bottom", "top", "correlation")}
    thumbs = np.zeros((n, GRID, GRID), np.float32)
    for where, planes in _cropped(store, rows):
        unit = planes.reshape(len(planes), -1, planes.shape[-1]).astype(np.float32)
        unit /= np.float32(STORED_MAX)
        out["flat"][where], out["bottom"][where], out["top"][where] = ends(unit)
        out["correlation"][where] = _neighbours(unit)
        thumbs[where] = shrink(unit, GRID)
    return Pictures(rows, broken, damage, thumbs=thumbs, **out)


def _broken(store: Store, rows: Rows) -> Rows:
    digests = store.column("pixels")
    bad = []
    for row in rows:
        try:
            plane = store.planes(np.array([row]))[0]
        except (RefusedError, IndexError, OSError, ValueError):
            bad.append(row)
            continue
        if hashlib.sha256(plane.tobytes()).hexdigest() != digests[row]:
            bad.append(row)
    return np.array(bad, np.int64)


def boxes(store: Store, rows: Rows) -> npt.NDArray[np.int64]:
    """Return (top, left, height, width) of the pictures inside their squares, ``[n, 4]``."""
    lists = store.index["box"].take(pa.array(rows)).to_pylist()
    return np.array(lists, np.int64).reshape(len(rows), 4)


def _cropped(store: Store, rows: Rows) -> Iterator[tuple[Rows, npt.NDArray[np.uint16]]]:
    """Yield pictures of one shape without their padding, and their places in ``rows``."""
    if not len(rows):
        return
    kinds, kind = np.unique(boxes(store, rows), axis=0, return_inverse=True)
    size = store.config.channels * store.config.size ** (3 if store.whole else 2)
    step = max(1, CHUNK_PIXELS // size)
    for k, (top, left, height, width) in enumerate(kinds):
        places = np.flatnonzero(kind.ravel() == k)
        for start in range(0, len(places), step):
            where = places[start : start + step]
            planes = store.luminance(rows[where])
            yield where, planes[..., top : top + height, left : left + width]


def ends(unit: npt.NDArray[np.float32]) -> tuple[Reals, Reals, Reals]:
    """Return the largest share in two adjacent of 64 levels, and the shares at both ends."""
    n, pixels = len(unit), unit[0].size
    level = np.minimum((unit * LEVELS).astype(np.int64), LEVELS - 1).reshape(n, -1)
    level += LEVELS * np.arange(n)[:, None]
    share = np.bincount(level.ravel(), minlength=n * LEVELS).reshape(n, LEVELS) / pixels
    edge = 0.5 / 256
    bottom, top = ((unit <= edge).mean((1, 2)), (unit >= 1 - edge).mean((1, 2)))
    return (share[:, :-1] + share[:, 1:]).max(1), bottom, top


def _neighbours(unit: npt.NDArray[np.float32]) -> Reals:
    """Return the correlation of pixels with their right and lower neighbours."""
    centred = unit - unit.mean((1, 2), keepdims=True)
    power = (centred**2).mean((1, 2), dtype=np.float64)
    found = [
        (a * b).mean((1, 2), dtype=np.float64)
        for a, b in (
            (centred[:, 1:], centred[:, :-1]),
            (centred[:, :, 1:], centred[:, :, :-1]),
        )
        if a[0].size
    ]
    if not found:
        return np.full(len(unit), np.nan)
    return np.asarray(np.mean(found, axis=0) / np.where(power > 0, power, np.nan))


def shrink(unit: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Return area means of ``[n, h, w]`` on a grid of ``side`` x ``side`` cells."""
    down, across = (_shares(n, side) for n in unit.shape[1:])
    return np.asarray(down @ unit @ across.T)


def _shares(length: int, cells: int) -> npt.NDArray[np.float32]:
    """Return ``[cells, length]``: how much of every cell each pixel fills; rows sum to 1."""
    edges = np.linspace(0, length, cells + 1)
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    overlap = np.clip(overlap, 0, None)
    return np.asarray(overlap / overlap.sum(1, keepdims=True), np.float32)


def check(root: Path, manifest: pa.Table, store: Store, seen: Pictures) -> Section:
    """Judge the pictures that were measured.

    Args:
        root: the cohort's folder.
        manifest: its table of images.
        store: the store they come from.
        seen: what ``measure`` returned.
    """
    found = [_intact(store, seen), _current(root, manifest, store), *_faults(store, seen)]
    found.append(_small(manifest, store))
    found += _colourless(store)
    boxed, table = _letterbox(store, seen)
    return Section((*found, boxed), (table,))


def _intact(store: Store, seen: Pictures) -> Finding:
    n = len(seen.rows) + len(seen.broken)
    told: dict[str, Cell] = {"store": store.path.name, "n": n, "all": len(store)}
    if len(seen.broken):
        words = (
            "Store {store}: {bad} of {n} pictures looked into do not match their checksum or cannot be "
            "read ({damage}) Check the disk, delete the store's folder, decode again."
        )
        names = _names(store, seen.broken)
        told |= {"bad": len(seen.broken), "damage": seen.damage}
        return finding("stop", "H-STORE", words, names, **told)
    words = "Store {store}: {n} of {all} stored pictures, evenly spread, match their checksum; the checks of "
    return finding("ok", "H-STORE", words + "pixels below rest on them.", **told)


def _names(store: Store, rows: Rows) -> list[str]:
    return list(dict.fromkeys(store.index["image_id"].take(pa.array(rows[:1000])).to_pylist()))


def _current(root: Path, manifest: pa.Table, store: Store) -> Finding:
    record = store.path / "set_aside.json"
    aside = list(json.loads(record.read_text())) if record.is_file() else []
    known = pc.unique(store.index["image_id"])
    stored = pc.is_in(manifest["image_id"], value_set=known)
    told = pc.is_in(manifest["image_id"], value_set=pa.array(aside, pa.string()))
    absent = manifest["image_id"].filter(pc.invert(pc.or_(stored, told)))
    gone = len(known) - int(pc.sum(stored).as_py() or 0)
    if not len(absent) and gone <= 0:
        words = "Every image of the manifest is in the store or was set aside ({n})."
        return finding("ok", "H-STORE-OLD", words, n=len(aside))
    words = (
        "The store is not of this manifest: {absent} images are not decoded and {gone} stored images are "
        "not in it. Run: medssl decode {root} --size {size} --volumes {volumes}{more}"
    )
    told_of: dict[str, Cell] = {"absent": len(absent), "gone": gone, "root": str(root)}
    told_of |= {"size": str(store.config.size), "volumes": store.config.volumes}
    told_of |= {"more": " --set colour=rgb" if store.colour else ""}
    names = absent.slice(0, 20).to_pylist()
    return finding("warn", "H-STORE-OLD", words, names, **told_of)


FAULTS = (
    ("H-BLANK", "blank or nearly so"),
    ("H-NOISE", "like noise (neighbouring pixels hardly correlate)"),
    ("H-SATURATED", "saturated, or of two values like a mask"),
)
LOOK = "Look at them, and at the files behind them, before a long run."
EMPTY = "Empty ends of volumes do this; decode with --set min_slice_fill=0.05 leaves them out."


def _faults(store: Store, seen: Pictures) -> list[Finding]:
    two = (seen.top + seen.bottom >= TWO_VALUED) & (seen.top > 0)
    burnt = ~seen.blank & ((seen.top >= BURNT) | two)
    single = store.index["slice"].take(pa.array(seen.rows)).to_numpy() < 0
    out = []
    for (code, what), bad in zip(FAULTS, (seen.blank, seen.noise, burnt), strict=True):
        whole, thin = bad & single, bad & ~single
        kinds: tuple[tuple[Level, str, npt.NDArray[np.bool_], Any, str], ...] = (
            ("warn", "images", whole, single, LOOK),
            ("note", "slices", thin, ~single, EMPTY),
        )
        here = [
            finding(
                level,
                code,
                f"{{n}} {name} look {what}. {do}",
                _names(store, seen.rows[which]),
                n=Part(int(which.sum()), int(among.sum())),
            )
            for level, name, which, among, do in kinds
            if which.any()
        ]
        out += here or [finding("ok", code, f"No picture looks {what}.")]
    return out


def _small(manifest: pa.Table, store: Store) -> Finding:
    longest = pc.max_element_wise(manifest["rows"], manifest["columns"])
    small = pc.fill_null(pc.less(longest, store.config.size), fill_value=False)
    n = Part(int(pc.sum(small).as_py() or 0), manifest.num_rows)
    told: dict[str, Cell] = {"n": n, "size": str(store.config.size)}
    if n.count:
        words = "{n} images are smaller than the stored {size} pixels and were enlarged; that adds no detail."
        names = manifest["image_id"].filter(small).slice(0, 20).to_pylist()
        return finding("note", "H-ENLARGED", words, names, **told)
    return finding("ok", "H-ENLARGED", "No image had to be enlarged to {size} pixels.", **told)


def _colourless(store: Store) -> list[Finding]:
    """Count the pictures of a store of colours that have none."""
    if not store.colour:
        return []
    grey = pc.fill_null(store.index["grey"], fill_value=False)
    n = Part(int(pc.sum(grey).as_py() or 0), len(store))
    if not n.count:
        return [finding("ok", "H-GREY", "Every picture of this store of colours has some.")]
    words = (
        "{n} pictures of this store of colours have none (three equal channels). Where grey and "
        "coloured pictures differ in more than colour, a model can tell them apart by that alone."
    )
    names = store.index["image_id"].filter(grey).slice(0, 20).to_pylist()
    return [finding("note", "H-GREY", words, names, n=n)]


def _letterbox(store: Store, seen: Pictures) -> tuple[Finding, Table]:
    found = boxes(store, seen.rows)
    padding = 1 - found[:, 2] * found[:, 3] / store.config.size**2
    edges = (0.0, 0.01, 0.1, 0.25, 0.5, 1.01)
    counts, _ = np.histogram(padding, edges)
    names = ("none", "1 to 10 %", "10 to 25 %", "25 to 50 %", "more than 50 %")
    rows = tuple((n, Part(int(c), len(padding))) for n, c in zip(names, counts, strict=True))
    table = Table("Padding around the stored pictures", ("share of the square", "pictures"), rows)
    much = padding >= PADDED
    n = Part(int(much.sum()), len(padding))
    if n.share > 0.01:
        words = "{n} stored pictures are half padding or more: long, narrow images or odd spacings."
        return finding("note", "H-PADDING", words, _names(store, seen.rows[much]), n=n), table
    return finding("ok", "H-PADDING", "Hardly any stored picture is mostly padding."), table
