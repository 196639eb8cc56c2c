"""Where a classifier looked: what hiding each part of a picture does to its answer.

Occlusion (Zeiler and Fergus 2014, section 4.2) asks the model itself and fits every encoder. The same
map of an encoder with random weights stands beside it (Adebayo et al. 2018): where the two agree, the
map tells of the picture and not of what was learnt.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from medssl.errors import NothingUsableError
from medssl.infer import Classifier
from medssl.models.embed import device, to_unit
from medssl.models.encoder import Encoder, build

GRID = 12
COVER = 2.0
"""Side of the hidden square in steps of the grid: neighbours overlap by half."""
BATCH = 48
RANDOM_SEED = 1
SAME_MAP = 0.5
"""Rank correlation with the map of random weights from which a map says nothing of its own."""


@dataclass(frozen=True)
class Looked:
    """One map.

    Attributes:
        values: float64 ``[G, G]`` in [0, 1]: change of the log-odds when the square around is hidden,
            as a share of the largest.
        change: largest change of the chance itself, -1 to 1 (below 0: hiding it raises the chance).
        random: rank correlation with the map of random weights; None where one of them is flat.
    """

    values: npt.NDArray[np.float64]
    change: float
    random: float | None

    @property
    def own(self) -> bool:
        """Return whether the map differs from that of random weights."""
        return self.random is not None and abs(self.random) < SAME_MAP


def look(model: Classifier, picture: npt.NDArray[np.uint16], name: str) -> Looked:
    """Hide one square after another and see how the chance of a class changes.

    Args:
        model: of ``infer.load``.
        picture: stored picture, uint16 ``[S, S]``, or ``[S, S, 3]`` for a model of colours.
        name: the class.

    Raises:
        NothingUsableError: the model reads whole volumes, of which no map is made.
    """
    if picture.ndim - (model.card.decode.colour == "rgb") != 2:
        words = "No map is made for models that read whole volumes at once."
        raise NothingUsableError(words, "E-VOLUME")
    k = model.classes.index(name)
    hidden = _hidden(picture)
    whole, odds = _odds(model, model.encoder, hidden, k)
    moved = odds - whole
    config, decode = model.card.encoder, model.card.decode
    other = build(config, decode.size, whole=False, seed=RANDOM_SEED, channels=decode.channels)
    random_whole, random_odds = _odds(model, other, hidden, k)
    shares = 1 / (1 + np.exp(-odds)) - 1 / (1 + np.exp(-whole))
    strongest = int(np.argmax(np.abs(moved)))
    top = np.abs(moved).max()
    values = np.abs(moved) / top if top > 0 else np.zeros_like(moved)
    return Looked(
        values.reshape(GRID, GRID),
        -float(shares[strongest]),
        _rank_correlation(np.abs(moved), np.abs(random_odds - random_whole)),
    )


def _rank_correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float | None:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    ranks = np.stack([_ranks(one), _ranks(other)])
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ranks, equal values sharing the mean of theirs."""
    _, place, many = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(many) - (many - 1) / 2)[place])


def _hidden(picture: npt.NDArray[np.uint16]) -> torch.Tensor:
    """Return the picture, and after it one copy per square of the grid, filled with its mean."""
    unit = to_unit(picture[None])
    side, step = picture.shape[0], picture.shape[0] / GRID
    out = unit.repeat(GRID * GRID + 1, 1, 1, 1)
    for at in range(GRID * GRID):
        middle = [(place + 0.5) * step for place in divmod(at, GRID)]
        rows, columns = (_span(m, COVER * step / 2, side) for m in middle)
        out[at + 1, :, rows, columns] = unit.mean()
    return out


def _span(middle: float, half: float, side: int) -> slice:
    return slice(max(0, round(middle - half)), min(side, max(1, round(middle + half))))


@torch.inference_mode()
def _odds(
    model: Classifier, encoder: Encoder, pictures: torch.Tensor, k: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the log-odds of class k of the picture itself, and of every hidden copy."""
    place = device()
    encoder = encoder.to(place).eval()
    head = model.head.double().to(place)
    found = []
    for start in range(0, len(pictures), BATCH):
        part = pictures[start : start + BATCH]
        images = (part.to(place) - model.card.mean) / model.card.std
        logits = head(encoder(images).double()) / model.temperature
        others = torch.cat([logits[:, :k], logits[:, k + 1 :]], 1).logsumexp(1)
        found.append((logits[:, k] - others).cpu().numpy())
    odds = np.concatenate(found)
    return float(odds[0]), odds[1:]
