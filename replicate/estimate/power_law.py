"""The best weight decay as a power of the learning rate: slope, ratio, the optima themselves, and rival exponents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from replicate.estimate import combine
from replicate.estimate.line_fit import (
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
from replicate.estimate.result import Estimate, finite

Floats = NDArray[np.float64]

MAY_DRIFT = float(np.log(1.5))
"""How far from its mean, in ln, the likeliest line may take the ratio of an informative learning rate before the ratio
counts as one that may vary: less than the margin's factor 2, because the slope is not known exactly."""
RESOLUTION = 0.1
"""Share of the grid's spacing by which a ratio is widened: an asymmetric curve's peak between two grid points can't be
placed better, whatever the noise, and the error is the same at every learning rate."""
RIVALS = {"coupled": 1, "independent": 0, "timescale": -1}
"""Exponents of the learning rate in the best weight decay, in PyTorch's convention (a step shrinks by lr * wd)."""


def slope_span(fit: LineFit, level: float) -> tuple[float | None, float, float]:
    """Slope of ln(best weight decay) on ln(learning rate): value, low, high."""
    profile = fit.of_slopes
    inside = within(profile, fit.scale, level)
    low, high = ends(SLOPES, inside) if fit.bounded >= MIN_INFORMATIVE else (-np.inf, np.inf)
    value = float(SLOPES[likeliest(profile)]) if np.isfinite([low, high]).any() else None
    return value, low, high


def slope(fit: LineFit, level: float = 0.95) -> Estimate:
    """Slope of ln(best weight decay) on ln(learning rate)."""
    value, low, high = slope_span(fit, level)
    n = sum(fit.informative)
    flags = (*fit.flags, *fit.breaks(fit.places, fit.misfit_p, level))
    if n < MIN_INFORMATIVE:
        flags = (*flags, "few-optima")
    to_do = settle(fit)
    if np.isfinite([low, high]).all():
        to_do = to_do or narrower(fit, high - low, 0.2)
    return Estimate(
        "slope", "", value, low, high, level, n, "profile likelihood over set-valued optima", flags, to_do,
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
    low, high = ends(fit.heights, within(profile, fit.scale, level))
    value = None
    if np.isfinite(low) and np.isfinite(high):
        value = float(fit.heights[likeliest(profile)]) - fit.center
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
    flags = (*fit.flags, *fit.breaks(fit.places, fit.misfit_p, level))
    to_do = settle(fit)
    if n < MIN_INFORMATIVE:
        flags = (*flags, "few-optima")
    else:
        to_do = to_do or narrower(fit, high - low, np.log(2))
    likeliest, least, most = slope_span(fit, level)
    if least > 1.2 or most < 0.8:
        flags = (*flags, "ratio-varies")
    elif likeliest is not None and _drift(fit, likeliest) > MAY_DRIFT:
        flags = (*flags, "ratio-may-vary")
    details = {"per_lr": optima(fit, level), "ratios_together": ratios_together(fit, level)}
    return Estimate(
        quantity, "", None if value is None else float(np.exp(value)), float(np.exp(low)), float(np.exp(high)), level,
        n, f"profile likelihood over set-valued optima, at lr {np.exp(fit.center):.2g}", flags, to_do, details,
    )  # fmt: skip


def _drift(fit: LineFit, value: float) -> float:
    """How far ln(ratio) moves from its mean to the last of the informative learning rates, if the slope is `value`."""
    x = [np.log(c.lr) for c, informative in zip(fit.curves, fit.informative, strict=True) if informative]
    return float(abs(value - 1) * max(np.ptp(x) / 2, 0.0)) if x else 0.0


def ratios_together(fit: LineFit, level: float = 0.95) -> list[dict[str, Any]]:
    """Each informative learning rate's own ratio, whatever the others say: `lr`, `value`, `low`, `high`; None: open.

    The intervals hold together at `level` (Bonferroni); no line is assumed. `likely`: where it is as likely as not.
    """
    count = sum(fit.informative)
    deviance = float(chi2_quantile(1 - (1 - level) / max(count, 1), 1))
    even = float(chi2_quantile(0.5, 1))
    rows: list[dict[str, Any]] = []
    for curve, informative in zip(fit.curves, fit.informative, strict=True):
        if informative:
            likely = np.exp(np.array(curve.interval(even)) - np.log(curve.lr))
            widening = RESOLUTION * curve.spacing
            own = _own_ratio(curve, deviance)
            low, high = np.exp(own.low - widening), np.exp(own.high + widening)
            value = finite(np.exp(own.value)) or None
            rows.append(
                {
                    "lr": curve.lr, "value": value, "low": finite(low) or None, "high": finite(high),
                    "likely": [finite(end) for end in likely],
                }
            )  # fmt: skip
    return rows


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


def rivals(fit: LineFit, level: float = 0.95) -> dict[str, object]:
    """Which of the rival exponents the data exclude and which they support.

    A rival is excluded where the interval of the slope leaves it out; it is supported where it alone is left in and
    the interval is narrower than the distance between rivals. `exponent` is that rival, or None.
    """
    _, low, high = slope_span(fit, level)
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
