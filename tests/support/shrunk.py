"""A pytest plugin (`-p tests.support.shrunk`): the large scales with small models, few images and a small grid.

Names, data formats, augmentation and the way through pytest stay theirs, so that a pass takes a minute on a CPU. Runs
carry their own record, so processes that only train need no plugin.
"""

from __future__ import annotations

from dataclasses import replace

from replicate.data.spec import DataSpec
from replicate.runs.run import ModelSpec
from replicate.runs.scales import SCALES, SMALL_MODELS, Scale

TRAIN_IMAGES, TEST_IMAGES = 24, 12


def shrunk(scale: Scale) -> Scale:
    """One epoch of three steps on a grid of at most a few points at each of two learning rates."""
    return replace(
        scale,
        models=tuple((arch, _coarse(model) if "imagenet" in scale.name else model) for arch, model in SMALL_MODELS),
        data=tuple(
            (paper, DataSpec(spec.name, train_images=TRAIN_IMAGES, test_images=TEST_IMAGES))
            for paper, spec in scale.data
        ),
        epochs=1,
        warmup_epochs=0,
        batch_size=8,
        seeds=(0, 1),
        lrs=(1e-3, 1e-2),
        weight_decays=(0.0, 0.1),
        kappas=(0.1, 1.0, 10.0),
        bracket=(1.0,),
    )


def _coarse(model: ModelSpec) -> ModelSpec:
    """`model`, made for 8 x 8 pixels, with patches for 224 x 224."""
    patch = {"class:ConvNeXt": 8, "class:VisionTransformer": 32, "class:MlpMixer": 32, "class:SwinTransformer": 8}
    arguments = dict(model.arguments)
    if model.name in patch:
        arguments["patch_size"] = patch[model.name]
    return replace(model, arguments=tuple(arguments.items()))


for _name in ("fashion", "cifar100", "cifar100-script", "imagenet"):
    SCALES[_name] = shrunk(SCALES[_name])
