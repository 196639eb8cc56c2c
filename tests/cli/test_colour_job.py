"""The whole job on colour photographs, by the user's door: what tells the classes apart is tint alone."""

import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import SIZE, SMALL, ok
from dicoms import write
from PIL import Image

from medssl import infer
from medssl.check import pictures as check_pictures
from medssl.cli import main
from medssl.config import DecodeConfig
from medssl.evaluate.attributes import of_pixels
from medssl.files import read_table
from medssl.models.embed import embed
from medssl.store import open_store, store_digest

RGB = DecodeConfig(size=SIZE, colour="rgb")
SHAPE = (28, 40)
NO_LUMA = np.array([0.587, -0.299, 0.0])  # moves the tint and leaves the luma where it is
LUMA = np.array([0.299, 0.587, 0.114])
PATIENTS, NEW = 12, 8


def photograph(seed, ill):
    """A grey texture with a tint: uint8 ``[H, W, 3]``; the luma tells nothing of ``ill``."""
    g = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[1]
    waves = sum(np.sin(g.uniform(3, 12) * (y + g.uniform(-1, 1) * x) + k) for k in range(4))
    grey = 125 + 18 * waves + g.normal(0, 3, SHAPE)
    tint = (45 if ill else -45) + g.normal(0, 4)
    return np.clip(grey[..., None] + tint * NO_LUMA, 0, 255).astype(np.uint8)


def hospital(folder, site, patients, seed):
    """Two photographs per patient (PNG, JPEG), and tables of files, patients and labels."""
    source = folder / site
    source.mkdir(parents=True)
    lines = ["file,patient_id,finding"]
    for k in range(2 * patients):
        who, ill = k // 2, k // 2 % 2
        name = f"{site}{k:02d}.{'png' if k % 2 else 'jpg'}"
        Image.fromarray(photograph(seed + k, ill)).save(source / name, quality=95, subsampling=0)
        lines.append(f"{name},{site}P{who:02d},{ill}")
    table = folder / f"{site}.csv"
    table.write_text("\n".join(lines) + "\n")
    words = (
        "--table",
        table,
        "--labels",
        table,
        "--label",
        "finding",
        "--out",
        folder / f"c_{site}",
    )
    ok("scan", source, "--site", site, *words)
    return folder / f"c_{site}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("colour")


@pytest.fixture(scope="module")
def skin(folder):
    """A hospital of photographs, one of them grey, decoded in colours and split."""
    cohort = hospital(folder, "a", PATIENTS, 0)
    path = folder / "a" / "a01.png"  # of a patient who is trained on
    Image.open(path).convert("L").save(path)
    ok("decode", cohort, "--size", SIZE, "--set", "colour=rgb")
    names = sorted({r["patient_id"] for r in read_table(cohort / "private" / "identifiers.csv")})
    place = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    lines = [f"{n},{p}" for n, p in zip(names, place, strict=True)]
    (folder / "split.csv").write_text("\n".join(["patient_id,split", *lines]) + "\n")
    ok("split", cohort, "--file", folder / "split.csv")
    return cohort


@pytest.fixture(scope="module")
def encoder_run(folder, skin):
    words = [*SMALL, "decode.colour=rgb", "batch=4", "duration={epochs: 2}", "precision=32"]
    ok("pretrain", "configs/pretrain/simclr-cxr.yaml", *words, "--data", skin,
       "--out", folder / "simclr")  # fmt: skip
    return folder / "simclr"


@pytest.fixture(scope="module")
def classifier(folder, skin, encoder_run):
    words = ["target=finding", "budgets=[100]", "seeds=1", "resamples=100", "modes=[linear]"]
    ok("finetune", "configs/finetune/probe.yaml", *words, "pixels=true", "--encoder", encoder_run,
       "--data", skin, "--out", folder / "finding")  # fmt: skip
    return folder / "finding"


def test_settings_and_cost_are_told(skin, capsys):
    ok("decode", skin, "--settings")
    assert "red, green and blue" in " ".join(capsys.readouterr().out.split())
    ok("decode", skin, "--size", SIZE, "--dry-run")
    grey = capsys.readouterr().out
    ok("decode", skin, "--size", SIZE, "--set", "colour=rgb", "--dry-run")
    told = capsys.readouterr().out
    assert store_digest(RGB) in told
    mib = [float(line.split()[-1]) for text in (grey, told)
           for line in text.splitlines() if "MiB" in line]  # fmt: skip
    assert mib == [0.0, 0.1]  # 24 pictures of 32 x 32: 0.05 and 0.14
    assert main(["decode", str(skin), "--set", "colour=rgb", "--volumes", "whole"]) == 2
    assert "whole volumes are grey" in capsys.readouterr().err


def test_store_and_accounts(skin, capsys):
    ok("decode", skin, "--size", SIZE, "--set", "colour=rgb")
    assert "1 (three equal channels)" in " ".join(capsys.readouterr().out.split())
    store = open_store(skin, RGB)
    planes = store.planes(np.arange(len(store)))
    assert planes.shape == (2 * PATIENTS, SIZE, SIZE, 3)
    assert Counter(store.column("grey")) == {True: 1, False: 2 * PATIENTS - 1}
    assert json.loads((store.path / "decode.json").read_text())["colour"] == "rgb"
    labels = pq.read_table(skin / "labels.parquet").to_pylist()
    ill = {r["image_id"]: r["finding"] for r in labels}
    for row, image in enumerate(store.column("image_id")):
        if not store.column("grey")[row]:
            redder = planes[row, ..., 0].mean() > planes[row, ..., 1].mean()
            assert redder == (ill[image] == "1")
    luma = np.rint(planes.astype(float) @ LUMA)
    np.testing.assert_array_equal(store.pictures(np.arange(len(store))), luma)


def test_another_decode_is_asked_for_by_its_command(skin, capsys):
    words = ["decode.size=16", "decode.colour=rgb", "--data", str(skin), "--out", str(skin / "x")]
    assert main(["pretrain", "configs/pretrain/simclr-cxr.yaml", *words]) == 3
    assert "--size 16 --volumes slices --set colour=rgb" in " ".join(
        capsys.readouterr().err.split()
    )


def test_health_of_a_store_of_colours(skin, capsys):
    assert main(["check", str(skin)]) == 0
    told = next(line for line in capsys.readouterr().out.splitlines() if "H-GREY" in line)
    assert "pictures of this store of colours have none" in told
    assert told.split()[:2] == ["note", "1"]
    seen = check_pictures.measure(check_pictures.opened(open_store(skin, RGB).path))
    assert not len(seen.broken)
    assert not seen.blank.any()
    assert not seen.noise.any()
    store = open_store(skin, RGB)
    for row in (0, 5):
        top, left, height, width = store.index["box"][row].as_py()
        luma = store.planes(np.array([row]))[0, top : top + height, left : left + width] @ LUMA
        unit = np.rint(luma)[None].astype(np.float32) / 65535
        np.testing.assert_allclose(seen.thumbs[row], check_pictures.shrink(unit, 16)[0], atol=1e-5)
        assert seen.top[row] == (unit >= 1 - 0.5 / 256).mean()


def test_the_classifier_reads_what_luma_cannot_tell(folder, skin, classifier):
    card = json.loads((classifier / "classifier.json").read_text())
    assert card["decode"]["colour"] == "rgb"
    model = infer.load(classifier)
    assert model.encoder.channels == 3
    store = open_store(skin, RGB)
    rows = np.arange(len(store))
    _, features = model.predict(store, rows)
    np.testing.assert_allclose(features, np.load(classifier / "embeddings.npy"), atol=1e-4)
    table = pq.read_table(classifier / "curve.parquet").to_pylist()
    best = {r["init"]: r["value"] for r in table if r["mode"] == "linear"}
    assert best["pretrained"] > 0.9
    assert len(best) == 3  # pretrained, random, and the raw pixels


def test_a_new_hospital_is_decoded_in_colours(folder, classifier):
    cohort = hospital(folder, "b", NEW, 500)
    words = ["resamples=100", "permutations=99", "pdf=false", "cv_repeats=1", "groups=[]"]
    ok("evaluate", classifier, *words, "--data", cohort, "--out", folder / "at_b")
    store = open_store(cohort, RGB)
    assert store.colour
    told = pq.read_table(folder / "at_b" / "predictions.parquet").to_pylist()
    scores = {v: [r["score_1"] for r in told if r["label"] == v] for v in "01"}
    assert np.mean([a > b for a in scores["1"] for b in scores["0"]]) > 0.9
    rows = np.arange(len(store))
    table = pq.read_table(folder / "at_b" / "pictures.parquet")
    wanted = of_pixels(np.rint(store.planes(rows) @ LUMA).astype(np.uint16))
    np.testing.assert_allclose(table["brightness"].to_numpy(), wanted["brightness"])
    report = (folder / "at_b" / "report.json").read_text()
    assert "white balance" in report
    model = infer.load(classifier)
    before = embed(model.encoder, store, rows, model.card.mean, model.card.std)
    np.testing.assert_allclose(np.load(folder / "at_b" / "embeddings.npy"), before, atol=1e-4)


def test_black_frames_are_no_common_picture(tmp_path, capsys):
    """Two films of two patients, each with a black frame: the patients have nothing in common."""
    told = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    told |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Modality": "ES"}
    told |= {"Rows": SHAPE[0], "Columns": SHAPE[1], "NumberOfFrames": 3}
    for k in range(2):
        film = np.stack([photograph(900 + 3 * k + f, k) for f in range(3)])
        film[1] = 0
        film[0, 0, 0] = 255  # both from 0 to 255, or their limits would tell the frames apart
        write(tmp_path / "src" / f"{k}.dcm", k, PixelData=film.tobytes(), **told)
    cohort = tmp_path / "c"
    ok("scan", tmp_path / "src", "--site", "e", "--out", cohort)
    ok("decode", cohort, "--size", 16, "--set", "colour=rgb", "--set", "scaling=full")
    store = open_store(cohort, DecodeConfig(size=16, colour="rgb", scaling="full"))
    assert set(store.column("high")) == {255.0}
    assert len(set(store.column("pixels"))) == 5
    ok("split", cohort, "--seed", 0)
    ok("check", cohort)
    out = " ".join(capsys.readouterr().out.split())
    assert "kept with another 0" in out
    assert "H-DUPLICATE" not in out
