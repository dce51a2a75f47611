"""The best weight decay as a straight line of the learning rate: its intercept, and R² of the proportional one."""

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

SAME_DEVIANCE = 1e-3
"""Places that differ by less are equally likely."""
R2_MARGIN = 0.05
"""Half of the distance from the claim's bound on R² to 1."""
SAMPLES = 500
"""Drawn for each kind of corner of the joint region of the optima."""
INTERCEPT_SHARES = np.round(
    np.concatenate([-np.geomspace(50, 0.02, 90), np.arange(-0.01, 0.9901, 0.01), np.arange(1.0, 1.0801, 0.002)]), 6
)
"""Tried; falling lines, above 1, end where one is 0 at the largest learning rate: see `shares`."""


def shares(relative: Floats) -> Floats:
    """`INTERCEPT_SHARES`, and those up to the last falling line of learning rates [E] `relative` to their mean.

    At the paper's learning rates that is 1.08; the closer together they are, the farther off.
    """
    last = float(relative.max() / (relative.max() - 1)) if relative.max() > 1 else 1.0
    further = 1 + np.geomspace(0.081, max(last - 1, 0.081), 60)
    return np.concatenate([INTERCEPT_SHARES, further[further < last - 1e-9]]) if last > 1.09 else INTERCEPT_SHARES


NEAREST = "straight line nearest to the likeliest optima in ln, t from their scatter around it"


def intercept_share(fit: LineFit, level: float = 0.95) -> Estimate:
    """delta / (rho * g + delta) of best weight decay = rho * lr + delta, g the geometric mean of the learning rates.

    0: proportional; 1/2: the line is twice the proportional one at g; -1: half of it; 1: constant; above: falling.
    Profiled over the line's value at g, all optima weighing by their likelihoods (in ln), not by ordinary least
    squares, which sees the largest learning rates only. Where a power law fits and no straight line does, it is that of
    the nearest one (`no-straight-line`): that can be off, and never confirm anything.

    Args:
        fit: The profile over lines, as `replicate.estimate.fits.line` gives it.
        level: Level of the interval, 0 to 1.
    """
    lrs = np.array([c.lr for c in fit.curves])
    relative = lrs / np.exp(np.log(lrs).mean())
    tried = shares(relative)
    with np.errstate(divide="ignore"):
        shape = np.log(np.maximum((1 - tried[:, None]) * relative + tried[:, None], 0.0))
    total = np.zeros((len(shape), len(fit.heights)))
    for i, curve in enumerate(fit.curves):
        total += curve.at(fit.heights[None, :] + shape[:, i][:, None])
    profile = total.max(axis=1)
    if fit.bounded < MIN_INFORMATIVE:
        return unknown("intercept_share", "", level, PROFILE, fit.flags, settle(fit))
    # Against what fits best of straight lines and power laws: a straight line need not be a power law, nor the reverse.
    best = max(float(profile.max()), float(fit.of_slopes.max()))
    scale, misfit_p = misfit(fit.curves, fit.informative, best)
    share, height = np.unravel_index(int(total.argmax()), total.shape)
    places = fit.heights[height] + shape[share] if profile.max() >= best else fit.places
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
            to_do = "nothing: the best weight decays lie on a power law and on no straight line"
    low, high = ends(tried, inside)
    _, least, most = slope_span(fit, level)
    if least <= 1 <= most:
        # A proportional line is among the power laws that fit, so no straight line that fits better excludes it.
        low, high = min(low, 0.0), max(high, 0.0)
    value = float(tried[likeliest(profile)]) if np.isfinite([low, high]).any() else None
    to_do = to_do or narrower(fit, high - low, 0.75)
    return Estimate("intercept_share", "", value, low, high, level, sum(fit.informative), method, flags, to_do)


def _nearest(fit: LineFit, shape: Floats, level: float) -> tuple[Floats, NDArray[np.intp]]:
    """How near each share is (larger is nearer), and which are about as near as the nearest one.

    Least squares in ln over the closed optima, a line's `shape` at each of them [shares, curves]. The likelihoods would
    not tell: to each all places far from its optimum are alike, so a line that meets one or two optima is as good as
    one that is nearer to all of them.
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
    """R² of best weight decay = rho * lr over the learning rates with a closed optimum, in the paper's definition.

    The range of R² over the joint confidence region of the optima (deviance within the chi-squared quantile with one
    degree of freedom an optimum), searched over posterior draws, drawn in towards and out from the likeliest optima,
    the proportional lines, places in sets of equally likely optima, and the ends of these and of the intervals. R² is
    bounded, so a region is projected rather than a profile cut: it covers R² = 1 too.

    Args:
        fit: The profile over lines, as `replicate.estimate.fits.line` gives it.
        rng: Draws the corners that are searched.
        level: Level of the region, 0 to 1.
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
    limits = limits.reshape(len(curves), 4)[:, [2, 0, 1, 3]]  # ascending: of the interval, and of the likeliest within
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

    As the published analysis computes it; it is negative where a constant fits better, and 0 where all optima agree.
    """
    rho = wds @ lrs / (lrs @ lrs)
    residual = ((wds - rho[:, None] * lrs) ** 2).sum(axis=1)
    total = ((wds - wds.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.ptp(wds, axis=1) > 0, 1 - residual / total, 0.0)
