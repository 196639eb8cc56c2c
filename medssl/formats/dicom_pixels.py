"""DICOM pixels: stored values to grey values in their units. Runs inside the isolated worker only."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid as u
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

from medssl.formats import codestream, enhanced
from medssl.formats.dicom import DECODERS, check_image, matrix, pixel_spacing, read
from medssl.formats.elements import text
from medssl.formats.geometry import (
    FloatArray,
    FormatError,
    Pixels,
    slice_affine,
    spacing_of,
    to_house_order,
)
from medssl.formats.slices import is_axial
from medssl.formats.voi import voi_of

GREY = {"MONOCHROME1", "MONOCHROME2"}
COLOUR = {
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_420",
    "YBR_PARTIAL_422",
    "YBR_ICT",
    "YBR_RCT",
    "PALETTE COLOR",
}
RGB_LIKE = COLOUR - {"PALETTE COLOR"}
JPEG2000_ONLY = {"YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"}
JPEG2000 = {u.JPEG2000, u.JPEG2000Lossless, u.HTJ2K, u.HTJ2KLossless, u.HTJ2KLosslessRPCL}
NATIVE = {syntax for syntax, decoder in DECODERS.items() if decoder is None}
BROKEN_TABLE = (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError)
LUMA = np.array([0.299, 0.587, 0.114])


def pixels(paths: list[Path], *, colour: bool = False) -> Pixels:
    """Read one file, or the files of one stack in any order, as one picture.

    Args:
        paths: the file, or the stack.
        colour: keep the colours of an object that has them, as a last axis; else their luma.

    Returns:
        One ``[H, W]`` image, a volume in house order, or the frames of a multi-frame object.

    Raises:
        FormatError: no decoder, too few bytes, broken rescale, or a broken stack geometry.
    """
    if len(paths) > 1:
        return _stack(paths, colour=colour)
    ds = read(paths[0], pixels=True)
    check_image(ds)
    _, _, frames = matrix(ds)
    geometry = enhanced.frame_geometry(ds) if frames > 1 else None
    values, units, padding = _values(ds, colour=colour)
    facts = _facts(ds, units, padding, colour=colour)
    spacing, _ = pixel_spacing(ds)
    if values.ndim - facts["colour"] == 2:
        return Pixels(values, spacing, None, **facts)
    if geometry is None:
        order = tuple(range(len(values)))
        return Pixels(values, (None, *spacing), None, slice_index=order, **facts)
    placed = values[geometry.order]
    ends = geometry.positions[geometry.order[[0, -1]]]
    made = _volume(placed, ends, geometry.orientation, spacing, facts)
    index = made.slice_index
    if is_axial(list(geometry.orientation)):  # else the planes are not the frames
        index = tuple(int(geometry.order[k]) for k in index)
    return Pixels(made.array, made.spacing_mm, made.affine_lps, slice_index=index, **facts)


def _is_coloured(ds: Dataset) -> bool:
    return text(ds, "PhotometricInterpretation") in COLOUR


def _facts(ds: Dataset, units: str, padding: float, *, colour: bool) -> dict[str, Any]:
    transform = enhanced.functional(ds, "FrameVOILUTSequence")
    syntax = str(ds.file_meta.TransferSyntaxUID)
    raw = text(ds, "PresentationIntentType").upper() == "FOR PROCESSING"
    return {
        "units": units,
        "inverted": text(ds, "PhotometricInterpretation") == "MONOCHROME1",
        "voi": voi_of(ds if transform is None else transform),
        "padding": padding,
        "decoder": DECODERS[syntax] or "pydicom",
        "intent": "processing" if raw else "presentation",
        "colour": colour and _is_coloured(ds),
    }


def _stack(paths: list[Path], *, colour: bool) -> Pixels:
    """Read the slices of a volume one by one; one that is broken is named, and sets all aside."""
    heads = [read(p, pixels=False) for p in paths]
    places = [enhanced.placed(ds) for ds in heads]
    turn, positions = np.array(places[0][1], float), np.array([p for p, _ in places], float)
    if len({text(d, "PhotometricInterpretation") for d in heads}) > 1:
        raise FormatError("its slices are stored in different photometries", "E-MIXED")
    order = np.argsort(positions @ np.cross(turn[:3], turn[3:]), kind="stable")
    rows, columns, _ = matrix(heads[0])
    channels = (3,) if colour and _is_coloured(heads[0]) else ()
    stack = np.empty((len(paths), rows, columns, *channels), np.float32)
    padding, units = np.zeros(len(paths)), set()
    for place, k in enumerate(order):
        try:
            ds = read(paths[k], pixels=True)
            check_image(ds)
            matrix(ds)
            stack[place], unit, padding[place] = _values(ds, colour=colour)
            units.add(unit)
        except FormatError as error:
            words = f"slice {place + 1} of {len(paths)} of this volume: {error.sentence}"
            raise FormatError(words, error.code) from error
    if len(units) > 1:
        raise FormatError("its slices have different units", "E-MIXED")
    facts = _facts(heads[0], units.pop(), float(padding.mean()), colour=colour)
    spacing, _ = pixel_spacing(heads[0])
    return _volume(stack, positions[order[[0, -1]]], turn, spacing, facts)


def _volume(
    stack: npt.NDArray[np.float32],
    ends: FloatArray,
    orientation: FloatArray,
    spacing: tuple[float | None, float | None],
    facts: dict[str, Any],
) -> Pixels:
    """Bring ordered slices into house order; ``ends`` are the first and last position, mm."""
    if spacing[0] is None or spacing[1] is None:
        raise FormatError("a stack without pixel spacing has no geometry", "E-AFFINE")
    step = (ends[1] - ends[0]) / (len(stack) - 1)
    affine = slice_affine(ends[0], orientation, (spacing[0], spacing[1]), step)
    array, affine, index = to_house_order(stack, affine)
    return Pixels(array, spacing_of(affine), affine, slice_index=index, **facts)


def _values(ds: Dataset, *, colour: bool) -> tuple[npt.NDArray[np.float32], str, float]:
    """Return ``grey_values``, or the colours ``[..., 3]`` of a colour object where these are kept."""
    if colour and not _check_samples(ds):
        return _red_green_blue(_colours(ds)).astype(np.float32), "stored", 0.0
    return grey_values(ds)


def grey_values(ds: Dataset) -> tuple[npt.NDArray[np.float32], str, float]:
    """Return grey values after the modality LUT (padding as NaN), units, and the padded share."""
    grey = _check_samples(ds)
    if not grey:
        return _luminance(_colours(ds)), "stored", 0.0
    stored = _used_bits(_decode(ds, raw=True), ds)
    values = _modality(stored, ds)
    padding = _padding(stored, ds)
    if padding is not None:
        values[padding] = np.nan
    units = "HU" if text(ds, "Modality") == "CT" and enhanced.is_hounsfield(ds) else "stored"
    return values, units, 0.0 if padding is None else float(padding.mean())


def colour_values(ds: Dataset) -> npt.NDArray[np.uint8]:
    """Return the colours of a colour object, uint8 ``[..., 3]``; deeper ones by their upper bits."""
    _check_samples(ds)
    found = _colours(ds)
    deep = 8 * found.dtype.itemsize - 8
    return (found >> deep).astype(np.uint8) if deep else found.astype(np.uint8)


def _colours(ds: Dataset) -> npt.NDArray[Any]:
    if text(ds, "PhotometricInterpretation") == "PALETTE COLOR":
        return _coloured(_used_bits(_decode(ds, raw=True), ds), ds)
    return _decode(ds, raw=False)


def _check_samples(ds: Dataset) -> bool:
    """Return whether an object is grey; raise FormatError where its header contradicts itself."""
    photometric = text(ds, "PhotometricInterpretation")
    if photometric not in GREY | COLOUR:
        raise FormatError("its photometric interpretation is absent or unknown", "E-PHOTOMETRIC")
    samples, wanted = int(ds.get("SamplesPerPixel") or 1), 3 if photometric in RGB_LIKE else 1
    jpeg2000 = str(ds.file_meta.TransferSyntaxUID) in JPEG2000
    if photometric in JPEG2000_ONLY and not jpeg2000:
        words = f"{photometric} outside JPEG 2000; its colours cannot be told"
        raise FormatError(words, "E-PHOTOMETRIC")
    if samples != wanted:
        words = f"{photometric} has {wanted} sample(s) per pixel, the header says {samples}"
        raise FormatError(words, "E-PHOTOMETRIC")
    return photometric in GREY


def _decode(ds: Dataset, *, raw: bool) -> npt.NDArray[Any]:
    syntax = u.UID(str(ds.file_meta.TransferSyntaxUID))
    plugin = DECODERS[syntax]
    # pydicom clears the bits above BitsStored as if HighBit were BitsStored - 1; ours looks at it.
    options: dict[str, Any] = {"raw": raw, "correct_unused_bits": not raw}
    if plugin is not None:
        options["decoding_plugin"] = plugin
        _check_frames(ds, syntax.name)
    elif "PixelData" in ds:
        _check_length(ds)
    try:
        decoded: npt.NDArray[Any] = pixel_array(ds, **options)
        return decoded
    except StopIteration as error:
        raise FormatError("fewer frames are stored than the header says", "E-TRUNCATED") from error
    except AttributeError as error:
        raise FormatError("a header element needed for the pixels is absent", "E-HEADER") from error
    except ModuleNotFoundError as error:
        raise FormatError(f"{syntax.name}: its decoder is not installed", "E-CODEC") from error
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise FormatError(*_decoder_words(str(error), syntax.name, plugin)) from error


def _check_length(ds: Dataset) -> None:
    """Compare the length of uncompressed pixels with what the header declares.

    pydicom takes longer data for more frames. Zeros at the end are harmless and are dropped.

    Raises:
        FormatError: too few bytes, or more that are not zero.
    """
    rows, columns, frames = matrix(ds)
    samples = int(ds.get("SamplesPerPixel") or 1)
    halved = text(ds, "PhotometricInterpretation") == "YBR_FULL_422"
    bits = rows * columns * frames * int(ds.BitsAllocated) * (2 if halved else samples)
    wanted, data = -(-bits // 8), ds.PixelData
    if len(data) < wanted:
        short = wanted - len(data)
        words = f"pixel data is {short:,} bytes short (expected {wanted:,}); the copy was probably cut off"
        raise FormatError(words, "E-TRUNCATED")
    if len(data) > wanted + wanted % 2 and any(data[wanted:]):
        words = (
            f"holds {len(data) - wanted:,} bytes of pixels more than {rows} x {columns} x {frames} take; "
            "the header does not describe this picture"
        )
        raise FormatError(words, "E-HEADER")
    ds.PixelData = data[: wanted + wanted % 2]


def _check_frames(ds: Dataset, syntax: str) -> None:
    """Compare what every compressed frame says of itself with the header, before decoding.

    Raises:
        FormatError: a size or depth beyond the header's; a decoder might allocate what the stream
            asks for, or return another picture.
    """
    data = ds.get("PixelData")
    if not data:
        raise FormatError("holds no pixel data", "E-TRUNCATED")
    rows, columns, frames = matrix(ds)
    samples, depth = int(ds.get("SamplesPerPixel") or 1), int(ds.get("BitsAllocated") or 0)
    for frame in generate_frames(data, number_of_frames=frames):
        # CharLS takes seconds to give up on a stream without its end.
        if syntax.startswith("JPEG-LS") and codestream.JPEG_END not in frame[-8:]:
            words = "the JPEG-LS stream has no end marker; the copy was probably cut off"
            raise FormatError(words, "E-TRUNCATED")
        said = codestream.declared(frame)
        if said is None:
            continue
        if (said.rows, said.columns, said.samples) != (rows, columns, samples):
            words = (
                f"its {syntax} stream is {said.rows} x {said.columns} with {said.samples} sample(s), "
                f"the header says {rows} x {columns} with {samples}"
            )
            raise FormatError(words, "E-HEADER")
        if not 0 < said.tiles <= 1 + len(frame) // codestream.TILE_BYTES:
            words = f"its {syntax} stream declares {said.tiles} tiles, more than its bytes can hold"
            raise FormatError(words, "E-HEADER")
        if said.bits > depth:
            words = f"its {syntax} stream has {said.bits} bits, the header allocates {depth}"
            raise FormatError(words, "E-HEADER")


def _decoder_words(message: str, syntax: str, plugin: str | None) -> tuple[str, str]:
    if "missing dependencies" in message or "not available" in message or "no plugin" in message:
        extra = "; install the extra: pip install 'medssl[gdcm]'" if plugin == "gdcm" else ""
        return f"stored as {syntax}; its decoder {plugin} is not installed{extra}", "E-CODEC"
    if "length of the pixel data" in message or "less than" in message:
        return (
            "the pixel data is shorter than the header says; the copy was probably cut off",
            "E-TRUNCATED",
        )
    return f"the {syntax} pixel data could not be decoded", "E-DECODE"


def _used_bits(stored: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[Any]:
    """Keep BitsStored bits ending at HighBit: the others may hold overlays or noise."""
    if stored.dtype.kind not in "iu":
        return stored
    bits, allocated = int(ds.BitsStored), stored.dtype.itemsize * 8
    high = int(ds.get("HighBit", bits - 1))
    above = allocated - 1 - high
    below = allocated - bits - above
    if above < 0 or below < 0 or bits < 1:
        words = f"BitsStored {bits} and HighBit {high} do not fit into {allocated} bits"
        raise FormatError(words, "E-HEADER")
    if above == 0 and below == 0:
        return stored
    native = str(ds.file_meta.TransferSyntaxUID) in NATIVE
    shift = allocated - bits
    return (stored << above if native else stored << shift) >> shift


def hides_bits(ds: Dataset) -> bool:
    """Return whether bits beyond BitsStored hold anything but zeros or the sign."""
    if (
        text(ds, "PhotometricInterpretation") not in GREY | {"PALETTE COLOR"}
        or "PixelData" not in ds
    ):
        return False
    stored = _decode(ds, raw=True)
    bits, allocated = int(ds.BitsStored), stored.dtype.itemsize * 8
    high = int(ds.get("HighBit", bits - 1))
    if stored.dtype.kind not in "iu" or bits >= allocated:
        return False
    plain = stored.astype(np.int64) & ((1 << allocated) - 1)
    above, below = plain >> (high + 1), plain & ((1 << (high + 1 - bits)) - 1)
    sign = (1 << (allocated - high - 1)) - 1
    negative = (plain >> high) & 1 if stored.dtype.kind == "i" else np.zeros_like(plain)
    return bool(below.any() or ((above != 0) & ~((above == sign) & (negative == 1))).any())


def _modality(stored: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[np.float32]:
    """Apply the modality LUT; an enhanced object may have one per frame (PS3.3 C.7.6.16.2.9)."""
    frames = list(ds.get("PerFrameFunctionalGroupsSequence") or [])
    own = [list(f.get("PixelValueTransformationSequence") or []) for f in frames]
    if stored.ndim == 3 and len(own) == len(stored) and all(own):
        pairs = zip(stored, own, strict=True)
        return np.stack([_rescaled(plane, item[0]) for plane, item in pairs])
    if any(own):
        words = "some frames say how their values are to be read and others do not"
        raise FormatError(words, "E-RESCALE")
    transform = enhanced.functional(ds, "PixelValueTransformationSequence")
    return _rescaled(stored, ds if transform is None else transform)


def _rescaled(stored: npt.NDArray[Any], source: Dataset) -> npt.NDArray[np.float32]:
    if "ModalityLUTSequence" not in source:
        for keyword in ("RescaleSlope", "RescaleIntercept"):
            value = source.get(keyword)
            try:
                number = 1.0 if value is None else float(value)
            except (TypeError, ValueError) as error:
                raise FormatError(f"{keyword} is not one number", "E-RESCALE") from error
            if not math.isfinite(number) or (number == 0 and keyword == "RescaleSlope"):
                words = f"{keyword} is {number:g}; no pixel would keep its meaning"
                raise FormatError(words, "E-RESCALE")
    try:
        return np.array(apply_modality_lut(stored, source), dtype=np.float32)
    except BROKEN_TABLE as error:
        raise FormatError("its modality lookup table contradicts itself", "E-LUT") from error


def _coloured(stored: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[Any]:
    try:
        colour: npt.NDArray[Any] = apply_color_lut(stored, ds)
        return colour
    except BROKEN_TABLE as error:
        raise FormatError("its colour palette is absent or contradicts itself", "E-LUT") from error


def _padding(stored: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[np.bool_] | None:
    value = ds.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = ds.get("PixelPaddingRangeLimit")
    other = limit if isinstance(limit, int) else value
    mask = (stored >= min(value, other)) & (stored <= max(value, other))
    if mask.all():
        raise FormatError("every pixel is declared as padding", "E-CONSTANT")
    return mask


def _luminance(colour: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """ITU-R BT.601 luma of ``[..., 3]``."""
    grey: npt.NDArray[np.float32] = (_red_green_blue(colour) @ LUMA).astype(np.float32)
    return grey


def _red_green_blue(colour: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if colour.ndim < 3 or colour.shape[-1] != 3:
        raise FormatError(f"colour pixels of shape {colour.shape} are not RGB", "E-PHOTOMETRIC")
    return colour
