"""The order of training, in which as many claims as possible are answered early, in case the budget runs out."""

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
    """Device-seconds; None if it is not known how long one of the runs takes."""


def steps(
    claims: Iterable[Claim],
    scale: Scale,
    stored: Iterable[str],
    rates: Rates,
    known: Known = nothing,
    seeds: int | None = None,
) -> list[Step]:
    """Group the missing runs of `claims` into steps, the most useful first (greedily).

    A step has the missing runs of one claim: the claim whose runs answer the most claims per device-second (if equal,
    the first in the registry) or, before it, a claim that needs only some of these runs. If it is not known how long a
    run takes, all runs count alike. If some claims need no more runs, they form a first step without runs. Adaptive
    grids count with the runs that follow from the results `known`. `seeds`: how many seeds answer a claim; None: all.
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
    """The `steps` given the runs in `store`; `rates`: how long runs take, by default as in the plan for that store."""
    rates = rates or make_plan(claims, scale, store).rates
    if store is None:
        return steps(claims, scale, (), rates, seeds=seeds)
    return steps(claims, scale, store.keys(), rates, store.result, seeds)


def _first(lacking: Mapping[str, frozenset[str]], cost: Mapping[str, float]) -> str:
    """The claim of highest `_worth` (claims per cost) but, before it, one that lacks only some of the same runs."""
    chosen = max(lacking, key=lambda claim: _worth(lacking[claim], lacking, cost))
    while parts := [claim for claim, keys in lacking.items() if keys and keys < lacking[chosen]]:
        chosen = max(parts, key=lambda claim: _worth(lacking[claim], lacking, cost))
    return chosen


def _costs(runs: Mapping[str, Run], scale: Scale, rates: Rates) -> dict[str, float]:
    """Key → device-seconds of a run; 1 for all runs if any rate is unknown."""
    seconds = {key: rates.cost([run], scale) for key, run in runs.items()}
    known = all(cost for cost in seconds.values())
    return {key: cost if known and cost is not None else 1.0 for key, cost in seconds.items()}


def _worth(keys: frozenset[str], lacking: Mapping[str, frozenset[str]], cost: Mapping[str, float]) -> float:
    """Number of claims answered per cost of training the runs `keys`; infinite if `keys` is empty."""
    if not keys:
        return float("inf")
    # fsum, because a set has no fixed order and rounding must not depend on it.
    return sum(others <= keys for others in lacking.values()) / math.fsum(cost[key] for key in keys)
