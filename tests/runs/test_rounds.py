"""Points that depend on results: at least and at most, which runs measure them, and that a claim's runs end."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from replicate.paper.cells import Cell
from replicate.paper.claim import Part
from replicate.paper.registry import claim
from replicate.runs import rounds, scales
from replicate.runs.bracket import Rounds
from replicate.runs.needed import in_rounds, points_of, possible_runs, runs_for
from replicate.runs.result import Result
from replicate.runs.run import Run
from tests.support.faketrainer import fake_result

CELL = Cell("resnet50", "cifar100")
PART = Part(CELL, "main", "bracket")
CIFAR100 = scales.get("cifar100")


def known_of(found: dict[str, Result]) -> rounds.Known:
    return lambda run: found.get(run.key)


def whole(scale: scales.Scale, part: Part) -> dict[str, Result]:
    """What is stored once nothing is missing."""
    found: dict[str, Result] = {}
    while missing := [p.run for p in rounds.points(scale, part, known_of(found)) if p.run.key not in found]:
        found |= {run.key: fake_result(run) for run in missing}
    return found


@pytest.mark.parametrize("name", ["smoke", "embedded", "cifar100"])
@pytest.mark.parametrize("variant", ["main", "sgd"])
def test_at_least_and_at_most(name: str, variant: str) -> None:
    scale, part = scales.get(name), Part(CELL, variant, "bracket")
    found = whole(scale, part)
    least, most = rounds.points(scale, part), rounds.possible(scale, part)
    points = rounds.points(scale, part, known_of(found))
    assert least == scales.points(scale, part)
    assert set(least) <= set(points) <= set(most)
    assert rounds.possible(scale, part, known_of(found)) == points, "done: no more and no less"
    where = [(p.lr, p.weight_decay, p.seed) for p in most]
    assert where == sorted(set(where))
    assert {p.run.key for p in points} == found.keys()


def test_a_fixed_grid_has_its_points_whatever_is_known() -> None:
    for part in (Part(CELL, "main", "paper"), Part(CELL, "main", "ratio")):
        assert rounds.points(CIFAR100, part, fake_result) == rounds.possible(CIFAR100, part)
    scale = dataclasses.replace(CIFAR100, bracket=(1.0, 3.0))
    assert rounds.points(scale, PART, fake_result) == rounds.possible(scale, PART) == scales.points(scale, PART)


def test_what_is_known_of_other_runs_changes_nothing() -> None:
    found = whole(CIFAR100, PART)
    asked: list[Run] = []

    def known(run: Run) -> Result | None:
        asked.append(run)
        return found.get(run.key)

    rounds.points(CIFAR100, PART, known)
    assert {run.key for run in asked} <= {p.run.key for p in rounds.possible(CIFAR100, PART)}


def test_a_decay_that_cannot_act_is_the_run_without() -> None:
    """So it does as well, and the bracket goes no further down: here none of the places can act."""
    scale = dataclasses.replace(CIFAR100, lrs=(1e-3,), bracket=Rounds((-40,), -42, -38))
    of_none = {p.run.weight_decay for p in rounds.possible(scale, PART)}
    assert of_none == {0.0}


def test_a_claims_rounds_end_and_add_to_each_other() -> None:
    found: dict[str, Result] = {}
    asked = claim("rho/resnet50-cifar100")
    steps = []
    for runs in in_rounds([asked], CIFAR100, known_of(found)):
        steps.append({run.key for run in runs})
        found |= {run.key: fake_result(run) for run in runs}
    assert len(steps) > 3
    assert all(a < b for a, b in pairwise(steps))
    assert steps[-1] == {run.key for run in runs_for([asked], CIFAR100, known_of(found))}
    of_points = {p.run.key for points in points_of(asked, CIFAR100, known_of(found)).values() for p in points}
    assert of_points == steps[-1] <= {run.key for run in possible_runs(CIFAR100)}


def test_a_caller_that_trains_nothing_is_asked_once() -> None:
    assert len(list(in_rounds([claim("rho/resnet50-cifar100")], CIFAR100, rounds.nothing))) == 1
