"""DICOM: header to a row, file(s) to pixels. Runs inside the isolated worker only."""

import math
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import uid as u
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

from medssl.formats.geometry import FormatError, Pixels, slice_affine, spacing_of, to_house_order

# One named decoder per syntax; None is pydicom's own reader of uncompressed pixels.
DECODERS: dict[str, str | None] = {
    u.ImplicitVRLittleEndian: None,
    u.ExplicitVRLittleEndian: None,
    u.ExplicitVRBigEndian: None,
    u.DeflatedExplicitVRLittleEndian: None,
    u.RLELossless: "pylibjpeg",
    u.JPEGBaseline8Bit: "pillow",
    u.JPEGExtended12Bit: "pillow",
    u.JPEGLosslessSV1: "gdcm",
    u.JPEGLossless: "gdcm",
    u.JPEGLSLossless: "pyjpegls",
    u.JPEGLSNearLossless: "pyjpegls",
    u.JPEG2000Lossless: "pylibjpeg",
    u.JPEG2000: "pylibjpeg",
    u.HTJ2KLossless: "pylibjpeg",
    u.HTJ2KLosslessRPCL: "pylibjpeg",
    u.HTJ2K: "pylibjpeg",
}
NON_IMAGE = (
    "Segmentation",
    "RT ",
    "Presentation State",
    "Waveform",
    "Structured",
    "SR ",
    "PDF",
    "CDA",
    "STL",
    "Raw Data",
    "Key Object",
    "Real World Value",
    "Registration",
    "Fiducials",
    "Spectroscopy",
    "Media Storage Directory",
    "Surface",
    "Tractography",
    "Encapsulated",
)
CODE_STRING = re.compile(r"[A-Z0-9 _]{1,16}")
PLAIN_TEXT = re.compile(r"[^A-Za-z0-9 .,+/()_-]")
IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "AccessionNumber",
    "PatientBirthDate",
)
MAX_DECLARED_BYTES = 256 << 20
STACK_MODALITIES = {"CT", "MR", "PT", "NM"}


def header(path: Path) -> dict[str, Any]:
    """Read the header of one file without its pixels.

    Returns:
        Allow-listed values under ``public``, identifiers under ``private``, stack geometry under
        ``stack`` (None where the object has none).

    Raises:
        FormatError: not an image (code ``S-NONIMAGE``) or not usable.
    """
    ds = _read(path, pixels=False)
    _check_image(ds)
    rows, columns, frames = _matrix(ds)
    private = {
        "patient_id": _text(ds, "PatientID"),
        "issuer": _text(ds, "IssuerOfPatientID"),
        "study_uid": _text(ds, "StudyInstanceUID"),
        "series_uid": _text(ds, "SeriesInstanceUID"),
        "sop_uid": _text(ds, "SOPInstanceUID"),
        "accession": _text(ds, "AccessionNumber"),
        "study_date": _text(ds, "StudyDate"),
    }
    spacing, calibrated = _pixel_spacing(ds)
    public = {
        "modality": _code(ds, "Modality"),
        "view": _code(ds, "ViewPosition"),
        "laterality": _code(ds, "ImageLaterality") or _code(ds, "Laterality"),
        "body_part": _code(ds, "BodyPartExamined"),
        "sex": _sex(ds),
        "age_years": _age_years(ds),
        "rows": rows,
        "columns": columns,
        "frames": frames,
        "spacing_row_mm": spacing[0],
        "spacing_col_mm": spacing[1],
        "spacing_slice_mm": _number(ds, "SpacingBetweenSlices"),
        "bits": int(ds.get("BitsStored") or ds.get("BitsAllocated") or 0),
        "photometric": _code(ds, "PhotometricInterpretation"),
        "transfer_syntax": str(ds.file_meta.get("TransferSyntaxUID", "")),
        "manufacturer": _label(ds, "Manufacturer"),
        "model": _label(ds, "ManufacturerModelName"),
        "notes": [] if calibrated else ["W-UNCALIBRATED"],
    }
    return {"public": public, "private": private, "stack": _stack(ds, frames)}


def _read(path: Path, *, pixels: bool) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except pydicom.errors.InvalidDicomError as error:
        raise FormatError("no DICOM marker after the preamble", "E-NOTDICOM") from error


def _check_image(ds: Dataset) -> None:
    sop = u.UID(str(ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID", "")))
    name = sop.name if sop else "an object without a class"
    if any(word in name for word in NON_IMAGE) or "DirectoryRecordSequence" in ds:
        raise FormatError(f"{name} is not an image", "S-NONIMAGE")
    if "Rows" not in ds or "Columns" not in ds:
        raise FormatError(f"{name} holds no picture (no Rows, no Columns)", "S-NONIMAGE")
    syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
    if syntax not in DECODERS:
        name = u.UID(syntax).name if syntax else "no transfer syntax named"
        raise FormatError(f"stored as {name}; no permitted decoder reads it", "E-CODEC")


def _matrix(ds: Dataset) -> tuple[int, int, int]:
    try:
        rows, columns = int(ds.Rows), int(ds.Columns)
        frames = int(ds.get("NumberOfFrames") or 1)
        depth = int(ds.get("BitsAllocated") or 0) * int(ds.get("SamplesPerPixel") or 1)
    except (TypeError, ValueError) as error:
        raise FormatError("Rows, Columns or NumberOfFrames is not a number", "E-HEADER") from error
    if min(rows, columns, frames, depth) < 1:
        raise FormatError(
            f"impossible size {rows} x {columns} x {frames} at {depth} bits", "E-HEADER"
        )
    if rows * columns * frames * depth / 8 > MAX_DECLARED_BYTES:
        raise FormatError(
            f"declares {rows} x {columns} x {frames} pixels, more than 256 MiB", "E-BOMB"
        )
    return rows, columns, frames


def _text(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    return "" if value is None else str(value).replace("\0", "").strip()


def _code(ds: Dataset, keyword: str) -> str | None:
    """Coded text that may leave: a code string with a letter in front that names nobody."""
    text = _text(ds, keyword)
    if not CODE_STRING.fullmatch(text) or not text[0].isalpha() or _names(text, ds):
        return None
    return text


def _label(ds: Dataset, keyword: str) -> str | None:
    """Free text that may leave: plain characters only, and nothing that names the patient."""
    text = _text(ds, keyword)
    plain = PLAIN_TEXT.sub("", text)[:64].strip()
    return None if not plain or _names(text, ds) or _names(plain, ds) else plain


def _words(text: str) -> list[str]:
    """Return the words of a text without accents, punctuation and case."""
    flat = unicodedata.normalize("NFKD", text).casefold()
    return re.findall(r"[^\W_]+", "".join(c for c in flat if not unicodedata.combining(c)))


def _names(text: str, ds: Dataset) -> bool:
    """Return whether a text holds a word of the patient's name or numbers, or one run together."""
    words = set(_words(text))
    joined = "".join(_words(text))
    for keyword in IDENTIFYING:
        told = [w for w in _words(_text(ds, keyword)) if len(w) > (2 if w.isdigit() else 1)]
        whole = "".join(told)
        if words & set(told) or (len(whole) > 3 and whole in joined):
            return True
        if any(len(word) > 3 and word in joined for word in told):
            return True
    return False


def _sex(ds: Dataset) -> str | None:
    text = _text(ds, "PatientSex").upper()
    return text if text in {"F", "M", "O"} else None


def _age_years(ds: Dataset) -> float | None:
    match = re.fullmatch(r"(\d{1,3})([YMWD])", _text(ds, "PatientAge").upper())
    if match is None:
        return None
    return int(match[1]) / {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}[match[2]]


def _number(ds: Dataset, keyword: str) -> float | None:
    try:
        value = float(ds.get(keyword))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _functional(ds: Dataset, sequence: str) -> Dataset | None:
    """Return the first functional-group item of an enhanced object, shared before per-frame."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in list(ds.get(groups) or [])[:1]:
            found = list(item.get(sequence) or [])
            if found:
                return found[0]  # type: ignore[no-any-return]
    return None


def _pixel_spacing(ds: Dataset) -> tuple[tuple[float | None, float | None], bool]:
    """Return (between rows, between columns) in mm, and whether it is calibrated."""
    measures = _functional(ds, "PixelMeasuresSequence")
    source = ds if measures is None else measures
    for keyword, calibrated in (("PixelSpacing", True), ("ImagerPixelSpacing", False)):
        try:
            row, column = (float(v) for v in source.get(keyword) or ())
        except (TypeError, ValueError):
            continue
        if math.isfinite(row) and math.isfinite(column) and min(row, column) > 0:
            return (row, column), calibrated
    return (None, None), True


def _vector(ds: Dataset, keyword: str, length: int) -> list[float] | None:
    try:
        values = [float(v) for v in ds.get(keyword) or ()]
    except (TypeError, ValueError):
        return None
    good = len(values) == length and all(math.isfinite(v) for v in values)
    return values if good else None


def _stack(ds: Dataset, frames: int) -> dict[str, Any] | None:
    if frames > 1 or _code(ds, "Modality") not in STACK_MODALITIES:
        return None
    position = _vector(ds, "ImagePositionPatient", 3)
    orientation = _vector(ds, "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        return None
    return {"position": position, "orientation": orientation}


def pixels(paths: list[Path]) -> Pixels:
    """Read one file, or the files of one stack in any order, as one picture.

    Returns:
        One ``[H, W]`` image, a stack in house order, or the frames of a multi-frame object.

    Raises:
        FormatError: no decoder, too few bytes, broken rescale, or a broken stack geometry.
    """
    if len(paths) == 1:
        ds = _read(paths[0], pixels=True)
        _check_image(ds)
        _matrix(ds)
        return _single(ds)
    return _volume([_read(p, pixels=True) for p in paths])


def _single(ds: Dataset) -> Pixels:
    array, units, padding = _values(ds)
    spacing, _ = _pixel_spacing(ds)
    inverted = _text(ds, "PhotometricInterpretation") == "MONOCHROME1"
    if array.ndim == 2:
        return Pixels(array, spacing, None, units, inverted, _window(ds), padding=padding)
    order = tuple(range(array.shape[0]))
    sizes = (None, *spacing)
    return Pixels(array, sizes, None, units, inverted, _window(ds), order, padding)


def _volume(datasets: list[Dataset]) -> Pixels:
    orientation = np.asarray(_vector(datasets[0], "ImageOrientationPatient", 6))
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([_vector(ds, "ImagePositionPatient", 3) for ds in datasets], dtype=float)
    order = np.argsort(positions @ normal, kind="stable")
    planes = [_values(datasets[i]) for i in order]
    spacing, _ = _pixel_spacing(datasets[0])
    if spacing[0] is None or spacing[1] is None:
        raise FormatError("a stack without pixel spacing has no geometry", "E-AFFINE")
    step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
    affine = slice_affine(positions[order[0]], orientation, (spacing[0], spacing[1]), step)
    stack = np.stack([plane[0] for plane in planes])
    array, affine, index = to_house_order(stack, affine)
    first = datasets[0]
    inverted = _text(first, "PhotometricInterpretation") == "MONOCHROME1"
    house = np.ascontiguousarray(array)
    units, padding = planes[0][1], float(np.mean([plane[2] for plane in planes]))
    sizes = spacing_of(affine)
    return Pixels(house, sizes, affine, units, inverted, _window(first), index, padding)


def _window(ds: Dataset) -> tuple[float, float] | None:
    def first(keyword: str) -> float | None:
        value = ds.get(keyword)
        try:
            number = float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
        except (TypeError, ValueError, IndexError):
            return None
        return number if math.isfinite(number) else None

    centre, width = first("WindowCenter"), first("WindowWidth")
    return (centre, width) if centre is not None and width is not None and width >= 1 else None


def _values(ds: Dataset) -> tuple[npt.NDArray[np.float32], str, float]:
    """Return grey values after the modality LUT (padding as NaN), units, and the padded share."""
    photometric = _text(ds, "PhotometricInterpretation")
    grey = photometric in {"MONOCHROME1", "MONOCHROME2"}
    stored = _decode(ds, raw=grey or photometric == "PALETTE COLOR")
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, ds)
    if not grey:
        return _luminance(stored), "stored", 0.0
    stored = _used_bits(stored, ds)
    values = _modality(stored, ds)
    padding = _padding(stored, ds)
    if padding is not None:
        values[padding] = np.nan
    units = "HU" if _code(ds, "Modality") == "CT" else "stored"
    return values, units, 0.0 if padding is None else float(padding.mean())


def _decode(ds: Dataset, *, raw: bool) -> npt.NDArray[Any]:
    syntax = u.UID(str(ds.file_meta.TransferSyntaxUID))
    plugin = DECODERS[syntax]
    # pydicom clears the bits above BitsStored as if HighBit were BitsStored - 1; ours looks at it.
    options: dict[str, Any] = {"raw": raw, "correct_unused_bits": not raw}
    if plugin is not None:
        options["decoding_plugin"] = plugin
    try:
        decoded: npt.NDArray[Any] = pixel_array(ds, **options)
        return decoded
    except StopIteration as error:
        raise FormatError("fewer frames are stored than the header says", "E-TRUNCATED") from error
    except AttributeError as error:
        raise FormatError(
            f"a header element needed for the pixels is absent: {error}", "E-HEADER"
        ) from error
    except ModuleNotFoundError as error:
        raise FormatError(f"{syntax.name}: its decoder is not installed", "E-CODEC") from error
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise FormatError(*_decoder_words(str(error), syntax.name, plugin)) from error


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
    above = allocated - 1 - int(ds.get("HighBit", bits - 1))
    below = allocated - bits - above
    if (above <= 0 and below <= 0) or above < 0 or below < 0:
        return stored
    native = str(ds.file_meta.TransferSyntaxUID) in {k for k, v in DECODERS.items() if v is None}
    shift = allocated - bits
    return (stored << above if native else stored << shift) >> shift


def _modality(stored: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[np.float32]:
    """Apply the modality LUT; an enhanced object may have one per frame (PS3.3 C.7.6.16.2.9)."""
    frames = list(ds.get("PerFrameFunctionalGroupsSequence") or [])
    own = [list(f.get("PixelValueTransformationSequence") or []) for f in frames]
    if stored.ndim == 3 and len(own) == len(stored) and all(own):
        pairs = zip(stored, own, strict=True)
        return np.stack([_rescaled(plane, item[0]) for plane, item in pairs])
    transform = _functional(ds, "PixelValueTransformationSequence")
    return _rescaled(stored, ds if transform is None else transform)


def _rescaled(stored: npt.NDArray[Any], source: Dataset) -> npt.NDArray[np.float32]:
    if "ModalityLUTSequence" not in source:
        slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
        if slope is not None and (not math.isfinite(float(slope)) or float(slope) == 0):
            raise FormatError(f"RescaleSlope is {slope}; every pixel would be equal", "E-RESCALE")
        if intercept is not None and not math.isfinite(float(intercept)):
            raise FormatError(f"RescaleIntercept is {intercept}", "E-RESCALE")
    return np.asarray(apply_modality_lut(stored, source), dtype=np.float32).copy()


def _padding(stored: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[np.bool_] | None:
    value = ds.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = ds.get("PixelPaddingRangeLimit")
    other = limit if isinstance(limit, int) else value
    mask = (stored >= min(value, other)) & (stored <= max(value, other))
    return None if mask.all() else mask


def _luminance(colour: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """ITU-R BT.601 luma of ``[..., 3]``."""
    if colour.ndim < 3 or colour.shape[-1] != 3:
        raise FormatError(f"colour pixels of shape {colour.shape} are not RGB", "E-PHOTOMETRIC")
    grey: npt.NDArray[np.float32] = (colour @ np.array([0.299, 0.587, 0.114])).astype(np.float32)
    return grey
