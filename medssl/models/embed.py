"""Features of stored pictures, in store order."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medssl.models.encoder import Encoder
from medssl.store import STORED_MAX, Store

EMBED_BATCH = 128
COLOURS = 3


def to_unit(planes: npt.NDArray[np.uint16]) -> Tensor:
    """Map stored uint16 ``[N, ...]`` to float32 ``[N, 1, ...]`` in [0, 1].

    Colours ``[N, S, S, 3]`` become ``[N, 3, S, S]``, in memory as they lie (channels last). No
    volume is 3 voxels wide: ``decode.size`` is 16 or more.
    """
    unit = torch.from_numpy(planes.astype(np.float32) / STORED_MAX)
    return unit.permute(0, 3, 1, 2) if planes.shape[3:] == (COLOURS,) else unit.unsqueeze(1)


def device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def embed(
    encoder: Encoder,
    store: Store,
    rows: npt.NDArray[np.int64],
    mean: float,
    std: float,
    change: Callable[[Tensor], Tensor] | None = None,
) -> npt.NDArray[np.float32]:
    """Return float32 ``[n, width]`` features of store rows, without augmentation.

    Args:
        encoder: its width is the features'.
        store, rows: what to embed.
        mean, std: normalisation of pixels in [0, 1].
        change: of a batch ``[N, C, ...]`` in [0, 1] before normalisation, such as a mask.
    """
    place = device()
    encoder = encoder.to(place).eval()
    out = np.empty((len(rows), encoder.width), np.float32)
    for start in range(0, len(rows), EMBED_BATCH):
        part = rows[start : start + EMBED_BATCH]
        pictures = to_unit(store.planes(part)).to(place)
        images = ((pictures if change is None else change(pictures)) - mean) / std
        out[start : start + len(part)] = encoder(images).float().cpu().numpy()
    return out


def without_border(pictures: Tensor) -> Tensor:
    """Fill the outer seventh on every side with each picture's own mean: burned-in text goes.

    Args:
        pictures: ``[N, C, ...]`` in [0, 1].
    """
    return torch.where(_middle(pictures, 1 / 7), pictures, _mean(pictures))


def without_centre(pictures: Tensor) -> Tensor:
    """Fill all but the outer fifth on every side with each picture's own mean: the organ goes.

    Args:
        pictures: ``[N, C, ...]`` in [0, 1].
    """
    return torch.where(_middle(pictures, 1 / 5), _mean(pictures), pictures)


MASKS = {"border hidden": without_border, "centre hidden": without_centre}


def _mean(pictures: Tensor) -> Tensor:
    """Return one number per picture, over channels and pixels: what is hidden becomes grey."""
    return pictures.mean(tuple(range(1, pictures.ndim)), keepdim=True)


def _middle(pictures: Tensor, share: float) -> Tensor:
    """Return a mask of the last two axes that is true but for an outer share of either side."""
    inside = torch.zeros(pictures.shape[-2:], dtype=torch.bool, device=pictures.device)
    top, left = (max(1, round(share * side)) for side in pictures.shape[-2:])
    inside[top:-top, left:-left] = True
    return inside
