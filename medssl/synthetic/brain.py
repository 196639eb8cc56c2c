"""Small FLAIR-like brain volumes of two MRI sites, as NIfTI files."""

import gzip
import io
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from medssl.synthetic.anatomy import Array, ramp
from medssl.synthetic.population import BRAIN, stream
from medssl.synthetic.settings import SynthesisSettings

LESION_SHARE = 0.6


@dataclass(frozen=True)
class MriSite:
    """A scanner and its protocol.

    Attributes:
        index: number in the keys of the random streams (hospitals A and B are 0 and 1).
        shape: rows and columns of a slice along the file's first and second axis.
        spacing_mm: along the file's three axes.
        tissue: intensities of white matter, grey matter, fluid, scalp and skull.
        lesion: how much brighter than white matter a lesion is at full contrast.
        noise: standard deviation of the complex noise.
        bias: relative strength of the receive field's unevenness.
    """

    name: str
    index: int
    shape: tuple[int, int]
    spacing_mm: tuple[float, float, float]
    tissue: tuple[float, float, float, float, float]
    lesion: float
    noise: float
    bias: float


SITES = (
    MriSite("MA", 2, (40, 48), (4.0, 4.2, 6.0), (300, 370, 90, 430, 30), 260, 9, 0.10),
    MriSite("MB", 3, (42, 50), (4.3, 3.9, 5.5), (700, 780, 330, 900, 90), 380, 38, 0.28),
)


@dataclass(frozen=True)
class Volume:
    """One patient's volume.

    Attributes:
        values: int16 [I, J, K]; K counts axial slices.
        affine: voxel index to RAS mm, 4 x 4.
        lesion_pixels: lesion pixels in each slice along the third axis.
    """

    participant_id: str
    site: str
    sex: str
    age: int
    values: NDArray[np.int16]
    affine: Array
    lesion_pixels: tuple[int, ...]


def draw_volume(settings: SynthesisSettings, site: MriSite, number: int) -> Volume:
    """Patient `number` (from 0) of a site, the same whatever the total number of patients."""
    rng = stream(settings.seed, site.index, number, BRAIN, 0)
    sex = "F" if rng.random() < 0.5 else "M"
    age = int(np.clip(rng.normal(48.0, 15.0), 18, 90))
    shape = (*site.shape, int(rng.integers(10, 17)))
    affine = _draw_affine(rng, site, shape)
    world = _world(affine, shape)
    signal, brain, growth = _head(rng, site, world, age)
    lesion, contrast = _lesion(rng, world, growth)
    inside = lesion * brain
    signal += inside * contrast * site.lesion
    field = _receive_field(rng, world, site.bias)
    real = signal * field + site.noise * rng.standard_normal(shape)
    imaginary = site.noise * rng.standard_normal(shape)
    values = np.rint(np.hypot(real, imaginary)).astype(np.int16)
    pixels = (inside > 0.5).sum(axis=(0, 1))
    return Volume(
        participant_id=f"sub-{site.name}{number + 1:03d}",
        site=site.name,
        sex=sex,
        age=age,
        values=values,
        affine=affine,
        lesion_pixels=tuple(int(count) for count in pixels),
    )


def nifti_bytes(volume: Volume) -> bytes:
    """The volume as a gzipped NIfTI-1 file that holds neither a time nor a file name."""
    image = nib.Nifti1Image(volume.values, volume.affine)
    image.header.set_xyzt_units(xyz="mm")
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as packed:
        packed.write(image.to_bytes())
    return buffer.getvalue()


def _draw_affine(rng: np.random.Generator, site: MriSite, shape: tuple[int, ...]) -> Array:
    """A slightly oblique affine, first axis to the left (LAS) or to the right (RAS)."""
    leftward = rng.random() < 0.5
    pitch, yaw = np.deg2rad(rng.normal(0.0, (4.0, 3.0)))
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    steps = np.diag(site.spacing_mm) * np.array([-1.0 if leftward else 1.0, 1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ steps
    centre = rng.normal(0.0, (2.0, 3.0, 4.0))
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2.0)
    return affine


def _world(affine: Array, shape: tuple[int, ...]) -> Array:
    """RAS coordinates in mm of every voxel centre, [3, I, J, K]."""
    index = np.indices(shape, dtype=np.float64).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


def _level(world: Array, centre: ArrayLike, semi_axes: ArrayLike) -> Array:
    """1 at the centre of an ellipsoid, 0 on its surface, below 0 outside.

    Args:
        world: RAS coordinates in mm, [3, I, J, K].
        centre: its centre in mm.
        semi_axes: its half lengths in mm.
    """
    offset = world - np.reshape(centre, (3, 1, 1, 1))
    return np.asarray(1.0 - np.sqrt(((offset / np.reshape(semi_axes, (3, 1, 1, 1))) ** 2).sum(0)))


def _head(
    rng: np.random.Generator, site: MriSite, world: Array, age: int
) -> tuple[Array, Array, float]:
    """Noise-free intensities, membership of the brain, and the size of the head (1 = average)."""
    growth = float(rng.normal(1.0, 0.03))
    stretch = rng.normal(1.0, 0.02, 3) * growth
    wave = rng.uniform(0.0, 2.0 * np.pi, 3)
    swelling = 1.0 + 0.012 * (age - 48) + float(rng.normal(0.0, 0.1))
    depth = _level(world, (0.0, 0.0, 0.0), np.array([72.0, 92.0, 88.0]) * stretch)
    x, y, z = world
    folds = np.sin(x / 5.5 + wave[0]) + np.sin(y / 6.0 + wave[1]) + np.sin(z / 7.0 + wave[2])
    fissure = ramp(1.5 - np.abs(x), 1.5) * ramp(0.52 - depth, 0.05)
    brain = ramp(depth - 0.18, 0.02) * (1.0 - fissure)
    white = ramp(depth - 0.30 - 0.05 * folds, 0.04)
    size = np.clip(swelling, 0.6, 1.7)
    horns = [
        _level(world, (side * 11.0, 4.0, 8.0), np.array([5.5, 24.0, 11.0]) * size)
        for side in (-1, 1)
    ]
    ventricle = ramp(np.maximum(*horns), 0.15)
    matter, cortex, fluid, scalp, skull = site.tissue
    shells = ramp(depth, 0.015) * (scalp + (skull - scalp) * ramp(depth - 0.07, 0.015))
    shells += (fluid - skull) * ramp(depth - 0.14, 0.015)
    tissue = cortex + (matter - cortex) * white
    tissue = tissue + (fluid - tissue) * ventricle
    return shells + (tissue - fluid) * brain, brain * (1.0 - ventricle), growth


def _lesion(rng: np.random.Generator, world: Array, growth: float) -> tuple[Array, float]:
    """Membership (0 to 1) of the lesion in every voxel and its contrast; zeros for no lesion."""
    present = rng.random() < LESION_SHARE
    side = -1.0 if rng.random() < 0.5 else 1.0
    centre = growth * np.array(
        [side * rng.uniform(14, 42), rng.uniform(-50, 50), rng.uniform(-22, 30)]
    )
    radius = float(rng.uniform(7.0, 19.0))
    contrast = float(rng.uniform(0.25, 1.0))
    lobes = rng.normal(0.0, 0.5, (2, 3))
    stretch = rng.uniform(0.75, 1.25, (2, 3))
    if not present:
        return np.zeros(world.shape[1:]), 0.0
    parts = [_level(world, centre + radius * lobes[k], radius * stretch[k]) for k in range(2)]
    return ramp(np.maximum(*parts), 0.2), contrast


def _receive_field(rng: np.random.Generator, world: Array, strength: float) -> Array:
    """A smooth factor around 1 over the volume: a plane and a bowl."""
    tilt = rng.normal(0.0, 1.0, 3)
    bowl = float(rng.normal(1.0, 0.3))
    scaled = world / 90.0
    plane = np.tensordot(tilt, scaled, axes=1)
    return np.asarray(1.0 + strength * (0.6 * plane + bowl * ((scaled**2).sum(axis=0) - 0.4)))
