"""What a line would do here: four outcomes and rates with patient intervals, and one hundred marks."""

from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

import text_team as text
from medssl.evaluate.report import figures
from medssl.stats import counted
from medssl.stats.bootstrap import Interval, Patients, intervals
from medssl.stats.usefulness import Proportion, proportion_by_patient

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
RESAMPLES = 500
LOOKS = {
    "found": (figures.BLUE, "o"),
    "missed": (figures.ORANGE, "X"),
    "alarms": (figures.PURPLE, "^"),
    "left": (figures.GREY, "."),
}


def cells(y: IntArray, score: FloatArray, patient: Any, line: float) -> dict[str, Proportion]:
    """Return the four outcomes as shares of all rows; ``y`` 0/1 and ``score`` are [n]."""
    flagged, ill = score >= line, y == 1
    kinds = {
        "found": flagged & ill,
        "missed": ~flagged & ill,
        "alarms": flagged & ~ill,
        "left": ~flagged & ~ill,
    }
    return {name: proportion_by_patient(hit, patient) for name, hit in kinds.items()}


def figures_at(y: IntArray, score: FloatArray, patient: Any, line: float) -> dict[str, Proportion]:
    """Return everything a line does: shares of all rows, and rates of the rows they are about.

    A rate about no row is left out.
    """
    flagged, ill = score >= line, y == 1
    found = cells(y, score, patient, line)
    out = {"flagged": proportion_by_patient(flagged, patient)}
    out |= {k: found[k] for k in ("found", "alarms", "missed")}
    rates = {
        "sensitivity": (flagged, ill),
        "specificity": (~flagged, ~ill),
        "ppv": (ill, flagged),
        "npv": (~ill, ~flagged),
    }
    for name, (hit, among) in rates.items():
        if among.any():
            out[name] = proportion_by_patient(hit[among], np.asarray(patient)[among])
    return out


def gain(
    y: IntArray, score: FloatArray, patient: Any, line: float, false_alarms: float
) -> Interval:
    """Return net benefit per row at a line, less the better of flagging all and none.

    Args:
        y: 0/1 [n].
        score: [n].
        patient: one entry per row [n].
        line: flagged from here on.
        false_alarms: that are worth one finding, above 0.
    """
    flagged, ill = score >= line, y == 1
    groups = Patients.of(patient)
    rows = np.ones(y.size, dtype=np.bool_)

    def worth(tp: Any, fp: Any, sick: Any, well: Any, every: Any) -> Any:
        everyone = np.maximum((sick - well / false_alarms) / every, 0)
        return (tp - fp / false_alarms) / every - everyone

    kinds = [flagged & ill, flagged & ~ill, ill, ~ill, rows]
    statistic = counted.of_sums(kinds, worth, groups)
    return intervals({"gain": statistic}, groups, resamples=RESAMPLES)["gain"]


def per_hundred(share: Proportion) -> tuple[str, str, str]:
    """Return a share and its limits per 100."""
    return tuple(f"{100 * v:.1f}" for v in (share.value, share.lower, share.upper))  # type: ignore[return-value]


def whole_hundred(shares: dict[str, float]) -> dict[str, int]:
    """Return shares that sum to 1 as whole numbers that sum to 100 (largest remainders first)."""
    exact = {k: 100 * v for k, v in shares.items()}
    out = {k: int(np.floor(v + 1e-9)) for k, v in exact.items()}
    left = 100 - sum(out.values())
    for name in sorted(exact, key=lambda k: exact[k] - out[k], reverse=True)[:left]:
        out[name] += 1
    return out


def hundred(counts: dict[str, int]) -> str:
    """Return one hundred marks as SVG, every kind in its colour and shape."""
    kinds = [name for name in LOOKS for _ in range(counts[name])]
    with mpl.rc_context(figures.STYLE):
        figure, axes = figures.drawn(figures.WIDTH, 3.6)
        for name, (colour, shape) in LOOKS.items():
            place = [k for k, kind in enumerate(kinds) if kind == name]
            x, y = [k % 20 for k in place], [-(k // 20) for k in place]
            words = f"{text.CELLS[name]}: {counts[name]}"
            axes.plot(x, y, shape, color=colour, ms=9, ls="none", label=words)
        axes.set_axis_off()
        axes.set(xlim=(-0.8, 19.8), ylim=(-4.8, 0.8))
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
        return figures.svg(figure, "hundred", text.PEOPLE_ALT.format(**counts))
