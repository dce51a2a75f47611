"""Collecting: exactly a claim's points, in order, from runs that can be believed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from replicate.landscape.from_store import Missing, collect, missing_runs
from replicate.landscape.landscape import Landscape
from replicate.paper import registry
from replicate.paper.cells import Cell
from replicate.paper.claim import Claim, Margin, Part
from replicate.runs import scales
from replicate.runs.needed import Key, runs_for, split
from replicate.runs.run import Point, Run, point
from replicate.runs.scales import NotTrained, Scale
from replicate.store.store import Store, StoredRun, open_store
from tests.support.faketrainer import fake_result, fake_run

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

ONE, TWO = Cell("resnet50", "cifar100"), Cell("swin_t", "imagenet")
GRIDS = {"paper": (0.0, 0.1), "ratio": (0.01, 0.1), "unit": (0.1,), "bracket": (7.0,)}


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Scale:
    """Two learning rates, two seeds, a handful of weight decays; no SGD."""

    def points(scale: Scale, part: Part) -> list[Point]:
        if part.variant == "sgd":
            raise NotTrained("this scale does not train the variant sgd")
        run = fake_run(arch=part.cell.arch, variant=part.variant)
        return [
            point(dataclasses.replace(run, lr=lr, weight_decay=wd, seed=seed))
            for lr in (1e-9, 1e-3)
            for wd in GRIDS[part.grid]
            for seed in (1, 0)
        ]

    monkeypatch.setattr(scales, "points", points)
    return dataclasses.replace(scales.get("smoke"), bracket=(1.0,))


def claim(*parts: Part, name: str = "rho/x") -> Claim:
    return Claim(name, "rho", "…", "…", "rho", "", Margin(0, 1), "…", parts)


BOTH = claim(Part(TWO, "main", "paper"), Part(ONE, "main", "paper"), Part(TWO, "main", "ratio"))
WITH_SGD = claim(Part(ONE, "main", "unit"), Part(ONE, "sgd", "unit"), name="sgd/x")


def landscapes_of(claim: Claim, scale: Scale, store: Store) -> Mapping[Key, Landscape]:
    return collect(claim, scale, store).landscapes


def fill(store: Store, *claims: Claim, scale: Scale, **options: bool) -> None:
    for run in runs_for(claims, scale):
        store.put(run, fake_result(run), {}, **options)


def test_runs_are_distinct_cell_by_cell_and_seed_by_seed(scale: Scale) -> None:
    runs = runs_for([BOTH, claim(Part(ONE, "long", "unit"), Part(ONE, "main", "bracket"))], scale)
    assert len({run.key for run in runs}) == len(runs)
    archs = [run.arch for run in runs]
    assert archs == sorted(archs, reverse=True)  # swin_t comes first in the claim
    for variant in ("main", "long"):
        seeds = [r.seed for r in runs if r.arch == "resnet50" and dict(r.model.arguments)["variant"] == variant]
        assert seeds == sorted(seeds)
    # At lr 1e-9 no weight decay below 8 can act: one run for all.
    assert sum(run.lr == 1e-9 for run in runs) == 2 * 3
    assert runs == runs_for([BOTH, claim(Part(ONE, "long", "unit"), Part(ONE, "main", "bracket"))], scale)


def test_a_landscape_has_exactly_the_points_of_the_claim(scale: Scale, store: Store) -> None:
    fill(store, BOTH, claim(Part(ONE, "main", "bracket"), Part(TWO, "main", "unit")), scale=scale)
    found = landscapes_of(BOTH, scale, store)
    assert list(found) == [(TWO, "main"), (ONE, "main")]
    for (cell, _), wds in zip(found, [(0.0, 0.01, 0.1), (0.0, 0.1)], strict=True):
        frame = found[cell, "main"].frame
        expected = [(lr, wd, seed) for lr in (1e-9, 1e-3) for wd in wds for seed in (0, 1)]
        assert list(frame[["lr", "wd", "seed"]].itertuples(index=False, name=None)) == expected
        assert list(frame.columns) == ["lr", "wd", "seed", "score", "best", "diverged", "shrinkage"]
    landscape = found[TWO, "main"]
    assert (landscape.arch, landscape.dataset) == (TWO.arch, TWO.dataset)
    assert (landscape.metric, landscape.synthetic) == ("accuracy", False)
    for row in landscape.frame.itertuples():
        run = dataclasses.replace(
            fake_run(arch="swin_t", variant="main"), lr=row.lr, weight_decay=row.wd, seed=row.seed
        )
        assert row.score == fake_result(point(run).run).accuracy_pp


def test_a_diverged_run_has_no_score(scale: Scale, store: Store) -> None:
    fill(store, BOTH, scale=scale)
    run = runs_for([BOTH], scale)[-1]
    store.put(run, dataclasses.replace(fake_result(run), diverged=True, train_loss=None, best_accuracy_pp=33.0), {})
    frame = landscapes_of(BOTH, scale, store)[ONE, "main"].frame
    row = frame[frame.diverged]
    assert len(row) == 1
    assert math.isnan(row.score.item())
    assert row.best.item() == 33.0
    assert frame.diverged.dtype == bool


def test_missing_runs_are_counted_by_cell_and_never_skipped(scale: Scale, store: Store) -> None:
    one = claim(Part(ONE, "main", "paper"))
    fill(store, one, scale=scale)
    assert missing_runs(one, scale, store) == []
    rest = missing_runs(BOTH, scale, store)
    assert [run.arch for run in rest] == ["swin_t"] * 8
    with pytest.raises(Missing, match=r"^8 of 14 runs are not in the store \(swin_t-imagenet: 8\)$") as caught:
        landscapes_of(BOTH, scale, store)
    assert (caught.value.have, len(caught.value.needed), dict(caught.value.missing)) == (6, 14, {"swin_t-imagenet": 8})
    long = claim(Part(ONE, "long", "unit"))
    with pytest.raises(Missing, match=r"\(resnet50-cifar100 long: 4\)"):
        landscapes_of(long, scale, store)


def test_a_corrupt_record_is_missing(scale: Scale, store: Store) -> None:
    fill(store, BOTH, scale=scale)
    bad = runs_for([BOTH], scale)[0]
    store.layout.record(bad.key).write_bytes(b"")
    with pytest.raises(Missing, match="1 of 14 runs"):
        landscapes_of(BOTH, scale, store)
    assert missing_runs(BOTH, scale, store) == [bad]
    assert len(store.notices) == 1


def test_what_a_scale_does_not_train_passes_through(scale: Scale, store: Store) -> None:
    for call in (landscapes_of, missing_runs):
        with pytest.raises(NotTrained, match="does not train the variant sgd"):
            call(WITH_SGD, scale, store)
    with pytest.raises(NotTrained):
        runs_for([BOTH, WITH_SGD], scale)
    assert split([BOTH, WITH_SGD], scale) == ([BOTH], {"sgd/x": "this scale does not train the variant sgd"})


def test_a_claim_without_runs(scale: Scale, store: Store) -> None:
    assert landscapes_of(claim(), scale, store) == {}
    assert missing_runs(claim(), scale, store) == []


def test_two_runs_at_one_point_are_refused(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def points(scale: Scale, part: Part) -> list[Point]:
        return [point(fake_run(grid=part.grid))]

    monkeypatch.setattr(scales, "points", points)
    twice = claim(Part(ONE, "main", "paper"), Part(ONE, "main", "unit"))
    with pytest.raises(ValueError, match=r"rho/x: expected one run at lr=0\.001 wd=0\.1 seed=0 of resnet50-cifar100"):
        landscapes_of(twice, scales.get("smoke"), store)


@pytest.mark.slow
def test_the_registry_at_every_scale_has_distinct_runs() -> None:
    from replicate.paper.registry import CLAIMS

    for scale in scales.SCALES.values():
        trained, left_out = split(CLAIMS, scale)
        runs = runs_for(trained, scale)
        assert len({run.key for run in runs}) == len(runs) > 0
        assert len(trained) + len(left_out) == len(CLAIMS)


@pytest.mark.parametrize("after", [0, 17, 18, 509])
def test_runs_that_are_stored_meanwhile_end_no_bracket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The first round comes while it is being asked for: what is missing is told by one moment, not by two."""
    scale, of = scales.get("fashion"), registry.claim("sgd/rho/resnet50-cifar100")
    store = open_store(tmp_path)
    first = runs_for([of], scale)
    get, asked = Store.get, 0

    def while_others_train(self: Store, run: Run) -> StoredRun | None:
        nonlocal asked
        asked += 1
        if asked == after + 1:
            for other in first:
                store.put(other, fake_result(other), {}, durable=False)
        return get(self, run)

    monkeypatch.setattr(Store, "get", while_others_train)
    assert missing_runs(of, scale, store) != []
    monkeypatch.setattr(Store, "get", get)
    assert len(missing_runs(of, scale, store)) == 30  # of the second round
    with pytest.raises(Missing):
        collect(of, scale, store)
