"""What every pretext task is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from medssl.models.encoder import Encoder


@dataclass(frozen=True)
class Loss:
    """The number to descend, and what is worth knowing about it.

    Attributes:
        total: scalar.
        parts: scalars worth a line in the log.
        collapsed: what the loss is when every output is the same; None where nobody knows.
    """

    total: Tensor
    parts: dict[str, Tensor]
    collapsed: Tensor | None = None


class Method(nn.Module, ABC):
    """A pretext task: what to draw from a patient, and what to ask of the encoder.

    Attributes:
        images: images drawn from one bag.
        views: augmented views of each image; K = images * views.
    """

    images: ClassVar[int] = 1
    views: ClassVar[int] = 2

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder

    @abstractmethod
    def loss(self, views: Tensor, bag: Tensor) -> Loss:
        """Return the loss of one batch.

        Args:
            views: float ``[B, K, C, (D,) H, W]`` on the device, normalised; the part of this
                process. What contrasts samples gathers them (``methods/gathered.py``).
            bag: int64 ``[B]``, patient codes.
        """

    def after_step(self, progress: float) -> None:
        """Follow an optimiser step, progress in [0, 1]: momentum encoders, queues."""
