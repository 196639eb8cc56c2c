"""DICOM headers: one file to its manifest row. Runs inside the isolated worker only."""

import hashlib
import io
import math
import re
import zlib
from pathlib import Path
from typing import Any

import pydicom
from pydicom import uid as u
from pydicom.dataset import Dataset

from medssl.formats import enhanced
from medssl.formats.elements import has, text, value
from medssl.formats.geometry import FormatError
from medssl.formats.limits import MIB, declared_bytes

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
    "OBJ",
    "MTL",
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
    "Procedure Log",
    "Hanging Protocol",
    "Color Palette",
    "Parametric Map",
    "Implant",
    "Lens",
    "Refraction",
    "Keratometry",
    "Visual Acuity",
    "Measurements Storage",
    "Instance Creation",
)
STACK_MODALITIES = {"CT", "MR", "PT", "NM"}
PREFIX = bytes(128) + b"DICM"
META_BYTES = 2048
GROUP_LENGTH = b"\x02\x00\x00\x00"
DEFLATED = b"1.2.840.10008.1.2.1.99"
INFLATE_STEP = 1 << 20
EXPLICIT_VR = re.compile(rb"[A-Z]{2}")


def looks_like_dicom(start: bytes) -> bool:
    """Return whether bytes begin a data set, with or without the preamble of PS3.10 7.1.

    Args:
        start: the first 132 bytes of a file.
    """
    if start[128:132] == b"DICM":
        return True
    group = int.from_bytes(start[:2], "little"), int.from_bytes(start[:2], "big")
    if len(start) < 16 or not {2, 8} & set(group) or 0 in group[:1]:
        return False
    little = group[0] in {2, 8}
    element = int.from_bytes(start[2:4], "little" if little else "big")
    if element > 0x0100:
        return False
    length = int.from_bytes(start[4:8], "little")
    return EXPLICIT_VR.fullmatch(start[4:6]) is not None or (little and length <= 256)


def read(path: Path, *, pixels: bool) -> Dataset:
    """Read one object; a missing preamble is supplied, a missing transfer syntax deduced.

    Raises:
        FormatError: no DICOM at all.
    """
    with path.open("rb") as stream:
        start = stream.read(META_BYTES)
        bare = start[128:132] != b"DICM"
        if DEFLATED in start:
            _check_inflated(path)
        stream.seek(0)
        source: Any = io.BytesIO(PREFIX + stream.read()) if bare else stream
        ds = _parse(source, pixels=pixels)
    if bare and "TransferSyntaxUID" not in ds.file_meta:
        implicit, little = ds.original_encoding
        native = u.ImplicitVRLittleEndian if implicit else u.ExplicitVRLittleEndian
        ds.file_meta.TransferSyntaxUID = native if little else u.ExplicitVRBigEndian
    return ds


def _parse(source: Any, *, pixels: bool) -> Dataset:
    try:
        return pydicom.dcmread(source, stop_before_pixels=not pixels)
    except pydicom.errors.InvalidDicomError as error:
        raise FormatError("no DICOM marker after the preamble", "E-NOTDICOM") from error
    except zlib.error as error:
        raise FormatError("the deflated data set is broken or cut off", "E-TRUNCATED") from error


def _check_inflated(path: Path) -> None:
    """Unpack a deflated data set without keeping it: pydicom would hold all of it in memory.

    Raises:
        FormatError: it unpacks to more than one file may hold.
    """
    data = path.read_bytes()
    if data[132:136] != GROUP_LENGTH:
        return  # without the length of its meta group, only the limits of the process hold
    at = 144 + int.from_bytes(data[140:144], "little")
    stream, total, chunk = zlib.decompressobj(-zlib.MAX_WBITS), 0, data[at:]
    try:
        while chunk and not stream.eof:
            total += len(stream.decompress(chunk, INFLATE_STEP))
            if total > declared_bytes():
                words = f"unpacks to more than {declared_bytes() // MIB} MiB (MEDSSL_FILE_MIB)"
                raise FormatError(words, "E-BOMB")
            chunk = stream.unconsumed_tail
    except zlib.error as error:
        raise FormatError("the deflated data set is broken or cut off", "E-TRUNCATED") from error


def header(path: Path) -> dict[str, Any]:
    """Read the header of one file without its pixels.

    Returns:
        What may leave after ``cohort/terms.py`` under ``public``, identifiers under ``private``,
        stack geometry under ``stack`` (None where the object has none), and under ``volume``
        whether the object is a volume by itself.

    Raises:
        FormatError: not an image (code ``S-NONIMAGE``) or not usable.
    """
    ds = read(path, pixels=False)
    check_image(ds)
    rows, columns, frames = matrix(ds)
    spacing, calibrated = pixel_spacing(ds)
    geometry = enhanced.frame_geometry(ds) if frames > 1 else None
    notes = [] if calibrated else ["W-UNCALIBRATED"]
    notes += _type_notes(ds, frames, volume=geometry is not None)
    step = number(ds, "SpacingBetweenSlices")
    if geometry is not None:
        notes, step = [*notes, *geometry.notes], geometry.step
    public = {
        "modality": text(ds, "Modality"),
        "view": text(ds, "ViewPosition"),
        "laterality": text(ds, "ImageLaterality") or text(ds, "Laterality"),
        "body_part": text(ds, "BodyPartExamined"),
        "sex": text(ds, "PatientSex"),
        "age_years": _age_years(ds),
        "intent": text(ds, "PresentationIntentType"),
        "rows": rows,
        "columns": columns,
        "frames": frames,
        "spacing_row_mm": spacing[0],
        "spacing_col_mm": spacing[1],
        "spacing_slice_mm": step,
        "bits": int(value(ds, "BitsStored") or value(ds, "BitsAllocated") or 0),
        "photometric": text(ds, "PhotometricInterpretation"),
        "transfer_syntax": str(ds.file_meta.get("TransferSyntaxUID", "")),
        "manufacturer": text(ds, "Manufacturer"),
        "model": text(ds, "ManufacturerModelName"),
        "notes": notes,
    }
    return {
        "public": public,
        "private": _private(ds),
        "stack": _stack(ds, frames, notes),
        "volume": geometry is not None,
        "identity": identity(text(ds, "PatientID"), text(ds, "SOPInstanceUID")),
        "burned_in": text(ds, "BurnedInAnnotation").upper() == "YES",
    }


def identity(patient_id: str, sop_uid: str) -> str:
    """Return a digest of whose object a file held at scan; decode compares it."""
    return hashlib.sha256(
        f"{patient_id}\x1f{sop_uid}".encode(errors="surrogateescape")
    ).hexdigest()[:16]


def check_identity(path: Path, expected: str) -> None:
    """Raise FormatError if a file holds another patient or object than it did at scan."""
    ds = read(path, pixels=False)
    if identity(text(ds, "PatientID"), text(ds, "SOPInstanceUID")) != expected:
        words = "holds another patient or object than when it was scanned; scan again with --update"
        raise FormatError(words, "E-CHANGED")


def _private(ds: Dataset) -> dict[str, str]:
    return {
        "patient_id": text(ds, "PatientID"),
        "issuer": text(ds, "IssuerOfPatientID"),
        "name": text(ds, "PatientName"),
        "birth_date": text(ds, "PatientBirthDate"),
        "study_uid": text(ds, "StudyInstanceUID"),
        "series_uid": text(ds, "SeriesInstanceUID"),
        "sop_uid": text(ds, "SOPInstanceUID"),
        "accession": text(ds, "AccessionNumber"),
        "study_date": text(ds, "StudyDate"),
    }


def _type_notes(ds: Dataset, frames: int, *, volume: bool) -> list[str]:
    """Return what kind of picture it is, where that matters for its use."""
    kinds = {str(v).strip().upper() for v in _several(ds, "ImageType")}
    if "MOSAIC" in kinds:
        words = (
            "a mosaic tiles the slices of a volume into one picture; the standard does not say how. "
            "Export it as enhanced MR or convert it to NIfTI"
        )
        raise FormatError(words, "E-MOSAIC")
    notes = ["W-LOCALIZER"] if "LOCALIZER" in kinds else []
    if text(ds, "PresentationIntentType").upper() == "FOR PROCESSING":
        notes.append("W-PROCESSING")
    if text(ds, "Modality") == "CT" and not enhanced.is_hounsfield(ds):
        notes.append("W-NOHU")
    sop = u.UID(str(value(ds, "SOPClassUID") or "")).name
    if "Secondary Capture" in sop or text(ds, "Modality").upper() in {"SC", "OT"}:
        notes.append("W-SECONDARY")
    if frames > 1 and not volume:
        notes.append("W-FRAMES")
    return notes


def _several(ds: Dataset, keyword: str) -> list[Any]:
    found = value(ds, keyword)
    return list(found) if isinstance(found, list | pydicom.multival.MultiValue) else [found]


def check_image(ds: Dataset) -> None:
    """Raise FormatError unless the object is a picture that some permitted decoder reads."""
    if len(ds) == 0:
        raise FormatError("the file ends before its data set begins", "E-TRUNCATED")
    sop = u.UID(str(value(ds, "SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID", "")))
    name = sop.name if sop else "an object without a class"
    if has(ds, "DirectoryRecordSequence"):
        raise FormatError("a DICOMDIR lists other files and is not an image", "S-NONIMAGE")
    if any(word in name for word in NON_IMAGE):
        raise FormatError(f"{name} is not an image", "S-NONIMAGE")
    if not has(ds, "Rows") or not has(ds, "Columns"):
        unknown = not sop or (name == str(sop) and not sop.is_private)
        if unknown or "Image" in name:
            words = "an image whose header lacks Rows or Columns; the copy was probably cut off"
            raise FormatError(words, "E-HEADER")
        if sop.is_private:
            name = "an object of a private class"
        raise FormatError(f"{name} holds no picture (no Rows, no Columns)", "S-NONIMAGE")
    syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
    bits = value(ds, "BitsStored")
    if syntax == u.JPEGExtended12Bit and isinstance(bits, int) and bits > 8:
        words = "stored as 12-bit JPEG Extended; no permitted decoder reads more than 8 bits of it"
        raise FormatError(words, "E-CODEC")
    if syntax not in DECODERS:
        name = u.UID(syntax).name if syntax else "no transfer syntax named"
        raise FormatError(f"stored as {_plain(name)}; no permitted decoder reads it", "E-CODEC")


def _plain(name: str) -> str:
    """Return a registered name; one that the file invented might say anything."""
    return name if not re.fullmatch(r"[0-9.]*", name) and len(name) < 100 else "an unknown syntax"


def matrix(ds: Dataset) -> tuple[int, int, int]:
    """Return rows, columns and frames.

    Raises:
        FormatError: no numbers, impossible ones, or more pixels than one file may hold.
    """
    try:
        rows, columns = int(value(ds, "Rows")), int(value(ds, "Columns"))
        frames = int(value(ds, "NumberOfFrames") or 1)
        depth = int(value(ds, "BitsAllocated") or 0) * int(value(ds, "SamplesPerPixel") or 1)
    except (TypeError, ValueError) as error:
        raise FormatError("Rows, Columns or NumberOfFrames is not a number", "E-HEADER") from error
    if min(rows, columns, frames, depth) < 1:
        raise FormatError(
            f"impossible size {rows} x {columns} x {frames} at {depth} bits", "E-HEADER"
        )
    if rows * columns * frames * depth / 8 > declared_bytes():
        words = (
            f"declares {rows} x {columns} x {frames} pixels, more than {declared_bytes() // MIB} MiB "
            "(MEDSSL_FILE_MIB)"
        )
        raise FormatError(words, "E-BOMB")
    return rows, columns, frames


def _age_years(ds: Dataset) -> float | None:
    match = re.fullmatch(r"(\d{1,3})([YMWD])", text(ds, "PatientAge").upper())
    if match is None:
        return None
    return int(match[1]) / {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}[match[2]]


def number(ds: Dataset, keyword: str) -> float | None:
    """Return a positive finite number; None where there is none."""
    try:
        found = float(value(ds, keyword))
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) and found > 0 else None


def pixel_spacing(ds: Dataset) -> tuple[tuple[float | None, float | None], bool]:
    """Return (between rows, between columns) in mm, and whether it is calibrated.

    ImagerPixelSpacing alone is measured at the detector, not in the patient (PS3.3 10.7.1.3).
    """
    measures = enhanced.functional(ds, "PixelMeasuresSequence")
    source = ds if measures is None else measures
    for keyword, calibrated in (("PixelSpacing", True), ("ImagerPixelSpacing", False)):
        pair = enhanced.vector(source, keyword, 2)
        if pair is not None and min(pair) > 0:
            return (pair[0], pair[1]), calibrated
    return (None, None), True


def _stack(ds: Dataset, frames: int, notes: list[str]) -> dict[str, Any] | None:
    """Return what places a single slice in a volume; localizers belong to none."""
    if frames > 1 or text(ds, "Modality") not in STACK_MODALITIES or "W-LOCALIZER" in notes:
        return None
    position, orientation = enhanced.placed(ds)
    told = value(ds, "ImagePositionPatient"), value(ds, "ImageOrientationPatient")
    if (told[0] and position is None) or (told[1] and not enhanced.is_plane(orientation)):
        words = (
            "its position or orientation is no plane in space, so left and right cannot be known"
        )
        raise FormatError(words, "E-AFFINE")
    if position is None or orientation is None:
        return None
    parts = (
        "EchoNumbers",
        "EchoTime",
        "TemporalPositionIdentifier",
        "AcquisitionNumber",
    )
    part = [text(ds, k)[:16] for k in parts]
    frame = text(ds, "FrameOfReferenceUID")
    return {"position": position, "orientation": orientation, "part": part, "frame": frame}
