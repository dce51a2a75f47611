"""The paper's own pipeline: mean over seeds, argmax, least squares, and its bootstrap, enumerated instead of drawn.

It is reported beside every verdict, to compare with the paper's figures, and never decides one: an argmax at the edge
of the grid or on a plateau enters as if it were measured, and a percentile interval of five seeds is too short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from math import factorial

import numpy as np

from replicate.estimate.estimate import finite
from replicate.estimate.quantiles import f_tail, normal_tail, t_tail
from replicate.landscape.landscape import Floats, Slice


@dataclass(frozen=True)
class BestAt:
    """A weight decay that is best at a learning rate."""

    lr: float
    wd: float


@dataclass(frozen=True)
class Published:
    """What the paper's own method says of a cell: see `replicate.estimate.published`. None: it has no such number."""

    rho: float
    rho_low: float
    rho_high: float
    """95 % percentile interval over resampled seeds."""
    p_rho: float | None
    """p of a ratio of 0.10, normal reference, standard error from the resamples; None where that is 0."""
    slope: float | None
    """Least squares of ln wd on ln lr; None where an argmax is weight decay 0."""
    intercept: float | None
    intercept_p: float | None
    r2: float
    argmax: tuple[BestAt, ...]


@lru_cache(maxsize=16)
def resamples(n_seeds: int) -> tuple[Floats, Floats]:
    """Every distinct resample of `n_seeds` seeds with replacement: shares [R, S] and probabilities [R].

    C(2S - 1, S) of them, each with its multinomial probability.

    >>> shares, probability = resamples(5)
    >>> shares.shape, round(float(probability.sum()), 6)
    ((126, 5), 1.0)
    """
    if n_seeds > 8:
        raise ValueError(f"exact bootstrap: expected at most 8 seeds (6,435 resamples), got {n_seeds}")
    counts = np.array(
        [np.bincount(c, minlength=n_seeds) for c in combinations_with_replacement(range(n_seeds), n_seeds)]
    )
    ways = factorial(n_seeds) / np.array([np.prod([factorial(int(k)) for k in row]) for row in counts])
    return counts / n_seeds, ways / n_seeds**n_seeds


def argmax_wds(slices: Sequence[Slice], shares: Floats) -> Floats:
    """Weight decay of the largest mean score, [R, E], for seeds weighted by `shares` [R, S].

    A missing or diverged run leaves the mean to the other seeds; ties go to the smallest weight decay.
    """
    columns = []
    for cut in slices:
        finite = np.isfinite(cut.scores)
        total = np.where(finite, cut.scores, 0.0) @ shares.T
        weight = finite.astype(float) @ shares.T
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(weight > 0, total / weight, -np.inf)
        columns.append(cut.wds[mean.argmax(axis=0)])
    return np.stack(columns, axis=1)


def origin_slope(lrs: Floats, wds: Floats) -> Floats:
    """rho of wd = rho * lr by least squares, [R] from [R, E]."""
    return np.asarray(wds @ lrs / (lrs @ lrs))


def weighted_percentile(values: Floats, weights: Floats, q: float) -> float:
    """Smallest value whose cumulated weight reaches `q` percent."""
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    index = int(np.searchsorted(cumulated, q / 100 * cumulated[-1] - 1e-12))
    return float(values[order][min(index, len(values) - 1)])


def published_fit(slices: Sequence[Slice]) -> Published:
    """The paper's estimates of one cell, by its own method.

    Args:
        slices: One a learning rate, two at least; seeds are resampled together at all of them.

    Raises:
        ValueError: There are fewer than two slices.
    """
    if len(slices) < 2:
        raise ValueError(f"the paper's fit: expected at least two learning rates, got {len(slices)}")
    lrs = np.array([s.lr for s in slices])
    n_seeds = slices[0].scores.shape[1]
    best = argmax_wds(slices, np.full((1, n_seeds), 1 / n_seeds))[0]
    shares, probability = resamples(n_seeds) if n_seeds <= 8 else _drawn(n_seeds)
    rhos = origin_slope(lrs, argmax_wds(slices, shares))
    rho = float(origin_slope(lrs, best[None, :])[0])
    spread = float(np.sqrt(probability @ (rhos - probability @ rhos) ** 2))
    intercept, error = _intercept(lrs, best) if len(lrs) > 2 else (None, 0.0)
    total = float(((best - best.mean()) ** 2).sum())
    residual = float(((best - rho * lrs) ** 2).sum())
    t = intercept / error if intercept is not None and error > 0 else float("nan")
    return Published(
        rho=rho,
        rho_low=weighted_percentile(rhos, probability, 2.5),
        rho_high=weighted_percentile(rhos, probability, 97.5),
        p_rho=finite(2 * normal_tail(abs(rho - 0.10) / spread)) if spread > 0 else None,
        slope=finite(np.polyfit(np.log(lrs), np.log(best), 1)[0]) if (best > 0).all() else None,
        intercept=intercept,
        intercept_p=finite(2 * t_tail(abs(t), len(lrs) - 2)),
        r2=1 - residual / total if np.ptp(best) > 0 else 0.0,
        argmax=tuple(BestAt(cut.lr, float(wd)) for cut, wd in zip(slices, best, strict=True)),
    )


def _intercept(x: Floats, y: Floats) -> tuple[float, float]:
    """Intercept of the least-squares line through `y` [N] at `x` [N], and its standard error.

    As `scipy.stats.linregress` has it, whose module takes longer to import than a small sweep to judge.
    """
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float((x - x.mean()) @ y) / spread
    intercept = float(y.mean() - slope * x.mean())
    variance = float(((y - intercept - slope * x) ** 2).sum()) / (len(x) - 2)
    return intercept, float(np.sqrt(variance * (1 / len(x) + float(x.mean()) ** 2 / spread)))


def _drawn(n_seeds: int) -> tuple[Floats, Floats]:
    """10,000 resamples drawn with a fixed generator, where enumerating them would be too many."""
    counts = np.random.default_rng(0).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=10_000)
    return counts / n_seeds, np.full(10_000, 1e-4)


def anova(groups: Sequence[Floats]) -> tuple[float, float, int, int]:
    """One-way analysis of variance: F, p and both degrees of freedom."""
    total = int(sum(len(g) for g in groups))
    between, within = len(groups) - 1, total - len(groups)
    if between < 1 or within < 1:
        raise ValueError(f"anova: expected two groups and more values than groups, got {len(groups)} and {total}")
    grand = np.concatenate(list(groups)).mean()
    ss_between = sum(len(g) * (g.mean() - grand) ** 2 for g in groups)
    ss_within = sum(((g - g.mean()) ** 2).sum() for g in groups)
    # Equal groups without scatter, but for rounding, differ in nothing: no evidence, not the strongest there could be.
    rounding = total * (1e-12 * max(float(np.abs(g).max()) for g in groups if len(g))) ** 2
    if ss_between <= rounding and ss_within <= rounding:
        return 0.0, 1.0, between, within
    f = float("inf") if ss_within == 0 else float(ss_between / between / (ss_within / within))
    return f, f_tail(f, between, within), between, within
