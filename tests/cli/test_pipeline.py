"""The main job by the user's door, on two small synthetic hospitals."""

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import SIZE, SMALL

from medssl.cli import main
from medssl.cohort import split as split_room
from medssl.cohort.privacy import patient_digest
from medssl.files import read_table

SIMCLR, MICLE = "configs/pretrain/simclr-cxr.yaml", "configs/pretrain/micle-cxr.yaml"


def run(*words):
    return main([str(w) for w in words])


def record(path):
    return json.loads((path / "run.json").read_text())


def test_accounts_add_up(cohorts, tree):
    for name in ("hospital_a", "hospital_b"):
        cohort = cohorts / name
        files = read_table(cohort / "private" / "files.csv")
        there = [p for p in (tree / name).rglob("*") if p.is_file()]
        assert len(files) == len(there)
        states = Counter(f["verdict"] for f in files)
        assert set(states) <= {"indexed", "skipped", "quarantined"}
        told = json.loads((cohort / "cohort.json").read_text())
        assert (
            told["found"] == told["indexed"] + told["skipped"] + told["quarantined"] == len(files)
        )
        table = pq.read_table(cohort / "manifest.parquet")
        assert table.num_rows == states["indexed"] == told["images"]
        aside = read_table(cohort / "quarantine.csv")
        assert {r["file_id"] for r in aside} == {
            f["file_id"] for f in files if f["verdict"] != "indexed"
        }


def test_private_files_are_private(cohorts):
    folder = cohorts / "hospital_a" / "private"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in folder.iterdir())


def test_no_identity_leaves(cohorts, report_run, tree, capsys):
    """No PatientID, UID, name or path of the source stands in anything but private/."""
    import pydicom

    secrets = set()
    for name in ("hospital_a", "hospital_b"):
        for path in (tree / name / "dicom").glob("*.dcm"):
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            secrets |= {
                str(ds.PatientID),
                str(ds.SOPInstanceUID),
                str(ds.StudyInstanceUID),
                path.stem,
            }
            secrets |= {str(ds.PatientName), str(ds.AccessionNumber)}
    secrets = {s.encode() for s in secrets if len(s) > 3}
    roots = [cohorts, report_run.parent]
    files = [p for r in roots for p in r.rglob("*") if p.is_file() and "private" not in p.parts]
    assert len(files) > 20
    for path in files:
        raw = path.read_bytes()
        hits = [s for s in secrets if s in raw or s.decode().encode("utf-16-le") in raw]
        assert not hits, (path, hits[:3])
    assert any(s in (cohorts / "hospital_a/private/identifiers.csv").read_bytes() for s in secrets)


def test_labels_reach_their_images(cohorts, tree):
    cohort = cohorts / "hospital_a"
    wanted = {
        r["sop_instance_uid"]: r["finding"] for r in read_table(tree / "hospital_a" / "labels.csv")
    }
    image = {
        r["sop_uid"]: r["image_id"] for r in read_table(cohort / "private" / "identifiers.csv")
    }
    got = {
        r["image_id"]: r["finding"] for r in pq.read_table(cohort / "labels.parquet").to_pylist()
    }
    assert got == {image[uid]: value for uid, value in wanted.items()}


def test_decode_again_decodes_nothing(cohort_copy, capsys):
    assert run("decode", cohort_copy, "--size", SIZE) == 0
    assert re.search(r"= (\d+) there already \+ 0 decoded \+ 0 set aside", capsys.readouterr().out)


def test_one_changed_file_decodes_one_image(tree, tmp_path, capsys):
    source = shutil.copytree(tree / "hospital_b", tmp_path / "source")
    assert run("scan", source, "--site", "hospital_b", "--out", tmp_path / "c") == 0
    assert run("decode", tmp_path / "c", "--size", SIZE) == 0
    first = next((source / "dicom").glob("*.dcm"))
    first.write_bytes(first.read_bytes() + b"\0\0")
    capsys.readouterr()
    assert run("decode", tmp_path / "c", "--size", SIZE) == 0
    assert " + 1 decoded + 0 set aside" in capsys.readouterr().out


def test_pretraining_saw_training_patients_only(cohorts, simclr_run):
    place = split_room.read(cohorts / "hospital_a")
    seen = set(json.loads((simclr_run / "encoder.json").read_text())["seen"])
    assert seen == {patient_digest(p) for p, where in place.items() if where == "train"}


def test_micle_from_simclr(cohorts, simclr_run, tmp_path):
    out = tmp_path / "micle"
    words = [MICLE, *SMALL, "duration={epochs: 2}", f"init={simclr_run}"]
    assert run("pretrain", *words, "--data", cohorts / "hospital_a", "--out", out) == 0
    got = record(out)
    assert got["status"] == "done"
    assert 0 < got["summary"]["pair_share"] <= 1
    place = split_room.read(cohorts / "hospital_a")
    assert got["summary"]["patients"] == sum(w == "train" for w in place.values())
    lines = [json.loads(x) for x in (out / "log.jsonl").read_text().splitlines()]
    first, *_, step, last = lines
    assert {"step", "loss", "z_std", "lr", "pair_share", "images_per_s", "wait"} <= set(step)
    for measured in (first, last):
        assert {"step", "effective_rank", "uniformity", "alignment", "retrieval"} <= set(measured)


def test_curve_and_predictions(classifier_run, cohorts):
    curve = pq.read_table(classifier_run / "curve.parquet").to_pylist()
    budgets = {r["budget"] for r in curve}
    assert budgets == {1, 20, 100}
    assert all("not reachable" in r["note"] for r in curve if r["budget"] == 1)  # 18 patients
    assert {(r["init"], r["mode"]) for r in curve if r["budget"] == 100} == {
        (i, m) for i in ("pretrained", "scratch", "pixels") for m in ("linear", "knn")
    }
    assert all(r["lower"] <= r["value"] <= r["upper"] for r in curve if r.get("lower") is not None)
    place = split_room.read(cohorts / "hospital_a")
    table = pq.read_table(classifier_run / "predictions.parquet").to_pylist()
    assert {r["split"] for r in table} == {"val", "test"}
    assert all(place[r["patient_id"]] == r["split"] for r in table)
    assert all(abs(r["score_0"] + r["score_1"] - 1) < 1e-9 for r in table)


def test_curve_value_by_hand(classifier_run):
    """One point again, from the predictions alone, by counting pairs."""
    table = pq.read_table(classifier_run / "predictions.parquet").to_pylist()
    values = []
    for seed in (0, 1):
        rows = [r for r in table if (r["init"], r["mode"], r["budget"], r["seed"], r["split"])
                == ("pretrained", "linear", 100, seed, "test")]  # fmt: skip
        sick = [r["score_1"] for r in rows if r["label"] == "1"]
        well = [r["score_1"] for r in rows if r["label"] == "0"]
        values.append(np.mean([(a > b) + 0.5 * (a == b) for a in sick for b in well]))
    curve = pq.read_table(classifier_run / "curve.parquet").to_pylist()
    row = next(
        r for r in curve if (r["init"], r["mode"], r["budget"]) == ("pretrained", "linear", 100)
    )
    assert row["value"] == pytest.approx(np.mean(values))


def test_report(report_run):
    report = json.loads((report_run / "report.json").read_text())
    assert report["verdict"]["answer"] in {"do not use here", "cannot tell"}
    page = (report_run / "report.html").read_text()
    assert f"Verdict: {report['verdict']['answer']}" in page
    assert "Research use only" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=[\"']?http", page)
    metrics = {(r["cohort"], r["metric"]) for r in report["performance"]}
    for name in ("auroc", "average_precision", "sensitivity", "specificity", "calibration_slope"):
        assert {("source", name), ("target", name)} <= metrics
    assert 0 < report["shift"]["embedding"]["p"] <= 1
    assert (report_run / "tables" / "performance.parquet").is_file()


def test_report_without_labels(tree, classifier_run, tmp_path):
    assert (
        run("scan", tree / "hospital_b" / "dicom", "--site", "hospital_b", "--out", tmp_path / "c")
        == 0
    )
    out = tmp_path / "r"
    words = ["resamples=100", "permutations=99"]
    assert run("evaluate", classifier_run, *words, "--data", tmp_path / "c", "--out", out) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"]["answer"] == "cannot tell"
    assert "no labels" in report["verdict"]["reasons"][0]
    assert "p" in report["shift"]["embedding"]
    assert pq.read_table(out / "predictions.parquet").num_rows > 0


def test_digests_chain(report_run, classifier_run, simclr_run):
    def parents(path):
        return {p["file"]: p["sha256"] for p in record(path)["parents"]}

    import hashlib

    def digest(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert parents(report_run)["classifier.json"] == digest(classifier_run / "classifier.json")
    assert parents(classifier_run)["encoder.json"] == digest(simclr_run / "encoder.json")
    classifier = json.loads((classifier_run / "classifier.json").read_text())
    assert classifier["encoder_sha256"] == digest(simclr_run / "encoder.safetensors")


def test_saved_config_repeats_the_run(simclr_run, cohorts, tmp_path):
    out = tmp_path / "again"
    assert (
        run("pretrain", simclr_run / "config.yaml", "--data", cohorts / "hospital_a", "--out", out)
        == 0
    )
    assert (
        record(out)["summary"]["encoder_sha256"] == record(simclr_run)["summary"]["encoder_sha256"]
    )


@pytest.mark.parametrize("volumes", ["slices", "whole"])
def test_nifti_through_the_same_verbs(tree, tmp_path, volumes):
    cohort = tmp_path / "mri"
    source = tree / "mri"
    base = ["--site-column", "site", "--labels", source / "slices.csv", "--label", "lesion"]
    assert run("scan", source, *base, "--out", cohort) == 0
    assert run("decode", cohort, "--size", 16, "--volumes", volumes) == 0
    assert run("split", cohort, "--val", 0.25, "--test", 0.25) == 0
    name = "resnet10t" if volumes == "slices" else "resnet10_3d"
    method = MICLE if volumes == "slices" else SIMCLR
    words = [
        "decode.size=16",
        f"decode.volumes={volumes}",
        f"encoder.name={name}",
        "batch=2",
        "precision=32",
        "duration={steps: 2}",
    ]
    out = tmp_path / "run"
    assert run("pretrain", method, *words, "--data", cohort, "--out", out) == 0
    assert record(out)["summary"]["steps"] == 2


def test_full_fine_tuning(cohorts, simclr_run, tmp_path):
    out = tmp_path / "full"
    words = ["target=kind", "budgets=[100]", "seeds=1", "resamples=100", "modes=[linear]",
             "full={budgets: [100], epochs: 1, steps_floor: 3, batch: 16}"]  # fmt: skip
    base = ["--encoder", simclr_run, "--data", cohorts / "hospital_a", "--out", out]
    assert run("finetune", "configs/finetune/probe.yaml", *words, *base) == 0
    curve = pq.read_table(out / "curve.parquet").to_pylist()
    assert {r["mode"] for r in curve} == {"linear", "full"}
    assert all(r["metric"] == "macro_auroc" for r in curve)
    at_b = tmp_path / "b"
    words = ["resamples=100", "permutations=99"]
    assert run("evaluate", out, *words, "--data", cohorts / "hospital_b", "--out", at_b) == 0
    metrics = {r["metric"] for r in json.loads((at_b / "report.json").read_text())["performance"]}
    assert "macro_auroc" in metrics


def test_pictures_with_a_table(tmp_path):
    from PIL import Image

    folder = tmp_path / "png"
    folder.mkdir()
    for k in range(4):
        pixels = np.random.default_rng(k).integers(0, 255, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    (tmp_path / "who.csv").write_text("file,patient_id,sex\n0.png,P1,F\n1.png,P1,F\n2.png,P2,M\n")
    words = ["--site", "s", "--table", tmp_path / "who.csv", "--out", tmp_path / "c"]
    assert run("scan", folder, *words) == 0
    rows = pq.read_table(tmp_path / "c" / "manifest.parquet").to_pylist()
    assert sorted(Counter(r["patient_id"] for r in rows).values()) == [1, 2]
    assert {r["sex"] for r in rows} == {"F", "M"}
    with (tmp_path / "c" / "quarantine.csv").open() as stream:
        assert [r["code"] for r in csv.DictReader(stream)] == ["E-NOPATIENT"]


def test_synthesize(tmp_path):
    assert run("synthesize", "--out", tmp_path / "s", "--patients", 2, "--mri-patients", 1) == 0
    assert Path(tmp_path / "s" / "SHA256SUMS").is_file()
