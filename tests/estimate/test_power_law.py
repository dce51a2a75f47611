"""Slope, ratio, intercept and R² from likelihoods of optima: weighted least squares, linear programming, coverage."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats
from statsmodels.regression.linear_model import WLS

from replicate.estimate.details import OptimumAt
from replicate.estimate.estimate import Estimate
from replicate.estimate.line_fit import LineFit, fit_line
from replicate.estimate.optimum import STEP, OptimumCurve, optimum_curves
from replicate.estimate.power_law import RESOLUTION, Rivals, log_ratio, optima, ratio, ratios_together, rivals, slope
from replicate.estimate.straight_line import intercept_share, origin_r_squared, r_squared, shares
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import CENTER_LR, Grid, Truth, bracket_grid, draw, paper_grid, ratio_grid
from replicate.paper.protocol import LRS
from replicate.store import strict
from tests.support.landscapes import LRS_3, changed, drawn, one_slice, rescaled, sweep

Floats = NDArray[np.float64]
LOW, HIGH = -22.0, 6.0
GRID = np.arange(LOW, HIGH, STEP)
X = np.log(LRS)


@lru_cache
def template() -> OptimumCurve:
    (curve,) = optimum_curves([one_slice([0.1, 0.3, 1.0], [[70], [71], [70]])], np.random.default_rng(0))
    return curve


def made(lr: float, loglik: Floats, below: float, above: float, draws: Floats | None = None) -> OptimumCurve:
    """A curve with a given log-likelihood on GRID and beyond its ends."""
    table = np.concatenate([[below], loglik, [above]])
    draws = np.full(400, GRID[np.argmax(loglik)]) if draws is None else draws
    curve = replace(
        template(),
        lr=lr,
        start=LOW,
        table=table,
        draws=draws,
        ceiling=math.inf,
        floor=-math.inf,
        spacing=0.0,
        flags=(),
        fitted=None,
        alike=(),
    )
    return replace(curve, straight=curve.best)


def normal(lr: float, place: float, sd: float) -> OptimumCurve:
    """The optimum measured as place +- sd."""
    draws = np.random.default_rng(int(1e6 * lr)).normal(place, sd, 400)
    return made(lr, -0.5 * ((GRID - place) / sd) ** 2, -1e4, -1e4, draws)


def within(lr: float, low: float, high: float) -> OptimumCurve:
    """The optimum known to lie in [low, high] and nothing else: a set."""
    inside = (low <= GRID) & (high >= GRID)
    return made(lr, np.where(inside, 0.0, -1e4), 0.0 if low <= LOW else -1e4, 0.0 if high >= HIGH else -1e4)


def line(curves: Sequence[OptimumCurve]) -> LineFit:
    fit = fit_line(curves)
    assert fit is not None
    return fit


def fitted(landscape: Landscape, seed: int = 0) -> LineFit:
    return line(optimum_curves(landscape.slices(), np.random.default_rng(seed)))


def ends(found: Estimate) -> tuple[float, float]:
    return found.low, found.high


def all_estimates(fit: LineFit) -> list[Estimate]:
    return [slope(fit), ratio(fit), intercept_share(fit), r_squared(fit, np.random.default_rng(0))]


# ---------------------------------------------------------------- normal optima: weighted least squares


@st.composite
def normal_optima(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Places around a line, and their standard errors."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    sds = rng.uniform(0.15, 0.6, len(X))
    b = draw(st.floats(-2, 2))
    return draw(st.floats(-9, -5)) + b * (X - X.mean()) + 0.7 * sds * rng.normal(size=len(X)), sds


def least_squares(places: Floats, sds: Floats) -> tuple[Floats, Floats, float]:
    """(height at the mean of X, slope), their standard errors for known noise, and the deviance of the line."""
    fit = WLS(places, np.column_stack([np.ones(len(X)), X - X.mean()]), weights=sds**-2.0).fit(cov_type="fixed scale")
    return fit.params, fit.bse, float((((places - fit.fittedvalues) / sds) ** 2).sum())


@given(normal_optima(), st.sampled_from([0.9, 0.95, 0.99]))
@settings(max_examples=8, deadline=None)
def test_normal_optima_give_weighted_least_squares(data: tuple[Floats, Floats], level: float) -> None:
    """To within the tables' steps (0.02; heights 0.04) and the step by which an interval is drawn outwards."""
    places, sds = data
    params, errors, deviance = least_squares(places, sds)
    fit = line([normal(lr, p, s) for lr, p, s in zip(LRS, places, sds, strict=True)])
    birge = max(1.0, deviance / (len(X) - 2))
    assert fit.scale == pytest.approx(birge, abs=0.1)
    half = stats.norm.ppf(0.5 + level / 2) * math.sqrt(fit.scale) * errors
    found = slope(fit, level)
    assert found.value == pytest.approx(params[1], abs=0.03)
    assert ends(found) == pytest.approx((params[1] - half[1], params[1] + half[1]), abs=0.05)
    value, low, high = log_ratio(fit, level)
    assert value == pytest.approx(params[0] - X.mean(), abs=0.05)
    assert (low, high) == pytest.approx((params[0] - half[0] - X.mean(), params[0] + half[0] - X.mean()), abs=0.09)


def test_optima_far_from_any_line_widen_the_interval_and_say_so() -> None:
    """Residuals of twice their standard errors: the Birge ratio doubles the width, and chi-squared tells."""
    sds = np.full(6, 0.25)
    places = -9.2 + X - X.mean() + 0.5 * np.array([1, -1, 1, -1, 1, -1])
    _, errors, deviance = least_squares(places, sds)
    fit = line([normal(lr, p, s) for lr, p, s in zip(LRS, places, sds, strict=True)])
    assert fit.scale == pytest.approx(deviance / 4, rel=0.05)
    assert fit.misfit_p == pytest.approx(stats.chi2.sf(deviance, 4), rel=0.2)
    assert "misfit" in slope(fit).flags
    assert np.diff(ends(slope(fit)))[0] == pytest.approx(2 * 1.96 * math.sqrt(deviance / 4) * errors[1], abs=0.05)


@given(st.floats(0, 0.8), st.integers(0, 10**6))
@example(0.5, 1)  # fits better than any power law, and worse than its errors allow
@settings(max_examples=6, deadline=None)
def test_intercept_share_is_the_profile_over_straight_lines(share: float, seed: int) -> None:
    """Normal optima around wd = height * ((1 - share) * lr / g + share): deviance minimised by scipy instead."""
    lrs = np.array(LRS)
    relative = lrs / np.exp(X.mean())
    straight = np.log((1 - share) * relative + share)
    sds = np.full(6, 0.3)
    places = -8 + straight + 0.5 * sds * np.random.default_rng(seed).normal(size=6)

    def deviance(s: float) -> float:
        with np.errstate(divide="ignore"):
            shape = np.log(np.maximum((1 - s) * relative + s, 0))
        if np.isneginf(shape).any():
            return 1e9
        rest = places - shape
        return float((((rest - rest.mean()) / sds) ** 2).sum())

    fit = line([normal(lr, p, s) for lr, p, s in zip(LRS, places, sds, strict=True)])
    grid = np.linspace(-0.9, 0.999, 4000)
    values = np.array([deviance(s) for s in grid])
    least = min(values.min(), least_squares(places, sds)[2])
    inside = grid[values <= least + max(1, least / 4) * stats.chi2.ppf(0.95, 1)]  # 4 degrees of freedom are left
    found = intercept_share(fit)
    if len(inside) and inside[0] > -0.85:
        assert found.low == pytest.approx(inside[0], abs=0.04 + 0.12 * abs(inside[0]))
        assert found.high == pytest.approx(inside[-1], abs=0.04)
        assert "misfit" not in found.flags
    if share > 0.1:
        assert found.value == pytest.approx(grid[values.argmin()], abs=0.05)


@given(st.floats(-1.2, -0.4), st.floats(0.02, 0.2), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_where_no_straight_line_fits_the_nearest_one_is_that_of_least_squares(b: float, sd: float, seed: int) -> None:
    places = -8 + b * (X - X.mean()) + sd * np.random.default_rng(seed).normal(size=6)
    fit = line([normal(lr, p, 0.15) for lr, p in zip(LRS, places, strict=True)])
    found = intercept_share(fit)
    if "no-straight-line" not in found.flags:
        return
    relative = np.array(LRS) / np.exp(X.mean())
    shares = np.linspace(*(end / (end - 1) for end in (relative.min(), relative.max())), 30001)[1:-1]  # all above 0
    squares = 6 * np.var(places - np.log(np.outer(1 - shares, relative) + shares[:, None]), axis=1)
    bound = squares.min() * (1 + stats.t.ppf(0.975, 4) ** 2 / 4)
    assert found.value == pytest.approx(shares[squares.argmin()], abs=0.03)
    assert found.low == pytest.approx(shares[squares <= bound][0], abs=0.06)


def test_a_power_law_that_no_straight_line_fits_is_a_misfit_of_the_intercept() -> None:
    fit = line([normal(lr, -8 - 2 * (x - X.mean()), 0.15) for lr, x in zip(LRS, X, strict=True)])
    assert ends(slope(fit)) == pytest.approx((-2.08, -1.92), abs=0.08)
    assert {"misfit", "no-straight-line"} <= set(intercept_share(fit).flags)
    assert "misfit" not in slope(fit).flags


@pytest.mark.parametrize("sd", [1.0, 0.3, 0.15, 0.05])
def test_the_surer_a_power_law_the_surer_what_it_says_of_intercepts(sd: float) -> None:
    """A slope of -1 is far from any line of the margin [-1, 0.5]; one of 1/2 is as near to some within as without."""
    falling, root = (
        intercept_share(line([normal(lr, -8 + b * (x - X.mean()), sd) for lr, x in zip(LRS, X, strict=True)]))
        for b in (-1.0, 0.5)
    )
    assert falling.low > (0.5 if sd < 1 else 0.0)
    assert root.low < 0.5 < root.high
    assert ("no-straight-line" in root.flags) == (sd < 1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["table-2", pytest.param("tent", marks=pytest.mark.long)])
def test_lines_with_an_intercept_are_not_taken_for_others(shape: str) -> None:
    """At most two of 24 intervals at 95 % miss."""
    missed = 0
    for share in (0.3, 0.45, 0.8, 0.95):
        truth = Truth(shape=shape, intercept_share=share)
        for seed in range(6):
            rng = np.random.default_rng([seed, 5])
            fit = fit_line(optimum_curves(draw(truth, bracket_grid(truth), rng, seeds=range(5)).slices(), rng))
            assert fit is not None
            found = intercept_share(fit)
            missed += not found.low <= share <= found.high
            assert found.high - found.low < 1
            assert "no-straight-line" not in found.flags
    assert missed <= 2


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_a_straight_line_that_is_no_power_law_is_no_misfit_of_the_intercept(share: float) -> None:
    """With little noise no power law fits, and that must neither widen the intercept's interval nor flag it."""
    truth = Truth(intercept_share=share, noise_sd_pp=0.05)
    for seed in range(4):
        rng = np.random.default_rng([seed, 6])
        fit = fit_line(optimum_curves(draw(truth, bracket_grid(truth), rng, seeds=range(5)).slices(), rng))
        assert fit is not None
        found = intercept_share(fit)
        assert found.low <= share <= found.high
        assert not {"misfit", "law-breaks", "no-straight-line"} & set(found.flags)


def test_two_optima_have_no_intercept_to_replicate() -> None:
    fit = line([within(lr, x - 2.4, x - 2.2) for lr, x in zip(LRS[:2], X[:2], strict=True)]
               + [within(lr, -99, x) for lr, x in zip(LRS[2:4], X[2:4], strict=True)])  # fmt: skip
    assert "few-optima" in intercept_share(fit).flags


@pytest.mark.parametrize("lrs", [(1e-3, 2e-3, 3e-3), (1e-4, 3e-4), LRS])
def test_shares_end_where_the_line_is_0_at_the_largest_learning_rate(lrs: tuple[float, ...]) -> None:
    relative = np.array(lrs) / np.exp(np.log(lrs).mean())
    tried = shares(relative)
    last = relative.max() / (relative.max() - 1)
    assert (np.diff(tried) > 0).all()
    at_last = (1 - tried) * relative.max() + tried
    assert (at_last[tried < last] > 0).all()
    assert tried.max() > 1 + 0.9 * (last - 1)


# ---------------------------------------------------------------- sets: linear programming


@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_known_sets_give_the_range_of_slopes_and_ratios_within_them(seed: int) -> None:
    """Partial identification: the extreme slopes and heights of all lines through the sets, by linear programming."""
    rng = np.random.default_rng(seed)
    middle = -8 + rng.uniform(-2, 2) * (X - X.mean())
    low, high = middle - rng.uniform(0.1, 1.5, 6), middle + rng.uniform(0.1, 1.5, 6)
    low, high = np.round(low / STEP) * STEP, np.round(high / STEP) * STEP
    fit = line([within(lr, a, b) for lr, a, b in zip(LRS, low, high, strict=True)])
    design = np.column_stack([np.ones(6), X - X.mean()])
    for found, objective in ((ends(slope(fit)), [0, 1]), (np.array(log_ratio(fit)[1:]) + X.mean(), [1, 0])):
        extremes = [
            sign * optimize.linprog(np.array(objective) * sign, np.vstack([design, -design]),
                                    np.concatenate([high, -low]), bounds=(None, None)).fun
            for sign in (1, -1)
        ]  # fmt: skip
        assert tuple(found) == pytest.approx(tuple(extremes), abs=0.09)


def test_half_open_sets_bound_the_slope_on_one_side() -> None:
    """Every optimum lies below a line of slope 1: the ratio has an upper bound only, the slope none."""
    fit = line([within(lr, -99, -2.3 + x) for lr, x in zip(LRS, X, strict=True)])
    assert ends(slope(fit)) == (-math.inf, math.inf)
    found = ratio(fit)
    assert (found.value, found.low) == (None, 0.0)
    assert found.high == pytest.approx(0.1, rel=0.09)
    assert set(found.flags) == {"edge-low", "few-optima"}
    assert found.settle.startswith("weight decays below 3e-10 at lr 5e-05, 0.0001, 0.0003, 0.001, 0.003 and 0.01; ")


def test_rising_bounds_on_both_sides_bound_the_slope_from_below() -> None:
    """The smallest learning rates' optima lie below a bound, the largest ones' above a higher one."""
    fit = line([within(lr, -99, -9) if x < X.mean() else within(lr, -6, 99) for lr, x in zip(LRS, X, strict=True)])
    found = slope(fit)
    # The flattest line passes through the corners at 3e-4 and 1e-3.
    assert found.low == pytest.approx(3 / math.log(1e-3 / 3e-4), abs=0.06)
    assert found.high == math.inf
    assert found.value is not None
    assert found.value >= found.low
    assert set(found.flags) == {"edge-low", "edge-high", "few-optima"}


def test_plateaus_leave_everything_open() -> None:
    fit = line([within(lr, -99, 99) for lr in LRS])
    for found in all_estimates(fit):
        assert found.value is None
        assert found.low in (-math.inf, 0.0)
        assert "plateau" in found.flags
    many = replace(fit, curves=tuple(replace(c, seed_curve_share=0.5) for c in fit.curves))
    everywhere = "lr 5e-05, 0.0001, 0.0003, 0.001, 0.003 and 0.01"
    assert slope(many).settle.startswith(f"more seeds or a longer training at {everywhere}, flat so far")
    assert slope(fit).settle == "a second seed, as the noise between seeds is unknown"
    assert rivals(fit) == Rivals(exponent=None, supported=None, excluded=(), exponent_of_lr_times_wd=None)


def test_what_settles_an_exponent_is_closer_runs_or_more_seeds() -> None:
    """Optima known to within the runs beside them are not known better by more seeds, however little noise there is."""
    for n_seeds, noise in ((3, 0.3), (20, 0.05)):
        truth = Truth(noise_sd_pp=noise, depth=4.0)
        coarse = slope(fitted(drawn(truth, 0, n_seeds, bracket_grid(truth, 8.0), LRS[1:5])))
        assert coarse.settle == "more closely spaced weight decays around the best ones (now a factor 8 apart)"
    wide = fit_line([normal(lr, -9 + x, 0.5) for lr, x in zip(LRS, X, strict=True)])
    assert wide is not None and slope(wide).settle.endswith("times as many seeds")


def test_two_measured_optima_are_no_line() -> None:
    curves = [
        normal(lr, -9 + x, 0.2) if i < 2 else within(lr, -99, 99) for i, (lr, x) in enumerate(zip(LRS, X, strict=True))
    ]
    fit = line(curves)
    assert ends(slope(fit)) == (-math.inf, math.inf)
    assert ends(intercept_share(fit)) == (-math.inf, math.inf)
    assert "few-optima" in slope(fit).flags
    assert math.isnan(fit.misfit_p)


def test_a_bound_that_no_line_through_two_optima_meets_is_a_misfit() -> None:
    """Not a slope known to a hair: the line is squeezed between the bound and the two, and fits none of them."""
    free = [within(lr, -99, 99) for lr in LRS[:3]]
    falling = [normal(LRS[3], -4.0, 0.15), normal(LRS[4], -5.0, 0.15)]
    met, missed = (line([*free, *falling, within(LRS[5], -99, bound)]) for bound in (-5.9, -8.0))
    assert math.isnan(met.misfit_p) and met.scale == 1.0
    assert missed.misfit_p < 0.01 and missed.scale > 3
    assert "misfit" in slope(missed).flags
    squeezed = slope(dataclasses.replace(missed, scale=1.0))
    assert np.ptp(ends(slope(missed))) > 4 * np.ptp(ends(squeezed))


def test_one_learning_rate_has_a_ratio_and_no_slope() -> None:
    fit = line([normal(1e-3, math.log(1e-4), 0.2)])
    assert ends(slope(fit)) == (-math.inf, math.inf)
    found = ratio(fit)
    assert found.value == pytest.approx(0.1, rel=0.05)
    assert ends(found) == pytest.approx((0.1 * math.exp(-0.39), 0.1 * math.exp(0.39)), rel=0.09)
    assert "few-optima" in found.flags


def test_no_curves_have_no_line() -> None:
    assert fit_line([]) is None


def test_more_certainty_takes_wider_intervals() -> None:
    fit = line([normal(lr, -9 + x, 0.4) for lr, x in zip(LRS, X, strict=True)])
    for method in (slope, ratio, intercept_share):
        narrow, wide = method(fit, 0.8), method(fit, 0.99)
        assert wide.low < narrow.low < narrow.high < wide.high
        assert (narrow.level, wide.level) == (0.8, 0.99)


# ---------------------------------------------------------------- optima, R², rivals


def test_optima_are_listed_as_weight_decays_with_open_ends() -> None:
    curves = [normal(1e-3, math.log(1e-4), 0.2), within(3e-3, -99, -7), within(1e-2, -99, 99)]
    first, second, third = optima(line(curves))
    ends = [1e-4 * math.exp(-0.39), 1e-4 * math.exp(0.39)]
    assert [first.lr, first.wd, first.low, first.high] == pytest.approx([1e-3, 1e-4, *ends], rel=0.03)
    assert second.low is None
    assert second.high == pytest.approx(math.exp(-7), rel=0.03)
    assert third == OptimumAt(1e-2, wd=None, low=None, high=None)


def test_r_squared_of_a_line_through_the_origin_by_hand() -> None:
    lrs, wds = np.array([1.0, 2.0, 3.0]), np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 4.0]])
    # Third: rho = 10/14, residuals 16/7, 4/7, -8/7: squares 48/7, total 2. Fourth: rho = 17/14, 5/14, total 14/3.
    np.testing.assert_allclose(origin_r_squared(lrs, wds), [1, 0, 1 - 24 / 7, 1 - 5 / 14 / (14 / 3)])


@pytest.mark.parametrize("value", [0.1, 0.3, 1.7e-5])
def test_r_squared_of_equal_optima_is_zero(value: float) -> None:
    """Whatever rounding does to their mean."""
    for n in (3, 6, 7):
        assert origin_r_squared(np.arange(1.0, n + 1), np.full((1, n), value)).tolist() == [0.0]


def test_r_squared_of_a_sharp_proportional_line_is_one() -> None:
    found = r_squared(
        line([normal(lr, -2.3 + x, 0.05) for lr, x in zip(LRS, X, strict=True)]), np.random.default_rng(0)
    )
    assert found.value == pytest.approx(1, abs=0.01)
    assert found.low > 0.9
    assert found.high == pytest.approx(1, abs=1e-3)
    assert found.n == 6


def test_r_squared_of_constant_optima_is_far_below_the_margin() -> None:
    found = r_squared(line([normal(lr, -2.3, 0.1) for lr in LRS]), np.random.default_rng(0))
    assert found.high < 0.9


def test_r_squared_needs_four_closed_optima() -> None:
    curves = [
        normal(lr, -9 + x, 0.2) if i < 3 else within(lr, -99, 99) for i, (lr, x) in enumerate(zip(LRS, X, strict=True))
    ]
    found = r_squared(line(curves), np.random.default_rng(0))
    assert (found.value, found.low, found.high, found.n) == (None, -math.inf, 1.0, 3)
    assert "few-optima" in found.flags


@pytest.mark.parametrize(
    ("b", "sd", "expected"),
    [
        (1.0, 0.2, {"exponent": 1, "supported": "coupled", "excluded": ("independent", "timescale")}),
        (0.0, 0.2, {"exponent": 0, "supported": "independent", "excluded": ("coupled", "timescale")}),
        (-1.0, 0.2, {"exponent": -1, "supported": "timescale", "excluded": ("coupled", "independent")}),
        (0.5, 0.2, {"exponent": None, "supported": None, "excluded": ("coupled", "independent", "timescale")}),
        (0.5, 1.3, {"exponent": None, "supported": None, "excluded": ("timescale",)}),
        (1.6, 2.0, {"exponent": None, "supported": None, "excluded": ("independent", "timescale")}),
    ],
)
def test_rivals(b: float, sd: float, expected: dict[str, Any]) -> None:
    found = rivals(line([normal(lr, -9 + b * (x - X.mean()), sd) for lr, x in zip(LRS, X, strict=True)]))
    exponent = expected["exponent"]
    assert found == Rivals(**expected, exponent_of_lr_times_wd=None if exponent is None else exponent + 1)


def test_a_ratio_that_varies_is_flagged() -> None:
    for b, flagged in ((1.0, False), (0.0, True), (2.0, True)):
        fit = line([normal(lr, -9 + b * (x - X.mean()), 0.2) for lr, x in zip(LRS, X, strict=True)])
        assert ("ratio-varies" in ratio(fit).flags) is flagged


def test_ratios_together_are_each_learning_rates_own() -> None:
    """Normal likelihoods: mean ± the Bonferroni quantile, widened by the resolution; wider than the 95 % ones."""
    fit = line([normal(lr, -9 + 0.3 * (x - X.mean()), 0.2) for lr, x in zip(LRS, X, strict=True)])
    quantile = stats.norm.ppf(1 - 0.05 / 2 / len(LRS))
    for row, lr, x, curve in zip(ratios_together(fit), LRS, X, fit.curves, strict=True):
        centre = -9 + 0.3 * (x - X.mean()) - x
        half = 0.2 * quantile + RESOLUTION * curve.spacing
        assert row.lr == lr
        assert row.low is not None
        assert row.high is not None
        assert np.log([row.low, row.high]) == pytest.approx([centre - half, centre + half], abs=0.06)


def test_ratios_together_have_a_bound_but_no_value_where_one_side_is_open() -> None:
    curves = [within(LRS[0], LOW, HIGH), within(LRS[1], LOW, -9.0), *(normal(lr, -9.0, 0.2) for lr in LRS[2:])]
    first, *rest = ratios_together(line(curves))
    assert (first.lr, first.value, first.low) == (LRS[1], None, None)
    assert first.high == pytest.approx(np.exp(-9.0) / LRS[1], rel=0.1)
    assert [row.lr for row in rest] == list(LRS[2:]) and all(row.value is not None for row in rest)


# ---------------------------------------------------------------- laws


def shifted(curve: OptimumCurve, wd: float, lr: float) -> OptimumCurve:
    up = math.log(wd)
    moved = {"start": curve.start + up, "draws": curve.draws + up, "straight": curve.straight + up}
    return replace(curve, lr=curve.lr * lr, **moved)


@given(normal_optima(), st.sampled_from([1e-2, 0.5, 3.0]), st.sampled_from([0.1, 8.0]))
@settings(max_examples=4, deadline=None)
def test_units_move_the_ratio_and_nothing_else(data: tuple[Floats, Floats], wd: float, lr: float) -> None:
    curves = [normal(r, p, s) for r, p, s in zip(LRS, *data, strict=True)]
    before, after = line(curves), line([shifted(c, wd, lr) for c in curves])
    assert ends(slope(after)) == pytest.approx(ends(slope(before)), abs=0.03)
    assert ends(intercept_share(after)) == pytest.approx(ends(intercept_share(before)), rel=0.06, abs=0.03)
    moved = np.array(ends(ratio(before))) * wd / lr
    np.testing.assert_allclose(ends(ratio(after)), moved, rtol=0.09)
    same = [ends(r_squared(fit, np.random.default_rng(0))) for fit in (before, after)]
    assert same[1] == pytest.approx(same[0], rel=0.05, abs=0.02)


@given(normal_optima(), st.permutations(range(6)))
@settings(max_examples=4, deadline=None)
def test_the_order_of_the_learning_rates_does_not_matter(data: tuple[Floats, Floats], order: list[int]) -> None:
    curves = [normal(r, p, s) for r, p, s in zip(LRS, *data, strict=True)]
    before, after = line(curves), line([curves[i] for i in order])
    for a, b in zip(all_estimates(before)[:3], all_estimates(after)[:3], strict=True):
        assert ends(b) == pytest.approx(ends(a), abs=1e-6)


@given(st.integers(0, 50), st.floats(-30, 20), st.sampled_from([0.01, 10.0]), st.sampled_from([2.0**-5, 10.0]))
@settings(max_examples=5, deadline=None)
def test_a_landscape_in_other_units_has_the_same_line(seed: int, shift: float, unit: float, wd: float) -> None:
    """Scores shifted and scaled, seed effects added, rows shuffled, weight decays in another unit: end to end."""
    landscape = drawn(Truth(), seed, 3, lrs=LRS_3)
    f = landscape.frame
    effect = np.random.default_rng(seed).normal(0, 4, 3)
    shuffled = changed(landscape, f.assign(score=f["score"] + effect[f["seed"]]).sample(frac=1, random_state=seed))
    before, after = fitted(landscape), fitted(rescaled(shuffled, wd=wd, score=unit, shift=shift))
    assert ends(slope(after)) == pytest.approx(ends(slope(before)), abs=0.05)
    np.testing.assert_allclose(ends(ratio(after)), wd * np.array(ends(ratio(before))), rtol=0.1)


# ---------------------------------------------------------------- landscapes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("b", "n_seeds"),
    [(1.0, 5), (-1.0, 3), *(pytest.param(*more, marks=pytest.mark.long) for more in [(1.0, 3), (0.0, 5)])],
)
def test_coverage_of_slope_ratio_and_intercept(b: float, n_seeds: int) -> None:
    """15 landscapes of a shape that is nobody's assumption: of 15 intervals at 95 % at most binom.ppf(0.999) = 4 may
    miss, and no slope or ratio may be judged wrongly more often than that."""
    truth = Truth(slope=b, shape="asymmetric")
    allowed = stats.binom.ppf(0.999, 15, 0.05)
    missed = {"slope": 0, "rho": 0, "share": 0}
    for seed in range(15):
        fit = fitted(drawn(truth, 300 + seed, n_seeds))
        found = slope(fit), ratio(fit), intercept_share(fit)
        missed["slope"] += not found[0].low <= b <= found[0].high
        missed["rho"] += not found[1].low <= 0.1 <= found[1].high
        if b in (0, 1):  # a line has share 0 or 1; a falling power law is none
            missed["share"] += not found[2].low <= 1 - b <= found[2].high
    assert max(missed.values()) <= allowed


def test_power_at_the_papers_effect_size() -> None:
    """Table 2's drops, SD 0.3 pp, 5 seeds, runs a factor 3 apart: the slope's interval is inside the margin
    [0.8, 1.2] and the ratio's inside a factor 2 in at least 8 of 10 (90 % less the 99.9 % point would be 5)."""
    right = {"slope": 0, "rho": 0}
    for seed in range(10):
        fit = fitted(drawn(Truth(), 400 + seed, 5))
        right["slope"] += slope(fit).low >= 0.8 and slope(fit).high <= 1.2
        right["rho"] += ratio(fit).low >= 0.05 and ratio(fit).high <= 0.2
    assert min(right.values()) >= 8


@pytest.mark.slow
@pytest.mark.parametrize(("grid", "n_seeds"), [(paper_grid, 1), (ratio_grid, 3)])
def test_flat_landscapes_decide_nothing(grid: Grid, n_seeds: int) -> None:
    """10 landscapes without any optimum: at most binom.ppf(0.999, 10, 0.05) = 4 may bound slope or ratio at all, and
    none may put both ends of the slope within one rival's reach."""
    bounded = 0
    for seed in range(10):
        fit = fitted(drawn(Truth(depth=0), 500 + seed, n_seeds, grid))
        found = slope(fit)
        bounded += math.isfinite(found.low) or math.isfinite(found.high)
        assert rivals(fit).supported is None
    assert bounded <= stats.binom.ppf(0.999, 10, 0.05)


def test_the_papers_grid_cannot_tell_the_papers_slope() -> None:
    """The claimed optima of the smaller learning rates lie below the smallest weight decay: open, with the reason."""
    fit = fitted(drawn(Truth(), 0, 5, paper_grid))
    found = slope(fit)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert {"edge-low", "few-optima"} <= set(found.flags)
    assert "weight decays between 0 and 0.001 at lr 5e-05" in found.settle
    assert ratio(fit).high >= 0.1


def test_a_timescale_world_contradicts() -> None:
    truth = Truth(slope=-1, rho=0.1)
    fit = fitted(drawn(truth, 0, 5))
    assert slope(fit).high < 0.8
    assert rivals(fit).supported == "timescale"


def test_the_ratio_is_that_at_the_centre_of_the_learning_rates() -> None:
    fit = fitted(drawn(Truth(slope=0, noise_sd_pp=0.05), 0, 5))
    assert ratio(fit).value == pytest.approx(0.1, rel=0.1)
    assert fit.center == pytest.approx(math.log(CENTER_LR))


@pytest.mark.parametrize(
    "scores",
    [
        {1e-3: {0.1: [70]}},
        {1e-3: {0.1: [70, 71], 0.3: [71, 70]}, 1e-2: {0.1: [70, 71], 0.3: [71, 70]}},
        {1e-3: {0.0: [70, 71], 0.3: [71, 70]}},
        {lr: {wd: [-math.inf, -math.inf] for wd in (0.1, 0.2, 0.3, 0.4)} for lr in LRS},
        {lr: {wd: [1.0, 1.0] for wd in (0.1, 0.2, 0.3, 0.4)} for lr in LRS},
    ],
    ids=["one row", "two weight decays", "zero and one more", "all diverged", "all equal"],
)
def test_landscapes_without_a_curve_have_no_line(scores: dict[float, dict[float, list[float]]]) -> None:
    assert fit_line(optimum_curves(sweep(scores).slices(), np.random.default_rng(0))) is None


@pytest.mark.parametrize(
    "landscape",
    [
        drawn(Truth(), 1, 1),
        drawn(Truth(), 1, 2, lrs=LRS[:1]),
        drawn(Truth(), 1, 2, lrs=LRS[:2]),
        drawn(Truth(rho=1e-4), 1, 2, paper_grid),
        drawn(Truth(rho=1e3), 1, 2, paper_grid),
        drawn(Truth(depth=0, noise_sd_pp=0, seed_sd_pp=0, lr_drop_pp=0), 1, 2, bracket_grid(Truth())),
        drawn(Truth(noise_sd_pp=0, seed_sd_pp=0), 1, 3),
        draw(Truth(), bracket_grid(Truth()), np.random.default_rng(0), missing=0.4),
        draw(Truth(rho=10), paper_grid, np.random.default_rng(0), diverged_above=1e-4),
        rescaled(drawn(Truth(), 2, 3), score=-0.01),
    ],
    ids=[
        "one seed",
        "one lr",
        "two lrs",
        "edge low",
        "edge high",
        "constant",
        "no noise",
        "ragged",
        "diverged",
        "upside down",
    ],
)
def test_odd_landscapes_give_strict_json_with_the_value_inside(landscape: Landscape) -> None:
    fit = fit_line(optimum_curves(landscape.slices(), np.random.default_rng(0)))
    for found in all_estimates(fit) if fit is not None else []:
        assert strict.convert(json.loads(json.dumps(found.to_json(), allow_nan=False)), Estimate) == found
        assert found.value is None or found.low <= found.value <= found.high
        if found.flags and not math.isfinite(found.high - found.low):
            assert found.settle
    if fit is not None:
        json.dumps(strict.plain(rivals(fit)), allow_nan=False)


def test_two_optima_may_lie_at_any_run_that_cannot_be_told_from_the_best() -> None:
    """Two always lie on a line, so none is known from its place on it; three check each other."""
    rng = np.random.default_rng(6)
    wds = np.geomspace(1e-5, 1e-2, 7)
    curves = [
        optimum_curves(
            [one_slice(wds, np.array([60, 66, 69.7, 70, 69.7, 62, 40])[:, None] + 0.4 * rng.standard_normal((7, 3)))],
            np.random.default_rng(0),
        )[0]
        for _ in range(3)
    ]
    at = [dataclasses.replace(curve, lr=lr) for curve, lr in zip(curves, (1e-3, 3e-3, 1e-2), strict=True)]
    two, three = fit_line(at[::2]), fit_line(at)
    assert two is not None and three is not None and all(three.informative)
    widest = fit_line([curve.among_alike() for curve in at[::2]])
    assert widest is not None and (two.loglik == widest.loglik).all()
    plain = sum(float(curve.table.max()) for curve in at)
    assert three.loglik.max() < plain or three.misfit_p > 0.01
