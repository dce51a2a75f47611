"""A transform that makes large losses count by their logarithm, so that a smooth curve can follow a cliff."""

from __future__ import annotations

import numpy as np

from replicate.landscape.landscape import Floats

SOFTENINGS = np.array([np.inf, 100.0, 30.0, 10.0, 3.0])
"""Values tried for the loss, in standard errors of a mean, beyond which losses count by their logarithm. On trained
landscapes accuracy falls off a cliff beyond the best weight decay, and no curve of one length scale fits both sides."""


def softened(mean: Floats, covariance: Floats, scale: float, softening: float) -> tuple[Floats, Floats, float]:
    """Means [N] and their covariance [N, N] after the transform `soft`, and the log-determinant of its Jacobian.

    `scale`: the unit of the result and of `softening`, a standard error. The mean of the transformed means is 0. An
    infinite `softening` changes only unit and centre.
    """
    loss = (mean.max() - mean) / scale
    if np.isinf(softening):
        return loss.mean() - loss, covariance / scale**2, 0.0
    y = soft(-loss, softening)
    slope = 1 / (1 + loss / softening)
    return y - y.mean(), covariance / scale**2 * slope[:, None] * slope, float(np.log(slope).sum())


def soft(above: Floats, softening: float) -> Floats:
    """`above` (any shape), with each negative value, -loss, replaced by -s ln(1 + loss / s), where s = `softening`."""
    return np.where(above > 0, above, -softening * np.log1p(np.maximum(-above, 0.0) / softening))


def hardened(y: Floats, softening: float) -> Floats:
    """The inverse of `soft`; an infinite `softening` changes nothing."""
    if np.isinf(softening):
        return y
    return np.where(y > 0, y, -softening * np.expm1(np.minimum(-y / softening, 50.0)))
