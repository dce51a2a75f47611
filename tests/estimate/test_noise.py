"""Noise: the additive fit against least squares, limma's moderation derived afresh, the chi-squared interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import optimize, special, stats
from scipy.sparse import csgraph
from statsmodels.regression.linear_model import OLS

from replicate.estimate.noise import (
    _linked,
    additive_fit,
    covariance_of_means,
    level_covariance,
    level_variance_between,
    moderated_variance,
    parts_apart,
    seed_sd,
    variances_by_slice,
)

Floats = NDArray[np.float64]
SIZES = st.tuples(st.integers(2, 7), st.integers(2, 5), st.integers(0, 10**6))


def drawn(n_wd: int, n_seed: int, seed: int, missing: float = 0.0) -> Floats:
    """Scores with row and seed effects; row 0 and seed 0 are complete, so that everything stays linked."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(70, 3, (n_wd, 1)) + rng.normal(0, 1, (1, n_seed)) + rng.normal(0, 0.3, (n_wd, n_seed))
    holes = rng.random(scores.shape) < missing
    holes[0], holes[:, 0] = False, False
    return np.where(holes, np.nan, scores)


def least_squares(scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Row means at the average seed, sum of squared residuals and degrees of freedom of each row, by statsmodels."""
    w, s = np.nonzero(np.isfinite(scores))
    n_wd, n_seed = scores.shape
    # Rows as dummies; seeds as deviations that sum to 0.
    deviations = np.vstack([np.eye(n_seed - 1), -np.ones(n_seed - 1)])
    fit = OLS(scores[w, s], np.hstack([np.eye(n_wd)[w], deviations[s]])).fit()
    left = 1 - fit.get_influence().hat_matrix_diag
    return (
        fit.params[:n_wd],
        np.bincount(w, weights=fit.resid**2, minlength=n_wd),
        np.bincount(w, weights=left, minlength=n_wd),
    )


# ---------------------------------------------------------------- the additive fit


def test_two_by_two_by_hand() -> None:
    fit = additive_fit(np.array([[70.0, 72.0], [71.0, 75.0]]))
    np.testing.assert_allclose(fit.mean, [71, 73])
    # Residuals are +-0.5 everywhere, and each row has (2 - 1)(1 - 1/2) = 1/2 degree of freedom.
    np.testing.assert_allclose(fit.residual_variance, [1.0, 1.0])
    np.testing.assert_allclose(fit.dof, [0.5, 0.5])
    # Seed effects are -1.5 and 1.5: variance 4.5, over two seeds.
    assert fit.level_variance == pytest.approx(2.25)
    assert fit.count.tolist() == [2, 2]


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(2, 2), (5, 3), (8, 5), (3, 10)])
def test_agrees_with_ordinary_least_squares(shape: tuple[int, int], missing: float) -> None:
    scores = drawn(*shape, seed=sum(shape), missing=missing)
    fit = additive_fit(scores)
    mean, squares, dof = least_squares(scores)
    np.testing.assert_allclose(fit.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(fit.dof, dof, atol=1e-10)
    known = dof > 1e-9
    np.testing.assert_allclose(fit.residual_variance[known], squares[known] / dof[known], rtol=1e-8)
    assert np.isnan(fit.residual_variance[~known]).all()
    assert fit.count.tolist() == np.isfinite(scores).sum(axis=1).tolist()


def test_unbalanced_means_are_compared_at_the_average_seed() -> None:
    """Seed 1 is 4 pp better throughout; the row that lacks it is not 2 pp worse."""
    fit = additive_fit(np.array([[70.0, 74.0], [70.0, np.nan], [70.0, 74.0]]))
    np.testing.assert_allclose(fit.mean, [72, 72, 72])


def test_rows_without_a_common_seed_keep_their_means() -> None:
    """Every run has a seed of its own, as in a sweep that draws seeds: means and scatter of each row by itself."""
    scores = np.full((3, 8), np.nan)
    scores[0, :3], scores[1, 3:6], scores[2, 6:] = [69, 70, 71], [70, 72, 74], [71, 71]
    fit = additive_fit(scores)
    np.testing.assert_allclose(fit.mean, [70, 72, 71])
    np.testing.assert_allclose(fit.dof, [2, 2, 1])
    np.testing.assert_allclose(fit.residual_variance, [1, 4, 0], atol=1e-12)


def test_blocks_of_rows_with_seeds_of_their_own_keep_their_means() -> None:
    """Two nights' worth of runs, other seeds each: paired within a night, means over the night's seeds between."""
    first, second = drawn(3, 2, 1), drawn(4, 3, 2)
    scores = np.full((7, 5), np.nan)
    scores[:3, :2], scores[3:, 2:] = first, second
    fit = additive_fit(scores)
    np.testing.assert_allclose(fit.mean, np.concatenate([first.mean(axis=1), second.mean(axis=1)]))
    apart = additive_fit(first), additive_fit(second)
    np.testing.assert_allclose(fit.residual_variance, np.concatenate([a.residual_variance for a in apart]))
    np.testing.assert_allclose(fit.dof, np.concatenate([a.dof for a in apart]))


def test_one_seed_leaves_the_noise_unknown() -> None:
    fit = additive_fit(np.array([[70.0], [71.0], [72.0]]))
    assert fit.mean.tolist() == [70, 71, 72]
    assert np.isnan(fit.residual_variance).all()
    assert fit.dof.tolist() == [0, 0, 0]
    assert fit.level_variance == 0


def test_one_score_a_row_leaves_the_noise_unknown() -> None:
    fit = additive_fit(np.array([[70.0, np.nan], [np.nan, 71.0]]))
    assert fit.mean.tolist() == [70, 71]
    assert np.isnan(fit.residual_variance).all()


@pytest.mark.parametrize("row", [[70.0, 71.0, 75.0], [70.0, 71.0, np.nan]])
def test_one_row_cannot_tell_seeds_from_noise(row: list[float]) -> None:
    fit = additive_fit(np.array([row]))
    np.testing.assert_allclose(fit.mean, [np.nanmean(row)])
    assert np.isnan(fit.residual_variance).all()


def test_equal_scores_have_no_noise() -> None:
    fit = additive_fit(np.full((4, 3), 70.0))
    np.testing.assert_allclose(fit.residual_variance, 0, atol=1e-20)
    assert fit.level_variance == pytest.approx(0)


@given(SIZES, st.floats(-50, 50), st.sampled_from([0.0, 0.3]))
@settings(max_examples=40, deadline=None)
def test_shifts_and_seed_effects_move_the_means_alone(size: tuple[int, int, int], shift: float, missing: float) -> None:
    scores = drawn(*size, missing=missing)
    effect = np.random.default_rng(size[2] + 1).normal(0, 5, size[1])
    before, after = additive_fit(scores), additive_fit(scores + shift + effect)
    np.testing.assert_allclose(after.mean, before.mean + shift + effect.mean(), atol=1e-8)
    np.testing.assert_allclose(after.residual_variance, before.residual_variance, atol=1e-8)
    np.testing.assert_allclose(after.dof, before.dof, atol=1e-9)
    if missing == 0:
        # The seeds' spread is that of their means, added effect included.
        expected = np.var(scores.mean(axis=0) + effect, ddof=1) / size[1]
        assert after.level_variance == pytest.approx(expected, rel=1e-8)


@given(SIZES, st.sampled_from([0.0, 0.3]))
@settings(max_examples=30, deadline=None)
def test_order_of_rows_and_seeds_does_not_matter(size: tuple[int, int, int], missing: float) -> None:
    scores = drawn(*size, missing=missing)
    rng = np.random.default_rng(size[2])
    rows, columns = rng.permutation(size[0]), rng.permutation(size[1])
    before, after = additive_fit(scores), additive_fit(scores[rows][:, columns])
    np.testing.assert_allclose(after.mean, before.mean[rows], rtol=1e-10)
    np.testing.assert_allclose(after.residual_variance, before.residual_variance[rows], rtol=1e-6, atol=1e-10)
    assert after.level_variance == pytest.approx(before.level_variance, rel=1e-8)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_residual_variance_is_unbiased(missing: float) -> None:
    """Mean over rows and landscapes of variance / 0.09, weighted by degrees of freedom.

    Under normal noise the weighted mean is chi-squared over its dof, so its standard deviation is sqrt(2 / dof).
    """
    fits = [additive_fit(drawn(6, 4, seed, missing)) for seed in range(150)]
    dof = np.concatenate([f.dof for f in fits])
    known = dof > 1e-9
    ratio = np.concatenate([f.residual_variance for f in fits])[known] @ dof[known] / dof.sum() / 0.09
    assert abs(ratio - 1) < 3 * np.sqrt(2 / dof.sum())


# ---------------------------------------------------------------- the covariance of the means


def holes(n_wd: int, n_seed: int, seed: int, share: float = 0.35) -> NDArray[np.bool_]:
    """Where scores are missing; every row keeps one."""
    rng = np.random.default_rng(seed)
    missing = rng.random((n_wd, n_seed)) < share
    missing[np.arange(n_wd), rng.integers(0, n_seed, n_wd)] = False
    return missing


def centred(covariance: Floats) -> Floats:
    keep = np.eye(len(covariance)) - 1 / len(covariance)
    return np.asarray(keep @ covariance @ keep)


def among(n_wd: int) -> Floats:
    """Covariance of one seed's runs: variances that differ, neighbours alike."""
    sd = np.linspace(0.2, 0.5, n_wd)
    near = np.exp(-np.abs(np.subtract.outer(np.arange(n_wd), np.arange(n_wd))) / 2)
    return np.asarray(np.outer(sd, sd) * near)


def simulated(missing: NDArray[np.bool_], level_sd: float, count: int, seed: int) -> Floats:
    """[K, W], `additive_fit`'s means of noise and levels alone, less their average over the rows."""
    rng = np.random.default_rng(seed)
    n_wd, n_seed = missing.shape
    runs = np.linalg.cholesky(among(n_wd)) @ rng.standard_normal((count, n_wd, n_seed))
    runs += level_sd * rng.standard_normal((count, 1, n_seed))
    means = np.stack([additive_fit(np.where(missing, np.nan, one)).mean for one in runs])
    return np.asarray(means - means.mean(axis=1, keepdims=True))


def agree(found: Floats, draws: Floats, deviations: float = 5.0) -> None:
    """`found` is the covariance of `draws` within Monte-Carlo error (normal draws of known mean 0)."""
    measured = draws.T @ draws / len(draws)
    variance = np.diag(found)
    error = np.sqrt((np.outer(variance, variance) + found**2) / len(draws))
    assert (np.abs(measured - found) <= deviations * error + 1e-12).all()


@given(SIZES)
@settings(max_examples=30, deadline=None)
def test_complete_scores_have_plain_means(size: tuple[int, int, int]) -> None:
    fit = additive_fit(drawn(*size))
    assert fit.weights is None
    np.testing.assert_array_equal(covariance_of_means(fit, among(size[0])), among(size[0]) / size[1])
    assert not level_covariance(fit, 9.0).any()
    assert not parts_apart(fit).any()
    assert level_variance_between([fit], 9.0) == 0


@given(SIZES)
@settings(max_examples=60, deadline=None)
def test_means_are_the_weighted_scores(size: tuple[int, int, int]) -> None:
    scores = np.where(holes(*size), np.nan, drawn(*size))
    fit = additive_fit(scores)
    if fit.weights is not None:
        assert not fit.weights[:, np.isnan(scores)].any()
        np.testing.assert_allclose(np.einsum("iws,ws->i", fit.weights, np.nan_to_num(scores)), fit.mean, rtol=1e-9)
        # A mean moves with its own row and with no other.
        np.testing.assert_allclose(fit.weights.sum(axis=2), np.eye(size[0]), atol=1e-9)


@pytest.mark.slow
@given(st.tuples(st.integers(3, 6), st.integers(2, 5), st.integers(0, 10**6)), st.sampled_from([0.0, 2.0]))
@settings(max_examples=5, deadline=None)
def test_covariance_of_means_is_that_of_simulated_ones(size: tuple[int, int, int], level_sd: float) -> None:
    """With missing runs, linked by shared seeds or not, with seeds' levels and without."""
    missing = holes(*size)
    fit = additive_fit(np.where(missing, np.nan, 70.0))
    found = centred(covariance_of_means(fit, among(size[0]))) + level_covariance(fit, level_sd**2)
    agree(found, simulated(missing, level_sd, 400, size[2]))


@pytest.mark.slow
@pytest.mark.long  # the test above is the same to a wider error
def test_covariance_of_means_to_a_tighter_error() -> None:
    missing = holes(7, 3, 1, 0.3)
    fit = additive_fit(np.where(missing, np.nan, 70.0))
    assert missing.sum() >= 5
    assert not parts_apart(fit).any()
    agree(centred(covariance_of_means(fit, among(7))), simulated(missing, 3.0, 6000, 0), 4.0)


@given(SIZES)
@settings(max_examples=30, deadline=None)
def test_the_order_of_seeds_leaves_the_covariance(size: tuple[int, int, int]) -> None:
    scores = np.where(holes(*size), np.nan, drawn(*size))
    order = np.random.default_rng(size[2]).permutation(size[1])
    first, second = additive_fit(scores), additive_fit(scores[:, order])
    for one in (lambda f: covariance_of_means(f, among(size[0])), lambda f: level_covariance(f, 2.0)):
        np.testing.assert_allclose(one(first), one(second), atol=1e-10)
    assert level_variance_between([first], 7.0) == pytest.approx(level_variance_between([second], 7.0), abs=1e-9)


def test_parts_that_no_seed_links_differ_by_their_seeds_levels() -> None:
    """Two seeds below, three above: the levels' share of the difference is variance / 2 + variance / 3."""
    scores = np.full((5, 5), np.nan)
    scores[:2, :2], scores[2:, 2:] = 70.0, 71.0
    fit = additive_fit(scores)
    added = level_covariance(fit, 0.6)
    assert parts_apart(fit).tolist() == [False, True, False, False]
    assert added[0, 0] + added[4, 4] - 2 * added[0, 4] == pytest.approx(0.6 / 2 + 0.6 / 3)
    assert added[0, 0] + added[1, 1] - 2 * added[0, 1] == pytest.approx(0)


@pytest.mark.slow
def test_the_variance_of_levels_is_not_taken_for_smaller_than_it_is() -> None:
    """Seeds in two parts, with 1 + 2 degrees of freedom: below the truth in a tenth of draws at most."""
    rng = np.random.default_rng(0)
    below = []
    for _ in range(1500):
        scores = np.full((5, 5), np.nan)
        runs = rng.normal(0, 1, (1, 5)) + rng.normal(0, 0.2, (5, 5))
        scores[:2, :2], scores[2:, 2:] = runs[:2, :2], runs[2:, 2:]
        below.append(level_variance_between([additive_fit(scores)], np.nan) < 1)
    assert np.mean(below) < 0.1 + 3 * np.sqrt(0.09 / 1500)


def test_levels_that_nothing_tells() -> None:
    one_each = np.full((4, 2), np.nan)
    one_each[:2, 0], one_each[2:, 1] = 70.0, 71.0
    assert level_variance_between([additive_fit(one_each)], 50.0) == 50
    # A seed of its own for every run: the scatter of the runs is that of the levels too.
    own = np.full((3, 6), np.nan)
    own[0, :2], own[1, 2:4], own[2, 4:] = [69, 70], [70, 72], [71, 71]
    assert level_variance_between([additive_fit(own)], 50.0) == 0


# ---------------------------------------------------------------- moderation


def limma(variance: Floats, dof: Floats) -> tuple[Floats, float]:
    """Smyth 2004, section 6.2, written down directly; the trigamma function inverted by bisection."""
    z = np.log(variance)
    e = z - special.digamma(dof / 2) + np.log(dof / 2)
    target = e.var(ddof=1) - special.polygamma(1, dof / 2).mean()
    if target <= 0:
        return np.full_like(variance, variance @ dof / dof.sum()), np.inf
    half = optimize.brentq(lambda log_x: np.log(special.polygamma(1, np.exp(log_x)) / target), -20, 20, xtol=1e-13)
    prior_dof = 2 * np.exp(half)
    prior = np.exp(e.mean() + special.digamma(prior_dof / 2) - np.log(prior_dof / 2))
    return (prior_dof * prior + dof * variance) / (prior_dof + dof), prior_dof


@pytest.mark.parametrize("prior_dof", [0.6, 2, 8, 40, np.inf])
def test_moderation_agrees_with_limma(prior_dof: float) -> None:
    rng = np.random.default_rng(3)
    truth = np.full(60, 0.09) if np.isinf(prior_dof) else 0.09 * prior_dof / rng.chisquare(prior_dof, 60)
    dof = rng.uniform(1.5, 6, 60)
    variance = truth * rng.chisquare(dof) / dof
    # The floor under variances without a logarithm is out of play here.
    variance = np.maximum(variance, 2e-3 * variance @ dof / dof.sum())
    found, found_dof = moderated_variance(variance, dof)
    expected, expected_dof = limma(variance, dof)
    assert found_dof == pytest.approx(expected_dof, rel=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_equal_variances_become_the_common_one() -> None:
    """Spread below what chi-squared noise alone would bring: one variance for all, weighted by degrees of freedom."""
    found, prior_dof = moderated_variance(np.array([1.0, 1.0, 1.6]), np.array([4.0, 4.0, 2.0]))
    assert np.isinf(prior_dof)
    np.testing.assert_allclose(found, 1.12)


def test_entries_without_freedom_get_the_common_level() -> None:
    found, _ = moderated_variance(np.array([1.0, 1.2, np.nan, np.nan]), np.array([4.0, 4.0, 0.0, 1e-12]))
    np.testing.assert_allclose(found, 1.1)
    found, _ = moderated_variance(np.array([1.0, 1.2, np.nan, 5.0]), np.array([4.0, 4.0, 0.0, 0.2]))
    np.testing.assert_allclose(found, (4 * 1.0 + 4 * 1.2 + 0.2 * 5.0) / 8.2)


@pytest.mark.parametrize("prior_dof", [4.0, np.inf])
def test_no_threshold_of_freedom_decides(prior_dof: float) -> None:
    """A third of the rows at 0.5 degrees of freedom, a bit more or less: no moderated variance jumps."""
    rng = np.random.default_rng(4)
    few, many = np.full(10, 0.5), np.full(20, 2.0)
    for _ in range(100):
        truth = np.ones(30) if np.isinf(prior_dof) else prior_dof / rng.chisquare(prior_dof, 30)
        dof = np.concatenate([few, many])
        variance = truth * rng.chisquare(dof) / dof
        more, less = (moderated_variance(variance, np.concatenate([few + by, many]))[0] for by in (0.005, -0.005))
        np.testing.assert_allclose(np.log(more), np.log(less), atol=0.25)


def test_variances_that_say_nothing_weigh_nothing() -> None:
    rng = np.random.default_rng(6)
    variance, dof = rng.chisquare(3, 20) / 3 * rng.lognormal(0, 1, 20), np.full(20, 3.0)
    alone, prior = moderated_variance(variance, dof)
    beside, prior_beside = moderated_variance(np.append(variance, 1e-6), np.append(dof, 1e-4))
    np.testing.assert_allclose(beside[:-1], alone, rtol=1e-3)
    assert prior_beside == pytest.approx(prior, rel=1e-2)


def test_one_entry_is_its_own_level() -> None:
    found, prior_dof = moderated_variance(np.array([2.0]), np.array([4.0]))
    assert found.tolist() == [2.0]
    assert np.isinf(prior_dof)


def test_nothing_known_stays_unknown() -> None:
    found, prior_dof = moderated_variance(np.array([np.nan, np.nan]), np.zeros(2))
    assert np.isnan(found).all()
    assert prior_dof == 0


def test_zero_variances() -> None:
    found, prior_dof = moderated_variance(np.zeros(3), np.full(3, 4.0))
    assert found.tolist() == [0, 0, 0]
    assert np.isinf(prior_dof)
    some, _ = moderated_variance(np.array([0.0, 1.0, 1.0, 1.0]), np.full(4, 4.0))
    assert np.isfinite(some).all()
    assert 0 < some[0] < some[1]


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_moderation_keeps_units_and_order(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    dof = np.full(20, 3.0)
    variance = rng.lognormal(0, 1.2, 20) * rng.chisquare(3, 20) / 3
    found, prior_dof = moderated_variance(variance, dof)
    scaled, scaled_dof = moderated_variance(unit * variance, dof)
    np.testing.assert_allclose(scaled, unit * found, rtol=1e-6)
    assert scaled_dof == pytest.approx(prior_dof, rel=1e-6)
    # Shrinkage towards a common level never swaps two entries, and never leaves the range.
    order = np.argsort(variance)
    assert (np.diff(found[order]) >= -1e-12).all()
    assert np.ptp(found) <= np.ptp(variance) + 1e-12


def test_moderation_estimates_better_than_each_row_alone() -> None:
    """What it is for: 40 rows with 2 degrees of freedom each and a common truth that varies by a quarter."""
    rng = np.random.default_rng(5)
    alone = moderated = 0.0
    for _ in range(50):
        truth = 0.09 * 30 / rng.chisquare(30, 40)
        variance = truth * rng.chisquare(2, 40) / 2
        alone += float(np.mean(np.log(variance / truth) ** 2))
        moderated += float(np.mean(np.log(moderated_variance(variance, np.full(40, 2.0))[0] / truth) ** 2))
    assert moderated < 0.2 * alone


# ---------------------------------------------------------------- the standard deviation over seeds


def test_seed_sd_is_pooled_and_its_interval_the_chi_squared_one() -> None:
    """Three seeds: variances 1 and 4, two degrees of freedom; two seeds: 0.125, one; one seed: nothing."""
    cells = [
        np.array([[70.0, 71.0, 72.0], [60.0, 62.0, 64.0]]),
        np.array([[60.0, 60.5, np.nan], [50.0, np.nan, np.nan]]),
        np.array([[50.0]]),
    ]
    found = seed_sd(cells, 0.9)
    variance = (2 * (1 + 4) / 2 + 1 * 0.125) / 3
    assert found.value == pytest.approx(np.sqrt(variance))
    assert (found.n, found.level, found.unit, found.flags) == (2, 0.9, "pp", ())
    assert found.method.endswith("with 3 degrees of freedom")
    # The interval's ends are where the data would sit at the 5 % and 95 % points.
    assert stats.chi2.sf(3 * variance / found.low**2, 3) == pytest.approx(0.05)
    assert stats.chi2.cdf(3 * variance / found.high**2, 3) == pytest.approx(0.05)


def test_configurations_that_say_the_same_count_once() -> None:
    """Forty configurations that the seeds move alike know no more of the seeds than one of them."""
    one = np.array([[70.0, 71.5, 70.3, 69.9]])
    alone, all_forty = seed_sd([one]), seed_sd([one + np.linspace(-3, 3, 40)[:, None]])
    assert (all_forty.value, all_forty.low, all_forty.high) == pytest.approx((alone.value, alone.low, alone.high))
    assert all_forty.method == alone.method


def test_cells_weigh_by_their_seeds_not_by_their_configurations() -> None:
    wide, narrow = np.array([[70.0, 72.0]]), np.array([[70.0, 70.2]])
    once, often = seed_sd([wide, narrow]), seed_sd([np.repeat(wide, 9, axis=0), narrow])
    assert once.value == pytest.approx(np.sqrt((2 + 0.02) / 2))
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))


@pytest.mark.parametrize(
    "cells", [[], [np.array([[70.0]])], [np.array([[70.0, np.nan], [np.nan, 71.0]]), np.array([[np.nan]])]]
)
def test_seed_sd_needs_a_repeated_configuration(cells: list[Floats]) -> None:
    found = seed_sd(cells)
    assert (found.value, found.low, found.high, found.flags) == (None, 0.0, np.inf, ("one-seed",))


def test_seed_sd_of_equal_scores_is_zero() -> None:
    found = seed_sd([np.full((2, 5), 70.0)])
    assert (found.value, found.low, found.high) == (0, 0, 0)


@given(st.integers(0, 10**6), st.floats(-100, 100), st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_seed_sd_keeps_units_and_minds_no_order(seed: int, shift: float, unit: float) -> None:
    cells = [drawn(4, n_seed, seed + n_seed, missing=0.2) for n_seed in (2, 4, 5)]
    rng = np.random.default_rng(seed)
    moved = [rng.permutation(unit * (scores + shift), axis=0)[:, ::-1] for scores in cells[::-1]]
    before, after = seed_sd(cells), seed_sd(moved)
    for name in ("value", "low", "high"):
        assert getattr(after, name) == pytest.approx(unit * getattr(before, name), rel=1e-6)


def scores_of_a_cell(rng: np.random.Generator, n_seed: int, shared: float, own: float, missing: float) -> Floats:
    """Eight configurations: the seeds move all of them by `shared`, each run by `own` besides (pp)."""
    scores = rng.normal(70, 2, (8, 1)) + rng.normal(0, shared, n_seed) + rng.normal(0, own, (8, n_seed))
    return np.where(rng.random(scores.shape) < missing, np.nan, scores)


@pytest.mark.parametrize("n_seed", [3, 5, 10])
def test_seed_sd_covers_where_configurations_share_their_seeds(n_seed: int) -> None:
    """1,000 draws of two cells: the standard error of 95 % is 0.69 pp, and 2.1 pp is three of them.

    Had every configuration degrees of freedom of its own, three intervals in four would be too narrow to hold it.
    """
    rng = np.random.default_rng(n_seed)
    inside, naive, dof = [], [], 16 * (n_seed - 1)
    for _ in range(1000):
        found = seed_sd([scores_of_a_cell(rng, n_seed, 0.3, 0.0, 0.0) for _ in range(2)])
        assert found.value is not None
        inside.append(found.low <= 0.3 <= found.high)
        naive.append(0.025 < stats.chi2.cdf(dof * (found.value / 0.3) ** 2, dof) < 0.975)
    assert abs(np.mean(inside) - 0.95) < 0.021
    assert np.mean(naive) < 0.6


@pytest.mark.parametrize(("shared", "own", "missing"), [(0.2, 0.2, 0.0), (0.0, 0.3, 0.0), (0.3, 0.05, 0.15)])
def test_seed_sd_errs_to_the_safe_side(shared: float, own: float, missing: float) -> None:
    """Noise of each run's own makes the interval wider than it need be; scattered holes leave it as good."""
    rng = np.random.default_rng(1)
    truth = np.hypot(shared, own)
    found = [seed_sd([scores_of_a_cell(rng, 3, shared, own, missing) for _ in range(3)]) for _ in range(400)]
    assert np.mean([e.low <= truth <= e.high for e in found]) > 0.95 - 0.033  # three standard errors
    assert np.sqrt(np.mean([e.value**2 for e in found])) == pytest.approx(truth, rel=0.08)


def test_learning_rates_have_a_noise_of_their_own() -> None:
    """A hundredfold apart: each is moderated towards its own level, by many degrees of freedom and by few."""
    rng = np.random.default_rng(0)
    sds = (0.01, 0.1, 1.0)
    for seeds, off in ((10, 0.25), (2, 0.7)):
        noises = [additive_fit(70 + rng.normal(0, sd, (8, seeds))) for sd in sds]
        for sd, variance in zip(sds, variances_by_slice(noises), strict=True):
            assert variance.shape == (8,)
            assert np.median(np.abs(np.log(variance / sd**2))) < 2 * off
    silent = additive_fit(np.full((8, 2), 70.0))
    assert all(np.isfinite(v).all() for v in variances_by_slice([silent, *noises]))


@given(hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_rows_and_seeds_are_linked_as_a_graph_has_it(finite: NDArray[np.bool_]) -> None:
    rows, seeds = finite.shape
    graph = np.zeros((rows + seeds, rows + seeds))
    graph[:rows, rows:] = finite
    _, expected = csgraph.connected_components(graph, directed=False)
    found = _linked(finite)
    assert np.array_equal(np.equal.outer(found, found), np.equal.outer(expected, expected))
