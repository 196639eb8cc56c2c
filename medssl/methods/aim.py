"""AIM: predict the next patch from those before it (El-Nouby et al. 2024, arXiv 2401.08541)."""

from typing import Any

import torch
from torch import Tensor, nn

from medssl.errors import UsageError
from medssl.methods.base import Loss, Method, Picture, Seen
from medssl.methods.gathered import full, gathered
from medssl.methods.patches import empty, per_sample, pictured, skill, targets
from medssl.models.encoder import Encoder
from medssl.models.tokens import Tokens


class AIM(Method):
    """A prefix of random length sees itself whole; from then on each patch sees only earlier ones.

    Patch i tells patch i + 1, and is judged where that one was not visible: token i sees itself.
    """

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.tokens = Tokens(encoder, "aim")
        if self.tokens.prefix:
            words = (
                "aim trains patches, and a class token would see them all. Set encoder.pool=mean, so that "
                "the features are the mean of the patches."
            )
            raise UsageError(words, "E-ENCODER")
        pixels = encoder.channels * int(torch.tensor(self.tokens.patch).prod())
        layers: list[nn.Module] = []
        width = encoder.width
        for _ in range(config.head_layers):
            layers += [nn.Linear(width, config.hidden), nn.GELU()]
            width = config.hidden
        self.head = nn.Sequential(*layers, nn.Linear(width, pixels))

    def loss(self, seen: Seen) -> Loss:
        """Return the mean squared error of the patches that follow a causal one."""
        patches, judged, told = self._answer(seen)
        aim = targets(patches[:, 1:], norm=self.config.norm_pixels)
        error = per_sample((full(told[:, :-1]) - aim).square().mean(2), judged[:, 1:])
        plain = (aim - aim.mean(2, keepdim=True)).square().mean(2)
        flat = gathered(per_sample(plain, judged[:, 1:])).mean()
        total = gathered(error).mean()
        return Loss(total, {"skill": skill(total.detach(), flat)})

    def _answer(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return patches ``[B, L, P]``, which are judged ``[B, L]``, and what the one before tells."""
        images, own = seen.views[:, 0], self.tokens
        patches = own.cut(images)
        prefix = 1 + seen.choice(1, own.many - 1)[:, 0]
        found = own.run(own.embed(images)[:, own.prefix :], visible(prefix, own.many))
        later = torch.arange(own.many, device=images.device)[None] >= prefix[:, None]
        return patches, later & ~empty(patches), self.head(own.normalise(found))

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return pictures, the prefix, and every later patch as told by those before it."""
        patches, judged, told = self._answer(seen)
        part, norm = judged[..., None], self.config.norm_pixels
        shifted = torch.cat([torch.zeros_like(told[:, :1]), told[:, :-1]], 1).float()
        painted = torch.where(part, pictured(shifted, patches, norm=norm), patches.float())
        shown = torch.where(part, torch.zeros_like(patches), patches)
        channels = self.encoder.channels
        tiles = [self.tokens.join(p.float(), channels) for p in (patches, shown, painted)]
        figures = {k: float(v) for k, v in self.loss(seen).parts.items()}
        last = "each next patch, its tone given" if norm else "each next patch"
        names = ("picture", "prefix", last)
        return Picture(names, torch.stack(tiles, 1), (), figures)


def visible(prefix: Tensor, many: int) -> Tensor:
    """Return which patch may look at which: all of the prefix, else oneself and those before.

    Args:
        prefix: patches of each sample that see one another, int64 ``[N]``.
        many: patches of an image.

    Returns:
        bool ``[N, 1, L, L]``, row looks at column.
    """
    at = torch.arange(many, device=prefix.device)
    causal = at[:, None] >= at[None, :]
    inside = at[None, :] < prefix[:, None]
    return (causal[None] | inside[:, None, :])[:, None]
