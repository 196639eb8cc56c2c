"""Planes for the viewer: opened at full depth, kept for one session, fetched behind tokens.

A token is random, belongs to one image of one session, tells nothing, and dies half an hour after
its last use. Nothing is ever put into an address but tokens and plane numbers.
"""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.config import DecodeConfig
from medssl.errors import MedsslError
from medssl.loading import validate
from medssl.originals import Original, Reader
from medssl.store import Store, open_store

IDLE_S = 1800.0
HELD_BYTES = 1 << 30
MOST_LISTS = 64
BYTES = {"i2": 2, "u2": 2, "u1": 1, "f4": 4, "rgb": 3}


@dataclass
class _Held:
    """One image on the shelf."""

    session: str
    original: Original
    used: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        return int(self.original.values.nbytes)


class Shelf:
    """Opened images by token, for all sessions of the server; the longest unused make room."""

    def __init__(self, held_bytes: int = HELD_BYTES, idle_s: float = IDLE_S) -> None:
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._token: dict[tuple[str, str], str] = {}
        self._room, self._idle = held_bytes, idle_s
        self._turn = threading.Lock()

    def put(self, session: str, name: str, original: Original) -> str:
        """Keep an image for a session and return its token; the same name has the same token."""
        with self._turn:
            token = self._token.get((session, name)) or secrets.token_urlsafe(24)
            self._token[session, name] = token
            self._held[token] = _Held(session, original)
            self._held.move_to_end(token)
            self._tidy()
            return token

    def find(self, session: str, name: str) -> tuple[str, Original] | None:
        """Return token and image of a session's name, if it is still here."""
        with self._turn:
            self._tidy()
            token = self._token.get((session, name), "")
            held = self._held.get(token)
            return None if held is None else (token, self._touch(token, held))

    def plane(self, token: str, number: int) -> bytes | None:
        """Return the bytes of one plane, little-endian; None where the token or the plane is not."""
        with self._turn:
            self._tidy()
            held = self._held.get(token)
            if held is None:
                return None
            values = self._touch(token, held).values
        return values[number].tobytes() if 0 <= number < len(values) else None

    def drop(self, session: str) -> None:
        """Forget everything of a session."""
        with self._turn:
            for token in [t for t, h in self._held.items() if h.session == session]:
                self._forget(token)

    def __len__(self) -> int:
        """Return how many images are held."""
        return len(self._held)

    def _touch(self, token: str, held: _Held) -> Original:
        held.used = time.monotonic()
        self._held.move_to_end(token)
        return held.original

    def _tidy(self) -> None:
        now = time.monotonic()
        for token in [t for t, h in self._held.items() if now - h.used > self._idle]:
            self._forget(token)
        while len(self._held) > 1 and sum(h.size for h in self._held.values()) > self._room:
            self._forget(next(iter(self._held)))

    def _forget(self, token: str) -> None:
        self._held.pop(token, None)
        for name in [n for n, t in self._token.items() if t == token]:
            del self._token[name]


SHELF = Shelf()
FRONT, AHEAD = Reader(), Reader()
"""One child opens what a person waits for, another what comes next."""


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
            return found, ""
        small = self.stored(image_id)
        return small, found

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
        return found[0], found[1], _remarks.get(found[0], "")
    original, remark = source.original(image_id, reader)
    if original is None:
        return remark
    token = SHELF.put(session, name, original)
    _remarks[token] = remark
    return token, original, remark


_remarks: dict[str, str] = {}


_lists: dict[str, tuple[str, Source, list[tuple[str, int]]]] = {}


def thumbs(source: Source, session: str, keys: list[tuple[str, int]]) -> str:
    """Return the address below which a session's list finds the small pictures of its cases."""
    for token, (owner, known, held) in _lists.items():
        if (owner, known.cohort, known.decode) == (
            session,
            source.cohort,
            source.decode,
        ) and held is keys:
            return f"/thumbs/{token}"
    token = secrets.token_urlsafe(24)
    _lists[token] = session, source, keys
    while len(_lists) > MOST_LISTS:
        del _lists[next(iter(_lists))]
    return f"/thumbs/{token}"


def thumb(token: str, number: int) -> bytes | None:
    """Return one small picture, 8 bits a pixel; None where the token or the case is not."""
    found = _lists.get(token)
    if found is None or not 0 <= number < len(found[2]):
        return None
    made = found[1].thumbnail(found[2][number])
    return None if made is None else made.tobytes()


def ahead(source: Source, session: str, images: list[str]) -> None:
    """Open the images that come next while the present one is read."""
    todo = [i for i in images if SHELF.find(session, f"{source.cohort}|{i}") is None]
    if todo:
        work = threading.Thread(
            target=lambda: [opened(source, session, i, AHEAD) for i in todo], daemon=True
        )
        work.start()
