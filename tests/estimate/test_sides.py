"""Peaks that are not smooth: where they lie, from what the sides show; closed forms, errors, laws, too few runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from replicate.estimate import line_fit
from replicate.estimate.optimum import optimum_curves
from replicate.estimate.sides import BEND, BREAK, Place, Powers, peaks, powers
from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import CONTRADICTED, REPLICATED
from replicate.landscape.synthetic import Truth, bracket_grid, draw
from replicate.paper.protocol import LRS

Floats = NDArray[np.float64]

SPACING = math.log(3)
X = SPACING * np.arange(-3.0, 4.0)
NOTHING = 1e-12 * np.eye(len(X))


def falling(x: Floats, place: float, left: tuple[float, int], right: tuple[float, int], height: float = 75) -> Floats:
    """Means at `x` of a curve with its peak at `place` that falls by (factor, power) on either side."""
    (a, p), (b, q) = left, right
    return np.asarray(height - np.where(x < place, a * np.abs(x - place) ** p, b * np.abs(x - place) ** q))


def found(x: Floats, mean: Floats, may: Powers, covariance: Floats | None = None, best: Any = None) -> list[Place]:
    runs = np.array([int(mean.argmax())]) if best is None else np.array(best)
    return peaks(x, mean, 1e-12 * np.eye(len(x)) if covariance is None else covariance, runs, may)


# ---------------------------------------------------------------- where the answer is known


@pytest.mark.parametrize("place", [-0.5, -0.2, 0.1, 0.45])
@pytest.mark.parametrize("left", [(3.0, BREAK), (0.6, BREAK), (1.5, BEND), (0.25, BEND)])
@pytest.mark.parametrize("right", [(2.0, BREAK), (0.7, BEND)])
def test_the_peak_of_a_curve_that_falls_with_those_powers(
    place: float, left: tuple[float, int], right: tuple[float, int]
) -> None:
    """To a hundredth of the spacing, for every pair of powers, however lopsided."""
    mean = falling(X, place, left, right)
    places = found(X, mean, ((left[1],), (right[1],)))
    assert min(abs(p.low - place) for p in places) < SPACING / 100
    assert all(p.low == p.high and p.between[0] <= p.low <= p.between[1] for p in places)


def test_runs_at_uneven_distances() -> None:
    x = np.array([-4.0, -2.7, -2.5, -1.0, -0.9, 0.8, 1.1, 2.9, 3.0])
    mean = falling(x, 0.3, (3.0, BREAK), (0.6, BREAK))
    (place,) = found(x, mean, ((BREAK,), (BREAK,)))
    assert place.low == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ((3.0, BREAK), (0.6, BREAK), ((BREAK,), (BREAK,))),
        ((1.5, BEND), (0.25, BEND), ((BEND,), (BEND,))),
        ((3.0, BREAK), (0.6, BEND), ((BREAK,), (BEND,))),
        ((0.25, BEND), (2.0, BREAK), ((BEND,), (BREAK,))),
    ],
)
def test_the_powers_are_those_of_the_sides(left: Any, right: Any, expected: Powers) -> None:
    """Wherever between the runs the peaks lie."""
    slices = [(X, falling(X, place, left, right), NOTHING) for place in np.linspace(-0.5, 0.5, 7)]
    assert powers(slices) == expected


def test_where_no_side_is_long_enough_both_powers_may_be() -> None:
    mean = falling(X[1:6], 0.1, (3.0, BREAK), (0.6, BREAK))
    assert powers([(X[1:6], mean, NOTHING[:5, :5])]) == ((BREAK, BEND), (BREAK, BEND))
    # Runs that lie close together are no longer a side than one of them.
    x = np.sort(np.concatenate([X[1:6], X[1:6] + 0.1]))
    cut = (x, falling(x, 0.1, (3.0, BREAK), (0.6, BREAK)), 1e-12 * np.eye(len(x)))
    assert powers([cut]) == ((BREAK, BEND), (BREAK, BEND))


def test_the_powers_are_asked_of_all_learning_rates_together() -> None:
    breaks, bends = (
        [(X, falling(X, 0.1, (1.0, p), (1.0, p)), 0.1 * np.eye(7)) for _ in range(60)] for p in (BREAK, BEND)
    )
    assert powers(breaks) == ((BREAK,), (BREAK,))
    assert powers(bends) == ((BEND,), (BEND,))
    assert powers(breaks[:1]) == ((BREAK, BEND), (BREAK, BEND)), "a single one is not sure"


@pytest.mark.parametrize("power", [BREAK, BEND])
def test_one_learning_rate_that_leans_the_other_way_keeps_both_powers(power: int) -> None:
    most, other = ((X, falling(X, 0.1, (1.0, p), (1.0, p)), 0.001 * np.eye(7)) for p in (power, BREAK + BEND - power))
    assert powers([most] * 60) == ((power,), (power,))
    assert powers([*[most] * 60, other]) == ((BREAK, BEND), (BREAK, BEND))


@pytest.mark.parametrize("power", [BREAK, BEND])
@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_the_true_power_is_hardly_ever_excluded(power: int, noise: float) -> None:
    """In at most 3 % of draws, whatever the noise; the other one is, where the noise is small."""
    rng = np.random.default_rng(0)
    kept = others = 0
    for _ in range(200):
        slices = [
            (X, falling(X, place, (0.6, power), (0.6, power)) + rng.normal(0, noise, 7), noise**2 * np.eye(7))
            for place in rng.uniform(-0.5, 0.5, 6)
        ]
        for side in powers(slices):
            kept += power in side
            others += len(side) - (power in side)
    assert kept >= 388
    assert (others <= 20) == (noise == 0.05)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("may", [((BREAK,), (BREAK,)), ((BEND,), (BEND,)), ((BREAK,), (BEND,))])
def test_the_error_is_the_scatter_of_the_place(may: Powers) -> None:
    """Against the standard deviation over 400 draws of correlated noise; Monte-Carlo error 4 %."""
    rng = np.random.default_rng(0)
    mean = falling(X, 0.2, (1.5, may[0][0]), (1.0, may[1][0]))
    covariance = 0.05**2 * np.exp(-np.abs(X[:, None] - X[None, :]))
    noises = rng.multivariate_normal(np.zeros(len(X)), covariance, 400)
    drawn = [[p for p in found(X, mean + n, may, covariance) if p.between[0] == X[3]] for n in noises]
    places = [p[0].low for p in drawn if p]
    assert len(places) > 390
    assert np.std(places) == pytest.approx(np.mean([p[0].error for p in drawn if p]), rel=0.15)


# ---------------------------------------------------------------- laws


@given(st.floats(-20, 20), st.floats(-50, 50), st.floats(0.1, 10), st.floats(-0.45, 0.45))
@settings(max_examples=30, deadline=None)
def test_it_moves_with_the_runs_and_not_with_the_unit(shift: float, level: float, scale: float, place: float) -> None:
    mean = falling(X, place, (2.0, BREAK), (0.5, BEND))
    first = found(X, mean, ((BREAK,), (BEND,)), 0.01 * np.eye(len(X)))
    second = found(X + shift, level + scale * mean, ((BREAK,), (BEND,)), scale**2 * 0.01 * np.eye(len(X)))
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (b.low - shift, b.error) == pytest.approx((a.low, a.error), abs=1e-6)


@given(st.floats(-0.45, 0.45), st.floats(0.3, 3), st.floats(0.3, 3))
@settings(max_examples=30, deadline=None)
def test_a_mirror_image_has_its_peaks_mirrored(place: float, a: float, b: float) -> None:
    mean = falling(X, place, (a, BREAK), (b, BEND))
    first = sorted(p.low for p in found(X, mean, ((BREAK,), (BEND,))))
    mirrored = sorted(-p.low for p in found(-X[::-1], mean[::-1], ((BEND,), (BREAK,))))
    assert first == pytest.approx(mirrored, abs=1e-6)


# ---------------------------------------------------------------- degenerate data


def test_one_run_alone_on_a_side_tells_nothing_of_how_it_falls() -> None:
    mean = np.array([70.0, 75.0, 74.0, 72.0, 69.0])
    x = X[:5]
    places = found(x, mean, ((BREAK,), (BREAK,)))
    assert Place(x[0], x[1], 0.0, (x[0], x[1])) in places
    assert found(x[:3], mean[:3], ((BREAK, BEND), (BREAK, BEND))) == [
        Place(x[0], x[1], 0.0, (x[0], x[1])),
        Place(x[1], x[2], 0.0, (x[1], x[2])),
    ]


@pytest.mark.parametrize("mean", [np.full(7, 70.0), 70 + X, 70 - X, 70 + X**2])
def test_without_a_peak_there_is_none(mean: Floats) -> None:
    """On a plateau, a slope, and in a valley only what lies beside the ends may be one."""
    beside_ends = {(X[0], X[1]), (X[-2], X[-1])}
    places = found(X, mean, ((BREAK,), (BREAK,)))
    assert all((p.low, p.high) == p.between and p.between in beside_ends for p in places)
    assert len(places) == (1 if mean.argmax() in (0, 6) else 0)


# ---------------------------------------------------------------- what it is for


@pytest.mark.parametrize("shape", ["tent", "ridge"])
def test_intervals_of_optima_hold_peaks_that_break(shape: str) -> None:
    """At nine learning rates in ten, at least, where a smooth curve alone holds a fifth to two thirds."""
    truth = Truth(shape=shape, rho=0.055, noise_sd_pp=0.1)
    held = []
    for seed in range(5):
        slices = draw(truth, bracket_grid(truth), np.random.default_rng(seed)).slices()
        for curve in optimum_curves(slices, np.random.default_rng(0)):
            low, high = curve.interval(line_fit.CLOSED_DEVIANCE)
            held.append(low <= math.log(truth.best_wd(curve.lr)) <= high)
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize("rho", [0.055, 0.24])
def test_a_tent_just_inside_or_outside_the_margin_is_not_judged_wrongly(rho: float) -> None:
    truth = Truth(shape="tent", rho=rho, noise_sd_pp=0.1)
    wrong = "contradicted" if rho < 0.2 else "replicated"
    for seed in range(6):
        landscape = draw(truth, bracket_grid(truth), np.random.default_rng(seed))
        (cell,) = judge_sweep([landscape])
        assert cell.outcomes["rho"] != wrong
        assert cell.measured["rho"].low <= rho <= cell.measured["rho"].high


@dataclass(frozen=True)
class MoreAndMoreLopsided(Truth):
    """A parabola at the smallest learning rate; at the largest straight to the right and far shallower to the left."""

    def accuracy(self, lr: float, wds: Sequence[float]) -> Floats:
        x = self.from_best(lr, wds)
        t = np.log(lr / LRS[0]) / np.log(LRS[-1] / LRS[0])
        return self.peak_pp - (1 - t) * x**2 - t * np.where(x > 0, 3 * x, 0.15 * np.abs(x) ** 3)


@pytest.mark.parametrize(("slope", "wrong"), [(0.82, CONTRADICTED), (0.85, CONTRADICTED), (1.25, REPLICATED)])
def test_curves_that_bend_at_most_learning_rates_may_break_at_others(slope: float, wrong: str) -> None:
    """The margin is 0.8 to 1.2; with a bend everywhere the peaks at large rates were placed on the shallow side."""
    truth = MoreAndMoreLopsided(slope=slope, noise_sd_pp=0.1)
    for seed in range(6):
        landscape = draw(truth, bracket_grid(truth), np.random.default_rng([seed, 13]), seeds=range(5))
        (cell,) = judge_sweep([landscape])
        assert cell.outcomes["slope"] != wrong
        assert cell.outcomes["rho"] != CONTRADICTED
