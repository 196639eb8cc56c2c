"""Figures of the report, as inline SVG; the same numbers stand in its tables."""

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from medssl.evaluate.performance import ALL_SITES, Answers
from medssl.stats.calibration import reliability_curve

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "medssl",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _svg(figure: Figure, words: str) -> str:
    """Return inline SVG that a screen reader announces by ``words``."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = out.getvalue()
    return text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{words}"', 1)


def forest(table: list[dict[str, Any]], metric: str, floor: float) -> str:
    """Return AUROC with intervals: source, all of the target, every site, and the floor."""
    shown = [r for r in table if r["metric"] == metric and r.get("lower") is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.7 + 0.38 * max(1, len(shown))))
        axes = figure.subplots()
        for k, row in enumerate(reversed(shown)):
            colour = GREY if row["cohort"] == "source" else BLUE
            axes.plot([row["lower"], row["upper"]], [k, k], color=colour, lw=2)
            axes.plot(row["value"], k, "o", color=colour)
        axes.set_yticks(range(len(shown)), [_place(r) for r in reversed(shown)])
        axes.axvline(floor, color=ORANGE, ls="--", lw=1)
        axes.axvline(0.5, color=GREY, ls=":", lw=1)
        axes.set_xlim(min(0.4, *(r["lower"] for r in shown)) if shown else 0.4, 1.0)
        axes.set_xlabel("AUROC with 95 % interval; dashed: the floor; dotted: a coin")
        return _svg(figure, "AUROC with intervals by hospital; numbers in the table below")


def _place(row: dict[str, Any]) -> str:
    whose = "source, held-out" if row["cohort"] == "source" else "here"
    return whose if row["site"] == ALL_SITES else f"{whose}, site {row['site']}"


def roc(source: Answers, target: Answers | None, k: int) -> str:
    """Return the ROC curves of one class at both hospitals."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 3.2))
        axes = figure.subplots()
        for answers, colour, name in ((source, GREY, "source"), (target, BLUE, "here")):
            if answers is None:
                continue
            y = answers.codes == k
            if y.any() and not y.all():
                order = np.argsort(-answers.scores[:, k], kind="stable")
                rises = np.r_[0, np.cumsum(y[order]) / y.sum()]
                falls = np.r_[0, np.cumsum(~y[order]) / (~y).sum()]
                axes.plot(falls, rises, color=colour, label=name)
        axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1)
        axes.set(xlabel="share of the well that are flagged", ylabel="share of the sick found")
        axes.legend(frameon=False, loc="lower right")
        return _svg(figure, "ROC curves of the source and of this hospital")


def reliability(answers: Answers, k: int) -> str:
    """Return predicted against observed at this hospital, with Wilson bars."""
    y, p = answers.codes == k, answers.scores[:, k]
    curve = reliability_curve(y, p)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 3.2))
        axes = figure.subplots()
        low, high = curve.observed - curve.lower, curve.upper - curve.observed
        axes.errorbar(
            curve.predicted,
            curve.observed,
            yerr=np.abs(np.stack([low, high])),
            fmt="o",
            color=BLUE,
            lw=1,
            ms=4,
        )
        axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1)
        axes.set(
            xlabel="chance the model gives", ylabel="share that had it", xlim=(0, 1), ylim=(0, 1)
        )
        return _svg(figure, "Predicted chance against observed share, ten groups")


def histogram(source: Answers, target_scores: Any, k: int) -> str:
    """Return the distribution of the chances at both hospitals; needs no labels."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 2.4))
        axes = figure.subplots()
        edges = np.linspace(0, 1, 21).tolist()
        for scores, colour, name in (
            (source.scores, GREY, "source"),
            (target_scores, BLUE, "here"),
        ):
            axes.hist(scores[:, k], edges, density=True, histtype="step", color=colour, label=name)
        axes.set(xlabel="chance the model gives", ylabel="density")
        axes.legend(frameon=False)
        return _svg(figure, "Distribution of the predicted chances at both hospitals")
