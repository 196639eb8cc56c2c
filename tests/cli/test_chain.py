"""A chain is its stages one after another: the same runs, found like runs, resumed like runs."""

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import timm
import torch
from conftest import SIZE, SMALL, ok
from safetensors.torch import save_file

from medssl import runs
from medssl.cli import main
from medssl.config.chain import ChainConfig, overlaid
from medssl.errors import RefusedError, UsageError
from medssl.files import sha256_file
from medssl.loading import load, to_yaml, validate
from medssl.models import weights
from medssl.train import chain
from medssl.train.pretrain import pretrain

SHIPPED = Path("configs/pretrain/chain-cxr.yaml")
TREE = {
    "decode": {"size": SIZE},
    "encoder": {"name": "resnet10t"},
    "method": {"hidden": 32, "out": 16},
    "batch": 8,
    "optim": {"lr": 0.002, "warmup": 0.2},
    "watch": {"every": 0},
    "log": {"tensorboard": False},
    "stages": [
        {"method": {"name": "simclr"}, "duration": {"steps": 3}},
        {"method": {"name": "micle"}, "duration": {"steps": 2}, "optim": {"lr": 0.001}},
    ],
}


def chain_of(tree=TREE):
    return validate(ChainConfig, tree, "chain.yaml")


def with_stage(number, **settings):
    stages = [dict(s) for s in TREE["stages"]]
    stages[number - 1] |= settings
    return {**TREE, "stages": stages}


@pytest.fixture(scope="module")
def data(cohorts):
    return cohorts / "hospital_a"


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished chain, and what was said meanwhile."""
    out, said = tmp_path_factory.mktemp("chain") / "chain", []
    steps = []
    chain.run_chain(
        chain_of(),
        data,
        out,
        note=said.append,
        progress=lambda: nullcontext(lambda k, n, _: steps.append((k, n))),
    )
    return out, said, steps


def digests(out):
    return [sha256_file(out / name / "encoder.safetensors") for name in ("1-simclr", "2-micle")]


def test_a_chain_is_its_stages_by_hand(finished, data, tmp_path):
    out, said, steps = finished
    config = chain_of()
    assert config.names() == ("1-simclr", "2-micle")
    pretrain(config.stages[0], data, tmp_path / "a")
    second = config.stages[1].model_copy(update={"init": str(tmp_path / "a")})
    pretrain(second, data, tmp_path / "b")
    assert digests(out) == [sha256_file(tmp_path / x / "encoder.safetensors") for x in "ab"]
    assert {r.path.name for r in runs.find(out.parent, "pretrain")} == {"1-simclr", "2-micle"}
    start = {p["file"]: p["sha256"] for p in runs.read(out / "2-micle").record["parents"]}
    assert start["encoder.json"] == sha256_file(out / "1-simclr" / "encoder.json")
    assert [s for s in said if "stage" in s] == [
        "stage 1 of 2, 1-simclr: begins.",
        "stage 2 of 2, 2-micle: begins.",
    ]
    assert {n for _, n in steps} == {3, 2}
    assert weights.read_card(out / "2-micle")[0].source == "2-micle"


def test_it_goes_on_at_the_stage_that_stopped(finished, data, tmp_path, monkeypatch):
    real = chain.room.pretrain

    def killed(config, data, folder, **more):
        if folder.name == "2-micle":
            raise KeyboardInterrupt
        return real(config, data, folder, **more)

    monkeypatch.setattr(chain.room, "pretrain", killed)
    out = tmp_path / "chain"
    with pytest.raises(KeyboardInterrupt):
        chain.run_chain(chain_of(), data, out)
    monkeypatch.undo()
    before = (out / "1-simclr" / "run.json").stat().st_mtime_ns
    with pytest.raises(RefusedError, match="--resume"):
        chain.run_chain(chain_of(), data, out)
    said = []
    made = chain.run_chain(chain_of(), data, out, resume=True, note=said.append)
    assert said[0] == "stage 1 of 2, 1-simclr: finished before, kept."
    assert (out / "1-simclr" / "run.json").stat().st_mtime_ns == before
    assert [r.record["status"] for r in made] == ["done", "done"]
    assert digests(out) == digests(finished[0])


def test_a_stage_under_way_keeps_its_spelling(finished, data, tmp_path, monkeypatch):
    """A chain that was called by a relative path goes on by the absolute one."""
    shutil.copytree(finished[0], tmp_path / "chain")
    monkeypatch.chdir(tmp_path)
    record = json.loads((tmp_path / "chain/2-micle/run.json").read_text())
    (tmp_path / "chain/2-micle/run.json").write_text(json.dumps({**record, "status": "failed"}))
    stages = chain.lay_out(chain_of(), Path("chain"))
    (tmp_path / "chain/2-micle/config.yaml").write_text(to_yaml(stages[1].config))
    again = chain.lay_out(chain_of(), tmp_path / "chain")
    assert [s.done for s in again] == [True, False]
    assert again[1].config.init == "chain/1-simclr"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("settings", "1-simclr: this stage is finished, and was made with other optim"),
        ("later", "2-micle: this stage is finished, and was made with other duration, batch"),
        ("cohort", "1-simclr: .* other cohort"),
        ("split", "1-simclr: .* other split"),
        ("start", "2-micle: .* other init"),
        ("gap", "1-simclr before it is not"),
    ],
)
def test_finished_stages_are_compared(change, words, finished, data, tmp_path):
    out = Path(shutil.copytree(finished[0], tmp_path / "chain"))
    tree, split, cohort = TREE, "file", data
    if change == "settings":
        tree = with_stage(1, optim={"lr": 0.004})
    elif change == "later":
        tree = with_stage(2, duration={"steps": 9}, batch=4)
    elif change == "cohort":
        cohort = Path(shutil.copytree(data, tmp_path / "cohort"))
        shutil.copy(data.parent / "hospital_b" / "manifest.parquet", cohort)
    elif change == "split":
        split = "none"
    elif change == "start":
        card = json.loads((out / "1-simclr/encoder.json").read_text())
        (out / "1-simclr/encoder.json").write_text(json.dumps({**card, "mean": 0.1}))
    else:
        (out / "1-simclr/run.json").unlink()
    with pytest.raises(RefusedError, match=words) as caught:
        chain.run_chain(chain_of(tree), cohort, out, split=split, resume=True)
    assert caught.value.code == "E-RESUME"


def test_every_stage_is_checked_before_the_first_begins(data, tmp_path, monkeypatch):
    monkeypatch.setattr(chain.room, "pretrain", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(UsageError):
        chain.run_chain(chain_of(with_stage(2, batch=5000)), data, tmp_path / "chain")
    assert not (tmp_path / "chain").exists()


def test_what_it_costs(data, monkeypatch):
    asked = []

    def cost(config, *_):
        asked.append(config.init)
        return {"steps": config.duration.steps, "hours": 1.26, "device": "cpu"}

    monkeypatch.setattr(chain.room, "cost", cost)
    told = chain.cost(chain_of(), data)
    assert list(told) == ["1-simclr", "2-micle", "total"]
    assert told["total"] == {"steps": 5, "hours": 2.52}
    assert asked == [None, None]


def test_shared_settings_and_starts():
    foreign = {"file": "x.pth", "keys": "timm", "licence": "MIT"}
    config = chain_of({**TREE, "foreign": foreign, "seed": 7})
    first, second = config.stages
    assert (first.seed, second.seed) == (7, 7)
    assert (first.optim.lr, second.optim.lr) == (0.002, 0.001)
    assert second.optim.warmup == 0.2
    assert (first.method.hidden, second.method.name) == (32, "micle")
    assert first.foreign.file == "x.pth"
    assert second.foreign is None
    assert (first.init, second.init) == (None, "1-simclr")
    chain_of(
        with_stage(2, watch={"guard": True, "every": 1})
    )  # a later stage has a start to fall back to


def test_written_out_and_read_again(tmp_path):
    (tmp_path / "x.yaml").write_text(to_yaml(chain_of()))
    assert load(ChainConfig, tmp_path / "x.yaml") == chain_of()


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (with_stage(2, encoder={"name": "resnet18"}), "stage 2 has other encoder settings"),
        (with_stage(2, decode={"size": 64}), "stage 2 has other decode settings"),
        (with_stage(2, init="runs/x"), "leave out init and foreign"),
        (with_stage(1, optim={"rate": 1}), "stages.0.optim.rate: unknown setting"),
        ({**TREE, "bach": 4}, "did you mean 'batch'"),
        ({**TREE, "stages": []}, "stages"),
        ({**TREE, "stages": [4]}, "stages"),
    ],
)
def test_settings_that_make_no_chain(tree, words):
    with pytest.raises(UsageError, match=words):
        chain_of(tree)


def test_the_command_line_wins_in_every_stage():
    tree = overlaid(TREE, {"optim": {"lr": 0.5}, "duration": {"epochs": 1}})
    stages = chain_of(tree).stages
    assert [s.optim.lr for s in stages] == [0.5, 0.5]
    assert [s.duration.epochs for s in stages] == [1, 1]
    one = chain_of(overlaid(TREE, {"stages": {"2": {"optim": {"lr": 0.7}}}, "init": "runs/x"}))
    assert [s.optim.lr for s in one.stages] == [0.002, 0.7]
    assert [s.init for s in one.stages] == ["runs/x", "1-simclr"]
    assert overlaid({"batch": 2}, {"batch": 3}) == {"batch": 3}
    with pytest.raises(UsageError, match="stages 1 to 2"):
        overlaid(TREE, {"stages": {"3": {"batch": 2}}})


def test_the_shipped_chain():
    config = load(ChainConfig, SHIPPED)
    assert config.names() == ("1-simclr", "2-micle")
    assert config.stages[0].foreign.keys == "torchvision"
    tree = overlaid({"stages": [{}, {}], "foreign": {"file": "x"}}, {"foreign": None})
    assert tree["stages"][0] == {"foreign": None}


class Hostile:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_from_generic_weights_to_micle(cohorts, tmp_path, capsys):
    net = timm.create_model("resnet10t", num_classes=3)
    save_file(net.state_dict(), tmp_path / "generic.safetensors")
    words = ["pretrain", "configs/pretrain/chain-cxr.yaml", *SMALL, "duration={steps: 2}",
             f"foreign.file={tmp_path}/generic.safetensors", "foreign.keys=timm",
             "foreign.licence=CC-BY-4.0", "--data", cohorts / "hospital_a"]  # fmt: skip
    ok(*words, "--dry-run")
    told = capsys.readouterr().out
    assert "1-simclr" in told
    assert "total" in told
    assert "70 of 70 loaded" in told
    out = tmp_path / "chain"
    ok(*words, "--out", out)
    assert main([str(w) for w in (*words, "--out", out)]) == 4
    ok(*words, "--out", out, "--resume")
    first, second = (weights.read_card(out / name)[0] for name in ("1-simclr", "2-micle"))
    assert [f.licence for f in second.foreign] == ["CC-BY-4.0"]
    assert first.foreign == second.foreign
    summary = runs.read(out / "1-simclr").summary
    assert summary["foreign_tensors"] == "70 of 70 loaded"
    assert "foreign" not in runs.read(out / "2-micle").summary
    assert str(tmp_path) not in (out / "1-simclr" / "run.json").read_text()


def test_a_hostile_start_is_refused(cohorts, tmp_path, capsys):
    canary, file = tmp_path / "canary", tmp_path / "x.pt"
    torch.save({"conv1.weight": Hostile(f"touch {canary}")}, file)
    code = main(["pretrain", "configs/pretrain/simclr-cxr.yaml", *SMALL, "duration={steps: 2}",
                 f"foreign={{file: {file}, keys: timm, licence: unknown}}",
                 "--data", str(cohorts / "hospital_a"), "--out", str(tmp_path / "run")])  # fmt: skip
    assert code == 4
    assert "asks for posix.system to be run" in capsys.readouterr().err
    assert not canary.exists()
    assert not (tmp_path / "run").exists()
