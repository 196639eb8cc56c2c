"""Pictures and DICOM files as plain bytes, so that every length, tag and table can be made to lie.

Written without pydicom's writer: what medssl reads with pydicom comes from an independent path.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword

Expected = Literal["good", "aside", "skipped", "refused", "any"]
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
DX, CR, CT, MR = (f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("1.1", "1", "2", "4"))
SECONDARY, MULTI_GREY = (f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("7", "7.3"))
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ROWS, COLUMNS, BITS = 48, 36, 12
LONG_FORMS = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
SEVERAL = {"US or SS": "US", "OB or OW": "OW", "US or OW": "US"}
ENDLESS = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


@dataclass(frozen=True)
class Specimen:
    """One file to plant.

    Attributes:
        fault: what is wrong with it, in one plain phrase; good twins say what they are.
        expected: the verdict that the house rules ask for.
        data: its bytes, or a function that makes the entry at a path.
        name: its name inside a folder of its own.
        group: specimens of one group lie in one folder, in the order given.
        shows: number of the picture that must be stored, where ``picture`` made it.
    """

    fault: str
    expected: Expected
    data: bytes | Callable[[Path], None]
    name: str = "image.dcm"
    group: str = ""
    shows: int | None = None


@dataclass(frozen=True)
class Raw:
    """An element's VR and bytes as they stand in the file, with a length that may lie."""

    vr: str
    data: bytes
    length: int | None = None


def picture(number: int, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """A 12-bit picture, uint16 ``[rows, columns]``: slope, disc, and a bright corner mark top left."""
    stream = np.random.default_rng(number)
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    grey = 700 + 900 * y + 400 * x
    centre = stream.uniform(0.35, 0.75, 2)
    grey += 1100 * (np.hypot(y - centre[0], x - centre[1]) < stream.uniform(0.15, 0.25))
    thick = max(2, rows // 10), max(2, columns // 8)
    grey[: thick[0], : columns // 2] = grey[: rows // 2, : thick[1]] = 3500
    return np.clip(grey + stream.normal(0, 6, grey.shape), 0, 4095).astype(np.uint16)


def bytes_of(value: Any, vr: str, order: str = "<") -> bytes:
    """Encode one element value."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray):
        return value.astype(value.dtype.newbyteorder(order)).tobytes()
    if vr in NUMBERS:
        values = value if isinstance(value, (list, tuple)) else [value]
        return struct.pack(f"{order}{len(values)}{NUMBERS[vr]}", *values)
    if vr == "AT":
        return struct.pack(f"{order}HH", value >> 16, value & 0xFFFF)
    text = "\\".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text.encode("utf-8", "surrogateescape")


def element(
    tag: int, vr: str, value: bytes, syntax: str = EXPLICIT, length: int | None = None
) -> bytes:
    """One element, padded to an even length unless a length is given."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    if length is None:
        value += (b"\0" if vr in {"UI", "OB", "OW", "UN", "SQ"} else b" ") * (len(value) % 2)
        length = len(value)
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT or tag >> 16 == 0xFFFE:
        return head + struct.pack(f"{order}I", length) + value
    if vr in LONG_FORMS:
        return head + vr.encode() + b"\0\0" + struct.pack(f"{order}I", length) + value
    return head + vr.encode() + struct.pack(f"{order}H", length & 0xFFFF) + value


def items(values: list[dict[Any, Any]], syntax: str) -> bytes:
    """The items of a sequence, with explicit lengths."""
    return b"".join(element(ITEM, "", dataset(v, syntax), syntax) for v in values)


def dataset(fields: dict[Any, Any], syntax: str = EXPLICIT) -> bytes:
    """The elements of ``fields`` (keyword or tag number to value) in ascending order."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    tags = {k if isinstance(k, int) else tag_for_keyword(k): v for k, v in fields.items()}
    out = []
    for tag, value in sorted(tags.items()):
        if isinstance(value, Raw):
            out.append(element(tag, value.vr, value.data, syntax, value.length))
            continue
        vr = dictionary_VR(tag)
        vr = SEVERAL.get(vr, vr)
        data = items(value, syntax) if vr == "SQ" else bytes_of(value, vr, order)
        out.append(element(tag, vr, data, syntax))
    return b"".join(out)


def part10(
    body: bytes,
    syntax: str | None = EXPLICIT,
    sop_class: str = DX,
    sop_uid: str = "2.25.1",
    *,
    preamble: bytes = bytes(128),
    group_length: int | None = None,
) -> bytes:
    """Preamble, file meta information and a data set."""
    meta = element(0x00020001, "OB", b"\0\1")
    if sop_class:
        meta += element(0x00020002, "UI", sop_class.encode())
    meta += element(0x00020003, "UI", sop_uid.encode())
    if syntax is not None:
        meta += element(0x00020010, "UI", syntax.encode())
    meta += element(0x00020012, "UI", b"2.25.77")
    size = len(meta) if group_length is None else group_length
    return preamble + b"DICM" + element(0x00020000, "UL", struct.pack("<I", size)) + meta + body


def fields_of(number: int, **changes: Any) -> dict[str, Any]:
    """The elements of a plain radiograph of patient ``number``; a change to None leaves one out."""
    fields: dict[str, Any] = {
        "SOPClassUID": DX,
        "SOPInstanceUID": f"2.25.{number}1",
        "StudyDate": "20200102",
        "AccessionNumber": f"A{number}",
        "Modality": "DX",
        "Manufacturer": "Works",
        "PatientName": f"Person^{number}",
        "PatientID": f"M{number}",
        "PatientBirthDate": "19600101",
        "PatientSex": "F",
        "PatientAge": "060Y",
        "StudyInstanceUID": f"2.25.{number}2",
        "SeriesInstanceUID": f"2.25.{number}3",
        "InstanceNumber": "1",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": ROWS,
        "Columns": COLUMNS,
        "PixelSpacing": [0.4, 0.5],
        "BitsAllocated": 16,
        "BitsStored": BITS,
        "HighBit": BITS - 1,
        "PixelRepresentation": 0,
        "PixelData": picture(number),
    }
    fields |= changes
    return {k: v for k, v in fields.items() if v is not None}


def dicom(number: int, *, syntax: str = EXPLICIT, tail: bytes = b"", **changes: Any) -> bytes:
    """A radiograph as a file; ``changes`` as in ``fields_of``."""
    fields = fields_of(number, **changes)
    body = dataset(fields, syntax) + tail
    if syntax == DEFLATED:
        body = deflate(dataset(fields, EXPLICIT) + tail)
    named = {"sop_class": str(fields.get("SOPClassUID", "")), "sop_uid": f"2.25.{number}1"}
    return part10(body, syntax, **named)


def deflate(body: bytes, zeros_mib: int = 0, tail: bytes = b"") -> bytes:
    """A raw deflate stream of ``body``, ``zeros_mib`` MiB of zeros and ``tail``, made in no time.

    After a full flush a block needs nothing of what came before, so one block of zeros serves all.
    """
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    head = squeeze.compress(body) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return head + block * zeros_mib + squeeze.compress(tail) + squeeze.flush()


def fragments(parts: list[bytes], table: bytes = b"", *, close: bool = True) -> Raw:
    """Encapsulated pixel data: an offset table, one item per part, and the delimiter."""
    out = element(ITEM, "", table)
    for part in parts:
        out += element(ITEM, "", part + b"\0" * (len(part) % 2))
    out += element(SEQUENCE_END, "", b"") if close else b""
    return Raw("OB", out, ENDLESS)


def offsets(parts: list[bytes]) -> bytes:
    """The basic offset table of one fragment per frame."""
    sizes = [8 + len(p) + len(p) % 2 for p in parts]
    return struct.pack(f"<{len(parts)}I", *(sum(sizes[:k]) for k in range(len(parts))))


def endless(tag: int, body: bytes, depth: int) -> bytes:
    """A sequence of undefined length nested ``depth`` times around ``body``."""
    begin = element(tag, "SQ", b"", length=ENDLESS) + element(ITEM, "", b"", length=ENDLESS)
    end = element(ITEM_END, "", b"") + element(SEQUENCE_END, "", b"")
    return begin * depth + body + end * depth
