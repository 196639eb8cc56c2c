"""A chest as line integrals: how many centimetres of water each ray crosses.

The patient's frame is in centimetres: x to the patient's left (to the right in the picture),
y towards the feet, the origin in the midline between the hila. All shapes are analytic, so an
image is rendered at its own matrix and pose; only the fine texture of the lungs is a grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Physique:
    """The shape of one patient's chest; lengths in cm, gas and breast in cm of water."""

    half_width: float
    apex: float
    diaphragm: float
    right_dome: float
    depth: float
    wall: float
    heart_width: float
    heart_height: float
    heart_angle: float
    heart_x: float
    knob: float
    rib_spacing: float
    rib_phase: float
    rib_slope: float
    shoulder: float
    spine_bend: float
    gas: float
    breast: float


@dataclass(frozen=True)
class Finding:
    """What a study shows.

    Attributes:
        kind: normal, focal (one soft opacity) or diffuse (faint reticular and ground-glass).
        conspicuity: share of the air that the finding displaces, 0 (normal) to 1.
        side: -1 the patient's right lung, 1 the left.
        lateral: place of the opacity between midline (0) and chest wall (1).
        height: place between the apex (0) and the base of the lung (1).
        radius_cm: standard deviation of the opacity's profile.
        lobes: offsets (x, y) of its three parts, in radii.
    """

    kind: str
    conspicuity: float
    side: int
    lateral: float
    height: float
    radius_cm: float
    lobes: tuple[float, ...]


@dataclass(frozen=True)
class Pose:
    """How the patient stands before the detector; inspiration 1 is a centimetre deeper."""

    right_cm: float
    down_cm: float
    angle_rad: float
    magnification: float
    inspiration: float
    turn: float
    heart_magnification: float


def draw_physique(rng: np.random.Generator, sex: str, age: int) -> Physique:
    """A chest plausible for the sex and age (in years)."""
    build = 0.92 if sex == "F" else 1.0
    stout = float(rng.normal(0.0, 1.0))
    return Physique(
        half_width=build * float(rng.normal(13.2, 0.6)),
        apex=build * float(rng.normal(-13.0, 0.6)),
        diaphragm=build * float(rng.normal(9.0, 0.9)),
        right_dome=float(rng.normal(1.4, 0.4)),
        depth=build * (21.5 + 1.6 * stout),
        wall=2.2 + 0.5 * max(stout, -1.5),
        heart_width=build * float(rng.normal(5.2, 0.45)) + 0.008 * (age - 55),
        heart_height=build * float(rng.normal(6.2, 0.4)),
        heart_angle=float(rng.normal(0.65, 0.10)),
        heart_x=float(rng.normal(2.2, 0.35)),
        knob=float(rng.normal(1.6, 0.2)) + 0.008 * (age - 55),
        rib_spacing=build * float(rng.normal(2.55, 0.12)),
        rib_phase=float(rng.uniform(0.0, 1.0)),
        rib_slope=float(rng.normal(0.011, 0.003)),
        shoulder=float(rng.normal(-15.5, 0.7)),
        spine_bend=float(rng.normal(0.0, 0.25)),
        gas=max(0.0, float(rng.normal(1.2, 1.2))),
        breast=max(0.0, float(rng.normal(2.6, 0.8))) if sex == "F" else 0.0,
    )


def ramp(distance: Array, width: float) -> Array:
    """A soft edge: 0 below -width, 1 above width, straight between."""
    return np.clip(0.5 + distance * (0.5 / width), 0.0, 1.0)


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur of an image [rows, columns], sigma in pixels; the border is repeated.

    No matrix products: a threaded library would make tiny ones slow, and sum them in another
    order on another machine.
    """
    return _blur_rows(_blur_rows(image, sigma).T, sigma).T


def _blur_rows(image: Array, sigma: float) -> Array:
    if sigma >= 2.0:
        # Two running means have the variance of the Gaussian and cost the same at any width.
        reach = round((np.sqrt(6.0 * sigma**2 + 1.0) - 1.0) / 2.0)
        width = 2 * reach + 1
        return _running_mean(_running_mean(_repeat_border(image, 2 * reach), width), width)
    taps = int(np.ceil(2.5 * sigma))
    weight = np.exp(-0.5 * (np.arange(taps + 1) / sigma) ** 2)
    weight /= weight[0] + 2.0 * weight[1:].sum()
    rows = image.shape[0]
    padded = _repeat_border(image, taps)
    total = weight[0] * image
    for k in range(1, taps + 1):
        total += weight[k] * (padded[taps - k :][:rows] + padded[taps + k :][:rows])
    return np.asarray(total)


def _repeat_border(image: Array, count: int) -> Array:
    """The image [rows, columns] with its first and last row repeated `count` times."""
    return np.concatenate([image[:1].repeat(count, 0), image, image[-1:].repeat(count, 0)])


def _running_mean(image: Array, width: int) -> Array:
    """Means of `width` neighbouring rows, for every place where all of them exist."""
    total = np.cumsum(image, axis=0)
    total[width:] -= total[:-width].copy()
    return np.asarray(total[width - 1 :] / width)


@dataclass(frozen=True)
class Parenchyma:
    """The fine structure of one patient's lungs, on a grid that stretches with them.

    All grids are [cells, cells]: columns run from -half_width to half_width, rows from the apex
    to the lowest edge of the lung.

    Attributes:
        half_width: in cm.
        height: in cm.
        tissue: vessels and grain, in cm of water.
        grain: fine random field of unit variance.
        patches: coarse random field of unit variance.
    """

    half_width: float
    height: float
    tissue: Array
    grain: Array
    patches: Array


def draw_parenchyma(physique: Physique, rng: np.random.Generator, cells: int) -> Parenchyma:
    """The patient's vessels and grain, the same in every study; `cells` is even."""
    height = physique.diaphragm + 4.0 - physique.apex
    grain = blur(rng.standard_normal((cells, cells)), 0.45 * cells / height)
    grain /= grain.std()
    patches = blur(rng.standard_normal((cells, cells)), 2.5 * cells / height)
    patches /= patches.std()
    tissue = 0.12 * grain + _vessels(rng, physique.half_width, height, cells)
    return Parenchyma(physique.half_width, height, tissue, grain, patches)


def lung_texture(parenchyma: Parenchyma, finding: Finding) -> Array:
    """Cm of water that vessels, grain and finding put in the place of air, [cells, cells]."""
    if finding.kind == "focal":
        return parenchyma.tissue + _opacity(finding, parenchyma)
    if finding.kind == "diffuse":
        # Zero crossings of a smooth random field form the mesh of a reticular pattern.
        mesh = np.exp(-((parenchyma.grain / 0.45) ** 2)) - 0.4
        glass = np.clip(0.6 + 0.4 * parenchyma.patches, 0.1, 1.2)
        return parenchyma.tissue + 2.0 * finding.conspicuity * glass * (1.0 + 1.6 * mesh)
    return parenchyma.tissue


def _lung_grid(half_width: float, height: float, cells: int) -> tuple[Array, Array]:
    x = np.linspace(-half_width, half_width, cells)[None, :]
    return x, np.linspace(0.0, height, cells)[:, None]


def _vessels(rng: np.random.Generator, half_width: float, height: float, cells: int) -> Array:
    """Straight tapering branches from both hila towards the edge of the lungs, in cm of water."""
    branches = (2, 9, 1, 1)  # lungs, branches; the last two axes are rows and columns
    x, y = _lung_grid(half_width, height, cells)
    angle = rng.uniform(-1.45, 1.45, branches)
    reach = rng.uniform(0.25, 0.62, branches) * height
    across, along = 0.7 * reach * np.cos(angle), reach * np.sin(angle)
    caliber = rng.uniform(0.20, 0.42, branches)
    # Both lungs are drawn as the left one; the first is mirrored at the end.
    right, down = x[:, cells // 2 :] - 0.24 * half_width, y - 0.47 * height
    length = across**2 + along**2
    share = np.clip(right * (across / length) + down * (along / length), 0.0, 1.0)
    width = caliber * (1.0 - 0.65 * share)
    square = (right - share * across) ** 2 + (down - share * along) ** 2
    lungs = (4.5 * width * np.exp(-0.5 * square / width**2)).max(axis=1)
    return np.concatenate([lungs[0, :, ::-1], lungs[1]], axis=1)


def _opacity(finding: Finding, parenchyma: Parenchyma) -> Array:
    """A soft opacity of three overlapping parts, in cm of water; deeper where it is wider."""
    half_width, height = parenchyma.half_width, parenchyma.height
    x, y = _lung_grid(half_width, height, parenchyma.tissue.shape[0])
    centre_y = finding.height * height
    # The chest narrows towards its apex, so the place across it is a share of the width there.
    narrowing = np.sqrt(1.0 - max(0.0, 1.0 - centre_y / (0.8 * height)) ** 2.3)
    centre_x = finding.side * finding.lateral * half_width * narrowing
    total = np.zeros_like(parenchyma.tissue)
    for k, share in enumerate((1.0, 0.8, 0.6)):
        right = x - centre_x - finding.radius_cm * finding.lobes[2 * k]
        down = y - centre_y - finding.radius_cm * finding.lobes[2 * k + 1]
        width = finding.radius_cm * share
        profile = np.exp(-0.5 * (right / width) ** 2) * np.exp(-0.5 * (down / width) ** 2)
        # Segments reach from hilum to pleura: deeper along the beam than wide across it.
        total += 2.6 * width * profile
    # A lung is some 14 cm deep, so the air it can lose is bounded.
    return np.asarray(finding.conspicuity * np.minimum(total, 8.0))


def path_length(
    physique: Physique, texture: Array, pose: Pose, shape: tuple[int, int], spacing_cm: float
) -> Array:
    """Water-equivalent path in cm along each ray, as an array [rows, columns]."""
    x, y = _patient_frame(pose, shape, spacing_cm)
    ax = np.abs(x)
    base = physique.diaphragm + pose.inspiration
    half = _chest_half_width(physique, y)
    edge = _diaphragm(physique, x, ax, base)
    heart = _heart(physique, pose, x, y)
    medial = 2.0 + 0.5 * ramp(y - 2.0, 6.0)
    room = (
        np.clip(ax - medial, 0.0, None)
        * np.clip(half - ax, 0.0, None)
        / (0.25 * (half - medial) ** 2 + 1e-6)
    )
    lung = np.sqrt(np.sqrt(np.minimum(room, 1.0))) * ramp(edge - y, 0.5)
    aerated = lung * (1.0 - 0.85 * heart)
    body = _body(physique, ax, y)
    air = (physique.depth - 5.5) * 0.74 - _sample(texture, physique, x, y, base)
    total = body - aerated * np.clip(air, 0.5, None)
    total += _bones(physique, pose, x, ax, y, half, edge)
    if physique.breast > 0.0:
        down = (y - 6.5) / 3.4
        total += physique.breast * np.exp(-(down**2) - ((ax - 7.2) / 4.2) ** 2) * (body > 0.0)
    bubble = np.exp(-(((x - 6.5) / 2.2) ** 2) - ((y - edge - 1.8) / 1.3) ** 2)
    total -= physique.gas * bubble * ramp(y - edge, 0.5)
    return np.maximum(total, 0.0)


def _patient_frame(pose: Pose, shape: tuple[int, int], spacing_cm: float) -> tuple[Array, Array]:
    """The patient's x and y in cm under each pixel centre, as two arrays [rows, columns]."""
    rows, columns = shape
    right = (np.arange(columns)[None, :] - 0.5 * (columns - 1)) * spacing_cm - pose.right_cm
    down = (np.arange(rows)[:, None] - 0.5 * (rows - 1)) * spacing_cm - pose.down_cm
    cosine, sine = np.cos(pose.angle_rad), np.sin(pose.angle_rad)
    x = (cosine * right + sine * down) / pose.magnification
    y = (cosine * down - sine * right) / pose.magnification
    return x, y


def _chest_half_width(physique: Physique, y: Array) -> Array:
    """Inner half width of the rib cage: a dome above, nearly straight below."""
    upward = np.clip((5.0 - y) / (5.0 - physique.apex), 0.0, 1.0)
    return physique.half_width * np.sqrt(1.0 - upward * upward * np.sqrt(np.sqrt(upward)))


def _diaphragm(physique: Physique, x: Array, ax: Array, base: float) -> Array:
    """Height of the diaphragm in cm: two domes, the right one higher, sharp lateral angles."""
    dome = 3.6 * ((ax - 5.5) / 7.0) ** 2 * (ax > 5.5) + 0.6 * ((ax - 5.5) / 5.5) ** 2 * (ax <= 5.5)
    return np.asarray(base + dome - physique.right_dome * ramp(-x, 1.5))


def _heart(physique: Physique, pose: Pose, x: Array, y: Array) -> Array:
    """Share (0 to 1) of the lung's depth that the heart and the great vessels take."""
    cosine, sine = np.cos(physique.heart_angle), np.sin(physique.heart_angle)
    right = x - physique.heart_x - 0.8 * pose.turn
    down = y - 4.8 - 0.7 * pose.inspiration
    width = physique.heart_width * pose.heart_magnification
    height = physique.heart_height * pose.heart_magnification
    long_axis = (cosine * right + sine * down) / height
    short_axis = (cosine * down - sine * right) / width
    heart = np.clip(1.0 - long_axis**2 - short_axis**2, 0.0, 1.0)
    knob = np.clip(
        1.0 - ((x - 1.5 - pose.turn) ** 2 + (0.8 * (y + 5.2)) ** 2) / physique.knob**2, 0.0, 1.0
    )
    atrium = np.clip(1.0 - ((x + 2.0 - pose.turn) / 2.4) ** 2 - ((y - 4.5) / 4.0) ** 2, 0.0, 1.0)
    total = np.sqrt(heart) + 0.7 * np.sqrt(knob) + 0.8 * np.sqrt(atrium)
    return np.asarray(np.minimum(total, 1.0))


def _body(physique: Physique, ax: Array, y: Array) -> Array:
    """Soft tissue of trunk, shoulders and neck in cm, as if the lungs were full of water."""
    outer = physique.half_width + physique.wall + 9.0 * ramp(-6.5 - y, 4.0)
    trunk = np.sqrt(np.clip(1.0 - (ax / outer) ** 2, 0.0, None))
    depth = physique.depth * (1.0 - 0.30 * ramp(-8.0 - y, 5.0))
    below_shoulder = ramp(y - physique.shoulder - 0.02 * ax**2, 0.8)
    neck = 11.0 * np.sqrt(np.clip(1.0 - (ax / 5.8) ** 2, 0.0, None))
    trachea = 1.6 * np.clip(1.0 - (ax / 0.9) ** 2, 0.0, None) * ramp(-4.5 - y, 1.0)
    return np.asarray(np.maximum(depth * trunk * below_shoulder, neck) - trachea)


def _bones(
    physique: Physique, pose: Pose, x: Array, ax: Array, y: Array, half: Array, edge: Array
) -> Array:
    """Ribs, clavicles and spine in cm of water beyond the soft tissue they replace."""
    cage = ramp(half + 0.9 - ax, 0.5) * ramp(ax - 1.5, 0.5) * ramp(edge + 3.0 - y, 2.0)
    upper = (y - physique.rib_slope * ax**2) / physique.rib_spacing + physique.rib_phase
    lower = (y + 0.55 * (ax - 0.3 * half)) / (1.15 * physique.rib_spacing) + physique.rib_phase
    # Rays along the lateral curve of a rib stay in bone for longer.
    rim = np.clip(ax / (half + 0.9), 0.0, 1.0) ** 2
    posterior = _bars(upper, 0.23) * (0.7 + 0.8 * rim * rim)
    anterior = _bars(lower, 0.21) * ramp(ax - 4.0, 2.0)
    ribs = cage * (2.0 * posterior + 0.8 * anterior)
    collar = y + 10.4 - 0.10 * (ax - 2.0) + 0.030 * (ax - 6.0) ** 2
    clavicle = 1.5 * np.clip(1.0 - (collar / 0.7) ** 2, 0.0, None) * ramp(ax - 1.5, 0.6)
    clavicle *= ramp(15.0 - ax, 0.6)
    centre = physique.spine_bend * ((y / 10.0) ** 2 - 1.0) + 0.3 * pose.turn
    vertebra = 0.75 + 0.25 * _bars(y / 2.7, 0.4)
    spine = 2.4 * ramp(1.9 - np.abs(x - centre), 0.6) * vertebra
    return ribs + clavicle + spine


def _bars(phase: Array, half_thickness: float) -> Array:
    """Round bars at every whole number of the phase, 1 in their middle, 0 between them."""
    offset = (phase - np.rint(phase)) / half_thickness
    return np.clip(1.0 - offset * offset, 0.0, None)


def _sample(grid: Array, physique: Physique, x: Array, y: Array, base: float) -> Array:
    """Bilinear values of the lung texture; the lung stretches with inspiration."""
    cells = grid.shape[0]
    row = (y - physique.apex) * ((cells - 1) / (base + 4.0 - physique.apex))
    column = (x / physique.half_width + 1.0) * (0.5 * (cells - 1))
    row = np.clip(row, 0.0, cells - 1.001)
    column = np.clip(column, 0.0, cells - 1.001)
    top, left = row.astype(np.intp), column.astype(np.intp)
    down, right = row - top, column - left
    flat, first = grid.ravel(), top * cells + left
    upper = flat[first] * (1.0 - right) + flat[first + 1] * right
    lower = flat[first + cells] * (1.0 - right) + flat[first + cells + 1] * right
    return np.asarray(upper * (1.0 - down) + lower * down)
