"""``health.json`` and ``health.html``: one page that asks for nothing outside itself."""

from html import escape
from pathlib import Path

from medssl.check.health import LEAST, LEVELS, Cell, Finding, Health, Level, Part, Table, coarse
from medssl.files import write_json, write_text

SCHEMA = 1
HEADINGS: dict[Level, str] = {
    "stop": "Stop: do not train or test on this",
    "warn": "Warnings: look before a long run",
    "note": "Notes: worth knowing",
    "ok": "Looked at, nothing found",
}
VERDICTS: dict[Level, str] = {
    "stop": "Something must be put right before this cohort is used.",
    "warn": "Usable, but look at the warnings before a long run.",
    "note": "Nothing wrong was found; the notes say what to keep in mind.",
    "ok": "Nothing wrong was found.",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
.banner { border: 2px solid #8a5a00; padding: .4rem .8rem; font-weight: 600; }
.finding { border-left: .5rem solid #767676; padding: .2rem 1rem; margin: .8rem 0; }
.stop { border-color: #a40000; } .warn { border-color: #b35900; } .note { border-color: #0072b2; }
.level { font-weight: 700; text-transform: uppercase; }
table { border-collapse: collapse; margin: .4rem 0 1.4rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { border-bottom: 1px solid #ccc; padding: .25rem .7rem; text-align: left; vertical-align: top;
  font-weight: normal; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
thead th { font-weight: 600; }
td.number { text-align: right; }
.small { font-size: .9rem; color: #444; overflow-wrap: anywhere; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; }
  .finding, tr { break-inside: avoid; } h2, caption { break-after: avoid; } }
"""


def write_page(health: Health, out: Path) -> None:
    """Write ``health.json`` (exact counts) and ``health.html`` (small counts hidden).

    Args:
        health: what ``check`` found.
        out: the folder, usually the cohort's own.

    Raises:
        DiskError: no room; an earlier page is intact.
    """
    write_json(out / "health.json", {"schema": SCHEMA, **health.record()})
    write_text(out / "health.html", page(health))


def page(health: Health) -> str:
    """Return the page as HTML: headings, lists and tables, readable without colour or style."""
    told = ", ".join(f"{level} {health.count(level)}" for level in reversed(LEVELS))
    store = health.store if health.store is not None else "none"
    body = [
        '<p class="banner">Research use only. Not for diagnosis.</p>',
        f"<h1>Health of the cohort {escape(health.cohort)}</h1>",
        f"<p><strong>{VERDICTS[health.level]}</strong> Findings: {told}.</p>",
        f'<p class="small">{health.images:,} images; store {escape(store)}; SHA-256 of '
        f"manifest.parquet {health.manifest_sha256}. Names are pseudonyms. Counts from 1 to "
        f"{LEAST - 1} are shown as &lt;{LEAST}; health.json has the exact ones and stays with the "
        "cohort.</p>",
        *(_level(health, level) for level in reversed(LEVELS)),
        "<h2>The figures</h2>",
        *(_table(table) for table in health.tables if table.rows),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Health of {escape(health.cohort)}</title>\n<style>{STYLE}</style>\n</head>\n"
        "<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def _level(health: Health, level: Level) -> str:
    found = [f for f in health.findings if f.level == level]
    if not found:
        return ""
    return f"<h2>{HEADINGS[level]}</h2>\n" + "\n".join(map(_finding, found))


def _finding(one: Finding) -> str:
    names = ""
    if one.images:
        listed = ", ".join(escape(name) for name in one.images)
        names = f'<p class="small">Images (up to 20): {listed}</p>'
    return (
        f'<div class="finding {one.level}"><p><span class="level">{one.level}</span> '
        f"{escape(one.coarse)} <code>{escape(one.code)}</code></p>{names}</div>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = "\n".join(f"<tr>{_row(row)}</tr>" for row in table.rows)
    return (
        f"<table>\n<caption>{escape(table.title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>"
    )


def _row(row: tuple[Cell, ...]) -> str:
    first, *rest = row
    cells = [f'<th scope="row">{escape(coarse(first))}</th>']
    for cell in rest:
        kind = ' class="number"' if isinstance(cell, int | float | Part) else ""
        cells.append(f"<td{kind}>{escape(coarse(cell))}</td>")
    return "".join(cells)
