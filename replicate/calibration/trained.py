"""The trained landscapes of the calibration, with a dense grid and many seeds so that their truth is known.

Small models of the paper's five families and a plain perceptron memorise a few hundred images with many wrong labels,
which costs them test accuracy: weight decay can help. Weight decays are given as c = λ · Σηₜ: without gradients, the
weights would shrink by the factor exp(-c) over training. Every learning rate has the same values of c: 0, some without
effect, and a dense grid, which ends where nothing is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replicate.data import catalogue
from replicate.data.spec import DataSpec
from replicate.runs import decay
from replicate.runs.architectures import SMALL_MODELS, SMALL_MODELS_16
from replicate.runs.run import ModelSpec, Run

SEEDS = 40
"""The truth is the optimum of all seeds together; its standard error comes from random halves of the seeds."""
FACTOR = 1.6
"""Ratio of neighbouring weight decays."""
IDLE = (0.0, 0.001, 0.004, 0.016)
"""Values of c = λ · Σηₜ without visible effect: decay shrinks the weights by at most 1.6 % over training."""
LEAST = 0.04
"""Smallest c = λ · Σηₜ of the dense grid."""
EPOCHS, WARMUP_EPOCHS, BATCH_SIZE, TRAIN_IMAGES = 25, 2, 24, 288
"""Together, 300 optimiser steps."""
TESTED = 1500
"""Number of test images, for data sets that have more."""
WRONG_LABELS = 0.4
FINER = tuple(FACTOR ** (k / 3) for k in (-2, -1, 1, 2))
"""Further weight decays around the best one, as multiples of it: they make the truth more precise than estimates."""

ADAMW_LRS = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
SGD_LRS = (1e-2, 2e-2, 3e-2, 6e-2, 0.1, 0.2)
"""The smallest are too small for 300 steps; at the largest, some models diverge (pilot runs with one seed)."""

COLLAPSE = {"adamw": (11.0, 18.0, 46.0, 70.0, 110.0, 180.0), "sgd": (4.6, 7.0, 11.0, 18.0, 29.0, 70.0)}
"""Optimiser → by learning rate, the smallest c at which pilot runs (one seed) learnt nothing: there the grid ends."""

DIGITS = DataSpec("digits", train_images=TRAIN_IMAGES, label_noise=WRONG_LABELS)
FASHION = DataSpec("fashion-16", train_images=TRAIN_IMAGES, label_noise=WRONG_LABELS, test_images=TESTED)

_SMALL, _SMALL_16 = dict(SMALL_MODELS), dict(SMALL_MODELS_16)


MLP = ModelSpec("class:Mlp", (("hidden", (64, 64)),))


@dataclass(frozen=True)
class Trained:
    """One landscape: a model on a data set with an optimiser, over learning rates, weight decays and seeds."""

    family: str
    model: ModelSpec
    data: DataSpec
    optimizer: str
    peaks: tuple[int | None, ...] = ()
    """By learning rate, the index in the dense grid of the best weight decay over all seeds; None where decay does not
    help. Empty until twenty seeds have been trained."""

    @property
    def lrs(self) -> tuple[float, ...]:
        """Peak learning rates, ascending."""
        return SGD_LRS if self.optimizer == "sgd" else ADAMW_LRS

    @property
    def name(self) -> str:
        """Name on the command line and of the file, e.g. `vit_s16-digits-adamw`."""
        return f"{self.family}-{self.data.name}-{self.optimizer}"

    def weight_decays(self, lr: float) -> tuple[float, ...]:
        """The weight decays at the peak learning rate `lr`, ascending."""
        most = COLLAPSE[self.optimizer][self.lrs.index(lr)]
        dense: list[float] = []
        while not dense or dense[-1] < most:
            dense.append(LEAST * FACTOR ** len(dense))
        return self._at(lr, (*IDLE, *dense))

    def finer(self, lr: float) -> tuple[float, ...]:
        """Further weight decays at the peak learning rate `lr`, ascending, around the best of `weight_decays`."""
        peak = self.peaks[self.lrs.index(lr)] if self.peaks else None
        return () if peak is None else self._at(lr, [LEAST * FACTOR**peak * times for times in FINER])

    def _at(self, lr: float, exponents: Sequence[float]) -> tuple[float, ...]:
        of_one = self.exponent(lr, 1.0)
        return tuple(float(f"{c / of_one:.4g}") for c in exponents)

    def exponent(self, lr: float, weight_decay: float) -> float:
        """c = λ · Σηₜ: decay alone would multiply the weights by exp(-c) over training."""
        return decay.exponent(self._run(lr, weight_decay, 0))

    def runs(self, seed: int) -> list[Run]:
        """The runs with `seed`, ordered by learning rate."""
        return [self._run(lr, wd, seed) for lr in self.lrs for wd in (*self.weight_decays(lr), *self.finer(lr))]

    def _run(self, lr: float, weight_decay: float, seed: int) -> Run:
        return Run(
            arch=self.family,
            model=self.model,
            data=self.data,
            optimizer=self.optimizer,
            lr=lr,
            weight_decay=weight_decay,
            seed=seed,
            schedule="cosine",
            epochs=EPOCHS,
            warmup_epochs=WARMUP_EPOCHS,
            batch_size=BATCH_SIZE,
            eval_every_epochs=EPOCHS,
        )

    @property
    def tested(self) -> int:
        """Number of images on which a run is tested."""
        return catalogue.test_size(self.data)

    def accuracy_pp(self, right: int | None) -> float | None:
        """Accuracy in percent if `right` test images are classified as labelled; None for a diverged run."""
        return None if right is None else 100 * right / self.tested


LANDSCAPES = {
    landscape.name: landscape
    for landscape in (
        Trained("resnet50", _SMALL["resnet50"], DIGITS, "adamw"),
        Trained("convnext_t", _SMALL["convnext_t"], DIGITS, "adamw", (4, 6, 8, 9, 10, 11)),
        Trained("swin_t", _SMALL["swin_t"], DIGITS, "adamw", (6, 7, 9, 10, 9, 10)),
        Trained("mlp", MLP, DIGITS, "adamw", (None, 6, 8, 10, 11, 12)),
        Trained("vit_s16", _SMALL_16["vit_s16"], FASHION, "adamw"),
        Trained("mixer_s16", _SMALL_16["mixer_s16"], FASHION, "adamw"),
        Trained("mlp", MLP, FASHION, "adamw", (None, None, 7, 9, 9, 9)),
        Trained("resnet50", _SMALL["resnet50"], DIGITS, "sgd"),
        Trained("mlp", MLP, DIGITS, "sgd", (None, 5, 7, 9, 10, 10)),
    )
}
