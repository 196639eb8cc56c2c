"""What a health check says: findings with a level, and tables whose small counts can be hidden."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "warn", "stop"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warn", "stop")
LEAST = 5  # smaller groups of patients can point at a person
NAMED = 20


@dataclass(frozen=True)
class Part:
    """A count and what it is a part of."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """Return the part as a fraction; nothing of nothing is 0."""
        return self.count / self.of if self.of else 0.0


Cell = str | int | float | Part | None


def exact(value: Cell) -> str:
    """Return a cell as it is, for a person who may see the cohort."""
    match value:
        case None:
            return "-"
        case Part():
            return f"{value.count:,} of {value.of:,} ({100 * value.share:.1f} %)"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3g}"
    return value


def coarse(value: Cell) -> str:
    """Return a cell for a page that may travel: counts from 1 to 4 become ``<5``.

    The rest of a total is not hidden: a table of two rows gives a hidden one away to whoever knows
    the total.
    """
    hidden = f"<{LEAST}"
    match value:
        case Part(count, of) if 0 < of < LEAST:
            return hidden
        case Part(count, of) if 0 < count < LEAST:
            return f"{hidden} of {of:,}"
        case Part(count, of) if 0 < of - count < LEAST:
            return f"all but {hidden} of {of:,}"
        case int() if 0 < value < LEAST:
            return hidden
    return exact(value)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``ok``; ``note`` (worth knowing); ``warn`` (look before you train); ``stop``.
        code: names the check, whatever its outcome; for scripts.
        sentence: what, how many, what to do; counts exact.
        coarse: the same with counts below five hidden, for the page.
        images: pseudonyms of up to 20 images concerned.
    """

    level: Level
    code: str
    sentence: str
    coarse: str
    images: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """Return the level as a number, the worst highest."""
        return LEVELS.index(self.level)


@dataclass(frozen=True)
class Table:
    """Counts behind the findings; ``rows`` hold exact cells."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Section:
    """What one part of the check returns."""

    findings: tuple[Finding, ...]
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Health:
    """Everything that was found.

    Attributes:
        cohort: name of the cohort's folder.
        manifest_sha256: of the file ``manifest.parquet``.
        store: name of the store that was looked into, or None.
        images: rows of the manifest.
        findings: the worst first.
        tables: mixes, distributions and accounts.
    """

    cohort: str
    manifest_sha256: str
    store: str | None
    images: int
    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]

    @property
    def level(self) -> Level:
        """Return the worst level found; ``stop`` ends the command with exit code 4."""
        return LEVELS[max((f.rank for f in self.findings), default=0)]

    def count(self, level: Level) -> int:
        """Return how many findings have a level."""
        return sum(f.level == level for f in self.findings)

    def lines(self) -> list[str]:
        """Return the summary for the console, exact counts, the worst first."""
        head = ", ".join(f"{level} {self.count(level)}" for level in reversed(LEVELS))
        told = [f"  {f.level:<4}  {f.sentence} [{f.code}]" for f in self.findings if f.rank]
        return [f"{self.cohort}: {self.images:,} images; findings: {head}", *told]

    def record(self) -> dict[str, Any]:
        """Return everything as plain data with exact counts, for ``health.json``."""
        return {
            "cohort": self.cohort,
            "level": self.level,
            "manifest_sha256": self.manifest_sha256,
            "store": self.store,
            "images": self.images,
            "findings": [
                {"level": f.level, "code": f.code, "sentence": f.sentence, "images": list(f.images)}
                for f in self.findings
            ],
            "tables": [
                {
                    "title": t.title,
                    "head": list(t.head),
                    "rows": [[_plain(cell) for cell in row] for row in t.rows],
                }
                for t in self.tables
            ],
        }


def _plain(cell: Cell) -> Any:
    return {"count": cell.count, "of": cell.of} if isinstance(cell, Part) else cell


def finding(
    level: Level, code: str, words: str, images: Iterable[str] = (), /, **values: Cell
) -> Finding:
    """Return a finding; ``words`` names its values in braces, so that counts can be hidden."""
    return Finding(
        level,
        code,
        words.format(**{name: exact(value) for name, value in values.items()}),
        words.format(**{name: coarse(value) for name, value in values.items()}),
        tuple(image for image, _ in zip(images, range(NAMED), strict=False)),
    )
