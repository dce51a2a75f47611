"""Posteriors of the accuracy curves of a cell, averaged over two models: `rise_and_fall.py` and a Gaussian process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from replicate.estimate import rise_and_fall
from replicate.estimate.accuracy_curve import Fit, Points, draw_curves, fit_process, usable_points
from replicate.estimate.rise_and_fall import RiseAndFall
from replicate.landscape.landscape import Floats, Slice

DRAWS = 800
LEAST_SHARE = 1e-3
"""A model with a smaller posterior probability than this is left out."""


@dataclass(frozen=True)
class FittedCurve:
    """Posterior of the accuracy curve of one learning rate."""

    lr: float
    points: Points
    process: Fit
    shape: RiseAndFall
    share: float
    """Posterior probability of the rise-and-fall model (`shape`); the rest is that of the Gaussian process alone
    (`process`). The same at all learning rates."""

    def draw(self, rng: np.random.Generator, grid: Floats) -> Floats:
        """Draws [K, len(grid)] at ln(weight decay) `grid`, in units of `process.scale` relative to the best mean."""
        parts = []
        if self.share > LEAST_SHARE:
            by_shape = self.shape.draw(rng, grid)
            parts.append(by_shape[: round(self.share * len(by_shape))])
        if 1 - self.share > LEAST_SHARE:
            by_process = draw_curves(self.points, self.process, rng, grid, DRAWS)
            parts.append(by_process[round(self.share * DRAWS) :])
        return np.concatenate(parts)


def fitted_curves(slices: list[Slice], rng: np.random.Generator) -> list[FittedCurve]:
    """One curve per learning rate; learning rates with fewer than three usable weight decays are left out."""
    found = [(s.lr, p) for s in slices if (p := usable_points(s)) is not None]
    if not found:
        return []
    lrs, points = [lr for lr, _ in found], [p for _, p in found]
    processes = fit_process(points)
    shapes, log_evidence = rise_and_fall.fit(points, processes, rng)
    share = float(expit(log_evidence - processes[0].log_evidence))
    parts = zip(lrs, points, processes, shapes, strict=True)
    return [FittedCurve(lr, p, process, shape, share) for lr, p, process, shape in parts]
