"""The local engine: from missing runs to stored ones, on the cores of this machine, each run trained exactly once.

Exactly once and not more at a time than there are cores, whoever else works on the store: another session, another
xdist worker, another engine. Both rest on operating-system locks in the store, which a killed holder cannot keep.
"""

from __future__ import annotations

import atexit
import os
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

from replicate.engine.cores import slots
from replicate.engine.pool import Pool, WorkerDied
from replicate.engine.worker import BUSY, POLL_SECONDS, Trainer, TrainingFailed, describe, leased, train_missing
from replicate.runs import Run
from replicate.store import Store, StoreError

__all__ = ["REFERENCE", "TrainingFailed", "WorkerDied", "close", "ensure"]

REFERENCE = "replicate.train.solo:train"

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
    trainer: Trainer = REFERENCE,
) -> None:
    """Train those of `runs` that `store` lacks; returns when every one is stored, whoever trained it.

    `processes`: how many trainings at once, by default one a physical core. `in_process`: train in this process, one
    run after the other, beside others that do the same; else in a pool of processes that stays for the next call.
    Raises `TrainingFailed` where a run cannot be trained, `StoreError` where it cannot be stored.
    """
    distinct = list({run.key: run for run in runs}.values())
    for _ in range(ROUNDS):
        missing = [run for run in distinct if store.get(run) is None]
        if not missing:
            return
        if store.read_only:
            raise StoreError(f"store {store.path}: {len(missing)} runs to train, but it was opened read-only")
        names = slots(processes)
        if in_process:
            _train_here(store, missing, trainer, names)
        else:
            _pool(min(len(names), processes or len(names))).train(store, missing, _name_of(trainer), names)
    left = [run for run in distinct if store.get(run) is None]
    if left:
        raise StoreError(
            f"store {store.path}: expected {describe(left[0])} after training it {ROUNDS} times, got no readable "
            f"record ({len(left)} such runs); check the disk"
        )


def close() -> None:
    """End the worker processes of this process; the next `ensure` starts new ones."""
    for owner, size in list(_pools):
        if owner == os.getpid():
            _pools.pop((owner, size)).close()


atexit.register(close)


def _pool(size: int) -> Pool:
    return _pools.setdefault((os.getpid(), size), Pool(size))


def _name_of(trainer: Trainer) -> str:
    """Where another process finds the function."""
    return trainer if isinstance(trainer, str) else f"{trainer.__module__}:{trainer.__qualname__}"


def _train_here(store: Store, runs: Sequence[Run], trainer: Trainer, names: Sequence[str]) -> None:
    """Train in this process whatever of `runs` nobody else is training, until all are stored.

    The slot is held while there is something to train and given back before waiting for others.
    """
    pending = deque(runs)
    pause, longest = POLL_SECONDS
    while pending:
        with leased(store, names, partial(_all_stored, store, pending)) as slot:
            if slot is None:
                return
            busy: deque[Run] = deque()
            while pending:
                run = pending.popleft()
                if store.has(run.key):
                    continue
                try:
                    outcome = train_missing(store, run, trainer)
                except StoreError:
                    raise
                except Exception as error:
                    text = " ".join(str(error).split()) or "no message"
                    raise TrainingFailed(f"training {describe(run)} failed: {type(error).__name__}: {text}") from error
                if outcome == BUSY:
                    busy.append(run)
                else:
                    pause = POLL_SECONDS[0]
            pending = busy
        if pending:
            time.sleep(pause)
            pause = min(2 * pause, longest)


def _all_stored(store: Store, pending: deque[Run]) -> bool:
    """Whether others have stored all that is pending; drops from the front what they have."""
    while pending and store.has(pending[0].key):
        pending.popleft()
    return not pending
