"""The order of training: which claims first, so that a budget that ends early has answered the most of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from replicate.paper.claim import Claim
from replicate.runs.needed import runs_for, split
from replicate.runs.rounds import Known, nothing
from replicate.runs.run import Run
from replicate.runs.scales import Scale
from replicate.store.store import Store
from replicate.train.plan.plan import Rates, make_plan


@dataclass(frozen=True)
class Step:
    """Runs to train next, and the claims that can be judged once they are stored."""

    claims: tuple[str, ...]
    runs: tuple[Run, ...]
    seconds: float | None
    """Time of one device; None where the rate of one of the runs is not known."""


def steps(
    claims: Iterable[Claim],
    scale: Scale,
    stored: Iterable[str],
    rates: Rates,
    known: Known = nothing,
    seeds: int | None = None,
) -> list[Step]:
    """The missing runs of `claims` in steps, each the one that answers the most claims for its cost.

    Greedy: of all claims take that for which the number of claims answered by what it lacks, over the cost of that, is
    largest (ties go to the registry's order), and on the way there, first, whatever answers some with less. Where no
    rate is known a run costs 1, as any other. The first step has no runs where some claims need none. Of brackets in
    rounds, only what can be told by what is `known` is counted: the least that a step trains. `seeds`: a claim is
    answered by this many seeds of each cell.
    """
    answerable, _ = split(claims, scale)
    runs = {claim.id: {run.key: run for run in runs_for([claim], scale, known, seeds)} for claim in answerable}
    lacking = {claim.id: frozenset(runs[claim.id]) - frozenset(stored) for claim in answerable}
    cost = _costs({key: run for of_claim in runs.values() for key, run in of_claim.items()}, scale, rates)
    found: list[Step] = []
    while lacking:
        chosen = _first(lacking, cost)
        trained = lacking[chosen]
        answered = [claim for claim, keys in lacking.items() if keys <= trained]
        in_order = [run for key, run in runs[chosen].items() if key in trained]
        found.append(Step(tuple(answered), tuple(in_order), rates.cost(in_order, scale)))
        lacking = {claim: keys - trained for claim, keys in lacking.items() if claim not in answered}
    return found


def best_first(
    claims: Sequence[Claim],
    scale: Scale,
    store: Store | None,
    rates: Rates | None = None,
    seeds: int | None = None,
) -> list[Step]:
    """The steps of a budget against what `store` holds, by the rates known there, or by `rates`: everybody's order."""
    rates = rates or make_plan(claims, scale, store).rates
    if store is None:
        return steps(claims, scale, (), rates, seeds=seeds)
    return steps(claims, scale, store.keys(), rates, store.result, seeds)


def _first(lacking: Mapping[str, frozenset[str]], cost: Mapping[str, float]) -> str:
    """The claim whose runs are next: the best bargain, or the best of those that take only a part of its runs."""
    chosen = max(lacking, key=lambda claim: _worth(lacking[claim], lacking, cost))
    while parts := [claim for claim, keys in lacking.items() if keys and keys < lacking[chosen]]:
        chosen = max(parts, key=lambda claim: _worth(lacking[claim], lacking, cost))
    return chosen


def _costs(runs: Mapping[str, Run], scale: Scale, rates: Rates) -> dict[str, float]:
    """Relative cost by key."""
    seconds = {key: rates.cost([run], scale) for key, run in runs.items()}
    known = all(cost for cost in seconds.values())
    return {key: cost if known and cost is not None else 1.0 for key, cost in seconds.items()}


def _worth(keys: frozenset[str], lacking: Mapping[str, frozenset[str]], cost: Mapping[str, float]) -> float:
    """Claims answered a second by training `keys`; infinite where there is nothing to train."""
    if not keys:
        return float("inf")
    # fsum: a set has no order, and rounding must not depend on the one that it happens to have.
    return sum(others <= keys for others in lacking.values()) / math.fsum(cost[key] for key in keys)
