"""The best weight decay of one learning rate: where it is known, where it is open, how often the interval is right."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from replicate.estimate.accuracy_curve import accuracy_draws
from replicate.estimate.line_fit import BOUNDED_DEVIANCE
from replicate.estimate.optimum import FLOOR, STEP, OptimumCurve, optimum_curves
from replicate.estimate.plateau import FLAT_TOP, flat_top
from replicate.judging.sweep_verdicts import judge_sweep
from replicate.landscape.landscape import Landscape, Slice
from replicate.landscape.synthetic import Truth, bracket_grid, draw, paper_grid
from tests.support import landscapes
from tests.support.landscapes import LRS_3, changed, one_slice, optimum_grid, rescaled

Floats = NDArray[np.float64]
CHI2 = float(stats.chi2.ppf(0.95, 1))
PLACES = np.linspace(-25, 10, 701)
WDS = tuple(float(f"{w:.4g}") for w in np.geomspace(1e-3, 1.0, 7))
drawn = partial(landscapes.drawn, lrs=LRS_3)
QUIET = {"seed_sd_pp": 1e-3, "noise_sd_pp": 1e-3}


def curves(landscape: Landscape, seed: int = 0) -> list[OptimumCurve]:
    return optimum_curves(landscape.slices(), np.random.default_rng(seed))


def curve(wds: Sequence[float], scores: ArrayLike, seed: int = 0) -> OptimumCurve:
    (found,) = optimum_curves([one_slice(wds, scores)], np.random.default_rng(seed))
    return found


def well(wds: Sequence[float], best: float, n_seeds: int = 4, noise: float = 0.1, depth: float = 0.6) -> Floats:
    """A quadratic well at `best`, [W, S]; weight decay 0 far below."""
    x = np.log(np.maximum(wds, 1e-7) / best)
    noises = np.random.default_rng(3).normal(0, noise, (len(wds), n_seeds))
    return np.asarray(75 - depth * x[:, None] ** 2 + noises)


def same(a: OptimumCurve, b: OptimumCurve, shift: float = 0.0) -> None:
    """`b` is `a`, `shift` further right: the likelihood, the interval and the best place."""
    moved = (np.array(a.interval(CHI2)) + shift, a.best + shift)
    assert b.best == pytest.approx(moved[1], abs=1.5 * STEP)
    assert b.interval(CHI2) == pytest.approx(tuple(moved[0]), abs=1.5 * STEP)
    # Half a step off the grid's own points, where rounding decides; at those in between the tables agree.
    places = a.start + STEP * np.arange(-5, len(a.table) + 5) + STEP / 4
    np.testing.assert_allclose(b.at(places + shift), a.at(places), atol=0.05)


# ---------------------------------------------------------------- where the answer is known


@pytest.mark.parametrize("best", [3e-3, 0.01, 0.07, 0.3])
def test_a_clear_well_is_found_between_the_runs(best: float) -> None:
    found = curve(WDS, well(WDS, best))
    assert found.best == pytest.approx(math.log(best), abs=0.25)  # the runs are 1.15 apart
    low, high = found.interval(CHI2)
    assert low < math.log(best) < high
    assert high - low < 1.7  # where the best run is the last but one, the peak may be anywhere beside the last one
    assert found.flags == ()


@pytest.mark.parametrize("shape", ["table-2", "quadratic", "quartic", "kinked", "asymmetric", "skewed", "cliff"])
def test_without_noise_the_optimum_lies_within_the_spacing_of_the_runs(shape: str) -> None:
    truth = Truth(shape=shape, **QUIET)
    for found in curves(drawn(truth, 0)):
        assert found.best == pytest.approx(math.log(truth.best_wd(found.lr)), abs=math.log(3) / 2)


@pytest.mark.parametrize(("best", "side"), [(1e-5, "low"), (1e3, "high")])
def test_an_optimum_beyond_the_grid_is_open_on_that_side(best: float, side: str) -> None:
    found = curve(WDS, well(WDS, best))
    low, high = found.interval(CHI2)
    if side == "low":
        assert low == -math.inf
        assert high < math.log(WDS[2])
        assert found.best < math.log(WDS[1])
    else:
        assert low > math.log(WDS[-3])
        assert high == math.inf
        assert found.best > math.log(WDS[-2]) - STEP


def test_beyond_the_grid_all_places_are_alike() -> None:
    """What lies past the last run is one place: the data cannot tell how far."""
    found = curve(WDS, well(WDS, 1e3))
    past = found.at(np.array([0.5, 3.0, 50.0, math.inf]))
    assert np.ptp(past) == 0
    assert past[0] == found.table[-1]
    before = found.at(np.array([-math.inf, -50.0, -10.0]))
    assert np.ptp(before) == 0
    assert before[0] == found.table[0]
    assert past[0] > before[0] + CHI2 / 2


def test_a_flat_slice_says_nothing() -> None:
    """30 flat slices: the interval is the whole line in at least as many as a 95 % interval leaves (99.9 % point), and
    no place is much less likely than the likeliest, on average."""
    landscapes = [drawn(Truth(depth=0), seed, 5, paper_grid) for seed in range(10)]
    found = [c for landscape in landscapes for c in curves(landscape)]
    assert len(found) == 30
    bounded = sum(bool(np.isfinite(c.interval(CHI2)).any()) for c in found)
    assert bounded <= stats.binom.ppf(0.999, 30, 0.05)
    places = [-9.0, *np.linspace(math.log(0.0012), math.log(0.29), 5), 9.0]
    shares = np.mean([np.exp(c.at(np.array(places)) - c.table.max()) for c in found], axis=0)
    assert (shares > 0.5).all()


@pytest.mark.parametrize("n_seeds", [3, 5])
def test_a_plateau_before_a_cliff_is_no_optimum(n_seeds: int) -> None:
    """Beside a steep fall a smooth curve shows a summit that no run has seen; the optimum stays open towards 0."""
    truth = Truth(shape="plateau", depth=4.0)
    landscapes = [drawn(truth, seed, n_seeds, optimum_grid(truth)) for seed in range(8)]
    found = [c for landscape in landscapes for c in curves(landscape)]
    bounded = sum(bool(np.isfinite(c.interval(CHI2)[0])) for c in found)
    assert bounded <= stats.binom.ppf(0.999, len(found), 0.05)
    assert all(np.isfinite(c.interval(CHI2)[1]) for c in found)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_equal_scores_say_nothing(n_seeds: int) -> None:
    """Nothing was learnt (chance level), or all was (100 %): not several measurements, so no curve."""
    assert optimum_curves([one_slice(WDS, np.full((7, n_seeds), 1.0))], np.random.default_rng(0)) == []


def test_more_runs_say_more() -> None:
    widths = [np.ptp(curve(WDS, well(WDS, 0.05, n, noise=0.5)).interval(CHI2)) for n in (2, 20)]
    assert widths[1] < 0.7 * widths[0]


@given(st.floats(0.1, 20), st.floats(0.1, 20))
@settings(max_examples=10, deadline=None)
def test_more_certainty_takes_a_wider_interval(a: float, b: float) -> None:
    found = curve(WDS, well(WDS, 0.05, noise=0.5))
    narrow, wide = (found.interval(d) for d in sorted((a, b)))
    assert wide[0] <= narrow[0] <= found.best <= narrow[1] <= wide[1]


def test_the_interval_is_where_the_likelihood_is_high() -> None:
    found = curve(WDS, well(WDS, 0.05, noise=0.5))
    low, high = found.interval(CHI2)
    inside, outside = (
        found.at(np.array([low + STEP, high - STEP])),
        found.at(np.array([low - 2 * STEP, high + 2 * STEP])),
    )
    level = found.at(np.array([found.best]))[0] - CHI2 / 2
    assert (inside >= level - 0.1).all()
    assert (outside < level).all()


# ---------------------------------------------------------------- divergence, missing runs, weight decay 0


def lost(wds: Sequence[float], scores: Floats, gone: Floats) -> Slice:
    return Slice(1e-3, np.array(wds), np.where(gone, np.nan, scores), np.asarray(gone, dtype=bool))


def test_divergence_bounds_the_optimum_from_above() -> None:
    """Accuracy rises up to the last run that trains; the next one diverges, so the optimum lies before it."""
    gone = np.zeros((7, 4), dtype=bool)
    gone[5:] = True
    (found,) = optimum_curves([lost(WDS, well(WDS, 3.0), gone)], np.random.default_rng(0))
    low, high = found.interval(CHI2)
    assert math.log(WDS[2]) < low < high == pytest.approx(math.log(WDS[5]))
    assert (
        found.at(np.array([math.log(WDS[5]) + 0.01]))[0] < found.at(np.array([math.log(WDS[5]) - 0.01]))[0] - CHI2 / 2
    )
    assert found.flags == ("diverged",)


def test_divergence_bounds_the_optimum_from_below() -> None:
    gone = np.zeros((7, 4), dtype=bool)
    gone[:2] = True
    (found,) = optimum_curves([lost(WDS, well(WDS, 1e-4), gone)], np.random.default_rng(0))
    assert found.interval(CHI2)[0] == pytest.approx(math.log(WDS[1]))


def test_a_run_that_diverges_now_and_then_is_used() -> None:
    gone = np.zeros((7, 4), dtype=bool)
    gone[3, 0] = True
    scores = well(WDS, WDS[3])
    (found,) = optimum_curves([lost(WDS, scores, gone)], np.random.default_rng(0))
    assert found.best == pytest.approx(math.log(WDS[3]), abs=0.3)
    assert found.flags == ("diverged",)
    # Three seeds of four: it is not.
    gone[3, :3] = True
    (without,) = optimum_curves([lost(WDS, scores, gone)], np.random.default_rng(0))
    assert np.ptp(without.interval(CHI2)) > np.ptp(found.interval(CHI2))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_missing(odd: float) -> None:
    scores = well(WDS, 0.05)
    holes = scores.copy()
    holes[2, 1] = odd
    holes[6] = odd
    holed = curve(WDS, holes)
    scores[2, 1] = math.nan
    same(curve(WDS[:6], scores[:6]), holed)


@pytest.mark.parametrize(
    ("wds", "scores"),
    [
        ((0.1,), [[70, 71]]),
        ((0.1, 0.3), [[70, 71], [71, 72]]),
        ((0.0, 0.1), [[70, 71], [71, 72]]),
        ((0.1, 0.2, 0.3), [[70, 71], [math.nan, math.nan], [71, 72]]),
        ((0.1, 0.2, 0.3), np.full((3, 2), math.nan)),
        ((0.0, 1e-9, 1e-8, 0.1), [[70, 71]] * 3 + [[71, 72]]),  # decay that cannot act: two trainings in all
    ],
)
def test_fewer_than_three_weight_decays_are_no_curve(wds: Sequence[float], scores: ArrayLike) -> None:
    assert optimum_curves([one_slice(wds, scores)], np.random.default_rng(0)) == []


def test_nothing_gives_nothing() -> None:
    assert optimum_curves([], np.random.default_rng(0)) == []
    assert accuracy_draws([], np.random.default_rng(0), 5) == []
    empty = pd.DataFrame({c: [] for c in ("lr", "wd", "seed", "score", "diverged")})
    assert curves(Landscape("a", "d", empty)) == []


def test_weight_decay_zero_alone_is_best_means_open_below() -> None:
    wds = (0.0, *WDS)
    scores = well(WDS, 1e-6)
    found = curve(wds, np.vstack([scores[:1] + 3, scores]))
    assert found.interval(CHI2)[0] == -math.inf
    assert found.best == -math.inf


def test_weight_decay_zero_does_not_bend_the_curve_between_the_others() -> None:
    scores = well(WDS, 0.05)
    plain, with_zero = curve(WDS, scores), curve((0.0, *WDS), np.vstack([scores[:1] - 9, scores]))
    assert with_zero.best == pytest.approx(plain.best, abs=0.1)
    assert with_zero.interval(CHI2) == pytest.approx(plain.interval(CHI2), abs=0.2)


def test_one_training_under_several_weight_decays_is_one_measurement() -> None:
    """Too small to act in float32: 0, 1e-9 and 1e-3 are the same runs, so the smaller two add nothing."""
    scores = well(WDS, 0.05)
    repeated = curve((1e-9, 1e-5, *WDS), np.vstack([scores[:1], scores[:1], scores]))
    same(curve(WDS, scores), repeated)


def test_one_seed_uses_the_scatter_around_smooth_curves() -> None:
    """Smooth slices locate their optimum from one seed each; rough ones, of the same range, say less."""
    smooth, rough = (
        [one_slice(WDS, well(WDS, 0.05 * k, 1, noise), k * 1e-3) for k in (1, 2, 4)] for noise in (0.02, 1.5)
    )
    widths = [[np.ptp(c.interval(CHI2)) for c in optimum_curves(s, np.random.default_rng(0))] for s in (smooth, rough)]
    assert np.median(widths[0]) < 1.2
    assert min(widths[1]) > 2 * max(widths[0])


@pytest.mark.slow
def test_a_learning_rate_of_a_few_noisy_runs_is_not_taken_to_be_as_quiet_as_the_others() -> None:
    """One seed, and decay does nothing: runs differ by 0.001 pp at some learning rates and by 1 pp at others."""
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        slices = [one_slice(WDS[:3], 70 + rng.normal(0, sd, (3, 1)), lr) for lr, sd in LRS_OF_NOISE.items()]
        found += [np.isfinite(c.interval(CHI2)).any() for c in optimum_curves(slices, rng)]
    assert np.mean(found) < 0.02


LRS_OF_NOISE = {1e-4: 1e-3, 3e-4: 1e-3, 1e-3: 1e-3, 3e-3: 1.0, 1e-2: 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("sd", [0.1, 0.3])
def test_a_noise_that_is_known_is_taken(sd: float) -> None:
    """With one seed it tells what the scatter around smooth curves cannot; and the optima are covered."""
    covered, widths = [], []
    for seed in range(12):
        landscape = drawn(Truth(shape="quadratic", noise_sd_pp=sd), seed, 1)
        known, unknown = (
            optimum_curves(dataclasses.replace(landscape, noise_sd=noise).slices(), np.random.default_rng(0))
            for noise in (sd, None)
        )
        for a, b in zip(known, unknown, strict=True):
            low, high = a.interval(CHI2)
            covered.append(low <= math.log(0.1 * a.lr) <= high)
            widths.append((high - low, b.interval(CHI2)[1] - b.interval(CHI2)[0]))
    assert np.mean(covered) > 0.9
    of_known, of_unknown = np.array(widths).T
    assert np.median(of_known) < np.median(of_unknown)


def test_all_seeds_alike() -> None:
    """No scatter at all between seeds: the curve is the measurement."""
    once = well(WDS, 0.05, 1, noise=0)
    found = curve(WDS, np.repeat(once, 4, axis=1))
    assert found.best == pytest.approx(math.log(0.05), abs=math.log(WDS[1] / WDS[0]) / 2)
    assert np.isfinite(found.table).all()


# ---------------------------------------------------------------- laws


@given(st.integers(0, 50), st.floats(-30, 20), st.sampled_from([0.01, 0.5, 10.0]))
@settings(max_examples=6, deadline=None)
def test_the_unit_and_zero_of_the_scores_do_not_matter(seed: int, shift: float, unit: float) -> None:
    """Percent, fraction or minus a loss."""
    landscape = drawn(Truth(), seed)
    for before, after in zip(curves(landscape), curves(rescaled(landscape, score=unit, shift=shift)), strict=True):
        same(before, after)


@given(st.integers(0, 50))
@settings(max_examples=5, deadline=None)
def test_what_a_seed_adds_to_all_its_runs_does_not_matter(seed: int) -> None:
    landscape = drawn(Truth(), seed)
    f = landscape.frame
    effect = np.random.default_rng(seed).normal(0, 4, (3, 3))
    level = effect[np.searchsorted(LRS_3, f["lr"]), f["seed"]]
    shuffled = f.assign(score=f["score"] + level).sample(frac=1, random_state=seed)
    for before, after in zip(curves(landscape), curves(changed(landscape, shuffled)), strict=True):
        same(before, after)


@given(st.integers(0, 50), st.sampled_from([2.0**-7, 0.3, 10.0]), st.sampled_from([0.01, 7.0]))
@settings(max_examples=6, deadline=None)
def test_the_units_of_weight_decay_and_learning_rate_shift_the_curve(seed: int, wd: float, lr: float) -> None:
    landscape = drawn(Truth(), seed)
    for before, after in zip(curves(landscape), curves(rescaled(landscape, lr=lr, wd=wd)), strict=True):
        same(before, after, shift=math.log(wd))
        assert after.lr == pytest.approx(lr * before.lr)


def test_the_same_generator_gives_the_same_curve() -> None:
    landscape = drawn(Truth(), 0)
    for a, b in zip(curves(landscape, 5), curves(landscape, 5), strict=True):
        np.testing.assert_array_equal(a.table, b.table)


def test_another_generator_gives_nearly_the_same_curve() -> None:
    """The draws are many enough: ends of the interval move by less than a tenth of the spacing of the runs."""
    landscape = drawn(Truth(), 1)
    for a, b in zip(curves(landscape, 1), curves(landscape, 2), strict=True):
        assert b.interval(CHI2) == pytest.approx(a.interval(CHI2), abs=0.1 * math.log(3))


# ---------------------------------------------------------------- coverage


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["table-2", "asymmetric", "kinked"])
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_the_interval_holds_the_best_weight_decay(shape: str, n_seeds: int) -> None:
    """20 landscapes of 3 learning rates, none of these shapes the estimator's own: of 60 intervals at 95 % at most
    binom.ppf(0.999, 60, 0.05) = 9 may miss. Of a lopsided shape a tenth more: its peak is placed to one side, which
    a ratio pays for and a single learning rate does not."""
    truth = Truth(shape=shape)
    missed = 0
    for seed in range(20):
        for found in curves(drawn(truth, 100 + seed, n_seeds)):
            low, high = found.interval(CHI2)
            missed += not low <= math.log(truth.best_wd(found.lr)) <= high
    assert missed <= stats.binom.ppf(0.999, 60, 0.15 if shape == "asymmetric" else 0.05)


# ---------------------------------------------------------------- draws of the accuracy


def test_draws_are_centred_on_the_measurements_and_no_wider() -> None:
    """Smooth curve, 0.3 pp, 5 seeds: within three standard errors of each mean, and pooled, so less scattered."""
    landscape = drawn(Truth(seed_sd_pp=0), 2, 5)
    slices = landscape.slices()
    for cut, table in zip(slices, accuracy_draws(slices, np.random.default_rng(0), 4000), strict=True):
        error = 0.3 / math.sqrt(5)
        assert table.shape == (4000, len(cut.wds))
        assert (np.abs(table.mean(axis=0) - cut.scores.mean(axis=1)) < 3 * error).all()
        assert (table.std(axis=0) < 1.5 * error).all()


def test_draws_follow_a_curve_of_thousands_of_standard_errors() -> None:
    """A lopsided well over the paper's grid, 60 pp high and measured to 0.003 pp, is not flattened by any prior."""
    landscape = drawn(Truth(shape="asymmetric", noise_sd_pp=0.003, seed_sd_pp=0), 1, 3, paper_grid, lrs=(1e-3,))
    (cut,) = landscape.slices()
    assert np.ptp(cut.scores) > 5000 * 0.003
    (table,) = accuracy_draws([cut], np.random.default_rng(0), 400)
    assert (np.abs(table.mean(axis=0) - cut.scores.mean(axis=1)) < 0.003).all()


def test_draws_cover_the_true_accuracy() -> None:
    """20 landscapes, 3 learning rates, 7 weight decays, neighbours correlated: about 150 independent values in effect,
    so a share of 95 % has a standard error of 1.8 pp; 88 % is four of them below."""
    truth = Truth()
    inside = []
    for seed in range(20):
        slices = drawn(truth, 200 + seed, 5).slices()
        for cut, table in zip(slices, accuracy_draws(slices, np.random.default_rng(seed), 500), strict=True):
            low, high = np.quantile(table, [0.025, 0.975], axis=0)
            expected = truth.accuracy(cut.lr, list(cut.wds))
            inside.append((low <= expected) & (expected <= high))
    assert np.mean(inside) > 0.88


def test_draws_share_what_the_seeds_share() -> None:
    """Seeds that differ by 2 pp everywhere: each accuracy is uncertain by 2 / sqrt(5), their differences are not."""
    cut = one_slice(WDS, well(WDS, 0.05, 1, 0) + np.array([-3, -1, 0, 1, 3]) + well(WDS, 0.05, 5, 0.01) * 1e-9)
    (table,) = accuracy_draws([cut], np.random.default_rng(0), 4000)
    level = np.std([-3, -1, 0, 1, 3], ddof=1) / math.sqrt(5)
    np.testing.assert_allclose(table.std(axis=0), level, rtol=0.05)
    assert (table - table[:, :1]).std(axis=0).max() < 0.05


def test_draws_where_nothing_can_be_fitted_or_training_diverged() -> None:
    gone = np.zeros((7, 4), dtype=bool)
    gone[6] = True
    short = one_slice([0.1, 0.3], [[70, 71], [71, 72]])
    first, second = accuracy_draws([lost(WDS, well(WDS, 0.05), gone), short], np.random.default_rng(0), 10)
    assert np.isfinite(first[:, :6]).all()
    assert np.isnan(first[:, 6]).all()
    assert second.shape == (10, 2)
    assert np.isnan(second).all()


def test_equal_measurements_have_equal_draws() -> None:
    scores = well(WDS, 0.05)
    (table,) = accuracy_draws(
        [one_slice((0.0, 1e-9, *WDS), np.vstack([scores[:1], scores[:1], scores]))], np.random.default_rng(0), 20
    )
    np.testing.assert_array_equal(table[:, 0], table[:, 2])
    np.testing.assert_array_equal(table[:, 1], table[:, 2])


@pytest.mark.parametrize(("low", "high"), [(0.1, 10.0), (1.0, 100.0), (0.01, 1.0)])
@pytest.mark.parametrize("sd", [0.0, 0.3])
def test_equals_between_two_cliffs_are_a_set_and_no_summit(low: float, high: float, sd: float) -> None:
    """All weight decays from low to high are equally good: the interval holds all of them, not the middle alone."""
    rng = np.random.default_rng(3)
    wds = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
    scores = [[(90.0 if low <= wd <= high else 40.0) + sd * rng.normal() for _ in range(3)] for wd in wds]
    (curve,) = optimum_curves([one_slice(wds, scores)], rng)
    found = curve.interval(float(stats.chi2.ppf(0.95, 1)))
    assert found[0] <= math.log(low) + 0.05
    assert found[1] >= math.log(high) - 0.05


@pytest.mark.slow
def test_a_few_repeated_runs_do_not_make_the_noise_known() -> None:
    """One seed everywhere, and a second at three weight decays of one learning rate that happen to agree."""
    truth = Truth(depth=0.0)
    for start in range(3):
        rng = np.random.default_rng([7, start])
        found = draw(truth, bracket_grid(truth), rng, seeds=range(2))
        frame = found.frame
        few = (frame["lr"] == 1e-3) & (frame["wd"].rank(method="dense") <= frame["wd"].rank(method="dense").median())
        frame = frame[(frame["seed"] == 0) | few].copy()
        second = (frame["seed"] == 1).to_numpy()
        first = frame[frame["seed"] == 0].set_index(["lr", "wd"])["score"]
        places = list(zip(frame["lr"][second], frame["wd"][second], strict=True))
        frame.loc[second, "score"] = [first[place] + 1e-3 for place in places]
        curves = optimum_curves(Landscape("a", "b", frame.reset_index(drop=True)).slices(), rng)
        assert not any(np.isfinite(curve.interval(CHI2)).all() for curve in curves)


@pytest.mark.slow
@pytest.mark.parametrize("one_seed_a_part", [False, True])
def test_parts_that_share_no_seed_are_not_compared_as_though_they_did(one_seed_a_part: bool) -> None:
    """Flat landscapes; the upper weight decays have other seeds, whose levels differ: nothing bounds an optimum."""
    truth = Truth(depth=0.0, seed_sd_pp=2.0, noise_sd_pp=0.1)
    bounded = []
    for seed in range(12):
        found = drawn(truth, seed, 2 if one_seed_a_part else 4)
        frame = found.frame
        upper = frame.groupby("lr")["wd"].rank(method="dense") > 3
        kept = frame["seed"].ge(1 if one_seed_a_part else 2) == upper
        parts = Landscape("a", "b", frame[kept].reset_index(drop=True))
        bounded += [bool(np.isfinite(c.interval(BOUNDED_DEVIANCE)).any()) for c in curves(parts)]
    assert np.mean(bounded) < 0.05


def table_of(*log_likelihood: float, ceiling: float = math.inf, floor: float = -math.inf) -> OptimumCurve:
    table = np.array(log_likelihood)
    return OptimumCurve(1e-3, -2.0, table, np.zeros(1), ceiling, floor, 1.0, 0.0, 0.0, (), math.nan)


@pytest.mark.parametrize(
    ("found", "best"),
    [
        (table_of(-9, -1, 0, -1, -9), -2 + STEP),
        (table_of(-9, *[-1] * 3, *[0] * 21, *[-1] * 3, -9), -2 + 13 * STEP),
        (table_of(0, -1, -1, -9), -math.inf),
        (table_of(0, -1, -1, -9, floor=-4), -3),
        (table_of(-9, -1, -1, 0, ceiling=1), (-2 + STEP + 1) / 2),
        (table_of(-9, -1, 0, 0, ceiling=1), (-2 + STEP + 1) / 2),
        (table_of(0, 0, -1, -9, floor=-4), -3),
        (table_of(-9, -1, 0, 0), math.inf),
        (table_of(*[0] * 13), -2 + 5 * STEP),
        (table_of(*[0] * 13, floor=-4, ceiling=1), -1.5),
    ],
)
def test_of_equally_likely_places_the_middle_is_the_best(found: OptimumCurve, best: float) -> None:
    assert found.best == pytest.approx(best)


def test_minus_infinity_lies_below_a_grid_without_a_floor_whatever_its_ceiling() -> None:
    doubt = float(np.log(FLOOR))
    found = table_of(-0.5, -9, 0, -9, -9, ceiling=1)
    assert found.at(np.array([-math.inf, 0.0, 2.0, math.inf])) == pytest.approx([-0.5, -9, doubt, doubt])
    floored = table_of(-9, -9, 0, -9, -0.5, floor=-4)
    assert floored.at(np.array([math.inf, -5.0, -math.inf])) == pytest.approx([-0.5, doubt, doubt])


@pytest.mark.parametrize("phase", [-0.5, -0.25, 0.0, 0.3, 0.5])
@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_where_a_bottom_ends(phase: float, factor: float) -> None:
    """Where accuracy falls with the square from there; further out with too few runs in the fall. A peak is narrow."""
    x = (np.arange(-3, 4) + phase) * math.log(factor)
    low, high = flat_top(x, -1.25 * np.maximum(np.abs(x) - math.log(2), 0) ** 2)
    assert low <= -math.log(2) + 0.2
    assert high >= math.log(2) - 0.2
    if factor == 3:
        assert (low, high) == pytest.approx((-math.log(2), math.log(2)), abs=0.2)
    low, high = flat_top(x, -0.6 * x**2)
    assert abs(low) < 0.2
    assert abs(high) < 0.2
    assert high - low < FLAT_TOP - 0.3
    low, high = flat_top(x, -1.4 * np.abs(x))
    assert high - low < FLAT_TOP


@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_a_bottom_knows_no_units_and_no_direction(seed: int, unit: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x, mean = np.arange(6) * 1.1, rng.normal(70, 1, 6)
    low, high = flat_top(x, mean)
    assert flat_top(x + shift, unit * mean - 3) == pytest.approx((low + shift, high + shift), abs=1e-6)
    assert flat_top(-x[::-1], mean[::-1]) == pytest.approx((-high, -low), abs=1e-9)


def test_a_flat_bottom_within_a_factor_two_is_a_set() -> None:
    truth = Truth(shape="tolerance", **QUIET)
    for found in curves(drawn(truth, 0)):
        centre = math.log(truth.best_wd(found.lr))
        low, high = found.interval(CHI2)
        assert low <= centre - math.log(2) + 0.25
        assert high >= centre + math.log(2) - 0.25
        assert found.single is None


def cell(*per_lr: Floats) -> list[OptimumCurve]:
    """Curves of one cell: scores [W, S] of each learning rate, at weight decays `WDS`."""
    slices = [Slice(1e-3 * (i + 1), np.array(WDS), s, np.zeros(s.shape, dtype=bool)) for i, s in enumerate(per_lr)]
    return optimum_curves(slices, np.random.default_rng(0))


def test_a_bottom_is_as_flat_as_those_of_most_other_learning_rates() -> None:
    """Where it is closed, like theirs; open ones neither widen others nor are widened."""
    x = np.log(np.array(WDS) / WDS[3])
    noise = np.random.default_rng(5).normal(0, 0.02, (7, 4))
    flat = 70 - 1.25 * np.maximum(np.abs(x) - math.log(2), 0)[:, None] ** 2 + noise
    peak = well(WDS, WDS[3], noise=0.02)
    rising = 70 + 0.5 * x[:, None] + noise
    plateau = 70 + 0 * x[:, None] + noise
    alone = cell(peak, peak, peak)[0]
    assert alone.single is not None
    assert cell(peak, flat, flat, flat)[0].single is None
    assert cell(peak, peak, peak, flat)[0].single is not None
    for is_open in (rising, plateau):
        assert cell(peak, peak, is_open, is_open, is_open)[0].single == pytest.approx(alone.single, abs=0.3)


def flags_of(scores: Floats, chance_pp: float = 0.0) -> tuple[str, ...]:
    (found,) = optimum_curves(
        [Slice(1e-3, np.array(WDS), scores, np.zeros(scores.shape, dtype=bool), chance_pp)], np.random.default_rng(0)
    )
    return found.flags


@pytest.mark.parametrize(("top", "flags"), [(98.5, ()), (99.9, ("ceiling",))])
def test_accuracies_near_100_are_flagged(top: float, flags: tuple[str, ...]) -> None:
    assert flags_of(well(WDS, WDS[3], noise=0.02) - 75 + top) == flags


@pytest.mark.parametrize(("chance_pp", "flags"), [(0.0, ()), (1.0, ()), (10.0, ("chance",))])
def test_accuracies_at_chance_are_flagged_where_chance_is_known(chance_pp: float, flags: tuple[str, ...]) -> None:
    assert flags_of(well(WDS, WDS[3], noise=0.02) - 75 + 15, chance_pp) == flags


@pytest.mark.parametrize("n_seeds", [3, 5])
def test_a_stray_weight_decay_is_flagged_and_a_single_peak_is_not(n_seeds: int) -> None:
    for seed in range(10):
        scores = well(WDS, WDS[3], noise=0.02)[:, :1] + np.random.default_rng(seed).normal(0, 0.3, (7, n_seeds))
        assert "two-peaks" not in flags_of(scores)
        scores[4] -= 6
        assert "two-peaks" in flags_of(scores)


def test_flags_of_a_learning_rate_reach_every_estimate_and_verdict() -> None:
    """A flag of scores that a data set of ten classes could have by guessing."""
    made = draw(Truth(peak_pp=18.0, lr_drop_pp=0.0), bracket_grid(Truth()), np.random.default_rng(0))
    for chance_pp, flagged in ((0.0, False), (10.0, True), (0.0, False)):
        (cell,) = judge_sweep([dataclasses.replace(made, chance_pp=chance_pp)])
        for name in ("rho", "slope", "intercept", "r2"):
            assert ("chance" in cell.measured[name].flags) == flagged
            assert ("chance" in cell.verdicts[name].reason) == flagged


def test_among_runs_that_cannot_be_told_apart_all_places_are_alike() -> None:
    rng = np.random.default_rng(5)
    scores = np.array([60, 66, 69.6, 70, 69.7, 62, 40])[:, None] + 0.4 * rng.standard_normal((7, 3))
    (curve,) = optimum_curves([one_slice(WDS, scores)], np.random.default_rng(0))
    assert len(curve.alike) >= 2
    wide = curve.among_alike()
    x = curve.fitted.points.x[list(curve.alike)] if curve.fitted is not None else np.zeros(0)
    assert np.ptp(wide.at(np.linspace(x[0], x[-1], 9))) == 0
    low, high = wide.interval(CHI2)
    assert low <= x[0] + STEP and high >= x[-1] - STEP
    beyond = np.array([x[0] - 1.0, x[-1] + 1.0])
    assert (wide.at(beyond) == curve.at(beyond)).all()
    bare = dataclasses.replace(curve, fitted=None)
    assert bare.among_alike() is bare
