"""Table one: who was looked at, beside the patients the model learnt from."""

from typing import Any

import numpy as np

from medssl.evaluate import attributes
from medssl.evaluate.answers import Answers
from medssl.evaluate.groups import count
from medssl.evaluate.inputs import Here
from medssl.evaluate.performance import Row
from medssl.evaluate.reference import Column, Reference
from medssl.stats.bootstrap import Patients

NAMED = ("sex", "age_band", "view", "manufacturer", "model", "year", "modality")
MOST_LEVELS = 12
ABSENT = "not stated"


def table_one(here: Here, answers: Answers, reference: Reference) -> list[Row]:
    """Return counts of patients per level, here (all, with and without the finding) and at the source.

    A patient with several levels counts in each. Cells below five are '<5'. Attributes of which
    nothing is known at either hospital have one row that says so.
    """
    out: list[Row] = []
    named = {a.name: a.words for a in attributes.ATTRIBUTES}
    for name in NAMED:
        mine, theirs = here.columns.get(name), reference.columns.get(name)
        if mine is None and theirs is None:
            out.append({"attribute": named[name], "level": "not stated in any header"})
            continue
        out += _levels(named[name], mine, theirs, answers, reference)
    return out


def _levels(
    words: str,
    mine: Column | None,
    theirs: Column | None,
    answers: Answers,
    reference: Reference,
) -> list[Row]:
    text = (
        None if mine is None else np.array([ABSENT if v is None else str(v) for v in mine.values])
    )
    other = (
        None
        if theirs is None
        else np.array([ABSENT if v is None else str(v) for v in theirs.values])
    )
    both = [t for t in (text, other) if t is not None]
    names, held = np.unique(np.concatenate(both), return_counts=True)
    shown = sorted(names[np.argsort(-held)][:MOST_LEVELS].tolist())
    k = answers.shown[0] if answers.shown else 0
    out: list[Row] = []
    for level in shown:
        row: Row = {"attribute": words, "level": str(level)}
        if text is not None and mine is not None:
            inside = text == level
            row["patients"] = count(_people(mine.patient[inside]))
            labelled = inside[answers.row]
            for value, name in ((1, "with"), (0, "without")):
                picked = labelled & (answers.outcome[:, k] == value)
                row[f"patients_{name}"] = count(_people(answers.patient[picked]))
        if other is not None and theirs is not None and reference.pack is None:
            row["source_patients"] = count(_people(theirs.patient[other == level]))
        elif other is not None and theirs is not None:
            share = 100 * float((other == level).mean())
            row["source_patients"] = f"{share:.0f} %"
        out.append(row)
    left = len(names) - len(shown)
    if left:
        out.append({"attribute": words, "level": f"and {left} rarer levels"})
    return out


def _people(patient: Any) -> int:
    return Patients.of(patient).count if len(patient) else 0
