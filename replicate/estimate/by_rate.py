"""Summary of each learning rate of a landscape: the best weight decay, and the score lost at other weight decays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import pandas as pd

from replicate.estimate.line_fit import CLOSED_DEVIANCE, LineFit
from replicate.estimate.optimum import OptimumCurve
from replicate.estimate.surface import Ridge
from replicate.landscape.landscape import Landscape, Slice

FACTOR = 10.0
"""Losses are reported at the best weight decay multiplied by `FACTOR` and divided by `FACTOR`."""
ROUNDING = 1e-6
"""Tolerance, in ln(weight decay), of the check that a weight decay lies within the grid."""


class Where(str, Enum):
    """Where the best weight decay lies among those that were run."""

    INSIDE = "inside"
    ABOVE = "upper edge"
    BELOW = "lower edge"
    ANY_BELOW = "any below"
    """The smallest weight decays that were run cannot be told from the best one."""
    FLAT = "flat"
    OPEN = "open"
    """The best weight decay is not bounded, because the noise between seeds is unknown."""
    EQUAL = "equal"
    """All runs have the same score."""
    UNKNOWN = "too few"

    @property
    def placed(self) -> bool:
        """Whether the data say anything about where the best weight decay lies."""
        return self not in (Where.EQUAL, Where.UNKNOWN)


@dataclass(frozen=True)
class Loss:
    """The loss of a weight decay: the best weight decay's mean score minus this one's, in units of the score."""

    wd: float
    value: float
    error: float
    """Standard error; without repeated seeds, estimated from the scatter around smooth curves."""


@dataclass(frozen=True)
class RateRow:
    """The summary of one learning rate."""

    lr: float
    where: Where
    best_wd: float | None
    """The weight decay with the best mean score; None if every run diverged."""
    best_score: float | None
    low: float
    """Lower 95 % bound on the best weight decay; 0 if not bounded."""
    high: float
    """Upper 95 % bound on the best weight decay; infinite if not bounded."""
    alike: tuple[float, ...]
    """Weight decays that were run and cannot be told from the best one (99 % confidence)."""
    alike_loses: float
    """The largest mean score among `alike` minus the smallest."""
    least: Loss | None
    """Loss of the smallest weight decay that was run, often 0; None, like all losses, if `where.placed` is false."""
    tenth: Loss | None
    """Loss of a tenth of `best_wd`; None if no weight decay that small was run."""
    tenfold: Loss | None
    """Loss of ten times `best_wd`; None if no weight decay that large was run."""
    by_rule: Loss | None
    """Loss of the weight decay ratio * lr that the rule advises; None if outside the weight decays that were run."""
    smallest: float
    """The smallest weight decay that was run."""
    largest: float
    runs: int
    seeds: int
    diverged: int


def rows(landscape: Landscape, fit: LineFit | None, ratio: float) -> tuple[RateRow, ...]:
    """One row per learning rate of `landscape`, ascending.

    `fit`: the line through the landscape's optima, or None; `ratio`: weight decay / learning rate as the rule advises.
    """
    curves = {} if fit is None else {curve.lr: curve for curve in fit.curves}
    found = (_row(cut, curves.get(cut.lr), ratio) for cut in landscape.slices())
    return tuple(row if landscape.unit == 1 else _times(row, landscape.unit) for row in found)


def _times(row: RateRow, unit: float) -> RateRow:
    """`row` with its scores, which are multiples of `unit`, converted to the sweep's own unit."""

    def loss(one: Loss | None) -> Loss | None:
        return None if one is None else Loss(one.wd, one.value * unit, one.error * unit)

    return replace(
        row,
        best_score=None if row.best_score is None else row.best_score * unit,
        alike_loses=row.alike_loses * unit,
        least=loss(row.least),
        tenth=loss(row.tenth),
        tenfold=loss(row.tenfold),
        by_rule=loss(row.by_rule),
    )


def loss_at(curve: OptimumCurve, wd: float) -> Loss | None:
    """Loss of `wd`, interpolated in ln(weight decay) between the runs; None outside the range of the runs."""
    if curve.fitted is None:
        return None
    points, covariance = curve.fitted.points, curve.fitted.process.covariance
    first = int(points.x[0] < points.low)  # skip weight decay 0
    x = points.x[first:]
    contrast = np.zeros(len(points.x))
    contrast[int(points.noise.mean.argmax())] = 1.0
    # The first point stands for all weight decays up to its own that gave the same scores.
    if points.smallest <= wd <= (0.0 if first else np.exp(x[0])):
        contrast[0] -= 1.0
    elif wd > 0 and x[0] - ROUNDING <= np.log(wd) <= x[-1] + ROUNDING:
        right = int(np.clip(np.searchsorted(x, np.log(wd)), 1, len(x) - 1))
        share = float(np.clip((np.log(wd) - x[right - 1]) / (x[right] - x[right - 1]), 0, 1))
        contrast[first + right - 1] -= 1 - share
        contrast[first + right] -= share
    else:
        return None
    variance = float(contrast @ covariance @ contrast)
    return Loss(wd, max(float(contrast @ points.noise.mean), 0.0), math.sqrt(max(variance, 0.0)))


def _row(cut: Slice, curve: OptimumCurve | None, ratio: float) -> RateRow:
    finite = np.isfinite(cut.scores)
    means = [float(row[ok].mean()) if ok.any() else -np.inf for row, ok in zip(cut.scores, finite, strict=True)]
    if curve is not None and curve.fitted is not None:
        points = curve.fitted.points
        means = [-float("inf")] * len(means)
        for i, stands in zip(points.rows, points.stands_for, strict=True):
            means[int(i)] = float(points.noise.mean[stands])
    best = int(np.argmax(means))
    known = np.isfinite(means[best])
    best_wd, best_score = (float(cut.wds[best]), means[best]) if known else (None, None)
    nothing = Where.EQUAL if cut.equal else Where.UNKNOWN
    where, low, high, alike, alike_loses = nothing, 0.0, np.inf, np.zeros(0), 0.0
    least = tenth = tenfold = by_rule = None
    if curve is not None and curve.fitted is not None and best_wd is not None:
        ends = curve.interval(CLOSED_DEVIANCE)
        where, low, high = _where(curve, *ends), float(np.exp(ends[0])), float(np.exp(ends[1]))
        points, inside = curve.fitted.points, list(curve.alike)
        alike = np.where(points.x < points.low, 0.0, np.exp(points.x))[inside]
        alike_loses = float(np.ptp(points.noise.mean[inside]))
        least, by_rule = loss_at(curve, float(cut.wds[0])), loss_at(curve, ratio * cut.lr)
        if best_wd > 0:
            tenth, tenfold = loss_at(curve, best_wd / FACTOR), loss_at(curve, best_wd * FACTOR)
    return RateRow(
        lr=cut.lr,
        where=where,
        best_wd=best_wd,
        best_score=best_score,
        low=low,
        high=high,
        alike=tuple(float(f"{wd:.6g}") for wd in alike),
        alike_loses=alike_loses,
        least=least,
        tenth=tenth,
        tenfold=tenfold,
        by_rule=by_rule,
        smallest=float(cut.wds[0]),
        largest=float(cut.wds[-1]),
        runs=int(finite.sum() + cut.diverged.sum()),
        seeds=int((finite | cut.diverged).any(axis=0).sum()),
        diverged=int(cut.diverged.sum()),
    )


def _where(curve: OptimumCurve, low: float, high: float) -> Where:
    if np.isfinite(low) and np.isfinite(high):
        return Where.INSIDE
    if np.isinf(low) and np.isinf(high):
        # Without repeated seeds, a real fall cannot be told from noise, so the curve must not be called flat.
        return Where.FLAT if curve.noise_known else Where.OPEN
    if np.isinf(high):
        return Where.ABOVE
    return Where.ANY_BELOW if curve.even_below else Where.BELOW


def best_of(found: tuple[RateRow, ...]) -> RateRow | None:
    """The row with the best score; None if no row has one."""
    known = [row for row in found if row.best_score is not None]
    return max(known, key=lambda row: row.best_score or 0.0, default=None)


def of_trial(lr: float, wd: float, score: float) -> RateRow:
    """A single trial of a random search as a row: nothing is known about other weight decays at its learning rate."""
    return RateRow(
        lr=lr,
        where=Where.UNKNOWN,
        best_wd=wd,
        best_score=score,
        low=0.0,
        high=math.inf,
        alike=(),
        alike_loses=0.0,
        least=None,
        tenth=None,
        tenfold=None,
        by_rule=None,
        smallest=wd,
        largest=wd,
        runs=1,
        seeds=1,
        diverged=0,
    )


def of_ridge(found: Ridge, frame: pd.DataFrame, ratio: float) -> tuple[RateRow, ...]:
    """One row per learning rate of a random search with trials `frame` and fit `found`; `ratio`: as in `rows`."""

    def loss(rate: int, wd: float | None) -> Loss | None:
        lost = np.full(1, np.nan) if wd is None else found.losses(rate, wd)
        if wd is None or np.isnan(lost).any():
            return None
        return Loss(wd, float(np.median(lost)) * found.unit, float(np.std(lost)) * found.unit)

    lows, highs = found.at(found.lrs.tolist())
    nearest = np.abs(np.log(frame["lr"].to_numpy(dtype=np.float64))[:, None] - np.log(found.lrs)).argmin(axis=1)
    rows = []
    for i, lr in enumerate(found.lrs):
        trials = frame[nearest == i]
        middle = float(np.median(found.places[:, i]))
        where = {
            (True, True): Where.INSIDE,
            (True, False): Where.ABOVE,
            (False, True): Where.BELOW,
            (False, False): Where.FLAT,
        }[bool(np.isfinite(lows[i])), bool(np.isfinite(highs[i]))]
        best = float(np.exp(middle)) if np.isfinite(middle) else None
        rows.append(
            replace(
                of_trial(float(f"{lr:.2g}"), float(np.exp(middle)), math.nan),
                where=where,
                best_wd=None if where is Where.FLAT else best,
                best_score=None,
                tenth=loss(i, None if best is None else best / FACTOR),
                tenfold=loss(i, None if best is None else best * FACTOR),
                by_rule=loss(i, ratio * float(lr)),
                low=float(np.exp(lows[i])),
                high=float(np.exp(highs[i])),
                runs=len(trials),
                diverged=int(trials["diverged"].sum()),
            )
        )
    return tuple(rows)
