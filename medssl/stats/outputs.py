"""Do the model's outputs look different: black-box shift detection, output by output."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.stats.columns import compare_numbers
from medssl.stats.multiplicity import adjust


@dataclass(frozen=True)
class OutputShift:
    """Per output: KS distance on patient means, its permutation p and the same adjusted by Holm.

    `p` is the smallest adjusted one: of all outputs together.
    """

    ks: tuple[float, ...]
    each_p: tuple[float, ...]
    adjusted_p: tuple[float, ...]
    p: float
    permutations: int
    source_patients: int
    target_patients: int


def output_shift(
    source_scores: npt.ArrayLike,
    source_patient: npt.ArrayLike,
    target_scores: npt.ArrayLike,
    target_patient: npt.ArrayLike,
    *,
    permutations: int = 999,
    seed: int = 0,
) -> OutputShift:
    """Test each output of a trained classifier for a shift, on patient means, with Holm.

    Rabanser et al. 2019 (BBSDs) found it the strongest of the simple tests. Of two outputs that sum
    to one pass only one: the other holds nothing new and doubles p.

    Args:
        source_scores: outputs [n, K] or [n], finite.
        source_patient: one code or pseudonym per row [n].
        target_scores: likewise [m, K] or [m].
        target_patient: likewise [m]; a name that occurs at both sites counts as two patients.
        permutations: B; p is at least 1 / (B + 1), before Holm.
        seed: of the permutations.

    Returns:
        The comparison of every output.

    Raises:
        ValueError: if shapes do not fit, an output is not finite, a site has fewer than two
            patients or permutations < 1.
    """
    source, target = _outputs(source_scores, "source"), _outputs(target_scores, "target")
    if source.shape[1] != target.shape[1]:
        raise ValueError(
            f"Both sites must be scored by one model; they have {source.shape[1]} and "
            f"{target.shape[1]} outputs."
        )
    found = [
        compare_numbers(a, source_patient, b, target_patient, permutations=permutations, seed=seed)
        for a, b in zip(source.T, target.T, strict=True)
    ]
    # Without absent values every number of a comparison is there.
    adjusted = [float(p) for p in adjust([f.p for f in found], "holm") if p is not None]
    return OutputShift(
        ks=tuple(float(f.ks) for f in found if f.ks is not None),
        each_p=tuple(f.p for f in found),
        adjusted_p=tuple(adjusted),
        p=min(adjusted),
        permutations=permutations,
        source_patients=found[0].source_patients,
        target_patients=found[0].target_patients,
    )


def _outputs(scores: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Finite float64 [n, K], or a sentence."""
    values = np.asarray(scores, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"The {name} outputs must be finite numbers [n, K] with K >= 1; they have shape "
            f"{values.shape}. Leave out the rows that were not scored."
        )
    return values
