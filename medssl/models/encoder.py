"""Encoders: timm for images, MONAI for whole volumes, behind one door."""

import contextlib
import io
import re
from collections.abc import Callable
from typing import Any

import timm
import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from medssl.config import EncoderConfig
from medssl.errors import UsageError
from medssl.models.thrift import in_chunks
from medssl.models.volume_vit import volume_vit

VOLUME_NAMES = (
    "resnet10_3d",
    "resnet18_3d",
    "resnet34_3d",
    "resnet50_3d",
    "vit_tiny_3d",
    "vit_small_3d",
)
GROUPS = 8


class Encoder(nn.Module):
    """A network from images to features.

    Attributes:
        width: features per image.
        dims: 2 for images, 3 for whole volumes.
        channels: 1 for grey, 3 for red, green and blue.
        size: side of the images, pixels; 0 where nobody said.
        chunk: images that are learnt from at a time (``models/thrift.py``); None: all.
    """

    def __init__(
        self, net: nn.Module, width: int, dims: int, channels: int = 1, size: int = 0
    ) -> None:
        super().__init__()
        self.layout = torch.channels_last if dims == 2 else torch.contiguous_format
        self.net = net.to(memory_format=self.layout)
        self.width, self.dims, self.channels, self.size = width, dims, channels, size
        self.chunk: int | None = None

    @property
    def any_side(self) -> bool:
        """Return whether it reads pictures of other sides too: all but vision transformers do."""
        return not any(type(m).__name__ in {"PatchEmbed", "VolumeViT"} for m in self.net.modules())

    def forward(self, images: Tensor) -> Tensor:
        """Map float ``[N, C, (D,) H, W]``, normalised, to float ``[N, width]``."""
        images = images.contiguous(memory_format=self.layout)
        if self.chunk is not None and torch.is_grad_enabled() and len(images) > self.chunk:
            return in_chunks(self.net, images, self.chunk)
        features: Tensor = self.net(images)
        return features


def build(
    config: EncoderConfig, size: int, *, whole: bool, seed: int, channels: int = 1
) -> Encoder:
    """Build an encoder with weights drawn from ``seed``; nothing is downloaded.

    Args:
        config: its name and norm.
        size: side of the images, pixels.
        whole: whether it reads whole volumes, which are grey.
        seed: of the weights.
        channels: of the images (``DecodeConfig.channels``).

    Raises:
        UsageError: unknown name, or an image network for volumes and the reverse.
    """
    volume = config.name in VOLUME_NAMES
    if volume != whole:
        wanted = "whole volumes (decode.volumes=whole)" if volume else "images or slices"
        raise UsageError(
            f"encoder {config.name} reads {wanted}; the store holds the other.", "E-ENCODER"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if (config.pool != "default" or config.patch is not None) and not _transformer(config.name):
            words = f"encoder.pool and encoder.patch are of plain vision transformers; {config.name} is none."
            raise UsageError(words, "E-ENCODER")
        net, width = _volume_net(config, size) if volume else _image_net(config, size, channels)
    return Encoder(net, width, 3 if volume else 2, 1 if volume else channels, size)


def _image_net(config: EncoderConfig, size: int, channels: int) -> tuple[nn.Module, int]:
    if config.name not in timm.list_models():
        near = timm.list_models(f"*{config.name[:6]}*")[:3]
        raise UsageError(
            f"encoder.name {config.name!r} is not a timm model; near: {near}.", "E-ENCODER"
        )
    options: dict[str, Any] = {"in_chans": channels, "num_classes": 0, "pretrained": False}
    if config.norm == "group":
        options["norm_layer"] = _group_norm
    if "vit" in config.name or _transformer(config.name):
        options["img_size"] = size
        if config.pool == "mean":
            options |= {"global_pool": "avg", "class_token": False}
        if config.patch is not None:
            options["patch_size"] = config.patch
        patch = config.patch or _patch_in(config.name)
        if patch is not None and size % patch:
            words = f"encoder {config.name}: decode.size {size} does not divide by its patches of {patch}."
            raise UsageError(words, "E-ENCODER")
        if config.norm == "group":
            raise UsageError(
                f"encoder {config.name} has no batch norm to replace; use norm: batch.", "E-ENCODER"
            )
    try:
        net = timm.create_model(config.name, **options)
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        words = f"encoder {config.name} cannot be built with norm={config.norm} at size {size}."
        raise UsageError(words, "E-ENCODER") from error
    # Some networks widen after num_features, so the width is what really comes out.
    with torch.no_grad():
        width = net.eval()(torch.zeros(1, channels, size, size)).shape[1]
    return net.train(), int(width)


def _transformer(name: str) -> bool:
    """Return whether a name is of a plain vision transformer."""
    known = timm.models.is_model_in_modules(name, ("vision_transformer", "deit"))
    return (name.endswith("_3d") and name.startswith("vit")) or bool(known)


def _patch_in(name: str) -> int | None:
    found = re.search(r"patch(\d+)", name)
    return int(found[1]) if found else None


def _group_norm(channels: int, **_: Any) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels)


def synchronise(encoder: Encoder) -> None:
    """Share batch norm's statistics between the GPUs of a job, in place; keys stay as they are.

    By timm, whose norms hold the activation too: torch's own conversion would drop it.
    """
    encoder.net = convert_sync_batchnorm(encoder.net)


def _volume_net(config: EncoderConfig, size: int) -> tuple[nn.Module, int]:
    with contextlib.redirect_stderr(io.StringIO()):
        from monai.networks.nets import resnet
    if config.name.startswith("vit"):
        if config.norm == "group":
            words = f"encoder {config.name} has no batch norm to replace; use norm: batch."
            raise UsageError(words, "E-ENCODER")
        return volume_vit(config.name, size, config.patch)
    builders: dict[str, Callable[..., nn.Module]] = {
        "resnet10_3d": resnet.resnet10,
        "resnet18_3d": resnet.resnet18,
        "resnet34_3d": resnet.resnet34,
        "resnet50_3d": resnet.resnet50,
    }
    norm: Any = "batch" if config.norm == "batch" else ("group", {"num_groups": GROUPS})
    net = builders[config.name](
        spatial_dims=3, n_input_channels=1, feed_forward=False, norm=norm, shortcut_type="B"
    )
    if config.norm == "group":
        _group_shortcuts(net)
    return net, 2048 if config.name == "resnet50_3d" else 512


def _group_shortcuts(net: nn.Module) -> None:
    """Replace the batch norms that MONAI 1.6.1 keeps in the shortcuts whatever ``norm`` says."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm3d):
                setattr(module, name, nn.GroupNorm(GROUPS, child.num_features))
