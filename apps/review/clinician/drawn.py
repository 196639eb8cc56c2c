"""Small pictures of the clinician's pages, as drawings with words of their own."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

COLUMNS, STEP, RADIUS = 20, 11, 4
ORANGE, BLUE, GREY, WHITE = "#E69F00", "#56B4E9", "#c9c9c9", "#f4f4f4"
WIDTH, ROW, LEFT, SPAN = 340, 34, 96, 200


@dataclass(frozen=True)
class Bar:
    """One row: its name, a share of 100 and its limits, and whether it stands for this hospital."""

    name: str
    value: float
    lower: float | None
    upper: float | None
    here: bool


def dots(filled: int) -> str:
    """Return 100 dots, the first ``filled`` of them full."""
    circles = []
    for k in range(100):
        row, column = divmod(k, COLUMNS)
        x, y = column * STEP + STEP // 2, row * STEP + STEP // 2
        fill = ORANGE if k < filled else "none"
        circles.append(f'<circle cx="{x}" cy="{y}" r="{RADIUS}" fill="{fill}" stroke="{GREY}"/>')
    return _svg(COLUMNS * STEP, 100 // COLUMNS * STEP, "".join(circles))


def bars(rows: list[Bar], most: float = 100.0) -> str:
    """Return horizontal bars from 0 to ``most``, each with its limits as a whisker."""
    parts = []
    for k, bar in enumerate(rows):
        y = k * ROW
        length, colour = SPAN * min(bar.value, most) / most, ORANGE if bar.here else BLUE
        parts.append(_text(0, y + 21, bar.name))
        parts.append(
            f'<rect x="{LEFT}" y="{y + 9}" width="{length:.1f}" height="16" fill="{colour}"/>'
        )
        if bar.lower is not None and bar.upper is not None:
            low, high = (LEFT + SPAN * min(v, most) / most for v in (bar.lower, bar.upper))
            parts.append(
                f'<path d="M{low:.1f} {y + 17}H{high:.1f}M{low:.1f} {y + 12}v10M{high:.1f} {y + 12}v10" '
                f'stroke="{WHITE}" stroke-width="2" fill="none"/>'
            )
        parts.append(_text(LEFT + SPAN + 8, y + 21, f"{bar.value:.0f}"))
    axis = f'<path d="M{LEFT} 2V{len(rows) * ROW - 2}" stroke="{GREY}" stroke-width="1"/>'
    return _svg(WIDTH, len(rows) * ROW, axis + "".join(parts))


def _text(x: float, y: float, words: str) -> str:
    style = f'font-family="sans-serif" font-size="13" fill="{WHITE}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'


def _svg(width: int, height: int, inside: str) -> str:
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{inside}</svg>'
