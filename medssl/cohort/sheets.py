"""Tables as numbered rows of text, from CSV, TSV or an Excel sheet."""

import math
import re
import warnings
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from medssl.errors import MedsslError, UsageError
from medssl.files import numbered_table

EXCEL = ".xlsx"
OTHER_WORKBOOKS = frozenset({".xls", ".xlsm", ".xlsb", ".xltx", ".xltm", ".ods", ".numbers"})
ZIP_START, OLE_START = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
SHEET = re.compile(r"(.*?\.xlsx)#(.+)", re.IGNORECASE | re.DOTALL)
PADDED = re.compile(r"0{2,}")
MAX_UNPACKED = 256 << 20
MAX_RATIO = 200  # text of a real sheet packs 5 to 30 times; a zip bomb a thousand times
MAX_ROWS = 1 << 20
EXACT_BELOW = 10**15  # Excel keeps 15 digits of a number
SHOWN = 20

Rows = list[tuple[int, dict[str, str]]]


def shown(problems: list[str]) -> list[str]:
    """Return the first 20 sentences, and one that counts the rest."""
    rest = len(problems) - SHOWN
    return [*problems[:SHOWN], f"... and {rest} more."] if rest > 0 else problems


def numbered_rows(path: Path) -> Rows:
    """Read a table as text, each row with its line (CSV, TSV) or row number (Excel).

    Args:
        path: CSV, TSV or ``FILE.xlsx``; ``FILE.xlsx#Sheet`` for a sheet other than the first visible one.

    Raises:
        UsageError: absent, empty, broken, or of a kind that is not read here.
    """
    file, sheet = _file_and_sheet(path)
    if not file.is_file():
        raise UsageError(f"{path}: no such table; check the path.", "E-TABLE")
    kind = file.suffix.lower()
    with file.open("rb") as stream:
        start = stream.read(4)
    if start == OLE_START or kind in OTHER_WORKBOOKS:
        words = (
            f"{file.name}: an old, macro-carrying or password-protected workbook, which is not opened. "
            "Save it as .xlsx without a password."
        )
        raise UsageError(words, "E-TABLE")
    if kind == EXCEL:
        return _workbook(file, sheet, path.name)
    if start == ZIP_START:
        words = f"{file.name}: a zip file or workbook by its content; name a workbook .xlsx."
        raise UsageError(words, "E-TABLE")
    return numbered_table(path)


def _file_and_sheet(path: Path) -> tuple[Path, str | None]:
    found = SHEET.fullmatch(str(path))
    if found is None or path.exists():
        return path, None
    return Path(found[1]), found[2]


def _workbook(file: Path, sheet: str | None, name: str) -> Rows:
    problems: list[str] = []
    try:
        _check_archive(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lines = [(n, cells) for n, cells in _lines(file, sheet, name, problems) if any(cells)]
    except MedsslError:
        raise
    except Exception as error:
        words = (
            f"{name}: not readable as a workbook ({type(error).__name__}); save it again as .xlsx."
        )
        raise UsageError(words, "E-TABLE") from error
    if not lines and not problems:
        raise UsageError(f"{name}: the table is empty.", "E-TABLE")
    rows = _named(lines, name, problems) if lines else []
    if problems:
        raise UsageError(shown(problems), "E-TABLE")
    return rows


def _check_archive(file: Path) -> None:
    """Raise UsageError for an archive that would unpack to far more than a table."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    unpacked = sum(m.file_size for m in members)
    steep = [m for m in members if m.file_size > max(1 << 20, MAX_RATIO * m.compress_size)]
    if unpacked > MAX_UNPACKED or steep:
        words = (
            f"{file.name}: {file.stat().st_size} bytes that would unpack to {unpacked}; no table does. "
            "Save the sheet as CSV."
        )
        raise UsageError(words, "E-TABLE")


def _lines(
    file: Path, sheet: str | None, name: str, problems: list[str]
) -> Iterator[tuple[int, list[str]]]:
    """Yield (row number, cells as text) of one sheet; what cannot be told joins ``problems``."""
    from openpyxl import load_workbook  # type: ignore[import-untyped]

    # The values Excel stored and the formulas behind them: only together do they tell a blank cell
    # from a formula that nobody has calculated.
    with file.open("rb") as one, file.open("rb") as two:
        books = [
            load_workbook(stream, read_only=True, data_only=values, keep_links=False)
            for stream, values in ((one, True), (two, False))
        ]
        pages = [_sheet(book, sheet, name) for book in books]
        for page in pages:
            # The size that a file declares may be wrong, and would cut or inflate the table.
            page.reset_dimensions()
        both = zip(*(page.iter_rows() for page in pages), strict=True)
        for number, (values, formulas) in enumerate(both, start=1):
            if number > MAX_ROWS:
                raise UsageError(f"{name}: more than {MAX_ROWS} rows; give a CSV.", "E-TABLE")
            cells = []
            for value, formula in zip(values, formulas, strict=True):
                text, fault = _text(value, formula)
                if fault is not None:
                    problems.append(f"{name}, cell {value.coordinate}: {fault}")
                cells.append(text)
            yield number, cells


def _sheet(book: Any, sheet: str | None, name: str) -> Any:
    pages = book.worksheets
    if sheet is None:
        found = [p for p in pages if p.sheet_state == "visible"] or pages
    else:
        found = [p for p in pages if p.title.casefold() == sheet.casefold()]
    if not found:
        words = f"{name}: no such sheet; the workbook has {', '.join(p.title for p in pages) or 'none'}."
        raise UsageError(words, "E-TABLE")
    return found[0]


def _text(cell: Any, formula: Any) -> tuple[str, str | None]:
    """Return a cell as text, or what is wrong with it."""
    value = cell.value
    if value is None:
        # A formula whose result is the empty text is stored as a text cell without a value.
        lost = formula.data_type == "f" and cell.data_type != "str"
        return "", (
            "a formula without a stored value; open and save it in Excel." if lost else None
        )
    if cell.data_type == "e":
        return "", f"the Excel error {value}; correct it, or clear the cell."
    if isinstance(value, bool):
        return str(value).upper(), None
    if isinstance(value, int | float):
        return _number(cell, value)
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    if isinstance(value, datetime | date | time):
        return value.isoformat(), None
    return str(value).strip(), None


def _number(cell: Any, value: float) -> tuple[str, str | None]:
    if not math.isfinite(value) or abs(value) >= EXACT_BELOW:
        return "", (
            f"a number of 16 digits or more ({value}), of which Excel keeps 15; format the column as text "
            "and enter it anew."
        )
    if value != int(value):
        return f"{value:.15g}", None
    # Only the format carries the zeros that a person sees in front of a number.
    width = len(cell.number_format) if PADDED.fullmatch(str(cell.number_format)) else 0
    return str(int(value)).zfill(width), None


def _named(lines: list[tuple[int, list[str]]], name: str, problems: list[str]) -> Rows:
    (_, head), *body = lines
    names = [cell for cell in head if cell]
    problems += [
        f"{name}: column {n!r} stands twice." for n in sorted(set(names)) if names.count(n) > 1
    ]
    places = [k for k, cell in enumerate(head) if cell]
    rows = []
    for number, cells in body:
        if any(cell and (k >= len(head) or not head[k]) for k, cell in enumerate(cells)):
            problems.append(f"{name}, row {number}: a value in a column that has no name.")
        padded = cells + [""] * len(head)
        rows.append((number, {head[k]: padded[k] for k in places}))
    return rows
