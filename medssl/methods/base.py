"""What every pretext task is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medssl.models.encoder import Encoder
from medssl.views.counter import words

MANTISSA = 24


@dataclass(frozen=True)
class Seen:
    """What a method is shown of one batch; the part of this process.

    Attributes:
        views: float ``[B, K, C, (D,) H, W]`` on the device, normalised; K = images * views.
        bag: int64 ``[B]``, patient codes.
        key: int32 ``[B, 2]``, a function of seed, epoch and place alone: what a method draws for a
            sample follows from it, so that a resumed run and another number of processes draw alike.
        small: float ``[B, L, C, (D,) h, w]``, further views that keep less; None without them.
        scale: mean and deviation of the pixels in [0, 1] that the views were normalised with.
    """

    views: Tensor
    bag: Tensor
    key: Tensor
    small: Tensor | None = None
    scale: tuple[float, float] = (0.0, 1.0)

    def uniform(self, count: int) -> Tensor:
        """Return ``[B, count]`` numbers in [0, 1), float32."""
        bits = (words(self.key, count) >> (32 - MANTISSA)) & ((1 << MANTISSA) - 1)
        return bits.float() / (1 << MANTISSA)

    def choice(self, count: int, options: int) -> Tensor:
        """Return ``[B, count]`` numbers of 0 to ``options`` - 1, int64."""
        return (self.uniform(count) * options).long().clamp_(max=options - 1)


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


@dataclass(frozen=True)
class Picture:
    """What a pretext task asks and what the network answers, for people to look at.

    Attributes:
        columns: names of the tiles of a row.
        tiles: float ``[n, columns, C, (D,) H, W]``, normalised as the views.
        words: a sentence per row, ``n`` of them or none.
        figures: how well it answers on these pictures, by name.
    """

    columns: tuple[str, ...]
    tiles: Tensor
    words: tuple[str, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """A pretext task: what to draw from a patient, and what to ask of the encoder.

    Attributes:
        images: images drawn from one bag.
        views: augmented views of each image; K = images * views.
        aligned: whether the images of a sample are augmented alike.
        squared: whether views are made of the square inside the letterbox (``views/square.py``).
        small_views: further views of each image that keep less of it.
        small_area: smallest and largest share of the area that these keep.
    """

    images: int = 1
    views: int = 1
    aligned: bool = False
    squared: bool = False
    small_views: int = 0
    small_area: tuple[float, float] = (1.0, 1.0)

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder

    @abstractmethod
    def loss(self, seen: Seen) -> Loss:
        """Return the loss of one batch.

        What contrasts samples, or averages over them, gathers them first (``methods/gathered.py``).
        """

    def encoders(self) -> list[Encoder]:
        """Return the encoders whose batch norm is that of the whole batch on several GPUs."""
        return [self.encoder]

    def after_step(self, progress: float) -> None:
        """Follow an optimiser step, progress in [0, 1]: momentum encoders, queues."""

    def pace(self, name: str) -> float:
        """Return the factor on the learning rate of a parameter."""
        del name
        return 1.0

    @torch.no_grad()
    def picture(self, seen: Seen) -> Picture | None:
        """Return what the task looks like on a batch; None where there is nothing to see."""
        del seen
        return None
