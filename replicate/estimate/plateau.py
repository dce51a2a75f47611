"""Where no single weight decay is the best: a slice to its runs that cannot be told apart and to its flat top."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from replicate.estimate.accuracy_curve import Fit, Points
from replicate.estimate.best_set import indistinguishable
from replicate.landscape.landscape import Floats

SET_LEVEL = 0.99
"""Level of the set of runs that cannot be told from the best, where it decides whether an optimum is bounded."""
LEAST_DOF_OF_SLICE = 8.0
"""Degrees of freedom of that set's bound, at least, though two seeds of seven weight decays leave 6 and one seed none:
the variances are those of the whole cell, widened by the t quantile of its degrees of freedom, or else the largest
guess that smooth curves allow."""
LATE_FALL = 1 / 5
"""Where a run falls short of the best by no more than this share of what the next one does, accuracy has not begun to
fall there. Of a quadratic curve with its peak at a run it is a quarter."""
FLAT_TOP = float(np.log(2))
"""Width in ln(weight decay) from which a top between two falls is flat and has no single best place."""


def best_runs(points: Points, fit: Fit) -> NDArray[np.intp]:
    """Indices of the runs that cannot be told from the best one."""
    dof = max(float(points.noise.dof.sum()), LEAST_DOF_OF_SLICE)
    return np.nonzero(indistinguishable(points.noise.mean, fit.covariance, dof, SET_LEVEL))[0]


def flat_tops(cell: list[Points], best: list[NDArray[np.intp]]) -> list[tuple[float, float]]:
    """`flat_top` of every slice; where most are flat, noise alone has made the others look otherwise.

    Those are then as wide as the widest, around their own middle. Only slices in which accuracy falls on both sides
    have a say, and are widened.
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
    """Where accuracy begins to fall on either side of the best run, from the runs at `x` [N] and their means [N].

    As though it fell with the square of the distance from there: the line through the roots of the first two losses
    that count (`LATE_FALL`), drawn back to no loss. Of a curve with a peak both are the peak; where the lines cross,
    `low` is above `high`. With no two such runs it is the last one before the fall.
    """
    loss = mean.max() - mean
    best = int(mean.argmax())
    return -_begin(-x[best::-1], loss[best::-1]), _begin(x[best:], loss[best:])


def _begin(x: Floats, loss: Floats) -> float:
    """As `flat_top`, of one side: `x` [N] from the best run outwards."""
    last = int(np.nonzero(loss[:-1] <= LATE_FALL * loss[1:])[0].max(initial=0))
    if last + 2 >= len(x) or loss[last + 2] <= loss[last + 1]:
        return float(x[last])
    near, far = np.sqrt(loss[last + 1 : last + 3])
    return float(x[last + 1] - near * (x[last + 2] - x[last + 1]) / (far - near))
