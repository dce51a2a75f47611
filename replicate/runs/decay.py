"""How much weight decay alone shrinks the weights over a training."""

from __future__ import annotations

import math
from functools import lru_cache

from replicate.paper.protocol import SGD_MOMENTUM
from replicate.runs.run import Run
from replicate.runs.schedule import factors, steps


def exponent(run: Run) -> float:
    """c = λ · Σηₜ: without gradients the weights would shrink by the factor exp(-c) over the training."""
    return run.weight_decay * exponent_of_one(run)


def share(run: Run, weight_decay: float) -> float:
    """1 - exp(-c): the share of the weights that `weight_decay` alone would take away over the training of `run`."""
    return -math.expm1(-weight_decay * exponent_of_one(run))


def exponent_of_one(run: Run) -> float:
    """`exponent` for a weight decay of 1: Σηₜ, divided by 1 - momentum for SGD."""
    taken = steps(run)
    total = run.lr * _learning_rates(run.schedule, taken, run.warmup_epochs * taken // run.epochs)
    return total / (1 - SGD_MOMENTUM) if run.optimizer == "sgd" else total


@lru_cache(maxsize=256)
def _learning_rates(schedule: str, steps: int, warmup_steps: int) -> float:
    """The sum of the learning rates of a training as a multiple of its peak learning rate."""
    return sum(factors(schedule, steps, warmup_steps))
