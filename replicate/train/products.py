"""Replaces layers of a model by forms that a GPU computes faster for many lanes and inputs of a known shape."""

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
"""Type of a layer → function that replaces the layer in place if the replacement is faster for this shape of input."""


def as_products(model: nn.Module, example: Tensor) -> nn.Module:
    """Replace layers of `model` in place by forms that a GPU computes faster for images of the size of `example`.

    `example` [B, C, H, W]: only its size matters; the model then accepts no other size. Outputs and gradients stay the
    same apart from rounding. Parameters keep their names, but some get another layout (`layers`, `tokens`), without the
    weights that cannot influence the output; a parameter with no other weights is removed. The change of layout does
    not depend on the weights' values, so gradients of the original model can be converted in the same way.
    """
    shapes = _shapes(model, example)
    for name, module in list(model.named_modules()):
        if len(shapes.get(name, ())) == 1:
            REPLACED[type(module)](module, *shapes[name])
    return model


def _shapes(model: nn.Module, example: Tensor) -> dict[str, set[torch.Size]]:
    """The shapes of the inputs of each layer in `REPLACED`, found by a pass through a copy on the meta device."""
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
