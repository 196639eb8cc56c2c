"""Settings of ``medssl finetune``."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medssl.config.base import MAX_SEED, LabelText, Precision, Settings
from medssl.config.pretraining import ForeignConfig
from medssl.config.views import ViewsConfig

Mode = Literal["linear", "ridge", "knn", "attention", "pseudo", "distilled"]


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
    try_lr: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Further peak rates to try; every cell keeps the one best on the validation patients."""
    encoder_lr: float = Field(0.3, gt=0, le=1)
    """Factor on the encoder's learning rate when it starts from pretraining."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Further factor per layer towards the pixels, when it starts from pretraining."""
    linear_first: bool = False
    """Begin with the logistic probe's head instead of a random one (Kumar et al. 2022)."""
    distil: bool = False
    """Also train a student, from the same start, on what the tuned network says of all training
    pictures without a label in the draw (SimCLRv2)."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing."""
    average: float = Field(0.0, ge=0, lt=1)
    """Keep a moving average of the weights with this decay per step; 0: the last weights."""
    weight_decay: float = Field(1e-2, ge=0)
    """Decay of weights."""
    precision: Precision = "32"
    """Arithmetic of the forward pass."""

    @property
    def rates(self) -> tuple[float, ...]:
        """Return every peak rate to try, once."""
        return tuple(dict.fromkeys((self.lr, *self.try_lr)))


class FinetuneConfig(Settings):
    """Settings of ``medssl finetune``."""

    target: LabelText = ""
    """Column of the label table."""
    targets: tuple[LabelText, ...] = ()
    """Several two-class columns, instead of target: one run each, full fine-tuning learns them together and leaves
    out what a picture lacks."""
    positive: LabelText | None = None
    """For a two-class target, the value that counts as positive; default: the last in order."""
    order: tuple[LabelText, ...] = ()
    """For a graded target, its values from the least; the linear probe and full fine-tuning then share
    one direction over all steps, and the score is the mean AUROC over cut points."""
    budgets: tuple[float, ...] = (1, 5, 10, 50, 100)
    """Label budgets, in percent of the training patients; nested."""
    patients: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Further label budgets, as numbers of training patients (about: classes keep their shares)."""
    seeds: int = Field(5, ge=1)
    """Draws per budget; the same draws for every initialisation."""
    modes: tuple[Mode, ...] = ("linear", "knn")
    """Classifiers on frozen features: logistic (linear), ridge with a penalty chosen by left-out
    labelled patients, nearest neighbours, attention over a patient's pictures; pseudo and distilled
    also learn from the training patients whose labels are outside the budget."""
    agreement: float = Field(0.9, gt=0, le=1)
    """A pseudo-label is kept where five teachers agree and their mean chance is at least this."""
    balance: bool = False
    """Weigh classes equally in the logistic probe and in full fine-tuning."""
    foreign: ForeignConfig | None = None
    """Also start from a local file of outside weights, in the first encoder's network."""
    patient_level: tuple[Literal["mean", "max"], ...] = ()
    """Also judge patients by all their pictures: the mean of the scores, or the highest."""
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

    @property
    def levels(self) -> tuple[Literal["patient mean", "patient max"], ...]:
        """Return the levels above pictures that are judged."""
        both: tuple[Literal["patient mean", "patient max"], ...] = ("patient mean", "patient max")
        return tuple(
            level for level in both if level.removeprefix("patient ") in self.patient_level
        )

    @model_validator(mode="after")
    def _budgets(self) -> "FinetuneConfig":
        for budget in (*self.budgets, *self.full.budgets):
            if not 0 < budget <= 100:
                raise ValueError(f"a budget is a percentage in (0, 100] (got {budget})")
        if not (self.budgets or self.patients) or not self.modes:
            raise ValueError("budgets (or patients) and modes must not be empty")
        if not self.target and not self.targets:
            raise ValueError(
                "give target, a column of the label table, or targets, several of them"
            )
        if self.targets and (self.positive is not None or self.order or self.full.distil):
            raise ValueError(
                "targets go with two-class labels alone; leave out positive, order, distil"
            )
        if len(set(self.targets)) != len(self.targets):
            raise ValueError(f"targets names one label twice ({', '.join(self.targets)})")
        if self.order and self.positive is not None:
            raise ValueError("order says which value is highest; leave out positive")
        if not set(self.full.budgets) <= set(self.budgets):
            raise ValueError(f"full.budgets {self.full.budgets} must be among budgets")
        return self
