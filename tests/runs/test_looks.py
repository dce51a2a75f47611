"""Stages and looks: which seeds come first, and where a scale has too few for either."""

from __future__ import annotations

import pytest

from replicate.paper.registry import CLAIMS, claim
from replicate.runs import looks, scales
from replicate.runs.needed import STAGE_SEEDS, first_seeds, points_of, runs_for, split

SLOPE = claim("slope/resnet50-cifar100")


@pytest.mark.parametrize("name", ["cifar100", "embedded", "smoke"])
def test_no_further_seed_before_the_first_three_of_all_cells(name: str) -> None:
    scale = scales.get(name)
    claims, _ = split(CLAIMS, scale)
    runs = runs_for(claims, scale)
    cells = {place for of_claim in claims for place in points_of(of_claim, scale)}
    first = {seed for cell, _ in cells for seed in first_seeds(scale, cell)}
    late = [run.seed not in first for run in runs]
    assert late == sorted(late)
    assert any(late) == any(len(scale.protocol(dataset).seeds) > STAGE_SEEDS for dataset, _ in scale.data)
    assert len({run.key for run in runs}) == len(runs)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_fewer_seeds_are_those_runs_of_the_whole(seeds: int) -> None:
    scale = scales.get("cifar100")
    few, whole = runs_for([SLOPE], scale, seeds=seeds), runs_for([SLOPE], scale)
    assert few == [run for run in whole if run.seed in scale.seeds[:seeds]]
    assert len(few) * len(scale.seeds) == len(whole) * seeds


def test_scales_of_three_seeds_or_fewer_have_neither() -> None:
    for name in ("smoke", "embedded"):
        assert looks.first_look(SLOPE, scales.get(name)) == {}
    (where,) = points_of(SLOPE, scales.get("cifar100"))
    assert looks.first_look(SLOPE, scales.get("cifar100")) == {where: (0, 1)}
    assert looks.first_look(claim("one-dim/cost"), scales.get("cifar100")) == {}
    assert not looks.enough(scales.get("embedded"), {where: (0, 1, 2)})
    assert not looks.enough(scales.get("cifar100"), {where: (0, 4)})
    assert looks.enough(scales.get("cifar100"), {where: (0, 2, 4)})
    assert not looks.enough(scales.get("cifar100"), {})


def test_the_two_levels_together_spend_what_one_look_does() -> None:
    assert pytest.approx(0.05) == (1 - looks.FIRST_LEVEL) + (1 - looks.LAST_LEVEL)
