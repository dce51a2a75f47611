"""The order of training: every missing run once, the cheapest answers first, and where a budget ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate.paper.registry import CLAIMS, claim
from replicate.runs import scales
from replicate.runs.needed import runs_for, split
from replicate.train.plan.plan import Rates
from replicate.train.plan.priority import steps

SMOKE = scales.get("smoke")
RATES = Rates(dict(SMOKE.seconds_per_run or ()), "test", "core")
UNKNOWN = Rates({}, "test", "core")
SOME = [c for c in CLAIMS if c.id.endswith("resnet50-cifar100") or c.id == "one-dim/cost"]


def test_every_missing_run_once_and_every_claim_once() -> None:
    found = steps(CLAIMS, SMOKE, [], RATES)
    runs = [run.key for step in found for run in step.runs]
    assert len(set(runs)) == len(runs)
    assert set(runs) == {run.key for run in runs_for(CLAIMS, SMOKE)}
    claims = [c for step in found for c in step.claims]
    assert sorted(claims) == sorted(c.id for c in split(CLAIMS, SMOKE)[0])


def test_a_claim_is_answered_by_its_step_and_those_before() -> None:
    have: set[str] = set()
    for step in steps(CLAIMS, SMOKE, [], RATES):
        have |= {run.key for run in step.runs}
        for name in step.claims:
            assert {run.key for run in runs_for([claim(name)], SMOKE)} <= have


def test_what_needs_nothing_comes_first() -> None:
    first, *rest = steps(SOME, SMOKE, [], RATES)
    assert (first.claims, first.runs, first.seconds) == (("one-dim/cost",), (), 0.0)
    assert all(step.runs for step in rest)
    everything = [run.key for run in runs_for(CLAIMS, SMOKE)]
    assert [step.runs for step in steps(CLAIMS, SMOKE, everything, RATES)] == [()]


def test_no_step_holds_a_smaller_one() -> None:
    """Whatever a part of a step's runs would answer has been answered before."""
    stored: set[str] = set()
    for step in steps(CLAIMS, SMOKE, [], RATES):
        keys = {run.key for run in step.runs}
        lacking = {c: {run.key for run in runs_for([claim(c)], SMOKE)} - stored for c in step.claims}
        assert all(of_claim == keys for of_claim in lacking.values())
        stored |= keys


def test_a_cell_is_answered_before_what_needs_all_cells() -> None:
    order = [c for step in steps(CLAIMS, SMOKE, [], RATES) for c in step.claims]
    assert order.index("rho/resnet50-cifar100") < order.index("universality/anova")
    assert order.index("one-dim/gap/swin_t-imagenet") < order.index("one-dim/mean-gap")
    # Seven claims for the runs of one cell go before one for those of ten.
    assert order.index("slope/vit_s16-imagenet") < order.index("robust/long")


def test_unknown_rates_count_runs() -> None:
    found = steps(SOME, SMOKE, [], UNKNOWN)
    assert {step.seconds for step in found if step.runs} == {None}
    known = steps(SOME, SMOKE, [], RATES)  # one architecture: every run costs the same
    assert [step.claims for step in found] == [step.claims for step in known]


@settings(max_examples=20)
@given(st.data())
def test_whatever_is_stored_the_rest_is_ordered(data: st.DataObject) -> None:
    runs = [run.key for run in runs_for(SOME, SMOKE)]
    stored = data.draw(st.sets(st.sampled_from(runs)))
    found = steps(SOME, SMOKE, stored, RATES)
    assert {run.key for step in found for run in step.runs} == set(runs) - stored


@pytest.mark.slow
def test_the_order_does_not_depend_on_hashing() -> None:
    """xdist's workers each have their own, and must collect the same tests in the same order."""
    program = (
        "from replicate.runs import scales; from replicate.train.plan.priority import steps\n"
        "from replicate.train.plan.plan import Rates\n"
        "from replicate.paper.registry import CLAIMS\n"
        "smoke = scales.get('smoke'); rates = Rates(dict(smoke.seconds_per_run), '', '')\n"
        "print([step.claims for step in steps(CLAIMS, smoke, [], rates)])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
