"""The cost, pp, of tuning only the learning rate: best accuracy on the grid minus best on the line wd = 0.1 * lr.

The maximum of noisy means is biased upwards, more so the more means there are: 48 on the grid, 6 on the line. Here both
maxima are taken over posterior draws of smooth accuracy curves, the same draws for grid and line, so their biases
cancel if grid and line peak at the same point. `cross_fitted` estimates the gap without that bias, from held-out seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from replicate.estimate.accuracy_curve import accuracy_draws
from replicate.estimate.details import Gaps
from replicate.estimate.estimate import Estimate, unknown
from replicate.estimate.flags import Flag
from replicate.estimate.quantiles import t_quantile
from replicate.landscape.landscape import Floats, Landscape, Slice
from replicate.paper.protocol import RHO

DRAWS = 2000
SHRINKAGE = 1.2
"""Factor by which an interval's upper half is stretched. Without it, 85 % of intervals contain a true gap of 0.22 pp,
92 % one of 0.44 pp; with it, 90 to 97 % (falling with more seeds) and 95 % (`replicate calibrate`, `one-dimensional
tuning`)."""
INERT = 0.02
"""A weight decay has no effect if, without gradients, it would shrink the weights by less than this share."""
METHOD = "difference of maxima over draws of a smooth accuracy surface"


def on_line(cut: Slice) -> NDArray[np.bool_]:
    """[W], which weight decays are 0.1 * lr up to rounding to three digits."""
    return np.isclose(cut.wds, RHO * cut.lr, rtol=6e-3, atol=0)


def _on_grid(cut: Slice, grid: Sequence[float]) -> NDArray[np.bool_]:
    """[W], which weight decays are in `grid` up to rounding to three digits."""
    return np.asarray(np.isclose(cut.wds[:, None], np.asarray(grid), rtol=6e-3, atol=0).any(axis=1))


def gap_draws(landscape: Landscape, grid: Sequence[float], rng: np.random.Generator) -> Floats | None:
    """Draws [K] of the gap, pp; None if grid or line was not run, or no learning rate's curve can be fitted.

    `grid`: the weight decays of the two-dimensional search (the paper's eight).
    """
    slices = landscape.slices()
    best_grid, best_line = np.full(DRAWS, -np.inf), np.full(DRAWS, -np.inf)
    for cut, draws in zip(slices, accuracy_draws(slices, rng, DRAWS), strict=True):
        best_grid = np.fmax(best_grid, _best(draws[:, _on_grid(cut, grid)]))
        best_line = np.fmax(best_line, _best(draws[:, on_line(cut)]))
    if not (np.isfinite(best_grid) & np.isfinite(best_line)).all():
        return None
    return best_grid - best_line


def _best(draws: Floats) -> Floats:
    return np.fmax.reduce(draws, axis=1) if draws.shape[1] else np.full(len(draws), -np.inf)


def summarise(
    quantity: str, draws: Floats | None, n: int, seeds: int, level: float = 0.95, plug_in: float | None = None
) -> Estimate:
    """Median and equal-tailed interval of draws of a gap, percentage points.

    Smoothing biases a gap towards 0. Therefore the upper end is moved `SHRINKAGE` times as far from the median, and
    never lies below `plug_in`, which is biased upwards: a gap counts as small only if both estimates are small.

    Args:
        quantity: Name of the estimate.
        draws: [K], percentage points, as `gap_draws` gives them; None if nothing could be compared (`no-pairs`).
        n: Number of observations used for the estimate.
        seeds: Seeds per configuration; with fewer than two the interval is not bounded (`one-seed`).
        level: Level of the interval, 0 to 1.
        plug_in: The gap of the raw means, percentage points; None if there is none.

    >>> found = summarise("gap_pp", np.linspace(0.0, 0.2, 1001), n=5, seeds=5)
    >>> round(found.low, 3), round(found.high, 3)
    (0.005, 0.214)
    """
    if draws is None or seeds < 2:
        flags = (Flag.ONE_SEED,) if seeds < 2 else (Flag.NO_PAIRS,)
        return unknown(quantity, "pp", level, METHOD, flags, "a second seed" if seeds < 2 else "runs at 0.1 x lr")
    low, value, high = np.quantile(draws, [(1 - level) / 2, 0.5, (1 + level) / 2])
    high = max(value + SHRINKAGE * (high - value), value if plug_in is None else plug_in)
    return Estimate(quantity, "pp", float(value), float(low), float(high), level, n, METHOD, (), "more seeds")


def inert(landscape: Landscape, grid: Sequence[float]) -> bool:
    """Whether grid and line cannot differ, as no weight decay has an effect at the best learning rate of each.

    False if the landscape lacks the column `shrinkage`, the share by which decay alone shrinks the weights.
    """
    if "shrinkage" not in landscape.frame.columns:
        return False
    shrinkage = landscape.frame.groupby(["lr", "wd"])["shrinkage"].first()
    best = [cut for top in _tops(landscape, grid) if top is not None for _, cut in [top]]
    compared = [(cut.lr, wd) for cut in best for wd in cut.wds[on_line(cut) | _on_grid(cut, grid)]]
    return bool(compared) and bool((shrinkage[compared] < INERT).all())


def cross_fitted(landscape: Landscape, grid: Sequence[float]) -> float | None:
    """Leave-one-seed-out gap, pp: configurations are chosen on the other seeds and compared on the held-out seed.

    None if grid or line was not run, or there are fewer than two seeds.
    """
    whole = [(cut, np.isfinite(cut.scores).all(axis=1)) for cut in landscape.slices()]
    grid_rows = np.array([row for cut, rows in whole for row in cut.scores[rows & _on_grid(cut, grid)]])
    line_rows = np.array([row for cut, rows in whole for row in cut.scores[rows & on_line(cut)]])
    if not len(grid_rows) or not len(line_rows) or grid_rows.shape[1] < 2:
        return None
    gaps = []
    for seed in range(grid_rows.shape[1]):
        others = np.arange(grid_rows.shape[1]) != seed
        best_grid = grid_rows[grid_rows[:, others].mean(axis=1).argmax(), seed]
        best_line = line_rows[line_rows[:, others].mean(axis=1).argmax(), seed]
        gaps.append(best_grid - best_line)
    return float(np.mean(gaps))


def mean_over_cells(gaps: Sequence[float], cells: int, level: float = 0.95) -> Estimate:
    """Mean over cells of their cross-fitted gaps, percentage points.

    Args:
        gaps: One gap per cell, percentage points, as `cross_fitted` gives them.
        cells: Number of cells expected; with fewer gaps, or only one, the interval is not bounded (`no-pairs`).
        level: Level of the t interval, 0 to 1, whose standard error comes from the spread between cells.

    >>> round(mean_over_cells([0.1, 0.2, 0.3], cells=3).high, 3)
    0.448
    """
    method = "cross-fitted over seeds, t over cells"
    if len(gaps) < cells or len(gaps) < 2:
        return unknown("mean_gap_pp", "pp", level, method, (Flag.NO_PAIRS,), "at least two cells with two seeds each")
    value = float(np.mean(gaps))
    half = t_quantile(0.5 + level / 2, len(gaps) - 1) * float(np.std(gaps, ddof=1)) / len(gaps) ** 0.5
    low, high = value - half, value + half
    found = Gaps(gaps_pp=tuple(float(g) for g in gaps))
    return Estimate("mean_gap_pp", "pp", value, low, high, level, len(gaps), method, (), "more seeds", found)


def plug_in(landscape: Landscape, grid: Sequence[float]) -> float | None:
    """The paper's gap, pp: largest mean over seeds on the grid minus largest on the line; None if either lacks runs."""
    of_grid, of_line = _tops(landscape, grid)
    return None if of_grid is None or of_line is None else of_grid[0] - of_line[0]


def _tops(landscape: Landscape, grid: Sequence[float]) -> tuple[tuple[float, Slice] | None, tuple[float, Slice] | None]:
    """The largest mean over seeds on the grid, and that on the line, each with its slice; None if it has no runs."""
    found: tuple[list[tuple[float, Slice]], list[tuple[float, Slice]]] = ([], [])
    for cut in landscape.slices():
        usable = np.isfinite(cut.scores).any(axis=1)
        for tops, rows in zip(found, (_on_grid(cut, grid), on_line(cut)), strict=True):
            tops += [(float(np.nanmean(row)), cut) for row in cut.scores[usable & rows]]
    of_grid, of_line = (max(tops, key=lambda top: top[0], default=None) for tops in found)
    return of_grid, of_line
