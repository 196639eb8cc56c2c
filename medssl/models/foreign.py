"""Weights from outside as an encoder's start: all of its tensors are found, or nothing is loaded."""

import math
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from medssl.config import ForeignConfig
from medssl.errors import NothingUsableError, RefusedError
from medssl.files import sha256_file
from medssl.models import key_maps, unpack
from medssl.models.encoder import Encoder
from medssl.models.weights import ForeignWeights

TORCH = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pyth")
LISTED = 20
NPZ_BYTES = 16 << 30
STANDARDISED = "StdConv"


@dataclass(frozen=True)
class Loaded:
    """What an encoder took from a foreign file.

    Attributes:
        count: tensors loaded, which are all the encoder has; batch norm's counters are not counted.
        origin: the file, whose names, which licence; travels in the encoder's card.
        unused: names in the file that were not taken (a classifier, another branch).
        notes: what was changed on the way, in sentences.
    """

    count: int
    origin: ForeignWeights
    unused: tuple[str, ...]
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return it for a run's summary, as JSON."""
        first = ", ".join(_shown(n) for n in self.unused[:4])
        more = ", ..." if len(self.unused) > 4 else ""
        return {
            "foreign": self.origin.file,
            "foreign_licence": self.origin.licence,
            "foreign_tensors": f"{self.count} of {self.count} loaded",
            "foreign_unused": f"{len(self.unused)} ({first}{more})" if self.unused else "none",
            "foreign_notes": " ".join(self.notes) or "none",
        }


def load(config: ForeignConfig, encoder: Encoder) -> Loaded:
    """Load a local file's tensors into an encoder, in place.

    A first convolution over three channels is summed over them for an encoder of one: for a grey image
    given three times that is the same function (the images must be normalised by one mean and one
    deviation, as ours are). Position embeddings of another image size are resampled.

    Raises:
        NothingUsableError: there is no such file.
        RefusedError: it is damaged, carries a program, holds values that are not numbers, or does not
            fit; everything that does not is listed, and the encoder is as it was.
        DiskError: no room to unpack it.
    """
    path = Path(config.file)
    found = read(path)
    wanted = encoder.net.state_dict()
    mapped = key_maps.translate(config.keys, found, wanted)
    fitted, notes = _adapted(mapped.tensors, encoder.net)
    problems = _problems(mapped, fitted, wanted)
    if problems:
        raise RefusedError(
            _account(config, path.name, problems, fitted, found, encoder.net), "E-KEYS"
        )
    endless = [k for k, v in fitted.items() if v.is_floating_point() and not v.isfinite().all()]
    if endless:
        words = (
            f"{path.name}: {len(endless)} tensors hold values that are not numbers "
            f"({endless[0]} first); nothing was loaded. Copy the file again, or use another."
        )
        raise RefusedError(words, "E-NONFINITE")
    # Files from before batch norm counted its batches, and TensorFlow's, have no counters.
    counters = {k: v for k, v in wanted.items() if k not in fitted}
    encoder.net.load_state_dict(counters | fitted, strict=True)
    origin = ForeignWeights(path.name, sha256_file(path), config.keys, config.licence)
    count = sum(not _counter(k) for k in wanted)
    return Loaded(count, origin, mapped.unused, tuple(notes))


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors, npz or torch file; nothing in it is executed.

    Raises:
        NothingUsableError: there is no such file.
        RefusedError: see ``load``.
    """
    if not path.is_file():
        raise NothingUsableError(f"foreign.file {path}: no such file; check the path.", "E-NOFILE")
    kind = path.suffix.lower()
    if kind in TORCH:
        return unpack.tensors(path)
    if kind not in {".safetensors", ".npz"}:
        words = f"{path.name}: none of the kinds that are read: safetensors, npz, or torch's "
        raise RefusedError(f"{words}{', '.join(TORCH)}.", "E-WEIGHTS")
    try:
        found = parse_tensors(path.read_bytes()) if kind == ".safetensors" else _npz(path)
    except (SafetensorError, zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError,
            OSError, MemoryError, NotImplementedError, RuntimeError) as error:  # fmt: skip
        words = (
            f"{path.name}: could not be read as {kind[1:]} ({type(error).__name__}); it is empty, "
            "damaged, cut off, or holds more than plain tensors. Copy it again."
        )
        raise RefusedError(words, "E-WEIGHTS") from error
    if not found:
        raise RefusedError(f"{path.name}: holds no tensors.", "E-WEIGHTS")
    return found


def _npz(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as members:
        total = sum(member.file_size for member in members.infolist())
    if total > NPZ_BYTES:
        raise ValueError(f"unpacks to {total} bytes")
    with np.load(path, allow_pickle=False) as arrays:
        return {k: torch.from_numpy(arrays[k]) for k in arrays.files}


def _adapted(tensors: dict[str, Tensor], net: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors with the two changes that leave them what they are, and say which."""
    fitted, notes = dict(tensors), []
    for first in _first_convolutions(net):
        name = f"{first}.weight"
        here, there = net.get_parameter(name), fitted.get(name)
        if there is not None and there.ndim == 4 and (there.shape[1], here.shape[1]) == (3, 1):
            fitted[name] = there.sum(1, keepdim=True)
            notes.append(f"{name} was summed over its 3 channels for 1.")
            if type(net.get_submodule(first)).__name__.startswith(STANDARDISED):
                notes.append(f"{first} standardises its weights: each filter keeps its shape only.")
    sized = _resampled(fitted.get("pos_embed"), net)
    if sized is not None:
        fitted["pos_embed"], words = sized
        notes.append(words)
    return fitted, notes


def _first_convolutions(net: nn.Module) -> tuple[str, ...]:
    """Return the names of the convolutions that read the image, as timm tells them."""
    told = getattr(net, "pretrained_cfg", {}).get("first_conv") or ()
    return (told,) if isinstance(told, str) else tuple(told)


def _resampled(there: Tensor | None, net: nn.Module) -> tuple[Tensor, str] | None:
    """Return a ViT's position embeddings for this image size; None where there is nothing to do."""
    here = getattr(net, "pos_embed", None)
    grid = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if there is None or here is None or grid is None or there.shape == here.shape:
        return None
    prefix = here.shape[1] - math.prod(grid)
    side = math.isqrt(max(0, there.shape[1] - prefix)) if there.ndim == 3 else 0
    if side == 0 or side**2 + prefix != there.shape[1] or there.shape[2] != here.shape[2]:
        return None
    sized = resample_abs_pos_embed(there, list(grid), [side, side], num_prefix_tokens=prefix)
    words = f"pos_embed was resampled from {side} x {side} to {grid[0]} x {grid[1]} patches."
    return sized, words


def _problems(
    mapped: key_maps.Mapped, fitted: dict[str, Tensor], wanted: dict[str, Tensor]
) -> list[str]:
    """Return what does not fit: one sentence each for missing, unexpected, and other shapes."""
    missing = [k for k in wanted if k not in fitted and not _counter(k)]
    shapes = [
        f"{k} {_form(v)} in the file, {_form(wanted[k])} here"
        for k, v in fitted.items()
        if v.shape != wanted[k].shape or v.is_floating_point() != wanted[k].is_floating_point()
    ]
    told = (("missing", missing), ("unexpected", list(mapped.unexpected)), ("other shapes", shapes))
    return [_listed(what, names) for what, names in told if names]


def _account(
    config: ForeignConfig,
    name: str,
    problems: list[str],
    fitted: dict[str, Tensor],
    found: dict[str, Tensor],
    net: nn.Module,
) -> list[str]:
    """Say how many tensors fit, what does not, and what to do."""
    wanted = net.state_dict()
    good = sum(k in fitted and fitted[k].shape == v.shape and not _counter(k)
               for k, v in wanted.items())  # fmt: skip
    count = sum(not _counter(k) for k in wanted)
    head = (
        f"{name}: {good} of {count} tensors of the encoder fit (foreign.keys={config.keys}); "
        "nothing was loaded."
    )
    statistics = [k for k in found if k.endswith("running_mean")]
    if statistics and not any(k.endswith("running_mean") for k in wanted):
        way = (
            "The file's network has batch norm, whose statistics have no place in this encoder; "
            "use encoder.norm=batch, and an encoder.name that has batch norm."
        )
    else:
        way = "Use the encoder.name that the weights were made for, or the foreign.keys they carry."
    others = [k for k in key_maps.MAPS if k != config.keys and _fits(k, found, net)]
    hint = [f"All of it fits foreign.keys={others[0]}."] if others else [way]
    return [head, *problems, *hint]


def _fits(keys: str, found: dict[str, Tensor], net: nn.Module) -> bool:
    """Return whether every name and every shape fits."""
    wanted = net.state_dict()
    mapped = key_maps.translate(keys, found, wanted)
    return not _problems(mapped, _adapted(mapped.tensors, net)[0], wanted)


def _counter(name: str) -> bool:
    return name.endswith(key_maps.COUNTER)


def _listed(what: str, names: list[str]) -> str:
    shown = ", ".join(_shown(n) for n in names[:LISTED])
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"  {what} ({len(names)}): {shown}{more}"


def _shown(name: str) -> str:
    """Return a name out of a file so that no terminal obeys it."""
    return re.sub(r"[^\w./:\[\], -]", "?", name)[:120]


def _form(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind}[{', '.join(str(n) for n in tensor.shape)}]"
