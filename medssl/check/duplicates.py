"""The same picture twice, and what crosses the split: who is trained on must not be tested on."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medssl.check.health import Cell, Finding, Level, Part, Section, Table, finding
from medssl.check.pictures import FLAT, ends, sample
from medssl.cohort.split import SPLITS, UNLABELLED
from medssl.errors import RefusedError
from medssl.store import STORED_MAX, Store

MOST_GROUPS = 5000
TWINS = ("image_id_a", "patient_a", "image_id_b", "patient_b", "kind")
LEAK = "Encoders and classifiers of this split are void: {do}"
ANEW = (
    "remove split.parquet and run medssl split again, with --file where patients belong together."
)


def check(root: Path, manifest: pa.Table, store: Store | None) -> Section:
    """Look for repeated pictures and for leaks between the splits.

    Args:
        root: the cohort's folder.
        manifest: its table of images.
        store: where the pictures are; None looks at the split alone.
    """
    path = root / "split.parquet"
    split = pq.read_table(path) if path.is_file() else None
    findings: list[Finding] = []
    tables: tuple[Table, ...] = ()
    if split is not None:
        findings += [_leaks(split), _covered(root, manifest, split)]
        tables = (_table(manifest, split),)
    if store is not None:
        findings += _exact(store, split)
    if split is not None and (root / "links.parquet").is_file():
        findings += _linked(pq.read_table(root / "links.parquet"), split)
    if (root / "twins.parquet").is_file():
        findings += _near(pq.read_table(root / "twins.parquet"), split)
    return Section(tuple(findings), tables)


def _trained(split: pa.Table) -> pa.Table:
    """Return the split with ``unlabelled`` as ``train``: pretraining reads both."""
    free = pc.equal(split["split"], UNLABELLED)
    place = pc.if_else(free, SPLITS[0], split["split"])
    return pa.table({"patient_id": split["patient_id"], "place": place})


def _leaks(split: pa.Table) -> Finding:
    places = split.group_by("patient_id").aggregate([("split", "count_distinct")])
    torn = places.filter(pc.greater(places["split_count_distinct"], 1))
    if torn.num_rows:
        words = "{n} patients stand in two splits ({first} first). " + LEAK
        first = pc.min(torn["patient_id"]).as_py()
        return finding("stop", "H-LEAK", words, n=torn.num_rows, first=first, do=ANEW)
    words = "None of {n} patients stands in two splits."
    return finding("ok", "H-LEAK", words, n=places.num_rows)


def _covered(root: Path, manifest: pa.Table, split: pa.Table) -> Finding:
    here = pc.unique(manifest["patient_id"])
    placed = pc.is_in(here, value_set=pc.unique(split["patient_id"]))
    new = len(here) - int(pc.sum(placed).as_py() or 0)
    if new:
        words = "{n} patients joined after the split. Run: medssl split {root} --seed 0"
        late = pa.table({"patient_id": here.filter(pc.invert(placed))})
        images = manifest.join(late, "patient_id", join_type="inner")["image_id"]
        names = images.slice(0, 20).to_pylist()
        return finding("warn", "H-SPLIT-OLD", words, names, n=new, root=str(root))
    return finding("ok", "H-SPLIT-OLD", "Every patient has a place in the split.")


def _table(manifest: pa.Table, split: pa.Table) -> Table:
    images = manifest.group_by("patient_id").aggregate([("image_id", "count")])
    joined = split.join(images, "patient_id", join_type="left outer")
    groups = joined.group_by("split").aggregate(
        [("patient_id", "count"), ("image_id_count", "sum")]
    )
    rows = tuple(
        (r["split"], Part(r["patient_id_count"], split.num_rows), r["image_id_count_sum"] or 0)
        for r in groups.sort_by("split").to_pylist()
    )
    return Table("Split", ("split", "patients", "images"), rows)


def _exact(store: Store, split: pa.Table | None) -> list[Finding]:
    rows = _repeated(store)
    if rows is None:
        return [finding("ok", "H-DUPLICATE", "No stored picture occurs in two images.")]
    owners = rows.group_by("pixels").aggregate([("patient_id", "count_distinct")])
    several = pc.greater(owners["patient_id_count_distinct"], 1)
    out = []
    for level, which, words in (
        ("note", pc.invert(several), "in several images of one patient ({images} images): they "
         "count as different pictures in pairs and batches. Drop all but one where that matters."),
        ("warn", several, "in images of different patients ({images} images): perhaps one person "
         "under two names. medssl split keeps such patients together; ask the archive."),
    ):  # fmt: skip
        digests = owners["pixels"].filter(which)
        if not len(digests):
            continue
        here = rows.filter(pc.is_in(rows["pixels"], value_set=digests))
        names = pc.unique(here.sort_by("pixels")["image_id"])
        kind: Level = "warn" if level == "warn" else "note"
        told: dict[str, Cell] = {"n": len(digests), "images": len(names)}
        text = "{n} stored pictures occur, exactly alike, " + words
        out.append(finding(kind, "H-DUPLICATE", text, names[:20].to_pylist(), **told))
    return [*out, *([] if split is None else [_crossing(rows, _trained(split))])]


def _repeated(store: Store) -> pa.Table | None:
    """Return image, patient and digest of every picture that two images share; flat ones are not one."""
    index = store.index.select(["image_id", "patient_id", "pixels"])
    counts = index.group_by("pixels").aggregate([("image_id", "count_distinct")])
    shared = counts["pixels"].filter(pc.greater(counts["image_id_count_distinct"], 1))
    size = store.config.size
    numbers = (size**2, 3 * size**2, size**3)  # grey, colours, whole volumes
    black = pa.array([hashlib.sha256(bytes(2 * n)).hexdigest() for n in numbers])
    shared = shared.filter(pc.invert(pc.is_in(shared, value_set=black)))
    looked = shared.take(pa.array(sample(len(shared), MOST_GROUPS)))
    first = pc.index_in(looked, value_set=index["pixels"].combine_chunks())
    flat = [not _pictured(store, row) for row in first.to_pylist()]
    shared = shared.filter(
        pc.invert(pc.is_in(shared, value_set=looked.filter(pa.array(flat, pa.bool_()))))
    )
    return index.filter(pc.is_in(index["pixels"], value_set=shared)) if len(shared) else None


def _pictured(store: Store, row: int) -> bool:
    """Return whether a stored picture shows more than one value; a damaged one is taken to."""
    try:
        plane = store.luminance(np.array([row]))[0]
    except (RefusedError, IndexError, OSError, ValueError):
        return True
    unit = plane.reshape(1, -1, plane.shape[-1]).astype(np.float32) / STORED_MAX
    return bool(ends(unit)[0][0] < FLAT)


def _crossing(rows: pa.Table, trained: pa.Table) -> Finding:
    placed = rows.join(trained, "patient_id", join_type="inner")
    places = placed.group_by("pixels").aggregate([("place", "count_distinct")])
    torn = places["pixels"].filter(pc.greater(places["place_count_distinct"], 1))
    if not len(torn):
        words = "No exact copy crosses the split."
        return finding("ok", "H-DUPLICATE-SPLIT", words)
    here = placed.filter(pc.is_in(placed["pixels"], value_set=torn))
    names = pc.unique(here.sort_by("pixels")["image_id"])
    words = "{n} pictures lie, exactly alike, in two splits ({images} images). " + LEAK
    told: dict[str, Cell] = {"n": len(torn), "images": len(names), "do": ANEW}
    return finding("stop", "H-DUPLICATE-SPLIT", words, names[:20].to_pylist(), **told)


def _linked(links: pa.Table, split: pa.Table) -> list[Finding]:
    """Look at pairs of patients that the scan took for one person under two identifiers."""
    if not {"patient_a", "patient_b"} <= set(links.column_names):
        return []
    torn = _torn(links, _trained(split))
    if not torn.num_rows:
        words = "None of {n} suspected pairs of identifiers of one person lies in two splits."
        return [finding("ok", "H-LINKS-SPLIT", words, n=links.num_rows)]
    words = (
        "{n} pairs of patients may be one person each and lie in two splits ({a} and {b} first). "
    )
    words += "If private/merge.csv convinces you, " + ANEW
    a, b = (torn[name][0].as_py() for name in ("patient_a", "patient_b"))
    return [finding("warn", "H-LINKS-SPLIT", words, n=torn.num_rows, a=a, b=b)]


def _near(twins: pa.Table, split: pa.Table | None) -> list[Finding]:
    absent = [name for name in TWINS if name not in twins.column_names]
    if absent:
        words = "twins.parquet lacks the columns {absent}, so near duplicates were not counted. Make it anew."
        return [finding("warn", "H-TWINS", words, absent=", ".join(absent))]
    pairs = twins.filter(pc.not_equal(twins["kind"], "exact"))
    across = pairs.filter(pc.not_equal(pairs["patient_a"], pairs["patient_b"]))
    told: dict[str, Cell] = {"pairs": pairs.num_rows, "across": across.num_rows}
    if not across.num_rows:
        words = "Near duplicates: {pairs} pairs, none across patients."
        return [finding("ok", "H-TWINS", words, **told)]
    words = "Near duplicates: {across} of {pairs} pairs are of different patients; look whether they are one."
    out = [finding("warn", "H-TWINS", words, _both(across), **told)]
    if split is not None:
        torn = _torn(across, _trained(split))
        words = "{n} pairs of near duplicates of different patients lie in two splits. "
        words += "If a look confirms them, " + ANEW
        if torn.num_rows:
            out.append(finding("warn", "H-TWINS-SPLIT", words, _both(torn), n=torn.num_rows))
    return out


def _torn(pairs: pa.Table, trained: pa.Table) -> pa.Table:
    names = trained["patient_id"].combine_chunks()
    a, b = (
        trained["place"].take(pc.index_in(pairs[column], value_set=names))
        for column in ("patient_a", "patient_b")
    )
    return pairs.filter(pc.fill_null(pc.not_equal(a, b), fill_value=False))


def _both(pairs: pa.Table) -> list[str]:
    rows = zip(
        *(pairs[c].slice(0, 10).to_pylist() for c in ("image_id_a", "image_id_b")), strict=True
    )
    return list(dict.fromkeys(name for pair in rows for name in pair))
