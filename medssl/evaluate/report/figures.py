"""Figures of the report as inline SVG, first part: rows of numbers. The same numbers are tables."""

import html
import io
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medssl.evaluate.report.page import clean

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
GREEN, PURPLE, BLACK = "#009E73", "#AA4499", "#222222"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BLACK, "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.fontsize": 8,
}
WIDTH, HEIGHT = 5.2, 3.3
"""Of a figure in inches: one width for all, so that letters are of one size on the page."""

LABEL = 60
WRAP = 30
_TAG = re.compile(r"<[^>]*>")
_ID = re.compile(r'\bid="([^"]*)"|url\(#([^)]*)\)|href="#([^"]*)"')
_NOISE = re.compile(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)


@dataclass(frozen=True)
class Bar:
    """One row of a forest: its name, a number and perhaps an interval; the source's look different."""

    label: str
    value: float
    lower: float | None = None
    upper: float | None = None
    source: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line at a number, with its words for the key."""

    at: float
    words: str
    colour: str = GREY
    dash: Any = ":"


def drawn(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure, name: str, words: str) -> str:
    """Return inline SVG that a screen reader announces by ``words``.

    Args:
        figure: what was drawn under ``STYLE``.
        name: unique on the page; every id begins with it.
        words: of the picture, for those who do not see it.
    """
    out = io.StringIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": name}):
        # A name in a script that our font lacks is still text: the reader's own font has it.
        warnings.simplefilter("ignore")
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = _NOISE.sub("", text[text.index("<svg") :])
    text = _TAG.sub(lambda tag: _ID.sub(lambda m: _renamed(m, name), tag[0]), text)
    told = html.escape(clean(words, 600), quote=True)
    # WeasyPrint takes the alternative text of its PDF from <title>, browsers from aria-label.
    first = text.index(">") + 1
    text = f"{text[:first]}<title>{told}</title>{text[first:]}"
    return text.replace("<svg", f'<svg role="img" aria-label="{told}"', 1).strip()


def _renamed(found: re.Match[str], name: str) -> str:
    own = next(g for g in found.groups() if g is not None)
    return found[0].replace(own, f"{name}-{own}", 1) if own else found[0]


def label(text: str, wrap: int = WRAP) -> str:
    """Return a stranger's name as it may stand on an axis: visible, short, on few lines."""
    lines = textwrap.wrap(clean(text, LABEL), wrap) or [""]
    return "\n".join(lines[:3])


def forest(
    name: str,
    bars: Sequence[Bar],
    words: str,
    axis: str,
    marks: Sequence[Mark] = (),
    span: tuple[float, float] | None = None,
    size: tuple[float, float] | None = None,
) -> str:
    """Return numbers with their intervals, one under the other.

    Args:
        name: unique on the page.
        bars: from top to bottom.
        words: for the screen reader.
        axis: what the numbers are.
        marks: limits and levels to compare with.
        span: the least that the axis shows.
        size: in inches; without it as high as the rows ask for.
    """
    with mpl.rc_context(STYLE):
        figure, axes = drawn(*(size or (WIDTH, 0.95 + 0.34 * max(1, len(bars)))))
        for k, bar in enumerate(reversed(bars)):
            colour, shape = (GREY, "s") if bar.source else (BLUE, "o")
            if bar.lower is not None and bar.upper is not None:
                axes.plot([bar.lower, bar.upper], [k, k], color=colour, lw=2)
            axes.plot(bar.value, k, shape, color=colour, ms=6)
        axes.set_yticks(range(len(bars)), [label(b.label) for b in reversed(bars)])
        axes.set_ylim(-0.6, len(bars) - 0.4)
        _draw_marks(axes, marks)
        _widen(axes, bars, span)
        axes.set_xlabel(axis)
        return svg(figure, name, words)


def _draw_marks(axes: Axes, marks: Sequence[Mark]) -> None:
    for mark in marks:
        axes.axvline(mark.at, color=mark.colour, ls=mark.dash, lw=1.2, label=label(mark.words, 60))
    if marks:
        where: dict[str, Any] = {
            "loc": "lower left",
            "bbox_to_anchor": (0, 1.0),
            "ncols": len(marks),
        }
        axes.legend(frameon=False, borderaxespad=0.2, handlelength=1.6, **where)


def _widen(axes: Axes, bars: Sequence[Bar], span: tuple[float, float] | None) -> None:
    if span is None:
        return
    ends = [e for b in bars for e in (b.value, b.lower, b.upper) if e is not None]
    low, high = min([span[0], *ends]), max([span[1], *ends])
    room = 0.02 * (high - low)
    axes.set_xlim(low - room, high + room)


def dots(
    name: str,
    rows: Sequence[str],
    series: dict[str, list[tuple[float, float | None, float | None] | None]],
    words: str,
    axis: str,
    marks: Sequence[Mark] = (),
) -> str:
    """Return several series of numbers over the same rows, each with a shape of its own.

    Args:
        name: unique on the page.
        rows: from top to bottom.
        series: by name, value and interval per row; None where there is none.
        words, axis, marks: see ``forest``.
    """
    many = max(1, len(series))
    with mpl.rc_context(STYLE):
        figure, axes = drawn(WIDTH, 0.95 + (0.2 + 0.13 * many) * max(1, len(rows)))
        for s, (title, values) in enumerate(series.items()):
            colour, shape = COLOURS[s % len(COLOURS)], MARKERS[s % len(MARKERS)]
            shift = 0.6 * ((many - 1) / 2 - s) / many
            axes.plot([], [], shape, color=colour, label=label(title, 60))
            for k, one in enumerate(reversed(values)):
                if one is None:
                    continue
                value, low, high = one
                if low is not None and high is not None:
                    axes.plot([low, high], [k + shift] * 2, color=colour, lw=1.5)
                axes.plot(value, k + shift, shape, color=colour, ms=5)
        axes.set_yticks(range(len(rows)), [label(r) for r in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        for mark in marks:
            axes.axvline(mark.at, color=mark.colour, ls=mark.dash, lw=1.2, label=mark.words)
        axes.set_xlabel(axis)
        keys(axes)
        return svg(figure, name, words)


def keys(axes: Axes) -> None:
    """Put the key above the axes, in two columns: it hides no line."""
    axes.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2
    )
