"""Pretext tasks: a table of import paths, one file each. Nothing is imported until asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medssl.methods.base import Method
    from medssl.models.encoder import Encoder

METHODS = {
    "simclr": "medssl.methods.simclr:SimCLR",
    "micle": "medssl.methods.micle:MICLe",
}


def method_class(name: str) -> "type[Method]":
    """Return the class behind a name of the table."""
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(importlib.import_module(module), attribute)
    return found


def build_method(config: Any, encoder: "Encoder", seed: int) -> "Method":
    """Build the method that ``config.name`` names, its heads drawn from ``seed``."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return method_class(config.name)(config, encoder)
