"""Profile likelihood of power laws (lines in ln-ln) through a cell's optima, from the likelihood of every optimum.

Every interval is a profile likelihood interval: the values that the quantity has on lines whose deviance from the best
line is within the chi-squared quantile (Venzon and Moolgavkar 1988). Optima that are bounded on one side or not at all
enter through their likelihoods, as in interval-censored regression, so a quantity that the data do not bound stays
unbounded. If no line fits, deviances are divided by the deviance per residual degree of freedom (Birge ratio).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from replicate.estimate.flags import Flag
from replicate.estimate.optimum import STEP, OptimumCurve
from replicate.estimate.quantiles import chi2_quantile, chi2_tail
from replicate.landscape.landscape import Floats
from replicate.text import joined

SLOPES = np.round(np.arange(-4.0, 4.0001, 0.02), 6)
"""Slopes tried; an interval that reaches the smallest or largest of them counts as not bounded on that side."""
MISFIT_P = 0.01
"""If the best line has a smaller p value than this, no line fits the optima: a misfit."""
HEIGHT_STEP = 2 * STEP
CLOSED_DEVIANCE = float(chi2_quantile(0.95, 1))
BOUNDED_DEVIANCE = float(chi2_quantile(0.99, 1))
EVEN_DEVIANCE = float(chi2_quantile(0.5, 1))
BREAKS = float(np.log(1.5))
"""A misfit matters only if an optimum's whole interval is farther than this, in ln, from the best line: with little
noise every line misfits, because the position of an asymmetric peak is biased."""
MIN_INFORMATIVE = 3
"""A line through fewer bounded optima than this does not count as measured."""
MOST_TIMES = 10
"""If more than this many times the seeds would be needed, more seeds are not advised."""
TOO_MANY = (
    f"more than {MOST_TIMES} times as many seeds, too many for a sweep of this kind; instead a longer training or a "
    "harder task, on which weight decay matters more"
)
WITHIN_RUNS = 2.0
"""An optimum's interval up to this wide, in spacings of the runs, is not narrowed further by less noise: it goes from
the run before the best one to the run after it."""


@dataclass(frozen=True)
class LineFit:
    """Log-likelihood of lines ln wd = height + slope * (ln lr - center) through the optima of a cell."""

    curves: tuple[OptimumCurve, ...]
    center: float
    """ln(learning rate) at which the line has its `height`."""
    heights: Floats
    """[H], the values of `height` tried, ln(weight decay)."""
    loglik: Floats
    """[H, B], log-likelihood over `heights` and `SLOPES`."""
    scale: float
    """Factor by which deviances are divided: 1 if a line fits."""
    misfit_p: float
    """p value of the best line; NaN if fewer than three optima hold it in place (`misfit`)."""
    informative: tuple[bool, ...]
    """Which learning rates (those of `curves`) have an optimum bounded on both sides at 95 %."""

    @cached_property
    def of_slopes(self) -> Floats:
        """[B], the largest log-likelihood at each of the B `SLOPES`, over all `heights`."""
        return np.asarray(self.loglik.max(axis=0))

    @cached_property
    def of_heights(self) -> Floats:
        """[H], the largest log-likelihood at each of `heights`."""
        return np.asarray(self.loglik.max(axis=1))

    @cached_property
    def places(self) -> Floats:
        """[E], ln(weight decay) of the likeliest line at each learning rate."""
        height, slope = np.unravel_index(int(self.loglik.argmax()), self.loglik.shape)
        x = np.log([c.lr for c in self.curves])
        return np.asarray(self.heights[height] + SLOPES[slope] * (x - self.center))

    def breaks(self, places: Floats, misfit_p: float, level: float = 0.95) -> tuple[Flag, ...]:
        """The flag `law-breaks` if the best law, `places` [E] in ln(weight decay), misfits by an amount that matters.

        That is, its p value `misfit_p` is below `MISFIT_P`, and some optimum's whole interval, which may have one end,
        is more than `BREAKS` away from the law, at a level simultaneous over all learning rates (Bonferroni).
        """
        if not misfit_p < MISFIT_P:
            return ()
        deviance = float(chi2_quantile(1 - (1 - level) / len(self.curves), 1))
        for curve, place in zip(self.curves, places, strict=True):
            low, high = curve.interval(deviance)
            if not low - BREAKS <= place <= high + BREAKS:
                return (Flag.LAW_BREAKS,)
        return ()

    @cached_property
    def bounded(self) -> int:
        """Number of learning rates at which the best weight decay is bounded on at least one side, at 99 %."""
        return sum(bool(np.isfinite(c.interval(BOUNDED_DEVIANCE)).any()) for c in self.curves)

    @cached_property
    def flags(self) -> tuple[Flag, ...]:
        """Flags of the curves and of the line, each once."""
        found = [flag for curve in self.curves for flag in curve.flags]
        for curve, informative in zip(self.curves, self.informative, strict=True):
            low, high = curve.interval(CLOSED_DEVIANCE)
            if np.isinf(low) and np.isinf(high):
                found.append(Flag.PLATEAU)
            elif not informative:
                found.append(Flag.EDGE_LOW if np.isinf(low) else Flag.EDGE_HIGH)
        if self.misfit_p < MISFIT_P:
            found.append(Flag.MISFIT)
        return tuple(dict.fromkeys(found))


def fit_line(curves: Sequence[OptimumCurve]) -> LineFit | None:
    """The likelihood of lines through the optima of `curves`, one per learning rate; None if `curves` is empty."""
    if not curves:
        return None
    x = np.log([c.lr for c in curves])
    closed = np.array([_is_closed(c) for c in curves])
    center = float(x[closed].mean()) if closed.sum() >= 2 else float(x.mean())
    heights = _heights(curves)
    # Some line passes through any two optima, so a misplaced optimum would go unnoticed.
    sure = curves if closed.sum() >= MIN_INFORMATIVE else [curve.among_alike() for curve in curves]
    parts = [_along(curve, heights, SLOPES * (xi - center)) for curve, xi in zip(sure, x, strict=True)]
    total = np.sum(parts, axis=0)
    scale, misfit_p = misfit(sure, parts, total)
    return LineFit(tuple(curves), center, heights, total, scale, misfit_p, tuple(bool(c) for c in closed))


def _along(curve: OptimumCurve, heights: Floats, shifts: Floats) -> Floats:
    """[H, B], log-likelihood of the optimum at each of `heights` (`HEIGHT_STEP` apart) plus each of `shifts`."""
    first = heights[0] + shifts
    start = curve.start + STEP * np.floor((first.min() - curve.start) / STEP)
    every = round(HEIGHT_STEP / STEP)
    reach = every * (len(heights) - 1) + 1
    begin = np.round((first - start) / STEP).astype(np.intp)
    values = curve.at(start + STEP * np.arange(int(begin.max()) + reach))
    return np.lib.stride_tricks.sliding_window_view(values, reach)[begin, ::every].T


def misfit(curves: Sequence[OptimumCurve], parts: Sequence[Floats], total: Floats) -> tuple[float, float]:
    """Scale factor of deviances (Birge ratio, at least 1) and p of the best of all lines tried.

    `parts`: for each of `curves`, its log-likelihood on every line tried; `total`: their sum.

    Likelihood ratio test against a free optimum per curve: chi-squared, its degrees of freedom two fewer than the
    optima that hold the line in place. Those are the bounded ones, and others without which a line would fit the rest
    better: a bound on one side that the best line does not reach says nothing (Susko 2013, Biometrika 100). Returns 1
    and NaN with fewer than three.
    """
    best = float(total.max())
    deviance = 2 * (sum(float(c.table.max()) for c in curves) - best)
    at = np.unravel_index(int(total.argmax()), total.shape)
    holding = sum(
        _is_closed(c) or 2 * float((total - part).max() - (best - part[at])) > EVEN_DEVIANCE
        for c, part in zip(curves, parts, strict=True)
    )
    if holding < 3:
        return 1.0, float("nan")
    return max(1.0, deviance / (holding - 2)), chi2_tail(deviance, holding - 2)


def _is_closed(curve: OptimumCurve) -> bool:
    return bool(np.isfinite(curve.interval(CLOSED_DEVIANCE)).all())


def _heights(curves: Sequence[OptimumCurve]) -> Floats:
    """Heights tried; if an optimum is not bounded, heights extend far enough beyond the grids for all slopes tried."""
    ends = [c.interval(CLOSED_DEVIANCE) for c in curves]
    past_low = 12.0 if any(np.isinf(low) for low, _ in ends) else 2.0
    past_high = 12.0 if any(np.isinf(high) for _, high in ends) else 2.0
    low = min(c.start for c in curves) - past_low
    high = max(c.start + STEP * len(c.table) for c in curves) + past_high
    return np.arange(low, high, HEIGHT_STEP)


def within(profile: Floats, scale: float, level: float) -> NDArray[np.intp]:
    """Indices where the deviance of `profile`, divided by `scale`, is within the chi-squared quantile at `level`."""
    threshold = scale * float(chi2_quantile(level, 1)) / 2
    return np.nonzero(profile >= profile.max() - threshold)[0]


def likeliest(profile: Floats) -> int:
    """Index of the largest value; of several equally large ones, as on a side that is not bounded, the middle one."""
    top = np.nonzero(profile >= profile.max() - 1e-9)[0]
    return int(top[len(top) // 2])


def ends(grid: Floats, inside: NDArray[np.intp]) -> tuple[float, float]:
    """The values of `grid` just outside the indices `inside`; infinite at an end of the grid."""
    low = -np.inf if inside[0] == 0 else float(grid[inside[0] - 1])
    high = np.inf if inside[-1] == len(grid) - 1 else float(grid[inside[-1] + 1])
    return low, high


def settle(fit: LineFit) -> str:
    """Advice which further runs would determine the line: those at learning rates whose optimum is not bounded."""
    wanted: dict[str, list[str]] = {}
    """Advice → the learning rates to which it applies."""
    noise_unknown = not fit.curves[0].noise_known
    for curve, informative in zip(fit.curves, fit.informative, strict=True):
        if informative:
            continue
        low, high = curve.interval(CLOSED_DEVIANCE)
        end = curve.start + STEP * (len(curve.table) - 3)
        below, above = bool(np.isinf(low)), bool(np.isinf(high))
        if below and above and noise_unknown:
            # With unknown noise the best run may be the optimum; runs beyond it help only if it is at an end.
            below, above = abs(curve.best_run - curve.start) < STEP, curve.best_run > end - STEP
        text = ""
        if below and above:
            text = "more seeds or a longer training at {}, flat so far"
        elif above:
            text = f"weight decays above {np.exp(max(end, low)):.1g} at {{}}"
        elif below and curve.even_below:
            up_to = f"up to {np.exp(high):.1g} " if np.isfinite(high) else ""
            text = f"more seeds at {{}}, where no weight decay {up_to}can be told from the best"
        elif below:
            has_zero = curve.fitted is not None and curve.fitted.points.x[0] < curve.start
            between = "between 0 and" if has_zero else "below"
            text = f"weight decays {between} {np.exp(min(curve.start, high)):.1g} at {{}}"
        if text:
            wanted.setdefault(text, []).append(f"{curve.lr:g}")
    words = [f"at least {MIN_INFORMATIVE} learning rates"] if len(fit.curves) < MIN_INFORMATIVE else []
    words += [text.format(f"lr {joined(lrs)}") for text, lrs in wanted.items()]
    if noise_unknown and not all(fit.informative):
        words.append("a second seed, as the noise between seeds is unknown")
    return "; ".join(words)


def narrower(fit: LineFit, width: float, half_margin: float) -> str:
    """What would narrow an interval of `width` to `half_margin`: more closely spaced weight decays, or more seeds.

    If the optima are already known to within the runs around them, more seeds would not help. Empty for an infinite
    width.
    """
    if not np.isfinite(width):
        return ""
    factor = (width / half_margin) ** 2
    if factor <= 1:
        return "a true value farther from the margin's edge"
    closed = [c for c, informative in zip(fit.curves, fit.informative, strict=True) if informative]
    known = [high - low <= WITHIN_RUNS * c.spacing for c in closed for low, high in [c.interval(CLOSED_DEVIANCE)]]
    if known and 2 * sum(known) >= len(known):
        apart = float(np.exp(np.median([c.spacing for c in closed])))
        return f"more closely spaced weight decays around the best ones (now a factor {apart:.2g} apart)"
    return TOO_MANY if factor > MOST_TIMES else f"about {max(factor, 1.1):.2g} times as many seeds"
