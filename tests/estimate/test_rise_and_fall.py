"""The shape that all learning rates of a cell have in common: its curve, its posterior, and when it is believed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from replicate.estimate import rise_and_fall
from replicate.estimate.accuracy_curve import fit_process, usable_points
from replicate.estimate.line_fit import fit_line
from replicate.estimate.optimum import optimum_curves
from replicate.estimate.power_law import log_ratio, slope_span
from replicate.estimate.rise_and_fall import COMMON, OWN, RiseAndFall, curve
from replicate.landscape.landscape import Slice
from tests.support.landscapes import one_slice

PLACES = st.floats(-6, 6)
WIDTHS = st.floats(-1.5, 1.0)


def trained(x: np.ndarray) -> np.ndarray:
    """Accuracy as trained curves have it: up by 16 pp, then off a cliff; 0 is where it falls by half."""
    kept = 1 - (1 + np.exp(-x / 0.4) / 3) ** -3.0
    return 10 + (55 + 18 * expit((x + 2.2) / 0.8)) * kept


FINE = np.linspace(-6, 2, 80001)
PEAK = float(FINE[trained(FINE).argmax()])


def cell(seed: int, n_seeds: int = 5, step: float = 0.94, noise_pp: float = 1.5) -> tuple[Slice, ...]:
    """Five learning rates whose optimum is a tenth of each, every one's weight decays beginning anywhere."""
    rng = np.random.default_rng(seed)
    slices = []
    for lr in (2e-3, 5e-3, 1e-2, 2e-2, 5e-2):
        x = np.arange(-5, 4, step) + rng.uniform(0, step)
        scores = trained(x + PEAK)[:, None] + rng.normal(0, noise_pp, (len(x), n_seeds))
        slices.append(one_slice(tuple(0.1 * lr * np.exp(x)), scores, lr))
    return tuple(slices)


def fitted(slices: tuple[Slice, ...], seed: int = 0) -> tuple[list[RiseAndFall], float]:
    """The shape's curves, and how much more evidence there is for it than for a process alone."""
    points = [p for s in slices if (p := usable_points(s)) is not None]
    fits = fit_process(points)
    curves, log_evidence = rise_and_fall.fit(points, fits, np.random.default_rng(seed))
    return curves, log_evidence - fits[0].log_evidence


@given(
    st.tuples(
        st.floats(-1, 0), st.floats(-0.1, 0.5), PLACES, PLACES, WIDTHS, WIDTHS, st.floats(-1, 3), st.floats(-1, 1)
    )
)
def test_it_begins_without_decay_and_ends_at_the_bottom(parameters: tuple[float, ...]) -> None:
    ends = curve(np.array(parameters), np.array([-400.0, 400.0]))
    assert ends == pytest.approx([parameters[0], -math.exp(parameters[-1])], abs=1e-6)


@given(PLACES, WIDTHS)
def test_of_exponent_1_it_falls_as_a_logistic_function(fall: float, width: float) -> None:
    x = np.linspace(-8, 8, 33)
    found = curve(np.array([-0.1, 0, 0, fall, 0, width, 0, 0]), x)
    np.testing.assert_allclose(found, -1 + 0.9 * expit((fall - x) / math.exp(width)), atol=1e-9)


def test_many_curves_at_once_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    parameters = np.array([-0.2, 0.2, -2, 1, -0.3, -0.7, 1, 0.2]) + 0.1 * rng.standard_normal((3, 4, OWN + COMMON))
    x = np.sort(rng.normal(0, 3, (3, 1, 9)))
    together = curve(parameters, x)
    assert together.shape == (3, 4, 9)
    np.testing.assert_allclose(together[2, 3], curve(parameters[2, 3], x[2, 0]))


@pytest.mark.slow
def test_the_draws_are_those_of_importance_sampling() -> None:
    """An independent reference for the chains: weighed draws of a wide t distribution around the likeliest."""
    for c in fitted(cell(0))[0][1:4]:
        slopes = np.linalg.solve(np.linalg.cholesky(c.covariance()), c.slopes(c.parameters))
        spread = stats.multivariate_t(c.parameters, 1.5 * np.linalg.inv(c.precision + slopes.T @ slopes), df=5, seed=0)
        tried = spread.rvs(200_000)
        left = c.y - c.at(tried, c.points.x)
        away = tried - c.expected
        log_weight = -0.5 * np.einsum("ki,ij,kj->k", left, np.linalg.inv(c.covariance()), left)
        log_weight += -0.5 * np.einsum("ki,ij,kj->k", away, c.precision, away) - spread.logpdf(tried)
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        assert 1 / (weight**2).sum() > 500
        mean = weight @ tried
        sd = np.sqrt(weight @ (tried - mean) ** 2)
        assert np.abs((c.posterior.mean(axis=0) - mean) / sd).max() < 0.6
        np.testing.assert_allclose(c.posterior.std(axis=0) / sd, 1, atol=0.35)


@pytest.mark.slow
def test_learning_rates_help_each_other() -> None:
    """Slope and ratio are covered, and narrower by a third than a smooth curve of each learning rate alone allows."""
    slopes, ratios, widths = [], [], []
    for seed in range(25):
        fit = fit_line(optimum_curves(list(cell(seed)), np.random.default_rng(seed)))
        assert fit is not None
        _, low, high = slope_span(fit, 0.95)
        slopes.append(low <= 1 <= high)
        widths.append(high - low)
        _, low, high = log_ratio(fit)
        ratios.append(low <= math.log(0.1) <= high)
    assert np.mean(slopes) >= 0.88
    assert np.mean(ratios) >= 0.92
    assert np.median(widths) < 0.3


def test_it_is_believed_of_a_rise_and_a_fall_and_not_of_two_peaks() -> None:
    slices = cell(1)
    assert fitted(slices)[1] > 5
    two = []
    for cut in slices:
        x = np.log(cut.wds / cut.lr / 0.1)
        dip = 9 * np.exp(-((x + 1.5) ** 2) / 0.4) - 9 * np.exp(-((x + 3.2) ** 2) / 0.8)
        two.append(one_slice(tuple(cut.wds), cut.scores - dip[:, None], cut.lr))
    assert fitted(tuple(two))[1] < 0


@pytest.mark.parametrize(("shift", "unit"), [(3.0, 0.01), (-5.0, 40.0)])
def test_units_do_not_matter(shift: float, unit: float) -> None:
    slices = cell(2, n_seeds=2)
    moved = tuple(one_slice(tuple(s.wds * math.exp(shift)), s.scores * unit, s.lr) for s in slices)
    (before, evidence), (after, same) = fitted(slices), fitted(moved)
    assert same == pytest.approx(evidence, abs=0.2)
    for a, b in zip(before, after, strict=True):
        assert b.parameters == pytest.approx(a.parameters, abs=0.02)
