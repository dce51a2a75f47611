"""Floating-point operations per training image of timm's models, counted by ci/count_flops.py."""

from __future__ import annotations

from typing import NamedTuple


class Flops(NamedTuple):
    """Operations per image; a multiply-add counts as two."""

    forward: int
    training: int
    """Forward and backward pass."""


COUNTED_WITH = {"torch": "2.14.1", "timm": "1.0.31"}

FLOPS: dict[tuple[str, int], Flops] = {
    ("resnet50", 224): Flops(8_178_368_512, 24_299_077_632),
    ("resnet50", 32): Flops(167_231_488, 496_877_568),
    ("vit_s16", 224): Flops(9_197_764_608, 27_477_688_320),
    ("vit_s16", 32): Flops(215_233_536, 643_341_312),
    ("convnext_t", 224): Flops(8_911_062_528, 26_704_286_208),
    ("convnext_t", 32): Flops(181_980_672, 545_352_192),
    ("mixer_s16", 224): Flops(7_553_916_928, 22_507_610_112),
    ("mixer_s16", 32): Flops(154_243_072, 459_583_488),
    ("swin_t", 224): Flops(8_981_133_312, 26_914_498_560),
    ("swin_t", 32): Flops(205_077_504, 614_642_688),
}
"""(architecture, image size) → operations."""

REFUSES_32: dict[str, str] = {
    "mixer_s16": "Input height (32) doesn't match model (224).",
    "swin_t": "Input height (32) doesn't match model (224).",
}
"""Architecture → the error it raises on a 32 x 32 image when built as the paper's script builds it."""
