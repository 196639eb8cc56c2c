"""Small networks on top of an encoder."""

import torch
import torch.nn.functional as F
from lightly.models.modules import heads
from torch import Tensor, nn


def projection(width: int, hidden: int, out: int) -> nn.Module:
    """Return SimCLR's projection head: ``[N, width]`` to ``[N, out]``, batch-normalised."""
    return heads.SimCLRProjectionHead(width, hidden, out)  # type: ignore[no-any-return]


def moco_projection(width: int, hidden: int, out: int, *, layers: int) -> nn.Module:
    """Return MoCo's projection head; v2 has two layers and no batch norm, v3 three with it."""
    return heads.MoCoProjectionHead(  # type: ignore[no-any-return]
        width, hidden, out, num_layers=layers, batch_norm=layers == 3
    )


def byol_projection(width: int, hidden: int, out: int) -> nn.Module:
    """Return BYOL's projection head."""
    return heads.BYOLProjectionHead(width, hidden, out)  # type: ignore[no-any-return]


def prediction(out: int, hidden: int) -> nn.Module:
    """Return the predictor of BYOL and MoCo v3: two layers, ``[N, out]`` to ``[N, out]``."""
    return heads.BYOLPredictionHead(out, hidden, out)  # type: ignore[no-any-return]


def simsiam_projection(width: int, hidden: int, out: int) -> nn.Module:
    """Return SimSiam's projection head: three layers, batch norm after the last."""
    return heads.SimSiamProjectionHead(width, hidden, out)  # type: ignore[no-any-return]


def simsiam_prediction(out: int, bottleneck: int) -> nn.Module:
    """Return SimSiam's predictor, narrow in the middle."""
    return heads.SimSiamPredictionHead(out, bottleneck, out)  # type: ignore[no-any-return]


def barlow_projection(width: int, hidden: int, out: int) -> nn.Module:
    """Return Barlow Twins' projection head: three layers."""
    return heads.BarlowTwinsProjectionHead(width, hidden, out)  # type: ignore[no-any-return]


def vicreg_projection(width: int, hidden: int, out: int) -> nn.Module:
    """Return VICReg's projection head: three layers."""
    return heads.VICRegProjectionHead(width, hidden, out)  # type: ignore[no-any-return]


class Prototypes(nn.Module):
    """DINO's head: three layers, then cosines with prototypes: ``[N, width]`` to ``[N, out]``.

    lightly's has the same function with a weight norm that torch calls deprecated and cannot copy.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.randn(out, bottleneck))

    def forward(self, features: Tensor) -> Tensor:
        """Map features to cosines."""
        return F.linear(
            F.normalize(self.layers(features), dim=1), F.normalize(self.prototypes, dim=1)
        )


class OrdinalHead(nn.Module):
    """Logits of ordered classes from one direction: ``[N, width]`` to ``[N, K]``.

    Adjacent-categories logit: a step's log odds over the one below are a threshold plus one linear
    function. ``plain`` gives the same function as an ordinary head.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(classes))
        self.register_buffer("steps", torch.arange(classes, dtype=torch.float32))
        self.steps: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Map features to logits."""
        logits: Tensor = self.linear(features) * self.steps + self.bias
        return logits

    def plain(self) -> "LinearHead":
        """Return a linear head with the same logits."""
        head = LinearHead(self.linear.in_features, len(self.bias))
        with torch.no_grad():
            head.linear.weight.copy_(self.steps[:, None] * self.linear.weight)
            head.linear.bias.copy_(self.bias)
        return head


class LinearHead(nn.Module):
    """Class logits from standardised features: ``[N, width]`` to ``[N, K]``."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map features to logits."""
        logits: Tensor = self.linear(features)
        return logits
