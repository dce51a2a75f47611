"""Where a curve has its peak if it breaks there, or bends there: mean scores at the runs to a set of places.

A smooth curve through a few runs rounds off a peak that is sharper or more lopsided than the distance between them and
puts it on the shallow side, at every learning rate alike. Here each side of the peak falls with a power of the distance
from it, through the runs nearest to it: the first power (a break) or the second (a bend). Which powers can be is asked
of all learning rates of a cell together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Powers = tuple[tuple[int, ...], tuple[int, ...]]
"""With which a curve may fall to the left and to the right."""

BREAK, BEND = 1, 2
BREAKS_UP_TO, BENDS_FROM = 0.65, 0.35
"""Of the power of the slope's growth beside a peak: 0 where a side is straight, 0.8 to 1.4 where it is a parabola, by
where the peak lies between the runs."""
APART = 0.6
"""Runs nearer to each other in ln(weight decay) than this say nothing of how a slope grows."""
WINDOW = 1.4
"""A side is what lies within so much of its first run, in ln(weight decay), and two runs at least."""
PLACES = 33
"""Places between two runs that are tried for the peak."""
CLIPPED_ERRORS = 2.0
"""A peak this many standard errors outside the two runs that it should lie between lies at the nearer one."""


@dataclass(frozen=True)
class Place:
    """Where the peak may be: anywhere from `low` to `high`, in ln(weight decay)."""

    low: float
    high: float
    error: float
    """Standard error of either; …"""
    between: tuple[float, float]
    """… but it lies between these two runs."""


def powers(slices: Sequence[tuple[Floats, Floats]]) -> Powers:
    """The powers that the curves of a cell show beyond their summits; `slices`: x and means, [N] each."""
    sides = []
    for sign in (-1, 1):
        shown = [power for x, mean in slices if (power := _power_of_slope(x, mean, sign)) is not None]
        middle = float(np.median(shown)) if shown else np.nan
        sides.append(
            tuple(p for p, can in ((BREAK, not middle > BREAKS_UP_TO), (BEND, not middle < BENDS_FROM)) if can)
        )
    return sides[0], sides[1]


def _power_of_slope(x: Floats, mean: Floats, sign: int) -> float | None:
    """With which power of the distance from the best run the slope grows to the left (-1) or to the right (1).

    From the first run beyond the best one on, because the peak may lie between these two; None with fewer than three.
    """
    best = int(mean.argmax())
    side = slice(best, None, -1) if sign < 0 else slice(best, None)
    distance, level = np.abs(x[side] - x[best]), mean[side]
    kept = [0]
    for i in range(1, len(distance)):
        if distance[i] - distance[kept[-1]] >= APART:
            kept.append(i)
    if len(kept) < 4:
        return None
    distance, level = distance[kept[1:4]], level[kept[1:4]]
    first, second = -np.diff(level) / np.diff(distance)
    if first <= 0 or second <= 0:
        return float("inf") if second > 0 else 0.0
    return float(np.log(second / first) / np.log((distance[2] + distance[1]) / (distance[1] + distance[0])))


def peaks(x: Floats, mean: Floats, covariance: Floats, best: NDArray[np.intp], may: Powers) -> list[Place]:
    """The peaks beside the `best` runs, with all powers that `may` be, from means [N] at `x` [N] and their covariance.

    Where only one run is left on a side, nothing tells how it falls there: the peak may be anywhere up to that run.
    """
    found = []
    for left in range(max(int(best[0]) - 1, 0), min(int(best[-1]) + 1, len(x) - 1)):
        right, gap = left + 1, (float(x[left]), float(x[left + 1]))
        if left == 0 or right == len(x) - 1:
            if int(mean.argmax()) in (left, right):
                found.append(Place(*gap, 0.0, gap))
            continue
        margin = (x[right] - x[left]) / PLACES / 2
        tried = np.linspace(x[left] + margin, x[right] - margin, PLACES)
        lefts = [_top(x, mean, covariance, left, -1, power, tried) for power in may[0]]
        rights = [_top(x, mean, covariance, right, 1, power, tried) for power in may[1]]
        for on_left, on_right in product(lefts, rights):
            if (crossing := _crossing(tried, on_left, on_right, covariance)) is not None:
                place, error = crossing
                found.append(Place(place, place, error, gap))
    return found


@dataclass(frozen=True)
class _Top:
    """The height of a peak at each of [P] places, from the runs on one side."""

    height: Floats
    weights: Floats
    """[P, N], of the means in `height`."""
    falls: NDArray[np.bool_]
    """[P], whether the side falls from there."""


def _top(x: Floats, mean: Floats, covariance: Floats, first: int, sign: int, power: int, tried: Floats) -> _Top:
    """By generalised least squares of height - b * distance ** power through the runs from `first` on."""
    near = np.nonzero((x - x[first]) * sign >= 0)[0]
    near = near[np.argsort(np.abs(x[near] - x[first]))]
    near = near[: max(2, int((np.abs(x[near] - x[first]) <= WINDOW).sum()))]
    distance = np.abs(tried[:, None] - x[near]) ** power  # [P, n]
    precision = np.linalg.inv(covariance[np.ix_(near, near)])
    of_one, of_distance = precision.sum(axis=0), distance @ precision
    s00, s01, s11 = of_one.sum(), distance @ of_one, (distance * of_distance).sum(axis=1)
    determinant = s00 * s11 - s01**2
    weights = np.zeros((len(tried), len(x)))
    weights[:, near] = (s11[:, None] * of_one - s01[:, None] * of_distance) / determinant[:, None]
    growth = (s00 * of_distance - s01[:, None] * of_one) @ mean[near]  # of accuracy, times the determinant
    return _Top(weights @ mean, weights, growth < 0)


def _crossing(tried: Floats, on_left: _Top, on_right: _Top, covariance: Floats) -> tuple[float, float] | None:
    """The place at which both sides have the same top and its standard error; None where there is none like that."""
    excess = on_left.height - on_right.height  # increases from left to right
    i = int(np.abs(excess).argmin())
    a, b = max(i - 1, 0), min(i + 1, len(tried) - 1)
    slope = float((excess[b] - excess[a]) / (tried[b] - tried[a]))
    if slope <= 0 or not (on_left.falls[i] and on_right.falls[i]):
        return None
    change = on_left.weights[i] - on_right.weights[i]
    error = float(np.sqrt(change @ covariance @ change))
    if excess[0] * excess[-1] > 0 and abs(excess[i]) > CLIPPED_ERRORS * error:
        return None
    return float(np.interp(0.0, excess, tried)), error / slope
