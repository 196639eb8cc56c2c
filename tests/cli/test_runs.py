"""medssl runs, by the user's door: a list, its filters, two runs beside each other."""

import json
import subprocess
import sys

import pytest

from medssl import files
from medssl.cli import main


def put(path, lines=(), config="batch: 8\n", **facts):
    path.mkdir(parents=True)
    record = {"verb": "pretrain", "status": "done", "started": "2026-03-01T10:00:00+00:00", **facts}
    (path / "run.json").write_text(json.dumps(record))
    (path / "config.yaml").write_text(config)
    if lines:
        (path / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return path


@pytest.fixture
def root(tmp_path):
    lines = [{"step": s, "loss": 3.0 - s, "images_per_s": 812.0} for s in range(3)]
    lines.append({"step": 2, "effective_rank": 31.25, "ridge": 0.75})
    made = tmp_path / "runs"
    put(made / "chain" / "1-simclr", lines, ended="2026-03-01T12:30:00+00:00", total_steps=2)
    put(made / "probe", verb="finetune", started="2026-03-02T08:00:00+00:00",
        summary={"test": {"metric": "auroc", "value": 0.912, "lower": 0.85, "upper": 0.95}})  # fmt: skip
    put(
        made / "at-b",
        verb="evaluate",
        summary={"verdict": "cannot tell", "auroc_here": "0.7 (0.6 to 0.8)"},
    )
    put(made / "nan", lines, status="failed", error="E-NONFINITE", total_steps=9)
    put(made / "gone", lines, status="running", total_steps=9, started="2026-02-01T00:00:00+00:00")
    (put(made / "bad\x1b[2J") / "run.json").write_text("{")
    return made


def told(capsys, *words):
    code = main(["runs", *map(str, words)])
    got = capsys.readouterr()
    return code, got.out, got.err


def rows(out):
    """The list by columns, as printed: wide gaps part them."""
    return {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()[1:]}


def test_a_list_of_runs(root, capsys):
    code, out, err = told(capsys, root)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    found = rows(out)
    assert found["chain/1-simclr"] == (
        "pretrain done 2026-03-01 10:00 2:30 h loss 1, rank 31.2, ridge 0.75, img/s 812"
    )
    assert found["probe"].endswith("AUROC 0.912 (0.85 to 0.95)")
    assert found["probe"].startswith("finetune done 2026-03-02 08:00")
    assert found["at-b"].endswith("cannot tell, AUROC 0.7 (0.6 to 0.8)")
    assert found["nan"].startswith("pretrain failed at 2/9 (E-NONFINITE)")
    assert found["gone"].startswith("pretrain stopped at 2/9")
    assert found["bad[2J"].startswith("broken (run.json is not readable)")
    # The newest first; a broken record counts from when it was written.
    assert list(found)[:2] == ["bad[2J", "probe"]
    assert list(found)[-1] == "gone"
    with files.locked(root / "gone"):
        assert rows(told(capsys, root)[1])["gone"].startswith("pretrain running at 2/9")


def test_the_default_folder_and_an_absent_one(root, capsys, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert len(rows(told(capsys)[1])) == 6
    monkeypatch.chdir(root)
    code, _, err = told(capsys)
    assert code == 3
    assert "no such folder" in err


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--verb", "pretrain"], {"chain/1-simclr", "nan", "gone"}),
        (["--status", "stopped"], {"gone"}),
        (["--status", "done", "--verb", "pretrain"], {"chain/1-simclr"}),
        (["--status", "broken"], {"bad[2J"}),
        (["--verb", "pack"], set()),
    ],
)
def test_filters_and_json(root, capsys, words, names):
    code, out, _ = told(capsys, root, *words, "--json")
    assert code == 0
    assert {e["name"] for e in json.loads(out)} == names
    plain = told(capsys, root, *words)[1]
    assert set(rows(plain)) == names if names else plain.endswith("no such runs there.\n")


def test_json_holds_what_a_machine_wants(root, capsys):
    found = {e["name"]: e for e in json.loads(told(capsys, root, "--json")[1])}
    assert found["chain/1-simclr"] == {
        "name": "chain/1-simclr", "path": str(root / "chain" / "1-simclr"), "verb": "pretrain",
        "status": "done", "code": "", "started": "2026-03-01T10:00:00+00:00", "minutes": 150.0,
        "step": 2, "total": 2,
        "figures": {"loss": 1.0, "effective_rank": 31.25, "ridge": 0.75, "images_per_s": 812.0},
    }  # fmt: skip


@pytest.fixture
def pair(tmp_path):
    a = put(tmp_path / "a", [{"step": s, "loss": 4.0 - s} for s in range(5)], split="x" * 64)
    config = "batch: 16\nmethod: {name: micle}\n"
    b = put(
        tmp_path / "b", [{"step": s, "loss": 2.0 - s} for s in range(3)], config, split="y" * 64
    )
    return a, b


def test_two_runs_beside_each_other(pair, capsys):
    code, out, _ = told(capsys, *pair)
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "batch 8 16" in lines
    assert "method.name - micle" in lines
    assert f"split {'x' * 12}... {'y' * 12}..." in lines
    assert "loss A 4 3 2 1 0" in lines
    assert any(line.startswith("B 2 ") and line.endswith(" 0") for line in lines)
    notes = [line for line in lines if line.startswith("Note: ")]
    assert len(notes) == 4
    assert "█" not in out
    found = json.loads(told(capsys, *pair, "--json")[1])
    assert found["settings"] == {"batch": [8, 16], "method.name": [None, "micle"]}
    assert found["curves"][0]["a"] == [4.0, 3.0, 2.0, 1.0, 0.0]


def test_on_a_terminal_the_curves_are_drawn(pair, capsys, monkeypatch):
    monkeypatch.setattr("medssl.cli.runs._drawn", lambda: True)
    assert "█" in told(capsys, *pair)[1]


def test_the_same_run_twice_differs_in_nothing(pair, capsys):
    out = told(capsys, pair[0], pair[0])[1]
    assert "settings: the same" in out
    assert "code, machine and data: the same" in out
    assert "Note" not in out


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["a", "b", "a"], 2, "3 places"),
        (["a", "b", "--verb", "pretrain"], 2, "choose from a list"),
        (["a", "--status", "dead"], 2, "is none of"),
        (["a", "none"], 3, "not a run"),
    ],
)
def test_wrong_calls_are_sentences(pair, capsys, monkeypatch, words, code, part):
    monkeypatch.chdir(pair[0].parent)
    got, _, err = told(capsys, *words)
    assert got == code
    assert part in err


def test_a_real_run_and_its_door(simclr_run, capsys):
    """What pretraining writes is what the list reads; neither needs torch."""
    found = json.loads(told(capsys, simclr_run.parent, "--verb", "pretrain", "--json")[1])
    run = next(e for e in found if e["name"] == simclr_run.name)
    last = json.loads((simclr_run / "log.jsonl").read_text().splitlines()[-1])
    assert (run["status"], run["step"]) == ("done", last["step"])
    assert run["figures"]["loss"] == pytest.approx(
        json.loads((simclr_run / "run.json").read_text())["summary"]["loss"], abs=1e-3
    )
    code = "import sys; from medssl.cli import main; main(['runs', sys.argv[1]]);"
    code += "print([m for m in ('torch', 'numpy', 'pyarrow', 'yaml') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(simclr_run.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
