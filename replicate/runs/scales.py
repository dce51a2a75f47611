"""Scales: the paper's experiment in different sizes, and the runs that a claim needs at a scale, grid by grid."""

from __future__ import annotations

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
from replicate.runs import bracket, decay, schedule
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
    """A scale does not train what a claim needs; the message is the reason, as a verdict shows it."""


@dataclass(frozen=True)
class Protocol:
    """Models, length of training and seeds on one data set."""

    models: tuple[tuple[str, ModelSpec], ...]
    """Paper architecture → timm model."""
    epochs: int
    warmup_epochs: int
    batch_size: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Scale:
    """The paper's experiment in one size: data, models, length of training, grids and seeds."""

    name: str
    probe: bool
    """Whether the scale departs from the paper's protocol: its verdicts then say nothing about the paper's cells."""
    summary: str
    data: tuple[tuple[str, DataSpec], ...]
    """Paper data set → what is trained in its place; data sets left out are not trained at this scale."""
    models: tuple[tuple[str, ModelSpec], ...]
    """Paper architecture → timm model."""
    epochs: int
    warmup_epochs: int
    batch_size: int
    seeds: tuple[int, ...] = SEEDS
    protocols: tuple[tuple[str, Protocol], ...] = ()
    """Paper data set → models, epochs, batch size and seeds, if they differ from the fields above."""
    lrs: tuple[float, ...] = LRS
    lrs_sgd: tuple[float, ...] = ()
    """Learning rates of the variant `sgd`; if empty, the same as `lrs`."""
    weight_decays: tuple[float, ...] = WEIGHT_DECAYS
    kappas: tuple[float, ...] = KAPPAS
    bracket: tuple[float, ...] | Rounds = RULE
    """Weight decays as multiples of 1 / (lr * steps), at which weight decay begins to matter (for SGD lr / (1 -
    momentum) replaces lr): a fixed list, or a rule that chooses them from results (`replicate.runs.rounds`)."""
    no_effect_below: float = 0.0
    """If weight decay alone would shrink the weights by less than this fraction over a training, the run with weight
    decay 0 is trained in its place: the mean accuracies are equal (docs/evidence.md). 0: only a weight decay that
    float32 rounds away is replaced."""
    augment: tuple[str, ...] = ()
    """Augmentations of all architectures, in order: names in `replicate.train.augment`."""
    augment_vit: tuple[str, ...] = ()
    """Further augmentations for the vision transformers, ViT and Swin."""
    eval_every_epochs: int = 1
    precision: str = "float32"
    """Precision of the forward and backward pass: `float32` or `bf16`."""
    variants: tuple[str, ...] = ("main",)
    """The kinds of training that the scale has, `main` and deviations from it: a subset of `ALL_VARIANTS`."""
    seconds_per_run: tuple[tuple[str, float], ...] | None = None
    """Architecture → seconds of one core for a run of the variant `main`, on an idle 2-core EPYC server (a busy server
    takes two to four times as long); None if not measured."""
    why_untrainable: str = ""
    """Why the scale cannot be trained, only planned; empty if it can."""

    def protocol(self, dataset: str) -> Protocol:
        """The protocol on the paper's data set `dataset`."""
        common = Protocol(self.models, self.epochs, self.warmup_epochs, self.batch_size, self.seeds)
        return dict(self.protocols).get(dataset, common)

    def learning_rates(self, variant: str) -> tuple[float, ...]:
        """The peak learning rates of `variant` at the standard batch size, ascending."""
        return self.lrs_sgd or self.lrs if variant == "sgd" else self.lrs


def _by_architecture(*seconds: float) -> tuple[tuple[str, float], ...]:
    """Architecture → seconds, given in the paper's order of architectures."""
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
    bracket=Rounds(start=(1,), lowest=1),  # only the variant `long` has enough steps for a second place
    eval_every_epochs=2,
    variants=ALL_VARIANTS,
    seconds_per_run=_by_architecture(0.037, 0.03, 0.044, 0.027, 0.041),
)

EMBEDDED = Scale(
    name="embedded",
    probe=True,
    summary="small models of the five families, 150 steps on 288 digits of 8 x 8 pixels, two labels in five wrong",
    # With so few images a model memorises the wrong labels, which costs accuracy that weight decay can win back. The
    # wrong labels and the split are the same for every seed. Length, learning rates and seeds are those with which most
    # optima are enclosed for the time (benchmarks/pilot.py, table in docs/evidence.md).
    data=(("cifar100", DataSpec("digits", train_images=288, label_noise=0.4)),),
    models=SMALL_MODELS,
    epochs=25,
    warmup_epochs=3,
    batch_size=48,
    seeds=(0, 1, 2),
    # AdamW moves a weight by about the learning rate per step: over 150 steps instead of the paper's 78,200, the
    # paper's smaller rates would move no weight by 0.1, and below a rate of 5e-3 no weight decay improves accuracy.
    lrs=(5e-3, 1e-2, 2e-2, 5e-2, 0.1),
    lrs_sgd=(1e-2, 3e-2, 0.1),
    no_effect_below=0.01,
    eval_every_epochs=13,
    variants=("main", "sgd"),
    seconds_per_run=_by_architecture(1.4, 0.9, 1.2, 0.9, 0.8),
)

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
    # The paper's 1e-3 and 1e-2, and rates near them: in 300 steps its smaller rates would move no weight by 0.1.
    lrs=(1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
    lrs_sgd=(1e-2, 2e-2, 3e-2, 6e-2, 0.1, 0.2),
    bracket=(0.3, 0.8, 2.0, 5.0, 12.0, 30.0, 75.0, 190.0),
    no_effect_below=0.01,
    eval_every_epochs=5,
    variants=ALL_VARIANTS,
)
"""For every claim, with other images in place of CIFAR-100 and ImageNet; its recorded runs come with the code."""

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
    # As at the scale embedded, few enough images for models to memorise the wrong labels.
    data=(("cifar100", DataSpec("fashion", train_images=2048, label_noise=0.4)),),
    epochs=32,
    warmup_epochs=4,
    eval_every_epochs=16,
    seeds=(0, 1, 2),
    variants=("main",),
)
"""Takes minutes per architecture on a GPU: for runs to come with the source code (`replicate.store.recorded`)."""

CIFAR100 = Scale(
    name="cifar100",
    probe=False,
    summary="the paper's protocol on CIFAR-100 at 32 x 32",
    data=(("cifar100", DataSpec("cifar100")),),
    models=PAPER_MODELS,
    epochs=EPOCHS["cifar100"],
    warmup_epochs=WARMUP_EPOCHS,
    batch_size=BATCH_SIZE["cifar100"],
    # Section 3.1 names jitter "for CNNs" and "additionally" RandAugment for ViTs, so the ViTs get both. Mixer, which is
    # not mentioned there, gets jitter, as in the paper's script for ImageNet.
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
        *(SMOKE, EMBEDDED, PROBE, FASHION, FASHION_SHORT),
        *(CIFAR100, CIFAR100_SCRIPT, CIFAR100_STEM32),
        *(IMAGENET, IMAGENET_SCRIPT),
        SYNTHETIC,
    )
}


def get(name: str) -> Scale:
    """The scale called `name`; raises `UsageError` if no scale has that name.

    >>> get("smoke").protocol("cifar100").seeds
    (0, 1)
    """
    if name not in SCALES:
        raise UsageError(f"scale: expected one of {', '.join(SCALES)}; got {name!r}")
    return SCALES[name]


def points(scale: Scale, part: Part) -> list[Point]:
    """The distinct landscape points of `part` at `scale`, sorted by learning rate, weight decay, seed.

    Weight decays chosen from results (`replicate.runs.bracket`) are left out, but for the first round's, which are
    always needed; `rounds.points` adds them. Scales that cannot be trained have points too. Raises `NotTrained` if the
    scale does not train the part.
    """
    return list(_points(scale, part))


@lru_cache(maxsize=4096)
def _points(scale: Scale, part: Part) -> tuple[Point, ...]:
    _require_trained(scale, part)
    found = []
    for lr in scale.learning_rates(part.variant):
        # The batch-size variants scale the learning rate with the batch size; the point has the scaled rate.
        lr = rounded(lr * _batch_ratio(part))
        for wd in weight_decays(scale, part, lr):
            for seed in scale.protocol(part.cell.dataset).seeds:
                found.append(as_point(scale, make_run(scale, part.cell, part.variant, lr, wd, seed)))
    return tuple(found)


def make_run(scale: Scale, cell: Cell, variant: str, lr: float, weight_decay: float, seed: int) -> Run:
    """The run of `cell` (architecture on a data set) in the variant `variant` with the peak learning rate `lr`."""
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


def as_point(scale: Scale, run: Run) -> Point:
    """The landscape point of `run`; a weight decay below the scale's `no_effect_below` becomes 0 in the trained run."""
    if (
        run.weight_decay > 0
        and scale.no_effect_below > 0
        and decay.share(run, run.weight_decay) < scale.no_effect_below
    ):
        return Point(run.lr, run.weight_decay, run.seed, replace(run, weight_decay=0.0))
    return point(run)


def relative_cost(scale: Scale, run: Run) -> float:
    """The cost of `run` relative to a run of its architecture in the variant `main` on the scale's first data set.

    Cost is taken as proportional to the number of pixels trained on, whatever the batch size.
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
        raise ValueError(f"grid: expected one of paper, unit, ratio, bracket; got {part.grid!r}")
    return tuple(sorted({rounded(v) for v in values}))


def moves(scale: Scale, part: Part, lr: float) -> tuple[float, int]:
    """The divisor of `Scale.bracket`'s multiples, lr * steps (for SGD over 1 - momentum), and the number of steps."""
    taken = schedule.steps(make_run(scale, part.cell, part.variant, lr, 0.0, 0))
    # Momentum multiplies the effect of each gradient, decay included, by 1 / (1 - momentum).
    per_step = lr / (1 - SGD_MOMENTUM) if part.variant == "sgd" else lr
    return per_step * taken, taken


def _require_trained(scale: Scale, part: Part) -> None:
    """Raise `NotTrained`, with the reason, if `scale` does not train `part`."""
    kind = part.variant.partition("-")[0]
    if kind not in ALL_VARIANTS:
        raise ValueError(f"variant: expected one of {', '.join(ALL_VARIANTS)}; got {part.variant!r}")
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
            raise NotTrained(f"with SGD the paper trained only convolutional networks; {part.cell.arch} is not one")


def _batch_ratio(part: Part) -> float:
    """The batch size of a part's variant as a multiple of the paper's standard batch size on the part's data set."""
    kind, _, size = part.variant.partition("-")
    return int(size) / BATCH_SIZE[part.cell.dataset] if kind == "batch" else 1.0


def rounded(value: float) -> float:
    """`value` to three digits, so that equal points of different grids are equal numbers."""
    return float(f"{value:.3g}")
