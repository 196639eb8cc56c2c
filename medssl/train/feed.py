"""From the store to batches: one epoch's plan, gathered step by step."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.cohort.draw import Plan
from medssl.models.embed import to_unit
from medssl.store import Store


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        images: float32 ``[B, I, 1, (D,) H, W]`` in [0, 1].
        bag: int64 ``[B]``, patient codes.
        row: int64 ``[B, I]``, rows of the store.
        places: the places in the epoch, for the views.
    """

    images: Tensor
    bag: Tensor
    row: Tensor
    places: slice


class Feed:
    """One epoch of batches for one process, from step ``start`` on."""

    def __init__(self, store: Store, plan: Plan, rank: int = 0, world: int = 1) -> None:
        self.store, self.plan, self.rank, self.world = store, plan, rank, world

    def __len__(self) -> int:
        """Return the steps of the epoch."""
        return len(self.plan.limits) - 1

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order."""
        for step in range(len(self)):
            places = self.plan.batch(step, self.rank, self.world)
            rows = self.plan.rows[places]
            images = to_unit(self.store.planes(rows.ravel()))
            shape = (*rows.shape, *images.shape[1:])
            bag = torch.from_numpy(self.plan.patient[places])
            yield Batch(images.view(shape), bag, torch.from_numpy(rows), places)
