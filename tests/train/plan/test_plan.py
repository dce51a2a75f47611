"""The plan of a scale: what is counted, what is shared, what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.result import Result
from replicate.store.store import Store, open_store
from replicate.train.plan.plan import Plan, make_plan


def plan(name: str, store: Store | None = None) -> Plan:
    return make_plan(CLAIMS, scales.get(name), store)


@pytest.mark.parametrize("name", ["cifar100", "imagenet"])
def test_the_papers_grid_is_240_runs_a_cell(name: str) -> None:
    grids = [p for p in plan(name).parts if p.part.grid == "paper" and p.part.variant == "main"]
    assert len(grids) == 5
    assert {len(p.runs) for p in grids} == {240}
    assert {p.points for p in grids} == {240}


def test_counts_distinct_points_and_runs() -> None:
    found = plan("smoke")
    points = {
        (p.part.cell, p.part.variant, q.lr, q.weight_decay, q.seed)
        for p in found.parts
        for q in scales.points(found.scale, p.part)
    }
    assert found.points == len(points)
    assert len({run.key for run in found.runs}) == len(found.runs) == found.to_train
    assert found.points - found.inert <= len(found.runs) < found.points
    assert all(len(p.runs) <= p.points for p in found.parts)
    assert {run.key for p in found.parts for run in p.runs} == {run.key for run in found.runs}


def test_parts_name_the_claims_they_unlock() -> None:
    found = plan("smoke")
    for p in found.parts:
        assert set(p.claims) == {claim.id for claim in CLAIMS if p.part in claim.parts and claim.id in found.trained}
    assert set(found.trained) | set(found.left_out) == {claim.id for claim in CLAIMS}


def test_what_a_scale_leaves_out_has_a_reason() -> None:
    found = plan("cifar100")
    assert "rho/resnet50-imagenet" in found.left_out
    assert all(found.left_out.values())
    assert not set(found.trained) & set(found.left_out)
    assert found.to_json()["why_untrainable"] is None
    assert plan("synthetic").to_json()["why_untrainable"]


def test_costs_come_from_the_stored_runs(tmp_path: Path) -> None:
    unmeasured = make_plan(CLAIMS, scales.Scale(**{**vars(scales.get("smoke")), "seconds_per_run": None}), None)
    assert unmeasured.seconds is None
    assert unmeasured.rates.source == "not known: no run of this scale has been measured"
    assert unmeasured.to_json()["device_hours"]["needed"] is None

    store = open_store(tmp_path / "store")
    one_each = list({run.arch: run for run in unmeasured.runs if run.epochs == unmeasured.scale.epochs}.values())
    for run in one_each:
        store.put(run, Result(50.0, 50.0, False, 1.0, (50.0,), seconds=3.0), {})
    found = make_plan(CLAIMS, unmeasured.scale, store)
    assert found.stored == len(one_each) == 5
    assert found.rates.source == "measured on the stored runs"
    assert found.rates.seconds == dict.fromkeys((run.arch for run in one_each), 3.0)
    longer = sum(run.epochs / found.scale.epochs for run in found.runs)
    assert found.seconds == pytest.approx(3.0 * longer)
    assert found.seconds_to_train == pytest.approx(3.0 * (longer - 5))


def test_the_scales_own_rates_are_used_where_nothing_is_stored() -> None:
    rates = tuple((arch, 2.0) for arch, _ in scales.get("smoke").models)
    scale = scales.Scale(**{**vars(scales.get("smoke")), "seconds_per_run": rates})
    found = make_plan(CLAIMS, scale, None)
    assert found.seconds == pytest.approx(2.0 * sum(run.epochs / scale.epochs for run in found.runs))
    assert found.rates.source == "measured when the scale was set up, on another machine"
