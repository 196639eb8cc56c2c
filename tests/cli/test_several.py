"""Several labels at once: one run each, one joint training, and a loss that leaves out what is missing."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from medssl.cli import main
from medssl.finetune import several, tune
from medssl.models.heads import LinearHead

WORDS = ["configs/finetune/probe.yaml", "targets=[finding, second]", "budgets=[50, 100]", "seeds=2",
         "resamples=100", "modes=[linear]", "pixels=false", "full.budgets=[100]", "full.seeds=1",
         "full.epochs=1", "full.steps_floor=3", "full.batch=16"]  # fmt: skip


@pytest.fixture
def two_labels(cohort_copy):
    """Hospital A with a second label: unlike the first, missing and uncertain in places."""
    table = pq.read_table(cohort_copy / "labels.parquet")
    stream = np.random.default_rng(5)
    drawn = stream.choice(["0", "1"], len(table)).astype(object)
    drawn[::5] = None
    drawn[1::7] = "uncertain"
    table = table.append_column("second", pa.array(drawn.tolist(), pa.string()))
    pq.write_table(table, cohort_copy / "labels.parquet")
    return cohort_copy


def line(data, simclr_run, out, *words):
    return ["finetune", *WORDS, *words, "--encoder", str(simclr_run), "--data", str(data),
            "--out", str(out)]  # fmt: skip


def test_one_run_per_label(two_labels, simclr_run, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(line(two_labels, simclr_run, out)) == 0
    told = capsys.readouterr().out
    assert "one run per label, finding, second" in told
    nets = []
    for name in ("finding", "second"):
        record = json.loads((out / name / "run.json").read_text())
        assert record["status"] == "done"
        rows = pq.read_table(out / name / "predictions.parquet").to_pylist()
        assert {r["mode"] for r in rows} == {"linear", "full", "classifier"}
        known = {r["image_id"] for r in rows}
        assert known
        nets.append(
            {
                r["image_id"]: r["score_1"]
                for r in rows
                if r["mode"] == "full" and r["init"] == "pretrained"
            }
        )
    assert not (out / "joint").exists()
    shared = set(nets[0]) & set(nets[1])
    assert shared
    assert any(nets[0][i] != nets[1][i] for i in shared)
    table = pq.read_table(two_labels / "labels.parquet").to_pylist()
    asked = {r["image_id"] for r in table if r["second"] in {"0", "1"}}
    assert set(nets[1]) <= asked  # what is missing or uncertain is asked nowhere
    assert main(line(two_labels, simclr_run, out, "--resume")) == 0  # finished runs stay


def test_a_stopped_one_goes_on(two_labels, simclr_run, tmp_path, monkeypatch):
    out, trained, real = tmp_path / "run", [], several.tune

    def once(*args, **kwargs):
        trained.append(1)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(several, "tune", once)
    assert main(line(two_labels, simclr_run, out)) != 0
    assert main(line(two_labels, simclr_run, out, "--resume")) == 0
    assert len(trained) == 3  # pretrained, the stopped one, and that one again


def test_other_settings_do_not_go_on_from_these(two_labels, simclr_run, tmp_path, capsys):
    out, base = tmp_path / "run", ["full.budgets=[]"]
    assert main(line(two_labels, simclr_run, out, *base)) == 0
    capsys.readouterr()
    assert main(line(two_labels, simclr_run, out, *base)) == 4
    assert "not empty" in capsys.readouterr().err
    assert main(line(two_labels, simclr_run, out, *base, "penalty=7", "--resume")) == 4
    assert "other settings" in capsys.readouterr().err
    assert main(line(two_labels, simclr_run, out, *base, "--resume")) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["targets=[finding, kind]"], "targets are labels of two"),
        (["targets=[]", "target=''"], "give target"),
        (["targets=[finding, finding]"], "names one label twice"),
        (["positive=1"], "leave out positive"),
    ],
)
def test_what_cannot_be_asked_together(two_labels, simclr_run, tmp_path, capsys, words, said):
    assert main(line(two_labels, simclr_run, tmp_path / "run", *words)) == 2
    assert said in capsys.readouterr().err


def test_the_masked_loss_by_loops():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(11, 3))).requires_grad_()
    answers = torch.from_numpy(rng.integers(-1, 2, (11, 3)))
    weight = tune.answer_weight(answers.numpy()).double()
    for own in (None, weight):
        got = tune.masked_loss(logits, answers, own, 0.2)
        total, count = 0.0, 0
        for i in range(11):
            for k in range(3):
                a = int(answers[i, k])
                if a < 0:
                    continue
                soft = a * 0.8 + 0.1
                p = 1 / (1 + np.exp(-logits[i, k].item()))
                w = 1.0 if own is None else float(own[a, k])
                total -= w * (soft * np.log(p) + (1 - soft) * np.log(1 - p))
                count += 1
        assert got.item() == pytest.approx(total / count, rel=1e-6)
        (slope,) = torch.autograd.grad(got, logits)
        assert (slope[answers < 0] == 0).all()
        assert (slope[answers >= 0] != 0).all()
    counts = [[int((answers[:, k] == a).sum()) for k in range(3)] for a in (0, 1)]
    for k in range(3):
        assert float(weight[0, k]) * counts[0][k] == pytest.approx(
            float(weight[1, k]) * counts[1][k]
        )


def test_one_output_is_two_logits():
    head = LinearHead(4, 3)
    x = torch.randn(6, 4)
    for k in range(3):
        two = torch.softmax(several.two_classes(head, k)(x), 1)[:, 1]
        torch.testing.assert_close(two, torch.sigmoid(head(x)[:, k]))


def test_draws_hold_the_rarest_finding(two_labels, simclr_run, tmp_path):
    out = tmp_path / "run"
    assert main(line(two_labels, simclr_run, out, "full.budgets=[]")) == 0
    by_name = {
        n: pq.read_table(out / n / "curve.parquet").to_pylist() for n in ("finding", "second")
    }
    patients = {n: {r["budget"]: r["patients"] for r in rows} for n, rows in by_name.items()}
    assert patients["finding"][50] < patients["finding"][100]
    assert load_file(out / "second" / "classifier.safetensors")
