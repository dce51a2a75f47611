"""Practical results of each cell (model on a data set): cost of the rule λ = 0.1η, what to set, which law holds.

They are at a cell's best learning rate: best weight decay, accuracy lost by others, and the constant of each rival law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from replicate.estimate import by_rate, fits, power_law
from replicate.estimate.by_rate import Loss, Where
from replicate.estimate.line_fit import LineFit
from replicate.landscape.landscape import Landscape
from replicate.paper.protocol import RHO
from replicate.store.strict import High, Low


@dataclass(frozen=True)
class Law:
    """A candidate law, best λ ∝ η^exponent, with its constant, and whether the runs exclude or support it."""

    name: str
    """`coupled`, `independent` or `timescale`, for the exponents 1, 0 and -1 (`power_law.RIVALS`)."""
    exponent: int
    """Power of the learning rate in the best weight decay."""
    constant: float | None
    """λ / η, λ or ηλ · steps of the best λ, for exponent 1, 0 or -1; None if the runs do not bound it on both sides."""
    low: Low
    high: High
    excluded: bool
    """Whether the law's exponent is outside the interval of the slope of ln(best λ) on ln(η)."""
    supported: bool
    """Whether the interval of the slope of ln(best λ) on ln(η) contains only this law's exponent, and is < 1 wide."""


@dataclass(frozen=True)
class InPractice:
    """Practical results of one cell (a model on a data set), at its best learning rate."""

    cell: str
    """Id of the paper's cell (model and data set) that the trained one stands for."""
    trained: str
    """The model and data that were actually trained."""
    lr: float
    score_pp: float
    """Accuracy of the best weight decay that was run at `lr`."""
    best_wd: float
    low: float
    """Lower 95 % bound on the best weight decay; 0 if not bounded."""
    high: High
    where: Where
    alike: tuple[float, float]
    """The smallest and the largest weight decay run whose scores do not differ detectably from the best one's."""
    none: Loss | None
    """Accuracy, pp, that weight decay 0 loses against the best; None if it was not run."""
    by_rule: Loss | None
    """Accuracy, pp, that λ = 0.1η loses against the best λ; None if 0.1η lies outside the weight decays run."""
    steps: float | None
    laws: tuple[Law, ...]


def of_cell(cell: str, trained: str, landscape: Landscape) -> InPractice | None:
    """The cell's results; None if no learning rate has enough weight decays for an optimum."""
    fit = fits.line(landscape)
    best = by_rate.best_of(by_rate.rows(landscape, fit, RHO))
    if fit is None or best is None or best.best_wd is None or best.best_score is None or best.where is Where.UNKNOWN:
        return None
    none = best.least if best.smallest == 0 else None
    alike = min(best.alike, default=best.best_wd), max(best.alike, default=best.best_wd)
    alike = _smallest_same(landscape, best.lr, alike[0]), alike[1]
    return InPractice(
        cell, trained, best.lr, best.best_score, best.best_wd, best.low, best.high, best.where, alike, none,
        best.by_rule, landscape.steps, laws(fit, landscape.steps),
    )  # fmt: skip


def _smallest_same(landscape: Landscape, lr: float, wd: float) -> float:
    """The smallest weight decay at `lr` whose scores are identical to those of `wd`: decay has no effect up to `wd`."""
    (cut,) = (cut for cut in landscape.slices() if cut.lr == lr)
    at = int(np.abs(cut.wds - wd).argmin())
    same = [np.array_equal(row, cut.scores[at], equal_nan=True) for row in cut.scores]
    return float(cut.wds[same].min())


def laws(fit: LineFit, steps: float | None) -> tuple[Law, ...]:
    """Each rival law, its constant taken at the middle of the learning rates whose best λ is bounded on both sides."""
    found = power_law.rivals(fit)
    value, *ends = power_law.log_ratio(fit)
    out = []
    for name, exponent in power_law.RIVALS.items():
        times = steps if exponent == -1 else 1.0
        constant, low, high = None, -math.inf, math.inf
        if times is not None:
            shift = (1 - exponent) * fit.center + math.log(times)
            constant = None if value is None else math.exp(value + shift)
            low, high = (float(np.exp(end + shift)) for end in ends)
        out.append(Law(name, exponent, constant, low, high, name in found.excluded, name == found.supported))
    return tuple(out)
