"""Which runs to do next: those that tell, and never those that cannot."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate.estimate import fits
from replicate.estimate.missing_runs import Divergence
from replicate.estimate.next_runs import Plan, next_runs
from replicate.landscape.landscape import Landscape

LRS = (0.001, 0.003, 0.01)
NOISE = 0.3


def hill(lr: float, wd: float) -> float:
    """Accuracy that is best at 0.1 times the learning rate."""
    return 70 - 2 * math.log(wd / (0.1 * lr)) ** 2 / (1 + 0.3 * abs(math.log(wd / (0.1 * lr))))


def sweep(points: dict[float, tuple[float, ...]], seeds: int = 2, names: bool = False) -> Landscape:
    rng = np.random.default_rng(2)
    rows = [
        (lr, wd, f"s{seed}" if names else seed, hill(lr, max(wd, 1e-9)) + NOISE * rng.standard_normal())
        for lr, wds in points.items()
        for wd in wds
        for seed in range(seeds)
    ]
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score"])
    return Landscape("a", "b", frame.assign(diverged=False))


def around(lr: float, *factors: float) -> tuple[float, ...]:
    return tuple(0.1 * lr * factor for factor in factors)


def plan(landscape: Landscape, count: int = 12) -> Plan:
    return next_runs(landscape, fits.line(landscape), count, np.random.default_rng(0))


WIDE = {lr: around(lr, 0.02, 0.1, 0.5, 2.5, 12, 60) for lr in LRS}


def test_the_runs_lie_where_the_best_weight_decay_may_be_and_none_is_there_already() -> None:
    landscape = sweep(WIDE)
    found = plan(landscape)
    assert len(found.runs) == 12
    done = set(map(tuple, landscape.frame[["lr", "wd", "seed"]].to_numpy().tolist()))
    new = [(run.lr, run.wd, run.seed) for run in found.runs]
    assert len({*new, *done}) == len(new) + len(done)
    near = [run for run in found.runs if 0.03 < run.wd / (0.1 * run.lr) < 30]
    assert len(near) >= 10
    assert found.slope_narrows is not None and found.ratio_narrows is not None
    assert 0.2 < found.slope_narrows < 1 and 0.2 < found.ratio_narrows < 1


def test_the_ends_of_the_learning_rates_tell_more_of_a_slope_than_the_middle() -> None:
    count = Counter(run.lr for run in plan(sweep(WIDE), 18).runs)
    assert count[0.001] + count[0.01] > 2 * count[0.003]


def test_more_runs_are_expected_to_tell_more() -> None:
    shares = [plan(sweep(WIDE), count).slope_narrows for count in (4, 12, 36)]
    assert all(share is not None for share in shares)
    assert shares[0] > shares[1] > shares[2]  # type: ignore[operator]


def test_an_optimum_above_all_that_was_run_is_looked_for_above() -> None:
    points = {**WIDE, 0.01: around(0.01, 0.001, 0.005, 0.02, 0.1)}
    of_last = [run.wd for run in plan(sweep(points)).runs if run.lr == 0.01]
    assert of_last and max(of_last) > max(points[0.01])
    assert max(of_last) <= 9.01 * max(points[0.01])  # a step at a time


def test_nothing_is_looked_for_above_what_diverged() -> None:
    points = {**WIDE, 0.01: around(0.01, 0.001, 0.005, 0.02, 0.1)}
    landscape = sweep(points)
    lost = [{"lr": 0.01, "wd": 0.0002, "seed": seed, "score": math.nan, "diverged": True} for seed in (0, 1)]
    frame = pd.concat([landscape.frame, pd.DataFrame(lost)], ignore_index=True)
    of_last = [run.wd for run in plan(dataclasses.replace(landscape, frame=frame)).runs if run.lr == 0.01]
    assert max(of_last, default=0.0) < 0.0002


def test_where_the_smallest_do_as_well_as_any_no_smaller_ones_are_named() -> None:
    rng = np.random.default_rng(3)
    rows = [
        (lr, wd, seed, (70 if wd < 0.1 else 70 - 10 * math.log(wd / 0.1)) + NOISE * rng.standard_normal())
        for lr in LRS
        for wd in (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)
        for seed in range(3)
    ]
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score"]).assign(diverged=False)
    assert all(run.wd >= 1e-6 for run in plan(Landscape("a", "b", frame), 20).runs)


def test_first_come_learning_rates_without_enough_weight_decays() -> None:
    found = plan(sweep({**WIDE, 0.03: around(0.03, 1)}), 6)
    assert [run.lr for run in found.runs[:3]] == [0.03] * 3
    assert {run.lr for run in found.runs[3:]} <= {*LRS, 0.03}


@pytest.mark.parametrize("lrs", [(0.01,), (0.003, 0.01)])
def test_with_fewer_than_three_learning_rates_new_ones_are_named(lrs: tuple[float, ...]) -> None:
    found = plan(sweep({lr: WIDE[lr] for lr in lrs}), 12)
    new = {run.lr for run in found.runs} - set(lrs)
    assert len(new) + len(lrs) >= 3
    assert all(len({run.wd for run in found.runs if run.lr == lr}) >= 3 for lr in new)


def test_seeds_that_other_weight_decays_have_come_first_and_names_go_on_as_names() -> None:
    found = plan(sweep(WIDE, names=True), 30)
    by_place: dict[tuple[float, float], list[str]] = {}
    for run in found.runs:
        by_place.setdefault((run.lr, run.wd), []).append(run.seed)
    run_before = {(lr, wd) for lr, wds in WIDE.items() for wd in wds}
    of_new = [seeds for place, seeds in by_place.items() if place not in run_before]
    of_old = [seeds for place, seeds in by_place.items() if place in run_before]
    new = [f"new {i + 1}" for i in range(30)]
    assert of_new and all(seeds == ["s0", "s1", *new][: len(seeds)] for seeds in of_new)
    assert of_old and all(seeds == new[: len(seeds)] for seeds in of_old)


@settings(max_examples=15, deadline=None)
@given(
    wds=st.lists(st.sampled_from([0.0, 1e-5, 1e-4, 3e-4, 1e-3, 0.01, 0.1]), min_size=1, max_size=6, unique=True),
    lrs=st.lists(st.sampled_from([0.0005, 0.001, 0.004, 0.02]), min_size=1, max_size=3, unique=True),
    seeds=st.integers(1, 3),
    count=st.integers(1, 15),
)
def test_any_sweep_gets_as_many_runs_as_were_asked_for_or_fewer(
    wds: list[float], lrs: list[float], seeds: int, count: int
) -> None:
    landscape = sweep({lr: tuple(wds) for lr in lrs}, seeds)
    found = plan(landscape, count)
    assert len(found.runs) <= count
    assert all(run.wd > 0 and run.lr > 0 for run in found.runs)
    assert len({(run.lr, run.wd, run.seed) for run in found.runs}) == len(found.runs)
    assert found == plan(landscape, count)


def test_with_one_seed_a_second_one_of_the_best_runs_comes_first() -> None:
    found = plan(sweep(WIDE, seeds=1), 5)
    assert {(run.lr, round(run.wd / (0.1 * run.lr), 6)) for run in found.runs[:3]} <= {
        (lr, factor) for lr in LRS for factor in (0.5, 2.5)
    }
    assert [run.lr for run in found.runs[:3]] == list(LRS) and all(run.seed == 1 for run in found.runs)
    known = plan(dataclasses.replace(sweep(WIDE, seeds=1), noise_sd=NOISE), 5)
    assert known != found


def diverging(lost: dict[float, tuple[float, ...]]) -> Landscape:
    """`WIDE`, cut off below the best at the largest learning rate, and runs that diverged."""
    landscape = sweep({**WIDE, 0.01: around(0.01, 0.001, 0.005, 0.02, 0.1)})
    rows = [(lr, wd, seed, math.nan, True) for lr, wds in lost.items() for wd in wds for seed in (0, 1)]
    more = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score", "diverged"])
    return dataclasses.replace(landscape, frame=pd.concat([landscape.frame, more], ignore_index=True))


@pytest.mark.parametrize("lost", [{0.01: (0.0005,)}, {0.004: (0.001,)}, {0.004: (0.0, 0.001)}])
def test_nothing_new_is_looked_for_where_training_diverged_at_a_smaller_learning_rate_and_product(
    lost: dict[float, tuple[float, ...]],
) -> None:
    landscape = diverging(lost)
    at, decay = max(lost), max(lost) * max(max(lost.values()))
    done = set(zip(landscape.frame["lr"], landscape.frame["wd"], strict=True))
    new = {(run.lr, run.wd) for run in plan(landscape, 16).runs} - done
    assert not [run for run in new if run[0] >= at and run[0] * run[1] >= decay / 1.25]
    free = {(run.lr, run.wd) for run in plan(diverging({}), 16).runs} - done
    assert [run for run in free if run[0] >= at and run[0] * run[1] >= decay / 1.25]  # where it would have looked


def test_a_run_that_diverged_below_one_that_was_trained_bounds_nothing() -> None:
    diverges = Divergence(diverging({0.001: (1e-6,)}))
    assert not diverges.at(0.01, 1.0)
    assert Divergence(diverging({0.01: (0.5,)})).at(0.01, 0.5)
    assert not Divergence(diverging({0.01: (0.5,)})).at(0.003, 0.5)


def test_runs_that_do_not_differ_ask_for_none_of_their_kind() -> None:
    landscape = sweep(WIDE)
    assert plan(dataclasses.replace(landscape, frame=landscape.frame.assign(score=1.0))).runs == ()
