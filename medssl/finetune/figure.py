"""The label-efficiency curve as a picture; the same numbers are in the tables."""

from pathlib import Path
from typing import Any

from medssl.evaluate.report.figures_curves import Line, lines
from medssl.files import write_text

MOST = 6


def write_figure(path: Path, rows: list[dict[str, Any]], metric: str) -> None:
    """Write the points of a curve as SVG: score over labelled patients, one line per start and mode.

    Args:
        path: the file.
        rows: as ``curve.points`` gives them; those without a number are not drawn.
        metric: name of the score.
    """
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("value") is not None and row["level"] == "image":
            grouped.setdefault(f"{row['init']}, {row['mode']}", []).append(row)
    several = {k: v for k, v in grouped.items() if len(v) > 1} or grouped
    best = sorted(several, key=lambda k: -max(r["value"] for r in several[k]))[:MOST]
    drawn = [
        Line(
            name,
            [r["patients"] for r in grouped[name]],
            [r["value"] for r in grouped[name]],
            [r["lower"] for r in grouped[name]],
            [r["upper"] for r in grouped[name]],
        )
        for name in best
    ]
    spans = "; ".join(
        f"{line.label} from {line.y[0]:.3f} with {line.x[0]} patients to {line.y[-1]:.3f} with "
        f"{line.x[-1]}"
        for line in drawn
    )
    words = f"{metric} on held-out patients over labelled patients: {spans}."
    axes = ("labelled patients", f"{metric}, held-out patients")
    write_text(path, lines("curve", drawn, words, axes, logarithmic=True, direct=True))
