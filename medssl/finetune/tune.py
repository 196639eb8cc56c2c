"""Full fine-tuning: encoder and head together, on the labelled images of one draw."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from medssl import views as views_room
from medssl.config import FinetuneConfig, FullConfig
from medssl.errors import NumericalStopError
from medssl.finetune.probe import Linear
from medssl.finetune.starts import Start
from medssl.models.depths import depths
from medssl.models.embed import device, embed, to_unit
from medssl.models.encoder import Encoder
from medssl.models.heads import LinearHead, OrdinalHead
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

    def module(self) -> nn.ModuleDict:
        """Return both as one module, as they are written."""
        return nn.ModuleDict({"encoder": self.encoder.cpu(), "head": self.head.cpu()})


@dataclass(frozen=True)
class Labelled:
    """The labelled images of one draw: store rows and class codes, both int64 ``[n]``.

    With ``ordered`` the classes are steps of one scale; ``soft`` are chances to learn instead of the
    codes, float64 ``[n, K]``. ``answers`` are several labels at once, 0, 1 or -1 where one is missing,
    int64 ``[n, L]``: the head then gives one log odds per label and ``codes`` are not looked at.
    """

    rows: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    classes: int
    ordered: bool = False
    soft: FloatArray | None = None
    answers: npt.NDArray[np.int64] | None = None


def head_of(probe: Linear) -> LinearHead:
    """Return a probe as a head, float32."""
    head = LinearHead(probe.weight.shape[1], len(probe.bias))
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(probe.weight))
        head.linear.bias.copy_(torch.from_numpy(probe.bias))
    return head


def tune(
    start: Start,
    labelled: Labelled,
    config: FinetuneConfig,
    seed: int,
    *,
    rate: float,
    probe: Linear | None = None,
) -> Tuned:
    """Train a copy of an encoder and a head.

    Args:
        start: left as it is; if it was learned, ``full.encoder_lr`` and ``full.layer_decay`` slow it.
        labelled: what may be seen.
        config: settings.
        seed: order, views and head are functions of it.
        rate: peak learning rate of the head.
        probe: the head to begin with; None: a random one.

    Raises:
        NumericalStopError: a loss or a gradient that is not finite.
    """
    full, place = config.full, device()
    encoder = copy.deepcopy(start.encoder)
    assert encoder is not None  # noqa: S101
    encoder = encoder.to(place)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = _new_head(encoder.width, labelled, probe)
    head = head.to(place)
    batch = min(full.batch, len(labelled.rows))
    total = max(full.steps_floor, full.epochs * math.ceil(len(labelled.rows) / batch))
    parts = parameter_groups(encoder, full, rate, slow=start.learned)
    parts += [{**g, "lr": rate} for g in optim.groups(head, full.weight_decay)]
    optimizer = torch.optim.AdamW(parts, lr=rate)
    line = optim.schedule(optimizer, total, WARMUP)
    both = nn.ModuleDict({"encoder": encoder, "head": head})
    average = copy.deepcopy(both) if full.average else None
    weight = _weight(labelled).to(place) if config.balance else None
    both.train()
    for step in range(total):
        where = f"full fine-tuning, step {step}"
        views, wanted = _batch(start, labelled, config, (seed, step, batch))
        with torch.autocast(place.type, torch.bfloat16, enabled=full.precision == "bf16"):
            logits = head(encoder(views))
        loss = _loss(logits.float(), wanted, labelled, weight, full.smoothing)
        if not bool(torch.isfinite(loss)):
            words = f"{where}: the loss is not a number. Lower full.lr."
            raise NumericalStopError(words, "E-NONFINITE")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for part in (encoder, head):
            optim.check_gradients(part, where)
        optimizer.step()
        line.step()
        if average is not None:
            _follow(average, both, min(full.average, (1 + step) / (10 + step)))
    kept = both if average is None else average
    last = kept["head"].plain() if isinstance(kept["head"], OrdinalHead) else kept["head"]
    return Tuned(kept["encoder"].eval(), last.eval())  # type: ignore[arg-type]


def _new_head(width: int, labelled: Labelled, probe: Linear | None) -> nn.Module:
    """Return the head to begin with: the probe's, or a random one; ordered classes share a direction."""
    if labelled.answers is not None:
        return LinearHead(width, labelled.answers.shape[1])
    if not labelled.ordered:
        return LinearHead(width, labelled.classes) if probe is None else head_of(probe)
    head = OrdinalHead(width, labelled.classes)
    if probe is not None:
        with torch.no_grad():
            head.linear.weight.copy_(torch.from_numpy(probe.weight[1:2]))
            head.bias.copy_(torch.from_numpy(probe.bias - probe.bias[0]))
    return head


def parameter_groups(
    encoder: Encoder, full: FullConfig, rate: float, *, slow: bool
) -> list[dict[str, Any]]:
    """Return the encoder's parameters by layer, with rates that fall towards the pixels.

    Args:
        encoder: whose parameters.
        full: ``encoder_lr``, ``layer_decay`` and ``weight_decay``.
        rate: the head's peak.
        slow: whether both factors apply; otherwise every layer learns at the head's rate.
    """
    named = dict(encoder.named_parameters())
    place, many = depths(encoder)
    out = []
    for depth in range(many):
        own = nn.ParameterDict(
            {n.replace(".", "/"): p for n, p in named.items() if place[n] == depth}
        )
        factor = full.encoder_lr * full.layer_decay ** (many - 1 - depth) if slow else 1.0
        groups = optim.groups(own, full.weight_decay)
        out += [{**g, "lr": rate * factor} for g in groups if g["params"]]
    return out


def _loss(
    logits: torch.Tensor,
    wanted: torch.Tensor,
    labelled: Labelled,
    weight: torch.Tensor | None,
    smoothing: float,
) -> torch.Tensor:
    if labelled.answers is not None:
        return masked_loss(logits, wanted, weight, smoothing)
    return F.cross_entropy(logits, wanted, weight=weight, label_smoothing=smoothing)


def _weight(labelled: Labelled) -> torch.Tensor:
    if labelled.answers is not None:
        return answer_weight(labelled.answers)
    return class_weight(labelled)


def masked_loss(
    logits: torch.Tensor, answers: torch.Tensor, weight: torch.Tensor | None, smoothing: float
) -> torch.Tensor:
    """Return the mean binary cross-entropy over answers that are there.

    Args:
        logits: log odds ``[N, L]``.
        answers: 0, 1, or -1 for a missing one ``[N, L]``.
        weight: of no and yes per label ``[2, L]``.
        smoothing: share of every answer that is given to its opposite, twice.
    """
    known = answers >= 0
    wanted = answers.clamp(min=0).float()
    each = F.binary_cross_entropy_with_logits(
        logits, wanted * (1 - smoothing) + smoothing / 2, reduction="none"
    )
    share = known.float()
    if weight is not None:
        share = share * torch.where(answers == 1, weight[1], weight[0])
    return (each * share).sum() / known.sum().clamp(min=1)


def answer_weight(answers: npt.NDArray[np.int64]) -> torch.Tensor:
    """Return float32 ``[2, L]``: the inverse share of no and yes among the answers of each label."""
    counts = np.stack([(answers == k).sum(0) for k in (0, 1)])
    return torch.from_numpy(counts.sum(0) / (2 * np.maximum(counts, 1))).float()


def class_weight(labelled: Labelled) -> torch.Tensor:
    """Return float32 ``[K]``: the inverse share of every class, 1 on the average picture."""
    counts = np.bincount(labelled.codes, minlength=labelled.classes)
    return torch.from_numpy(
        len(labelled.codes) / (labelled.classes * np.maximum(counts, 1))
    ).float()


@torch.no_grad()
def _follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the average towards the module; statistics of norms are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)
    for old, new in zip(average.buffers(), module.buffers(), strict=True):
        old.copy_(new)


def _batch(
    start: Start, labelled: Labelled, config: FinetuneConfig, where: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return augmented pictures and what to learn of them: codes, chances, or several answers."""
    seed, step, batch = where
    per_epoch = math.ceil(len(labelled.rows) / batch)
    epoch, turn = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(len(labelled.rows))
    picked = np.resize(order, per_epoch * batch)[turn * batch : (turn + 1) * batch]
    images = to_unit(start.store.planes(labelled.rows[picked])).to(device())
    u = views_room.uniforms(seed, epoch, 0, slice(turn * batch, turn * batch + len(picked)))
    how = views_room.sample(config.views, u, images.ndim - 2)
    mean, std = start.normal
    views = (views_room.apply(images, how, config.views) - mean) / std
    if labelled.answers is not None:
        return views, torch.from_numpy(labelled.answers[picked]).to(device())
    if labelled.soft is not None:
        return views, torch.from_numpy(labelled.soft[picked]).float().to(device())
    return views, torch.from_numpy(labelled.codes[picked]).to(device())
