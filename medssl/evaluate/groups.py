"""For whom it holds: every pre-named group beside the rest, with intervals and a rule for few."""

from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.config import EvaluateConfig
from medssl.evaluate.answers import Answers
from medssl.evaluate.performance import SMALL, Row, told
from medssl.evaluate.reference import Column
from medssl.stats import counted
from medssl.stats.bootstrap import Patients, Statistic, draws, interval_of, intervals, two_sided_p
from medssl.stats.multiplicity import adjust

ABSENT = "not stated"
FEW = "too few to say"
NOT_SHOWN = "not shown"
USUAL, UNUSUAL = "usual", "unusual sharpness or contrast"
QUALITY = ("sharpness", "contrast")
METRICS = ("auroc", "sensitivity", "specificity", "observed_over_expected")
COMPARED = ("auroc", "sensitivity")


def count(number: int) -> int | str:
    """Return a count as it may be shown: one to four are '<5'."""
    return f"<{SMALL}" if 0 < number < SMALL else number


def levels_of(
    name: str, columns: dict[str, Column], source: dict[str, Column], rows: int
) -> npt.NDArray[Any] | None:
    """Return the level of every picture for one pre-named group; None where nothing is known.

    Args:
        name: of the group.
        columns: attributes of the new hospital's pictures, in their order.
        source: of the source, for what is a usual picture.
        rows: number of pictures.
    """
    if name == "quality":
        return _quality(columns, source, rows)
    if name == "model":
        maker, model = columns.get("manufacturer"), columns.get("model")
        if model is None:
            return None
        first = maker.values if maker is not None else np.full(rows, None)
        pairs = zip(first, model.values, strict=True)
        return np.array([f"{a or ''} {b or ABSENT}".strip() for a, b in pairs])
    if name not in columns:
        return None
    found = columns[name].values
    if name == "age_band":
        return np.array([_band(v) for v in found])
    return np.array([ABSENT if v is None else str(v) for v in found])


def _band(text: Any) -> str:
    """Return twenty years for the five of the manifest: fewer, fuller groups."""
    try:
        low = int(str(text).split("-")[0].rstrip("+"))
    except ValueError:
        return ABSENT
    return "80 and over" if low >= 80 else f"{low // 20 * 20} to {low // 20 * 20 + 19}"


def _quality(
    columns: dict[str, Column], source: dict[str, Column], rows: int
) -> npt.NDArray[Any] | None:
    """Outside the middle 98 % of the source's sharpness or contrast is unusual."""
    if any(n not in columns or n not in source for n in QUALITY):
        return None
    odd = np.zeros(rows, dtype=bool)
    for name in QUALITY:
        low, high = np.nanquantile(source[name].values.astype(float), [0.01, 0.99])
        odd |= (columns[name].values < low) | (columns[name].values > high)
    return np.where(odd, UNUSUAL, USUAL)


def rows(
    answers: Answers,
    columns: dict[str, Column],
    source: dict[str, Column],
    config: EvaluateConfig,
    pictures: int,
) -> tuple[list[Row], list[str]]:
    """Return one row per group, level, class and metric, and what could not be grouped.

    Args:
        answers: labelled pictures of the new hospital.
        columns: attributes of all its pictures; source: of the source.
        config: groups, floors and the rule for few.
        pictures: number of all its pictures.

    Returns:
        Rows with the level's value and interval, the difference to the rest with interval and a
        Holm-adjusted p; and sentences about groups that nothing is known of.
    """
    out: list[Row] = []
    notes = []
    for name in config.groups:
        level = levels_of(name, columns, source, pictures)
        words = name.replace("_", " ")
        if level is None:
            notes.append(f"{words}: nothing is known of it here.")
            continue
        mine = level[answers.row]
        found = sorted(set(mine.tolist()))
        if len(found) < 2:
            notes.append(f"{words}: every labelled picture is {found[0] if found else 'missing'}.")
            continue
        for k in answers.shown:
            told: list[Row] = []
            for one in found:
                where = {"group": words, "level": one, "class": answers.classes[k]}
                told += [{**where, **r} for r in _of_level(answers, k, mine == one, config)]
            out += _covered(told)
    _adjust(out)
    return out, notes


def _covered(table: list[Row]) -> list[Row]:
    """Hide a second count where one alone is hidden, or the total would tell it."""
    for name in ("images", "patients", "patients_with"):
        hidden = {r["level"] for r in table if isinstance(r[name], str)}
        if len(hidden) == 1:
            open_rows = [r for r in table if not isinstance(r[name], str)]
            next_one = min(open_rows, key=lambda r: r[name], default=None)
            for row in open_rows if next_one is not None else []:
                if next_one is not None and row["level"] == next_one["level"]:
                    row[name] = NOT_SHOWN
    return table


def _of_level(
    answers: Answers, k: int, inside: npt.NDArray[np.bool_], config: EvaluateConfig
) -> list[Row]:
    there = answers.outcome[:, k] != -1
    known, inside = answers.known(k), inside[there]
    y, p = known.of(k)
    size = {
        "images": count(int(inside.sum())),
        "patients": count(len(set(known.patient[inside].tolist()))),
        "patients_with": count(len(set(known.patient[inside & (y == 1)].tolist()))),
    }
    if _too_few(known, k, inside, config):
        return [{**size, "metric": m, "value": None, "note": FEW} for m in METRICS]
    groups = Patients.of(known.patient)
    line = answers.thresholds[answers.classes[k]]
    own = _statistics(y, p, line, inside, groups)
    rest = _statistics(y, p, line, ~inside, groups)
    apart = {
        m: counted.weighted_sum([(1.0, own[m]), (-1.0, rest[m])])
        for m in COMPARED
        if not _too_few(known, k, ~inside, config)
    }
    options: Any = {"resamples": config.resamples, "seed": config.seed}
    values = intervals(own, groups, **options)
    drawn = draws(apart, groups, **options)
    gaps = {m: interval_of(s, groups, drawn[m]) for m, s in apart.items()}
    out = []
    for metric in METRICS:
        one = values[metric]
        row = {**size, "metric": metric, "value": one.value, "lower": one.lower}
        row |= {"upper": one.upper, "note": one.note}
        row = told(row)
        if metric in gaps and gaps[metric].lower is not None:
            gap = gaps[metric]
            row |= {"difference": gap.value, "difference_lower": gap.lower}
            row |= {"difference_upper": gap.upper, "p": two_sided_p(drawn[metric])}
        out.append(row)
    return out


def _too_few(known: Answers, k: int, inside: npt.NDArray[np.bool_], config: EvaluateConfig) -> bool:
    """Return whether some pictures are of too few patients, with or without the finding, to say."""
    y, who = known.outcome[:, k], known.patient
    patients, with_event, without = (
        len(set(who[inside & mask].tolist())) for mask in (y >= 0, y == 1, y == 0)
    )
    return patients < config.min_cell_patients or min(with_event, without) < config.min_cell_events


def _statistics(
    y: npt.NDArray[np.int64],
    p: npt.NDArray[np.float64],
    line: float,
    inside: npt.NDArray[np.bool_],
    groups: Patients,
) -> dict[str, Statistic]:
    ill, well = (y == 1) & inside, (y == 0) & inside
    flag = p >= line
    return {
        "auroc": counted.auroc(y[inside], p[inside], groups.part(inside)),
        "sensitivity": counted.ratio(flag & ill, ill, groups),
        "specificity": counted.ratio(~flag & well, well, groups),
        "observed_over_expected": counted.ratio(ill, p * inside, groups),
    }


def _adjust(table: list[Row]) -> None:
    """Add Holm's p within each metric: the groups were named before looking.

    Two halves of one partition, or two headers that divide the pictures alike, are one question.
    """
    for metric in COMPARED:
        mine = [r for r in table if r["metric"] == metric and "p" in r]
        asked = {_question(r): float(r["p"]) for r in mine}
        adjusted = dict(zip(asked, adjust(list(asked.values()), "holm"), strict=True))
        for row in mine:
            row["p_adjusted"] = adjusted[_question(row)]


def _question(row: Row) -> tuple[str, float, float]:
    width = abs(row["difference_upper"] - row["difference_lower"])
    return row["class"], round(abs(row["difference"]), 12), round(width, 12)


def worst(table: list[Row]) -> Row | None:
    """Return the row of the lowest AUROC among groups that can be compared with a rest."""
    known = [r for r in table if r["metric"] == "auroc" and r.get("difference") is not None]
    return min(known, key=lambda r: r["value"], default=None)
