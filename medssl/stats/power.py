"""How small a shift could have been seen with these patients: the reading aid of a large p.

Simulated, not solved: patients are drawn from the geometry of the real embeddings.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.stats.embeddings import Site, two_sites
from medssl.stats.metrics import FloatArray

SIMULATED_PATIENTS = 100
"""Patients per site that are simulated at most."""

STEPS = 12
"""Halvings of the bracket around the shift: 1 / 4096 of it remains."""

LARGEST = 8.0
"""Shift in patient-sd beyond which the search stops."""


@dataclass(frozen=True)
class Detectable:
    """Smallest mean shift, in patient-sd along each of `dims` axes, found with the given power.

    None with a note where even the largest shift tried is missed too often. `distance` is the same
    shift as one Mahalanobis distance, shift x root of dims.
    """

    shift: float | None
    distance: float | None
    power: float
    level: float
    dims: int
    simulations: int
    source_patients: int
    target_patients: int
    note: str = ""


def detectable_shift(
    source_emb: npt.ArrayLike,
    source_patient: npt.ArrayLike,
    target_emb: npt.ArrayLike,
    target_patient: npt.ArrayLike,
    *,
    power: float = 0.8,
    level: float = 0.05,
    dims: int = 16,
    simulations: int = 1000,
    seed: int = 0,
    max_patients: int = 1000,
) -> Detectable:
    """Find the smallest mean shift that the kernel test would see with these numbers of patients.

    Patients' mean embeddings are drawn from a normal with the covariance observed within sites, in
    its leading axes; images per patient enter through that covariance (many images: less noise).
    The target is moved by the same number of patient-sd along every axis. The statistic is MMD^2 of
    those means (median width); its critical value comes from unmoved draws, which for normal
    patients stands in for permuting each of them. Above 100 patients a site, 100 are
    simulated and the shift is scaled by the root of 1 / source + 1 / target patients.

    Args:
        source_emb: embeddings [n, d].
        source_patient: one code or pseudonym per row [n].
        target_emb: embeddings [m, d].
        target_patient: likewise [m]; a name that occurs at both sites counts as two patients.
        power: chance to see the shift, in (level, 1).
        level: of the test, in (0, 1).
        dims: leading axes at most, fewer with few patients.
        simulations: draws per estimate of power, 100 at least; its error is 1.3 points at 1,000.
        seed: of the draws and of any subsampling.
        max_patients: per site, as in `mmd.patient_mmd`.

    Returns:
        The smallest shift.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, a site has fewer than two patients
            or an option is out of range.
    """
    if not 0 < level < power < 1 or dims < 1 or simulations < 100:
        raise ValueError(
            f"Detectability needs 0 < level < power < 1, dims >= 1 and 100 simulations; got level "
            f"{level}, power {power}, dims {dims}, {simulations} simulations."
        )
    source, target = two_sites(
        source_emb, source_patient, target_emb, target_patient, max_patients, seed
    )
    spread = _spread(source, target, dims)
    shift = None
    note = "Not computable: the patients of a site do not differ from each other."
    if spread.size:
        counts = min(source.patients, SIMULATED_PATIENTS), min(target.patients, SIMULATED_PATIENTS)
        shift = _smallest(spread, counts, power, level, simulations, seed)
        note = f"Even a shift of {LARGEST:g} patient-sd would be missed too often."
        if shift is not None:
            # The noise of MMD^2 goes with 1 / source + 1 / target, its signal with the shift squared.
            noise = (1 / source.patients + 1 / target.patients) / (1 / counts[0] + 1 / counts[1])
            shift, note = shift * noise**0.5, ""
    return Detectable(
        shift=shift,
        distance=None if shift is None else shift * spread.size**0.5,
        power=power,
        level=level,
        dims=spread.size,
        simulations=simulations,
        source_patients=source.patients,
        target_patients=target.patients,
        note=note,
    )


def _spread(source: Site, target: Site, dims: int) -> FloatArray:
    """Standard deviations of patient means within sites along the leading axes [k <= dims]."""
    around = [s.means - s.means.mean(axis=0) for s in (source, target)]
    freedom = max(1, source.patients + target.patients - 2)
    values = np.linalg.svd(np.concatenate(around), compute_uv=False) / freedom**0.5
    # At most one axis per two patients: the last of a small sample are rounding.
    values = values[: min(dims, max(1, freedom // 2))]
    size = max(float(np.abs(s.means).max()) for s in (source, target))
    return np.asarray(values[values > 1e-9 * size], dtype=np.float64)


def _smallest(
    spread: FloatArray,
    counts: tuple[int, int],
    power: float,
    level: float,
    simulations: int,
    seed: int,
) -> float | None:
    """Smallest shift found with the power by bisection, None if the largest is not."""
    draws = _Draws.of(spread, counts, simulations, seed)
    critical = float(np.quantile(draws.statistic(0.0), 1 - level, method="higher"))

    def found(shift: float) -> bool:
        return float(np.mean(draws.statistic(shift) > critical)) >= power

    low, high = 0.0, LARGEST
    if not found(high):
        return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class _Draws:
    """Simulated pairs of sites, kept so that moving the target costs one product.

    exp(-|a - b - t v|^2 / w) falls apart into the unmoved kernel, exp(2 t a.v / w),
    exp(-2 t b.v / w) and exp(-t^2 v.v / w).
    """

    within: FloatArray
    across: FloatArray
    source: FloatArray
    target: FloatArray
    length: float

    @classmethod
    def of(
        cls, spread: FloatArray, counts: tuple[int, int], simulations: int, seed: int
    ) -> "_Draws":
        """Draw the sites: `within` [S], `across` [S, Ps, Pt], `source` [S, Ps], `target` [S, Pt]."""
        rng = np.random.default_rng(seed)
        # The median squared distance of two patients; its error of 1 % does not matter here.
        width = float(np.median(2 * rng.chisquare(1, (20_000, spread.size)) @ spread**2))
        one = rng.normal(size=(simulations, counts[0], spread.size)) * spread
        two = rng.normal(size=(simulations, counts[1], spread.size)) * spread
        within = _mean_off_diagonal(one, width) + _mean_off_diagonal(two, width)
        across = np.stack([_kernel(a, b, width) for a, b in zip(one, two, strict=True)])
        length = float(spread @ spread) / width
        return cls(within, across, one @ spread / width, two @ spread / width, length)

    def statistic(self, shift: float) -> FloatArray:
        """Unbiased MMD^2 of each pair [S] with the target moved by `shift` sd along every axis."""
        left, right = np.exp(2 * shift * self.source), np.exp(-2 * shift * self.target)
        crossed = np.einsum("sp,spq,sq->s", left, self.across, right, optimize=True)
        crossed *= np.exp(-(shift**2) * self.length) / self.across[0].size
        return np.asarray(self.within - 2 * crossed, dtype=np.float64)


def _kernel(a: FloatArray, b: FloatArray, width: float) -> FloatArray:
    """RBF kernel between two sets of patients [p, q]."""
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-np.maximum(square, 0.0) / width), dtype=np.float64)


def _mean_off_diagonal(sites: FloatArray, width: float) -> FloatArray:
    """Mean kernel between different patients of each site [S, P, k] -> [S]."""
    patients = sites.shape[1]
    total = np.array([_kernel(a, a, width).sum() for a in sites])
    return np.asarray((total - patients) / (patients * (patients - 1)), dtype=np.float64)
