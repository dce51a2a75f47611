"""A model's layers replaced by those that a GPU computes fast for many lanes, where the shapes of inputs say so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from replicate.train import layers, tokens

REPLACED: dict[type[nn.Module], Callable[[Any, torch.Size], None]] = {
    nn.Conv2d: layers.replace_convolution,
    nn.BatchNorm2d: layers.replace_normalisation,
    nn.Linear: layers.replace_linear,
    Mlp: tokens.replace_mlp,
    Attention: tokens.replace_attention,
    SwinTransformerBlock: tokens.replace_windows,
}
"""What may take the place of a layer of exactly that type, given the shape of its input."""


def as_products(model: nn.Module, example: Tensor) -> nn.Module:
    """`model`, in place, with the layers replaced that a GPU computes faster otherwise for images like `example`.

    `example` [B, C, H, W]: its size counts, not what it shows, nor its type or device; the model then takes that size
    only. Outputs and gradients stay the same but for rounding. Parameters keep their names; some are laid out
    otherwise, without the weights that cannot change the output (`layers`, `tokens`), and one that holds no others is
    gone. This depends on values nowhere, so it takes gradients of the plain model to those of the converted.
    """
    shapes = _shapes(model, example)
    for name, module in list(model.named_modules()):
        if len(shapes.get(name, ())) == 1:
            REPLACED[type(module)](module, *shapes[name])
    return model


def _shapes(model: nn.Module, example: Tensor) -> dict[str, set[torch.Size]]:
    """The shapes of the inputs of each layer that may be replaced, by a pass through a copy without numbers."""
    shapes: dict[str, set[torch.Size]] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda _, inputs: shapes.setdefault(name, set()).add(inputs[0].shape)

    ghost = copy.deepcopy(model).to("meta").eval()
    for name, module in ghost.named_modules():
        if type(module) in REPLACED:
            module.register_forward_pre_hook(note(name))
    kind = next((p.dtype for p in ghost.parameters()), example.dtype)
    with torch.no_grad():
        ghost(torch.empty_like(example, dtype=kind, device="meta"))
    return shapes
