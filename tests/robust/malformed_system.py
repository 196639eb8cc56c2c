"""What lies among images in real folders: other files, odd names, links, pipes, giants."""

import gzip
import io
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from robust.malformed_bytes import Expected, Specimen, dicom, part10
from robust.malformed_nifti import header, volume, volume_file

NUMBER = count(7000)
ROOT_READS_ALL = os.geteuid() == 0
OLD, LATE = 0, 4_070_908_800  # 1970 and 2099
CANARY = "robust-canary"


def build(stream: np.random.Generator) -> Iterator[Specimen]:
    """Every specimen that is no image, or is one in an odd place."""
    for make in (clutter, disguised, names, deep, links, special, giants, times):
        yield from make()
    noise = stream.integers(0, 256, 3000, dtype=np.uint8).tobytes()
    yield Specimen("random bytes", "refused", noise, "image.dcm")
    yield Specimen("random bytes", "refused", noise, "volume.nii")
    yield Specimen("marker, then noise", "aside", bytes(128) + b"DICM" + noise)
    yield Specimen("zeros", "refused", bytes(3000))


def clutter() -> Iterator[Specimen]:
    """What operating systems and people leave behind: no reason for alarm."""
    kinds = {
        ".DS_Store": b"\0\0\0\1Bud1" + bytes(500),
        "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
        "desktop.ini": b"[.ShellClassInfo]\r\n",
        "._image.dcm": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(100),
        "._sub-1_T1w.nii.gz": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(100),
        "README.txt": b"Export of today\n",
        "report.pdf": b"%PDF-1.7\n%%EOF\n",
        "autorun.inf": b"[autorun]\r\nopen=viewer.exe\r\n",
        "viewer.exe": b"MZ\x90\0" + bytes(300),
        "labels.csv": b"patient_id,finding\nM1,0\n",
        "sidecar.json": b'{"EchoTime": 0.03}\n',
        "notes": b"call the ward\n",
        "empty": b"",
        "script.py": f"open({CANARY!r}, 'w')\n".encode(),
        "weights.pkl": b"cos\nsystem\n(S'touch " + CANARY.encode() + b"'\ntR.",
    }
    for name, data in kinds.items():
        yield Specimen(f"clutter: {name}", "skipped", data, name)


def _archive(kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(zipfile.ZipInfo("../../escape.dcm"), b"x" * 100)
    else:
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("../../escape.dcm"), io.BytesIO())
    return out.getvalue()


def _image(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(40 * 30, dtype=np.uint8).reshape(40, 30)).save(out, kind)
    return out.getvalue()


def disguised() -> Iterator[Specimen]:
    """Content of one kind under the name of another."""
    page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    cases: list[tuple[str, Expected, bytes, str]] = [
        ("empty file", "refused", b"", "image.dcm"),
        ("empty volume", "refused", b"", "sub-e_T1w.nii"),
        ("text", "refused", b"hello\n" * 60, "image.dcm"),
        ("text", "refused", b"hello\n" * 90, "sub-t_T1w.nii.gz"),
        ("HTML error page", "refused", page, "image.dcm"),
        ("HTML error page", "refused", page * 9, "sub-h_T1w.nii.gz"),
        ("large-file pointer", "refused", pointer, "image.dcm"),
        ("annex pointer", "refused", b"/annex/objects/SHA256E-s5--00.nii.gz\n", "sub-a_T1w.nii.gz"),
        ("zip that climbs out", "refused", _archive("zip"), "image.dcm"),
        (
            "tar that climbs out",
            "refused",
            gzip.compress(_archive("tar"), mtime=0),
            "sub-z_T1w.nii.gz",
        ),
        ("PNG called DICOM", "refused", _image("PNG"), "image.dcm"),
        ("PNG called NIfTI", "refused", _image("PNG"), "sub-p_T1w.nii"),
        ("PNG of nobody", "refused", _image("PNG"), "photo.png"),
        ("TIFF of nobody", "refused", _image("TIFF"), "photo.tif"),
        ("broken JPEG of nobody", "refused", _image("JPEG")[:200], "photo.jpg"),
        ("NIfTI called DICOM", "refused", volume_file(next(NUMBER)), "image.dcm"),
        ("gzip of a DICOM", "refused", gzip.compress(dicom(next(NUMBER)), mtime=0), "image.dcm.gz"),
        ("program called DICOM", "refused", b"\x7fELF" + bytes(500), "image.dcm"),
        ("pickle called DICOM", "refused", b"cos\nsystem\n(S'touch x'\ntR.", "image.dcm"),
        ("UTF-16 text", "refused", "patient".encode("utf-16") * 30, "image.IMA"),
    ]
    for fault, expected, data, name in cases:
        yield Specimen(f"foreign: {fault}", expected, data, name)
    for name in ("picture.png", "sub-d_T1w.nii.gz", "IM0001", "scan.txt"):
        number = next(NUMBER)
        yield Specimen(f"good: DICOM called {name}", "good", dicom(number), name, shows=number)


def names() -> Iterator[Specimen]:
    """Good images under names that break what reads names."""
    odd = {
        "255 bytes": "n" * 251 + ".dcm",
        "not UTF-8": "caf\udce9\udcff.dcm",
        "newline": "two\nlines.dcm",
        "tab and carriage return": "a\tb\rc.dcm",
        "shell": "$(touch canary);`id`&|.dcm",
        "leading dash": "-rf.dcm",
        "quotes": "a'b\"c.dcm",
        "spaces": "  a b  .dcm",
        "formula": "=cmd|'.dcm",
        "HTML": "<img src=x onerror=alert(1)>.dcm",
        "ANSI": "\x1b[31mred\x1b[0m.dcm",
        "format": "%s%n{0}{{7*7}}.dcm",
        "bidirectional": "\u202emcd.exe",
        "emoji": "\U0001f9e0.dcm",
        "backslash": "a\\b\\..\\c.dcm",
        "three dots": "....dcm",
        "reserved": "CON.dcm",
        "comma and semicolon": "a,b;c.dcm",
        "decomposed": "cafe\u0301.dcm",
    }
    for fault, name in odd.items():
        number = next(NUMBER)
        yield Specimen(f"good: name: {fault}", "good", dicom(number), name, shows=number)


def deep() -> Iterator[Specimen]:
    """Folders in folders, up to paths that the system itself refuses."""
    number = next(NUMBER)
    below = "/".join(["d"] * 200) + "/image.dcm"
    yield Specimen("good: 200 folders deep", "good", dicom(number), below, shows=number)
    number = next(NUMBER)
    below = "/".join(["long" * 50] * 15) + "/image.dcm"
    yield Specimen("good: a path of 3,000 bytes", "good", dicom(number), below, shows=number)
    raw = dicom(next(NUMBER))
    # At 4,092 bytes a folder can be listed and nothing in it be looked at: the system stops at 4,095.
    for length in (4092, 6000):
        yield Specimen(f"path of {length:,} bytes", "refused", _too_deep(raw, length), "x")


def _too_deep(data: bytes, length: int) -> Callable[[Path], None]:
    """Make a path that only relative steps can reach."""

    def make(path: Path) -> None:
        path.mkdir()
        here, left = os.open(path, os.O_DIRECTORY), length - len(os.fsencode(path))
        while left > 0:
            # A step and its slash; the last two share what is left, so that none is empty.
            step = 200 if left > 400 else left // 2 if left > 200 else left
            name = "p" * (step - 1)
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here, left = below, left - step
        os.mkdir("last", dir_fd=here)
        os.symlink("nowhere", "link", dir_fd=here)
        made = os.open("image.dcm", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here)
        with os.fdopen(made, "wb") as out:
            out.write(data)
        os.close(here)

    return make


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def links() -> Iterator[Specimen]:
    """Links are reported and not followed, wherever they lead."""
    for target in (
        "/dev/zero",
        "/dev/full",
        "/dev/stdin",
        "nowhere.dcm",
        "/etc/passwd",
        "..",
        "/",
        ".",
    ):
        yield Specimen(f"link to {target}", "skipped", _link(target), "link.dcm")
    yield Specimen("link to itself", "skipped", _link("link.dcm"), "link.dcm")
    yield Specimen("link in a loop", "skipped", _link("b.dcm"), "a.dcm", "loop")
    yield Specimen("link in a loop", "skipped", _link("a.dcm"), "b.dcm", "loop")
    number = next(NUMBER)
    raw = dicom(number)
    yield Specimen("good: target of a link", "good", raw, "a.dcm", "target", number)
    yield Specimen("link to a neighbour", "skipped", _link("a.dcm"), "b.dcm", "target")
    number = next(NUMBER)
    yield Specimen("good: file of two names", "good", dicom(number), "a.dcm", "hard", number)
    hard = lambda path: path.hardlink_to(path.with_name("a.dcm"))  # noqa: E731
    yield Specimen("its second name", "refused", hard, "b.dcm", "hard")


def _socket(path: Path) -> None:
    # A socket's address has at most 108 bytes: bind by a short relative name.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _closed(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)
        path.chmod(0)

    return make


def _closed_folder(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        (path / "image.dcm").write_bytes(data)
        path.chmod(0)

    return make


def special() -> Iterator[Specimen]:
    """Entries that are no regular files, or may not be read."""
    yield Specimen("named pipe", "skipped", os.mkfifo, "pipe.dcm")
    yield Specimen("named pipe", "skipped", os.mkfifo, "sub-f_T1w.nii.gz")
    yield Specimen("socket", "skipped", _socket, "socket.dcm")
    yield Specimen("folder called like an image", "refused", os.mkdir, "folder.dcm")
    yield Specimen("folder called like a volume", "refused", os.mkdir, "sub-x_T1w.nii.gz")
    # Root reads everything: there such files prove nothing.
    closed: Expected = "any" if ROOT_READS_ALL else "aside"
    yield Specimen("file that may not be read", closed, _closed(dicom(next(NUMBER))))
    yield Specimen(
        "folder that may not be read", closed, _closed_folder(dicom(next(NUMBER))), "closed"
    )


def _sparse(data: bytes, size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)
        os.truncate(path, size)

    return make


def giants() -> Iterator[Specimen]:
    """Sparse files: gigabytes by name, kilobytes on disk."""
    raw = dicom(next(NUMBER))
    yield Specimen("zeros, 12 GB", "refused", _sparse(b"", 12 << 30))
    yield Specimen("picture, then 6 GB of zeros", "aside", _sparse(raw, 6 << 30))
    head = part10(b"\x08\0\x60\0CS\x02\0DX" + b"\x19\0\x10\x10OB\0\0" + b"\0\0\0\xf0")
    yield Specimen("an element of 4 GB", "aside", _sparse(head, 5 << 30))
    array = volume(next(NUMBER))
    yield Specimen("volume of 12 GB as declared", "aside",
                   _sparse(header(array, dim=(3, 2000, 1500, 2000, 1, 1, 1, 1)), 12 << 30),
                   "sub-g1_T1w.nii")  # fmt: skip
    yield Specimen("volume, then 8 GB of zeros", "aside",
                   _sparse(volume_file(next(NUMBER)), 8 << 30), "sub-g2_T1w.nii")  # fmt: skip
    yield Specimen("zeros called gzip, 9 GB", "aside", _sparse(b"", 9 << 30), "sub-g3_T1w.nii.gz")


def _dated(data: bytes, when: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)
        os.utime(path, (when, when))

    return make


def times() -> Iterator[Specimen]:
    """Good files from another time."""
    for year, when in ((1970, OLD), (2099, LATE), (1901, -2_000_000_000)):
        number = next(NUMBER)
        yield Specimen(
            f"good: modified in {year}", "good", _dated(dicom(number), when), shows=number
        )
