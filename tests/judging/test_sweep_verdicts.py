"""Anybody's sweep to verdicts: laws that are there, what cannot be told, and what is lacking."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, REPLICATED
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import Grid, Truth, bracket_grid, draw, paper_grid
from replicate.paper.protocol import LRS
from tests.support.landscapes import LRS_3, changed, optimum_grid, sweep


def judged(landscape: Landscape) -> dict[str, Any]:
    """The only cell, through strict JSON."""
    (cell,) = judge_sweep([landscape])
    return dict(json.loads(json.dumps(cell.to_json(), allow_nan=False)))


def sweep_of(truth: Truth, n_seeds: int = 3, grid: Grid | None = None, **options: Any) -> Landscape:
    grid = grid or optimum_grid(truth)
    return draw(truth, grid, np.random.default_rng(11), seeds=range(n_seeds), **options)


@pytest.mark.parametrize(("b", "verdict_of_slope"), [(1, REPLICATED), (0, CONTRADICTED), (-1, CONTRADICTED)])
def test_sweep_of_each_rival(b: int, verdict_of_slope: str) -> None:
    found = judged(sweep_of(Truth(slope=b)))
    assert found["exponent"] == b
    assert found["verdicts"]["slope"] == verdict_of_slope
    assert found["slope"]["low"] <= b <= found["slope"]["high"]
    assert found["rho"]["low"] <= 0.1 <= found["rho"]["high"]
    assert set(found["verdicts"]) == set(found["reasons"]) == {"rho", "slope", "intercept", "r2", "one-dim/gap"}
    for name in found["verdicts"]:
        assert {"value", "low", "high", "level", "flags"} <= set(found[name])


def test_sweep_of_losses_has_the_line_and_no_gap_in_points() -> None:
    landscape = sweep_of(Truth())
    losses = Landscape("a", "d", landscape.frame.assign(score=landscape.frame["score"] / 30 - 4), "loss")
    found = judged(losses)
    assert found["verdicts"]["slope"] == REPLICATED
    assert found["verdicts"]["one-dim/gap"] == NOT_RUN
    assert (
        found["reasons"]["one-dim/gap"] == "the claim is about percentage points of accuracy, and the sweep has losses"
    )
    assert judged(landscape)["verdicts"]["one-dim/gap"] == REPLICATED


def test_a_sweep_without_the_line_is_told_what_the_gap_takes() -> None:
    found = judged(sweep_of(Truth(), grid=bracket_grid(Truth(rho=0.13))))
    assert found["verdicts"]["one-dim/gap"] == NOT_RUN
    assert found["one-dim/gap"]["value"] is None
    assert found["reasons"]["one-dim/gap"] == (
        "no runs at weight decay 0.1 · lr, that is 5e-06 at lr 5e-05, 1e-05 at lr 0.0001, 3e-05 at lr 0.0003, 3 more"
    )


def test_learning_rates_that_lack_the_line_are_named_where_they_are_few() -> None:
    rows = sweep_of(Truth(), lrs=LRS_3).frame
    off = changed(sweep_of(Truth(), lrs=LRS_3), rows[~np.isclose(rows["wd"], 1e-3)])
    assert judged(off)["reasons"]["one-dim/gap"] == "no runs at weight decay 0.1 · lr, that is 0.001 at lr 0.01"


def test_sweep_of_one_seed() -> None:
    found = judged(sweep_of(Truth(), 1))
    assert found["verdicts"]["slope"] in (REPLICATED, INCONCLUSIVE)
    assert found["verdicts"]["one-dim/gap"] == INCONCLUSIVE
    assert "one-seed" in found["flags"]


def test_sweep_with_a_seed_of_its_own_for_every_run() -> None:
    """Random seeds, none of them shared: three repeats a configuration are still three measurements."""
    landscape = sweep_of(Truth(slope=-1))
    own = changed(landscape, landscape.frame.assign(seed=np.arange(len(landscape.frame))))
    found = judged(own)
    assert found["exponent"] == -1
    assert found["slope"]["low"] <= -1 <= found["slope"]["high"]


@pytest.mark.parametrize(
    ("landscape", "flag"),
    [
        (sweep_of(Truth(rho=1e-3), grid=paper_grid), "edge-low"),
        (sweep_of(Truth(rho=1e4), grid=paper_grid), "edge-high"),
        (sweep_of(Truth(depth=0), grid=paper_grid), "plateau"),
        (sweep_of(Truth(rho=10), diverged_above=3e-4, grid=paper_grid), "diverged"),
        (sweep({1e-3: {0.1: [70, 71]}}), "too-few-points"),
        (sweep({lr: {wd: [70.0, 70.0] for wd in (0.1, 0.2, 0.3)} for lr in LRS_3}), "equal"),
        (sweep({lr: {wd: [-math.inf] * 2 for wd in (0.1, 0.2, 0.3)} for lr in LRS_3}), "too-few-points"),
        (sweep({lr: {wd: [70, 71] for wd in (0.0, 0.2)} for lr in LRS_3}), "too-few-points"),
    ],
    ids=["edge low", "edge high", "plateau", "diverged", "one run", "equal", "all diverged", "zero and one more"],
)
def test_what_a_sweep_cannot_tell_is_named(landscape: Landscape, flag: str) -> None:
    found = judged(landscape)
    assert flag in found["flags"]
    assert REPLICATED not in (found["verdicts"]["slope"], found["verdicts"]["rho"])
    assert found["exponent"] is None or flag == "diverged"
    if found["verdicts"]["slope"] == INCONCLUSIVE:
        assert found["slope"]["settle"]


@pytest.mark.parametrize(
    "landscape",
    [
        sweep_of(Truth(), missing=0.5),
        sweep_of(Truth(), 2, lrs=LRS[:1]),
        sweep_of(Truth(), 2, lrs=LRS[:2]),
        sweep_of(Truth(noise_sd_pp=0, seed_sd_pp=0)),
        sweep({lr: {0.0: [1], 0.1: [1], 0.2: [1], 0.3: [1]} for lr in LRS_3}),
        sweep({1e-3: {0.1: [70], 0.2: [71], 0.3: [70]}, 1e-2: {0.1: [70]}}),
        Landscape("a", "d", pd.DataFrame({c: [] for c in ("lr", "wd", "seed", "score", "diverged")})),
    ],
    ids=["ragged", "one lr", "two lrs", "no noise", "chance", "one wd at one lr", "no rows"],
)
def test_odd_sweeps_are_judged_without_a_crash(landscape: Landscape) -> None:
    found = judged(landscape)
    assert set(found["verdicts"].values()) <= {REPLICATED, CONTRADICTED, INCONCLUSIVE, NOT_RUN}
    assert NOT_RUN not in [found["verdicts"][name] for name in ("rho", "slope", "intercept", "r2")]
    assert all(found["reasons"].values())


def test_cells_of_a_sweep_are_judged_apart() -> None:
    first, second = sweep_of(Truth(), arch="one"), sweep_of(Truth(slope=-1), arch="two")
    found = judge_sweep([first, second])
    assert [c.to_json() for c in found] == [judge_sweep([one])[0].to_json() for one in (first, second)]
    assert [c.arch for c in found] == ["one", "two"]
