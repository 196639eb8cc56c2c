"""Has the representation collapsed: rules on figures, and nothing that computes them.

The loss proves nothing alone: untrained healthy projections also lie within one percent of the value
that equal ones give. Nor does a small spread: a network without batch norm in its head begins with
one. Both together, for long, are a collapse.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SPREAD = 0.7
"""Share of a healthy spread below which projections are alike: any two have a mean cosine above a
half then. Batch norm at the end of a head keeps healthy ones within 0.9 and 1.1."""

LOSS = 0.95
"""Share of its value for equal projections from which on a loss tells nothing apart."""

WARN_SHARE, WARN_LEAST, WARN_MOST = 0.02, 10, 50
STOP_SHARE, STOP_LEAST, STOP_MOST = 0.2, 20, 500
RECOVERY = 5
"""Unwell steps that a well one takes back: the loss of a small batch scatters by some percent."""

RANK_SHARE, RANK_LEAST = 0.2, 2.0


@dataclass(frozen=True)
class Verdict:
    """What a person should know.

    Attributes:
        level: ``warn``, or ``stop``.
        since: the first step that was not well.
        words: a sentence with the figures.
    """

    level: Literal["warn", "stop"]
    since: int
    words: str


class Streak:
    """How long the projections of a training have looked collapsed.

    A step is unwell when the projections spread less than 0.7 of a healthy spread and the loss is at
    least 0.95 of what it is when all are equal. The streak grows by one with such a step and shrinks by
    five with another. It warns at 2 % of the training's steps (10 to 50 steps), and stops at 20 % (20
    to 500), or at the last step when it has warned: warm-up takes a tenth of a training, so a fifth
    leaves a healthy start as much again, and a run of 200 steps is stopped after 40.

    Args:
        total: steps of the whole training.
        length: of the streak so far, from a checkpoint.

    Attributes:
        length: unwell steps, 0 when well; all that a checkpoint must hold.
    """

    def __init__(self, total: int, length: int = 0) -> None:
        self.total, self.length = total, length
        self.warn_at = min(WARN_MOST, max(WARN_LEAST, round(WARN_SHARE * total)))
        self.stop_at = min(STOP_MOST, max(STOP_LEAST, round(STOP_SHARE * total)))

    def feed(
        self, step: int, loss: float, collapsed: float, z_std: float, width: int
    ) -> Verdict | None:
        """Take one step's figures.

        Args:
            step: how many are done, this one included.
            loss: of this step.
            collapsed: the loss of equal projections on the same batch.
            z_std: mean over columns of the deviation of the projections of length one.
            width: numbers per projection; a healthy ``z_std`` is near its root's inverse.

        Returns:
            What to tell; None when there is nothing new.
        """
        share = z_std * math.sqrt(width)
        if share >= SPREAD or loss < LOSS * collapsed:
            self.length = max(0, self.length - RECOVERY)
            return None
        self.length += 1
        ended = step >= self.total and self.length >= self.warn_at
        if self.length < self.stop_at and self.length != self.warn_at and not ended:
            return None
        since = max(1, step - self.length + 1)
        facts = (
            f"their spread is {share:.2f} of a healthy one and the loss {loss:.3f}, where it is "
            f"{collapsed:.3f} when all are equal"
        )
        if self.length >= self.stop_at or ended:
            words = (
                f"Step {step}: the representation has collapsed. Since step {since} the projections "
                f"hardly differ between pictures ({facts})."
            )
            return Verdict("stop", since, words)
        words = (
            f"Step {step}: since step {since} the projections hardly differ between pictures ({facts}). "
            f"If that goes on, the training stops at step {since + self.stop_at - 1}."
        )
        return Verdict("warn", since, words)


def measured(
    start: Mapping[str, float], now: Mapping[str, float], since: int, step: int
) -> Verdict | None:
    """Judge a measurement by its effective rank, which sees what no spread shows: few directions left.

    Args:
        start: figures before training.
        now: figures of this measurement.
        since: step of the last measurement that was well.
        step: of this measurement.

    Returns:
        ``stop`` when the effective rank is below 2, or below a fifth of its start's; else None.
    """
    before, after = start["effective_rank"], now["effective_rank"]
    if after >= max(RANK_LEAST, RANK_SHARE * before):
        return None
    words = (
        f"Step {step}: the representation has collapsed. The features of the watched pictures use "
        f"{after:.1f} directions (effective rank), {before:.1f} before training."
    )
    return Verdict("stop", since + 1, words)
