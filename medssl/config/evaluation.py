"""Settings of ``medssl evaluate``."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medssl.config.base import MAX_SEED, LabelText, Settings

Month = Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")]
Group = Literal["site", "manufacturer", "model", "view", "sex", "age_band", "year", "quality"]


class EvaluateConfig(Settings):
    """Settings of ``medssl evaluate``: how sure, and the floors of the verdict."""

    target: LabelText | None = None
    """Column of the new cohort's label table; default: the classifier's own target."""
    since: Month | None = None
    """First month of the studies to report on, as 2026-01; needs study dates."""
    until: Month | None = None
    """Last month of the studies to report on."""
    resamples: int = Field(2000, ge=100)
    """Patient bootstrap resamples behind every interval."""
    permutations: int = Field(999, ge=99)
    """Patient permutations of the shift tests."""
    groups: tuple[Group, ...] = (
        "site",
        "manufacturer",
        "model",
        "view",
        "sex",
        "age_band",
        "year",
        "quality",
    )
    """Pre-named groups; the verdict looks at the sensitivity of each."""
    floor_auroc: float = Field(0.75, ge=0.5, le=1)
    """The least AUROC that makes the model useful here, set before looking."""
    floor_sensitivity: float = Field(0.5, ge=0, le=1)
    """The least sensitivity of any pre-named group at the working threshold."""
    margin_slope: tuple[float, float] = (0.8, 1.25)
    """Calibration slope that counts as kept."""
    margin_oe: tuple[float, float] = (0.8, 1.25)
    """Observed over expected that counts as kept."""
    min_events: int = Field(50, ge=1)
    """Fewer patients than this with (or without) the finding: cannot tell."""
    max_width: float = Field(0.15, gt=0, le=1)
    """A wider AUROC interval: cannot tell."""
    min_label_join: float = Field(0.9, ge=0, le=1)
    """A smaller share of labelled images: cannot tell."""
    min_cell_patients: int = Field(20, ge=1)
    """Groups with fewer patients say 'too few to say'."""
    min_cell_events: int = Field(10, ge=1)
    """Groups with fewer patients with (or without) the finding say 'too few to say'."""
    target_sensitivity: float = Field(0.9, gt=0, lt=1)
    """Sensitivity that a threshold chosen anew here must reach."""
    target_ppv: float | None = Field(None, gt=0, lt=1)
    """Positive predictive value that a threshold chosen anew here must reach; None: not asked."""
    confidence: float = Field(0.9, gt=0.5, lt=1)
    """Confidence of that guarantee."""
    miss_rate: float = Field(0.1, gt=0, lt=0.5)
    """Share of patients whose set of answers may miss the right one (conformal sets)."""
    cv_repeats: int = Field(10, ge=1, le=100)
    """Repeats of the five-fold patient cross-validation that judges a local update."""
    masks: bool = True
    """Also predict with the border hidden, and with the centre hidden."""
    stages: bool = True
    """Also ask what every earlier encoder of the chain (and a random one) knows of the site."""
    pdf: bool = True
    """Also write report.pdf (extra ``report``); some seconds."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Bootstrap, permutations and folds are functions of it."""

    @model_validator(mode="after")
    def _order(self) -> "EvaluateConfig":
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ValueError(f"since {self.since} is after until {self.until}")
        for name in ("margin_slope", "margin_oe"):
            low, high = getattr(self, name)
            if not 0 < low < 1 < high:
                raise ValueError(f"{name} must enclose 1 (got {(low, high)})")
        return self
