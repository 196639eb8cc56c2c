"""Weights on disk: safetensors beside JSON, chained by digest; nothing here runs received code."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as format_tensors
from torch import nn

from medssl.config import DecodeConfig, EncoderConfig
from medssl.errors import NothingUsableError, NumericalStopError, RefusedError
from medssl.files import atomic, sha256_file, write_json
from medssl.loading import validate
from medssl.models.encoder import Encoder, build

FORMAT = 2


@dataclass(frozen=True)
class ForeignWeights:
    """Weights from outside that an encoder began with.

    Attributes:
        file: name of the file, without its folder.
        sha256: digest of its bytes.
        keys: whose names its tensors carried.
        licence: under which terms they came.
    """

    file: str
    sha256: str
    keys: str
    licence: str


@dataclass(frozen=True)
class Card:
    """What travels with an encoder, so that nobody downstream can get it wrong.

    Attributes:
        encoder, decode: how it is built and what it was fed.
        mean, std: normalisation of pixels in [0, 1], from the training patients only.
        site_keys: digest of the pseudonym key of every site it saw.
        seen: digests of the patients it was pretrained on, warm starts included.
        pictures: digests of their pictures as stored, which no second key can disguise.
        source: the run it comes from.
        foreign: weights from outside that it or a run before it began with.
        chosen: digests of patients whose figures chose between its versions; it never trained on them.
    """

    encoder: EncoderConfig
    decode: DecodeConfig
    mean: float
    std: float
    site_keys: dict[str, str]
    seen: tuple[str, ...]
    pictures: tuple[str, ...]
    source: str
    foreign: tuple[ForeignWeights, ...] = ()
    chosen: tuple[str, ...] = ()


def save_encoder(folder: Path, encoder: Encoder, card: Card) -> str:
    """Write ``encoder.safetensors`` and ``encoder.json``; return the digest of the weights.

    Raises:
        NumericalStopError: a weight is not finite.
    """
    digest = save_tensors(folder / "encoder.safetensors", encoder)
    data = asdict(card) | {"encoder": card.encoder.model_dump(), "decode": card.decode.model_dump()}
    write_json(folder / "encoder.json", {"format": FORMAT, "sha256": digest, **data})
    return digest


def save_tensors(path: Path, module: nn.Module) -> str:
    """Write a module's state as safetensors; return the file's SHA-256."""
    state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    bad = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if bad:
        words = (
            f"{path.name}: {len(bad)} tensors hold values that are not numbers ({bad[0]} first)."
        )
        raise NumericalStopError(words, "E-NONFINITE")
    with atomic(path) as out:
        out.write(format_tensors(state))
    return sha256_file(path)


def load_tensors(path: Path, module: nn.Module, digest: str) -> None:
    """Load safetensors into a module, every key matched.

    Raises:
        RefusedError: another digest, a broken file, other keys or shapes, or not finite.
    """
    if not path.is_file():
        raise NothingUsableError(f"{path}: no such weights.", "E-NOWEIGHTS")
    if sha256_file(path) != digest:
        words = f"{path}: the weights are not those their JSON describes (digest differs). Copy both again."
        raise RefusedError(words, "E-DIGEST")
    try:
        state = parse_tensors(path.read_bytes())
        module.load_state_dict(state, strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise RefusedError(
            f"{path}: does not fit the network it names ({error}).", "E-WEIGHTS"
        ) from error
    if any(v.is_floating_point() and not torch.isfinite(v).all() for v in state.values()):
        raise RefusedError(f"{path}: holds values that are not numbers.", "E-NONFINITE")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a weights JSON; a missing or broken one is told in a sentence."""
    if not path.is_file():
        words = (
            f"{path.parent}: holds no {what} ({path.name}). Give a finished run of the right verb."
        )
        raise NothingUsableError(words, "E-NOWEIGHTS")
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise RefusedError(f"{path}: not readable as JSON.", "E-WEIGHTS") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise RefusedError(
            f"{path}: another format than {FORMAT}; use the medssl that wrote it.", "E-FORMAT"
        )
    return data


def card_from(data: dict[str, Any], name: str) -> Card:
    """Return the card in a weights JSON, checked.

    Raises:
        RefusedError: a part is absent or of the wrong kind.
    """
    try:
        return Card(
            encoder=validate(EncoderConfig, data["encoder"], name),
            decode=validate(DecodeConfig, data["decode"], name),
            mean=float(data["mean"]),
            std=float(data["std"]),
            site_keys={str(k): str(v) for k, v in data["site_keys"].items()},
            seen=tuple(str(s) for s in data["seen"]),
            pictures=tuple(str(s) for s in data["pictures"]),
            source=str(data["source"]),
            # Cards written before weights from outside could be loaded do not say.
            foreign=tuple(_foreign(one) for one in data.get("foreign", ())),
            chosen=tuple(str(s) for s in data.get("chosen", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(f"{name}: the part {error} is absent or broken.", "E-WEIGHTS") from error


def _foreign(data: dict[str, Any]) -> ForeignWeights:
    return ForeignWeights(**{k: str(data[k]) for k in ("file", "sha256", "keys", "licence")})


def read_card(folder: Path) -> tuple[Card, str]:
    """Return the card of a pretraining run and the digest of its weights."""
    data = read_json(folder / "encoder.json", "encoder")
    return card_from(data, "encoder.json"), str(data.get("sha256"))


def load_encoder(folder: Path) -> tuple[Encoder, Card, str]:
    """Return the encoder of a pretraining run, its card and its digest."""
    card, digest = read_card(folder)
    whole = card.encoder.name.endswith("_3d")
    channels = card.decode.channels
    encoder = build(card.encoder, card.decode.size, whole=whole, seed=0, channels=channels)
    load_tensors(folder / "encoder.safetensors", encoder, digest)
    return encoder, card, digest
