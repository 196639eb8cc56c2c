"""No leak, no identity, no silence: the ways in which each promise could be broken, tried."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import SIZE, SMALL
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medssl.cli import main
from medssl.cohort import split as split_room
from medssl.cohort import terms
from medssl.errors import RefusedError
from medssl.files import read_table

SIMCLR = "configs/pretrain/simclr-cxr.yaml"


def run(*words):
    return main([str(w) for w in words])


def slice_file(
    path, *, patient="P1", series, position, orientation=(1, 0, 0, 0, 1, 0), uid=None, **elements
):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, uid or generate_uid()
    ds.StudyInstanceUID = ds.SeriesInstanceUID = series
    ds.PatientID, ds.Modality = patient, "CT"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 6, 5, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PhotometricInterpretation, ds.PixelSpacing = "MONOCHROME2", [1, 2]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = list(position), list(orientation)
    ds.PixelData = (
        np.random.default_rng(abs(hash(str(position))) % 999)
        .integers(0, 900, (6, 5), np.int16)
        .tobytes()
    )
    for name, value in elements.items():
        setattr(ds, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return ds.SOPInstanceUID


def rows(cohort):
    return pq.read_table(cohort / "manifest.parquet").to_pylist()


# --- no patient leaks ---


def test_resume_with_another_split_is_refused(cohorts, tmp_path, capsys):
    words = ["pretrain", SIMCLR, *SMALL, "duration={epochs: 2}", "--data", cohorts / "hospital_a"]
    assert run(*words, "--split", "none", "--out", tmp_path / "r") == 0
    state = json.loads((tmp_path / "r" / "run.json").read_text())
    (tmp_path / "r" / "run.json").write_text(json.dumps({**state, "status": "running"}))
    assert run(*words, "--out", tmp_path / "r", "--resume") == 4
    assert "split" in capsys.readouterr().err


def test_update_keeps_the_site(cohort_copy, tree, capsys):
    before = rows(cohort_copy)
    assert (
        run("scan", tree / "hospital_b", "--site", "other", "--out", cohort_copy, "--update") == 4
    )
    assert "another site" in capsys.readouterr().err
    assert rows(cohort_copy) == before


def test_a_corrected_patient_reaches_the_store(tmp_path):
    from PIL import Image

    folder = tmp_path / "png"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (20, 30), dtype=np.uint8)).save(
            folder / f"{k}.png"
        )
    table = tmp_path / "who.csv"
    table.write_text("file,patient_id\n0.png,P1\n1.png,P1\n2.png,P2\n")
    base = ["scan", folder, "--site", "s", "--table", table, "--out", tmp_path / "c"]
    assert run(*base) == 0
    assert run("decode", tmp_path / "c", "--size", 16) == 0
    table.write_text("file,patient_id\n0.png,P1\n1.png,P2\n2.png,P2\n")
    assert run(*base, "--update") == 0
    words = ["pretrain", SIMCLR, *SMALL, "decode.size=16", "precision=32"]
    words += ["duration={steps: 1}", "--split", "none"]
    assert run(*words, "--data", tmp_path / "c", "--out", tmp_path / "r") == 3  # the store is older
    assert run("decode", tmp_path / "c", "--size", 16) == 0
    stored = pq.read_table(next((tmp_path / "c" / "store").glob("*/index.parquet"))).to_pylist()
    owner = {r["image_id"]: r["patient_id"] for r in rows(tmp_path / "c")}
    assert {r["image_id"]: r["patient_id"] for r in stored} == owner


def test_unlabelled_partners_of_tested_patients():
    with pytest.raises(RefusedError, match="identical pictures"):
        split_room._check_units({"p1": "p1", "p2": "p1"}, {"p1": "test", "p2": "unlabelled"})


def test_one_issuer_or_none_is_one_patient(tmp_path):
    for k, issuer in enumerate(["H", "", "H"]):
        slice_file(
            tmp_path / "s" / f"{k}.dcm",
            patient="77",
            series=generate_uid(),
            position=(0, 0, k),
            IssuerOfPatientID=issuer,
        )
    assert run("scan", tmp_path / "s", "--site", "a", "--out", tmp_path / "c") == 0
    assert len({r["patient_id"] for r in rows(tmp_path / "c")}) == 1


def test_validation_patients_count_as_seen(classifier_run, cohorts):
    from medssl.cohort.privacy import patient_digest

    seen = set(json.loads((classifier_run / "classifier.json").read_text())["seen"])
    place = split_room.read(cohorts / "hospital_a")
    assert seen == {patient_digest(p) for p, where in place.items() if where != "test"}


# --- no identity leaks ---


def test_identifying_columns_stay_out(tree, tmp_path, capsys):
    lines = (tree / "hospital_a" / "labels.csv").read_text().splitlines()
    head, body = lines[0], lines[1:]
    table = tmp_path / "l.csv"
    extra = "nhs_number,patient,ward,birth_half"
    numbered = [
        f"{line},94347659{line.split(',')[1][-2:]},N{line.split(',')[1]},{k % 2},{k % 2}"
        for k, line in enumerate(body)
    ]
    table.write_text("\n".join([f"{head},{extra}", *numbered]) + "\n")
    assert (
        run("scan", tree / "hospital_a", "--site", "a", "--labels", table, "--out", tmp_path / "c")
        == 0
    )
    names = pq.read_schema(tmp_path / "c" / "labels.parquet").names
    assert set(names) == {"image_id", "slice", "finding", "kind", "ward"}
    said = capsys.readouterr().out
    assert "left out nhs_number" in said
    assert "left out birth_half" in said  # few values, and still somebody's birth


@pytest.mark.parametrize(
    ("keyword", "text", "left"),
    [("manufacturer", "Doe Devices", "other"), ("manufacturer", "SIEMENS Healthineers, Jane Doe", "Siemens"),
     ("manufacturer", "GE MEDICAL SYSTEMS", "GE"), ("manufacturer", "", None), ("manufacturer", "Georgia", "other"),
     ("model", "LightSpeed VCT of Dr Doe", "LightSpeed VCT"), ("model", "Visionary Jane", "other"),
     ("body_part", "SMITH JOHN", "other"), ("body_part", "C-SPINE", "CSPINE"), ("body_part", "99887766", "other"),
     ("view", "pa", "PA"), ("view", "DOE", "other"), ("modality", "CR", "CR"), ("modality", "JANE", "other"),
     ("laterality", "L", "L"), ("sex", "X", None), ("photometric", "MONOCHROME1", "MONOCHROME1"),
     ("intent", "FOR DOE", "other"), ("transfer_syntax", "1.2.3.99887766", None)],
)  # fmt: skip
def test_text_leaves_through_its_table_alone(keyword, text, left):
    assert terms.public({keyword: text})[keyword] == left


def test_runs_hold_no_absolute_path(report_run):
    for name in ("run.json", "report.json", "report.html"):
        assert str(report_run.parent) not in (report_run / name).read_text()


# --- nothing lost or invented in silence ---


def test_an_absent_share_costs_nothing_decoded(tree, tmp_path):
    source = shutil.copytree(tree / "hospital_b", tmp_path / "share")
    assert run("scan", source, "--site", "hospital_b", "--out", tmp_path / "c") == 0
    assert run("decode", tmp_path / "c", "--size", SIZE) == 0
    index = next((tmp_path / "c" / "store").glob("*/index.parquet"))
    before = pq.read_table(index).num_rows
    source.rename(tmp_path / "elsewhere")
    assert run("decode", tmp_path / "c", "--size", SIZE) == 0
    assert pq.read_table(index).num_rows == before
    assert (
        run(
            "scan", tree / "hospital_b", "--site", "hospital_b", "--out", tmp_path / "c", "--update"
        )
        == 4
    )


def test_images_that_vanish_between_scans_are_counted(tree, tmp_path, capsys):
    source = shutil.copytree(tree / "hospital_b", tmp_path / "share")
    base = ["scan", source, "--site", "hospital_b", "--out", tmp_path / "c"]
    assert run(*base) == 0
    for path in sorted((source / "dicom").glob("*.dcm"))[:2]:
        path.unlink()
    capsys.readouterr()
    assert run(*base, "--update") == 0
    assert "2 images of the earlier scan were not found again" in capsys.readouterr().out
    assert json.loads((tmp_path / "c" / "cohort.json").read_text())["gone"] == 2


def test_two_stacks_in_one_series(tmp_path):
    series = generate_uid()
    for k in range(3):
        slice_file(tmp_path / "s" / f"a{k}.dcm", series=series, position=(0, 0, k))
        slice_file(
            tmp_path / "s" / f"b{k}.dcm",
            series=series,
            position=(k, 0, 0),
            orientation=(0, 1, 0, 0, 0, -1),
        )
    assert run("scan", tmp_path / "s", "--site", "a", "--out", tmp_path / "c") == 0
    assert [r["kind"] for r in rows(tmp_path / "c")] == ["volume", "volume"]


def test_labels_of_a_stack_go_to_their_slices(tmp_path):
    """By SOP Instance UID, whatever the order of the files; out of range is an orphan."""
    series = generate_uid()
    uids = [
        slice_file(tmp_path / "s" / f"{9 - k}.dcm", series=series, position=(0, 0, 10 * k))
        for k in range(4)
    ]
    table = tmp_path / "l.csv"
    table.write_text(
        "sop_instance_uid,finding\n" + "".join(f"{u},{k % 2}\n" for k, u in enumerate(uids))
    )
    words = ["--site", "a", "--labels", table, "--label", "finding", "--out", tmp_path / "c"]
    assert run("scan", tmp_path / "s", *words) == 0
    assert run("decode", tmp_path / "c", "--size", 16) == 0
    labels = {
        r["slice"]: r["finding"]
        for r in pq.read_table(tmp_path / "c" / "labels.parquet").to_pylist()
    }
    assert labels == {0: "0", 1: "1", 2: "0", 3: "1"}
    index = pq.read_table(next((tmp_path / "c" / "store").glob("*/index.parquet"))).to_pylist()
    assert sorted(r["slice"] for r in index) == [0, 1, 2, 3]
    table.write_text("patient_id,slice,finding\nP1,3,1\nP1,999,1\n")
    words[-1] = tmp_path / "d"
    assert run("scan", tmp_path / "s", *words) == 0
    report = json.loads((tmp_path / "d" / "cohort.json").read_text())["labels"][0]
    assert (report["joined"], report["orphans"]) == (1, 1)


def test_a_name_that_two_files_have_is_no_name(tmp_path):
    from PIL import Image

    for folder in ("x", "y"):
        (tmp_path / "s" / folder).mkdir(parents=True)
        Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6)).save(
            tmp_path / "s" / folder / "1.png"
        )
    (tmp_path / "who.csv").write_text("file,patient_id\n1.png,P\n")
    base = ["--site", "s", "--table", tmp_path / "who.csv", "--out", tmp_path / "c"]
    assert run("scan", tmp_path / "s", *base) == 3
    assert {r["code"] for r in read_table(tmp_path / "c" / "quarantine.csv")} == {"E-NOPATIENT"}


def test_label_tables_that_disagree(tree, tmp_path, capsys):
    source = tree / "hospital_b"
    lines = (source / "labels.csv").read_text().splitlines()
    uid, patient, finding, *rest = lines[1].split(",")
    (tmp_path / "l.csv").write_text(
        "\n".join([lines[0], ",".join([uid, patient, str(1 - int(finding)), *rest])]) + "\n"
    )
    words = [
        "--labels",
        source / "labels.csv",
        "--labels",
        tmp_path / "l.csv",
        "--label",
        "finding",
    ]
    assert run("scan", source, "--site", "b", *words, "--out", tmp_path / "c") == 2
    assert "two values of finding" in capsys.readouterr().err
    assert not (tmp_path / "c" / "manifest.parquet").exists()


def test_other_label_values_are_named(tree, classifier_run, tmp_path):
    lines = (tree / "hospital_b" / "labels.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    words = {"0": "no", "1": "yes", "finding": "finding"}
    (tmp_path / "l.csv").write_text(
        "\n".join(",".join([c[0], c[1], words[c[2]]]) for c in cells) + "\n"
    )
    base = ["--site", "hospital_b", "--labels", tmp_path / "l.csv", "--out", tmp_path / "c"]
    assert run("scan", tree / "hospital_b", *base) == 0
    out = tmp_path / "r"
    settings = ["resamples=100", "permutations=99"]
    assert run("evaluate", classifier_run, *settings, "--data", tmp_path / "c", "--out", out) == 0
    verdict = json.loads((out / "report.json").read_text())["verdict"]
    assert verdict["answer"] == "cannot tell"
    assert "none of the model's" in verdict["reasons"][0]


def test_strange_names_cost_nothing(tree, tmp_path):
    """Names that are not UTF-8, hold a newline or a formula are read and listed."""
    import os

    folder = tmp_path / "s"
    folder.mkdir()
    good = next((tree / "hospital_b" / "dicom").glob("*.dcm")).read_bytes()
    for name in (b"M\xfcller", b"new\nline.dcm", b"=cmd().dcm"):
        with open(os.fsencode(folder) + b"/" + name, "wb") as out:  # noqa: PTH123
            out.write(good if name != b"=cmd().dcm" else b"not an image")
    assert run("scan", folder, "--site", "a", "--out", tmp_path / "c") == 0
    assert run("decode", tmp_path / "c", "--size", 16) == 0
    files = read_table(tmp_path / "c" / "private" / "files.csv")
    assert len(files) == 3


def test_whole_volumes_set_pictures_aside(tree, tmp_path):
    assert run("scan", tree / "hospital_b" / "dicom", "--site", "a", "--out", tmp_path / "c") == 0
    assert run("decode", tmp_path / "c", "--size", 16, "--volumes", "whole") == 3
    codes = {r["code"] for r in read_table(tmp_path / "c" / "quarantine.csv")}
    assert "E-NOTAVOLUME" in codes


def test_a_second_key_does_not_blind_the_guard(tree, classifier_run, tmp_path, capsys):
    """Hospital A's own films under another site name and key: other pseudonyms, the same pictures."""
    source, cohort = tree / "hospital_a", tmp_path / "c"
    base = ["--site", "elsewhere", "--key-file", tmp_path / "other.key", "--out", cohort]
    assert run("scan", source, *base, "--labels", source / "labels.csv") == 0
    words = ["resamples=100", "permutations=99", "--data", cohort]
    assert run("evaluate", classifier_run, *words, "--out", tmp_path / "r") == 4
    assert "pictures to be tested on were trained on" in capsys.readouterr().err
