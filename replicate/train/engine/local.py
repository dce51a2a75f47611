"""The local engine: from missing runs to stored ones, on the devices of this machine, each run trained exactly once.

The unit of work is a stack: runs that are trained together. Each run exactly once and no more stacks at a time than
there are devices, whatever else works on the store: another session, another xdist worker, another engine. Both rest on
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

from replicate.runs.run import Run
from replicate.store.store import Store
from replicate.train.contract import STACKED, TRAINERS, Stopped, TooLarge, Trainer
from replicate.train.engine import room
from replicate.train.engine.devices import CPU, Slot, slots, unseen
from replicate.train.engine.failed import TrainingFailed
from replicate.train.engine.lease import POLL_SECONDS, leased
from replicate.train.engine.leave import Deadline, Leave, OutOfTime, on_sigterm
from replicate.train.engine.missing import into_stacks, name_of, until_stored
from replicate.train.engine.pool import Pool
from replicate.train.engine.waiting import Waiting
from replicate.train.engine.work import WorkerDied
from replicate.train.engine.worker import Seat, train_missing

__all__ = ["OutOfTime", "TrainingFailed", "WorkerDied", "close", "ensure"]

_pools: dict[int, Pool] = {}
"""By owning process: a fork must not use its parent's."""
_gpu: Slot | None = None
"""On which this process has trained itself, and still has a context."""


def ensure(
    store: Store,
    runs: Sequence[Run],
    *,
    processes: int | None = None,
    in_process: bool = False,
    trainer: Trainer | str = TRAINERS[STACKED],
    until: float | Deadline = math.inf,
) -> None:
    """Train those of `runs` that `store` lacks; returns when all are stored, by this or any other process.

    `processes`: how many stacks at once, by default one a device. `in_process`: train in this process, one stack
    after the other, beside others that do the same; else in a pool of processes that stays for the next call.
    `until`: when to stop, by the monotonic clock. Raises `TrainingFailed` where a run cannot be trained, `StoreError`
    where it cannot be stored, `OutOfTime` at `until`: stacks that are in training are then saved as they are.
    """

    def train(missing: list[Run]) -> None:
        free = slots(processes) if in_process else _pool().usable(slots(processes))
        if why := unseen(missing):
            store.note(why)
        work = into_stacks(store, missing, trainer, len(free))
        if in_process:
            _train_here(store, work, trainer, free, until)
        else:
            _pool().train(store, work, name_of(trainer), free, until)

    until_stored(store, runs, train)


def close() -> None:
    """End the worker processes of this process; the next `ensure` starts new ones."""
    if (pool := _pools.pop(os.getpid(), None)) is not None:
        pool.close()


atexit.register(close)


def _pool() -> Pool:
    return _pools.setdefault(os.getpid(), Pool())


def _train_here(
    store: Store, work: Sequence[Sequence[Run]], trainer: Trainer | str, free: Sequence[Slot], until: float | Deadline
) -> None:
    """Train in this process whatever of `work` nobody else is training, until all are stored.

    The slot is held while there is something to train and given back before waiting for others. Of GPUs this process
    uses one alone, and nothing more after a device error.
    """
    global _gpu
    pending = deque(list(runs) for runs in work)
    pause, longest = POLL_SECONDS
    waiting = Waiting(store)
    with on_sigterm(until) as leave:
        while pending:
            enough = partial(_enough, store, pending, leave, waiting, free)
            with leased(store, [slot for slot in free if slot == _gpu] or free, enough, store.note) as slot:
                if slot is None and pending:
                    raise OutOfTime
                if slot is None:
                    return
                if slot.device != CPU:
                    _gpu = slot
                seat = Seat(slot, slot.device, leave)
                busy: deque[list[Run]] = deque()
                while pending:
                    runs = [run for run in pending.popleft() if not store.has(run.key)]
                    try:
                        others = train_missing(store, runs, trainer, seat, room.lanes(runs[0]) if runs else None)
                    except Stopped:
                        others = runs
                    except TooLarge as error:
                        room.halve(runs[0], error.lanes, slot.device, store.note)
                        pending.appendleft(runs)
                        continue
                    if leave.asked:
                        return
                    if leave.stopping():
                        raise OutOfTime
                    if others:
                        busy.append(others)
                    if len(others) < len(runs):
                        pause = POLL_SECONDS[0]
                        waiting.over()
                pending.extend(busy)
            if pending:
                time.sleep(pause)
                pause = min(2 * pause, longest)


def _enough(store: Store, pending: deque[list[Run]], leave: Leave, waiting: Waiting, slots: Sequence[Slot]) -> bool:
    """Whether no slot is wanted any more: others have stored all, or the time is over."""
    waiting.look(pending[0] if pending else (), slots)
    return _all_stored(store, pending) or leave.stopping()


def _all_stored(store: Store, pending: deque[list[Run]]) -> bool:
    """Whether others have stored all that is pending; drops from the front what they have."""
    while pending and all(store.has(run.key) for run in pending[0]):
        pending.popleft()
    return not pending
