"""Noise of a landscape: mean scores over seeds at each learning rate, adjusted for seed effects, with covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from replicate.estimate.estimate import Estimate
from replicate.estimate.flags import Flag
from replicate.estimate.quantiles import chi2_quantile
from replicate.landscape.landscape import Floats

ROUNDING = 1e-9
"""A difference between weights smaller than this is a rounding error."""


@dataclass(frozen=True)
class SliceNoise:
    """The additive fit score[w, s] = mean[w] + level[s] + residual[w, s] of a learning rate's runs."""

    mean: Floats
    """[W], mean score, adjusted to the average seed's level."""
    count: NDArray[np.int64]
    """[W], number of finite scores."""
    residual_variance: Floats
    """[W], unbiased variance of one run around the additive fit, for each weight decay separately; NaN with one
    seed."""
    dof: Floats
    """[W], degrees of freedom of `residual_variance`."""
    level_variance: float
    """Variance of the error, common to all means of the slice, that comes from the choice of seeds."""
    weights: Floats | None
    """[W, W, S], weight of each score in each mean; None if no score is missing, so that means are plain averages."""
    level_squares: float
    """Sum of squares of the seeds' levels around their average, among weight decays linked by shared seeds."""
    level_dof: int
    """Degrees of freedom of `level_squares`."""
    linked: bool
    """Whether any seed has scores at two weight decays."""


def additive_fit(scores: Floats) -> SliceNoise:
    """Two-way additive fit of `scores` [W, S] (percent), NaN for missing; every row needs one finite score."""
    finite = np.isfinite(scores)
    count = finite.sum(axis=1)
    n_wd, n_seed = scores.shape
    linked = bool((finite.sum(axis=0) > 1).any())
    if n_seed == 1 or finite.sum() <= n_wd:
        mean = np.nanmean(scores, axis=1)
        nothing = np.full(n_wd, np.nan)
        chosen = None if finite.all() else np.eye(n_wd)[:, :, None] * finite
        return SliceNoise(mean, count, nothing, np.zeros(n_wd), 0.0, chosen, 0.0, 0, linked)
    weights, level_dof = None, (n_seed - 1) * (n_wd > 1)
    if finite.all():
        mean = scores.mean(axis=1)
        seed = scores.mean(axis=0) - scores.mean()
        leverage_left = np.full(scores.shape, (1 - 1 / n_wd) * (1 - 1 / n_seed))
    else:
        mean, seed, leverage_left, weights, level_dof = _least_squares(scores, finite)
    residual = np.where(finite, scores - mean[:, None] - seed[None, :], 0.0)
    dof = np.where(finite, leverage_left, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(dof > 1e-9, (residual**2).sum(axis=1) / dof, np.nan)
    n_columns = int(finite.any(axis=0).sum())
    level = float(np.var(seed[finite.any(axis=0)], ddof=1) / n_columns) if n_columns > 1 else 0.0
    level_squares = float((seed**2).sum()) if level_dof else 0.0
    return SliceNoise(mean, count, variance, dof, level, weights, level_squares, int(level_dof), linked)


def _least_squares(scores: Floats, finite: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats, int]:
    """`additive_fit` if scores are missing: means, levels, 1 - leverage of each score, weights, the levels' dof.

    Two sets of rows not linked by a chain of shared seeds are compared as if the seeds of both had the same mean
    effect, since nothing else is known. A row that shares no seed with any other has no seed effects: all its scatter
    is noise.
    """
    w, s = np.nonzero(finite)
    n_wd, n_seed = scores.shape
    design = np.zeros((len(w), n_wd + n_seed))
    design[np.arange(len(w)), w] = 1
    design[np.arange(len(w)), n_wd + s] = 1
    group = _linked(finite)
    alone = (np.bincount(group[:n_wd], minlength=group.max() + 1) == 1) & (n_wd > 1)
    design[:, n_wd:][:, alone[group[n_wd:]]] = 0
    pseudo_inverse = np.linalg.pinv(design)
    of_mean, of_seed = np.split(pseudo_inverse, [n_wd])
    seen = finite.any(axis=0)
    level_dof = 0
    for g in np.unique(group[:n_wd]):
        columns = seen & (group[n_wd:] == g)
        shift = of_seed[columns].mean(axis=0)
        of_mean[group[:n_wd] == g] += shift
        of_seed[columns] -= shift
        level_dof += int(columns.sum()) - 1 if n_wd > 1 and not alone[g] else 0
    mean, seed = of_mean @ scores[w, s], of_seed @ scores[w, s]
    weights = np.zeros((n_wd, *scores.shape))
    weights[:, w, s] = of_mean
    left = np.zeros(scores.shape)
    left[w, s] = 1 - np.einsum("ij,ji->i", design, pseudo_inverse)
    return mean, np.where(seen, seed, 0.0), left, weights, level_dof


def _linked(finite: NDArray[np.bool_]) -> NDArray[np.intp]:
    """[W + S], connected components of rows and seeds: a number for each, equal for those linked by shared seeds."""
    n_wd, n_seed = finite.shape
    rows, none = np.arange(n_wd), n_wd + np.arange(n_seed)
    while True:
        seeds = np.where(finite, rows[:, None], none).min(axis=0)
        then = np.minimum(rows, np.where(finite, seeds, n_wd + n_seed).min(axis=1))
        if np.array_equal(then, rows):
            return np.concatenate([rows, seeds])
        rows = then


def covariance_of_means(noise: SliceNoise, among: Floats) -> Floats:
    """Covariance [W, W] of `noise.mean` without seeds' levels; `among` [W, W]: covariance of the runs of one seed."""
    if noise.weights is None:
        return among / noise.count
    return np.asarray(np.einsum("iws,wv,jvs->ij", noise.weights, among, noise.weights, optimize=True))


def level_covariance(noise: SliceNoise, variance: float) -> Floats:
    """Covariance [W, W] of the means that is due to the seeds' levels (errors common to a seed's runs) of `variance`.

    If shared seeds link all rows, the levels change all means equally and are left out (zeros). Two rows that are not
    linked have different levels, which make the rows' difference uncertain.
    """
    if noise.weights is None:
        return np.zeros((len(noise.mean), len(noise.mean)))
    apart = _of_levels(noise.weights)
    return np.asarray(variance * apart @ apart.T)


def level_variance_between(noises: Sequence[SliceNoise], unknown: float) -> float:
    """Upper limit of the variance of a seed's level (the error common to its runs) at one learning rate.

    The upper end of a one-sided 90 % interval, from the seeds' levels among weight decays that shared seeds link. A
    seed may have the same level at all learning rates, so all learning rates together have no more degrees of freedom
    than one. Returns `unknown` if linked weight decays never share two seeds, and 0 if all are linked, or if no seed
    has two weight decays: levels then are part of the scatter.
    """
    if not any(parts_apart(n).any() for n in noises):
        return 0.0
    dof = sum(n.level_dof for n in noises)
    if dof:
        most = max(n.level_dof for n in noises)
        return sum(n.level_squares for n in noises) / dof * most / float(chi2_quantile(0.1, most))
    return unknown if any(n.linked for n in noises) else 0.0


def unknown_level_variance(noises: Sequence[SliceNoise]) -> float:
    """Variance assumed for a seed's level if unknown: so large that rows not linked by seeds cannot be compared."""
    return (10 * max(float(np.ptp(n.mean)) for n in noises)) ** 2


def parts_apart(noise: SliceNoise) -> NDArray[np.bool_]:
    """[W - 1], True where no chain of shared seeds links a row to the next one."""
    if noise.weights is None:
        return np.zeros(len(noise.mean) - 1, dtype=bool)
    return np.asarray((np.abs(np.diff(_of_levels(noise.weights), axis=0)) > ROUNDING).any(axis=1))


def _of_levels(weights: Floats) -> Floats:
    """[W, S], weight that each seed's scores have in each mean, minus this weight's average over the means."""
    of_seed = weights.sum(axis=1)
    apart = of_seed - of_seed.mean(axis=0)
    # Between linked rows the differences are rounding errors, which a large variance would magnify.
    return np.where(np.abs(apart) > ROUNDING, apart, 0.0)


def moderated_variance(variance: Floats, dof: Floats) -> tuple[Floats, float]:
    """Variances [N] shrunk towards a common value, and the degrees of freedom of this value.

    Empirical Bayes with a scaled inverse chi-squared prior fitted to the moments of the log variances: G. Smyth,
    "Linear models and empirical Bayes methods for assessing differential expression", 2004, section 6.2. The log of a
    variance with less than one degree of freedom is hardly informative and gets little weight; entries without any
    degrees of freedom get the common value. NaN if there is less than one degree of freedom in total.
    """
    usable = (dof > 1e-9) & np.isfinite(variance)
    if dof[usable].sum() < 1 - 1e-9:
        return np.full_like(variance, np.nan), 0.0
    # A zero among the variances (identical scores) has no logarithm: floor it far below the typical one.
    typical = float(np.sum(variance[usable] * dof[usable]) / np.sum(dof[usable]))
    if typical <= 0:
        return np.zeros_like(variance), float("inf")
    v = np.maximum(variance[usable], 1e-3 * typical)
    d = dof[usable]
    e = np.log(v) - special.digamma(d / 2) + np.log(d / 2)
    # The variance of a log variance is trigamma(d / 2), for few degrees of freedom about 4 / d²; these weights make
    # such an entry's share in the moments vanish smoothly with d.
    expected = special.polygamma(1, d / 2)
    weight = np.minimum(1.0, (float(special.polygamma(1, 0.5)) / expected) ** 2)
    total = float(weight.sum())
    mean = float((weight * e).sum()) / total
    left = total - float((weight**2).sum()) / total
    spread = 0.0
    if left > 1e-9:
        spread = float((weight * (e - mean) ** 2).sum()) / left - float((weight * expected).sum()) / total
    if spread <= 0:
        return np.full_like(variance, typical), float("inf")
    prior_dof = 2 * _inverse_trigamma(spread)
    prior = float(np.exp(mean + special.digamma(prior_dof / 2) - np.log(prior_dof / 2)))
    seen = np.where(usable, dof, 0.0)
    shrunk = (prior_dof * prior + seen * np.where(usable, variance, 0.0)) / (prior_dof + seen)
    return shrunk, prior_dof


def variances_by_slice(noises: Sequence[SliceNoise]) -> list[Floats]:
    """Variance of one run at each weight decay, a [W] array per learning rate, shrunk towards common values.

    In two steps, as noise may differ more between learning rates than between the weight decays of one.
    """
    dof = [n.dof for n in noises]
    pooled = np.array([_pooled(n.residual_variance, n.dof) for n in noises])
    levels, _ = moderated_variance(pooled, np.array([float(d.sum()) for d in dof]))
    relative, _ = moderated_variance(
        np.concatenate([n.residual_variance / max(v, 1e-300) for n, v in zip(noises, levels, strict=True)]),
        np.concatenate(dof),
    )
    parts = np.split(relative, np.cumsum([len(d) for d in dof])[:-1])
    return [v * part for v, part in zip(levels, parts, strict=True)]


def _pooled(variance: Floats, dof: Floats) -> float:
    seen = dof > ROUNDING
    return float(variance[seen] @ dof[seen] / dof[seen].sum()) if seen.any() else float("nan")


def _inverse_trigamma(y: float) -> float:
    """x with trigamma(x) = y, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    if y > 1e7:
        return 1 / np.sqrt(y)
    if y < 1e-6:
        return 1 / y
    x = 0.5 + 1 / y
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / y) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return float(x)


def seed_sd(cells: list[Floats], level: float = 0.95) -> Estimate:
    """Seed-to-seed standard deviation, in units of the scores (percentage points), pooled over cells.

    The configurations of a cell share their seeds, so together they count for as many degrees of freedom as one
    configuration: the number of seeds minus one. The interval is the chi-squared interval of normal data.

    Args:
        cells: One [C, S] array of scores per cell, configuration by seed, NaN where missing.
        level: Level of the interval, 0 to 1.

    Returns:
        The estimate has no value and no upper bound (`one-seed`) if no configuration has two seeds.

    >>> seed_sd([np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])]).value
    1.0
    """
    total, dof, seen = 0.0, 0, 0
    for scores in cells:
        kept = scores[np.isfinite(scores).sum(axis=1) > 1]
        if not len(kept):
            continue
        here = int(np.isfinite(kept).any(axis=0).sum()) - 1
        total += here * float(np.nanvar(kept, axis=1, ddof=1).mean())
        dof += here
        seen += 1
    if dof == 0:
        return Estimate("seed_sd_pp", "pp", None, 0.0, float("inf"), level, 0, "chi-squared", (Flag.ONE_SEED,))
    variance = total / dof
    alpha = 1 - level
    low = np.sqrt(dof * variance / chi2_quantile(1 - alpha / 2, dof))
    high = np.sqrt(dof * variance / chi2_quantile(alpha / 2, dof))
    value, method = float(np.sqrt(variance)), f"pooled over cells, chi-squared with {dof} degrees of freedom"
    return Estimate("seed_sd_pp", "pp", value, float(low), float(high), level, seen, method)
