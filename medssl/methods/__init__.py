"""Pretext tasks: a table of import paths, one file each. Nothing is imported until asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medssl.methods.base import Method
    from medssl.models.encoder import Encoder

METHODS = {
    "simclr": "medssl.methods.simclr:SimCLR",
    "micle": "medssl.methods.micle:MICLe",
    "moco_v2": "medssl.methods.moco_v2:MoCoV2",
    "moco_v3": "medssl.methods.moco_v3:MoCoV3",
    "byol": "medssl.methods.byol:BYOL",
    "simsiam": "medssl.methods.simsiam:SimSiam",
    "barlow_twins": "medssl.methods.barlow_twins:BarlowTwins",
    "vicreg": "medssl.methods.vicreg:VICReg",
    "dino": "medssl.methods.dino:DINO",
    "mae": "medssl.methods.mae:MAE",
    "aim": "medssl.methods.aim:AIM",
    "context_encoder": "medssl.methods.context_encoder:ContextEncoder",
    "denoising": "medssl.methods.denoising:Denoising",
    "rotation": "medssl.methods.rotation:Rotation",
    "patch_location": "medssl.methods.patch_location:PatchLocation",
    "colourisation": "medssl.methods.colourisation:Colourisation",
    "next_slice": "medssl.methods.next_slice:NextSlice",
    "slice_order": "medssl.methods.slice_order:SliceOrder",
}


def method_class(name: str) -> "type[Method]":
    """Return the class behind a name of the table."""
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(importlib.import_module(module), attribute)
    return found


def build_method(config: Any, encoder: "Encoder", seed: int) -> "Method":
    """Build the method that ``config.name`` names, its heads drawn from ``seed``.

    Raises:
        UsageError: the encoder or its pictures are not of the kind that the task needs.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return method_class(config.name)(config, encoder)
