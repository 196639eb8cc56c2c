"""From the store to batches: one epoch's plan, read ahead of the model."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from medssl.cohort.draw import Plan
from medssl.errors import MedsslError, RefusedError
from medssl.store import Store

AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """What one process sees of one batch.

    Attributes:
        images: uint16 ``[B, I, C, (D,) H, W]``, as stored.
        bag: int64 ``[B]``, patient codes.
        row: int64 ``[B, I]``, rows of the store.
        places: the places in the epoch, for the views.
    """

    images: Tensor
    bag: Tensor
    row: Tensor
    places: slice

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with pictures and codes on a device."""
        images = self.images.to(device, non_blocking=True)
        return Batch(images, self.bag.to(device, non_blocking=True), self.row, self.places)


class Feed:
    """One epoch of batches for one process, read by a thread while the model works.

    Attributes:
        waited: seconds that the model has waited for a batch.
    """

    def __init__(
        self, store: Store, plan: Plan, rank: int = 0, world: int = 1, start: int = 0
    ) -> None:
        self.store, self.plan, self.rank, self.world, self.start = store, plan, rank, world, start
        self.waited = 0.0

    def __len__(self) -> int:
        """Return the batches of the epoch that are still to come."""
        return len(self.plan.limits) - 1 - self.start

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order.

        Raises:
            RefusedError: a shard is not what it was; names the rows.
            MedsslError: the reading thread failed for another reason.
        """
        coming: deque[Future[Batch]] = deque()
        steps = iter(range(self.start, len(self.plan.limits) - 1))
        with ThreadPoolExecutor(1, "medssl-feed") as reader:
            for step in islice(steps, AHEAD):
                coming.append(reader.submit(self._read, step))
            while coming:
                begun = time.monotonic()
                batch = coming.popleft().result()
                self.waited += time.monotonic() - begun
                following = next(steps, None)
                if following is not None:
                    coming.append(reader.submit(self._read, following))
                yield batch

    def _read(self, step: int) -> Batch:
        places = self.plan.batch(step, self.rank, self.world)
        rows = self.plan.rows[places]
        try:
            planes = self.store.planes(rows.ravel())
        except MedsslError as error:
            words = f"Store rows {_some(rows.ravel().tolist())}: {error.problems[0]}"
            raise RefusedError(words, error.code) from error
        except Exception as error:
            words = (
                f"Reading store rows {_some(rows.ravel().tolist())} failed with a "
                f"{type(error).__name__}. Check the disk; the last checkpoint is intact: --resume."
            )
            raise MedsslError(words, "E-WORKER") from error
        images = channels_first(torch.from_numpy(planes), colour=self.store.colour)
        images = images.view(*rows.shape, *images.shape[1:])
        if torch.cuda.is_available():
            images = images.pin_memory()
        return Batch(
            images, torch.from_numpy(self.plan.patient[places]), torch.from_numpy(rows), places
        )


def channels_first(planes: Tensor, *, colour: bool) -> Tensor:
    """Return stored planes ``[N, (D,) H, W]`` or ``[N, H, W, 3]`` as ``[N, C, (D,) H, W]``."""
    return planes.movedim(-1, 1).contiguous() if colour else planes.unsqueeze(1)


def _some(rows: list[int]) -> str:
    return ", ".join(str(r) for r in rows[:8]) + (" ..." if len(rows) > 8 else "")
