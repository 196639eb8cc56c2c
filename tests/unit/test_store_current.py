"""A store older than its manifest is refused with true counts: against a loop over dictionaries."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medssl.cohort import manifest as manifest_room
from medssl.config import DecodeConfig
from medssl.errors import NothingUsableError
from medssl.store import INDEX, open_store, store_digest

CONFIG = DecodeConfig(size=16)


def columns(schema, images, patients):
    held = {f.name: pa.nulls(len(images), f.type) for f in schema}
    held |= {"image_id": pa.array(images), "patient_id": pa.array(patients)}
    return pa.table(held, schema=schema)


def write(root, manifest, stored, aside):
    told = {"medssl_schema": str(manifest_room.SCHEMA_VERSION), "medssl_sites": "{}"}
    table = columns(manifest_room.SCHEMA.with_metadata(told), *zip(*manifest, strict=True))
    pq.write_table(table, root / "manifest.parquet")
    folder = root / "store" / store_digest(CONFIG)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns(INDEX, *zip(*stored, strict=True)), folder / "index.parquet")
    (folder / "set_aside.json").unlink(missing_ok=True)
    if aside is not None:
        (folder / "set_aside.json").write_text(json.dumps(aside))


def by_loop(manifest, stored, aside):
    owner, held = dict(manifest), dict(stored)
    absent = sum(i not in held and i not in (aside or []) for i in owner)
    return absent, sum(owner.get(i) != p for i, p in held.items())


@pytest.mark.parametrize("seed", range(12))
def test_absent_and_moved_images_are_counted(tmp_path, seed):
    stream = np.random.default_rng(seed)
    manifest = [(f"i{n:03d}", f"p{n // 3:03d}") for n in range(60)]
    stored = [
        (f"i{n:03d}", f"p{n // 3:03d}") for n in range(60) if stream.random() > 0.1 * (seed % 2)
    ]
    stored += stored[:7]  # further slices of the same images
    if seed % 3 == 0:
        stored = [(i, "p999" if i in {"i005", "i020"} else p) for i, p in stored]
    if seed % 4 == 1:
        stored.append(("gone", "p000"))
    aside = None if seed % 5 == 0 else [f"i{n:03d}" for n in range(0, 60, 2)]
    write(tmp_path, manifest, stored, aside)
    absent, other = by_loop(manifest, stored, aside)
    if not absent and not other:
        assert len(open_store(tmp_path, CONFIG)) == len(stored)
        return
    with pytest.raises(NothingUsableError) as said:
        open_store(tmp_path, CONFIG)
    found = re.search(r"\((\d+) images not decoded, (\d+) stored", str(said.value))
    assert (int(found[1]), int(found[2])) == (absent, other)
