"""The made-up worlds: their runs are marked, depend on nothing but their records, and never pass for trained ones."""

import dataclasses
import json
from pathlib import Path

import pytest

from replicate.data.spec import DataSpec
from replicate.landscape import world
from replicate.landscape.from_store import collect
from replicate.paper.registry import CLAIMS
from replicate.runs.needed import runs_for
from replicate.runs.run import point
from replicate.runs.scales import EMBEDDED, SYNTHETIC
from replicate.store.record import Corrupt, parse, seal, seal_run
from replicate.store.store import open_store

RHO = next(claim for claim in CLAIMS if claim.id == "rho/resnet50-cifar100")
RUN = runs_for([RHO], SYNTHETIC)[0]


def test_landscapes_of_a_world_are_marked_synthetic(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    for run in runs_for([RHO], SYNTHETIC):
        store.put(run, world.result("paper", run), {}, durable=False)
    assert all(landscape.synthetic for landscape in collect(RHO, SYNTHETIC, store).landscapes.values())


def test_a_result_depends_on_the_record_alone() -> None:
    assert world.result("paper", RUN) == world.result("paper", dataclasses.replace(RUN))
    assert world.result("paper", RUN) != world.result("noise", RUN)
    assert world.result("paper", RUN) != world.result("paper", dataclasses.replace(RUN, seed=RUN.seed + 1))


def test_no_decay_is_inert_in_a_world_without_arithmetic() -> None:
    tiny = dataclasses.replace(RUN, lr=5e-5, weight_decay=1e-7)
    assert point(tiny).run.weight_decay == 1e-7
    assert point(dataclasses.replace(tiny, data=DataSpec("digits"))).run.weight_decay == 0


def test_a_record_marked_against_its_data_is_corrupt() -> None:
    body = json.loads(seal_run(RUN, world.result("paper", RUN), {}))
    del body["checksum"]
    parse(seal(body), RUN.key)
    body["synthetic"] = False
    with pytest.raises(Corrupt, match="expected synthetic True on synthetic-cifar100, got False"):
        parse(seal(body), RUN.key)


def test_a_world_makes_no_result_for_a_run_that_can_be_trained() -> None:
    trained = runs_for([RHO], EMBEDDED)[0]
    with pytest.raises(ValueError, match="world: expected a run on synthetic data, got one on digits"):
        world.result("paper", trained)


def test_an_unknown_world_is_named() -> None:
    with pytest.raises(ValueError, match="world: expected one of paper, timescale, noise; got 'flat'"):
        world.result("flat", RUN)
