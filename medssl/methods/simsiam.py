"""SimSiam: predict the other view's projection, which gets no gradient (Chen and He 2021, arXiv 2011.10566)."""

from typing import Any

from medssl.methods.base import Loss, Seen
from medssl.methods.pairs import Pairs, each, everyones, negative_cosine, spread
from medssl.models.encoder import Encoder
from medssl.models.heads import simsiam_prediction, simsiam_projection


class SimSiam(Pairs):
    """Neither negatives nor a slow encoder: the stopped gradient keeps the outputs apart."""

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = simsiam_projection(encoder.width, config.hidden, config.out)
        self.prediction = simsiam_prediction(config.out, config.bottleneck)

    def loss(self, seen: Seen) -> Loss:
        """Return the mean negative cosine of both directions, -1 at best."""
        z = each(self.head, everyones(self.encoder, seen))
        p = each(self.prediction, z)
        total = (negative_cosine(p[:, 0], z[:, 1]) + negative_cosine(p[:, 1], z[:, 0])) / 2
        return Loss(total, {"z_std": spread(z.flatten(0, 1))})
