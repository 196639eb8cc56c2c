"""From a method's settings to the draw of every epoch: what is a pair, and who may meet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.cohort import draw, draw_slices, draw_unlike
from medssl.config import MethodConfig, PairSettings
from medssl.errors import NothingUsableError, UsageError

Column = Callable[[str], npt.NDArray[Any]]


@dataclass(frozen=True)
class Policy:
    """The draw of a training.

    Attributes:
        plan: from an epoch to its plan.
        patients: patients to draw from.
    """

    plan: Callable[[int], draw.Plan]
    patients: int


def policy(
    method: MethodConfig,
    rows: draw.IntArray,
    column: Column,
    *,
    seed: int,
    batch: int,
    times: int = 1,
) -> Policy:
    """Return how a method draws from store rows, after checking that it can.

    Args:
        method: its settings.
        rows: store rows that it may see.
        column: from a name of the store's index to the values of all its rows.
        seed: of the draw.
        batch: samples per batch, over all processes.
        times: batches per optimiser step.

    Raises:
        NothingUsableError: a policy of pairs, and no two pictures belong together.
        UsageError: the batch is larger than the number of patients, or too small a share of them.
    """
    picked = Columns(rows, column)
    patients = len(set(picked("patient_id")))
    if isinstance(method, PairSettings) and method.drawn == "pairs":
        made = _pairs(method, rows, picked, seed, batch, times)
    elif method.drawn in {"neighbours", "triples"}:
        made = _slices(method, rows, picked, seed, batch, times)
    else:
        bags = draw.make_bags(rows, picked("patient_id"), picked("patient_id"), picked("pixels"))
        made = lambda epoch: draw.plan_images(bags, seed, epoch, batch, times=times)  # noqa: E731
    first = made(0)
    if int(np.diff(first.limits).min()) < 2:
        words = (
            f"{len(first.patient)} samples in {len(first.limits) - 1} batches leave one with fewer "
            "than two. Lower accumulate, or another batch."
        )
        raise UsageError(words, "E-BATCH")
    return Policy(made, patients)


@dataclass(frozen=True)
class Columns:
    """Columns of the index at some rows."""

    rows: draw.IntArray
    column: Column

    def __call__(self, name: str) -> npt.NDArray[Any]:
        """Return a column at the rows."""
        values: npt.NDArray[Any] = self.column(name)[self.rows]
        return values


def _slices(
    method: Any, rows: draw.IntArray, column: Columns, seed: int, batch: int, times: int
) -> Callable[[int], draw.Plan]:
    owner, series = column("patient_id"), column("series_id")
    near = draw.neighbours(rows, owner, series, column("slice"), method.within_slices)
    pairs = method.drawn == "neighbours"
    many = int((near.high - near.low > 1).sum()) if pairs else len(draw_slices.between(near))
    if many < 2:
        words = (
            f"{many} slices have {'a neighbour' if pairs else 'one on either side'} at most "
            f"{method.within_slices} away in their series, so {method.name} has nothing to learn from. It "
            "needs volumes decoded as slices, or a larger method.within_slices."
        )
        raise NothingUsableError(words, "E-NOPAIRS")
    plan = draw_slices.plan_next if pairs else draw_slices.plan_triples
    return lambda epoch: plan(near, seed, epoch, min(batch, many), times=times)


def _pairs(
    method: PairSettings, rows: draw.IntArray, column: Columns, seed: int, batch: int, times: int
) -> Callable[[int], draw.Plan]:
    single = method.single_images
    owner = column("patient_id")
    if method.within_slices is not None:
        near = draw.neighbours(
            rows, owner, column("series_id"), column("slice"), method.within_slices
        )
        paired = near.patient[near.high - near.low > 1]
        draw.check_pairs(near.patient, paired, batch, single_images=single)
        return lambda epoch: draw.plan_neighbours(
            near, seed, epoch, batch, single_images=single, times=times
        )
    if method.differ is not None:
        held = draw_unlike.unlike(rows, column(method.bag), owner, column(method.differ))
        draw.check_pairs(held.patient, held.patient[held.mates > 0], batch, single_images=single)
        return lambda epoch: draw_unlike.plan_unlike(
            held, seed, epoch, batch, single_images=single, times=times
        )
    bags = draw.make_bags(rows, column(method.bag), owner, column("pixels"))
    paired = bags.patient[bags.sizes > 1]
    draw.check_pairs(bags.patient, paired, batch, single_images=single)
    return lambda epoch: draw.plan_patients(
        bags, seed, epoch, batch, single_images=single, times=times
    )
