"""The report as data: sections of words, figures and tables, and how a number is told."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from medssl.evaluate.answers import YES, in_words
from medssl.evaluate.groups import FEW
from medssl.evaluate.inputs import Here, Question
from medssl.evaluate.reference import Reference

NAME, CELL, SENTENCE = 60, 240, 1200
"""Characters of a stranger's name, of a cell and of a sentence that are shown."""

NONE, NOT_SHOWN = "-", "not shown"
FEW_PATIENTS = 50
"""Below so many patients of the source a reader is warned."""

MOST_DIGITS = 4
MINUS = "\N{MINUS SIGN}"
NUMERIC = re.compile(rf"(p )?[<=]? ?{MINUS}?[\d,]*\.?\d+( %)?( \([^a-z]*( to [^a-z]*)?\))?")


@dataclass(frozen=True)
class Material:
    """What a report is made from: the plain report, and the rows behind it for the figures."""

    report: dict[str, Any]
    reference: Reference
    here: Here
    question: Question


@dataclass(frozen=True)
class Table:
    """A table of text cells; the first cell of every row is its header."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Return which columns hold nothing but numbers: they are set to the right; row headers never."""
        columns = zip(*self.rows, strict=True) if self.rows else [() for _ in self.header]
        return tuple(k > 0 and _all_numbers(c) for k, c in enumerate(columns))


@dataclass(frozen=True)
class Figure:
    """Inline SVG with its caption; made only by our own figures, so it is the one trusted markup."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One section: paragraphs, points of a list, figures and tables; absent ones say why.

    A hollow one was made, but what it is for is not known here.
    """

    id: str
    title: str
    words: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    points: tuple[str, ...] = ()
    present: bool = True
    hollow: bool = False

    @property
    def told(self) -> bool:
        """Return whether it holds more than dashes: only then can it fill an item of a checklist."""
        cells = [c for t in self.tables for row in t.rows for c in row[1:]]
        known = not cells or any(c not in {"", NONE} for c in cells)
        return self.present and not self.hollow and (known or bool(self.figures))


@dataclass(frozen=True)
class Page:
    """The whole report.

    Attributes:
        title: of the document; question: one sentence with the numbers of images and patients.
        verdict: one of four answers; reasons: the rule's sentences, numbers and limits in words.
        lead: a few sentences, each with the question that it answers.
        rules: every printed rule, and whether it is the one that fired.
        sections: all of them, in the order of ``checklists.SECTIONS``.
    """

    title: str
    question: str
    verdict: str
    reasons: tuple[str, ...]
    lead: tuple[tuple[str, str], ...]
    rules: tuple[tuple[str, bool], ...]
    sections: tuple[Section, ...]


def table(caption: str, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Table:
    """Return a table whose every cell is short, visible text.

    A column ``class`` that always names the same one goes into the caption.
    """
    names = tuple(header)
    cells = [tuple(clean(cell, CELL) for cell in row) for row in rows]
    k = names.index("class") if "class" in names[1:] else 0
    if k and len({row[k] for row in cells}) == 1:
        caption = f"{caption}: {cells[0][k]}"
        cells = [row[:k] + row[k + 1 :] for row in cells]
        names = names[:k] + names[k + 1 :]
    return Table(clean(caption, CELL), names, tuple(cells))


def section(
    name: str,
    title: str,
    words: Iterable[str] = (),
    figures: Iterable[Figure | None] = (),
    tables: Iterable[Table] = (),
    points: Iterable[str] = (),
    *,
    hollow: bool = False,
) -> Section:
    """Return a section; empty paragraphs, missing figures and tables without rows are left out."""
    return Section(
        name,
        title,
        tuple(clean(w, SENTENCE) for w in words if w),
        tuple(f for f in figures if f is not None),
        tuple(t for t in tables if t.rows),
        tuple(clean(p, SENTENCE) for p in points if p),
        hollow=hollow,
    )


def absent(name: str, title: str, why: str) -> Section:
    """Return a section that was not run, with the sentence why."""
    return Section(name, title, (clean(why, SENTENCE),), present=False)


def clean(value: Any, limit: int = NAME) -> str:
    """Return visible text on one line, at most so long.

    Control characters go; marks that hide or reverse text (U+202E) show as U+FFFD.
    """
    text = " ".join("".join(_visible(c) for c in str(value)).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    kind = unicodedata.category(character)
    if kind == "Cc":
        return ""
    return "\ufffd" if kind in {"Cf", "Cs", "Co"} else character


def _all_numbers(cells: tuple[str, ...]) -> bool:
    told = [c for c in cells if c not in {"", NONE, FEW, NOT_SHOWN}]
    return bool(told) and all(NUMERIC.fullmatch(c) for c in told)


def number(value: Any, digits: int = 3) -> str:
    """Return a number with a true minus; text such as '<5' as it comes, None as a dash."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if isinstance(value, int) or digits == 0:
        return f"{round(value):,}".replace("-", MINUS)
    digits = digits_of((value,), digits)
    text = f"{value:,.{digits}f}"
    return (text.lstrip("-") if float(text.replace(",", "")) == 0 else text).replace("-", MINUS)


def digits_of(values: Iterable[float | None], digits: int) -> int:
    """Return how many digits tell all of these: what is not perfect is not told as 1.00."""
    known = [v for v in values if v is not None]
    while digits < MOST_DIGITS and any(0.9 < v < 0.99995 and round(v, digits) == 1 for v in known):
        digits += 1
    return digits


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share as a percentage; more digits where none would say 0 % or 100 %."""
    if share is None:
        return NONE
    close = 0 < share < 0.01 or 0.99 < share < 1
    return f"{number(100 * share, max(digits, 1) if close else digits)} %"


def of_hundred(share: float) -> str:
    """Return how many of 100; only what is nothing or all is called so."""
    times = round(100 * share)
    if times == 100 and share < 1:
        return "more than 99"
    return "fewer than 1" if times == 0 and share > 0 else str(times)


def p_words(p: float | None) -> str:
    """Return ``p = 0.012`` or ``p < 0.001``, never 0; a p that is not there as a dash."""
    if p is None:
        return NONE
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_cell(p: float | None) -> str:
    """Return a p for a column that says it is one: ``0.012``, ``< 0.001``, or a dash."""
    return p_words(p).removeprefix("p ").removeprefix("= ")


def span(row: dict[str, Any] | None, digits: int = 3, prefix: str = "") -> str:
    """Return ``0.41 (0.35 to 0.47)``, or why there is no number.

    Args:
        row: with ``value``, ``lower``, ``upper`` (after the prefix) and perhaps ``note``.
        digits: after the point.
        prefix: ``difference`` reads ``difference``, ``difference_lower``, ``difference_upper``.
    """
    if row is None:
        return NONE
    names = (
        [prefix, f"{prefix}_lower", f"{prefix}_upper"] if prefix else ["value", "lower", "upper"]
    )
    value, low, high = (row.get(n) for n in names)
    if value is None:
        return NONE if prefix else row.get("note") or "not computable"
    digits = digits_of((value, low, high), digits)  # one rounding for all three
    if low is None or high is None:
        return number(value, digits)
    return f"{number(value, digits)} ({number(low, digits)} to {number(high, digits)})"


def interval(row: dict[str, Any] | None) -> str:
    """Return a number with its interval, or why there is none."""
    if row is None:
        return "-"
    if row.get("value") is None:
        return row.get("note") or "not computable"
    if row.get("lower") is None:
        return f"{row['value']:.3f} (no interval: {row.get('note')})"
    return f"{row['value']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})"


def finding(report: dict[str, Any], name: str) -> str:
    """Return a class in words: the target alone where the class only says yes."""
    return clean(in_words(str(report["target"]), name, report["thresholds"]))


def in_class(report: dict[str, Any], name: str) -> str:
    """Return a class as its pictures are told: with or without a finding that is there or not."""
    lines = report["thresholds"]
    yes = next(iter(lines), "")
    if len(lines) == 1 and len(report["classes"]) == 2 and yes.casefold() in YES:
        return f"{'with' if name == yes else 'without'} {clean(report['target'])}"
    return clean(name)


def people(count: Any) -> str:
    """Return so many patients in words."""
    return f"{number(count)} patient{'' if count == 1 else 's'}"


def unmoved(report: dict[str, Any]) -> bool:
    """Return whether floors, margins and groups are known to be those of the first report."""
    changed = report.get("settings_changed")
    return changed is not None and not changed["from_before"]


def ran(part: dict[str, Any] | None, key: str) -> bool:
    """Return whether a part was computed: it holds its key and not only the reason why not."""
    return part is not None and key in part


def listed(names: Iterable[Any]) -> str:
    """Return names as a list in words."""
    return ", ".join(clean(n) for n in names)
