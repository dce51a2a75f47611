"""The local engine: trains missing runs on the devices of this machine, each exactly once.

The unit of work is a stack: runs that are trained together. Whatever else works on the store (other sessions, other
engines), each run is trained once, and no more stacks are in training than there are devices. Both are ensured by locks
in the store, which are freed if their holder is killed.
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
"""Process id → its pool: a forked process must not use its parent's."""


def ensure(
    store: Store,
    runs: Sequence[Run],
    *,
    processes: int | None = None,
    trainer: str = TRAINERS[STACKED],
    until: float | Deadline = math.inf,
) -> None:
    """Train the runs that `store` lacks; returns when all `runs` are stored, by this or any other process.

    They are trained by a pool of worker processes that stays for the next call. `processes`: how many stacks to train
    at once, by default one per device. `trainer`: the function to train them with, as `module:function`. `until`: when
    to stop, by the monotonic clock. Raises `TrainingFailed` if a run cannot be trained, `StoreError` if one cannot be
    stored, and `OutOfTime` at `until`, after saving the stacks in training as they are.
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
