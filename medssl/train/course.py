"""What the loop needs beside the method, and how a batch becomes views."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl import views as views_room
from medssl.cohort.draw import Plan
from medssl.config import PretrainConfig
from medssl.store import STORED_MAX, Store
from medssl.train.feed import Batch


@dataclass(frozen=True)
class Course:
    """What the loop needs beside the method.

    Attributes:
        store: the decoded pictures.
        plan: the draw of an epoch.
        total_steps: when to stop.
        mean, std: normalisation of pixels in [0, 1].
    """

    store: Store
    plan: Callable[[int], Plan]
    total_steps: int
    mean: float
    std: float


def make_views(
    batch: Batch, config: PretrainConfig, epoch: int, course: Course, count: int
) -> Tensor:
    """Return float ``[B, K, C, (D,) H, W]``, normalised: ``count`` views of every drawn image.

    The work is done where the batch lies; every view is a function of (seed, epoch, place) alone.
    """
    made = []
    for image in range(batch.images.shape[1]):
        pictures = batch.images[:, image].float().div_(STORED_MAX)
        for view in range(count):
            u = views_room.uniforms(config.seed, epoch, image * count + view, batch.places)
            how = views_room.sample(config.views, u, pictures.ndim - 2)
            made.append(views_room.apply(pictures, how, config.views))
    return torch.stack(made, 1).sub_(course.mean).div_(course.std)
