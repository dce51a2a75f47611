"""Which runs can be trained in one stack: from runs to groups, without loading what trains them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from replicate.runs.run import Run


def stack_key(run: Run) -> Run:
    """Equal for runs that can be trained in one stack: they differ in what a lane has for itself."""
    return dataclasses.replace(run, lr=0.0, weight_decay=0.0, schedule="")


def stacks(runs: Sequence[Run], most: int) -> list[list[Run]]:
    """`runs` in groups of one `stack_key` and at most `most` runs: in order, and groups in the order of their first.

    Groups are filled one by one, so that dropping whole groups leaves the others as they are: their checkpoints are
    found again.
    """
    if most < 1:
        raise ValueError(f"most: expected 1 or more, got {most}")
    by_key: dict[Run, list[Run]] = {}
    for run in runs:
        by_key.setdefault(stack_key(run), []).append(run)
    return [group[i : i + most] for group in by_key.values() for i in range(0, len(group), most)]
