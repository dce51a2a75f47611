"""Where the best weight decay of one learning rate lies: scores of a slice to the likelihood of every ln(weight decay).

Accuracy is a smooth unknown function of ln(weight decay): a Gaussian process with a Matérn-5/2 kernel (Rasmussen and
Williams 2006, sections 2.2 and 4.2), its length scale weighed by marginal likelihood over all learning rates of the
cell, its amplitude learning rate by learning rate. Draws of the process from its posterior have an argmax each; how
much more often it falls at a place than it does under the prior is the likelihood of that place (a Bayes factor): first
among the weight decays that were run, then in the neighbourhood of each. Hence no shape is assumed, a flat slice says
nothing, and an argmax at the end of the grid speaks for all that lies beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from replicate.estimate.best_set import indistinguishable
from replicate.estimate.noise import SliceNoise, additive_fit, moderated_variance
from replicate.estimate.quantiles import chi2_quantile
from replicate.estimate.shared import Scores, Shared, matern, one_seed_covariance, shared_noise
from replicate.landscape import Slice

Floats = NDArray[np.float64]

LENGTHS = np.array([0.8, 1.4, 2.4, 4.2, 7.0])
"""Length scales tried, in units of ln(weight decay)."""
AMPLITUDES = np.array([0.5, 1.5, 5.0, 15.0, 50.0, 150.0, 500.0, 1500.0])
"""Amplitudes tried, in standard errors of a mean."""
DRAWS = 800
FINE = 97
"""Points at which a draw is evaluated; its argmax is then refined by a parabola."""
STEP = 0.02
"""Spacing of the likelihood's grid in ln(weight decay)."""
FLOOR = 2e-3
"""Share of doubt: no slice alone can make a place less likely than this against knowing nothing."""
ZERO_GAP = 40.0
"""Weight decay 0 stands this far below the smallest other one in ln(weight decay): too far to shape the curve between
the others, near enough to be the best. An optimum there counts as beyond the grid."""
PLATEAU = float(np.log(8))
"""Width in ln(weight decay) from which runs that cannot be told from the best are a plateau: the paper's accuracies
fall by 0.7 pp at a factor 2 either way, which three seeds can tell."""
SET_LEVEL = 0.99
"""Level of the set of runs that cannot be told from the best, where it decides whether an optimum is bounded."""
JITTER = 1e-7


@dataclass(frozen=True)
class Points:
    """What the process is fitted to at one learning rate."""

    x: Floats
    """[N], ln(weight decay), ascending."""
    noise: SliceNoise
    """Means and variances of the scores at `x`."""
    scores: Floats
    """[N, S], the scores themselves."""
    low: float
    """ln of the smallest positive weight decay: what lies below is beyond the grid."""
    high: float
    ceiling: float
    """ln of the smallest weight decay above the grid at which training diverged; inf where none did."""
    floor: float
    """The same below the grid; -inf where none did."""
    rows: NDArray[np.intp]
    """Rows of the slice that are usable, and …"""
    stands_for: NDArray[np.intp]
    """… for each of them, which point stands for it (equal measurements are one point)."""
    flags: tuple[str, ...]


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
    flags: tuple[str, ...]
    seed_curve_share: float
    """Share of a run's variance that is its seed's own smooth curve; NaN where no seed is repeated."""

    def at(self, x: Floats) -> Floats:
        """Log-likelihood that the best ln(weight decay) is `x` (any shape, infinities allowed)."""
        last = len(self.table) - 1
        index = np.clip(np.floor((np.clip(x, -1e6, 1e6) - self.start) / STEP + 1.5), 0, last).astype(np.int32)
        value = self.table[index]
        if np.isfinite(self.ceiling) or np.isfinite(self.floor):
            value = np.where((x >= self.ceiling) | (x <= self.floor), np.log(FLOOR), value)
        return value

    def interval(self, deviance: float) -> tuple[float, float]:
        """Where the log-likelihood is within `deviance` / 2 of its largest; open ends are infinite."""
        inside = np.nonzero(self.table >= self.table.max() - deviance / 2)[0]
        low, high = int(inside[0]), int(inside[-1])
        left = -np.inf if low == 0 else self.start + (low - 1) * STEP
        right = np.inf if high == len(self.table) - 1 else self.start + (high - 1) * STEP
        return max(left, self.floor), min(right, self.ceiling)

    @property
    def best(self) -> float:
        """The likeliest ln(weight decay); infinite beyond the grid unless divergence bounds it there."""
        index, last = int(np.argmax(self.table)), len(self.table) - 1
        # Beyond the grid, where training diverged further on: halfway to there.
        if index == 0:
            return (self.start + self.floor) / 2
        if index == last:
            return (self.start + (last - 2) * STEP + self.ceiling) / 2
        return self.start + (index - 1) * STEP


def optimum_curves(slices: list[Slice], rng: np.random.Generator) -> list[OptimumCurve]:
    """One curve a slice; slices with fewer than three usable weight decays are left out."""
    found = [(s.lr, p) for s in slices if (p := _points(s)) is not None]
    if not found:
        return []
    lrs, points = [lr for lr, _ in found], [p for _, p in found]
    fits = _fit(points)
    return [_curve(lr, p, fit, rng) for lr, p, fit in zip(lrs, points, fits, strict=True)]


def accuracy_draws(slices: list[Slice], rng: np.random.Generator, count: int) -> list[Floats]:
    """Draws of the mean accuracy at every run weight decay, one [count, W] array a slice, from the same process.

    What the seeds share within a slice is added to all its draws alike, so slices can be compared. Weight decays at
    which training diverged are NaN; a slice with fewer than three usable ones is NaN altogether.
    """
    found = [_points(s) for s in slices]
    points = [p for p in found if p is not None]
    fits = iter(_fit(points)) if points else iter(())
    out = []
    for cut, p in zip(slices, found, strict=True):
        table = np.full((count, len(cut.wds)), np.nan)
        if p is not None:
            fit = next(fits)
            level = rng.normal(0, np.sqrt(p.noise.level_variance), (count, 1))
            drawn = _draw(p, fit, rng, p.x, count) * fit.scale + p.noise.mean.mean() + level
            table[:, p.rows] = drawn[:, p.stands_for]
        out.append(table)
    return out


def _noise(cells: list[Points]) -> Shared:
    """Covariance of the means of every slice, moderated over all slices of a cell."""
    noises = [p.noise for p in cells]
    variance, _ = moderated_variance(
        np.concatenate([n.residual_variance for n in noises]), np.concatenate([n.dof for n in noises])
    )
    least = _least_variance(cells)
    if np.isnan(variance).any():
        # No seed is repeated.
        white = max(_residual_variance(cells), least)
        return Shared(tuple(one_seed_covariance(_near(p), np.full(len(p.x), white)) for p in cells), float("nan"))
    parts = np.split(np.maximum(variance, least), np.cumsum([len(n.mean) for n in noises])[:-1])
    found = shared_noise([Scores(_near(p), p.scores, v) for p, v in zip(cells, parts, strict=True)])
    return Shared(tuple(c + least * np.eye(len(c)) for c in found.covariances), found.share)


def _least_variance(cells: list[Points]) -> float:
    """Variance below which nothing is told apart: scores that agree to the last digit are not that exact."""
    spread = max(float(np.ptp(p.noise.mean)) for p in cells)
    return max(1e-4 * spread, 1e-9) ** 2


def _near(points: Points) -> Floats:
    """`points.x` with weight decay 0 a factor 10 below the smallest other one, where its runs' errors are alike."""
    return np.maximum(points.x, points.low - np.log(10))


def _points(cut: Slice) -> Points | None:
    """The usable weight decays of a slice, equal measurements merged; None where fewer than three are left."""
    finite = np.isfinite(cut.scores).sum(axis=1)
    diverged = cut.diverged.sum(axis=1)
    usable = (finite > 0) & (diverged * 2 < finite + diverged)
    flags = ("diverged",) if diverged.any() else ()
    # Runs in which decay cannot act, the lowest of all, are one and the same training: one measurement, not several.
    # Equals further up are equally good runs (at 100 %, say) and stay what they are.
    rows = [int(i) for i in np.nonzero(usable)[0]]
    kept: list[int] = []
    stands_for = []
    for i in rows:
        if len(kept) == 1 and np.array_equal(cut.scores[kept[-1]], cut.scores[i], equal_nan=True):
            kept[-1] = i
        else:
            kept.append(i)
        stands_for.append(len(kept) - 1)
    if len(kept) < 3 or (cut.wds[kept] > 0).sum() < 2:
        return None
    wds = cut.wds[kept]
    x = np.log(np.where(wds > 0, wds, 1.0))
    if wds[0] == 0:
        x[0] = x[1] - ZERO_GAP
    low, high = float(np.log(wds[wds > 0][0])), float(x[-1])
    lost = cut.wds[(diverged > 0) & ~usable & (cut.wds > 0)]
    above, below = lost[lost > wds[-1]], lost[lost < wds[0]]
    ceiling = float(np.log(above.min())) if len(above) else np.inf
    floor = float(np.log(below.max())) if len(below) and wds[0] > 0 else -np.inf
    noise = additive_fit(cut.scores[kept])
    return Points(x, noise, cut.scores[kept], low, high, ceiling, floor, np.array(rows), np.array(stands_for), flags)


@dataclass(frozen=True)
class _Fit:
    """Weights of the (length, amplitude) pairs of one slice, and the noise they were found with."""

    weights: Floats
    """[L, A], sums to 1."""
    covariance: Floats
    """[N, N], of the means."""
    scale: float
    """Typical standard error of a mean."""
    share: float
    """See `Shared.share`."""


def _fit(cells: list[Points]) -> list[_Fit]:
    """Posterior weights of length scale (shared by the cell) and amplitude (slice by slice)."""
    noise = _noise(cells)
    scales = [float(np.sqrt(np.median(np.diag(c)))) for c in noise.covariances]
    evidence = [_log_evidence(p, c, s) for p, c, s in zip(cells, noise.covariances, scales, strict=True)]
    by_slice = [logsumexp(e, axis=1) for e in evidence]
    shared = np.sum(by_slice, axis=0)
    length_weight = np.exp(shared - logsumexp(shared))
    fits = []
    for e, marginal, c, s in zip(evidence, by_slice, noise.covariances, scales, strict=True):
        weights = length_weight[:, None] * np.exp(e - marginal[:, None])
        fits.append(_Fit(weights, c, s, noise.share))
    return fits


def _log_evidence(points: Points, covariance: Floats, scale: float) -> Floats:
    """Log marginal likelihood, [L, A], of the means with a free constant level."""
    y = (points.noise.mean - points.noise.mean.mean()) / scale
    distance = np.abs(points.x[:, None] - points.x[None, :])
    correlation = np.stack([matern(distance, length) for length in LENGTHS])
    level = (10 * (np.ptp(y) + 1)) ** 2
    kernel = AMPLITUDES[None, :, None, None] ** 2 * correlation[:, None] + level
    kernel = kernel + covariance / scale**2
    factor = np.linalg.cholesky(kernel)
    white = np.linalg.solve(factor, np.broadcast_to(y[:, None], (*factor.shape[:-1], 1)))[..., 0]
    log_det = 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
    return np.asarray(-0.5 * (white**2).sum(axis=-1) - 0.5 * log_det)


def _residual_variance(cells: list[Points]) -> float:
    """Noise variance of a single run around smooth curves, where no seed is repeated: the largest that they allow.

    A smooth curve can pass for noise and noise for a curve, so the likeliest variance is often much too small: a
    plateau then shows a summit. The upper end of its 95 % interval by evidence is not.
    """
    spread = float(np.median([np.std(p.noise.mean) for p in cells])) or 1.0
    candidates = (spread * np.geomspace(0.01, 1.0, 9)) ** 2
    evidence = []
    for variance in candidates:
        total = 0.0
        for p in cells:
            scale = float(np.sqrt(variance))
            log_evidence = _log_evidence(p, variance * np.eye(len(p.x)), scale)
            total += float(logsumexp(log_evidence)) - len(p.x) * np.log(scale)
        evidence.append(total)
    allowed = np.nonzero(np.array(evidence) >= max(evidence) - chi2_quantile(0.95, 1) / 2)[0]
    return float(candidates[int(allowed[-1])])


def _draw(points: Points, fit: _Fit, rng: np.random.Generator, grid: Floats, count: int) -> Floats:
    """Draws [K, len(grid)] of the accuracy curve from its posterior, in standard errors, less the mean score."""
    y = (points.noise.mean - points.noise.mean.mean()) / fit.scale
    noise = fit.covariance / fit.scale**2
    level = (10 * (np.ptp(y) + 1)) ** 2
    weights = np.where(fit.weights > 0.01, fit.weights, 0).ravel()
    counts = rng.multinomial(count, weights / weights.sum())
    to_data = np.abs(grid[:, None] - points.x[None, :])
    to_grid = np.abs(grid[:, None] - grid[None, :])
    among = np.abs(points.x[:, None] - points.x[None, :])
    out = []
    for flat in np.nonzero(counts)[0]:
        length = LENGTHS[flat // len(AMPLITUDES)]
        amplitude = AMPLITUDES[flat % len(AMPLITUDES)] ** 2
        data = amplitude * matern(among, length) + level + noise
        cross = amplitude * matern(to_data, length) + level
        gain = np.linalg.solve(data, cross.T).T
        covariance = amplitude * matern(to_grid, length) + level - gain @ cross.T
        root = np.linalg.cholesky(covariance + JITTER * (amplitude + 1) * np.eye(len(grid)))
        out.append(gain @ y + rng.standard_normal((counts[flat], len(grid))) @ root.T)
    return np.concatenate(out)


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


@lru_cache(maxsize=64)
def _standard_normal(count: int) -> Floats:
    """[2000, count], the same whenever it is asked for."""
    return np.random.default_rng(0).standard_normal((2000, count))


def _run_support(points: Points, fit: _Fit, rng: np.random.Generator) -> Floats:
    """[N], how much more likely each weight decay that was run is the best of them than if nothing were known.

    Only what was measured speaks here. Between two runs the process is free, most of all beside a steep fall, where it
    would find a summit that no run has seen; so it may place an optimum among the runs around it, not choose them.
    """
    best = _draw(points, fit, rng, points.x, DRAWS).argmax(axis=1)
    posterior = np.bincount(best, minlength=len(points.x)) / DRAWS
    among = np.abs(points.x[:, None] - points.x[None, :])
    normal = _standard_normal(len(points.x))
    prior = np.zeros(len(points.x))
    for length, weight in zip(LENGTHS, fit.weights.sum(axis=1), strict=True):
        if weight > 0.01:
            root = np.linalg.cholesky(matern(among, length) + JITTER * np.eye(len(points.x)))
            prior += weight * np.bincount((normal @ root.T).argmax(axis=1), minlength=len(points.x)) / len(normal)
    return np.asarray((1 - FLOOR) * posterior / np.maximum(prior, 0.2 / len(points.x)) + FLOOR)


def _curve(lr: float, points: Points, fit: _Fit, rng: np.random.Generator) -> OptimumCurve:
    grid = np.linspace(points.low, points.high, FINE)
    with_zero = bool(points.x[0] < points.low)
    if with_zero:
        draws = _draw(points, fit, rng, np.append(grid, points.x[0]), DRAWS)
        place = np.where(draws[:, -1] > draws[:, :-1].max(axis=1), -np.inf, _argmax(grid, draws[:, :-1]))
    else:
        place = _argmax(grid, _draw(points, fit, rng, grid, DRAWS))
    width = points.high - points.low
    inside = np.arange(points.low, points.high + STEP / 2, STEP)
    prior = np.zeros(len(inside))
    for length, weight in zip(LENGTHS, fit.weights.sum(axis=1), strict=True):
        if weight > 0.01:
            density = _prior_argmax(max(0.1, float(np.round(width / length, 1))))
            prior += weight * np.interp((inside - points.low) / width, (np.arange(40) + 0.5) / 40, density) / width
    finite = place[np.isfinite(place)]
    counts, _ = np.histogram(finite, bins=np.append(inside - STEP / 2, inside[-1] + STEP / 2))
    smoothed = _smooth(counts / (DRAWS * STEP), finite)
    # The prior smoothed alike cancels what the kernel loses over the grid's ends.
    ratio = smoothed / np.maximum(_smooth(prior, finite), 1e-12)
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
    table = np.log(_unbounded(np.concatenate([[below], placed, [above]]), points, fit, inside))
    spacing = _spacing(points.x[points.x >= points.low], float(inside[int(np.argmax(table[1:-1]))]))
    return OptimumCurve(lr, points.low, table, place, points.ceiling, points.floor, spacing, points.flags, fit.share)


def _unbounded(table: Floats, points: Points, fit: _Fit, inside: Floats) -> Floats:
    """`table` where runs that cannot be told from the best one are as likely as the best, wherever they are a plateau.

    Runs that are equally good up to the grid's end bound the optimum on one side only, whatever summit a smooth curve
    shows among them. Between two cliffs it shows one too, in the middle, at every learning rate alike: so three equals
    or more that span `PLATEAU` are a set, each as good as any other.
    """
    dof = max(float(points.noise.dof.sum()), 8.0)
    best = np.nonzero(indistinguishable(points.noise.mean, fit.covariance, dof, SET_LEVEL))[0]
    x = np.maximum(points.x, points.low)
    out = table.copy()
    top = table.max()
    if len(best) >= 3 and x[best[-1]] - x[best[0]] >= PLATEAU:
        out[1:-1][(inside >= x[best[0]] - STEP) & (inside <= x[best[-1]] + STEP)] = top
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


def _smooth(density: Floats, sample: Floats) -> Floats:
    """`density` on the likelihood's grid, convolved with a Gaussian fit for `sample`."""
    if len(sample) < 2:
        return density
    quartiles = np.percentile(sample, [25, 75])
    spread = min(float(np.std(sample)), float(quartiles[1] - quartiles[0]) / 1.34 + 1e-3)
    width = max(1.5 * STEP, 0.35 * spread)
    reach = int(np.ceil(4 * width / STEP))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * STEP / width) ** 2)
    return np.convolve(density, kernel / kernel.sum(), mode="full")[reach : reach + len(density)]
