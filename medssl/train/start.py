"""Where a pretraining starts from: random weights, another run's encoder, or weights from outside."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl import runs
from medssl.cohort.privacy import check_keys
from medssl.config import PretrainConfig
from medssl.errors import RefusedError
from medssl.models import foreign, weights
from medssl.models.encoder import Encoder, build
from medssl.train.material import Material


@dataclass(frozen=True)
class Start:
    """An encoder before its first step.

    Attributes:
        encoder: it.
        keys: digest of the pseudonym key of every site that it or its cohort knows.
        card: of the run that it was taken from, with all that it has seen; None without ``init``.
        foreign: weights from outside somewhere in its past.
        told: what to say of foreign weights, for the run's summary.
    """

    encoder: Encoder
    keys: dict[str, str]
    card: weights.Card | None = None
    foreign: tuple[weights.ForeignWeights, ...] = ()
    told: dict[str, Any] = field(default_factory=dict)


def start_encoder(config: PretrainConfig, material: Material) -> Start:
    """Build the encoder, load foreign weights into it, or take a finished run's.

    Raises:
        RefusedError: the run's encoder was made for other preprocessing, another network, or
            another key of the same site; the foreign file does not fit.
    """
    keys = dict(material.manifest["site_keys"])
    if config.init is not None:
        return _from_run(config, Path(config.init), keys)
    decode, whole = config.decode, material.store.whole
    encoder = build(
        config.encoder, decode.size, whole=whole, seed=config.seed, channels=decode.channels
    )
    if config.foreign is None:
        return Start(encoder, keys)
    loaded = foreign.load(config.foreign, encoder)
    return Start(encoder, keys, None, (loaded.origin,), loaded.facts())


def _from_run(config: PretrainConfig, folder: Path, keys: dict[str, str]) -> Start:
    runs.finished(folder, "pretrain")
    encoder, card, _ = weights.load_encoder(folder)
    problems = []
    if card.decode != config.decode:
        problems.append(
            f"{folder}: its encoder was fed {card.decode}, this config says {config.decode}."
        )
    if card.encoder != config.encoder:
        problems.append(
            f"{folder}: its encoder is {card.encoder}, this config says {config.encoder}."
        )
    if problems:
        raise RefusedError(
            [*problems, "Use the same decode and encoder settings."], "E-PREPROCESSING"
        )
    check_keys(card.site_keys, keys)
    return Start(encoder, {**card.site_keys, **keys}, card, card.foreign)
