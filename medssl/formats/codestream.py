"""What a compressed frame says of itself, read before any decoder sees it."""

from dataclasses import dataclass

JP2_BOX = b"\x00\x00\x00\x0cjP  "
J2K_START = b"\xff\x4f\xff\x51"
JPEG_START = b"\xff\xd8"
FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
STANDALONE = {0x01, *range(0xD0, 0xD8)}
TILE_BYTES = 14  # the least a tile takes: SOT segment and SOD marker (T.800 A.4.2)
JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class Declared:
    """Size of one frame by its own header: pixels, samples per pixel, bits per sample, tiles."""

    rows: int
    columns: int
    samples: int
    bits: int
    tiles: int = 1


def declared(frame: bytes) -> Declared | None:
    """Return the size that a JPEG, JPEG-LS or JPEG 2000 frame declares; None where it has no header.

    Source: ITU-T T.81 B.2.2 (SOF), T.87 C.2.2 (SOF55), T.800 A.5.1 (SIZ).
    """
    if frame.startswith(JP2_BOX):
        start = frame.find(J2K_START)
        return _siz(frame, start) if start >= 0 else None
    if frame.startswith(J2K_START):
        return _siz(frame, 0)
    return _sof(frame) if frame.startswith(JPEG_START) else None


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _siz(data: bytes, start: int) -> Declared | None:
    if len(data) < start + 44:
        return None
    at = start + 8  # after SOC, SIZ marker, length and capabilities
    right, bottom, left, top = (_number(data, at + 4 * k, 4) for k in range(4))
    wide, high, from_left, from_top = (_number(data, at + 16 + 4 * k, 4) for k in range(4))
    tiles = -(-(right - from_left) // max(1, wide)) * -(-(bottom - from_top) // max(1, high))
    samples = _number(data, at + 32, 2)
    bits = (data[at + 34] & 0x7F) + 1
    return Declared(bottom - top, right - left, samples, bits, tiles if wide and high else 0)


def _sof(data: bytes) -> Declared | None:
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in FRAME_HEADERS:
            rows, columns = _number(data, at + 5, 2), _number(data, at + 7, 2)
            return Declared(rows, columns, data[at + 9], data[at + 4])
        at += 2 if marker in STANDALONE else 2 + _number(data, at + 2, 2)
    return None
