"""The best weight decay of one learning rate: the likelihood of every ln(weight decay), given the scores of a slice.

Each draw of the accuracy curve has an argmax. The likelihood of a position is the share of posterior draws with their
argmax there, divided by that share of prior draws (a Bayes factor): first among the weight decays that were run, then
in the neighbourhood of each. Hence no shape is assumed, a flat slice says nothing, and an argmax at the end of the grid
stands for everything beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from replicate.estimate.accuracy_curve import JITTER, Fit, Points, draw_curves, has_dip, softened_mean
from replicate.estimate.fitted_curve import DRAWS, LEAST_SHARE, FittedCurve, fitted_curves
from replicate.estimate.flags import Flag
from replicate.estimate.plateau import FLAT_TOP, best_runs, flat_tops
from replicate.estimate.rise_and_fall import OUTSIDE
from replicate.estimate.seed_curves import LENGTHS, matern
from replicate.landscape.landscape import Floats, Slice

PRIOR_DRAWS = 2000
"""Draws that give the prior probability of each run to be the best."""
FINE = 97
"""Points at which a draw is evaluated; its argmax is then refined by a parabola."""
STEP = 0.02
"""Spacing, in ln(weight decay), of the positions for which the likelihood is tabulated."""
FLOOR = 2e-3
"""Smallest Bayes factor: the runs of one learning rate never make a position less likely than this."""
PLATEAU = float(np.log(8))
"""Runs that cannot be told from the best are a plateau if they span this much in ln(weight decay): the paper's
accuracies fall by 0.7 pp at a factor 2 either way, which three seeds can detect."""
MOST_ALIKE = 5
"""Up to this many neighbouring grid points of the likelihood may tie for the maximum and still count as one optimum."""


@dataclass(frozen=True)
class OptimumCurve:
    """The likelihood of the best weight decay of one learning rate."""

    lr: float
    start: float
    """ln(weight decay) of the first grid point; the grid's spacing is `STEP`."""
    table: Floats
    """[G + 2], log Bayes factor relative to the prior: below the grid, on it, above it."""
    draws: Floats
    """[K], argmaxes of posterior draws; -inf and inf beyond the grid."""
    ceiling: float
    """ln of the smallest weight decay at which training diverged, above the grid; inf if there is none."""
    floor: float
    """ln of the largest weight decay at which training diverged, below the grid; -inf if there is none."""
    spacing: float
    """Distance in ln(weight decay) between the runs around the likeliest position."""
    best_run: float
    """ln(weight decay) of the run with the best mean; below the grid if that is weight decay 0."""
    straight: float
    """The optimum, ln(weight decay), if accuracy falls from it in a straight line on either side: `straight_peak`."""
    flags: tuple[Flag, ...]
    seed_curve_share: float
    """Share of a run's variance due to its seed's own smooth curve; NaN without repeated seeds."""
    fitted: FittedCurve | None = None
    """The posterior of which `draws` are the argmaxes."""
    alike: tuple[int, ...] = ()
    """Indices of the weight decays that were run and cannot be told from the best one."""

    def at(self, x: Floats) -> Floats:
        """Log-likelihood that the best ln(weight decay) is `x` (any shape, infinities allowed)."""
        index = np.clip(np.asarray(x) * (1 / STEP) + (1.5 - self.start / STEP), 0, len(self.table) - 1)
        value = self.table[index.astype(np.int32)]
        # An infinite ceiling or floor means none; without this check an infinite `x` would count as beyond it.
        if np.isfinite(self.ceiling):
            value = np.where(x >= self.ceiling, np.log(FLOOR), value)
        if np.isfinite(self.floor):
            value = np.where(x <= self.floor, np.log(FLOOR), value)
        return value

    def interval(self, deviance: float) -> tuple[float, float]:
        """Interval of ln(weight decay) with log-likelihood within `deviance` / 2 of the maximum; may be infinite."""
        if deviance not in self._intervals:
            self._intervals[deviance] = self._interval(deviance)
        return self._intervals[deviance]

    @cached_property
    def _intervals(self) -> dict[float, tuple[float, float]]:
        return {}

    def _interval(self, deviance: float) -> tuple[float, float]:
        inside = np.nonzero(self.table >= self.table.max() - deviance / 2)[0]
        low, high = int(inside[0]), int(inside[-1])
        left = -np.inf if low == 0 else self.start + (low - 1) * STEP
        right = np.inf if high == len(self.table) - 1 else self.start + (high - 1) * STEP
        return max(left, self.floor), min(right, self.ceiling)

    @cached_property
    def best(self) -> float:
        """The likeliest ln(weight decay); if several positions tie, the middle of them.

        Infinite if they extend beyond the grid on one side and divergence does not bound them there.
        """
        likeliest = np.nonzero(self.table >= self.table.max() - 1e-9)[0]
        first, last, end = int(likeliest[0]), int(likeliest[-1]), len(self.table) - 1
        # Beyond the grid, positions extend only as far as training does not diverge.
        low = self.floor if first == 0 else self.start + (min(first, end - 1) - 1) * STEP
        high = self.ceiling if last == end else self.start + (max(last, 1) - 1) * STEP
        if np.isinf(low) and np.isinf(high):
            return self.start + (end - 2) * STEP / 2
        return (low + high) / 2

    @cached_property
    def single(self) -> float | None:
        """The likeliest ln(weight decay); None if many positions tie or it may lie beyond the grid."""
        likeliest = np.nonzero(self.table >= self.table.max() - 1e-9)[0]
        inside = likeliest[0] > 0 and likeliest[-1] < len(self.table) - 1
        return self.best if inside and likeliest[-1] - likeliest[0] < MOST_ALIKE else None

    @property
    def even_below(self) -> bool:
        """Whether the two smallest weight decays do as well as any, so that smaller ones need not be run."""
        return self.alike[:2] == (0, 1)

    @property
    def noise_known(self) -> bool:
        """Whether the noise between seeds is known, from repeated seeds or from the user."""
        given = self.fitted is not None and self.fitted.points.noise_sd is not None
        return given or not np.isnan(self.seed_curve_share)

    def among_alike(self) -> OptimumCurve:
        """This curve with all positions between the first and the last of the runs in `alike` equally likely."""
        if self.fitted is None or not self.alike:
            return self
        x = np.maximum(self.fitted.points.x[[self.alike[0], self.alike[-1]]], self.start)
        first, last = (int(i) for i in np.round((x - self.start) / STEP) + 1)
        table = self.table.copy()
        table[first : last + 1] = table.max()
        return replace(self, table=table)

    def middle(self, deviance: float) -> float:
        """`single`; if None, the middle of `interval(deviance)`, or `best` if that is not bounded."""
        if self.single is not None:
            return self.single
        low, high = self.interval(deviance)
        return (low + high) / 2 if np.isfinite(high - low) else self.best


def optimum_curves(slices: list[Slice], rng: np.random.Generator) -> list[OptimumCurve]:
    """One curve per slice; slices with fewer than three usable weight decays are left out."""
    fitted = fitted_curves(slices, rng)
    points = [f.points for f in fitted]
    best = [best_runs(f.points, f.process) for f in fitted]
    parts = zip(fitted, best, flat_tops(points, best), strict=True)
    return [_curve(f, runs, flat, rng) for f, runs, flat in parts]


def _argmax(grid: Floats, draws: Floats) -> Floats:
    """Argmax of each draw on an even grid, refined by a parabola through its neighbours; infinite at the ends."""
    index = draws.argmax(axis=1)
    inner = np.clip(index, 1, len(grid) - 2)
    rows = np.arange(len(draws))
    left, middle, right = draws[rows, inner - 1], draws[rows, inner], draws[rows, inner + 1]
    curvature = left - 2 * middle + right
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(curvature < 0, 0.5 * (left - right) / curvature, 0.0)
    place = grid[inner] + np.clip(shift, -1, 1) * (grid[1] - grid[0])
    return np.where(index == 0, -np.inf, np.where(index == len(grid) - 1, np.inf, place))


@lru_cache(maxsize=512)
def _prior_argmax(width_over_length: float) -> Floats:
    """Prior density, in 40 bins, of the process's argmax in an interval `width_over_length` length scales wide."""
    grid = np.linspace(0, 1, FINE)
    rng = np.random.default_rng(0)
    covariance = matern(np.abs(grid[:, None] - grid[None, :]), 1 / width_over_length)
    place = _argmax(grid, rng.standard_normal((8000, FINE)) @ np.linalg.cholesky(covariance + JITTER * np.eye(FINE)).T)
    inner = place[np.isfinite(place)]
    counts, _ = np.histogram(np.concatenate([inner, 1 - inner]), bins=40, range=(0, 1))
    smooth = np.convolve(np.pad(counts, 4, mode="edge"), np.ones(9) / 9, mode="valid")
    return np.asarray(smooth / smooth.sum() * 40)


@lru_cache(maxsize=512)
def _prior_best(x: bytes, length: float) -> Floats:
    """[N], in how many of `PRIOR_DRAWS` prior draws of the process each of the runs at `x` is the best."""
    runs = np.frombuffer(x)
    among = matern(np.abs(runs[:, None] - runs[None, :]), length)
    root = np.linalg.cholesky(among + JITTER * np.eye(len(runs)))
    best = (np.random.default_rng(0).standard_normal((PRIOR_DRAWS, len(runs))) @ root.T).argmax(axis=1)
    return np.bincount(best, minlength=len(runs)).astype(np.float64)


def _run_support(points: Points, fit: Fit, rng: np.random.Generator) -> Floats:
    """[N], Bayes factor, relative to the prior, of each weight decay that was run to be the best of them.

    Evaluated only at the runs: between two runs the process is unconstrained, especially beside a steep fall, where it
    would find a peak that no run supports. So the runs decide near which of them it lies, the process where exactly.
    """
    best = draw_curves(points, fit, rng, points.x, DRAWS).argmax(axis=1)
    posterior = np.bincount(best, minlength=len(points.x)) / DRAWS
    prior = np.zeros(len(points.x))
    for length, weight in zip(LENGTHS, fit.weights.sum(axis=(0, 2)), strict=True):
        if weight > 0.01:
            prior += weight * _prior_best(points.x.tobytes(), float(length)) / PRIOR_DRAWS
    return np.asarray((1 - FLOOR) * posterior / np.maximum(prior, 0.2 / len(points.x)) + FLOOR)


def _curve(
    fitted: FittedCurve, best: NDArray[np.intp], flat: tuple[float, float], rng: np.random.Generator
) -> OptimumCurve:
    points, fit, share = fitted.points, fitted.process, fitted.share
    inside = np.arange(points.low, points.high + STEP / 2, STEP)
    likelihood, places = np.zeros(len(inside) + 2), []
    if share > LEAST_SHARE:
        found = _places(points, lambda grid: fitted.shape.draw(rng, grid))
        places.append(found[: round(share * len(found))])
        likelihood += share * _by_shape(points, found, inside)
    if 1 - share > LEAST_SHARE:
        found = _places(points, lambda grid: draw_curves(points, fit, rng, grid, DRAWS))
        places.append(found[round(share * DRAWS) :])
        likelihood += (1 - share) * _by_process(points, fit, found, inside, rng)
    table = np.log(_unbounded(likelihood, points, best, flat, inside))
    runs = points.x[points.x >= points.low]
    spacing = _spacing(runs, float(inside[int(np.argmax(table[1:-1]))]))
    flags = (*points.flags, Flag.TWO_PEAKS) if has_dip(points, fit) else points.flags
    return OptimumCurve(
        lr=fitted.lr,
        start=points.low,
        table=table,
        draws=np.concatenate(places),
        ceiling=points.ceiling,
        floor=points.floor,
        spacing=spacing,
        best_run=float(points.x[points.noise.mean.argmax()]),
        straight=straight_peak(runs, softened_mean(points, fit)[points.x >= points.low]),
        flags=flags,
        seed_curve_share=fit.share,
        fitted=fitted,
        alike=tuple(int(i) for i in best),
    )


def _places(points: Points, draw: Callable[[Floats], Floats]) -> Floats:
    """[K], argmaxes of the curves that `draw` returns on a grid; minus infinity where weight decay 0 is better."""
    grid = np.linspace(points.low, points.high, FINE)
    if points.x[0] >= points.low:
        return _argmax(grid, draw(grid))
    drawn = draw(np.append(grid, points.x[0]))
    return np.where(drawn[:, -1] > drawn[:, :-1].max(axis=1), -np.inf, _argmax(grid, drawn[:, :-1]))


def _density(places: Floats, inside: Floats, before: Floats) -> tuple[Floats, Floats]:
    """Density [G] of `places` at `inside` [G], and the prior density `before` [G], smoothed with the same kernel."""
    finite = places[np.isfinite(places)]
    counts, _ = np.histogram(finite, bins=np.append(inside - STEP / 2, inside[-1] + STEP / 2))
    density = counts / (len(places) * STEP)
    if len(finite) < 2:
        return density, before
    kernel = _kernel(finite)
    return _smooth(density, kernel), _smooth(before, kernel)


def _by_shape(points: Points, places: Floats, inside: Floats) -> Floats:
    """[G + 2], by the model of `rise_and_fall.py`, Bayes factors of an optimum below the grid, on it, and above it."""
    before = np.full(len(inside), (1 - 2 * OUTSIDE) / (points.high - points.low))
    density, prior = _density(places, inside, before)
    ratio = density / np.maximum(prior, 1e-12)
    below, above = np.mean(places == -np.inf) / OUTSIDE, np.mean(places == np.inf) / OUTSIDE
    return (1 - FLOOR) * np.concatenate([[below], ratio, [above]]) + FLOOR


def _by_process(points: Points, fit: Fit, places: Floats, inside: Floats, rng: np.random.Generator) -> Floats:
    """[G + 2], Bayes factors as in `_by_shape`, but by the Gaussian process alone."""
    width = points.high - points.low
    prior = np.zeros(len(inside))
    for length, weight in zip(LENGTHS, fit.weights.sum(axis=(0, 2)), strict=True):
        if weight > 0.01:
            density = _prior_argmax(max(0.1, float(np.round(width / length, 1))))
            prior += weight * np.interp((inside - points.low) / width, (np.arange(40) + 0.5) / 40, density) / width
    # Smoothing the prior with the same kernel cancels the mass that the kernel loses at the grid's ends.
    density, prior = _density(places, inside, prior)
    ratio = density / np.maximum(prior, 1e-12)
    support = _run_support(points, fit, rng)
    positive = support[points.x >= points.low]
    runs = points.x[points.x >= points.low]
    shape = (1 - FLOOR) * ratio + FLOOR
    placed = np.zeros(len(inside))
    for k, run_support in enumerate(positive):
        # From the run before to the run after: on an asymmetric curve the run nearest the optimum need not be the best.
        near = (inside >= runs[max(k - 1, 0)] - STEP) & (inside <= runs[min(k + 1, len(runs) - 1)] + STEP)
        placed[near] = np.maximum(placed[near], run_support * shape[near] / shape[near].max())
    # An optimum at the first or last run may lie beyond it, and one at weight decay 0 lies below all others.
    below, above = float(max(support[0], positive[0])), float(positive[-1])
    return np.concatenate([[below], placed, [above]])


def straight_peak(x: Floats, mean: Floats) -> float:
    """Position of the peak if accuracy fell from it in straight lines, from means [N] at `x` [N].

    A concave curve lies below any line through two runs, extrapolated. In each of the two gaps beside the best run, the
    lines through the next two runs to the left and to the right cross at a tip; the result is the mean position of the
    two tips, weighted by their heights. For a symmetric peak they are equal; a steep side has the higher tip.
    """
    best = int(mean.argmax())
    tips = [(0.0, float(x[best]))]
    for left in (best - 1, best):
        if left < 1 or left + 2 >= len(x):
            continue
        up = (mean[left] - mean[left - 1]) / (x[left] - x[left - 1])
        down = (mean[left + 2] - mean[left + 1]) / (x[left + 2] - x[left + 1])
        if up > down:
            tip = (mean[left + 1] - mean[left] - down * x[left + 1] + up * x[left]) / (up - down)
            height = mean[left] + up * (tip - x[left]) - mean[best]
            if height > 0 and x[left] < tip < x[left + 1]:
                tips.append((float(height), float(tip)))
    total = sum(height for height, _ in tips)
    return sum(height * tip for height, tip in tips) / total if total > 0 else float(x[best])


def _unbounded(
    table: Floats, points: Points, best: NDArray[np.intp], flat: tuple[float, float], inside: Floats
) -> Floats:
    """`table` with all positions on a plateau made as likely as the best.

    `best`: the runs that cannot be told from the best; `flat`: ends of the curve's flat top. Runs that are equally good
    up to the grid's end do not bound the optimum on that side, even if a smooth curve has a peak among them. Between
    two cliffs a smooth curve always has its peak in the middle: therefore all positions among three or more equally
    good runs that span `PLATEAU` count as equally likely.
    """
    x = np.maximum(points.x, points.low)
    out = table.copy()
    top = table.max()
    if len(best) >= 3 and x[best[-1]] - x[best[0]] >= PLATEAU:
        # The plateau is taken to end halfway between its outer runs and the next ones.
        first, last = max(best[0] - 1, 0), min(best[-1] + 1, len(x) - 1)
        low, high = (x[first] + x[best[0]]) / 2, (x[last] + x[best[-1]]) / 2
        out[1:-1][(inside >= low - STEP) & (inside <= high + STEP)] = top
    low, high = flat
    if high - low >= FLAT_TOP:
        out[1:-1][(inside >= low - STEP) & (inside <= high + STEP)] = top
    if points.x[best[0]] <= points.low:
        out[0] = top
        out[1:-1][inside <= x[best[-1]] + STEP] = top
    if best[-1] == len(points.x) - 1:
        out[-1] = top
        out[1:-1][inside >= x[best[0]] - STEP] = top
    return out


def _spacing(x: Floats, place: float) -> float:
    """Mean width of the two gaps between neighbours in `x` [N] that are nearest to `place`."""
    nearest = np.argsort(np.abs((x[1:] + x[:-1]) / 2 - place))[:2]
    return float(np.diff(x)[nearest].mean())


def _smooth(density: Floats, kernel: Floats) -> Floats:
    """`density` on the likelihood's grid, convolved with `kernel`, which sums to 1."""
    reach = len(kernel) // 2
    return np.convolve(density, kernel, mode="full")[reach : reach + len(density)]


def _kernel(sample: Floats) -> Floats:
    """A Gaussian kernel on the likelihood's grid, its width proportional to the spread of `sample`."""
    quartiles = np.percentile(sample, [25, 75])
    spread = min(float(np.std(sample)), float(quartiles[1] - quartiles[0]) / 1.34 + 1e-3)
    width = max(1.5 * STEP, 0.35 * spread)
    reach = int(np.ceil(4 * width / STEP))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * STEP / width) ** 2)
    return np.asarray(kernel / kernel.sum())
