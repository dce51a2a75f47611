"""What engines share: they group missing runs into stacks, and repeat until every run is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replicate.runs.run import Run
from replicate.runs.stacks import stacks
from replicate.store import begun
from replicate.store.store import Store, StoreError
from replicate.train.contract import TRAINERS
from replicate.train.engine.failed import describe

MOST_RUNS = 32
"""Most runs in a stack. A core gains little from more; a GPU with room for fewer trains them in several parts."""

ROUNDS = 3
"""How often runs that cannot be read back are trained before the disk is blamed."""


def until_stored(store: Store, runs: Sequence[Run], train: Callable[[list[Run]], None]) -> None:
    """Call `train` with those of `runs` that `store` lacks, until it can read all of them, or raise StoreError."""
    distinct = list({run.key: run for run in runs}.values())
    for _ in range(ROUNDS):
        missing = [run for run in distinct if store.get(run) is None]
        if not missing:
            return
        if store.read_only:
            raise StoreError(f"store {store.path}: {len(missing)} runs to train, but it was opened read-only")
        train(missing)
    left = [run for run in distinct if store.get(run) is None]
    if left:
        raise StoreError(
            f"store {store.path}: expected {describe(left[0])} after training it {ROUNDS} times, got no readable "
            f"record ({len(left)} such runs); check the disk"
        )


def into_stacks(store: Store, missing: Sequence[Run], trainer: str, devices: int) -> list[list[Run]]:
    """Group `missing` into stacks: interrupted stacks as they were, the others so that each of `devices` has work.

    The grouping affects only speed and, on a GPU, rounding.
    """
    begun.prune(store)
    if trainer == TRAINERS["solo"]:
        return [[run] for run in missing]
    again, rest = begun.regroup(store, missing)
    return [*again, *stacks(rest, min(MOST_RUNS, max(1, -(-len(rest) // devices))))]
