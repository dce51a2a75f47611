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

from replicate.landscape.landscape import Floats

Powers = tuple[tuple[int, ...], tuple[int, ...]]
"""With which a curve may fall to the left and to the right."""

BREAK, BEND = 1, 2
STRAIGHT_UP_TO, BENT_FROM = 0.35, 0.65
"""Power of the distance with which a side's slope grows beside the peak: 0 where the side is straight, 0.8 to 1.4 where
it is a parabola, by where the peak lies between the runs. A side is not straight where the power is surely above the
one, and no parabola where it is surely below the other."""
SURE = 2.0
"""So many standard errors, over all learning rates together; …"""
LEANS = 1.0
"""… and by so many does a single one lean to the other side."""
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


def powers(slices: Sequence[tuple[Floats, Floats, Floats]]) -> Powers:
    """The powers that the curves of a cell may have; `slices`: x [N], means [N] and their covariance [N, N].

    Both may be, unless all learning rates together surely show otherwise and none leans the other way: a curve that
    bends at most learning rates may break at the others.
    """
    sides = []
    for sign in (-1, 1):
        shown = [of_slice for cut in slices if (of_slice := _growth(*cut, sign)) is not None]
        bent, straight = [more for more, _ in shown], [less for _, less in shown]
        sides.append(tuple(p for p, against in ((BREAK, bent), (BEND, straight)) if not _surely(against)))
    return sides[0], sides[1]


Difference = tuple[float, float]
"""A difference of slopes and its variance."""


def _surely(differences: Sequence[Difference]) -> bool:
    """Whether the mean of `differences`, weighed by their variances, is surely above 0, and none leans below it."""
    if not differences:
        return False
    value, variance = np.array(differences).T
    weights = 1 / variance
    return bool(weights @ value >= SURE * np.sqrt(weights.sum()) and (value / np.sqrt(variance)).min() > -LEANS)


def _growth(x: Floats, mean: Floats, covariance: Floats, sign: int) -> tuple[Difference, Difference] | None:
    """How much steeper a side becomes than `STRAIGHT_UP_TO` allows, and how much less steep than from `BENT_FROM` on.

    To the left (-1) or to the right (1), from the first run beyond the best one to the second and on to the third: the
    peak may lie before the first. None with fewer than three.
    """
    best = int(mean.argmax())
    side = np.arange(best, -1, -1) if sign < 0 else np.arange(best, len(x))
    kept = [best]
    for i in side[1:]:
        if abs(x[i] - x[kept[-1]]) >= APART:
            kept.append(int(i))
    if len(kept) < 4:
        return None
    a, b, c = kept[1:4]
    from_best = np.abs(x - x[best])
    near, far = np.zeros(len(x)), np.zeros(len(x))  # weights of the means in the slopes downwards
    near[[a, b]] = np.array([1, -1]) / (from_best[b] - from_best[a])
    far[[b, c]] = np.array([1, -1]) / (from_best[c] - from_best[b])
    outwards = (from_best[c] + from_best[b]) / (from_best[b] + from_best[a])
    found = []
    for weights in (far - near * outwards**STRAIGHT_UP_TO, near * outwards**BENT_FROM - far):
        found.append((float(weights @ mean), float(weights @ covariance @ weights)))
    return found[0], found[1]


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
