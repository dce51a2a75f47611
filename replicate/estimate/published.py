"""The paper's own pipeline: mean over seeds, argmax, least squares, and its bootstrap by enumeration of all resamples.

Its results are reported beside every verdict, for comparison with the paper's figures, and never decide one: it treats
an argmax at the edge of the grid or on a plateau as a measurement, and a percentile interval of five seeds is short.
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
    """The best weight decay at a learning rate."""

    lr: float
    wd: float


@dataclass(frozen=True)
class Published:
    """A cell's estimates by the paper's method (argmax, least squares, resampled seeds); None where not defined."""

    rho: float
    rho_low: float
    rho_high: float
    """95 % percentile interval over resampled seeds."""
    p_rho: float | None
    """p value of the ratio 0.10 (normal distribution, the resamples' standard error); None if that error is 0."""
    slope: float | None
    """Least squares of ln wd on ln lr; None if an argmax is weight decay 0."""
    intercept: float | None
    intercept_p: float | None
    r2: float
    argmax: tuple[BestAt, ...]


@lru_cache(maxsize=16)
def resamples(n_seeds: int) -> tuple[Floats, Floats]:
    """Every distinct resample of `n_seeds` seeds with replacement: shares [R, S] and probabilities [R].

    There are R = C(2S - 1, S), each with its multinomial probability. Raises ValueError for more than 8 seeds.

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
    """[R, E], weight decay with the largest mean score at each learning rate, for seeds weighted by `shares` [R, S].

    The mean is over the seeds with a finite score; ties go to the smallest weight decay.
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
    """[R], rho of wd = rho * lr by least squares, from `lrs` [E] and `wds` [R, E]."""
    return np.asarray(wds @ lrs / (lrs @ lrs))


def weighted_percentile(values: Floats, weights: Floats, q: float) -> float:
    """Smallest of `values` [N] whose cumulative weight reaches `q` percent."""
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    index = int(np.searchsorted(cumulated, q / 100 * cumulated[-1] - 1e-12))
    return float(values[order][min(index, len(values) - 1)])


def published_fit(slices: Sequence[Slice]) -> Published:
    """The estimates of one cell by the paper's own method.

    Args:
        slices: One per learning rate, at least two; seeds are resampled jointly for all of them.

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

    The same as `scipy.stats.linregress`, but importing that takes longer than judging a small sweep.
    """
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float((x - x.mean()) @ y) / spread
    intercept = float(y.mean() - slope * x.mean())
    variance = float(((y - intercept - slope * x) ** 2).sum()) / (len(x) - 2)
    return intercept, float(np.sqrt(variance * (1 / len(x) + float(x.mean()) ** 2 / spread)))


def _drawn(n_seeds: int) -> tuple[Floats, Floats]:
    """10,000 resamples, in the form of `resamples`, drawn with a fixed random seed: for too many seeds to enumerate."""
    counts = np.random.default_rng(0).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=10_000)
    return counts / n_seeds, np.full(10_000, 1e-4)


def anova(groups: Sequence[Floats]) -> tuple[float, float, int, int]:
    """One-way analysis of variance of `groups`: F, p, degrees of freedom between and within.

    Raises ValueError with fewer than two groups or no more values than groups.
    """
    total = int(sum(len(g) for g in groups))
    between, within = len(groups) - 1, total - len(groups)
    if between < 1 or within < 1:
        raise ValueError(
            "anova: expected two or more groups, and more values than groups; "
            f"got {len(groups)} groups and {total} values"
        )
    grand = np.concatenate(list(groups)).mean()
    ss_between = sum(len(g) * (g.mean() - grand) ** 2 for g in groups)
    ss_within = sum(((g - g.mean()) ** 2).sum() for g in groups)
    # Equal groups without scatter, up to rounding, give 0 / 0, which is no evidence of a difference.
    rounding = total * (1e-12 * max(float(np.abs(g).max()) for g in groups if len(g))) ** 2
    if ss_between <= rounding and ss_within <= rounding:
        return 0.0, 1.0, between, within
    f = float("inf") if ss_within == 0 else float(ss_between / between / (ss_within / within))
    return f, f_tail(f, between, within), between, within
