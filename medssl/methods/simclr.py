"""SimCLR: two views of one image are the positive pair (Chen et al. 2020, arXiv 2002.05709)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from medssl.methods.base import Loss, Method
from medssl.methods.gathered import gathered
from medssl.methods.ntxent import collapsed_loss, ntxent
from medssl.models.encoder import Encoder
from medssl.models.heads import projection


class SimCLR(Method):
    """Contrast of two augmented views of each image against all other patients' images."""

    images, views = 1, 2

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = projection(encoder.width, config.hidden, config.out)
        self.mask = bool(getattr(config, "mask_same_patient", True))

    def loss(self, views: Tensor, bag: Tensor) -> Loss:
        """Return NT-Xent, and the spread of the projections (healthy near 1/sqrt(d))."""
        features = self.encoder(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        # The head sees the batch of all processes, so that its batch norm is the whole batch's.
        features, bag = gathered(features), gathered(bag)
        z = self.head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        total = ntxent(z[:, 0], z[:, 1], bag, self.config.temperature, mask=self.mask)
        spread = F.normalize(z.detach().flatten(0, 1).float(), dim=1).std(0).mean()
        return Loss(total, {"z_std": spread}, collapsed_loss(bag, mask=self.mask))
