"""The part of a picture that holds something, as a square: what asks for turns and places needs it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def inside(pictures: Tensor) -> Tensor:
    """Bring the middle square (or cube) of what holds something to the full side.

    Lines at the border whose pixels are all alike hold nothing: letterbox bars, a black rim. They are
    exact before any augmentation only. Every picture by itself, and one without such lines is left.

    Args:
        pictures: float ``[N, C, (D,) H, W]``, all sides equal.
    """
    n, dims, side = len(pictures), pictures.ndim - 2, pictures.shape[-1]
    low, high = [], []
    for axis in range(2, 2 + dims):
        others = [k for k in range(1, 2 + dims) if k != axis]
        varied = pictures.amax(others) > pictures.amin(others)
        at = torch.arange(side, device=pictures.device)
        low.append(torch.where(varied, at, side).amin(1))
        high.append(torch.where(varied, at + 1, 0).amax(1))
    first, last = torch.stack(low[::-1], 1).float(), torch.stack(high[::-1], 1).float()
    whole = ((last - first == side) | (last <= first)).all(1) | (last <= first).any(1)
    if bool(whole.all()):
        return pictures
    # Half a pixel less on either side: what lies beyond would shine through at the edge.
    half = ((last - first).amin(1) - 1).clamp_min(1) / side
    taken = take(pictures, (first + last) / side - 1, half, side)
    return torch.where(whole.view(n, *(1,) * (dims + 1)), pictures, taken)


def take(images: Tensor, centre: Tensor, half: Tensor, side: int) -> Tensor:
    """Cut a square (or cube) out of every image and bring it to a side.

    Args:
        images: ``[N, C, (D,) H, W]``.
        centre: x, y(, z) from -1 to 1, ``[N, dims]``.
        half: half the square's side in units of the half side, ``[N]``.
        side: of the result, pixels.
    """
    n, dims = len(images), images.ndim - 2
    theta = torch.zeros(n, dims, dims + 1, dtype=images.dtype, device=images.device)
    theta[:, range(dims), range(dims)] = half.to(images.dtype)[:, None].expand(-1, dims)
    theta[:, :, dims] = centre.to(images.dtype)
    shape = [n, images.shape[1], *(side,) * dims]
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(theta, shape, align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
