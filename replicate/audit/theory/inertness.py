"""How much weight decay can matter at all: the total shrinkage of a weight over training at the claimed weight decays.

Each step multiplies a weight by 1 - lr_t wd, so training as a whole multiplies it by exp(-wd * sum of lr_t), and a
change made by an early step is shrunk by at most as much. Two runs with nearly the same total shrinkage differ by no
more than two seeds do, whatever the loss.
"""

from __future__ import annotations

import math
from functools import lru_cache

from replicate.audit.finding import Check, Finding, from_checks
from replicate.audit.reported import Campaign, Reported, need
from replicate.runs.schedule import factor

FELT = 0.01
"""A relative change of all weights below this, over the whole training, is taken to have no effect."""
COSTLY_PP = 1.0
"""A change of the weights below `FELT` cannot explain drops of at least this much."""


@lru_cache(maxsize=8)
def schedule_sum(epochs: int, warmup_epochs: int, steps_per_epoch: int) -> float:
    """Sum over all steps of the learning rate as a share of its peak, for warm-up and cosine."""
    steps, warmup = epochs * steps_per_epoch, warmup_epochs * steps_per_epoch
    return math.fsum(factor("cosine", step, steps, warmup) for step in range(steps))


def total_decay(campaign: Campaign, lr: float, wd: float) -> float:
    """wd times the sum of the learning rates over all steps; the weights shrink by a factor exp(-this)."""
    steps = math.ceil(campaign.train_images / campaign.batch_size)
    return wd * lr * schedule_sum(campaign.epochs, campaign.warmup_epochs, steps)


def effect(campaign: Campaign, lr: float, rho: float, kappa: float) -> float:
    """Relative change of a weight without gradients if its decay is kappa times, and not 1 times, the claimed one."""
    return abs(math.expm1(-(kappa - 1) * total_decay(campaign, lr, rho * lr)))


def inertness(paper: Reported) -> Finding:
    """`theory/inertness`: at which learning rates weight decay acts at all, compared with the table of drops."""
    need(paper.campaigns, "epochs, batch and data set sizes")
    need(paper.drops, "a table of accuracy drops")
    checks, details, parts = [], {}, []
    for c in paper.campaigns:
        rows = paper.drops_on(c.dataset)
        effects = {k: {float(lr): effect(c, float(lr), paper.rho, k) for lr in paper.lrs} for k in sorted(rows)}
        decay = {float(lr): total_decay(c, float(lr), paper.rho * float(lr)) for lr in paper.lrs}
        details[c.dataset] = {"wd x sum of lr at kappa 1": decay, "change of the weights": effects}
        for kappa, row in sorted(rows.items()):
            if row.drop.value.high < COSTLY_PP:
                continue
            dead, what = sum(x < FELT for x in effects[kappa].values()), f"{c.dataset}, kappa {kappa:g}"
            felt = f"weights change by less than {100 * FELT:g} % at {dead} of {len(paper.lrs)} learning rates"
            printed, decides = f"{row.drop.value.text} pp", 2 * dead > len(paper.lrs)
            checks.append(Check(what, printed, felt, holds=not dead, source=row.source, decides=decides))
        ends = max(rows), min(rows)
        more, less = (", ".join(f"{100 * x:.2g}" for x in effects[k].values()) for k in ends)
        parts.append(
            f"{c.dataset}: kappa {ends[0]:g} instead of 1 makes weights smaller by {more} % at the {len(paper.lrs)} "
            f"learning rates, kappa {ends[1]:g} larger by {less} %; the paper reports drops of "
            f"{rows[ends[0]].drop.value.text} and {rows[ends[1]].drop.value.text} pp"
        )
    need(checks, f"drops of at least {COSTLY_PP:g} pp")
    return from_checks(
        checks,
        source="sections 3.1 and 4.2",
        claimed="drops of 1 to 4 pp at every learning rate",
        evidence=f"Over the whole training, on {'; on '.join(parts)}.",
        assumes=f"the schedule of the protocol; a change of all weights by less than {100 * FELT:g} % costs no "
        "accuracy beyond the seeds' noise",
        consistent_if="the drops were measured only at the largest learning rates",
        details=details,
    )
