"""The local engine: from missing runs to stored ones, on the devices of this machine, each run trained exactly once.

The unit of work is a stack: runs that are trained together. Each run exactly once and no more stacks at a time than
there are devices, whoever else works on the store: another session, another xdist worker, another engine. Both rest on
operating-system locks in the store, which a killed holder cannot keep.
"""

from __future__ import annotations

import atexit
import math
import os
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

from replicate.engine import begun
from replicate.engine.devices import Slot, slots
from replicate.engine.leave import Leave, OutOfTime, heeding
from replicate.engine.pool import Pool, WorkerDied
from replicate.engine.worker import POLL_SECONDS, TrainingFailed, describe, leased, train_missing
from replicate.runs import Run
from replicate.store import Store, StoreError
from replicate.train.contract import STACKED, TRAINERS, Stopped, Trainer
from replicate.train.groups import stacks

__all__ = ["OutOfTime", "TrainingFailed", "WorkerDied", "close", "ensure"]

MOST_RUNS = 32
"""In a stack. On a CPU a core gains little from more; a GPU that has room for less takes them in parts."""

ROUNDS = 3
"""How often runs that cannot be read back are trained again before the disk is blamed."""

_pools: dict[tuple[int, int], Pool] = {}
"""By owning process (a fork must not use its parent's) and size."""


def ensure(
    store: Store,
    runs: Sequence[Run],
    *,
    processes: int | None = None,
    in_process: bool = False,
    trainer: Trainer | str = TRAINERS[STACKED],
    until: float = math.inf,
) -> None:
    """Train those of `runs` that `store` lacks; returns when every one is stored, whoever trained it.

    `processes`: how many stacks at once, by default one a device. `in_process`: train in this process, one stack
    after the other, beside others that do the same; else in a pool of processes that stays for the next call.
    `until`: when to stop, by the monotonic clock. Raises `TrainingFailed` where a run cannot be trained, `StoreError`
    where it cannot be stored, `OutOfTime` at `until`: stacks that are in training are then saved as they are.
    """
    distinct = list({run.key: run for run in runs}.values())
    for _ in range(ROUNDS):
        missing = [run for run in distinct if store.get(run) is None]
        if not missing:
            return
        if store.read_only:
            raise StoreError(f"store {store.path}: {len(missing)} runs to train, but it was opened read-only")
        free = slots(processes)
        work = _stacks(store, missing, trainer, len(free))
        if in_process:
            _train_here(store, work, trainer, free, until)
        else:
            _pool(min(len(free), processes or len(free))).train(store, work, _name_of(trainer), free, until)
    left = [run for run in distinct if store.get(run) is None]
    if left:
        raise StoreError(
            f"store {store.path}: expected {describe(left[0])} after training it {ROUNDS} times, got no readable "
            f"record ({len(left)} such runs); check the disk"
        )


def _stacks(store: Store, missing: Sequence[Run], trainer: Trainer | str, devices: int) -> list[list[Run]]:
    """`missing` in stacks: those that were begun before as they were, the rest such that every device has work.

    How runs are grouped decides speed alone. On a GPU it also decides their rounding.
    """
    begun.prune(store)
    if trainer == TRAINERS["solo"]:
        return [[run] for run in missing]
    again, rest = begun.regroup(store, missing)
    return [*again, *stacks(rest, min(MOST_RUNS, max(1, -(-len(rest) // devices))))]


def close() -> None:
    """End the worker processes of this process; the next `ensure` starts new ones."""
    for owner, size in list(_pools):
        if owner == os.getpid():
            _pools.pop((owner, size)).close()


atexit.register(close)


def _pool(size: int) -> Pool:
    return _pools.setdefault((os.getpid(), size), Pool(size))


def _name_of(trainer: Trainer | str) -> str:
    """Where another process finds the function."""
    return trainer if isinstance(trainer, str) else f"{trainer.__module__}:{trainer.__qualname__}"


def _train_here(
    store: Store, work: Sequence[Sequence[Run]], trainer: Trainer | str, free: Sequence[Slot], until: float
) -> None:
    """Train in this process whatever of `work` nobody else is training, until all are stored.

    The slot is held while there is something to train and given back before waiting for others.
    """
    pending = deque(list(runs) for runs in work)
    pause, longest = POLL_SECONDS
    with heeding(until) as leave:
        while pending:
            with leased(store, free, partial(_enough, store, pending, leave)) as slot:
                if slot is None and pending:
                    raise OutOfTime
                if slot is None:
                    return
                busy: deque[list[Run]] = deque()
                while pending:
                    runs = [run for run in pending.popleft() if not store.has(run.key)]
                    try:
                        others = train_missing(store, runs, trainer, slot.device, leave)
                    except Stopped:
                        others = runs
                    if leave.asked:
                        return
                    if leave.stopping():
                        raise OutOfTime
                    if others:
                        busy.append(others)
                    if len(others) < len(runs):
                        pause = POLL_SECONDS[0]
                pending = busy
            if pending:
                time.sleep(pause)
                pause = min(2 * pause, longest)


def _enough(store: Store, pending: deque[list[Run]], leave: Leave) -> bool:
    """Whether no slot is wanted any more: others have stored all, or the time is over."""
    return _all_stored(store, pending) or leave.stopping()


def _all_stored(store: Store, pending: deque[list[Run]]) -> bool:
    """Whether others have stored all that is pending; drops from the front what they have."""
    while pending and all(store.has(run.key) for run in pending[0]):
        pending.popleft()
    return not pending
