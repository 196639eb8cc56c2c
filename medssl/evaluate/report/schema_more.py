"""More parts of report.json: what differs, what can be read, sets of answers, size, time, remedies."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medssl.evaluate.report.schema_parts import Count, Interval, Note, Number, P, Part, Share


class Mmd(Part):
    """Patient-block MMD."""

    statistic: float
    p: P
    permutations: int
    source_patients: int
    target_patients: int
    subsampled: bool


class Unlike(Part):
    """Images beyond a percentile of the source's own."""

    beyond: float
    share: dict[str, Any]
    most: list[dict[str, Any]]


class Outputs(Part):
    """Shift of the model's answers; only a note and the classes where it was not run."""

    classes: list[str] | None = None
    note: str | None = None
    ks: list[float] | None = None
    each_p: list[float] | None = None
    adjusted_p: list[float] | None = None
    p: P = None
    permutations: int | None = None
    source_patients: int | None = None
    target_patients: int | None = None


class Column(BaseModel):
    """One header field or pixel figure at both hospitals; what it holds depends on its kind."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    column: str
    note: str | None = None
    p: P = None
    p_adjusted: P = None


class Loose(BaseModel):
    """A part whose keys are those of one record of ``medssl.stats``, or only a note."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    note: str | None = None
    p: P = None


class Shift(Part):
    """Every comparison of the hospitals that needs no label here."""

    embedding: Mmd | Note
    domain: Loose
    frechet: Loose
    unlike: Unlike | Note
    detectable: Loose
    outputs: Outputs
    columns: list[Column]
    labels: Loose
    note: str | None = None


class Mix(Loose):
    """Why an AUROC is lower."""

    class_: str = Field(alias="class")


class Readable(Part):
    """How well something can be read from an embedding or from plain figures."""

    encoder: str
    what: str
    note: str
    value: Number
    lower: Number
    upper: Number
    patients: Count | None
    levels: list[str] | None = None
    chance: Number = None
    class_: str | None = Field(None, alias="class")


class Cue(Part):
    """The label told from one figure alone."""

    class_: str = Field(alias="class")
    figure: str
    value: Number
    lower: Number
    upper: Number
    patients: Count | None
    p: P
    p_adjusted: P


class Mask(Part):
    """The model with a part of every picture hidden."""

    hospital: Literal["source", "here"]
    mask: str
    class_: str = Field(alias="class")
    value: Number
    lower: Number
    upper: Number
    patients: Count | None
    difference: Number
    difference_lower: Number
    difference_upper: Number
    p: P
    note: str


class Shortcuts(Part):
    """What can be read where it should not be."""

    readable: list[Readable]
    identity: list[Readable]
    cues: list[Cue]
    simple: list[Readable]
    masks: list[Mask]
    sentences: list[str]


class Coverage(Part):
    """How often a set of answers holds the right one."""

    part: str
    name: str
    patients: Count
    covered: Count
    coverage: Number
    lower: Number
    upper: Number
    mean_size: Number
    empty: Count
    single: Count
    unsure: Count


class Selective(Part):
    """Errors when only the surest answers are given."""

    hospital: Literal["source", "here"]
    part: str = "all"
    name: str = "all"
    aurc: Interval
    error_at: dict[str, float]


class Abstention(Part):
    """Sets of answers and selective risk."""

    rule: dict[str, Any]
    miss_rate: Share
    unsure_percent: float
    empty_percent: float
    unsure: dict[str, Any] | None = None
    empty: dict[str, Any] | None = None
    coverage: list[Coverage]
    selective: list[Selective]
    caution: str | None = None


class Criterion(Part):
    """Patients needed and had for one width."""

    name: Literal["oe", "auroc", "slope", "net_benefit"]
    needed: int | None
    had: int
    target: float
    foreseen: Number
    achieved: Number
    enough: bool | None
    note: str


class Assessment(Part):
    """Whether a study is large enough."""

    criteria: list[Criterion]
    enough: bool | None
    patients: int
    design_effect: Number
    events: float
    non_events: float
    floor_reached: bool
    note: str


class SampleSize(Part):
    """Patients needed as foreseen, and as it turned out."""

    class_: str = Field(alias="class")
    targets: dict[str, Number]
    before: Assessment | Note | None = None
    after: Assessment | Note | None = None


class Month(Part):
    """One month, counted from the first; true dates stay private."""

    month: int = Field(ge=1)
    n: Count
    patients: Count
    events: Count
    expected: Number
    oe: Number
    lower: Number
    upper: Number
    auroc: Number
    note: str


class Drift(Part):
    """Drift of one class."""

    class_: str = Field(alias="class")
    note: str
    months: list[Month] | None = None
    gaps: int | None = None
    undated: Count | None = None
    trend: dict[str, Any] | None = None
    cusum: dict[str, Any] | None = None


class Remedy(Part):
    """One local run beside the original model."""

    remedy: str
    start: str
    mode: str
    labelled_patients: int
    value: Number
    lower: Number
    upper: Number
    images: int
    note: str
    against_original: Number = None
    against_original_lower: Number = None
    against_original_upper: Number = None
    against_original_p: P = None
    against_scratch: Number = None
    against_scratch_lower: Number = None
    against_scratch_upper: Number = None
    against_scratch_p: P = None


class Reach(Part):
    """Local patients until the source's own score is reached."""

    remedy: str
    start: str
    mode: str
    patients: int | None
    lower: int | None
    upper: int | None
    most_tried: int


class Remedies(Part):
    """What local labels would bring."""

    rows: list[Remedy]
    reach: list[Reach]
    source_auroc: Number
