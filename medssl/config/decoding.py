"""Settings of ``medssl decode``, which travel with every encoder."""

from typing import Any, Literal

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
    colour: Literal["grey", "rgb"] = "grey"
    """grey: one channel, colours as their luma (ITU-R BT.601); rgb: red, green and blue, scaled
    by the same two limits, so that the tint stays; grey pictures become three equal channels."""

    @model_validator(mode="after")
    def _possible(self) -> "DecodeConfig":
        low, high = self.ct_range_hu
        problems = [f"ct_range_hu must rise (got {self.ct_range_hu})"] if low >= high else []
        if self.colour == "rgb" and self.volumes == "whole":
            problems.append(
                "colour=rgb is of images and slices; whole volumes are grey (volumes=slices, "
                "or colour=grey)"
            )
        if self.colour == "rgb" and self.scaling == "window":
            problems.append(
                "scaling=window has no meaning for colour=rgb: colours have no VOI window "
                "(use auto, percentile, full or equalise)"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def channels(self) -> int:
        """Return the channels that an encoder of such pictures reads."""
        return 3 if self.colour == "rgb" else 1

    def naming(self) -> dict[str, Any]:
        """Return the settings that name a store, as JSON.

        Grey is left out, so that stores made before colours were kept have their old name.
        """
        return self.model_dump(mode="json", exclude={"colour"} if self.colour == "grey" else None)
