"""What is unusual about a picture among those the model was tested on at home, in words."""

from typing import Any

import numpy as np

import text
from evaluations import Review, parent
from medssl.errors import MedsslError
from medssl.evaluate import attributes

TAIL = 1.0
"""Per cent of the home pictures on either side that count as unusual."""
MOST = 3


def of(review: Review, case: int) -> list[str]:
    """Return at most three plain reasons; none where the home pictures' figures are not here."""
    model = parent(review.run, "classifier.json")
    try:
        here = attributes.read(review.run.path)
        home = attributes.read(model) if model is not None else None
    except (MedsslError, OSError, ValueError):
        return []
    if here is None or home is None:
        return []
    row = _row(here, review.keys[case])
    if row is None:
        return []
    return [words for words in (_reason(n, row.get(n), home) for n in text.FIGURES) if words][:MOST]


def _row(table: Any, key: tuple[str, int]) -> dict[str, Any] | None:
    images, slices = table.column("image_id").to_pylist(), table.column("slice").to_pylist()
    for k, one in enumerate(zip(images, slices, strict=True)):
        if one == key:
            return {n: table.column(n)[k].as_py() for n in table.column_names}
    return None


def _reason(name: str, value: Any, home: Any) -> str:
    if value is None or name not in home.column_names:
        return ""
    held = np.array([v for v in home.column(name).to_pylist() if v is not None], dtype=float)
    if held.size < 100:
        return ""
    low, high = np.percentile(held, [TAIL, 100 - TAIL])
    less, more = text.FIGURES[name]
    return less if value < low else more if value > high else ""
