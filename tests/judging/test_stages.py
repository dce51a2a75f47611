"""Provisional verdicts and two looks, on recorded runs: what they rest on, and that nothing else changes them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from replicate.judging import claim_verdicts, store_verdicts, training_order
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, Evidence
from replicate.judging.verdict_file import verdict_from_json, verdict_to_json
from replicate.landscape.from_store import collect
from replicate.paper.claim import Claim
from replicate.paper.registry import CLAIMS, claim
from replicate.report import markdown, terminal
from replicate.runs import looks, scales
from replicate.runs.needed import runs_for, split
from replicate.store.record import parse, seal_run
from replicate.store.store import Store, StoredRun, open_store
from tests.support import staged
from tests.support.five_seeds import ALL, SCALE

SLOPE, SETTLED = claim("slope/vit_s16-cifar100"), claim("rho/vit_s16-cifar100")
OPEN = claim("r2/resnet50-cifar100")


def of(path: Path, runs: Mapping[str, StoredRun]) -> Store:
    return open_store(path / "store", below={**runs})


def seeds(*wanted: int) -> dict[str, StoredRun]:
    return {key: stored for key, stored in ALL.items() if stored.run["seed"] in wanted}


@pytest.mark.slow
def test_three_complete_seeds_give_a_provisional_verdict_that_is_not_counted(tmp_path: Path) -> None:
    part = seeds(100, 102, 104) | {key: stored for key, stored in seeds(103).items() if key >= "8"}
    store = of(tmp_path, part)
    verdict = store_verdicts.judge(SLOPE, SCALE, store)
    found = verdict.provisional
    assert verdict.outcome == NOT_RUN and found is not None
    assert found.seeds == 3
    landscapes = collect(SLOPE, SCALE, of(tmp_path, ALL)).landscapes
    few = {at: replace(one, frame=one.frame[one.frame["seed"] != 101]) for at, one in landscapes.items()}
    few = {at: replace(one, frame=one.frame[one.frame["seed"] != 103]) for at, one in few.items()}
    reference = claim_verdicts.decide(SLOPE, few, Evidence(SCALE.name, True, seeds=3))
    assert found.estimate == reference.estimate and found.outcome == reference.outcome
    assert verdict_from_json(verdict_to_json(verdict)) == verdict
    file = store_verdicts.judge_all([SLOPE], SCALE, "a test", store)
    assert file.counts == {"replicated": 0, "contradicted": 0, "inconclusive": 0, "not run": 1}
    shown = "\n".join(line.text for line in terminal.summary(file, 500))
    told = f"{found.outcome} by 3 seeds, "
    assert "provisional, counted as not run" in shown and f"{SLOPE.id}: {told}" in shown
    assert f"- `{SLOPE.id}`: {told}" in markdown.render(file)


@pytest.mark.parametrize("there", [(), (100,), (100, 101)])
def test_fewer_seeds_say_nothing(there: tuple[int, ...], tmp_path: Path) -> None:
    assert store_verdicts.judge(SLOPE, SCALE, of(tmp_path, seeds(*there))).provisional is None


@pytest.mark.slow
def test_the_first_look_rests_on_the_first_seeds_alone(tmp_path: Path) -> None:
    few, whole = of(tmp_path, seeds(100, 101)), of(tmp_path, ALL)
    verdict = store_verdicts.judge(SETTLED, SCALE, few, until_settled=True)
    assert verdict == store_verdicts.judge(SETTLED, SCALE, whole, until_settled=True)
    assert (verdict.outcome, verdict.evidence.seeds) == (CONTRADICTED, 2)
    assert verdict.estimate is not None and verdict.estimate.level == looks.FIRST_LEVEL
    assert "first look of --until settled" in verdict.evidence.label
    assert store_verdicts.judge(SETTLED, SCALE, few).outcome == NOT_RUN
    last = store_verdicts.judge(OPEN, SCALE, whole, until_settled=True)
    assert last.outcome == INCONCLUSIVE and "last look of --until settled" in last.evidence.label
    assert last.estimate is not None and last.estimate.level == looks.LAST_LEVEL


def trained(store: Store, held: dict[str, StoredRun], rng: random.Random, until: float) -> Iterator[str]:
    """Trains in any order, by what is recorded, what is asked for; may be killed before any run."""
    wanted = [SETTLED, OPEN]
    for part in training_order.parts(wanted, SCALE, store, budget=rng.random() < 0.5, until_settled=True):
        for run in rng.sample(part, len(part)):
            if run.key not in held:
                if rng.random() < until:
                    return
                held[run.key] = ALL[run.key]
                yield run.key


@pytest.mark.slow
def test_the_same_runs_whenever_it_is_killed_and_in_whatever_order_they_come(tmp_path: Path) -> None:
    settled = {run.key for run in runs_for([SETTLED], SCALE, seeds=looks.FIRST_SEEDS)}
    expected = settled | {run.key for run in runs_for([OPEN], SCALE)}
    for seed in range(4):
        rng = random.Random(seed)
        held: dict[str, StoredRun] = {}
        store = open_store(tmp_path / f"store-{seed}")
        store.below = held
        before = -1
        while before < len(held):
            before = len(held)
            list(trained(store, held, rng, 0.01))
        list(trained(store, held, rng, 0.0))
        assert held.keys() == expected


def in_rounds(store: Store, held: dict[str, StoredRun], wanted: list[Claim], rng: random.Random, until: float) -> int:
    """As `trained`, where what is asked for next depends on the results; how many were trained."""
    before = len(held)
    for part in training_order.parts(wanted, staged.SCALE, store, budget=rng.random() < 0.5, until_settled=True):
        for run in rng.sample(part, len(part)):
            if run.key not in held:
                if rng.random() < until:
                    return len(held) - before
                held[run.key] = parse(seal_run(run, staged.result(run), {}), run.key)
    return len(held) - before


@pytest.mark.slow
def test_the_same_runs_and_verdicts_in_rounds_whichever_claims_come_first(tmp_path: Path) -> None:
    """Sessions with some of the claims, in any order, are killed; one with all of them ends it."""
    wanted = [one for one in split(CLAIMS, staged.SCALE)[0] if one.family in ("rho", "sgd")]
    wanted = [one for one in wanted if one.id != "sgd/differs"]  # which needs all runs
    found = []
    for seed in range(2):
        rng = random.Random(seed)
        held: dict[str, StoredRun] = {}
        store = open_store(tmp_path / f"store-{seed}")
        store.below = held
        for _ in range(seed * 6):
            in_rounds(store, held, rng.sample(wanted, rng.randint(1, len(wanted))), rng, 0.01)
        in_rounds(store, held, wanted if seed == 0 else rng.sample(wanted, len(wanted)), rng, 0.0)
        assert in_rounds(store, held, wanted[::-1], rng, 0.0) == 0
        verdicts = [store_verdicts.judge(one, staged.SCALE, store, until_settled=True) for one in wanted]
        found.append((held.keys(), verdicts))
    assert found[0] == found[1]
    assert len({verdict.evidence.look for verdict in found[0][1]}) == 2


def test_without_it_all_runs_are_trained_in_one_part(tmp_path: Path) -> None:
    scale, store = scales.get("cifar100"), open_store(tmp_path / "store")
    (part,) = training_order.parts(CLAIMS, scale, store, budget=False, until_settled=False)
    assert part == runs_for(split(CLAIMS, scale)[0], scale)
