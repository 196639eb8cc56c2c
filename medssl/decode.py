"""The verb decode: every picture read once, into shards that a stop in the middle cannot change.

Which image lies in which shard follows from the manifest alone, and a shard is written when all its
images are judged: an interrupted decode that is called again ends with the same bytes.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.cohort import accounts, twins
from medssl.cohort import manifest as manifest_room
from medssl.config import DecodeConfig
from medssl.errors import MedsslError, NothingUsableError, RefusedError
from medssl.files import atomic, locked, write_json, write_text
from medssl.formats import cluster as cluster_room
from medssl.formats import worker
from medssl.store import Store, forget, index_schema, store_digest

SHARD_BYTES = 64 << 20
INDEX_EVERY_S = 30.0
OWNERS = ("patient_id", "study_id", "series_id", "site")
PASSING = {"E-CRASH", "E-DEADLINE", "E-MEMORY"}
Progress = Callable[[int, int], None]
Stat = list[list[int]]


@dataclass(frozen=True)
class DecodeSummary:
    """Counts that add up: images = stored + set aside.

    ``copies`` are pairs of pictures that are one picture, ``shared`` those of two patients; ``notes``
    says what the search for them could not compare. ``grey`` are the items without colour in a store
    of colours; None in any other.
    """

    store: str
    images: int
    reused: int
    decoded: int
    set_aside: int
    items: int
    reasons: dict[str, int]
    copies: int = 0
    shared: int = 0
    notes: tuple[str, ...] = ()
    grey: int | None = None


@dataclass
class _State:
    """What a store holds: index rows, failures, and the files behind both as they were.

    ``moved`` says that some picture belongs to another patient, study or site than before.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    stats: dict[str, Stat] = field(default_factory=dict)
    moved: bool = False


def decode(
    root: Path,
    config: DecodeConfig,
    workers: int = 2,
    progress: Progress | None = None,
    cluster: str | None = None,
) -> DecodeSummary:
    """Decode every image of a cohort that the store does not hold yet.

    Raises:
        NothingUsableError: not one picture could be decoded.
        RefusedError: the cohort's private paths are not here, or another run decodes it.
    """
    manifest = manifest_room.read(root)
    folder = root / "store" / store_digest(config)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(root), locked(folder):
        write_json(folder / "decode.json", config.naming())
        images = {r["image_id"]: r for r in manifest.table.to_pylist()}
        paths = _paths(root)
        state = _still_good(root, folder, images, paths)
        reused, before = len({row["image_id"] for row in state.rows}), _rows_before(folder)
        todo = _todo(images, state)
        if todo and not paths:
            words = (
                f"{root}: private/paths.json is not here, so {len(todo)} images cannot be found."
            )
            raise RefusedError([words, "Decode where the cohort was scanned."], "E-NOPATHS")
        shards = _plan(todo, images, config)
        settings = config.model_dump(mode="json")
        whose = _identities(root)
        jobs = (
            worker.Job(i, "decode", tuple(paths[i]), settings | {"identities": whose.get(i, [])})
            for i in todo
        )
        answers = worker.run(jobs, workers) if cluster is None else cluster_room.run(jobs, cluster)
        writer = _Writer(root, folder, state, images, paths, index_schema(config))
        if todo or state.moved or reused < before:
            (root / twins.FILE).unlink(
                missing_ok=True
            )  # pairs of what was, until they are sought anew
        try:
            _collect(answers, shards, writer, progress, len(todo))
        finally:
            writer.write_index()
        files = {i: row["file_id"] for i, row in images.items()}
        accounts.settle(root, files, state.failed)
    if not state.rows:
        words = f"{len(images)} images, none could be decoded; {root}/quarantine.csv says why."
        raise NothingUsableError(words, "E-NOTHING")
    search = _search(root, folder, config, changed=bool(todo) or reused < before or state.moved)
    shared = sum(a != b for a, b in _patients(root))
    done = _summary(folder, images, state, reused)
    grey = sum(row["grey"] for row in state.rows) if config.colour == "rgb" else None
    return replace(done, copies=search[0], shared=shared, notes=search[1], grey=grey)


def _search(
    root: Path, folder: Path, config: DecodeConfig, *, changed: bool
) -> tuple[int, tuple[str, ...]]:
    """Look for pictures that occur twice, unless that was done for this store as it is."""
    index = pq.read_table(folder / "index.parquet", schema=index_schema(config))
    store = Store(folder, config, index)
    if not changed and (root / twins.FILE).is_file():
        facts = {k.decode(): v.decode() for k, v in (_facts(root) or {}).items()}
        told = facts.get("medssl_twins"), facts.get("store"), facts.get("rows")
        if told == (str(twins.TWINS_VERSION), folder.name, str(len(store))):
            before = twins.Search((), len(store), int(facts["blank"]), int(facts["crowded"]))
            return twins.read(root).num_rows, before.notes
    owner = {n: store.column(n) for n in ("image_id", "patient_id", "slice", "pixels")}
    found = twins.find(
        len(store),
        store.pictures,
        owner["pixels"],
        images=owner["image_id"],
        patients=owner["patient_id"],
        boxes=np.asarray(store.index.column("box").to_pylist(), dtype=np.int64),
    )
    twins.write(root, found, folder.name, owner["image_id"], owner["slice"], owner["patient_id"])
    return len(found.pairs), found.notes


def _facts(root: Path) -> dict[bytes, bytes] | None:
    metadata: dict[bytes, bytes] | None = pq.read_schema(root / twins.FILE).metadata
    return metadata


def _patients(root: Path) -> list[tuple[str, str]]:
    table = twins.read(root)
    columns = (table.column(f"patient_{n}").to_pylist() for n in "ab")
    return list(zip(*columns, strict=True))


def _todo(images: dict[str, Any], state: _State) -> list[str]:
    """Return what is neither stored nor judged; what crashed or ran out of time is tried again, last."""
    stored = {row["image_id"] for row in state.rows}
    again = [i for i, (code, _) in state.failed.items() if code in PASSING]
    new = [i for i in images if i not in stored and i not in state.failed]
    return [*new, *sorted(again)]


def _plan(todo: list[str], images: dict[str, Any], config: DecodeConfig) -> list[list[str]]:
    """Return the images of every shard, by the planes that their headers promise."""
    whole = config.volumes == "whole"
    item = 2 * config.channels * config.size ** (3 if whole else 2)
    room = max(1, SHARD_BYTES // item)
    shards: list[list[str]] = []
    count = room
    for image in todo:
        planes = 1 if whole else max(1, int(images[image]["frames"] or 1))
        if count + planes > room:
            shards.append([])
            count = 0
        shards[-1].append(image)
        count += planes
    return shards


def _collect(
    answers: Iterable[worker.Answer],
    shards: list[list[str]],
    writer: "_Writer",
    progress: Progress | None,
    total: int,
) -> None:
    """Hand every shard to the writer, in order, as soon as all its images are judged."""
    pending: dict[str, worker.Answer] = {}
    waiting = iter(shards)
    shard = next(waiting, None)
    for done, answer in enumerate(answers, start=1):
        pending[answer.key] = answer
        while shard is not None and all(image in pending for image in shard):
            writer.add([pending.pop(image) for image in shard])
            shard = next(waiting, None)
        if progress is not None:
            progress(done, total)


class _Writer:
    """Shards, index and judgements, each written whole."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        state: _State,
        images: dict[str, Any],
        paths: dict[str, list[str]],
        schema: pa.Schema,
    ) -> None:
        self.root, self.folder, self.state = root, folder, state
        self.images, self.paths, self.schema = images, paths, schema
        self.next = 1 + max((row["shard"] for row in state.rows), default=-1)
        self.written = time.monotonic()

    def add(self, answers: list[worker.Answer]) -> None:
        """Write one shard and what was learnt of its images."""
        rows: list[dict[str, Any]] = []
        planes: list[npt.NDArray[np.uint16]] = []
        for answer in (a for a in answers if not a.code):
            rows += self._rows(answer, sum(map(len, planes)))
            planes.append(answer.arrays[0])
        if planes:
            with atomic(self.folder / f"pixels-{self.next:03d}.npy") as out:
                np.save(out, np.concatenate(planes), allow_pickle=False)
            self.next += 1
        # Nothing counts before its pixels are on the disk.
        self.state.rows += rows
        for answer in answers:
            self.state.stats[answer.key] = _stats(self.paths[answer.key])
            self.state.failed.pop(answer.key, None)
            if answer.code:
                self.state.failed[answer.key] = (answer.code, answer.sentence)
        # The index makes the shards count; writing it often would cost more than decoding.
        if time.monotonic() - self.written > INDEX_EVERY_S:
            self.write_index()

    def _rows(self, answer: worker.Answer, offset: int) -> Iterator[dict[str, Any]]:
        image, data = self.images[answer.key], answer.data
        told = ("low", "high", "units", "scaling", "inverted", "decoder", "box", "source")
        for k, place in enumerate(data["slice_index"]):
            row = {name: image.get(name) for name in self.schema.names}
            row |= {name: data[name] for name in told}
            row |= {"slice": place, "pixels": data["digests"][k]}
            if "grey" in self.schema.names:
                row["grey"] = data["grey"][k]
            row |= {"shard": self.next, "offset": offset + k}
            yield row

    def write_index(self) -> None:
        """Write the index, what was set aside, and the state of the files behind them."""
        state = self.state
        state.rows.sort(key=lambda r: (r["image_id"], r["slice"]))
        with atomic(self.folder / "index.parquet") as out:
            pq.write_table(pa.Table.from_pylist(state.rows, schema=self.schema), out)
        codes = {image: code for image, (code, _) in sorted(state.failed.items())}
        write_json(self.folder / "set_aside.json", codes)
        if self.paths:
            record = {"stats": state.stats, "failed": state.failed}
            write_text(_record(self.root, self.folder), json.dumps(record, sort_keys=True), 0o600)
        self.written = time.monotonic()
        forget()


def _record(root: Path, folder: Path) -> Path:
    return root / accounts.FOLDER / f"decoded-{folder.name}.json"


def _paths(root: Path) -> dict[str, list[str]]:
    record = root / accounts.FOLDER / "paths.json"
    if not record.is_file():
        return {}
    return json.loads(record.read_text())["images"]  # type: ignore[no-any-return]


def _identities(root: Path) -> dict[str, list[str]]:
    """Return whose object every file held at scan, by image."""
    record = root / accounts.FOLDER / "paths.json"
    if not record.is_file():
        return {}
    return json.loads(record.read_text()).get("identities", {})  # type: ignore[no-any-return]


def _stats(paths: list[str]) -> Stat:
    """Return size and time of every file behind an image, both halves of a pair included."""
    out = []
    for path in map(Path, paths):
        halves = [path, path.with_suffix(".img")] if path.suffix == ".hdr" else [path]
        for half in halves:
            found = half.stat() if half.exists() else None
            out.append([-1, -1] if found is None else [found.st_size, found.st_mtime_ns])
    return out


def _rows_before(folder: Path) -> int:
    """Return how many images the index held before anything was dropped from it."""
    index = folder / "index.parquet"
    if not index.is_file():
        return 0
    return len(set(pq.read_table(index, columns=["image_id"]).column(0).to_pylist()))


def _still_good(
    root: Path, folder: Path, images: dict[str, Any], paths: dict[str, list[str]]
) -> _State:
    """Return what the store knows of images whose files did not change since."""
    index, record = folder / "index.parquet", _record(root, folder)
    if not index.is_file():
        return _State()
    rows = pq.read_table(index).to_pylist()
    told = json.loads(record.read_text()) if record.is_file() else _travelled(folder)
    stats: dict[str, Stat] = told["stats"]
    known = images if paths else {}
    now = {i: _stats(paths.get(i, [])) for i in known}
    same = {i for i in images if i not in known or _unchanged(stats.get(i), now[i])}
    # Whose picture it is may have been corrected since; the pixels are the same.
    held = [row for row in rows if row["image_id"] in same]
    kept = [row | {n: images[row["image_id"]][n] for n in OWNERS} for row in held]
    stored = {row["image_id"] for row in kept}
    failed = {i: (f[0], f[1]) for i, f in told["failed"].items() if i in same}
    judged = stored | set(failed)
    known_stats = {i: s for i, s in stats.items() if i in judged}
    return _State(kept, failed, known_stats, moved=kept != held)


def _travelled(folder: Path) -> dict[str, Any]:
    """Return what a store without its private folder still knows of the images it set aside."""
    path = folder / "set_aside.json"
    codes = json.loads(path.read_text()) if path.is_file() else {}
    return {
        "stats": {},
        "failed": {i: [c, "set aside where it was decoded"] for i, c in codes.items()},
    }


def _unchanged(before: Stat | None, now: Stat) -> bool:
    """Return whether files are as they were; one that is not here now loses nothing decoded."""
    gone = not now or any(size < 0 for size, _ in now)
    return gone or before == now


def _summary(folder: Path, images: dict[str, Any], state: _State, reused: int) -> DecodeSummary:
    stored = {row["image_id"] for row in state.rows}
    if len(stored) + len(state.failed) != len(images) or stored & set(state.failed):
        words = f"{len(images)} images, {len(stored)} stored and {len(state.failed)} set aside do not add up."
        raise MedsslError(words, "E-ACCOUNTS")
    codes = [code for code, _ in state.failed.values()]
    return DecodeSummary(
        store=folder.name,
        images=len(images),
        reused=reused,
        decoded=len(stored) - reused,
        set_aside=len(state.failed),
        items=len(state.rows),
        reasons={c: codes.count(c) for c in sorted(set(codes))},
    )
