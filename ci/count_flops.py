"""Counts the floating-point operations to train timm's real models on one image, and writes the counts as a module.

Run:      python ci/count_flops.py            (a minute on one core, no data, no GPU)
Writes:   replicate/audit/flop_counts.py, which the audit reads without PyTorch
Counted:  forward, and forward with backward, by torch.utils.flop_counter, for a batch of two images (a batch norm in
          training mode needs two), divided by two. A multiply-add is two operations. Element-wise operations and the
          optimiser are not counted.
Sizes:    224 x 224 as published; 32 x 32 with the image size passed to the models that accept one. "Refuses" lists the
          models that raise an error on a 32 x 32 image when built as the paper's script builds them, and the error.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from replicate.paper.protocol import ARCHITECTURES

TARGET = Path(__file__).parents[1] / "replicate" / "audit" / "flop_counts.py"
CLASSES = {224: 1000, 32: 100}
SIZED = ("vit_s16", "mixer_s16", "swin_t")
BATCH = 2


def convolution_backward(
    grad_out_shape: list[int], x_shape: list[int], w_shape: list[int], *arguments: Any, **_: Any
) -> int:
    """The gradients of input and weights cost a forward pass each; PyTorch's own count ignores the groups of depthwise
    convolutions."""
    output_mask = arguments[-1]
    return sum(output_mask[:2]) * 2 * math.prod(grad_out_shape) * math.prod(w_shape[1:])


def model(name: str, size: int, **arguments: Any) -> torch.nn.Module:
    """timm's model in training mode, with unfused attention, whose matrix products are counted."""
    timm.layers.set_fused_attn(False)  # type: ignore[attr-defined]
    return timm.create_model(name, pretrained=False, num_classes=CLASSES[size], **arguments).train()


CORRECTED = {torch.ops.aten.convolution_backward: convolution_backward}


def count(module: torch.nn.Module, size: int) -> tuple[int, int]:
    """Operations of the forward pass, and of forward and backward pass, for one image."""
    images = torch.zeros(BATCH, 3, size, size)
    found = []
    for backward in (False, True):
        counter = FlopCounterMode(display=False, custom_mapping=CORRECTED)
        with counter:
            loss = module(images).square().mean()
            if backward:
                loss.backward()
        found.append(counter.get_total_flops() // BATCH)
    return found[0], found[1]


def refusal(name: str) -> str:
    """The error that the model, built without an image size, raises on a 32 x 32 image; empty if it raises none."""
    try:
        model(name, 32)(torch.zeros(BATCH, 3, 32, 32))
    except (AssertionError, RuntimeError) as error:
        return " ".join(str(error).split())
    return ""


def main() -> None:
    torch.set_num_threads(1)
    rows, refusals = [], []
    for arch in ARCHITECTURES:
        for size in CLASSES:
            sized = {"img_size": size} if size != 224 and arch.name in SIZED else {}
            forward, both = count(model(arch.timm_name, size, **sized), size)
            rows.append(f'    ("{arch.name}", {size}): Flops({forward:_}, {both:_}),\n')
            print(f"{arch.name} at {size}: forward {forward / 1e9:.3f} GFLOP, with backward {both / 1e9:.3f}")
        # The script builds the ViT alone for the size of CIFAR-100's images.
        error = "" if arch.name == "vit_s16" else refusal(arch.timm_name)
        if error:
            refusals.append(f'    "{arch.name}": "{error[:100]}",\n')
            print(f"{arch.name} refuses 32 x 32: {error}")
    TARGET.write_text(
        f'''"""Floating-point operations per training image of timm's models, counted by ci/count_flops.py."""

from __future__ import annotations

from typing import NamedTuple


class Flops(NamedTuple):
    """Operations per image; a multiply-add counts as two."""

    forward: int
    training: int
    """Forward and backward pass."""


COUNTED_WITH = {{"torch": "{torch.__version__.partition("+")[0]}", "timm": "{timm.__version__}"}}

FLOPS: dict[tuple[str, int], Flops] = {{
{"".join(rows)}}}
"""(architecture, image size) → operations."""

REFUSES_32: dict[str, str] = {{
{"".join(refusals)}}}
"""Architecture → the error it raises on a 32 x 32 image when built as the paper's script builds it."""
''',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
