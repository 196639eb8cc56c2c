"""The embeddings of a run with what is known of every picture; no Streamlit here."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import text_research as text
from medssl import store as store_room
from medssl.cohort import labels as label_room
from medssl.cohort.split import rank
from medssl.config import DecodeConfig
from medssl.errors import MedsslError, NothingUsableError, RefusedError
from medssl.store import Store
from research import records
from research.charts import MOST_KINDS
from research.records import Entry

MOST_ROWS = 2000
QUARTERS = (0.25, 0.5, 0.75)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Key = tuple[str, int]


@dataclass(frozen=True)
class Atlas:
    """Embedded pictures of one run, whole patients only.

    Attributes:
        path: the run's folder.
        rows: embeddings, float64 ``[n, d]``.
        keys: image and slice of every row.
        columns: what is known of every row, by name: patient, label, site, split, header fields.
        every: how many pictures the run embedded.
    """

    path: Path
    rows: Floats
    keys: tuple[Key, ...]
    columns: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    every: int = 0

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.keys)

    @property
    def patient(self) -> npt.NDArray[Any]:
        """Return the patient of every row."""
        return self.columns[text.PATIENT]

    @property
    def image(self) -> npt.NDArray[Any]:
        """Return the image of every row; slices of one volume share it."""
        return np.array([k[0] for k in self.keys], dtype=object)

    def take(self, kept: Ints) -> "Atlas":
        """Return some rows of it."""
        columns = {n: v[kept] for n, v in self.columns.items()}
        keys = tuple(self.keys[k] for k in kept)
        return replace(self, rows=self.rows[kept], keys=keys, columns=columns)


def has_embeddings(entry: Entry) -> bool:
    """Return whether a finished run has embeddings."""
    done = entry.record.get("status") == "done"
    return (
        done and entry.verb in {"finetune", "evaluate"} and (entry.path / "embeddings.npy").exists()
    )


def open_atlas(entry: Entry) -> Atlas:
    """Read the embeddings of a run, of many pictures those of some whole patients.

    Raises:
        RefusedError: a file is damaged, or they do not belong together.
    """
    file = entry.path / "embeddings.npy"
    with records.reading(file):
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
    owners = "predictions.parquet" if entry.verb == "evaluate" else "embeddings.parquet"
    table = records.table(entry.path / owners, "image_id", "slice", "patient_id", "site", "split")
    if stored.ndim != 2 or stored.dtype.kind != "f" or stored.shape[1] == 0:
        raise RefusedError(
            text.NOT_NUMBERS.format(run=entry.name, shape=stored.shape), "E-EMBEDDINGS"
        )
    if len(stored) != table.num_rows:
        words = text.NOT_ALIGNED.format(run=entry.name, rows=len(stored), keys=table.num_rows)
        raise RefusedError(words, "E-EMBEDDINGS")
    kept = some_patients(table.column("patient_id").to_pylist(), MOST_ROWS)
    rows = np.asarray(stored[kept], dtype=np.float64)
    if not np.isfinite(rows).all():
        raise RefusedError(
            text.NOT_NUMBERS.format(run=entry.name, shape=stored.shape), "E-EMBEDDINGS"
        )
    if len(rows) < 3:
        raise NothingUsableError(text.TOO_FEW.format(run=entry.name, n=len(rows)), "E-EMBEDDINGS")
    table = table.take(pa.array(kept))
    keys = tuple(zip(*(table.column(n).to_pylist() for n in ("image_id", "slice")), strict=True))
    columns = {
        text.LABEL: _column(_labels(entry, keys)),
        text.SITE: _column(table.column("site").to_pylist()),
        text.SPLIT: _column(table.column("split").to_pylist()),
        **_headers(entry, keys),
        text.PATIENT: _column(table.column("patient_id").to_pylist()),
    }
    return Atlas(entry.path, rows, keys, columns, len(stored))


def _column(values: Sequence[Any]) -> npt.NDArray[Any]:
    found = np.empty(len(values), dtype=object)
    found[:] = list(values)
    return found


def some_patients(patient: Sequence[str], most: int) -> Ints:
    """Return rows of whole patients, at most ``most`` (but one patient at least), in their order.

    Who is taken depends on the patients alone, so two runs on one cohort show the same ones.
    """
    counts = Counter(patient)
    taken, room = set(), most
    for who in sorted(counts, key=lambda p: rank(0, "map", str(p))):
        if counts[who] <= room or not taken:
            taken.add(who)
            room -= counts[who]
    return np.array([k for k, p in enumerate(patient) if p in taken], dtype=np.int64)


def _labels(entry: Entry, keys: Sequence[Key]) -> list[str | None]:
    """Return known answers: the cohort's where it is here, else those of the predictions."""
    told = entry.part("summary").get("target")
    if entry.verb == "finetune" and entry.cohort is not None:
        try:
            known = label_room.read(entry.cohort, str(told))
            return [label_room.lookup(known, *key) for key in keys]
        except (MedsslError, *records.DAMAGES):
            pass
    table = records.table(entry.path / "predictions.parquet", "image_id", "slice", "label")
    columns = (table.column(n).to_pylist() for n in ("image_id", "slice", "label"))
    found = {(image, place): label for image, place, label in zip(*columns, strict=True)}
    return [found.get(key) for key in keys]


def _headers(entry: Entry, keys: Sequence[Key]) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of ``pictures.parquet`` that tell pictures apart; none where it is absent."""
    file = entry.path / "pictures.parquet"
    if not file.is_file():
        return {}
    table = records.table(file, "image_id", "slice")
    both = (table.column(n).to_pylist() for n in ("image_id", "slice"))
    place = {key: k for k, key in enumerate(zip(*both, strict=True))}
    at = [place.get(key) for key in keys]
    found = {}
    for name in table.column_names:
        values = table.column(name).to_pylist()
        mine = _column([None if k is None else values[k] for k in at])
        if name not in {"image_id", "slice", "patient_id", "site"} and len(set(mine.tolist())) > 1:
            found[name.replace("_", " ")] = mine
    return found


def kinds(values: npt.NDArray[Any]) -> tuple[list[str], list[str]]:
    """Return a level for every row and the levels in order, few enough for a key.

    Numbers become quarters; of many names the most frequent stay and the rest is one level.
    """
    if any(isinstance(v, float) for v in values):
        return _quarters(values)
    named = [text.NOT_KNOWN if v is None else str(v) for v in values]
    ranked = [n for n, _ in Counter(named).most_common()]
    if len(ranked) > MOST_KINDS:
        kept = set(ranked[: MOST_KINDS - 1])
        named = [n if n in kept else text.OTHERS for n in named]
        ranked = [n for n, _ in Counter(named).most_common()]
    return named, sorted(ranked, key=lambda n: (n in {text.OTHERS, text.NOT_KNOWN}, n))


def _quarters(values: npt.NDArray[Any]) -> tuple[list[str], list[str]]:
    numbers = np.array([np.nan if v is None else float(v) for v in values])
    known = np.isfinite(numbers)
    if not known.any():
        return [text.NOT_KNOWN] * len(values), [text.NOT_KNOWN]
    cuts = np.unique(np.quantile(numbers[known], (0.0, *QUARTERS, 1.0)))
    place = np.clip(np.searchsorted(cuts, numbers, side="right") - 1, 0, max(0, len(cuts) - 2))
    ends = [(cuts[k], cuts[min(k + 1, len(cuts) - 1)]) for k in range(max(1, len(cuts) - 1))]
    names = [text.QUARTER.format(low=low, high=high) for low, high in ends]
    named = [names[p] if ok else text.NOT_KNOWN for p, ok in zip(place, known, strict=True)]
    return named, [n for n in dict.fromkeys([*names, text.NOT_KNOWN]) if n in set(named)]


def shared(one: Atlas, two: Atlas) -> tuple[Atlas, Atlas] | None:
    """Return both with the pictures that both embedded, in one order; None where they share few."""
    place = {key: k for k, key in enumerate(two.keys)}
    mine = [k for k, key in enumerate(one.keys) if key in place]
    if len(mine) < 3:
        return None
    theirs = [place[one.keys[k]] for k in mine]
    return one.take(np.array(mine)), two.take(np.array(theirs))


def open_pictures(entry: Entry) -> Store:
    """Open the store that a run's pictures came from.

    Raises:
        MedsslError: the cohort or the store is gone, or the run does not say how it decoded.
    """
    if entry.cohort is None:
        raise NothingUsableError(text.NO_COHORT, "E-NOCOHORT")
    where = [p / "classifier.json" for p in (entry.path, *entry.parents("classifier.json"))]
    file = next((f for f in where if f.is_file()), where[0])
    with records.reading(file):
        told = json.loads(file.read_text(encoding="utf-8"))
        decode = DecodeConfig.model_validate(told["decode"])
    with records.reading(entry.cohort / "store"):
        return store_room.open_store(entry.cohort, decode)


def grey(planes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Return stored pictures as a screen shows them."""
    return (planes >> 8).astype(np.uint8)


def thumbnails(store: Store, keys: Sequence[Key]) -> list[npt.NDArray[np.uint8] | None]:
    """Return small pictures of some keys; None for one that the store does not hold."""
    images, slices = store.column("image_id"), store.column("slice")
    place = {(str(i), int(s)): k for k, (i, s) in enumerate(zip(images, slices, strict=True))}
    rows = [place.get(key) for key in keys]
    with records.reading(store.path):
        held = store.pictures(np.array([r for r in rows if r is not None], dtype=np.int64))
    found = iter(grey(held))
    return [None if r is None else next(found) for r in rows]
