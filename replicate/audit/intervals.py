"""The paper's intervals: do they look like percentile bootstraps of a few seeds, and do they agree when pooled?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from replicate.audit.finding import Check, Finding, from_checks, span
from replicate.audit.reported import Floats, Measured, Reported, need
from replicate.estimate.published import resamples

LEVEL = 0.001
"""The intervals are called unlikely if chance alone gives something as extreme with a probability below this."""
CELLS = 20_000
"""Number of simulated samples, each of as many normal values as the paper has seeds."""


def percentile_interval(values: Floats, probability: Floats) -> tuple[Floats, Floats]:
    """Ends, [K] each, of 95 % intervals; a row of `values` [K, R] has R resamples, whose `probability` is [R]."""
    order = np.argsort(values, axis=1)
    weight = np.cumsum(probability[order], axis=1)
    ascending = np.take_along_axis(values, order, axis=1)
    at = ((weight < q - 1e-12).sum(axis=1)[:, None] for q in (0.025, 0.975))
    low, high = (np.take_along_axis(ascending, i, axis=1)[:, 0] for i in at)
    return low, high


@lru_cache(maxsize=4)
def bootstrap_intervals(seeds: int) -> tuple[Floats, Floats, Floats]:
    """Means, and lower and upper ends of 95 % bootstrap intervals, of CELLS samples of `seeds` normal values.

    All resamples are enumerated. A mean gives the most regular intervals; an argmax over a grid gives lumpier ones.
    """
    values = np.random.default_rng(0).normal(size=(CELLS, seeds))
    shares, probability = resamples(seeds)
    return values.mean(axis=1), *percentile_interval(values @ shares.T, probability)


def symmetric(measured: Measured) -> bool:
    """Whether the printed value is exactly the middle of the printed interval."""
    low, high = measured.interval
    return abs(low.value + high.value - 2 * measured.value.value) < 1e-9


def chance_of_symmetry(measured: Measured, seeds: int) -> float:
    """Probability that a percentile bootstrap interval this wide is printed symmetric about its value."""
    mean, low, high = bootstrap_intervals(seeds)
    half = sum(measured.half_width) / 2
    unit = 2 * measured.value.half
    scale = half / ((high - low) / 2) / unit
    offset = np.random.default_rng(1).random(len(mean))  # where the value lies between two printable numbers
    printed = [np.round(offset + scale * (x - mean)) for x in (low, mean, high)]
    return float(np.mean(printed[0] + printed[2] == 2 * printed[1]))


def _bootstrapped(paper: Reported) -> list[tuple[str, Measured]]:
    """The intervals of the table of ratios, each with a name; raises NotStated if there are none."""
    rows = [(f"ratio, {row.cell}", row.rho) for row in paper.ratios if row.rho.has_interval]
    rows += [(f"slope, {row.cell}", row.slope) for row in paper.ratios if row.slope and row.slope.has_interval]
    need(rows, "intervals in the table of ratios")
    return rows


def few_seeds(paper: Reported) -> int:
    """The number of seeds; raises NotStated unless it is from 2 to 8, few enough to enumerate all resamples."""
    seeds = int(paper.value("count/seeds"))
    need(2 <= seeds <= 8, "between 2 and 8 seeds")
    return seeds


def symmetry(paper: Reported) -> Finding:
    """`audit/interval-symmetry`: percentile bootstrap intervals are not symmetric; how many here are?"""
    seeds = few_seeds(paper)
    rows = _bootstrapped(paper)
    chances = [chance_of_symmetry(m, seeds) for _, m in rows]
    seen = [symmetric(m) for _, m in rows]
    # Poisson binomial: a sum of independent Bernoulli variables with these probabilities.
    distribution = np.ones(1)
    for p in chances:
        distribution = np.convolve(distribution, [1 - p, p])
    tail = float(distribution[sum(seen) :].sum())
    found, expected = f"{sum(seen)} of {len(rows)}", f"{sum(chances):.1f}"
    what = "intervals with the value exactly in the middle"
    return from_checks(
        [Check(what, found, f"{expected} expected", holds=tail >= LEVEL, source="table of ratios")],
        source="section 3.2, table of ratios",
        claimed=f"{len(rows)} intervals by the bootstrap over seeds",
        evidence=f"{found} intervals of the table of ratios are symmetric about their value to the last digit; of "
        f"percentile bootstraps over {seeds} seeds about {expected} would be (probability of {found} or more: "
        f"{tail:.1g}).",
        assumes=f"intervals are percentiles over resamples of {seeds} independent seeds, of a statistic as smooth as a "
        "mean",
        consistent_if="the intervals are an estimate plus or minus a multiple of a standard error, not percentiles",
        details={"probability": tail},
    )


def _spread_of_widths(measured: Sequence[Measured]) -> float:
    """Largest standard deviation of log half widths that is compatible with the printed, rounded intervals."""
    ranges = np.array([m.half_width for m in measured])
    middle = np.median(ranges.mean(axis=1))
    # Each width is taken as far from the middle as its rounding allows.
    low, high = np.log(np.maximum(ranges[:, 0], 1e-300) / middle), np.log(ranges[:, 1] / middle)
    return float(np.std(np.where(np.abs(low) > np.abs(high), low, high), ddof=1))


def widths(paper: Reported) -> Finding:
    """`audit/interval-widths`: do widths vary as much as by chance with so few seeds? (After Simonsohn 2013.)"""
    seeds = few_seeds(paper)
    need(len(paper.ratios) >= 4, "at least four cells")
    checks, parts = [], {}
    _, low, high = bootstrap_intervals(seeds)
    logs = np.log((high - low) / 2)
    for name, measured in (
        ("ratio", [row.rho for row in paper.ratios]),
        ("slope", [row.slope for row in paper.ratios if row.slope is not None]),
    ):
        if len(measured) < 4 or not all(m.has_interval for m in measured):
            continue
        spread = _spread_of_widths(measured)
        draws = np.random.default_rng(2).choice(logs, size=(20_000, len(measured))).std(axis=1, ddof=1)
        chance, median = float(np.mean(draws <= spread)), float(np.median(draws))
        parts[name] = (spread, median, chance)
        what, printed = f"spread of the {name}'s interval widths", f"at most {100 * spread:.0f} %"
        usual = f"about {100 * median:.0f} %"
        checks.append(Check(what, printed, usual, holds=chance >= LEVEL, source="table of ratios"))
    need(checks, "intervals in the table of ratios")
    each = " and ".join(
        f"the {name}'s by at most {100 * s:.0f} % (probability {f'{c:.2g}' if c else 'below 0.0001'})"
        for name, (s, _, c) in parts.items()
    )
    by_chance = max(m for _, m, _ in parts.values())
    return from_checks(
        checks,
        claimed="intervals from 5 seeds a cell",
        evidence=f"Intervals from {seeds} seeds vary in width between cells by about {100 * by_chance:.0f} % by chance "
        f"alone; {each}.",
        assumes=f"independent cells of {seeds} normal seeds with the same variance in all, which makes the widths as "
        "alike as possible; the variation is the standard deviation of log widths",
        consistent_if="all intervals use one standard error, pooled over the cells",
        details={"probability": {k: v[2] for k, v in parts.items()}},
    )


def pooled(paper: Reported) -> Finding:
    """`audit/pooled-interval`: the pooled ratio and its interval compared with the table they summarise."""
    figure = paper.figure("rho")
    need(all(row.rho.has_interval for row in paper.ratios), "intervals in the table of ratios")
    values = np.array([row.rho.value.value for row in paper.ratios])
    slack = max(row.rho.value.half for row in paper.ratios)
    mean = float(values.mean())
    halves = np.array([sum(row.rho.half_width) / 2 for row in paper.ratios])
    independent = float(np.sqrt((halves**2).sum()) / len(halves))
    between = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    least, most = figure.measured.half_width
    usual = min(independent, between), max(independent, between)
    shared = (least / float(halves.mean())) ** 2
    correlation = (shared * len(halves) - 1) / (len(halves) - 1)
    close, printed = least <= 1.5 * usual[1] and most >= usual[0] / 1.5, span(least, most, 2)
    return from_checks(
        [
            figure.check("mean of the cells", mean - slack, mean + slack, decides=True),
            Check("half width", printed, span(*usual, 2), holds=close, source=figure.source),
        ],
        claimed=figure.measured.text,
        evidence=f"The mean of the {len(values)} cells is {mean:.4f}; pooling them gives an interval of plus or minus "
        f"{span(*usual, 2)}; the paper's is plus or minus {printed} (a single cell's: {halves.mean():.2g}).",
        assumes="independent cells, pooled by adding their intervals in quadrature or by a t interval over the cells",
        consistent_if=f"the cells' errors are correlated by at least {max(correlation, 0):.2f}, or the interval is "
        "meant for one cell",
        details={"mean": mean, "half width from the intervals": independent, "half width over cells": between},
    )
