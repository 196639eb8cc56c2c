"""One picture as the stream of every codec that medssl reads; RLE and JPEG Lossless are our own."""

import base64
import io
import struct

import jpeg_ls
import numpy as np
from openjpeg.utils import encode_array
from PIL import Image

RLE = "1.2.840.10008.1.2.5"
JPEG, JPEG_EXTENDED, LOSSLESS, LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS, JPEG_LS_NEAR, J2K_LOSSLESS, J2K = (f"1.2.840.10008.1.2.4.{n}" for n in (80, 81, 90, 91))
HT_LOSSLESS, HT_RPCL, HT = (f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203))
EIGHT_BIT = {JPEG, JPEG_EXTENDED}
HT_PICTURE = 77
# picture(77) as High-Throughput JPEG 2000, reversible, 16 bits, by OpenJPH: no permitted library
# writes this syntax.
HT_STREAM = base64.b64decode(
    "/0//UQApQAAAAAAkAAAAMAAAAAAAAAAAAAAAJAAAADAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAIEBE"
    "AB/1wACiCIkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAB1sAAf+TwAAvvABP5h/wH/A1+LF3"
    "if71HZ9ffB/noftVfBO++l6Af7uH3gfuz96O7xX6t3lR/grfiD+9t+CX7on3ePvKPdK+bB+yr9mb60XfFO5++fH46/"
    "3m/nB/s7/aW+xZ9p/7gD2rflmvqP9Uj9I34q32ffUJ9iL7Zz3DvmUPoZ+ts9o/7Dv6tnqNXk4foKfNc+sr9Wv1v/Rz"
    "ehy9lx5Wf1XHsuvWKen7dP861bx9XivvkT/St+dz6AfnxfOUedg8WP49D5N/wVvkLfPQ+Hq8Kx4an4cf/r1+sn//Xr"
    "9Zf3+vX6y/f9ev1l9/69frLqB9CADGQgAxtALAABfRcAAF9CQAAX0AO2MML/yDgeAyaG0zGsADGApa1VFsKSM5IABA"
    "AxUHHAxYYz1gaKW8mZQloKChoXEPPEovS3NGjaAIBhjAgIC6AHFO5i4SfiCA4OaGhkYB2oYWgiElYCLubHpsQCW00g"
    "ACyPHAJjaMAgMaCQAQAEUB/gRTf6hlr/pBbklr/ABKA/+BAcAPkgACQCGdAUEjgzb+Ybuo2CwnJMvJTDRAWjD0UDGQ"
    "cFCgUFBwQMFGBPCoABSFK9JAGQys90T4uhcELMEABjQsY6OrECjIgCMWreihdOQYNQ2LRkpjSIu2MkV2CRq4KAJeBE"
    "xCQJEFGEA40QATgPUcwMEdwECpTtcwBp0kCpBwKhpgajxeSAAQgGqdAYv6ok0FGsrNMQ0kAVgAdQFZgAwWEolAYKhg"
    "0jIklAHNGDhlVqTB+wd5EJfOoOMQCTDIAICUjLxPColEZBDuBzxqDEJpUdWsVoZDSb5quQUAQBSs5UGFCgzYCcBWQA"
    "IHDkUAJmDIEaeIGSa6iI7V/hgVIUKhdCxGs3jhcABgQz8BwAAv2TgABfspAAC/YcAWAANRwSNf4xCGIY9RYAI7VsOd"
    "cxZlDqBJJxWIMGRwlAAGiAADVAKAASAgoaKIVrhIxyEAASCiDwAEAIGsxhoQo0CEhnRoR0G2wASIg5oJHAABBgi4EG"
    "CuluMAYlSHjClTEgAAZdjCgAc0QA0UBsJ9A8vQhZBG5kACgIKiA1RgAQXQlwZ6QDaUh0IBuKGAJS1CDUABHIKAAiSA"
    "AACAsV/wIFDzkYoSfJhAGqFeEQQvBpTKjaNP+cZ63A6eJhcCTACwgYEAAdhBIsfvWBSOCCcO6ZpAWAAhQPB4+GFeBl"
    "KgJDQJASLw5S5KgAIJAthhyeBTXUEoDBBQ+xydAF2AQzOo9IfMsR8ygAGAgABRSiDVtlRCAwkoFFAwigBCA/4ALEKQ"
    "wMIFBGuSiEWVAs8f3nxmqnTYGI5Gosqg5NPuCF5yZEDSVSQACCWqfJ2AAMqsdeCgKQwr6cwIgUbg5Z7jIRWQk3KShq"
    "OApJK13IJ69XI0mR+WEybyUcIhBMdiTsL5PDokW72BAfACAJy4CQ6w6JgMA5cFAQMBWRNAiQHMVAEdDUBGDuCQBPQj"
    "AIoBQCcYHD5BAEgGAIAEQIAAB5DAAhqAAAQAYAABGAAAAgAABgCBA8MJ4UahzOBkKYkt7bGPJgcD0z7ggQqRTmSYWt"
    "CQTUd/OQhx3okum8EDWhURkRvpyaCZyql0kfwCkCQBJrrAwCAIEJaBjkCnQHUClhhgegCDYcCqYLAUwAAeQAEFRGAA"
    "AtC/AQ19Fkgw5AkGD3QA2QAlGFLSCAxBqZivMaZ5K4Ie3FTAWMBRQCAwQMAow0sCjAUPCAkUC/VLDms/A3aSpBRQUE"
    "AEhC+nQgegwIBfVzLU5UMjEYMHNANV8jsBLw+pXWamUAQWLgAk52D0KHAEABUSFQEQMCCABixAwACECQcUqaYAs+A9"
    "QJHRxxOYap4YFAwgD40mDoMAIFJ2DQVVJ3X0OU4DGxVSkb0wWSnrORLq4AgC4EWUEecqXc0OAVyQ0yBQJMnhqjgUIQ"
    "CpeABQFR6PyVHc4yyZyAAqsUE5YRlpaLuxDwqzCBoA1FaqokA4QgAhECALkAYMPIBATFawUUBHNCDoowADnuaBsBzQ"
    "XQMETCBBAQEYcAGA8wIWeMAAAjMUEIGBEziIgQtJvIQGNeITVguOQ3DZadovo8D2NO+TFgHg6HwdFBAkkRtKCCDGVH"
    "mBeEkU9kRMWkoGwAD+oEvGVpQ3DwABAIzcLDCaCTJIwCHAgAICKFyAWMlZaGkxUIEBEkAAgQEhQM0FUCMYKChsOHDA"
    "BHoyQCEWCyzwmTAHBWcipSbXGhXBDgS84IIDFiCAgQUwsEDBABwUIKSBc2kNhk7W23gYgIxYLJYZB5eFRCDIQD9fDN"
    "5hOOV8owAQNIhBjSkK4IUAXvS4YoQUAABB0sKlACaYZV/HpgAUIgQQgQUMGPDAAwkoJDgwxYhgGPIMRDTmXKGkxAyI"
    "jO8sCrioAHfoAGVULwvd0MawOQBjBJSc0CNUoUnhNIUcVBQhkLuz6iAAHcHw6SrwWhsQ1ViOAACStwFHEYHull8qcT"
    "COKEdxVwjS1fV57zHFDVq9C4AAawKeFjgtyoQcM5oF/9k="
)


def rle(frame: np.ndarray) -> bytes:
    """One RLE frame of literal runs; a segment per byte of a sample, the most significant first."""
    samples = frame[None] if frame.ndim == 2 else np.moveaxis(frame, -1, 0)
    planes = []
    for sample in samples:
        cells = sample.astype(sample.dtype.newbyteorder(">")).view(np.uint8)
        width = sample.dtype.itemsize
        planes += [cells.reshape(*sample.shape, width)[..., k] for k in range(width)]
    return rle_of([b"".join(literal(row.tobytes()) for row in plane) for plane in planes])


def literal(row: bytes) -> bytes:
    """Bytes as PackBits literal runs of at most 128."""
    runs = [row[k : k + 128] for k in range(0, len(row), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def rle_of(segments: list[bytes], count: int | None = None) -> bytes:
    """An RLE frame of encoded segments; ``count`` is what its header claims."""
    even = [s + b"\0" * (len(s) % 2) for s in segments]
    starts = [64 + sum(map(len, even[:k])) for k in range(len(even))]
    table = [len(even) if count is None else count, *starts]
    return struct.pack("<16I", *table, *[0] * (16 - len(table))) + b"".join(even)


def jpeg(frame: np.ndarray, quality: int = 92) -> bytes:
    """A baseline JPEG of uint8 ``[rows, columns]`` or ``[rows, columns, 3]``."""
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=quality)
    return out.getvalue()


def jpeg_lossless(frame: np.ndarray, predictor: int = 1, bits: int = 12) -> bytes:
    """A lossless JPEG (process 14) of uint16 ``[rows, columns]``: ITU-T T.81, annex H.

    Args:
        frame: the samples.
        predictor: 1 takes the sample to the left, 2 the one above.
        bits: precision of the samples.
    """
    rows, columns = frame.shape
    values = frame.astype(np.int64)
    guess = np.zeros_like(values)
    guess[:, 1:] = values[:, :-1]
    if predictor == 2:
        guess[1:] = values[:-1]
    guess[1:, 0] = values[:-1, 0]
    guess[0, 1:] = values[0, :-1]
    guess[0, 0] = 1 << (bits - 1)
    text = "".join(_coded(int(d)) for d in (values - guess).ravel())
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    start = struct.pack(">BHHB", bits, rows, columns, 1) + b"\1\x11\0"
    parts = ((0xC3, start), (0xC4, table), (0xDA, bytes([1, 1, 0, predictor, 0, 0])))
    head = b"".join(struct.pack(">BBH", 255, m, len(p) + 2) + p for m, p in parts)
    return b"\xff\xd8" + head + scan + b"\xff\xd9"


def _coded(difference: int) -> str:
    """One difference: its category as a code of five bits, then its own bits."""
    size = abs(difference).bit_length()
    low = difference if difference >= 0 else difference + (1 << size) - 1
    return f"{size:05b}" + (f"{low:0{size}b}" if size else "")


def jpeg_ls_stream(frame: np.ndarray, error: int = 0) -> bytes:
    """A JPEG-LS stream, near-lossless where ``error`` is above 0."""
    return bytes(jpeg_ls.encode_array(np.ascontiguousarray(frame), lossy_error=error))


def j2k(frame: np.ndarray, bits: int = 12, ratio: float = 0) -> bytes:
    """A JPEG 2000 code stream; reversible unless a compression ratio is given."""
    colour = frame.ndim == 3
    options = {"compression_ratios": [ratio]} if ratio else {}
    return bytes(
        encode_array(
            np.ascontiguousarray(frame),
            bits_stored=bits,
            photometric_interpretation=1 if colour else 2,
            use_mct=colour,
            **options,
        )
    )


def stream(syntax: str, frame: np.ndarray) -> bytes:
    """The stream of one 12-bit picture in a syntax; 8 bits of it where the codec has no more.

    HTJ2K has one embedded stream, of ``picture(77)``, whatever ``frame`` is.
    """
    if syntax in EIGHT_BIT:
        return jpeg((frame >> 4).astype(np.uint8))
    writers = {
        RLE: rle,
        LOSSLESS: lambda f: jpeg_lossless(f, 2),
        LOSSLESS_SV1: jpeg_lossless,
        JPEG_LS: jpeg_ls_stream,
        JPEG_LS_NEAR: lambda f: jpeg_ls_stream(f, 2),
        J2K_LOSSLESS: j2k,
        J2K: lambda f: j2k(f, ratio=3),
    }
    return HT_STREAM if syntax in {HT_LOSSLESS, HT_RPCL, HT} else writers[syntax](frame)


def depth(syntax: str) -> dict[str, int]:
    """The header elements that say how deep the stream's samples are."""
    bits = 8 if syntax in EIGHT_BIT else 16 if syntax in {HT_LOSSLESS, HT_RPCL, HT} else 12
    allocated = 8 if bits == 8 else 16
    return {"BitsAllocated": allocated, "BitsStored": bits, "HighBit": bits - 1}
