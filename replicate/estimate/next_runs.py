"""Which further runs (learning rate, weight decay, seed) would narrow the intervals of slope and ratio most.

Curves are drawn from the posterior of each learning rate. A run's value is the expected reduction of the variance of
slope and ratio: the expected value of sample information, by regression of the draws' optima on the runs' simulated
scores (Strong, Oakley, Brennan and Breeze 2015). Runs are chosen greedily, each given the runs chosen before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from replicate.estimate.accuracy_curve import Points
from replicate.estimate.line_fit import CLOSED_DEVIANCE, LineFit
from replicate.estimate.missing_runs import LEAST_LRS, SAME, Divergence, NextRun, missing, numbered
from replicate.estimate.optimum import OptimumCurve
from replicate.estimate.surface import Ridge
from replicate.landscape.landscape import Floats, Landscape

FINE = 129
"""Number of points at which a drawn curve is evaluated to find its optimum."""
SLOPE_UNIT, RATIO_UNIT = 0.2, float(np.log(2))
"""Half-widths of the paper's margins: the errors of slope and ratio are divided by these before they are added."""
LEAST_VARIANCE = 0.05**2
"""Smallest variance assumed for an optimum, in ln(weight decay) squared."""
LEAST_GAP = float(np.log(1.25))
"""No candidate is closer to a run than this, in ln(weight decay)."""
TOLD = 2.6
"""Standard errors by which two runs must differ to be told apart, about as in `plateau.best_runs` with few runs."""
BEYOND_END = float(np.log(10))
"""Standard deviation assumed, in ln, for an optimum that is not bounded on one side."""
BEYOND = float(np.log(3))
"""Distance, in ln, of the first candidate beyond the runs; the second lies twice as far."""
APART = 0.1
"""Suggested trials have random learning rates, at most this far, in ln, from that of the chosen candidate."""
LEAST_DRAWS = 100
"""If fewer drawn surfaces than this have a slope, no trials are suggested."""


@dataclass(frozen=True)
class Plan:
    """Suggested runs, the most informative first."""

    runs: tuple[NextRun, ...]
    slope_narrows: float | None
    """Expected standard error of the slope after these runs divided by today's; None if not known."""
    ratio_narrows: float | None
    """Expected standard error of ln(ratio) after these runs divided by today's; None if not known."""

    @property
    def ranked(self) -> list[tuple[int, NextRun]]:
        """(rank, run) for each run, sorted by learning rate, then weight decay; rank 1 is the most valuable run."""
        return sorted(enumerate(self.runs, 1), key=lambda one: (one[1].lr, one[1].wd))


@dataclass
class _End:
    """The first or last weight decay of a learning rate, if it is as good as the best and so does not bound the
    optimum."""

    at: int
    """Index of this weight decay among the candidates."""
    best: int
    """Index of the best run among the candidates."""
    lead: float
    """The best run's mean score minus this weight decay's, in units of the Gaussian process's scale."""
    runs: list[float]
    """Number of runs at this weight decay and at the best one, planned ones included."""
    before: float
    """Variance of `lead` without planned runs."""

    def open(self, noise: float, at: int = -1, more: int = 0) -> float:
        """Probability that this end still cannot be told from the best after `more` runs at candidate `at`."""
        now = sum(
            noise**2 / (n + more * (at == place)) for n, place in zip(self.runs, (self.at, self.best), strict=True)
        )
        if now >= self.before * (1 - SAME):
            return 1.0
        return float(ndtr((TOLD * np.sqrt(now) - self.lead) / np.sqrt(self.before - now)))

    def take(self, at: int, more: int) -> None:
        """Adds `more` planned runs at candidate `at`."""
        self.runs = [n + more * (at == place) for n, place in zip(self.runs, (self.at, self.best), strict=True)]


class _Rate:
    """Posterior draws of one learning rate's curve and optimum, and how runs would reduce the optimum's variance."""

    def __init__(
        self,
        lr: float,
        places: Floats,
        sizes: NDArray[np.intp],
        draws: tuple[Floats, Floats],
        noise: float,
        ends: Sequence[_End],
    ) -> None:
        """`places` [C]: ln(weight decay) of the candidates; `sizes` [C]: runs already done there.

        `draws`: K random accuracy curves, as their values at `places` [K, C] and their optima [K]. `noise`: SD of one
        run's score. `ends`: the smallest and the largest weight decay, where they may be the best.
        """
        scores, best = draws
        self._ends = ends
        self.log_lr = float(np.log(lr))
        self.places, self.sizes = places, sizes
        self._scores, self._noise = scores, noise
        self._known = np.full((len(best), 1), len(best) ** -0.5)
        """[K, P], orthonormal: the regressors, functions of the chosen runs' simulated scores."""
        self._left = best - best.mean()
        """[K], residual of the optima after regression on `_known`."""

    @property
    def variance(self) -> float:
        """Variance of the optimum, in ln(weight decay) squared."""
        return self._variance(float(self._left @ self._left), self._known.shape[1]) + self._open()

    def _open(self, candidate: int = -1) -> float:
        """Variance added because the optimum may lie beyond an end, after the runs of `candidate`; -1: none."""
        more = int(self.sizes[candidate])
        return BEYOND_END**2 * sum(end.open(self._noise, candidate, more) for end in self._ends)

    def after(self, rng: np.random.Generator) -> Floats:
        """[C], expected variance of the optimum after one more run at each candidate."""
        # Common random numbers, so that differences between candidates are not due to chance.
        noise = rng.standard_normal(len(self._left))
        told = [self._told(c, noise) for c in range(len(self.places))]
        rss = float(self._left @ self._left)
        left = [rss - float(((q.T @ self._left) ** 2).sum()) for q in told]
        return np.array([self._variance(left[c], self._size(q)) + self._open(c) for c, q in enumerate(told)])

    def take(self, candidate: int, rng: np.random.Generator) -> None:
        """Updates the state as if the runs of `candidate` had been done."""
        told = self._told(candidate, rng.standard_normal(len(self._left)))
        self._left = self._left - told @ (told.T @ self._left)
        self._known = np.hstack([self._known, told])
        for end in self._ends:
            end.take(candidate, int(self.sizes[candidate]))
        self.sizes[candidate] = 1

    def _told(self, candidate: int, noise: Floats) -> Floats:
        """[K, 2], regressors added by `candidate`, orthonormal to `_known`: its simulated scores and their squares."""
        score = self._scores[:, candidate] + self._noise / np.sqrt(self.sizes[candidate]) * noise
        score = (score - score.mean()) / score.std()
        added = np.column_stack([score, score**2])
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            added = added - self._known @ (self._known.T @ added)
        return np.asarray(np.linalg.qr(added)[0])

    def _size(self, told: Floats) -> int:
        return self._known.shape[1] + told.shape[1]

    def _variance(self, rss: float, parameters: int) -> float:
        return rss / (len(self._left) - parameters) + LEAST_VARIANCE


def next_runs(landscape: Landscape, fit: LineFit | None, count: int, rng: np.random.Generator) -> Plan:
    """The `count` runs that are expected to narrow the intervals of slope and ratio most.

    `fit`: the line through the optima, None if there is none; `rng` draws the curves and the simulated scores.
    """
    first = list(missing(landscape, fit))[:count]
    if fit is None or len(first) == count:
        return Plan(tuple(numbered(landscape, first)), None, None)
    diverges = Divergence(landscape)
    rates = [_rate(curve, diverges, rng) for curve in fit.curves if curve.fitted is not None]
    variances = np.array([rate.variance for rate in rates])
    x = np.array([rate.log_lr for rate in rates])
    before = _errors(x, variances)
    worth: list[Floats | None] = [None] * len(rates)
    chosen = list(first)
    while len(chosen) < count:
        now, choice = _cost(x, variances), (-np.inf, 0, 0)
        for i, rate in enumerate(rates):
            if (after := worth[i]) is None:
                after = worth[i] = rate.after(rng)
            for c, variance in enumerate(after):
                gain = now - _cost(x, np.where(np.arange(len(rates)) == i, variance, variances))
                choice = max(choice, (gain / rate.sizes[c], i, c))
        _, i, c = choice
        run = (float(np.exp(x[i])), float(np.exp(rates[i].places[c])))
        chosen += [run] * min(int(rates[i].sizes[c]), count - len(chosen))
        rates[i].take(c, rng)
        variances[i], worth[i] = rates[i].variance, None
    runs = tuple(numbered(landscape, chosen))
    if len(rates) < LEAST_LRS:
        return Plan(runs, None, None)
    slope, ratio = _errors(x, variances)
    return Plan(runs, slope / before[0], ratio / before[1])


def _errors(x: Floats, variances: Floats) -> tuple[float, float]:
    """Standard errors of slope and of mean height of a line through optima at `x` [E] with `variances` [E]."""
    weights = 1 / variances
    centre = weights @ x / weights.sum()
    return float(1 / np.sqrt(max(weights @ (x - centre) ** 2, 1e-12))), float(1 / np.sqrt(weights.sum()))


def _cost(x: Floats, variances: Floats) -> float:
    slope, ratio = _errors(x, variances)
    return (slope / SLOPE_UNIT) ** 2 + (ratio / RATIO_UNIT) ** 2


def _rate(curve: OptimumCurve, diverges: Divergence, rng: np.random.Generator) -> _Rate:
    fitted = curve.fitted
    assert fitted is not None
    places = np.array(sorted(_places(curve, diverges)))
    low, high = min(places[0], fitted.points.low), max(places[-1], fitted.points.high)
    grid = np.concatenate([np.linspace(low, high, FINE), places])
    order = np.argsort(grid, kind="stable")
    sorted_draws = fitted.draw(rng, np.maximum.accumulate(grid[order] + 1e-9 * np.arange(len(grid))))
    drawn = np.empty_like(sorted_draws)
    drawn[:, order] = sorted_draws
    best = grid[:FINE][drawn[:, :FINE].argmax(axis=1)]
    seeds = np.isfinite(fitted.points.scores).sum(axis=1)
    noise = float(np.sqrt(np.median(np.diag(fitted.process.covariance) * seeds)))
    # A new weight decay gets as many seeds as the others: with fewer seeds it could hardly be told from the best.
    new = np.abs(places[:, None] - fitted.points.x[None, :]).min(axis=1) > SAME
    sizes = np.where(new, max(int(np.median(seeds)), 1), 1)
    noise /= fitted.process.scale
    return _Rate(curve.lr, places, sizes, (drawn[:, FINE:], best), noise, list(_ends(curve, places, seeds, noise)))


def _ends(curve: OptimumCurve, places: Floats, seeds: NDArray[np.intp], noise: float) -> Iterator[_End]:
    assert curve.fitted is not None
    points, scale = curve.fitted.points, curve.fitted.process.scale
    best, first = int(points.noise.mean.argmax()), int(points.x[0] < points.low)
    for end, beyond in ((first, curve.alike[0] <= first), (len(points.x) - 1, curve.alike[-1] == len(points.x) - 1)):
        if beyond and best not in (0, end):
            at, of_best = (int(np.abs(places - points.x[i]).argmin()) for i in (end, best))
            lead = float(points.noise.mean[best] - points.noise.mean[end]) / scale
            runs = [float(seeds[end]), float(seeds[best])]
            yield _End(at, of_best, lead, runs, sum(noise**2 / n for n in runs))


def _places(curve: OptimumCurve, diverges: Divergence) -> Iterator[float]:
    """Candidates, ln(weight decay): runs, midpoints between runs, and points beyond an end that is not bounded."""
    assert curve.fitted is not None
    points = curve.fitted.points
    yield from points.x[points.x >= points.low]
    yield from (place for place in _new_places(curve, points) if not diverges.at(curve.lr, float(np.exp(place))))


def _new_places(curve: OptimumCurve, points: Points) -> Iterator[float]:
    runs = points.x[points.x >= points.low]
    yield from ((a + b) / 2 for a, b in pairwise(runs) if b - a >= 2 * LEAST_GAP)
    low, high = curve.interval(CLOSED_DEVIANCE)
    if np.isinf(high) and points.high + BEYOND < points.ceiling:
        yield points.high + BEYOND
        if points.high + 2 * BEYOND < points.ceiling:
            yield points.high + 2 * BEYOND
    if np.isinf(low) and not curve.even_below and points.low - BEYOND > points.floor:
        yield points.low - BEYOND


def next_trials(landscape: Landscape, found: Ridge, count: int, rng: np.random.Generator) -> Plan:
    """The `count` further trials of a random search expected to narrow slope and ratio most; see `next_runs`."""
    known = np.isfinite(found.lines[:, 0])
    if known.sum() < LEAST_DRAWS:
        return Plan((), None, None)
    diverges = Divergence(landscape)
    ok = np.array([not diverges.at(*point) for point in np.exp(found.points)])
    if not ok.any():
        return Plan((), None, None)
    points, scores = found.points[ok], found.scores[known][:, ok]
    one_run = np.ones(len(points), dtype=np.intp)
    of = [
        _Rate(1.0, points[:, 1], one_run.copy(), (scores, found.lines[known, i] / scale), found.noise, ())
        for i, scale in ((0, SLOPE_UNIT), (1, RATIO_UNIT))
    ]
    before = [math.sqrt(one.variance) for one in of]
    chosen = []
    for _ in range(count):
        best = int(np.sum([one.after(rng) for one in of], axis=0).argmin())
        for one in of:
            one.take(best, rng)
        # Each trial gets a slightly different learning rate; otherwise the search would become a grid.
        lr = np.exp(points[best, 0] + rng.uniform(-APART, APART))
        chosen.append((float(f"{lr:.4g}"), float(np.exp(points[best, 1]))))
    slope, ratio = (math.sqrt(one.variance) / was for one, was in zip(of, before, strict=True))
    return Plan(tuple(numbered(landscape, chosen)), slope, ratio)
