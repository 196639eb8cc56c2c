"""Every setting of the house, on one torch-free page. The sentence under a field is its help."""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_SEED = 2**31 - 1


def _as_text(value: Any) -> Any:
    """Take the number 1 where a label value is meant; true and false came from yes and no."""
    if isinstance(value, bool):
        raise ValueError("YAML reads yes and no as true and false; put the value in quotes")
    return str(value) if isinstance(value, int | float) else value


LabelText = Annotated[str, BeforeValidator(_as_text)]
Precision = Annotated[Literal["32", "bf16"], BeforeValidator(_as_text)]


class Settings(BaseModel):
    """Frozen settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def digest(self) -> str:
        """Return the SHA-256 of the complete settings, as hex."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class DecodeConfig(Settings):
    """How pixels become stored numbers. Travels with every encoder."""

    size: int = Field(96, ge=16, le=1024)
    """Side of the stored square (or cube) in pixels; images are letterboxed into it."""
    volumes: Literal["slices", "whole"] = "slices"
    """Volumes as axial slices that remember their volume, or as whole resampled volumes."""
    scaling: Literal["auto", "percentile", "window", "full", "equalise"] = "auto"
    """auto: CT by ct_range_hu, all else by percentile; window: the object's own VOI
    transform (window, sigmoid or table), and what has none is set aside;
    percentile: robust limits per image or volume; full: the smallest and largest value;
    equalise: every pixel by its rank, so that exposure and tone tell nothing."""
    intent: Literal["presentation", "processing"] = "presentation"
    """Radiographs made FOR PRESENTATION, or raw ones FOR PROCESSING; the other kind is set aside.
    What does not say counts as presentation."""
    low_percentile: float = Field(0.5, ge=0, lt=50)
    """Lower robust limit, percent of the finite, non-padding pixels."""
    high_percentile: float = Field(99.5, gt=50, le=100)
    """Upper robust limit, percent of the finite, non-padding pixels."""
    ct_range_hu: tuple[float, float] = (-1024.0, 3071.0)
    """Hounsfield units mapped to the two ends of the stored range."""
    min_slice_fill: float = Field(0.0, ge=0, le=1)
    """Leave out slices of a volume whose share of pixels above the lower limit is smaller."""

    @model_validator(mode="after")
    def _range(self) -> "DecodeConfig":
        if self.ct_range_hu[0] >= self.ct_range_hu[1]:
            raise ValueError(f"ct_range_hu must rise (got {self.ct_range_hu})")
        return self


class EncoderConfig(Settings):
    """The network."""

    name: str = "resnet18"
    """A timm name for images (resnet18, vit_tiny_patch16_224, ...) or one of resnet10_3d,
    resnet18_3d, resnet34_3d, resnet50_3d (MONAI) for whole volumes."""
    norm: Literal["batch", "group"] = "batch"
    """Batch normalisation, or group normalisation (small batches)."""


class ViewsConfig(Settings):
    """Augmentation: every number is the far end of a range drawn anew for each view."""

    crop_area: tuple[float, float] = (0.4, 1.0)
    """Smallest and largest share of the area (or volume) that a crop keeps."""
    rotation_deg: float = Field(10.0, ge=0, le=180)
    """Largest in-plane rotation, degrees."""
    shift: float = Field(0.05, ge=0, le=0.5)
    """Largest translation, share of the side."""
    flip: bool = False
    """Mirror left and right at random. Off where laterality matters (chest, abdomen)."""
    brightness: float = Field(0.3, ge=0, lt=1)
    """Largest additive change, in units of the stored range."""
    contrast: float = Field(0.4, ge=0, lt=1)
    """Largest relative change of contrast."""
    gamma: float = Field(0.3, ge=0, lt=1)
    """Largest change of the log2 of the gamma exponent."""
    blur_sigma: float = Field(0.0, ge=0, le=8)
    """Largest Gaussian blur, pixels."""
    blur_probability: float = Field(0.5, ge=0, le=1)
    """Share of the views that are blurred, when blur_sigma is above 0."""
    cutout: float = Field(0.0, ge=0, le=0.5)
    """Largest side of the erased box, share of the side; 0 erases nothing."""

    @model_validator(mode="after")
    def _area(self) -> "ViewsConfig":
        low, high = self.crop_area
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_area must be 0 < low <= high <= 1 (got {self.crop_area})")
        return self


class SimCLRConfig(Settings):
    """Two views of one image are the positive pair (Chen et al. 2020)."""

    name: Literal["simclr"]
    """Two augmented views of each image."""
    temperature: float = Field(0.2, gt=0, le=10)
    """Divides the cosine similarities."""
    hidden: int = Field(512, ge=8)
    """Width of the projection head's hidden layer."""
    out: int = Field(128, ge=2)
    """Width of the projection."""
    mask_same_patient: bool = True
    """Never use another image of the same patient as a negative."""


class MICLeConfig(Settings):
    """Two different images of one patient are the positive pair (Azizi et al. 2021)."""

    name: Literal["micle"]
    """Two different images of each patient."""
    temperature: float = Field(0.2, gt=0, le=10)
    """Divides the cosine similarities."""
    hidden: int = Field(512, ge=8)
    """Width of the projection head's hidden layer."""
    out: int = Field(128, ge=2)
    """Width of the projection."""
    single_images: bool = True
    """Patients with one image join as two views of it; off leaves them out."""
    bag: Literal["patient_id", "study_id", "series_id"] = "patient_id"
    """The images of which group may form a pair. The patient stays the unit of the batch."""


MethodConfig = Annotated[SimCLRConfig | MICLeConfig, Field(discriminator="name")]


class OptimConfig(Settings):
    """Optimiser and schedule: linear warm-up, then cosine to zero."""

    name: Literal["adamw", "sgd", "lars"] = "adamw"
    """adamw, sgd (momentum 0.9, Nesterov) or lars (lightly's)."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate at batch 256."""
    lr_scaling: Literal["none", "sqrt", "linear"] = "sqrt"
    """How the peak follows the batch size: by its root, linearly, or not."""
    weight_decay: float = Field(1e-4, ge=0)
    """Decay of weights; biases and norms are left out."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of all steps spent rising to the peak."""
    clip_norm: float | None = Field(None, gt=0)
    """Clip the gradient's norm to this; None leaves it."""

    @model_validator(mode="after")
    def _lars_decay(self) -> "OptimConfig":
        if self.name == "lars" and self.weight_decay == 0:
            raise ValueError("lars with weight_decay 0 is plain SGD; set a decay, or name sgd")
        return self


class Duration(Settings):
    """How long: exactly one of steps, epochs, examples."""

    steps: int | None = Field(None, ge=1)
    """Optimiser steps."""
    epochs: int | None = Field(None, ge=1)
    """Times through the drawn patients (or images)."""
    examples: int | None = Field(None, ge=1)
    """Images or pairs shown to the method."""

    @model_validator(mode="after")
    def _one(self) -> "Duration":
        given = [k for k, v in self.model_dump().items() if v is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of steps, epochs, examples (got {given or 'none'})")
        return self

    def total_steps(self, steps_per_epoch: int, batch: int) -> int:
        """Return the number of optimiser steps; the one place where durations are converted."""
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        return -(-int(self.examples or 0) // batch)


class PretrainConfig(Settings):
    """Settings of ``medssl pretrain``."""

    decode: DecodeConfig = DecodeConfig()
    encoder: EncoderConfig = EncoderConfig()
    method: MethodConfig
    views: ViewsConfig = ViewsConfig()
    optim: OptimConfig = OptimConfig()
    duration: Duration = Duration(epochs=100)
    batch: int = Field(256, ge=2)
    """Patients (MICLe) or images (SimCLR) per optimiser step, over all processes together."""
    init: str | None = None
    """A pretraining run whose encoder is the start (generic, then SimCLR, then MICLe)."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Draws, views and initial weights are functions of it."""
    precision: Precision = "32"
    """Arithmetic of the forward pass."""
    log_every: int = Field(10, ge=1)
    """Steps between two lines of log.jsonl."""
    save_every: int = Field(1, ge=1)
    """Epochs between two checkpoints for resuming; the last three are kept."""


class FullConfig(Settings):
    """Full fine-tuning, beside the frozen probes."""

    budgets: tuple[float, ...] = ()
    """Label budgets to tune at, in percent of the training patients; empty: no full tuning."""
    seeds: int = Field(1, ge=1)
    """Draws per budget."""
    epochs: int = Field(10, ge=1)
    """Times through the labelled images at 100 %; smaller budgets get as many steps as
    steps_floor asks."""
    steps_floor: int = Field(30, ge=1)
    """Fewest optimiser steps of any cell."""
    batch: int = Field(64, ge=2)
    """Images per step."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate (AdamW) of the head; the encoder's is times encoder_lr."""
    encoder_lr: float = Field(0.3, gt=0, le=1)
    """Factor on the encoder's learning rate when it starts from pretraining."""
    weight_decay: float = Field(1e-2, ge=0)
    """Decay of weights."""
    precision: Precision = "32"
    """Arithmetic of the forward pass."""


class FinetuneConfig(Settings):
    """Settings of ``medssl finetune``."""

    target: LabelText
    """Column of the label table."""
    positive: LabelText | None = None
    """For a two-class target, the value that counts as positive; default: the last in order."""
    budgets: tuple[float, ...] = (1, 5, 10, 50, 100)
    """Label budgets, in percent of the training patients; nested."""
    patients: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Further label budgets, as numbers of training patients (about: classes keep their shares)."""
    seeds: int = Field(5, ge=1)
    """Draws per budget; the same draws for every initialisation."""
    modes: tuple[Literal["linear", "knn"], ...] = ("linear", "knn")
    """Classifiers on frozen features."""
    baseline: bool = True
    """Also run everything from random weights, on the identical draws."""
    pixels: bool = True
    """Also a linear model and kNN on 16 x 16 raw pixels: the least that any encoder must beat."""
    penalty: float = Field(100.0, gt=0)
    """L2 penalty of the linear probe on standardised features (scikit-learn's 1/C)."""
    neighbours: int = Field(20, ge=1)
    """k of kNN; at most a fifth of the labelled images."""
    full: FullConfig = FullConfig()
    views: ViewsConfig = ViewsConfig(crop_area=(0.7, 1.0))
    """Augmentation of full fine-tuning."""
    threshold: Literal["sensitivity", "youden"] = "youden"
    """How the working threshold is chosen on the validation patients."""
    target_sensitivity: float = Field(0.9, gt=0, le=1)
    """Sensitivity to reach when threshold is sensitivity."""
    resamples: int = Field(1000, ge=100)
    """Patient bootstrap resamples per point of the curve."""
    seed: int = Field(0, ge=0, le=MAX_SEED // 1000)
    """Draws of labels and initial weights are functions of it."""

    @model_validator(mode="after")
    def _budgets(self) -> "FinetuneConfig":
        for budget in (*self.budgets, *self.full.budgets):
            if not 0 < budget <= 100:
                raise ValueError(f"a budget is a percentage in (0, 100] (got {budget})")
        if not (self.budgets or self.patients) or not self.modes:
            raise ValueError("budgets (or patients) and modes must not be empty")
        if not set(self.full.budgets) <= set(self.budgets):
            raise ValueError(f"full.budgets {self.full.budgets} must be among budgets")
        return self


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
