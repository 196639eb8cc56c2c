"""How deep each parameter of an encoder lies: what layer-wise learning rates count."""

import re
from typing import Any

from timm.models import group_parameters

from medssl.models.encoder import Encoder
from medssl.models.volume_vit import VolumeViT

STAGES = (r"^(conv1|bn1|norm1)", r"^layer1", r"^layer2", r"^layer3", r"^layer4")
"""MONAI's ResNets, which have no grouping of their own."""
BLOCK = re.compile(r"^vit\.blocks\.(\d+)\.")


def depths(encoder: Encoder) -> tuple[dict[str, int], int]:
    """Return the layer of every parameter, 0 next to the pixels, and the number of layers.

    timm's own grouping for its networks (a residual block or a transformer block is a layer), the
    stages or blocks for MONAI's.
    """
    names = [n for n, _ in encoder.net.named_parameters()]
    matcher: Any = getattr(encoder.net, "group_matcher", None)
    if matcher is not None:
        groups = group_parameters(encoder.net, matcher(coarse=False))
        found = {name: int(k) for k, members in groups.items() for name in members}
    elif isinstance(encoder.net, VolumeViT):
        blocks = {n: BLOCK.match(n) for n in names}
        most = 1 + max(int(m[1]) for m in blocks.values() if m is not None)
        found = {
            n: int(m[1]) + 1 if m is not None else most if n.startswith("vit.norm") else 0
            for n, m in blocks.items()
        }
    else:
        found = {n: next(k for k, s in enumerate(STAGES) if re.match(s, n)) for n in names}
    last = max(found[n] for n in names)
    return {f"net.{n}": min(found[n], last) for n in names}, last + 1
