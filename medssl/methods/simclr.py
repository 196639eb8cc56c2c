"""SimCLR: two views of one image are the positive pair (Chen et al. 2020, arXiv 2002.05709)."""

from typing import Any

from medssl.methods.base import Loss, Seen
from medssl.methods.gathered import gathered
from medssl.methods.ntxent import collapsed_loss, ntxent
from medssl.methods.pairs import Pairs, each, everyones, spread
from medssl.models.encoder import Encoder
from medssl.models.heads import projection


class SimCLR(Pairs):
    """Contrast of two augmented views of each image against all other patients' images."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = projection(encoder.width, config.hidden, config.out)
        self.mask = bool(getattr(config, "mask_same_patient", True))

    def loss(self, seen: Seen) -> Loss:
        """Return NT-Xent, and the spread of the projections."""
        z, bag = each(self.head, everyones(self.encoder, seen)), gathered(seen.bag)
        total = ntxent(z[:, 0], z[:, 1], bag, self.config.temperature, mask=self.mask)
        parts = {"z_std": spread(z.flatten(0, 1))}
        return Loss(total, parts, collapsed_loss(bag, mask=self.mask))
