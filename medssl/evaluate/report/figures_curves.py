"""Figures of the report as inline SVG, second part: curves and histograms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medssl.evaluate.report.figures import (
    BLACK,
    BLUE,
    COLOURS,
    DASHES,
    GREY,
    HEIGHT,
    MARKERS,
    ORANGE,
    STYLE,
    WIDTH,
    drawn,
    keys,
    label,
    svg,
)
from medssl.evaluate.report.page import clean, number

FloatArray = npt.NDArray[np.float64]
GRID = 201
BINS = 20
MOST_TICKS = 8
LEAST_RATIO = 1.35
"""Of two marks of a logarithmic axis that both have words."""

BESIDE = 0.055
"""Height of a name beside a line, as a share of the axis."""


@dataclass(frozen=True)
class Line:
    """A line of a figure: its name and points, and perhaps limits."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    lower: Sequence[float | None] | None = None
    upper: Sequence[float | None] | None = None


def roc_points(y: npt.NDArray[np.int64], p: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Return false alarms and findings on an even grid; None where only one class occurs.

    Args:
        y: 0/1 outcomes [n].
        p: scores [n].
    """
    if y.size == 0 or y.min() == y.max():
        return None
    order = np.argsort(-p, kind="stable")
    y, p = y[order], p[order]
    # Equal scores are one step: a path through them would depend on the order of the rows.
    last = np.r_[p[1:] != p[:-1], True]
    rises = np.r_[0, np.cumsum(y)[last] / y.sum()]
    falls = np.r_[0, np.cumsum(1 - y)[last] / (1 - y).sum()]
    if rises.size <= GRID:
        return falls, rises
    grid = np.linspace(0, 1, GRID)
    return grid, np.interp(grid, falls, rises)


def roc(name: str, lines: Sequence[tuple[str, Any, Any]], at: tuple[float, float] | None) -> str:
    """Return ROC curves of both hospitals; the cross is the working threshold here."""
    with mpl.rc_context(STYLE):
        figure, axes = drawn(WIDTH, 4.4)
        for title, x, y in lines:
            source = title.startswith("source")
            axes.plot(x, y, "--" if source else "-", color=GREY if source else BLUE, label=title)
        if at is not None:
            axes.plot(*at, "X", color=ORANGE, ms=8, label="working threshold, here")
        axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1, label="a coin")
        axes.set(
            xlabel="share of those without that are flagged", ylabel="share of those with found"
        )
        axes.legend(frameon=False, loc="lower right")
        return svg(figure, name, "ROC curves: findings against false alarms at both hospitals.")


def calibration(
    name: str,
    bands: dict[str, Any],
    scores: FloatArray,
    words: str,
    size: tuple[float, float] = (WIDTH, 4.6),
) -> str:
    """Return the smoothed curve with its band and ten points; below it how often each chance is given.

    Args:
        name: unique on the page.
        bands: the plain form of ``bands.CalibrationBands``.
        scores: chances of the class at the new hospital [n].
        words: for the screen reader.
        size: in inches.
    """
    points, curve = bands["points"], bands.get("curve")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1.2, label="percentages are right")
        if curve is not None:
            axes.plot(curve["p"], curve["observed"], color=BLUE, lw=1.8, label="smoothed, here")
            _band(axes, curve["p"], curve["lower"], curve["upper"])
        x, y = np.array(points["predicted"]), np.array(points["observed"])
        ends = np.array([y - points["lower"], points["upper"] - y], dtype=np.float64)
        style: dict[str, Any] = {"fmt": "o", "color": BLACK, "lw": 1, "ms": 4}
        axes.errorbar(x, y, yerr=np.clip(ends, 0, None), label="ten equal groups", **style)
        axes.set(ylabel="share that had it", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(
            frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2
        )
        counts, edges = np.histogram(scores, np.linspace(0, 1, BINS + 1))
        below.stairs(100 * counts / max(1, scores.size), edges, color=BLUE, fill=True, alpha=0.5)
        below.set(xlabel="chance the model gives", ylabel="% of all")
        return svg(figure, name, words)


def _band(axes: Axes, x: Any, low: Any, high: Any, colour: str = BLUE) -> None:
    if low is None or high is None:
        return
    lows, highs = (np.array([np.nan if v is None else v for v in e], float) for e in (low, high))
    axes.fill_between(x, lows, highs, color=colour, alpha=0.18, lw=0)


def decision(name: str, curve: dict[str, Any], line: float) -> str:
    """Return net benefit of the model, of flagging all and of flagging none, by threshold."""
    with mpl.rc_context(STYLE):
        figure, axes = drawn(WIDTH, HEIGHT)
        x = curve["threshold"]
        axes.plot(x, curve["model"], color=BLUE, lw=1.8, label="the model")
        _band(axes, x, curve["lower"], curve["upper"])
        axes.plot(x, curve["treat_all"], color=ORANGE, ls="--", label="flag everyone")
        axes.axhline(0, color=GREY, ls=":", label="flag no one")
        axes.axvline(line, color=BLACK, ls="-.", lw=1, label="working threshold")
        top = max(0.02, max(curve["model"]), max(curve["treat_all"]))
        low = -0.6 * top
        axes.set_ylim(low, 1.1 * top)
        axes.set_xlim(min(0.0, line), max(1.02 * max(x), 1.02 * line))
        _at_line(axes, line, float(np.interp(line, x, curve["model"])), low)
        axes.set(xlabel="threshold (chance from which a picture is flagged)", ylabel="net benefit")
        keys(axes)
        return svg(
            figure, name, "Net benefit of the model by threshold, beside flagging all or none."
        )


def _at_line(axes: Axes, line: float, value: float, low: float) -> None:
    """Mark the model at the working threshold; an arrow says that it lies below what is drawn."""
    if value >= low:
        axes.plot(line, value, "X", color=BLUE, ms=7, label=f"the model there: {number(value, 2)}")
        return
    words = f"the model there: {number(value, 2)}, below the axis"
    axes.plot(line, 0.93 * low, "v", color=BLUE, ms=8, label=words, clip_on=False)


def histogram(
    name: str,
    source: FloatArray,
    here: FloatArray,
    line: float | None,
    size: tuple[float, float] = (WIDTH, HEIGHT),
) -> str:
    """Return how often each chance is given at both hospitals; needs no labels.

    Args:
        name: unique on the page.
        source, here: chances of one class [n].
        line: the working threshold.
        size: in inches.
    """
    edges = np.linspace(0, 1, BINS + 1)
    with mpl.rc_context(STYLE):
        figure, axes = drawn(*size)
        for scores, colour, dash, title in (
            (source, GREY, "--", "source"),
            (here, BLUE, "-", "here"),
        ):
            if scores.size:
                share = 100 * np.histogram(scores, edges)[0] / scores.size
                axes.stairs(share, edges, color=colour, ls=dash, lw=1.6, label=title)
        if line is not None:
            axes.axvline(line, color=BLACK, ls="-.", lw=1, label="working threshold")
        axes.set(xlabel="chance the model gives", ylabel="% of the pictures", xlim=(0, 1))
        keys(axes)
        return svg(figure, name, "How often each chance is given, at the source and here.")


def lines(
    name: str,
    found: Sequence[Line],
    words: str,
    axes_names: tuple[str, str],
    levels: Sequence[tuple[float, str]] = (),
    *,
    logarithmic: bool = False,
    whole: bool = False,
    direct: bool = False,
) -> str:
    """Return lines with markers and intervals, and horizontal levels to compare with.

    Args:
        name: unique on the page.
        found: the lines.
        words: for the screen reader.
        axes_names: of x and y.
        levels: height and words.
        logarithmic: of x.
        whole: whether x counts, so that its marks are whole numbers.
        direct: whether names stand beside the lines instead of in a key.
    """
    with mpl.rc_context(STYLE):
        figure, axes = drawn(WIDTH, 4.2 if direct else HEIGHT)
        for k, line in enumerate(found):
            colour, shape = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
            axes.plot(line.x, line.y, f"{shape}-", color=colour, ms=5, label=label(line.label, 40))
            if line.lower is not None and line.upper is not None:
                _whiskers(axes, line, colour)
        for k, (height, title) in enumerate(levels):
            axes.axhline(
                height,
                color=GREY if k else BLACK,
                ls=DASHES[1 + k % 5],
                lw=1.2,
                label=label(title, 40),
            )
        if logarithmic:
            axes.set_xscale("log")
            ticks = _apart(sorted({x for line in found for x in line.x}))
            axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
            axes.minorticks_off()
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1])
        if direct:
            _beside(axes, found, levels)
        else:
            keys(axes)
        return svg(figure, name, words)


def _apart(ticks: Sequence[float]) -> list[float]:
    """Return marks of a logarithmic axis whose words do not touch, the largest first kept."""
    out: list[float] = []
    for tick in reversed(ticks):
        if not out or tick <= out[-1] / LEAST_RATIO:
            out.append(tick)
    return out[::-1][-MOST_TICKS:]


def _beside(axes: Axes, found: Sequence[Line], levels: Sequence[tuple[float, str]]) -> None:
    """Write the name of every line and level to its right, spread so that none covers another."""
    named = [(line.y[-1], line.label, COLOURS[k % len(COLOURS)]) for k, line in enumerate(found)]
    named += [(y, words, GREY if k else BLACK) for k, (y, words) in enumerate(levels)]
    named.sort(key=lambda one: one[0])
    low, high = axes.get_ylim()
    gap = BESIDE * (high - low)
    heights: list[float] = []
    for y, _, _ in named:
        heights.append(max(y, heights[-1] + gap) if heights else y)
    # Too high a pile slides down as a whole, as far as the lowest name allows.
    over = max(0.0, heights[-1] - high)
    for k in reversed(range(len(heights))):
        above = heights[k + 1] - gap if k + 1 < len(heights) else heights[k] - over
        heights[k] = min(heights[k], above)
    where = axes.get_yaxis_transform()
    for (y, words, colour), height in zip(named, heights, strict=True):
        axes.plot([1.0, 1.04], [y, height], color=colour, lw=0.8, transform=where, clip_on=False)
        style: dict[str, Any] = {"va": "center", "fontsize": 8, "color": colour, "transform": where}
        axes.text(1.05, height, clean(words, 34), **style)


def _whiskers(axes: Axes, line: Line, colour: str) -> None:
    assert line.lower is not None  # noqa: S101
    assert line.upper is not None  # noqa: S101
    for x, low, high in zip(line.x, line.lower, line.upper, strict=True):
        if low is not None and high is not None:
            axes.plot([x, x], [low, high], color=colour, lw=1.2)
