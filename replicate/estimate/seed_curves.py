"""Errors shared by runs of one seed, and the resulting covariance of the mean scores at every learning rate of a cell.

Two runs of one seed with slightly different weight decays have the same initialisation and the same batches, and so
similar errors: each seed has a curve of its own, which averaging over neighbouring weight decays does not remove. The
errors of a seed's runs are modelled as white noise plus a smooth curve (Matérn-5/2) over ln(weight decay); the curve's
share and length are averaged over by restricted likelihood (Patterson and Thompson 1971) from all slices of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from replicate.estimate.noise import additive_fit, covariance_of_means
from replicate.landscape.landscape import Floats

SHARES = np.array([0.0, 0.3, 0.6, 0.8, 0.9, 0.96])
"""Values tried for the seed curve's share of a run's variance."""
LENGTHS = np.array([0.8, 1.4, 2.4, 4.2, 7.0])
"""Length scales tried, in ln(weight decay), for a seed's curve and for the mean curve of all seeds."""
ONE_SEED = (0.8, 2.4)
"""Share and length assumed without repeated seeds, when they cannot be estimated: the share is the largest estimated
from the recorded runs (`seed_curve_share` in the verdict files)."""
LEAST_FACTOR = 1e-12
"""Variance, relative to that of one run, below which runs count as identical."""
MOST_RUNS = 160
"""Approximate limit on the runs used per learning rate: seeds with most runs come first, at least two seeds."""


@dataclass(frozen=True)
class Scores:
    """The runs of one learning rate."""

    x: Floats
    """[W], ln(weight decay), ascending."""
    scores: Floats
    """[W, S], NaN where missing."""
    variance: Floats
    """[W], variance of one run, up to a factor common to the cell."""


def matern(distance: Floats, length: Floats | float) -> Floats:
    """Matérn-5/2 correlation at `distance` (any shape) with length scale `length` in the same units."""
    r = np.sqrt(5) * distance / length
    return (1 + r + r**2 / 3) * np.exp(-r)


@dataclass(frozen=True)
class Shared:
    """The noise of a cell's mean scores, estimated from all its learning rates."""

    covariances: tuple[Floats, ...]
    """Covariance [W, W] of the means (`additive_fit`) at every learning rate, without the seeds' levels."""
    share: float
    """Posterior mean of the seed curve's share of a run's variance; NaN if the data say nothing about the share."""


def shared_noise(cell: Sequence[Scores], of_known_size: bool = False) -> Shared:
    """The noise of a cell's mean scores, averaged over the posterior of share and length (the prior is flat).

    `of_known_size`: variances are known exactly, not only up to a common factor.
    """
    weights, factor, informed = _weights(cell)
    if of_known_size:
        factor = np.ones_like(factor)
    share = float(weights.sum(axis=1) @ SHARES) if informed else float("nan")
    return Shared(tuple(_of_means(s, weights, factor) for s in cell), share)


def one_seed_covariance(x: Floats, white: Floats) -> Floats:
    """Covariance [W, W] of runs of one seed each, from the variance [W] of their scatter around a smooth curve.

    The seed's own curve cannot be told from the true one; it is assumed to have the share and length of `ONE_SEED`.
    """
    share, _ = ONE_SEED
    return _with_curve(x, np.sqrt(white), share / (1 - share))


def known_covariance(x: Floats, variance: float) -> Floats:
    """Covariance [W, W] of runs of one seed each, whose `variance` is known.

    The seed curve's share of `variance` is unknown: to be safe, the white noise gets the whole variance, and the curve
    has the share of `ONE_SEED` in addition.
    """
    return _with_curve(x, np.full(len(x), np.sqrt(variance)), ONE_SEED[0])


def _with_curve(x: Floats, sd: Floats, smooth: float) -> Floats:
    curve = matern(np.abs(x[:, None] - x[None, :]), ONE_SEED[1])
    return _centred(sd[:, None] * sd * (np.eye(len(x)) + smooth * curve))


def _correlations(x: Floats) -> Floats:
    """[A, L, W, W], correlation of one seed's runs at `x` [W], for each of `SHARES` and `LENGTHS`."""
    return _correlations_at(tuple(np.round(x - x[0], 9).tolist()))


@lru_cache(maxsize=64)
def _correlations_at(places: tuple[float, ...]) -> Floats:
    """As `_correlations`, cached because the learning rates of a cell often share their grid."""
    x = np.array(places)
    distance = np.abs(x[:, None] - x[None, :])
    smooth = np.stack([matern(distance, length) for length in LENGTHS])
    share = SHARES[:, None, None, None]
    return np.asarray((1 - share) * np.eye(len(x)) + share * smooth[None])


def _weights(cell: Sequence[Scores]) -> tuple[Floats, Floats, bool]:
    """Posterior weights [A, L] of share and length, factor [A, L] that multiplies all variances, and a bool.

    The bool is False if the scores say nothing about share and length. By restricted likelihood: the likelihood of the
    residuals if every weight decay has its own mean and every seed of a slice its own level.
    """
    shape = (len(SHARES), len(LENGTHS))
    square, log_det, dof = np.zeros(shape), np.zeros(shape), 0
    for s in cell:
        present = np.isfinite(s.scores).sum(axis=0)
        fullest = np.argsort(-present, kind="stable")[: max(2, MOST_RUNS // len(s.x))]
        runs = s.scores[:, fullest[present[fullest] > 0]]
        found, correlation, copies = _freed_of_means_and_levels(s, runs)
        if not found.size:
            continue
        factor = np.linalg.cholesky(correlation)
        white = np.linalg.solve(factor, np.broadcast_to(found, (*shape, *found.shape)))
        square += (white**2).sum(axis=(-2, -1))
        log_det += copies * 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
        dof += found.size
    if not dof:
        return np.full(shape, 1 / np.prod(shape)), np.ones(shape), False
    if square.max() / dof < LEAST_FACTOR:  # runs agree to the last digit: there is no variance to divide
        return np.full(shape, 1 / np.prod(shape)), np.full(shape, LEAST_FACTOR), False
    factor_of = square / dof
    log_likelihood = -0.5 * (dof * np.log(factor_of) + log_det)
    weights = np.exp(log_likelihood - log_likelihood.max())
    return weights / weights.sum(), factor_of, True


def _freed_of_means_and_levels(s: Scores, runs: Floats) -> tuple[Floats, Floats, int]:
    """Linear combinations of `runs` [W, S] in which weight decays' means and seeds' levels cancel, in SDs of one run.

    Returns K independent vectors [N, K], their correlation [A, L, N, N] over `SHARES` and `LENGTHS`, and K.
    """
    root = np.sqrt(s.variance)
    if np.isfinite(runs).all():
        # Differences between seeds, each an independent curve with a level.
        between_seeds = _complement(np.ones((runs.shape[1], 1)))
        within = _complement(1 / root[:, None])
        found = within.T @ (runs / root[:, None]) @ between_seeds
        return found, within.T @ _correlations(s.x) @ within, found.shape[1]
    w, seed = np.nonzero(np.isfinite(runs))
    design = np.zeros((len(w), len(s.x) + runs.shape[1]))
    design[np.arange(len(w)), w] = 1
    design[np.arange(len(w)), len(s.x) + seed] = 1
    left = _complement(design / root[w][:, None])
    among = np.where(seed[:, None] == seed[None, :], _correlations(s.x)[..., w[:, None], w[None, :]], 0.0)
    return left.T @ (runs[w, seed] / root[w])[:, None], left.T @ among @ left, 1


def _complement(design: Floats) -> Floats:
    """Orthonormal basis [N, N - rank] of the orthogonal complement of the columns of `design` [N, P]."""
    basis, singular, _ = np.linalg.svd(design)
    return np.asarray(basis[:, int((singular > 1e-9 * singular[0]).sum()) :])


def _of_means(s: Scores, weights: Floats, factor: Floats) -> Floats:
    correlation = np.einsum("al,alij->ij", weights * factor, _correlations(s.x))
    root = np.sqrt(s.variance[:, None] * s.variance[None, :])
    if np.isfinite(s.scores).all():
        return _centred(root * (1 / s.scores.shape[1]) * correlation)
    # With missing scores, least-squares means are weighted sums of the scores of all weight decays.
    return _centred(covariance_of_means(additive_fit(s.scores), root * correlation))


def _centred(covariance: Floats) -> Floats:
    """Covariance of the deviations from the mean over weight decays; the error common to all of them is removed."""
    rows = covariance.mean(axis=0)
    return np.asarray(covariance - rows[:, None] - rows[None, :] + rows.mean())
