"""Full fine-tuning: encoder and head together, on the labelled images of one draw."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from medssl import views as views_room
from medssl.config import FinetuneConfig
from medssl.errors import NumericalStopError
from medssl.models.embed import device, embed, to_unit
from medssl.models.encoder import Encoder
from medssl.models.heads import LinearHead
from medssl.store import Store
from medssl.train import optim

WARMUP = 0.1
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tuned:
    """An encoder and a head that were trained together."""

    encoder: Encoder
    head: LinearHead

    def logits(
        self, store: Store, rows: npt.NDArray[np.int64], mean: float, std: float
    ) -> FloatArray:
        """Return float64 ``[n, K]`` logits of store rows."""
        features = torch.from_numpy(embed(self.encoder, store, rows, mean, std))
        with torch.inference_mode():
            out: FloatArray = self.head.cpu()(features).double().numpy()
        return out


@dataclass(frozen=True)
class Labelled:
    """The labelled images of one draw: store rows and class codes, both int64 ``[n]``."""

    rows: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    classes: int


def tune(
    start: Encoder,
    pretrained: bool,
    store: Store,
    labelled: Labelled,
    normal: tuple[float, float],
    config: FinetuneConfig,
    seed: int,
) -> Tuned:
    """Train a copy of an encoder and a new head.

    Args:
        start: left as it is.
        pretrained: lowers the encoder's learning rate by ``full.encoder_lr``.
        store: decoded pixels.
        labelled: what may be seen.
        normal: mean and deviation of the pixels.
        config: settings.
        seed: order, views and head are functions of it.

    Raises:
        NumericalStopError: a loss or a gradient that is not finite.
    """
    full, place = config.full, device()
    encoder = copy.deepcopy(start).to(place)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = LinearHead(encoder.width, labelled.classes).to(place)
    batch = min(full.batch, len(labelled.rows))
    per_epoch = math.ceil(len(labelled.rows) / batch)
    total = max(full.steps_floor, full.epochs * per_epoch)
    slower = full.encoder_lr if pretrained else 1.0
    parts = [
        {**group, "lr": full.lr * rate}
        for module, rate in ((encoder, slower), (head, 1.0))
        for group in optim.groups(module, full.weight_decay)
    ]
    optimizer = torch.optim.AdamW(parts, lr=full.lr)
    line = optim.schedule(optimizer, total, WARMUP)
    encoder.train()
    for step in range(total):
        loss = _step_loss(encoder, head, store, labelled, normal, config, (seed, step, batch))
        if not bool(torch.isfinite(loss)):
            words = f"full fine-tuning, step {step}: the loss is not a number. Lower full.lr."
            raise NumericalStopError(words, "E-NONFINITE")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for part in (encoder, head):
            optim.check_gradients(part, f"full fine-tuning, step {step}")
        optimizer.step()
        line.step()
    return Tuned(encoder.eval(), head.eval())


def _step_loss(
    encoder: Encoder,
    head: nn.Module,
    store: Store,
    labelled: Labelled,
    normal: tuple[float, float],
    config: FinetuneConfig,
    where: tuple[int, int, int],
) -> torch.Tensor:
    seed, step, batch = where
    per_epoch = math.ceil(len(labelled.rows) / batch)
    epoch, turn = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(len(labelled.rows))
    picked = np.resize(order, per_epoch * batch)[turn * batch : (turn + 1) * batch]
    images = to_unit(store.planes(labelled.rows[picked])).to(device())
    u = views_room.uniforms(seed, epoch, 0, slice(turn * batch, turn * batch + len(picked)))
    how = views_room.sample(config.views, u, images.ndim - 2)
    views = (views_room.apply(images, how, config.views) - normal[0]) / normal[1]
    codes = torch.from_numpy(labelled.codes[picked]).to(device())
    with torch.autocast(device().type, torch.bfloat16, enabled=config.full.precision == "bf16"):
        logits = head(encoder(views))
    return F.cross_entropy(logits.float(), codes)
