"""DICOM files whose data set is cut, lies, lacks what it needs, or is no image; and their twins."""

import struct
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
from PIL import Image

from robust import malformed_bytes as b
from robust.malformed_bytes import Raw, Specimen, dicom, fields_of, part10, picture

BOMB_MIB = 400
NUMBER = count(1000)


def build(stream: np.random.Generator) -> Iterator[Specimen]:
    """Every DICOM specimen whose pixel data is not compressed."""
    for make in (twins, coloured, cut, sizes, depths, lengths, absent, identity, copies):
        yield from make()
    for make in (meaning, tables, stacks, foreign_classes, bombs):
        yield from make()
    yield from flipped(stream)


def good(fault: str, name: str = "image.dcm", **changes: Any) -> Specimen:
    """A twin that must be stored and show its picture."""
    number = next(NUMBER)
    return Specimen(fault, "good", dicom(number, **_own(changes, number)), name, shows=number)


def bad(fault: str, expected: b.Expected = "aside", **changes: Any) -> Specimen:
    """A file with one fault."""
    number = next(NUMBER)
    return Specimen(fault, expected, dicom(number, **_own(changes, number)))


def _own(changes: dict[str, Any], number: int) -> dict[str, Any]:
    """Let a change be a function of the picture it belongs to."""
    shown = picture(number)
    return {k: v(shown) if callable(v) else v for k, v in changes.items()}


def twins() -> Iterator[Specimen]:
    """Valid files of many kinds."""
    names = ("plain.dcm", "implicit", "BIG.IMA", "deflated.DCM")
    for syntax, name in zip((b.EXPLICIT, b.IMPLICIT, b.BIG_ENDIAN, b.DEFLATED), names, strict=True):
        yield good(f"good: uncompressed, syntax {syntax}", name, syntax=syntax)
    yield good("good: bright is low", PhotometricInterpretation="MONOCHROME1",
               PixelData=lambda p: 4095 - p)  # fmt: skip
    yield good("good: 8 bits", PixelData=lambda p: (p >> 4).astype(np.uint8), BitsAllocated=8,
               BitsStored=8, HighBit=7)  # fmt: skip
    yield good("good: signed", PixelData=lambda p: p.astype(np.int16) - 2048, PixelRepresentation=1)
    yield good("good: slope and intercept", RescaleSlope="2.5", RescaleIntercept="-100")
    yield good("good: 12 bits on top of 16", PixelData=lambda p: p << 4, HighBit=15)
    yield good("good: noise above the stored bits", PixelData=lambda p: p | 0xA000)
    yield good("good: a declared padding value that is rare", PixelPaddingValue=9)
    yield good("good: VOI window", WindowCenter="2000", WindowWidth="3000")
    yield good("good: secondary capture", SOPClassUID=b.SECONDARY, Modality="OT")
    yield good(
        "good: comments and several versions", PatientComments="x", SoftwareVersions=["1", "2"]
    )
    yield good("good: UTF-8 name", SpecificCharacterSet="ISO_IR 192", PatientName="Żółć^Łódź")
    yield good("good: sequence before the pixels", ReferencedImageSequence=[
        {"ReferencedSOPClassUID": b.DX, "ReferencedSOPInstanceUID": "2.25.5"}])  # fmt: skip
    yield good("good: trailing padding element", tail=b.element(0xFFFCFFFC, "OB", bytes(64)))
    yield good("good: modality table", ModalityLUTSequence=[_lut()])
    for fault, start in (("executable", b"MZ\x90\0"), ("TIFF", b"II*\0\x80\0\0\0")):
        number = next(NUMBER)
        raw = part10(b.dataset(fields_of(number)), preamble=start.ljust(128, b"\0"))
        yield Specimen(f"good: {fault} preamble", "good", raw, shows=number)
    number = next(NUMBER)
    frames = np.stack([picture(number), picture(number + 5000), picture(number + 6000)])
    yield Specimen("good: three frames", "good", dicom(
        number, SOPClassUID=b.MULTI_GREY, NumberOfFrames="3", PixelData=frames, Modality="US"))  # fmt: skip
    yield Specimen("good: enhanced object", "good", _enhanced(next(NUMBER)))


def _lut(**changes: Any) -> dict[str, Any]:
    table = {"LUTDescriptor": [4096, 0, 16], "ModalityLUTType": "US"}
    table["LUTData"] = (np.arange(4096) * 8).astype(np.uint16)
    return {k: v for k, v in (table | changes).items() if v is not None}


def _enhanced(number: int) -> bytes:
    frames = np.stack([picture(number + 5000 * k) for k in range(4)])
    measures = [{"PixelSpacing": [1.5, 1.1], "SliceThickness": 4}]
    turn = [{"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}]
    each = [{"PlanePositionSequence": [{"ImagePositionPatient": [0, 0, 4 * k]}]} for k in range(4)]
    shared = [{"PixelMeasuresSequence": measures, "PlaneOrientationSequence": turn}]
    return dicom(number, SOPClassUID=b.ENHANCED_MR, Modality="MR", NumberOfFrames="4",
                 PixelData=frames, PixelSpacing=None, SharedFunctionalGroupsSequence=shared,
                 PerFrameFunctionalGroupsSequence=each)  # fmt: skip


def tinted(grey: np.ndarray) -> np.ndarray:
    """An RGB picture, uint8 ``[rows, columns, 3]``, whose luma rises with a 12-bit grey picture."""
    level = (grey >> 4).astype(np.float32)
    return np.stack([0.8 * level, level, 0.5 * level + 20], -1).round().astype(np.uint8)


COLOUR = {"SOPClassUID": b.SECONDARY, "Modality": "OT", "SamplesPerPixel": 3, "BitsAllocated": 8,
          "BitsStored": 8, "HighBit": 7, "PlanarConfiguration": 0,
          "PhotometricInterpretation": "RGB", "PixelData": tinted}  # fmt: skip


def coloured() -> Iterator[Specimen]:
    """Valid colour in its native encodings, and colour that contradicts itself."""

    def ybr(grey: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(tinted(grey)).convert("YCbCr"))

    def halved(grey: np.ndarray) -> np.ndarray:
        full = ybr(grey).reshape(-1, 2, 3)
        return np.concatenate([full[..., 0], full[:, 0, 1:]], -1)

    ramp = (np.arange(256) * 257).astype(np.uint16)
    names = [f"{c}PaletteColorLookupTable" for c in ("Red", "Green", "Blue")]
    palette = {"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1,
               "PlanarConfiguration": None, "PixelData": lambda p: (p >> 4).astype(np.uint8),
               **{f"{n}Descriptor": [256, 0, 16] for n in names}, **{f"{n}Data": ramp for n in names}}  # fmt: skip
    planes = {"PlanarConfiguration": 1, "PixelData": lambda p: np.moveaxis(tinted(p), -1, 0).copy()}
    yield good("good: RGB by pixel", **COLOUR)
    yield good("good: RGB by plane", **(COLOUR | planes))
    yield good(
        "good: YBR_FULL", **(COLOUR | {"PhotometricInterpretation": "YBR_FULL", "PixelData": ybr})
    )
    yield good(
        "good: YBR_FULL_422",
        **(COLOUR | {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": halved}),
    )
    yield good("good: palette", **(COLOUR | palette))
    yield bad("palette without its red table", **(COLOUR | palette | {f"{names[0]}Data": None}))
    yield bad("palette table cut short", **(COLOUR | palette | {f"{names[1]}Data": ramp[:40]}))
    yield bad(
        "palette descriptors of one value",
        **(COLOUR | palette | {f"{n}Descriptor": [256] for n in names}),
    )
    yield bad("planar configuration 5", **(COLOUR | {"PlanarConfiguration": 5}))
    yield bad(
        "colour called MONOCHROME2", **(COLOUR | {"PhotometricInterpretation": "MONOCHROME2"})
    )
    yield bad("grey called RGB", PhotometricInterpretation="RGB")
    yield bad("three samples declared, one stored", SamplesPerPixel=3, PlanarConfiguration=0,
              PhotometricInterpretation="RGB")  # fmt: skip
    yield bad("two samples per pixel", SamplesPerPixel=2)
    yield bad("no sample per pixel", SamplesPerPixel=0)
    for name in ("MONOCHROME3", "", "MONOCHROME2\\RGB", "CMYK"):
        yield bad(f"photometric {name!r}", PhotometricInterpretation=name)


def cut() -> Iterator[Specimen]:
    """Files that end too early: every place must be noticed."""
    number = next(NUMBER)
    raw = dicom(number)
    rows, pixels = raw.index(b"\x28\0\x10\0US"), raw.index(b"\xe0\x7f\x10\0OW")
    places = {
        "in the preamble": 60,
        "after the marker": 132,
        "in the meta header": 170,
        "before the study": 420,
        "inside the patient's name": raw.index(b"Person^") + 3,
        "before Rows": rows,
        "before the pixel data": pixels,
        "in the pixel data's own header": pixels + 9,
        "at the first pixel": pixels + 12,
        "in the middle of the pixels": (pixels + len(raw)) // 2,
        "100 bytes before the end": len(raw) - 100,
        "two bytes before the end": len(raw) - 2,
        "one byte before the end": len(raw) - 1,
    }
    for where, end in places.items():
        yield Specimen(f"cut {where}", "refused" if end < 132 else "aside", raw[:end])
    squeezed = dicom(next(NUMBER), syntax=b.DEFLATED)
    for share in (0.3, 0.6, 0.95):
        end = int(len(squeezed) * share)
        yield Specimen(f"deflated and cut at {share:.0%}", "aside", squeezed[:end])


def sizes() -> Iterator[Specimen]:
    """Rows, Columns and frames that cannot be, or are not those of the pixels."""
    for rows in (0, 1, 24, 49, 65535, [48, 48]):
        yield bad(f"Rows {rows} of 48", Rows=rows)
    for columns in (0, 30, 37, 65535):
        yield bad(f"Columns {columns} of 36", Columns=columns)
    yield bad("Rows and Columns of 60,000", Rows=60000, Columns=60000)
    yield bad("Rows is negative", Rows=Raw("SS", struct.pack("<h", -48)))
    yield bad("Rows is a word", Rows=Raw("LO", b"forty "))
    yield bad("Rows is a fraction", Rows=Raw("DS", b"40.5"))
    yield bad("Rows has no value", Rows=b"")
    for frames in ("-1", "2.5", "abc", "3", "999999999", "99999999999999999999", "1\\2"):
        yield bad(f"NumberOfFrames {frames!r}, one stored", NumberOfFrames=frames)
    yield bad("NumberOfFrames 0, one stored", "any", NumberOfFrames="0")
    yield bad("extreme aspect", "any", Rows=1, Columns=1728)
    yield bad("one pixel", Rows=1, Columns=1, PixelData=np.array([[7]], np.uint16))


def depths() -> Iterator[Specimen]:
    """Bits that cannot be."""
    for bits in (0, 7, 12, 24, 128, 4096):
        yield bad(f"BitsAllocated {bits}", BitsAllocated=bits)
    yield bad("BitsAllocated 32, 16 stored", BitsAllocated=32)
    yield bad("BitsAllocated 8, 16 stored", BitsAllocated=8, BitsStored=8, HighBit=7)
    for bits in (0, 17, 65535):
        yield bad(f"BitsStored {bits} of 16", BitsStored=bits)
    for high in (3, 16, 200):
        yield bad(f"HighBit {high} with 12 bits of 16", HighBit=high)
    yield bad("PixelRepresentation 7", PixelRepresentation=7)
    yield bad("float beside integer pixels", FloatPixelData=np.ones((48, 36), np.float32))


def lengths() -> Iterator[Specimen]:
    """Elements, items, groups and sequences whose lengths lie or never end."""
    long = (1 << 31) - 2
    yield bad("pixel data claims 2 GB", PixelData=lambda p: Raw("OW", p.tobytes(), long))
    yield bad("pixel data claims 100 bytes", PixelData=lambda p: Raw("OW", p.tobytes(), 100))
    yield bad("an element claims 65,534 bytes", SoftwareVersions=Raw("LO", b"1.0 ", 65534))
    yield bad("an element claims minus 2 bytes", PixelPaddingValue=Raw("OB", b"\0\0", 0xFFFFFFFE))
    yield bad("odd length", "any", SoftwareVersions=Raw("LO", b"1.0", 3))
    yield bad("unknown VR", "any", PatientComments=Raw("ZZ", b"ab"))
    yield bad("VR of zeros", "any", PatientComments=Raw("\0\0", b"ab"))
    item = b.items([{"ReferencedSOPInstanceUID": "2.25.5"}], b.EXPLICIT)
    yield bad(
        "sequence swallows the rest", ReferencedImageSequence=Raw("SQ", item, len(item) + 2000)
    )
    yield bad("sequence longer than the file", ReferencedImageSequence=Raw("SQ", item, long))
    lying = b.element(b.ITEM, "", item, length=50000)
    yield bad("item longer than its sequence", "any", ReferencedImageSequence=Raw("SQ", lying))
    begun = b.element(b.ITEM, "", b"", length=b.ENDLESS)
    yield bad("sequence without an end", ReferencedImageSequence=Raw("SQ", begun, b.ENDLESS))
    number = next(NUMBER)
    body = b.dataset(fields_of(number))
    yield Specimen("group length of 9 in the meta header", "any", part10(body, group_length=9))
    yield Specimen("group length of 4 GB", "any", part10(body, group_length=0xFFFFFFF0))
    fields = fields_of(next(NUMBER))
    early = {k: fields.pop(k) for k in ("PixelData", "HighBit")}
    yield Specimen("tags out of order", "any", part10(b.dataset(early) + b.dataset(fields)))
    number = next(NUMBER)
    twice = b.dataset({"Rows": 47})
    split = b.dataset(fields_of(number)).partition(b"\x28\0\x11\0")
    yield Specimen("Rows twice", "any", part10(split[0] + twice + split[1] + split[2]))
    yield bad("trailing noise", "any", tail=bytes(range(7, 107)))
    deep = b.endless(0x00081140, b"", 3000)
    head, tag, rest = b.dataset(fields_of(next(NUMBER))).partition(b"\x10\0\x10\0PN")
    yield Specimen("3,000 nested sequences", "aside", part10(head + deep + tag + rest))
    nested = b""
    for _ in range(3000):
        nested = b.element(0x00081140, "SQ", b.element(b.ITEM, "", nested))
    yield Specimen("3,000 nested lengths", "any", part10(head + nested + tag + rest))
    yield Specimen("explicit elements called implicit", "any", part10(body, b.IMPLICIT))
    yield Specimen("little endian called big endian", "aside", part10(body, b.BIG_ENDIAN))
    yield Specimen("plain data called deflated", "aside", part10(body, b.DEFLATED))


def absent() -> Iterator[Specimen]:
    """What a picture cannot do without, one element at a time."""
    needed = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation",
              "SamplesPerPixel", "PhotometricInterpretation", "PixelData")  # fmt: skip
    for keyword in needed:
        yield bad(f"no {keyword}", **{keyword: None})
    for keyword in ("HighBit", "Modality", "SOPInstanceUID", "StudyInstanceUID",
                    "SeriesInstanceUID", "SOPClassUID"):  # fmt: skip
        yield bad(f"no {keyword}", "any", **{keyword: None})
    yield bad("pixel data of no bytes", PixelData=b"")
    blank = (None, "", "   ", b"\0\0\0\0", "^^^", " \u00a0 ", "-")
    for value in blank:
        yield bad(f"PatientID {value!r}", PatientID=value, SpecificCharacterSet="ISO_IR 192")
    body = b.dataset(fields_of(next(NUMBER)))
    yield Specimen("no transfer syntax", "aside", part10(body, None))
    yield Specimen("empty transfer syntax", "aside", part10(body, ""))
    yield Specimen("no meta header", "any", bytes(128) + b"DICM" + body)
    number = next(NUMBER)
    bare = part10(b.dataset(fields_of(number)))[132:]
    yield Specimen("good: no preamble, no marker", "good", bare, shows=number)
    yield Specimen("data set only", "any", b.dataset(fields_of(next(NUMBER)), b.IMPLICIT))
    yield Specimen("wrong marker", "refused", bytes(128) + b"DICN" + part10(body)[132:])
    series = f"2.25.{next(NUMBER)}"
    for k in range(3):
        raw = dicom(
            next(NUMBER), SOPInstanceUID=None, SeriesInstanceUID=series, PatientID="M-series"
        )
        yield Specimen("no SOPInstanceUID, series shared", "any", raw, f"{k}.dcm", "no-sop")


def identity() -> Iterator[Specimen]:
    """Identifiers that look like something else: text stays text."""
    plain = ("007", "7", "1e5", "100000", "NA", "null", "nan", "TRUE", "2024-01-02", "=1+1",
             "<script>alert(1)</script>", "../../etc/passwd", "{{7*7}}", "Case", "CASE")  # fmt: skip
    for text in plain:
        yield good(f"good: PatientID {text!r}", PatientID=text)
    odd = ("\x1b[31mred", "\u202eabc", "two\nlines", "x" * 200, "A\\B", "\uff11\uff12", "a\u00a0b")
    for text in odd:
        yield bad(
            f"PatientID {text!r}"[:60], "any", PatientID=text, SpecificCharacterSet="ISO_IR 192"
        )
    yield bad(
        "unknown character set", "any", SpecificCharacterSet="ISO_IR 999", PatientName="\xff\xfe"
    )
    yield bad("name is not in its character set", "any", SpecificCharacterSet="ISO_IR 192",
              PatientName=b"\xff\xfe\xfd^x")  # fmt: skip
    yield bad("impossible dates and age", "any", StudyDate="20201345", PatientBirthDate="20301301",
              PatientAge="999X")  # fmt: skip
    series = f"2.25.{next(NUMBER)}"
    for k in range(2):
        raw = dicom(next(NUMBER), SeriesInstanceUID=series)
        yield Specimen("two patients in one series", "aside", raw, f"{k}.dcm", "two-patients")


def copies() -> Iterator[Specimen]:
    """The same object twice: one is kept."""
    number = next(NUMBER)
    raw = dicom(number)
    yield Specimen("good: first of two copies", "good", raw, "a.dcm", "copies", number)
    yield Specimen("exact copy", "refused", raw, "b.dcm", "copies")
    uid = f"2.25.{next(NUMBER)}"
    for k, expected in enumerate(("any", "refused")):
        raw = dicom(next(NUMBER), SOPInstanceUID=uid)
        yield Specimen("same UID, other picture", expected, raw, f"{k}.dcm", "same-uid")


def meaning() -> Iterator[Specimen]:
    """Pixels and factors that mean nothing."""
    flat = np.full((48, 36), 700, np.uint16)
    yield bad("constant", PixelData=flat)
    yield bad("saturated", PixelData=flat + 3395)
    yield bad("all padding", PixelData=flat, PixelPaddingValue=700)
    yield bad("all padding of two values", PixelData=lambda p: 700 + p % 2, PixelPaddingValue=700,
              PixelPaddingRangeLimit=701)  # fmt: skip
    for slope in ("0", "nan", "inf", "-inf", "1e400", "abc", "1e300"):
        yield bad(f"slope {slope}", RescaleSlope=slope, RescaleIntercept="0")
    for intercept in ("nan", "inf", "abc"):
        yield bad(f"intercept {intercept}", RescaleSlope="1", RescaleIntercept=intercept)
    for spacing in ([0, 0], ["nan", "nan"], [0.5], [-1, 1], ["a", "b"]):
        yield bad(f"pixel spacing {spacing}", "any", PixelSpacing=spacing)
    for width in ("0", "nan", "-5", "abc"):
        yield bad(f"window width {width}", "any", WindowCenter="2000", WindowWidth=width)


def tables() -> Iterator[Specimen]:
    """Modality tables that cannot be applied."""
    short = np.arange(40, dtype=np.uint16)
    yield bad("modality table cut short", ModalityLUTSequence=[_lut(LUTData=short)])
    yield bad("modality table without data", ModalityLUTSequence=[_lut(LUTData=None)])
    yield bad("modality table without descriptor", ModalityLUTSequence=[_lut(LUTDescriptor=None)])
    yield bad("modality table of 99 bits", ModalityLUTSequence=[_lut(LUTDescriptor=[4096, 0, 99])])


def _slices(fault: str, expected: b.Expected, changes: list[dict[str, Any]]) -> Iterator[Specimen]:
    first = next(NUMBER)
    for k, change in enumerate(changes):
        own = {
            "SOPClassUID": b.CT, "Modality": "CT", "PatientID": f"M{first}",
            "PatientName": f"Person^{first}", "AccessionNumber": f"A{first}",
            "StudyInstanceUID": f"2.25.{first}2", "SeriesInstanceUID": f"2.25.{first}3",
            "FrameOfReferenceUID": f"2.25.{first}4", "InstanceNumber": str(k + 1),
            "RescaleSlope": "1", "RescaleIntercept": "-1024",
            "ImagePositionPatient": [-10, -20, 3 * k], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        }  # fmt: skip
        raw = dicom(next(NUMBER), **(own | change))
        yield Specimen(fault, expected, raw, f"{k}.dcm", f"stack-{first}")


def stacks() -> Iterator[Specimen]:
    """Series with one fault each, and a clean one."""
    yield from _slices("good: stack of five slices", "good", [{}] * 5)
    gap = [{"ImagePositionPatient": [-10, -20, z]} for z in (0, 3, 6, 21, 24)]
    yield from _slices("good: stack with a gap", "good", gap)
    double = [{"ImagePositionPatient": [-10, -20, z]} for z in (0, 3, 3, 6)]
    yield from _slices("good: two slices at one position", "good", double)
    yield from _slices("good: same instance number", "good", [{"InstanceNumber": "1"}] * 4)
    small = {"Rows": 40, "PixelData": picture(7, 40)}
    yield from _slices("good: one slice of another size", "good", [{}, {}, {}, {}, small])
    side = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    yield from _slices("good: a localiser among slices", "good", [side, {}, {}, {}])
    for turn in ([1, 0, 0, 1, 0, 0], [0] * 6, ["nan"] * 6):
        change = {"ImageOrientationPatient": turn}
        yield from _slices(f"orientation {turn}", "aside", [change] * 3)
    yield from _slices("stack with spacing 0", "aside", [{"PixelSpacing": [0, 0]}] * 3)
    cut_pixels = {"PixelData": picture(8)[:20]}
    yield from _slices("one slice of the stack is cut", "any", [{}, {}, {}, cut_pixels])


NO_PICTURE = {
    "Basic Text SR": "88.11", "Enhanced SR": "88.22", "Key Object": "88.59", "RT Structure": "481.3",
    "RT Plan": "481.5", "12-lead ECG": "9.1.1", "PDF": "104.1", "CDA": "104.2", "STL": "104.3",
    "Presentation State": "11.1", "Raw Data": "66", "Registration": "66.1", "Fiducials": "66.2",
    "Surface": "66.5", "Tractography": "66.6", "Real World Value": "67", "Spectroscopy": "4.2",
    "Ophthalmic Visual Field": "80.1",
}  # fmt: skip


def foreign_classes() -> Iterator[Specimen]:
    """Objects that are no image: skipped by their class."""
    bare = dict.fromkeys(("Rows", "Columns", "PixelData", "SamplesPerPixel", "BitsAllocated",
                          "BitsStored", "HighBit", "PixelRepresentation", "PixelSpacing",
                          "PhotometricInterpretation"))  # fmt: skip
    for name, ending in NO_PICTURE.items():
        uid = f"1.2.840.10008.5.1.4.1.1.{ending}"
        yield bad(f"no image: {name}", "skipped", SOPClassUID=uid, Modality="OT", **bare)
    for name, ending in (("Segmentation", "66.4"), ("RT Dose", "481.2")):
        uid = f"1.2.840.10008.5.1.4.1.1.{ending}"
        yield bad(f"no image, but a matrix: {name}", "skipped", SOPClassUID=uid, Modality="OT")
    record = [{"DirectoryRecordType": "IMAGE", "ReferencedFileID": ["..", "..", "etc", "passwd"]}]
    body = b.dataset({"FileSetID": "X", "DirectoryRecordSequence": record})
    raw = part10(body, sop_class="1.2.840.10008.1.3.10")
    yield Specimen("DICOMDIR that points outside", "skipped", raw, "DICOMDIR")
    yield bad("private class with a picture", "any", SOPClassUID="1.3.6.1.4.1.9.9.1")
    yield bad("private class without a picture", "refused", SOPClassUID="1.3.6.1.4.1.9.9.2", **bare)


def bombs() -> Iterator[Specimen]:
    """A small file that unpacks to more than a reader may take."""
    fields = fields_of(next(NUMBER))
    tail = b.dataset({"PixelData": fields.pop("PixelData")})
    swollen = b.dataset(fields) + struct.pack("<HH2sHI", 0x7FDF, 0x10, b"OB", 0, BOMB_MIB << 20)
    raw = part10(b.deflate(swollen, BOMB_MIB, tail), b.DEFLATED)
    yield Specimen("deflate bomb of 400 MB", "aside", raw)


def flipped(stream: np.random.Generator) -> Iterator[Specimen]:
    """Bits turned anywhere after the marker of uncompressed files."""
    for syntax in (b.EXPLICIT, b.IMPLICIT, b.BIG_ENDIAN, b.DEFLATED):
        for _ in range(6):
            raw = bytearray(dicom(next(NUMBER), syntax=syntax))
            places = stream.integers(132, 900 if syntax != b.DEFLATED else len(raw), 4)
            for place in places:
                raw[place] ^= 1 << int(stream.integers(8))
            yield Specimen(f"bits turned, syntax {syntax}", "any", bytes(raw))
