"""Leases: the locks that a process takes before it uses a device, so that no two processes use it at once.

A core's lease is a lock in the store: a session on another store may use the same core, which only costs time. Two
processes on one GPU may both run out of memory, so a GPU's lease is also a lock in a folder of this user on this
machine, whatever the store. The lock in the store is still needed for containers, which may not see that folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count
from pathlib import Path

from replicate.store import atomic, locks
from replicate.store.locking import is_locked_by_kernel, kernel_lock
from replicate.store.locks import Holder
from replicate.store.store import Store
from replicate.train.engine import scratch
from replicate.train.engine.devices import CPU, Slot

HOLDER = ".holder"
"""Suffix of the file, next to the lock, that says which process holds it."""
POLL_SECONDS = (0.02, 0.25)
"""First and longest pause between two attempts to take a lock that another process holds."""


class Lease:
    """The lock on a slot (a device); `take` does not wait for it. If the process ends, the lock is freed."""

    def __init__(self, slot: Slot, store: Store | None, note: Callable[[str], None]) -> None:
        """`store`: the store to train into, if any. `note` gets a warning if other stores may use the same GPU."""
        self.slot = slot
        self._store, self._note = store, note
        self._held = contextlib.ExitStack()

    def take(self) -> bool:
        """Take the lease and record this process as its holder; returns False if another process has it.

        Raises StoreError if locking in the store fails.
        """
        with contextlib.ExitStack() as held:
            # The machine's lock is taken first, because monitors show the store's lock even if it is held only briefly.
            if not self._take_of_machine(held):
                return False
            if self._store is not None:
                lock = self._store.lease(self.slot.name)
                if not self._store.take(lock):
                    return False
                held.callback(lock.release)
                self._store.sign(self._store.layout.holder(self.slot.name))
            self._held = held.pop_all()
        return True

    def release(self) -> None:
        """Release the locks."""
        self._held.close()

    def _take_of_machine(self, held: contextlib.ExitStack) -> bool:
        if self.slot.device == CPU:
            return True
        from filelock import Timeout  # slow to import

        try:
            path = _of_machine(self.slot)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            lock = kernel_lock(path)
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            self._note(
                f"leases of GPUs: expected a folder with locks that all stores share, got: {error}; a session with "
                f"another store may use the same GPU: set {scratch.SCRATCH_VARIABLE} to a folder of this machine"
            )
            return True
        held.callback(lock.release)
        with contextlib.suppress(OSError):
            atomic.write(path.with_suffix(HOLDER), json.dumps(locks.this_process()), durable=False)
        return True


def holders(store: Store | None, slots: Sequence[Slot]) -> dict[str, Holder | None]:
    """Name of each of `slots` that is leased, in the store or on this machine → the process that holds it, if known."""
    in_store = set(store.held_slots()) if store is not None else set()
    found: dict[str, Holder | None] = {}
    for slot in slots:
        if store is not None and slot.name in in_store:
            found[slot.name] = locks.holder(store.layout.holder(slot.name))
        elif slot.device != CPU:
            with contextlib.suppress(OSError):
                path = _of_machine(slot)
                if is_locked_by_kernel(path):
                    found[slot.name] = locks.holder(path.with_suffix(HOLDER))
    return found


def wait(
    store: Store | None, slots: Sequence[Slot], enough: Callable[[], bool], note: Callable[[str], None]
) -> Lease | None:
    """Lease one of `slots` as soon as one is free; returns None if `enough()` is true first. `note`: for warnings."""
    leases = [Lease(slot, store, note) for slot in slots]
    pause, longest = POLL_SECONDS
    while not enough():
        for lease in leases:
            if lease.take():
                return lease
        time.sleep(pause)
        pause = min(2 * pause, longest)
    return None


@contextlib.contextmanager
def to_measure(store: Store | None, slots: Sequence[Slot], say: Callable[[str], None]) -> Iterator[Slot]:
    """Lease one of `slots` while its speed is measured; `say` gets a line that names the process it waits for, if any.

    A core is not leased, because only processor time is measured there. A store that cannot be written to is ignored.
    """
    if slots[0].device == CPU:
        yield slots[0]
        return
    if store is not None and not os.access(store.layout.root, os.W_OK):
        store = None
    say = cache(say)  # each line once
    looks = count()

    def tell() -> bool:
        if next(looks) == 1:
            say(waiting_for(holders(store, slots)))
        return False

    held = wait(store, slots, tell, say)
    assert held is not None
    try:
        yield held.slot
    finally:
        held.release()


def waiting_for(held: dict[str, Holder | None]) -> str:
    """A line that names the devices that this process waits for and the processes that hold these devices."""
    each = [f"{name} ({holder or 'a process that left no name'})" for name, holder in held.items()]
    names = " or ".join(each)
    return f"waiting for device {names}" if names else "waiting for a device that another session has just taken"


def _of_machine(slot: Slot) -> Path:
    """The lock file of `slot` that all stores share."""
    return scratch.common() / "leases" / f"{slot.name}.lock"
