"""Charts of the research pages: colour, shape and dash always tell the same thing."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import streamlit as st

from evaluations import short
from research.logs import Series

ON_DARK = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#BBBBBB", "#FFFFFF")
ON_LIGHT = ("#0072B2", "#D55E00", "#007A5A", "#AA4499", "#333333", "#8A6D00", "#666666", "#000000")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "x", "star", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MOST_KINDS = len(SHAPES)
QUIET = {"displayModeBar": False, "scrollZoom": False}
FEW_MARKS = 40


def colours() -> tuple[str, ...]:
    """Return the colours that stand out from the theme at hand."""
    return ON_LIGHT if st.context.theme.type == "light" else ON_DARK


def plain(words: object) -> str:
    """Return foreign text as plotly shows it: it reads tags, so none may be left."""
    return html.escape(short(words))


def curves(named: Sequence[tuple[str, Series]], x: str, y: str) -> go.Figure:
    """Return one line per run, told apart by colour, dash and marker."""
    figure = go.Figure()
    for k, (name, series) in enumerate(named):
        colour = colours()[k % len(DASHES)]
        few = len(series.steps) <= FEW_MARKS
        figure.add_scatter(
            x=series.steps,
            y=series.values,
            name=plain(name),
            mode="lines+markers" if few else "lines",
            line={"color": colour, "dash": DASHES[k % len(DASHES)], "width": 2},
            marker={"symbol": SHAPES[k % MOST_KINDS], "size": 7},
        )
    return _framed(figure, x, y)


def steps(
    named: Sequence[tuple[str, npt.NDArray[Any]]], edges: npt.NDArray[Any], x: str, y: str
) -> go.Figure:
    """Return counts per bin as outlines."""
    figure = go.Figure()
    for k, (name, counts) in enumerate(named):
        line = {"color": colours()[k], "dash": DASHES[k], "width": 2, "shape": "hv"}
        ends = np.r_[counts, counts[-1:]]
        figure.add_scatter(x=edges, y=ends, name=plain(name), mode="lines", line=line)
    return _framed(figure, x, y)


def cloud(
    points: npt.NDArray[np.float64],
    kinds: Sequence[str],
    levels: Sequence[str],
    chosen: int | None,
    words: tuple[str, str, str],
) -> go.Figure:
    """Return a map of points, one trace per level; ``customdata`` is the row of a point.

    Args:
        points: float64 ``[n, 2]``.
        kinds: level of every point.
        levels: in the order of the key, at most ``MOST_KINDS``.
        chosen: a row to ring; None for none.
        words: name of x, name of y, and of the ring.
    """
    figure, kind = go.Figure(), np.asarray(kinds, dtype=object)
    for k, level in enumerate(levels):
        rows = np.flatnonzero(kind == level)
        mark = {"symbol": SHAPES[k], "color": colours()[k], "size": 7, "opacity": 0.85}
        figure.add_scatter(
            x=points[rows, 0], y=points[rows, 1], name=plain(level), mode="markers", marker=mark,
            customdata=rows, hovertemplate="%{fullData.name}<extra></extra>",
        )  # fmt: skip
    if chosen is not None:
        ring = {"symbol": "circle-open", "size": 18, "color": colours()[-1], "line": {"width": 3}}
        figure.add_scatter(
            x=points[[chosen], 0], y=points[[chosen], 1], name=words[2], mode="markers",
            marker=ring, customdata=[chosen],
        )  # fmt: skip
    return _framed(figure, words[0], words[1], height=460)


def _framed(figure: go.Figure, x: str, y: str, height: int = 300) -> go.Figure:
    figure.update_layout(
        xaxis_title=x,
        yaxis_title=y,
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        showlegend=True,
    )
    return figure
