"""Plateaus, on which no single weight decay is best: runs indistinguishable from the best, and flat tops of curves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from replicate.estimate.accuracy_curve import Fit, Points
from replicate.estimate.best_set import indistinguishable
from replicate.landscape.landscape import Floats

SET_LEVEL = 0.99
"""Confidence level of the set of runs that cannot be told from the best; if the set reaches an end of the grid, the
optimum is not bounded there."""
LEAST_DOF_OF_SLICE = 8.0
"""Smallest number of degrees of freedom used to find that set. A learning rate may have fewer (two seeds of seven
weight decays leave 6, one seed none), but its variances come from the whole cell, widened by the t quantile of the
cell's degrees of freedom, or are the largest that smooth curves allow."""
LATE_FALL = 1 / 5
"""Accuracy has not begun to fall at a run whose loss is at most this share of the next run's loss. For a quadratic
curve that peaks at a run, the share is a quarter at the run beside it."""
FLAT_TOP = float(np.log(2))
"""A curve whose top is at least this wide in ln(weight decay), between two falls, has no single optimum."""


def best_runs(points: Points, fit: Fit) -> NDArray[np.intp]:
    """Indices of the runs that cannot be told from the best one."""
    dof = max(float(points.noise.dof.sum()), LEAST_DOF_OF_SLICE)
    return np.nonzero(indistinguishable(points.noise.mean, fit.covariance, dof, SET_LEVEL))[0]


def flat_tops(cell: list[Points], best: list[NDArray[np.intp]]) -> list[tuple[float, float]]:
    """`flat_top`, the ends (low, high) of the curve's top, at every learning rate.

    If most tops are flat, each is made as wide as the widest, around its own middle, as noise can make one look narrow.
    Only tops with a fall on both sides are counted and widened.
    """
    found, closed = [], []
    for points, runs in zip(cell, best, strict=True):
        run = points.x >= points.low
        found.append(flat_top(points.x[run], points.noise.mean[run]))
        closed.append(bool(points.x[runs[0]] > points.low and runs[-1] < len(points.x) - 1))
    widths = [high - low for (low, high), counts in zip(found, closed, strict=True) if counts]
    if not widths or np.median(widths) < FLAT_TOP:
        return found
    add = [(max(widths) - (high - low)) / 2 * counts for (low, high), counts in zip(found, closed, strict=True)]
    return [(low - more, high + more) for (low, high), more in zip(found, add, strict=True)]


def flat_top(x: Floats, mean: Floats) -> tuple[float, float]:
    """Positions (low, high) at which accuracy begins to fall on either side, from runs at `x` [N] with means [N].

    The loss is taken as quadratic from there on: on each side, the line through the square roots of the losses at the
    first two falling runs (see `LATE_FALL`) is extrapolated to 0. For a peak both positions are the peak; if the lines
    cross, `low` is above `high`. Without two falling runs the position is the last run before the fall.
    """
    loss = mean.max() - mean
    best = int(mean.argmax())
    return -_begin(-x[best::-1], loss[best::-1]), _begin(x[best:], loss[best:])


def _begin(x: Floats, loss: Floats) -> float:
    """Where accuracy begins to fall on one side, for `flat_top`; `x` [N]: ascending, from the best run outwards."""
    last = int(np.nonzero(loss[:-1] <= LATE_FALL * loss[1:])[0].max(initial=0))
    if last + 2 >= len(x) or loss[last + 2] <= loss[last + 1]:
        return float(x[last])
    near, far = np.sqrt(loss[last + 1 : last + 3])
    return float(x[last + 1] - near * (x[last + 2] - x[last + 1]) / (far - near))
