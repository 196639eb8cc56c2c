"""Which columns are labels, and what they may hold: values, and what says missing or uncertain."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from medssl.cohort.sheets import Rows, numbered_rows, shown
from medssl.errors import UsageError

UNCERTAIN = "uncertain"
MISSING_WORDS = ("na", "n/a", "#n/a", "<na>", "nan", "null", "none", "missing", "-")
UNCERTAIN_WORDS = (UNCERTAIN, "unknown", "u", "?", "equivocal")
# CheXpert's convention (Irvin et al. 2019): 1 positive, 0 negative, -1 uncertain, blank not mentioned.
CHEXPERT = frozenset({"0", "1", "-1"})
CHEXPERT_UNCERTAIN = "-1"
VALUE, MISSING, IMPOSSIBLE = "value", "missing", "impossible"
KINDS = ("class", "binary", "number")
COLUMNS = ("column", "kind", "values", "missing", "uncertain", "min", "max")
SEPARATOR = "|"
# A leading zero makes a code, not a number: 007 and 7 stay two values.
PLAIN = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
MAX_CELL = 40
MAX_VALUES = 20
LEAST_ROWS = 4
RESERVED = ("image_id", "slice")
PLAIN_WORD = re.compile(r"[+-]?[0-9]*\.?[0-9]+|[A-Za-z][A-Za-z0-9_+/-]{0,31}")
IDENTIFYING = re.compile(
    r"name|birth|dob|mrn|nhs|ssn|insur|versich|address|phone|mail|date|uid|number|nummer|(^|_)id$|_nr$"
    r"|radiolog|physician|doctor|arzt|reader|operator|technician|initial|city|town|street|zip|postal"
    r"|remark|comment|note|report|free|text|history|indication",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ColumnSchema:
    """What one label column may hold.

    Attributes:
        column: its name in the label table.
        kind: ``class`` (the values listed), ``binary`` (two values, 0 and 1 unless listed) or
            ``number`` (from ``low`` to ``high``).
        values: the answers of a class, spelt exactly so; numbers match by value.
        missing, uncertain: words that say so, in any case; None takes the usual ones. Blank is missing.
        low, high: smallest and largest number that is possible; None for no limit.
    """

    column: str
    kind: str
    values: tuple[str, ...] = ()
    missing: tuple[str, ...] | None = None
    uncertain: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None

    @property
    def allowed(self) -> str:
        """Return in words what the column may hold."""
        if self.kind != "number":
            return ", ".join(self.values)
        ends = [f"from {self.low:g}"] if self.low is not None else []
        ends += [f"to {self.high:g}"] if self.high is not None else []
        return " ".join(["numbers", *ends])


@dataclass(frozen=True)
class Cells:
    """One column, read: every cell's value, what was done to get it, and what is impossible.

    Attributes:
        values: per row the value, ``uncertain``, or None where missing.
        notes: sentences about cells that were not taken as they stand.
        problems: one sentence per impossible cell.
    """

    values: tuple[str | None, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def known(self) -> frozenset[str]:
        """Return the different values that are neither missing nor uncertain."""
        return frozenset(v for v in self.values if v is not None and v != UNCERTAIN)


def number_text(text: str) -> str:
    """Return a number in its shortest plain spelling: ``1.0`` and ``+1`` are ``1``, ``-0`` is ``0``."""
    plain = format(Decimal(text), "f")
    sign, digits = plain[0] == "-", plain.lstrip("+-")
    whole, _, part = digits.partition(".")
    short = f"{whole.lstrip('0') or '0'}.{part.rstrip('0')}".rstrip(".")
    return f"-{short}" if sign and short != "0" else short


def read_schema(path: Path) -> dict[str, ColumnSchema]:
    """Read a schema: a table of the columns ``column, kind, values, missing, uncertain, min, max``.

    Only ``column`` must be filled; ``|`` stands between the values or words of one cell.

    Returns:
        The schema of every column named.

    Raises:
        UsageError: all contradictions, by line.
    """
    rows = numbered_rows(path)
    if not rows:
        raise UsageError(f"{path.name}: a header and no rows.", "E-LABEL-SCHEMA")
    names = list(rows[0][1])
    strange = [n for n in names if n.lower() not in COLUMNS]
    if strange or "column" not in (n.lower() for n in names):
        words = f"{path.name}: its columns are {names}; a label schema has {', '.join(COLUMNS)}."
        raise UsageError(words, "E-LABEL-SCHEMA")
    out: dict[str, ColumnSchema] = {}
    problems = []
    for number, raw in rows:
        row = {k.lower(): v for k, v in raw.items()}
        one, faults = _column(row)
        if one.column in out:
            faults.append(f"{one.column!r} has a line already")
        problems += [f"{path.name}, line {number}: {fault}." for fault in faults]
        out[one.column] = one
    if problems:
        raise UsageError(shown(problems), "E-LABEL-SCHEMA")
    return out


def _column(row: dict[str, str]) -> tuple[ColumnSchema, list[str]]:
    faults = [] if row["column"] else ["no column is named"]
    values = _parts(row.get("values", ""))
    ends = {k: row.get(k, "") for k in ("min", "max")}
    kind = row.get("kind", "").lower() or ("number" if any(ends.values()) else "class")
    limits: dict[str, float | None] = {}
    for name, text in ends.items():
        faults += [] if not text or NUMBER.fullmatch(text) else [f"{name} {text!r} is no number"]
        limits[name] = float(text) if NUMBER.fullmatch(text) else None
    if kind == "binary" and not values:
        values = ("0", "1")
    one = ColumnSchema(
        column=row["column"],
        kind=kind,
        values=_canonical(values),
        missing=_parts(row["missing"]) if row.get("missing") else None,
        uncertain=_parts(row["uncertain"]) if row.get("uncertain") else None,
        low=limits["min"],
        high=limits["max"],
    )
    return one, faults + _faults(one)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(p for part in text.split(SEPARATOR) if (p := part.strip()))


def _canonical(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(number_text(v) for v in values) if _numeric(values) else values


def _numeric(values: Iterable[str]) -> bool:
    found = list(values)
    return bool(found) and all(PLAIN.fullmatch(v) for v in found)


def _faults(one: ColumnSchema) -> list[str]:
    """Return what contradicts itself in one line of a schema."""
    words = [*map(_word, one.missing or ()), *map(_word, one.uncertain or ())]
    taken = [v for v in one.values if _word(v) in words]
    ends = one.low is not None or one.high is not None
    rules = (
        (one.kind not in KINDS, f"kind {one.kind!r} is none of {', '.join(KINDS)}"),
        (one.kind == "class" and len(one.values) < 2, "a class needs two values or more"),
        (one.kind == "binary" and len(one.values) != 2, "a binary column has two values"),
        (one.kind == "number" and bool(one.values), "a number has min and max, no list of values"),
        (one.kind != "number" and ends, f"min and max belong to numbers, not to {one.kind}"),
        (
            one.low is not None and one.high is not None and one.low > one.high,
            "min is larger than max",
        ),
        (len(set(one.values)) < len(one.values), "a value stands twice"),
        (bool(taken) or len(set(words)) < len(words), "one word has two meanings"),
        (
            UNCERTAIN in map(_word, one.values),
            f"{UNCERTAIN!r} is reserved and cannot be a value",
        ),
    )
    return [words for broken, words in rules if broken]


def _word(text: str) -> str:
    """Return a word as it is compared: numbers by value, all else in any case."""
    return number_text(text) if PLAIN.fullmatch(text) else text.casefold()


@dataclass(frozen=True)
class _Rule:
    """One column's schema, made ready for many cells."""

    schema: ColumnSchema
    values: frozenset[str]
    numeric: bool
    missing: frozenset[str]
    uncertain: frozenset[str]

    def meaning(self, text: str) -> tuple[str, str | None]:
        """Return (value, missing, uncertain or impossible; the value in its one spelling)."""
        value = number_text(text) if self.numeric and PLAIN.fullmatch(text) else text
        word = _word(text)
        if value in self.values:
            return VALUE, value
        if not text or word in self.missing:
            return MISSING, None
        if word in self.uncertain:
            return UNCERTAIN, UNCERTAIN
        if self.schema.kind == "number" and _possible(text, self.schema):
            return VALUE, number_text(text)
        return IMPOSSIBLE, None


def parse(
    column: str, cells: list[tuple[int, str]], schema: ColumnSchema | None, table: str
) -> Cells:
    """Read one label column: values, missing and uncertain kept apart.

    Without a schema, the usual words say missing or uncertain, and in a column of 0, 1 and -1 the -1
    is uncertain. Numbers get one spelling where the whole column is numbers.

    Args:
        column: its name.
        cells: (line, text) of every row.
        schema: what it may hold; None for anything.
        table: the table's name, for sentences.

    Source: the -1 is the convention of CheXpert, https://arxiv.org/abs/1901.07031.
    """
    counts = Counter(text for _, text in cells)
    rule = _rule(schema if schema is not None else _guess(column, counts))
    meaning = {text: rule.meaning(text) for text in counts}
    problems = tuple(
        f"{table}, line {line}: {column} is {text[:MAX_CELL]!r}; the schema allows "
        f"{rule.schema.allowed}."
        for line, text in cells
        if meaning[text][0] == IMPOSSIBLE
    )
    values = tuple(meaning[text][1] for _, text in cells)
    return Cells(values, tuple(_notes(rule.schema, counts, meaning)), problems)


def _guess(column: str, texts: Iterable[str]) -> ColumnSchema:
    """Return the schema of a column nobody described: whatever stands there is possible."""
    words = {*MISSING_WORDS, *UNCERTAIN_WORDS}
    values = tuple(t for t in texts if t and _word(t) not in words)
    spelt = dict.fromkeys(_canonical(values))
    if _numeric(values) and CHEXPERT_UNCERTAIN in spelt and set(spelt) <= CHEXPERT:
        # Both answers, though one of them may not occur: 1 and -1 alone are this convention too.
        return ColumnSchema(column, "binary", ("0", "1"))
    return ColumnSchema(column, "class", tuple(spelt))


def _rule(schema: ColumnSchema) -> _Rule:
    missing = MISSING_WORDS if schema.missing is None else schema.missing
    uncertain = UNCERTAIN_WORDS if schema.uncertain is None else schema.uncertain
    if schema.uncertain is None and set(schema.values) == CHEXPERT - {CHEXPERT_UNCERTAIN}:
        # A guessed column of 0 and 1 holds no -1, so this word finds nothing there.
        uncertain = (*uncertain, CHEXPERT_UNCERTAIN)
    return _Rule(
        schema,
        frozenset(schema.values),
        _numeric(schema.values),
        frozenset(map(_word, missing)),
        frozenset(map(_word, uncertain)),
    )


def _possible(text: str, schema: ColumnSchema) -> bool:
    if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        return False
    value = float(text)
    above = schema.low is None or value >= schema.low
    return above and (schema.high is None or value <= schema.high)


def _notes(
    schema: ColumnSchema, counts: Counter[str], meaning: dict[str, tuple[str, str | None]]
) -> list[str]:
    """Return one sentence per kind of cell that was not taken as it stands."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for text, (kind, value) in meaning.items():
        if text and text != value:
            kinds[kind].append(text)
    answer = "; list it under values in a label schema if it is an answer"
    said = {
        MISSING: f"read as missing{answer if schema.missing is None else ''}",
        UNCERTAIN: f"read as uncertain{answer if schema.uncertain is None else ''}",
        VALUE: "read as the number it is",
    }
    out = []
    for kind, words in said.items():
        if kinds[kind]:
            found = ", ".join(f"{t[:MAX_CELL]!r} ({counts[t]})" for t in sorted(kinds[kind])[:10])
            out.append(f"{schema.column}: {found} {words}.")
    folded: dict[str, set[str]] = defaultdict(set)
    for kind, value in meaning.values():
        if kind == VALUE and value is not None:
            folded[value.casefold()].add(value)
    twins = sorted(v for found in folded.values() if len(found) > 1 for v in found)
    if twins:
        shown_twins = ", ".join(repr(v[:MAX_CELL]) for v in twins[:10])
        out.append(f"{schema.column}: {shown_twins} differ only in case and stay apart.")
    return out


Schema = Mapping[str, ColumnSchema]


def label_columns(
    rows: Rows,
    wanted: tuple[str, ...],
    schema: Schema,
    table: str,
    keys: frozenset[str],
    patient: str | None,
) -> tuple[dict[str, Cells], dict[str, str]]:
    """Return the label columns of a table, read, and the others with the reason they are left out.

    Args:
        rows: the table, by line.
        wanted: columns to take; empty takes those with few values. Those of the schema are taken too.
        schema: what columns may hold.
        table: its name, for sentences.
        keys: names, in small letters, of columns that join or place a row.
        patient: the column that names the patient, if any.

    Raises:
        UsageError: a wanted column is absent, or its name is reserved.
    """
    columns = list(rows[0][1])
    absent = [w for w in wanted if w not in columns]
    if absent:
        raise UsageError(f"{table}: no column {absent}; it has {columns}.", "E-LABEL-COLUMN")
    named = list(dict.fromkeys([*wanted, *(c for c in columns if c in schema)]))
    reserved = [c for c in named if c.lower() in RESERVED]
    if reserved:
        words = f"{table}: {reserved} names the images themselves; give the label another name."
        raise UsageError(words, "E-LABEL-COLUMN")
    rest = [] if wanted else [c for c in columns if c not in named and c.lower() not in keys]
    keep: dict[str, Cells] = {}
    out: dict[str, str] = {}
    for column in [c for c in columns if c in named or c in rest]:
        cells = parse(column, [(n, row[column]) for n, row in rows], schema.get(column), table)
        owners = [row[patient] for _, row in rows] if patient is not None else None
        reason = None if column in named else _doubt(column, cells, owners)
        if reason is None:
            keep[column] = cells
        else:
            out[column] = reason
    return keep, out


def _doubt(column: str, cells: Cells, owners: list[str] | None) -> str | None:
    """Return why a column that nobody named may be no label, or None."""
    different = len(cells.known)
    if IDENTIFYING.search(column):
        return "its name says it may identify; name it with --label to take it"
    if not all(PLAIN_WORD.fullmatch(value) for value in cells.known):
        return "holds more than single words and numbers; name it with --label to take it"
    if different > min(MAX_VALUES, len(cells.values) // LEAST_ROWS):
        return f"{different} different values; name it with --label to take it"
    if different > 2 and owners is not None and _one_owner_each(cells, owners):
        return "each value belongs to one patient; name it with --label to take it"
    return None


def _one_owner_each(cells: Cells, owners: list[str]) -> bool:
    found: dict[str, set[str]] = defaultdict(set)
    for value, owner in zip(cells.values, owners, strict=True):
        if value is not None and value != UNCERTAIN:
            found[value].add(owner)
    return all(len(several) == 1 for several in found.values())
