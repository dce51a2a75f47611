"""The gap between line and grid: closed forms, brute force, and by simulation how much optimism is left."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from replicate.estimate.gap import (
    SHRINKAGE,
    cross_fitted,
    gap_draws,
    inert,
    mean_over_cells,
    on_line,
    plug_in,
    summarise,
)
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import Truth, draw, paper_grid
from replicate.paper.protocol import LRS, WEIGHT_DECAYS
from tests.support.landscapes import LRS_3, changed, one_slice, rescaled, sweep, together, unit_grid

Floats = NDArray[np.float64]
LINE_AND_GRID = together(paper_grid, unit_grid)
FLAT = Truth(depth=0)


def drawn(truth: Truth, seed: int, n_seeds: int = 5, lrs: tuple[float, ...] = LRS) -> Landscape:
    return draw(truth, LINE_AND_GRID, np.random.default_rng(seed), seeds=range(n_seeds), lrs=lrs)


def draws_of(landscape: Landscape, seed: int = 0) -> Floats:
    found = gap_draws(landscape, WEIGHT_DECAYS, np.random.default_rng(seed))
    assert found is not None
    return found


def true_gap(truth: Truth) -> float:
    grid = max(truth.accuracy(lr, [*WEIGHT_DECAYS, 0.1 * lr])[:-1].max() for lr in LRS)
    return grid - max(float(truth.accuracy(lr, [*WEIGHT_DECAYS, 0.1 * lr])[-1]) for lr in LRS)


SMALL = sweep({
    1e-3: {0.0: [70, 71, 69], 1e-4: [72, 70, 71], 0.1: [74, 70, 71]},
    1e-2: {0.0: [60, 61, 62], 1e-3: [71, 73, 70], 0.1: [50, 50, 50]},
})  # fmt: skip
"""The line is 1e-4 at 1e-3 and 1e-3 at 1e-2; 1e-3 is on the paper's grid as well, 1e-4 is not."""


def test_the_line_is_found_to_within_rounding() -> None:
    cut = one_slice([0.0, 9.9e-5, 1.004e-4, 1e-3], np.zeros((4, 1)))
    assert on_line(cut).tolist() == [False, False, True, False]


# ---------------------------------------------------------------- the paper's gap and the cross-fitted one


def test_plug_in_by_hand() -> None:
    # Grid: 71.67 at (1e-3, 0.1). Line: 71.33 at (1e-2, 1e-3), which beats 71 at (1e-3, 1e-4).
    assert plug_in(SMALL, WEIGHT_DECAYS) == pytest.approx(215 / 3 - 214 / 3)


def test_plug_in_takes_the_seeds_that_are_there() -> None:
    landscape = sweep({1e-3: {1e-4: [70, math.nan], 0.1: [75, -math.inf], 0.3: [-math.inf, -math.inf]}})
    assert plug_in(landscape, WEIGHT_DECAYS) == pytest.approx(5)


def brute_force_cross_fit(landscape: Landscape) -> float:
    """By a table of runs and plain loops."""
    f = landscape.frame
    table = f.pivot_table(index=["lr", "wd"], columns="seed", values="score").dropna()
    ratio = np.array([wd / lr for lr, wd in table.index])
    members = {
        "grid": table[[any(abs(wd - g) < 1e-9 for g in WEIGHT_DECAYS) for _, wd in table.index]],
        "line": table[np.abs(ratio - 0.1) < 1e-3],
    }
    gaps = []
    for seed in table.columns:
        held = {k: m.loc[m.drop(columns=seed).mean(axis=1).idxmax(), seed] for k, m in members.items()}
        gaps.append(held["grid"] - held["line"])
    return float(np.mean(gaps))


@pytest.mark.parametrize("seed", range(5))
def test_cross_fitted_agrees_with_brute_force(seed: int) -> None:
    landscape = drawn(FLAT, seed, n_seeds=3 + seed % 3)
    assert cross_fitted(landscape, WEIGHT_DECAYS) == pytest.approx(brute_force_cross_fit(landscape))


def test_cross_fitted_by_hand() -> None:
    # Without 0: (1e-2, 1e-3) for both. Without 1: (1e-3, 0.1) and (1e-3, 1e-4). Without 2: (1e-3, 0.1), (1e-2, 1e-3).
    assert cross_fitted(SMALL, WEIGHT_DECAYS) == pytest.approx(np.mean([71 - 71, 70 - 70, 71 - 70]))


@pytest.mark.parametrize("method", [plug_in, cross_fitted])
@pytest.mark.parametrize(
    "rows",
    [
        {1e-3: {0.1: [70, 71], 0.3: [70, 72]}},  # no line
        {1e-3: {1e-4: [70, 71]}},  # no grid
        {1e-3: {1e-4: [-math.inf, -math.inf], 0.1: [70, 71]}},  # the line diverged
    ],
)
def test_without_line_or_grid_there_is_no_gap(method: object, rows: dict[float, dict[float, list[float]]]) -> None:
    assert method(sweep(rows), WEIGHT_DECAYS) is None  # type: ignore[operator]


def test_one_seed_cannot_be_cross_fitted() -> None:
    assert cross_fitted(sweep({1e-3: {1e-4: [70], 0.1: [71]}}), WEIGHT_DECAYS) is None


# ---------------------------------------------------------------- draws of the gap


@pytest.mark.parametrize(
    "truth",
    [Truth(), Truth(slope=0, rho=30), Truth(rho=5, lr_drop_pp=0.2), Truth(slope=-1, rho=300, shape="asymmetric")],
)
def test_a_gap_without_noise_is_measured_exactly(truth: Truth) -> None:
    quiet = Truth(**{**truth.__dict__, "noise_sd_pp": 1e-3, "seed_sd_pp": 1e-3})
    found = draws_of(drawn(quiet, 0))
    # Noise below a ten thousandth of the spread of the scores (here up to 74 pp) is not resolved.
    assert found.mean() == pytest.approx(true_gap(truth), abs=0.01)
    assert found.std() < 0.02


def test_a_clear_gap_is_measured_to_within_its_noise() -> None:
    """True gap 2 pp or more: with no near ties there is no optimism, and all three methods agree."""
    truth = Truth(slope=0, rho=30)
    landscape = drawn(truth, 1)
    expected = true_gap(truth)
    assert expected > 2
    for found in (
        np.median(draws_of(landscape)),
        plug_in(landscape, WEIGHT_DECAYS),
        cross_fitted(landscape, WEIGHT_DECAYS),
    ):
        assert found == pytest.approx(expected, abs=0.6)  # 3 * 0.3 * sqrt(2 / 5)


@pytest.mark.parametrize(
    "rows",
    [
        {1e-3: {0.01: [70, 71], 0.1: [70, 71], 0.3: [70, 72]}},  # no line
        {1e-3: {1e-4: [70, 71], 2e-4: [70, 71], 3e-4: [70, 72]}},  # no grid
        {1e-3: {1e-4: [70, 71], 0.1: [70, 71]}},  # two weight decays are no curve
        {1e-3: {1e-4: [-math.inf, -math.inf], 0.01: [1, 2], 0.03: [1, 3], 0.1: [70, 71]}},  # the line diverged
    ],
)
def test_no_draws_without_line_and_grid(rows: dict[float, dict[float, list[float]]]) -> None:
    assert gap_draws(sweep(rows), WEIGHT_DECAYS, np.random.default_rng(0)) is None


def test_no_landscape_has_no_gap() -> None:
    empty = pd.DataFrame({c: [] for c in ("lr", "wd", "seed", "score", "diverged")})
    assert gap_draws(Landscape("a", "d", empty), WEIGHT_DECAYS, np.random.default_rng(0)) is None
    assert plug_in(Landscape("a", "d", empty), WEIGHT_DECAYS) is None
    assert cross_fitted(Landscape("a", "d", empty), WEIGHT_DECAYS) is None


def test_a_learning_rate_that_cannot_be_fitted_is_left_out() -> None:
    whole = drawn(FLAT, 2, lrs=LRS_3)
    f = whole.frame
    broken = changed(whole, f[(f["lr"] != 1e-4) | (f["wd"] == 0.1)])
    rest = changed(whole, f[f["lr"] != 1e-4])
    assert np.median(draws_of(broken)) == pytest.approx(np.median(draws_of(rest)), abs=0.05)


@given(st.integers(0, 20), st.floats(-30, 20), st.floats(0.1, 10))
@settings(max_examples=6, deadline=None)
def test_the_gap_moves_with_its_scores_alone(seed: int, shift: float, unit: float) -> None:
    """A constant leaves it, a unit multiplies it, the order of rows and what seeds share do not matter."""
    landscape = drawn(Truth(rho=5), seed, n_seeds=3, lrs=LRS_3)
    f = landscape.frame
    level = np.random.default_rng(seed).normal(0, 0.2, 3)
    moved = changed(landscape, f.assign(score=unit * (f["score"] + shift)).sample(frac=1, random_state=seed))
    np.testing.assert_allclose(draws_of(moved), unit * draws_of(landscape), rtol=1e-4, atol=1e-5 * unit)
    paired = changed(landscape, f.assign(score=f["score"] + level[f["seed"]]))
    assert plug_in(paired, WEIGHT_DECAYS) == pytest.approx(plug_in(landscape, WEIGHT_DECAYS))
    assert cross_fitted(paired, WEIGHT_DECAYS) == pytest.approx(cross_fitted(landscape, WEIGHT_DECAYS))
    assert plug_in(moved, WEIGHT_DECAYS) == pytest.approx(unit * plug_in(landscape, WEIGHT_DECAYS))


def test_the_gap_does_not_depend_on_the_unit_of_learning_rate_and_weight_decay() -> None:
    landscape = drawn(Truth(rho=5), 3, n_seeds=3, lrs=LRS_3)
    scaled = rescaled(landscape, lr=8.0, wd=8.0)
    found = gap_draws(scaled, [8 * wd for wd in WEIGHT_DECAYS], np.random.default_rng(0))
    np.testing.assert_allclose(found, draws_of(landscape), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_true_gap_of_zero_is_not_reported_as_one() -> None:
    """40 flat landscapes, 5 seeds, SD 0.3 pp: the maximum over 48 noisy means beats that over 6 by 0.21 pp on average.

    Standard errors of the means over landscapes: 0.012 (draws), 0.018 (plug-in), 0.035 (cross-fitted). The interval
    must hold 0 in all but binom.ppf(0.999, 40, 0.05) = 7 of them.
    """
    truth = Truth(depth=0, lr_drop_pp=0.2)
    estimates, plugged, crossed, missed = [], [], [], 0
    for seed in range(40):
        landscape = drawn(truth, seed)
        found = summarise("gap_pp", draws_of(landscape), 5, 5)
        estimates.append(found.value)
        missed += not found.low <= 0 <= found.high
        plugged.append(plug_in(landscape, WEIGHT_DECAYS))
        crossed.append(cross_fitted(landscape, WEIGHT_DECAYS))
    assert np.mean(plugged) > 0.15
    assert np.mean(estimates) < 0.13
    assert np.mean(estimates) < 0.6 * np.mean(plugged)
    assert abs(np.mean(crossed)) < 0.12
    assert missed <= stats.binom.ppf(0.999, 40, 0.05)


# ---------------------------------------------------------------- the summary


def test_summary_is_the_median_and_the_interval_with_its_upper_half_widened() -> None:
    found = summarise("gap_pp", np.arange(1001.0), 7, 5, level=0.9)
    assert (found.value, found.low, found.high) == pytest.approx((500, 50, 500 + SHRINKAGE * 450))
    assert (found.n, found.level) == (7, 0.9)
    assert (found.quantity, found.unit, found.flags) == ("gap_pp", "pp", ())


def test_the_upper_end_is_never_below_the_gap_of_the_raw_means() -> None:
    draws = np.arange(1001.0)
    for plugged, high in ((None, 1040), (-5.0, 1040), (1039.0, 1040), (1050.0, 1050)):
        found = summarise("gap_pp", draws, 7, 5, level=0.9, plug_in=plugged)
        assert (found.value, found.low, found.high) == pytest.approx((500, 50, high))


def test_summary_without_draws_or_seeds_is_unknown() -> None:
    nothing = summarise("gap_pp", None, 5, 5)
    assert (nothing.value, nothing.flags, nothing.settle) == (None, ("no-pairs",), "runs at 0.1 x lr")
    one = summarise("gap_pp", np.zeros(10), 1, 1)
    assert (one.low, one.high, one.flags, one.settle) == (-math.inf, math.inf, ("one-seed",), "a second seed")
    json.dumps([nothing.to_json(), one.to_json()], allow_nan=False)


# ---------------------------------------------------------------- the mean over cells


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_mean_over_cells_is_a_t_interval(level: float) -> None:
    gaps = [0.1, 0.25, -0.05, 0.4]
    found = mean_over_cells(gaps, 4, level)
    low, high = stats.ttest_1samp(gaps, 0).confidence_interval(level)
    assert (found.value, found.low, found.high) == pytest.approx((0.175, low, high))
    assert (found.n, found.level, found.flags) == (4, level, ())
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(("gaps", "cells"), [([], 0), ([0.1], 1), ([0.1, 0.2], 3)])
def test_mean_over_cells_needs_every_cell_and_two_of_them(gaps: list[float], cells: int) -> None:
    found = mean_over_cells(gaps, cells)
    assert (found.value, found.low, found.flags) == (None, -math.inf, ("no-pairs",))
    assert found.settle


def test_the_mean_of_true_gaps_of_zero_is_covered() -> None:
    """12 worlds of five flat cells: 0 is missed at most binom.ppf(0.999, 12, 0.05) = 4 times, and not always above."""
    missed, values = 0, []
    for first in range(0, 60, 5):
        gaps = [cross_fitted(drawn(FLAT, 1000 + first + i, 3), WEIGHT_DECAYS) for i in range(5)]
        found = mean_over_cells([g for g in gaps if g is not None], 5)
        missed += not found.low <= 0 <= found.high
        values.append(found.value)
    assert missed <= stats.binom.ppf(0.999, 12, 0.05)
    assert abs(np.mean(values)) < 0.11  # three standard errors of 60 cross-fitted gaps, 0.27 pp each


@pytest.mark.parametrize(("taken", "expected"), [(0.001, True), (0.5, False)])
def test_where_no_decay_moves_the_weights_nothing_was_compared(taken: float, expected: bool) -> None:
    """What is compared at the best learning rate counts, for grid and line alike."""
    landscape = drawn(Truth(depth=0.0, lr_drop_pp=2.0), 0, 3)
    assert not inert(landscape, WEIGHT_DECAYS), "unknown"
    means = landscape.frame.groupby("lr")["score"].mean()
    at_best = landscape.frame["lr"] == means.idxmax()
    frame = landscape.frame.assign(shrinkage=np.where(at_best, taken, 0.9))
    assert inert(dataclasses.replace(landscape, frame=frame), WEIGHT_DECAYS) == expected
