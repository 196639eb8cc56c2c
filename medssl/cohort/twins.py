"""Pictures that are one picture twice: equal copies by digest, near copies by a spectral hash.

A near copy was re-encoded, re-windowed, resized, shifted, cropped a little, mirrored or inverted.
The hash compares neighbouring magnitudes of the Fourier transform of the flattened picture; a shift
changes phases only, so it costs few bits. Candidates are all pairs within ``MAX_DISTANCE`` bits:
such hashes agree in a few of their bands (the pigeonhole argument of multi-index hashing, Norouzi
et al. 2012), so only pictures with equal bands meet. The aligned pictures then confirm or reject.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.errors import MedsslError, NothingUsableError, RefusedError
from medssl.files import atomic

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]
Planes = Callable[[IntArray], npt.NDArray[np.uint16]]
Reader = Callable[[IntArray], tuple[Floats, IntArray]]
Kind = Literal["exact", "near", "mirrored", "negative"]

TWINS_VERSION = 1
FILE = "twins.parquet"
BITS = 96
MAX_DISTANCE = 14
MIN_CORRELATION, SLICE_CORRELATION, SAME_PATIENT_CORRELATION = 0.95, 0.96, 0.99
CONSTANT, MIN_CONTRAST, HOPELESS = 1e-4, 0.01, 0.6
SIDE = 0.9  # the outer twentieth holds markers, collimator edges and burnt-in borders
WINDOWS = ((1.0, 1.0), (0.955, 0.955), (0.91, 0.91), (0.91, 1.0), (1.0, 0.91))
HASH_GRID, LOOK_GRID = 32, 64
REACH = 8  # pixels of LOOK_GRID
FLOOR = 0.05
BLOCK = 256
CROWD, NEIGHBOURS, MOST = 2048, 256, 32
AT_ONCE, COMPACT = 1 << 18, 1 << 21
OWNER = (("image_id", pa.string()), ("slice", pa.int32()), ("patient", pa.string()))
VERDICT = (("kind", pa.string()), ("distance", pa.int32()), ("correlation", pa.float64()))
SCHEMA = pa.schema([*((f"{n}_{side}", t) for side in "ab" for n, t in OWNER), *VERDICT])


@dataclass(frozen=True)
class Pair:
    """Two rows that hold one picture.

    Attributes:
        a, b: rows, ``a < b``.
        kind: ``exact`` (equal stored pixels), ``near``, ``mirrored`` (flipped along one axis or
            both) or ``negative`` (black and white exchanged).
        distance: bits of the hash that differ, of ``BITS``.
        correlation: of the two flattened pictures after alignment, 0 to 1.
    """

    a: int
    b: int
    kind: Kind
    distance: int
    correlation: float


@dataclass(frozen=True)
class Search:
    """What a search found, and what it could not compare.

    Attributes:
        pairs: sorted by rows; n equal pictures are n - 1 pairs with the first of them.
        rows: pictures given.
        blank: pictures with next to no contrast, compared for equality only.
        crowded: pictures with so many look-alikes that only the nearest were compared.
    """

    pairs: tuple[Pair, ...]
    rows: int
    blank: int
    crowded: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a sentence about everything that was left out."""
        blank = "of {} pictures have next to no contrast; only equal copies of them are found."
        crowd = "of {} pictures resemble over {} others; only the nearest were compared. See them."
        counts = ((self.blank, blank), (self.crowded, crowd))
        return tuple(f"{n} {words.format(self.rows, MOST)}" for n, words in counts if n)


def find(
    count: int, planes: Planes, digests: Array, *, images: Array, patients: Array, boxes: IntArray
) -> Search:
    """Find the pictures that occur twice.

    Slices of one image are never a pair. Slices of two volumes are one only at ``SLICE_CORRELATION``,
    pictures of one patient at ``SAME_PATIENT_CORRELATION``: two visits resemble each other.

    Args:
        count: number of stored pictures, n.
        planes: returns uint16 ``[m, S, S]`` of the rows asked for.
        digests: digest of every picture's pixels, ``[n]``.
        images, patients: owner of every picture, ``[n]``.
        boxes: (top, left, height, width) of every picture in its square, pixels, ``[n, 4]``.

    Raises:
        MedsslError: columns of different lengths.
    """
    lengths = [len(v) for v in (digests, images, patients, boxes)]
    if set(lengths) != {count}:
        words = f"{count} pictures, but columns of {lengths} rows. Decode the cohort again."
        raise MedsslError(words, "E-TWINS")
    image, patient, code = (_codes(v) for v in (images, patients, digests))
    order = np.argsort(code, kind="stable")
    # In the order of the digests, so that the order of the rows decides nothing.
    groups = np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if count else []
    heads = np.array([g[0] for g in groups], dtype=np.int64)

    def look(rows: IntArray) -> tuple[Floats, IntArray]:
        return planes(rows).astype(np.float32) / np.float32(65535), boxes[rows]

    hashes, contrast = _hash_all(look, heads)
    full = contrast >= MIN_CONTRAST
    pairs = [
        Pair(int(group[0]), int(row), "exact", 0, 1.0)
        for group, seen in zip(groups, contrast >= CONSTANT, strict=True)
        for row in group[1:]
        if seen and image[row] != image[group[0]]
    ]
    near, crowded = _near(look, heads[full], hashes[:, full], image, patient)
    pairs += near
    blank = sum(len(g) for g, seen in zip(groups, full, strict=True) if not seen)
    return Search(tuple(sorted(pairs, key=lambda p: (p.a, p.b))), count, blank, crowded)


def _codes(values: Array) -> IntArray:
    return np.unique(values.astype(str), return_inverse=True)[1]


def _cut(stored: Floats, boxes: IntArray, sides: Floats, grid: int) -> Floats:
    """Return ``[m, grid, grid]``: area means of the central ``sides`` [m, 2] of every box."""
    rows = _area(boxes[:, 0], boxes[:, 2], sides[:, 0], stored.shape[1], grid)
    columns = _area(boxes[:, 1], boxes[:, 3], sides[:, 1], stored.shape[2], grid)
    out: Floats = rows @ stored @ columns.transpose(0, 2, 1)
    return out


def _area(start: IntArray, length: IntArray, share: Floats, n: int, grid: int) -> Floats:
    """Return weights ``[m, grid, n]`` that average the pixels under every cell of a window."""
    kinds, place = np.unique(np.stack([start, length, share], axis=1), axis=0, return_inverse=True)
    first, size, part = kinds.T[..., None]
    edges = first + size * (0.5 + part * (np.linspace(0, 1, grid + 1) - 0.5))
    x = np.arange(n)
    weights = np.minimum(edges[:, 1:, None], x + 1) - np.maximum(edges[:, :-1, None], x)
    weights = np.clip(weights, 0, None)
    out: Floats = (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)
    return out[place.reshape(-1)]


def _blur(pictures: Floats, sigma: float) -> Floats:
    x = np.arange(pictures.shape[1])
    weights = np.exp(-0.5 * ((x[:, None] - x) / sigma) ** 2)
    kernel = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    out: Floats = kernel @ pictures @ kernel.T
    return out


def _flatten(pictures: Floats, wide: float, reach: float, floor: float) -> Floats:
    """Return local contrast ``[m, g, g]``: window, gamma and shading are taken out.

    ``wide``: sigma of the blur that removes detail, pixels; ``reach``: sigma over which its strength
    is levelled; ``floor``: share of the mean power below which detail counts as noise.
    """
    detail = pictures - _blur(pictures, wide)
    typical = detail.var(axis=(1, 2), keepdims=True)
    out: Floats = detail / np.sqrt(_blur(detail * detail, reach) + floor * typical + 1e-12)
    return out


def _taper(grid: int) -> Floats:
    edge = np.sin(np.pi * (np.arange(grid) + 0.5) / grid).astype(np.float32)
    return edge[:, None] * edge


def _hash(pictures: Floats) -> tuple[Bits, Bits]:
    """Return the hashes ``[m, BITS]`` of ``[m, 32, 32]`` and of their mirror images."""
    half = range(1 - HASH_GRID // 2, HASH_GRID // 2)
    plane = [(u, v) for v in half for u in half if v > 0 or (v == 0 and u > 0)]
    u, v = np.array(
        sorted(plane, key=lambda p: p[0] ** 2 + p[1] ** 2)[2 : BITS + 2]
    ).T  # the two lowest are shading
    size = np.abs(np.fft.rfft2(_flatten(pictures, 4, 4, 0.09) * _taper(HASH_GRID)))
    falls = size[:, :, :-1] - size[:, :, 1:] > FLOOR
    return falls[:, u, v], falls[:, -u, v]


def _hash_all(look: Reader, rows: IntArray) -> tuple[Hashes, Floats]:
    """Return hashes ``[windows + 1, m, 2]`` (the mirrored last) and the contrast ``[m]``."""
    codes = np.zeros((len(WINDOWS) + 1, len(rows), 16), np.uint8)
    contrast = np.zeros(len(rows))
    for low in range(0, len(rows), BLOCK):
        here = slice(low, low + BLOCK)
        stored, box = look(rows[here])
        for k, window in enumerate(WINDOWS):
            sides = np.tile(SIDE * np.array(window), (len(stored), 1))
            pictures = _cut(stored, box, sides, HASH_GRID)
            plain, mirrored = _hash(pictures)
            codes[k, here, : BITS // 8] = np.packbits(plain, axis=1)
            if k == 0:
                codes[-1, here, : BITS // 8] = np.packbits(mirrored, axis=1)
                contrast[here] = pictures.std(axis=(1, 2))
    return codes.view(np.uint64), contrast


def _shape(count: int) -> tuple[int, int]:
    """Return (bands, how many of them must match) of least work for so many pictures."""
    # At most MAX_DISTANCE bands can differ, so of MAX_DISTANCE + k at least k are equal.
    ways = [(math.comb(MAX_DISTANCE + k, k), MAX_DISTANCE + k, k) for k in (2, 3, 4)]
    return min(ways, key=lambda w: w[0] * (1 + 2 * count / 2 ** (BITS / w[1] * w[2])))[1:]


def _bands(hashes: Hashes, bands: int) -> npt.NDArray[np.uint8]:
    """Return the value of every band ``[m, bands]`` of hashes ``[m, 2]``."""
    # Every band takes every so many-th bit, because neighbouring bits are related.
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)[:, :BITS]
    values = [np.packbits(bits[:, k::bands], axis=1, bitorder="little")[:, 0] for k in range(bands)]
    return np.stack(values, axis=1)


def _candidates(hashes: Hashes, image: IntArray) -> tuple[IntArray, Bits]:
    """Return every pair of different images within ``MAX_DISTANCE`` bits, and who was crowded.

    Returns:
        (query place, base place, query's window, bits that differ) ``[k, 4]``, and bool ``[m]``.
    """
    bands, matched = _shape(hashes.shape[1])
    values = [_bands(h, bands) for h in hashes]
    by_word = np.argsort(hashes[0, :, 0], kind="stable")
    crowd = np.zeros(hashes.shape[1], bool)
    parts, fresh = [np.zeros((0, 4), np.int64)], 0
    for chosen in itertools.combinations(range(bands), matched):
        keys = [_key(v, chosen, bands) for v in values]
        # Stable, so pictures of one key stay in the order of their first word.
        order = by_word[np.argsort(keys[0][by_word], kind="stable")]
        start = np.concatenate([[0], np.cumsum(np.bincount(keys[0])), [len(order)]])
        words = hashes[0, order, 0]
        for window, key in enumerate(keys):
            place = np.minimum(key.astype(np.int64), len(start) - 2)
            low, high = start[place], start[place + 1]
            crowd |= _thin(low, high, words, hashes[window, :, 0])
            for query, base in _meet(low, high, order):
                part = _apart(hashes[window], hashes[0], query, base)
                part = part[image[part[:, 0]] != image[part[:, 1]]]
                part[:, 2] = window
                parts.append(part)
                fresh += len(part)
        if fresh > COMPACT:
            parts, fresh = [_nearest(np.concatenate(parts), crowd)], 0
    return _nearest(np.concatenate(parts), crowd), crowd


def _apart(one: Hashes, two: Hashes, query: IntArray, base: IntArray) -> IntArray:
    """Return (query, base, 0, bits that differ) ``[k, 4]`` of the pairs that are near."""
    first = np.bitwise_count(one[query, 0] ^ two[base, 0])
    near = np.flatnonzero(first <= MAX_DISTANCE)
    query, base = query[near], base[near]
    apart = first[near] + np.bitwise_count(one[query, 1] ^ two[base, 1])
    out: IntArray = np.stack((query, base, np.zeros_like(query), apart), axis=1)
    return np.asarray(out[apart <= MAX_DISTANCE])


def _key(values: npt.NDArray[np.uint8], chosen: tuple[int, ...], bands: int) -> Array:
    """Return the values of the chosen bands as one number; small ones sort in linear time."""
    widths = [len(range(c, BITS, bands)) for c in chosen]
    key = np.zeros(len(values), np.int64)
    for c, width in zip(chosen, widths, strict=True):
        key = (key << width) | values[:, c]
    return key.astype(np.uint16) if sum(widths) <= 16 else key


def _thin(low: IntArray, high: IntArray, words: Array, wanted: Array) -> Bits:
    """Narrow ranges longer than ``CROWD`` to the neighbours by first word; return which were."""
    crowded = high - low > CROWD
    for row in np.flatnonzero(crowded):
        first, last = int(low[row]), int(high[row])
        middle = first + int(np.searchsorted(words[first:last], wanted[row]))
        low[row] = min(max(first, middle - NEIGHBOURS // 2), last - NEIGHBOURS)
        high[row] = low[row] + NEIGHBOURS
    return np.asarray(crowded)


def _meet(low: IntArray, high: IntArray, order: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield (query, base) places, ``AT_ONCE``: base from ``order[low:high]``."""
    sizes = high - low
    ends = np.cumsum(sizes)
    edges = np.searchsorted(ends, np.arange(0, ends[-1] + AT_ONCE, AT_ONCE))
    for first, last in itertools.pairwise([*edges.tolist(), len(sizes)]):
        size = sizes[first:last]
        query = np.repeat(np.arange(first, last), size)
        step = np.arange(len(query)) - np.repeat(np.cumsum(size) - size, size)
        base = order[np.repeat(low[first:last], size) + step]
        yield query[query != base], base[query != base]


def _nearest(found: IntArray, crowd: Bits) -> IntArray:
    """Keep of every pair its best window, of every picture its nearest ``MOST``; mark who lost."""
    low, high = found[:, :2].min(axis=1), found[:, :2].max(axis=1)
    order = np.lexsort((found[:, 0], found[:, 2], found[:, 3], high, low))
    repeated = (np.diff(low[order], prepend=-1) == 0) & (np.diff(high[order], prepend=-1) == 0)
    found = found[order[~repeated]]
    keep = np.zeros(len(found), bool)
    for side in found[:, :2].T:
        order = np.lexsort((found[:, 3], side))
        place = np.arange(len(order)) - np.searchsorted(side[order], side[order])
        keep[order[place < MOST]] = True
    crowd[found[~keep, :2]] = True
    return found[keep]


def _near(
    look: Reader, rows: IntArray, hashes: Hashes, image: IntArray, patient: IntArray
) -> tuple[list[Pair], int]:
    """Return the confirmed near pairs of these rows, and how many rows were crowded."""
    if len(rows) < 2:
        return [], 0
    found, crowd = _candidates(hashes, image[rows])
    # Slices of any two heads resemble each other, and a copied volume shows in many of them.
    least = np.where(np.bincount(image)[image] > 1, SLICE_CORRELATION, MIN_CORRELATION)
    pairs = []
    for part in np.array_split(found, len(found) // BLOCK + 1):
        for place, (kind, score) in zip(part, _compare(look, rows, part), strict=True):
            a, b = sorted(rows[place[:2]].tolist())
            same = SAME_PATIENT_CORRELATION if patient[a] == patient[b] else 0
            if score >= max(least[a], least[b], same):
                pairs.append(Pair(a, b, kind, int(place[3]), round(score, 4)))
    return pairs, int(crowd.sum())


def _compare(look: Reader, rows: IntArray, found: IntArray) -> Iterator[tuple[Kind, float]]:
    """Yield kind and correlation of every candidate ``[m, 4]``, in its likeliest pose."""
    if not len(found):
        return
    sides = SIDE * np.array([*WINDOWS, (1.0, 1.0)])
    mirrored = found[:, 2] == len(WINDOWS)
    one = _cut(*look(rows[found[:, 0]]), sides[found[:, 2]], LOOK_GRID)
    two = _cut(*look(rows[found[:, 1]]), sides[np.zeros_like(found[:, 1])], LOOK_GRID)
    one[mirrored] = one[mirrored, :, ::-1]
    one, two = (_blur(_flatten(p, 2.7, 4, 0.02), 0.7) for p in (one, two))
    upright, turned = _peaks(one, two), _peaks(one[:, ::-1, ::-1], two)
    for k, turn in enumerate(turned[0] > upright[0]):
        _, down, right = (turned if turn else upright)[:, k]
        value = _aligned(one[k, ::-1, ::-1] if turn else one[k], two[k], int(down), int(right))
        flipped: Kind = "mirrored" if turn or mirrored[k] else "near"
        yield "negative" if value < 0 else flipped, abs(value)


def _peaks(one: Floats, two: Floats) -> Floats:
    """Return height and shift (down, right) of the strongest cross-correlation, ``[3, m]``."""
    taper = _taper(LOOK_GRID)
    spectra = np.conj(np.fft.rfft2(one * taper)) * np.fft.rfft2(two * taper)
    span = np.arange(-REACH, REACH + 1)
    near = np.abs(np.fft.irfft2(spectra)[:, span[:, None], span]).reshape(len(one), -1)
    down, right = np.divmod(near.argmax(axis=1), len(span))
    return np.stack([near.max(axis=1), down - REACH, right - REACH])


def _aligned(one: Floats, two: Floats, down: int, right: int) -> float:
    """Return the correlation where the pictures overlap, the second shifted back; below 0 inverted.

    What a small affine motion explains (to first order, as in Lucas and Kanade 1981) is not held
    against the pair: half a pixel, one per cent of size and one degree part no copies.
    """
    n = len(one)
    a = one[max(0, -down) : n - max(0, down), max(0, -right) : n - max(0, right)]
    b = two[max(0, down) : n + min(0, down), max(0, right) : n + min(0, right)]
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    plain = float((a * b).sum()) / scale if scale > 0 else 0.0
    if abs(plain) < HOPELESS:
        return plain
    falls, runs = np.gradient(a)
    y, x = (np.linspace(-1, 1, k, dtype=np.float32) for k in a.shape)
    terms = (a, falls, runs, y[:, None] * falls, x * falls, y[:, None] * runs, x * runs)
    basis = np.stack(terms).reshape(len(terms), -1)
    basis -= basis.mean(axis=1, keepdims=True)
    gram = (basis @ basis.T).astype(np.float64)
    gram[np.diag_indices(len(terms))] += 1e-6 * np.trace(gram)
    weights = np.linalg.solve(gram, (basis @ b.ravel()).astype(np.float64))
    fit = weights @ basis
    return float(np.sign(plain) * (fit @ b.ravel()) / np.sqrt((fit @ fit) * (b * b).sum()))


def write(
    root: Path, search: Search, store: str, images: Array, slices: Array, patients: Array
) -> None:
    """Write ``twins.parquet`` into a cohort: the pairs with their owners, thresholds as metadata.

    Args:
        store: digest of the store whose rows were searched.
        images, slices, patients: owner columns of that store, ``[n]``.
    """
    rows = []
    for pair in search.pairs:
        row: dict[str, Any] = {n: getattr(pair, n) for n in ("kind", "distance", "correlation")}
        for name, place in (("a", pair.a), ("b", pair.b)):
            row |= {f"image_id_{name}": images[place], f"patient_{name}": patients[place]}
            row[f"slice_{name}"] = int(slices[place])
        rows.append(row)
    facts: dict[str, object] = {"medssl_twins": TWINS_VERSION, "store": store, "rows": search.rows}
    facts |= {"max_distance": MAX_DISTANCE, "min_correlation": MIN_CORRELATION}
    facts |= {"slice_correlation": SLICE_CORRELATION}
    facts |= {"same_patient_correlation": SAME_PATIENT_CORRELATION}
    facts |= {"blank": search.blank, "crowded": search.crowded}
    schema = SCHEMA.with_metadata({k: str(v) for k, v in facts.items()})
    with atomic(root / FILE) as out:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), out)


def read(root: Path) -> pa.Table:
    """Read the pairs of a cohort, columns as ``SCHEMA``, thresholds in the schema's metadata.

    Raises:
        NothingUsableError: no pairs were looked for yet; says the command.
        RefusedError: written by another version.
    """
    path = root / FILE
    if not path.is_file():
        words = f"{root}: no {FILE}, so near copies are not known. Run: medssl decode {root}"
        raise NothingUsableError(words, "E-NOTWINS")
    table = pq.read_table(path)
    version = (table.schema.metadata or {}).get(b"medssl_twins", b"?").decode()
    if version != str(TWINS_VERSION) or table.schema.names != SCHEMA.names:
        words = f"{path}: version {version}, this medssl reads {TWINS_VERSION}. Decode again."
        raise RefusedError(words, "E-SCHEMA")
    return table


def suspects(root: Path, owner: dict[str, str]) -> list[tuple[str, str]]:
    """Return the pairs of patients who share a picture; ``owner`` is who has each image now."""
    table = read(root) if (root / FILE).is_file() else SCHEMA.empty_table()
    images = (table.column(f"image_id_{n}").to_pylist() for n in "ab")
    both = [(owner.get(a), owner.get(b)) for a, b in zip(*images, strict=True)]
    return sorted({(min(a, b), max(a, b)) for a, b in both if a and b and a != b})
