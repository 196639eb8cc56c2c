"""What becomes of a picture: how it is decoded, how it is augmented."""

from typing import Literal

from pydantic import Field, model_validator

from medssl.config.base import Settings


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
