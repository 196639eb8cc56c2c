"""The verb decode: pixels once, into .npy shards in a folder named by the decode settings."""

import csv
import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.cohort import manifest as manifest_room
from medssl.cohort.manifest import Manifest
from medssl.config import DecodeConfig
from medssl.errors import MedsslError, NothingUsableError, RefusedError
from medssl.files import atomic, locked, safe_cell, write_csv, write_json, write_text
from medssl.formats import worker

STORE_VERSION = 1
STORED_MAX = 65535
SHARD_BYTES = 256 << 20
DECODERS = ("pydicom", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls", "pillow", "nibabel")
Progress = Callable[[int, int], None]
OWNERS = ("patient_id", "study_id", "series_id", "site")
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
        ("box", pa.list_(pa.int32(), 4)),
        ("source", pa.string()),
        ("pixels", pa.string()),
    ]
)


@dataclass(frozen=True)
class Store:
    """Decoded pixels on disk.

    Attributes:
        path: the folder.
        config: the settings it was made with.
        index: one row per stored image, slice or volume, columns as ``INDEX``; value =
            low + stored / 65535 * (high - low), in ``units``, after MONOCHROME1 was inverted.
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
        numeric = pa.types.is_integer(INDEX.field(name).type)
        return np.asarray(values, dtype=np.int64 if numeric else object)

    def planes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        """Return uint16 ``[n, S, S]`` (or ``[n, S, S, S]``) of the index rows asked for."""
        shards, offsets = self._places()
        side = (self.config.size,) * (3 if self.whole else 2)
        out = np.empty((len(rows), *side), np.uint16)
        for shard in np.unique(shards[rows]):
            here = np.flatnonzero(shards[rows] == shard)
            out[here] = _open_shard(self.path / f"pixels-{shard:03d}.npy")[offsets[rows[here]]]
        return out

    @property
    def whole(self) -> bool:
        """Return whether the items are whole volumes."""
        return self.config.volumes == "whole" and _open_shard(_first_shard(self.path)).ndim == 4

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


@functools.lru_cache(maxsize=64)
def _open_shard(path: Path) -> npt.NDArray[np.uint16]:
    """Open one shard lazily and once per process."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        words = f"{path.name}: a damaged shard. Delete the folder {path.parent.name}, decode again."
        raise RefusedError(words, "E-STORE") from error


@functools.lru_cache(maxsize=16)
def _places_of(path: Path, _: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    table = pq.read_table(path / "index.parquet", columns=["shard", "offset"])
    return tuple(np.asarray(table.column(c), dtype=np.int64) for c in ("shard", "offset"))  # type: ignore[return-value]


def store_digest(config: DecodeConfig) -> str:
    """Return the name of the store: a digest of settings, schema and decoder versions."""
    versions = {name: version(name) for name in DECODERS}
    text = json.dumps([STORE_VERSION, config.model_dump(mode="json"), versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class DecodeSummary:
    """Counts that add up: images = stored + set aside."""

    store: str
    images: int
    reused: int
    decoded: int
    set_aside: int
    items: int
    reasons: dict[str, int]


def decode(
    root: Path, config: DecodeConfig, workers: int = 2, progress: Progress | None = None
) -> DecodeSummary:
    """Decode every image of a cohort that the store does not hold yet.

    Raises:
        NothingUsableError: not one picture could be decoded.
        RefusedError: the cohort's private paths are not here.
    """
    manifest = manifest_room.read(root)
    folder = root / "store" / store_digest(config)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        write_json(folder / "decode.json", config.model_dump(mode="json"))
        paths = _paths(root)
        kept = _still_good(root, folder, paths, manifest)
        done = {row["image_id"] for row in kept}
        images = {r["image_id"]: r for r in manifest.table.to_pylist()}
        todo = [i for i in images if i not in done]
        if todo and not paths:
            words = (
                f"{root}: private/paths.json is not here, so {len(todo)} images cannot be found."
            )
            raise RefusedError([words, "Decode where the cohort was scanned."], "E-NOPATHS")
        writer = _Writer(folder, kept, lambda here: _remember_stats(root, folder, paths, here))
        settings = config.model_dump(mode="json")
        jobs = (worker.Job(i, "decode", tuple(paths[i]), settings) for i in todo)
        failed: dict[str, worker.Answer] = {}
        for count, answer in enumerate(worker.run(jobs, workers), start=1):
            if answer.code:
                failed[answer.key] = answer
            else:
                writer.add(images[answer.key], answer)
            if progress is not None:
                progress(count, len(todo))
        writer.finish()
        write_json(folder / "set_aside.json", {i: a.code for i, a in sorted(failed.items())})
        _append_quarantine(root, images, failed)
    if not writer.rows:
        words = f"{len(images)} images, none could be decoded; {root}/quarantine.csv says why."
        raise NothingUsableError(words, "E-NOTHING")
    return _summary(folder, images, done, failed, writer.rows)


def _summary(
    folder: Path,
    images: dict[str, Any],
    done: set[str],
    failed: dict[str, worker.Answer],
    rows: list[dict[str, Any]],
) -> DecodeSummary:
    stored = {row["image_id"] for row in rows}
    if len(stored) + len(failed) != len(images):
        words = (
            f"{len(images)} images, {len(stored)} stored and {len(failed)} set aside do not add up."
        )
        raise MedsslError(words, "E-ACCOUNTS")
    codes = [a.code for a in failed.values()]
    return DecodeSummary(
        store=folder.name,
        images=len(images),
        reused=len(done),
        decoded=len(stored) - len(done),
        set_aside=len(failed),
        items=len(rows),
        reasons={c: codes.count(c) for c in sorted(set(codes))},
    )


def _paths(root: Path) -> dict[str, list[str]]:
    record = root / "private" / "paths.json"
    if not record.is_file():
        return {}
    return json.loads(record.read_text())["images"]  # type: ignore[no-any-return]


def _stats(paths: list[str]) -> list[list[int]]:
    out = []
    for path in map(Path, paths):
        out.append([path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else [-1, -1])
    return out


def _still_good(
    root: Path, folder: Path, paths: dict[str, list[str]], manifest: Manifest
) -> list[dict[str, Any]]:
    """Return the index rows whose source files did not change since they were decoded."""
    index, record = folder / "index.parquet", root / "private" / f"decoded-{folder.name}.json"
    if not index.is_file():
        return []
    stored = set(pq.read_table(index, columns=["image_id"]).column("image_id").to_pylist())
    before = json.loads(record.read_text()) if record.is_file() else dict.fromkeys(stored, None)
    images = {row["image_id"]: row for row in manifest.table.to_pylist()}
    same = {i for i in images if i in before and _unchanged(before[i], _stats(paths.get(i, [])))}
    kept = [row for row in pq.read_table(index).to_pylist() if row["image_id"] in same]
    # Whose picture it is may have been corrected since; the pixels are the same.
    return [row | {n: images[row["image_id"]][n] for n in OWNERS} for row in kept]


def _unchanged(before: list[list[int]] | None, now: list[list[int]]) -> bool:
    """Return whether files are as they were; one that is not here now loses nothing decoded."""
    gone = not now or any(size < 0 for size, _ in now)
    return gone or before == now


def _remember_stats(root: Path, folder: Path, paths: dict[str, list[str]], done: set[str]) -> None:
    """Record size and time of the files behind every stored image; of absent ones, as they were."""
    record = root / "private" / f"decoded-{folder.name}.json"
    if not paths:
        return
    before = json.loads(record.read_text()) if record.is_file() else {}
    now = {image: _stats(paths[image]) for image in done if image in paths}
    kept = {i: before.get(i, s) if any(size < 0 for size, _ in s) else s for i, s in now.items()}
    write_text(record, json.dumps(kept), 0o600)


class _Writer:
    """Shards and index, written so that a stop in the middle costs the shard in hand only."""

    def __init__(
        self, folder: Path, kept: list[dict[str, Any]], remember: Callable[[set[str]], None]
    ) -> None:
        self.folder, self.rows, self.remember = folder, list(kept), remember
        used = [int(p.stem.partition("-")[2]) for p in folder.glob("pixels-*.npy")]
        self.shard = max(used, default=-1) + 1
        self.pending: list[dict[str, Any]] = []
        self.planes: list[npt.NDArray[np.uint16]] = []
        self.count = 0

    def add(self, image: dict[str, Any], answer: worker.Answer) -> None:
        data, planes = answer.data, answer.arrays[0]
        for k, place in enumerate(data["slice_index"]):
            row = {name: image.get(name) for name in INDEX.names}
            row |= {n: data[n] for n in ("low", "high", "units", "box", "source")}
            row |= {"slice": place, "pixels": data["digests"][k], "offset": self.count + k}
            row["shard"] = self.shard
            self.pending.append(row)
        self.planes.append(planes)
        self.count += len(planes)
        if self.count * planes[0].nbytes >= SHARD_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self.planes:
            return
        with atomic(self.folder / f"pixels-{self.shard:03d}.npy") as out:
            np.save(out, np.concatenate(self.planes), allow_pickle=False)
        self.rows += self.pending
        self.shard += 1
        self.pending, self.planes, self.count = [], [], 0
        self._write_index()

    def finish(self) -> None:
        self._flush()
        self._write_index()

    def _write_index(self) -> None:
        self.rows.sort(key=lambda r: (r["image_id"], r["slice"]))
        with atomic(self.folder / "index.parquet") as out:
            pq.write_table(pa.Table.from_pylist(self.rows, schema=INDEX), out)
        self.remember({row["image_id"] for row in self.rows})
        _places_of.cache_clear()
        _open_shard.cache_clear()


def _append_quarantine(
    root: Path, images: dict[str, Any], failed: dict[str, worker.Answer]
) -> None:
    """Add what could not be decoded to ``quarantine.csv``; a repeated decode repeats no line."""
    path = root / "quarantine.csv"
    rows = [tuple(r) for r in _lines(path)]
    files = {images[i]["file_id"] for i in images}
    rows = [r for r in rows if not (r[1] == "decode" and r[0] in files)]
    for image, answer in sorted(failed.items()):
        cells = (images[image]["file_id"], "decode", "quarantined", answer.code, answer.sentence)
        rows.append(tuple(safe_cell(c) for c in cells))
    write_csv(path, ("file_id", "stage", "state", "code", "reason"), rows)


def _lines(path: Path) -> Iterator[list[str]]:
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            lines = csv.reader(stream)
            next(lines, None)
            yield from lines


def open_store(root: Path, config: DecodeConfig) -> Store:
    """Open the store that these settings made.

    Raises:
        NothingUsableError: not decoded yet with these settings; says the command.
    """
    folder = root / "store" / store_digest(config)
    index = folder / "index.parquet"
    if not index.is_file():
        words = (
            f"{root}: not decoded with these settings (size {config.size}, {config.volumes}). "
            f"Run: medssl decode {root} --size {config.size} --volumes {config.volumes}"
        )
        raise NothingUsableError(words, "E-NOSTORE")
    store = Store(folder, config, pq.read_table(index, schema=INDEX))
    _check_current(root, store)
    return store


def _check_current(root: Path, store: Store) -> None:
    """Raise unless the store holds the manifest's images, under the manifest's patients."""
    manifest = manifest_room.read(root)
    owner = dict(zip(manifest.column("image_id"), manifest.column("patient_id"), strict=True))
    stored = dict(zip(store.column("image_id"), store.column("patient_id"), strict=True))
    record = store.path / "set_aside.json"
    aside = set(json.loads(record.read_text())) if record.is_file() else set()
    absent = sum(i not in stored and i not in aside for i in owner)
    other = sum(owner.get(i) != p for i, p in stored.items())
    if absent or other:
        words = (
            f"{root}: the store is older than the manifest ({absent} images not decoded, {other} stored "
            f"under another patient or gone). Run: medssl decode {root} --size {store.config.size} "
            f"--volumes {store.config.volumes}"
        )
        raise NothingUsableError(words, "E-STORE-OLD")
