"""What the loop needs beside the method, and how a batch becomes views."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl import views as views_room
from medssl.cohort.draw import Plan
from medssl.config import PretrainConfig
from medssl.methods.base import Method, Seen
from medssl.store import STORED_MAX, Store
from medssl.train.feed import Batch
from medssl.views import square

KEY_VIEW, SMALL_VIEW = 100, 50
"""Streams of the methods' own draws and of the small views, beyond those of the views."""
SMALL_SIDE = 0.5


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


def see(batch: Batch, config: PretrainConfig, epoch: int, course: Course, method: Method) -> Seen:
    """Return what a method is shown of a batch; every number a function of (seed, epoch, place)."""
    how = {"aligned": method.aligned, "squared": method.squared}
    views = make_views(batch, config, epoch, course, method.views, **how)
    drawn = views_room.uniforms(config.seed, epoch, KEY_VIEW, batch.places)[:, :2]
    key = views_room.key(drawn).to(views.device, non_blocking=True)
    small = None
    if method.small_views:
        less = config.model_copy(
            update={"views": config.views.model_copy(update={"crop_area": method.small_area})}
        )
        small = make_views(batch, less, epoch, course, method.small_views, first=SMALL_VIEW)
        small = _smaller(small, method.encoder.any_side)
    return Seen(views, batch.bag, key, small, (course.mean, course.std))


def _smaller(views: Tensor, any_side: bool) -> Tensor:
    """Halve the side of views ``[B, L, C, (D,) H, W]`` for a network that reads any side."""
    if not any_side:
        return views
    sides = [round(SMALL_SIDE * s) for s in views.shape[3:]]
    small = torch.nn.functional.interpolate(views.flatten(0, 1), sides, mode="area")
    return small.reshape(*views.shape[:3], *sides)


def make_views(
    batch: Batch,
    config: PretrainConfig,
    epoch: int,
    course: Course,
    count: int,
    *,
    aligned: bool = False,
    squared: bool = False,
    first: int = 0,
) -> Tensor:
    """Return float ``[B, K, C, (D,) H, W]``, normalised: ``count`` views of every drawn image.

    The work is done where the batch lies; every view is a function of (seed, epoch, place) alone.

    Args:
        batch: the pictures, and their places in the epoch.
        config: of the training.
        epoch: that it is.
        course: with the normalisation.
        count: views of each image.
        aligned: augment all images of a sample alike.
        squared: of the square inside the letterbox only.
        first: number of the first view's stream.
    """
    made = []
    for image in range(batch.images.shape[1]):
        pictures = batch.images[:, image].float().div_(STORED_MAX)
        pictures = square.inside(pictures) if squared else pictures
        for view in range(count):
            number = first + view + (0 if aligned else image * count)
            u = views_room.uniforms(config.seed, epoch, number, batch.places)
            how = views_room.sample(config.views, u, pictures.ndim - 2)
            made.append(views_room.apply(pictures, how, config.views))
    return torch.stack(made, 1).sub_(course.mean).div_(course.std)
