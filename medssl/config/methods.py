"""The pretext tasks, one class each."""

from typing import Annotated, Literal

from pydantic import Field

from medssl.config.base import Settings


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
    within_slices: int | None = Field(None, ge=1)
    """Only slices of one series at most this many apart form a pair; None: any two of the bag."""


MethodConfig = Annotated[SimCLRConfig | MICLeConfig, Field(discriminator="name")]
