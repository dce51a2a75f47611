"""Shared by all engines: locking runs, grouping missing runs into stacks, and training until every run is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from replicate.runs.run import Run
from replicate.runs.stacks import stacks
from replicate.store import begun
from replicate.store.locks import Lock
from replicate.store.store import Store, StoreError
from replicate.train.contract import TRAINERS
from replicate.train.engine.failed import describe

MOST_RUNS = 32
"""Largest number of runs in a stack. Larger stacks are hardly faster on a core; a GPU short of memory splits them."""

ROUNDS = 3
"""How often to train runs, if the store cannot read back their records, before giving up: the disk may be faulty."""


def until_stored(store: Store, runs: Sequence[Run], train: Callable[[list[Run]], None]) -> None:
    """Call `train` with the missing runs until `store` can read all `runs`; raises StoreError after `ROUNDS` calls."""
    distinct = list({run.key: run for run in runs}.values())
    for _ in range(ROUNDS):
        missing = [run for run in distinct if store.get(run) is None]
        if not missing:
            return
        if store.read_only:
            raise StoreError(f"store {store.path}: {len(missing)} runs to train, but the store was opened read-only")
        train(missing)
    left = [run for run in distinct if store.get(run) is None]
    if left:
        raise StoreError(
            f"store {store.path}: expected {describe(left[0])} after training it {ROUNDS} times, got no readable "
            f"record ({len(left)} such runs); check the disk"
        )


def into_stacks(store: Store, missing: Sequence[Run], trainer: str, devices: int) -> list[list[Run]]:
    """Group `missing` into stacks: interrupted stacks as they were, other runs so that all `devices` have work.

    The grouping affects only speed and, on a GPU, rounding.
    """
    begun.prune(store)
    if trainer == TRAINERS["solo"]:
        return [[run] for run in missing]
    again, rest = begun.regroup(store, missing)
    return [*again, *stacks(rest, min(MOST_RUNS, max(1, -(-len(rest) // devices))))]


class RunLocks:
    """Locks on the members of `runs` that no other process is training.

    Each lock is taken without waiting: a process that waited for a lock while holding another could wait forever.
    """

    def __init__(self, store: Store, runs: Iterable[Run]) -> None:
        self._store = store
        self._held: dict[str, Lock] = {}
        try:
            for run in sorted(runs, key=lambda run: run.key):
                lock = store.lock(run)
                if store.take(lock):
                    self._held[run.key] = lock
        except BaseException:
            self.release()
            raise

    def split(self, runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
        """The members of `runs` that are locked here and not stored, and the members that other processes train."""
        # The store is read again under the lock, because the lock's last holder may just have stored the run.
        missing = [run for run in runs if run.key in self._held and self._store.get(run) is None]
        return missing, [run for run in runs if run.key not in self._held]

    def release(self, keys: Iterable[str] | None = None) -> None:
        """Release the locks of the runs with these `keys`, by default of all runs."""
        with ExitStack() as releases:  # calls all its callbacks even if one of them fails
            for key in list(self._held) if keys is None else keys:
                releases.callback(self._held.pop(key).release)
                if self._store.has(key):
                    releases.callback(self._store.drop_lock_file, key)
