"""The local engine: trains missing runs on the devices of this machine, each exactly once.

The unit of work is a stack: runs that are trained together. Even if other sessions or engines work on the same store,
each run is trained once, and no more stacks are in training than there are devices. Locks in the store, which are freed
if their holder is killed, ensure both.
"""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import Sequence

from replicate.runs.run import Run
from replicate.store.store import Store
from replicate.train.contract import STACKED, TRAINERS
from replicate.train.engine.devices import slots, unseen
from replicate.train.engine.leave import Deadline
from replicate.train.engine.missing import into_stacks, until_stored
from replicate.train.engine.pool import Pool

_pools: dict[int, Pool] = {}
"""Process id → its pool: a forked process must not use the pool of its parent."""


def ensure(
    store: Store,
    runs: Sequence[Run],
    *,
    processes: int | None = None,
    trainer: str = TRAINERS[STACKED],
    until: float | Deadline = math.inf,
) -> None:
    """Train the runs that `store` lacks; returns when all `runs` are stored, by this or any other process.

    A pool of worker processes, which is kept for the next call, trains the runs. `processes`: how many stacks (runs
    trained together) to train at once, by default one per device. `trainer`: the function to train them with, as
    `module:function`. `until`: when to stop, by the monotonic clock. Raises `TrainingFailed` if a run cannot be
    trained, `StoreError` if a run cannot be stored, and `OutOfTime` at `until`, after saving checkpoints.
    """

    def train(missing: list[Run]) -> None:
        free = _pool().usable(slots(processes))
        if why := unseen(missing):
            store.note(why)
        _pool().train(store, into_stacks(store, missing, trainer, len(free)), trainer, free, until)

    until_stored(store, runs, train)


def close() -> None:
    """End the worker processes of this process; the next `ensure` starts new ones."""
    if (pool := _pools.pop(os.getpid(), None)) is not None:
        pool.close()


atexit.register(close)


def _pool() -> Pool:
    return _pools.setdefault(os.getpid(), Pool())
