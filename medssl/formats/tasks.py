"""What a worker may be asked to do, by name."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from medssl.config import DecodeConfig
from medssl.formats import deid, dicom, dicom_pixels, display, nifti, raster
from medssl.formats.geometry import FormatError, Pixels
from medssl.formats.prepare import prepare

Result = tuple[dict[str, Any], list[np.ndarray[Any, Any]]]
MAX_FILE_BYTES = 1 << 30
APPLE_DOUBLE = b"\x00\x05\x16\x07"
IMAGE_SUFFIXES = (".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")


def kind_of(path: Path) -> str:
    """Return dicom, nifti or raster by content first, by name second.

    Raises:
        FormatError: ``S-NOTIMAGE`` for what is no image at all, ``E-NOTDICOM`` and others for what
            claims to be one and is not.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise FormatError(
            f"is {size / 2**30:.1f} GiB long; files over 1 GiB are not read", "E-BOMB"
        )
    with path.open("rb") as stream:
        start = stream.read(132)
    if path.name.startswith("._") or start.startswith(APPLE_DOUBLE):
        raise FormatError("a macOS resource file, not an image", "S-NOTIMAGE")
    if dicom.looks_like_dicom(start):
        return "dicom"
    if nifti.is_nifti(path, start):
        return "nifti"
    if raster.is_raster(path):
        return "raster"
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        what = "the file is empty" if not start else "its content is not what its name says"
        raise FormatError(f"{what}, or of a kind that is not read", "E-FORMAT")
    raise FormatError("not an image file", "S-NOTIMAGE")


def read_header(paths: list[Path], _: dict[str, Any]) -> Result:
    """Header of one file, with its kind, size and time."""
    path = paths[0]
    kind = kind_of(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings carry raw values
        found = {"dicom": dicom.header, "nifti": nifti.header, "raster": raster.header}[kind](path)
    return {"kind": kind, **found}, []


def read_pixels(paths: list[Path], *, colour: bool = False) -> Pixels:
    """Pixels of one file, or of the files of one DICOM stack; with ``colour`` as it is stored."""
    kind = kind_of(paths[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "dicom":
            return dicom_pixels.pixels(paths, colour=colour)
        if kind == "raster":
            return raster.pixels(paths[0], colour=colour)
        return nifti.pixels(paths[0], colour=colour)


def _digest(paths: list[Path]) -> str:
    """Return one SHA-256 over all files of an image, both halves of a pair included."""
    source = hashlib.sha256()
    for path in (half for whole in paths for half in nifti.sources(whole)):
        source.update(path.read_bytes())
    return source.hexdigest()


def decode(paths: list[Path], settings: dict[str, Any]) -> Result:
    """Stored planes of one image or volume, and the digest of the bytes they came from."""
    for path, expected in zip(paths, settings.get("identities", ()), strict=False):
        dicom.check_identity(path, expected)
    given = {k: v for k, v in settings.items() if k != "identities"}
    config = DecodeConfig.model_validate(given)
    pixels = read_pixels(paths, colour=config.colour == "rgb")
    made = prepare(pixels, config)
    data = {
        "source": _digest(paths),
        "slice_index": made.slice_index,
        "low": made.low,
        "high": made.high,
        "units": made.units,
        "scaling": made.scaling,
        "inverted": pixels.inverted,
        "decoder": pixels.decoder,
        "box": made.box,
        "digests": made.digests,
        "grey": made.grey,
    }
    return data, [made.planes]


def show(paths: list[Path], settings: dict[str, Any]) -> Result:
    """One image or volume at full depth, with what a viewer must know of it."""
    for path, expected in zip(paths, settings.get("identities", ()), strict=False):
        dicom.check_identity(path, expected)
    pixels = read_pixels(paths)
    facts, values = display.shown(pixels)
    single = len(paths) == 1 and pixels.affine_lps is None
    facts |= {"calibrated": True, "source": _digest(paths)}
    if single:
        letters, facts["calibrated"], colour = display.beside(paths[0], kind_of(paths[0]))
        facts["letters"] = facts["letters"] or letters
        if colour is not None:
            facts |= {"dtype": "rgb", "blank": None, "low": 0.0, "high": 255.0, "voi": None}
            values = colour if colour.ndim == 4 else colour[None]
    return facts, [np.ascontiguousarray(values)]


TASKS = {
    "header": read_header,
    "decode": decode,
    "show": show,
    "identify": deid.identify,
    "deidentify": deid.deidentify,
}
