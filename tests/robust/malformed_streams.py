"""DICOM files whose pixel data is compressed: encapsulation, streams and headers that lie."""

import struct
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from typing import Any

import numpy as np

from robust import malformed_bytes as b
from robust import malformed_codecs as c
from robust.malformed_bytes import Specimen, dicom, fragments, offsets, picture
from robust.malformed_dicom import COLOUR, tinted

NUMBER = count(3000)
CODECS = (c.RLE, c.JPEG, c.JPEG_EXTENDED, c.LOSSLESS, c.LOSSLESS_SV1, c.JPEG_LS, c.JPEG_LS_NEAR,
          c.J2K_LOSSLESS, c.J2K, c.HT_LOSSLESS, c.HT_RPCL, c.HT)  # fmt: skip
NEED_GDCM = {c.LOSSLESS, c.LOSSLESS_SV1}
# Without the optional extra these are set aside, which is then the right verdict.
GDCM: b.Expected = "good" if find_spec("gdcm") else "aside"
FLIPS = 7


def build(stream: np.random.Generator) -> Iterator[Specimen]:
    """Every DICOM specimen whose pixel data is encapsulated."""
    yield from twins()
    yield from several_frames()
    yield from cut()
    yield from syntaxes()
    yield from offset_tables()
    yield from wrong_fragments()
    yield from wrong_matrices()
    yield from wrong_rle()
    yield from other_streams(stream)
    yield from mutated(stream)


def packed(
    syntax: str, fault: str, expected: b.Expected, data: Any = None, **changes: Any
) -> Specimen:
    """A compressed radiograph; ``data`` replaces its stream (bytes) or its whole pixel element."""
    ht = syntax in {c.HT, c.HT_LOSSLESS, c.HT_RPCL}
    number = next(NUMBER)
    shown = c.HT_PICTURE if ht else number
    if data is None:
        data = c.stream(syntax, picture(shown))
    if isinstance(data, bytes):
        data = fragments([data])
    raw = dicom(number, syntax=syntax, **(c.depth(syntax) | {"PixelData": data} | changes))
    return Specimen(fault, expected, raw, shows=shown if expected == "good" else None)


def twins() -> Iterator[Specimen]:
    """One valid picture per codec, and valid oddities of encapsulation."""
    for syntax in CODECS:
        verdict = GDCM if syntax in NEED_GDCM else "good"
        yield packed(syntax, f"good: codec {syntax}", verdict)
    number = next(NUMBER)
    grey = picture(number)
    whole = c.jpeg((grey >> 4).astype(np.uint8))
    parts = [whole[k : k + 200] for k in range(0, len(whole), 200)]
    raw = dicom(number, syntax=c.JPEG, PixelData=fragments(parts), **c.depth(c.JPEG))
    yield Specimen("good: one frame in several fragments", "good", raw, shows=number)
    writers = {
        "JPEG": (c.JPEG, "YBR_FULL_422", c.jpeg),
        "RLE": (c.RLE, "RGB", c.rle),
        "JPEG 2000": (c.J2K_LOSSLESS, "YBR_RCT", lambda f: c.j2k(f, 8)),
    }
    for name, (syntax, photometric, write) in writers.items():
        number = next(NUMBER)
        changes = COLOUR | {"PhotometricInterpretation": photometric}
        changes["PixelData"] = fragments([write(tinted(picture(number)))])
        raw = dicom(number, syntax=syntax, **changes)
        yield Specimen(f"good: colour as {name}", "good", raw, shows=number)


def _frames(syntax: str, number: int) -> list[bytes]:
    return [c.stream(syntax, picture(number + 9000 * k)) for k in range(3)]


def several_frames() -> Iterator[Specimen]:
    """Three frames with and without an offset table."""
    for syntax in (c.RLE, c.J2K_LOSSLESS, c.JPEG_LS):
        for table in (False, True):
            number = next(NUMBER)
            parts = _frames(syntax, number)
            data = fragments(parts, offsets(parts) if table else b"")
            raw = dicom(number, syntax=syntax, SOPClassUID=b.MULTI_GREY, NumberOfFrames="3",
                        Modality="US", PixelData=data, **c.depth(syntax))  # fmt: skip
            told = "with" if table else "without"
            yield Specimen(f"good: three frames {told} a table, {syntax}", "good", raw)


def cut() -> Iterator[Specimen]:
    """Streams that end early inside a sound file, and files that end inside a stream."""
    for syntax in CODECS:
        whole = c.stream(syntax, picture(c.HT_PICTURE))
        # A cut JPEG-LS stream costs its decoder seconds: one is enough.
        for share in (0.5,) if syntax == c.JPEG_LS else (0.1, 0.5, 0.9):
            end = int(len(whole) * share)
            yield packed(syntax, f"stream cut at {share:.0%}, {syntax}", "aside", whole[:end])
        yield packed(syntax, f"last two bytes lost, {syntax}", "any", whole[:-2])
    for syntax in (c.RLE, c.JPEG, c.JPEG_LS, c.J2K_LOSSLESS):
        whole = packed(syntax, "", "aside").data
        yield Specimen(f"file cut in its stream, {syntax}", "aside", whole[: len(whole) - 700])


def syntaxes() -> Iterator[Specimen]:
    """Syntaxes that nobody reads, and native and encapsulated data mixed up."""
    grey = picture(next(NUMBER))
    names = {
        "MPEG2": "1.2.840.10008.1.2.4.100",
        "JPEG XL": "1.2.840.10008.1.2.4.110",
        "JPIP": "1.2.840.10008.1.2.4.94",
        "progressive JPEG, retired": "1.2.840.10008.1.2.4.55",
        "private": "1.3.6.1.4.1.9.9.9",
        "not a UID": "JPEG please",
    }
    for name, uid in names.items():
        raw = dicom(next(NUMBER), syntax=uid, PixelData=fragments([c.j2k(grey)]))
        yield Specimen(f"syntax: {name}", "aside", raw)
    raw = dicom(next(NUMBER), PixelData=fragments([c.j2k(grey)]))
    yield Specimen("encapsulated data called native", "aside", raw)
    for syntax in (c.J2K_LOSSLESS, c.RLE, c.JPEG_LS):
        raw = dicom(next(NUMBER), syntax=syntax)
        yield Specimen(f"native data called {syntax}", "aside", raw)


def offset_tables() -> Iterator[Specimen]:
    """Tables that point elsewhere: any verdict, for the fragments themselves are right."""
    parts = _frames(c.RLE, next(NUMBER))
    true = struct.unpack("<3I", offsets(parts))
    lies = {
        "shuffled": (true[2], true[0], true[1]),
        "beyond the end": (0, 1 << 30, 0xFFFFFFF0),
        "between fragments": (0, 3, 5),
        "all zero": (0, 0, 0),
        "too short": (0,),
        "too long": (*true, true[2] + 10, true[2] + 20),
    }
    for fault, values in lies.items():
        table = struct.pack(f"<{len(values)}I", *values)
        raw = dicom(next(NUMBER), syntax=c.RLE, SOPClassUID=b.MULTI_GREY, NumberOfFrames="3",
                    Modality="US", PixelData=fragments(parts, table))  # fmt: skip
        yield Specimen(f"offset table {fault}", "any", raw)
    odd = fragments([c.rle(picture(next(NUMBER)))], b"\1\2\3")
    yield packed(c.RLE, "offset table of three bytes", "any", odd)
    yield packed(c.RLE, "extended table points far away", "any",
                 ExtendedOffsetTable=struct.pack("<Q", 1 << 60),
                 ExtendedOffsetTableLengths=struct.pack("<Q", 1 << 60))  # fmt: skip


def wrong_fragments() -> Iterator[Specimen]:
    """Fragments that are too few, empty, or lie about their length."""
    for syntax in (c.RLE, c.J2K_LOSSLESS, c.JPEG_LS):
        number = next(NUMBER)
        two = _frames(syntax, number)[:2]
        many = {"NumberOfFrames": "3", "SOPClassUID": b.MULTI_GREY}
        yield packed(syntax, f"three frames declared, two stored, {syntax}", "aside",
                     fragments(two), **many)  # fmt: skip
        yield packed(syntax, f"the same with a table, {syntax}", "aside",
                     fragments(two, offsets(two)), **many)  # fmt: skip
    grey = picture(next(NUMBER))
    for syntax in (c.RLE, c.JPEG, c.J2K_LOSSLESS):
        yield packed(syntax, f"one empty fragment, {syntax}", "aside", fragments([b""]))
        yield packed(syntax, f"no fragment at all, {syntax}", "aside", fragments([]))
    sound = c.j2k(grey)
    yield packed(c.J2K_LOSSLESS, "no closing delimiter", "any", fragments([sound], close=False))
    for fault, length in (("500 bytes long", 500), ("2 GB", 1 << 31), ("endless", b.ENDLESS)):
        lie = b.element(b.ITEM, "", b"") + b.element(b.ITEM, "", sound, length=length)
        raw = b.Raw("OB", lie + b.element(b.SEQUENCE_END, "", b""), b.ENDLESS)
        expected: b.Expected = "any" if length == 1 << 31 else "aside"
        yield packed(c.J2K_LOSSLESS, f"fragment says it is {fault}", expected, raw)
    noise = b.Raw("OB", bytes(range(256)) * 4, b.ENDLESS)
    yield packed(c.J2K_LOSSLESS, "no item where one must begin", "aside", noise)


def _patched(stream: bytes, marker: bytes, at: int, value: bytes) -> bytes:
    """The stream with bytes replaced ``at`` places after a marker."""
    place = stream.index(marker) + at
    return stream[:place] + value + stream[place + len(value) :]


def wrong_matrices() -> Iterator[Specimen]:
    """Streams of another size than the data set says, from too small to absurd."""
    grey = picture(next(NUMBER))
    writers = {
        syntax: syntax for syntax in CODECS if not syntax.startswith("1.2.840.10008.1.2.4.20")
    }
    for syntax in writers:
        for rows, columns in ((64, 80), (40, 33)):
            other = c.stream(syntax, picture(5, rows, columns))
            what = f"stream of {rows} x {columns} in a picture of 48 x 36, {syntax}"
            yield packed(syntax, what, "aside", other)
    big = struct.pack(">HH", 65000, 65000)
    # Frame headers: marker, length (2), precision (1), rows (2), columns (2).
    frames = {c.JPEG: b"\xff\xc0", c.LOSSLESS_SV1: b"\xff\xc3", c.JPEG_LS: b"\xff\xf7"}
    for syntax, marker in frames.items():
        lie = _patched(c.stream(syntax, grey), marker, 5, big)
        yield packed(syntax, f"stream header says 65,000 x 65,000, {syntax}", "aside", lie)
    # SIZ: marker, length (2), profile (2), width (4), height (4), offsets (8), tile (8).
    j2k = c.j2k(grey)
    far = struct.pack(">II", 60000, 60000)
    lies = {
        "60,000 x 60,000": (6, far),
        "60,000 x 60,000 in one tile": (6, far + bytes(8) + far),
        "tiles of one pixel": (22, struct.pack(">II", 1, 1)),
        "16,384 components": (38, struct.pack(">H", 16384)),
        "offset beyond the picture": (14, struct.pack(">II", 999, 999)),
    }
    for fault, (at, value) in lies.items():
        lie = _patched(j2k, b"\xff\x51", at, value)
        yield packed(c.J2K_LOSSLESS, f"JPEG 2000 header says {fault}", "aside", lie)
    # COD: marker, length (2), style (1), progression (1), layers (2), transform (1), levels (1).
    for fault, at, value in (("65,535 layers", 6, b"\xff\xff"), ("32 levels", 9, b"\x20")):
        lie = _patched(j2k, b"\xff\x52", at, value)
        yield packed(c.J2K, f"JPEG 2000 header says {fault}", "any", lie)
    colour = c.j2k(tinted(grey), 8)
    yield packed(c.J2K_LOSSLESS, "colour stream in a grey picture", "aside", colour,
                 BitsAllocated=8, BitsStored=8, HighBit=7)  # fmt: skip
    yield packed(c.JPEG, "colour JPEG in a grey picture", "aside", c.jpeg(tinted(grey)))


def wrong_rle() -> Iterator[Specimen]:
    """RLE headers that lie, and one that unpacks to far more than the picture."""
    grey = picture(next(NUMBER))
    sound = c.rle(grey)
    row = c.literal(bytes(36))
    lies = {
        "no segment": struct.pack("<I", 0) + sound[4:],
        "one segment of two": struct.pack("<I", 1) + sound[4:],
        "15 segments": struct.pack("<I", 15) + sound[4:],
        "4 billion segments": b"\xff" * 4 + sound[4:],
        "offsets beyond the end": sound[:4] + struct.pack("<2I", 1 << 20, 1 << 30) + sound[12:],
        "a header alone": sound[:64],
        "segments too short": c.rle_of([row * 10, row * 10]),
        "twice the picture": c.rle_of([row * 96, row * 96]),
        "bomb of 60 MB": c.rle_of([b"\x81\x07" * 230_000, b"\x81\x01" * 230_000]),
    }
    # The true offsets are there: a decoder that ignores a wrong count shows the true picture.
    counts = {"no segment", "one segment of two", "15 segments", "4 billion segments"}
    for fault, data in lies.items():
        yield packed(c.RLE, f"RLE with {fault}", "any" if fault in counts else "aside", data)
    run = c.rle_of([b"\x81\x07" * 400, b"\x81\x01" * 400])
    yield packed(c.RLE, "RLE bomb with a header to match", "aside", run, Rows=60000, Columns=60000)


def other_streams(stream: np.random.Generator) -> Iterator[Specimen]:
    """Noise, zeros, and the stream of another codec."""
    grey = picture(next(NUMBER))
    for syntax in CODECS:
        noise = stream.integers(0, 256, 900, dtype=np.uint8).tobytes()
        yield packed(syntax, f"noise as stream, {syntax}", "aside", noise)
    for syntax in (c.RLE, c.JPEG, c.JPEG_LS, c.J2K_LOSSLESS, c.LOSSLESS_SV1):
        yield packed(syntax, f"zeros as stream, {syntax}", "aside", bytes(900))
    pairs = ((c.JPEG, c.RLE), (c.J2K_LOSSLESS, c.JPEG), (c.J2K_LOSSLESS, c.RLE), (c.JPEG_LS, c.J2K),
             (c.RLE, c.JPEG_LS), (c.JPEG_LS, c.HT))  # fmt: skip
    for syntax, other in pairs:
        strange = c.stream(other, grey)
        yield packed(syntax, f"stream of {other} called {syntax}", "aside", strange)
    yield packed(c.JPEG, "JPEG 2000 stream called JPEG", "any", c.j2k(grey >> 4, 8))


def mutated(stream: np.random.Generator) -> Iterator[Specimen]:
    """Streams with turned bits and overwritten runs: any verdict, never a crash unaccounted for."""
    for syntax in CODECS:
        for k in range(FLIPS):
            whole = bytearray(c.stream(syntax, picture(c.HT_PICTURE)))
            if k % 3 == 2:
                place = int(stream.integers(2, len(whole) - 16))
                whole[place : place + 16] = bytes([int(stream.choice([0, 255]))]) * 16
            else:
                reach = 120 if k % 3 else len(whole)
                for place in stream.integers(2, reach, 1 + 3 * (k % 2)):
                    whole[int(place)] ^= 1 << int(stream.integers(8))
            yield packed(syntax, f"mutated stream, {syntax}", "any", bytes(whole))
