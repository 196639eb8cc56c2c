"""What a finished pretext task asks and answers, on some training pictures, for people to look at."""

import numpy as np
import numpy.typing as npt
import torch

from medssl.cohort.draw import Plan
from medssl.config import PretrainConfig
from medssl.files import atomic, write_json
from medssl.formats.raster import png
from medssl.methods.base import Method, Picture
from medssl.models.embed import device
from medssl.runs import Run
from medssl.train.checkpoints import Note
from medssl.train.course import Course, see
from medssl.train.feed import Feed

JUDGED, SHOWN = 64, 12
GAP, LARGEST = 2, 128
FACTS, SHEET = "pretext.json", "pretext.png"


def write(run: Run, method: Method, config: PretrainConfig, course: Course, note: Note) -> None:
    """Write ``pretext.png``, a row of tiles per picture, and ``pretext.json``, what they say.

    Shown are the first pictures of the first epoch, training patients all of them; figures are over
    the first 64. A picture that cannot be made is a note: the encoder is saved already.

    Args:
        run: where.
        method: trained; its encoder the one that the run keeps.
        config: of the training.
        course: of the training.
        note: takes a sentence for a person.
    """
    try:
        picture = _answered(method, config, course)
    except (RuntimeError, MemoryError) as error:
        words = (
            f"{SHEET} was not written ({type(error).__name__}: not enough memory?); the encoder is."
        )
        note(f"{words} [W-PICTURE]")
        return
    if picture is None:
        return
    tiles = picture.tiles[:SHOWN].float().cpu() * course.std + course.mean
    with atomic(run.path / SHEET) as out:
        out.write(png(sheet(tiles.clamp(0, 1).numpy())))
    facts = {
        "method": config.method.name,
        "columns": list(picture.columns),
        "rows": list(picture.words[:SHOWN]),
        "shown": len(tiles),
        "judged": len(picture.tiles),
        "figures": {k: round(v, 4) for k, v in picture.figures.items()},
    }
    write_json(run.path / FACTS, facts)


@torch.no_grad()
def _answered(method: Method, config: PretrainConfig, course: Course) -> Picture | None:
    whole = course.plan(0)
    many = min(JUDGED, config.batch, len(whole.rows))
    plan = Plan(whole.rows[:many], whole.patient[:many], np.array([0, many]))
    batch = next(iter(Feed(course.store, plan))).to(device())
    modes = [(part, part.training) for part in method.modules()]
    home = next(method.parameters()).device
    method.to(device()).eval()
    try:
        return method.picture(see(batch, config, 0, course, method))
    finally:
        method.to(home)
        for part, training in modes:
            part.training = training


def sheet(tiles: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Lay tiles out as one picture, white between them.

    Args:
        tiles: ``[n, k, C, (D,) H, W]`` in [0, 1]; of volumes the middle plane is shown.

    Returns:
        uint8 ``[height, width, 3]``.
    """
    if tiles.ndim == 6:
        tiles = tiles[:, :, :, tiles.shape[3] // 2]
    n, k, _, height, width = tiles.shape
    every = max(1, -(-max(height, width) // LARGEST))
    tiles = tiles[..., ::every, ::every]
    height, width = tiles.shape[-2:]
    out = np.full((n * (height + GAP) - GAP, k * (width + GAP) - GAP, 3), 255, np.uint8)
    for row in range(n):
        for column in range(k):
            tile = np.rint(255 * tiles[row, column]).astype(np.uint8).transpose(1, 2, 0)
            top, left = row * (height + GAP), column * (width + GAP)
            out[top : top + height, left : left + width] = np.broadcast_to(tile, (height, width, 3))
    return out
