"""What is exported: an encoder or a classifier, and pictures to prove the copy by."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medssl import infer, runs
from medssl.errors import MedsslError, RefusedError, UsageError
from medssl.models import weights
from medssl.models.embed import to_unit
from medssl.models.encoder import Encoder
from medssl.models.heads import LinearHead
from medssl.store import Store, open_store

RANDOM, STORED = 8, 16
RANDOM_VOLUMES, STORED_VOLUMES = 2, 2
LIMIT, RELATIVE = 1e-4, 1e-5
"""Most that an exported network may differ from medssl's: the first, or the second of the largest
output where that is more, because float32 has seven digits."""


@dataclass(frozen=True)
class Subject:
    """An encoder, with a head where the run is a classifier.

    Attributes:
        verb: pretrain, finetune or pack.
        encoder, head: as loaded, on the CPU, not training; ``head`` None for a bare encoder.
        card: preprocessing and ledger.
        sha256: digest of the run's own weights.
        record: ``classifier.json`` of a classifier; empty for a bare encoder.
    """

    verb: str
    encoder: Encoder
    head: LinearHead | None
    card: weights.Card
    sha256: str
    record: dict[str, Any]

    @property
    def whole(self) -> bool:
        """Return whether it reads whole volumes."""
        return self.encoder.dims == 3

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes in the order of the logits; none for a bare encoder."""
        return tuple(str(c) for c in self.record.get("classes", ()))

    @property
    def output(self) -> str:
        """Return what comes out: features or logits."""
        return "features" if self.head is None else "logits"

    def shape(self, channels: int) -> tuple[int, ...]:
        """Return the shape of one picture: (channels, (D,) H, W)."""
        return (channels, *(self.card.decode.size,) * self.encoder.dims)

    def network(self, channels: int) -> nn.Module:
        """Return a copy of the encoder's network that reads so many channels.

        Raises:
            UsageError: it reads others, and cannot be made to.
        """
        net = copy.deepcopy(self.encoder.net).to(memory_format=torch.contiguous_format)
        return self.fitted(net, channels)

    def fitted(self, net: nn.Module, channels: int) -> nn.Module:
        """Return a network of the encoder's kind, made to read so many channels.

        Raises:
            UsageError: only one grey channel of images can become three.
        """
        own, name = self.encoder.channels, self.card.encoder.name
        if channels == own:
            return net
        if own != 1 or self.whole:
            kind = "whole volumes of one channel" if self.whole else "colours"
            words = (
                f"{name}: reads {kind}; it cannot be exported for {channels}. Leave out --channels."
            )
            raise UsageError(words, "E-CHANNELS")
        return spread(net, name)

    @torch.inference_mode()
    def answers(self, pictures: Tensor) -> Tensor:
        """Return what medssl itself makes of pictures ``[N, C, (D,) H, W]``: ``[N, width or K]``."""
        features: Tensor = self.encoder(pictures)
        return features if self.head is None else self.head(features)


def load(run: Path) -> Subject:
    """Load the encoder of a pretrain run, or the classifier of a finetune run or a pack.

    Raises:
        NothingUsableError: not such a run, or not finished.
        RefusedError: weights that are not those the JSON describes.
    """
    verb = runs.finished(run, "pretrain", "finetune", "pack").verb
    if verb == "pretrain":
        encoder, card, digest = weights.load_encoder(run)
        return Subject(verb, encoder.eval(), None, card, digest, {})
    found = infer.load(run)
    return Subject(verb, found.encoder, found.head, found.card, found.sha256, found.record)


def spread(net: nn.Module, name: str) -> nn.Module:
    """Let a network of one grey channel read three: its first weights over 3, on each of them.

    A grey picture on all three channels then gives the features that it gave on one.

    Raises:
        UsageError: the network has not exactly one plain first convolution of images.
    """
    found = [
        m
        for m in net.modules()
        if isinstance(m, nn.Conv2d) and m.in_channels == 1 and m.groups == 1
    ]
    if len(found) != 1:
        words = (
            f"{name}: has {len(found)} plain convolutions that read one channel, so its weights cannot be "
            "spread over three. Leave out --channels 3."
        )
        raise UsageError(words, "E-CHANNELS")
    layer = found[0]
    layer.weight = nn.Parameter(layer.weight.detach().repeat(1, 3, 1, 1) / 3)
    layer.in_channels = 3
    return net


@dataclass(frozen=True)
class Pictures:
    """Pictures to prove an export by: float32 ``[N, C, (D,) H, W]``, normalised.

    Attributes:
        tensor: the random ones first.
        random, stored: how many are noise, and how many lie in the store of the run's cohort.
    """

    tensor: Tensor
    random: int
    stored: int


def pictures_for(run: Path, subject: Subject) -> Pictures:
    """Return noise, and pictures of the cohort where it still lies beside the run."""
    card = subject.card
    many = RANDOM_VOLUMES if subject.whole else RANDOM
    noise = np.random.default_rng(0).random(
        (many, *subject.shape(subject.encoder.channels)), dtype=np.float32
    )
    parts = [torch.from_numpy(noise)]
    store = _store_of(run, card)
    if store is not None and len(store):
        most = STORED_VOLUMES if subject.whole else STORED
        rows = np.unique(np.linspace(0, len(store) - 1, most).astype(np.int64))
        parts.append(to_unit(store.planes(rows)))
    tensor = (torch.cat(parts) - card.mean) / card.std
    return Pictures(tensor, many, len(tensor) - many)


def _store_of(run: Path, card: weights.Card) -> Store | None:
    """Return the store of the cohort that the run names; None where it is gone or changed."""
    for parent in runs.read(run).record.get("parents", []):
        if parent.get("file") == "manifest.parquet":
            try:
                return open_store(run / str(parent["path"]), card.decode)
            except MedsslError:
                return None
    return None


@dataclass(frozen=True)
class Proof:
    """How far the exported network is from medssl's own on the same pictures.

    Attributes:
        difference: the largest, absolute.
        largest: largest output, absolute.
        limit: what the difference was held against.
        random, stored: pictures of either kind.
        reader: what read the exported weights.
    """

    difference: float
    largest: float
    limit: float
    random: int
    stored: int
    reader: str


def prove(ours: Tensor, theirs: npt.NDArray[np.float32], pictures: Pictures, reader: str) -> Proof:
    """Compare outputs ``[N, width or K]``.

    Raises:
        RefusedError: they differ by more than the limit, or hold what is not a number.
    """
    wanted = ours.numpy()
    difference = float(np.abs(wanted - theirs).max())
    largest = float(np.abs(wanted).max())
    limit = max(LIMIT, RELATIVE * largest)
    if not difference <= limit:
        words = (
            f"The exported network, read by {reader}, differs from the original by {difference:.2g} where "
            f"{limit:.2g} is allowed, on {len(wanted)} pictures; nothing was written. Try another --to."
        )
        raise RefusedError(words, "E-PARITY")
    return Proof(difference, largest, limit, pictures.random, pictures.stored, reader)
