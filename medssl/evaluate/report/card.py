"""The model card: one page of facts that travels with the weights, and what a person must add.

After Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), in our headings. Names of
classes, labels and sites come from strangers; ``escape`` lets them be nothing but words.
"""

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

BANNER = "**Research use only. Not for diagnosis.**"
PERSON = "**TO BE WRITTEN BY A PERSON:**"
SHA256 = re.compile(r"[0-9a-f]{64}")
LIMIT = 200

# Entities for what splits cells and opens tags: no parser of Markdown sees through them.
_LIVE = {c: f"&#{ord(c)};" for c in "&<>|`"} | {c: f"\\{c}" for c in "\\*_[]#!~{}$"}
_BLOCK = re.compile(r"^(?:\d{1,9}[.)](?= |$)|[-+=:])")
# Renderers make a link of a bare scheme://, www. and name@host; an invisible space parts them.
_ADDRESS = re.compile(r":(?=//)|@|(?<=www)(?=\.)", re.IGNORECASE)
_GAP = "&#8203;"


@dataclass(frozen=True)
class Threshold:
    """From which probability a class is called, and who chose that on which patients."""

    outcome: str
    value: float
    origin: str


@dataclass(frozen=True)
class Link:
    """One link of the chain of weights: what it is, the SHA-256 of its file, how it was made."""

    name: str
    sha256: str
    made_by: str


@dataclass(frozen=True)
class Site:
    """How much of one site went into training; counts only, no identities."""

    name: str
    patients: int
    images: int


@dataclass(frozen=True)
class Measure:
    """One number with its 95 % interval over patients; value None with a note: not computable.

    `where` names the hospital or the group of patients, `outcome` the class.
    """

    name: str
    outcome: str
    where: str
    value: float | None
    lower: float | None
    upper: float | None
    patients: int
    note: str = ""


@dataclass(frozen=True)
class Card:
    """What a card is made from.

    Attributes:
        sha256: of the classifier's weights, lower-case hex.
        written: date, and software with its version; given, so that equal facts give equal text.
        target: name of the label; classes: its values in order.
        chain: weights this model was made from, nearest first.
        training: per site; fewer than `least` patients are shown as such, not as a number.
        preprocessing: setting and value.
        performance: of all patients, by hospital; groups: by pre-named group.
        verdict: of the last evaluation at a new hospital, None without one; reasons: its sentences.
        limits: known ones, in sentences.
    """

    name: str
    sha256: str
    written: str
    software: str
    target: str
    classes: tuple[str, ...]
    thresholds: tuple[Threshold, ...]
    chain: tuple[Link, ...]
    training: tuple[Site, ...]
    preprocessing: tuple[tuple[str, str], ...]
    performance: tuple[Measure, ...]
    groups: tuple[Measure, ...]
    verdict: str | None
    reasons: tuple[str, ...]
    limits: tuple[str, ...]
    least: int = 20


def escape(value: object, limit: int = LIMIT) -> str:
    """Return words that no reader of Markdown takes for markup, on one line.

    Args:
        value: anything; its text is taken.
        limit: characters kept; a longer text ends with an ellipsis.

    Returns:
        One line, safe in a paragraph, a list or a cell of a table. Invisible and control characters,
        which can reverse or hide text, show as U+FFFD; an address stays text and is no link.
    """
    text = " ".join("".join(_visible(c) for c in str(value)).split())
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if not text:
        return "(empty)"
    # What begins a list or a rule is set apart: its own backslash must not be escaped again.
    start = _BLOCK.match(text)
    head, tail = (start[0], text[start.end() :]) if start else ("", text)
    if head:
        head = f"{head[:-1]}\\{head[-1]}"
    tail = _ADDRESS.sub(lambda m: f"{m[0]}\0", tail)
    return head + "".join(_GAP if c == "\0" else _LIVE.get(c, c) for c in tail)


def model_card(facts: Card) -> str:
    """Return the text of ``CARD.md``.

    Args:
        facts: everything known; every word of it is escaped here.

    Returns:
        Markdown with tables, ending with a line feed; equal facts give equal text.

    Raises:
        ValueError: if a digest, probability, count or interval cannot be one, or a name is missing.
    """
    _check(facts)
    parts = [
        f"# Model card: {escape(facts.name)}",
        BANNER,
        *_what(facts),
        "## What it is for",
        f"{PERSON} the intended use, the users, and the uses that are ruled out.",
        "## When it says yes",
        *_thresholds(facts),
        "## What it learnt from",
        *_training(facts),
        "## How images reach it",
        _table(("setting", "value"), facts.preprocessing)
        if facts.preprocessing
        else "No setting was recorded.",
        "## How well it does",
        *_measures(facts.performance, "Nothing has been measured yet."),
        "## By group of patients",
        *_measures(facts.groups, "No group was named before looking, so none was measured."),
        f"{PERSON} which groups matter here and may be served worse, and what follows from it.",
        "## Verdict",
        *_verdict(facts),
        "## Limits",
        _list(facts.limits) or "None was recorded; that does not mean that there is none.",
        f"{PERSON} risks and harms, who answers for the model, how it is watched in use, and when "
        "it is withdrawn.",
        BANNER,
    ]
    return "\n\n".join(parts) + "\n"


def _what(facts: Card) -> list[str]:
    rows = [
        ("name", escape(facts.name)),
        ("question", escape(facts.target)),
        ("classes", ", ".join(escape(c) for c in facts.classes)),
        ("SHA-256 of the weights", facts.sha256),
        ("written", escape(facts.written)),
        ("software", escape(facts.software)),
    ]
    lines = ["## What it is", _rows(("fact", "value"), rows)]
    if facts.chain:
        links = [(link.name, link.sha256, link.made_by) for link in facts.chain]
        lines += [
            "It was made from these weights, the nearest first:",
            _table(("weights", "SHA-256", "made by"), links),
        ]
    else:
        lines.append("It was made from no other weights.")
    return lines


def _thresholds(facts: Card) -> list[str]:
    if not facts.thresholds:
        return ["No threshold was chosen; it returns probabilities only."]
    rows = [(t.outcome, f"{t.value:.3f}", t.origin) for t in facts.thresholds]
    return [
        _table(("class", "called from", "origin"), rows),
        f"{PERSON} what is done for a patient who is called, and for one who is not.",
    ]


def _training(facts: Card) -> list[str]:
    if not facts.training:
        return [f"{PERSON} the training data; no counts were recorded."]
    rows = []
    for site in facts.training:
        few = site.patients < facts.least
        counts = (f"fewer than {facts.least}", "-") if few else (site.patients, site.images)
        rows.append((site.name, *map(str, counts)))
    return [
        _table(("site", "patients", "images"), rows),
        f"{PERSON} how these patients were chosen, how the labels were made, and under which "
        "permission.",
    ]


def _measures(measures: tuple[Measure, ...], without: str) -> list[str]:
    if not measures:
        return [without]
    head = ("measure", "class", "where", "value (95 % interval)", "patients")
    rows = [(m.name, m.outcome, m.where, _shown(m), str(m.patients)) for m in measures]
    return [_table(head, rows)]


def _shown(measure: Measure) -> str:
    if measure.value is None:
        return f"not computable: {measure.note}" if measure.note else "not computable"
    if measure.lower is None or measure.upper is None:
        note = f": {measure.note}" if measure.note else ""
        return f"{measure.value:.3f} (no interval{note})"
    return f"{measure.value:.3f} ({measure.lower:.3f} to {measure.upper:.3f})"


def _verdict(facts: Card) -> list[str]:
    if facts.verdict is None:
        return ["None: it has not been evaluated at a new hospital."]
    lines = [f"At the hospital last evaluated: **{escape(facts.verdict)}**."]
    return [*lines, _list(facts.reasons)] if facts.reasons else lines


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escape(s, 1000)}" for s in sentences)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return _rows(head, [tuple(escape(cell) for cell in row) for row in rows])


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    return "\ufffd" if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co"} else character


def _check(facts: Card) -> None:
    for what, name in (("model", facts.name), ("target", facts.target)):
        if not name.strip():
            raise ValueError(f"The {what} has no name; a card needs one.")
    if not facts.classes:
        raise ValueError("The card names no class; give the values of the label in order.")
    for digest in (facts.sha256, *(link.sha256 for link in facts.chain)):
        if not SHA256.fullmatch(digest):
            raise ValueError(f"A SHA-256 is 64 hexadecimal digits, got {digest!r}; copy it whole.")
    for measure in (*facts.performance, *facts.groups):
        _check_measure(measure)
    _check_counts(facts)


def _check_counts(facts: Card) -> None:
    for threshold in facts.thresholds:
        if not 0 <= threshold.value <= 1:
            raise ValueError(
                f"The threshold of {threshold.outcome!r} is {threshold.value}; it is a probability."
            )
    for site in facts.training:
        if min(site.patients, site.images) < 0:
            raise ValueError(f"Site {site.name!r} has a negative count; pass what was counted.")


def _check_measure(measure: Measure) -> None:
    given = [v for v in (measure.lower, measure.value, measure.upper) if v is not None]
    if not all(map(math.isfinite, given)):
        raise ValueError(f"{measure.name} is not finite; pass None with a note instead.")
    if measure.patients < 0:
        raise ValueError(f"{measure.name} has {measure.patients} patients; pass what was counted.")
    low, high = measure.lower, measure.upper
    if low is not None and high is not None and low > high:
        raise ValueError(
            f"The interval of {measure.name} runs from {low} to {high}; swap its ends."
        )
