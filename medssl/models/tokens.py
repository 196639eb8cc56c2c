"""A vision transformer from the inside: patches as tokens, some of them hidden, some not yet seen."""

from typing import Any

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from medssl.errors import UsageError
from medssl.models.encoder import Encoder
from medssl.models.volume_vit import VolumeViT


class Tokens:
    """The tokens of an encoder that is a vision transformer; holds no weights of its own.

    Attributes:
        prefix: tokens before the patches (class token, registers).
        patch: sides of a patch, pixels, as the axes of an image.
        grid: patches along every axis.
        width: numbers per token.
    """

    def __init__(self, encoder: Encoder, task: str) -> None:
        """Look into an encoder.

        Raises:
            UsageError: it is no plain vision transformer.
        """
        net: Any = encoder.net
        kind = type(net)
        if issubclass(kind, VisionTransformer) and _plain(net):
            self.prefix = int(net.num_prefix_tokens)
            self.patch = tuple(int(p) for p in net.patch_embed.patch_size)
            self.grid = tuple(int(g) for g in net.patch_embed.grid_size)
        elif issubclass(kind, VolumeViT):
            first = net.vit.patch_embedding.patch_embeddings
            self.prefix, self.patch = 0, tuple(int(p) for p in first.kernel_size)
            many = round(int(net.vit.patch_embedding.n_patches) ** (1 / 3))
            self.grid = (many, many, many)
        else:
            words = (
                f"{task} hides patches from a plain vision transformer, and this {kind.__name__} is none. Set "
                "encoder.name=vit_tiny_patch16_224 (or another timm vit), or vit_tiny_3d for volumes."
            )
            raise UsageError(words, "E-ENCODER")
        self.encoder, self.width = encoder, encoder.width

    @property
    def many(self) -> int:
        """Return the number of patches."""
        return int(torch.tensor(self.grid).prod())

    def embed(self, images: Tensor) -> Tensor:
        """Return tokens with their places, ``[N, prefix + L, width]``."""
        net: Any = self.encoder.net
        if isinstance(net, VisionTransformer):
            found: Tensor = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))
        else:
            found = net.vit.patch_embedding(images)
        return found

    def run(self, tokens: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Return tokens after all blocks, not normalised.

        Args:
            tokens: ``[N, T, width]``, any part of what ``embed`` returned.
            allowed: bool ``[N, 1, T, T]``, which row may look at which column; None: every one.
        """
        net: Any = self.encoder.net
        for block in net.blocks if isinstance(net, VisionTransformer) else net.vit.blocks:
            tokens = block(tokens, attn_mask=allowed)
        return tokens

    def normalise(self, tokens: Tensor) -> Tensor:
        """Return tokens through the encoder's last norm, as its features are."""
        net: Any = self.encoder.net
        volume = isinstance(net, VolumeViT)
        found: Tensor = net.vit.norm(tokens) if volume else net.fc_norm(net.norm(tokens))
        return found

    def cut(self, images: Tensor) -> Tensor:
        """Return the patches of ``[N, C, (D,) H, W]`` in the order of the tokens, ``[N, L, C * pixels]``."""
        n, channels, dims = len(images), images.shape[1], len(self.grid)
        sides = [s for pair in zip(self.grid, self.patch, strict=True) for s in pair]
        parts = images.reshape(n, channels, *sides)
        places, pixels = [2 + 2 * k for k in range(dims)], [3 + 2 * k for k in range(dims)]
        return parts.permute(0, *places, 1, *pixels).reshape(n, self.many, -1)

    def join(self, patches: Tensor, channels: int) -> Tensor:
        """Return images ``[N, C, (D,) H, W]`` from their patches: the reverse of ``cut``."""
        n, dims = len(patches), len(self.grid)
        parts = patches.reshape(n, *self.grid, channels, *self.patch)
        order = [0, 1 + dims]
        for k in range(dims):
            order += [1 + k, 2 + dims + k]
        sides = [g * p for g, p in zip(self.grid, self.patch, strict=True)]
        return parts.permute(*order).reshape(n, channels, *sides)


def _plain(net: Any) -> bool:
    """Return whether a transformer cuts patches by itself and pools without weights of its own."""
    return type(net.patch_embed) is PatchEmbed and net.attn_pool is None


def places(grid: tuple[int, ...], width: int) -> Tensor:
    """Return fixed sines and cosines of every patch's place, ``[L, width]``.

    The axes share the width equally; what is left over is zero (Vaswani et al. 2017; MAE's decoder).
    """
    share = width // (2 * len(grid))
    speed = 10_000.0 ** (-torch.arange(share) / max(1, share))
    at = torch.stack(torch.meshgrid(*[torch.arange(g) for g in grid], indexing="ij"), -1)
    angle = at.reshape(-1, len(grid), 1) * speed
    found = torch.cat([angle.sin(), angle.cos()], -1).flatten(1)
    return nn.functional.pad(found, (0, width - found.shape[1]))


class PatchDecoder(nn.Module):
    """A narrow transformer from tokens to pixels: ``[N, T, width]`` to ``[N, T, pixels]``."""

    def __init__(self, width: int, pixels: int, *, inner: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, inner)
        self.blocks = nn.ModuleList(Block(inner, max(1, inner // 32)) for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, pixels))

    def forward(self, tokens: Tensor) -> Tensor:
        """Decode tokens that went through ``first`` and know their places."""
        for block in self.blocks:
            tokens = block(tokens)
        found: Tensor = self.last(tokens)
        return found
