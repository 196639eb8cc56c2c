"""NIfTI-1 and NIfTI-2 single files: header to a row, file to pixels. Runs in the worker only."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from medssl.formats.geometry import (
    FormatError,
    Pixels,
    check_affine,
    ras_to_lps,
    spacing_of,
    to_house_order,
)

SUFFIXES = (".nii", ".nii.gz")
MAX_UNPACKED = 512 << 20
HEADER_BYTES = 540
HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
IMAGES = {348: nib.Nifti1Image, 540: nib.Nifti2Image}


def is_nifti(path: Path) -> bool:
    """Return whether the name ends like a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def header(path: Path) -> dict[str, Any]:
    """Read the header of one file; the same three parts as ``dicom.header``.

    Raises:
        FormatError: not NIfTI, more than three dimensions, colour, or a geometry without volume.
    """
    head = _header(_start(path))
    shape = _shape(head)
    affine = ras_to_lps(head.get_best_affine())
    check_affine(affine)
    sizes = spacing_of(affine)
    notes = ["W-QSFORM"] if _forms_disagree(head) else []
    public = {
        "rows": shape[1],
        "columns": shape[0],
        "frames": shape[2],
        "spacing_row_mm": sizes[1],
        "spacing_col_mm": sizes[0],
        "spacing_slice_mm": sizes[2],
        "bits": int(head["bitpix"]),
        "notes": notes,
    }
    return {"public": public, "private": {}, "stack": None}


def pixels(path: Path) -> Pixels:
    """Read one volume in house order; the gzip checksum is verified.

    Returns:
        Float32 ``[D, H, W]``; ``slice_index`` is the plane's index in the file.

    Raises:
        FormatError: a broken or too large stream, or an unusable header.
    """
    data = _unpack(path)
    head = _header(data[:HEADER_BYTES])
    _shape(head)
    size = _size_of(data[:4])
    needed = (
        int(head["vox_offset"]) + int(np.prod(head.get_data_shape())) * int(head["bitpix"]) // 8
    )
    if len(data) < needed:
        raise FormatError(
            f"pixel data is {needed - len(data):,} bytes short (expected {needed:,}); "
            "the copy was probably cut off",
            "E-TRUNCATED",
        )
    try:
        image = IMAGES[size].from_bytes(data)
        array = np.asarray(image.dataobj, dtype=np.float32)
    except (
        ImageFileError,
        HeaderDataError,
        ValueError,
    ) as error:
        raise FormatError("the NIfTI image could not be read", "E-DECODE") from error
    array = array.reshape(array.shape[:3])
    house, affine, index = to_house_order(array, ras_to_lps(image.affine))
    return Pixels(
        np.ascontiguousarray(house), spacing_of(affine), affine, "stored", slice_index=index
    )


def _start(path: Path) -> bytes:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            return bytes(stream.read(HEADER_BYTES))
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError("the compressed stream is broken", "E-TRUNCATED") from error


def _unpack(path: Path) -> bytes:
    """Read to the very end, so that gzip compares its checksum (nibabel does not)."""
    if not path.name.lower().endswith(".gz"):
        return path.read_bytes()
    out = io.BytesIO()
    try:
        with gzip.open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                out.write(chunk)
                if out.tell() > MAX_UNPACKED:
                    raise FormatError("unpacks to more than 512 MiB", "E-BOMB")
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"the compressed stream is broken ({error})", "E-TRUNCATED") from error
    return out.getvalue()


def _size_of(start: bytes) -> int:
    for order in ("little", "big"):
        size = int.from_bytes(start, order)  # type: ignore[arg-type]
        if size in HEADERS:
            return size
    raise FormatError("not a NIfTI file (no header size of 348 or 540 at its start)", "E-NOTNIFTI")


def _header(start: bytes) -> Any:
    size = _size_of(start[:4])
    if len(start) < size:
        raise FormatError("the file ends inside its header", "E-TRUNCATED")
    try:
        return HEADERS[size](start[:size])
    except (HeaderDataError, ValueError) as error:
        raise FormatError("the NIfTI header contradicts itself", "E-HEADER") from error


def _shape(head: Any) -> tuple[int, int, int]:
    if head.get_data_dtype().names is not None or head.get_data_dtype().kind not in "iuf":
        raise FormatError("colour or complex voxels are not supported", "E-PHOTOMETRIC")
    shape = tuple(int(n) for n in head.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise FormatError(
            f"has the dimensions {shape}; one 3-D volume per file is read (choose one time point)",
            "E-4D",
        )
    if int(np.prod(shape, dtype=object)) * int(head["bitpix"]) // 8 > MAX_UNPACKED:
        raise FormatError(f"declares {shape} voxels, more than 512 MiB", "E-BOMB")
    return shape[0], shape[1], shape[2]


def _forms_disagree(head: Any) -> bool:
    if int(head["qform_code"]) == 0 or int(head["sform_code"]) == 0:
        return False
    return not np.allclose(head.get_qform(), head.get_sform(), atol=0.5)
