"""Splits and budgets by brute force."""

from collections import Counter
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.cli import main
from medssl.cohort import split as room
from medssl.errors import RefusedError
from medssl.files import read_table

strata = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.sampled_from("xyz"), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(strata, st.integers(0, 99))
def test_every_patient_once_in_stable_places(who, seed):
    first = room.assign(who, seed, (0.2, 0.3))
    assert set(first) == set(who)
    assert set(first.values()) <= {"train", "val", "test"}
    shuffled = dict(sorted(who.items(), reverse=True))
    assert room.assign(shuffled, seed, (0.2, 0.3)) == first


def test_strata_keep_their_proportions():
    who = {f"p{k}": "rare" if k % 10 == 0 else "common" for k in range(1000)}
    got = room.assign(who, 0, (0.15, 0.2))
    for stratum, size in Counter(who.values()).items():
        counts = Counter(got[p] for p in who if who[p] == stratum)
        assert abs(counts["test"] - 0.2 * size) <= 1
        assert abs(counts["val"] - 0.15 * size) <= 1


@settings(max_examples=60, deadline=None)
@given(strata, st.integers(0, 99))
def test_budgets_are_nested_and_hold_every_class(classes, seed):
    percents = (1, 5, 10, 50, 100)
    drawn = room.budgets(classes, percents, seed)
    known = [set(drawn[p]) for p in percents if drawn[p] is not None]
    assert all(a <= b for a, b in pairwise(known))
    for patients in known:
        assert {classes[p] for p in patients} == set(classes.values())
    assert drawn[100] is None or set(drawn[100]) == set(classes)


def test_seeds_give_other_draws():
    classes = {f"p{k}": "ab"[k % 2] for k in range(100)}
    assert room.budgets(classes, (10,), 0) != room.budgets(classes, (10,), 1)


def read(cohort):
    return room.read(cohort)


def test_patients_never_straddle(cohorts):
    cohort = cohorts / "hospital_a"
    place = read(cohort)
    rows = pq.read_table(cohort / "manifest.parquet").to_pylist()
    assert {r["patient_id"] for r in rows} == set(place)
    assert set(place.values()) == {"train", "val", "test"}


def test_late_patients_join_without_moving_others(tree, tmp_path):
    files = sorted((tree / "hospital_a" / "dicom").glob("*.dcm"))
    early = [f for f in files if f.name < "A0020"]
    base = ["--site", "late", "--out", str(tmp_path / "c")]
    assert main(["scan", *map(str, early), *base]) == 0
    assert main(["split", str(tmp_path / "c")]) == 0
    before = read(tmp_path / "c")
    assert main(["scan", str(tree / "hospital_a" / "dicom"), *base, "--update"]) == 0
    assert main(["split", str(tmp_path / "c")]) == 0
    after = read(tmp_path / "c")
    assert len(after) > len(before)
    assert {p: after[p] for p in before} == before


def test_file_decides_and_may_not_move(cohort_copy, tmp_path):
    (cohort_copy / "split.parquet").unlink()
    names = sorted({r["patient_id"] for r in read_table(cohort_copy / "private/identifiers.csv")})
    table = tmp_path / "split.csv"
    table.write_text(
        "patient_id,split\n"
        + "".join(f"{n},{'test' if k % 3 == 0 else 'train'}\n" for k, n in enumerate(names))
    )
    assert main(["split", str(cohort_copy), "--file", str(table)]) == 0
    assert Counter(read(cohort_copy).values()) == {"train": 24, "test": 12}
    table.write_text(f"patient_id,split\n{names[0]},train\n")
    assert main(["split", str(cohort_copy), "--file", str(table)]) == 4
    table.write_text("patient_id,split\nnobody,train\n")
    assert main(["split", str(cohort_copy), "--file", str(table)]) == 2


def test_identical_pictures_move_together():
    with pytest.raises(RefusedError, match="identical pictures"):
        room._check_units({"p1": "p1", "p2": "p1"}, {"p1": "train", "p2": "test"})
    room._check_units({"p1": "p1", "p2": "p1"}, {"p1": "train", "p2": "unlabelled"})
