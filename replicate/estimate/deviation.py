"""The cost of a wrong ratio: paired accuracy drops at kappa times the claimed weight decay, and statistics of them.

A drop is the accuracy at kappa = 1 minus that at another kappa, at the same learning rate and seed, averaged over
learning rates; a cell has a drop per seed, [S]. Cells are averaged with equal weight; standard errors come from the
seeds within cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from replicate.estimate.combine import Span, difference
from replicate.estimate.details import Asymmetry, Terms
from replicate.estimate.estimate import Estimate, unknown
from replicate.estimate.flags import Flag
from replicate.estimate.quantiles import t_quantile
from replicate.landscape.landscape import Floats, Landscape
from replicate.paper.protocol import KAPPAS, RHO

Drops = Mapping[float, Sequence[Floats]]
"""kappa → one [S] array of drops (pp) per cell."""

METHOD = "paired by seed, t over seeds within cells"


def cell_drops(landscape: Landscape, *, together: bool = False) -> dict[float, Floats]:
    """Drops of one cell: every kappa except 1 → [S] pp, NaN for a seed that has no pair of runs (at 1 and at kappa).

    `together`: only learning rates with all kappas are averaged, so that drops can be compared between kappas.
    """
    found: dict[float, list[Floats]] = {kappa: [] for kappa in KAPPAS if kappa != 1}
    for cut in landscape.slices():
        reference = _row(cut.wds, RHO * cut.lr)
        if reference is None:
            continue
        pairs = {}
        for kappa in found:
            row = _row(cut.wds, kappa * RHO * cut.lr)
            if row is not None and np.isfinite(pair := cut.scores[reference] - cut.scores[row]).any():
                pairs[kappa] = pair
        if together and len(pairs) < len(found):
            continue
        for kappa, pair in pairs.items():
            found[kappa].append(pair)
    # A kappa without pairs gets NaN instead of being left out: `Drops` has every cell at the same index for all kappas.
    out = {kappa: np.full(len(landscape.seeds), np.nan) for kappa in found}
    for kappa, rows in found.items():
        if rows:
            table = np.stack(rows)
            table = table[np.isfinite(table).any(axis=1)]
            if len(table):
                out[kappa] = seed_means(table)
    return out


def seed_means(table: Floats) -> Floats:
    """Mean of `table` [E, S] over learning rates with equal weights, [S]; NaN for a seed without finite values.

    A missing entry is replaced by its learning rate's mean, which draws the seed towards the mean of all seeds: its
    distance shrinks to the share of its entries that are present. Dividing by this share keeps the spread unbiased.
    """
    finite = np.isfinite(table)
    filled = np.where(finite, table, np.nanmean(table, axis=1, keepdims=True)).mean(axis=0)
    share = finite.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (filled - filled[share > 0].mean()) / share
    return np.where(share > 0, filled[share > 0].mean() + spread, np.nan)


def _row(wds: Floats, wd: float) -> int | None:
    """Index of `wd` among `wds`, up to rounding to three digits; None if it was not run."""
    close = np.nonzero(np.abs(wds - wd) <= 6e-3 * wd)[0]
    return int(close[0]) if len(close) else None


def cells_interval(values: Sequence[Floats], level: float) -> tuple[float, float, float, int]:
    """Mean over cells of their seeds' values [S], with its interval: returns mean, low, high and number of values.

    t interval with Satterthwaite's degrees of freedom (Satterthwaite 1946); not bounded if a cell has one seed.
    """
    cells = [v[np.isfinite(v)] for v in values]
    cells = [v for v in cells if len(v)]
    n = int(sum(len(v) for v in cells))
    mean = float(np.mean([v.mean() for v in cells]))
    if any(len(v) < 2 for v in cells):
        return mean, -math.inf, math.inf, n
    parts = np.array([float(np.var(v, ddof=1)) / len(v) for v in cells]) / len(cells) ** 2
    if parts.sum() == 0:
        return mean, mean, mean, n
    dof = float(parts.sum() ** 2 / np.sum(parts**2 / np.array([len(v) - 1 for v in cells])))
    half = t_quantile(0.5 + level / 2, dof) * math.sqrt(parts.sum())
    return mean, mean - half, mean + half, n


def measured(values: Sequence[Floats]) -> bool:
    """Whether any cell has a finite value."""
    return any(np.isfinite(v).any() for v in values)


def drop(drops: Drops, kappa: float, level: float = 0.95, family: int = 6) -> Estimate:
    """Accuracy lost at `kappa` times the claimed weight decay, percentage points, averaged over cells.

    Args:
        drops: kappa → one [S] array per cell, percentage points by seed, as `cell_drops` gives them.
        kappa: Multiple of the claimed weight decay.
        level: Level, 0 to 1, at which the intervals of all `family` kappas hold simultaneously (Bonferroni).
        family: Number of kappas whose intervals hold simultaneously.

    Returns:
        Mean over cells with its t interval over the seeds within cells (see `cells_interval`); not bounded with one
        seed (`one-seed`) or if `kappa` was not run (`no-pairs`).

    >>> round(drop({2.0: [np.array([1.0, 1.2, 1.4])]}, 2.0, family=1).low, 3)
    0.703
    """
    if not measured(drops.get(kappa, ())):
        return unknown("drop_pp", "pp", level, METHOD, (Flag.NO_PAIRS,), f"runs at kappa {kappa:g}")
    value, low, high, n = cells_interval(drops[kappa], 1 - (1 - level) / family)
    flags = () if math.isfinite(low) else (Flag.ONE_SEED,)
    settle = "a second seed" if flags else "more seeds"
    return Estimate("drop_pp", "pp", value, low, high, level, n, f"{METHOD}, simultaneous", flags, settle)


def least(quantity: str, terms: Sequence[tuple[str, float, Sequence[Floats], float]], level: float = 0.95) -> Estimate:
    """The smallest of several quantities, percentage points: each is sign * mean over cells + offset.

    Args:
        quantity: Name of the estimate.
        terms: (name, sign, one [S] array per cell, offset) of each quantity; arrays and offset in percentage points.
        level: Level of the interval, 0 to 1.

    Returns:
        The smallest value. Its interval has the smallest lower end, as showing that all quantities lie above a bound
        needs no adjustment (Berger and Hsu 1996), and the smallest upper end at a Bonferroni level. Not bounded as in
        `drop`.
    """
    rows = []
    for name, sign, values, offset in terms:
        if not measured(values):
            return unknown(quantity, "pp", level, METHOD, (Flag.NO_PAIRS,), f"runs at {name}")
        value, low, high, n = cells_interval([sign * v + offset for v in values], level)
        high = cells_interval([sign * v + offset for v in values], 1 - (1 - level) / len(terms))[2]
        rows.append((value, low, high, n, name))
    value = min(r[0] for r in rows)
    low, high = min(r[1] for r in rows), min(r[2] for r in rows)
    flags = () if math.isfinite(low) else (Flag.ONE_SEED,)
    n, method = sum(r[3] for r in rows), f"{METHOD}, smallest of {len(rows)}"
    found = Terms(terms={r[4]: r[0] for r in rows}, smallest=min(rows)[4])
    return Estimate(quantity, "pp", value, low, high, level, n, method, flags, "more seeds", found)


def _asymmetries(drops: Drops) -> list[Floats]:
    """Mean over kappa = 2, 5, 10 of drop(kappa) - drop(1 / kappa), pp, [S] per cell; above 0 if too much costs more."""
    pairs = [(k, i) for k, i in ((2.0, 0.5), (5.0, 0.2), (10.0, 0.1)) if drops.get(k) and drops.get(i)]
    if not pairs:
        return []
    return [np.mean([drops[k][c] - drops[i][c] for k, i in pairs], axis=0) for c in range(len(drops[pairs[0][0]]))]


def asymmetry(drops: Drops, others: Drops, level: float = 0.95) -> Estimate:
    """How much more too much weight decay costs than too little, on one data set and compared with another.

    Args:
        drops: As in `drop`, of the data set that is claimed to have the asymmetry.
        others: As in `drop`, of the data set whose absolute asymmetry is claimed to be smaller.
        level: Level of the interval, 0 to 1.

    Returns:
        The smaller of the asymmetry of `drops` and its excess over the absolute asymmetry of `others`, percentage
        points; the interval as in `least`.
    """
    method = f"{METHOD}; recovered variances"
    here, there = _asymmetries(drops), _asymmetries(others)
    if not measured(here) or not measured(there):
        return unknown(
            "asymmetry_pp", "pp", level, method, (Flag.NO_PAIRS,), "runs at kappa and 1 / kappa on both data sets"
        )
    ends = []
    for at in (level, 1 - (1 - level) / 2):
        one, other = (Span(*cells_interval(values, at)[:3]) for values in (here, there))
        other = other if other.value >= 0 else Span(-other.value, -other.high, -other.low)
        ends.append((one, difference(one, other)))
    plain, strict = ends
    value = min(part.value for part in plain)
    low, high = min(part.low for part in plain), min(part.high for part in strict)
    flags = () if math.isfinite(low) else (Flag.ONE_SEED,)
    n = int(sum(np.isfinite(v).sum() for v in here))
    found = Asymmetry(asymmetry_pp=plain[0].value, excess_over_the_other_pp=plain[1].value)
    return Estimate("asymmetry_pp", "pp", value, low, high, level, n, method, flags, "more seeds", found)
