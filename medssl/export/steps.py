"""From a file to the numbers a network is fed, in words and numbers that need no medssl."""

from typing import Any

from medssl.config import DecodeConfig
from medssl.formats.prepare import LIMIT_PIXELS
from medssl.formats.raster import LUMA
from medssl.loading import describe
from medssl.store import STORED_MAX

UNITS = {
    "size": "pixels",
    "low_percentile": "percent",
    "high_percentile": "percent",
    "ct_range_hu": "HU",
    "min_slice_fill": "share of pixels, 0 to 1",
}


def settings(decode: DecodeConfig) -> dict[str, Any]:
    """Return every decode setting with its value, its unit (None: a word) and its sentence."""
    means = {name: sentence for name, _, sentence in describe(DecodeConfig)}
    return {
        name: {"value": value, "unit": UNITS.get(name), "means": means[name]}
        for name, value in decode.model_dump(mode="json").items()
    }


def scaling(decode: DecodeConfig) -> dict[str, Any]:
    """Return the scaling rule as numbers: which limits become 0 and 1."""
    percentile = {
        "rule": "percentile",
        "low_percentile": decode.low_percentile,
        "high_percentile": decode.high_percentile,
        "pixels_looked_at": LIMIT_PIXELS,
        "if_both_limits_are_equal": "full",
    }
    if decode.scaling == "auto":
        low, high = decode.ct_range_hu
        hounsfield = {"rule": "range", "low_hu": low, "high_hu": high}
        return {"rule": "auto", "hounsfield_units": hounsfield, "all_else": percentile}
    return percentile if decode.scaling == "percentile" else {"rule": decode.scaling}


def steps(decode: DecodeConfig) -> list[str]:
    """Return what is done to a picture, in order."""
    return [
        *_reading(decode),
        *_scale_words(decode),
        *_shaping(decode),
        *_levelling(decode),
        f"Divide by {STORED_MAX} in float32; then subtract input.mean and divide by input.std.",
    ]


def orientation(*, whole: bool) -> str:
    """Return which way is up."""
    volume = (
        "A volume is turned by flips and axis swaps only, never resampled for it, until its axes [D, H, W] "
        "run towards the patient's head (superior), back (posterior) and left: a slice shows the patient's "
        "right on the left of the screen, and the first slice is the lowest."
    )
    if whole:
        return f"{volume} The network reads [N, 1, D, H, W] in these axes."
    plane = (
        "Radiographs, photographs and other single pictures stay as their files have them, row 0 on top; PNG, "
        "JPEG and TIFF after their EXIF orientation."
    )
    return f"{plane} {volume} Each of its slices is one picture [H, W]."


def _reading(decode: DecodeConfig) -> list[str]:
    red, green, blue = LUMA
    colours = (
        "Colours stay red, green, blue as the last axis (palettes and alpha first become RGB, colour profiles "
        "are not applied); a grey picture becomes three equal channels at the end."
        if decode.colour == "rgb"
        else f"Colours become {red} R + {green} G + {blue} B (palettes and alpha first become RGB)."
    )
    intent = "raw ones (FOR PROCESSING)" if decode.intent == "processing" else "FOR PRESENTATION"
    return [
        "Read the values as float32. DICOM: unused bits cleared, sign as Pixel Representation says, then the "
        "Modality LUT or Rescale Slope and Intercept (PS3.3 C.11.1); pixels at Pixel Padding Value (or in its "
        "range) are padding. NIfTI and MGH: scl_slope and scl_inter applied; what is not finite is padding. "
        f"PNG, JPEG, TIFF: the stored numbers. {colours}",
        f"Use radiographs that are {intent}; what does not say counts as FOR PRESENTATION.",
    ]


def _scale_words(decode: DecodeConfig) -> list[str]:
    turned = "MONOCHROME1: take the negative of every value, so that larger is brighter"
    unit = (
        "unit = (value - low) / (high - low), cut to 0..1, in float32 (low and high - low rounded to float32 "
        "first); padding becomes 0. The limits are those of the whole picture or the whole volume."
    )
    percentile = (
        f"low and high are the {decode.low_percentile:g}th and {decode.high_percentile:g}th percentile (linear "
        "between ranks) of the pixels that are not padding, in row order, of n pixels every k-th from the first, "
        f"k = (n // {LIMIT_PIXELS}) | 1 (bitwise or). If both are equal: smallest and largest of all."
    )
    low, high = decode.ct_range_hu
    every = (
        [
            "Colours: all three values of a pixel count, under the same limits; every k-th means whole pixels."
        ]
        if decode.colour == "rgb"
        else []
    )
    by_rule = {
        "auto": [
            f"Hounsfield units (CT): low = {low:g} HU, high = {high:g} HU, whatever the photometric "
            f"interpretation. All else: {turned}; then {percentile}",
            unit,
        ],
        "percentile": [f"{turned} (Hounsfield units stay).", f"{percentile}", unit],
        "full": [
            f"{turned} (Hounsfield units stay).",
            "low and high are the smallest and the largest value that is not padding.",
            unit,
        ],
        "window": [
            "unit = the object's own first VOI transform, 0 (black) to 1 (white): window by its function LINEAR, "
            "LINEAR_EXACT or SIGMOID, else its VOI LUT divided by its largest entry (PS3.3 C.11.2). MONOCHROME1: "
            "unit becomes 1 - unit. Padding becomes 0. Pictures without a VOI transform are not used.",
        ],
        "equalise": [
            f"{turned}.",
            "Every pixel becomes the share of the picture's pixels that are darker, equal ones counting half, as "
            "float32; padding becomes 0 and counts nowhere. The yardstick is, of n pixels that are not padding in "
            f"row order, every k-th from the first, k = (n // {LIMIT_PIXELS}) | 1 (bitwise or).",
        ],
    }
    return [*by_rule[decode.scaling], *every]


def _shaping(decode: DecodeConfig) -> list[str]:
    side = decode.size
    fit = (
        f"The longest side becomes {side} pixels, the others round(size * side / longest) (half to even), at "
        "least 1. Sides are in mm where the spacing is known along every axis (pixels that are not square "
        "become so), else in pixels."
    )
    bilinear = "Pillow's BILINEAR (which averages when it shrinks) on float32"
    stored = f"Cut to 0..1, multiply by {STORED_MAX}, round half to even: whole numbers, 0 to {STORED_MAX}."
    if decode.volumes == "whole":
        return [
            f"{fit} Resize each slice with {bilinear}; then resize across slices the same way.",
            stored,
            f"Place the block in a cube of zeros of side {side}, (side - length) // 2 before it on each axis.",
        ]
    fill = decode.min_slice_fill
    chosen = [f"Slices with a smaller share than {fill:g} of unit > 0 are left out."]
    return [
        *(chosen if fill > 0 else []),
        f"{fit} Resize with {bilinear}.",
        stored,
        f"Place it in a square of zeros of side {side}: (side - rows) // 2 rows above it, "
        "(side - columns) // 2 columns before it.",
    ]


def _levelling(decode: DecodeConfig) -> list[str]:
    if decode.scaling != "equalise":
        return []
    return [
        f"Once more, over all numbers above 0 of the picture: each level becomes (how many are darker + half of "
        f"how many are equal) / (how many there are) * {STORED_MAX}, rounded half to even, at least 1; 0 stays "
        "0. All slices of one volume, and all channels, are ranked together."
    ]
