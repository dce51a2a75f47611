"""Studies on trained landscapes: cells drawn from their runs, each learning rate's optimum moved onto a known law.

A cell is some of the seeds and every k-th weight decay. Each learning rate keeps its curve and its noise; its weight
decays are multiplied by one number, such that the optimum of all seeds together lies on the law of the study.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from replicate.calibration import recording
from replicate.calibration.trained import LANDSCAPES, LEAST, Trained
from replicate.landscape.landscape import Floats, Landscape
from replicate.paper.protocol import RHO

LAWS: Mapping[str, Callable[[float], float]] = {
    "0.1 η": lambda lr: RHO * lr,
    "0.25 η": lambda lr: 0.25 * lr,
    "0.04 η": lambda lr: 0.04 * lr,
    "1.5 η": lambda lr: 1.5 * lr,
    "η^0.75": lambda lr: RHO * 1e-3 * (lr / 1e-3) ** 0.75,
    "η^1.25": lambda lr: RHO * 1e-3 * (lr / 1e-3) ** 1.25,
    "√η": lambda lr: RHO * 1e-3 * (lr / 1e-3) ** 0.5,
    "constant": lambda lr: RHO * 1e-3,
    "1/η": lambda lr: RHO * 1e-3 * (lr / 1e-3) ** -1,
}
"""Name → best weight decay at a learning rate. Those that are not proportional agree with the paper's at 0.001."""

REACH = 3
"""Weight decays on either side of the best one that the oracle's curve goes through."""
RUN_SD = 1.0
"""Percentage points by which two seeds differ where decay is best: 0.6 to 1.5 in most landscapes."""
KNOWN = 0.2
"""Standard error in ln(weight decay), up to which the place of an optimum is known."""
HALVES = 200
"""Random halves of the seeds, from which the error of the truth is known."""


@dataclass(frozen=True)
class Curve:
    """One learning rate of a trained landscape, on its dense weight decays."""

    lr: float
    wds: Floats
    """[W], ascending, without those at which decay does nothing."""
    scores: Floats
    """[W, S], accuracy in percent; NaN where a run diverged."""
    idle: Floats
    """[I, S], of the weight decays at which decay does nothing, none first."""
    finer_wds: Floats
    """[F], further ones around the best, for the truth alone."""
    finer_scores: Floats
    """[F, S]."""

    @property
    def x(self) -> Floats:
        """[W], ln(weight decay)."""
        return np.log(self.wds)

    def with_finer(self) -> tuple[Floats, Floats]:
        """ln(weight decay) [W + F], ascending, and the scores there, [W + F, S]."""
        x = np.log(np.concatenate([self.wds, self.finer_wds]))
        order = np.argsort(x)
        return x[order], np.concatenate([self.scores, self.finer_scores])[order]


def oracle(x: Floats, mean: Floats) -> float:
    """The place of the peak of `mean` [W] at `x` [W]: of a quartic through the runs around the best one.

    Through ln(1 + loss / `RUN_SD`), which has its least at the same place: through the loss itself, one run beyond
    the cliff that decay ends in would draw the quartic's peak away from it.
    """
    best = int(np.nanargmax(mean))
    near = slice(max(0, best - REACH), best + REACH + 1)
    at = x[near] - x[best]
    loss = np.log1p((mean[best] - mean[near]) / RUN_SD)
    fit = np.polynomial.Polynomial.fit(at, -loss, min(4, len(at) - 1))
    low, high = x[max(0, best - 1)] - x[best], x[min(len(x) - 1, best + 1)] - x[best]
    fine = np.linspace(low, high, 401)
    return float(x[best] + fine[int(fit(fine).argmax())])


@dataclass(frozen=True)
class Truth:
    """Where the optimum of one learning rate lies."""

    place: float
    """ln(weight decay)."""
    error: float
    """Its standard error, from halves of the seeds."""
    gain_pp: float
    """Accuracy there beyond that of no decay."""
    gain_error: float
    """Standard error of `gain_pp`."""

    @property
    def interior(self) -> bool:
        """Whether decay surely helps: else the optimum may as well be none."""
        return self.gain_pp > 3 * self.gain_error

    @property
    def known(self) -> bool:
        """Whether a cell can have it on a law: all seeds together place it, or decay does not surely help."""
        return self.error <= KNOWN or not self.interior


def truth(curve: Curve) -> Truth:
    """The optimum of all seeds together."""
    rng = np.random.default_rng(0)
    x, scores = curve.with_finer()
    seeds = scores.shape[1]
    place = oracle(x, np.nanmean(scores, axis=1))
    differences = []
    for _ in range(HALVES):
        order = rng.permutation(seeds)
        halves = (order[: seeds // 2], order[seeds // 2 :])
        a, b = (oracle(x, np.nanmean(scores[:, half], axis=1)) for half in halves)
        differences.append(a - b)
    best = int(np.abs(curve.x - place).argmin())
    gains = curve.scores[best] - curve.idle[0]
    error = float(np.nanstd(gains, ddof=1) / math.sqrt(seeds))
    return Truth(place, float(np.std(differences)) / 2, float(np.nanmean(gains)), error)


@lru_cache(maxsize=16)
def curves(name: str) -> tuple[Curve, ...]:
    """The landscape `name` as it is recorded, by learning rate; only seeds of which every run is there."""
    landscape: Trained = LANDSCAPES[name]
    recorded = recording.read(name)
    found = {(row.lr, row.weight_decay, row.seed): recorded.accuracy_pp(row) for row in recorded.rows}
    points = [(lr, wd) for lr in landscape.lrs for wd in landscape.weight_decays(lr)]
    seeds = [s for s in sorted({row.seed for row in recorded.rows}) if all((*point, s) in found for point in points)]
    out = []
    for lr in landscape.lrs:
        wds = np.array(landscape.weight_decays(lr))
        scores = np.array([[found[lr, wd, seed] for seed in seeds] for wd in wds], dtype=np.float64)
        dense = np.array([landscape.exponent(lr, wd) for wd in wds]) > 0.99 * LEAST
        finer = [wd for wd in landscape.finer(lr) if all((lr, wd, seed) in found for seed in seeds)]
        of_finer = np.array([[found[lr, wd, seed] for seed in seeds] for wd in finer], dtype=np.float64)
        of_finer = of_finer.reshape(len(finer), len(seeds))
        out.append(Curve(lr, wds[dense], scores[dense], scores[~dense], np.array(finer), of_finer))
    return tuple(out)


@lru_cache(maxsize=16)
def truths(name: str) -> tuple[Truth, ...]:
    """The truth at each learning rate of the landscape `name`."""
    return tuple(truth(curve) for curve in curves(name))


@dataclass(frozen=True)
class Choice:
    """The runs of one cell: seeds, and rows of each learning rate's weight decays."""

    seeds: tuple[int, ...]
    rows: tuple[slice, ...]


def choice(name: str, law: str, seeds: int, every: int, index: int) -> Choice:
    """The `index`-th choice of `seeds` seeds and every `every`-th weight decay; depends on nothing else.

    With which weight decay each learning rate begins is drawn too.
    """
    rng = np.random.default_rng([index, seeds, every, *law.encode(), *name.encode()])
    of_landscape = curves(name)
    chosen = rng.choice(of_landscape[0].scores.shape[1], seeds, replace=False)
    return Choice(
        tuple(int(s) for s in chosen), tuple(slice(int(rng.integers(every)), None, every) for _ in of_landscape)
    )


def cell(name: str, law: str, seeds: int, every: int, index: int) -> Landscape:
    """A cell of the landscape `name`, the optima of all its learning rates on `law`, where they are known."""
    chosen = choice(name, law, seeds, every, index)
    frames = []
    for curve, true, rows in zip(curves(name), truths(name), chosen.rows, strict=True):
        if not true.known:
            continue
        scores = curve.scores[rows][:, chosen.seeds]
        wds = curve.wds[rows] * LAWS[law](curve.lr) / math.exp(true.place)
        columns = {"lr": curve.lr, "wd": np.repeat(wds, len(chosen.seeds)), "seed": np.tile(chosen.seeds, len(wds))}
        frames.append(pd.DataFrame({**columns, "score": scores.ravel(), "diverged": np.isnan(scores.ravel())}))
    return Landscape(name, law, pd.concat(frames, ignore_index=True), chance_pp=10.0)


def oracle_of(name: str, law: str, seeds: int, every: int, index: int, quantity: str) -> float:
    """What `oracle` finds in a cell, less the truth: slope or ln(ratio), where decay helps."""
    chosen = choice(name, law, seeds, every, index)
    x, error = [], []
    for curve, true, rows in zip(curves(name), truths(name), chosen.rows, strict=True):
        if true.interior and true.known:
            mean = np.nanmean(curve.scores[rows][:, chosen.seeds], axis=1)
            x.append(math.log(curve.lr))
            error.append(oracle(curve.x[rows], mean) - true.place)
    return float(np.polyfit(x, error, 1)[0] if quantity == "slope" else np.mean(error))
