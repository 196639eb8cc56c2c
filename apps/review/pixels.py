"""Where a case's pictures come from, and what is opened ahead of the reader."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.config import DecodeConfig
from medssl.errors import MedsslError
from medssl.loading import validate
from medssl.originals import Original, Reader
from medssl.store import Store, open_store
from shelf import LISTS, SHELF

FRONT, AHEAD = Reader(), Reader()
"""One child opens what a person waits for, another what comes next."""
CHANGED = "The file of this picture is not the one that was read in: it changed since."


@dataclass(frozen=True)
class Source:
    """Where the pictures of one cohort come from: its own files, else what the model was shown."""

    cohort: Path | None
    decode: dict[str, Any]

    def original(self, image_id: str, reader: Reader) -> tuple[Original | None, str]:
        """Return an image and why it is not at full depth; no image where there is none at all."""
        if self.cohort is None:
            return None, "The pictures of this hospital are not on this machine."
        found = reader.open(self.cohort, image_id)
        if isinstance(found, Original):
            known = self._digest(image_id)
            if known is None or known == found.facts["source"]:
                return found, ""
            found = CHANGED
        return self.stored(image_id), found

    def _digest(self, image_id: str) -> str | None:
        """Return the digest of the files that the store was made from; None where it is not known."""
        found = _store(self.cohort, self.decode) if self.cohort is not None else None
        rows = found[1].get(image_id, []) if found is not None else []
        if found is None or not rows:
            return None
        return str(found[0].index.column("source")[rows[0]].as_py())

    def stored(self, image_id: str) -> Original | None:
        """Return the planes that the model was shown, as it was shown them."""
        found = _store(self.cohort, self.decode) if self.cohort is not None else None
        rows = found[1].get(image_id, []) if found is not None else []
        if found is None or not rows:
            return None
        store, index = found[0], np.array(rows)
        values = store.pictures(index)
        facts = {
            "dtype": "u2", "blank": None, "low": 0.0, "high": 65535.0, "units": "",
            "inverted": False, "voi": None, "spacing": [None, None, None], "letters": None,
            "volume": False, "calibrated": True,
            "slice_index": store.column("slice")[index].tolist(),
        }  # fmt: skip
        return Original(facts, np.ascontiguousarray(values))

    def plane(self, key: tuple[str, int]) -> npt.NDArray[np.uint16] | None:
        """Return what the model was given of a case: ``[S, S]``, or ``[S, S, S]`` of whole volumes."""
        found, row = self._row(key)
        return None if found is None else found.planes(np.array([row]))[0]

    def thumbnail(self, key: tuple[str, int]) -> npt.NDArray[np.uint8] | None:
        """Return a stored picture as 8 bits; of a whole volume its middle plane."""
        found, row = self._row(key)
        if found is None:
            return None
        return (found.pictures(np.array([row]))[0] >> 8).astype(np.uint8)

    def box(self, key: tuple[str, int]) -> tuple[int, int, int, int] | None:
        """Return top, left, height and width of a picture in its stored square, pixels."""
        found, row = self._row(key)
        if found is None:
            return None
        top, left, height, width = found.index.column("box")[row].as_py()
        return top, left, height, width

    @property
    def side(self) -> int:
        """Return the side of the stored squares, pixels; 0 where there is no store."""
        found = _store(self.cohort, self.decode) if self.cohort is not None else None
        return 0 if found is None else found[0].config.size

    def _row(self, key: tuple[str, int]) -> tuple[Store | None, int]:
        found = _store(self.cohort, self.decode) if self.cohort is not None else None
        row = found[2].get(key) if found is not None else None
        return (None, -1) if found is None or row is None else (found[0], row)


_stores: dict[tuple[str, str], tuple[Store, dict[str, list[int]], dict[tuple[str, int], int]]] = {}


def _store(
    cohort: Path, decode: dict[str, Any]
) -> tuple[Store, dict[str, list[int]], dict[tuple[str, int], int]] | None:
    """Open a store once; its pictures by image, and by image and slice."""
    name = str(cohort), repr(sorted(decode.items()))
    if name not in _stores:
        try:
            store = open_store(cohort, validate(DecodeConfig, decode, "decode"))
        except MedsslError:
            return None
        by_image: dict[str, list[int]] = {}
        keys = list(zip(store.column("image_id"), store.column("slice").tolist(), strict=True))
        for row, (image, _) in enumerate(keys):
            by_image.setdefault(image, []).append(row)
        _stores[name] = store, by_image, {key: row for row, key in enumerate(keys)}
    return _stores[name]


def opened(
    source: Source, session: str, image_id: str, reader: Reader
) -> tuple[str, Original, str] | str:
    """Return token, image and remark of a session's image, opening it where it is not on the shelf."""
    name = f"{source.cohort}|{image_id}"
    found = SHELF.find(session, name)
    if found is not None:
        return found
    original, remark = source.original(image_id, reader)
    if original is None:
        return remark
    spare = reader is AHEAD
    return SHELF.put(session, name, original, remark, spare=spare), original, remark


def thumbs(source: Source, session: str, keys: list[tuple[str, int]]) -> str:
    """Return the address below which a session's list finds the small pictures of its cases."""
    made = LISTS.put(session, str(source.cohort), source.thumbnail, keys)
    return f"/thumbs/{made}"


def leave(session: str) -> None:
    """Put away everything of a session: its tokens open nothing any more."""
    SHELF.drop(session)
    LISTS.drop(session)


_under_way: set[tuple[str, str]] = set()
_turn = threading.Lock()


def ahead(source: Source, session: str, images: list[str]) -> None:
    """Open the images that come next while the present one is read, each once."""
    with _turn:
        todo = [
            i for i in images
            if (session, i) not in _under_way and SHELF.find(session, f"{source.cohort}|{i}") is None
        ]  # fmt: skip
        _under_way.update((session, i) for i in todo)

    def work() -> None:
        for image in todo:
            try:
                opened(source, session, image, AHEAD)
            finally:
                with _turn:
                    _under_way.discard((session, image))

    if todo:
        threading.Thread(target=work, daemon=True).start()
