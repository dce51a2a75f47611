"""Quantiles and tails of the standard distributions, from scipy.special: scipy.stats takes half a second to import."""

from __future__ import annotations

import numpy as np
from scipy import special

from replicate.landscape.landscape import Floats


def chi2_quantile(p: float | Floats, dof: float) -> Floats:
    """Value below which a share `p` of a chi-squared variable with `dof` degrees of freedom lies."""
    return np.asarray(special.chdtri(dof, 1 - np.asarray(p)))


def chi2_tail(x: float, dof: float) -> float:
    """Share of a chi-squared variable above `x`."""
    return float(special.chdtrc(dof, x))


def t_quantile(p: float, dof: float) -> float:
    """Value below which a share `p` of Student's t lies; infinite `dof` is the normal distribution."""
    return float(special.ndtri(p) if np.isinf(dof) else special.stdtrit(dof, p))


def t_tail(x: float, dof: float) -> float:
    """Share of Student's t above `x`."""
    return float(special.stdtr(dof, -x))


def normal_tail(x: float) -> float:
    """Share of the standard normal above `x`."""
    return float(special.ndtr(-x))


def f_tail(x: float, between: float, within: float) -> float:
    """Share of F above `x`."""
    return float(special.fdtrc(between, within, x))
