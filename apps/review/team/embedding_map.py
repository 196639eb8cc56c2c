"""The map of the pictures as the model sees them: two principal axes over both hospitals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

import text_team as text
from evaluations import Key
from team import parts

FloatArray = npt.NDArray[np.float64]
MOST_FIT, MOST_HERE, MOST_SOURCE = 2000, 1500, 600
LEAST = 8
BLUE, ORANGE, YELLOW = "#56B4E9", "#E69F00", "#F0E442"


@dataclass(frozen=True)
class Map:
    """Places on two axes.

    Attributes:
        here: of every picture here ``[n, 2]``.
        source: of the source's held-out pictures ``[m, 2]``; empty where they did not travel.
        share: of the variance that the two axes keep.
        shown, shown_source: rows that are drawn.
    """

    here: FloatArray
    source: FloatArray
    share: float
    shown: npt.NDArray[np.int64]
    shown_source: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Axes:
    """Where a map lies among embeddings: its middle ``[width]``, two axes ``[2, width]``, and the
    share of the variance that they keep.
    """

    mean: FloatArray
    found: FloatArray
    share: float

    def of(self, rows: FloatArray) -> FloatArray:
        """Return the places ``[n, 2]`` of embeddings ``[n, width]``."""
        return np.asarray((rows - self.mean) @ self.found.T)


def axes(here: FloatArray, source: FloatArray | None) -> Axes:
    """Return two principal axes; both hospitals weigh alike, however many pictures each has.

    Args:
        here: embeddings ``[n, width]``.
        source: of the source's held-out pictures; None where they did not travel.
    """
    every = [here] if source is None else [here, source]
    both = [rows[_rows(len(rows), MOST_FIT)] for rows in every if len(rows)]
    mean = np.mean([rows.mean(0) for rows in both], axis=0)
    weighed = np.concatenate([(rows - mean) / np.sqrt(len(rows)) for rows in both])
    _, size, found = np.linalg.svd(weighed, full_matrices=False)
    found = found[:2]
    # An axis has no own direction: its largest entry is made positive, so that maps stay alike.
    ends = np.abs(found).argmax(1)
    found = found * np.sign(found[np.arange(len(found)), ends])[:, None]
    total = float((size**2).sum())
    return Axes(mean, found, float((size[:2] ** 2).sum() / total) if total > 0 else 0.0)


def places(here: FloatArray, source: FloatArray | None, found: Axes, keep: list[int]) -> Map:
    """Return where every picture lies, and which of them are drawn.

    Args:
        here: embeddings ``[n, width]``.
        source: of the source's held-out pictures; None where they did not travel.
        found: the axes.
        keep: rows here that are drawn whatever else is.
    """
    theirs = np.empty((0, here.shape[1])) if source is None else source
    shown = np.union1d(_rows(len(here), MOST_HERE), np.array(keep, dtype=np.int64))
    return Map(
        found.of(here),
        found.of(theirs),
        found.share,
        shown.astype(np.int64),
        _rows(len(theirs), MOST_SOURCE),
    )


def _rows(many: int, most: int) -> npt.NDArray[np.int64]:
    if many <= most:
        return np.arange(many)
    return np.sort(np.random.default_rng(0).choice(many, most, replace=False))


def figure(found: Map, keys: list[Key], hand: int | None) -> go.Figure:
    """Return the map as a scatter; a mark here carries its row.

    Args:
        found: the places.
        keys: of the rows here.
        hand: row of the case at hand; None without one.
    """
    out = go.Figure()
    if len(found.shown_source):
        out.add_trace(
            _marks(found.source[found.shown_source], text.SOURCE, ORANGE, "square-open", 6)
        )
    mine = _marks(found.here[found.shown], text.HERE, BLUE, "circle", 7)
    mine.update(
        customdata=found.shown.tolist(), text=[parts.called(keys[k]) for k in found.shown],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    out.add_trace(mine)
    if hand is not None:
        star = _marks(found.here[[hand]], text.AT_HAND, YELLOW, "star", 20)
        star.update(marker={"line": {"color": "#FFFFFF", "width": 1}}, customdata=[hand])
        out.add_trace(star)
    out.update_layout(
        height=560, xaxis_title=text.AXES[0], yaxis_title=text.AXES[1], clickmode="event+select",
        legend={"orientation": "h", "y": 1.08}, margin={"t": 30, "b": 50}, dragmode="pan",
    )  # fmt: skip
    return out


def _marks(at: FloatArray, name: str, colour: str, shape: str, size: int) -> go.Scatter:
    style: dict[str, Any] = {"color": colour, "symbol": shape, "size": size, "opacity": 0.8}
    two = at if at.shape[1] == 2 else np.c_[at, np.zeros(len(at))]
    x, y = two[:, 0].tolist(), two[:, 1].tolist()
    return go.Scatter(x=x, y=y, mode="markers", name=name, marker=style, hoverinfo="name")
