"""A new hospital by the user's door: packs, reports anew, remedies, months, what changed."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from medssl.cli import main
from medssl.files import read_table

QUICK = ["resamples=100", "permutations=99", "cv_repeats=1", "pdf=false"]


def run(*words):
    return main([str(w) for w in words])


def report(path):
    return json.loads((path / "report.json").read_text())


@pytest.fixture(scope="module")
def dated(cohorts, tmp_path_factory):
    """Hospital B with studies spread over fourteen months of 2030: its private table says so."""
    root = tmp_path_factory.mktemp("dated") / "b"
    shutil.copytree(cohorts / "hospital_b", root)
    file = root / "private" / "identifiers.csv"
    lines = file.read_text().splitlines()
    place = lines[0].split(",").index('"study_date"')
    for number, line in enumerate(lines[1:], 1):
        cells = line.split(",")
        month = number % 14
        cells[place] = f'"{2030 + month // 12}{month % 12 + 1:02d}15"'
        lines[number] = ",".join(cells)
    file.write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def at_b(dated, classifier_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("external") / "at_b"
    assert run("evaluate", classifier_run, *QUICK, "--data", dated, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def local(dated, simclr_run, tmp_path_factory):
    """A remedy: a head on hospital B's own labels."""
    root = tmp_path_factory.mktemp("local")
    assert run("split", dated, "--seed", 0, "--test", 0.4) == 0
    words = [
        "target=finding",
        "budgets=[100]",
        "patients=[6,8]",
        "seeds=2",
        "modes=[linear]",
        "resamples=100",
    ]
    out = root / "local"
    assert run("finetune", "configs/finetune/local.yaml", *words, "--encoder", simclr_run,
               "--data", dated, "--out", out) == 0  # fmt: skip
    return out


def test_the_inputs_are_kept(at_b):
    names = {p.name for p in at_b.iterdir()}
    assert {"inputs.json", "pictures.parquet", "masked.parquet", "stages", "CARD.md"} <= names
    pictures = pq.read_table(at_b / "pictures.parquet")
    assert pictures.column("image_id") == pq.read_table(at_b / "predictions.parquet").column(
        "image_id"
    )
    masked = pq.read_table(at_b / "masked.parquet")
    assert set(masked.column("mode").to_pylist()) == {"border hidden", "centre hidden"}
    assert masked.num_rows == 2 * pictures.num_rows
    stages = [pq.read_table(f) for f in sorted((at_b / "stages").glob("*.parquet"))]
    assert [t.schema.metadata[b"stage"].decode() for t in stages] == ["random weights", "simclr"]
    assert any(stages[0].column("source").to_pylist())


def test_flow_adds_up(at_b):
    steps = {s["what"]: s["images"] for s in report(at_b)["flow"]}
    predicted = steps["pictures predicted"]
    left = [n for w, n in steps.items() if "label" in w]
    assert sum(left) + steps["analysed"] == predicted
    assert (
        steps["images in the cohort"] == predicted + steps["could not be decoded (quarantine.csv)"]
    )


def test_true_months_stay_private(at_b):
    found = report(at_b)["drift"][0]
    assert [r["month"] for r in found["months"]][:1] == [1]
    for name in ("report.json", "report.html", "CARD.md", "inputs.json"):
        assert not re.search(r"203[01]-[01][0-9]", (at_b / name).read_text()), name
    assert "2030-01" in (at_b / "private" / "drift.csv").read_text()
    assert all(f.stat().st_mode & 0o077 == 0 for f in (at_b / "private").iterdir())


def test_report_anew_on_a_date_range(at_b, tmp_path, capsys):
    out = tmp_path / "part"
    words = ["since=2030-02", "until=2030-06", *QUICK]
    assert run("evaluate", at_b, *words, "--dry-run") == 0
    assert "patients" in capsys.readouterr().out
    assert not out.exists()
    assert run("evaluate", at_b, *words, "--out", out) == 0
    whole, part = report(at_b), report(out)
    assert 0 < part["cohort"]["images"] < whole["cohort"]["images"]
    assert part["period"]["left_out"] == whole["cohort"]["images"] - part["cohort"]["images"]
    assert run("evaluate", at_b, "since=2050-01", "--out", tmp_path / "none") == 3
    assert "have a date" in capsys.readouterr().err


def test_report_anew_gives_the_same_numbers(at_b, tmp_path):
    out = tmp_path / "same"
    assert run("evaluate", at_b, *QUICK, "--out", out) == 0
    assert report(out)["performance"] == report(at_b)["performance"]
    assert report(out)["shift"] == report(at_b)["shift"]


def test_report_anew_needs_no_torch(at_b, tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; from medssl.cli import main; "
        f"rc = main(['evaluate', {str(at_b)!r}, *{QUICK!r}, '--out', {str(tmp_path / 'x')!r}]); "
        "print(rc, [m for m in ('torch', 'timm', 'monai', 'pytorch_lightning') if m in sys.modules])"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout.strip().endswith("0 []")


def test_what_changed(at_b, tmp_path, capsys):
    out = tmp_path / "part"
    assert run("evaluate", at_b, "until=2030-06", *QUICK, "--out", out) == 0
    capsys.readouterr()
    assert run("evaluate", out, "--diff", at_b) == 0
    text = capsys.readouterr().out
    assert re.search(r"setting until +None +2030-06", text)
    assert re.search(r"AUROC .*(overlap|apart|cannot be compared)", text)
    assert run("evaluate", at_b, "--diff", at_b.parent) == 3
    assert run("evaluate", at_b, "--diff", at_b, "--out", tmp_path / "d") == 2


def test_a_remedy_beside_the_original(at_b, local, tmp_path, capsys):
    out = tmp_path / "compared"
    assert run("evaluate", at_b, *QUICK, "--compare", f"local head={local}", "--out", out) == 0
    found = report(out)["remedies"]
    starts = {(r["start"], r["labelled_patients"]) for r in found["rows"]}
    assert ("original model", 0) in starts
    assert {s for s, _ in starts} == {"original model", "pretrained", "scratch", "pixels"}
    row = next(r for r in found["rows"] if r["start"] == "pretrained")
    table = pq.read_table(local / "predictions.parquet").to_pylist()
    tested = {r["image_id"] for r in table if r["split"] == "test"}
    assert row["images"] == len(tested)
    original = found["rows"][0]["value"]
    if row.get("against_original") is not None:
        assert row["against_original"] == pytest.approx(row["value"] - original)
    assert {r["start"] for r in found["reach"]} == {"pretrained", "scratch", "pixels"}
    capsys.readouterr()
    both = f"twice={local},{local}"
    assert run("evaluate", at_b, *QUICK, "--compare", both, "--out", tmp_path / "twice") == 4
    assert "tested in two of its runs" in capsys.readouterr().err


def test_a_remedy_of_another_cohort_is_refused(at_b, classifier_run, tmp_path, capsys):
    words = ["--compare", f"other={classifier_run}", "--out", tmp_path / "x"]
    assert run("evaluate", at_b, *QUICK, *words) == 4
    assert "not among the labelled ones here" in capsys.readouterr().err


@pytest.mark.parametrize("share", [False, True])
def test_a_pack_travels_alone(classifier_run, dated, at_b, tmp_path, share):
    ship = tmp_path / "ship"
    words = ["--share-embeddings"] if share else []
    assert run("pack", classifier_run, "--out", ship, *words) == 0
    alone = tmp_path / "elsewhere" / "ship"
    shutil.copytree(ship, alone)
    out = tmp_path / "out"
    assert run("evaluate", alone, *QUICK, "--data", dated, "--out", out) == 0
    mine, whole = report(out), report(at_b)
    assert mine["verdict"]["answer"] == whole["verdict"]["answer"]
    here = [r for r in mine["performance"] if r["cohort"] == "target"]
    assert here == [r for r in whole["performance"] if r["cohort"] == "target"]
    assert any(r["cohort"] == "source" for r in mine["performance"])
    if share:
        assert mine["shift"]["embedding"]["p"] <= 1
    else:
        assert "Not run" in mine["shift"]["embedding"]["note"]
    # Twelve held-out patients are too few for their scores to travel.
    assert "for want of patients" in mine["shift"]["outputs"]["note"]
    assert any(r.get("p") is not None for r in mine["shift"]["columns"])


def test_a_pack_holds_no_patient(classifier_run, tmp_path):
    ship = tmp_path / "ship"
    assert run("pack", classifier_run, "--out", ship, "--share-embeddings") == 0
    names = {p.name for p in ship.iterdir() if p.is_file()} - {".lock"}
    assert names == {"classifier.json", "classifier.safetensors", "config.yaml", "reference.json",
                     "reference.npy", "reference_patients.json", "run.json"}  # fmt: skip
    people = pq.read_table(classifier_run / "embeddings.parquet").to_pylist()
    secrets = {r[k] for r in people for k in ("patient_id", "image_id")}
    for file in ship.iterdir():
        text = file.read_bytes().decode(errors="ignore")
        assert not [s for s in secrets if s in text], file.name
    rows = np.load(ship / "reference.npy")
    assert len(rows) <= 2000
    assert len(json.loads((ship / "reference_patients.json").read_text())) == len(rows)


def test_a_broken_pack_is_told(classifier_run, dated, tmp_path, capsys):
    ship = tmp_path / "ship"
    assert run("pack", classifier_run, "--out", ship) == 0
    for text in ("{", '{"schema": 99}', '{"schema": 1}'):
        (ship / "reference.json").write_text(text)
        assert run("evaluate", ship, *QUICK, "--data", dated, "--out", tmp_path / "o") == 4
        assert "not a reference pack" in capsys.readouterr().err


def test_the_pdf_is_written_by_default_and_can_be_left_out(report_run, at_b):
    assert (report_run / "report.pdf").read_bytes().startswith(b"%PDF-")
    assert not (at_b / "report.pdf").exists()
    record = json.loads((at_b / "run.json").read_text())
    assert record["summary"]["pdf"] == "not asked for (pdf=false)"


def test_settings_switch_parts_off(dated, classifier_run, tmp_path):
    out = tmp_path / "o"
    words = [*QUICK, "masks=false", "stages=false"]
    assert run("evaluate", classifier_run, *words, "--data", dated, "--out", out) == 0
    assert not (out / "masked.parquet").exists()
    assert not (out / "stages").exists()
    assert report(out)["shortcuts"]["masks"] == [] or all(
        r["hospital"] == "source" for r in report(out)["shortcuts"]["masks"]
    )


def test_every_date_is_somebody_s(dated):
    rows = read_table(dated / "private" / "identifiers.csv")
    assert all(len(r["study_date"]) == 8 for r in rows)
