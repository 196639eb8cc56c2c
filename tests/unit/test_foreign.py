"""Weights from outside: the same function in our encoder as in the library they come from, or a refusal."""

import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from medssl.config import DecodeConfig, EncoderConfig, ForeignConfig
from medssl.errors import NothingUsableError, RefusedError
from medssl.models import foreign, key_maps, unpack, weights
from medssl.models.encoder import Encoder, build

SIDE = 64


def shaken(net, seed=0):
    """A network in which no parameter and no statistic has its default, so that each one matters."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=stream) + 0.5)
            elif value.is_floating_point() and value.ndim <= 1:
                value.add_(0.1 * torch.randn(value.shape, generator=stream))
    return net.eval()


@pytest.fixture(scope="module")
def small():
    """The tensors of timm's smallest ResNet."""
    return shaken(timm.create_model("resnet10t", num_classes=7)).state_dict()


def settings(file, keys, licence="BSD-3-Clause"):
    return ForeignConfig(file=str(file), keys=keys, licence=licence)


def encoder_of(name, channels=1, size=SIDE, **more):
    return build(EncoderConfig(name=name, **more), size, whole=False, seed=9, channels=channels)


def pictures(channels=1, size=SIDE):
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(5))


def through(net, images):
    with torch.no_grad():
        return net.eval()(images)


def same_function(encoder, oracle, channels=1, size=SIDE):
    """The encoder sees grey once where the oracle sees it three times; colour both see alike."""
    images = pictures(channels, size)
    wanted = through(oracle, images.expand(-1, 3, -1, -1) if channels == 1 else images)
    got = through(encoder, images)
    assert wanted.std() > 1e-3
    scale = float(wanted.abs().max())
    torch.testing.assert_close(got, wanted.flatten(1), atol=1e-5 * scale, rtol=0)


@pytest.fixture(scope="module")
def resnet():
    """Torchvision's ResNet-18 and the same without its classifier."""
    net = shaken(torchvision.models.resnet18(num_classes=7))
    headless = torchvision.models.resnet18(num_classes=7)
    headless.load_state_dict(net.state_dict())
    headless.fc = nn.Identity()
    return SimpleNamespace(state=net.state_dict(), oracle=headless.eval())


def test_torchvision_through_the_child(resnet, tmp_path):
    file = tmp_path / "resnet18.pth"
    torch.save({"state_dict": resnet.state, "epoch": 3, "optimizer": {"state": {0: {}}}}, file)
    encoder = encoder_of("resnet18")
    loaded = foreign.load(settings(file, "torchvision"), encoder)
    same_function(encoder, resnet.oracle)
    assert loaded.count == len([k for k in resnet.state if "batches" not in k]) - 2
    assert sorted(loaded.unused) == ["state_dict.fc.bias", "state_dict.fc.weight"]
    assert loaded.origin.file == "resnet18.pth"
    assert loaded.origin.licence == "BSD-3-Clause"
    assert loaded.origin.sha256 == weights.sha256_file(file)
    assert "3 channels" in loaded.notes[0]
    assert loaded.facts()["foreign_tensors"] == "100 of 100 loaded"
    assert str(tmp_path) not in str(loaded)


def test_three_channels_are_taken_as_they_are(resnet, tmp_path):
    file = tmp_path / "x.safetensors"
    save_file(resnet.state, file)
    encoder = encoder_of("resnet18", channels=3)
    loaded = foreign.load(settings(file, "torchvision"), encoder)
    same_function(encoder, resnet.oracle, channels=3)
    assert loaded.notes == ()


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224", "resnet10t"])
def test_timm(name, tmp_path):
    more = {"img_size": SIDE} if "vit" in name else {}
    net = shaken(timm.create_model(name, num_classes=5, **more))
    file = tmp_path / "x.safetensors"
    save_file(net.state_dict(), file)
    encoder = encoder_of(name)
    loaded = foreign.load(settings(file, "timm"), encoder)
    net.reset_classifier(0)
    same_function(encoder, net)
    assert len(loaded.unused) == 2


def test_vit_of_another_image_size_as_timm_loads_it(tmp_path):
    net = shaken(timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=96))
    file = tmp_path / "x.safetensors"
    save_file(net.state_dict(), file)
    encoder = encoder_of("vit_tiny_patch16_224")
    loaded = foreign.load(settings(file, "timm"), encoder)
    oracle = timm.create_model(
        "vit_tiny_patch16_224", in_chans=1, num_classes=0, img_size=SIDE, pretrained=True,
        pretrained_cfg_overlay={"file": str(file)},
    )  # fmt: skip
    torch.testing.assert_close(through(encoder, pictures()), through(oracle, pictures()))
    assert loaded.notes[1] == "pos_embed was resampled from 6 x 6 to 4 x 4 patches."


class Backbone(nn.Module):
    """How the authors of RadImageNet wrap a network before they save it."""

    def __init__(self, net):
        super().__init__()
        self.backbone = nn.Sequential(*list(net.children())[:-1])

    def forward(self, images):
        return self.backbone(images)


def test_radimagenet_resnet(tmp_path):
    net = Backbone(shaken(torchvision.models.resnet50()))
    # Files from before batch norm counted its batches.
    state = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
    assert "backbone.0.weight" in state
    assert "backbone.7.2.bn3.running_var" in state
    save_file(state, tmp_path / "ResNet50.safetensors")
    encoder = encoder_of("resnet50")
    loaded = foreign.load(settings(tmp_path / "ResNet50.safetensors", "radimagenet"), encoder)
    same_function(encoder, net)
    assert loaded.count == 265


def test_radimagenet_densenet(tmp_path):
    net = Backbone(shaken(torchvision.models.densenet121()))
    save_file(net.state_dict(), tmp_path / "x.safetensors")
    encoder = encoder_of("densenet121")
    foreign.load(settings(tmp_path / "x.safetensors", "radimagenet"), encoder)
    same_function(encoder, lambda_module(lambda x: net(x).relu().mean((2, 3))))


def lambda_module(function):
    module = nn.Identity()
    module.forward = function
    return module


def test_moco_takes_the_query_encoder(resnet, tmp_path):
    query = {f"module.encoder_q.{k}": v for k, v in resnet.state.items() if "fc" not in k}
    key = {f"module.encoder_k.{k}": v + 1 for k, v in resnet.state.items()}
    rest = {"module.encoder_q.fc.0.weight": torch.ones(2, 2), "module.queue": torch.ones(4, 4)}
    file = tmp_path / "x.safetensors"
    save_file({f"state_dict.{k}": v for k, v in {**key, **query, **rest}.items()}, file)
    encoder = encoder_of("resnet18")
    loaded = foreign.load(settings(file, "moco"), encoder)
    same_function(encoder, resnet.oracle)
    assert len(loaded.unused) == len(key) + 2
    assert "state_dict.module.encoder_q.fc.0.weight" in loaded.unused


@pytest.mark.parametrize(
    "prefix", ["module.base_encoder.", "module.encoder.", "backbone.", "teacher.backbone.", ""]
)
def test_other_contrastive_checkpoints(prefix, resnet):
    own = {f"{prefix}{k}": v for k, v in resnet.state.items()}
    others = (
        {f"student.module.backbone.{k}": v + 1 for k, v in resnet.state.items()} if prefix else {}
    )
    wanted = [k for k in resnet.state if "fc" not in k]
    mapped = key_maps.translate("moco", {**others, **own}, wanted)
    assert not mapped.unexpected
    assert all(mapped.tensors[k] is resnet.state[k] for k in wanted)


def tensorflow_resnet(net):
    """The variables of SimCLR's ResNet, numbered as TensorFlow makes them: by hand, block by block."""
    out, count = {}, 0

    def layer(conv, norm):
        nonlocal count
        tail = f"_{count}" if count else ""
        scope, count = "base_model", count + 1
        out[f"{scope}/conv2d{tail}/kernel"] = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
        for ours, theirs in (("weight", "gamma"), ("bias", "beta"),
                             ("running_mean", "moving_mean"), ("running_var", "moving_variance")):  # fmt: skip
            value = getattr(norm, ours).detach().numpy()
            out[f"{scope}/batch_normalization{tail}/{theirs}"] = value

    layer(net.conv1, net.bn1)
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        for block in stage:
            if block.downsample is not None:
                layer(block.downsample[0], block.downsample[1])
            layer(block.conv1, block.bn1)
            layer(block.conv2, block.bn2)
            if hasattr(block, "conv3"):
                layer(block.conv3, block.bn3)
    return out


def test_remedis_simclr(resnet, tmp_path):
    variables = {f"{k}:0": v for k, v in tensorflow_resnet(resnet.oracle).items()}
    variables |= {"global_step:0": np.int64(7), "head_contrastive/nl_0/dense/kernel:0": np.ones(3)}
    variables |= {"base_model/conv2d/kernel/Momentum:0": np.ones((7, 7, 3, 64), np.float32)}
    np.savez(tmp_path / "remedis.npz", **variables)
    encoder = encoder_of("resnet18")
    loaded = foreign.load(settings(tmp_path / "remedis.npz", "remedis"), encoder)
    same_function(encoder, resnet.oracle)
    assert len(loaded.unused) == 3


def test_tensorflow_makes_the_shortcut_first():
    """Shapes of the first kernels of the released ResNet-50, as a user printed them."""
    with torch.device("meta"):
        net = torchvision.models.resnet50()
    wanted = {k: v for k, v in net.state_dict().items() if not k.startswith("fc")}
    theirs = {t: wanted[o] for o, t in key_maps._simclr_names(list(wanted))}
    shapes = [tuple(theirs[f"conv2d{k}/kernel"].shape) for k in ("", "_1", "_2")]
    assert shapes == [(64, 3, 7, 7), (256, 64, 1, 1), (64, 64, 1, 1)]
    assert len(theirs) == 265


def small_bit(channels):
    """BiT's network with one or two blocks a stage."""
    make = timm.models.resnetv2.ResNetV2
    layer = timm.layers.StdConv2d
    net = make((2, 1, 1, 1), (128, 128, 256, 256), num_classes=0, in_chans=channels,
               stem_type="fixed", conv_layer=lambda *a, **k: layer(*a, **{"eps": 1e-8, **k}))  # fmt: skip
    net.pretrained_cfg = {"first_conv": "stem.conv"}
    return net


def bit_variables(net):
    """The names of BiT's npz, written out from the network's structure."""

    def kernel(conv):
        return conv.weight.detach().numpy().transpose(2, 3, 1, 0)

    out = {"root_block/standardized_conv2d/kernel": kernel(net.stem.conv)}
    norms = {"group_norm": net.norm}
    for i, stage in enumerate(net.stages, start=1):
        for j, block in enumerate(stage.blocks, start=1):
            for part, conv, norm in zip(
                "abc",
                (block.conv1, block.conv2, block.conv3),
                (block.norm1, block.norm2, block.norm3),
                strict=True,
            ):
                unit = f"block{i}/unit{j:02d}/{part}"
                out[f"{unit}/standardized_conv2d/kernel"] = kernel(conv)
                norms[f"{unit}/group_norm"] = norm
            if block.downsample is not None:
                name = f"block{i}/unit{j:02d}/a/proj/standardized_conv2d/kernel"
                out[name] = kernel(block.downsample.conv)
    for name, norm in norms.items():
        out[f"{name}/gamma"] = norm.weight.detach().numpy()
        out[f"{name}/beta"] = norm.bias.detach().numpy()
    return out


@pytest.mark.parametrize("channels", [1, 3])
def test_remedis_bit_as_timm_loads_it(channels, tmp_path):
    variables = bit_variables(shaken(small_bit(3)))
    np.savez(tmp_path / "bit.npz", **{f"resnet/{k}": v for k, v in variables.items()})
    scoped = {f"base_model/module/resnet/{k}:0": v for k, v in variables.items()}
    scoped["base_model/module/resnet/head/conv2d/kernel:0"] = np.ones((1, 1, 4, 4))
    np.savez(tmp_path / "remedis.npz", **scoped)
    oracle, net = small_bit(channels), small_bit(channels)
    oracle.load_pretrained(str(tmp_path / "bit.npz"))
    loaded = foreign.load(settings(tmp_path / "remedis.npz", "remedis"), Encoder(net, 256, 2))
    images = pictures(channels)
    torch.testing.assert_close(through(net, images), through(oracle, images))
    assert loaded.count == len(variables)
    assert len(loaded.unused) == 1
    assert len(loaded.notes) == (2 if channels == 1 else 0)


def refusal(file, keys, encoder):
    """The refusal's sentences; the encoder is as it was."""
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(RefusedError) as caught:
        foreign.load(settings(file, keys), encoder)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert caught.value.exit_code == 4
    return caught.value


def test_everything_that_does_not_fit_is_listed(small, tmp_path):
    state = dict(small)
    state["layer4.0.conv2.weight"] = torch.ones(512, 512, 1, 1)
    state["extra\x1b[31m.weight"] = torch.ones(1)
    del state["bn1.bias"]
    save_file(state, tmp_path / "x.safetensors")
    told = refusal(tmp_path / "x.safetensors", "timm", encoder_of("resnet10t"))
    head, missing, unexpected, shapes, way = told.problems
    assert told.code == "E-KEYS"
    assert "68 of 70 tensors of the encoder fit" in head
    assert "nothing was loaded" in head
    assert missing.strip() == "missing (1): bn1.bias"
    assert unexpected.strip() == "unexpected (1): extra?[31m.weight"
    assert "layer4.0.conv2.weight float32[512, 512, 1, 1] in the file" in shapes
    assert "float32[512, 512, 3, 3] here" in shapes
    assert "encoder.name" in way


def test_another_network_lists_twenty_and_says_how_many_more(resnet, tmp_path):
    save_file(resnet.state, tmp_path / "x.safetensors")
    told = refusal(tmp_path / "x.safetensors", "timm", encoder_of("convnext_atto"))
    assert told.problems[1].count(",") == 19
    assert "more" in told.problems[1]
    assert told.problems[2].strip().startswith("unexpected (120)")


def test_no_key_map_is_proposed_for_shapes_that_fit_none(small, tmp_path):
    odd = {k: v[:, :, :2] if k == "layer1.0.conv1.weight" else v for k, v in small.items()}
    save_file({k: v.contiguous() for k, v in odd.items()}, tmp_path / "x.safetensors")
    told = refusal(tmp_path / "x.safetensors", "timm", encoder_of("resnet10t"))
    assert "other shapes (1): layer1.0.conv1.weight" in told.problems[1]
    assert "All of it fits" not in str(told)


def test_another_key_map_is_proposed(small, tmp_path):
    save_file({f"encoder_q.{k}": v for k, v in small.items()}, tmp_path / "x.safetensors")
    told = refusal(tmp_path / "x.safetensors", "timm", encoder_of("resnet10t"))
    assert told.problems[-1] == "All of it fits foreign.keys=moco."


def test_batch_norm_statistics_have_no_place_in_group_norm(small, tmp_path):
    save_file(small, tmp_path / "x.safetensors")
    told = refusal(tmp_path / "x.safetensors", "timm", encoder_of("resnet10t", norm="group"))
    assert "encoder.norm=batch" in told.problems[-1]


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_values_that_are_not_numbers(value, small, tmp_path):
    state = {k: v.clone() for k, v in small.items()}
    state["layer2.0.bn1.weight"][3] = value
    save_file(state, tmp_path / "x.safetensors")
    told = refusal(tmp_path / "x.safetensors", "timm", encoder_of("resnet10t"))
    assert told.code == "E-NONFINITE"
    assert "layer2.0.bn1.weight" in told.problems[0]


class Hostile:
    """Asks for a shell when it is unpacked."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_hostile_file_leaves_no_canary(small, tmp_path):
    canary, file = tmp_path / "canary", tmp_path / "x.pt"
    torch.save({**small, "x": Hostile(f"touch {canary}")}, file)
    told = refusal(file, "timm", encoder_of("resnet10t"))
    assert not canary.exists()
    assert told.code == "E-FOREIGN-CODE"
    assert "asks for posix.system to be run" in told.problems[0]
    assert str(tmp_path) not in str(told)
    torch.load(file, weights_only=False)
    assert canary.exists()


def broken(kind, folder, state):
    """A torch file with one fault."""
    file = folder / "x.pth"
    torch.save({"lightning": {"instance": state, "_instantiator": "os.system"}} if kind == "built"
               else {"w": torch.ones(1).expand(10**12)} if kind == "huge"
               else {"w": torch.ones(4).to_sparse()} if kind == "sparse"
               else {"w": torch.empty(10**12, device="meta")} if kind == "hollow"
               else [1, 2] if kind == "tensorless"
               else nn.Linear(2, 2) if kind == "module"
               else state, file, _use_new_zipfile_serialization=kind != "old format")  # fmt: skip
    whole = file.read_bytes()
    if kind in {"truncated", "old format"}:
        file.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "text":
        file.write_bytes(b"<html>404</html>" * 40)
    return file


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("built", "E-FOREIGN-CODE", "names a class to be built"),
        ("module", "E-FOREIGN-CODE", "Linear to be run"),
        ("huge", "E-BOMB", "declares 4000000000000 bytes"),
        ("hollow", "E-WEIGHTS", "without data"),
        ("sparse", "E-WEIGHTS", "sparse"),
        ("tensorless", "E-WEIGHTS", "no table of tensors"),
        ("truncated", "E-WEIGHTS", "cut off"),
        ("old format", "E-WEIGHTS", "cut off"),
        ("empty", "E-WEIGHTS", "is empty"),
        ("text", "E-WEIGHTS", "of another kind"),
    ],
)
def test_broken_torch_files(kind, code, words, small, tmp_path):
    file = broken(kind, tmp_path, {k: v for k, v in small.items() if v.ndim < 2})
    with pytest.raises(RefusedError, match=words) as caught:
        unpack.read(file)
    assert caught.value.code == code
    assert "weights_only" not in str(caught.value)


def test_the_old_format_is_read(small, tmp_path):
    torch.save(small, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    got = unpack.read(tmp_path / "x.pth")
    assert all(torch.equal(got[k], v) for k, v in small.items())


@pytest.mark.parametrize("name", ["x.safetensors", "x.npz"])
@pytest.mark.parametrize("content", ["empty", "cut", "other"])
def test_broken_files_that_are_read_directly(name, content, tmp_path):
    file = tmp_path / name
    good = {"a": torch.arange(1000.0)}
    if name.endswith("npz"):
        np.savez(file, a=good["a"].numpy())
    else:
        save_file(good, file)
    raw = {"empty": b"", "cut": file.read_bytes()[:-700], "other": b"\x80\x04x" * 99}[content]
    file.write_bytes(raw)
    with pytest.raises(RefusedError, match="could not be read as"):
        foreign.read(file)


def test_arrays_of_objects_and_bombs_are_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", a=np.array([Hostile(f"touch {tmp_path}/canary")], dtype=object))
    with pytest.raises(RefusedError, match="more than plain tensors"):
        foreign.read(tmp_path / "x.npz")
    assert not (tmp_path / "canary").exists()
    np.savez_compressed(tmp_path / "b.npz", a=np.zeros(100_000))
    monkeypatch.setattr(foreign, "NPZ_BYTES", 1000)
    with pytest.raises(RefusedError, match="could not be read"):
        foreign.read(tmp_path / "b.npz")


def test_absent_and_unknown_files(tmp_path):
    with pytest.raises(NothingUsableError, match="no such file"):
        foreign.read(tmp_path / "x.pth")
    (tmp_path / "x.h5").write_bytes(b"\x89HDF")
    with pytest.raises(RefusedError, match="none of the kinds"):
        foreign.read(tmp_path / "x.h5")


def test_the_licence_travels_and_old_cards_are_read(tmp_path):
    origin = weights.ForeignWeights("x.pth", "ab" * 32, "timm", "CC-BY-NC-4.0")
    parts = {"mean": 0.4, "std": 0.2, "site_keys": {}, "seen": (), "pictures": (), "source": "r"}
    card = weights.Card(EncoderConfig(name="resnet10t"), DecodeConfig(size=32), **parts)
    for told in (card, weights.Card(card.encoder, card.decode, **parts, foreign=(origin,))):
        weights.save_encoder(tmp_path, encoder_of("resnet10t", size=32), told)
        assert weights.read_card(tmp_path)[0] == told
    data = weights.read_json(tmp_path / "encoder.json", "encoder")
    assert weights.card_from({k: v for k, v in data.items() if k != "foreign"}, "x") == card
    del data["foreign"][0]["licence"]
    with pytest.raises(RefusedError, match="licence"):
        weights.card_from(data, "encoder.json")
