"""Best sets: the bound against Dunnett's tables, scipy and simulation; coverage; every flag; what must not matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from replicate.estimate.best_set import BestSet, best_sets, dunnett_bound
from replicate.landscape.landscape import Slice
from replicate.landscape.synthetic import Grid, Truth, bracket_grid, draw, paper_grid
from tests.support.landscapes import LRS_3, one_slice, sweep

Floats = NDArray[np.float64]
WDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
INF = math.inf


def slices_of(
    truth: Truth, seed: int, n_seeds: int = 3, grid: Grid | None = None, missing: float = 0.0
) -> Sequence[Slice]:
    rng = np.random.default_rng(seed)
    grid = grid or bracket_grid(truth)
    return draw(truth, grid, rng, seeds=range(n_seeds), lrs=LRS_3, missing=missing).slices()


def well(*means: float, sd: float = 0.1, n_seeds: int = 4) -> Slice:
    """One slice of these means: runs that scatter by about `sd` around them, the rows' own averages exact."""
    noise = np.random.default_rng(0).normal(0, sd, (len(means), n_seeds))
    return one_slice(WDS[: len(means)], np.array(means)[:, None] + noise - noise.mean(axis=1, keepdims=True))


def only(cut: Slice, level: float = 0.95) -> BestSet:
    (found,) = best_sets([cut], level)
    return found


# ---------------------------------------------------------------- the bound


# Dunnett 1955, table 1a: one-sided, joint confidence 95 %, to two digits.
TABLE_1A = {
    5: (2.02, 2.44, 2.68, 2.85, 2.98, 3.08, 3.16, 3.24, 3.30),
    10: (1.81, 2.15, 2.34, 2.47, 2.56, 2.64, 2.70, 2.76, 2.81),
    20: (1.72, 2.03, 2.19, 2.30, 2.39, 2.46, 2.51, 2.56, 2.60),
    INF: (1.64, 1.92, 2.06, 2.16, 2.23, 2.29, 2.34, 2.38, 2.42),
}


@pytest.mark.parametrize("dof", list(TABLE_1A))
def test_bound_is_the_tabulated_one(dof: float) -> None:
    # His last digit is a rounded-up one here and there.
    found = [dunnett_bound(others, dof, 0.95) for others in range(1, 10)]
    np.testing.assert_allclose(found, TABLE_1A[dof], atol=0.012)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("dof", [1.5, 4.0, 30.0, INF])
def test_bound_of_two_is_students_t(dof: float, level: float) -> None:
    """The quadrature over the variance ends at its 1/128 quantile: the level it keeps is right to 0.05 pp."""
    assert stats.t.cdf(dunnett_bound(1, dof, level), dof) == pytest.approx(level, abs=5e-4)


@pytest.mark.parametrize(("others", "dof", "level"), [(2, 3, 0.95), (4, 6, 0.9), (6, 24, 0.99), (7, 84, 0.95)])
def test_bound_is_the_quantile_of_the_multivariate_t(others: int, dof: int, level: float) -> None:
    """Correlation 1/2, for all differences share Z_0; by scipy's randomised integration, good to about 1e-3."""
    correlation = np.full((others, others), 0.5) + 0.5 * np.eye(others)
    reference = stats.multivariate_t(shape=correlation, df=dof, seed=0)
    at = np.full(others, dunnett_bound(others, dof, level))
    assert reference.cdf(at, maxpts=50_000) == pytest.approx(level, abs=2e-3)


def test_bound_agrees_with_scipys_dunnett_test() -> None:
    """Where the largest difference sits just at the bound, scipy's adjusted p is 5 %."""
    rng = np.random.default_rng(1)
    groups = [rng.normal(0, 1, 4) for _ in range(5)]
    groups = [g - g.mean() for g in groups]
    sd = math.sqrt(np.mean([g.var(ddof=1) for g in groups]))
    groups[3] += dunnett_bound(4, 15, 0.95) * sd * math.sqrt(2 / 4)
    found = stats.dunnett(*groups[1:], control=groups[0], alternative="greater", random_state=2)
    assert found.pvalue.min() == pytest.approx(0.05, abs=2e-3)


@pytest.mark.parametrize(("others", "dof"), [(3, 4), (6, 12), (7, INF)])
def test_bound_by_simulation(others: int, dof: float) -> None:
    """200,000 draws: the standard error of 95 % is 0.05 pp."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((200_000, others + 1))
    s = np.sqrt(rng.chisquare(dof, 200_000) / dof) if math.isfinite(dof) else 1.0
    largest = (z[:, 1:].max(axis=1) - z[:, 0]) / math.sqrt(2)
    assert np.mean(largest <= dunnett_bound(others, dof, 0.95) * s) == pytest.approx(0.95, abs=0.0025)


@given(st.integers(1, 20), st.floats(1, 200), st.floats(0.6, 0.98))
@settings(max_examples=20, deadline=None)
def test_bound_grows_with_others_and_level_and_falls_with_knowledge(others: int, dof: float, level: float) -> None:
    bound = dunnett_bound(others, dof, level)
    assert bound < dunnett_bound(others + 1, dof, level)
    assert bound < dunnett_bound(others, dof, level + 0.01)
    assert bound > dunnett_bound(others, 2 * dof, level) > dunnett_bound(others, INF, level)
    # Never wider than Bonferroni's.
    assert bound <= 1.02 * stats.t.ppf(1 - (1 - level) / others, dof)


def test_bound_of_nobody_is_zero() -> None:
    assert dunnett_bound(0, 5, 0.95) == 0


# ---------------------------------------------------------------- the sets hold the best


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, pytest.param(5, marks=pytest.mark.long)])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_sets_hold_the_best_of_equals(n_seeds: int, missing: float) -> None:
    """All weight decays alike, the hardest case: the first of seven is in 95 % of 600 sets, give or take 3 x 0.9 pp."""
    held = [
        cut.wds[0] in found.wds
        for seed in range(200)
        for cuts in [slices_of(Truth(depth=0), seed, n_seeds, missing=missing)]
        for cut, found in zip(cuts, best_sets(cuts), strict=True)
    ]
    assert len(held) == 600
    assert 0.95 - 0.027 < np.mean(held) < 0.985


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize("shape", ["quadratic", "table-2", "asymmetric"])
def test_sets_hold_the_best_run_and_its_neighbours_the_optimum(shape: str, n_seeds: int, level: float) -> None:
    """300 sets a case; three standard errors below the level. `low` and `high` bound the peak of a unimodal curve."""
    truth = Truth(shape=shape)
    held, bounded = [], []
    for seed in range(100):
        cuts = slices_of(truth, 1000 + seed, n_seeds)
        for cut, found in zip(cuts, best_sets(cuts, level), strict=True):
            best = cut.wds[truth.accuracy(cut.lr, list(cut.wds)).argmax()]
            held.append(best in found.wds)
            bounded.append(found.low < truth.best_wd(cut.lr) < found.high)
    least = level - 3 * math.sqrt(level * (1 - level) / 300)
    assert np.mean(held) > least
    assert np.mean(bounded) > least


def test_more_seeds_leave_more_out() -> None:
    sizes = [
        np.mean([len(found.wds) for seed in range(30) for found in best_sets(slices_of(Truth(), seed, n_seeds))])
        for n_seeds in (3, 5, 10, 40)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.2 * sizes[3]


def test_a_higher_level_leaves_less_out() -> None:
    for seed in range(10):
        cuts = slices_of(Truth(), seed)
        for low, high in zip(best_sets(cuts, 0.8), best_sets(cuts, 0.99), strict=True):
            assert set(low.wds) <= set(high.wds)
            assert (low.level, high.level) == (0.8, 0.99)


# ---------------------------------------------------------------- by hand


def test_a_set_by_hand() -> None:
    """One slice without common seed effects: leads against the bound times the error of a difference."""
    cut = well(73, 75, 74.95, 74, 70, sd=0.3)
    found = only(cut)
    scores = cut.scores - (cut.scores.mean(axis=0) - cut.scores.mean())
    # The additive fit leaves 4 x 3 degrees of freedom; variances this much alike are one.
    variance = ((scores - scores.mean(axis=1, keepdims=True)) ** 2).sum() / 12
    need = dunnett_bound(4, 12, 0.95) * math.sqrt(2 * variance / 4)
    lead = scores.mean(axis=1).max() - scores.mean(axis=1)
    assert found.wds == tuple(wd for wd, behind in zip(cut.wds, lead, strict=True) if behind <= need) == (0.003, 0.01)
    assert (found.lr, found.low, found.high, found.level, found.flags) == (1e-3, 0.001, 0.03, 0.95, ())


def test_seeds_that_shift_a_whole_slice_do_not_blur_it() -> None:
    """Pairing: seeds 5 pp apart, differences known to 0.1 pp."""
    cut = well(73, 75, 74, 72)
    moved = replace(cut, scores=cut.scores + np.array([-6.0, -1.0, 2.0, 5.0]))
    assert only(moved) == only(cut)
    assert only(cut).wds == (0.003,)


def test_a_hole_in_the_middle_stays_a_hole() -> None:
    found = only(well(70, 75, 72, 75, 70))
    assert (found.wds, found.low, found.high) == ((0.003, 0.03), 0.001, 0.1)


@given(st.integers(0, 100), st.floats(-30, 20), st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_units_zero_and_order_of_the_seeds_do_not_matter(seed: int, shift: float, unit: float) -> None:
    cuts = slices_of(Truth(), seed)
    moved = [replace(cut, scores=unit * (cut.scores[:, ::-1] + shift)) for cut in cuts]

    def places(found: Sequence[BestSet]) -> list[tuple[object, ...]]:
        return [(s.lr, s.wds, s.low, s.high, tuple(f for f in s.flags if f != "ceiling")) for s in found]

    assert places(best_sets(moved)) == places(best_sets(cuts))


# ---------------------------------------------------------------- flags


def test_edges() -> None:
    low, high = only(well(75, 73, 71, 69)), only(well(69, 71, 73, 75))
    assert (low.wds, low.low, low.high, low.flags) == ((0.001,), 0.0, 0.003, ("edge-low",))
    assert (high.wds, high.low, high.high, high.flags) == ((0.03,), 0.01, INF, ("edge-high",))


def test_both_edges_with_a_dip_between() -> None:
    found = only(well(75, 70, 75))
    assert (found.wds, found.low, found.high) == ((0.001, 0.01), 0.0, INF)
    assert found.flags == ("edge-low", "edge-high")


def test_weight_decay_zero_is_the_lowest() -> None:
    found = only(one_slice((0.0, 0.1, 0.3), well(75, 73, 70).scores))
    assert (found.wds, found.low, found.high, found.flags) == ((0.0,), 0.0, 0.1, ("edge-low",))


def test_plateau() -> None:
    found = only(well(75, 75.02, 75, 74.99))
    assert (found.wds, found.low, found.high, found.flags) == (WDS[:4], 0.0, INF, ("plateau",))


def test_equal_scores_are_a_plateau() -> None:
    assert only(one_slice(WDS, np.full((7, 3), 70.0))).flags == ("plateau",)


def test_one_weight_decay_is_all_there_is() -> None:
    found = only(one_slice((0.1,), [[70, 71, 72]]))
    assert (found.wds, found.low, found.high) == ((0.1,), 0.0, INF)
    assert "plateau" in found.flags


def test_one_seed_leaves_nothing_out() -> None:
    found = best_sets(slices_of(Truth(), 0, 1))
    assert len(found) == 3
    for own in found:
        assert len(own.wds) == 7
        assert own.flags == ("one-seed", "plateau")


def test_noise_known_at_one_learning_rate_serves_the_others() -> None:
    """Seeds repeated at 1e-3 only: the other slice borrows its noise, which is what moderation is for."""
    single = replace(well(70, 75, 71), lr=1e-2)
    single = replace(single, scores=np.where(np.arange(4) == 0, single.scores, np.nan))
    first, second = best_sets([well(73, 75, 70), single])
    assert first.wds == second.wds == (0.003,)
    assert "one-seed" not in second.flags


@pytest.mark.parametrize(("top", "flags"), [(99.4, ()), (99.6, ("ceiling",))])
def test_ceiling(top: float, flags: tuple[str, ...]) -> None:
    assert only(well(98, top, 97, sd=0.01)).flags == flags


def test_a_ceiling_that_all_reach_is_a_plateau_too() -> None:
    assert only(one_slice(WDS, np.full((7, 3), 100.0))).flags == ("plateau", "ceiling")


def test_losses_have_no_ceiling() -> None:
    """A loss is stored as its negative."""
    assert only(one_slice(WDS[:3], -np.array([[0.3, 0.31], [0.01, 0.02], [0.2, 0.21]]))).flags == ()


# ---------------------------------------------------------------- diverged and missing runs


def test_divergence_beyond_the_set_bounds_it() -> None:
    (found,) = best_sets(sweep({1e-3: {
        0.01: [70, 70.2, 70.1], 0.1: [75, 75.1, 75.3], 0.3: [-INF] * 3, 1.0: [-INF] * 3,
    }}).slices())  # fmt: skip
    assert (found.wds, found.low, found.high, found.flags) == ((0.1,), 0.01, 0.3, ())


def test_what_diverges_below_the_set_bounds_nothing() -> None:
    (found,) = best_sets(sweep({1e-3: {0.01: [-INF] * 3, 0.1: [75, 75.1, 75.3], 0.3: [70, 70.2, 70.3]}}).slices())
    assert (found.wds, found.low, found.high, found.flags) == ((0.1,), 0.0, 0.3, ("edge-low",))


@pytest.mark.parametrize(("lost", "used"), [(0, True), (1, True), (2, False), (3, False), (4, False)])
def test_a_weight_decay_counts_where_most_of_its_runs_end(lost: int, used: bool) -> None:
    best = [-INF] * lost + [76.0, 76.2, 76.1, 75.9][lost:]
    (found,) = best_sets(sweep({1e-3: {0.03: [73, 73.1, 73.3, 73.2], 0.1: [75, 75.1, 75.3, 75.2], 0.3: best}}).slices())
    assert found.wds == ((0.3,) if used else (0.1,))
    assert found.high == (INF if used else 0.3)


def test_learning_rates_without_a_usable_run_are_left_out() -> None:
    landscape = sweep({1e-4: {0.1: [-INF, -INF], 0.3: [-INF, 70]}, 1e-3: {0.1: [75, 75.1], 0.3: [70, 70.2]}})
    assert [found.lr for found in best_sets(landscape.slices())] == [1e-3]
    assert best_sets(sweep({1e-4: {0.1: [-INF, -INF]}}).slices()) == []
    assert best_sets([]) == []


def test_runs_not_made_are_no_divergence() -> None:
    scores = well(70, 75, 71).scores
    scores[1, 1:3] = np.nan
    assert only(one_slice(WDS[:3], scores)).wds == (0.003,)


def test_the_papers_grid_below_every_optimum() -> None:
    """Best at 1e-5, below the grid's 1e-3: the sets say so, at every learning rate."""
    for found in best_sets(slices_of(Truth(slope=0, rho=1e-5 / 7e-4, shape="quadratic"), 0, 5, paper_grid)):
        assert found.low == 0.0
        assert "edge-low" in found.flags
        assert found.high <= 0.005
