"""What runs of one seed share: scores of a cell to the covariance of the means of every slice.

Two runs that differ a little in weight decay and in nothing else have the same initialisation and the same batches, and
so similar errors: each seed has a curve of its own, and averaging over neighbouring weight decays does not remove it.
The errors of a seed's runs are modelled as white noise and a smooth curve (Matérn-5/2) over ln(weight decay); share and
length of the curve are weighed by restricted likelihood (Patterson and Thompson 1971) over all slices of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARES = np.array([0.0, 0.3, 0.6, 0.8, 0.9, 0.96])
"""Shares of a run's variance tried for the seed's own curve."""
LENGTHS = np.array([0.8, 1.4, 2.4, 4.2, 7.0])
"""Length scales tried, for it as for the curve of all seeds, in units of ln(weight decay)."""
ONE_SEED = (0.8, 2.4)
"""Share and length assumed where no seed is repeated and nothing can be told: the upper end of the shares that the
recorded runs show (`seed_curve_share` in the verdict files)."""
MOST_RUNS = 160
"""Runs of one slice that are looked at; of more, the first seeds."""


@dataclass(frozen=True)
class Scores:
    """The runs of one slice."""

    x: Floats
    """[W], ln(weight decay), ascending."""
    scores: Floats
    """[W, S], NaN where missing."""
    variance: Floats
    """[W], variance of one run, up to a factor that the cell has in common."""


def matern(distance: Floats, length: Floats | float) -> Floats:
    """Matérn-5/2 correlation at `distance`."""
    r = np.sqrt(5) * distance / length
    return (1 + r + r**2 / 3) * np.exp(-r)


@dataclass(frozen=True)
class Shared:
    """The noise of a cell."""

    covariances: tuple[Floats, ...]
    """Covariance [W, W] of the means of every slice, less what all runs of a seed and slice share."""
    share: float
    """Share of a run's variance that is its seed's own curve, averaged over what the data allow."""


def shared_noise(cell: Sequence[Scores]) -> Shared:
    """The noise of a cell, averaged over shares and lengths by their likelihood, none preferred beforehand."""
    weights, factor = _weights(cell)
    return Shared(tuple(_of_means(s, weights, factor) for s in cell), float(weights.sum(axis=1) @ SHARES))


def one_seed_covariance(x: Floats, white: Floats) -> Floats:
    """Covariance [W, W] of runs of one seed each, from the variance [W] of their scatter around a smooth curve.

    The seed's own curve can't be told from the truth; it is assumed to have the share and length of `ONE_SEED`.
    """
    share, length = ONE_SEED
    smooth = share / (1 - share) * matern(np.abs(x[:, None] - x[None, :]), length)
    return _centred(np.sqrt(white[:, None] * white[None, :]) * (np.eye(len(x)) + smooth))


def _correlations(x: Floats) -> Floats:
    """[A, L, W, W] over `SHARES` and `LENGTHS`."""
    distance = np.abs(x[:, None] - x[None, :])
    smooth = np.stack([matern(distance, length) for length in LENGTHS])
    share = SHARES[:, None, None, None]
    return np.asarray((1 - share) * np.eye(len(x)) + share * smooth[None])


def _weights(cell: Sequence[Scores]) -> tuple[Floats, Floats]:
    """Posterior weights [A, L] of share and length, and the factor of all variances under each.

    Restricted likelihood: of what is left of the scores when every weight decay has its own mean and every seed of a
    slice its own level.
    """
    shape = (len(SHARES), len(LENGTHS))
    square, log_det, dof = np.zeros(shape), np.zeros(shape), 0
    for s in cell:
        present = np.isfinite(s.scores).any(axis=0)
        runs = s.scores[:, present][:, : max(2, MOST_RUNS // len(s.x))]
        w, seed = np.nonzero(np.isfinite(runs))
        root = np.sqrt(s.variance[w])
        design = np.zeros((len(w), len(s.x) + runs.shape[1]))
        design[np.arange(len(w)), w] = 1
        design[np.arange(len(w)), len(s.x) + seed] = 1
        basis, singular, _ = np.linalg.svd(design / root[:, None])
        left = basis[:, int((singular > 1e-9 * singular[0]).sum()) :]
        if not left.shape[1]:
            continue
        found = left.T @ (runs[w, seed] / root)
        among = np.where(seed[:, None] == seed[None, :], _correlations(s.x)[..., w[:, None], w[None, :]], 0.0)
        factor = np.linalg.cholesky(left.T @ among @ left)
        white = np.linalg.solve(factor, np.broadcast_to(found[:, None], (*shape, len(found), 1)))[..., 0]
        square += (white**2).sum(axis=-1)
        log_det += 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
        dof += len(found)
    if not dof:
        return np.full(shape, 1 / np.prod(shape)), np.ones(shape)
    factor_of = np.maximum(square / dof, 1e-12)
    log_likelihood = -0.5 * (dof * np.log(factor_of) + log_det)
    weights = np.exp(log_likelihood - log_likelihood.max())
    return weights / weights.sum(), factor_of


def _of_means(s: Scores, weights: Floats, factor: Floats) -> Floats:
    here = np.isfinite(s.scores).astype(np.float64)
    count = here.sum(axis=1)
    both = here @ here.T / (count[:, None] * count[None, :])
    correlation = np.einsum("al,alij->ij", weights * factor, _correlations(s.x))
    return _centred(np.sqrt(s.variance[:, None] * s.variance[None, :]) * both * correlation)


def _centred(covariance: Floats) -> Floats:
    """`covariance` of the deviations from the slice's mean: what a whole slice shares is not asked for here."""
    rows = covariance.mean(axis=0)
    return np.asarray(covariance - rows[:, None] - rows[None, :] + rows.mean())
