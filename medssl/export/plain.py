"""Weights under the names of timm, torchvision or MONAI, read back there before they are written."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as format_tensors
from torch import Tensor, nn

from medssl.errors import UsageError
from medssl.export.subject import Pictures, Proof, Subject, prove
from medssl.models import volume_vit
from medssl.models.encoder import GROUPS, VOLUME_NAMES, build

WEIGHTS = "model.safetensors"
HEAD = "classifier"
RESIDUAL = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
"""Networks whose tensors have one name and one meaning in timm and in torchvision."""
NORM_LAYER = f"lambda channels, **_: torch.nn.GroupNorm({GROUPS}, channels)"


@dataclass(frozen=True)
class Made:
    """What one target gives, ready to be written.

    Attributes:
        file, data: the weights.
        library: whose network it is, and of which release.
        network: facts for the sidecar: name, how it is built.
        lines: Python that loads it in the plain library; leaves ``answer``.
        needs: what those lines need installed.
        proof: how well the copy answers.
    """

    file: str
    data: bytes
    library: str
    network: dict[str, Any]
    lines: tuple[str, ...]
    needs: tuple[str, ...]
    proof: Proof


def to_timm(subject: Subject, channels: int, pictures: Pictures) -> Made:
    """Return weights that ``timm.create_model`` loads with ``strict=True``.

    Raises:
        UsageError: a network that is not timm's, or whose classifier is more than one linear layer.
        RefusedError: what was read back answers otherwise.
    """
    _check_images(subject, "timm")
    data = _format(_with_classifier(subject, channels).state_dict())
    reader = _reader(subject, channels)
    _classified(reader, subject)
    proof = _read_back(reader, data, subject, channels, pictures, f"timm {version('timm')}")
    options = _timm_options(subject, channels)
    built = (f"model = timm.create_model({subject.card.encoder.name!r}, {options})",)
    lines = _lines(("timm",), built, subject)
    network = {"name": subject.card.encoder.name, "create": list(built)}
    return Made(WEIGHTS, data, _library("timm"), network, lines, _needs("timm"), proof)


def to_torchvision(subject: Subject, channels: int, pictures: Pictures) -> Made:
    """Return weights that torchvision's residual networks load with ``strict=True``.

    Raises:
        UsageError: a network that torchvision does not have under these names.
        RefusedError: what was read back answers otherwise.
    """
    name = subject.card.encoder.name
    if name not in RESIDUAL:
        words = (
            f"{name}: torchvision has no network with the same tensors. Possible are {', '.join(RESIDUAL)}; "
            "for this one use --to timm, safetensors or onnx."
        )
        raise UsageError(words.replace("timm, ", "") if subject.whole else words, "E-TARGET")
    data = _format(_with_classifier(subject, channels).state_dict())
    reader = _torchvision_network(subject, channels)
    release = f"torchvision {version('torchvision')}"
    proof = _read_back(reader, data, subject, channels, pictures, release)
    group = f", norm_layer={NORM_LAYER}" if subject.card.encoder.norm == "group" else ""
    built = [f"model = torchvision.models.{name}(weights=None{group})"]
    if channels == 1:
        built.append(
            "model.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)"
        )
    if subject.head is None:
        built.append("model.fc = torch.nn.Identity()")
    else:
        many = len(subject.classes)
        built.append(f"model.fc = torch.nn.Linear(model.fc.in_features, {many})")
    lines = _lines(("torchvision",), tuple(built), subject)
    network = {"name": name, "create": built}
    return Made(
        WEIGHTS, data, _library("torchvision"), network, lines, _needs("torchvision"), proof
    )


def to_safetensors(subject: Subject, channels: int, pictures: Pictures) -> Made:
    """Return the encoder's tensors under its library's names, a head as two more tensors.

    Raises:
        RefusedError: what was read back answers otherwise.
    """
    state = dict(subject.network(channels).state_dict())
    if subject.head is not None:
        linear = subject.head.linear.float()
        state |= {f"{HEAD}.{k}": v for k, v in linear.state_dict().items()}
    data = _format(state)
    proof = _read_back(
        _Headed(subject, channels), data, subject, channels, pictures, f"torch {version('torch')}"
    )
    name = subject.card.encoder.name
    if name in VOLUME_NAMES:
        library, imports, built = "monai", "monai.networks.nets", _monai_lines(subject)
    else:
        options = _timm_options(subject, channels, classes=0)
        library, imports, built = (
            "timm",
            "timm",
            (f"model = timm.create_model({name!r}, {options})",),
        )
    lines = _lines((imports,), built, subject, apart=True)
    network = {"name": name, "create": list(built)}
    return Made(WEIGHTS, data, _library(library), network, lines, _needs(library), proof)


def _needs(library: str) -> tuple[str, ...]:
    return "safetensors", "torch", library


def _library(name: str) -> str:
    return f"{name} {version(name)}"


def _check_images(subject: Subject, target: str) -> None:
    if subject.whole:
        words = (
            f"{subject.card.encoder.name}: reads whole volumes, and {target} has no such networks; it is "
            "MONAI's. Use --to safetensors or onnx."
        )
        raise UsageError(words, "E-TARGET")


def _reader(subject: Subject, channels: int) -> nn.Module:
    """Return the encoder's network built anew, with random weights."""
    card = subject.card
    own = subject.encoder.channels
    made = build(card.encoder, card.decode.size, whole=subject.whole, seed=1, channels=own)
    return subject.fitted(made.net, channels)


def _classified(net: nn.Module, subject: Subject) -> nn.Linear | None:
    """Give a timm network its own classifier for the classes, and return that layer.

    Raises:
        UsageError: it is not one linear layer on the features.
    """
    if subject.head is None:
        return None
    net.reset_classifier(len(subject.classes))  # type: ignore[operator]
    layer = net.get_classifier()  # type: ignore[operator]
    wanted = subject.head.linear.weight.shape
    if not isinstance(layer, nn.Linear) or layer.weight.shape != wanted:
        words = (
            f"{subject.card.encoder.name}: its classifier in timm is not one linear layer on "
            f"{wanted[1]} features, so this head does not fit. Use --to safetensors or onnx."
        )
        raise UsageError(words, "E-TARGET")
    return layer


def _with_classifier(subject: Subject, channels: int) -> nn.Module:
    """Return the trained network with the head as its own classifier."""
    net = subject.network(channels)
    layer = _classified(net, subject)
    if layer is not None and subject.head is not None:
        layer.load_state_dict(subject.head.linear.state_dict())
    return net


class _Headed(nn.Module):
    """A network built anew whose state has the encoder's own names, and a head under its own."""

    def __init__(self, subject: Subject, channels: int) -> None:
        super().__init__()
        self.net, self.head = _reader(subject, channels), None
        if subject.head is not None:
            linear = subject.head.linear
            self.head = nn.Linear(linear.in_features, linear.out_features)

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        rest = dict(state)
        if self.head is not None:
            own = {k: rest.pop(f"{HEAD}.{k}") for k in ("weight", "bias")}
            self.head.load_state_dict(own, strict=strict, assign=assign)
        return self.net.load_state_dict(rest, strict=strict, assign=assign)

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.net(pictures)
        return features if self.head is None else self.head(features)


def _torchvision_network(subject: Subject, channels: int) -> nn.Module:
    from torchvision import models  # type: ignore[import-untyped]

    options: dict[str, Any] = {}
    if subject.card.encoder.norm == "group":
        options["norm_layer"] = lambda many: nn.GroupNorm(GROUPS, many)
    net: nn.Module = models.get_model(subject.card.encoder.name, weights=None, **options)
    if channels == 1:
        net.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    width = subject.encoder.width
    net.fc = nn.Identity() if subject.head is None else nn.Linear(width, len(subject.classes))
    return net


def _format(state: dict[str, Tensor]) -> bytes:
    """Return float tensors as safetensors; nothing else is noted in the file."""
    plain = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    data: bytes = format_tensors(plain, metadata={"format": "pt"})
    return data


@torch.inference_mode()
def _read_back(
    reader: nn.Module,
    data: bytes,
    subject: Subject,
    channels: int,
    pictures: Pictures,
    name: str,
) -> Proof:
    reader.load_state_dict(parse_tensors(data), strict=True)
    fed = pictures.tensor.expand(-1, channels, *pictures.tensor.shape[2:])
    theirs = reader.eval()(fed).float().numpy()
    return prove(subject.answers(pictures.tensor), theirs, pictures, name)


def _timm_options(subject: Subject, channels: int, classes: int | None = None) -> str:
    """Return the arguments of ``timm.create_model`` as text."""
    many = len(subject.classes) if classes is None else classes
    options = [f"in_chans={channels}", f"num_classes={many}"]
    if "vit" in subject.card.encoder.name or "deit" in subject.card.encoder.name:
        options.append(f"img_size={subject.card.decode.size}")
    if subject.card.encoder.patch is not None:
        options.append(f"patch_size={subject.card.encoder.patch}")
    if subject.card.encoder.pool == "mean":
        options += ['global_pool="avg"', "class_token=False"]
    if subject.card.encoder.norm == "group":
        options.append(f"norm_layer={NORM_LAYER}")
    return ", ".join(options)


def _monai_lines(subject: Subject) -> tuple[str, ...]:
    config, size = subject.card.encoder, subject.card.decode.size
    if config.name in volume_vit.SIZES:
        given = volume_vit.options(config.name, size, config.patch)
        told = ", ".join(f"{k}={v!r}" for k, v in given.items())
        return tuple(line.replace("OPTIONS", told) for line in _MEAN_OF_PATCHES)
    group = subject.card.encoder.norm == "group"
    norm = f'("group", {{"num_groups": {GROUPS}}})' if group else '"batch"'
    builder = subject.card.encoder.name.removesuffix("_3d")
    made = (
        f"model = monai.networks.nets.resnet.{builder}(spatial_dims=3, n_input_channels=1, "
        f'feed_forward=False, norm={norm}, shortcut_type="B")'
    )
    return (made, *_GROUPED) if group else (made,)


_MEAN_OF_PATCHES = (
    "class MeanOfPatches(torch.nn.Module):",
    "    def __init__(self):",
    "        super().__init__()",
    "        self.vit = monai.networks.nets.ViT(OPTIONS)",
    "",
    "    def forward(self, volumes):",
    "        return self.vit(volumes)[0].mean(1)",
    "",
    "model = MeanOfPatches()",
)


_GROUPED = (
    "for part in list(model.modules()):  # MONAI keeps some batch norms whatever norm says",
    "    for name, child in part.named_children():",
    "        if isinstance(child, torch.nn.BatchNorm3d):",
    f"            setattr(part, name, torch.nn.GroupNorm({GROUPS}, child.num_features))",
)


def _lines(
    imports: tuple[str, ...], built: tuple[str, ...], subject: Subject, *, apart: bool = False
) -> tuple[str, ...]:
    """Return Python that builds, loads and calls; ``apart`` for a head outside the network."""
    names = sorted({"torch", "safetensors.torch", *imports})
    lines = [*(f"import {n}" for n in names), "", *built]
    call = "model(pixels)"
    if apart and subject.head is not None:
        linear = subject.head.linear
        lines += [
            f"head = torch.nn.Linear({linear.in_features}, {linear.out_features})",
            f'state = safetensors.torch.load_file("{WEIGHTS}")',
            f'head.load_state_dict({{k: state.pop("{HEAD}." + k) for k in ("weight", "bias")}})',
            "model.load_state_dict(state, strict=True)",
        ]
        call = "head(model(pixels))"
    else:
        lines.append(
            f'model.load_state_dict(safetensors.torch.load_file("{WEIGHTS}"), strict=True)'
        )
    return (*lines, "model.eval()", "with torch.inference_mode():", f"    answer = {call}")
