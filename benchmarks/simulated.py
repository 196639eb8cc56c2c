"""A cohort that was never scanned: a manifest and a store of as many pictures as wanted.

The shards are sparse files: a million pictures cost almost no disk, and reading them costs the page
cache, not a disk. With ``real`` the pictures hold smooth shapes and noise, and true checksums.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap

from medssl.cohort import manifest as manifest_room
from medssl.config import DecodeConfig
from medssl.decode import SHARD_BYTES
from medssl.store import INDEX, forget, store_digest

SITE = "simulated"


def names(prefix, numbers):
    """Pseudonyms as long as the real ones."""
    texts = [f"{prefix}_{n:016x}" for n in numbers]
    return pa.array(texts, pa.string())


def cohort(root: Path, images: int, patients: int, size: int, *, real: bool = False) -> Path:
    """Write a decoded cohort of ``images`` pictures of ``patients`` patients and return its folder."""
    stream = np.random.default_rng(0)
    more = stream.integers(0, patients, max(0, images - patients))
    owner = np.sort(np.concatenate([np.arange(min(images, patients)), more]))
    root.mkdir(parents=True)
    _manifest(root, owner)
    config = DecodeConfig(size=size)
    folder = root / "store" / store_digest(config)
    folder.mkdir(parents=True)
    (folder / "decode.json").write_text(json.dumps(config.model_dump(mode="json")))
    per_shard = max(1, SHARD_BYTES // (2 * size * size))
    digests = _shards(folder, images, size, per_shard, real)
    _index(folder, owner, per_shard, digests)
    forget()
    return root


def _manifest(root, owner):
    count = len(owner)
    columns = {c.name: pa.nulls(count, c.type) for c in manifest_room.COLUMNS}
    columns |= {k: names(k[0], range(count)) for k in ("image_id", "series_id", "file_id")}
    columns |= {"patient_id": names("p", owner), "study_id": names("t", owner)}
    columns["site"] = pa.array([SITE] * count)
    told = {"medssl_schema": str(manifest_room.SCHEMA_VERSION), "medssl_sites": "{}"}
    schema = manifest_room.SCHEMA.with_metadata(told)
    pq.write_table(pa.table(columns, schema=schema), root / "manifest.parquet")


def _index(folder, owner, per_shard, digests):
    count = len(owner)
    columns = {f.name: pa.nulls(count, f.type) for f in INDEX}
    columns |= {"image_id": names("i", range(count)), "series_id": names("s", range(count))}
    columns |= {"patient_id": names("p", owner), "study_id": names("t", owner)}
    columns["site"] = pa.array([SITE] * count)
    columns["slice"] = pa.array(np.zeros(count, np.int32))
    columns["shard"] = pa.array((np.arange(count) // per_shard).astype(np.int32))
    columns["offset"] = pa.array((np.arange(count) % per_shard).astype(np.int32))
    columns["pixels"] = pa.array(digests, pa.string())
    pq.write_table(pa.table(columns, schema=INDEX), folder / "index.parquet")


def _shards(folder, images, size, per_shard, real):
    digests = []
    for number, start in enumerate(range(0, images, per_shard)):
        held = min(per_shard, images - start)
        place = folder / f"pixels-{number:03d}.npy"
        shard = open_memmap(place, mode="w+", dtype=np.uint16, shape=(held, size, size))
        if real:
            for at in range(held):
                shard[at] = picture(start + at, size)
            digests += [hashlib.sha256(plane.tobytes()).hexdigest() for plane in shard]
        else:
            # Of no picture, but all different: what is drawn depends on that, nothing else does.
            digests += [f"{start + at:064x}" for at in range(held)]
        shard.flush()
    return digests


def picture(number, size):
    """Smooth shapes and noise, uint16 ``[size, size]``."""
    stream = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    a, b, c, d = stream.uniform(3, 9, 4)
    shape = np.sin(a * x + b) * np.cos(c * y + d)
    return (32768 + 20000 * shape + stream.normal(0, 800, (size, size))).clip(0, 65535)
