"""Where reduced precision cannot be trusted."""

import copy

import torch
from torch import nn

from medssl.errors import UsageError
from medssl.models.encoder import Encoder


def one_pixel_strides(encoder: Encoder, size: int) -> list[str]:
    """Return the strided convolutions whose input is one pixel wide at an image size.

    On a CPU their bf16 weight gradients hold unwritten memory (torch 2.15.0, oneDNN, seen
    with 3x3, stride 2, on 1x1 and on 4x1 maps; float32 is right). The width alone decides.
    """
    found: list[str] = []
    twin = copy.deepcopy(encoder).eval()
    for name, layer in twin.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d) and max(layer.stride) > 1:

            def look(_: nn.Module, given: tuple[torch.Tensor, ...], name: str = name) -> None:
                if given[0].shape[-1] == 1:
                    found.append(name)

            layer.register_forward_pre_hook(look)
    shape = (1, encoder.channels, *[size] * encoder.dims)
    with torch.inference_mode():
        twin(torch.zeros(shape, device=next(twin.parameters()).device))
    return found


def check_precision(encoder: Encoder, precision: str, size: int) -> None:
    """Refuse bf16 on a CPU where the encoder shrinks its maps to one pixel too early.

    Raises:
        UsageError: the gradients would not be what the settings ask for.
    """
    if precision != "bf16" or torch.cuda.is_available():
        return
    found = one_pixel_strides(encoder, size)
    if found:
        words = (
            f"Images of {size} pixels are one pixel wide before the encoder's {found[0]}; there "
            "bf16 gradients are wrong on a CPU. Use precision=32, or a larger decode.size."
        )
        raise UsageError(words, "E-PRECISION")
