"""Studies on trained landscapes: cells drawn from their runs, with weight decays rescaled to obey a known law.

A cell is some of the seeds and every k-th weight decay. Each learning rate keeps its curve and its noise; its weight
decays are multiplied by the number that moves the optimum of all seeds together onto the law.
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
"""Name → best weight decay at a learning rate. The laws that are not proportional equal the paper's at η = 0.001."""

REACH = 3
"""Number of weight decays on either side of the best one to which `oracle` fits its curve."""
RUN_SD = 1.0
"""Typical standard deviation between seeds at the best decay, pp: 0.6 to 1.5 in most landscapes."""
KNOWN = 0.2
"""An optimum counts as known up to this standard error of its ln(weight decay)."""
HALVES = 200
"""Number of random splits of the seeds into halves, from which the truth's standard error is estimated."""


@dataclass(frozen=True)
class Curve:
    """The runs of one learning rate of a trained landscape."""

    lr: float
    wds: Floats
    """[W], weight decays of the dense grid, ascending."""
    scores: Floats
    """[W, S], accuracy in percent at `wds` by seed; NaN where a run diverged."""
    idle: Floats
    """[I, S], accuracy at the weight decays without effect (`trained.IDLE`), weight decay 0 first."""
    finer_wds: Floats
    """[F], further weight decays around the best, used only for the truth."""
    finer_scores: Floats
    """[F, S], accuracy at `finer_wds`."""

    @property
    def x(self) -> Floats:
        """[W], ln(weight decay)."""
        return np.log(self.wds)

    def with_finer(self) -> tuple[Floats, Floats]:
        """ln(weight decay) [W + F], ascending, and the scores [W + F, S] at these weight decays."""
        x = np.log(np.concatenate([self.wds, self.finer_wds]))
        order = np.argsort(x)
        return x[order], np.concatenate([self.scores, self.finer_scores])[order]


def oracle(x: Floats, mean: Floats) -> float:
    """Position of the peak of the accuracies `mean` [W] at `x` [W], from a quartic fitted around the largest.

    The quartic is fitted to ln(1 + loss / `RUN_SD`), which has its minimum at the same place. If it were fitted to the
    loss itself, one run with so much decay that it learns nothing would pull the peak away.
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
    """The true optimum at one learning rate."""

    place: float
    """ln(weight decay)."""
    error: float
    """Standard error of `place`, from random halves of the seeds."""
    gain_pp: float
    """Accuracy at the optimum minus accuracy without decay, pp."""
    gain_error: float
    """Standard error of `gain_pp`."""

    @property
    def interior(self) -> bool:
        """Whether decay helps beyond doubt (three standard errors): otherwise the optimum may be weight decay 0."""
        return self.gain_pp > 3 * self.gain_error

    @property
    def known(self) -> bool:
        """Whether cells can include this learning rate: `error` is at most `KNOWN`, or decay may not help at all."""
        return self.error <= KNOWN or not self.interior


def truth(curve: Curve) -> Truth:
    """The optimum of the mean over all seeds."""
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
    """The recorded landscape `name` by learning rate; seeds that lack a run of the basic grid are left out."""
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
    """The runs of one cell: seeds, and for each learning rate a slice of its weight decays."""

    seeds: tuple[int, ...]
    rows: tuple[slice, ...]


def choice(name: str, law: str, seeds: int, every: int, index: int) -> Choice:
    """The `index`-th random choice of `seeds` seeds and every `every`-th weight decay; depends on its arguments only.

    The first weight decay of each learning rate is drawn too.
    """
    rng = np.random.default_rng([index, seeds, every, *law.encode(), *name.encode()])
    of_landscape = curves(name)
    chosen = rng.choice(of_landscape[0].scores.shape[1], seeds, replace=False)
    return Choice(
        tuple(int(s) for s in chosen), tuple(slice(int(rng.integers(every)), None, every) for _ in of_landscape)
    )


def cell(name: str, law: str, seeds: int, every: int, index: int) -> Landscape:
    """A cell of the landscape `name`, each learning rate's optimum on `law`; rates with unknown optima are left out."""
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
    """Slope or ln(ratio) of a cell's optima by `oracle`, minus the true one, over learning rates where decay helps."""
    chosen = choice(name, law, seeds, every, index)
    x, error = [], []
    for curve, true, rows in zip(curves(name), truths(name), chosen.rows, strict=True):
        if true.interior and true.known:
            mean = np.nanmean(curve.scores[rows][:, chosen.seeds], axis=1)
            x.append(math.log(curve.lr))
            error.append(oracle(curve.x[rows], mean) - true.place)
    return float(np.polyfit(x, error, 1)[0] if quantity == "slope" else np.mean(error))
