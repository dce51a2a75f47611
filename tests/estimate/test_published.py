"""The paper's own pipeline against brute force, 10,000 draws, statsmodels, scipy and a group-by written afresh."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.oneway import anova_oneway

from replicate.estimate.published import anova, argmax_wds, origin_slope, published_fit, resamples, weighted_percentile
from replicate.landscape.landscape import Landscape, Slice
from replicate.landscape.synthetic import Truth, draw, paper_grid
from tests.support.landscapes import LRS_3, changed, one_slice, rescaled, sweep

Floats = NDArray[np.float64]


def drawn(seed: int, n_seeds: int = 5, truth: Truth | None = None, **options: object) -> Landscape:
    """A landscape whose argmaxes are uncertain: a shallow well on the paper's grid."""
    truth = truth or Truth(rho=5, depth=0.1)
    return draw(truth, paper_grid, np.random.default_rng(seed), seeds=range(n_seeds), **options)  # type: ignore[arg-type]


def equal_shares(n_seeds: int) -> Floats:
    return np.full((1, n_seeds), 1 / n_seeds)


# ---------------------------------------------------------------- the resamples


@pytest.mark.parametrize("n_seeds", [1, 2, 3, 4, 5])
def test_resamples_are_all_there_is(n_seeds: int) -> None:
    """Against every ordered draw: n to the n of them."""
    shares, probability = resamples(n_seeds)
    counted: dict[tuple[int, ...], int] = {}
    for chosen in product(range(n_seeds), repeat=n_seeds):
        key = tuple(np.bincount(chosen, minlength=n_seeds))
        counted[key] = counted.get(key, 0) + 1
    found = {tuple(np.rint(n_seeds * row).astype(int)): p for row, p in zip(shares, probability, strict=True)}
    assert found.keys() == counted.keys()
    for key, times in counted.items():
        assert found[key] == pytest.approx(times / n_seeds**n_seeds)


@pytest.mark.parametrize("n_seeds", range(1, 9))
def test_resamples_are_binomial_in_number_and_sum_to_one(n_seeds: int) -> None:
    shares, probability = resamples(n_seeds)
    assert len(shares) == len(probability) == math.comb(2 * n_seeds - 1, n_seeds)
    assert probability.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(probability @ shares, 1 / n_seeds)


def test_too_many_seeds_to_enumerate() -> None:
    with pytest.raises(ValueError, match=r"exact bootstrap: expected at most 8 seeds \(6,435 resamples\), got 9"):
        resamples(9)


# ---------------------------------------------------------------- argmax


def test_argmax_by_hand() -> None:
    cut = one_slice([0.0, 0.1, 0.3], [[70, 70], [72, 68], [66, 73]])
    shares = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    # The three ties of the first row go to the smallest weight decay that is best: means are 70, 70, 69.5.
    assert argmax_wds([cut, cut], shares).tolist() == [[0.0, 0.0], [0.1, 0.1], [0.3, 0.3]]


def test_argmax_leaves_missing_runs_to_the_other_seeds() -> None:
    cut = one_slice([0.0, 0.1, 0.3], [[70, 70], [math.nan, 71], [math.nan, math.nan]])
    shares = np.array([[0.5, 0.5], [1.0, 0.0]])
    assert argmax_wds([cut], shares).tolist() == [[0.1], [0.0]]


@given(st.integers(0, 10**6), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_argmax_agrees_with_group_by(seed: int, n_seeds: int) -> None:
    landscape = drawn(seed, n_seeds, missing=0.1, lrs=LRS_3)
    means = landscape.frame.groupby(["lr", "wd"])["score"].mean()
    expected = [means[lr].idxmax() for lr in sorted(landscape.frame["lr"].unique())]
    n_seeds = len(landscape.seeds)
    assert argmax_wds(landscape.slices(), equal_shares(n_seeds))[0].tolist() == expected


# ---------------------------------------------------------------- percentiles


def test_weighted_percentile_by_hand() -> None:
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([0.2, 0.5, 0.3])
    assert [weighted_percentile(values, weights, q) for q in (0, 50, 51, 80, 81, 100)] == [1, 1, 2, 2, 3, 3]


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 5)), min_size=1, max_size=9), st.floats(0.1, 100))
@settings(max_examples=60, deadline=None)
def test_weighted_percentile_is_that_of_repeated_values(pairs: list[tuple[int, int]], q: float) -> None:
    values, counts = (np.array(column) for column in zip(*pairs, strict=True))
    expected = np.percentile(np.repeat(values, counts), q, method="inverted_cdf")
    assert weighted_percentile(values.astype(float), 3.0 * counts, q) == expected


# ---------------------------------------------------------------- the whole fit


def written_afresh(landscape: Landscape, seeds: NDArray[np.int64]) -> float:
    """rho of one resample: the drawn seeds' rows stacked, mean by group, argmax, least squares through the origin."""
    f = landscape.frame
    stacked = pd.concat([f[f["seed"] == seed] for seed in seeds])
    means = stacked.groupby(["lr", "wd"])["score"].mean()
    lrs = np.array(sorted(f["lr"].unique()))
    return float(OLS(np.array([means[lr].idxmax() for lr in lrs]), lrs).fit().params[0])


@pytest.mark.parametrize(("n_seeds", "seed"), [(2, 1), (3, 1), (3, 7)])
def test_enumeration_is_the_limit_of_the_bootstrap(n_seeds: int, seed: int) -> None:
    """Every ordered resample, by group-by: the same distribution of rho, so the same interval and p.

    Flat, so that nearly every resample has a rho of its own.
    """
    landscape = drawn(seed, n_seeds, Truth(depth=0))
    every = np.array([written_afresh(landscape, np.array(s)) for s in product(range(n_seeds), repeat=n_seeds)])
    found = published_fit(landscape.slices())
    assert found.rho_low == pytest.approx(np.percentile(every, 2.5, method="inverted_cdf"))
    assert found.rho_high == pytest.approx(np.percentile(every, 97.5, method="inverted_cdf"))
    assert found.rho == pytest.approx(written_afresh(landscape, np.arange(n_seeds)))
    assert len(np.unique(every)) > 1
    expected = 2 * stats.norm.sf(abs(found.rho - 0.10) / every.std())
    assert found.p_rho == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_enumeration_agrees_with_ten_thousand_draws(seed: int) -> None:
    """Dvoretzky-Kiefer-Wolfowitz: with 10,000 draws the distribution functions differ by more than 0.027 once in a
    million times; the percentiles lie between the exact ones at 2.5 and 97.5 +- 2.7 %."""
    landscape = drawn(seed)
    slices = landscape.slices()
    lrs = np.array([s.lr for s in slices])
    drawn_shares = np.random.default_rng(seed).multinomial(5, np.full(5, 0.2), size=10_000) / 5
    by_draws = np.sort(origin_slope(lrs, argmax_wds(slices, drawn_shares)))
    shares, probability = resamples(5)
    exact = origin_slope(lrs, argmax_wds(slices, shares))
    places = np.unique(exact)
    cdf = np.array([probability[exact <= p + 1e-12].sum() for p in places])
    drawn_cdf = np.searchsorted(by_draws, places + 1e-12, side="right") / 10_000
    assert len(places) > 5
    assert np.abs(cdf - drawn_cdf).max() < 0.027
    found = published_fit(slices)
    for end, q in ((found.rho_low, 2.5), (found.rho_high, 97.5)):
        bounds = [weighted_percentile(exact, probability, min(max(q + d, 0), 100)) for d in (-2.7, 2.7)]
        assert bounds[0] <= np.percentile(by_draws, q, method="inverted_cdf") <= bounds[1]
        assert bounds[0] <= end <= bounds[1]


def test_more_seeds_than_can_be_enumerated_are_drawn_and_always_alike() -> None:
    slices = drawn(2, 10).slices()
    found = published_fit(slices)
    assert (found.rho_low, found.rho_high, found.p_rho) == (
        (again := published_fit(slices)).rho_low,
        again.rho_high,
        again.p_rho,
    )
    assert found.rho_low <= found.rho <= found.rho_high


def slices_with_optima(wds: list[float], lrs: list[float]) -> list[Slice]:
    """One seed; the argmax of slice i is wds[i]."""
    grid = sorted({*wds, 0.0, 99.0})
    return [one_slice(grid, [[float(w == best)] for w in grid], lr) for w, best, lr in zip(wds, wds, lrs, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_least_squares_agree_with_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lrs = np.geomspace(1e-4, 1e-2, 6)
    wds = np.round(0.1 * lrs * rng.lognormal(0, 0.4, 6), 9)
    found = published_fit(slices_with_optima(list(wds), list(lrs)))
    assert [best.wd for best in found.argmax] == wds.tolist()
    through_origin = OLS(wds, lrs).fit()
    free = OLS(wds, np.column_stack([np.ones(6), lrs])).fit()
    logs = OLS(np.log(wds), np.column_stack([np.ones(6), np.log(lrs)])).fit()
    assert found.rho == pytest.approx(through_origin.params[0], rel=1e-9)
    assert found.intercept == pytest.approx(free.params[0], rel=1e-6)
    assert found.intercept_p == pytest.approx(free.pvalues[0], rel=1e-6)
    assert found.slope == pytest.approx(logs.params[1], rel=1e-9)
    # Around the mean, as the paper has it; statsmodels' own R² of a line through the origin is around 0.
    assert found.r2 == pytest.approx(1 - through_origin.ssr / free.centered_tss, rel=1e-9)


def test_a_perfect_line() -> None:
    lrs = [1e-4, 1e-3, 1e-2]
    found = published_fit(slices_with_optima([1e-5, 1e-4, 1e-3], lrs))
    assert (found.rho, found.slope, found.r2) == pytest.approx((0.1, 1, 1))
    assert (found.rho_low, found.rho_high) == pytest.approx((0.1, 0.1))
    assert found.p_rho is None  # no resample differs: the paper's test has no standard error


def test_constant_optima() -> None:
    found = published_fit(slices_with_optima([0.1, 0.1, 0.1], [1e-4, 1e-3, 1e-2]))
    assert (found.slope, found.r2) == pytest.approx((0, 0), abs=1e-12)
    assert found.intercept == pytest.approx(0.1)


def test_weight_decay_zero_has_no_logarithm() -> None:
    found = published_fit(slices_with_optima([0.0, 1e-4, 1e-3], [1e-4, 1e-3, 1e-2]))
    assert found.slope is None
    assert math.isfinite(found.rho)


def test_two_learning_rates_leave_no_freedom_for_an_intercept() -> None:
    found = published_fit(slices_with_optima([1e-4, 1e-3], [1e-3, 1e-2]))
    assert found.intercept is None
    assert found.intercept_p is None
    assert found.slope == pytest.approx(1)


@pytest.mark.parametrize("lrs", [[], [1e-3]])
def test_one_learning_rate_is_no_line(lrs: list[float]) -> None:
    with pytest.raises(ValueError, match=f"the paper's fit: expected at least two learning rates, got {len(lrs)}"):
        published_fit(slices_with_optima([0.1] * len(lrs), lrs))


def test_the_edge_of_the_grid_is_taken_as_measured() -> None:
    """What the module says of the method: with the truth far below the grid the paper's slope is still a number."""
    found = published_fit(drawn(0, truth=Truth(rho=0.01, shape="kinked")).slices())
    assert found.rho_low <= found.rho <= found.rho_high
    assert min(best.wd for best in found.argmax) <= 0.001


@given(st.integers(0, 10**6), st.floats(-20, 20), st.floats(0.5, 2))
@settings(max_examples=20, deadline=None)
def test_the_fit_moves_with_its_data(seed: int, shift: float, unit: float) -> None:
    landscape = drawn(seed, 3, lrs=LRS_3)
    f = landscape.frame
    before = published_fit(landscape.slices())
    effect = np.random.default_rng(seed).normal(0, 3, 3)
    shuffled = f.assign(score=unit * f["score"] + shift).sample(frac=1, random_state=seed)
    after = published_fit(changed(landscape, shuffled).slices())
    assert after.argmax == before.argmax
    assert (after.rho_low, after.rho_high) == pytest.approx((before.rho_low, before.rho_high))
    # What a seed adds to all its runs cancels in every resample.
    paired = published_fit(changed(landscape, f.assign(score=f["score"] + effect[f["seed"]])).slices())
    assert (paired.rho, paired.rho_low, paired.rho_high) == pytest.approx((before.rho, before.rho_low, before.rho_high))
    scaled = published_fit(rescaled(landscape, lr=4.0, wd=2.0).slices())
    assert (scaled.rho, scaled.rho_low, scaled.rho_high) == pytest.approx(
        (before.rho / 2, before.rho_low / 2, before.rho_high / 2)
    )
    assert scaled.r2 == pytest.approx(before.r2)
    assert scaled.intercept == pytest.approx(2 * before.intercept, abs=1e-12)


def test_one_seed_has_one_resample() -> None:
    found = published_fit(sweep({lr: {0.1 * lr: 70, lr: 69} for lr in (1e-3, 1e-2)}).slices())
    assert found.rho_low == found.rho == found.rho_high == pytest.approx(0.1)


# ---------------------------------------------------------------- analysis of variance


@given(st.lists(st.lists(st.floats(-50, 50), min_size=2, max_size=6), min_size=2, max_size=5))
@settings(max_examples=60, deadline=None)
def test_anova_agrees_with_scipy_and_statsmodels(rows: list[list[float]]) -> None:
    rng = np.random.default_rng(0)
    groups = [np.array(row) + rng.normal(0, 0.1, len(row)) for row in rows]
    f, p, between, within = anova(groups)
    reference = stats.f_oneway(*groups)
    other = anova_oneway(groups, use_var="equal")
    assert (f, p) == pytest.approx((reference.statistic, reference.pvalue), rel=1e-6, abs=1e-12)
    assert (f, p) == pytest.approx((other.statistic, other.pvalue), rel=1e-6, abs=1e-12)
    assert (between, within) == other.df


def test_anova_of_two_groups_is_the_t_test() -> None:
    a, b = np.array([1.0, 2.0, 4.0]), np.array([2.0, 5.0, 7.0, 8.0])
    f, p, _, _ = anova([a, b])
    t = stats.ttest_ind(a, b)
    assert (f, p) == pytest.approx((t.statistic**2, t.pvalue))


def test_anova_without_scatter() -> None:
    assert anova([np.array([1.0, 1.0]), np.array([2.0, 2.0])]) == (math.inf, 0.0, 1, 2)


@pytest.mark.parametrize("ratio", [[0.1, 0.1], [1e-5 / 1e-4, 3e-5 / 3e-4]])
def test_anova_of_equal_ratios_finds_no_difference(ratio: list[float]) -> None:
    """Every argmax on the line, as in a paper that is right: 3e-5 / 3e-4 is 0.1 but for rounding."""
    assert anova([np.array(ratio), np.array(ratio[::-1]), np.array(ratio[:1] * 2)]) == (0.0, 1.0, 2, 3)


@pytest.mark.parametrize(("sizes", "given"), [([3], (1, 3)), ([1, 1], (2, 2)), ([], (0, 0))])
def test_anova_needs_groups_and_freedom(sizes: list[int], given: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="got {} groups and {} values".format(*given)):
        anova([np.ones(n) for n in sizes])
