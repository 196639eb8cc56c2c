"""Small networks on top of an encoder."""

import torch
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor, nn


def projection(width: int, hidden: int, out: int) -> nn.Module:
    """Return SimCLR's projection head: ``[N, width]`` to ``[N, out]``, batch-normalised."""
    return SimCLRProjectionHead(width, hidden, out)  # type: ignore[no-any-return]


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
