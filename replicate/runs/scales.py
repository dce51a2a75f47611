"""Scales: how large a copy of the paper's experiment is trained, and which runs each part of a claim needs there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from replicate.data import catalogue
from replicate.data.spec import DataSpec
from replicate.paper.cells import Cell
from replicate.paper.claim import Part
from replicate.paper.protocol import (
    ARCHITECTURES,
    BATCH_SIZE,
    EPOCHS,
    KAPPAS,
    LONG_EPOCHS,
    LRS,
    RHO,
    RHO_SGD,
    SCRIPT_BATCH_SIZE,
    SEEDS,
    SGD_MOMENTUM,
    WARMUP_EPOCHS,
    WEIGHT_DECAYS,
)
from replicate.runs import bracket
from replicate.runs.architectures import PAPER_MODELS, SMALL_MODELS, SMALL_MODELS_16, STEM32_MODELS
from replicate.runs.bracket import RULE, Rounds
from replicate.runs.run import ModelSpec, Point, Run, point
from replicate.text import UsageError

__all__ = [
    "PAPER_MODELS",
    "SCALES",
    "SMALL_MODELS",
    "SMALL_MODELS_16",
    "STEM32_MODELS",
    "NotTrained",
    "Scale",
    "points",
]


class NotTrained(Exception):
    """A part that a scale does not train; the message is the reason, fit for a verdict."""


@dataclass(frozen=True)
class Protocol:
    """What is trained on a data set, for how long, and with which seeds."""

    models: tuple[tuple[str, ModelSpec], ...]
    """Paper architecture → timm model."""
    epochs: int
    warmup_epochs: int
    batch_size: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Scale:
    """One copy of the experiment."""

    name: str
    probe: bool
    """True unless it is the paper's protocol: its verdicts then never speak for the paper's own cells."""
    summary: str
    data: tuple[tuple[str, DataSpec], ...]
    """Paper data set → what is trained in its place; a data set left out is not trained at this scale."""
    models: tuple[tuple[str, ModelSpec], ...]
    """Paper architecture → timm model."""
    epochs: int
    warmup_epochs: int
    batch_size: int
    seeds: tuple[int, ...] = SEEDS
    protocols: tuple[tuple[str, Protocol], ...] = ()
    """Paper data set → models, epochs, batch size and seeds there, where they differ from those above."""
    lrs: tuple[float, ...] = LRS
    lrs_sgd: tuple[float, ...] = ()
    """Learning rates of the variant `sgd`; empty: `lrs`."""
    weight_decays: tuple[float, ...] = WEIGHT_DECAYS
    kappas: tuple[float, ...] = KAPPAS
    bracket: tuple[float, ...] | Rounds = RULE
    """Weight decays as multiples of 1 / (lr * steps), the scale on which decay moves the weights at all; with SGD's
    momentum a step counts for 1 / (1 - momentum). A fixed list, or the rule by which results extend it
    (`replicate.runs.rounds`)."""
    augment: tuple[str, ...] = ()
    """For every architecture, in order; names of `replicate.train.augment`."""
    augment_vit: tuple[str, ...] = ()
    """Added for the vision transformers, ViT and Swin."""
    eval_every_epochs: int = 1
    precision: str = "float32"
    """Forward and backward pass: `float32`, or `bf16` as on an accelerator of today."""
    variants: tuple[str, ...] = ("main",)
    """`main`, `sgd`, `batch`, `schedule`, `long`: the kinds of variant that are trained."""
    seconds_per_run: tuple[tuple[str, float], ...] | None = None
    """Architecture → seconds of one core for a run of `main`, measured on a 2-core EPYC server in its quiet moments (a
    busy one takes twice to four times as long); None where no rate has been measured."""
    why_untrainable: str = ""
    """Non-empty: the scale is planned and counted, and this line says why it cannot be trained."""

    def protocol(self, dataset: str) -> Protocol:
        """What is trained for a paper's data set, and for how long."""
        common = Protocol(self.models, self.epochs, self.warmup_epochs, self.batch_size, self.seeds)
        return dict(self.protocols).get(dataset, common)

    def learning_rates(self, variant: str) -> tuple[float, ...]:
        """The peak learning rates of `variant` at the standard batch size, ascending."""
        return self.lrs_sgd or self.lrs if variant == "sgd" else self.lrs


def _by_architecture(*seconds: float) -> tuple[tuple[str, float], ...]:
    """In the paper's order of architectures."""
    return tuple(zip((a.name for a in ARCHITECTURES), seconds, strict=True))


TITLES = {"cifar100": "CIFAR-100", "imagenet": "ImageNet"}
CROP_AND_FLIP = ("random_crop", "horizontal_flip")
RESIZED_CROP_AND_FLIP = ("random_resized_crop", "horizontal_flip")
JITTER = ("color_jitter",)
RANDAUGMENT = ("randaugment",)
ALL_VARIANTS = ("main", "sgd", "batch", "schedule", "long")

SMOKE = Scale(
    name="smoke",
    probe=True,
    summary="6 steps of every kind of run on 8 x 8 digits: shows that the machinery works and nothing else",
    data=(
        ("cifar100", DataSpec("digits", train_images=32, label_noise=0.25, test_images=200)),
        ("imagenet", DataSpec("digits", train_images=32, label_noise=0.25, split_seed=1, test_images=200)),
    ),
    models=SMALL_MODELS,
    epochs=3,
    warmup_epochs=1,
    batch_size=16,
    seeds=(0, 1),
    lrs=(1e-4, 1e-3, 1e-2),
    weight_decays=(0.0, 0.1),
    bracket=Rounds(start=(1,), lowest=1),  # only the longer runs have room for a second round
    eval_every_epochs=2,
    variants=ALL_VARIANTS,
    seconds_per_run=_by_architecture(0.037, 0.03, 0.044, 0.027, 0.041),
)

EMBEDDED = Scale(
    name="embedded",
    probe=True,
    summary="small models of the five families, 80 steps on 192 digits of 8 x 8 pixels, two labels in five wrong",
    # So few images, two labels in five wrong: a model can learn them by heart and loses by it, so that decay has
    # something to mend. The wrong labels and the split are the same for every seed.
    data=(("cifar100", DataSpec("digits", train_images=192, label_noise=0.4)),),
    models=SMALL_MODELS,
    epochs=20,
    warmup_epochs=3,
    batch_size=48,
    seeds=(0, 1, 2),
    # The paper's six, all ten times as large. AdamW moves a weight by about the learning rate a step; in 80 steps in
    # place of the paper's 78,200 the paper's smallest would move none by more than 0.004, and no model would learn.
    lrs=(5e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    eval_every_epochs=10,
    variants=("main", "sgd"),
    seconds_per_run=_by_architecture(0.3, 0.28, 0.42, 0.3, 0.32),
)

EMBEDDED_DEEP = replace(
    EMBEDDED,
    name="embedded-deep",
    summary="as embedded, AdamW alone, three times as long and with five seeds: 240 steps",
    variants=("main",),
    epochs=60,
    warmup_epochs=9,
    eval_every_epochs=30,
    seeds=SEEDS,
    bracket=(0.3, 1.0, 3.0, 10.0, 30.0),
    seconds_per_run=None,
)
"""For a record with the source (`replicate.store.recorded`): more to go by than what a first visit can wait for."""

PROBE = Scale(
    name="probe",
    probe=True,
    summary="small models of the five families, 300 steps on digits and on Fashion-MNIST at 16 x 16, wrong labels",
    data=(
        ("cifar100", DataSpec("digits", train_images=288, label_noise=0.4)),
        ("imagenet", DataSpec("fashion-16", train_images=1024, label_noise=0.4, test_images=2000)),
    ),
    models=SMALL_MODELS,
    epochs=25,
    warmup_epochs=2,
    batch_size=24,
    seeds=tuple(range(100, 110)),
    protocols=(
        (
            "imagenet",
            Protocol(SMALL_MODELS_16, epochs=20, warmup_epochs=2, batch_size=64, seeds=tuple(range(100, 105))),
        ),
    ),
    # The paper's 1e-3 and 1e-2, and others around them: in 300 steps its smaller ones would move no weight by 0.1.
    lrs=(1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
    lrs_sgd=(1e-2, 2e-2, 3e-2, 6e-2, 0.1, 0.2),
    bracket=(0.3, 0.8, 2.0, 5.0, 12.0, 30.0, 75.0, 190.0),
    eval_every_epochs=5,
    variants=ALL_VARIANTS,
)
"""For a record with the source: every claim of the paper, both data sets' parts."""

FASHION = Scale(
    name="fashion",
    probe=True,
    summary="the paper's models and grid on Fashion-MNIST at 32 x 32, a tenth of the epochs",
    data=(("cifar100", DataSpec("fashion")),),
    models=PAPER_MODELS,
    epochs=EPOCHS["cifar100"] // 10,
    warmup_epochs=WARMUP_EPOCHS // 10,
    batch_size=BATCH_SIZE["cifar100"],
    augment=CROP_AND_FLIP,  # grey images have no colours to jitter
    precision="bf16",
    variants=("main", "sgd"),
)

FASHION_SHORT = replace(
    FASHION,
    name="fashion-short",
    summary="the paper's models on 2,048 images of Fashion-MNIST, two labels in five wrong: 512 steps",
    # As at embedded: few enough images, and often enough, that models learn wrong labels by heart.
    data=(("cifar100", DataSpec("fashion", train_images=2048, label_noise=0.4)),),
    epochs=32,
    warmup_epochs=4,
    eval_every_epochs=16,
    seeds=(0, 1, 2),
    variants=("main",),
)
"""For a record with the source (`replicate.store.recorded`) that a GPU trains in minutes for each architecture."""

CIFAR100 = Scale(
    name="cifar100",
    probe=False,
    summary="the paper's protocol on CIFAR-100 at 32 x 32",
    data=(("cifar100", DataSpec("cifar100")),),
    models=PAPER_MODELS,
    epochs=EPOCHS["cifar100"],
    warmup_epochs=WARMUP_EPOCHS,
    batch_size=BATCH_SIZE["cifar100"],
    # Section 3.1 names jitter "for CNNs", "additionally" RandAugment for ViTs. So the ViTs have both, and Mixer, which
    # it does not name, jitter, as on ImageNet in the script.
    augment=CROP_AND_FLIP + JITTER,
    augment_vit=RANDAUGMENT,
    precision="bf16",
    variants=("main", "sgd"),
)

CIFAR100_SCRIPT = replace(
    CIFAR100,
    name="cifar100-script",
    probe=True,
    summary="CIFAR-100 as in the published script: no augmentation beyond crop and flip",
    augment=CROP_AND_FLIP,
    augment_vit=(),
)

CIFAR100_STEM32 = replace(
    CIFAR100,
    name="cifar100-stem32",
    probe=True,
    summary="the paper's protocol on CIFAR-100 with stems and patches fit for 32 x 32",
    models=STEM32_MODELS,
)

IMAGENET = Scale(
    name="imagenet",
    probe=False,
    summary="the paper's protocol on ImageNet at 224 x 224, robustness checks included",
    data=(("imagenet", DataSpec("imagenet")),),
    models=PAPER_MODELS,
    epochs=EPOCHS["imagenet"],
    warmup_epochs=WARMUP_EPOCHS,
    batch_size=BATCH_SIZE["imagenet"],
    augment=RESIZED_CROP_AND_FLIP + JITTER,
    augment_vit=RANDAUGMENT,
    precision="bf16",
    variants=("main", "batch", "schedule", "long"),
)

IMAGENET_SCRIPT = replace(
    IMAGENET,
    name="imagenet-script",
    probe=True,
    summary="ImageNet as in the published script: batches of 256, no RandAugment",
    batch_size=SCRIPT_BATCH_SIZE["imagenet"],
    augment_vit=(),
    variants=("main",),
)

SYNTHETIC = Scale(
    name="synthetic",
    probe=True,
    summary="made-up accuracies of a world whose truth is known (`replicate synthesize`): nothing was trained",
    data=(("cifar100", DataSpec("synthetic-cifar100")), ("imagenet", DataSpec("synthetic-imagenet"))),
    models=PAPER_MODELS,
    epochs=EPOCHS["cifar100"],
    warmup_epochs=WARMUP_EPOCHS,
    batch_size=BATCH_SIZE["cifar100"],
    bracket=(0.1, 0.3, 1.0, 3.0, 10.0),
    variants=ALL_VARIANTS,
    why_untrainable="its runs are made by `replicate synthesize`, never trained",
)

SCALES: dict[str, Scale] = {
    scale.name: scale
    for scale in (
        *(SMOKE, EMBEDDED, EMBEDDED_DEEP, PROBE, FASHION, FASHION_SHORT),
        *(CIFAR100, CIFAR100_SCRIPT, CIFAR100_STEM32),
        *(IMAGENET, IMAGENET_SCRIPT),
        SYNTHETIC,
    )
}


def get(name: str) -> Scale:
    """The scale called `name`; raises `UsageError` where there is none.

    >>> get("smoke").protocol("cifar100").seeds
    (0, 1)
    """
    if name not in SCALES:
        raise UsageError(f"scale: expected one of {', '.join(SCALES)}; got {name!r}")
    return SCALES[name]


def points(scale: Scale, part: Part) -> list[Point]:
    """The landscape points that `part` consists of at `scale`, by learning rate, weight decay, seed; none twice.

    Of a bracket in rounds those of the first round, which are needed in any case: `rounds.points` has the others.
    Raises `NotTrained` where the scale leaves the part out. A scale that cannot be trained has its points all the same:
    `why_untrainable` tells.
    """
    return list(_points(scale, part))


@lru_cache(maxsize=4096)
def _points(scale: Scale, part: Part) -> tuple[Point, ...]:
    _require_trained(scale, part)
    found = []
    for lr in scale.learning_rates(part.variant):
        # The batch-size check scales the learning rate with the batch; a point is filed under the rate really used.
        lr = rounded(lr * _batch_ratio(part))
        for wd in weight_decays(scale, part, lr):
            for seed in scale.protocol(part.cell.dataset).seeds:
                found.append(point(make_run(scale, part.cell, part.variant, lr, wd, seed)))
    return tuple(found)


def make_run(scale: Scale, cell: Cell, variant: str, lr: float, weight_decay: float, seed: int) -> Run:
    """The run of `cell` under `variant` with the peak learning rate `lr`."""
    part = Part(cell, variant, "paper")
    protocol = scale.protocol(cell.dataset)
    epochs = protocol.epochs
    if variant == "long":
        epochs = round(epochs * LONG_EPOCHS / EPOCHS["imagenet"])
    vision_transformer = next(a.vision_transformer for a in ARCHITECTURES if a.name == cell.arch)
    return Run(
        arch=cell.arch,
        model=dict(protocol.models)[cell.arch],
        data=dict(scale.data)[cell.dataset],
        optimizer="sgd" if variant == "sgd" else "adamw",
        lr=lr,
        weight_decay=weight_decay,
        seed=seed,
        schedule=variant.removeprefix("schedule-") if variant.startswith("schedule-") else "cosine",
        epochs=epochs,
        warmup_epochs=protocol.warmup_epochs,
        batch_size=round(protocol.batch_size * _batch_ratio(part)),
        augment=scale.augment + (scale.augment_vit if vision_transformer else ()),
        eval_every_epochs=scale.eval_every_epochs,
        precision=scale.precision,
    )


def steps(run: Run) -> int:
    """How many optimiser steps `run` takes; the last batch of an epoch may be smaller, as in the paper's script."""
    return run.epochs * math.ceil(catalogue.train_size(run.data) / run.batch_size)


def relative_cost(scale: Scale, run: Run) -> float:
    """What `run` costs, as a multiple of a run of its architecture in the variant `main` on the scale's first data set.

    A training costs as much as it looks at pixels, whatever the batch.
    """
    dataset, data = scale.data[0]
    return _pixels(run.data, run.epochs) / _pixels(data, scale.protocol(dataset).epochs)


def _pixels(data: DataSpec, epochs: int) -> float:
    return float(epochs * catalogue.train_size(data) * catalogue.info(data).image_size ** 2)


def weight_decays(scale: Scale, part: Part, lr: float) -> tuple[float, ...]:
    """The weight decays that `part` needs at the peak learning rate `lr`, ascending, rounded to three digits."""
    claimed = RHO_SGD if part.variant == "sgd" else RHO
    if part.grid == "paper":
        values = scale.weight_decays
    elif part.grid == "unit":
        values = (claimed * lr,)
    elif part.grid == "ratio":
        values = tuple(kappa * claimed * lr for kappa in scale.kappas)
    elif part.grid == "bracket":
        moved, taken = moves(scale, part, lr)
        if isinstance(scale.bracket, Rounds):
            values = (0.0, *(bracket.at(place) / moved for place in scale.bracket.within(taken).start))
        else:
            values = tuple(c / moved for c in scale.bracket)
    else:
        raise ValueError(f"expected a grid of paper, unit, ratio, bracket; got {part.grid!r}")
    return tuple(sorted({rounded(v) for v in values}))


def moves(scale: Scale, part: Part, lr: float) -> tuple[float, int]:
    """lr * steps, over which a bracket's weight decays are counted, and the steps of a run."""
    taken = steps(make_run(scale, part.cell, part.variant, lr, 0.0, 0))
    # Momentum sums the gradient, decay included, over 1 / (1 - momentum) steps.
    per_step = lr / (1 - SGD_MOMENTUM) if part.variant == "sgd" else lr
    return per_step * taken, taken


def _require_trained(scale: Scale, part: Part) -> None:
    """Raise `NotTrained` with the reason where `scale` leaves `part` out."""
    kind = part.variant.partition("-")[0]
    if kind not in ALL_VARIANTS:
        raise ValueError(f"expected a variant of {', '.join(ALL_VARIANTS)}; got {part.variant!r}")
    trained = dict(scale.data)
    if part.cell.dataset not in trained:
        raise NotTrained(f"scale {scale.name} trains nothing for {TITLES[part.cell.dataset]}")
    if part.cell.arch not in dict(scale.models):
        raise NotTrained(f"scale {scale.name} has no model for {part.cell.arch}")
    if kind not in scale.variants:
        raise NotTrained(f"scale {scale.name} does not train the variant {part.variant}")
    if kind == "sgd":
        if part.cell.dataset != "cifar100":
            raise NotTrained("the paper trained with SGD on CIFAR-100 alone")
        if not next(a.convolutional for a in ARCHITECTURES if a.name == part.cell.arch):
            raise NotTrained(f"the paper trained with SGD on convolutional networks alone, {part.cell.arch} is none")


def _batch_ratio(part: Part) -> float:
    """The batch of a part's variant as a multiple of the standard batch of its data set in the paper."""
    kind, _, size = part.variant.partition("-")
    return int(size) / BATCH_SIZE[part.cell.dataset] if kind == "batch" else 1.0


def rounded(value: float) -> float:
    """To three digits, so that equal points of different grids are equal numbers."""
    return float(f"{value:.3g}")
