"""Export by the user's door: a real run, its own cohort's pictures, sentences with exit codes."""

import json
import re

import numpy as np
import pydicom
import pytest
import torch
from plain_pixels import prepared
from safetensors.torch import load_file

from medssl import infer
from medssl.cli import main
from medssl.cohort import manifest
from medssl.store import open_store


@pytest.fixture(scope="module")
def shared(classifier_run, tmp_path_factory):
    """The classifier as plain safetensors."""
    out = tmp_path_factory.mktemp("share") / "classifier"
    assert main(["export", str(classifier_run), "--to", "safetensors", "--out", str(out)]) == 0
    return out


def test_from_a_file_to_a_probability_without_medssl(shared, classifier_run, cohorts):
    """pydicom, NumPy, Pillow, timm: the same tensor as the store's, the same probabilities."""
    import timm

    told = json.loads((shared / "preprocess.json").read_text())
    found = infer.load(classifier_run)
    root = cohorts / "hospital_a"
    store = open_store(root, found.card.decode)
    paths = json.loads((root / "private" / "paths.json").read_text())["images"]
    images, rows, fed = manifest.read(root), [], []
    singles = {r["image_id"] for r in images.table.to_pylist() if (r["frames"] or 1) == 1}
    for row, image in enumerate(store.column("image_id")):
        if image in singles and len(paths[image]) == 1 and len(rows) < 6:
            ds = pydicom.dcmread(paths[image][0])
            inverted = ds.PhotometricInterpretation == "MONOCHROME1"
            spacing = ds.get("PixelSpacing") or ds.get("ImagerPixelSpacing")
            fed.append(prepared(told, ds.pixel_array, inverted=inverted, spacing=spacing))
            rows.append(row)
    stored = store.planes(np.array(rows)).astype(np.float64) / 65535
    ours = (stored - told["input"]["mean"]) / told["input"]["std"]
    assert np.abs(np.stack(fed)[:, 0] - ours).max() * told["input"]["std"] <= 1.01 / 65535

    state = load_file(shared / "model.safetensors")
    head = torch.nn.Linear(told["network"]["features"], len(told["classifier"]["classes"]))
    head.load_state_dict({k: state.pop(f"classifier.{k}") for k in ("weight", "bias")})
    net = timm.create_model(told["network"]["name"], in_chans=1, num_classes=0)
    net.load_state_dict(state, strict=True)
    with torch.inference_mode():
        logits = head(net.eval()(torch.from_numpy(np.stack(fed)))).double().numpy()
    shares = np.exp(logits / told["classifier"]["temperature"])
    theirs, _ = found.predict(store, np.array(rows))
    np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), theirs, atol=2e-3)


def test_what_a_person_is_told(simclr_run, tmp_path, capsys):
    out = tmp_path / "share"
    assert main(["export", str(simclr_run), "--to", "timm", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "8 random and 16 stored pictures, read by timm" in said
    assert "stayed (--with-ledger)" in said
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md",
        "model.safetensors",
        "preprocess.json",
    ]
    assert not re.search(r"seen\W+\[|site_keys", (out / "preprocess.json").read_text())


def test_refusals(simclr_run, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    asked = {
        4: ["export", simclr_run, "--to", "timm", "--out", tmp_path / "full"],
        3: ["export", tmp_path, "--to", "timm", "--out", tmp_path / "new"],
        2: ["export", simclr_run, "--to", "torchvision", "--out", tmp_path / "new"],
    }
    for code, words in asked.items():
        assert main([str(w) for w in words]) == code
        assert re.search(r"\[E-[A-Z]+\]", capsys.readouterr().err)
    assert main(["export", str(simclr_run), "--to", "keras", "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def test_help(capsys):
    assert main(["export", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for word in ("timm", "torchvision", "safetensors", "onnx", "--with-ledger", "Example:"):
        assert word in said
