"""The timm models that stand for the paper's five architectures: small ones, the paper's own, ones made for 32 px."""

from __future__ import annotations

from typing import Any

from replicate.paper.protocol import ARCHITECTURES
from replicate.runs.run import ModelSpec


def _model(name: str, **arguments: Any) -> ModelSpec:
    return ModelSpec(name, tuple(arguments.items()))


SMALL_MODELS = tuple(
    {
        "resnet50": _model("class:ResNet", block="BasicBlock", layers=(1, 1, 0, 0), channels=(16, 64, 64, 64)),
        "vit_s16": _model(
            "class:VisionTransformer",
            patch_size=4,
            embed_dim=64,
            depth=1,
            num_heads=4,
            class_token=False,
            global_pool="avg",
        ),
        "convnext_t": _model(
            "class:ConvNeXt",
            depths=(0, 1, 1, 0),
            dims=(8, 16, 32, 32),
            patch_size=1,
            kernel_sizes=3,
            ls_init_value=None,
        ),
        "mixer_s16": _model("class:MlpMixer", patch_size=4, embed_dim=64, num_blocks=1),
        "swin_t": _model(
            "class:SwinTransformer", patch_size=4, embed_dim=32, depths=(1, 1), num_heads=(1, 2), window_size=2
        ),
    }.items()
)
"""The smallest timm models of the five families that learn 8 x 8 images in a hundred steps of 3-4 ms on a CPU.

Halving 8 pixels three times leaves 1, so two of the four stages of the convolutional networks have no block. Patches of
4 x 4 pixels make a 2 x 2 grid of tokens: Swin has one window, which cannot be shifted, and then merges its patches. The
ViT pools its tokens because a class token learns too slowly. ConvNeXt has no layer scale, since layer scale starts at
1e-6 and would need thousands of steps before the blocks contribute.
"""


def _with(model: ModelSpec, **changes: Any) -> ModelSpec:
    """`model` with some arguments changed or added."""
    return _model(model.name, **{**dict(model.arguments), **changes})


_AT_16: dict[str, dict[str, Any]] = {
    "resnet50": {"stem_type": "deep", "stem_width": 8},
    "vit_s16": {"patch_size": 8},
    "convnext_t": {"depths": (1, 1, 0, 0), "dims": (16, 32, 32, 32), "patch_size": 4, "output_stride": 8},
    "mixer_s16": {"patch_size": 8},
    "swin_t": {"patch_size": 8},
}
SMALL_MODELS_16 = tuple((arch, _with(model, **_AT_16[arch])) for arch, model in SMALL_MODELS)
"""`SMALL_MODELS` for 16 x 16 images: the same numbers of tokens and blocks, on grids of the same sizes.

ResNet begins with three narrow convolutions instead of a wide one of 7 x 7 pixels, and ConvNeXt with patches of 4 x 4
pixels; a run takes 0.6 times as long as with `SMALL_MODELS`. ConvNeXt does not halve a 2 x 2 grid (`output_stride`),
because no pixel would be left for its fourth stage.
"""

PAPER_MODELS = tuple((a.name, ModelSpec(a.timm_name)) for a in ARCHITECTURES)
"""The paper's models as registered in timm: with ImageNet stems and patches, and the data's image size where accepted.

At 32 px the published script fails for Mixer and Swin, because it passes the image size to ViT only; here all three get
it. The stems leave little of a 32 px image: patches of 16 px give 4 tokens, Swin has 8 x 8 tokens for windows of 7 x 7,
and ResNet-50 and ConvNeXt-T begin at 8 x 8 and end at 1 x 1 positions.
"""

STEM32_MODELS = (
    ("resnet50", _model("resnet50", stem="3x3")),
    ("vit_s16", _model("vit_small_patch16_224", patch_size=4)),
    ("convnext_t", _model("convnext_tiny", patch_size=1)),
    ("mixer_s16", _model("class:MlpMixer", patch_size=4, num_blocks=8, embed_dim=512)),
    ("swin_t", _model("swin_tiny_patch4_window7_224", patch_size=2, window_size=4)),
)
"""The paper's models with stems made for 32 px; everything after the stem is unchanged.

ResNet-50 begins with a 3 x 3 convolution without stride or pooling, as is usual on CIFAR, and ConvNeXt-T with single
pixels, because with patches of 2 px timm would halve the image once more. Both begin at 32 x 32 and end at 4 x 4. ViT
and Mixer have 64 tokens of 4 x 4 pixels, Swin 16 x 16 tokens of 2 x 2 pixels in windows of 4 x 4. Mixer is built from
its class, because timm's registered Mixers have a fixed patch size.
"""
