"""The log of a run as columns, and what simple rules say of its health; no Streamlit here."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import text_research as text
from research.records import Entry

MOST_BYTES = 1 << 25
MOST_POINTS = 1000
FIRST = ("loss", "lr", "images_per_s")
NOT_CURVES = ("step", "epoch")
LEAST_LINES = 5
AT_CHANCE, HARDLY, ROSE = 0.02, 0.02, 1.05
NT_XENT = {"simclr", "micle"}
NARROW, LOW_RANK, SLOWER, FEW_PAIRS = 0.1, 2.0, 0.5, 0.1

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One logged number: steps int64 ``[n]`` and finite values float64 ``[n]``."""

    steps: npt.NDArray[np.int64]
    values: Floats


@dataclass(frozen=True)
class Log:
    """The lines of ``log.jsonl``.

    Attributes:
        series: by field, only finite numbers.
        lines: read well.
        unreadable: lines that are no JSON object with a step.
        not_finite: first step at which a field was not a finite number.
    """

    series: dict[str, Series]
    lines: int
    unreadable: int
    not_finite: dict[str, int]

    @property
    def curves(self) -> list[str]:
        """Return the fields worth a curve: loss, learning rate and speed first."""
        rest = sorted(n for n in self.series if n not in (*FIRST, *NOT_CURVES))
        return [n for n in FIRST if n in self.series] + rest


@dataclass(frozen=True)
class Facts:
    """What a log is judged by.

    Attributes:
        pairs: whether its task draws two images of a patient.
        chance: loss of one who guesses among all negatives; None where unknown.
        width: of the projection; None where unknown.
        error: code that the run ended with; empty where none.
        state: see ``records.state``.
    """

    pairs: bool = False
    chance: float | None = None
    width: int | None = None
    error: str = ""
    state: str = "done"


@dataclass(frozen=True)
class Sign:
    """One sentence on the health of a run, and whether it is a warning."""

    words: str
    warning: bool = True


def read(path: Path) -> Log:
    """Read a log, of a very long one the end; what is not readable is counted, never raised."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MOST_BYTES))
            raw = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return Log({}, 0, 0, {})
    if size > MOST_BYTES:
        raw = raw[1:]
    rows = [_line(line) for line in raw if line.strip()]
    good = [r for r in rows if r is not None]
    names = dict.fromkeys(k for row in good for k in row if k != "step")
    series, not_finite = {}, {}
    for name in names:
        pairs = [(row["step"], row[name]) for row in good if name in row]
        bad = [step for step, value in pairs if not math.isfinite(value)]
        if bad:
            not_finite[name] = int(bad[0])
        kept = [p for p in pairs if math.isfinite(p[1])]
        steps = np.array([p[0] for p in kept], dtype=np.int64)
        series[name] = Series(steps, np.array([p[1] for p in kept], dtype=np.float64))
    return Log(series, len(good), len(rows) - len(good), not_finite)


def _line(raw: str) -> dict[str, float] | None:
    try:
        found = json.loads(raw)
        step = found["step"]
        if type(step) is not int or not 0 <= step < 1 << 53:
            return None
        return {str(k): number for k, v in found.items() if (number := _number(v)) is not None}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def thinned(series: Series) -> Series:
    """Return at most ``MOST_POINTS`` points, the first and the last among them."""
    n = len(series.steps)
    kept = np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).round().astype(np.int64))
    return Series(series.steps[kept], series.values[kept])


def facts(entry: Entry, settings: dict[str, str], state: str) -> Facts:
    """Return what the log of a run is judged by.

    Args:
        entry: the run.
        settings: flat; see ``records.flat``.
        state: see ``records.state``.
    """
    method, width = settings.get("method.name", ""), settings.get("method.out", "")
    pairs = settings.get("method.images", "1") == "2"
    batch, drawn = settings.get("batch", ""), _drawn(entry, pairs=pairs)
    chance = None
    if method in NT_XENT and batch.isdigit() and int(batch) > 1 and drawn:
        chance = chance_level(drawn, int(batch))
    error = str(entry.record.get("error", ""))
    return Facts(pairs, chance, int(width) if width.isdigit() else None, error, state)


def chance_level(drawn: int, batch: int) -> float:
    """Return the contrastive loss when every picture looks alike: log of negatives plus one.

    Args:
        drawn: pictures (SimCLR) or patients (MICLe) of an epoch.
        batch: the most that meet in a step; an epoch is cut into equal batches.
    """
    pairs = drawn / math.ceil(drawn / batch)
    return math.log(2 * pairs - 1)


def _drawn(entry: Entry, *, pairs: bool) -> int:
    """Return how many an epoch draws, 0 where the record does not say."""
    told, manifest = entry.part("summary"), entry.part("manifest")
    field = "patients" if pairs else "pictures"
    if isinstance(told.get(field), int):
        return int(told[field])
    parts = manifest.get("patients_per_split")
    everyone, images = manifest.get("patients"), manifest.get("images")
    if not isinstance(everyone, int) or not isinstance(images, int) or everyone < 1:
        return 0
    trained = everyone
    if isinstance(parts, dict):
        trained = sum(v for k, v in parts.items() if k in ("train", "unlabelled"))
    return trained if pairs else round(images * trained / everyone)


def health(log: Log, judged: Facts) -> list[Sign]:
    """Return what is to be said of a run, warnings first; one calm sentence where there is none."""
    found = _ending(judged) + _readable(log) + _loss(log, judged) + _spread(log, judged)
    found += _pace(log) + _pairs(log, judged)
    if any(s.warning for s in found):
        return sorted(found, key=lambda s: not s.warning)
    calm = text.HEALTHY if log.lines >= LEAST_LINES else text.TOO_SHORT.format(n=log.lines)
    return [*found, Sign(calm, warning=False)]


def _ending(judged: Facts) -> list[Sign]:
    if judged.state == "stopped":
        return [Sign(text.STOPPED)]
    return [Sign(text.FAILED.format(code=judged.error))] if judged.error else []


def _readable(log: Log) -> list[Sign]:
    found = [Sign(text.NOT_FINITE.format(name=n, step=s)) for n, s in log.not_finite.items()]
    if log.unreadable:
        found.append(
            Sign(text.UNREADABLE_LINES.format(n=log.unreadable), warning=log.unreadable > 1)
        )
    return found


def _ends(values: Floats) -> tuple[float, float]:
    """Return the medians of the first and the last fifth."""
    part = max(1, len(values) // 5)
    return float(np.median(values[:part])), float(np.median(values[-part:]))


def _loss(log: Log, judged: Facts) -> list[Sign]:
    loss = log.series.get("loss")
    if loss is None or len(loss.values) < LEAST_LINES:
        return []
    first, last = _ends(loss.values)
    chance = judged.chance
    if chance is not None and abs(last - chance) <= AT_CHANCE * chance:
        return [Sign(text.AT_CHANCE.format(loss=last, chance=chance))]
    if last - first > (ROSE - 1) * abs(first):
        return [Sign(text.ROSE.format(first=first, last=last))]
    if abs(last - first) <= HARDLY * abs(first):
        return [Sign(text.FLAT.format(first=first, last=last))]
    return [Sign(text.FELL.format(first=first, last=last), warning=False)]


def _first_below(series: Series, floor: float) -> int | None:
    """Return the step from which a number stayed below a floor to the end; None where it did not."""
    below = series.values < floor
    if not below.size or not below[-1]:
        return None
    above = np.flatnonzero(~below)
    return int(series.steps[int(above[-1]) + 1 if above.size else 0])


def _spread(log: Log, judged: Facts) -> list[Sign]:
    found = []
    spread, rank = log.series.get("z_std"), log.series.get("effective_rank")
    if spread is not None and judged.width is not None:
        healthy = 1 / math.sqrt(judged.width)
        step = _first_below(spread, NARROW * healthy)
        if step is not None:
            words = text.COLLAPSED.format(step=step, spread=spread.values[-1], healthy=healthy)
            found.append(Sign(words))
    step = _first_below(rank, LOW_RANK) if rank is not None else None
    if rank is not None and step is not None:
        found.append(Sign(text.LOW_RANK.format(step=step, rank=rank.values[-1])))
    return found


def _pace(log: Log) -> list[Sign]:
    pace = log.series.get("images_per_s")
    if pace is None or len(pace.values) < LEAST_LINES:
        return []
    first, last = _ends(pace.values[1:])
    return [Sign(text.SLOWER.format(first=first, last=last))] if last < SLOWER * first else []


def _pairs(log: Log, judged: Facts) -> list[Sign]:
    share = log.series.get("pair_share")
    if not judged.pairs or share is None or not share.values.size:
        return []
    last = float(share.values[-1])
    if last == 0:
        return [Sign(text.NO_PAIRS)]
    words = text.PAIRS.format(percent=100 * last)
    return [Sign(words, warning=last < FEW_PAIRS)]


def rows(named: Sequence[tuple[str, Series]]) -> list[dict[str, Any]]:
    """Return curves as one table: a row per step, a column per run."""
    steps = np.unique(np.concatenate([s.steps for _, s in named])) if named else []
    held = {n: dict(zip(s.steps.tolist(), s.values.tolist(), strict=True)) for n, s in named}
    return [
        {text.STEP: int(k), **{n: values.get(int(k)) for n, values in held.items()}} for k in steps
    ]
