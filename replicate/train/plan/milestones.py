"""When verdicts become available: after how many more runs the first provisional, the first final and the last one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from replicate.paper.claim import Claim
from replicate.runs import looks
from replicate.runs.needed import STAGE_SEEDS, parts_at, runs_for, split
from replicate.runs.run import Run
from replicate.runs.scales import Scale
from replicate.train.plan.plan import Rates


@dataclass(frozen=True)
class When:
    """A moment in a training, as runs and device-hours from now."""

    runs: int
    device_hours: float | None
    """None if it is not known how long one of the runs takes."""


@dataclass(frozen=True)
class Milestones:
    """When verdicts become available in a training without a budget; None if there is no such verdict."""

    first_provisional: When | None
    first_final: When | None
    """If claims are judged twice, after a few seeds and after all: assuming that the first judgement decides."""
    last_at_least: When | None
    """The earliest time for the last verdict: if claims are judged twice, assuming that the first one decides all."""
    last: When | None


def of(claims: Iterable[Claim], scale: Scale, stored: Collection[str], rates: Rates, until_settled: bool) -> Milestones:
    """When verdicts on those `claims` that need runs at `scale` become available; `stored`: keys of the stored runs.

    `until_settled`: claims are judged after a few seeds, too, and a claim that is decided then needs no more runs.
    """
    answerable, _ = split(claims, scale)
    of_claim = {claim.id: runs_for([claim], scale) for claim in answerable}
    answerable = [claim for claim in answerable if of_claim[claim.id]]
    of_two = [claim for claim in answerable if until_settled and looks.first_look(claim, scale)]
    order = _missing([*runs_for(of_two, scale, seeds=looks.FIRST_SEEDS), *runs_for(answerable, scale)], stored)
    place = {run.key: i for i, run in enumerate(order, start=1)}

    def after(runs: Iterable[Run]) -> int:
        """How many runs must be trained, in the planned order, until all `runs` are stored."""
        return max((place.get(run.key, 0) for run in runs), default=0)

    def when(places: Sequence[int], first: bool = False) -> When | None:
        if not places:
            return None
        at = min(places) if first else max(places)
        seconds = rates.cost(order[:at], scale)
        return When(at, None if seconds is None else round(seconds / 3600, 4))

    staged = [claim for claim in answerable if _has_stages(claim, scale)]
    provisional = [after(runs_for([claim], scale, seeds=STAGE_SEEDS)) for claim in staged]
    final = [after(of_claim[claim.id]) for claim in answerable]
    two = {claim.id for claim in of_two}
    seeds = {claim.id: looks.FIRST_SEEDS if claim.id in two else None for claim in answerable}
    earliest = [after(runs_for([claim], scale, seeds=seeds[claim.id])) for claim in answerable]
    return Milestones(when(provisional, True), when(earliest, True), when(earliest), when(final))


def _has_stages(claim: Claim, scale: Scale) -> bool:
    return all(looks.provisional(scale, (part.cell, part.variant)) for part in parts_at(claim, scale))


def _missing(order: Iterable[Run], stored: Collection[str]) -> list[Run]:
    return list({run.key: run for run in order if run.key not in stored}.values())
