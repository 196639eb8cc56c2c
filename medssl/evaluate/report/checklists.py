"""Reporting checklists: which item the report fills, and which a person must write.

The lists are files in ``checklists/``; a change of wording needs no code. A section that is there
answers an item, it does not say that the answer is good.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, get_args

from medssl.config import Settings
from medssl.loading import load as load_yaml

FOLDER = Path(__file__).with_name("checklists")
Section = Literal[
    "answer", "context", "data", "participants", "model", "shift", "discrimination", "calibration",
    "threshold", "usefulness", "groups", "time", "uncertainty", "shortcuts", "remedies", "size",
    "limits", "checklists", "reproducibility", "glossary",
]  # fmt: skip
SECTIONS: tuple[str, ...] = get_args(Section)
Writer = Literal["tool", "person", "both"]
State = Literal["filled", "part", "person", "not run"]


@dataclass(frozen=True)
class Item:
    """One item of a checklist, in our words.

    Attributes:
        id: number in the official list, such as ``12e``.
        section: the report's section that fills it; None where only a person can.
        checked: whether number and topic were compared with a copy of the official list.
        link: where the official wording stands.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    id: str
    title: str
    text: str
    section: Section | None
    filled_by: Writer
    checked: bool
    link: str = ""

    def __post_init__(self) -> None:
        if (self.section is None) != (self.filled_by == "person"):
            raise ValueError(
                f"item {self.id}: filled by {self.filled_by} with section {self.section}; "
                "name a section exactly where the tool has a part"
            )


@dataclass(frozen=True)
class Row:
    """What became of one item in one report; ``words`` is the sentence that the report prints."""

    item: Item
    state: State
    words: str


class Checklist(Settings):
    """A list as its file gives it; items take its link."""

    name: str
    source: str
    link: str
    items: tuple[Item, ...]


def names() -> tuple[str, ...]:
    """Return the lists that are there, by file name without its ending."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load(name: str) -> Checklist:
    """Read a list.

    Args:
        name: one of ``names()``.

    Returns:
        The list, every item with its link.

    Raises:
        ValueError: if there is no such list, it is empty, or a number stands twice.
        UsageError: if its file does not hold what a list must.
    """
    if name not in names():
        raise ValueError(f"There is no checklist {name!r}; choose one of {', '.join(names())}.")
    found = load_yaml(Checklist, FOLDER / f"{name}.yaml")
    ids = [item.id for item in found.items]
    if not ids or len(set(ids)) < len(ids):
        twice = sorted({i for i in ids if ids.count(i) > 1})
        raise ValueError(f"{name}: {len(ids)} items, of which stand twice: {twice}; mend the file.")
    items = tuple(replace(item, link=item.link or found.link) for item in found.items)
    return found.model_copy(update={"items": items})


def status(
    items: Iterable[Item],
    sections_present: Mapping[str, bool],
    hollow: Collection[str] = (),
) -> tuple[Row, ...]:
    """Say for every item who has answered it or must.

    Args:
        items: of one list, in its order.
        sections_present: which sections this report has; one that is not named is absent.
        hollow: those of them that hold nothing but dashes, and so fill nothing.

    Returns:
        One row per item, in the same order.

    Raises:
        ValueError: if a section is named that no report has.
    """
    unknown = sorted(set(sections_present) - set(SECTIONS))
    if unknown:
        raise ValueError(f"No report has the sections {unknown}; known are {', '.join(SECTIONS)}.")
    return tuple(_row(item, sections_present, hollow) for item in items)


def _row(item: Item, present: Mapping[str, bool], hollow: Collection[str]) -> Row:
    if item.section is None:
        return Row(item, "person", "a person must write this")
    shared = item.filled_by == "both"
    if present.get(item.section, False) and item.section in hollow:
        words = f"section {item.section} knows nothing of it here; a person must write this"
        return Row(item, "person", words)
    if present.get(item.section, False):
        if shared:
            words = f"filled in part: section {item.section}; a person must write the rest"
            return Row(item, "part", words)
        return Row(item, "filled", f"filled: section {item.section}")
    words = "not run in this report"
    return Row(item, "not run", f"{words}; a person must write this" if shared else words)
