"""Drops at wrong ratios: closed forms, scipy's t tests, jackknife, coverage, and cells in which runs are missing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from replicate.estimate import deviation
from replicate.estimate.deviation import asymmetry, cell_drops, cells_interval, drop, least
from replicate.estimate.growth import exponent as growth_exponent
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import SHAPES, Truth, draw, ratio_grid
from replicate.paper.protocol import LRS, RHO
from tests.support.landscapes import changed, rescaled, sweep

Floats = NDArray[np.float64]
OTHERS = (0.1, 0.2, 0.5, 2.0, 5.0, 10.0)


def exact(shape: str = "quadratic", **truth: float) -> Landscape:
    """Table 2's grid without noise."""
    made = Truth(shape=shape, seed_sd_pp=0, noise_sd_pp=0, **truth)
    return draw(made, ratio_grid, np.random.default_rng(0))


def noisy(seed: int = 0, n_seeds: int = 4, lrs: tuple[float, ...] = LRS) -> Landscape:
    return draw(Truth(), ratio_grid, np.random.default_rng(seed), seeds=range(n_seeds), lrs=lrs)


def at(landscape: Landscape, kappa: float) -> NDArray[np.bool_]:
    """Which rows were run at kappa times the claimed weight decay."""
    f = landscape.frame
    return np.isclose(f["wd"], kappa * RHO * f["lr"], rtol=6e-3)


def some_drops(means: dict[float, float], sd: float, seed: int, cells: int = 1, n_seeds: int = 5) -> deviation.Drops:
    rng = np.random.default_rng(seed)
    return {k: [m + rng.normal(0, sd, n_seeds) for _ in range(cells)] for k, m in means.items()}


# ---------------------------------------------------------------- drops of a cell


@pytest.mark.parametrize("shape", ["quadratic", "asymmetric", "table-2"])
def test_drops_of_a_noiseless_cell_are_its_shape(shape: str) -> None:
    found = cell_drops(exact(shape))
    assert tuple(found) == OTHERS
    for kappa, values in found.items():
        np.testing.assert_allclose(values, SHAPES[shape](np.log(kappa)), rtol=6e-3)


def test_a_drop_is_the_mean_over_learning_rates_of_paired_differences() -> None:
    landscape = sweep({1e-3: {1e-5: [60, 61], 1e-4: [70, 72]}, 1e-2: {1e-4: [50, 57], 1e-3: [53, 54]}})
    found = cell_drops(landscape)
    np.testing.assert_allclose(found[0.1], [(10 + 3) / 2, (11 - 3) / 2])
    assert np.isnan(found[10.0]).all()


def test_weight_decays_rounded_to_three_digits_are_found() -> None:
    lr = 3.33e-4
    landscape = sweep({lr: {float(f"{k * RHO * lr:.3g}"): [70 - k, 71 - k] for k in (*OTHERS, 1.0)}})
    for kappa, values in cell_drops(landscape).items():
        np.testing.assert_allclose(values, kappa - 1)


def test_a_weight_decay_one_per_cent_off_is_another_one() -> None:
    landscape = sweep({1e-3: {1e-4: [70, 70], 1.01e-3: [60, 60]}})
    assert np.isnan(cell_drops(landscape)[10.0]).all()


def test_a_missing_pair_does_not_tilt_the_mean_over_learning_rates() -> None:
    """The learning rates differ by 10 pp in drop; a seed that lacks one of them is not 5 pp off."""
    rows = {1e-3: {1e-4: [70, 70, 70], 1e-3: [60, 60, 60]}, 1e-2: {1e-3: [70, 70, 70], 1e-2: [50, 50, math.nan]}}
    np.testing.assert_allclose(cell_drops(sweep(rows))[10.0], [15, 15, 15])
    rows[1e-3][1e-4][2] = math.nan
    np.testing.assert_allclose(cell_drops(sweep(rows))[10.0], [15, 15, math.nan])


def test_a_seed_that_lacks_pairs_keeps_its_distance_from_the_others() -> None:
    """Means over seeds 2 and 4.5. The last seed is 1 above the first of them, which is half of what it would be of two:
    filled in, (3 + 4.5) / 2 = 3.75, it is 0.5 above the seeds' mean of 3.25; drawn out again, 1."""
    rows = {1e-3: {1e-4: [70, 70, 70], 1e-3: [69, 68, 67]}, 1e-2: {1e-3: [70, 70, 70], 1e-2: [66, 65, math.nan]}}
    np.testing.assert_allclose(cell_drops(sweep(rows))[10.0], [2.5, 3.5, 4.25])


def test_seeds_that_lack_pairs_scatter_as_single_runs_do() -> None:
    """Half of the pairs missing at random: the variance of each seed's mean goes with one over its own pairs.

    20,000 seeds of six learning rates; 5 % is four standard errors of a variance of a seventh of them.
    """
    rng = np.random.default_rng(0)
    table = np.where(rng.random((6, 20_000)) < 0.5, np.nan, rng.normal(0, 1, (6, 20_000)) + np.arange(6.0)[:, None])
    found, pairs = deviation.seed_means(table), np.isfinite(table).sum(axis=0)
    assert np.isnan(found[pairs == 0]).all()
    for n in range(1, 7):
        values = found[pairs == n]
        assert values.mean() == pytest.approx(2.5, abs=4 / math.sqrt(n * len(values)))
        if len(values) > 1000:
            assert values.var() == pytest.approx(1 / n, rel=0.1 if n in (1, 5) else 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "expected"), [(0.0, 0.95), (0.1, 0.94), (0.2, 0.92)])
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_drops_of_cells_with_holes_are_covered(missing: float, expected: float, n_seeds: int) -> None:
    """500 times five cells: runs missing at random, at a fifth a third of the pairs. 3.3 pp are three standard errors.

    Filling holes in without drawing the seeds out again covers 89 and 76 %.
    """
    rng = np.random.default_rng(int(100 * missing) + n_seeds)
    inside = 0
    for _ in range(500):
        runs = rng.normal(0, 0.3, (5, 2, len(LRS), n_seeds))
        runs[rng.random(runs.shape) < missing] = math.nan
        tables = [cell[0] - cell[1] for cell in runs]
        cells = [deviation.seed_means(t[np.isfinite(t).any(axis=1)]) for t in tables]
        _, low, high, _ = cells_interval(cells, 0.95)
        inside += low <= 0 <= high
    assert expected - 0.033 < inside / 500 < 0.985


def test_drops_of_a_landscape_with_holes_are_covered() -> None:
    """60 cells, six drops each with a fifth of the runs missing: about 200 independent intervals in effect."""
    truth = {k: v.mean() for k, v in cell_drops(exact("table-2")).items()}
    inside = []
    for seed in range(60):
        cell = cell_drops(draw(Truth(), ratio_grid, np.random.default_rng(seed), missing=0.2))
        for kappa, expected in truth.items():
            _, low, high, _ = cells_interval([cell[kappa]], 0.95)
            inside.append(low <= expected <= high)
    assert np.mean(inside) > 0.93 - 0.05


@pytest.mark.parametrize("lost", [math.nan, -math.inf])
def test_a_learning_rate_without_the_claimed_weight_decay_has_no_drop(lost: float) -> None:
    landscape = sweep({1e-3: {1e-4: [70, 70], 1e-3: [60, 60]}, 1e-2: {1e-3: [lost, lost], 1e-2: [50, 50]}})
    np.testing.assert_allclose(cell_drops(landscape)[10.0], 10)


def test_nothing_measured_gives_nan() -> None:
    for values in cell_drops(sweep({1e-3: {0.3: [70, 71]}})).values():
        assert values.shape == (2,)
        assert np.isnan(values).all()


@given(st.integers(0, 50), st.floats(-20, 20))
@settings(max_examples=15, deadline=None)
def test_drops_see_differences_within_a_seed_alone(seed: int, shift: float) -> None:
    """A constant, the seeds' own level at each learning rate, and the order of rows leave no trace."""
    landscape = noisy(seed)
    f = landscape.frame
    effect = np.random.default_rng(seed).normal(0, 5, (len(LRS), 4))
    level = effect[np.searchsorted(sorted(LRS), f["lr"]), f["seed"]]
    moved = f.assign(score=f["score"] + shift + level).sample(frac=1, random_state=seed)
    before, after = cell_drops(landscape), cell_drops(changed(landscape, moved))
    assert before.keys() == after.keys()
    for kappa in before:
        np.testing.assert_allclose(after[kappa], before[kappa], atol=1e-9)


def test_drops_depend_on_the_ratio_alone() -> None:
    before, after = cell_drops(noisy()), cell_drops(rescaled(noisy(), lr=7.0, wd=7.0))
    for kappa in OTHERS:
        np.testing.assert_allclose(after[kappa], before[kappa])


# ---------------------------------------------------------------- intervals of means over cells


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_one_cell_is_a_paired_t_interval(level: float) -> None:
    landscape = noisy(lrs=(1e-3,))
    f = landscape.frame
    pair = [f[at(landscape, k)].sort_values("seed")["score"].to_numpy() for k in (1.0, 5.0)]
    reference = stats.ttest_rel(*pair)
    low, high = reference.confidence_interval(level)
    mean, found_low, found_high, n = cells_interval([cell_drops(landscape)[5.0]], level)
    assert (mean, found_low, found_high, n) == pytest.approx((np.mean(pair[0] - pair[1]), low, high, 4))


def test_two_cells_are_welchs_interval() -> None:
    """The mean of a and b is half the difference of a and -b."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(1, 0.2, 4), rng.normal(3, 1.5, 7)
    low, high = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    assert cells_interval([a, b], 0.95)[1:3] == pytest.approx((low / 2, high / 2))


def test_cells_weigh_the_same_whatever_their_seeds() -> None:
    mean, _, _, n = cells_interval(
        [np.array([1.0, 1.2, math.nan, 1.1]), np.full(3, math.nan), np.array([5.0, 6.0])], 0.9
    )
    assert (mean, n) == (pytest.approx((1.1 + 5.5) / 2), 5)


def test_one_seed_bounds_nothing_and_equal_seeds_leave_no_doubt() -> None:
    assert cells_interval([np.array([1.0])], 0.95) == (1.0, -math.inf, math.inf, 1)
    assert cells_interval([np.array([1.0, 1.1]), np.array([3.0])], 0.95)[1:3] == (-math.inf, math.inf)
    assert cells_interval([np.full(3, 2.0)], 0.95) == (2.0, 2.0, 2.0, 3)


@pytest.mark.parametrize(("cells", "n_seeds"), [(1, 3), (5, 3), (5, 5), (5, 10)])
def test_coverage_of_a_mean_over_cells(cells: int, n_seeds: int) -> None:
    """1,500 draws of cells whose noise differs threefold; 94 % less three standard errors (0.6 pp each) is 92.2 %.

    Satterthwaite's approximation is exact for one cell and errs to the safe side for a few.
    """
    rng = np.random.default_rng(cells + n_seeds)
    sd = np.linspace(0.15, 0.45, cells)[:, None]
    inside = 0
    for values in rng.normal(0, 1, (1500, cells, n_seeds)) * sd:
        _, low, high, _ = cells_interval(list(values), 0.95)
        inside += low <= 0 <= high
    assert 0.922 < inside / 1500 < 0.99


# ---------------------------------------------------------------- the drop at one kappa


def test_drop_is_simultaneous_over_its_family() -> None:
    drops = some_drops({5.0: 2.0}, 0.3, 0)
    found = drop(drops, 5.0, level=0.95, family=6)
    values = drops[5.0][0]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(1 - 0.05 / 6)
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert (found.quantity, found.unit, found.level, found.n, found.flags) == ("drop_pp", "pp", 0.95, 5, ())
    alone = drop(drops, 5.0, family=1)
    assert found.low < alone.low < alone.high < found.high


def test_all_six_drops_are_covered_together() -> None:
    """300 cells of one shared reference and six rows: all six inside in 95 % or more; 99.9 % point of the binomial."""
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(300):
        reference = rng.normal(0, 0.3, 5)
        drops = {k: [reference - rng.normal(0, 0.3, 5)] for k in OTHERS}
        missed += any(not (e := drop(drops, k)).low <= 0 <= e.high for k in OTHERS)
    assert missed <= stats.binom.ppf(0.999, 300, 0.05)


@pytest.mark.parametrize("drops", [{}, {5.0: []}, {5.0: [np.full(3, math.nan)]}])
def test_drop_without_pairs_is_unknown(drops: deviation.Drops) -> None:
    found = drop(drops, 5.0)
    assert (found.value, found.low, found.flags, found.settle) == (None, -math.inf, ("no-pairs",), "runs at kappa 5")


def test_drop_of_one_seed_says_so() -> None:
    found = drop({5.0: [np.array([2.0])]}, 5.0)
    assert (found.value, found.low, found.high) == (2.0, -math.inf, math.inf)
    assert (found.flags, found.settle) == (("one-seed",), "a second seed")


# ---------------------------------------------------------------- the smallest of several


def test_least_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([0.4, 0.5, 0.6])
    found = least("zone_pp", [("a", 1.0, [a], 0.0), ("b", -1.0, [b], 1.2)])
    plain = [stats.ttest_1samp(v, 0).confidence_interval(0.95) for v in (a, 1.2 - b)]
    strict = [stats.ttest_1samp(v, 0).confidence_interval(0.975) for v in (a, 1.2 - b)]
    assert found.value == pytest.approx(0.7)
    assert found.low == pytest.approx(min(p.low for p in plain))  # that of a, though b is smaller
    assert found.high == pytest.approx(min(p.high for p in strict))
    assert found.details.smallest == "b"
    assert found.details.terms == pytest.approx({"a": 2.0, "b": 0.7})


def test_least_needs_every_term() -> None:
    found = least("zone_pp", [("kappa 2", 1.0, [np.ones(3)], 0.0), ("kappa 5", 1.0, [np.full(3, math.nan)], 0.0)])
    assert (found.value, found.flags, found.settle) == (None, ("no-pairs",), "runs at kappa 5")


def test_least_of_one_seed_says_nothing() -> None:
    found = least("hurts_pp", [("a", 1.0, [np.array([3.0])], 0.0)])
    assert (found.low, found.high, found.flags) == (-math.inf, math.inf, ("one-seed",))


def test_least_errs_as_seldom_as_it_says() -> None:
    """Six terms, the smallest of them 0. An end above it may happen in 2.5 %, one below it in 5 %: 99.9 % points."""
    rng = np.random.default_rng(4)
    n, above, below = 400, 0, 0
    for _ in range(n):
        found = least("zone_pp", [(str(m), 1.0, [m + rng.normal(0, 0.3, 5)], 0.0) for m in (0, 0, 0.1, 0.5, 1, 2)])
        above += found.low > 0
        below += found.high < 0
    assert above <= stats.binom.ppf(0.999, n, 0.025)
    assert below <= stats.binom.ppf(0.999, n, 0.05)


def powers(p: float, c: float = 1.0) -> dict[float, float]:
    return {k: c * abs(math.log(k)) ** p for k in OTHERS}


# ---------------------------------------------------------------- asymmetry

PAIRS = ((2.0, 0.5), (5.0, 0.2), (10.0, 0.1))


def tilted(by: float, sd: float, seed: int, cells: int = 1, n_seeds: int = 5) -> deviation.Drops:
    """Drops whose asymmetry is `by` at each pair."""
    return some_drops({k: max(math.log(k), 0) and by for k in OTHERS}, sd, seed, cells, n_seeds)


def shape_drops(shape: str, **truth: float) -> deviation.Drops:
    return {k: [v] for k, v in cell_drops(exact(shape, **truth)).items()}


def mirrored(drops: deviation.Drops) -> deviation.Drops:
    return {1 / k: v for k, v in drops.items()}


@pytest.mark.parametrize("sign", [1, -1])
def test_asymmetry_by_hand(sign: int) -> None:
    drops = {10.0: [np.array([4.0, 5.0])], 0.1: [np.array([3.0, 3.0])], 5.0: [np.array([2.0, 3.0])]}
    drops |= {0.2: [np.array([2.0, 2.0])], 2.0: [np.array([1.0, 1.0])], 0.5: [np.array([0.5, 1.0])]}
    here = np.array([(1 + 0 + 0.5) / 3, (2 + 1 + 0) / 3])
    there = np.array([0.1, 0.3, 0.2])
    others = tilted(0.0, 0.0, 0, n_seeds=3) | {10.0 if sign > 0 else 0.1: [3 * there]}
    found = asymmetry(drops, others)

    def half_width(values: Floats, level: float) -> float:
        interval = stats.ttest_1samp(values, 0).confidence_interval(level)
        return float(interval.high - interval.low) / 2

    # The lower end at 95 %, the upper one at 97.5 %; errors of a difference add up squared. Of the other data set only
    # the absolute value counts, so its sign leaves all ends where they are.
    here_95, here_97, there_95, there_97 = (half_width(v, at) for v in (here, there) for at in (0.95, 0.975))
    assert found.value == pytest.approx(0.75 - 0.2)
    assert found.low == pytest.approx(min(0.75 - here_95, 0.55 - math.hypot(here_95, there_95)))
    assert found.high == pytest.approx(min(0.75 + here_97, 0.55 + math.hypot(here_97, there_97)))
    assert found.details.asymmetry_pp == pytest.approx(0.75)
    assert found.details.excess_over_the_other_pp == pytest.approx(0.55)
    assert (found.n, found.level, found.flags, found.unit) == (2, 0.95, (), "pp")


def test_asymmetry_of_known_shapes() -> None:
    """The lopsided well costs 0.75 pp more per squared unit; a parabola off its centre by a tilts by -2.48 a ln k."""
    squares = np.mean([np.log(k) ** 2 for k in (2, 5, 10)])
    even = shape_drops("quadratic")
    assert asymmetry(even, even).value == pytest.approx(0, abs=0.02)
    assert asymmetry(shape_drops("asymmetric"), even).value == pytest.approx(0.75 * squares, rel=0.01)
    for factor in (1.5, 2 / 3):
        off = shape_drops("quadratic", rho=factor * RHO)
        tilt = -2.48 * math.log(factor) * np.mean(np.log([2, 5, 10]))
        assert asymmetry(off, even).details.asymmetry_pp == pytest.approx(tilt, rel=0.02)
        found = asymmetry(shape_drops("asymmetric"), off)
        assert found.value == pytest.approx(0.75 * squares - abs(tilt), rel=0.03)
        assert asymmetry(off, shape_drops("asymmetric")).value == pytest.approx(
            min(tilt, abs(tilt) - 0.75 * squares if tilt > 0 else tilt - 0.75 * squares), rel=0.03
        )


@given(st.integers(0, 10**6), st.floats(-2, 2), st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_asymmetry_laws(seed: int, tilt: float, unit: float) -> None:
    """Mirroring the other data set changes nothing, mirroring this one changes its sign, a unit multiplies all."""
    drops, others = tilted(1.0, 0.3, seed, cells=3), tilted(tilt, 0.3, seed + 1, cells=2)
    found = asymmetry(drops, others)
    same = asymmetry(drops, mirrored(others))
    assert (same.value, same.low, same.high) == pytest.approx((found.value, found.low, found.high))
    back = asymmetry(mirrored(drops), others)
    assert back.details.asymmetry_pp == pytest.approx(-found.details.asymmetry_pp)
    scaled = asymmetry(*({k: [unit * v for v in cells] for k, cells in d.items()} for d in (drops, others)))
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx(
        (unit * found.value, unit * found.low, unit * found.high)
    )
    assert found.value == pytest.approx(min(found.details.asymmetry_pp, found.details.excess_over_the_other_pp))


@pytest.mark.slow
@pytest.mark.parametrize(("here", "there"), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (1.0, -1.0), (0.3, -0.5)])
def test_asymmetry_errs_as_seldom_as_it_says(here: float, there: float) -> None:
    """The lower end above the truth in 2.5 %, the upper end below it in 5 %: 99.9 % points of the binomial."""
    n, above, below, truth = 300, 0, 0, min(here, here - abs(there))
    for seed in range(n):
        found = asymmetry(tilted(here, 0.3, 2 * seed, cells=5), tilted(there, 0.3, 2 * seed + 1, cells=5))
        above += found.low > truth
        below += found.high < truth
    assert above <= stats.binom.ppf(0.999, n, 0.025)
    assert below <= stats.binom.ppf(0.999, n, 0.05)


def test_asymmetry_takes_the_pairs_that_were_asked_for() -> None:
    drops = {2.0: [np.array([2.0, 3.0])], 0.5: [np.array([1.0, 1.0])], 5.0: [np.ones(2)]}
    assert asymmetry(drops, tilted(0.2, 0.0, 0)).value == pytest.approx(1.5 - 0.2)


@pytest.mark.parametrize("drops", [{}, {10.0: [np.ones(3)]}, {10.0: [np.full(3, math.nan)], 0.1: [np.ones(3)]}])
def test_asymmetry_without_pairs_is_unknown(drops: deviation.Drops) -> None:
    for pair in ((drops, tilted(1.0, 0.3, 0)), (tilted(1.0, 0.3, 0), drops)):
        found = asymmetry(*pair)
        assert (found.value, found.low, found.high, found.flags) == (None, -math.inf, math.inf, ("no-pairs",))
        assert found.settle == "runs at kappa and 1 / kappa on both data sets"


@pytest.mark.parametrize("lost", [k for pair in PAIRS for k in pair])
def test_a_pair_that_diverged_everywhere_leaves_the_asymmetry_unknown(lost: float) -> None:
    """Two of the three pairs would be another quantity than the one of the other data set."""
    drops = {**tilted(1.0, 0.3, 0), lost: [np.full(5, math.nan)]}
    assert asymmetry(drops, tilted(0.0, 0.3, 1)).flags == ("no-pairs",)


def test_asymmetry_of_one_seed_says_so() -> None:
    one, more = tilted(1.0, 0.3, 0, n_seeds=1), tilted(1.0, 0.3, 1)
    for pair in ((one, more), (more, one), (one, one)):
        found = asymmetry(*pair)
        assert (found.low, found.flags) == (-math.inf, ("one-seed",))
        assert found.value is not None


# ---------------------------------------------------------------- a cell in which a whole kappa diverged


@pytest.mark.parametrize("broken", [0, 1])
def test_a_cell_without_one_kappa_stays_in_its_place(broken: int) -> None:
    """All runs at kappa = 10 of one cell diverged: the cells' other values are not mixed up, and nothing crashes."""
    landscapes = [noisy(0), noisy(1)]
    lost = at(landscapes[broken], 10.0)
    f = landscapes[broken].frame
    landscapes[broken] = changed(landscapes[broken], f.assign(score=f["score"].mask(lost), diverged=lost))
    cells = [cell_drops(landscape) for landscape in landscapes]
    drops = {k: [cell[k] for cell in cells] for k in OTHERS}
    whole = {k: [cells[1 - broken][k]] for k in OTHERS}
    assert drop(drops, 10.0).value == pytest.approx(whole[10.0][0].mean())
    assert drop(drops, 5.0).value == pytest.approx(np.mean([c[5.0].mean() for c in cells]))
    others = tilted(0.2, 0.1, 0)
    assert asymmetry(drops, others) == asymmetry(whole, others)
    assert asymmetry(others, drops) == asymmetry(others, whole)
    assert math.isfinite(growth_exponent({"x": drops}).high)


@pytest.mark.parametrize("n_seeds", [1, 2, 5])
def test_every_estimate_is_strict_json_with_its_value_inside(n_seeds: int) -> None:
    drops = some_drops(powers(2.0), 0.1, 1, cells=2, n_seeds=n_seeds)
    terms = [(str(k), 1.0, v, 0.0) for k, v in drops.items()]
    for found in (drop(drops, 5.0), least("zone_pp", terms), growth_exponent({"x": drops}), asymmetry(drops, drops)):
        json.dumps(found.to_json(), allow_nan=False)
        assert found.value is None or found.low <= found.value <= found.high
