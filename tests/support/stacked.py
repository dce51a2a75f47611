"""Stacks that train in a moment, in float64 where that is asked for, and how their results are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from replicate.data import catalogue
from replicate.data.spec import DataSpec
from replicate.runs.result import Result
from replicate.runs.run import ModelSpec, Run
from replicate.train import batches, inputs, models
from replicate.train.lanes import Lanes

DATA = DataSpec("digits", train_images=20, split_seed=77)
"""20 images for training, so that the third batch of 8 is smaller, and 30 of the others to test on."""

MODELS = {
    # 8 channels at least: with fewer, a strided 1 × 1 convolution of oneDNN 3.12 writes past its memory on AVX2.
    "resnet50": ModelSpec(
        "class:ResNet", (("block", "BasicBlock"), ("layers", (1, 1, 0, 0)), ("channels", (8, 8, 8, 8)))
    ),
    "vit_s16": ModelSpec(
        "class:VisionTransformer", (("patch_size", 4), ("embed_dim", 8), ("depth", 1), ("num_heads", 2))
    ),
    "convnext_t": ModelSpec(
        "class:ConvNeXt", (("depths", (1, 1, 0, 0)), ("dims", (4, 8, 8, 8)), ("patch_size", 2), ("output_stride", 8))
    ),
    "mixer_s16": ModelSpec("class:MlpMixer", (("patch_size", 4), ("embed_dim", 8), ("num_blocks", 1))),
    # Two blocks in the first stage, so that one has shifted windows and their mask.
    "swin_t": ModelSpec(
        "class:SwinTransformer",
        (("patch_size", 2), ("embed_dim", 8), ("depths", (2, 1)), ("num_heads", (2, 2)), ("window_size", 2)),
    ),
}


RUN = Run(
    arch="mixer_s16",
    model=MODELS["mixer_s16"],
    data=DataSpec("digits", train_images=20, test_images=30),
    optimizer="adamw",
    lr=1e-2,
    weight_decay=0.1,
    seed=3,
    schedule="cosine",
    epochs=2,
    warmup_epochs=1,
    batch_size=8,
)


@pytest.fixture
def no_fallback() -> Iterator[None]:
    """vmap's loop over lanes, for operations without a batching rule, is an error (a warning is one as well)."""
    torch._C._functorch._set_vmap_fallback_enabled(False)
    yield
    torch._C._functorch._set_vmap_fallback_enabled(True)


forget_inputs = inputs._on_device.cache_clear


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both trainers compute in float64, on few test images."""
    build, load = models.build_seeded, catalogue.load

    def load_float64(spec: DataSpec) -> catalogue.Split:
        split = load(spec)
        dtype = np.uint8 if split.train_images.dtype == np.uint8 else np.float64
        return dataclasses.replace(
            split,
            train_images=split.train_images.astype(dtype),
            test_images=split.test_images[:30].astype(dtype),
            test_labels=split.test_labels[:30],
        )

    monkeypatch.setattr(models, "build_seeded", lambda *a, **k: build(*a, **k).double())
    monkeypatch.setattr(catalogue, "load", load_float64)
    monkeypatch.setattr(batches, "DTYPE", torch.float64)
    forget_inputs()
    yield
    forget_inputs()


def make(arch: str = "mixer_s16", lr: float = 1e-2, weight_decay: float = 0.1, **changes: object) -> Run:
    """Four epochs of three steps."""
    run = Run(
        arch=arch,
        model=MODELS[arch],
        data=DATA,
        optimizer="adamw",
        lr=lr,
        weight_decay=weight_decay,
        seed=3,
        schedule="cosine",
        epochs=4,
        warmup_epochs=1,
        batch_size=8,
        eval_every_epochs=2,
    )
    return dataclasses.replace(run, **changes)  # type: ignore[arg-type]


def close(got: Result, expected: Result) -> bool:
    """Equal but for 1e-10 in the loss and the seconds taken."""
    if expected.train_loss is None or got.train_loss is None:
        same_loss = got.train_loss is expected.train_loss
    else:
        same_loss = abs(got.train_loss - expected.train_loss) < 1e-10
    blank = {"train_loss": 0.0, "seconds": 0.0, "diverged": False}
    return (
        same_loss
        and got.diverged == expected.diverged
        and dataclasses.replace(got, **blank) == dataclasses.replace(expected, **blank)
    )


def timeless(results: Iterable[Result]) -> list[Result]:
    return [dataclasses.replace(r, seconds=0.0) for r in results]


def load_lane(lanes: Lanes, lane: int, model: nn.Module) -> None:
    """Set one lane to the weights and statistics of `model`."""
    for weights, p in zip(lanes.weights, model.parameters(), strict=True):
        weights[lane] = p.detach()
    for name, statistic in lanes.statistics.items():
        statistic[lane] = model.get_buffer(name)
    lanes.round()
