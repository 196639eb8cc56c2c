"""A folder of faulty files with good twins among them: ``build(root, seed)``.

Every kind of section 4 of the reliability requirements is here; the verdict expected of each file
is what the house rules ask for, not what some version of the code does. Never ``grep -r`` or
``tar`` such a folder: it has pipes, loops and sparse giants.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust import malformed_dicom, malformed_nifti, malformed_streams, malformed_system
from robust.malformed_bytes import Expected, Specimen

PARTS = (
    (malformed_dicom, 1000),
    (malformed_streams, 3000),
    (malformed_nifti, 5000),
    (malformed_system, 7000),
)
PLACE = re.compile(r"case-(\d{4})/(.*)", re.DOTALL)


@dataclass(frozen=True)
class Planted:
    """One file of the tree.

    Attributes:
        name: path below the root.
        fault: what is wrong with it, in one plain phrase.
        expected: ``good`` is indexed and decoded; ``aside`` quarantined; ``skipped`` has a code
            ``S-``; ``refused`` is either; ``any`` is any verdict.
        shows: number of the picture that must be stored; None where the tree cannot tell.
    """

    name: str
    fault: str
    expected: Expected
    shows: int | None = None


@dataclass(frozen=True)
class Tree:
    """What was planted where."""

    root: Path
    files: tuple[Planted, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Files per expected verdict."""
        return dict(Counter(f.expected for f in self.files))

    def find(self, path: str) -> Planted | None:
        """The planted file behind a path that some table may have altered; None if no one's.

        The number of a file's own folder tells which it is; inside a folder with several files,
        the letters of its name do.
        """
        match = PLACE.search(path)
        if match is None:
            return None
        own = [f for f in self.files if f.name.startswith(f"case-{match[1]}/")]
        if len(own) == 1:
            return own[0]
        return next((f for f in own if f.name.endswith("/" + match[2])), None)


def build(root: Path, seed: int = 0) -> Tree:
    """Write the tree below ``root``; the same seed writes the same bytes."""
    stream = np.random.default_rng(seed)
    planted = list(groups(stream))
    files = []
    for k, place in enumerate(stream.permutation(len(planted))):
        for specimen in planted[place]:
            name = f"case-{k:04d}/{specimen.name}"
            _write(root / name, specimen)
            files.append(Planted(name, specimen.fault, specimen.expected, specimen.shows))
    return Tree(root, tuple(files))


def groups(stream: np.random.Generator, parts: tuple[Any, ...] = PARTS) -> Iterator[list[Specimen]]:
    """Specimens that lie in one folder, together; patients are numbered anew for every tree."""
    found: dict[str, list[Specimen]] = {}
    for part, first in parts:
        part.NUMBER = itertools.count(first)
        for k, specimen in enumerate(part.build(stream)):
            key = specimen.group or f"{part.__name__} {k}"
            found.setdefault(key, []).append(specimen)
    yield from found.values()


def _write(path: Path, specimen: Specimen) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(specimen.data, bytes):
        path.write_bytes(specimen.data)
    else:
        specimen.data(path)
