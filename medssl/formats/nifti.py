"""NIfTI-1, NIfTI-2 (single files and pairs) and MGH: header to a row, file to pixels. In the worker."""

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.spatialimages import HeaderDataError

from medssl.formats.geometry import (
    FloatArray,
    FormatError,
    Pixels,
    check_affine,
    ras_to_lps,
    spacing_of,
    to_house_order,
)

SINGLE = (".nii", ".nii.gz")
MGH = (".mgz", ".mgh")
PAIR = (".hdr", ".img")
MAX_UNPACKED = 512 << 20
HEADER_BYTES = 540
MGH_HEADER_BYTES = 284
HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
MAGICS = {b"n+1", b"ni1", b"n+2", b"ni2"}
LUMA = np.array([0.299, 0.587, 0.114])
BROKEN = (ImageFileError, HeaderDataError, ValueError, TypeError, KeyError)


@dataclass(frozen=True)
class _Head:
    """What both families say: shape, bits, RAS affine, voxel type, first pixel byte, notes."""

    shape: tuple[int, int, int]
    bits: int
    affine: FloatArray
    dtype: np.dtype[Any]
    offset: int
    notes: list[str]


def is_nifti(path: Path, start: bytes) -> bool:
    """Return whether the name says NIfTI or MGH; a ``.hdr`` must also begin like NIfTI.

    Raises:
        FormatError: the ``.img`` half of a pair, or a half alone.
    """
    name = path.name.lower()
    if name.endswith((*SINGLE, *MGH)):
        return True
    if not name.endswith(PAIR):
        return False
    other = partner(path)
    if not other.is_file():
        raise FormatError(f"half of a pair: {other.suffix} of the same name is absent", "E-PAIR")
    if name.endswith(".img"):
        raise FormatError("the voxels of the .hdr file beside it, read with it", "S-PARTNER")
    return _size_or_none(start) is not None


def partner(path: Path) -> Path:
    """Return the other half of a ``.hdr``/``.img`` pair."""
    other = ".img" if path.suffix.lower() == ".hdr" else ".hdr"
    return path.with_suffix(other.upper() if path.suffix.isupper() else other)


def sources(path: Path) -> list[Path]:
    """Return the files that hold one volume: the file, or both halves of a pair."""
    return [path, partner(path)] if path.suffix.lower() == ".hdr" else [path]


def header(path: Path) -> dict[str, Any]:
    """Read the header of one file; the same three parts as ``dicom.header``.

    Raises:
        FormatError: neither NIfTI nor MGH, more than three dimensions, complex, or without volume.
    """
    head = _head(path, _start(path))
    affine = ras_to_lps(head.affine)
    check_affine(affine)
    sizes = spacing_of(affine)
    public = {
        "rows": head.shape[1],
        "columns": head.shape[0],
        "frames": head.shape[2],
        "spacing_row_mm": sizes[1],
        "spacing_col_mm": sizes[0],
        "spacing_slice_mm": sizes[2],
        "bits": head.bits,
        "notes": head.notes,
    }
    return {"public": public, "private": {}, "stack": None, "volume": True}


def pixels(path: Path, *, colour: bool = False) -> Pixels:
    """Read one volume in house order; the gzip checksum is verified.

    Args:
        path: the file, or the header of a pair.
        colour: set a volume of colours aside instead of taking its luma.

    Returns:
        Float32 ``[D, H, W]``; colour becomes luma; ``slice_index`` is the plane's index in the file.

    Raises:
        FormatError: a broken or too large stream, or an unusable header.
    """
    data = _unpack(path)
    head = _head(path, data[:HEADER_BYTES])
    if colour and head.dtype.names is not None:
        words = (
            "the colours of a NIfTI volume are not read (decode.colour=rgb); grey takes its luma"
        )
        raise FormatError(words, "E-PHOTOMETRIC")
    body = _unpack(partner(path)) if path.suffix.lower() == ".hdr" else data
    needed = head.offset + int(np.prod(head.shape, dtype=object)) * head.dtype.itemsize
    if len(body) < needed:
        raise FormatError(
            f"pixel data is {needed - len(body):,} bytes short (expected {needed:,}); "
            "the copy was probably cut off",
            "E-TRUNCATED",
        )
    try:
        array = _array(path, data, body)
    except BROKEN as error:
        raise FormatError("the voxels could not be read", "E-DECODE") from error
    house, affine, index = to_house_order(
        array.reshape(array.shape[:3]).astype(np.float32), ras_to_lps(head.affine)
    )
    made = np.ascontiguousarray(house)
    return Pixels(made, spacing_of(affine), affine, "stored", slice_index=index, decoder="nibabel")


def _array(path: Path, data: bytes, body: bytes) -> npt.NDArray[Any]:
    """Return scaled values in file order, colour as luma."""
    if path.name.lower().endswith(MGH):
        return np.asarray(nib.MGHImage.from_bytes(data).dataobj)
    size = _size_of(data[:4])
    if path.suffix.lower() == ".hdr":
        kind: Any = {348: nib.Nifti1Pair, 540: nib.Nifti2Pair}[size]
        files = {"header": io.BytesIO(data), "image": io.BytesIO(body)}
        image = kind.from_file_map({k: nib.FileHolder(fileobj=v) for k, v in files.items()})
    else:
        image = {348: nib.Nifti1Image, 540: nib.Nifti2Image}[size].from_bytes(data)
    array = np.asarray(image.dataobj)
    if array.dtype.names is not None:
        array = np.stack([array[c] for c in "RGB"], -1) @ LUMA
    return array


def _start(path: Path) -> bytes:
    opener = gzip.open if path.name.lower().endswith((".gz", ".mgz")) else open
    try:
        with opener(path, "rb") as stream:
            return bytes(stream.read(HEADER_BYTES))
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError("the compressed stream is broken", "E-TRUNCATED") from error


def _unpack(path: Path) -> bytes:
    """Read to the very end, so that gzip compares its checksum (nibabel does not)."""
    if not path.name.lower().endswith((".gz", ".mgz")):
        return path.read_bytes()
    out = io.BytesIO()
    try:
        with gzip.open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                out.write(chunk)
                if out.tell() > MAX_UNPACKED:
                    raise FormatError("unpacks to more than 512 MiB", "E-BOMB")
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError("the compressed stream is broken or cut off", "E-TRUNCATED") from error
    return out.getvalue()


def _size_or_none(start: bytes) -> int | None:
    sizes = {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}
    return next((s for s in HEADERS if s in sizes), None)


def _size_of(start: bytes) -> int:
    size = _size_or_none(start)
    if size is None:
        words = "not a NIfTI file (no header size of 348 or 540 at its start)"
        raise FormatError(words, "E-NOTNIFTI")
    return size


def _head(path: Path, start: bytes) -> _Head:
    if path.name.lower().endswith(MGH):
        return _mgh_head(start)
    size = _size_of(start[:4])
    if len(start) < size:
        raise FormatError("the file ends inside its header", "E-TRUNCATED")
    magic = start[344:347] if size == 348 else start[4:7]
    if magic not in MAGICS:
        words = (
            "has no NIfTI magic; Analyze 7.5 does not say which side is left. Convert it to NIfTI"
        )
        raise FormatError(words, "E-NOTNIFTI")
    try:
        head = HEADERS[size](start[:size])
        affine, dtype = head.get_best_affine(), head.get_data_dtype()
        notes = _form_notes(head)
        shape = tuple(int(n) for n in head.get_data_shape())
        offset = 0 if path.suffix.lower() == ".hdr" else int(head["vox_offset"])
    except (*BROKEN, OverflowError) as error:
        raise FormatError("the NIfTI header contradicts itself", "E-HEADER") from error
    _check_numbers(HEADERS[size](start[:size], check=False))
    checked = _shape(shape, dtype)
    return _Head(checked, int(head["bitpix"]), affine, dtype, offset, notes)


def _check_numbers(head: Any) -> None:
    """Raise FormatError for scaling and voxel sizes that nibabel would replace in silence."""
    slope, inter = float(head["scl_slope"]), float(head["scl_inter"])
    # NaN and 0 mean that no scaling was set; infinity means nothing.
    if np.isinf(slope) or (np.isfinite(slope) and slope != 0 and not np.isfinite(inter)):
        raise FormatError(f"scl_slope is {slope}, scl_inter {inter}; no scaling", "E-RESCALE")
    sizes = np.asarray(head["pixdim"][1:4], dtype=float)
    only_quaternion = int(head["sform_code"]) == 0 and int(head["qform_code"]) > 0
    if only_quaternion and not (np.isfinite(sizes).all() and (sizes != 0).all()):
        raise FormatError(f"its voxel sizes are {sizes.tolist()}, so it has no volume", "E-AFFINE")


def _mgh_head(start: bytes) -> _Head:
    if len(start) < MGH_HEADER_BYTES or int.from_bytes(start[:4], "big") != 1:
        raise FormatError("not an MGH file (version 1 expected at its start)", "E-NOTNIFTI")
    try:
        head = MGHHeader(start[: MGHHeader.template_dtype.itemsize], check=False)
        affine, dtype = head.get_affine(), head.get_data_dtype()
        shape = tuple(int(n) for n in head.get_data_shape())
    except BROKEN as error:
        raise FormatError("the MGH header contradicts itself", "E-HEADER") from error
    checked = _shape(shape, dtype)
    notes = [] if int(head["goodRASFlag"]) == 1 else ["W-NOFORM"]
    return _Head(checked, dtype.itemsize * 8, affine, dtype, MGH_HEADER_BYTES, notes)


def _shape(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int, int]:
    colour = dtype.names is not None and set("RGB") <= set(dtype.names)
    if not colour and (dtype.names is not None or dtype.kind not in "iuf"):
        raise FormatError(f"complex or composite voxels ({dtype}) are no picture", "E-PHOTOMETRIC")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        words = (
            f"has the dimensions {shape}; one 3-D volume per file is read (export one time point)"
        )
        raise FormatError(words, "E-4D")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > MAX_UNPACKED:
        raise FormatError(f"declares {shape} voxels, more than 512 MiB", "E-BOMB")
    return shape[0], shape[1], shape[2]


def _form_notes(head: Any) -> list[str]:
    """Return ``W-NOFORM`` where nothing places the volume, ``W-QSFORM`` where two forms disagree."""
    codes = int(head["qform_code"]), int(head["sform_code"])
    if codes == (0, 0):
        return ["W-NOFORM"]
    if 0 in codes:
        return []
    return [] if np.allclose(head.get_qform(), head.get_sform(), atol=0.5) else ["W-QSFORM"]
