"""Landscapes that are really trained, densely and with many seeds, so that their truth is known: which, and their runs.

Small models of the paper's five families and a plain perceptron learn a few hundred images with many wrong labels by
heart, and lose by it: decay has something to mend. Every learning rate has the same weight decays in terms of
c = λ · Σηₜ, the exponent by which decay alone would have shrunk the weights at the end: from none over such that does
nothing to such that leaves nothing to learn with.
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
"""The truth is the optimum of all seeds together; its own error is known from halves of them."""
FACTOR = 1.6
"""From a weight decay to the next."""
IDLE = (0.0, 0.001, 0.004, 0.016)
"""Values of c at which decay does nothing that could be seen: 1.6 % of the weights over a training, or less."""
LEAST = 0.04
"""The value of c at which the dense grid begins."""
EPOCHS, WARMUP_EPOCHS, BATCH_SIZE, TRAIN_IMAGES = 25, 2, 24, 288
"""300 steps."""
TESTED = 1500
"""Images that a run is tested on, where there are more."""
WRONG_LABELS = 0.4
FINER = tuple(FACTOR ** (k / 3) for k in (-2, -1, 1, 2))
"""Further weight decays around the best one, by which the truth is known more closely than any study can tell."""

ADAMW_LRS = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
SGD_LRS = (1e-2, 2e-2, 3e-2, 6e-2, 0.1, 0.2)
"""From such that 300 steps hardly suffice for, to such that some models do not bear: by pilot runs of one seed."""

COLLAPSE = {"adamw": (11.0, 18.0, 46.0, 70.0, 110.0, 180.0), "sgd": (4.6, 7.0, 11.0, 18.0, 29.0, 70.0)}
"""By learning rate, the least c at which nothing is learnt any more: there the grid ends. Pilot runs of one seed."""

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
    """By learning rate, which weight decay of the dense grid is best of all seeds; None where decay does not
    help. Empty until twenty seeds have shown it."""

    @property
    def lrs(self) -> tuple[float, ...]:
        """Peak learning rates, ascending."""
        return SGD_LRS if self.optimizer == "sgd" else ADAMW_LRS

    @property
    def name(self) -> str:
        """By which it is asked for and filed, e.g. `vit_s16-digits-adamw`."""
        return f"{self.family}-{self.data.name}-{self.optimizer}"

    def weight_decays(self, lr: float) -> tuple[float, ...]:
        """Those at the peak learning rate `lr`, ascending."""
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
        """c = λ · Σηₜ: decay alone would multiply the weights by exp(-c) over a training."""
        return decay.exponent(self._run(lr, weight_decay, 0))

    def runs(self, seed: int) -> list[Run]:
        """Those of `seed`, by learning rate and weight decay."""
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
        """How many images a run is tested on."""
        return catalogue.test_size(self.data)

    def accuracy_pp(self, right: int | None) -> float | None:
        """`right` images classified as labelled, in percent of those tested; None for a diverged run."""
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
