"""Leases: from a slot to the locks that a process takes before it uses the device, so that no two use it at once.

A core is leased in the store: company there costs time and no more. A GPU is leased in a folder of this user on this
machine too, for two stores know nothing of each other and two stacks on one GPU may both run out of memory; and in the
store, where sessions in containers meet that see no folder of the machine's.
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
"""Suffix of the file that says who took the lease beside it."""
POLL_SECONDS = (0.02, 0.25)
"""First and longest pause between two looks at locks that others hold."""


class Lease:
    """The lease on a slot, taken without waiting; the death of its holder frees it."""

    def __init__(self, slot: Slot, store: Store | None, note: Callable[[str], None]) -> None:
        """`store`: that which is trained into; None: there is none. `note` hears where other stores cannot be told."""
        self.slot = slot
        self._store, self._note = store, note
        self._held = contextlib.ExitStack()

    def take(self) -> bool:
        """Take it, and sign that this process has it; False where it is another's. StoreError as `Store.take`."""
        with contextlib.ExitStack() as held:
            # The machine's lock first: the store's is seen by who watches, and must not be had for a moment in vain.
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
        """Give it back."""
        self._held.close()

    def _take_of_machine(self, held: contextlib.ExitStack) -> bool:
        if self.slot.device == CPU:
            return True
        from filelock import Timeout  # not needed to read, and slow to import

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
                f"another store may use the same GPU: name a folder of this machine by {scratch.SCRATCH_VARIABLE}"
            )
            return True
        held.callback(lock.release)
        with contextlib.suppress(OSError):
            atomic.write(path.with_suffix(HOLDER), json.dumps(locks.this_process()), durable=False)
        return True


def holders(store: Store | None, slots: Sequence[Slot]) -> dict[str, Holder | None]:
    """Those of `slots` that are held, in the store or on this machine, by name: by whom, where that can be made out."""
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
    """The lease on the first of `slots` that is free, waiting for one; None as soon as there is `enough` without."""
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
    """Hold one of `slots`, waiting for it, while its speed is measured; `say` takes a line on whom is waited for.

    A core is not held: there, time in which a process has no core is not measured. Nor is one asked for in a store
    that cannot be written to.
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
    """A line on the devices that are waited for, and who holds them."""
    each = [f"{name} ({holder or 'a process that left no name'})" for name, holder in held.items()]
    return f"waiting for device {' or '.join(each) or 'another session has this moment'}"


def _of_machine(slot: Slot) -> Path:
    """The lock on `slot` for all stores."""
    return scratch.common() / "leases" / f"{slot.name}.lock"
