"""Every quantile and tail against scipy.stats, which the package itself does not import."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from replicate.estimate import quantiles as q

DOF = st.floats(0.5, 500)
SHARE = st.floats(1e-4, 1 - 1e-4)
VALUE = st.floats(0, 50)


@given(SHARE, DOF)
def test_quantiles(p: float, dof: float) -> None:
    assert q.chi2_quantile(p, dof) == pytest.approx(stats.chi2.ppf(p, dof), rel=1e-8, abs=1e-10)
    assert q.t_quantile(p, dof) == pytest.approx(stats.t.ppf(p, dof), rel=1e-7, abs=1e-9)


@given(VALUE, DOF, DOF)
def test_tails(x: float, dof: float, within: float) -> None:
    assert q.chi2_tail(x, dof) == pytest.approx(stats.chi2.sf(x, dof), rel=1e-8, abs=1e-14)
    assert q.t_tail(x, dof) == pytest.approx(stats.t.sf(x, dof), rel=1e-8, abs=1e-14)
    assert q.normal_tail(x) == pytest.approx(stats.norm.sf(x), rel=1e-10, abs=1e-300)
    assert q.f_tail(x, dof, within) == pytest.approx(stats.f.sf(x, dof, within), rel=1e-8, abs=1e-14)


def test_limits() -> None:
    assert q.t_quantile(0.975, float("inf")) == pytest.approx(stats.norm.ppf(0.975), rel=1e-12)
    assert q.f_tail(float("inf"), 3, 10) == 0
    assert np.allclose(q.chi2_quantile(np.array([0.5, 0.9]), 4), stats.chi2.ppf([0.5, 0.9], 4))


@given(st.floats(-5, 5), st.floats(0.1, 5), st.sampled_from([1, 3]))
def test_a_root_is_that_of_scipy(place: float, steep: float, power: int) -> None:
    def function(x: float) -> float:
        return float(np.tanh(steep * (x - place)) ** power)

    assert q.root(function, -10.0, 20.0) == pytest.approx(place, abs=1e-4 if power == 3 else 1e-9)
    assert q.root(lambda x: x, 0.0, 3.0) == 0
