"""Learning-rate schedules: the factor on the peak learning rate at each step, after a linear warm-up.

Every schedule changes at each step. The paper does not say whether its schedules do so, or change once per epoch as in
its script. Over hundreds of epochs both agree to a percent, but over the few epochs of a small scale one value per
epoch would be a coarse staircase. No factor exceeds 1, which `run.weight_decay_is_inert` relies on.
"""

from __future__ import annotations

import math

from replicate.data import catalogue
from replicate.paper.protocol import EPOCHS, SCHEDULES, STEP_MILESTONES
from replicate.runs.run import Run

STEP_FACTOR = 0.1


def steps(run: Run) -> int:
    """The number of optimiser steps of `run`; as in the paper's script, the last batch of an epoch may be smaller."""
    return run.epochs * math.ceil(catalogue.train_size(run.data) / run.batch_size)


def factor(schedule: str, step: int, steps: int, warmup_steps: int) -> float:
    """The factor in (0, 1] on the peak learning rate at `step` (from 0) of `steps`.

    Warm-up rises linearly and reaches 1 on its last step. `cosine` and `linear` then fall from 1 towards 0, which they
    would reach one step after the last; `step` multiplies by 0.1 at 30/90, 60/90 and 80/90 of all steps. Raises
    ValueError for an unknown schedule or a step out of range.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}; got {schedule!r}")
    if not (0 <= step < steps and 0 <= warmup_steps < steps):
        raise ValueError(
            f"expected 0 <= step < steps and 0 <= warmup_steps < steps, got {step=}, {steps=}, {warmup_steps=}"
        )
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "step":
        passed = sum(step * EPOCHS["imagenet"] >= milestone * steps for milestone in STEP_MILESTONES)
        return STEP_FACTOR**passed
    done = (step - warmup_steps) / (steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done


def factors(schedule: str, steps: int, warmup_steps: int) -> list[float]:
    """`factor` at every step, in order."""
    return [factor(schedule, step, steps, warmup_steps) for step in range(steps)]
