"""Twins against brute force: every pair compared, bits counted in Python, copies made by Pillow."""

import dataclasses
import hashlib
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from medssl.cohort import twins
from medssl.errors import MedsslError, NothingUsableError, RefusedError

SIDE = 64
ROWS, COLUMNS = 150, 190


def picture(seed, rows=ROWS, columns=COLUMNS):
    """A grey picture 0 to 255 with structure at several scales, as no other seed gives."""
    rng = np.random.default_rng(seed)
    layers = [rng.normal(size=(rows, columns)) for _ in range(3)]
    soft = [gaussian_filter(n, s) * s for n, s in zip(layers, (3, 8, 25), strict=True)]
    total = sum(soft)
    return (255 * (total - total.min()) / np.ptp(total)).astype(np.float32)


def letterbox(grey):
    """Store a picture as decode does: scaled to uint16, fitted into a square, zeros around."""
    unit = (grey - grey.min()) / max(float(np.ptp(grey)), 1e-6)
    scale = SIDE / max(grey.shape)
    rows, columns = (max(1, round(n * scale)) for n in grey.shape)
    small = Image.fromarray(unit.astype(np.float32)).resize(
        (columns, rows), Image.Resampling.BILINEAR
    )
    box = ((SIDE - rows) // 2, (SIDE - columns) // 2, rows, columns)
    out = np.zeros((SIDE, SIDE), np.uint16)
    out[box[0] : box[0] + rows, box[1] : box[1] + columns] = np.rint(np.asarray(small) * 65535)
    return out, box


def search(greys, images=None, patients=None, stored=None):
    """Search a list of grey pictures; each its own image and patient where not said otherwise."""
    pairs = [letterbox(g) for g in greys] if stored is None else stored
    planes = np.stack([p for p, _ in pairs])
    digests = [hashlib.sha256(p.tobytes()).hexdigest() for p in planes]
    names = [f"x{k}" for k in range(len(planes))]
    return twins.find(
        len(planes),
        lambda rows: planes[rows],
        np.array(digests, object),
        images=np.array(names if images is None else images, object),
        patients=np.array(names if patients is None else patients, object),
        boxes=np.array([b for _, b in pairs], np.int64),
    )


def found(result):
    return {(p.a, p.b): p.kind for p in result.pairs}


def jpeg(grey, quality):
    stream = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), np.float32)


def resized(grey, factor):
    size = (round(grey.shape[1] * factor), round(grey.shape[0] * factor))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))


def moved(grey, down, right):
    """Shift with black coming in, as a re-export with another origin does."""
    out = np.zeros_like(grey)
    out[down:, right:] = grey[: grey.shape[0] - down, : grey.shape[1] - right]
    return out


def marked(grey):
    out = grey.copy()
    out[8:20, 8:24] = 255
    out[12:16, 12:24] = 0
    return out


COPIES = {
    "jpeg": (lambda g: jpeg(g, 30), "near"),
    "half": (lambda g: resized(g, 0.5), "near"),
    "larger": (lambda g: resized(g, 1.5), "near"),
    "shifted": (lambda g: moved(g, 3, 3), "near"),
    "windowed": (lambda g: np.clip(g, *np.percentile(g, [5, 95])), "near"),
    "gamma": (lambda g: 255 * (g / 255) ** 0.6, "near"),
    "rescaled": (lambda g: 40 + g / 3, "exact or near"),
    "cropped": (lambda g: g[3:-3, 4:-4], "near"),
    "cropped at one side": (lambda g: g[:, 7:], "near"),
    "marked": (marked, "near"),
    "noisy": (lambda g: g + np.random.default_rng(1).normal(0, 6, g.shape).astype(np.float32), "near"),
    "mirrored": (lambda g: g[:, ::-1].copy(), "mirrored"),
    "upside down": (lambda g: g[::-1].copy(), "mirrored"),
    "turned": (lambda g: g[::-1, ::-1].copy(), "mirrored"),
    "inverted": (lambda g: 255 - g, "negative"),
}  # fmt: skip


class TestCopies:
    @pytest.mark.parametrize("name", COPIES)
    def test_are_found_among_others(self, name):
        """Twelve pictures, twelve copies, twelve strangers: the twelve pairs and no other."""
        change, kind = COPIES[name]
        originals = [picture(k) for k in range(12)]
        strangers = [picture(100 + k, 170, 160) for k in range(12)]
        got = found(search([*originals, *(change(g) for g in originals), *strangers]))
        assert set(got) <= {(k, k + 12) for k in range(12)}
        assert len(got) >= 11
        assert set(got.values()) <= set(kind.split(" or "))

    def test_strangers_are_never_twins(self):
        """300 pictures, 44,850 pairs, none of them a pair."""
        assert search([picture(k, 60, 80) for k in range(300)]).pairs == ()

    def test_look_alikes_are_rejected_by_sight(self, monkeypatch):
        """One anatomy, two persons: the hashes are near, the fine structure is not the same."""
        coarse = [gaussian_filter(picture(k), 4) for k in range(8)]
        alike = [
            g + 0.35 * (picture(200 + n) - gaussian_filter(picture(200 + n), 4))
            for n in range(2)
            for g in coarse
        ]
        assert search(alike).pairs == ()
        monkeypatch.setattr(twins, "MIN_CORRELATION", 0.5)
        assert {p.b - p.a for p in search(alike).pairs} == {8}

    def test_the_letterbox_is_not_seen(self):
        """Two different flat pictures share most of their square: the black above and below."""
        flat = [picture(k, 60, 200) for k in range(40)]
        assert search(flat).pairs == ()
        assert found(search([flat[0], jpeg(flat[0], 40)])) == {(0, 1): "near"}

    def test_a_pair_is_told_fully(self):
        grey = picture(3)
        (pair,) = search([picture(5), grey, jpeg(grey, 60)]).pairs
        assert (pair.a, pair.b, pair.kind) == (1, 2, "near")
        assert 0 <= pair.distance <= twins.MAX_DISTANCE
        assert twins.MIN_CORRELATION <= pair.correlation <= 1


class TestEqual:
    def test_a_group_is_a_star_around_its_first(self):
        a, b = letterbox(picture(1)), letterbox(picture(2))
        result = search(None, stored=[b, a, b, b, a])
        assert found(result) == {(0, 2): "exact", (0, 3): "exact", (1, 4): "exact"}
        assert {(p.distance, p.correlation) for p in result.pairs} == {(0, 1.0)}

    def test_blank_pictures_are_never_twins(self):
        """All zero, all equal, or equal inside their box: nothing is there to recognise."""
        grey = np.zeros((SIDE, SIDE), np.uint16)
        full = (0, 0, SIDE, SIDE)
        inside = grey.copy()
        inside[20:44] = 30000
        blanks = [(grey, full)] * 3 + [(grey + 700, full)] * 2 + [(inside, (20, 0, 24, SIDE))] * 2
        result = search(None, stored=[*blanks, letterbox(picture(1))])
        assert result.pairs == ()
        assert result.blank == 7
        assert "7 of 8 pictures have next to no contrast" in result.notes[0]

    def test_faint_pictures_are_compared_for_equality_only(self):
        faint = (letterbox(picture(4))[0] // 200, (0, 0, SIDE, SIDE))
        other = (letterbox(jpeg(picture(4), 60))[0] // 200, (0, 0, SIDE, SIDE))
        result = search(None, stored=[faint, faint, other])
        assert found(result) == {(0, 1): "exact"}
        assert result.blank == 3


class TestOwners:
    def test_slices_of_one_volume_are_never_twins(self):
        grey = picture(1)
        stack = [grey, grey, jpeg(grey, 50), moved(grey, 2, 2), picture(2)]
        assert search(stack, images=["v"] * 5).pairs == ()
        assert set(found(search(stack, images=["v", "v", "v", "v", "w"]))) == set()
        two = found(search([*stack, jpeg(grey, 70)], images=["v"] * 5 + ["w"]))
        assert two
        assert all(b == 5 for _, b in two)

    def test_one_patient_needs_a_nearer_copy(self):
        """The same two pictures: twins across patients, two visits within one."""
        grey = picture(6)
        other = jpeg(moved(grey, 4, 5), 30)
        (pair,) = search([grey, other]).pairs
        assert pair.correlation < twins.SAME_PATIENT_CORRELATION
        assert search([grey, other], patients=["p", "p"]).pairs == ()
        assert found(search([grey, jpeg(grey, 80)], patients=["p", "p"])) == {(0, 1): "near"}
        assert found(search([grey, grey], patients=["p", "p"])) == {(0, 1): "exact"}

    def test_columns_of_other_lengths_are_refused(self):
        short = np.array(["a"], object)
        with pytest.raises(MedsslError, match=r"2 pictures, but columns of \[1, 1, 1, 1\] rows"):
            twins.find(
                2, None, short, images=short, patients=short, boxes=np.zeros((1, 4), np.int64)
            )

    def test_nothing_and_one_are_no_pair(self):
        none = np.array([], object)
        empty = twins.find(
            0, None, none, images=none, patients=none, boxes=np.zeros((0, 4), np.int64)
        )
        assert (empty.pairs, empty.rows, empty.notes) == ((), 0, ())
        assert search([picture(1)]).pairs == ()


def near_codes(seed, count, flips):
    """Random hashes [windows, count, 2] in families: a few parents, bits flipped at random."""
    rng = np.random.default_rng(seed)
    parents = rng.integers(0, 2, (max(1, count // 6), twins.BITS), dtype=np.uint8)
    bits = parents[rng.integers(0, len(parents), (len(twins.WINDOWS) + 1, count))]
    bits ^= (rng.random(bits.shape) < flips / twins.BITS).astype(np.uint8)
    padded = np.concatenate([bits, np.zeros((*bits.shape[:2], 128 - twins.BITS), np.uint8)], axis=2)
    return np.packbits(padded, axis=2).view(np.uint64)


def by_brute_force(codes, image):
    """The least number of differing bits of every pair, all pairs and windows, whole numbers."""
    whole = [[int.from_bytes(c.tobytes(), "big") for c in window] for window in codes]
    best = {}
    for window in whole:
        for i, one in enumerate(window):
            for j, two in enumerate(whole[0]):
                apart = (one ^ two).bit_count()
                if i != j and image[i] != image[j] and apart <= twins.MAX_DISTANCE:
                    key = (min(i, j), max(i, j))
                    best[key] = min(apart, best.get(key, 99))
    return best


class TestIndex:
    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 2**32), st.integers(2, 40), st.integers(2, 12), st.sampled_from([2, 3]))
    def test_equals_brute_force(self, seed, count, flips, matched):
        codes = near_codes(seed, count, flips)
        image = np.random.default_rng(seed).integers(0, max(2, count - 2), count)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(twins, "_shape", lambda _: (twins.MAX_DISTANCE + matched, matched))
            patch.setattr(twins, "MOST", 10**6)
            patch.setattr(twins, "AT_ONCE", 50)
            patch.setattr(twins, "COMPACT", 200)
            got, crowd = twins._candidates(codes, image)
        pairs = {(min(a, b), max(a, b)): d for a, b, _, d in got.tolist()}
        assert len(pairs) == len(got)
        assert pairs == by_brute_force(codes, image)
        assert not crowd.any()

    @pytest.mark.parametrize("matched", [2, 3])
    def test_the_worst_case_is_found(self, matched, monkeypatch):
        """As many bits differ as may, each in a band of its own: only the other bands are equal."""
        bands = twins.MAX_DISTANCE + matched
        monkeypatch.setattr(twins, "_shape", lambda _: (bands, matched))
        rng = np.random.default_rng(7)
        bits = np.zeros((len(twins.WINDOWS) + 1, 80, 128), np.uint8)
        bits[:, :, : twins.BITS] = rng.integers(0, 2, (80, twins.BITS))
        for k in range(0, 80, 2):
            equal = rng.choice(bands, matched, replace=False)
            flipped = [b for b in range(bands) if b not in equal]
            bits[:, k + 1] = bits[:, k]
            bits[:, k + 1, flipped] ^= 1
        got, _ = twins._candidates(np.packbits(bits, axis=2).view(np.uint64), np.arange(80))
        pairs = {(min(a, b), max(a, b)): d for a, b, _, d in got.tolist()}
        assert pairs == {(k, k + 1): twins.MAX_DISTANCE for k in range(0, 80, 2)}

    def test_more_pictures_take_longer_keys(self):
        shapes = [twins._shape(n) for n in (10, 5_000, 100_000, 3_000_000)]
        assert shapes == sorted(shapes)
        assert shapes[0] == (twins.MAX_DISTANCE + 2, 2)
        assert shapes[-1] == (twins.MAX_DISTANCE + 4, 4)

    @settings(max_examples=10, deadline=None)
    @given(
        st.lists(st.sampled_from(["jpeg", "half", "gamma", "mirrored"]), max_size=5),
        st.integers(0, 99),
    )
    def test_many_find_what_every_two_find(self, changes, seed):
        """The search over all equals the searches over every two."""
        greys = [picture(seed * 10 + k, 70, 90) for k in range(3)]
        greys += [COPIES[c][0](greys[k % 3]) for k, c in enumerate(changes)]
        stored = [letterbox(g) for g in greys]
        each = {}
        for a in range(len(stored)):
            for b in range(a + 1, len(stored)):
                for pair in search(None, stored=[stored[a], stored[b]]).pairs:
                    each[a, b] = pair.kind
        exact = {k: v for k, v in each.items() if v != "exact"}
        assert {
            k: v for k, v in found(search(None, stored=stored)).items() if v != "exact"
        }.items() <= exact.items()
        assert joined(each) == joined(found(search(None, stored=stored)))

    def test_order_decides_nothing(self):
        greys = [picture(k) for k in range(10)]
        greys += [jpeg(g, 40) for g in greys[:6]] + [g[:, ::-1].copy() for g in greys[3:8]]
        plain = {(p.a, p.b): (p.kind, p.distance, p.correlation) for p in search(greys).pairs}
        assert len(plain) >= 11
        order = np.random.default_rng(3).permutation(len(greys))
        other = search([greys[k] for k in order]).pairs
        back = {
            tuple(sorted((order[p.a], order[p.b]))): (p.kind, p.distance, p.correlation)
            for p in other
        }
        assert back.keys() == plain.keys()
        for key, (kind, distance, correlation) in plain.items():
            assert back[key] == (kind, distance, pytest.approx(correlation, abs=1e-3))

    @pytest.mark.parametrize(("crowd", "most"), [(8, 10**6), (10**6, 3)])
    def test_a_crowd_is_told(self, crowd, most, monkeypatch):
        """More look-alikes than are compared, in one bucket or for one picture: the search says so."""
        monkeypatch.setattr(twins, "CROWD", crowd)
        monkeypatch.setattr(twins, "NEIGHBOURS", 6)
        monkeypatch.setattr(twins, "MOST", most)
        grey = picture(1)
        noise = np.random.default_rng(0)
        copies = [grey + noise.normal(0, 2, grey.shape).astype(np.float32) for _ in range(30)]
        result = search([*copies, *(picture(50 + k) for k in range(5))])
        assert 25 <= result.crowded <= 30
        assert len(joined(found(result))) == 1
        assert result.notes[0].startswith(f"{result.crowded} of 35 pictures resemble over {most}")

    def test_a_crowd_is_thinned_to_the_neighbours(self, monkeypatch):
        monkeypatch.setattr(twins, "CROWD", 8)
        monkeypatch.setattr(twins, "NEIGHBOURS", 6)
        words = np.arange(0, 1000, 10, dtype=np.uint64)
        wanted = np.array([505, 0, 990, 505], np.uint64)
        low, high = np.array([10, 0, 50, 47]), np.array([90, 100, 100, 55])
        crowded = twins._thin(low, high, words, wanted)
        assert crowded.tolist() == [True, True, True, False]
        assert list(zip(low.tolist(), high.tolist(), strict=True)) == [
            (48, 54),
            (0, 6),
            (94, 100),
            (47, 55),
        ]


def joined(pairs):
    """Groups of rows that hang together."""
    groups = []
    for pair in pairs:
        touched = [g for g in groups if g & set(pair)]
        groups = [g for g in groups if g not in touched] + [set(pair).union(*touched)]
    return {frozenset(g) for g in groups}


class TestFile:
    @pytest.fixture
    def result(self):
        grey = picture(8)
        return search(
            [grey, jpeg(grey, 50), picture(9), picture(9)], patients=["p2", "p1", "p3", "p3"]
        )

    def test_round_trip(self, result, tmp_path):
        columns = [
            np.array(v, object) for v in (list("abcd"), [-1, 4, 5, -1], ["p2", "p1", "p3", "p3"])
        ]
        twins.write(tmp_path, result, "0123abcd", *columns)
        rows = twins.read(tmp_path).to_pylist()
        assert [list(r) for r in rows] == [twins.SCHEMA.names] * 2
        assert [(r["image_id_a"], r["slice_a"], r["patient_a"]) for r in rows] == [
            ("a", -1, "p2"),
            ("c", 5, "p3"),
        ]
        assert [(r["image_id_b"], r["slice_b"], r["patient_b"]) for r in rows] == [
            ("b", 4, "p1"),
            ("d", -1, "p3"),
        ]
        got = [
            twins.Pair(p.a, p.b, r["kind"], r["distance"], r["correlation"])
            for p, r in zip(result.pairs, rows, strict=True)
        ]
        assert tuple(got) == result.pairs
        facts = {k.decode(): v.decode() for k, v in twins.read(tmp_path).schema.metadata.items()}
        assert facts["store"] == "0123abcd"
        assert (facts["rows"], facts["blank"], facts["crowded"]) == ("4", "0", "0")
        assert float(facts["min_correlation"]) == twins.MIN_CORRELATION
        owner = {"a": "p2", "b": "p1", "c": "p3", "d": "p3"}
        assert twins.suspects(tmp_path, owner) == [("p1", "p2")]
        # Who has an image now decides, not who had it when the pairs were sought.
        assert twins.suspects(tmp_path, owner | {"a": "p9"}) == [("p1", "p9")]
        assert twins.suspects(tmp_path, {"c": "p3"}) == []

    def test_no_pairs_is_a_file_too(self, result, tmp_path):
        none = np.array([], object)
        twins.write(tmp_path, dataclasses.replace(result, pairs=()), "0", none, none, none)
        assert twins.read(tmp_path).num_rows == 0
        assert twins.suspects(tmp_path, {}) == []

    def test_an_absent_file_is_told(self, tmp_path):
        assert twins.suspects(tmp_path, {}) == []
        with pytest.raises(NothingUsableError, match="Run: medssl decode"):
            twins.read(tmp_path)

    def test_another_version_is_refused(self, tmp_path):
        schema = twins.SCHEMA.with_metadata({"medssl_twins": "999"})
        pq.write_table(pa.Table.from_pylist([], schema=schema), tmp_path / twins.FILE)
        for reader in (twins.read, lambda root: twins.suspects(root, {})):
            with pytest.raises(RefusedError, match="version 999"):
                reader(tmp_path)


def test_a_decoded_hospital_has_no_twins(cohorts):
    """The synthetic hospital, scanned and decoded by the command line: every picture is its own."""
    (index,) = (cohorts / "hospital_a" / "store").glob("*/index.parquet")
    table = pq.read_table(index)
    shards = {
        k: np.load(index.parent / f"pixels-{k:03d}.npy") for k in set(table["shard"].to_pylist())
    }
    places = list(zip(table["shard"].to_pylist(), table["offset"].to_pylist(), strict=True))
    assert json.loads((index.parent / "decode.json").read_text())["volumes"] == "slices"
    columns = {
        n: np.array(table[n].to_pylist(), object) for n in ("pixels", "image_id", "patient_id")
    }
    result = twins.find(
        len(places),
        lambda rows: np.stack([shards[places[r][0]][places[r][1]] for r in rows]),
        columns["pixels"],
        images=columns["image_id"],
        patients=columns["patient_id"],
        boxes=np.array(table["box"].to_pylist(), np.int64),
    )
    assert [
        p for p in result.pairs if columns["patient_id"][p.a] != columns["patient_id"][p.b]
    ] == []
    assert result.rows == len(places)
