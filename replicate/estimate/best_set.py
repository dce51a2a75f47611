"""The set of weight decays of one learning rate that contains the best one at a stated confidence level.

Subset selection (S. Gupta, "On some multiple decision (selection and ranking) rules", 1965; J. Hsu, "Multiple
Comparisons", 1996, chapter 4): a weight decay is excluded if another is better by more than a one-sided Dunnett bound.
Scores are paired by seed through an additive fit; variances are shrunk towards the cell's common variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from replicate.estimate.accuracy_curve import saturated
from replicate.estimate.flags import Flag
from replicate.estimate.noise import (
    additive_fit,
    covariance_of_means,
    level_covariance,
    level_variance_between,
    moderated_variance,
    unknown_level_variance,
)
from replicate.estimate.quantiles import chi2_quantile, root
from replicate.landscape.landscape import Floats, Slice


@dataclass(frozen=True)
class BestSet:
    """A set of weight decays at one learning rate that contains the best one at confidence `level`."""

    lr: float
    wds: tuple[float, ...]
    low: float
    """The largest excluded weight decay below the set; 0 if there is none. A unimodal curve peaks above `low`."""
    high: float
    """The smallest weight decay above the set, excluded or diverged; infinite if there is none."""
    level: float
    flags: tuple[Flag, ...]
    """`edge-low`, `edge-high`: the set reaches the grid's end; `plateau`: nothing is excluded; `one-seed`; `ceiling`:
    the best score is above 99.5; `chance`: the best score is below twice that of guessing."""


@lru_cache(maxsize=1024)
def dunnett_bound(others: int, dof: float, level: float) -> float:
    """d with P(max over `others` of (Z_j - Z_0) / sqrt 2 <= d * s) = `level`, with s² ~ chi²(`dof`) / `dof`.

    Dunnett's one-sided bound for equal sample sizes (Dunnett 1955), by Gauss-Hermite and quantile quadrature. An
    infinite `dof` means a known variance.
    """
    if others < 1:
        return 0.0
    z, weight = np.polynomial.hermite_e.hermegauss(48)
    weight = weight / weight.sum()
    quantiles = (np.arange(64) + 0.5) / 64
    s = np.ones(1) if not np.isfinite(dof) else np.sqrt(chi2_quantile(quantiles, dof) / dof)

    def missing(d: float) -> float:
        inside = ndtr(np.sqrt(2) * d * s[:, None] + z[None, :]) ** others
        return float((inside @ weight).mean() - level)

    most = 200.0
    while missing(most) < 0:  # with one degree of freedom or less
        most *= 10
    return root(missing, 0.0, most)


def best_sets(slices: Sequence[Slice], level: float = 0.95) -> list[BestSet]:
    """One set per learning rate, except where at least half of the runs diverged at every weight decay."""
    kept = []
    for cut in slices:
        finite = np.isfinite(cut.scores).sum(axis=1)
        lost = cut.diverged.sum(axis=1)
        usable = (finite > 0) & (2 * lost < finite + lost)
        if usable.any():
            kept.append((cut, usable, additive_fit(cut.scores[usable])))
    if not kept:
        return []
    variances, prior_dof = moderated_variance(
        np.concatenate([n.residual_variance for _, _, n in kept]), np.concatenate([n.dof for _, _, n in kept])
    )
    parts = np.split(variances, np.cumsum([len(n.mean) for _, _, n in kept])[:-1])
    noises = [n for _, _, n in kept]
    level_variance = level_variance_between(noises, unknown_level_variance(noises))
    sets = []
    for (cut, usable, noise), variance in zip(kept, parts, strict=True):
        dof = min(float(prior_dof + noise.dof.mean()), float(sum(n.dof.sum() for _, _, n in kept)))
        covariance = covariance_of_means(noise, np.diag(variance)) + level_covariance(noise, level_variance)
        inside = indistinguishable(noise.mean, covariance, dof, level)
        sets.append(_best_set(cut, usable, inside, noise.mean, bool(np.isnan(variance).any()), level))
    return sets


def indistinguishable(mean: Floats, covariance: Floats, dof: float, level: float) -> NDArray[np.bool_]:
    """[W], which of `mean` [W] may be the largest by Dunnett's bound; all if `covariance` [W, W] has a NaN."""
    if np.isnan(covariance).any():
        return np.ones(len(mean), dtype=bool)
    bound = dunnett_bound(len(mean) - 1, round(dof, 1), level)
    lead = mean[None, :] - mean[:, None]
    variance = np.diag(covariance)
    error = np.sqrt(np.maximum(variance[None, :] + variance[:, None] - 2 * covariance, 0.0))
    return np.asarray((lead <= bound * error).all(axis=1))


def _best_set(
    cut: Slice, usable: NDArray[np.bool_], inside: NDArray[np.bool_], mean: Floats, one_seed: bool, level: float
) -> BestSet:
    wds = cut.wds[usable]
    chosen = np.nonzero(inside)[0]
    first, last = int(chosen[0]), int(chosen[-1])
    beyond = cut.wds[~usable & (cut.wds > wds[last])]
    low = float(wds[first - 1]) if first > 0 else 0.0
    high = float(wds[last + 1]) if last + 1 < len(wds) else float(beyond.min()) if len(beyond) else np.inf
    flags: list[Flag] = []
    if one_seed:
        flags.append(Flag.ONE_SEED)
    if inside.all():
        flags.append(Flag.PLATEAU)
    else:
        flags += [Flag.EDGE_LOW] * (first == 0) + [Flag.EDGE_HIGH] * bool(np.isinf(high))
    flags += saturated(float(mean.max()), cut.chance_pp)
    return BestSet(cut.lr, tuple(float(w) for w in wds[inside]), low, high, level, tuple(flags))
