"""Settings of ``medssl pretrain``."""

from typing import Literal

from pydantic import Field, model_validator

from medssl.config.base import MAX_SEED, LabelText, Precision, Settings
from medssl.config.decoding import DecodeConfig
from medssl.config.methods import MethodConfig
from medssl.config.views import ViewsConfig

TINTS = ("saturation", "hue_deg", "grey_probability")
TURNED = 30.0
"""Degrees above which views turn pictures as if they had no upright."""


class EncoderConfig(Settings):
    """The network."""

    name: str = "resnet18"
    """A timm name for images (resnet18, vit_tiny_patch16_224, ...) or one of resnet10_3d,
    resnet18_3d, resnet34_3d, resnet50_3d, vit_tiny_3d, vit_small_3d (MONAI) for whole volumes."""
    norm: Literal["batch", "group"] = "batch"
    """Batch normalisation, or group normalisation (small batches)."""
    pool: Literal["default", "mean"] = "default"
    """mean: features of a vision transformer are the mean of its patches, not its class token."""
    patch: int | None = Field(None, ge=2)
    """Side of a vision transformer's patches, pixels; None: what its name says, and an eighth of the
    side for volumes. Small pictures want small patches."""


class OptimConfig(Settings):
    """Optimiser and schedule: linear warm-up, then cosine to zero."""

    name: Literal["adamw", "sgd", "lars"] = "adamw"
    """adamw, sgd (momentum 0.9, Nesterov) or lars (lightly's)."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate at batch 256."""
    lr_scaling: Literal["none", "sqrt", "linear"] = "sqrt"
    """How the peak follows ``batch`` times ``accumulate``: by its root, linearly, or not."""
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

    def total_steps(self, steps_per_epoch: int, samples_per_epoch: int) -> int:
        """Return the number of optimiser steps; the one place where durations are converted."""
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        return -(-int(self.examples or 0) * steps_per_epoch // samples_per_epoch)


class ForeignConfig(Settings):
    """Weights from outside as the start; tensors only, nothing received is executed."""

    file: str
    """A local file: safetensors, a torch file of plain tensors, or NumPy's npz."""
    keys: Literal["timm", "torchvision", "radimagenet", "remedis", "moco"]
    """Whose names its tensors carry; every tensor of the encoder must be found, or it is refused."""
    licence: str = Field(min_length=2)
    """Under which terms the weights came; recorded in the run and in every encoder made from it."""


class WatchConfig(Settings):
    """What is measured on frozen features while training, and what follows from it."""

    every: int = Field(5, ge=0)
    """Epochs between two measurements, the first before training; 0 measures never."""
    pictures: int = Field(2000, ge=16)
    """Most pictures that a measurement looks at, whole patients, the same ones each time; up to half
    are labelled validation patients."""
    target: LabelText | None = None
    """Column of the label table for the two probes; validation patients are never trained on."""
    keep: Literal["last", "ridge", "knn", "effective_rank", "uniformity", "retrieval"] = "last"
    """Which encoder the run keeps: the last, or the one best by a measurement (never by the loss).
    retrieval keeps the one that knows patients best, which may be a shortcut."""
    collapse: bool = True
    """Stop when the representation has collapsed."""
    guard: bool = False
    """With init: keep the new encoder only if neither probe nor effective rank fell; else the old.
    Without labels the effective rank alone decides."""


class LogConfig(Settings):
    """Where the figures go beside log.jsonl; nothing leaves the machine unasked."""

    tensorboard: bool = True
    """Event files under the run's tb folder."""
    pictures: bool = True
    """Write pretext.png into the run: what the task asks and the network answers, on some training
    pictures. Their pixels are patients'; off leaves no picture in the run."""
    mlflow: str | None = None
    """An MLflow tracking address (extra ``mlflow``), such as http://tracking:5000 or file:mlruns."""
    wandb: Literal["offline", "online"] | None = None
    """Weights & Biases (extra ``wandb``): offline writes below the run, online sends."""


class PretrainConfig(Settings):
    """Settings of ``medssl pretrain``."""

    decode: DecodeConfig = DecodeConfig()
    encoder: EncoderConfig = EncoderConfig()
    method: MethodConfig
    views: ViewsConfig = ViewsConfig()
    optim: OptimConfig = OptimConfig()
    duration: Duration = Duration(epochs=100)
    batch: int = Field(256, ge=2)
    """Most patients (MICLe) or images (SimCLR) that meet in a batch, over all processes together; an
    epoch is shared out to equal batches."""
    init: str | None = None
    """A pretraining run whose encoder is the start (generic, then SimCLR, then MICLe)."""
    foreign: ForeignConfig | None = None
    """Weights from outside as the start, instead of init."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Draws, views and initial weights are functions of it."""
    precision: Precision = "32"
    """Arithmetic of the forward pass."""
    accumulate: int = Field(1, ge=1)
    """Batches per optimiser step; each keeps its own negatives, the gradients are averaged."""
    chunk: int | None = Field(None, ge=1)
    """Views that pass the encoder together and are forgotten (and computed again): a large batch in
    small memory, with the gradient of the whole batch. Batch norm sees chunks; use norm: group."""
    checkpointing: bool = False
    """Forget activations between the encoder's blocks and compute them again: less memory, slower."""
    compile: bool = False
    """Compile the encoder (torch.compile, needs a C++ compiler or a GPU); some minutes at the start."""
    watch: WatchConfig = WatchConfig()
    log: LogConfig = LogConfig()
    log_every: int = Field(10, ge=1)
    """Steps between two lines of log.jsonl."""
    save_every: int = Field(1, ge=1)
    """Epochs between two checkpoints for resuming; the last three are kept."""
    save_minutes: float = Field(30.0, gt=0)
    """Also save inside an epoch that takes longer than this."""

    @model_validator(mode="after")
    def _task(self) -> "PretrainConfig":
        task, turned = self.method.name, self.views.rotation_deg > TURNED
        if not self.method.volumes and self.decode.volumes == "whole":
            raise ValueError(f"{task} is a task of images and slices; set decode.volumes=slices")
        if task == "colourisation" and self.decode.colour == "grey":
            raise ValueError("colourisation needs colours; set decode.colour=rgb")
        spoilt = [n for n in TINTS if getattr(self.views, n) > 0]
        if task == "colourisation" and spoilt:
            named = ", ".join(f"views.{n}" for n in spoilt)
            raise ValueError(
                f"colourisation is to tell the colours; {named} would change them, set 0"
            )
        if task in {"mae", "aim"} and (self.chunk is not None or self.compile):
            words = (
                f"{task} goes through the encoder's blocks by itself, where chunk and compile do nothing; "
                "use checkpointing=true or accumulate to save memory"
            )
            raise ValueError(words)
        if task == "rotation" and (turned or self.views.flip_vertical):
            words = (
                f"views.rotation_deg above {TURNED:g} or views.flip_vertical say that these pictures have no "
                "upright (skin, histology), and rotation asks for it; take another task"
            )
            raise ValueError(words)
        return self

    @model_validator(mode="after")
    def _start(self) -> "PretrainConfig":
        if self.init is not None and self.foreign is not None:
            raise ValueError("init and foreign are two starts; give one")
        if self.foreign is not None and self.encoder.norm == "group":
            raise ValueError(
                "foreign weights keep their network's own norm; set encoder.norm=batch"
            )
        if self.compile and self.checkpointing:
            raise ValueError("compile cannot follow checkpointing; give one (chunk goes with both)")
        if self.watch.guard and self.init is None:
            raise ValueError("watch.guard keeps or rolls back to a start; give init")
        if self.watch.keep in {"ridge", "knn"} and self.watch.target is None:
            raise ValueError(f"watch.keep={self.watch.keep} needs watch.target, a label column")
        if (self.watch.guard or self.watch.keep != "last") and self.watch.every == 0:
            raise ValueError("watch.keep and watch.guard need measurements; set watch.every")
        return self
