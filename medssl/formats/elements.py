"""Single elements of a DICOM object, read straight from their bytes where these are plain.

pydicom makes an object of every element before it gives a value: two thirds of a header's time.
Whatever is not plain (multi-valued, another character set, rare types) goes its way.
"""

from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

PLAIN_TEXT = frozenset({"AE", "AS", "CS", "DA", "LO", "SH", "TM", "UI"})
UNSIGNED = {"US": 2, "UL": 4}


@lru_cache(maxsize=256)
def _known(keyword: str) -> tuple[BaseTag, str]:
    tag = Tag(keyword)
    return tag, dictionary_VR(tag)


def text(ds: Dataset, keyword: str) -> str:
    """Return an element as text; empty where absent."""
    tag, kind = _known(keyword)
    raw = ds.get_item(tag)
    if raw is None:
        return ""
    if isinstance(raw, RawDataElement) and (raw.VR or kind) in PLAIN_TEXT:
        held = raw.value
        if isinstance(held, bytes) and held.isascii() and b"\\" not in held and b"\x1b" not in held:
            return held.decode("ascii").replace("\0", "").strip()
    found = ds.get(keyword)
    return "" if found is None else str(found).replace("\0", "").strip()


def value(ds: Dataset, keyword: str) -> Any:
    """Return an element's value as pydicom gives it; None where absent."""
    tag, kind = _known(keyword)
    raw = ds.get_item(tag)
    if raw is None:
        return None
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
        size = UNSIGNED.get(raw.VR or kind)
        if size is not None and len(raw.value) == size:
            return int.from_bytes(raw.value, "little" if raw.is_little_endian else "big")
    return ds.get(keyword)


def has(ds: Dataset, keyword: str) -> bool:
    """Return whether an element is there, whatever it holds."""
    return ds.get_item(_known(keyword)[0]) is not None
