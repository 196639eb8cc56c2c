"""The pretext tasks, one class each."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from medssl.config.base import Settings

Draw = Literal["images", "pairs", "neighbours", "triples"]
Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(gt=0, le=10)]
Wide = Annotated[int, Field(ge=8)]
DRAWN = ("single_images", "bag", "within_slices", "differ")


class TaskSettings(Settings):
    """What every pretext task says of itself.

    Attributes:
        alike: whether its outputs may all become equal, so that the representation is watched for it.
        volumes: whether it makes sense of whole volumes.
    """

    alike: ClassVar[bool] = False
    volumes: ClassVar[bool] = True

    @property
    def drawn(self) -> Draw:
        """Return what a sample is made of."""
        return "images"


class PairSettings(TaskSettings):
    """A task that compares two views, of one image or of two."""

    alike: ClassVar[bool] = True

    images: Literal[1, 2] = 1
    """1: two views of one image are the pair; 2: one view each of two different images of one
    patient, MICLe's draw."""
    single_images: bool = True
    """With images=2: patients with one image join as two views of it; off leaves them out."""
    bag: Literal["patient_id", "study_id", "series_id"] = "patient_id"
    """With images=2: the images of which group may form a pair. The patient stays the unit of the
    batch."""
    within_slices: int | None = Field(None, ge=1)
    """With images=2: only slices of one series at most this many apart form a pair; None: any two
    of the bag."""
    differ: Literal["series_id", "view", "modality"] | None = None
    """With images=2: the two images must differ in this column: another series of the patient (T1 and
    FLAIR, at any heights), another view, another modality. None: any two."""

    @property
    def drawn(self) -> Draw:
        """Return what a sample is made of."""
        return "pairs" if self.images == 2 else "images"

    @model_validator(mode="after")
    def _pairs(self) -> "PairSettings":
        fields = type(self).model_fields
        asked = [n for n in DRAWN if getattr(self, n) != fields[n].default]
        if self.images == 1 and asked:
            raise ValueError(f"{', '.join(asked)}: of pairs of images; set images=2")
        if self.within_slices is not None and self.differ is not None:
            raise ValueError("within_slices pairs slices of one series, differ may not; give one")
        if self.within_slices is not None and self.bag != fields["bag"].default:
            raise ValueError("within_slices pairs slices of one series already; leave out bag")
        return self


class SimCLRConfig(PairSettings):
    """Two views of one image are the positive pair (Chen et al. 2020)."""

    name: Literal["simclr"]
    """Two augmented views of each image."""
    temperature: Temperature = 0.2
    """Divides the cosine similarities."""
    hidden: Wide = 512
    """Width of the projection head's hidden layer."""
    out: int = Field(128, ge=2)
    """Width of the projection."""
    mask_same_patient: bool = True
    """Never use another image of the same patient as a negative."""


class MICLeConfig(PairSettings):
    """Two different images of one patient are the positive pair (Azizi et al. 2021)."""

    name: Literal["micle"]
    """Two different images of each patient."""
    images: Literal[2] = 2  # type: ignore[assignment]
    """Two different images of each patient: simclr with images=2 is the same."""
    temperature: Temperature = 0.2
    """Divides the cosine similarities."""
    hidden: Wide = 512
    """Width of the projection head's hidden layer."""
    out: int = Field(128, ge=2)
    """Width of the projection."""


class MoCoV2Config(PairSettings):
    """Contrast with a queue of a slow encoder's keys (Chen et al. 2020)."""

    name: Literal["moco_v2"]
    """Negatives are keys of earlier batches: many of them, whatever the batch."""
    temperature: Temperature = 0.2
    """Divides the cosine similarities."""
    hidden: Wide = 512
    """Width of the projection head's hidden layer."""
    out: int = Field(128, ge=2)
    """Width of the projection."""
    queue: int = Field(4096, ge=2)
    """Keys that are remembered."""
    momentum: Share = 0.99
    """Share of the slow encoder's weights that stays at each step (the paper: 0.999)."""
    mask_same_patient: bool = True
    """Never use a key of the same patient as a negative."""


class MoCoV3Config(PairSettings):
    """Contrast with a slow encoder's keys of the same batch (Chen et al. 2021)."""

    name: Literal["moco_v3"]
    """No queue: negatives are the other samples' keys."""
    temperature: Temperature = 0.2
    """Divides the cosine similarities."""
    hidden: Wide = 512
    """Width of the hidden layers of projection and prediction."""
    out: int = Field(128, ge=2)
    """Width of the projection."""
    momentum: Share = 0.99
    """Share of the slow encoder's weights that stays at the first step; rises to 1."""
    mask_same_patient: bool = True
    """Never use a key of the same patient as a negative."""


class BYOLConfig(PairSettings):
    """Predict a slow encoder's projection of the other view (Grill et al. 2020)."""

    name: Literal["byol"]
    """No negatives."""
    hidden: Wide = 512
    """Width of the hidden layers of projection and prediction."""
    out: int = Field(128, ge=2)
    """Width of the projection."""
    momentum: Share = 0.99
    """Share of the slow encoder's weights that stays at the first step; rises to 1 (the paper: 0.996)."""


class SimSiamConfig(PairSettings):
    """Predict the other view's projection, which gets no gradient (Chen and He 2021)."""

    name: Literal["simsiam"]
    """Neither negatives nor a slow encoder."""
    hidden: Wide = 512
    """Width of the projection head's hidden layers."""
    out: int = Field(512, ge=2)
    """Width of the projection."""
    bottleneck: int = Field(128, ge=2)
    """Width of the predictor's middle, best below ``out``."""


class BarlowTwinsConfig(PairSettings):
    """The cross-correlation of two views is the identity (Zbontar et al. 2021)."""

    name: Literal["barlow_twins"]
    """Outputs agree between views and do not repeat each other."""
    hidden: Wide = 512
    """Width of the projection head's hidden layers."""
    out: int = Field(512, ge=2)
    """Width of the projection."""
    redundancy: float = Field(5e-3, ge=0)
    """Weight of the entries off the diagonal."""


class VICRegConfig(PairSettings):
    """Variance, invariance and covariance, each for itself (Bardes et al. 2022)."""

    name: Literal["vicreg"]
    """Three terms, no comparison between samples."""
    hidden: Wide = 512
    """Width of the projection head's hidden layers."""
    out: int = Field(512, ge=2)
    """Width of the projection."""
    invariance: float = Field(25.0, ge=0)
    """Weight of the distance of the two views."""
    variance: float = Field(25.0, ge=0)
    """Weight of what is missing to a deviation of 1."""
    covariance: float = Field(1.0, ge=0)
    """Weight of the squared covariances."""


class DINOConfig(PairSettings):
    """A student's small views predict a slow teacher's large ones (Caron et al. 2021)."""

    name: Literal["dino"]
    """Soft classes without labels."""
    hidden: Wide = 512
    """Width of the head's hidden layers."""
    bottleneck: int = Field(128, ge=2)
    """Width before the prototypes."""
    out: int = Field(1024, ge=2)
    """Prototypes; the paper's 65,536 are for millions of images."""
    temperature: Temperature = 0.1
    """Divides the student's outputs."""
    teacher_temperature: Temperature = 0.04
    """Divides the teacher's; the smaller, the sharper."""
    momentum: Share = 0.99
    """Share of the teacher's weights that stays at the first step; rises to 1."""
    centre_momentum: Share = 0.9
    """Share of the centre of the teacher's outputs that stays at each step."""
    small_views: int = Field(2, ge=0, le=8)
    """Small views of each image, for the student alone."""
    small_area: tuple[float, float] = (0.1, 0.4)
    """Smallest and largest share of the area that a small view keeps."""

    @model_validator(mode="after")
    def _area(self) -> "DINOConfig":
        low, high = self.small_area
        if not 0 < low <= high <= 1:
            raise ValueError(f"small_area must be 0 < low <= high <= 1 (got {self.small_area})")
        if (
            self.small_views == 0
            and self.small_area != type(self).model_fields["small_area"].default
        ):
            raise ValueError("small_area is of small views, and small_views is 0")
        return self


class MAEConfig(TaskSettings):
    """Paint hidden patches from a few visible ones (He et al. 2022); a vision transformer."""

    name: Literal["mae"]
    """Hidden patches."""
    hidden_share: float = Field(0.75, gt=0, lt=1)
    """Share of the patches that are hidden."""
    norm_pixels: bool = True
    """Each patch is predicted less its mean and over its deviation."""
    decoder_width: int = Field(128, ge=32, multiple_of=32)
    """Width of the decoder."""
    decoder_depth: int = Field(2, ge=1)
    """Blocks of the decoder."""


class AIMConfig(TaskSettings):
    """Predict the next patch from those before it (El-Nouby et al. 2024); a vision transformer."""

    name: Literal["aim"]
    """Patch after patch, in reading order."""
    norm_pixels: bool = True
    """Each patch is predicted less its mean and over its deviation."""
    hidden: Wide = 512
    """Width of the head's hidden layers."""
    head_layers: int = Field(2, ge=0)
    """Hidden layers of the head."""


class ContextEncoderConfig(TaskSettings):
    """Paint what was cut out of a picture (Pathak et al. 2016)."""

    name: Literal["context_encoder"]
    """Inpainting."""
    loss: Literal["reconstruction", "adversarial", "joint"] = "reconstruction"
    """Squared error, a judge that tells painted from real, or both."""
    reconstruction: float = Field(0.999, ge=0, le=1)
    """With loss=joint: weight of the squared error; the judge's is the rest."""
    hole: float = Field(0.5, gt=0, lt=1)
    """Side of the hole, share of the picture's."""
    place: Literal["centre", "anywhere"] = "centre"
    """Where the hole lies."""
    rim: float = Field(0.05, ge=0, lt=0.25)
    """Width of the hole's rim, whose error weighs ten times, share of the side; a pixel at least."""
    decoder_width: int = Field(256, ge=16, multiple_of=16)
    """Channels at the decoder's start."""

    @model_validator(mode="after")
    def _terms(self) -> "ContextEncoderConfig":
        usual = type(self).model_fields["reconstruction"].default
        if self.loss != "joint" and self.reconstruction != usual:
            raise ValueError("reconstruction weighs the two terms of loss=joint; set that")
        return self


class DenoisingConfig(TaskSettings):
    """The clean picture from a noisy one (Vincent et al. 2008); noise=0 hole=0: an autoencoder."""

    name: Literal["denoising"]
    """The honest baseline."""
    noise: float = Field(0.5, ge=0)
    """Largest standard deviation of the noise, in units of the normalised picture."""
    hole: float = Field(0.25, ge=0, le=0.5)
    """Largest side of an erased box, share of the side."""
    error: Literal["l1", "l2"] = "l2"
    """Absolute or squared error."""
    decoder_width: int = Field(256, ge=16, multiple_of=16)
    """Channels at the decoder's start."""


class RotationConfig(TaskSettings):
    """By which quarter turns was the picture turned? (Gidaris et al. 2018)."""

    name: Literal["rotation"]
    """Four classes of images, ten of volumes."""


class PatchLocationConfig(TaskSettings):
    """Where does the second patch lie? (Doersch et al. 2015)."""

    name: Literal["patch_location"]
    """Eight classes of images, 26 of volumes."""
    gap: float = Field(0.25, ge=0, lt=0.8)
    """Share of a third of the side that lies between neighbouring patches."""
    jitter: float = Field(0.5, ge=0, le=1)
    """Largest shift of a patch, share of half the gap."""
    downsampled: Share = 0.33
    """Share of the patches that lose detail."""
    tone: float = Field(0.2, ge=0, lt=1)
    """Largest change of a patch's contrast and brightness, in units of its deviation."""
    hidden: Wide = 256
    """Width of the head's hidden layer."""


class ColourisationConfig(TaskSettings):
    """The colours of a grey picture (Zhang et al. 2016)."""

    volumes: ClassVar[bool] = False

    name: Literal["colourisation"]
    """Colour images only (decode.colour=rgb)."""
    rebalance: Share = 1.0
    """How much more rare colours weigh: 1 as in the paper, 0 not at all."""
    decoder_width: int = Field(256, ge=16, multiple_of=16)
    """Channels at the decoder's start."""


class NextSliceConfig(TaskSettings):
    """Paint a slice's neighbour."""

    volumes: ClassVar[bool] = False

    name: Literal["next_slice"]
    """Slices of volumes only (decode.volumes=slices)."""
    within_slices: int = Field(1, ge=1)
    """Largest distance of the neighbour, slices."""
    edges: float = Field(0.5, ge=0)
    """Weight of the error of edges beside that of pixels."""
    decoder_width: int = Field(256, ge=16, multiple_of=16)
    """Channels at the decoder's start."""

    @property
    def drawn(self) -> Draw:
        """Return what a sample is made of."""
        return "neighbours"


class SliceOrderConfig(TaskSettings):
    """Do three slices follow one another?"""

    volumes: ClassVar[bool] = False

    name: Literal["slice_order"]
    """Slices of volumes only (decode.volumes=slices)."""
    within_slices: int = Field(5, ge=1)
    """Largest distance of the outer slices from the middle one."""
    hidden: Wide = 256
    """Width of the head's hidden layer."""

    @property
    def drawn(self) -> Draw:
        """Return what a sample is made of."""
        return "triples"


MethodConfig = Annotated[
    SimCLRConfig
    | MICLeConfig
    | MoCoV2Config
    | MoCoV3Config
    | BYOLConfig
    | SimSiamConfig
    | BarlowTwinsConfig
    | VICRegConfig
    | DINOConfig
    | MAEConfig
    | AIMConfig
    | ContextEncoderConfig
    | DenoisingConfig
    | RotationConfig
    | PatchLocationConfig
    | ColourisationConfig
    | NextSliceConfig
    | SliceOrderConfig,
    Field(discriminator="name"),
]
