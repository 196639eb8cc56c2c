"""Vision transformers for whole volumes, MONAI's."""

import contextlib
import io
from typing import Any

from torch import Tensor, nn

from medssl.errors import UsageError

SIZES = {"vit_tiny_3d": (192, 12, 3), "vit_small_3d": (384, 12, 6)}
"""Width, blocks and attention heads of timm's networks of the same names."""
PATCHES = 8
"""Patches along a side where nobody says."""


class VolumeViT(nn.Module):
    """MONAI's ViT, the mean of its normalised patches as features: ``[N, 1, D, H, W]`` to ``[N, width]``."""

    def __init__(self, vit: nn.Module) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, volumes: Tensor) -> Tensor:
        """Map volumes to features."""
        tokens: Tensor = self.vit(volumes)[0]
        return tokens.mean(1)


def options(name: str, size: int, patch: int | None) -> dict[str, Any]:
    """Return the arguments of MONAI's ViT.

    Args:
        name: one of ``SIZES``.
        size: side of the volumes.
        patch: side of a patch; None: an eighth of the volume's.

    Raises:
        UsageError: the side does not divide by the patch.
    """
    part = patch if patch is not None else size // PATCHES
    if size % part:
        words = f"encoder {name}: decode.size {size} does not divide by patches of {part}; set encoder.patch."
        raise UsageError(words, "E-ENCODER")
    width, blocks, heads = SIZES[name]
    return {
        "in_channels": 1,
        "img_size": size,
        "patch_size": part,
        "hidden_size": width,
        "mlp_dim": 4 * width,
        "num_layers": blocks,
        "num_heads": heads,
        "qkv_bias": True,
    }


def volume_vit(name: str, size: int, patch: int | None) -> tuple[nn.Module, int]:
    """Return a vision transformer and its width; see ``options``."""
    with contextlib.redirect_stderr(io.StringIO()):
        from monai.networks.nets import ViT
    vit = ViT(**options(name, size, patch))
    for block in vit.blocks:
        # The fused attention takes any mask; MONAI's own takes padding only.
        block.attn.use_flash_attention = True
        # Weights without a use get no gradient, and other processes would wait for it.
        block.norm_cross_attn.requires_grad_(False)
    return VolumeViT(vit), SIZES[name][0]
