"""Groups runs into stacks: runs that are trained together, each in its copy of one model. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from replicate.runs.run import Run


def stack_key(run: Run) -> Run:
    """A key equal for runs that can be trained together: they differ only in learning rate, weight decay, schedule."""
    return dataclasses.replace(run, lr=0.0, weight_decay=0.0, schedule="")


def stacks(runs: Sequence[Run], most: int) -> list[list[Run]]:
    """Group `runs` by `stack_key` into stacks of at most `most` runs, keeping their order.

    Stacks are filled one after another, so leaving out the runs of a finished stack does not change the other stacks,
    whose checkpoints stay usable. Raises ValueError if `most` is below 1.
    """
    if most < 1:
        raise ValueError(f"most: expected 1 or more, got {most}")
    by_key: dict[Run, list[Run]] = {}
    for run in runs:
        by_key.setdefault(stack_key(run), []).append(run)
    return [group[i : i + most] for group in by_key.values() for i in range(0, len(group), most)]
