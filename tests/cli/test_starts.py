"""Several starts on the same labels: one command, its tables, and what a stop or a failure leaves."""

import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ok
from safetensors.torch import load_file, save_file

from medssl.cli import main
from medssl.errors import NumericalStopError
from medssl.finetune import grid, modes

WORDS = ["configs/finetune/probe.yaml", "target=finding", "budgets=[20, 100]", "seeds=2",
         "resamples=100", "modes=[linear, ridge, knn]"]  # fmt: skip
FULL = ["full.budgets=[20, 100]", "full.seeds=1", "full.epochs=1", "full.steps_floor=3",
        "full.batch=16", "full.precision='32'"]  # fmt: skip


def finetune(cohorts, out, encoders, *words):
    named = [w for e in encoders for w in ("--encoder", str(e))]
    line = ["finetune", *WORDS, *words, *named, "--data", str(cohorts / "hospital_a")]
    return main([*line, "--out", str(out)])


def rows(run, name="curve"):
    return pq.read_table(run / f"{name}.parquet").to_pylist()


def points(run):
    table = [r for r in rows(run) if r["level"] == "image"]
    return {(r["init"], r["mode"], r["budget"]): r["value"] for r in table}


def scores(run, **where):
    table = pq.read_table(run / "predictions.parquet").to_pylist()
    return [r for r in table if all(r[k] == v for k, v in where.items())]


@pytest.fixture(scope="module")
def foreign(simclr_run, tmp_path_factory):
    file = tmp_path_factory.mktemp("foreign") / "outside.safetensors"
    state = load_file(simclr_run / "encoder.safetensors")
    save_file(
        {
            k.removeprefix("net."): v * (1.1 if v.is_floating_point() else 1)
            for k, v in state.items()
        },
        file,
    )
    return file


@pytest.fixture(scope="module")
def compared(cohorts, simclr_run, foreign, tmp_path_factory):
    out = tmp_path_factory.mktemp("starts") / "run"
    words = [*FULL, "full.try_lr=[0.00001]", "full.linear_first=true", "full.distil=true",
             "modes=[linear, ridge, knn, attention, pseudo, distilled]", "patient_level=[mean, max]",
             f"foreign.file={foreign}",
             "foreign.keys=timm", "foreign.licence=MIT"]  # fmt: skip
    starts = [f"a={simclr_run}", f"twin={simclr_run}"]
    assert finetune(cohorts, out, starts, *words) == 0
    return out


def test_every_start_meets_the_same_labels(compared):
    found = {(r["init"], r["mode"]) for r in rows(compared)}
    names = ("a", "twin", "foreign", "scratch")
    frozen = ("linear", "ridge", "knn", "attention", "pseudo", "distilled")
    wanted = {(n, m) for n in names for m in (*frozen, "full", "full distilled")}
    assert found == wanted | {("pixels", m) for m in frozen}
    assert {r["level"] for r in rows(compared)} == {"image", "patient mean", "patient max"}
    by_key = points(compared)
    for (init, mode, budget), value in by_key.items():
        if init == "a":
            assert by_key["twin", mode, budget] == value
    said = [tuple(r["score_1"] for r in scores(compared, init=n, mode="ridge", budget=20.0, seed=0))
            for n in ("a", "foreign", "scratch", "pixels")]  # fmt: skip
    assert len(set(said)) == 4


def test_differences_are_paired(compared):
    table = rows(compared, "differences")
    twins = [r for r in table if (r["init"], r["against"]) == ("a", "twin")]
    assert len(twins) == 16 * 3
    assert all(r["difference"] == r["difference_upper"] == 0 for r in twins)
    by_key = points(compared)
    for r in [r for r in table if r["level"] == "image"]:
        gap = (
            by_key[r["init"], r["mode"], r["budget"]] - by_key[r["against"], r["mode"], r["budget"]]
        )
        assert r["difference"] == pytest.approx(gap, abs=1e-12)
        assert r["difference_lower"] <= r["difference"] <= r["difference_upper"]


def test_labels_to_match_are_told(compared, capsys):
    found = rows(compared, "matches")
    asked = {(r["init"], r["mode"], r["against"], r["against_mode"]) for r in found}
    assert ("a", "linear", "scratch", "full") in asked  # a probe against training from nothing
    assert ("a", "linear", "foreign", "linear") in asked
    assert all(r["init"] not in {"scratch", "pixels"} for r in found)
    assert all(r["sentence"].endswith(".") for r in found)
    twin = next(r for r in found if (r["init"], r["against"], r["mode"]) == ("a", "twin", "knn"))
    assert twin["target"] == pytest.approx(
        next(r["value"] for r in rows(compared)
             if (r["init"], r["mode"], r["budget"]) == ("twin", "knn", 100.0))
    )  # fmt: skip


def test_the_kept_classifier_says_where_it_comes_from(compared):
    card = json.loads((compared / "classifier.json").read_text())
    assert card["chosen"]["init"] in {"a", "twin", "foreign"}
    if card["chosen"]["mode"] == "full":
        assert card["chosen"]["lr"] in {1e-3, 1e-5}
    record = json.loads((compared / "run.json").read_text())
    assert record["summary"]["kept"]["init"] == card["chosen"]["init"]
    kept = scores(compared, mode="classifier")
    assert {r["init"] for r in kept} == {card["chosen"]["init"]}
    assert not (compared / "cells").exists()


def test_a_rate_is_chosen_on_validation_patients(cohorts, simclr_run, tmp_path):
    """The kept cell is the better of the two alone, by validation patients."""
    value = {}
    for name, words in {"low": ["full.lr=0.00001"], "high": ["full.lr=0.02"],
                        "both": ["full.lr=0.00001", "full.try_lr=[0.02]"]}.items():  # fmt: skip
        out = tmp_path / name
        more = ["baseline=false", "pixels=false", "modes=[knn]", "full.budgets=[100]", "seeds=1"]
        assert finetune(cohorts, out, [simclr_run], *FULL, *more, *words) == 0
        val = scores(out, mode="full", split="val")
        best = grid.score(
            np.array([r["label"] == "1" for r in val], int),
            np.array([[1 - r["score_1"], r["score_1"]] for r in val]),
            ordered=False,
        )
        value[name] = (best, [r["score_1"] for r in val])
    better = max(("low", "high"), key=lambda n: value[n][0])
    assert value["low"][1] != value["high"][1]
    assert value["both"][1] == value[better][1]


def test_a_stopped_grid_goes_on(cohorts, simclr_run, tmp_path, monkeypatch):
    base = [*FULL, "pixels=false"]
    whole = tmp_path / "whole"
    assert finetune(cohorts, whole, [simclr_run], *base) == 0
    out, trained = tmp_path / "run", []
    real = grid.tune

    def tune(*args, **kwargs):
        trained.append(args[0].name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(grid, "tune", tune)
    assert finetune(cohorts, out, [simclr_run], *base) != 0
    assert json.loads((out / "run.json").read_text())["status"] == "stopped"
    assert finetune(cohorts, out, [simclr_run], *base, "--resume") == 0
    assert len(trained) == 5  # four cells: two before the stop, the stopped one again, one more
    for name in ("curve", "predictions", "matches"):
        assert pq.read_table(out / f"{name}.parquet").equals(
            pq.read_table(whole / f"{name}.parquet")
        )
    for name in ("classifier.safetensors", "embeddings.npy"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_one_failure_loses_one_cell(cohorts, simclr_run, tmp_path, monkeypatch, capsys):
    real = grid.tune

    def tune(start, labelled, config, seed, **kwargs):
        if start.name == "scratch" and len(labelled.rows) > 15:
            raise NumericalStopError("step 1: the loss is not a number.", "E-NONFINITE")
        if start.name == "pretrained" and len(labelled.rows) < 15:
            raise torch.OutOfMemoryError("no memory")
        return real(start, labelled, config, seed, **kwargs)

    monkeypatch.setattr(grid, "tune", tune)
    out = tmp_path / "run"
    assert finetune(cohorts, out, [simclr_run], *FULL, "pixels=false") == 0
    table = {(r["init"], r["mode"], r["budget"]): r for r in rows(out)}
    assert table["scratch", "full", 100.0]["value"] is None
    assert "the loss is not a number" in table["scratch", "full", 100.0]["note"]
    assert "out of memory; lower full.batch" in table["pretrained", "full", 20.0]["note"]
    assert table["pretrained", "full", 100.0]["value"] is not None
    assert json.loads((out / "run.json").read_text())["summary"]["failed_cells"] == 2
    assert "out of memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("encoders", "words"),
    [
        (["{run}", "{run}"], "a second 'pretrained'"),
        (["bad/name={run}"], "a name has letters"),
        (["scratch={run}"], "but not scratch"),
    ],
)
def test_names(cohorts, simclr_run, tmp_path, capsys, encoders, words):
    named = [e.format(run=simclr_run) for e in encoders]
    assert finetune(cohorts, tmp_path / "run", named) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_nothing_to_keep_is_refused_first(cohorts, simclr_run, tmp_path, capsys):
    assert finetune(cohorts, tmp_path / "run", [simclr_run], "modes=[knn]") == 2
    assert "add linear or ridge" in capsys.readouterr().err


def test_draws_that_agree_are_fitted_once(cohorts, simclr_run, tmp_path, monkeypatch):
    """All labels are the same labels whatever the draw; each draw has its cell, and scores alike."""
    fitted = []
    real = modes.MODES["linear"]
    monkeypatch.setitem(
        modes.MODES, "linear", lambda given: fitted.append(given.plan) or real(given)
    )
    out = tmp_path / "run"
    words = ["target=kind", "budgets=[50, 100]", "seeds=3", "modes=[linear]", "resamples=100"]
    base = ["--encoder", simclr_run, "--data", cohorts / "hospital_a", "--out", out]
    ok("finetune", "configs/finetune/probe.yaml", *words, *base)
    many = Counter((p.start.name, p.budget) for p in fitted)
    assert {n for (_, budget), n in many.items() if budget == 100} == {1}
    assert {n for (_, budget), n in many.items() if budget == 50} == {3}
    table = pq.read_table(out / "predictions.parquet", filters=[("budget", "==", 100.0)])
    assert set(table.column("seed").to_pylist()) == {0, 1, 2}
