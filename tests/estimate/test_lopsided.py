"""Peaks with a steep side, and accuracies that fall off a cliff: softened losses, and where straight sides meet."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.estimate.accuracy_curve import usable_points
from replicate.estimate.line_fit import fit_line
from replicate.estimate.optimum import optimum_curves, straight_peak
from replicate.estimate.power_law import log_ratio, slope_span
from replicate.estimate.softening import SOFTENINGS, hardened, softened
from replicate.landscape.landscape import Slice
from replicate.landscape.synthetic import Truth, bracket_grid, draw
from tests.support.landscapes import one_slice

RUNS = np.arange(-3.3, 3.4, 1.1)
SIDES = st.floats(0.2, 30)


@given(st.floats(-1, 1), SIDES, SIDES)
def test_of_straight_sides_it_is_where_they_meet(peak: float, left: float, right: float) -> None:
    mean = -np.where(peak > RUNS, left, right) * np.abs(RUNS - peak)
    assert straight_peak(RUNS, mean) == pytest.approx(peak, abs=1e-6)


@given(st.floats(0.1, 5), st.floats(-10, 10))
def test_of_a_symmetric_peak_at_a_run_it_is_that_run(curvature: float, shift: float) -> None:
    assert straight_peak(RUNS + shift, 70 - curvature * RUNS**2) == pytest.approx(shift, abs=1e-6)


@given(st.lists(st.floats(0, 70), min_size=7, max_size=7, unique=True))
def test_it_lies_beside_the_best_run_and_turns_round_with_the_curve(scores: list[float]) -> None:
    mean = np.array(scores)
    best = int(mean.argmax())
    found = straight_peak(RUNS, mean)
    assert RUNS[max(best - 1, 0)] <= found <= RUNS[min(best + 1, 6)]
    assert straight_peak(-RUNS[::-1], mean[::-1]) == pytest.approx(-found, abs=1e-9)


@pytest.mark.parametrize("softening", SOFTENINGS)
def test_softened_means_keep_their_order_and_come_back(softening: float) -> None:
    points = usable_points(one_slice(tuple(np.exp(RUNS)), [[60.0], [65], [69], [70], [69.9], [40], [10]]))
    assert points is not None
    mean = points.noise.mean
    y, covariance, jacobian = softened(mean, 0.25 * np.eye(7), 0.5, softening)
    assert (y.argsort() == mean.argsort()).all()
    np.testing.assert_allclose(hardened(y - y.max(), softening), (mean - mean.max()) / 0.5, rtol=1e-9, atol=1e-9)
    step = 1e-6  # the covariance is that of the derivative, and the Jacobian its logarithm
    loss = (mean.max() - mean) / 0.5
    derivative = np.ones(7) if math.isinf(softening) else 1 / (1 + loss / softening)
    np.testing.assert_allclose(np.diag(covariance), derivative**2, rtol=step)
    assert jacobian == pytest.approx(float(np.log(derivative).sum()))


def cliff(x: np.ndarray) -> np.ndarray:
    """As accuracy falls on trained landscapes: 3 pp a factor e with too little decay, 25 soon after the peak."""
    return np.where(x < 0, 3.0 * -x, 25.0 * x)


def falling_off(lr: float, rng: np.random.Generator, grid: float) -> Slice:
    x = np.arange(-4, 3, 0.94) + grid
    scores = 70 - cliff(x)[:, None] + rng.normal(0, 1.0, (len(x), 5))
    return one_slice(tuple(0.1 * lr * np.exp(x)), scores, lr)


@pytest.mark.slow
def test_a_cliff_at_every_learning_rate_leaves_slope_and_ratio_covered() -> None:
    """Before losses were softened, optima beside a cliff were placed too surely, up to 0.5 off in ln."""
    slopes, ratios = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        slices = [falling_off(lr, rng, rng.uniform(0, 0.94)) for lr in (1e-3, 3e-3, 1e-2, 3e-2)]
        fit = fit_line(optimum_curves(slices, rng))
        assert fit is not None
        _, low, high = slope_span(fit, 0.95)
        slopes.append(low <= 1 <= high)
        _, low, high = log_ratio(fit)
        ratios.append(low <= math.log(0.1) <= high)
    assert np.mean(slopes) >= 0.85
    assert np.mean(ratios) >= 0.95


def test_a_tent_widens_the_ratio_to_its_steep_side_and_the_slope_not_at_all() -> None:
    """Five times as steep with too much decay: a smooth curve has the peak too low, at every learning rate alike."""
    truth = Truth(shape="tent", rho=0.24, noise_sd_pp=0.1)
    rng = np.random.default_rng(0)
    fit = fit_line(optimum_curves(draw(truth, bracket_grid(truth), rng, seeds=range(5)).slices(), rng))
    assert fit is not None
    smooth = np.mean([c.best - math.log(0.24 * c.lr) for c in fit.curves])
    assert smooth < -0.3, "the smooth curves' peak"
    value, low, high = log_ratio(fit)
    assert value is not None and high - value > 2 * (value - low)
    assert low < math.log(0.24) < high
    _, low, high = slope_span(fit, 0.95)
    assert low < 1 < high and high - low < 0.3
