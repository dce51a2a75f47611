"""Where the best weight decay of one learning rate lies: scores of a slice to the likelihood of every ln(weight decay).

Draws of the accuracy curve (`accuracy_curve.py`) have an argmax each; how much more often it falls at a place than
where nothing is known is the likelihood of that place (a Bayes factor): first among the weight decays that were run,
then in the neighbourhood of each. Hence no shape is assumed, a flat slice says nothing, and an argmax at the end of the
grid speaks for all that lies beyond.
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
FINE = 97
"""Points at which a draw is evaluated; its argmax is then refined by a parabola."""
STEP = 0.02
"""Spacing of the likelihood's grid in ln(weight decay)."""
FLOOR = 2e-3
"""Share of doubt: no slice alone can make a place less likely than this against knowing nothing."""
PLATEAU = float(np.log(8))
"""Width in ln(weight decay) from which runs that cannot be told from the best are a plateau: the paper's accuracies
fall by 0.7 pp at a factor 2 either way, which three seeds can tell."""
MOST_ALIKE = 5
"""Up to this number of neighbouring places of the likelihood's grid may be equally likely and still count as one."""


@dataclass(frozen=True)
class OptimumCurve:
    """The likelihood of the best weight decay of one learning rate."""

    lr: float
    start: float
    """ln(weight decay) of the first grid point; the grid's spacing is `STEP`."""
    table: Floats
    """[G + 2], log-likelihood against knowing nothing: below the grid, on it, above it."""
    draws: Floats
    """[K], argmaxes of posterior draws; -inf and inf beyond the grid."""
    ceiling: float
    floor: float
    spacing: float
    """Distance in ln(weight decay) between the runs around the likeliest place."""
    best_run: float
    """ln(weight decay) of the run with the best mean; below the grid where that is weight decay 0."""
    straight: float
    """`straight_peak`: where the optimum would be if accuracy fell in straight lines."""
    flags: tuple[Flag, ...]
    seed_curve_share: float
    """Share of a run's variance that is its seed's own smooth curve; NaN where no seed is repeated."""
    fitted: FittedCurve | None = None
    """What the draws were made from."""
    alike: tuple[int, ...] = ()
    """Indices of the runs' weight decays that cannot be told from the best one."""

    def at(self, x: Floats) -> Floats:
        """Log-likelihood that the best ln(weight decay) is `x` (any shape, infinities allowed)."""
        index = np.clip(np.asarray(x) * (1 / STEP) + (1.5 - self.start / STEP), 0, len(self.table) - 1)
        value = self.table[index.astype(np.int32)]
        # A ceiling or a floor that is infinite is none: an `x` of minus infinity lies below the grid, no more.
        if np.isfinite(self.ceiling):
            value = np.where(x >= self.ceiling, np.log(FLOOR), value)
        if np.isfinite(self.floor):
            value = np.where(x <= self.floor, np.log(FLOOR), value)
        return value

    def interval(self, deviance: float) -> tuple[float, float]:
        """Where the log-likelihood is within `deviance` / 2 of its largest; open ends are infinite."""
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
        """The likeliest ln(weight decay), the middle of the likeliest ones where several places are.

        Infinite where they reach beyond the grid on one side, unless divergence bounds it there.
        """
        likeliest = np.nonzero(self.table >= self.table.max() - 1e-9)[0]
        first, last, end = int(likeliest[0]), int(likeliest[-1]), len(self.table) - 1
        # What lies beyond the grid ends where training diverged further on.
        low = self.floor if first == 0 else self.start + (min(first, end - 1) - 1) * STEP
        high = self.ceiling if last == end else self.start + (max(last, 1) - 1) * STEP
        if np.isinf(low) and np.isinf(high):
            return self.start + (end - 2) * STEP / 2
        return (low + high) / 2

    @cached_property
    def single(self) -> float | None:
        """The likeliest ln(weight decay) where one place is; None where a set is, or what lies beyond the grid."""
        likeliest = np.nonzero(self.table >= self.table.max() - 1e-9)[0]
        inside = likeliest[0] > 0 and likeliest[-1] < len(self.table) - 1
        return self.best if inside and likeliest[-1] - likeliest[0] < MOST_ALIKE else None

    @property
    def even_below(self) -> bool:
        """Whether the two smallest weight decays do as well as any: nothing is to be found below them."""
        return self.alike[:2] == (0, 1)

    @property
    def noise_known(self) -> bool:
        """Whether it is known how much seeds differ: from repeated seeds, or given by the user."""
        given = self.fitted is not None and self.fitted.points.noise_sd is not None
        return given or not np.isnan(self.seed_curve_share)

    def among_alike(self) -> OptimumCurve:
        """The curve, but with all places from the first to the last of the runs that cannot be told apart alike."""
        if self.fitted is None or not self.alike:
            return self
        x = np.maximum(self.fitted.points.x[[self.alike[0], self.alike[-1]]], self.start)
        first, last = (int(i) for i in np.round((x - self.start) / STEP) + 1)
        table = self.table.copy()
        table[first : last + 1] = table.max()
        return replace(self, table=table)

    def middle(self, deviance: float) -> float:
        """`single`; where there is none, the middle of the interval within `deviance`, or `best` if that is open."""
        if self.single is not None:
            return self.single
        low, high = self.interval(deviance)
        return (low + high) / 2 if np.isfinite(high - low) else self.best


def optimum_curves(slices: list[Slice], rng: np.random.Generator) -> list[OptimumCurve]:
    """One curve a slice; slices with fewer than three usable weight decays are left out."""
    fitted = fitted_curves(slices, rng)
    points = [f.points for f in fitted]
    best = [best_runs(f.points, f.process) for f in fitted]
    parts = zip(fitted, best, flat_tops(points, best), strict=True)
    return [_curve(f, runs, flat, rng) for f, runs, flat in parts]


def _argmax(grid: Floats, draws: Floats) -> Floats:
    """Argmax of each draw on an even grid, refined by the parabola through its neighbours; infinite at the ends."""
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
    """Density over [0, 1], in 40 bins, of the argmax of a process of which nothing is known."""
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
    """How often each of the runs at `x` is the best one if nothing is known of the process: [N], of `PRIOR_DRAWS`."""
    runs = np.frombuffer(x)
    among = matern(np.abs(runs[:, None] - runs[None, :]), length)
    root = np.linalg.cholesky(among + JITTER * np.eye(len(runs)))
    best = (np.random.default_rng(0).standard_normal((PRIOR_DRAWS, len(runs))) @ root.T).argmax(axis=1)
    return np.bincount(best, minlength=len(runs)).astype(np.float64)


def _run_support(points: Points, fit: Fit, rng: np.random.Generator) -> Floats:
    """[N], how much more likely each weight decay that was run is the best of them than if nothing were known.

    Only what was measured speaks here. Between two runs the process is free, most of all beside a steep fall, where it
    would find a summit that no run has seen; so it may place an optimum among the runs around it, not choose them.
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
    straight = straight_peak(runs, softened_mean(points, fit)[points.x >= points.low])
    peaks = float(points.x[points.noise.mean.argmax()]), straight
    draws = np.concatenate(places)
    return OptimumCurve(
        lr=fitted.lr,
        start=points.low,
        table=table,
        draws=draws,
        ceiling=points.ceiling,
        floor=points.floor,
        spacing=spacing,
        best_run=peaks[0],
        straight=peaks[1],
        flags=flags,
        seed_curve_share=fit.share,
        fitted=fitted,
        alike=tuple(int(i) for i in best),
    )


def _places(points: Points, draw: Callable[[Floats], Floats]) -> Floats:
    """[K], argmaxes of curves that `draw` draws on a grid; minus infinity where weight decay 0 is better."""
    grid = np.linspace(points.low, points.high, FINE)
    if points.x[0] >= points.low:
        return _argmax(grid, draw(grid))
    drawn = draw(np.append(grid, points.x[0]))
    return np.where(drawn[:, -1] > drawn[:, :-1].max(axis=1), -np.inf, _argmax(grid, drawn[:, :-1]))


def _density(places: Floats, inside: Floats, before: Floats) -> tuple[Floats, Floats]:
    """Densities of `places` and `before`, what it was beforehand [G], at `inside` [G], smoothed alike."""
    finite = places[np.isfinite(places)]
    counts, _ = np.histogram(finite, bins=np.append(inside - STEP / 2, inside[-1] + STEP / 2))
    density = counts / (len(places) * STEP)
    if len(finite) < 2:
        return density, before
    kernel = _kernel(finite)
    return _smooth(density, kernel), _smooth(before, kernel)


def _by_shape(points: Points, places: Floats, inside: Floats) -> Floats:
    """[G + 2], how much more likely every place is by the rise and the fall than beforehand; see `OUTSIDE`."""
    before = np.full(len(inside), (1 - 2 * OUTSIDE) / (points.high - points.low))
    density, prior = _density(places, inside, before)
    ratio = density / np.maximum(prior, 1e-12)
    below, above = np.mean(places == -np.inf) / OUTSIDE, np.mean(places == np.inf) / OUTSIDE
    return (1 - FLOOR) * np.concatenate([[below], ratio, [above]]) + FLOOR


def _by_process(points: Points, fit: Fit, places: Floats, inside: Floats, rng: np.random.Generator) -> Floats:
    """[G + 2], as `_by_shape`, by the process alone."""
    width = points.high - points.low
    prior = np.zeros(len(inside))
    for length, weight in zip(LENGTHS, fit.weights.sum(axis=(0, 2)), strict=True):
        if weight > 0.01:
            density = _prior_argmax(max(0.1, float(np.round(width / length, 1))))
            prior += weight * np.interp((inside - points.low) / width, (np.arange(40) + 0.5) / 40, density) / width
    # The prior smoothed alike cancels what the kernel loses over the grid's ends.
    density, prior = _density(places, inside, prior)
    ratio = density / np.maximum(prior, 1e-12)
    support = _run_support(points, fit, rng)
    positive = support[points.x >= points.low]
    runs = points.x[points.x >= points.low]
    shape = (1 - FLOOR) * ratio + FLOOR
    placed = np.zeros(len(inside))
    for k, run_support in enumerate(positive):
        # From the run before to the run after: on a lopsided curve the best run need not be the nearest to the optimum.
        near = (inside >= runs[max(k - 1, 0)] - STEP) & (inside <= runs[min(k + 1, len(runs) - 1)] + STEP)
        placed[near] = np.maximum(placed[near], run_support * shape[near] / shape[near].max())
    # An optimum at the first or last run may lie beyond it, and one at weight decay 0 lies below all others.
    below, above = float(max(support[0], positive[0])), float(positive[-1])
    return np.concatenate([[below], placed, [above]])


def straight_peak(x: Floats, mean: Floats) -> float:
    """Where the peak would lie if accuracy fell from it in straight lines: means [N] at `x` [N] to a place.

    A curve that bends downwards everywhere stays below the lines through two runs on one side, drawn on. On either
    side of the best run these leave a triangle above it; this is the centre of the two tips, weighed by their heights.
    Of a symmetric peak the triangles are alike, of one with a steep side the one towards that side is the larger.
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
    """`table` where runs that cannot be told from the best one are as likely as the best, wherever they are a plateau.

    Runs that are equally good up to the grid's end bound the optimum on one side only, whatever summit a smooth curve
    shows among them. Between two cliffs it shows one too, in the middle, at every learning rate alike: so three equals
    or more that span `PLATEAU` are a set, each as good as any other.
    """
    x = np.maximum(points.x, points.low)
    out = table.copy()
    top = table.max()
    if len(best) >= 3 and x[best[-1]] - x[best[0]] >= PLATEAU:
        # Its ends lie between its last runs and the next ones: halfway.
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
    """Mean distance of the two gaps of `x` [N] nearest to `place`."""
    nearest = np.argsort(np.abs((x[1:] + x[:-1]) / 2 - place))[:2]
    return float(np.diff(x)[nearest].mean())


def _smooth(density: Floats, kernel: Floats) -> Floats:
    """`density` on the likelihood's grid, convolved with `kernel`, which sums to 1."""
    reach = len(kernel) // 2
    return np.convolve(density, kernel, mode="full")[reach : reach + len(density)]


def _kernel(sample: Floats) -> Floats:
    """A Gaussian on the likelihood's grid, as wide as is fit for `sample`."""
    quartiles = np.percentile(sample, [25, 75])
    spread = min(float(np.std(sample)), float(quartiles[1] - quartiles[0]) / 1.34 + 1e-3)
    width = max(1.5 * STEP, 0.35 * spread)
    reach = int(np.ceil(4 * width / STEP))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * STEP / width) ** 2)
    return np.asarray(kernel / kernel.sum())
