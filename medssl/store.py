"""Decoded pixels: .npy shards and an index, in a folder named by the decode settings."""

import functools
import hashlib
import json
import math
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medssl.cohort import manifest as manifest_room
from medssl.config import DecodeConfig
from medssl.errors import NothingUsableError, RefusedError

STORE_VERSION = 2
STORED_MAX = 65535
DECODERS = (
    "pydicom",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "pyjpegls",
    "python-gdcm",
    "pillow",
    "nibabel",
)
INDEX = pa.schema(
    [
        ("image_id", pa.string()),
        ("slice", pa.int32()),
        ("patient_id", pa.string()),
        ("study_id", pa.string()),
        ("series_id", pa.string()),
        ("site", pa.string()),
        ("shard", pa.int32()),
        ("offset", pa.int32()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("units", pa.string()),
        ("scaling", pa.string()),
        ("inverted", pa.bool_()),
        ("decoder", pa.string()),
        ("box", pa.list_(pa.int32(), 4)),
        ("source", pa.string()),
        ("pixels", pa.string()),
    ]
)
COLOUR_INDEX = INDEX.append(pa.field("grey", pa.bool_()))
LUMA = np.array([0.299, 0.587, 0.114])
LUMA_ROWS = 8


def index_schema(config: DecodeConfig) -> pa.Schema:
    """Return the columns of a store's index; one of colours says which pictures have none."""
    return COLOUR_INDEX if config.colour == "rgb" else INDEX


@dataclass(frozen=True)
class Store:
    """Decoded pixels on disk.

    Attributes:
        path: the folder.
        config: the settings it was made with.
        index: one row per stored image, slice or volume, columns as ``INDEX``; value =
            low + stored / 65535 * (high - low), in ``units``, after MONOCHROME1 was inverted;
            ``scaling`` says how the two limits were found, ``decoder`` what read the pixels. In a
            store of colours ``grey`` says that the three channels are equal.
    """

    path: Path
    config: DecodeConfig
    index: pa.Table

    def __len__(self) -> int:
        """Return the number of stored items."""
        return int(self.index.num_rows)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return one index column."""
        values = self.index.column(name).to_pylist()
        numeric = pa.types.is_integer(index_schema(self.config).field(name).type)
        return np.asarray(values, dtype=np.int64 if numeric else object)

    def planes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        """Return uint16 ``[n, S, S]`` (or ``[n, S, S, S]``) of the index rows asked for.

        Stores of colours return ``[n, S, S, 3]``: red, green, blue.
        """
        return self._read(rows, self._item, ())

    def luminance(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        """Return ``planes`` without their last axis where it holds colours: their luma (ITU-R BT.601).

        A stored grey picture is returned exactly.
        """
        if not self.colour:
            return self.planes(rows)
        out = np.empty((len(rows), *self._item[:2]), np.uint16)
        for start in range(0, len(rows), LUMA_ROWS):
            part = slice(start, start + LUMA_ROWS)
            out[part] = np.rint(self.planes(rows[part]) @ LUMA)
        return out

    def pictures(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        """Return uint16 ``[n, S, S]``: images and slices in grey, of a volume its middle plane."""
        if not self.whole:
            return self.luminance(rows)
        return self._read(rows, self._item[1:], (self.config.size // 2,))

    @property
    def _item(self) -> tuple[int, ...]:
        """Return the shape of one stored item."""
        size = self.config.size
        if self.whole:
            return (size, size, size)
        return (size, size, self.config.channels) if self.colour else (size, size)

    def _read(
        self, rows: npt.NDArray[np.int64], shape: tuple[int, ...], at: tuple[int, ...]
    ) -> npt.NDArray[np.uint16]:
        shards, offsets = self._places()
        out = np.empty((len(rows), *shape), np.uint16)
        for shard in np.unique(shards[rows]):
            here = np.flatnonzero(shards[rows] == shard)
            held = _open_shard(self.path / f"pixels-{shard:03d}.npy")
            _check_length(held)
            out[here] = held[(offsets[rows[here]], *at)]
        return out

    def picture_digests(self, rows: npt.NDArray[np.int64]) -> set[str]:
        """Return 16 hex digits for every picture of the rows; a blank one identifies nothing."""
        blank = hashlib.sha256(bytes(2 * math.prod(self._item))).hexdigest()
        return {d[:16] for d in self.column("pixels")[rows] if d != blank}

    @property
    def whole(self) -> bool:
        """Return whether the items are whole volumes."""
        return self.config.volumes == "whole" and _open_shard(_first_shard(self.path)).ndim == 4

    @property
    def colour(self) -> bool:
        """Return whether the items hold colours, as a last axis."""
        return self.config.colour == "rgb"

    def _places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return _places_of(self.path, len(self))

    def verify(self, rows: npt.NDArray[np.int64]) -> None:
        """Compare the checksum of every row asked for.

        Raises:
            RefusedError: some differ; names how many and what to do.
        """
        digests = self.column("pixels")
        bad = [
            int(row)
            for part in np.array_split(rows, max(1, len(rows) // 512))
            for row, plane in zip(part, self.planes(part), strict=True)
            if hashlib.sha256(plane.tobytes()).hexdigest() != digests[row]
        ]
        if bad:
            words = (
                f"{self.path.name}: {len(bad)} of {len(rows)} stored pictures do not match their "
                f"checksum (row {bad[0]} first). Check the disk, delete this folder, decode again."
            )
            raise RefusedError(words, "E-STORE")


def _first_shard(path: Path) -> Path:
    return min(path.glob("pixels-*.npy"))


@functools.lru_cache(maxsize=4096)
def _open_shard(path: Path) -> npt.NDArray[np.uint16]:
    """Open one shard lazily and once per process."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        words = f"{path}: a damaged shard. Delete the folder {path.parent}, decode again."
        raise RefusedError(words, "E-STORE") from error


def _check_length(held: npt.NDArray[np.uint16]) -> None:
    """Raise where a shard is shorter than its map: to read there would end the process.

    Raises:
        RefusedError: names the shard.
    """
    if not isinstance(held, np.memmap) or held.filename is None:
        return
    path = Path(held.filename)
    if not path.is_file() or path.stat().st_size < held.offset + held.nbytes:
        words = f"{path.name}: cut short or gone since it was opened. Check the disk, decode again."
        raise RefusedError(words, "E-STORE")


@functools.lru_cache(maxsize=16)
def _places_of(path: Path, _: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    table = pq.read_table(path / "index.parquet", columns=["shard", "offset"])
    return tuple(np.asarray(table.column(c), dtype=np.int64) for c in ("shard", "offset"))  # type: ignore[return-value]


def store_digest(config: DecodeConfig) -> str:
    """Return the name of the store: a digest of settings, schema and decoder versions."""
    versions = {name: _version(name) for name in DECODERS}
    text = json.dumps([STORE_VERSION, config.naming(), versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def forget() -> None:
    """Drop what is remembered of shards and indexes; called after they were written."""
    _places_of.cache_clear()
    _open_shard.cache_clear()


def open_store(root: Path, config: DecodeConfig) -> Store:
    """Open the store that these settings made.

    Raises:
        NothingUsableError: not decoded yet with these settings; says the command.
    """
    folder = root / "store" / store_digest(config)
    index = folder / "index.parquet"
    if not index.is_file():
        words = (
            f"{root}: not decoded with these settings (size {config.size}, {config.volumes}, "
            f"{config.colour}). Run: {_command(root, config)}"
        )
        raise NothingUsableError(words, "E-NOSTORE")
    store = Store(folder, config, pq.read_table(index, schema=index_schema(config)))
    _check_current(root, store)
    return store


def _command(root: Path, config: DecodeConfig) -> str:
    colour = "" if config.colour == "grey" else f" --set colour={config.colour}"
    return f"medssl decode {root} --size {config.size} --volumes {config.volumes}{colour}"


def _check_current(root: Path, store: Store) -> None:
    """Raise unless the store holds the manifest's images, under the manifest's patients."""
    manifest = manifest_room.read(root).table
    known, stored = (t.column("image_id").combine_chunks() for t in (manifest, store.index))
    record = store.path / "set_aside.json"
    aside = json.loads(record.read_text()) if record.is_file() else []
    present = pc.is_in(known, value_set=pa.concat_arrays([stored, pa.array(aside, pa.string())]))
    owner = manifest.column("patient_id").take(pc.index_in(stored, value_set=known))
    moved = pc.fill_null(pc.not_equal(store.index.column("patient_id"), owner), fill_value=True)
    absent = len(known) - present.true_count
    other = len(pc.unique(store.index.column("image_id").filter(moved)))
    if absent or other:
        words = (
            f"{root}: the store is older than the manifest ({absent} images not decoded, {other} stored "
            f"under another patient or gone). Run: {_command(root, store.config)}"
        )
        raise NothingUsableError(words, "E-STORE-OLD")
