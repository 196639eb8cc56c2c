"""PNG, JPEG and TIFF, read only where a table names the patient, and in the worker only."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from medssl.formats.geometry import FormatError, Pixels

FORMATS = ("PNG", "JPEG", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
TURNED, SIDEWAYS = 274, {5, 6, 7, 8}
ONE_CHANNEL = {"1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
LUMA = np.array([0.299, 0.587, 0.114])


def is_raster(path: Path) -> bool:
    """Return whether the name ends like a PNG, JPEG or TIFF file."""
    return path.suffix.lower() in SUFFIXES


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=FORMATS)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FormatError("not a readable PNG, JPEG or TIFF", "E-RASTER") from error


def _tag(image: Image.Image, number: int) -> Any:
    return getattr(image, "tag_v2", {}).get(number)


def header(path: Path) -> dict[str, Any]:
    """Read the size of one picture; the same three parts as ``dicom.header``."""
    with _open(path) as image:
        columns, rows = image.size
        if image.getexif().get(TURNED) in SIDEWAYS:
            columns, rows = rows, columns
        bits = 16 if image.mode.startswith("I") else 8
    public = {"rows": rows, "columns": columns, "frames": 1, "bits": bits, "notes": []}
    return {"public": public, "private": {}, "stack": None, "volume": False}


def pixels(path: Path, *, colour: bool = False) -> Pixels:
    """Read one picture as float32 ``[H, W]`` grey values.

    Orientation (EXIF) is honoured, alpha is dropped, colour profiles (ICC) are not applied.

    Args:
        path: the file.
        colour: read a picture that is stored in colours as ``[H, W, 3]``.

    Raises:
        FormatError: not readable, several pages, or colours that are not red, green and blue.
    """
    array = _array(path, colour=colour)
    if colour and array.ndim == 3:
        return Pixels(array, (None, None), None, "stored", colour=True)
    grey = array @ LUMA if array.ndim == 3 else array
    return Pixels(grey.astype(np.float32), (None, None), None, "stored")


def colour(path: Path) -> npt.NDArray[np.uint8] | None:
    """Return uint8 ``[H, W, 3]``; None where the picture is grey, whatever it is stored as."""
    array = _array(path)
    if array.ndim != 3 or not (array != array[..., :1]).any():
        return None
    return array.astype(np.uint8)


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture, uint8 ``[H, W, 3]``, as the bytes of a PNG file without metadata."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def _array(path: Path, *, colour: bool = False) -> npt.NDArray[np.float32]:
    with _open(path) as image:
        pages = getattr(image, "n_frames", 1)
        if pages > 1:
            raise FormatError(f"holds {pages} pages; one picture per file is read", "E-PAGES")
        if image.mode.startswith("I;16") and _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO:
            raise FormatError("16-bit TIFF with white as zero is not read", "E-PHOTOMETRIC")
        try:
            image = ImageOps.exif_transpose(image)
            if image.mode in {"P", "RGBA", "LA", "CMYK", "YCbCr"} or (
                colour and image.mode == "RGBX"
            ):
                image = image.convert("RGB")
            if colour and image.mode not in ONE_CHANNEL | {"RGB"}:
                words = f"its colours are {image.mode}, not red, green and blue"
                raise FormatError(words, "E-PHOTOMETRIC")
            return np.asarray(image, dtype=np.float32)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise FormatError("the picture could not be decoded", "E-DECODE") from error
