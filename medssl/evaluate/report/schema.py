"""What report.json holds, as a contract that is checked before anything is written.

``docs/report.schema.json`` is the same as JSON Schema, for other programs; after a change here write
it anew: ``python -c "import sys; from medssl.evaluate.report import schema;
sys.stdout.write(schema.json_schema())" > docs/report.schema.json``.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, ValidationError

from medssl.errors import MedsslError
from medssl.evaluate.report.schema_more import (
    Abstention,
    Drift,
    Mix,
    Remedies,
    SampleSize,
    Shift,
    Shortcuts,
)
from medssl.evaluate.report.schema_parts import (
    Calibration,
    Changed,
    Count,
    Difference,
    Groups,
    Hospital,
    Note,
    Outcome,
    Part,
    Participants,
    Performance,
    Period,
    Source,
    Step,
)

SCHEMA = 2
MOST_PROBLEMS = 10


class Report(Part):
    """The whole of report.json."""

    version: Literal[2] = Field(alias="schema")
    target: str
    classes: list[str] = Field(min_length=1)
    exclusive: bool
    thresholds: dict[str, float]
    threshold_rule: str
    verdict: Outcome
    headline: Literal["auroc", "macro_auroc"]
    source: Source
    cohort: Hospital
    period: Period
    flow: list[Step]
    participants: list[Participants]
    performance: list[Performance]
    differences: list[Difference]
    calibration: list[Calibration]
    groups: Groups
    shift: Shift
    mix: list[Mix]
    shortcuts: Shortcuts
    abstention: Abstention | Note
    sample_size: list[SampleSize]
    drift: list[Drift]
    remedies: Remedies | None
    notes: list[str]
    model: dict[str, Any]
    provenance: dict[str, str]
    settings: dict[str, Any]
    settings_changed: Changed | None = None
    patients_never: dict[str, Count] | None = None


def check(report: dict[str, Any]) -> None:
    """Refuse a report that does not hold what report.json promises.

    Args:
        report: the plain report with its ``schema``.

    Raises:
        MedsslError: names every bad place (ten at most), such as ``performance.3.value``.
    """
    problems = [f"{where} is not a finite number" for where in _not_finite(report, "")]
    if not problems:
        try:
            Report.model_validate(report)
            return
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}"
                for e in error.errors(include_url=False, include_input=False)
            ]
    told = [f"The report is not what report.json promises: {p}." for p in problems]
    raise MedsslError(told[:MOST_PROBLEMS], "E-REPORT")


def _not_finite(value: Any, where: str) -> Iterator[str]:
    """Find NaN and infinity also where the models take anything."""
    if isinstance(value, float) and not math.isfinite(value):
        yield where.removeprefix(".")
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    for key, inner in parts:
        yield from _not_finite(inner, f"{where}.{key}")


def json_schema() -> str:
    """Return the contract as JSON Schema, the text of ``docs/report.schema.json``."""
    return json.dumps(Report.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
