"""Can the table of ratios come from the grid? Tries every assignment of a weight decay to each rate.

The pipeline picks one weight decay of the grid at each learning rate and fits a line, so a reported ratio, R squared
and log-log slope are functions of that choice, of which there are finitely many: 8^6 = 262,144 on the paper's grid.
Noise, seeds and the size of the effect do not matter. (Enumerating all values that can be reported is the idea of the
GRIM test, Brown and Heathers 2017.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from replicate.audit.finding import CONSISTENT, DECISION_INCONSISTENT, INCONSISTENT, Finding, NotStated
from replicate.audit.reported import Floats, Printed, RatioRow, Reported

Grid = tuple[tuple[float, tuple[float, ...]], ...]

MOST = 4_000_000
"""Grids with more assignments are not enumerated: they would take too much memory."""

NEAR_R2 = 0.1
"""A conclusion changes if every fit inside the row's intervals has an R² below the reported one by more than this."""

FITS = ("origin", "origin, R² about 0", "intercept")
"""Line through the origin, with R² about the mean (as in the published script) or about 0; line with an intercept."""


@dataclass(frozen=True)
class Fits:
    """What the pipeline reports for every assignment, each [N]."""

    rho: Floats
    """Slope of the line through the origin."""
    r2_mean: Floats
    """R² of that line about the mean; 0 if all weight decays are equal, as in the published script."""
    r2_zero: Floats
    """R² of that line about 0."""
    rho_free: Floats
    """Slope of the line with an intercept."""
    r2_free: Floats
    slope: Floats
    """Slope of ln(weight decay) on ln(learning rate); NaN where a best weight decay is 0."""

    def of(self, fit: str) -> tuple[Floats, Floats]:
        """Ratio and R² under one of FITS."""
        return {
            FITS[0]: (self.rho, self.r2_mean),
            FITS[1]: (self.rho, self.r2_zero),
            FITS[2]: (self.rho_free, self.r2_free),
        }[fit]


def _over_assignments(columns: list[Floats]) -> Floats:
    """[N], sum of `columns` over learning rates for every assignment; the last rate's choice varies fastest."""
    total = np.zeros(1)
    for column in columns:
        total = (total[:, None] + column[None, :]).ravel()
    return total


@lru_cache(maxsize=4)
def enumerate_fits(grid: Grid) -> Fits:
    """The fits of every assignment of a weight decay of `grid` to each of its learning rates.

    Raises NotStated if there are more than `MOST` assignments or fewer than two learning rates.
    """
    number = int(np.prod([len(wds) for _, wds in grid], dtype=np.float64))
    if number > MOST:
        raise NotStated(f"a grid of at most {MOST:,} assignments of weight decays to learning rates, not {number:,}")
    if len(grid) < 2:
        raise NotStated("a grid of at least two learning rates")
    lrs = np.array([lr for lr, _ in grid])
    wds = [np.array(values) for _, values in grid]
    centred, logs = lrs - lrs.mean(), np.log(lrs) - np.log(lrs).mean()
    total = _over_assignments(wds)
    cross = _over_assignments([lr * w for lr, w in zip(lrs, wds, strict=True)])
    squares = _over_assignments([w**2 for w in wds])
    with np.errstate(divide="ignore", invalid="ignore"):
        cross_centred = cross - total * lrs.mean()
        spread = np.maximum(squares - total**2 / len(lrs), 0.0)
        spread[spread < 1e-12 * np.maximum(squares, 1e-300)] = 0.0  # all equal up to rounding error
        rho = cross / (lrs @ lrs)
        left = np.maximum(squares - cross**2 / (lrs @ lrs), 0.0)
        slope = _over_assignments([x * np.log(w) for x, w in zip(logs, wds, strict=True)]) / (logs @ logs)
        return Fits(
            rho=rho,
            r2_mean=np.where(spread > 0, 1 - left / spread, 0.0),
            r2_zero=np.where(squares > 0, 1 - left / squares, 0.0),
            rho_free=cross_centred / (centred @ centred),
            r2_free=np.where(spread > 0, cross_centred**2 / (centred @ centred) / spread, 0.0),
            slope=np.where(np.isfinite(slope), slope, np.nan),
        )


def assignment(grid: Grid, index: int) -> tuple[float, ...]:
    """The weight decays of the assignment with number `index`."""
    found = []
    for _, wds in reversed(grid):
        index, i = divmod(index, len(wds))
        found.append(wds[i])
    return tuple(reversed(found))


def _prints_like(values: Floats, printed: Printed) -> np.ndarray[Any, np.dtype[np.bool_]]:
    slack = 1e-9 * (2 * printed.half or 1.0)
    return np.asarray(np.abs(values - printed.value) <= printed.half + slack)


@dataclass(frozen=True)
class Reach:
    """How closely the grid's assignments come to the figures of one row, under one fit."""

    rho: int
    """Number of assignments whose rounded ratio is the reported one."""
    rho_r2: int
    """Number of assignments with the reported ratio and R² (if reported)."""
    all_three: int
    """Number of assignments with the reported ratio, R² and slope (if reported)."""
    best_r2: float | None
    """Largest R² among assignments with the reported ratio."""
    closest: tuple[float, ...] | None
    """The assignment at the smallest `distance` among those that have a slope."""
    closest_rho: float
    closest_r2: float
    closest_slope: float
    distance: float
    """The largest of three: the relative difference of the ratio, and the differences of R² and of the slope."""


def reach(row: RatioRow, grid: Grid, fit: str) -> Reach:
    """How closely the assignments of `grid` come to the figures of `row` under `fit`, one of FITS."""
    fits = enumerate_fits(grid)
    rho, r2 = fits.of(fit)
    like_rho = _prints_like(rho, row.rho.value)
    like_r2 = like_rho & _prints_like(r2, row.r2) if row.r2 else like_rho
    like_all = like_r2 & _prints_like(fits.slope, row.slope.value) if row.slope else like_r2
    printed = row.rho.value
    far = np.abs(rho - printed.value) / max(abs(printed.value), printed.half)
    if row.r2:
        far = np.maximum(far, np.abs(r2 - row.r2.value))
    if row.slope:
        far = np.maximum(far, np.where(np.isnan(fits.slope), np.inf, np.abs(fits.slope - row.slope.value.value)))
    k = int(far.argmin())
    return Reach(
        rho=int(like_rho.sum()),
        rho_r2=int(like_r2.sum()),
        all_three=int(like_all.sum()),
        best_r2=float(r2[like_rho].max()) if like_rho.any() else None,
        closest=assignment(grid, k) if np.isfinite(far[k]) else None,
        closest_rho=float(rho[k]),
        closest_r2=float(r2[k]),
        closest_slope=float(fits.slope[k]) + 0.0,
        distance=float(far[k]),
    )


def _within_intervals(row: RatioRow, grid: Grid) -> bool:
    """Whether a fit to some assignment has ratio and slope in the row's intervals and an R² at most NEAR_R2 too low."""
    fits = enumerate_fits(grid)
    ok = np.ones(len(fits.slope), dtype=bool)
    if row.slope and row.slope.has_interval:
        low, high = row.slope.interval
        ok = (fits.slope >= low.low) & (fits.slope <= high.high)
    for fit in FITS:
        rho, r2 = fits.of(fit)
        near = ok & (r2 >= row.r2.value - NEAR_R2) if row.r2 else ok
        if row.rho.has_interval:
            low, high = row.rho.interval
            near = near & (rho >= low.low) & (rho <= high.high)
        if near.any():
            return True
    return False


def find(paper: Reported, row: RatioRow) -> Finding:
    """`audit/reachability/<cell>`: does any assignment give the row's ratio, R² and slope?"""
    fits = enumerate_fits(paper.grid)
    number = len(fits.rho)
    found = {fit: reach(row, paper.grid, fit) for fit in FITS}
    reached = [fit for fit, r in found.items() if r.all_three]
    has_slope = np.isfinite(fits.slope)
    smallest = float(fits.rho[has_slope].min()) if has_slope.any() else None
    if reached:
        outcome = CONSISTENT
    else:
        outcome = INCONSISTENT if _within_intervals(row, paper.grid) else DECISION_INCONSISTENT
    first = found[FITS[0]]
    statistics = [f"ratio {row.rho.value.text}"]
    statistics += [f"R² {row.r2.text}"] if row.r2 else []
    statistics += [f"slope {row.slope.value.text}"] if row.slope else []
    details: dict[str, Any] = {
        "assignments": number,
        "fits": {fit: vars(r) for fit, r in found.items()},
        "smallest ratio through the origin with a slope": smallest,
    }
    counts = "; ".join(f"{fit}: {r.rho}, {r.rho_r2}, {r.all_three}" for fit, r in found.items())
    wanted = f"{', '.join(statistics[:-1])} and {statistics[-1]}" if statistics[1:] else statistics[0]
    if reached:
        fit = reached[0]
        evidence = (
            f"{found[fit].all_three} of the {number:,} ways to pick a weight decay of the grid at each learning rate "
            f"{'gives' if found[fit].all_three == 1 else 'give'} {wanted} (line: {fit})."
        )
    else:
        evidence = (
            f"None of the {number:,} ways to pick a weight decay of the grid at each learning rate gives {wanted}: "
            f"{first.rho} give the ratio"
        )
        if first.best_r2 is not None and row.r2:
            evidence += f", with R² at most {first.best_r2:.2f}"
        if smallest is not None and row.slope:
            evidence += (
                f"; with all weight decays above 0, as a log-log slope requires, the ratio is at least {smallest:.3g}"
            )
            like_slope = _prints_like(fits.slope, row.slope.value)
            if like_slope.any():
                least = float(fits.rho[like_slope].min())
                details["smallest ratio with the reported slope"] = least
                evidence += f", and with this slope at least {least:.3g}"
        evidence += "."
    closest = first.closest
    remedy = (
        "the best weight decays were searched on another grid than the one described, or the figures come from another "
        "estimator"
    )
    return Finding(
        outcome=outcome,
        evidence=evidence,
        source=row.source,
        claimed=", ".join(statistics),
        recomputed=f"ways that give the ratio, the ratio and R², all three: {counts}; closest: ratio "
        f"{first.closest_rho:.3g}, R² "
        f"{first.closest_r2:.2f}, slope {round(first.closest_slope, 2) + 0.0:.2f}"
        + (f" from weight decays {', '.join(f'{w:g}' for w in closest)}" if closest else ""),
        assumes="the best weight decay of each learning rate is one of the grid's, and one line is fitted to them; no "
        "distribution is assumed, and each figure may be anything that rounds to the printed one",
        consistent_if="" if reached else remedy,
        details=details,
    )
