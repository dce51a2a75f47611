"""The best weight decay as a straight line in the learning rate: its intercept, and R² of a line through 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from replicate.estimate.estimate import Estimate, unknown
from replicate.estimate.flags import Flag
from replicate.estimate.line_fit import (
    CLOSED_DEVIANCE,
    MIN_INFORMATIVE,
    MISFIT_P,
    LineFit,
    ends,
    likeliest,
    misfit,
    narrower,
    settle,
)
from replicate.estimate.power_law import PROFILE, slope_span
from replicate.estimate.quantiles import chi2_quantile, t_quantile
from replicate.landscape.landscape import Floats

NEAREST = "straight line nearest to the likeliest optima in ln, t from their scatter around it"
SAME_DEVIANCE = 1e-3
"""Positions whose deviances differ by less than this count as equally likely."""
R2_MARGIN = 0.05
"""Half-width to which the interval of R² is to be narrowed: half the distance from the claim's bound to 1."""
SAMPLES = 500
"""Number of samples of each kind with which `r_squared` searches the confidence region of the optima."""
INTERCEPT_SHARES = np.round(
    np.concatenate([-np.geomspace(50, 0.02, 90), np.arange(-0.01, 0.9901, 0.01), np.arange(1.0, 1.0801, 0.002)]), 6
)
"""Intercept shares tried. Shares above 1 are falling lines; at 1.08, the line reaches 0 at the paper's largest learning
rate. `shares` adds steeper ones if needed."""


def shares(relative: Floats) -> Floats:
    """`INTERCEPT_SHARES`, extended to the steepest falling line, for learning rates [E] `relative` to their mean.

    That is 1.08 for the paper's learning rates, and larger for learning rates that are closer together.
    """
    last = float(relative.max() / (relative.max() - 1)) if relative.max() > 1 else 1.0
    further = 1 + np.geomspace(0.081, max(last - 1, 0.081), 60)
    return np.concatenate([INTERCEPT_SHARES, further[further < last - 1e-9]]) if last > 1.09 else INTERCEPT_SHARES


def intercept_share(fit: LineFit, level: float = 0.95) -> Estimate:
    """Intercept / value of the line best weight decay = rho * lr + delta at g, the learning rates' geometric mean.

    That is delta / (rho * g + delta). 0: proportional; 1/2: at g, the line is twice rho * g; -1: half of it; 1:
    constant; above 1: falling. A profile likelihood over the line's value at g, from the likelihoods of all optima in
    ln, as the largest learning rates would dominate ordinary least squares. If a power law fits and no straight line
    does, the estimate is the share of the nearest line (`no-straight-line`), which may be wrong and never confirms a
    claim.

    Args:
        fit: The likelihood of lines in ln-ln, as `replicate.estimate.fits.line` gives it.
        level: Level of the interval, 0 to 1.

    Returns:
        Not bounded with fewer than `MIN_INFORMATIVE` optima that are bounded on at least one side.
    """
    lrs = np.array([c.lr for c in fit.curves])
    relative = lrs / np.exp(np.log(lrs).mean())
    tried = shares(relative)
    with np.errstate(divide="ignore"):
        shape = np.log(np.maximum((1 - tried[:, None]) * relative + tried[:, None], 0.0))
    parts = [c.at(fit.heights[None, :] + shape[:, i][:, None]) for i, c in enumerate(fit.curves)]
    total = np.sum(parts, axis=0)
    profile = total.max(axis=1)
    if fit.bounded < MIN_INFORMATIVE:
        return unknown("intercept_share", "", level, PROFILE, fit.flags, settle(fit))
    # Compare with the best of straight lines and power laws, as neither family contains the other.
    best = max(float(profile.max()), float(fit.of_slopes.max()))
    scale, misfit_p, places = fit.scale, fit.misfit_p, fit.places
    if profile.max() >= best:
        scale, misfit_p = misfit(fit.curves, parts, total)
        share, height = np.unravel_index(int(total.argmax()), total.shape)
        places = fit.heights[height] + shape[share]
    flags = tuple(flag for flag in fit.flags if flag is not Flag.MISFIT or misfit_p < MISFIT_P)
    flags += fit.breaks(places, misfit_p, level)
    if sum(fit.informative) < MIN_INFORMATIVE:
        flags += (Flag.FEW_OPTIMA,)
    inside = np.nonzero(profile >= best - scale * float(chi2_quantile(level, 1)) / 2)[0]
    method, to_do = PROFILE, settle(fit)
    if not len(inside):
        profile, inside = _nearest(fit, shape, level)
        flags, method = tuple(dict.fromkeys((*flags, Flag.MISFIT, Flag.NO_STRAIGHT_LINE))), NEAREST
        if misfit_p >= MISFIT_P and Flag.FEW_OPTIMA not in flags:
            to_do = "nothing: the best weight decays lie on a power law, not on a straight line"
    low, high = ends(tried, inside)
    _, least, most = slope_span(fit, level)
    if least <= 1 <= most:
        # The proportional law is among the power laws that fit, so better-fitting straight lines do not exclude it.
        low, high = min(low, 0.0), max(high, 0.0)
    value = float(tried[likeliest(profile)]) if np.isfinite([low, high]).any() else None
    to_do = to_do or narrower(fit, high - low, 0.75)
    return Estimate("intercept_share", "", value, low, high, level, sum(fit.informative), method, flags, to_do)


def _nearest(fit: LineFit, shape: Floats, level: float) -> tuple[Floats, NDArray[np.intp]]:
    """For each share, minus the sum of squares, in ln, of bounded optima around its line; indices of the best shares.

    `shape` [shares, curves]: ln of each line, up to a constant that is fitted. The likelihoods cannot rank lines here:
    they are flat far from an optimum, so a line that meets one or two optima would be as good as one nearer to all.
    """
    closed = np.array(fit.informative)
    dof = int(closed.sum()) - 2
    if dof < 1:
        return np.zeros(len(shape)), np.arange(len(shape))
    deviance = float(chi2_quantile(level, 1))
    places = np.array([c.middle(deviance) for c, informative in zip(fit.curves, closed, strict=True) if informative])
    possible = np.asarray(np.isfinite(shape[:, closed]).all(axis=1))
    distance = places - np.where(possible[:, None], shape[:, closed], 0.0)
    squares = np.where(possible, np.var(distance, axis=1) * len(places), np.inf)
    least = squares.min()
    threshold = least * (1 + t_quantile((1 + level) / 2, dof) ** 2 / dof)
    return -squares, np.nonzero(squares <= threshold)[0]


def r_squared(fit: LineFit, rng: np.random.Generator, level: float = 0.95) -> Estimate:
    """R² of best weight decay = rho * lr over the learning rates with a bounded optimum, in the paper's definition.

    The interval is the range of R² over the joint confidence region of the optima (deviance within the chi-squared
    quantile with one degree of freedom per optimum). The region is searched by samples: posterior draws, scaled towards
    and away from the likeliest optima; proportional lines; positions within sets of equally likely optima; and the ends
    of these sets and of the intervals. A projected region, unlike a profile, also covers the bound R² = 1.

    Args:
        fit: The likelihood of lines, as `replicate.estimate.fits.line` gives it.
        rng: Draws the samples.
        level: Level of the region, 0 to 1.

    Returns:
        Without a value (`few-optima`) if fewer than four optima are bounded.
    """
    curves = [c for c, closed in zip(fit.curves, fit.informative, strict=True) if closed]
    method = "range of R² over the joint region of the optima"
    if len(curves) < 4:
        flags = (*fit.flags, Flag.FEW_OPTIMA)
        return Estimate("r2", "", None, -np.inf, 1.0, level, len(curves), method, flags, settle(fit))
    lrs = np.array([c.lr for c in curves])
    best = np.array([c.best for c in curves])
    draws = np.stack([rng.permutation(c.draws) for c in curves], axis=1)
    draws = draws[np.isfinite(draws).all(axis=1)]
    towards = [best + t * (draws - best) for t in (0.3, 0.6, 1.0, 1.3, 1.6)]
    lines = fit.heights[:, None] + (np.log(lrs) - fit.center)[None, :]
    limits = np.array([c.interval(deviance) for c in curves for deviance in (SAME_DEVIANCE, CLOSED_DEVIANCE)])
    limits = limits.reshape(len(curves), 4)[:, [2, 0, 1, 3]]  # ascending: the interval's ends around those of the set
    among = rng.uniform(limits[:, 1], limits[:, 2], (SAMPLES, len(curves)))
    corners = np.take_along_axis(limits, rng.integers(4, size=(len(curves), SAMPLES)), axis=1).T
    candidates = np.concatenate([best[None, :], *towards, lines, among, corners])
    loglik = sum(c.at(candidates[:, i]) for i, c in enumerate(curves))
    threshold = float(chi2_quantile(level, len(curves))) / 2 * fit.scale
    likely = candidates[loglik >= np.max(loglik) - threshold]
    values = origin_r_squared(lrs, np.exp(likely))
    point = float(origin_r_squared(lrs, np.exp(best)[None, :])[0])
    low, high = float(values.min()), float(values.max())
    to_do = settle(fit) or narrower(fit, high - low, R2_MARGIN)
    return Estimate("r2", "", point, low, high, level, len(curves), method, fit.flags, to_do)


def origin_r_squared(lrs: Floats, wds: Floats) -> Floats:
    """R² of the least-squares line through the origin, [N] from optima [N, E]: 1 - residual / total around the mean.

    The definition of the published analysis: negative if a constant fits better, and 0 if all optima are equal.
    """
    rho = wds @ lrs / (lrs @ lrs)
    residual = ((wds - rho[:, None] * lrs) ** 2).sum(axis=1)
    total = ((wds - wds.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.ptp(wds, axis=1) > 0, 1 - residual / total, 0.0)
