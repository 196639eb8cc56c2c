"""NIfTI and MGH files from our own header writer: cut, lying, swollen; and their twins."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from robust.malformed_bytes import Expected, Specimen, deflate, picture

SHAPE = (30, 24, 7)
SPACING = (1.5, 2.0, 4.0)
TYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "u2": 512, "i8": 1024, "u8": 1280,
         "c8": 32, "f16": 1536}  # fmt: skip
# Byte place and format of the NIfTI-1 fields that a change may name.
PLACES = {"sizeof_hdr": (0, "i"), "dim": (40, "8h"), "datatype": (70, "h"), "bitpix": (72, "h"),
          "pixdim": (76, "8f"), "vox_offset": (108, "f"), "slope": (112, "f"), "inter": (116, "f"),
          "units": (123, "B"), "qform_code": (252, "h"), "sform_code": (254, "h"),
          "quatern": (256, "6f"), "srow": (280, "12f"), "magic": (344, "4s")}  # fmt: skip
UPRIGHT = (1.5, 0, 0, -20, 0, 2.0, 0, -25, 0, 0, 4.0, -12)
BOMB_MIB = 560
NUMBER = count(5000)


def build(stream: np.random.Generator) -> Iterator[Specimen]:
    """Every NIfTI and MGH specimen."""
    for make in (twins, cut, squeezed, headers, dimensions, geometry, extensions, pairs, mgh):
        yield from make()
    yield from values()
    yield from bombs()
    yield from nameless()
    for _ in range(12):
        raw = bytearray(volume_file(next(NUMBER)))
        for place in stream.integers(0, 352, 3):
            raw[int(place)] ^= 1 << int(stream.integers(8))
        yield _as("bits turned in the header", "any", bytes(raw))
        packed = bytearray(gzip.compress(volume_file(next(NUMBER)), mtime=0))
        packed[int(stream.integers(12, len(packed)))] ^= 1 << int(stream.integers(8))
        yield _as("a bit turned in a gzip stream", "aside", bytes(packed), ".nii.gz")


def volume(number: int, kind: str = "i2", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A volume ``[x, y, z, ...]`` whose slices are different pictures."""
    depth = int(np.prod(shape[2:], dtype=int))
    planes = [picture(number + 100 * k, *shape[:2]) for k in range(depth)]
    return np.stack(planes, -1).reshape(shape).astype(kind)


def header(array: np.ndarray, order: str = "<", **changes: Any) -> bytes:
    """A NIfTI-1 header of 352 bytes; ``changes`` replace fields named in ``PLACES``."""
    kind = array.dtype.str[1:]
    fields: dict[str, Any] = {
        "sizeof_hdr": 348, "dim": (array.ndim, *array.shape, *[1] * (7 - array.ndim)),
        "datatype": TYPES.get(kind, 4), "bitpix": 8 * array.dtype.itemsize,
        "pixdim": (1, *SPACING, 0, 0, 0, 0), "vox_offset": 352, "slope": 1, "units": 2,
        "sform_code": 1, "srow": UPRIGHT, "magic": b"n+1\0",
    }  # fmt: skip
    out = bytearray(352)
    for name, value in (fields | changes).items():
        place, form = PLACES[name]
        cells = value if isinstance(value, (tuple, list)) else (value,)
        struct.pack_into(order + form, out, place, *cells)
    return bytes(out)


def nifti(array: np.ndarray, order: str = "<", **changes: Any) -> bytes:
    """A single NIfTI-1 file; the first axis runs fastest."""
    data = array.astype(array.dtype.newbyteorder(order)).tobytes(order="F")
    return header(array, order, **changes) + data


def volume_file(number: int, kind: str = "i2", **changes: Any) -> bytes:
    """A NIfTI file of one volume."""
    return nifti(volume(number, kind), **changes)


def _as(fault: str, expected: Expected, data: bytes, suffix: str = ".nii") -> Specimen:
    return Specimen(fault, expected, data, f"sub-{next(NUMBER)}_T1w{suffix}")


def _bad(fault: str, expected: Expected = "aside", **changes: Any) -> Specimen:
    return _as(fault, expected, volume_file(next(NUMBER), **changes))


def _nifti2(array: np.ndarray) -> bytes:
    out = bytearray(544)
    struct.pack_into("<i8shh8q", out, 0, 540, b"n+2\0\r\n\x1a\n", 4, 16,
                     array.ndim, *array.shape, *[1] * (7 - array.ndim))  # fmt: skip
    struct.pack_into("<8d", out, 104, 1, *SPACING, 0, 0, 0, 0)
    struct.pack_into("<q2d", out, 168, 544, 1, 0)
    struct.pack_into("<i", out, 348, 1)
    struct.pack_into("<12d", out, 400, *UPRIGHT)
    return bytes(out) + array.tobytes(order="F")


def twins() -> Iterator[Specimen]:
    """Valid volumes of many kinds."""
    for kind in ("u1", "i2", "u2", "i4", "f4", "f8"):
        array = volume(next(NUMBER)) >> (4 if kind == "u1" else 0)
        yield _as(f"good: {kind}", "good", nifti(array.astype(kind)))
    yield _as("good: gzip", "good", gzip.compress(volume_file(next(NUMBER)), mtime=0), ".nii.gz")
    halves = [
        gzip.compress(part, mtime=0) for part in (volume_file(2)[:4000], volume_file(2)[4000:])
    ]
    yield _as("good: two gzip members", "good", b"".join(halves), ".nii.gz")
    yield _as("good: big endian", "good", nifti(volume(next(NUMBER)), ">"))
    yield _as("good: NIfTI-2", "good", _nifti2(volume(next(NUMBER))))
    yield _bad("good: no scaling (slope 0)", "good", slope=0)
    yield _bad("good: slope and intercept", "good", slope=0.5, inter=-3)
    yield _bad("good: left to right reversed", "good", srow=(-1.5, *UPRIGHT[1:]))
    turned = (0, 0, 4.0, 0, 1.5, 0, 0, 0, 0, 2.0, 0, 0)
    yield _bad("good: axes permuted", "good", srow=turned)
    yield _bad("good: mildly oblique", "good", srow=(1.5, 0.1, 0, 0, -0.1, 2, 0, 0, 0, 0, 4, 0))
    yield _bad("good: quaternion alone", "good", sform_code=0, qform_code=1)
    yield _bad("good: qform differs from sform", "good", qform_code=1, quatern=(0, 0, 1, 9, 9, 9))
    yield _as("good: 4-D of one volume", "good", nifti(volume(next(NUMBER), shape=(*SHAPE, 1))))
    yield _as("good: data begin later", "good",
              volume_file(9, vox_offset=416)[:352] + bytes(64) + volume_file(9)[352:])  # fmt: skip


def cut() -> Iterator[Specimen]:
    """Volumes that end too early."""
    raw = volume_file(next(NUMBER))
    for end in (0, 3, 100, 347, 350, 352, 3000, len(raw) - 100, len(raw) - 1):
        yield _as(f"cut at byte {end}", "refused" if end < 4 else "aside", raw[:end])
    yield _as("trailing noise", "any", raw + bytes(range(200)))


def squeezed() -> Iterator[Specimen]:
    """Gzip streams that lie."""
    raw = volume_file(next(NUMBER))
    good = gzip.compress(raw, mtime=0)
    cases = {
        "cut in the gzip header": good[:6],
        "cut early": good[:400],
        "cut midway": good[: len(good) // 2],
        "cut before the trailer": good[:-8],
        "half a trailer": good[:-3],
        "wrong CRC": good[:-8] + bytes(4) + good[-4:],
        "wrong length in the trailer": good[:-4] + b"\1\2\3\4",
        "gzip of a gzip": gzip.compress(good, mtime=0),
        "gzip of text": gzip.compress(b"no image here\n" * 40, mtime=0),
        "gzip of nothing": gzip.compress(b"", mtime=0),
        "two streams, the second broken": gzip.compress(raw[:4000], mtime=0) + good[:300],
        "zlib instead of gzip": zlib.compress(raw),
        "not compressed": raw,
    }
    for fault, data in cases.items():
        yield _as(fault, "any" if fault == "not compressed" else "aside", data, ".nii.gz")
    yield _as("noise after the gzip stream", "any", good + bytes(range(9, 99)), ".nii.gz")
    yield _as("gzip called .nii", "any", good, ".nii")


def headers() -> Iterator[Specimen]:
    """Fields that cannot be."""
    for size in (0, 349, -348, 1 << 30):
        yield _bad(f"sizeof_hdr {size}", sizeof_hdr=size)
    for magic in (b"abc\0", b"\0\0\0\0", b"n+9\0"):
        yield _bad(f"magic {magic!r}", magic=magic)
    for code in (0, 1, 3, 9999, -4):
        yield _bad(f"datatype {code}", datatype=code)
    for code, bits in ((128, 24), (2304, 32), (32, 64), (1792, 128)):
        array = volume(next(NUMBER)).astype("i8")
        changed = nifti(array, datatype=code, bitpix=bits) + bytes(len(array.tobytes()))
        expected: Expected = "any" if code in {128, 2304} else "aside"
        yield _as(f"colour or complex, datatype {code}", expected, changed)
    yield _bad("bitpix 8 of int16", "any", bitpix=8)
    yield _bad("bitpix 0", "any", bitpix=0)
    for place in (-352.0, 5e8, 1e30, float("nan"), float("inf")):
        yield _bad(f"vox_offset {place:g}", vox_offset=place)
    yield _bad("vox_offset 0 in a single file", "any", vox_offset=0)
    yield _bad("vox_offset inside the header", "any", vox_offset=100)
    for slope in (float("inf"), float("-inf"), 1e38):
        yield _bad(f"slope {slope:g}", "any" if slope == 1e38 else "aside", slope=slope)
    yield _bad("slope NaN", "any", slope=float("nan"))
    yield _bad("intercept NaN", inter=float("nan"))
    yield _bad("intercept inf", inter=float("inf"))


def dimensions() -> Iterator[Specimen]:
    """Dimensions that cannot be, or that are not one volume."""
    x, y, z = SHAPE
    cases = {
        "dim[0] 0": (0, x, y, z, 1, 1, 1, 1),
        "dim[0] 8": (8, x, y, z, 1, 1, 1, 1),
        "dim[0] -1": (-1, x, y, z, 1, 1, 1, 1),
        "a side of 0": (3, x, 0, z, 1, 1, 1, 1),
        "a side of -5": (3, x, -5, z, 1, 1, 1, 1),
        "one slice too many": (3, x, y, z + 1, 1, 1, 1, 1),
        "32,767 cubed": (3, 32767, 32767, 32767, 1, 1, 1, 1),
        "beyond 64 bits": (7, *[32767] * 7),
        "1-D": (1, x * y * z, 1, 1, 1, 1, 1, 1),
    }
    for fault, dim in cases.items():
        yield _bad(f"dimensions: {fault}", dim=dim)
    yield _bad("dimensions: 2-D", "any", dim=(2, x, y * z, 1, 1, 1, 1, 1))
    for extra in ((2,), (1, 3), (2, 1, 2), (1, 1, 1, 2)):
        array = volume(next(NUMBER), shape=(*SHAPE, *extra))
        yield _as(f"{array.ndim}-D of several volumes", "aside", nifti(array))


def geometry() -> Iterator[Specimen]:
    """Affines without a volume, without numbers, and merely odd ones."""
    nan, inf = float("nan"), float("inf")
    rows = {
        "zero": (0,) * 12,
        "two equal axes": (1.5, 1.5, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0),
        "a flat axis": (1.5, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0),
        "NaN": (nan,) * 12,
        "one NaN": (1.5, 0, 0, nan, *UPRIGHT[4:]),
        "infinite": (inf, *UPRIGHT[1:]),
    }
    for fault, srow in rows.items():
        yield _bad(f"affine: {fault}", srow=srow)
    yield _bad("affine: huge", "any", srow=tuple(1e30 * v for v in UPRIGHT))
    yield _bad("affine: strongly sheared", "any", srow=(1.5, 1.4, 0, 0, 0, 2, 0, 0, 0, 0, 4, 0))
    yield _bad("affine: absent", "any", sform_code=0, qform_code=0)
    alone = {"sform_code": 0, "qform_code": 1}
    yield _bad("quaternion of no rotation", quatern=(5, 5, 5, 0, 0, 0), **alone)
    yield _bad("quaternion NaN", quatern=(nan, 0, 0, 0, 0, 0), **alone)
    yield _bad("pixdim 0", pixdim=(1, 0, 2, 4, 0, 0, 0, 0), **alone)
    yield _bad("pixdim NaN", pixdim=(1, nan, 2, 4, 0, 0, 0, 0), **alone)
    yield _bad("pixdim negative", "any", pixdim=(1, -1.5, 2, 4, 0, 0, 0, 0), **alone)
    yield _bad("qfac 7", "any", pixdim=(7, 1.5, 2, 4, 0, 0, 0, 0), **alone)
    yield _bad("unknown units", "any", units=255)


def extensions() -> Iterator[Specimen]:
    """Header extensions whose sizes lie; the voxels themselves are right."""
    for size in (0, -16, 7, 1 << 30):
        raw = volume_file(next(NUMBER), vox_offset=384)
        lie = b"\1\0\0\0" + struct.pack("<2i", size, 6) + bytes(24)
        yield _as(f"extension of {size} bytes", "any", raw[:348] + lie + raw[352:])


def pairs() -> Iterator[Specimen]:
    """Header and image in two files, whole, lonely and short."""
    array = volume(next(NUMBER))
    data = array.tobytes(order="F")
    head = header(array, vox_offset=0, magic=b"ni1\0")[:348]
    name = f"sub-{next(NUMBER)}_T1w"
    yield Specimen("good: header of a pair", "good", head, f"{name}.hdr", "pair")
    yield Specimen("the voxels of a pair", "any", data, f"{name}.img", "pair")
    yield _as("header without its image", "aside", head, ".hdr")
    yield _as("image without its header", "refused", data, ".img")
    name = f"sub-{next(NUMBER)}_T1w"
    yield Specimen("header whose image is short", "aside", head, f"{name}.hdr", "short pair")
    yield Specimen("image that is short", "refused", data[:900], f"{name}.img", "short pair")
    yield _as("single file with the magic of a pair", "any", volume_file(3, magic=b"ni1\0"))


def values() -> Iterator[Specimen]:
    """Voxels that mean nothing, and odd ones that do."""
    base = volume(next(NUMBER), "f4")
    nan, inf = np.float32("nan"), np.float32("inf")
    cases: dict[str, tuple[Expected, np.ndarray]] = {
        "all NaN": ("aside", np.full_like(base, nan)),
        "all infinite": ("aside", np.full_like(base, inf)),
        "mostly NaN": ("aside", np.where(np.arange(base.size).reshape(base.shape) % 8, nan, base)),
        "constant": ("aside", np.full_like(base, 4)),
        "zeros": ("aside", np.zeros_like(base)),
        "good: one outlier": ("good", np.where(base == base[3, 4, 2], np.float32(3e38), base)),
        "one NaN": ("any", np.where(base == base[3, 4, 2], nan, base)),
        "one infinite": ("any", np.where(base == base[3, 4, 2], inf, base)),
        "denormal numbers": ("any", base * np.float32(1e-43)),
        "64-bit integers": ("any", base.astype("i8") + (1 << 40)),
        "unsigned 64-bit at the top": ("any", base.astype("u8") + np.uint64(1 << 63)),
    }
    for fault, (expected, array) in cases.items():
        yield _as(f"values: {fault}", expected, nifti(array))


def mgh_bytes(array: np.ndarray, **changes: Any) -> bytes:
    """An MGH file: big endian, 284 bytes of header, first axis fastest."""
    kinds = {"u1": 0, "i4": 1, "f4": 3, "i2": 4}
    fields = {"version": 1, "dims": (*array.shape, 1), "type": kinds[array.dtype.str[1:]],
              "good": 1, "delta": SPACING, "axes": (-1, 0, 0, 0, 0, -1, 0, 1, 0)} | changes  # fmt: skip
    cells = [fields["version"], *fields["dims"], fields["type"], 0, fields["good"]]
    head = struct.pack(">7ih3f9f3f", *cells, *fields["delta"], *fields["axes"], 0, 0, 0)
    return head.ljust(284, b"\0") + array.astype(array.dtype.newbyteorder(">")).tobytes(order="F")


def mgh() -> Iterator[Specimen]:
    """FreeSurfer volumes, whole and broken."""
    array = volume(next(NUMBER))
    sound = mgh_bytes(array)
    yield _as("good: MGH", "good", sound, ".mgh")
    yield _as("good: MGZ", "good", gzip.compress(mgh_bytes(volume(next(NUMBER))), mtime=0), ".mgz")
    broken = {
        "cut in the header": sound[:100],
        "cut in the voxels": sound[:3000],
        "version 9": mgh_bytes(array, version=9),
        "no side": mgh_bytes(array, dims=(30, 0, 7, 1)),
        "negative side": mgh_bytes(array, dims=(30, -24, 7, 1)),
        "absurd sides": mgh_bytes(array, dims=(1 << 30, 1 << 30, 1 << 30, 1)),
        "type 77": mgh_bytes(array, type=77),
        "two volumes": mgh_bytes(array, dims=(30, 24, 3, 2)),
        "axes without a volume": mgh_bytes(array, axes=(1, 0, 0) * 3),
        "axes NaN": mgh_bytes(array, axes=(float("nan"),) * 9),
        "spacing 0": mgh_bytes(array, delta=(0, 0, 0)),
    }
    for fault, data in broken.items():
        yield _as(f"MGH: {fault}", "aside", data, ".mgh")
        if fault in {"cut in the voxels", "absurd sides"}:
            yield _as(f"MGZ: {fault}", "aside", gzip.compress(data, mtime=0), ".mgz")
    squeezed_file = gzip.compress(sound, mtime=0)
    yield _as("MGZ: wrong CRC", "aside", squeezed_file[:-8] + bytes(4) + squeezed_file[-4:], ".mgz")
    yield _as("MGZ: cut stream", "aside", squeezed_file[:700], ".mgz")
    yield _as("MGH: axes not told", "any", mgh_bytes(array, good=0), ".mgh")


def _swollen(head: bytes) -> bytes:
    """Gzip of a head and very many zeros."""
    check, block = zlib.crc32(head), bytes(1 << 20)
    for _ in range(BOMB_MIB):
        check = zlib.crc32(block, check)
    trailer = struct.pack("<2I", check, len(head) + (BOMB_MIB << 20))
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + deflate(head, BOMB_MIB) + trailer


def bombs() -> Iterator[Specimen]:
    """A few hundred kilobytes that unpack to more than a reader may take."""
    raw = volume_file(next(NUMBER))
    swollen = _swollen(raw)
    yield _as("bomb behind a small volume", "aside", swollen, ".nii.gz")
    array = volume(next(NUMBER))
    honest = header(array, dim=(3, 2000, 2000, 70, 1, 1, 1, 1))
    yield _as("bomb as declared", "aside", _swollen(honest), ".nii.gz")
    far = header(array, vox_offset=float(600 << 20))[:348]
    extension = b"\1\0\0\0" + struct.pack("<2i", 599 << 20, 6)
    yield _as("bomb as a header extension", "aside", _swollen(far + extension), ".nii.gz")
    mgz = mgh_bytes(array, dims=(2000, 2000, 70, 1))
    yield _as("bomb as MGZ", "aside", _swollen(mgz), ".mgz")


def nameless() -> Iterator[Specimen]:
    """Sound volumes that belong to nobody, or are results."""
    yield Specimen("volume that names no patient", "aside", volume_file(next(NUMBER)), "brain.nii")
    mask = f"sub-{next(NUMBER)}_T1w_mask.nii"
    yield Specimen("a mask", "skipped", volume_file(next(NUMBER)), mask)
    lesion = f"sub-{next(NUMBER)}_dseg.nii.gz"
    yield Specimen("a segmentation", "skipped", gzip.compress(volume_file(4), mtime=0), lesion)
