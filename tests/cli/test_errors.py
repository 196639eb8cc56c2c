"""Every refusal has its sentence, its code and its exit; nothing written before is lost."""

import json
import math
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import SIZE, SMALL

from medssl.cli import main
from medssl.errors import NumericalStopError
from medssl.train.optim import check_gradients

SIMCLR, MICLE = "configs/pretrain/simclr-cxr.yaml", "configs/pretrain/micle-cxr.yaml"
PROBE = "configs/finetune/probe.yaml"


@pytest.fixture
def refused(capsys):
    """Call the command line; return its exit code and what it said."""

    def call(*words):
        capsys.readouterr()
        code = main([str(w) for w in words])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return code, said

    return call


def test_empty_folder(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    code, said = refused("scan", tmp_path / "empty", "--site", "a", "--out", tmp_path / "c")
    assert (code, "none usable" in said) == (3, True)


def test_absent_source_and_no_site(refused, tmp_path):
    code, said = refused("scan", tmp_path / "no", "--out", tmp_path / "c")
    assert code == 2
    assert "no such file" in said
    assert "--site" in said


def test_scan_does_not_overwrite(refused, cohort_copy, tree):
    before = (cohort_copy / "manifest.parquet").read_bytes()
    code, said = refused("scan", tree / "hospital_b", "--site", "x", "--out", cohort_copy)
    assert (code, "--update" in said) == (4, True)
    assert (cohort_copy / "manifest.parquet").read_bytes() == before


def test_scan_does_not_write_among_foreign_files(refused, tree, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    code, _ = refused("scan", tree / "hospital_b", "--site", "x", "--out", tmp_path)
    assert code == 4
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_another_key_for_one_site(refused, cohort_copy, tree, tmp_path):
    words = [
        "--site",
        "hospital_a",
        "--out",
        cohort_copy,
        "--update",
        "--key-file",
        tmp_path / "other.key",
    ]
    code, said = refused("scan", tree / "hospital_a", *words)
    assert (code, "another key" in said) == (4, True)


def test_keys_of_encoder_and_cohort(refused, tree, simclr_run, tmp_path):
    source = tree / "hospital_a"
    words = [
        "--site",
        "hospital_a",
        "--labels",
        source / "labels.csv",
        "--key-file",
        tmp_path / "k",
    ]
    assert main([str(w) for w in ("scan", source, *words, "--out", tmp_path / "c")]) == 0
    assert main([str(w) for w in ("decode", tmp_path / "c", "--size", SIZE)]) == 0
    assert main([str(w) for w in ("split", tmp_path / "c")]) == 0
    base = ["--encoder", simclr_run, "--data", tmp_path / "c", "--out", tmp_path / "r"]
    code, said = refused("finetune", PROBE, "target=finding", *base)
    assert (code, "different keys" in said) == (4, True)


def test_label_conflict(refused, tree, tmp_path):
    source = tree / "hospital_a"
    lines = (source / "labels.csv").read_text().splitlines()
    uid, patient, finding, *rest = lines[1].split(",")
    lines.append(",".join([uid, patient, str(1 - int(finding)), *rest]))
    (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
    words = ["--site", "a", "--labels", tmp_path / "l.csv", "--out", tmp_path / "c"]
    code, said = refused("scan", source, *words)
    assert (code, "lines 2 and" in said) == (2, True)


def test_pretrain_needs_a_split(refused, cohort_copy, tmp_path):
    (cohort_copy / "split.parquet").unlink()
    words = [SIMCLR, *SMALL, "duration={steps: 1}", "--data", cohort_copy]
    code, said = refused("pretrain", *words, "--out", tmp_path / "r")
    assert (code, "medssl split" in said) == (3, True)
    code, _ = refused("pretrain", *words, "--out", tmp_path / "r", "--split", "none")
    assert code == 0
    assert json.loads((tmp_path / "r" / "run.json").read_text())["split"] == "none"


def test_pretrain_needs_a_store(refused, cohorts, tmp_path):
    words = [SIMCLR, "decode.size=24", "--data", cohorts / "hospital_a", "--out", tmp_path / "r"]
    code, said = refused("pretrain", *words)
    assert (code, "medssl decode" in said) == (3, True)


def test_micle_without_pairs_and_with_too_large_a_batch(refused, tree, cohorts, tmp_path):
    first = sorted((tree / "hospital_a" / "dicom").glob("*-1.dcm"))
    assert (
        main(["scan", *map(str, first), "--site", "hospital_a", "--out", str(tmp_path / "c")]) == 0
    )
    assert main(["decode", str(tmp_path / "c"), "--size", str(SIZE)]) == 0
    words = [*SMALL, "duration={steps: 1}", "--split", "none", "--out", tmp_path / "r"]
    code, said = refused("pretrain", MICLE, *words, "--data", tmp_path / "c")
    assert (code, "no patient has two" in said) == (3, True)
    code, said = refused("pretrain", MICLE, *words, "batch=999", "--data", cohorts / "hospital_a")
    assert (code, "larger than the" in said) == (2, True)


def test_bad_settings(refused, cohorts, tmp_path):
    words = [
        "methd.name=simclr",
        "batch=0",
        "--data",
        cohorts / "hospital_a",
        "--out",
        tmp_path / "r",
    ]
    code, said = refused("pretrain", SIMCLR, *words)
    assert code == 2
    assert "2 setting(s)" in said
    assert "did you mean 'method'" in said
    assert not (tmp_path / "r").exists()


def test_full_run_directory(refused, simclr_run, cohorts):
    before = (simclr_run / "run.json").read_bytes()
    base = ["--data", cohorts / "hospital_a", "--out", simclr_run]
    code, said = refused("pretrain", SIMCLR, *SMALL, *base)
    assert (code, "not empty" in said) == (4, True)
    assert (simclr_run / "run.json").read_bytes() == before


def test_warm_start_from_other_preprocessing(refused, simclr_run, cohort_copy, tmp_path):
    assert main(["decode", str(cohort_copy), "--size", "24"]) == 0
    words = [
        *SMALL,
        "decode.size=24",
        f"init={simclr_run}",
        "--data",
        cohort_copy,
        "--out",
        tmp_path / "r",
    ]
    code, said = refused("pretrain", SIMCLR, *words)
    assert (code, "its encoder was fed" in said) == (4, True)


def test_missing_labels(refused, cohort_copy, simclr_run, tmp_path):
    base = ["--encoder", simclr_run, "--data", cohort_copy, "--out", tmp_path / "r"]
    code, said = refused("finetune", PROBE, "target=nonsense", *base)
    assert (code, "finding" in said) == (3, True)
    (cohort_copy / "labels.parquet").unlink()
    code, said = refused("finetune", PROBE, "target=finding", *base)
    assert (code, "--labels" in said) == (3, True)


def test_patients_seen_in_pretraining(refused, cohorts, tmp_path):
    """Pretrained without a split: every test patient was seen, and finetune says how many."""
    data = cohorts / "hospital_a"
    words = [SIMCLR, *SMALL, "duration={steps: 1}", "--split", "none", "--data", data]
    assert main([str(w) for w in ("pretrain", *words, "--out", tmp_path / "r")]) == 0
    base = ["--encoder", tmp_path / "r", "--data", data, "--out", tmp_path / "f"]
    settings = ["target=finding", "budgets=[100]", "seeds=1", "modes=[linear]", "resamples=100"]
    code, said = refused("finetune", PROBE, *settings, *base)
    assert code == 4
    assert "18 of the 18 patients" in said
    code, _ = refused("finetune", PROBE, *settings, *base, "--allow-seen-patients")
    assert code == 0
    assert json.loads((tmp_path / "f" / "run.json").read_text())["seen_patients_tested"] == 18


def test_evaluating_on_the_training_hospital(refused, cohorts, classifier_run, tmp_path):
    words = ["--data", cohorts / "hospital_a", "--out", tmp_path / "r"]
    code, said = refused("evaluate", classifier_run, *words)
    assert (code, "were seen in pretraining" in said) == (4, True)
    assert not (tmp_path / "r").exists()


def test_tampered_weights(refused, classifier_run, cohorts, tmp_path):
    copy = shutil.copytree(classifier_run, tmp_path / "copy")
    raw = bytearray((copy / "classifier.safetensors").read_bytes())
    raw[-1] ^= 1
    (copy / "classifier.safetensors").write_bytes(raw)
    code, said = refused(
        "evaluate", copy, "--data", cohorts / "hospital_b", "--out", tmp_path / "r"
    )
    assert (code, "digest" in said) == (4, True)


def test_damaged_store(refused, cohort_copy, tmp_path):
    shard = next((cohort_copy / "store").rglob("pixels-*.npy"))
    raw = bytearray(shard.read_bytes())
    raw[-7] ^= 255
    shard.write_bytes(raw)
    words = [SIMCLR, *SMALL, "--split", "none", "--data", cohort_copy, "--out", tmp_path / "r"]
    code, said = refused("pretrain", *words)
    assert (code, "checksum" in said) == (4, True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the fault is the CPU's")
def test_bf16_where_its_gradients_are_wrong(refused, cohort_copy, tmp_path):
    assert main(["decode", str(cohort_copy), "--size", "16"]) == 0
    words = [SIMCLR, *SMALL, "decode.size=16", "precision=bf16", "--data", cohort_copy]
    code, said = refused("pretrain", *words, "--out", tmp_path / "r")
    assert (code, "precision=32" in said, "layer4" in said) == (2, True, True)


def test_a_gradient_that_is_not_a_number_stops_before_the_update():
    layer = torch.nn.Linear(2, 3)
    layer.weight.grad, layer.bias.grad = torch.ones(3, 2), torch.tensor([0.0, math.inf, 0.0])
    with pytest.raises(NumericalStopError, match=r"Step 7: the gradient of bias"):
        check_gradients(layer, "Step 7")
    layer.bias.grad = torch.zeros(3)
    check_gradients(layer, "Step 7")


def test_not_a_number(refused, cohorts, tmp_path):
    words = [SIMCLR, *SMALL, "optim={name: sgd, lr: 1e30}", "duration={epochs: 3}"]
    code, said = refused(
        "pretrain", *words, "--data", cohorts / "hospital_a", "--out", tmp_path / "r"
    )
    assert (code, "not a number" in said) == (5, True)
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    "words", [["pretrain"], ["nonsense"], ["scan"], ["evaluate", "--data", "x"]]
)
def test_wrong_usage(refused, words):
    assert refused(*words)[0] == 2


def test_app_refuses_strangers(refused, report_run, tmp_path):
    code, said = refused("app", report_run.parent, "--address", "0.0.0.0")
    assert (code, "without sign-in" in said) == (4, True)
    assert refused("app", tmp_path)[0] == 3


@pytest.mark.parametrize("verb", ["decode", "pretrain", "finetune", "evaluate"])
def test_settings_and_dry_run_write_nothing(verb, capsys):
    assert main([verb, "--settings", *(["x"] if verb == "decode" else [])]) == 0
    assert " = " in capsys.readouterr().out


def test_dry_runs(refused, cohorts, simclr_run, classifier_run, tree, tmp_path, capsys):
    a, b, out = cohorts / "hospital_a", cohorts / "hospital_b", tmp_path / "never"
    calls = [
        ["scan", tree / "hospital_a", "--site", "a", "--out", out],
        ["decode", a, "--size", 48],
        ["pretrain", SIMCLR, *SMALL, "--data", a, "--out", out],
        ["finetune", PROBE, "target=finding", "--encoder", simclr_run, "--data", a, "--out", out],
        ["evaluate", classifier_run, "--data", b, "--out", out],
    ]
    stores = sorted(p.name for p in (a / "store").iterdir())
    for words in calls:
        assert refused(*words, "--dry-run")[0] == 0, words
    assert not out.exists()
    assert sorted(p.name for p in (a / "store").iterdir()) == stores


def test_the_installed_command():
    got = subprocess.run(
        [sys.executable, "-m", "medssl.cli", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (got.returncode, got.stdout.startswith("medssl ")) == (0, True)
