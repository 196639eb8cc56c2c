"""Whose picture it is, what a person decided, and a scan or decode that was stopped in the middle."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dicoms import radiograph, save, write
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.cli import main
from medssl.cohort import same, twins
from medssl.cohort import split as split_room
from medssl.cohort.privacy import normalise_id
from medssl.errors import UsageError
from medssl.files import locked, read_table

FULL_WIDTH = "\uff21\uff42\uff11"  # Ab1 as an East Asian keyboard may write it


def run(*words):
    return main([str(w) for w in words])


def rows(cohort):
    return pq.read_table(cohort / "manifest.parquet").to_pylist()


def files(cohort):
    return {Path(r["file"]).name: r for r in read_table(cohort / "private" / "files.csv")}


def suspects(cohort):
    return twins.suspects(cohort, {r["image_id"]: r["patient_id"] for r in rows(cohort)})


def scan(source, cohort, *more, site="a"):
    return run("scan", source, "--site", site, "--out", cohort, *more)


@pytest.fixture
def persons(tmp_path):
    """Six studies: one person under three spellings, one under two numbers, one alone."""
    source = tmp_path / "src"
    names = ["Ab1", "aB1", FULL_WIDTH, "17", "18", "P9"]
    for k, name in enumerate(names):
        more = (
            {"PatientName": "Roe^Jane", "PatientBirthDate": "19700102"}
            if name in {"17", "18"}
            else {}
        )
        write(source / f"{k}.dcm", k, PatientID=name, **more)
    return source


def test_suspicions_are_listed_linked_and_never_merged(persons, tmp_path, capsys):
    cohort = tmp_path / "c"
    assert scan(persons, cohort) == 0
    assert "3 pair(s) of identifiers may be one person" in capsys.readouterr().out
    assert len({r["patient_id"] for r in rows(cohort)}) == 6
    merge = read_table(cohort / "private" / "suspects.csv")
    assert {(r["patient_id"], r["same_as"]) for r in merge} == {
        ("aB1", "Ab1"),
        (FULL_WIDTH, "Ab1"),
        ("18", "17"),
    }
    assert {r["reason"] for r in merge} == {
        "identifiers differ in case, width or blanks only", "same name and birth date"}  # fmt: skip
    for seed in range(8):
        (cohort / "split.parquet").unlink(missing_ok=True)
        assert run("split", cohort, "--seed", seed, "--val", 0.3, "--test", 0.3) == 0
        place = split_room.read(cohort)
        for link in same.read_links(cohort):
            assert place[link["patient_a"]] == place[link["patient_b"]]
    capsys.readouterr()
    (cohort / "split.parquet").unlink()
    assert scan(persons, cohort, "--update", "--merge", cohort / "private" / "suspects.csv") == 0
    assert "may be one person" not in capsys.readouterr().out
    assert len({r["patient_id"] for r in rows(cohort)}) == 3
    told = {r["patient_id"] for r in files(cohort).values()}
    assert told == {"Ab1", "aB1", FULL_WIDTH, "17", "18", "P9"}  # the accounts keep what was found


def test_one_number_at_two_sites_is_two_people(tmp_path):
    write(tmp_path / "src" / "1.dcm", 1, PatientID="007")
    pseudonyms = set()
    for site in ("a", "b"):
        assert scan(tmp_path / "src", tmp_path / site, site=site) == 0
        pseudonyms |= {r["patient_id"] for r in rows(tmp_path / site)}
    assert len(pseudonyms) == 2


def test_an_alias_takes_the_issuer_of_its_chief(tmp_path):
    write(tmp_path / "src" / "1.dcm", 1, PatientID="A", IssuerOfPatientID="H1")
    write(tmp_path / "src" / "2.dcm", 2, PatientID="B")
    table = tmp_path / "merge.csv"
    table.write_text("patient_id,same_as\nB,A\n")
    assert scan(tmp_path / "src", tmp_path / "c", "--merge", table) == 0
    assert len({r["patient_id"] for r in rows(tmp_path / "c")}) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [("patient_id,other\nA,B\n", "columns"), ("patient_id,same_as\nA,A\n", "itself"),
     ("patient_id,same_as\nA,B\nA,C\n", "two others"), ("patient_id,same_as\nA,B\nB,A\n", "circle"),
     ("patient_id,same_as\nA,\n", "blank")],
)  # fmt: skip
def test_merge_tables_that_contradict_themselves(tmp_path, text, words):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UsageError, match=words):
        same.read_aliases([tmp_path / "m.csv"])


ids = st.text(min_size=1, max_size=12).map(normalise_id).filter(bool)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(ids, ids, max_size=8))
def test_chains_end_where_following_them_ends(table):
    import csv
    import tempfile

    direct = {a: b for a, b in table.items() if a != b}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        with path.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out, quoting=csv.QUOTE_ALL).writerows(
                [("patient_id", "same_as"), *direct.items()]
            )
        seen = {a: [a] for a in direct}
        circle = False
        for alias, line in seen.items():
            while line[-1] in direct and not circle:
                circle = direct[line[-1]] in line
                line.append(direct[line[-1]])
            assert alias == line[0]
        try:
            got = same.read_aliases([path])
        except UsageError:
            assert circle or not direct
            return
        assert not circle
        assert {a: got.settle("s", ("", a))[1] for a in direct} == {
            a: line[-1] for a, line in seen.items()
        }


def test_nobodys_studies_are_for_training_only(tmp_path):
    for k in range(6):
        write(tmp_path / "src" / f"{k}.dcm", k, PatientID=["", " ", "\0", "^", None, "P"][k])
        write(tmp_path / "src" / f"{k}b.dcm", 10 + k, PatientID=f"Q{k}")
    assert scan(tmp_path / "src", tmp_path / "plain") == 0
    told = files(tmp_path / "plain")
    assert {n for n, r in told.items() if r["code"] == "E-NOPATIENT"} == {
        f"{k}.dcm" for k in range(5)
    }
    cohort = tmp_path / "c"
    assert scan(tmp_path / "src", cohort, "--allow-unknown-patient") == 0
    unknown = {r["patient_id"] for r in rows(cohort) if "W-UNKNOWN-PATIENT" in r["notes"]}
    assert len(unknown) == 5  # each study its own, never one shared nobody
    for seed in range(6):
        (cohort / "split.parquet").unlink(missing_ok=True)
        assert run("split", cohort, "--seed", seed, "--val", 0.4, "--test", 0.4) == 0
        assert {split_room.read(cohort)[p] for p in unknown} == {"train"}


def test_two_people_in_one_series_are_set_aside_and_named(tmp_path):
    for k, patient in enumerate(["A", "A", "B"]):
        write(tmp_path / "src" / f"{k}.dcm", k, PatientID=patient, SeriesInstanceUID="1.2.3")
    write(tmp_path / "src" / "ok.dcm", 9)
    assert scan(tmp_path / "src", tmp_path / "c") == 0
    assert {r["code"] for n, r in files(tmp_path / "c").items() if n != "ok.dcm"} == {
        "E-TWO-PATIENTS"
    }


def test_burned_in_text_waits_for_an_eye(tmp_path):
    write(tmp_path / "src" / "1.dcm", 1, BurnedInAnnotation="YES")
    write(tmp_path / "src" / "2.dcm", 2, BurnedInAnnotation="NO")
    assert scan(tmp_path / "src", tmp_path / "c") == 0
    assert files(tmp_path / "c")["1.dcm"]["code"] == "R-BURNED-IN"
    assert scan(tmp_path / "src", tmp_path / "c", "--update", "--allow-burned-in") == 0
    assert len(rows(tmp_path / "c")) == 2


def test_one_site_left_out(tmp_path):
    lines = ["patient_id,site"]
    for k in range(12):
        write(tmp_path / "src" / f"{k}.dcm", k)
        lines.append(f"P{k},{'abc'[k % 3]}")
    table = tmp_path / "sites.csv"
    table.write_text("\n".join(lines))
    cohort = tmp_path / "c"
    assert (
        run("scan", tmp_path / "src", "--site-column", "site", "--table", table, "--out", cohort)
        == 0
    )
    assert run("split", cohort, "--test-site", "b", "--val", 0.25) == 0
    place = split_room.read(cohort)
    assert {place[r["patient_id"]] for r in rows(cohort) if r["site"] == "b"} == {"test"}
    assert {place[r["patient_id"]] for r in rows(cohort) if r["site"] != "b"} == {"train", "val"}
    assert run("split", cohort, "--test-site", "a") == 4
    assert run("split", cohort, "--test-site", "x") == 2


def test_the_year_leaves_and_the_date_stays(tmp_path):
    for k, day in enumerate(["20191230", "20200109", ""]):
        write(tmp_path / "src" / f"{k}.dcm", k, PatientID="P", StudyDate=day)
    assert scan(tmp_path / "src", tmp_path / "c") == 0
    assert sorted((r["year"], r["day"]) for r in rows(tmp_path / "c") if r["year"]) == [
        (2019, 0),
        (2020, 10),
    ]


def test_final_verdicts_after_decode(tmp_path):
    flat = radiograph(1)
    flat.PixelData = b"\1\0" * (24 * 18)
    save(tmp_path / "src" / "flat.dcm", flat)
    write(tmp_path / "src" / "ok.dcm", 2)
    (tmp_path / "src" / "notes.txt").write_text("nothing")
    cohort = tmp_path / "c"
    assert scan(tmp_path / "src", cohort) == 0
    assert {r["verdict"] for n, r in files(cohort).items() if n.endswith("dcm")} == {"indexed"}
    for _ in range(2):  # a repeated decode repeats no line
        assert run("decode", cohort, "--size", 16) == 0
        told = files(cohort)
        assert (told["flat.dcm"]["verdict"], told["flat.dcm"]["code"]) == (
            "quarantined",
            "E-CONSTANT",
        )
        assert told["ok.dcm"]["verdict"] == "indexed"
        assert told["notes.txt"]["verdict"] == "skipped"
        lines = read_table(cohort / "quarantine.csv")
        assert [(r["stage"], r["code"]) for r in lines] == [
            ("scan", "S-NOTIMAGE"),
            ("decode", "E-CONSTANT"),
        ]
    write(tmp_path / "src" / "flat.dcm", 1)  # sent again, whole
    assert run("decode", cohort, "--size", 16) == 0
    assert files(cohort)["flat.dcm"]["verdict"] == "indexed"
    assert len(read_table(cohort / "quarantine.csv")) == 1


def test_an_unchanged_file_is_not_opened_again(tmp_path, monkeypatch):
    monkeypatch.setattr("medssl.cohort.cache.FRESH_NS", 0)
    for k in range(5):
        path = write(tmp_path / "src" / f"{k}.dcm", k)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    assert scan(tmp_path / "src", tmp_path / "c") == 0
    from medssl.cohort import scan as room

    opened = []
    real = room.answers

    def spy(jobs, settings):
        jobs = list(jobs)
        opened.extend(Path(j.paths[0]).name for j in jobs)
        return real(iter(jobs), settings)

    monkeypatch.setattr(room, "answers", spy)
    before = (tmp_path / "c" / "manifest.parquet").read_bytes()
    assert scan(tmp_path / "src", tmp_path / "c", "--update") == 0
    assert opened == []
    assert (tmp_path / "c" / "manifest.parquet").read_bytes() == before
    write(tmp_path / "src" / "3.dcm", 33)
    assert scan(tmp_path / "src", tmp_path / "c", "--update") == 0
    assert opened == ["3.dcm"]
    assert oct((tmp_path / "c" / "private" / "headers.jsonl").stat().st_mode)[-3:] == "600"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough files for a kill to land in the middle."""
    source = tmp_path_factory.mktemp("many")
    for k in range(60):
        write(source / f"{k:03d}.dcm", k, shape=(96, 64), PatientID=f"P{k // 2}")
    for path in source.iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return source


CACHES = {".lock", "headers.jsonl", "tree.sha256"}


def fingerprint(cohort):
    """Bytes of everything that a scan and a decode write, but for locks, times and the cache's order."""
    out = {}
    for path in sorted(cohort.rglob("*")):
        if path.is_file() and path.name not in CACHES:
            out[path.relative_to(cohort).as_posix()] = path.read_bytes()
    return out


def test_stopped_anywhere_and_called_again(many, tmp_path, monkeypatch):
    """Kill -9 at random moments of scan and decode, then again until done: the same bytes."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    small = {"MEDSSL_TEST_SHARD_BYTES": str(7 * 2 * 32 * 32)}
    code = (
        "import os, sys, medssl.decode as d; d.SHARD_BYTES = int(os.environ['MEDSSL_TEST_SHARD_BYTES']); "
        "d.INDEX_EVERY_S = 0.0; from medssl.cli import main; sys.exit(main(sys.argv[1:]))"
    )

    def start(*words):
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)], env={**os.environ, **small},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip

    def verbs(cohort):
        yield ["scan", many, "--site", "a", "--out", cohort], cohort / "manifest.parquet"
        yield ["decode", cohort, "--size", 32], None

    lasted = []
    for words, _ in verbs(whole):
        begun = time.monotonic()
        process = start(*words)
        assert process.communicate()[1] == b""
        assert process.returncode == 0
        lasted.append(time.monotonic() - begun)
    dice, kills = random.Random(5), 0
    for (words, done), seconds in zip(verbs(torn), lasted, strict=True):
        for attempt in range(12):
            process = start(*words)
            if attempt < 5:
                time.sleep(dice.uniform(0.25, 0.85) * seconds)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    kills += 1
                else:
                    seconds *= 0.6  # the measured run was slower: it found cold files
            error = process.communicate()[1].decode()
            if process.returncode == 0 and (done is None or attempt >= 5):
                break
            if done is not None and done.is_file():
                break  # killed after the last write
            assert process.returncode in {0, -9}, error
    assert kills >= 2
    assert fingerprint(torn) == fingerprint(whole)
    assert len(list((whole / "store").glob("*/pixels-*.npy"))) == 9


def test_a_full_disk_is_said_and_loses_nothing(many, tmp_path):
    """No file may grow beyond a limit, as on a full disk; without the limit the same command ends well."""
    code = (
        "import resource, sys, medssl.decode as d; d.SHARD_BYTES = 40 * 2 * 64 * 64; d.INDEX_EVERY_S = 0.0; "
        "limit = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); "
        "from medssl.cli import main; sys.exit(main(sys.argv[2:]))"
    )

    def call(limit, *words):
        command = [sys.executable, "-c", code, str(limit), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def verbs(cohort):
        return ["scan", many, "--site", "a", "--out", cohort], ["decode", cohort, "--size", 64]

    for words in verbs(tmp_path / "whole"):
        assert call(1 << 30, *words).returncode == 0
    for words, limit in zip(verbs(tmp_path / "torn"), (9_000, 200_000), strict=True):
        done = call(limit, *words)
        assert (done.returncode, "disk is full" in done.stderr) == (6, True), done.stderr
        assert "Traceback" not in done.stderr
        assert call(1 << 30, *words).returncode == 0
    assert fingerprint(tmp_path / "torn") == fingerprint(tmp_path / "whole")


def test_two_runs_on_one_target(many, tmp_path, capsys):
    cohort = tmp_path / "c"
    cohort.mkdir()
    with locked(cohort):
        assert scan(many, cohort) == 4
    assert "in use by another run" in capsys.readouterr().err
    assert scan(many, cohort) == 0


def test_near_copies_are_kept_on_one_side(tmp_path):
    """Two patient IDs with one picture, re-encoded: a suspicion that no split tears."""
    for k in range(10):
        write(tmp_path / "src" / f"{k}.dcm", k, shape=(64, 48))
    ds = radiograph(
        3, shape=(64, 48), PatientID="COPY", SOPInstanceUID="1.2.9", SeriesInstanceUID="1.3.9"
    )
    array = np.frombuffer(ds.PixelData, np.uint16).astype(float)
    ds.PixelData = (
        np.clip(array + np.random.default_rng(1).normal(0, 40, array.size), 0, 4095)
        .astype(np.uint16)
        .tobytes()
    )
    save(tmp_path / "src" / "copy.dcm", ds)
    cohort = tmp_path / "c"
    assert scan(tmp_path / "src", cohort) == 0
    assert run("decode", cohort, "--size", 64) == 0
    pairs = suspects(cohort)
    told = files(cohort)
    assert {frozenset(p) for p in pairs} == {
        frozenset({told["copy.dcm"]["pseudonym"], told["3.dcm"]["pseudonym"]})
    }
    for seed in range(6):
        (cohort / "split.parquet").unlink(missing_ok=True)
        assert run("split", cohort, "--seed", seed, "--val", 0.3, "--test", 0.3) == 0
        place = split_room.read(cohort)
        assert all(place[a] == place[b] for a, b in pairs)
    assert json.loads((cohort / "cohort.json").read_text())["found"] == 11


def test_a_corrected_patient_corrects_the_pairs(tmp_path):
    """Pairs name patients: after a merge they are sought anew, though no pixel changed."""
    ds = radiograph(
        3, shape=(64, 48), PatientID="COPY", SOPInstanceUID="1.2.9", SeriesInstanceUID="1.3.9"
    )
    save(tmp_path / "src" / "copy.dcm", ds)
    for k in range(5):
        write(tmp_path / "src" / f"{k}.dcm", k, shape=(64, 48))
    cohort, table = tmp_path / "c", tmp_path / "merge.csv"
    assert scan(tmp_path / "src", cohort) == 0
    assert run("decode", cohort, "--size", 32) == 0
    assert len(suspects(cohort)) == 1
    table.write_text("patient_id,same_as\nCOPY,P1\n")  # not P3, whose picture it is
    assert scan(tmp_path / "src", cohort, "--update", "--merge", table) == 0
    assert run("decode", cohort, "--size", 32) == 0
    told = files(cohort)
    wanted = tuple(sorted({told["3.dcm"]["pseudonym"], told["1.dcm"]["pseudonym"]}))
    assert suspects(cohort) == [wanted]


def test_decode_sees_that_a_file_became_another_patients(tmp_path):
    """Two files change places after the scan: neither picture is stored under the other's name."""
    a, b = write(tmp_path / "src" / "a.dcm", 1), write(tmp_path / "src" / "b.dcm", 2)
    write(tmp_path / "src" / "c.dcm", 3)
    assert scan(tmp_path / "src", tmp_path / "c") == 0
    a.rename(tmp_path / "x")
    b.rename(a)
    (tmp_path / "x").rename(b)
    assert run("decode", tmp_path / "c", "--size", 16) == 0
    told = files(tmp_path / "c")
    assert {n: r["code"] for n, r in told.items()} == {
        "a.dcm": "E-CHANGED",
        "b.dcm": "E-CHANGED",
        "c.dcm": "",
    }
    assert scan(tmp_path / "src", tmp_path / "c", "--update") == 0
    assert run("decode", tmp_path / "c", "--size", 16) == 0
    assert {r["code"] for r in files(tmp_path / "c").values()} == {""}


def test_confirmed_identities_stay_confirmed_and_rejected_ones_rejected(tmp_path):
    """A plain --update neither forgets what was merged nor merges what was only suspected."""
    for k, name in enumerate(["p1", "P1", "x2", "X2"]):
        write(tmp_path / "src" / f"{k}.dcm", k, PatientID=name)
    cohort, table = tmp_path / "c", tmp_path / "mine.csv"
    assert scan(tmp_path / "src", cohort) == 0
    table.write_text("patient_id,same_as,site\np1,P1,a\nghost,P1,a\np1,x2,elsewhere\n")
    assert scan(tmp_path / "src", cohort, "--update", "--merge", table) == 0
    table.unlink()
    for _ in range(3):
        assert scan(tmp_path / "src", cohort, "--update") == 0
        told = {n: r["pseudonym"] for n, r in files(cohort).items()}
        assert told["0.dcm"] == told["1.dcm"]
        assert len(set(told.values())) == 3
        assert len(read_table(cohort / "private" / "suspects.csv")) == 1
    assert json.loads((cohort / "cohort.json").read_text())["merge_unused"] == 2


def test_a_table_that_contradicts_itself_names_no_site(tmp_path):
    write(tmp_path / "src" / "1.dcm", 1, PatientID="007")
    write(tmp_path / "src" / "2.dcm", 2, PatientID="8")
    (tmp_path / "t.csv").write_text("patient_id,site\n007,A\n007,B\n8,A\n")
    base = ["scan", tmp_path / "src", "--site-column", "site", "--table", tmp_path / "t.csv"]
    assert run(*base, "--out", tmp_path / "c") == 0
    assert files(tmp_path / "c")["1.dcm"]["code"] == "E-NOSITE"


def test_free_words_in_label_columns_stay_out(tmp_path):
    lines = ["patient_id,finding,grade,seen_by,city,impression"]
    for k in range(16):
        write(tmp_path / "src" / f"{k}.dcm", k)
        who = "Dr. Geheim" if k % 2 else "Dr. Rat"
        lines.append(f"P{k},{'bacteria' if k % 2 else 'virus'},{k % 3},{who},Ulm,see Mrs {k % 2}")
    (tmp_path / "l.csv").write_text("\n".join(lines))
    assert scan(tmp_path / "src", tmp_path / "c", "--labels", tmp_path / "l.csv") == 0
    names = pq.read_schema(tmp_path / "c" / "labels.parquet").names
    assert set(names) == {"image_id", "slice", "finding", "grade"}


def test_slices_of_a_sagittal_series_name_no_axial_plane(tmp_path):
    """Stored planes are axial: a label of a sagittal file must not land on one of them."""
    lines = ["sop_uid,tumour"]
    for turn, series in (([0, 1, 0, 0, 0, -1], "1.7"), ([1, 0, 0, 0, 1, 0], "1.8")):
        normal = np.cross(turn[:3], turn[3:])
        for k in range(5):
            uid = f"{series}.{k + 1}"
            write(tmp_path / "src" / f"{uid}.dcm", k, shape=(8, 6), Modality="MR", SeriesInstanceUID=series,
                  SOPInstanceUID=uid, PatientID=series, ImageOrientationPatient=turn, PixelSpacing=[1, 2],
                  ImagePositionPatient=list(normal * 3.0 * k))  # fmt: skip
            lines.append(f"{uid},{int(k == 3)}")
    (tmp_path / "l.csv").write_text("\n".join(lines))
    assert scan(tmp_path / "src", tmp_path / "c", "--labels", tmp_path / "l.csv") == 0
    labels = pq.read_table(tmp_path / "c" / "labels.parquet").to_pylist()
    axial = {
        r["image_id"]
        for r in rows(tmp_path / "c")
        if r["patient_id"] == files(tmp_path / "c")["1.8.1.dcm"]["pseudonym"]
    }
    assert {r["image_id"] for r in labels} == axial
    assert len(labels) == 5
    report = json.loads((tmp_path / "c" / "cohort.json").read_text())["labels"][0]
    assert (report["joined"], report["orphans"]) == (5, 5)


def test_a_file_below_two_sources_is_read_once(tmp_path):
    import nibabel as nib

    place = tmp_path / "src" / "sub"
    place.mkdir(parents=True)
    nib.save(
        nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)),
        place / "sub-1_T1w.nii",
    )
    assert run("scan", tmp_path / "src", place, "--site", "a", "--out", tmp_path / "c") == 0
    assert len(rows(tmp_path / "c")) == 1
    codes = [r["code"] for r in read_table(tmp_path / "c" / "private" / "files.csv")]
    assert sorted(codes) == ["", "S-TWICE"]


def test_a_placeholder_name_makes_nobody_one_person(tmp_path):
    for k in range(8):
        write(
            tmp_path / "src" / f"{k}.dcm",
            k,
            PatientName="Study^Subject",
            PatientBirthDate="19700101",
        )
    assert scan(tmp_path / "src", tmp_path / "c") == 0
    assert same.read_links(tmp_path / "c") == []


def test_a_tree_that_did_not_change_is_not_read_again(tmp_path, monkeypatch):
    """Named from elsewhere it is the same tree; a new file, table or flag is not the same question."""
    monkeypatch.setattr("medssl.cohort.cache.FRESH_NS", 0)
    for k in range(3):
        write(tmp_path / "src" / f"{k}.dcm", k)
    (tmp_path / "src" / "notes.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    assert scan(Path("src"), tmp_path / "c") == 0
    from medssl.cohort import scan as room

    calls = []
    real = room.build
    monkeypatch.setattr(room, "build", lambda *a: calls.append(1) or real(*a))
    assert scan(tmp_path / "src", tmp_path / "c", "--update") == 0
    assert calls == []
    (tmp_path / "c" / "quarantine.csv").unlink()  # an output that is gone is made anew
    assert scan(tmp_path / "src", tmp_path / "c", "--update") == 0
    assert (tmp_path / "c" / "quarantine.csv").is_file()
    (tmp_path / "l.csv").write_text("patient_id,finding\nP0,a\nP1,b\nP2,a\n")
    assert scan(tmp_path / "src", tmp_path / "c", "--update", "--labels", tmp_path / "l.csv") == 0
    write(tmp_path / "src" / "3.dcm", 3)
    assert scan(tmp_path / "src", tmp_path / "c", "--update") == 0
    assert len(calls) == 3
    assert len(rows(tmp_path / "c")) == 4
