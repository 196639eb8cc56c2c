"""Features of stored pictures, in store order."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medssl.models.encoder import Encoder
from medssl.store import STORED_MAX, Store

EMBED_BATCH = 128


def to_unit(planes: npt.NDArray[np.uint16]) -> Tensor:
    """Map stored uint16 ``[N, ...]`` to float32 ``[N, 1, ...]`` in [0, 1]."""
    return torch.from_numpy(planes.astype(np.float32) / STORED_MAX).unsqueeze(1)


def device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def embed(
    encoder: Encoder, store: Store, rows: npt.NDArray[np.int64], mean: float, std: float
) -> npt.NDArray[np.float32]:
    """Return float32 ``[n, width]`` features of store rows, without augmentation."""
    place = device()
    encoder = encoder.to(place).eval()
    out = np.empty((len(rows), encoder.width), np.float32)
    for start in range(0, len(rows), EMBED_BATCH):
        part = rows[start : start + EMBED_BATCH]
        images = (to_unit(store.planes(part)).to(place) - mean) / std
        out[start : start + len(part)] = encoder(images).float().cpu().numpy()
    return out
