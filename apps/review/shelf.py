"""What a browser may fetch: planes and small pictures, for one session, behind tokens.

A token is random, belongs to one image (or list) of one session, tells nothing, and dies half an hour
after its last use or when the session ends. Nothing else is ever put into an address.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from medssl.originals import Original

IDLE_S = 1800.0
HELD_BYTES = 1 << 30
MOST_LISTS = 256

Key = tuple[str, int]
Thumbnail = Callable[[Key], npt.NDArray[Any] | None]


@dataclass
class _Held:
    """One image on the shelf."""

    session: str
    original: Original
    remark: str
    used: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        return int(self.original.values.nbytes)


class Shelf:
    """Opened images by token, for all sessions of the server; the longest unused make room.

    Args:
        held_bytes: room for all images together.
        idle_s: seconds after which an unused one is put away.
    """

    def __init__(self, held_bytes: int = HELD_BYTES, idle_s: float = IDLE_S) -> None:
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._token: dict[tuple[str, str], str] = {}
        self._room, self._idle = held_bytes, idle_s
        self._turn = threading.RLock()

    def put(
        self, session: str, name: str, original: Original, remark: str = "", *, spare: bool = False
    ) -> str:
        """Keep an image for a session and return its token; the same name has the same token.

        Args:
            session, name: whose, and which.
            original: the image.
            remark: what is to be said beside it.
            spare: not asked for yet, so it takes room only where there is some left.
        """
        with self._turn:
            token = self._token.get((session, name)) or secrets.token_urlsafe(24)
            if spare and self._full(int(original.values.nbytes)):
                return token
            self._token[session, name] = token
            self._held[token] = _Held(session, original, remark)
            self._held.move_to_end(token)
            self._tidy()
            return token

    def find(self, session: str, name: str) -> tuple[str, Original, str] | None:
        """Return token, image and remark of a session's name, if it is still here."""
        with self._turn:
            self._tidy()
            token = self._token.get((session, name), "")
            held = self._held.get(token)
            return None if held is None else (token, self._touch(token, held), held.remark)

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

    def _full(self, more: int) -> bool:
        return sum(h.size for h in self._held.values()) + more > self._room

    def _touch(self, token: str, held: _Held) -> Original:
        held.used = time.monotonic()
        self._held.move_to_end(token)
        return held.original

    def _tidy(self) -> None:
        now = time.monotonic()
        for token in [t for t, h in self._held.items() if now - h.used > self._idle]:
            self._forget(token)
        while len(self._held) > 1 and self._full(0):
            self._forget(next(iter(self._held)))

    def _forget(self, token: str) -> None:
        self._held.pop(token, None)
        for name in [n for n, t in self._token.items() if t == token]:
            del self._token[name]


@dataclass
class _List:
    """The cases of one session's list, and who draws them small."""

    session: str
    name: str
    keys: list[Key]
    draw: Thumbnail
    used: float = field(default_factory=time.monotonic)


class Lists:
    """Lists of cases by token, under the same rules."""

    def __init__(self, most: int = MOST_LISTS, idle_s: float = IDLE_S) -> None:
        self._lists: OrderedDict[str, _List] = OrderedDict()
        self._most, self._idle = most, idle_s
        self._turn = threading.RLock()

    def put(self, session: str, name: str, draw: Thumbnail, keys: list[Key]) -> str:
        """Keep a list for a session and return its token; the same list has the same token."""
        with self._turn:
            self._tidy()
            for token, held in self._lists.items():
                if (held.session, held.name) == (session, name) and held.keys is keys:
                    held.used = time.monotonic()
                    return token
            token = secrets.token_urlsafe(24)
            self._lists[token] = _List(session, name, keys, draw)
            while len(self._lists) > self._most:
                self._lists.popitem(last=False)
            return token

    def thumb(self, token: str, number: int) -> bytes | None:
        """Return one small picture, 8 bits a pixel; None where the token or the case is not."""
        with self._turn:
            self._tidy()
            held = self._lists.get(token)
            if held is None or not 0 <= number < len(held.keys):
                return None
            held.used = time.monotonic()
        made = held.draw(held.keys[number])
        return None if made is None else made.tobytes()

    def drop(self, session: str) -> None:
        """Forget every list of a session."""
        with self._turn:
            for token in [t for t, h in self._lists.items() if h.session == session]:
                del self._lists[token]

    def _tidy(self) -> None:
        now = time.monotonic()
        for token in [t for t, h in self._lists.items() if now - h.used > self._idle]:
            del self._lists[token]


SHELF, LISTS = Shelf(), Lists()
