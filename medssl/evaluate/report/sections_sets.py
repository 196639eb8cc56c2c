"""The section about answers that are not sure: sets of answers, and leaving the unsure to a person."""

from typing import Any

from medssl.evaluate.report.figures import Mark, dots
from medssl.evaluate.report.page import (
    FEW_PATIENTS,
    NAME,
    Figure,
    Material,
    Section,
    Table,
    absent,
    clean,
    in_class,
    number,
    people,
    percent,
    ran,
    section,
    span,
    table,
)

Row = dict[str, Any]
USELESS = "The sets are useless"


def uncertainty(material: Material) -> Section:
    """Return sets of answers and what is won by leaving the unsure to a person."""
    report = material.report
    part = report["abstention"]
    title = "Not sure: when should a person decide?"
    if not ran(part, "rule"):
        return absent("uncertainty", title, part["note"])
    useless = part["unsure_percent"] == 100
    words = [
        _useless(part) if useless else part.get("caution", ""),
        f"Sets of answers were made at the source to miss the right one in at most {percent(part['miss_rate'])} of "
        f"patients. Here {_share(part, 'unsure')} of the pictures get several answers (not sure) and "
        f"{_share(part, 'empty')} none at all (unlike anything seen). The promise holds only for "
        "patients like the source's.",
        _calibrated_on(report, part),
    ]
    rows = [
        (_set_of(report, r), number(r["patients"]),
         span({**r, "value": r["coverage"]}), number(r["mean_size"], 2), number(r["unsure"]), number(r["empty"]))
        for r in part["coverage"]
    ]  # fmt: skip
    header = (
        "patients",
        "number",
        "right one in the set (95 % interval)",
        "answers per set",
        "not sure",
        "none",
    )
    tables = [_selective(part)]
    if useless:
        return section("uncertainty", title, words, (), tables)
    tables.insert(0, table("How often the set holds the right answer, here", header, rows))
    return section("uncertainty", title, words, [_coverage(report)], tables)


def _useless(part: Row) -> str:
    """Return the sentence that comes first, and what else is cautioned against."""
    rest = (part.get("caution") or "").partition(USELESS)[0].strip()
    return f"{USELESS} here: every one holds several answers. {rest}".strip()


def _share(part: Row, name: str) -> str:
    """Return a share of the pictures in percent, with its interval where there is one."""
    found = part.get(name) or {}
    ends = [found[k] for k in ("lower", "upper") if found.get(k) is not None]
    value = f"{number(part[f'{name}_percent'], 1)} %"
    if len(ends) < 2:
        return value
    return f"{value} ({' to '.join(number(100 * e, 1) for e in ends)})"


def _calibrated_on(report: Row, part: Row) -> str:
    """Return on how many patients the sets were drawn; few are said."""
    held = part["rule"].get("patients")
    if not isinstance(held, list) or not held:
        return ""
    names = report["classes"] if len(held) == len(report["classes"]) else [""]
    told = [f"{people(n)} {in_class(report, c)}".strip() for n, c in zip(held, names, strict=False)]
    few = any(not isinstance(n, int) or n < FEW_PATIENTS for n in held)
    words = f"They were drawn on validation patients of the source: {', '.join(told)}"
    return f"{words}; so few make wide sets and a weak promise." if few else f"{words}."


def _set_of(report: Row, r: Row, limit: int = NAME) -> str:
    if r["part"] == "all":
        return "all patients"
    if r["part"] == "class":
        return in_class(report, r["name"])
    return f"{clean(r['part'])}: {clean(r['name'], limit)}"


def _selective(part: Row) -> Table:
    found = part["selective"]
    shares = list(found[0]["error_at"]) if found else []
    rows = [
        (
            r["hospital"] if r.get("part", "all") == "all" else f"here, {r['part']} = {r['name']}",
            span(r["aurc"]),
            number(r["aurc"]["patients"]),
            *(percent(r["error_at"].get(s)) for s in shares),
        )
        for r in found
    ]
    header = (
        "pictures of",
        "area under the curve (95 % interval)",
        "patients",
        *(f"errors, surest {percent(float(s))}" for s in shares),
    )
    return table("Errors when only the surest answers are given", header, rows)


def _coverage(report: Row) -> Figure | None:
    part = report["abstention"]
    found = [r for r in part["coverage"] if r["coverage"] is not None]
    if not found:
        return None
    names = [_set_of(report, r, 40) for r in found]
    series: Any = {"here": [(r["coverage"], r["lower"], r["upper"]) for r in found]}
    words = "How often the set of answers holds the right one, by class and group; the numbers are in the table."
    marks = (Mark(1 - part["miss_rate"], "promised", "#D55E00", "--"),)
    picture = dots(
        "coverage", names, series, words, "share with the right answer in the set", marks
    )
    return Figure(picture, "How often the set holds the right answer, by class and group.")
