"""Known early: collapse ends a run, the best encoder is kept, and a worse one is rolled back."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SMALL
from safetensors.numpy import load_file

from medssl import runs
from medssl.cli import main
from medssl.cohort import split as split_room
from medssl.cohort.privacy import patient_digest
from medssl.models import weights

BASE = ["pretrain", "configs/pretrain/micle-cxr.yaml", *SMALL, "precision=32", "log_every=1"]
WRECK = ["optim.lr=30", "optim.warmup=0.2", "duration={steps: 60}"]


def words(cohorts, out, *more):
    return [*BASE, *more, "--data", str(cohorts / "hospital_a"), "--out", str(out), "--quiet"]


def lines_of(run):
    return [json.loads(x) for x in (run / "log.jsonl").read_text().splitlines()]


def test_a_collapse_ends_the_run_and_points_back(cohorts, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(words(cohorts, out, *WRECK, "watch.every=1")) == 5
    said = capsys.readouterr().err
    assert "the representation has collapsed" in said
    assert "E-COLLAPSE" in said
    assert lines_of(out)[-1]["step"] < 60
    assert runs.read(out).record["status"] == "failed"
    healthy = [p for p in (out / "checkpoints").glob("*.ckpt") if p.name in said]
    assert len(healthy) == 1 or "None was healthy" in said


def test_it_goes_on_when_told_to(cohorts, tmp_path):
    out = tmp_path / "run"
    more = ("optim.lr=30", "duration={steps: 12}", "watch.every=2", "watch.collapse=false")
    assert main(words(cohorts, out, *more)) == 0


@pytest.mark.parametrize("keep", ["effective_rank", "uniformity"])
def test_the_best_is_kept_by_a_measurement(cohorts, tmp_path, keep):
    out = tmp_path / "run"
    assert (
        main(words(cohorts, out, f"watch.keep={keep}", "watch.every=1", "duration={epochs: 4}"))
        == 0
    )
    measured = {x["step"]: x[keep] for x in lines_of(out) if keep in x and x["step"]}
    best = (min if keep == "uniformity" else max)(measured, key=measured.get)
    summary = runs.read(out).summary
    assert summary["kept_step"] == best
    kept = load_file(out / "checkpoints" / f"kept-{best:08d}.safetensors")
    published = load_file(out / "encoder.safetensors")
    assert all((published[k] == v).all() for k, v in kept.items())
    assert len(list((out / "checkpoints").glob("kept-*.safetensors"))) == 1


def test_probes_are_logged_and_choose(cohorts, tmp_path):
    out = tmp_path / "run"
    more = ("watch.target=finding", "watch.keep=ridge", "watch.every=1", "duration={epochs: 2}")
    assert main(words(cohorts, out, *more)) == 0
    measured = [x for x in lines_of(out) if "effective_rank" in x]
    assert measured[0]["step"] == 0
    assert all(0 <= x["ridge"] <= 1 and 0 <= x["knn"] <= 1 for x in measured)
    best = max(measured[1:], key=lambda x: x["ridge"])
    summary = runs.read(out).summary
    assert summary["kept_step"] == best["step"]
    assert summary["ridge"] == pytest.approx(best["ridge"], abs=1e-4)  # of the encoder that is kept
    card, _ = weights.read_card(out)
    place = split_room.read(cohorts / "hospital_a")
    asked = {patient_digest(p) for p, where in place.items() if where == "val"}
    assert card.chosen
    assert set(card.chosen) <= asked
    assert not set(card.chosen) & set(card.seen)


def test_who_chose_an_encoder_may_not_test_it(cohorts, tmp_path, capsys):
    """The same split tests other patients; a new one would test those who chose."""
    out, twin = tmp_path / "run", tmp_path / "twin"
    shutil.copytree(cohorts / "hospital_a", twin)
    more = ("watch.target=finding", "watch.keep=ridge", "watch.every=1", "duration={epochs: 1}")
    assert main(words(cohorts, out, *more)) == 0
    card, _ = weights.read_card(out)
    split = pq.read_table(twin / "split.parquet")
    names, moved = split.column("patient_id").to_pylist(), split.column("split").to_pylist()
    moved[next(k for k, p in enumerate(names) if patient_digest(p) in card.chosen)] = "test"
    where = split.column_names.index("split")
    pq.write_table(split.set_column(where, "split", pa.array(moved)), twin / "split.parquet")
    line = ["finetune", "configs/finetune/probe.yaml", "target=finding", "--encoder", str(out)]
    capsys.readouterr()
    assert main([*line, "--data", str(twin), "--out", str(tmp_path / "bad")]) == 4
    assert "decided by their labels which weights" in capsys.readouterr().err


def test_the_guard_rolls_back_what_got_worse(cohorts, simclr_run, tmp_path, capsys):
    out = tmp_path / "run"
    more = ("optim.lr=30", "duration={steps: 24}", "watch.guard=true", "watch.collapse=false")
    assert main(words(cohorts, out, f"init={simclr_run}", *more)) == 0
    assert "The encoder it started from is kept" in capsys.readouterr().err
    summary = runs.read(out).summary
    assert summary["rolled_back"] is True
    assert summary["kept_step"] == 0
    before, after = (load_file(p / "encoder.safetensors") for p in (simclr_run, out))
    assert all((after[k] == v).all() for k, v in before.items())
    old, new = (weights.read_card(p)[0] for p in (simclr_run, out))
    assert (new.mean, new.std) == (old.mean, old.std)


def test_the_guard_keeps_what_did_not(cohorts, simclr_run, tmp_path, capsys):
    out = tmp_path / "run"
    more = ("optim.lr=1e-6", "duration={steps: 2}", "watch.guard=true")
    assert main(words(cohorts, out, f"init={simclr_run}", *more)) == 0
    assert "The new encoder is kept" in capsys.readouterr().err
    assert runs.read(out).summary["rolled_back"] is False


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("watch.guard=true",), "give init"),
        (("watch.keep=knn",), "watch.target"),
        (("watch.keep=ridge", "watch.target=finding", "watch.every=0"), "set watch.every"),
    ],
)
def test_settings_that_cannot_be_meant(cohorts, tmp_path, capsys, wrong, said):
    assert main(words(cohorts, tmp_path / "run", *wrong)) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_label_is_told_before_training(cohorts, tmp_path, capsys):
    assert main(words(cohorts, tmp_path / "run", "watch.target=nonsense")) == 3
    assert "nonsense" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
