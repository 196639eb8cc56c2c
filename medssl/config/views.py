"""Settings of the augmentation."""

from pydantic import Field, model_validator

from medssl.config.base import Settings


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
    flip_vertical: bool = False
    """Mirror top and bottom at random. For pictures without an upright: histology, skin."""
    elastic: float = Field(0.0, ge=0, le=0.1)
    """Largest elastic displacement, share of the side; up to 0.1 nothing can fold over."""
    elastic_probability: float = Field(0.5, ge=0, le=1)
    """Share of the views that are deformed, when elastic is above 0."""
    equalise_probability: float = Field(0.0, ge=0, le=1)
    """Share of the views whose histogram is equalised; zeros (the letterbox) stay out of it."""
    brightness: float = Field(0.3, ge=0, lt=1)
    """Largest additive change, in units of the stored range."""
    contrast: float = Field(0.4, ge=0, lt=1)
    """Largest relative change of contrast."""
    gamma: float = Field(0.3, ge=0, lt=1)
    """Largest change of the log2 of the gamma exponent."""
    saturation: float = Field(0.0, ge=0, le=1)
    """Largest relative change of the saturation. Colour only; refused for grey images."""
    hue_deg: float = Field(0.0, ge=0, le=180)
    """Largest turn of the hue, degrees. Colour only; refused for grey images."""
    grey_probability: float = Field(0.0, ge=0, le=1)
    """Share of the views that lose their colour. Colour only; refused for grey images."""
    blur_sigma: float = Field(0.0, ge=0, le=8)
    """Largest Gaussian blur, pixels."""
    blur_probability: float = Field(0.5, ge=0, le=1)
    """Share of the views that are blurred, when blur_sigma is above 0."""
    noise_std: float = Field(0.0, ge=0, le=0.5)
    """Largest standard deviation of added Gaussian noise, in units of the stored range."""
    noise_probability: float = Field(0.5, ge=0, le=1)
    """Share of the views with noise, when noise_std is above 0."""
    cutout: float = Field(0.0, ge=0, le=0.5)
    """Largest side of the erased box, share of the side; 0 erases nothing."""

    @model_validator(mode="after")
    def _area(self) -> "ViewsConfig":
        low, high = self.crop_area
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_area must be 0 < low <= high <= 1 (got {self.crop_area})")
        return self
