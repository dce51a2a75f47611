"""Posterior of the smooth curve of accuracy over ln(weight decay) at one learning rate, given its runs (a slice).

A Gaussian process with a Matérn-5/2 kernel (Rasmussen and Williams 2006, sections 2.2 and 4.2). Large losses are
replaced by their logarithms (`softening`), which makes a curve that falls off a cliff smooth. Results are averaged by
marginal likelihood over the length scale and the smallest loss that is replaced, both common to all learning rates of
the cell, and over each learning rate's own amplitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from replicate.estimate.flags import Flag
from replicate.estimate.noise import (
    ROUNDING,
    SliceNoise,
    additive_fit,
    level_covariance,
    level_variance_between,
    parts_apart,
    unknown_level_variance,
    variances_by_slice,
)
from replicate.estimate.quantiles import chi2_quantile, t_quantile
from replicate.estimate.seed_curves import (
    LENGTHS,
    Scores,
    Shared,
    known_covariance,
    matern,
    one_seed_covariance,
    shared_noise,
)
from replicate.estimate.softening import SOFTENINGS, hardened, softened
from replicate.landscape.landscape import Floats, Slice

AMPLITUDES = np.array([0.5, 1.5, 5.0, 15.0, 50.0, 150.0, 500.0, 1500.0])
"""Amplitudes of the Gaussian process that are tried, in standard errors of a mean score."""
ZERO_GAP = 40.0
"""Weight decay 0 is placed this far below the smallest other one in ln(weight decay): too far to affect the curve
between the others; its own accuracy can still be the best. An optimum there counts as beyond the grid."""
LEAST_DOF = 6.0
"""With fewer degrees of freedom in a whole cell, the variance between seeds is used only if it exceeds the scatter
around smooth curves: with three, its estimate is below an eighth of the truth in 5 % of cases."""
JITTER = 1e-7
CEILING_PP = 99.5
"""Above this accuracy, good and better weight decays cannot be told apart."""
MIN_TIMES_CHANCE = 2.0
"""A learning rate whose best accuracy is below this multiple of chance learned next to nothing."""
DIP_P = 1e-4
"""A curve has a dip if both the fall into it and the rise out of it are significant at this level (Bonferroni)."""


@dataclass(frozen=True)
class Points:
    """The data of one learning rate to which the Gaussian process is fitted: N points."""

    x: Floats
    """[N], ln(weight decay), ascending."""
    noise: SliceNoise
    """Means and variances of the scores at `x`."""
    scores: Floats
    """[N, S], the scores."""
    low: float
    """ln of the smallest positive weight decay, the lower end of the grid."""
    high: float
    """ln of the largest weight decay."""
    ceiling: float
    """ln of the smallest weight decay above the grid at which training diverged; inf if there is none."""
    floor: float
    """ln of the largest weight decay below the grid at which training diverged; -inf if there is none."""
    rows: NDArray[np.intp]
    """Rows of the slice that are usable."""
    stands_for: NDArray[np.intp]
    """For each of `rows`, the index of its point: the smallest weight decays are one point if their scores agree."""
    smallest: float
    """The smallest weight decay that the first point stands for."""
    flags: tuple[Flag, ...]
    noise_sd: float | None
    """Standard deviation between seeds, if known from elsewhere."""


def accuracy_draws(slices: list[Slice], rng: np.random.Generator, count: int) -> list[Floats]:
    """Posterior draws of the mean accuracy at every weight decay that was run, one [count, W] array per slice.

    Draws include the error that all weight decays of a slice share through their seeds, so slices can be compared.
    Weight decays at which training diverged are NaN; a slice with fewer than three usable ones is all NaN.
    """
    found = [usable_points(s) for s in slices]
    points = [p for p in found if p is not None]
    fits = iter(fit_process(points)) if points else iter(())
    out = []
    for cut, p in zip(slices, found, strict=True):
        table = np.full((count, len(cut.wds)), np.nan)
        if p is not None:
            fit = next(fits)
            level = rng.normal(0, np.sqrt(p.noise.level_variance), (count, 1))
            drawn = draw_curves(p, fit, rng, p.x, count) * fit.scale + p.noise.mean.max() + level
            table[:, p.rows] = drawn[:, p.stands_for]
        out.append(table)
    return out


def usable_points(cut: Slice) -> Points | None:
    """Weight decays at which most runs finished, those without effect merged into one; None if fewer than three."""
    finite = np.isfinite(cut.scores).sum(axis=1)
    diverged = cut.diverged.sum(axis=1)
    usable = (finite > 0) & (diverged * 2 < finite + diverged)
    # At the smallest weight decays, where decay has no effect, runs are identical: one measurement, not several.
    # Equal scores further up are equally good runs (all at 100 %, say) and stay separate.
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
    flags = (*((Flag.DIVERGED,) if diverged.any() else ()), *saturated(float(noise.mean.max()), cut.chance_pp))
    scores, stands = cut.scores[kept], np.array(stands_for)
    smallest = float(cut.wds[rows[0]])
    return Points(x, noise, scores, low, high, ceiling, floor, np.array(rows), stands, smallest, flags, cut.noise_sd)


@dataclass(frozen=True)
class Fit:
    """Posterior weights of the process's hyperparameters for one slice, and the noise they were computed with."""

    weights: Floats
    """[S, L, A], joint over softenings, length scales and amplitudes; sums to 1."""
    covariance: Floats
    """[N, N], noise covariance of the means."""
    scale: float
    """Typical standard error of a mean."""
    share: float
    """Share of a run's variance that is its seed's own smooth curve: `seed_curves.Shared.share`."""
    log_evidence: float
    """Log-evidence of the whole cell, averaged over softenings, length scales and amplitudes."""


def fit_process(cells: list[Points]) -> list[Fit]:
    """One fit per learning rate of a cell, with its own amplitude; softening and length scale are common to all."""
    noise, level_variance = _noise(cells)
    scales = [float(np.sqrt(np.median(np.diag(c)))) for c in noise.covariances]
    covariances = [c + level_covariance(p.noise, level_variance) for p, c in zip(cells, noise.covariances, strict=True)]
    evidence = [
        np.stack([_log_evidence(p, c, s, soft) for soft in SOFTENINGS])
        for p, c, s in zip(cells, covariances, scales, strict=True)
    ]
    by_slice = [logsumexp(e, axis=-1) for e in evidence]
    shared = np.sum(by_slice, axis=0)
    shared_weight = np.exp(shared - logsumexp(shared))
    log_evidence = float(logsumexp(shared) - np.log(shared.size) - len(cells) * np.log(len(AMPLITUDES)))
    fits = []
    for e, marginal, c, s in zip(evidence, by_slice, covariances, scales, strict=True):
        weights = shared_weight[..., None] * np.exp(e - marginal[..., None])
        fits.append(Fit(weights, c, s, noise.share, log_evidence))
    return fits


def softened_mean(points: Points, fit: Fit) -> Floats:
    """Mean scores [N] in standard errors, large losses replaced by logarithms from the likeliest threshold on."""
    softening = float(SOFTENINGS[int(fit.weights.sum(axis=(1, 2)).argmax())])
    return softened(points.noise.mean, fit.covariance, fit.scale, softening)[0]


def _log_evidence(points: Points, covariance: Floats, scale: float, softening: float = np.inf) -> Floats:
    """Log marginal likelihood, [L, A], of the means, with a nearly flat prior on their constant level."""
    y, noise, jacobian = softened(points.noise.mean, covariance, scale, softening)
    level = (10 * (np.ptp(y) + 1)) ** 2
    # The prior's width depends on the softening; correct for it, so that softenings are compared under the same prior.
    jacobian += float(np.log((np.ptp(y) + 1) / (np.ptp(points.noise.mean) / scale + 1)))
    return log_likelihood(points.x, y, noise + level) + jacobian


def log_likelihood(x: Floats, y: Floats, noise: Floats) -> Floats:
    """[L, A], log-likelihood of `y` [N] at `x` [N] under the process plus noise of covariance `noise` [N, N]."""
    kernel = AMPLITUDES[None, :, None, None] ** 2 * _among(x.tobytes())[:, None] + noise
    factor = np.linalg.cholesky(kernel)
    white = np.linalg.solve(factor, np.broadcast_to(y[:, None], (*factor.shape[:-1], 1)))[..., 0]
    log_det = 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
    return np.asarray(-0.5 * (white**2).sum(axis=-1) - 0.5 * log_det)


def saturated(best_pp: float, chance_pp: float) -> tuple[Flag, ...]:
    """Flags of a learning rate whose best accuracy is uninformative: `ceiling` (near 100 %) or `chance`."""
    if best_pp > CEILING_PP:
        return (Flag.CEILING,)
    return (Flag.CHANCE,) if 0 < best_pp < MIN_TIMES_CHANCE * chance_pp else ()


def has_dip(points: Points, fit: Fit) -> bool:
    """Whether some mean lies significantly below one on its left and one on its right: two peaks, or an outlier.

    The best weight decay then depends on which peak is higher. Tested with normal quantiles (Bonferroni over means).
    """
    mean, variance = points.noise.mean, np.diagonal(fit.covariance)
    error = np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * fit.covariance, 1e-12))
    above = (mean[:, None] - mean[None, :]) / error  # [i, j]: z score of i above j
    left, right = np.triu(above).max(axis=0), np.tril(above).max(axis=0)
    return bool((np.minimum(left, right) ** 2 > chi2_quantile(1 - 2 * DIP_P / len(mean), 1)).any())


def _residual_variances(cells: list[Points]) -> Floats:
    """[E], noise variance of a single run around smooth curves, for cells without repeated seeds.

    A smooth curve can follow noise, so the likeliest variance is often much too small, and a plateau then shows a peak.
    The upper end of its 95 % interval is used instead. It is computed under two assumptions, and the larger result
    counts: equal noise at all learning rates, or noise proportional to the spread of each learning rate's scores. If no
    learning rate's runs are smoother than pure noise, the proportion is 1.
    """
    spreads = np.array([float(np.std(p.noise.mean)) for p in cells])
    typical = float(np.median(spreads)) or float(spreads.max()) or 1.0
    level = _largest_allowed(cells, np.full(len(cells), typical))
    return np.asarray(np.maximum(level, _largest_allowed(cells, np.where(spreads > 0, spreads, typical))))


def _largest_allowed(cells: list[Points], unit: Floats) -> Floats:
    """[E], upper 95 % limit of the noise variance, if its square root is the same multiple of `unit` [E] everywhere."""
    shares = np.geomspace(0.01, 1.0, 9)
    evidence = []
    for share in shares:
        total = 0.0
        for p, scale in zip(cells, share * unit, strict=True):
            log_evidence = _log_evidence(p, scale**2 * np.eye(len(p.x)), float(scale))
            total += float(logsumexp(log_evidence)) - len(p.x) * np.log(scale)
        evidence.append(total)
    allowed = np.nonzero(np.array(evidence) >= max(evidence) - chi2_quantile(0.95, 1) / 2)[0]
    return np.asarray((shares[int(allowed[-1])] * unit) ** 2)


def draw_curves(points: Points, fit: Fit, rng: np.random.Generator, grid: Floats, count: int) -> Floats:
    """Draws [K, len(grid)] of the accuracy curve from its posterior, in standard errors relative to the best mean."""
    weights = np.where(fit.weights > 0.01, fit.weights, 0)
    counts = rng.multinomial(count, weights.ravel() / weights.sum()).reshape(weights.shape)
    unit = JITTER * np.eye(len(grid))
    out = []
    for softening, of_softening in zip(SOFTENINGS, counts, strict=True):
        if not of_softening.any():
            continue
        y, noise, _ = softened(points.noise.mean, fit.covariance, fit.scale, softening)
        top = y.max()
        level = (10 * (np.ptp(y) + 1)) ** 2
        for length, of_length in zip(LENGTHS, of_softening, strict=True):
            if not of_length.any():
                continue
            at_data, at_cross, at_grid = _correlations(points.x.tobytes(), grid.tobytes(), float(length))
            for amplitude, drawn in zip(AMPLITUDES**2, of_length, strict=True):
                if drawn:
                    cross = amplitude * at_cross + level
                    gain = np.linalg.solve(amplitude * at_data + level + noise, cross.T).T
                    covariance = amplitude * at_grid + (level - gain @ cross.T) + (amplitude + 1) * unit
                    root = np.linalg.cholesky(covariance)
                    out.append(hardened(gain @ y - top + rng.standard_normal((drawn, len(grid))) @ root.T, softening))
    return np.concatenate(out)


@lru_cache(maxsize=256)
def _among(x: bytes) -> Floats:
    """[L, N, N], the process's correlations between the runs at `x`, for each length scale in `LENGTHS`."""
    runs = np.frombuffer(x)
    return np.stack([matern(np.abs(runs[:, None] - runs[None, :]), length) for length in LENGTHS])


@lru_cache(maxsize=256)
def _correlations(x: bytes, grid: bytes, length: float) -> tuple[Floats, Floats, Floats]:
    """Kernel among the runs at `x`, between `grid` and runs, and among `grid`; cached, as cells often share both."""
    runs, places = np.frombuffer(x), np.frombuffer(grid)
    pairs = ((runs, runs), (places, runs), (places, places))
    among, to_runs, to_grid = (matern(np.abs(a[:, None] - b[None, :]), length) for a, b in pairs)
    return among, to_runs, to_grid


def _noise(cells: list[Points]) -> tuple[Shared, float]:
    """Covariance of the means of every slice, from variances shrunk towards the cell's, and variance of seed levels.

    A seed's level is the error common to its runs; it matters only if parts of a slice have no seed in common.
    """
    noises = [p.noise for p in cells]
    known = cells[0].noise_sd
    dof = sum(float(n.dof.sum()) for n in noises)
    if dof < (LEAST_DOF if known is None else ROUNDING):
        return _noise_without_repeats(cells, known)
    least = _least_variance(cells)
    if known is None:
        few = (t_quantile(0.975, dof) / t_quantile(0.975, np.inf)) ** 2
        variances = [few * variance for variance in variances_by_slice(noises)]
    else:
        variances = [np.full(len(p.x), known**2) for p in cells]
    scores = [Scores(_near(p), p.scores, np.maximum(v, least)) for p, v in zip(cells, variances, strict=True)]
    found = shared_noise(scores, of_known_size=known is not None)
    shared = Shared(tuple(c + least * np.eye(len(c)) for c in found.covariances), found.share)
    return shared, level_variance_between(noises, unknown_level_variance(noises))


def _noise_without_repeats(cells: list[Points], known: float | None) -> tuple[Shared, float]:
    """As `_noise`, for cells with too few repeated seeds, or none, to estimate the noise from them."""
    noises, least = [p.noise for p in cells], _least_variance(cells)
    if known is None:
        seen = [float(np.nanmax(n.residual_variance, initial=0.0)) for n in noises]
        variances = np.maximum(_residual_variances(cells), max(least, *seen))
        alone = [one_seed_covariance(_near(p), np.full(len(p.x), v)) for p, v in zip(cells, variances, strict=True)]
    else:
        variances = np.full(len(cells), max(known**2, least))
        alone = [known_covariance(_near(p), float(v)) for p, v in zip(cells, variances, strict=True)]
    # If most neighbours have different seeds, the scatter around smooth curves includes that of the seed levels.
    apart = np.concatenate([parts_apart(n) for n in noises if parts_apart(n).any()] or [np.zeros(1, dtype=bool)])
    most = float(variances.max()) if apart.mean() >= 0.5 else unknown_level_variance(noises)
    return Shared(tuple(alone), float("nan")), level_variance_between(noises, most)


def _least_variance(cells: list[Points]) -> float:
    """Smallest variance assumed: scores that agree to the last digit are not as precise as that suggests."""
    spread = max(float(np.ptp(p.noise.mean)) for p in cells)
    return max(1e-4 * spread, 1e-9) ** 2


def _near(points: Points) -> Floats:
    """`points.x`, but weight decay 0 only a factor 10 below the smallest other one, as their errors correlate."""
    return np.maximum(points.x, points.low - np.log(10))
