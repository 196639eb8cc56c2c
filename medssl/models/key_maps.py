"""Whose names the tensors of a foreign file carry, and how an encoder calls the same ones.

Every map is explicit. What a map does not know is unexpected, and the file is refused; what it knows
to be of no use here (a classifier, the other branch of a contrastive model) is set aside by name.

* timm: its own names, bare or under ``state_dict``, ``model`` and the like of a training checkpoint.
* torchvision: ResNets and DenseNets; timm has kept their names.
* radimagenet: the authors' PyTorch files hold ``nn.Sequential(*list(net.children())[:-1])`` of
  torchvision's ResNet-50 or DenseNet-121 as ``backbone`` (BMEII-AI/RadImageNet, issues 3 and 14).
* moco: the query encoder of MoCo v1 to v3, SimSiam's, SimCLR's and Barlow Twins' encoder, DINO's
  teacher; ResNets with torchvision's names and ViTs with timm's.
* remedis: TensorFlow's variables as npz, of BiT's ResNetV2 (what REMEDIS releases: encoder.name
  resnetv2_50x1_bit or resnetv2_152x2_bit) or of SimCLR's ResNet (encoder.name resnet50), under any
  scope. Kernels are HWIO there and become OIHW. A SavedModel becomes npz, where TensorFlow is, by

      python -c "import sys, numpy, tensorflow as tf;
      v = tf.saved_model.load(sys.argv[1]).variables;
      numpy.savez(sys.argv[2], **{x.name: x.numpy() for x in v})" cxr-50x1-remedis-m remedis.npz
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

COUNTER = "num_batches_tracked"
WRAPPERS = ("", "state_dict.", "model.", "state_dict_ema.", "model_ema.", "model_state_dict.")
BARE = tuple(f"{w}{m}" for w in WRAPPERS for m in ("", "module."))
BRANCHES = (
    "encoder_q.",
    "base_encoder.",
    "backbone.",
    "encoder.",
    "online_encoder.",
    "resnet.",
)
CONTRASTIVE = (
    *(f"{w}{m}{b}" for w in WRAPPERS for m in ("module.", "", "model.") for b in BRANCHES),
    *(f"teacher.{m}backbone." for m in ("", "module.")),
    *BARE,
)
HEADS = ("fc.", "head.", "head_dist.", "classifier.", "projector.", "predictor.")
SEQUENTIAL = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}
NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


@dataclass(frozen=True)
class Mapped:
    """What a map made of a file.

    Attributes:
        tensors: by the encoder's names, shapes as in the file (kernels as OIHW).
        unused: names in the file that are known to be of no use here.
        unexpected: names in the file that the map cannot place.
    """

    tensors: dict[str, Tensor]
    unused: tuple[str, ...]
    unexpected: tuple[str, ...]


Found = dict[str, Tensor]
Map = Callable[[Found, list[str]], Mapped]


def _under_prefix(
    prefixes: Iterable[str], rename: Callable[[Found], Found] = lambda found: found
) -> Map:
    """Return the map that takes what stands under the prefix with most of the encoder's names."""

    def apply(found: Found, wanted: list[str]) -> Mapped:
        names = set(wanted)

        def under(prefix: str) -> Found:
            cut = len(prefix)
            return rename({k[cut:]: v for k, v in found.items() if k.startswith(prefix)})

        prefix = max(prefixes, key=lambda p: len(names & under(p).keys()))
        own = under(prefix)
        tensors = {k: v for k, v in own.items() if k in names}
        rest = [k for k in own if k not in names]
        heads = [f"{prefix}{k}" for k in rest if k.startswith(HEADS)]
        unexpected = [f"{prefix}{k}" for k in rest if not k.startswith(HEADS)]
        others = [k for k in found if not k.startswith(prefix)]
        return Mapped(tensors, (*heads, *others), tuple(unexpected))

    return apply


def _unnumbered(found: Found) -> Found:
    """Give the children of a Sequential their names again."""
    dense = "0.conv0.weight" in found

    def name(key: str) -> str:
        number, _, rest = key.partition(".")
        if dense:
            return f"features.{rest}" if number == "0" else key
        return f"{SEQUENTIAL.get(number, number)}.{rest}"

    return {name(k): v for k, v in found.items()}


def _tensorflow(found: Found, wanted: list[str]) -> Mapped:
    """Place TensorFlow's variables, of BiT's network or of SimCLR's."""
    bare = {k.removesuffix(":0"): v for k, v in found.items()}
    stems = ("root_block/standardized_conv2d/kernel", "conv2d/kernel")
    scopes = [(k.removesuffix(s), s) for s in stems for k in bare if k.endswith(s)]
    scope, stem = min(
        scopes, key=lambda pair: (pair[1] == stems[1], len(pair[0])), default=("", "")
    )
    pairs = _bit_names(wanted) if stem == stems[0] else _simclr_names(wanted)
    names = {ours: theirs for ours, theirs in pairs if ours in wanted}
    own = {k.removeprefix(scope): v for k, v in bare.items() if k.startswith(scope)}
    tensors = {ours: _oihw(own[theirs]) for ours, theirs in names.items() if theirs in own}
    used = {f"{scope}{theirs}" for theirs in names.values()}
    # Heads, momenta, averages and counters stand beside the network's own variables.
    network = re.compile(
        r"(root_block|block\d+|group_norm|conv2d|batch_normalization)(_\d+)?/"
        r"(?!.*(Momentum|ExponentialMovingAverage)$)"
    )
    rest = [k for k in bare if k not in used]
    unexpected = [k for k in rest if k.startswith(scope) and network.match(k.removeprefix(scope))]
    return Mapped(tensors, tuple(k for k in rest if k not in unexpected), tuple(unexpected))


def _oihw(kernel: Tensor) -> Tensor:
    return kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel


def _bit_names(wanted: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (timm's name, BiT's name) of every tensor of a ResNetV2 that both know.

    Kolesnikov et al. 2020; the names are those of its released npz files.
    """
    norms = {"weight": "gamma", "bias": "beta"}
    yield "stem.conv.weight", "root_block/standardized_conv2d/kernel"
    for name in wanted:
        if name in {"norm.weight", "norm.bias"}:
            yield name, f"group_norm/{norms[name.removeprefix('norm.')]}"
        block = re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.(.+)\.(weight|bias)", name)
        if block is None:
            continue
        unit = f"block{int(block[1]) + 1}/unit{int(block[2]) + 1:02d}"
        kind, number = block[3][:-1], block[3][-1]
        if block[3] == "downsample.conv":
            yield name, f"{unit}/a/proj/standardized_conv2d/kernel"
        elif kind == "conv" and number in "123":
            yield name, f"{unit}/{'abc'[int(number) - 1]}/standardized_conv2d/kernel"
        elif kind == "norm" and number in "123":
            yield name, f"{unit}/{'abc'[int(number) - 1]}/group_norm/{norms[block[4]]}"


def _simclr_names(wanted: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (timm's name, TensorFlow's name) of every tensor of a ResNet.

    TensorFlow numbers layers as they are made: the stem, then block by block the shortcut's
    convolution before the others (google-research/simclr, resnet.py), and norms alike.
    """
    made = ["conv1"]
    blocks = (re.match(r"layer\d+\.\d+(?=\.)", name) for name in wanted)
    for prefix in dict.fromkeys(found[0] for found in blocks if found is not None):
        inside = ("downsample.0", "conv1", "conv2", "conv3")
        made += [f"{prefix}.{c}" for c in inside if f"{prefix}.{c}.weight" in wanted]
    for number, conv in enumerate(made):
        suffix = f"_{number}" if number else ""
        yield f"{conv}.weight", f"conv2d{suffix}/kernel"
        norm = conv.replace("downsample.0", "downsample.1").replace("conv", "bn")
        yield from ((f"{norm}.{o}", f"batch_normalization{suffix}/{t}") for o, t in NORM.items())


MAPS: dict[str, Map] = {
    "timm": _under_prefix(BARE),
    "torchvision": _under_prefix(BARE),
    "radimagenet": _under_prefix((*(f"{p}backbone." for p in BARE), *BARE), _unnumbered),
    "moco": _under_prefix(CONTRASTIVE),
    "remedis": _tensorflow,
}


def translate(keys: str, found: Found, wanted: Iterable[str]) -> Mapped:
    """Give a file's tensors the encoder's names.

    Args:
        keys: whose names they carry, one of ``MAPS``.
        found: the file's tensors.
        wanted: names of the encoder's tensors.
    """
    return MAPS[keys](found, list(wanted))
