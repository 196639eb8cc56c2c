"""Many tests at once: p-values adjusted so that chance findings stay rare."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests


def adjust(p: Sequence[float | None], method: Literal["holm", "bh"]) -> list[float | None]:
    """Adjust the p-values of one family.

    Holm (1979) bounds the chance of any false finding: for what was named beforehand.
    Benjamini-Hochberg (1995) bounds the share of false findings: for screens.

    Args:
        p: p-values in [0, 1]; None where a test was not computable, which is no member.
        method: "holm" or "bh".

    Returns:
        Adjusted p-values in the same order, None where p is.

    Raises:
        ValueError: if a p lies outside [0, 1] or is NaN, or the method is unknown.
    """
    if method not in ("holm", "bh"):
        raise ValueError(f"The method must be holm or bh, got {method!r}.")
    known = np.array([v for v in p if v is not None], dtype=np.float64)
    if not ((known >= 0) & (known <= 1)).all():
        raise ValueError(
            f"A p-value lies between 0 and 1; these run from {known.min():g} to {known.max():g}. "
            "Pass None for a test that was not computable."
        )
    if known.size == 0:
        return list(p)
    if method == "holm":
        adjusted = multipletests(known, method="holm")[1]
    else:
        adjusted = false_discovery_control(known, method="bh")
    rest = iter(adjusted.tolist())
    return [None if v is None else next(rest) for v in p]
