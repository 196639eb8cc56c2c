"""Small networks on top of an encoder."""

from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor, nn


def projection(width: int, hidden: int, out: int) -> nn.Module:
    """Return SimCLR's projection head: ``[N, width]`` to ``[N, out]``, batch-normalised."""
    return SimCLRProjectionHead(width, hidden, out)  # type: ignore[no-any-return]


class LinearHead(nn.Module):
    """Class logits from standardised features: ``[N, width]`` to ``[N, K]``."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map features to logits."""
        logits: Tensor = self.linear(features)
        return logits
