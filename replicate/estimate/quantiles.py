"""Quantiles and tail probabilities from scipy.special, because scipy.stats takes half a second to import."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from replicate.landscape.landscape import Floats


def chi2_quantile(p: float | Floats, dof: float) -> Floats:
    """Quantile at probability `p` of the chi-squared distribution with `dof` degrees of freedom."""
    return np.asarray(special.chdtri(dof, 1 - np.asarray(p)))


def chi2_tail(x: float, dof: float) -> float:
    """Upper tail probability at `x` of the chi-squared distribution with `dof` degrees of freedom."""
    return float(special.chdtrc(dof, x))


def t_quantile(p: float, dof: float) -> float:
    """Quantile at probability `p` of Student's t distribution; with infinite `dof`, of the normal distribution."""
    return float(special.ndtri(p) if np.isinf(dof) else special.stdtrit(dof, p))


def t_tail(x: float, dof: float) -> float:
    """Upper tail probability at `x` of Student's t distribution."""
    return float(special.stdtr(dof, -x))


def normal_tail(x: float) -> float:
    """Upper tail probability at `x` of the standard normal distribution."""
    return float(special.ndtr(-x))


def f_tail(x: float, between: float, within: float) -> float:
    """Upper tail probability at `x` of the F distribution with `between` and `within` degrees of freedom."""
    return float(special.fdtrc(between, within, x))


def root(function: Callable[[float], float], low: float, high: float, width: float = 1e-12) -> float:
    """Root of `function` between `low`, where it is negative, and `high`, where it is positive, to within `width`.

    Chandrupatla's method (1997): inverse quadratic interpolation where that is safe, otherwise bisection. Not from
    scipy.optimize, which takes a quarter of a second to import.
    """
    old, old_value = high, function(high)
    new, new_value = low, function(low)
    share = 0.5
    third = third_value = 0.0
    while True:
        tried = new + share * (old - new)
        value = function(tried)
        if (value > 0) == (new_value > 0):
            third, third_value = new, new_value
        else:
            third, third_value, old, old_value = old, old_value, new, new_value
        new, new_value = tried, value
        best = new if abs(new_value) < abs(old_value) else old
        least = width / max(abs(old - new), 1e-300)
        if new_value == 0 or least > 0.5:
            return best
        at = (new - old) / (third - old)
        level = (new_value - old_value) / (third_value - old_value)
        share = 0.5
        if level**2 < at and (1 - level) ** 2 < 1 - at:
            share = new_value / (old_value - new_value) * third_value / (old_value - third_value) + (third - new) / (
                old - new
            ) * new_value / (third_value - new_value) * old_value / (third_value - old_value)
        share = min(max(share, least), 1 - least)
