"""Text burned into pictures: what the header admits, and a screen for rows of letters at the border.

The screen promises nothing. It finds rows of thin, contrasting letters of usual size near the
border; it misses faint, tiny, huge or handwritten text, and text elsewhere. A person's look is the
only check, and a header that says NO proves nothing.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medssl.formats import dicom_pixels
from medssl.formats.elements import text

Grey = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.int64]

SEE = "Look at the picture, then name its file in the list given to --approve, or leave it out."
SEEN_BY_PERSON = {"US", "IVUS", "SC", "XC", "DOC"}
CLASS_WORDS = re.compile("Ultrasound|Secondary Capture|Photographic|Video")
CAPTURED = {"WSD", "SI", "DI", "DF", "DV", "DRW"}
TYPE_WORDS = re.compile("SCREEN|CAPTURE|ANNOT|REPORT|DOSE|BURN")
OVERLAY_GROUPS = range(0x6000, 0x6020, 2)

SIDE = 1280  # longest side of the picture that is screened, pixels
STROKE = 7  # strokes of letters are thinner than this, pixels of that picture
CONTRAST = 75  # least difference of a stroke from its surroundings, of 255
BORDER = 0.25  # share of each side that counts as border
LETTERS = 6  # in a row they make a text; L, R and AP are shorter
LETTER_HEIGHTS = (5, 64)  # pixels of that picture
LETTER_WIDTH = 0.75  # of its height
NEIGHBOURS = 200  # boxes to the left that are asked whether they continue a row
MAX_BOXES = 3000
MAX_FRAMES = 32  # frames beyond are sampled evenly


def findings(ds: Dataset) -> list[str]:
    """Return why a person should see the picture before it leaves; empty where nothing says so.

    The pixels are screened only where the header gives no reason.

    Raises:
        FormatError: the pixels cannot be decoded, so nobody could have looked.
    """
    return _told(ds) or _seen(ds)


def _told(ds: Dataset) -> list[str]:
    """Return the reasons that the header gives."""
    out = []
    if text(ds, "BurnedInAnnotation").upper() not in {"", "NO"}:
        out.append("the header says that text is burned into the picture")
    name = UID(str(ds.get("SOPClassUID") or "")).name
    if CLASS_WORDS.search(name) or text(ds, "Modality").upper() in SEEN_BY_PERSON:
        out.append("ultrasound, captures and photographs often show a name or a face")
    if text(ds, "ConversionType").upper() in CAPTURED:
        out.append("it was captured or digitised, so labels of the film may show")
    if TYPE_WORDS.search(text(ds, "ImageType").upper()):
        out.append("its ImageType names a captured or annotated screen")
    if any((g, 0x0102) in ds and (g, 0x3000) not in ds for g in OVERLAY_GROUPS):
        out.append("unused bits of its pixels hold an overlay")
    return out


def _seen(ds: Dataset) -> list[str]:
    if dicom_pixels.hides_bits(ds):
        return ["unused bits of its pixels hold something"]
    values = dicom_pixels.grey_values(ds)[0]
    frames = values[None] if values.ndim == 2 else values
    step = max(1, -(-len(frames) // MAX_FRAMES))
    most = max(longest_row(frame) for frame in frames[::step])
    return [f"the picture shows {most} letter-like marks in a row"] if most >= LETTERS else []


def longest_row(plane: npt.NDArray[Any]) -> int:
    """Return how many letter-like marks stand in one row near the border of a picture.

    Args:
        plane: grey values ``[H, W]``; NaN is background.

    Both polarities and text turned by a right angle are looked at.
    """
    image = _shown(plane)
    if image is None:
        return 0
    turned = (image, np.ascontiguousarray(np.rot90(image)))
    return max(_row(_strokes(grey)) for one in turned for grey in (one, 255 - one))


def _shown(plane: npt.NDArray[Any]) -> Grey | None:
    """Return a picture as 8-bit grey over its full range, no side longer than SIDE."""
    finite = plane[np.isfinite(plane)]
    if finite.size == 0 or not finite.max() > finite.min():
        return None
    low, high = float(finite.min()), float(finite.max())
    unit = (np.nan_to_num(plane, nan=low, posinf=high, neginf=low) - low) / (high - low)
    grey: Grey = np.rint(unit * 255).astype(np.uint8)
    shrink = SIDE / max(grey.shape)
    if shrink >= 1:
        return grey
    columns, rows = (max(1, round(n * shrink)) for n in grey.shape[::-1])
    return np.asarray(Image.fromarray(grey).resize((columns, rows), Image.Resampling.BOX))


def _strokes(grey: Grey) -> npt.NDArray[np.bool_]:
    """Return where a bright stroke thinner than STROKE stands out near the border (white top-hat)."""
    opened = grey
    for pick in (np.minimum, np.maximum):
        opened = _running(_running(opened, pick).T, pick).T
    mask = (grey - opened) >= CONTRAST
    rows, columns = (round(n * BORDER) for n in mask.shape)
    mask[rows : mask.shape[0] - rows, columns : mask.shape[1] - columns] = False
    return np.asarray(mask)


def _running(grey: Grey, pick: Callable[[Grey, Grey], Grey]) -> Grey:
    """Return the extremum of every STROKE rows around each row."""
    padded = np.pad(grey, ((STROKE // 2, STROKE // 2), (0, 0)), mode="edge")
    out = padded[: len(grey)]
    for shift in range(1, STROKE):
        out = pick(out, padded[shift : shift + len(grey)])
    return out


def _row(mask: npt.NDArray[np.bool_]) -> int:
    """Return the length, in letters, of the longest row of similar boxes side by side."""
    boxes = _letters(_boxes(mask))
    top, left, bottom, right = boxes.T
    height = bottom - top
    letters = np.maximum(1, np.rint((right - left) / (LETTER_WIDTH * height))).astype(np.int64)
    length = letters.copy()
    for j in range(1, len(boxes)):
        near = np.arange(max(0, j - NEIGHBOURS), j)
        small, big = np.minimum(height[near], height[j]), np.maximum(height[near], height[j])
        shared = np.minimum(bottom[near], bottom[j]) - np.maximum(top[near], top[j])
        gap = left[j] - right[near]
        follows = (big <= 1.6 * small) & (shared >= 0.7 * small)
        follows &= (gap >= -0.2 * height[j]) & (gap <= 0.9 * big)
        if follows.any():
            length[j] += length[near[follows]].max()
    return int(length.max(initial=0))


def _letters(boxes: Boxes) -> Boxes:
    """Keep boxes ``[n, 5]`` of a letter's size and filling; ``[n, 4]`` from left to right."""
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    low, high = LETTER_HEIGHTS
    good = (height >= low) & (height <= high) & (width <= 4 * height)
    good &= boxes[:, 4] > 0.12 * height * width
    chosen = boxes[good, :4]
    return chosen[np.argsort(chosen[:, 1], kind="stable")][:MAX_BOXES]


def _boxes(mask: npt.NDArray[np.bool_]) -> Boxes:
    """Return top, left, bottom, right and area of the 8-connected parts of a mask, ``[n, 5]``."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row, begin = np.nonzero(edges == 1)
    _, end = np.nonzero(edges == -1)
    parent = list(range(len(row)))
    for a, b in _touching(row, begin, end, len(mask)):
        first, second = _root(parent, a), _root(parent, b)
        parent[max(first, second)] = min(first, second)
    roots, part = np.unique([_root(parent, k) for k in parent], return_inverse=True)
    out = np.zeros((len(roots), 5), np.int64)
    out[:, :2] = max(mask.shape)
    for column, values, pick in (
        (0, row, np.minimum),
        (1, begin, np.minimum),
        (2, row + 1, np.maximum),
        (3, end, np.maximum),
        (4, end - begin, np.add),
    ):
        pick.at(out[:, column], part, values)
    return out


def _root(parent: list[int], k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


def _touching(row: Boxes, begin: Boxes, end: Boxes, rows: int) -> Iterator[tuple[int, int]]:
    """Yield pairs of runs in neighbouring rows that touch, corners included."""
    first = np.searchsorted(row, np.arange(rows + 1)).tolist()
    starts, ends = begin.tolist(), end.tolist()
    for y in range(1, rows):
        a, b = first[y - 1], first[y]
        while a < first[y] and b < first[y + 1]:
            if starts[a] <= ends[b] and starts[b] <= ends[a]:
                yield a, b
            if ends[a] < ends[b]:
                a += 1
            else:
                b += 1
