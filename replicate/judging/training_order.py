"""The order in which runs are trained: round by round until each optimum is bracketed; on a limited budget, first the
runs that answer most claims; and, if asked for, no further runs for a claim that its first seeds settle.

The next runs depend only on the claims and on the results of earlier runs, so the order is the same on every machine
and after any interruption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replicate.judging import store_verdicts
from replicate.paper.claim import Claim
from replicate.runs import looks
from replicate.runs.needed import in_rounds, split
from replicate.runs.run import Run
from replicate.runs.scales import Scale
from replicate.store.store import Store
from replicate.train.plan import priority


def parts(
    claims: Sequence[Claim], scale: Scale, store: Store, *, budget: bool, until_settled: bool
) -> Iterator[list[Run]]:
    """Yields the runs that `claims` need at `scale`, in batches; a batch must be trained before the next is requested.

    `budget`: runs that answer most claims come first. `until_settled`: first the runs of each claim's first seeds, then
    all runs of the claims on which these do not give a decisive verdict.
    """
    wanted, _ = split(claims, scale)
    if until_settled:
        of_two = [claim for claim in wanted if looks.first_look(claim, scale)]
        yield from _ordered(of_two, scale, store, budget, looks.FIRST_SEEDS)
        wanted = unsettled(wanted, scale, store)
    yield from _ordered(wanted, scale, store, budget)


def unsettled(claims: Sequence[Claim], scale: Scale, store: Store) -> list[Claim]:
    """The `claims` on which the first seeds in `store` give no decisive verdict; these need all their runs."""
    return [claim for claim in claims if store_verdicts.settled(claim, scale, store) is None]


def _ordered(
    claims: Sequence[Claim], scale: Scale, store: Store, budget: bool, seeds: int | None = None
) -> Iterator[list[Run]]:
    if not budget:
        yield from in_rounds(claims, scale, store.result, seeds)
        return
    by_id = {claim.id: claim for claim in claims}
    for step in priority.best_first(claims, scale, store, seeds=seeds):
        yield from in_rounds([by_id[name] for name in step.claims], scale, store.result, seeds)
