"""Text inside compressed frames: comments, application data and tails that no decoder needs."""

import re
from collections.abc import Iterator

from medssl.formats import codestream
from medssl.formats.geometry import FormatError

SOS, SOT, SOD, EOI = 0xDA, 0x90, 0x93, b"\xff\xd9"
LEAST_MARKER, STANDALONE = 0xC0, {0xFF, *range(0xD0, 0xD8)}
COMMENTS = {0xFE, 0x64, *range(0xE0, 0xF0)}
NEEDED_BYTES = {0xE0: 14, 0xE8: 32, 0xEE: 12}  # JFIF, SPIFF, Adobe: how colours are stored
ENCODER = re.compile(
    rb"(\x00\x01)?(Created by OpenJPEG version |Kakadu-v?|Lavc|LEAD Technologies Inc\. V)[\d.]{1,12}\0*"
)
Span = tuple[int, int]


def texts(frame: bytes) -> Iterator[Span]:
    """Yield where a whole frame holds text: from the first byte to behind the last.

    Source: ITU-T T.81 B.1, T.87, T.800 A.4; what names an encoder's version is left.

    Raises:
        FormatError: JPEG 2000 in boxes, which may hold text anywhere.
    """
    if frame.startswith(codestream.JP2_BOX):
        words = "its JPEG 2000 frames are wrapped in boxes that may hold text; store it again"
        raise FormatError(words, "E-BOXES")
    if frame.startswith(codestream.J2K_START):
        yield from _jpeg2000(frame)
    elif frame.startswith(codestream.JPEG_START):
        yield from _jpeg(frame)


def _jpeg(frame: bytes) -> Iterator[Span]:
    at = 2
    while 0 <= at < len(frame) - 1:
        if frame[at] != 0xFF or frame[at + 1] < LEAST_MARKER or frame[at + 1] in STANDALONE:
            at = frame.find(b"\xff", at + 1)  # fill bytes, and the data of a scan
            continue
        if frame[at : at + 2] == EOI:
            yield from _tail(frame, at + 2)
            return
        yield from _text(frame, at)
        at = _next(frame, at)


def _jpeg2000(frame: bytes) -> Iterator[Span]:
    at = 2
    ends = 0
    while at < len(frame) - 1:
        marker = frame[at + 1]
        if frame[at : at + 2] == EOI:
            yield from _tail(frame, at + 2)
            return
        if marker == SOT:
            part = int.from_bytes(frame[at + 6 : at + 10], "big")
            ends = at + part if part else max(at + 12, frame.rfind(EOI))
        if marker == SOD:
            if ends <= at:
                return
            at = ends
            continue
        yield from _text(frame, at)
        at = _next(frame, at)


def _next(frame: bytes, at: int) -> int:
    return at + 2 + max(2, int.from_bytes(frame[at + 2 : at + 4], "big"))


def _text(frame: bytes, at: int) -> Iterator[Span]:
    marker, end = frame[at + 1], min(_next(frame, at), len(frame))
    begin = at + 4 + NEEDED_BYTES.get(marker, 0)
    if marker in COMMENTS and begin < end and ENCODER.fullmatch(frame[at + 4 : end]) is None:
        yield begin, end


def _tail(frame: bytes, at: int) -> Iterator[Span]:
    if any(frame[at:]):
        yield at, len(frame)
