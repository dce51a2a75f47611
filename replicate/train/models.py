"""Builds and initialises the timm model of a run, from a `ModelSpec` and the shape of the data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from timm.models.convnext import ConvNeXt
from timm.models.mlp_mixer import MlpMixer
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from replicate.data import catalogue
from replicate.runs.run import ModelSpec, Run


class Mlp(nn.Sequential):
    """A multilayer perceptron on all pixels at once, which timm lacks: linear layers of the `hidden` sizes with ReLUs.

    The names of its arguments are timm's; the drop rates are always 0 (`NO_STOCHASTIC_LAYERS`).
    """

    def __init__(
        self,
        num_classes: int,
        in_chans: int,
        img_size: int,
        hidden: tuple[int, ...],
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        size = in_chans * img_size**2
        for width in hidden:
            layers += [nn.Linear(size, width), nn.ReLU()]
            size = width
        super().__init__(*layers, nn.Linear(size, num_classes))


CLASSES: dict[str, Any] = {
    "ResNet": ResNet,
    "VisionTransformer": VisionTransformer,
    "ConvNeXt": ConvNeXt,
    "MlpMixer": MlpMixer,
    "Mlp": Mlp,
    "SwinTransformer": SwinTransformer,
}

BLOCKS: dict[str, Any] = {"BasicBlock": BasicBlock, "Bottleneck": Bottleneck}
"""Name of a ResNet's block, as in the record of a run → its class."""

SIZED = (VisionTransformer, MlpMixer, SwinTransformer, Mlp)
"""The classes that need the size of the images; the convolutional networks accept any size."""

NO_STOCHASTIC_LAYERS = {"drop_rate": 0.0, "drop_path_rate": 0.0}
"""No dropout or stochastic depth: the paper mentions neither, but timm's Swin has stochastic depth by default."""


class ModelError(Exception):
    """timm cannot build the model that is described; the message is one line."""


def build(spec: ModelSpec, num_classes: int, in_chans: int, image_size: int) -> torch.nn.Module:
    """The module that `spec` names, initialised by torch's global generator. Raises `ModelError` if timm fails."""
    arguments = dict(spec.arguments)
    arguments |= {"num_classes": num_classes, "in_chans": in_chans, **NO_STOCHASTIC_LAYERS}
    stem = arguments.pop("stem", None)
    if spec.name.startswith("class:"):
        name = spec.name.removeprefix("class:")
        if name not in CLASSES:
            raise ModelError(f"model: expected class:NAME with a NAME of {', '.join(CLASSES)}; got {spec.name!r}")
        cls = CLASSES[name]
        if issubclass(cls, SIZED):
            arguments["img_size"] = image_size
        if "block" in arguments:
            if arguments["block"] not in BLOCKS:
                raise ModelError(f"model: expected block {' or '.join(BLOCKS)}, got {arguments['block']!r}")
            arguments["block"] = BLOCKS[arguments["block"]]
        make: Callable[..., torch.nn.Module] = cls
    else:
        if not timm.is_model(spec.name):
            raise ModelError(f"model: expected a name that timm {timm.__version__} registers, got {spec.name!r}")
        if timm.models.model_entrypoint(spec.name).__module__ in {cls.__module__ for cls in SIZED}:
            arguments["img_size"] = image_size
        make = partial(timm.create_model, spec.name, pretrained=False)
    try:
        model: torch.nn.Module = make(**arguments)
    except (TypeError, ValueError, AssertionError, IndexError) as error:
        raise ModelError(f"model {spec.name}: timm {timm.__version__} refused {arguments}: {error}") from error
    if stem is not None:
        _replace_stem(model, stem)
    return model


def _replace_stem(model: torch.nn.Module, stem: str) -> None:
    """Give a ResNet a stem of one 3 x 3 convolution without stride or pooling, for which timm has no argument."""
    if stem != "3x3" or not isinstance(model, ResNet):
        raise ModelError(f"model: expected stem '3x3' on a ResNet, got stem {stem!r} on a {type(model).__name__}")
    old: Any = model.conv1
    new = torch.nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=False)
    torch.nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")  # as timm does
    model.add_module("conv1", new)
    model.add_module("maxpool", torch.nn.Identity())


def build_seeded(spec: ModelSpec, num_classes: int, in_chans: int, image_size: int, seed: int) -> torch.nn.Module:
    """As `build`, with weights that depend only on `seed`; the global generators are not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(spec, num_classes, in_chans, image_size)


def of_run(run: Run) -> torch.nn.Module:
    """The module of `run` before the first training step."""
    info = catalogue.info(run.data)
    return build_seeded(run.model, info.num_classes, info.in_chans, info.image_size, run.seed)
