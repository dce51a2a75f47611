"""Tells the user which process holds the run or device that a session waits for, in case that process hangs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence

from replicate.runs.run import Run
from replicate.store import begun, locks
from replicate.store.store import Store
from replicate.train.engine import lease
from replicate.train.engine.devices import Slot

SAY_SECONDS = 120.0
"""How long a session waits before it names the process that it waits for, and the time between two such messages."""


class Waiting:
    """Measures how long this session has had nothing to train, and notes which process it waits for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._since = time.monotonic()

    def over(self) -> None:
        """End the wait, as the session has work again; time before this call does not count towards the next wait."""
        self._since = time.monotonic()

    def look(self, runs: Iterable[Run], slots: Sequence[Slot], own: Collection[int] = ()) -> None:
        """After a long wait, note which processes cause it: those on `slots` if none is free, else one that has a run.

        To be called often: most calls do nothing. `runs`: the runs waited for. `own`: process ids of this session; if
        one of these processes holds a slot, the session is at work, and nothing is noted.
        """
        if time.monotonic() - self._since < SAY_SECONDS:
            return
        self.over()
        holders = lease.holders(self._store, slots)
        if any(holder is not None and holder.pid in own for holder in holders.values()):
            return
        if holders and len(holders) == len(slots):
            for name, holder in holders.items():
                self._say(f"device {name}", holder)
            return
        for run in runs:
            if self._store.is_run_held(run.key):
                self._say(f"run {run.key}", begun.holder(self._store, run.key))
                return

    def _say(self, what: str, holder: locks.Holder | None) -> None:
        who = str(holder) if holder else "a process that left no name"
        self._store.note(f"waiting for {what}, held by {who}; if that process hangs, end it, and this session goes on")
