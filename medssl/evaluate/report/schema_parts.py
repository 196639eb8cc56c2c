"""The parts of report.json, one model for every table and record; see ``schema``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Number = float | None
Count = int | Literal["<5", "not shown"]
"""Small counts are hidden, and so is what would give one away by a difference."""

Share = Annotated[float, Field(ge=0, le=1)]
P = Annotated[float, Field(ge=0, le=1)] | None
Level = Literal["image", "patient"]
Cohort = Literal["source", "target"]


class Part(BaseModel):
    """A part of the report; an unknown key is an error, and so is NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Note(Part):
    """Why a part was not computed."""

    note: str


class Outcome(Part):
    """The verdict, the number of its rule from 0, and its sentences."""

    answer: Literal["do not use here", "cannot tell", "use after local adjustment", "use as is"]
    rule: int = Field(ge=0, le=4)
    reasons: list[str]


class Hospital(Part):
    """Sites and counts."""

    sites: list[str]
    images: int = Field(ge=0)
    patients: int = Field(ge=0)
    labelled: int = Field(ge=0)


class Source(Hospital):
    """The source hospital; whether it is known by a pack only."""

    name: str
    pack: bool


class Period(Part):
    """Months that were asked for, and pictures left out for them."""

    since: str | None
    until: str | None
    left_out: int = Field(ge=0)


class Changed(Part):
    """Settings that are not the default, or not those of the first report: name, value, other."""

    from_default: list[list[Any]]
    from_before: list[list[Any]]


class Step(Part):
    """One step from found to analysed."""

    what: str
    images: Count
    patients: Count


class Participants(Part):
    """One level of table one; at a pack the source is a percentage."""

    attribute: str
    level: str
    patients: Count | None = None
    patients_with: Count | None = None
    patients_without: Count | None = None
    source_patients: int | str | None = None


class Performance(Part):
    """One number of one hospital, level, class and metric; a site too small has only a note."""

    cohort: Cohort
    site: str
    level: Level
    metric: str
    class_: str = Field(alias="class")
    value: Number = None
    lower: Number = None
    upper: Number = None
    n: Count | None = None
    patients: Count | None = None
    events: Count | None = None
    note: str
    se: Number = None
    formula_lower: Number = None
    formula_upper: Number = None


class Difference(Part):
    """AUROC here less that at the source."""

    metric: str
    class_: str = Field(alias="class")
    value: Number
    lower: Number
    upper: Number
    p: P
    note: str


class Interval(Part):
    """One number with its interval over patients."""

    value: Number
    lower: Number
    upper: Number
    level: float
    resamples: int
    skipped: int
    n: int
    patients: int
    note: str


class Distance(Part):
    """A distance from perfect calibration."""

    interval: Interval
    bias: Number


class Curve(Part):
    """A smoothed calibration curve."""

    p: list[float]
    observed: list[Number]
    lower: list[Number] | None
    upper: list[Number] | None


class Points(Part):
    """Groups of equally many rows."""

    predicted: list[float]
    observed: list[float]
    lower: list[Number]
    upper: list[Number]
    n: list[Count]
    events: list[Count]
    patients: list[Count]


class Bands(Part):
    """The calibration picture and the distances from it."""

    curve: Curve | None
    points: Points
    ici: Distance
    e50: Distance
    e90: Distance
    emax: Distance
    ece: Distance
    ece_squared_debiased: Number
    n: Count
    events: Count
    patients: Count
    note: str


class Method(Part):
    """One update, judged on patients it did not see."""

    method: str
    slope: Interval
    intercept: Interval
    oe: Interval
    brier: Interval
    ici: Interval
    log_loss: Interval


class Judged(Part):
    """Every admitted update, and the one that the rule picks."""

    methods: list[Method]
    best: str
    rule: str
    repeats: int
    folds: int
    patients: Count
    patients_with: Count
    patients_without: Count


class Update(Part):
    """The picked update, fitted to all patients."""

    method: str
    a: float
    b: float
    knots_p: list[float]
    knots_to: list[float]


class Decision(Part):
    """Net benefit by threshold."""

    threshold: list[float]
    model: list[float]
    lower: list[Number] | None
    upper: list[Number] | None
    treat_all: list[float]
    gain: list[float]
    gain_lower: list[Number] | None
    gain_upper: list[Number] | None
    standardised: list[Number] | None
    prevalence: Share
    n: int
    patients: int
    resamples: int


class Guarantee(Part):
    """A threshold chosen anew, or only why there is none."""

    rate: str
    target: float
    note: str
    threshold: Number = None
    confidence: Number = None
    unit: str | None = None
    hits: Count | None = None
    trials: Count | None = None
    p: P = None
    patients: Count | None = None
    flagged: Count | None = None


class Calibration(Part):
    """Percentages, updates, decision curve and thresholds of one class."""

    class_: str = Field(alias="class")
    bands: Bands | Note
    judged: Judged | Note
    update: Update | Note
    decision: Decision | Note
    guarantees: list[Guarantee]
    measures: dict[str, Interval] | Note | None = None


class Group(Part):
    """One number of one level of a pre-named group."""

    group: str
    level: str
    class_: str = Field(alias="class")
    images: Count
    patients: Count
    patients_with: Count
    metric: str
    value: Number
    lower: Number = None
    upper: Number = None
    note: str
    difference: Number = None
    difference_lower: Number = None
    difference_upper: Number = None
    p: P = None
    p_adjusted: P = None


class Groups(Part):
    """Every pre-named group, what is not known, and the worst."""

    rows: list[Group]
    notes: list[str]
    worst: Group | None
