"""What lies in a folder: regular files only; links, pipes and devices are reported, never opened."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

IMAGE_NAMES = (".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")
State = Literal["found", "indexed", "skipped", "quarantined"]


@dataclass(frozen=True)
class Found:
    """One entry of the tree and its verdict.

    Attributes:
        file_id: public name, such as ``f_000412``.
        path: real place; never leaves ``private/``.
        relative: path below its source.
        state: ``found`` until judged.
        code, sentence: why it was skipped or set aside.
        image_id: the image it became part of.
        patient: PatientID as its header or a table has it, for the private accounts.
    """

    file_id: str
    path: Path
    relative: Path
    state: State = "found"
    code: str = ""
    sentence: str = ""
    image_id: str = ""
    patient: str = ""

    def judged(self, state: State, code: str = "", sentence: str = "", image: str = "") -> "Found":
        """Return a copy with a verdict."""
        return replace(self, state=state, code=code, sentence=sentence, image_id=image)

    def refused(self, code: str, sentence: str) -> "Found":
        """Return a copy that is skipped (codes ``S-``) or quarantined (all other codes)."""
        return self.judged("skipped" if code.startswith("S-") else "quarantined", code, sentence)


def walk(sources: tuple[Path, ...]) -> list[Found]:
    """Return every entry below the sources in a stable order, special ones already judged."""
    entries: list[Found] = []
    seen: set[str] = set()
    for source in sources:
        for path, problem in _tree(source):
            base = source if source.is_dir() else source.parent
            entry = Found(f"f_{len(entries):06d}", path, path.relative_to(base))
            judged = _judge(entry, problem)
            place = os.path.abspath(path)  # noqa: PTH100  a name too long for the system has no stat
            if judged.state == "found" and place in seen:
                judged = entry.refused("S-TWICE", "lies below two of the sources; read once")
            seen.add(place)
            entries.append(judged)
    return entries


def _tree(source: Path) -> Iterator[tuple[Path, OSError | None]]:
    if not source.is_dir():
        yield source, None
        return
    blocked: list[OSError] = []
    for folder, directories, names in os.walk(source, onerror=blocked.append, followlinks=False):
        directories.sort()
        odd = (d for d in directories if _is_link(folder, d) or d.lower().endswith(IMAGE_NAMES))
        for name in sorted([*names, *odd]):
            yield Path(folder) / name, None
    for error in blocked:
        yield Path(os.fsdecode(error.filename)), error


def _is_link(folder: str, name: str) -> bool:
    """Unlike ``Path.is_symlink``, say no where the path is too long to be looked at."""
    return os.path.islink(os.path.join(folder, name))  # noqa: PTH114, PTH118


def _judge(entry: Found, problem: OSError | None) -> Found:
    if problem is not None:
        return entry.refused(
            "E-DIRECTORY", "a folder that may not be opened; check its permissions"
        )
    try:
        mode = entry.path.lstat().st_mode
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            words = "its path is longer than the system opens; move the folder nearer to the root"
            return entry.refused("E-PATH", words)
        return entry.refused("E-GONE", "vanished while the folder was read")
    if stat.S_ISLNK(mode):
        return entry.refused("S-LINK", "a link; links are not followed")
    if stat.S_ISDIR(mode):
        return entry.refused(
            "S-FOLDER", "a folder with the name of an image; what is in it was read"
        )
    if not stat.S_ISREG(mode):
        return entry.refused("S-SPECIAL", "not a regular file (pipe, socket or device)")
    if not os.access(entry.path, os.R_OK):
        return entry.refused("E-PERMISSION", "may not be read; check its permissions")
    return entry
