"""The best weight decay as a function of the learning rate: likelihoods of optima to slope, ratio, intercept and R².

Every interval is a profile likelihood one: the values of the quantity for which some curve of the family is within the
chi-squared quantile of the best (Venzon and Moolgavkar 1988). Optima that are only bounded, or not determined at all,
enter through their likelihoods, as in interval-censored regression; so a quantity that the data leave open stays open.
Where no line fits, the deviance is scaled by its excess over the residual degrees of freedom (Birge ratio).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from replicate.estimate import combine
from replicate.estimate.optimum import STEP, OptimumCurve
from replicate.estimate.quantiles import chi2_quantile, chi2_tail
from replicate.estimate.result import Estimate, finite, unknown

Floats = NDArray[np.float64]

SLOPES = np.round(np.arange(-4.0, 4.0001, 0.02), 6)
"""Slopes tried; an interval that reaches an end counts as open there."""
MISFIT_P = 0.01
HEIGHT_STEP = 2 * STEP
CLOSED_DEVIANCE = float(chi2_quantile(0.95, 1))
BOUNDED_DEVIANCE = float(chi2_quantile(0.99, 1))
MIN_INFORMATIVE = 3
"""Fewer learning rates with a closed optimum than this, and no line is called measured."""
MAY_DRIFT = float(np.log(1.5))
"""How far from its mean, in ln, the likeliest line may take the ratio of an informative learning rate before the ratio
counts as one that may vary: less than the margin's factor 2, because the slope is not known exactly."""
RESOLUTION = 0.1
"""Share of the grid's spacing by which a ratio is widened: an asymmetric curve's peak between two grid points can't be
placed better, whatever the noise, and the error is the same at every learning rate."""


@dataclass(frozen=True)
class LineFit:
    """Profile of the line ln wd = height + slope * (ln lr - center) over all slices of a cell."""

    curves: tuple[OptimumCurve, ...]
    center: float
    """ln(learning rate) at which `heights` is the line's value."""
    heights: Floats
    loglik: Floats
    """[H, B], log-likelihood over `heights` and `SLOPES`."""
    scale: float
    """Factor by which deviances are divided: 1 where a line fits."""
    misfit_p: float
    """p of the line against free optima, chi-squared; NaN with fewer than three informative slices."""
    informative: tuple[bool, ...]
    """Which slices have an optimum closed on both sides at 95 %."""

    @cached_property
    def of_slopes(self) -> Floats:
        """[B], the largest log-likelihood at each of `SLOPES`."""
        return np.asarray(self.loglik.max(axis=0))

    @cached_property
    def of_heights(self) -> Floats:
        """[H], the same at each of `heights`."""
        return np.asarray(self.loglik.max(axis=1))

    @cached_property
    def bounded(self) -> int:
        """How many slices bound their optimum on at least one side; the others are plateaus."""
        return sum(bool(np.isfinite(c.interval(BOUNDED_DEVIANCE)).any()) for c in self.curves)

    @cached_property
    def flags(self) -> tuple[str, ...]:
        found = [flag for curve in self.curves for flag in curve.flags]
        for curve, informative in zip(self.curves, self.informative, strict=True):
            low, high = curve.interval(CLOSED_DEVIANCE)
            if np.isinf(low) and np.isinf(high):
                found.append("plateau")
            elif not informative:
                found.append("edge-low" if np.isinf(low) else "edge-high")
        if self.misfit_p < MISFIT_P:
            found.append("misfit")
        return tuple(dict.fromkeys(found))


def fit_line(curves: Sequence[OptimumCurve]) -> LineFit | None:
    """The profile over lines; None where no slice has an optimum curve."""
    if not curves:
        return None
    x = np.log([c.lr for c in curves])
    closed = np.array([_is_closed(c) for c in curves])
    center = float(x[closed].mean()) if closed.sum() >= 2 else float(x.mean())
    heights = _heights(curves)
    # Row by row of a padded table: the position of height + slope * (x - center) in each curve's grid.
    total = np.zeros((len(heights), len(SLOPES)))
    for curve, xi in zip(curves, x, strict=True):
        total += curve.at(heights[:, None] + SLOPES[None, :] * (xi - center))
    free = sum(float(c.table.max()) for c in curves)
    dof = int(closed.sum()) - 2
    deviance = 2 * (free - float(total.max()))
    misfit_p = chi2_tail(deviance, dof) if dof > 0 else float("nan")
    scale = max(1.0, deviance / dof) if dof > 0 else 1.0
    return LineFit(tuple(curves), center, heights, total, scale, misfit_p, tuple(bool(c) for c in closed))


def _is_closed(curve: OptimumCurve) -> bool:
    return bool(np.isfinite(curve.interval(CLOSED_DEVIANCE)).all())


def _heights(curves: Sequence[OptimumCurve]) -> Floats:
    """Heights tried: past the grids by more than any slope tried can bring a line back, where an optimum is open."""
    ends = [c.interval(CLOSED_DEVIANCE) for c in curves]
    past_low = 12.0 if any(np.isinf(low) for low, _ in ends) else 2.0
    past_high = 12.0 if any(np.isinf(high) for _, high in ends) else 2.0
    low = min(c.start for c in curves) - past_low
    high = max(c.start + STEP * len(c.table) for c in curves) + past_high
    return np.arange(low, high, HEIGHT_STEP)


def _inside(profile: Floats, scale: float, level: float) -> NDArray[np.intp]:
    threshold = scale * float(chi2_quantile(level, 1)) / 2
    return np.nonzero(profile >= profile.max() - threshold)[0]


def _likeliest(profile: Floats) -> int:
    """Index of the largest value; the middle one where several are as large, as on an unbounded side."""
    top = np.nonzero(profile >= profile.max() - 1e-9)[0]
    return int(top[len(top) // 2])


def _ends(grid: Floats, inside: NDArray[np.intp]) -> tuple[float, float]:
    low = -np.inf if inside[0] == 0 else float(grid[inside[0] - 1])
    high = np.inf if inside[-1] == len(grid) - 1 else float(grid[inside[-1] + 1])
    return low, high


def _settle(fit: LineFit) -> str:
    """What would pin the line down, from the slices that do not."""
    words = [f"{MIN_INFORMATIVE} learning rates, at least"] if len(fit.curves) < MIN_INFORMATIVE else []
    for curve, informative in zip(fit.curves, fit.informative, strict=True):
        if informative:
            continue
        low, high = curve.interval(CLOSED_DEVIANCE)
        if np.isinf(low) and np.isinf(high):
            words.append(f"more seeds or a longer training at lr {curve.lr:g}, flat so far")
        elif np.isinf(low):
            words.append(f"weight decays below {np.exp(min(curve.start, high)):.1g} at lr {curve.lr:g}")
        else:
            end = curve.start + STEP * (len(curve.table) - 3)
            words.append(f"weight decays above {np.exp(max(end, low)):.1g} at lr {curve.lr:g}")
    return "; ".join(words)


def _slope(fit: LineFit, level: float) -> tuple[float | None, float, float]:
    """Slope of ln(best weight decay) on ln(learning rate): value, low, high."""
    profile = fit.of_slopes
    inside = _inside(profile, fit.scale, level)
    low, high = _ends(SLOPES, inside) if fit.bounded >= MIN_INFORMATIVE else (-np.inf, np.inf)
    value = float(SLOPES[_likeliest(profile)]) if np.isfinite([low, high]).any() else None
    return value, low, high


def slope(fit: LineFit, level: float = 0.95) -> Estimate:
    """Slope of ln(best weight decay) on ln(learning rate)."""
    value, low, high = _slope(fit, level)
    n = sum(fit.informative)
    flags = fit.flags if n >= MIN_INFORMATIVE else (*fit.flags, "few-optima")
    settle = _settle(fit)
    if np.isfinite([low, high]).all():
        settle = settle or _narrower(fit, high - low, 0.2)
    return Estimate(
        "slope", "", value, low, high, level, n, "profile likelihood over set-valued optima", flags, settle,
        {
            "per_lr": optima(fit, level),
            "misfit_p": finite(fit.misfit_p),
            "seed_curve_share": finite(fit.curves[0].seed_curve_share),
        },
    )  # fmt: skip


def log_ratio(fit: LineFit, level: float = 0.95) -> tuple[float | None, float, float]:
    """ln(best weight decay / learning rate) at the centre of the informative learning rates: value, low, high.

    The slope is profiled out, so the ratio is the geometric mean over those learning rates whether or not it is
    constant; where no line fits (p below `MISFIT_P`), it is the mean of their own optima. The interval is
    widened by `RESOLUTION`.
    """
    profile = fit.of_heights
    if fit.bounded < min(MIN_INFORMATIVE, len(fit.curves)):
        return None, -np.inf, np.inf
    low, high = _ends(fit.heights, _inside(profile, fit.scale, level))
    value = None
    if np.isfinite(low) and np.isfinite(high):
        value = float(fit.heights[_likeliest(profile)]) - fit.center
    spacing = float(np.mean([c.spacing for c in fit.curves]))
    if fit.misfit_p < MISFIT_P and sum(fit.informative) >= MIN_INFORMATIVE:
        # No line fits, so none may speak for a learning rate: the mean of the closed optima themselves.
        deviance = float(chi2_quantile(level, 1))
        parts = [_own_ratio(c, deviance) for c, closed in zip(fit.curves, fit.informative, strict=True) if closed]
        # Their errors may all go one way, and a set has no middle that is likelier than its ends.
        found = combine.mean_in_step(parts)
        return found.value, found.low - RESOLUTION * spacing, found.high + RESOLUTION * spacing
    return value, low - fit.center - RESOLUTION * spacing, high - fit.center + RESOLUTION * spacing


def _own_ratio(curve: OptimumCurve, deviance: float) -> combine.Span:
    """ln(best weight decay / learning rate) of one learning rate, whatever the others say."""
    low, high = curve.interval(deviance)
    log_lr = float(np.log(curve.lr))
    return combine.Span(min(max(curve.middle(deviance), low), high) - log_lr, low - log_lr, high - log_lr)


def ratio(fit: LineFit, level: float = 0.95, quantity: str = "rho") -> Estimate:
    """Best weight decay over learning rate, geometric mean over the informative learning rates."""
    value, low, high = log_ratio(fit, level)
    n = sum(fit.informative)
    flags = fit.flags
    settle = _settle(fit)
    if n < MIN_INFORMATIVE:
        flags = (*flags, "few-optima")
    else:
        settle = settle or _narrower(fit, high - low, np.log(2))
    likeliest, least, most = _slope(fit, level)
    if least > 1.2 or most < 0.8:
        flags = (*flags, "ratio-varies")
    elif likeliest is not None and _drift(fit, likeliest) > MAY_DRIFT:
        flags = (*flags, "ratio-may-vary")
    details = {"per_lr": optima(fit, level), "ratios_together": ratios_together(fit, level)}
    return Estimate(
        quantity, "", None if value is None else float(np.exp(value)), float(np.exp(low)), float(np.exp(high)), level,
        n, f"profile likelihood over set-valued optima, at lr {np.exp(fit.center):.2g}", flags, settle, details,
    )  # fmt: skip


def _drift(fit: LineFit, value: float) -> float:
    """How far ln(ratio) moves from its mean to the last of the informative learning rates, if the slope is `value`."""
    x = [np.log(c.lr) for c, informative in zip(fit.curves, fit.informative, strict=True) if informative]
    return float(abs(value - 1) * max(np.ptp(x) / 2, 0.0)) if x else 0.0


def ratios_together(fit: LineFit, level: float = 0.95) -> list[dict[str, float | None]]:
    """Each informative learning rate's own ratio, whatever the others say: `lr`, `low`, `high`, None where open.

    The intervals hold together at `level` (Bonferroni); no line is assumed.
    """
    count = sum(fit.informative)
    deviance = float(chi2_quantile(1 - (1 - level) / max(count, 1), 1))
    rows: list[dict[str, float | None]] = []
    for curve, informative in zip(fit.curves, fit.informative, strict=True):
        if informative:
            widening = RESOLUTION * curve.spacing
            own = _own_ratio(curve, deviance)
            low, high = np.exp(own.low - widening), np.exp(own.high + widening)
            rows.append({"lr": curve.lr, "low": finite(low) or None, "high": finite(high)})
    return rows


def _narrower(fit: LineFit, width: float, half_margin: float) -> str:
    """What would make an interval of `width` half as wide as the margin: closer weight decays or more seeds.

    Where the optima are known to within the runs around them, seeds say no more of their places.
    """
    if not np.isfinite(width):
        return ""
    factor = (width / half_margin) ** 2
    if factor <= 1:
        return "a true value further from the margin's edge"
    deviance = float(chi2_quantile(0.95, 1))
    closed = [c for c, informative in zip(fit.curves, fit.informative, strict=True) if informative]
    known = [high - low <= WITHIN_RUNS * c.spacing for c in closed for low, high in [c.interval(deviance)]]
    if known and 2 * sum(known) >= len(known):
        apart = float(np.exp(np.median([c.spacing for c in closed])))
        return f"weight decays closer together around the best ones, now a factor {apart:.2g} apart"
    return f"about {max(factor, 1.1):.2g} times as many seeds"


def optima(fit: LineFit, level: float = 0.95) -> list[dict[str, float | None]]:
    """The set-valued optimum of every learning rate: `lr`, `wd`, `low`, `high`; None where open, or where no single
    weight decay is the likeliest."""
    deviance = float(chi2_quantile(level, 1))
    rows: list[dict[str, float | None]] = []
    for curve in fit.curves:
        low, high = curve.interval(deviance)
        best = curve.single
        rows.append(
            {
                "lr": curve.lr,
                "wd": None if best is None else finite(np.exp(best)),
                "low": finite(np.exp(low)) or None,
                "high": finite(np.exp(high)),
            }
        )
    return rows


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
        return unknown("intercept_share", "", level, "profile likelihood over set-valued optima", flags, _settle(fit))
    threshold = fit.scale * float(chi2_quantile(level, 1)) / 2
    inside = np.nonzero(profile >= best - threshold)[0]
    if not len(inside):
        # A power law fits and no straight line does: the lines nearest to fitting.
        inside = _inside(profile, 1.0, level)
        flags = tuple(dict.fromkeys((*flags, "misfit")))
    low, high = _ends(INTERCEPT_SHARES, inside)
    _, least, most = _slope(fit, level)
    if least <= 1 <= most:
        # A proportional line is among the power laws that fit, so no straight line that fits better excludes it.
        low, high = min(low, 0.0), max(high, 0.0)
    value = float(INTERCEPT_SHARES[_likeliest(profile)]) if np.isfinite([low, high]).any() else None
    return Estimate(
        "intercept_share", "", value, low, high, level, sum(fit.informative),
        "profile likelihood over set-valued optima", flags, _settle(fit) or _narrower(fit, high - low, 0.75),
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
            "r2", "", None, -np.inf, 1.0, level, len(curves), method, (*fit.flags, "few-optima"), _settle(fit)
        )  # fmt: skip
    lrs = np.array([c.lr for c in curves])
    best = np.array([c.best for c in curves])
    draws = np.stack([rng.permutation(c.draws) for c in curves], axis=1)
    draws = draws[np.isfinite(draws).all(axis=1)]
    towards = [best + t * (draws - best) for t in (0.3, 0.6, 1.0, 1.3, 1.6)]
    lines = fit.heights[:, None] + (np.log(lrs) - fit.center)[None, :]
    ends = np.array([c.interval(deviance) for c in curves for deviance in (SAME_DEVIANCE, CLOSED_DEVIANCE)])
    ends = ends.reshape(len(curves), 4)[:, [2, 0, 1, 3]]  # ascending: of the interval, and of the likeliest within
    among = rng.uniform(ends[:, 1], ends[:, 2], (SAMPLES, len(curves)))
    corners = np.take_along_axis(ends, rng.integers(4, size=(len(curves), SAMPLES)), axis=1).T
    candidates = np.concatenate([best[None, :], *towards, lines, among, corners])
    loglik = sum(c.at(candidates[:, i]) for i, c in enumerate(curves))
    threshold = float(chi2_quantile(level, len(curves))) / 2 * fit.scale
    likely = candidates[loglik >= np.max(loglik) - threshold]
    values = origin_r_squared(lrs, np.exp(likely))
    point = float(origin_r_squared(lrs, np.exp(best)[None, :])[0])
    low, high = float(values.min()), float(values.max())
    settle = _settle(fit) or _narrower(fit, high - low, R2_MARGIN)
    return Estimate("r2", "", point, low, high, level, len(curves), method, fit.flags, settle)


def origin_r_squared(lrs: Floats, wds: Floats) -> Floats:
    """R² of the least-squares line through the origin, [N] from optima [N, E]: 1 - residual / total around the mean.

    As the published analysis computes it; it is negative where a constant fits better, and 0 where all optima agree.
    """
    rho = wds @ lrs / (lrs @ lrs)
    residual = ((wds - rho[:, None] * lrs) ** 2).sum(axis=1)
    total = ((wds - wds.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.ptp(wds, axis=1) > 0, 1 - residual / total, 0.0)


WITHIN_RUNS = 2.0
"""An optimum's interval as wide as so many distances between runs, the one before the best run and the one after it, is
as narrow as noise alone can make it."""
RIVALS = {"coupled": 1, "independent": 0, "timescale": -1}
"""Exponents of the learning rate in the best weight decay, in PyTorch's convention (a step shrinks by lr * wd)."""


def rivals(fit: LineFit, level: float = 0.95) -> dict[str, object]:
    """Which of the rival exponents the data exclude and which they support.

    A rival is excluded where the interval of the slope leaves it out; it is supported where it alone is left in and
    the interval is narrower than the distance between rivals. `exponent` is that rival, or None.
    """
    _, low, high = _slope(fit, level)
    excluded = [name for name, b in RIVALS.items() if not low <= b <= high]
    left = [name for name in RIVALS if name not in excluded]
    alone = left[0] if len(left) == 1 and high - low < 1 else None
    return {
        "exponent": RIVALS[alone] if alone else None,
        "supported": alone,
        "excluded": excluded,
        # Loshchilov and Hutter's decay is lr * wd in PyTorch's: its exponent is one larger.
        "exponent_of_lr_times_wd": RIVALS[alone] + 1 if alone else None,
    }
