"""Which encoder a run keeps: by a figure it was watched by, and never a worse one than its start."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medssl.stats.bootstrap import Patients
from medssl.stats.metrics import IntArray
from medssl.stats.probes import macro_statistic, standard_error
from medssl.train.panel import Labelled, Panel
from medssl.train.watch import Measurement

Keep = Literal["last", "ridge", "knn", "effective_rank", "uniformity", "retrieval"]
LOWER_IS_BETTER = {"uniformity"}
RANK_SHARE = 0.9
"""Effective rank that a continued training may not fall below, as a share of its start."""


@dataclass(frozen=True)
class Decision:
    """Whether the new encoder is kept, and why, in a sentence with the figures."""

    keep: bool
    words: str


def better(keep: Keep, new: dict[str, float], old: dict[str, float] | None) -> bool:
    """Return whether new figures beat those of the encoder kept so far; equal ones do not.

    Args:
        keep: what chooses; ``last`` always takes the new one.
        new, old: figures of a measurement; None where nothing is kept yet.
    """
    if keep == "last" or old is None or keep not in old:
        return True
    if keep not in new:
        return False
    return new[keep] < old[keep] if keep in LOWER_IS_BETTER else new[keep] > old[keep]


def guard(panel: Panel, start: Measurement, new: Measurement) -> Decision:
    """Decide whether a continued training may replace its start.

    It may if its effective rank is at least nine tenths of the start's, and if neither probe lost
    more than one standard error of the difference, over the same resampled patients. Without labels
    the effective rank alone decides, and the sentence says so.

    Args:
        panel: what both were measured on.
        start, new: the encoder before, with its own normalisation, and after.
    """
    faults, facts = [], []
    before, after = (m.figures["effective_rank"] for m in (start, new))
    facts.append(f"effective rank {before:.1f} to {after:.1f}")
    if after < RANK_SHARE * before:
        faults.append(f"the effective rank fell below {RANK_SHARE:.0%} of its start")
    for name in sorted(new.scores) if panel.labelled is not None else ():
        change, error = _change(panel.labelled, start, new, name)
        old, now = start.figures[name], new.figures[name]
        facts.append(f"{name} AUROC {old:.3f} to {now:.3f} (standard error {error:.3f})")
        if change < -error:
            faults.append(f"the {name} probe lost more than its standard error")
    if panel.labelled is None:
        facts.append("no label was there to ask, so the effective rank alone decided")
    given = "; ".join(facts)
    if faults:
        words = f"The encoder it started from is kept, as {' and '.join(faults)}: {given}."
    else:
        words = f"The new encoder is kept, as nothing that was asked fell: {given}."
    return Decision(not faults, words)


def _change(
    labelled: Labelled | None, start: Measurement, new: Measurement, name: str
) -> tuple[float, float]:
    """Change of a probe's AUROC and its standard error over patients, paired; 0 if not computable."""
    assert labelled is not None  # noqa: S101
    codes = labelled.codes[labelled.asked]
    groups = Patients.of(labelled.patient[labelled.asked])
    old, now = (macro_statistic(codes, m.scores[name], groups) for m in (start, new))

    def apart(counts: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return now(counts) - old(counts)

    error = standard_error(apart, groups)
    return new.figures[name] - start.figures[name], error if error is not None else 0.0
