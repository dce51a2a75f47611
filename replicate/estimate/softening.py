"""Losses that count by their logarithm from some size on: softened, a cliff is smooth enough for a smooth curve."""

from __future__ import annotations

import numpy as np

from replicate.landscape.landscape import Floats

SOFTENINGS = np.array([np.inf, 100.0, 30.0, 10.0, 3.0])
"""Losses, in standard errors of a mean, from which on they count by their logarithm: tried, as lengths are. On trained
landscapes accuracy falls off a cliff beyond the best weight decay, and no smooth curve of one length follows both."""


def softened(mean: Floats, covariance: Floats, scale: float, softening: float) -> tuple[Floats, Floats, float]:
    """Means [N] and their covariance [N, N], in standard errors and with losses beyond `softening` by their logarithm.

    And the logarithm of the Jacobian, for the evidence. An infinite `softening` leaves the losses as they are.
    """
    loss = (mean.max() - mean) / scale
    if np.isinf(softening):
        return loss.mean() - loss, covariance / scale**2, 0.0
    y = soft(-loss, softening)
    slope = 1 / (1 + loss / softening)
    return y - y.mean(), covariance / scale**2 * slope[:, None] * slope, float(np.log(slope).sum())


def soft(above: Floats, softening: float) -> Floats:
    """`above` (any shape, standard errors above the best mean), with losses by their logarithm."""
    return np.where(above > 0, above, -softening * np.log1p(np.maximum(-above, 0.0) / softening))


def hardened(y: Floats, softening: float) -> Floats:
    """The inverse of `soft`; an infinite `softening` changes nothing."""
    if np.isinf(softening):
        return y
    return np.where(y > 0, y, -softening * np.expm1(np.minimum(-y / softening, 50.0)))
