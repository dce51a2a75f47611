"""Random search: a smooth surface over learning rate and weight decay, and what it says of the best weight decay."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from replicate.estimate import surface
from replicate.estimate.by_rate import Where
from replicate.estimate.flags import Flag
from replicate.estimate.next_runs import next_trials
from replicate.estimate.surface import Ridge
from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN
from replicate.landscape.landscape import Landscape

LOW, HIGH = math.log(1e-4), math.log(1e-2)


def searched(exponent: float, trials: int, seed: int = 0, depth: float = 1.0, **fields: float) -> Landscape:
    """Trials log-uniform over both; accuracy is best at 1e-4 (lr / 1e-3)^exponent and falls faster above."""
    rng = np.random.default_rng([seed, trials])
    lr, wd = rng.uniform(LOW, HIGH, trials), rng.uniform(math.log(1e-6), math.log(1e-1), trials)
    away = wd - math.log(1e-4) - exponent * (lr - math.log(1e-3))
    score = 70 - depth * np.where(away > 0, 2.0, 1.0) * away**2 / (1 + np.abs(away)) - 0.3 * (lr - LOW)
    frame = pd.DataFrame({"lr": np.exp(lr), "wd": np.exp(wd), "seed": range(trials)})
    frame["score"] = score + 0.3 * rng.standard_normal(trials)
    return Landscape("a", "b", frame.assign(diverged=False), **fields)  # type: ignore[arg-type]


def ridge(landscape: Landscape, seed: int = 0) -> Ridge:
    found = surface.ridge(landscape, np.random.default_rng(seed))
    assert found is not None
    return found


@pytest.mark.parametrize("exponent", [1.0, 0.0, -1.0])
def test_sixty_trials_that_show_a_ridge_give_its_slope(exponent: float) -> None:
    found = ridge(searched(exponent, 60))
    slope = surface.slope(found)
    assert slope.low < exponent < slope.high and slope.high - slope.low < 1.2
    low, high = found.at([1e-3])
    assert low[0] < math.log(1e-4) < high[0] and high[0] - low[0] < 2.5


def test_twelve_trials_say_that_they_cannot_tell() -> None:
    cells = judge_sweep([searched(1.0, 12, seed) for seed in range(2)])
    assert all(cell.outcomes["slope"] == INCONCLUSIVE for cell in cells)
    assert all(cell.verdicts["slope"].settle.startswith("more trials") for cell in cells)


@pytest.mark.slow
def test_coverage() -> None:
    inside = []
    for seed in range(15):
        slope = surface.slope(ridge(searched(0.5, 50, seed)))
        inside.append(slope.low <= 0.5 <= slope.high)
    assert sum(inside) >= 12  # binom.ppf(0.001, 15, 0.95) = 11


def test_what_diverged_bounds_and_what_lies_at_the_end_is_open() -> None:
    landscape = searched(1.0, 50)
    above = landscape.frame["wd"] > 3 * 0.1 * landscape.frame["lr"]
    frame = landscape.frame.assign(diverged=above, score=landscape.frame["score"].where(~above))
    low, high = ridge(Landscape("a", "b", frame)).at([1e-3])
    assert low[0] < math.log(1e-4) < high[0] < math.log(3e-3)
    rising = landscape.frame.assign(score=np.log(landscape.frame["wd"]))
    low, high = ridge(Landscape("a", "b", rising)).at([1e-3])
    assert high[0] == math.inf and math.log(1e-2) < low[0] < math.inf
    (cell,) = judge_sweep([Landscape("a", "b", rising)])
    assert {row.where for row in cell.answer.by_lr} == {Where.ABOVE}
    slope = surface.slope(ridge(Landscape("a", "b", rising)))
    assert (slope.low, slope.high, slope.value) == (-math.inf, math.inf, None)
    assert slope.flags == (Flag.FEW_OPTIMA,)


@pytest.mark.slow
def test_a_flat_surface_decides_nothing() -> None:
    cells = judge_sweep([searched(1.0, 50, seed, depth=0.0) for seed in range(4)])
    assert all(cell.outcomes[name] == INCONCLUSIVE for cell in cells for name in ("rho", "slope"))


def test_too_few_trials_or_equal_scores_are_no_surface() -> None:
    assert surface.ridge(searched(1.0, surface.LEAST_TRIALS - 1), np.random.default_rng(0)) is None
    landscape = searched(1.0, 20)
    same = Landscape("a", "b", landscape.frame.assign(score=70.0))
    assert surface.ridge(same, np.random.default_rng(0)) is None
    (cell,) = judge_sweep([same])
    assert cell.outcomes["slope"] == INCONCLUSIVE and cell.outcomes["r2"] == NOT_RUN
    assert cell.answer.searched and cell.answer.by_lr == () and cell.answer.best is not None


def test_a_ratio_that_changes_is_not_replicated_and_a_surely_other_law_is_contradicted() -> None:
    (cell,) = judge_sweep([searched(0.0, 80)])
    assert cell.outcomes["slope"] == CONTRADICTED
    assert Flag.RATIO_VARIES in cell.measured["rho"].flags
    assert cell.exponent == 0


@pytest.mark.slow
def test_a_known_noise_is_taken() -> None:
    quiet, loud = (surface.slope(ridge(searched(1.0, 40, noise_sd=sd))) for sd in (0.3, 3.0))
    assert quiet.high - quiet.low < loud.high - loud.low


def test_where_it_is_a_search() -> None:
    assert surface.is_search(searched(1.0, 12))
    grid = pd.DataFrame([(lr, wd, 0, 1.0, False) for lr in (1, 2, 3) for wd in (1, 2, 3)])
    grid.columns = pd.Index(["lr", "wd", "seed", "score", "diverged"])
    assert not surface.is_search(Landscape("a", "b", grid))


def test_the_next_trials_lie_where_they_tell() -> None:
    landscape = searched(1.0, 40)
    plan = next_trials(landscape, ridge(landscape), 6, np.random.default_rng(0))
    assert len(plan.runs) == 6 and plan.slope_narrows is not None and plan.slope_narrows < 1
    away = [abs(math.log(run.wd / (0.1 * run.lr))) for run in plan.runs]
    assert np.median(away) < 3
    assert all(0.9e-4 <= run.lr <= 1.1e-2 for run in plan.runs)


def test_one_weight_decay_says_nothing_of_the_best() -> None:
    landscape = searched(1.0, 20)
    (cell,) = judge_sweep([Landscape("a", "b", landscape.frame.assign(wd=1e-4))])
    assert cell.outcomes["slope"] == cell.outcomes["rho"] == INCONCLUSIVE


def test_with_the_trials_of_a_plan_it_is_still_a_search() -> None:
    landscape = searched(1.0, 30)
    plan = next_trials(landscape, ridge(landscape), 20, np.random.default_rng(0))
    more = pd.DataFrame([(run.lr, run.wd, run.seed, 69.0, False) for run in plan.runs], columns=landscape.frame.columns)
    assert surface.is_search(Landscape("a", "b", pd.concat([landscape.frame, more], ignore_index=True)))
    assert len({run.lr for run in plan.runs}) == 20


def test_no_decay_competes() -> None:
    landscape = searched(1.0, 40)
    none = landscape.frame.head(8).assign(wd=0.0, score=80.0, lr=np.geomspace(1e-4, 1e-2, 8), seed=range(100, 108))
    both = Landscape("a", "b", pd.concat([landscape.frame, none], ignore_index=True))
    low, _ = ridge(both).at([1e-3])
    assert low[0] == -math.inf
    assert judge_sweep([both])[0].outcomes["slope"] == INCONCLUSIVE


def test_losses_are_those_of_the_surface() -> None:
    found = ridge(searched(1.0, 80))
    i = 2
    best = 0.1 * float(found.lrs[i])
    assert np.median(found.losses(i, best)) < 0.3 < np.median(found.losses(i, 20 * best))
    assert np.isnan(found.losses(i, 1e3)).all()
