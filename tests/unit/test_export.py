"""Exports are read by the plain libraries, without medssl, and answer as the original does."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dicoms
import numpy as np
import pytest
import torch
from PIL import Image
from plain_pixels import prepared
from safetensors import safe_open

from medssl import infer
from medssl.config import DecodeConfig, EncoderConfig
from medssl.errors import MedsslError, NothingUsableError, RefusedError, UsageError
from medssl.export import export as room
from medssl.export import graph, plain, sidecar, steps
from medssl.export.subject import load, prove
from medssl.files import write_json
from medssl.formats import tasks
from medssl.models import weights
from medssl.models.encoder import build
from medssl.models.heads import LinearHead

SEEN, PICTURE, SITE = "5ee5ee5ee5ee5ee5", "91c791c791c791c7", "st-elsewhere"
CLASSES = ("no", "effusion", "mass")


@dataclass(frozen=True)
class Case:
    """One export of one small network."""

    target: str
    name: str = "resnet10t"
    norm: str = "batch"
    classes: bool = False
    channels: int | None = None
    colour: str = "grey"
    size: int = 32
    patch: int | None = None
    pool: str = "default"

    def decode(self, **settings):
        volumes = "whole" if self.name.endswith("_3d") else "slices"
        given = {"size": self.size, "volumes": volumes, "colour": self.colour, **settings}
        return DecodeConfig(**given)


CASES = {
    "timm": Case("timm", norm="group"),
    "timm, transformer, classes": Case("timm", "vit_tiny_patch16_224", classes=True),
    "timm, three channels": Case("timm", "mobilenetv3_small_050", channels=3, size=37),
    "timm, classes, colours": Case("timm", classes=True, colour="rgb"),
    "torchvision": Case("torchvision", "resnet18"),
    "torchvision, all": Case("torchvision", "resnet18", "group", classes=True, channels=3),
    "safetensors, classes": Case("safetensors", classes=True),
    "safetensors, volumes": Case("safetensors", "resnet10_3d", "group", classes=True, size=16),
    "timm, small patches": Case("timm", "vit_tiny_patch16_224", patch=8, pool="mean"),
    "safetensors, patches of volumes": Case("safetensors", "vit_tiny_3d", size=16, patch=8),
    "onnx, classes": Case("onnx", classes=True, channels=3),
}


def a_run(folder, case, decode=None):
    """A finished run of random weights; its running means are not those of a new network."""
    decode = decode or case.decode()
    network = EncoderConfig(name=case.name, norm=case.norm, patch=case.patch, pool=case.pool)
    card = weights.Card(network, decode, 0.31, 0.22,
                        {SITE: "beefbeefbeefbeef"}, (SEEN,), (PICTURE,), "the run",
                        (weights.ForeignWeights("other.pth", "ab" * 32, "timm", "CC BY 4.0"),))  # fmt: skip
    whole = decode.volumes == "whole"
    encoder = build(card.encoder, decode.size, whole=whole, seed=3, channels=decode.channels)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in encoder.state_dict().items():
            if value.is_floating_point() and value.ndim == 1:
                value += 0.2 * torch.rand(value.shape, generator=generator)
            assert name.startswith("net.")
    folder.mkdir(parents=True)
    verb = "finetune" if case.classes else "pretrain"
    write_json(folder / "run.json", {"verb": verb, "status": "done", "parents": []})
    digest = weights.save_encoder(folder, encoder, card)
    if case.classes:
        head = LinearHead(encoder.width, len(CLASSES))
        data = json.loads((folder / "encoder.json").read_text())
        both = torch.nn.ModuleDict({"encoder": encoder, "head": head})
        data |= {"sha256": weights.save_tensors(folder / "classifier.safetensors", both)}
        data |= {"target": "finding", "classes": CLASSES, "temperature": 1.7}
        data |= {"thresholds": {"effusion": 0.4, "mass": 0.2}, "threshold_rule": "youden"}
        write_json(folder / "classifier.json", {**data, "encoder_sha256": digest})
    return folder


def python_of(folder):
    """The lines of an export's README."""
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[1]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Every case exported, and what the plain libraries answer in one process without medssl."""
    root = tmp_path_factory.mktemp("export")
    rng, script = np.random.default_rng(5), ["import os, sys", "sys.modules['medssl'] = None"]
    folders = {}
    for k, (name, case) in enumerate(CASES.items()):
        run, out = a_run(root / f"run-{k}", case), root / f"out-{k}"
        room.export(run, case.target, out, channels=case.channels)
        subject = load(run)
        shape = subject.shape(subject.encoder.channels)
        fed = rng.normal(size=(3, *shape)).astype(np.float32)
        np.save(root / "fed.npy", fed)
        grown = np.repeat(fed, (case.channels or shape[0]) // shape[0], axis=1)
        np.save(out / "fed.npy", grown)
        feed = (
            'numpy.load("fed.npy")'
            if case.target == "onnx"
            else 'torch.from_numpy(numpy.load("fed.npy"))'
        )
        lines, count = re.subn(r"pixels = .*", f"pixels = {feed}", python_of(out))
        assert count == 1
        keep = 'numpy.save("answer.npy", numpy.asarray(answer))'
        script += [f"os.chdir({str(out)!r})", "import numpy", lines, keep]
        folders[name] = (run, out, subject.answers(torch.from_numpy(fed)).numpy())
    script.append("assert not [m for m in sys.modules if m.startswith('medssl.')]")
    subprocess.run([sys.executable, "-W", "ignore", "-c", "\n".join(script)], check=True)
    return folders


@pytest.mark.parametrize("name", CASES)
def test_plain_libraries_answer_alike(exported, name):
    """README's own lines, strict=True, medssl blocked."""
    _, out, ours = exported[name]
    theirs = np.load(out / "answer.npy")
    assert ours.std() > 1e-3
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_nothing_of_people_or_machines(exported, name):
    run, out, _ = exported[name]
    words = [
        SEEN,
        PICTURE,
        SITE,
        "beefbeef",
        str(run),
        str(Path.home()),
        "site-packages",
        '.py"',
        "the run",
    ]
    for path in out.glob("*.*"):
        if path.suffix != ".npy":
            held = path.read_bytes()
            assert not [w for w in words if w.encode() in held], path.name
    told = json.loads((out / "preprocess.json").read_text())
    assert told["ledger"] | {"words": ""} == {
        "travelled": False, "file": None, "patients_seen": 1, "pictures_seen": 1, "words": ""}  # fmt: skip
    assert "stayed behind" in (out / "README.md").read_text()


@pytest.mark.parametrize("name", CASES)
def test_sidecar(exported, name):
    _, out, ours = exported[name]
    case, told = CASES[name], json.loads((out / "preprocess.json").read_text())
    held = (out / told["weights"]["file"]).read_bytes()
    assert told["weights"]["sha256"] == sidecar.hashlib.sha256(held).hexdigest()
    assert told["output"]["shape"] == ["N", ours.shape[1]]
    assert told["input"]["shape"] == ["N", *np.load(out / "fed.npy").shape[1:]]
    assert (told["input"]["mean"], told["input"]["std"]) == (0.31, 0.22)
    assert told["foreign_weights"][0]["licence"] == "CC BY 4.0"
    assert "CC BY 4.0" in (out / "README.md").read_text()
    assert (told["classifier"] is not None) == case.classes
    if case.classes:
        assert told["classifier"]["classes"] == list(CLASSES)
        assert told["classifier"]["thresholds"] == {"effusion": 0.4, "mass": 0.2}
    proof = told["weights"]["proof"]
    assert proof["largest_difference"] <= 1e-4
    assert proof["random_pictures"] > 0
    assert not [p for p in out.parent.iterdir() if p.name.startswith(".")]


def test_safetensors_hold_nothing_else(exported):
    for name in ("timm", "torchvision", "safetensors, classes"):
        with safe_open(exported[name][1] / "model.safetensors", "pt") as file:
            assert file.metadata() == {"format": "pt"}
            assert not [k for k in file.keys() if k.startswith(("net.", "encoder.", "_orig"))]  # noqa: SIM118


def test_graph(exported):
    """Opset as told, any batch, one size, no notes of the exporter."""
    import onnx

    _, out, _ = exported["onnx, classes"]
    model = onnx.load(out / "model.onnx")
    assert [o.version for o in model.opset_import if o.domain == ""] == [graph.OPSET]
    assert json.loads((out / "preprocess.json").read_text())["network"]["opset"] == graph.OPSET
    (fed,) = model.graph.input
    sizes = [d.dim_param or d.dim_value for d in fed.type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, 32, 32]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet10_3d", "vit_tiny_patch16_224", "convnext_atto"])
def test_other_graphs(tmp_path, name):
    case = Case("onnx", name, "batch", size=32)
    made = room.export(a_run(tmp_path / "run", case), "onnx", tmp_path / "out")
    assert "onnxruntime" in made.summary["largest_difference"]


NAMED = ("resnet18", "resnet34", "resnet50", "resnet101")
OTHERS = [pytest.param(n, marks=pytest.mark.slow) for n in plain.RESIDUAL if n not in NAMED]


@pytest.mark.parametrize("name", [*NAMED, *OTHERS])
def test_residual_networks_are_the_same_in_both_libraries(name):
    """Names and shapes of every tensor; that they also mean the same, the answers above show."""
    import timm
    from torchvision import models

    with torch.device("meta"):
        a = timm.create_model(name, num_classes=1000).state_dict()
        b = models.get_model(name, weights=None).state_dict()
    assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}


@pytest.mark.parametrize("scaling", ["auto", "full", "equalise"])
@pytest.mark.parametrize("kind", ["8-bit PNG", "12-bit DICOM", "colour PNG", "colours kept"])
def test_preprocessing_from_the_sidecar_alone(tmp_path, scaling, kind):
    """NumPy and Pillow give what medssl stores, within one of 65,535 levels."""
    rng = np.random.default_rng(2)
    case = Case("timm", colour="rgb" if kind == "colours kept" else "grey")
    config = case.decode(scaling=scaling, low_percentile=2.0)
    told = _told(case, config)
    wave = np.add.outer(np.sin(np.arange(61) / 9), np.cos(np.arange(43) / 7))
    extra = {}
    if kind == "12-bit DICOM":
        values = (wave * 900 + 2000 + rng.normal(0, 60, wave.shape)).astype(np.uint16)
        extra = {"inverted": True, "spacing": (0.3, 0.2)}
        path = dicoms.write(
            tmp_path / "x.dcm", Rows=61, Columns=43, PixelData=values.tobytes(),
            PhotometricInterpretation="MONOCHROME1", PixelSpacing=[0.3, 0.2])  # fmt: skip
    else:
        shape = wave.shape if kind == "8-bit PNG" else (*wave.shape, 3)
        noise = rng.normal(0, 9, shape)
        values = ((wave if len(shape) == 2 else wave[..., None]) * 50 + 120 + noise).astype(
            np.uint8
        )
        path = tmp_path / "x.png"
        Image.fromarray(values).save(path)
    _, (planes,) = tasks.decode([path], config.model_dump(mode="json"))
    stored = planes.reshape(32, 32, -1).transpose(2, 0, 1) / 65535
    ours = (stored - told["input"]["mean"]) / told["input"]["std"]
    theirs = prepared(told, values, **extra)
    assert theirs.shape == tuple(told["input"]["shape"][1:])
    assert np.abs(theirs - ours).max() * told["input"]["std"] <= 1.01 / 65535
    assert len(np.unique(planes)) > 300


def _told(case, config):
    """The parts of a sidecar that say what pixels must be."""
    shape = ["N", config.channels, config.size, config.size]
    fed = {"shape": shape, "mean": 0.31, "std": 0.22}
    return {"decode": steps.settings(config), "scaling": steps.scaling(config), "input": fed}


def test_words_follow_the_settings():
    """Every decode setting changes what the sidecar says."""
    plain_words = steps.steps(DecodeConfig())
    changes = [{"size": 64}, {"volumes": "whole"}, {"intent": "processing"}, {"low_percentile": 1.0},
               {"high_percentile": 98.0}, {"ct_range_hu": (-100.0, 300.0)}, {"min_slice_fill": 0.2},
               {"colour": "rgb"}]  # fmt: skip
    changes += [{"scaling": s} for s in ("percentile", "window", "full", "equalise")]
    words = {tuple(steps.steps(DecodeConfig(**c))) for c in changes} | {tuple(plain_words)}
    assert len(words) == len(changes) + 1
    assert {k for c in changes for k in c} == set(DecodeConfig.model_fields)
    numbers = steps.settings(DecodeConfig())
    assert numbers["ct_range_hu"]["unit"] == "HU"
    assert all(v["means"] for v in numbers.values())


def test_ledger_travels_when_asked(tmp_path):
    run = a_run(tmp_path / "run", Case("timm"))
    room.export(run, "timm", tmp_path / "out", with_ledger=True)
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert (ledger["seen"], ledger["pictures"]) == ([SEEN], [PICTURE])
    assert ledger["site_keys"] == {SITE: "beefbeefbeefbeef"}
    told = json.loads((tmp_path / "out" / "preprocess.json").read_text())
    assert told["ledger"]["file"] == "ledger.json"


def test_a_folder_is_whole_or_not_there(tmp_path, monkeypatch):
    run, out = a_run(tmp_path / "run", Case("timm")), tmp_path / "out"
    monkeypatch.setattr(room, "write_text", lambda *_: (_ for _ in ()).throw(OSError(5, "broken")))
    with pytest.raises(OSError, match="broken"):
        room.export(run, "timm", out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_another_answer_is_refused(tmp_path, monkeypatch):
    run, out = a_run(tmp_path / "run", Case("timm", classes=True)), tmp_path / "out"
    real = plain._with_classifier

    def wrong(subject, channels):
        net = real(subject, channels)
        net.get_classifier().bias.data[1] += 2e-4
        return net

    monkeypatch.setattr(plain, "_with_classifier", wrong)
    with pytest.raises(RefusedError, match="E-PARITY"):
        room.export(run, "timm", out)
    assert not out.exists()


def test_what_is_no_number_is_refused():
    from medssl.export.subject import Pictures

    nothing = np.full((1, 2), np.nan, np.float32)
    with pytest.raises(RefusedError, match="E-PARITY"):
        prove(torch.zeros(1, 2), nothing, Pictures(torch.zeros(1, 1), 1, 0), "a test")


@pytest.mark.parametrize(
    ("case", "code"),
    [
        (Case("torchvision"), "E-TARGET"),
        (Case("timm", classes=True, colour="rgb", channels=1), "E-CHANNELS"),
        (Case("timm", channels=2), "E-USAGE"),
        (Case("tensorflow"), "E-USAGE"),
    ],
)
def test_what_cannot_be_exported(tmp_path, case, code):
    run, out = a_run(tmp_path / "run", case), tmp_path / "out"
    with pytest.raises(UsageError, match=code) as raised:
        room.export(run, case.target, out, channels=case.channels)
    assert raised.value.exit_code == 2
    assert not out.exists()


@pytest.mark.parametrize(
    ("target", "channels", "code"),
    [
        ("timm", None, "E-TARGET"),
        ("torchvision", None, "E-TARGET"),
        ("safetensors", 3, "E-CHANNELS"),
    ],
)
def test_what_volumes_cannot_become(exported, tmp_path, target, channels, code):
    with pytest.raises(UsageError, match=code):
        room.export(
            exported["safetensors, volumes"][0], target, tmp_path / "out", channels=channels
        )
    assert not list(tmp_path.iterdir())


def test_folders_in_use_and_runs_that_are_none(tmp_path):
    run, out = a_run(tmp_path / "run", Case("timm")), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for place in (out, out / "thesis.txt"):
        with pytest.raises(RefusedError, match="E-NOTEMPTY"):
            room.export(run, "timm", place)
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]
    with pytest.raises(NothingUsableError, match="E-NORUN"):
        room.export(tmp_path, "timm", tmp_path / "new")
    (run / "encoder.safetensors").write_bytes(b"broken")
    with pytest.raises(RefusedError, match="E-DIGEST"):
        room.export(run, "timm", tmp_path / "new")


def test_the_extra_is_named(tmp_path, monkeypatch):
    run = a_run(tmp_path / "run", Case("onnx"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MedsslError, match=r"medssl\[onnx\].*E-EXTRA"):
        room.export(run, "onnx", tmp_path / "out")


def test_probabilities_as_told(exported):
    """softmax(logits / temperature) of the plain network is what medssl predicts."""
    run, out, ours = exported["timm, classes, colours"]
    told = json.loads((out / "preprocess.json").read_text())["classifier"]
    logits = np.load(out / "answer.npy").astype(np.float64) / told["temperature"]
    mine = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = infer.load(run)
    fed = torch.from_numpy(np.load(out / "fed.npy"))
    with torch.inference_mode():
        features = found.encoder(fed).numpy()
    theirs = infer.head_scores(found.head, features, found.temperature)
    np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert ours.shape == (3, 3)
