"""From centimetres of water to pixel values: Beer-Lambert, scatter, noise, blur, tone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medssl.synthetic.anatomy import Array, blur, ramp

ATTENUATION_PER_CM = 0.19  # water at the effective energy of a chest tube voltage
LEAD_CM = 30.0  # water-equivalent thickness of a lead marker
SCATTER_CM = 4.0
MASK_CM = 1.2  # size of the unsharp mask
LETTER_L = np.array(
    [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=bool
)


@dataclass(frozen=True)
class Detector:
    """How one maker's unit turns rays into grey values.

    Attributes:
        quanta: mean number of quanta per pixel in open air.
        scatter: scattered share of the primary beam that passes the grid.
        blur_pixels: standard deviation of the point spread, in pixels.
        electronic: electronic noise in quanta.
        latitude: natural-log units of exposure between black and white.
        gamma: exponent of the tone curve.
        sharpening: strength of the unsharp mask.
        shutter: areas outside the collimation are painted black instead of left white.
        monochrome1: share of images stored as MONOCHROME1.
    """

    maker: str
    model: str
    quanta: float
    scatter: float
    blur_pixels: float
    electronic: float
    latitude: float
    gamma: float
    sharpening: float
    shutter: bool
    monochrome1: float


DETECTORS: dict[str, tuple[Detector, ...]] = {
    "A": (
        Detector("Aurora Imaging", "Lumen CR", 4.0e4, 0.06, 0.70, 8, 4.4, 0.90, 0.6, False, 0.1),
        Detector("Borealis Medical", "Plate 5", 3.2e4, 0.07, 0.80, 12, 4.2, 1.00, 0.8, True, 0.3),
    ),
    "B": (
        Detector("Corvid Radiology", "FlatView", 7.0e4, 0.03, 0.45, 5, 3.6, 1.35, 1.2, True, 0.4),
        Detector("Dunlin Systems", "DX One", 1.5e4, 0.04, 0.55, 16, 5.2, 0.65, 0.7, True, 0.6),
    ),
}


@dataclass(frozen=True)
class Exposure:
    """How one image was taken.

    Attributes:
        dose: factor on the detector's quanta.
        tone: factor on the detector's gamma.
        offset: error of the exposure recognition, in units of the output range.
        margins: shuttered shares of the picture at top, bottom, left and right.
        marker: whether a lead L lies on the detector.
        marker_at: its place, as shares of rows (from the top) and columns (from the right).
        marker_cell: pixels per cell of the letter, as a share of the rows.
    """

    dose: float
    tone: float
    offset: float
    margins: tuple[float, float, float, float]
    marker: bool
    marker_at: tuple[float, float]
    marker_cell: float


def draw_exposure(
    rng: np.random.Generator, position: float, nuisances: bool, drift: bool
) -> Exposure:
    """The exposure of one image; position (0 to 1) is its place in the study period."""
    dose = float(np.exp(rng.normal(0.0, 0.25)))
    tone = float(np.exp(rng.normal(0.0, 0.06)))
    offset = float(rng.normal(0.0, 0.03))
    collimated = rng.random() < 0.5
    margins = rng.uniform(0.0, 0.09, 4)
    marked = bool(rng.random() < 0.85)
    place = (float(rng.uniform(0.04, 0.22)), float(rng.uniform(0.07, 0.16)))
    cell = float(rng.uniform(0.011, 0.019))
    if drift:
        dose *= 1.0 - 0.45 * position
        tone *= 1.0 + 0.25 * position
    top, bottom, left, right = (float(m) if collimated and nuisances else -1.0 for m in margins)
    return Exposure(
        dose, tone, offset, (top, bottom, left, right), marked and nuisances, place, cell
    )


def expose(
    path: Array, spacing_cm: float, detector: Detector, exposure: Exposure, rng: np.random.Generator
) -> Array:
    """Grey values for presentation, 0 (black) to 1 (white, most attenuating), [rows, columns].

    Args:
        path: water-equivalent path in cm, [rows, columns].
        spacing_cm: pixel spacing.
        detector: the unit.
        exposure: dose, tone, collimation and marker of this image.
        rng: noise stream of this image.
    """
    field = _field(exposure, path.shape)
    open_field = field > 0.5
    lead = _with_marker(path, exposure) if exposure.marker else path
    primary = np.exp(-ATTENUATION_PER_CM * lead) * (0.004 + 0.996 * field)
    scatter = detector.scatter * blur(primary, SCATTER_CM / spacing_cm)
    quanta = detector.quanta * exposure.dose * (primary + scatter)
    # A normal draw of Poisson variance: hundreds of quanta fall on a pixel, and it takes a fixed
    # number of random words, so a last-digit difference between machines stays within one pixel.
    quanta += np.sqrt(quanta) * rng.standard_normal(path.shape)
    signal = blur(quanta, detector.blur_pixels)
    signal += detector.electronic * rng.standard_normal(path.shape)
    log_signal = np.log(np.maximum(signal, 1.0))
    grey = _recognised(log_signal, path, open_field, detector.latitude) + exposure.offset
    if detector.sharpening > 0.0:
        grey += detector.sharpening * (grey - blur(grey, MASK_CM / spacing_cm))
    grey = np.clip(grey, 0.0, 1.0) ** (detector.gamma * exposure.tone)
    return np.where(open_field, grey, 0.0) if detector.shutter else grey


def _field(exposure: Exposure, shape: tuple[int, ...]) -> Array:
    """Share of the beam that the collimator lets through, [rows, columns]."""
    rows, columns = shape
    top, bottom, left, right = exposure.margins
    y, x = np.arange(float(rows))[:, None], np.arange(float(columns))[None, :]
    upright = ramp(y - top * rows, 1.0) * ramp((1.0 - bottom) * rows - 1.0 - y, 1.0)
    across = ramp(x - left * columns, 1.0) * ramp((1.0 - right) * columns - 1.0 - x, 1.0)
    return np.asarray(upright * across)


def _with_marker(path: Array, exposure: Exposure) -> Array:
    rows, columns = path.shape
    cell = max(1, round(exposure.marker_cell * rows))
    glyph = np.kron(LETTER_L, np.ones((cell, cell)))
    row = round(exposure.marker_at[0] * rows)
    column = columns - round(exposure.marker_at[1] * columns) - glyph.shape[1]
    marked = path.copy()
    marked[row : row + glyph.shape[0], column : column + glyph.shape[1]] += LEAD_CM * glyph
    return marked


def _recognised(log_signal: Array, path: Array, field: NDArray[np.bool_], latitude: float) -> Array:
    """Exposure recognition: the aerated lung lands at a fixed dark grey whatever the dose."""
    # One pixel in four is plenty for a quantile.
    thin, body = log_signal[::2, ::2], (field & (path > 4.0))[::2, ::2]
    # An odd pose may leave no body in the field; the whole picture is then the reference.
    levels = thin[body] if body.any() else thin.ravel()
    reference = np.partition(levels, rank := int(0.90 * (levels.size - 1)))[rank]
    return np.asarray(0.18 + (reference - log_signal) / latitude)
