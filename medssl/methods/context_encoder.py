"""Context encoder: paint what was cut out of a picture (Pathak et al. 2016, arXiv 1604.07379)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from medssl.methods.base import Loss, Method, Picture, Seen
from medssl.methods.gathered import gathered
from medssl.methods.painting import decoder, error
from medssl.methods.patches import skill
from medssl.models.decoders import Judge
from medssl.models.encoder import Encoder

INNER = 16
RING = 10.0
"""Weight of the hole's rim, where the painting must meet the rest (the authors' code)."""
SLOW = 0.1
"""The judge learns at a tenth of the painter's rate (the authors' code)."""


class ContextEncoder(Method):
    """Reconstruction, a judge of pictures, or both; one backward pass trains painter and judge."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.decoder = decoder(encoder, encoder.channels, config.decoder_width)
        self.judge = (
            Judge(encoder.channels, encoder.dims, INNER)
            if config.loss != "reconstruction"
            else None
        )

    def pace(self, name: str) -> float:
        """Return the judge's slower rate, or the painter's."""
        return SLOW if name.startswith("judge.") else 1.0

    def loss(self, seen: Seen) -> Loss:
        """Return the weighted terms of the painter, plus the judge's own."""
        truth, hole, ring, _, told = self._answer(seen)
        weight = hole.float() + (RING - 1) * ring.float()
        rebuilt = error(told, truth, "l2", weight)
        plain = error(self._fill(truth, hole), truth, "l2", hole)
        parts = {"skill": skill(error(told, truth, "l2", hole).detach(), plain)}
        if self.judge is None:
            return Loss(rebuilt, parts)
        painted = torch.where(hole, told.to(truth.dtype), truth)
        share = self.config.reconstruction if self.config.loss == "joint" else 0.0
        fooled, judged, right = self._judged(self.judge, painted, truth)
        named = {"reconstruction": rebuilt, "fooled": fooled, "judge": judged, "judge_right": right}
        parts |= {k: v.detach() for k, v in named.items()}
        return Loss(share * rebuilt + (1 - share) * fooled + judged, parts)

    @staticmethod
    def _judged(judge: Judge, painted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the painter's loss, the judge's, and how often the judge is right.

        The painter is judged by weights that it cannot move, the judge on a painting that it cannot
        move: the sum's gradients are those of two steps in turn.
        """
        still = {k: v.detach() for k, v in judge.named_parameters()}
        real, fake = judge(truth), judge(painted.detach())
        fooling = functional_call(judge, still, (painted,))
        wrong = F.softplus(-real) + F.softplus(fake)
        right = ((real > 0).float() + (fake < 0).float()) / 2
        parts = torch.stack([F.softplus(-fooling), wrong / 2, right], 1).float()
        fooled, judged, share = gathered(parts).mean(0)
        return fooled, judged, share

    def _answer(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return pictures, their holes, the rims of these, pictures with holes, what is told."""
        truth = seen.views[:, 0]
        hole, inner = self._holes(seen, truth)
        shown = torch.where(hole, self._fill(truth, hole), truth)
        return truth, hole, hole & ~inner, shown, self.decoder(self.encoder(shown))

    def _holes(self, seen: Seen, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return bool ``[B, 1, (D,) H, W]``: the hole, and the hole without its rim."""
        n, dims, side = len(truth), truth.ndim - 2, truth.shape[-1]
        half = self.config.hole / 2
        centre = torch.full((n, dims), 0.5, device=truth.device)
        if self.config.place == "anywhere":
            centre = half + (1 - 2 * half) * seen.uniform(dims)
        at = (torch.arange(side, device=truth.device) + 0.5) / side
        rim = max(1.0, self.config.rim * side) / side
        found = []
        for reach in (half, half - rim):
            mask = torch.ones(n, 1, *(side,) * dims, dtype=torch.bool, device=truth.device)
            for k in range(dims):
                near = (at[None] - centre[:, k, None]).abs() < reach
                mask = mask & near.view(n, 1, *(side if j == k else 1 for j in range(dims)))
            found.append(mask)
        return found[0], found[1]

    @staticmethod
    def _fill(truth: Tensor, hole: Tensor) -> Tensor:
        """Return each picture's mean outside its hole, as a picture: the guess to beat."""
        axes = tuple(range(2, truth.ndim))
        rest = (~hole).to(truth.dtype)
        mean = (truth * rest).sum(axes, keepdim=True) / rest.sum(axes, keepdim=True).clamp_min(1)
        return mean.expand_as(truth)

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return pictures, what was left of them, and the hole as it was painted."""
        truth, hole, _, shown, told = self._answer(seen)
        painted = torch.where(hole, told.to(truth.dtype), truth)
        figures = {k: float(v) for k, v in self.loss(seen).parts.items()}
        tiles = torch.stack([truth, shown, painted], 1).float()
        return Picture(("picture", "shown", "painted"), tiles, (), figures)
