"""Every pretext task by the user's door: a cohort becomes an encoder, and the run shows what was asked."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import tasks
from conftest import ok
from PIL import Image

from medssl.cli import main
from medssl.models import weights
from medssl.train import pretext

SHORT = ("batch=8", "precision=32", "duration={steps: 2}", "watch={every: 1, pictures: 16}")


@pytest.fixture(scope="module")
def stores(tree, tmp_path_factory):
    """Radiographs, slices, whole volumes and photographs, all of one synthetic country."""
    root = tmp_path_factory.mktemp("tasks")
    source = tree / "hospital_a"
    ok("scan", source, "--site", "a", "--labels", source / "labels.csv", "--out", root / "images")
    ok("decode", root / "images", "--size", 32)
    base = ["--site-column", "site", "--labels", tree / "mri" / "slices.csv", "--label", "lesion"]
    ok("scan", tree / "mri", *base, "--out", root / "volumes")
    ok("decode", root / "volumes", "--size", 32)
    ok("decode", root / "volumes", "--size", 16, "--volumes", "whole")
    photos, rng = root / "photos", np.random.default_rng(0)
    photos.mkdir()
    rows = ["file,patient_id"]
    for k in range(10):
        tint = rng.integers(40, 255, 3)
        pixels = (tint * rng.random((40, 30, 1))).astype(np.uint8)
        Image.fromarray(pixels if k else pixels[..., 0]).save(photos / f"{k}.png")
        rows.append(f"{k}.png,p{k // 2}")
    table = root / "who.csv"
    table.write_text("\n".join(rows) + "\n")
    ok("scan", photos, "--site", "skin", "--table", table, "--out", root / "skin")
    ok("decode", root / "skin", "--size", 32, "--set", "colour=rgb")
    for name in ("images", "volumes", "skin"):
        ok("split", root / name, "--val", 0, "--test", 0.2)
    return root


def words_of(name, dims):
    """The command's settings and the cohort's name."""
    config = tasks.settings(name, dims)
    encoder = tasks.encoder_config(name, dims)
    method = {k: v for k, v in config.method.model_dump().items() if k in tasks.SMALL}
    words = [f"method.name={name}", *(f"method.{k}={v}" for k, v in method.items())]
    words += [f"encoder.{k}={v}" for k, v in encoder.model_dump().items() if v is not None]
    words += [f"decode={{size: {16 if dims == 3 else 32}, volumes: {config.decode.volumes}}}"]
    if name == "colourisation":
        return [*words, "decode.colour=rgb"], "skin"
    sliced = config.method.drawn in {"neighbours", "triples"}
    return words, "volumes" if dims == 3 or sliced else "images"


# Of volumes one task of each kind; the contract suite has them all.
WHOLE = {"simclr", "dino", "mae", "aim", "context_encoder", "rotation", "patch_location"}
CASES = [(n, d) for n, d in tasks.sensible() if d == 2 or n in WHOLE]


@pytest.mark.parametrize(("name", "dims"), CASES, ids=[f"{n}-{d}d" for n, d in CASES])
def test_every_task(stores, tmp_path, name, dims):
    words, cohort = words_of(name, dims)
    more = ["batch=4", "watch.pictures=200"] if cohort != "images" else []
    config = tmp_path / "task.yaml"
    config.write_text(f"method: {{name: {name}}}\n")
    out = tmp_path / "run"
    ok("pretrain", config, *words, *SHORT, *more, "--data", stores / cohort, "--out", out)
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    facts = json.loads((out / "pretext.json").read_text())
    assert facts["method"] == name
    sheet = np.asarray(Image.open(out / "pretext.png"))
    assert sheet.shape[1] >= 16 * len(facts["columns"])
    assert sheet.std() > 0
    assert facts["figures"]
    line = [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()][-1]
    assert line
    encoder, card, _ = weights.load_encoder(out)
    assert encoder.dims == dims
    assert card.encoder.name == tasks.encoder_config(name, dims).name
    if name == "colourisation":  # the grey photograph has no colour to tell
        summary = json.loads((out / "run.json").read_text())["summary"]
        assert summary["pictures"] < pq.read_table(stores / "skin" / "manifest.parquet").num_rows


def test_pictures_may_be_left_out(stores, tmp_path):
    config = tmp_path / "task.yaml"
    config.write_text("method: {name: rotation}\n")
    words, cohort = words_of("rotation", 2)
    out = tmp_path / "run"
    words = [*words, *SHORT, "log.pictures=false"]
    ok("pretrain", config, *words, "--data", stores / cohort, "--out", out)
    assert not list(out.glob("pretext*"))


def test_a_task_of_slices_says_what_it_needs(stores, tmp_path, capsys):
    config = tmp_path / "task.yaml"
    config.write_text("method: {name: next_slice}\n")
    words, _ = words_of("rotation", 2)
    words = [*words[1:], *SHORT, "--data", str(stores / "images"), "--out", str(tmp_path / "x")]
    assert main(["pretrain", str(config), *words]) == 3
    assert "volumes decoded as slices" in " ".join(capsys.readouterr().err.split())


def test_a_picture_that_fails_costs_no_encoder(stores, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(pretext, "_answered", fail)
    config = tmp_path / "task.yaml"
    config.write_text("method: {name: rotation}\n")
    words, cohort = words_of("rotation", 2)
    out = tmp_path / "run"
    ok("pretrain", config, *words, *SHORT, "--data", stores / cohort, "--out", out)
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    assert weights.load_encoder(out)
    assert "W-PICTURE" in "".join(capsys.readouterr())
