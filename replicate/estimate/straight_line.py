"""The best weight decay as a straight line of the learning rate: its intercept, and R² of the proportional one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from replicate.estimate.line_fit import (
    CLOSED_DEVIANCE,
    MIN_INFORMATIVE,
    LineFit,
    ends,
    likeliest,
    narrower,
    settle,
    within,
)
from replicate.estimate.power_law import slope_span
from replicate.estimate.quantiles import chi2_quantile
from replicate.estimate.result import Estimate, unknown

Floats = NDArray[np.float64]

SAME_DEVIANCE = 1e-3
"""Places that differ by less are equally likely."""
R2_MARGIN = 0.05
"""Half of the distance from the claim's bound on R² to 1."""
SAMPLES = 500
"""Of each kind of corner of the joint region of the optima."""
INTERCEPT_SHARES = np.round(np.concatenate([-np.geomspace(50, 0.02, 90), np.arange(-0.01, 1.0801, 0.01)]), 6)


def intercept_share(fit: LineFit, level: float = 0.95) -> Estimate:
    """delta / (rho * g + delta) of best weight decay = rho * lr + delta, g the geometric mean of the learning rates.

    0: proportional; 1/2: the line is twice the proportional one at g; -1: half of it; 1: constant; above: falling.
    Profiled over the line's value at g, all optima weighing by their likelihoods (in ln), not by ordinary least
    squares, which sees the largest learning rates only.
    """
    lrs = np.array([c.lr for c in fit.curves])
    relative = lrs / np.exp(np.log(lrs).mean())
    with np.errstate(divide="ignore"):
        shape = np.log(np.maximum((1 - INTERCEPT_SHARES[:, None]) * relative + INTERCEPT_SHARES[:, None], 0.0))
    total = np.zeros((len(shape), len(fit.heights)))
    for i, curve in enumerate(fit.curves):
        total += curve.at(fit.heights[None, :] + shape[:, i][:, None])
    profile = total.max(axis=1)
    flags = fit.flags
    best = max(float(profile.max()), float(fit.of_slopes.max()))
    if fit.bounded < MIN_INFORMATIVE:
        return unknown("intercept_share", "", level, "profile likelihood over set-valued optima", flags, settle(fit))
    threshold = fit.scale * float(chi2_quantile(level, 1)) / 2
    inside = np.nonzero(profile >= best - threshold)[0]
    if not len(inside):
        # A power law fits and no straight line does: the lines nearest to fitting.
        inside = within(profile, 1.0, level)
        flags = tuple(dict.fromkeys((*flags, "misfit")))
    low, high = ends(INTERCEPT_SHARES, inside)
    _, least, most = slope_span(fit, level)
    if least <= 1 <= most:
        # A proportional line is among the power laws that fit, so no straight line that fits better excludes it.
        low, high = min(low, 0.0), max(high, 0.0)
    value = float(INTERCEPT_SHARES[likeliest(profile)]) if np.isfinite([low, high]).any() else None
    return Estimate(
        "intercept_share", "", value, low, high, level, sum(fit.informative),
        "profile likelihood over set-valued optima", flags, settle(fit) or narrower(fit, high - low, 0.75),
    )  # fmt: skip


def r_squared(fit: LineFit, rng: np.random.Generator, level: float = 0.95) -> Estimate:
    """R² of best weight decay = rho * lr over the learning rates with a closed optimum, in the paper's definition.

    The range of R² over the joint confidence region of the optima (deviance within the chi-squared quantile with one
    degree of freedom an optimum), searched over posterior draws, drawn in towards and out from the likeliest optima,
    the proportional lines, places in sets of equally likely optima, and the ends of these and of the intervals. R² is
    bounded, so a region is projected rather than a profile cut: it covers R² = 1 too.
    """
    curves = [c for c, closed in zip(fit.curves, fit.informative, strict=True) if closed]
    method = "range of R² over the joint region of the optima"
    if len(curves) < 4:
        return Estimate(
            "r2", "", None, -np.inf, 1.0, level, len(curves), method, (*fit.flags, "few-optima"), settle(fit)
        )  # fmt: skip
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
