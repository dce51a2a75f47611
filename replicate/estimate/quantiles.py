"""Quantiles and tails of the standard distributions, from scipy.special: scipy.stats takes half a second to import."""

from __future__ import annotations

from collections.abc import Callable

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


def root(function: Callable[[float], float], low: float, high: float, width: float = 1e-12) -> float:
    """Where `function` is 0 between `low`, at which it is below, and `high`, at which it is above, to within `width`.

    By inverse quadratic interpolation where that is safe, by halving elsewhere (Chandrupatla 1997): scipy.optimize
    takes a quarter of a second to import.
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
