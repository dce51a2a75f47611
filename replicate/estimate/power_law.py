"""The best weight decay as a power of the learning rate: slope, ratio, the optima themselves, and rival exponents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replicate.estimate import combine, details
from replicate.estimate.estimate import Estimate, finite
from replicate.estimate.flags import Flag
from replicate.estimate.line_fit import (
    EVEN_DEVIANCE,
    MIN_INFORMATIVE,
    MISFIT_P,
    SLOPES,
    LineFit,
    ends,
    likeliest,
    narrower,
    settle,
    within,
)
from replicate.estimate.optimum import OptimumCurve
from replicate.estimate.quantiles import chi2_quantile
from replicate.landscape.landscape import Floats

MAY_DRIFT = float(np.log(1.5))
"""A ratio is flagged `ratio-may-vary` if, on the likeliest line, it is farther than this, in ln, from its mean at some
learning rate with a bounded optimum. That is below the margin's factor 2 because the slope is not known exactly."""
RESOLUTION = 0.1
"""Share of the grid's spacing by which the interval of a ratio is widened: an asymmetric curve's peak between two grid
points cannot be located better, whatever the noise, and the error is the same at every learning rate."""
PROFILE = "profile likelihood over set-valued optima"
RIVALS = {"coupled": 1, "independent": 0, "timescale": -1}
"""Exponents of the learning rate in the best weight decay, in PyTorch's convention (a step shrinks by lr * wd)."""


def slope_span(fit: LineFit, level: float) -> tuple[float | None, float, float]:
    """Slope of ln(best weight decay) on ln(learning rate): (value, lower limit, upper limit) at confidence `level`.

    The value is None if the data limit the slope on neither side.
    """
    profile = fit.of_slopes
    inside = within(profile, fit.scale, level)
    low, high = ends(SLOPES, inside) if fit.bounded >= MIN_INFORMATIVE else (-np.inf, np.inf)
    value = float(SLOPES[likeliest(profile)]) if np.isfinite([low, high]).any() else None
    return value, low, high


def slope(fit: LineFit, level: float = 0.95) -> Estimate:
    """Slope of ln(best weight decay) on ln(learning rate), by profile likelihood (Venzon and Moolgavkar 1988).

    Args:
        fit: The likelihood of lines, as `replicate.estimate.fits.line` gives it.
        level: Level of the interval, 0 to 1.

    Returns:
        1 if the best weight decay is proportional to the learning rate, 0 if it does not depend on it. The interval is
        not bounded with fewer than `MIN_INFORMATIVE` optima that are bounded on at least one side.
    """
    value, low, high = slope_span(fit, level)
    n = sum(fit.informative)
    flags = (*fit.flags, *fit.breaks(fit.places, fit.misfit_p, level))
    if n < MIN_INFORMATIVE:
        flags = (*flags, Flag.FEW_OPTIMA)
    to_do = settle(fit)
    if np.isfinite([low, high]).all():
        to_do = to_do or narrower(fit, high - low, 0.2)
    share = finite(fit.curves[0].seed_curve_share)
    found = details.Slope(per_lr=optima(fit, level), misfit_p=finite(fit.misfit_p), seed_curve_share=share)
    return Estimate("slope", "", value, low, high, level, n, PROFILE, flags, to_do, found)


def place(fit: LineFit, lr: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of ln(best weight decay) at `lr` over all lines compatible with the optima; ends may be infinite.

    Widened by the bias that all optima may share (`_widening`), like the interval of a ratio.
    """
    away = float(np.log(lr)) - fit.center
    allowed = fit.loglik >= fit.loglik.max() - fit.scale * float(chi2_quantile(level, 1)) / 2
    height, slope = np.nonzero(allowed)
    found = fit.heights[height] + SLOPES[slope] * away
    down, up = (slope.min() == 0, slope.max() == len(SLOPES) - 1)[:: 1 if away > 0 else -1]
    low = -np.inf if height.min() == 0 or (away and down) else float(found.min())
    high = np.inf if height.max() == len(fit.heights) - 1 or (away and up) else float(found.max())
    below, above = _widening(fit)
    return low - below, high + above


def log_ratio(fit: LineFit, level: float = 0.95) -> tuple[float | None, float, float]:
    """ln(best weight decay / learning rate), mean over the learning rates with a bounded optimum: value, low, high.

    It is the value, at the centre of these learning rates, of the likeliest line of any slope; if no line fits (p below
    `MISFIT_P`), it is the mean of separate estimates at each learning rate. The interval is widened by `RESOLUTION`,
    and by the possible bias in the position of an asymmetric peak (`_lean`).
    """
    profile = fit.of_heights
    if fit.bounded < min(MIN_INFORMATIVE, len(fit.curves)):
        return None, -np.inf, np.inf
    low, high = ends(fit.heights, within(profile, fit.scale, level))
    value = None
    if np.isfinite(low) and np.isfinite(high):
        value = float(fit.heights[likeliest(profile)]) - fit.center
    below, above = _widening(fit)
    if fit.misfit_p < MISFIT_P and sum(fit.informative) >= MIN_INFORMATIVE:
        # No line fits, so the line's value at a learning rate means nothing: average the bounded optima themselves.
        deviance = float(chi2_quantile(level, 1))
        parts = [_own_ratio(c, deviance) for c, closed in zip(fit.curves, fit.informative, strict=True) if closed]
        # The optima's errors may be fully correlated, and a set-valued optimum's middle is no likelier than its ends.
        found = combine.mean_in_step(parts)
        return found.value, found.low - below, found.high + above
    return value, low - fit.center - below, high - fit.center + above


def _widening(fit: LineFit) -> tuple[float, float]:
    """Possible common bias of all optima, below and above, in ln, from the grid's spacing and asymmetric peaks."""
    spacing = float(np.mean([c.spacing for c in fit.curves]))
    down, up = _lean(fit)
    return RESOLUTION * spacing + down, RESOLUTION * spacing + up


def _lean(fit: LineFit) -> tuple[float, float]:
    """How far, in ln, a peak with straight sides lies below and above the smooth curve's; mean over bounded optima.

    A smooth curve rounds off an asymmetric peak and moves it away from the steeper side, equally at all learning rates:
    this bias does not average out in a ratio, but cancels in a slope.
    """
    lean = [c.straight - c.best for c, closed in zip(fit.curves, fit.informative, strict=True) if closed]
    mean = float(np.mean(lean)) if lean and np.isfinite(lean).all() else 0.0
    return max(-mean, 0.0), max(mean, 0.0)


def _own_ratio(curve: OptimumCurve, deviance: float) -> combine.Span:
    """ln(best weight decay / learning rate) at one learning rate, from the runs at this learning rate alone."""
    low, high = curve.interval(deviance)
    log_lr = float(np.log(curve.lr))
    return combine.Span(min(max(curve.middle(deviance), low), high) - log_lr, low - log_lr, high - log_lr)


def ratio(fit: LineFit, level: float = 0.95, quantity: str = "rho") -> Estimate:
    """Best weight decay / learning rate, geometric mean over the learning rates with a bounded optimum.

    Args:
        fit: As in `slope`.
        level: Level of the interval, 0 to 1; how it is widened is in `log_ratio`.
        quantity: Name of the estimate.

    Returns:
        Flagged `ratio-varies` or `ratio-may-vary` if the slope implies that the ratio depends on the learning rate.
    """
    value, low, high = log_ratio(fit, level)
    n = sum(fit.informative)
    flags = (*fit.flags, *fit.breaks(fit.places, fit.misfit_p, level))
    to_do = settle(fit)
    if n < MIN_INFORMATIVE:
        flags = (*flags, Flag.FEW_OPTIMA)
    else:
        to_do = to_do or narrower(fit, high - low, np.log(2))
    x = np.log([c.lr for c, informative in zip(fit.curves, fit.informative, strict=True) if informative])
    if (varies := varying(*slope_span(fit, level), x)) is not None:
        flags = (*flags, varies)
    value, low, high = None if value is None else float(np.exp(value)), float(np.exp(low)), float(np.exp(high))
    found = details.Ratio(per_lr=optima(fit, level), ratios_together=ratios_together(fit, level))
    method = f"{PROFILE}, at lr {np.exp(fit.center):.2g}"
    return Estimate(quantity, "", value, low, high, level, n, method, flags, to_do, found)


def varying(slope: float | None, low: float, high: float, x: Floats, displaced: float = 0.0) -> Flag | None:
    """Flag for a ratio that varies, or may vary, over ln(learning rate) `x` [E], given the slope and its interval.

    `displaced`: possible common bias of all ratios, in ln.
    """
    if low > 1.2 or high < 0.8:
        return Flag.RATIO_VARIES
    # With the likeliest slope: change of ln(ratio) from its mean to the last learning rate.
    drift = abs(slope - 1) * float(np.ptp(x)) / 2 if slope is not None and len(x) else 0.0
    return Flag.RATIO_MAY_VARY if drift + displaced > MAY_DRIFT else None


def ratios_together(fit: LineFit, level: float = 0.95) -> tuple[details.RatioAt, ...]:
    """The ratio at each learning rate whose optimum is bounded; without a value if it is bounded on one side only.

    Intervals are simultaneous at `level` over all learning rates (Bonferroni).
    """
    deviance = float(chi2_quantile(1 - (1 - level) / len(fit.curves), 1))
    rows = []
    down, up = _lean(fit)
    for curve, informative in zip(fit.curves, fit.informative, strict=True):
        likely = np.exp(np.array(curve.interval(EVEN_DEVIANCE)) - np.log(curve.lr))
        widening = RESOLUTION * curve.spacing
        own = _own_ratio(curve, deviance)
        value = finite(np.exp(own.value)) or None if informative else None
        low = finite(np.exp(own.low - widening - down)) or None
        high = finite(np.exp(own.high + widening + up))
        if (value, low, high) != (None, None, None):
            even_ends = finite(likely[0]), finite(likely[1])
            rows.append(details.RatioAt(lr=curve.lr, value=value, low=low, high=high, likely=even_ends))
    return tuple(rows)


def optima(fit: LineFit, level: float = 0.95) -> tuple[details.OptimumAt, ...]:
    """The optimum of every learning rate with its interval at `level`."""
    deviance = float(chi2_quantile(level, 1))
    rows = []
    for curve in fit.curves:
        low, high = curve.interval(deviance)
        best = curve.single
        wd = None if best is None else finite(np.exp(best))
        rows.append(details.OptimumAt(lr=curve.lr, wd=wd, low=finite(np.exp(low)) or None, high=finite(np.exp(high))))
    return tuple(rows)


@dataclass(frozen=True)
class Rivals:
    """The rival exponents that the data exclude, and the rival exponent, if any, that they support."""

    exponent: int | None
    """Exponent of the rival that is supported; None if none is."""
    supported: str | None
    excluded: tuple[str, ...]
    exponent_of_lr_times_wd: int | None
    """`exponent` + 1: that of PyTorch's lr * wd, which is the weight decay in Loshchilov and Hutter's convention."""


def rivals(fit: LineFit, level: float = 0.95) -> Rivals:
    """Which of `RIVALS` the data exclude and which they support.

    A rival is excluded if the slope's interval does not contain it. A rival is supported if it is the only one that the
    interval contains, and the interval is narrower than 1, the distance between rivals.
    """
    _, low, high = slope_span(fit, level)
    return rivals_within(low, high)


def rivals_within(low: float, high: float) -> Rivals:
    """As `rivals`, given the slope's interval [low, high]."""
    excluded = tuple(name for name, b in RIVALS.items() if not low <= b <= high)
    left = [name for name in RIVALS if name not in excluded]
    if len(left) != 1 or high - low >= 1:
        return Rivals(None, None, excluded, None)
    return Rivals(RIVALS[left[0]], left[0], excluded, RIVALS[left[0]] + 1)
