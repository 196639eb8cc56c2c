"""The health check finds what was planted, and nothing in a clean cohort."""

import csv
import hashlib
import json
import re
import shutil
import time
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SIZE, ok

from medssl.check import check, orientation, pictures, write_page
from medssl.check import labels as label_check
from medssl.check.health import Part, coarse, exact, finding
from medssl.errors import NothingUsableError


def found(health, code, level=None):
    """Findings of one code, of one level."""
    return [f for f in health.findings if f.code == code and level in (None, f.level)]


def rows_of(health, title):
    """Rows of one table by their first cell."""
    (table,) = [t for t in health.tables if t.title == title]
    return {row[0]: row[1:] for row in table.rows}


def edit(path, change):
    """Rewrite a parquet file; its metadata stay."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def store_of(root):
    (folder,) = (root / "store").iterdir()
    return folder


def repaint(root, planes):
    """Put pictures into a store as decode would: pixels and their digest. Keys are index rows."""
    folder = store_of(root)
    shards = {p: np.load(p) for p in folder.glob("pixels-*.npy")}

    def change(rows):
        for number, plane in planes.items():
            row = rows[number]
            shards[folder / f"pixels-{row['shard']:03d}.npy"][row["offset"]] = plane
            row["pixels"] = hashlib.sha256(plane.astype("<u2").tobytes()).hexdigest()
            row["box"] = [0, 0, *plane.shape]

    edit(folder / "index.parquet", change)
    for path, array in shards.items():
        np.save(path, array)


def plane_at(root, number):
    row = pq.read_table(store_of(root) / "index.parquet").to_pylist()[number]
    return np.load(store_of(root) / f"pixels-{row['shard']:03d}.npy")[row["offset"]], row[
        "image_id"
    ]


def tree_digest(root):
    files = [p for p in sorted(root.rglob("*")) if p.is_file()]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# ---- a clean cohort ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hospital_a", "hospital_b"])
def test_a_clean_cohort_raises_no_alarm_and_is_not_touched(cohorts, name):
    before = tree_digest(cohorts / name)
    health = check(cohorts / name)
    assert [f.sentence for f in health.findings if f.rank >= 2] == []
    assert health.level in {"ok", "note"}
    assert found(health, "H-ACCOUNTS", "ok")
    assert found(health, "H-STORE", "ok")
    assert tree_digest(cohorts / name) == before
    ranks = [f.rank for f in health.findings]
    assert ranks == sorted(ranks, reverse=True)


def test_the_mixes_are_those_of_the_manifest(cohorts):
    health = check(cohorts / "hospital_a")
    table = pq.read_table(cohorts / "hospital_a" / "manifest.parquet").to_pylist()
    for column, title in (("photometric", "Photometric interpretation"), ("view", "View")):
        told = {k: v[0].count for k, v in rows_of(health, title).items()}
        assert told == dict(Counter(row[column] for row in table))
    per_patient = Counter(Counter(row["patient_id"] for row in table).values())
    told = {k: v[0].count for k, v in rows_of(health, "Images per patient").items()}
    assert told["1"] == per_patient[1]
    assert told["2"] == per_patient[2]
    assert sum(told.values()) == len({row["patient_id"] for row in table})


def test_only_a_manifest_is_needed(cohort_copy):
    for name in ("store", "private"):
        shutil.rmtree(cohort_copy / name)
    for path in cohort_copy.glob("*"):
        if path.name != "manifest.parquet":
            path.unlink()
    health = check(cohort_copy)
    assert found(health, "H-STORE", "note")[0].sentence.startswith("Nothing is decoded yet")
    assert found(health, "H-LABELS", "note")
    assert found(health, "H-ACCOUNTS", "warn")
    assert health.store is None


def test_no_cohort_is_said_so(tmp_path):
    with pytest.raises(NothingUsableError, match="medssl scan"):
        check(tmp_path)


# ---- accounts ----------------------------------------------------------------------------------


def _json(root, **change):
    path = root / "cohort.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {k: data[k] + v for k, v in change.items()}))


def _csv(path, change):
    with path.open(newline="") as stream:
        head, *rows = csv.reader(stream)
    with path.open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([head, *change(head, rows)])


def _mute(head, rows):
    place = next(head.index(n) for n in ("verdict", "state") if n in head)
    rows[3][place] = ""
    return rows


def _lost_image(root):
    edit(root / "manifest.parquet", lambda rows: rows[5].update(image_id="i_0000000000000000"))


@pytest.mark.parametrize(
    ("damage", "level", "words"),
    [
        (lambda r: _json(r, found=1), "stop", "58 files found, but .* are 57"),
        (lambda r: _json(r, found=1, indexed=1), "stop", "files.csv has 56 indexed"),
        (lambda r: _json(r, images=2), "stop", "counts 58 images .* holds 56"),
        (lambda r: _csv(r / "private/files.csv", _mute), "stop", "1 files have no verdict"),
        (lambda r: _csv(r / "private/files.csv", lambda h, x: x[1:]), "stop", "cohort.json counts"),
        (lambda r: _csv(r / "quarantine.csv", lambda h, x: x[1:]), "warn", "lists 0 files"),
        (_lost_image, "stop", "1 images of the manifest have no file"),
        (lambda r: (r / "cohort.json").unlink(), "warn", "cohort.json is not here"),
    ],
)
def test_accounts_that_do_not_add_up(cohort_copy, damage, level, words):
    damage(cohort_copy)
    told = [f.sentence for f in found(check(cohort_copy), "H-ACCOUNTS", level)]
    assert any(re.search(words, sentence) for sentence in told), told
    assert not found(check(cohort_copy), "H-ACCOUNTS", "ok")


def test_what_decode_set_aside_still_adds_up(cohort_copy):
    def aside(head, rows):
        place = next(head.index(n) for n in ("verdict", "state") if n in head)
        at = next(k for k, row in enumerate(rows) if row[place] == "indexed")
        rows[at][place] = "quarantined"
        return rows

    _csv(cohort_copy / "private" / "files.csv", aside)
    assert found(check(cohort_copy), "H-ACCOUNTS", "ok")


def test_reasons_are_counted(cohort_copy):
    def more(head, rows):
        return [
            *rows,
            *([f"f_9{k}", "decode", "quarantined", "E-CONSTANT", "flat"] for k in range(7)),
        ]

    _csv(cohort_copy / "quarantine.csv", more)
    told = rows_of(check(cohort_copy), "Files set aside")
    assert told["E-CONSTANT"] == ("decode", "quarantined", 7, "flat")


# ---- headers -----------------------------------------------------------------------------------


def test_missing_identifiers_are_counted(cohort_copy):
    def blank(rows):
        for row in rows:
            row["sex"] = None
        for row in rows[:9]:
            row["view"] = ""
        for row in rows[:7]:
            row["spacing_row_mm"] = None

    edit(cohort_copy / "manifest.parquet", blank)
    health = check(cohort_copy)
    told = {k: v[0].count for k, v in rows_of(health, "Images without an identifier").items()}
    assert told == {"sex": 56, "age": 0, "view": 9, "day": 0, "spacing": 7, "maker": 0}
    (one,) = found(health, "H-MISSING", "note")
    assert "lack sex, view, spacing (all of them sex)" in one.sentence


def test_odd_and_impossible_spacings_are_named(cohort_copy):
    names = {}

    def wrong(rows):
        for k, (column, value) in enumerate(
            [("spacing_row_mm", 4.2), ("spacing_col_mm", 0.001), ("spacing_row_mm", -0.2)]
        ):
            rows[k][column] = value
            names[k] = rows[k]["image_id"]

    edit(cohort_copy / "manifest.parquet", wrong)
    health = check(cohort_copy)
    assert set(found(health, "H-SPACING", "note")[0].images) == {names[0], names[1]}
    assert found(health, "H-SPACING", "warn")[0].images == (names[2],)


def test_raw_and_processed_images_of_one_modality(cohort_copy):
    def mix(rows):
        for k, row in enumerate(rows):
            row["intent"] = "FOR PROCESSING" if k < 11 else "FOR PRESENTATION"

    edit(cohort_copy / "manifest.parquet", mix)
    (one,) = found(check(cohort_copy), "H-INTENT")
    assert one.level == "warn"
    assert "11 images are FOR PROCESSING and 45 FOR PRESENTATION" in one.sentence


# ---- labels ------------------------------------------------------------------------------------


def _labelled(tmp_path, values, images_each, **columns):
    """A manifest and a label table: one value per patient, and how many images each has."""
    rows, labels = [], []
    for k, (value, count) in enumerate(zip(values, images_each, strict=True)):
        for j in range(count):
            image = f"i_{k:03d}_{j}"
            rows.append({"image_id": image, "patient_id": f"p_{k:03d}"})
            labels.append({"image_id": image, "slice": -1, "target": value})
    for name, cells in columns.items():
        for row, cell in zip(labels, cells, strict=False):
            row[name] = cell
    schema = pa.schema([("image_id", pa.string()), ("slice", pa.int32())])
    for name in ("target", *columns):
        schema = schema.append(pa.field(name, pa.string()))
    pq.write_table(pa.Table.from_pylist(labels, schema=schema), tmp_path / "labels.parquet")
    return pa.Table.from_pylist(rows)


def test_a_partner_image_that_gives_the_label_away(tmp_path):
    values = ["ill"] * 100 + ["well"] * 80
    counts = [2] * 45 + [1] * 55 + [3] * 4 + [1] * 76
    section = label_check.check(tmp_path, _labelled(tmp_path, values, counts))
    (one,) = [f for f in section.findings if f.code == "H-PAIRS"]
    assert one.level == "warn"
    for words in ("45 of 100 (45.0 %)", "4 of 80 (5.0 %)", "45 of 49 (91.8 %) are 'ill'"):
        assert words in one.sentence
    assert "all but <5 of 49" in one.coarse
    assert " 4 of" not in one.coarse


def test_partner_images_spread_alike_are_no_trap(tmp_path):
    values = ["ill"] * 100 + ["well"] * 100
    counts = ([2] * 22 + [1] * 78) + ([2] * 18 + [1] * 82)
    section = label_check.check(tmp_path, _labelled(tmp_path, values, counts))
    assert [f.level for f in section.findings if f.code == "H-PAIRS"] == ["ok"]


def test_conflicts_single_values_and_hostile_names(tmp_path):
    values = ["a"] * 12 + ["b"] * 12
    odd = {"{0}<script>": ["<b>x</b>"] * 48, "empty": [None] * 48}
    table = _labelled(tmp_path, values, [2] * 24, **odd)
    edit(tmp_path / "labels.parquet", lambda rows: [rows[k].update(target="b") for k in (0, 2, 4)])
    section = label_check.check(tmp_path, table)
    (one,) = [f for f in section.findings if f.code == "H-CONFLICT"]
    assert "3 of 24" in one.sentence
    told = {f.sentence for f in section.findings if f.code == "H-LABELS" and f.level == "warn"}
    assert len(told) == 2
    assert any("'{0}<script>' has one value only" in t for t in told)
    assert any("'empty' has no value" in t for t in told)


def test_labels_of_images_that_are_not_there(cohort_copy):
    edit(
        cohort_copy / "labels.parquet", lambda rows: [r.update(image_id="i_gone") for r in rows[:6]]
    )
    (one,) = found(check(cohort_copy), "H-LABELS", "warn")
    assert one.sentence.startswith("labels.parquet: 6 rows belong to no image")


# ---- pixels ------------------------------------------------------------------------------------


def test_blank_saturated_and_noise_pictures_are_named(cohort_copy):
    rng = np.random.default_rng(7)
    blank = np.full((SIZE, SIZE), 21_000, np.uint16)
    blank[3, 5] = 65_535
    burnt = np.full((SIZE, SIZE), 65_535, np.uint16)
    burnt[:12] = np.linspace(0, 60_000, 12 * SIZE).reshape(12, SIZE)
    mask = np.where(np.hypot(*np.mgrid[-16:16, -16:16]) < 7, 65_535, 0).astype(np.uint16)
    noise = rng.integers(0, 65_536, (SIZE, SIZE)).astype(np.uint16)
    planes = {4: blank, 17: burnt, 25: mask, 40: noise}
    names = {k: plane_at(cohort_copy, k)[1] for k in planes}
    repaint(cohort_copy, planes)
    health = check(cohort_copy)
    assert found(health, "H-BLANK", "warn")[0].images == (names[4],)
    assert set(found(health, "H-SATURATED", "warn")[0].images) == {names[17], names[25]}
    assert found(health, "H-NOISE", "warn")[0].images == (names[40],)


def test_a_changed_byte_is_found_and_named(cohort_copy):
    row = pq.read_table(store_of(cohort_copy) / "index.parquet").to_pylist()[9]
    path = store_of(cohort_copy) / f"pixels-{row['shard']:03d}.npy"
    array = np.load(path)
    array[row["offset"], 4, 6] ^= 1
    np.save(path, array)
    health = check(cohort_copy)
    (one,) = found(health, "H-STORE", "stop")
    assert one.images == (row["image_id"],)
    assert health.level == "stop"
    assert found(health, "H-BLANK", "ok")  # the rest was still looked at


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_shard_that_is_cut_or_gone(cohort_copy, damage):
    (path,) = store_of(cohort_copy).glob("pixels-*.npy")
    path.write_bytes(path.read_bytes()[:5000]) if damage == "cut" else path.unlink()
    (one,) = found(check(cohort_copy), "H-STORE", "stop")
    assert "56 of 56 pictures" in one.sentence
    assert len(one.images) == 20


def test_a_store_older_than_the_manifest(cohort_copy):
    table = pq.read_table(store_of(cohort_copy) / "index.parquet")
    pq.write_table(table.slice(0, 50), store_of(cohort_copy) / "index.parquet")
    lost = set(table.slice(50)["image_id"].to_pylist())
    (one,) = found(check(cohort_copy), "H-STORE-OLD", "warn")
    assert set(one.images) == lost
    (store_of(cohort_copy) / "set_aside.json").write_text(json.dumps(dict.fromkeys(lost, "E-X")))
    assert found(check(cohort_copy), "H-STORE-OLD", "ok")


def test_the_store_decoded_last_or_the_one_named(cohort_copy):
    first = store_of(cohort_copy).name
    time.sleep(0.02)
    ok("decode", cohort_copy, "--size", 24)
    last = check(cohort_copy).store
    assert last != first
    assert check(cohort_copy, first).store == first
    with pytest.raises(NothingUsableError, match="no store 'nope'"):
        check(cohort_copy, "nope")


@pytest.mark.parametrize("volumes", ["slices", "whole"])
def test_volumes_are_looked_at(tree, tmp_path, volumes):
    root = tmp_path / "mri"
    ok("scan", tree / "mri", "--site-column", "site", "--out", root)
    ok("decode", root, "--size", 20, "--volumes", volumes)
    health = check(root)
    assert [f.sentence for f in health.findings if f.rank >= 2] == []
    assert "too few" in found(health, "H-TURNED")[0].sentence
    assert found(health, "H-STORE", "ok")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("cohort.json", "H-MISSING"), ("private/files.csv", "H-LEAK"), ("quarantine.csv", "H-STORE"),
        ("labels.parquet", "H-STORE"), ("split.parquet", "H-ACCOUNTS"),
        ("store/*/index.parquet", "H-LEAK"), ("store/*/decode.json", "H-LEAK"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_a_finding_and_the_rest_is_still_judged(cohort_copy, name, code):
    (path,) = cohort_copy.glob(name)
    path.write_bytes(path.read_bytes()[:40] if path.suffix == ".parquet" else b"")
    health = check(cohort_copy)
    (one,) = found(health, "H-UNREADABLE")
    assert (one.level, health.level) == ("stop", "stop")
    assert found(health, code)
    assert found(health, "H-PHOTOMETRIC")


@pytest.mark.parametrize(("total", "most"), [(0, 5), (4, 5), (5, 5), (17, 5), (1000, 64)])
def test_the_sample_is_even(total, most):
    rows = pictures.sample(total, most)
    assert len(rows) == min(total, most)
    assert len(set(rows.tolist())) == len(rows)
    if total > most:
        assert (rows[0], rows[-1]) == (0, total - 1)
        assert np.ptp(np.diff(rows)) <= 1


def test_picture_figures_against_plain_formulas():
    rng = np.random.default_rng(3)
    unit = rng.random((4, 11, 17)).cumsum(2).astype(np.float32)
    unit /= unit.max((1, 2), keepdims=True)
    unit[1, :5] = 1
    unit[2, :, 3:9] = 0
    flat, bottom, top = pictures.ends(unit)
    near = pictures._neighbours(unit)
    small = pictures.shrink(unit, 4)
    for k, x in enumerate(unit.astype(float)):
        level = [min(int(v * 64), 63) for v in x.ravel()]
        pairs = [sum(level.count(j + d) for d in (0, 1)) for j in range(63)]
        assert flat[k] == pytest.approx(max(pairs) / x.size)
        assert bottom[k] == pytest.approx((x <= 0.5 / 256).mean())
        assert top[k] == pytest.approx((x >= 1 - 0.5 / 256).mean())
        c = x - x.mean()
        want = (np.mean(c[1:] * c[:-1]) + np.mean(c[:, 1:] * c[:, :-1])) / 2 / x.var()
        assert near[k] == pytest.approx(want, rel=1e-4)
        fine = np.kron(x, np.ones((4, 4)))  # every pixel 4 x 4: cells end on its borders
        want = fine.reshape(4, 11, 4, 17).mean((1, 3))
        np.testing.assert_allclose(small[k], want, rtol=1e-5)


# ---- orientation -------------------------------------------------------------------------------


def _phantoms(n, seed=0, lopsided=True):
    """Chest-like pictures: bright below, dark fields, a bright blob right of the middle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:16, 0:16] / 15
    out = []
    for _ in range(n):
        dx, dy = rng.normal(0, 0.03, 2)
        chest = 0.3 + 0.5 * (y > 0.7 + dy) + 0.1 * y
        for side in (0.28, 0.72):
            chest = chest - 0.25 * np.exp(
                -(((x - side - dx) / 0.13) ** 2 + ((y - 0.4 - dy) / 0.25) ** 2)
            )
        blob = 0.35 * np.exp(-(((x - 0.62 - dx) / 0.1) ** 2 + ((y - 0.55 - dy) / 0.1) ** 2))
        out.append(chest + (blob if lopsided else 0) + rng.normal(0, 0.04, x.shape))
    return np.array(out)


@pytest.mark.parametrize("n", [30, 60, 400])
def test_turned_and_negative_pictures_are_told_apart(n):
    thumbs = _phantoms(n)
    upside, half, mirrored, negative = (3, 7), (11,), (14,), (20, 25)
    for k in upside:
        thumbs[k] = thumbs[k, ::-1]
    for k in half:
        thumbs[k] = thumbs[k, ::-1, ::-1]
    for k in mirrored:
        thumbs[k] = thumbs[k, :, ::-1]
    for k in negative:
        thumbs[k] = 1 - thumbs[k]
    told = orientation.judge(thumbs)
    assert set(np.flatnonzero(told.turned["upside down"])) == {*upside, *half}
    assert set(mirrored) <= set(np.flatnonzero(told.turned["mirrored"])) <= {*mirrored, *half}
    assert set(np.flatnonzero(told.negative)) == set(negative)


def test_upright_pictures_raise_no_alarm():
    hits = Counter()
    for seed in range(20):
        told = orientation.judge(_phantoms(50, seed))
        hits.update({turn: int(flags.sum()) for turn, flags in told.turned.items()})
        hits["negative"] += int(told.negative.sum())
    assert set(hits.values()) == {0}


def test_symmetrical_pictures_cannot_be_told():
    told = orientation.judge(_phantoms(60, lopsided=False))
    assert told.separation["mirrored"] < orientation.TOLD
    assert not told.turned["mirrored"].any()
    assert told.seen["mirrored"] == 0
    assert told.seen["upside down"] > 0.9
    odd = _phantoms(60, lopsided=False)
    odd[4, :, 12:] += 2
    odd[5, :, :4] += 2  # whichever way the mean leans by chance, one of the two leans against it
    told = orientation.judge(odd)
    assert told.separation["mirrored"] < orientation.TOLD
    assert not told.turned["mirrored"].any()
    noise = np.random.default_rng(0).random((60, 16, 16))
    assert orientation.judge(noise).negative is None
    assert not orientation.judge(noise).turned["upside down"].any()


def test_scores_of_a_flipped_picture_change_sign():
    """The score is linear and odd under the flip: the same weights judge a picture and its twin."""
    pictures_ = orientation.standardise(_phantoms(50))
    for axis in (1, 2):
        straight = orientation.turn_scores(pictures_, axis)
        flipped = orientation.turn_scores(np.flip(pictures_, axis), axis)
        np.testing.assert_allclose(straight, flipped, rtol=1e-9)  # all flipped is all straight
        assert (straight > 0).mean() > 0.95


def test_left_and_right_do_not_matter_to_what_is_upside_down():
    thumbs = orientation.standardise(_phantoms(50))
    some = thumbs.copy()
    some[::3] = np.flip(some[::3], 2)
    np.testing.assert_allclose(
        orientation.turn_scores(thumbs, 1), orientation.turn_scores(some, 1), rtol=1e-9
    )


def test_planted_turns_in_a_cohort_are_named(cohort_copy):
    facts = {r["image_id"]: r for r in pq.read_table(cohort_copy / "manifest.parquet").to_pylist()}
    index = pq.read_table(store_of(cohort_copy) / "index.parquet").to_pylist()
    views = Counter(facts[r["image_id"]]["view"] for r in index)
    common = views.most_common(1)[0][0]
    rows = [k for k, r in enumerate(index) if facts[r["image_id"]]["view"] == common][:3]
    planes = {k: plane_at(cohort_copy, k)[0] for k in rows}
    boxes = {k: index[k]["box"] for k in rows}
    turned = {rows[0]: planes[rows[0]][::-1], rows[1]: 65_535 - planes[rows[1]]}
    repaint(cohort_copy, turned)
    edit(
        store_of(cohort_copy) / "index.parquet",
        lambda table: [table[k].update(box=boxes[k]) for k in turned],
    )
    health = check(cohort_copy)
    assert found(health, "H-UPSIDE-DOWN", "warn")[0].images == (index[rows[0]]["image_id"],)
    assert found(health, "H-NEGATIVE", "warn")[0].images == (index[rows[1]]["image_id"],)


# ---- duplicates and leaks ----------------------------------------------------------------------


def _pair(root, same_patient, same_split):
    """Index rows of two images, as wanted."""
    split = {r["patient_id"]: r["split"] for r in pq.read_table(root / "split.parquet").to_pylist()}
    rows = pq.read_table(store_of(root) / "index.parquet").to_pylist()
    return next(
        (a, b)
        for a in range(len(rows))
        for b in range(a)
        if (rows[a]["patient_id"] == rows[b]["patient_id"]) == same_patient
        and (split[rows[a]["patient_id"]] == split[rows[b]["patient_id"]]) == same_split
    )


@pytest.mark.parametrize(
    ("same_patient", "same_split", "level", "crossing"),
    [(True, True, "note", "ok"), (False, True, "warn", "ok"), (False, False, "warn", "stop")],
)
def test_exact_copies(cohort_copy, same_patient, same_split, level, crossing):
    a, b = _pair(cohort_copy, same_patient, same_split)
    plane, first = plane_at(cohort_copy, a)
    second = plane_at(cohort_copy, b)[1]
    repaint(cohort_copy, {a: plane, b: plane})
    health = check(cohort_copy)
    (one,) = found(health, "H-DUPLICATE")
    assert (one.level, set(one.images)) == (level, {first, second})
    (cross,) = found(health, "H-DUPLICATE-SPLIT")
    assert cross.level == crossing


def test_training_and_unlabelled_patients_may_share_a_picture(cohort_copy):
    a, b = _pair(cohort_copy, same_patient=False, same_split=True)
    plane, _ = plane_at(cohort_copy, a)
    repaint(cohort_copy, {a: plane, b: plane})
    rows = pq.read_table(store_of(cohort_copy) / "index.parquet").to_pylist()
    places = {rows[a]["patient_id"]: "train", rows[b]["patient_id"]: "unlabelled"}
    edit(
        cohort_copy / "split.parquet",
        lambda split: [r.update(split=places.get(r["patient_id"], r["split"])) for r in split],
    )
    assert [f.level for f in found(check(cohort_copy), "H-DUPLICATE-SPLIT")] == ["ok"]


def test_black_pictures_are_no_copies_even_unseen(cohort_copy, monkeypatch):
    monkeypatch.setattr("medssl.check.duplicates.MOST_GROUPS", 0)
    a, b = _pair(cohort_copy, same_patient=False, same_split=False)
    black = np.zeros((SIZE, SIZE), np.uint16)
    repaint(cohort_copy, {a: black, b: black})
    assert [f.level for f in found(check(cohort_copy), "H-DUPLICATE")] == ["ok"]


def test_blank_pictures_are_no_copies(cohort_copy):
    a, b = _pair(cohort_copy, same_patient=False, same_split=False)
    for value in (0, 300):
        blank = np.full((SIZE, SIZE), value, np.uint16)
        repaint(cohort_copy, {a: blank, b: blank})
        assert [f.level for f in found(check(cohort_copy), "H-DUPLICATE")] == ["ok"]


def test_a_patient_in_two_splits_stops(cohort_copy):
    path = cohort_copy / "split.parquet"
    table = pq.read_table(path)
    torn = table["patient_id"][0].as_py()
    other = "test" if table["split"][0].as_py() != "test" else "train"
    extra = pa.table({"patient_id": [torn], "split": [other]}, schema=table.schema)
    pq.write_table(pa.concat_tables([table, extra]), path)
    health = check(cohort_copy)
    (one,) = found(health, "H-LEAK")
    assert (one.level, health.level) == ("stop", "stop")
    assert torn in one.sentence


def test_late_patients_are_counted(cohort_copy):
    path = cohort_copy / "split.parquet"
    pq.write_table(pq.read_table(path).slice(3), path)
    (one,) = found(check(cohort_copy), "H-SPLIT-OLD")
    assert one.level == "warn"
    assert one.sentence.startswith("3 patients joined after the split")


def test_near_duplicates_and_suspected_persons_across_the_split(cohort_copy):
    split = {
        r["patient_id"]: r["split"]
        for r in pq.read_table(cohort_copy / "split.parquet").to_pylist()
    }
    by = {name: sorted(p for p, s in split.items() if s == name) for name in ("train", "test")}
    pairs = [
        (by["train"][0], by["train"][0]),
        (by["train"][0], by["train"][1]),
        (by["train"][1], by["test"][0]),
    ]
    twins = {
        "image_id_a": ["i_a", "i_b", "i_c"], "patient_a": [a for a, _ in pairs],
        "image_id_b": ["i_d", "i_e", "i_f"], "patient_b": [b for _, b in pairs],
        "kind": ["near", "near", "near"],
    }  # fmt: skip
    pq.write_table(pa.table(twins), cohort_copy / "twins.parquet")
    links = pa.table({"patient_a": [by["test"][1]], "patient_b": [by["train"][2]], "reason": ["x"]})
    pq.write_table(links, cohort_copy / "links.parquet")
    health = check(cohort_copy)
    (one,) = found(health, "H-TWINS")
    assert one.sentence.startswith("Near duplicates: 2 of 3 pairs")
    (cross,) = found(health, "H-TWINS-SPLIT")
    assert (cross.level, set(cross.images)) == ("warn", {"i_c", "i_f"})
    assert by["test"][1] in found(health, "H-LINKS-SPLIT", "warn")[0].sentence


# ---- the page ----------------------------------------------------------------------------------


class _Reader(HTMLParser):
    """Collects tags, attributes and text, and insists that tags nest."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text, self.attributes = Counter(), [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, *a) for a in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_stands_alone_and_names_no_one(cohort_copy, tree):
    health = check(cohort_copy)
    write_page(health, cohort_copy)
    text = (cohort_copy / "health.html").read_text()
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(text) < 1 << 20
    assert reader.tags["h1"] == 1
    assert reader.tags["table"] == reader.tags["caption"] == reader.tags["thead"] > 10
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert not re.search(r"https?:|url\(|@import|src=", text)
    assert ("html", "lang", "en") in reader.attributes
    scopes = sum(tag == "th" and (name, value[:3]) in {("scope", "row"), ("scope", "col")}
                 for tag, name, value in reader.attributes)  # fmt: skip
    assert scopes == reader.tags["th"]
    private = (cohort_copy / "private" / "identifiers.csv").read_text()
    with (cohort_copy / "private" / "identifiers.csv").open(newline="") as stream:
        names = {row["patient_id"] for row in csv.DictReader(stream)}
    assert names
    assert private
    told = text + (cohort_copy / "health.json").read_text()
    assert not [name for name in names if name in told]
    assert str(tree) not in told


def test_small_counts_are_hidden_on_the_page_only(cohort_copy):
    edit(
        cohort_copy / "manifest.parquet",
        lambda rows: [
            r.update(body_part="RARE<PART>", view="", spacing_row_mm=-1.0) for r in rows[:3]
        ],
    )
    health = check(cohort_copy)
    write_page(health, cohort_copy)
    page = (cohort_copy / "health.html").read_text()
    row = r'<th scope="row">RARE&lt;PART&gt;</th><td class="number">(.*?)</td>'
    assert re.search(row, page)[1] == "&lt;5 of 56"
    assert "all but &lt;5 of 56" in page
    assert "&lt;5 images state a spacing" in page
    assert "3 images state a spacing" not in page
    assert any("3 images state a spacing" in line for line in health.lines())
    record = json.loads((cohort_copy / "health.json").read_text())
    table = next(t for t in record["tables"] if t["title"] == "Body part")
    assert ["RARE<PART>", {"count": 3, "of": 56}] in table["rows"]
    assert health.lines()[0].startswith("cohort: 56 images; findings: stop ")
    assert len(health.lines()) == 1 + sum(f.level != "ok" for f in health.findings)


@pytest.mark.parametrize(
    ("cell", "plain", "hidden"),
    [
        (0, "0", "0"), (1, "1", "<5"), (4, "4", "<5"), (5, "5", "5"), (5216, "5,216", "5,216"),
        (Part(0, 40), "0 of 40 (0.0 %)", "0 of 40 (0.0 %)"),
        (Part(4, 40), "4 of 40 (10.0 %)", "<5 of 40"),
        (Part(37, 40), "37 of 40 (92.5 %)", "all but <5 of 40"),
        (Part(40, 40), "40 of 40 (100.0 %)", "40 of 40 (100.0 %)"),
        (Part(2, 3), "2 of 3 (66.7 %)", "<5"), (Part(0, 0), "0 of 0 (0.0 %)", "0 of 0 (0.0 %)"),
        (2.5, "2.5", "2.5"), ("<3", "<3", "<3"), (None, "-", "-"),
    ],
)  # fmt: skip
def test_cells(cell, plain, hidden):
    assert (exact(cell), coarse(cell)) == (plain, hidden)


def test_a_finding_names_at_most_twenty_images():
    one = finding("warn", "H-X", "{n} and {name}", (f"i_{k}" for k in range(50)), n=3, name="{n}")
    assert (one.sentence, one.coarse, len(one.images)) == ("3 and {n}", "<5 and {n}", 20)
