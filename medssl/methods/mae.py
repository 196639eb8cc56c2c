"""MAE: paint hidden patches from a few visible ones (He et al. 2022, arXiv 2111.06377)."""

from typing import Any

import torch
from torch import Tensor, nn

from medssl.methods.base import Loss, Method, Picture, Seen
from medssl.methods.gathered import full, gathered
from medssl.methods.patches import empty, per_sample, pictured, skill, targets
from medssl.models.encoder import Encoder
from medssl.models.tokens import PatchDecoder, Tokens, places


class MAE(Method):
    """Most patches are hidden; those that hold nothing are neither hidden nor judged."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.tokens = Tokens(encoder, "mae")
        inner = config.decoder_width
        pixels = encoder.channels * int(torch.tensor(self.tokens.patch).prod())
        self.decoder = PatchDecoder(encoder.width, pixels, inner=inner, blocks=config.decoder_depth)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        nn.init.normal_(self.mask_token, std=0.02)
        self.register_buffer("place", places(self.tokens.grid, inner), persistent=False)
        self.place: Tensor

    def loss(self, seen: Seen) -> Loss:
        """Return the mean squared error of the hidden patches."""
        patches, hidden, told = self._answer(seen)
        aim = targets(patches, norm=self.config.norm_pixels)
        error = per_sample((full(told) - aim).square().mean(2), hidden)
        plain = per_sample((aim - aim.mean(2, keepdim=True)).square().mean(2), hidden)
        total, flat = gathered(error).mean(), gathered(plain).mean()
        return Loss(total, {"skill": skill(total.detach(), flat)})

    def _answer(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return true patches ``[B, L, P]``, which are hidden ``[B, L]``, and what is told of them."""
        images, prefix = seen.views[:, 0], self.tokens.prefix
        patches = self.tokens.cut(images)
        order, keep, hidden = hide(seen, empty(patches), self.config.hidden_share)
        tokens = self.tokens.embed(images)
        chosen = order[:, :keep]
        shown = tokens[:, prefix:].gather(1, chosen[..., None].expand(-1, -1, tokens.shape[2]))
        found = self.tokens.run(torch.cat([tokens[:, :prefix], shown], 1))
        known = self.decoder.first(self.tokens.normalise(found))
        whole = self.mask_token.to(known.dtype).expand(len(images), self.tokens.many, -1)
        where = chosen[..., None].expand(-1, -1, whole.shape[2])
        whole = whole.scatter(1, where, known[:, prefix:]) + self.place
        # The decoder sees the class token too: it is what the encoder's features may be.
        told = self.decoder(torch.cat([known[:, :prefix], whole], 1))[:, prefix:]
        return patches, hidden, told

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return pictures, what was shown of them, and the hidden part as it was painted."""
        patches, hidden, told = self._answer(seen)
        part, norm = hidden[..., None], self.config.norm_pixels
        painted = torch.where(part, pictured(told.float(), patches, norm=norm), patches.float())
        channels = self.encoder.channels
        shown = torch.where(part, torch.zeros_like(patches), patches)
        tiles = [self.tokens.join(p.float(), channels) for p in (patches, shown, painted)]
        figures = {k: float(v) for k, v in self.loss(seen).parts.items()}
        last = "painted, each patch's tone given" if norm else "painted"
        return Picture(("picture", "shown", last), torch.stack(tiles, 1), (), figures)


def hide(seen: Seen, nothing: Tensor, share: float) -> tuple[Tensor, int, Tensor]:
    """Draw which patches are hidden.

    Args:
        seen: whose keys decide.
        nothing: which patches hold nothing, bool ``[B, L]``; of the others the same share is shown
            in every sample, these fill up the number, and none of them is judged.
        share: of the patches to hide.

    Returns:
        All patches, shown ones first, int64 ``[B, L]``; how many are shown, the same for each sample;
        which are hidden and judged, bool ``[B, L]``.
    """
    many = nothing.shape[1]
    keep = max(1, round((1 - share) * many))
    drawn = seen.uniform(many)
    rank = (drawn + 2.0 * nothing).argsort(1).argsort(1)
    full = (~nothing).sum(1, keepdim=True)
    shown = (rank < (full * keep / many).round().clamp_min(1)) & ~nothing
    order = (drawn + 2.0 * ~(nothing | shown) - 2.0 * shown).argsort(1)
    hidden = torch.ones_like(nothing).scatter(1, order[:, :keep], False)
    return order, keep, hidden & ~nothing
