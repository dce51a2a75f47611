"""What worker processes do, done in this process: for tests that look into it, or that want another session cheaply."""

from __future__ import annotations

import time
from collections.abc import Sequence

from replicate.runs.run import Run
from replicate.store.store import Store
from replicate.train.engine import devices, lease
from replicate.train.engine.leave import on_sigterm
from replicate.train.engine.missing import into_stacks, until_stored
from replicate.train.engine.worker import Seat, train_missing
from tests.support.faketrainer import NAME


def train_here(store: Store, runs: Sequence[Run], *, processes: int | None = None, trainer: str = NAME) -> None:
    """As `local.ensure`, without a pool: one stack after the other, beside other sessions on the same store."""

    def train(missing: list[Run]) -> None:
        slots = devices.slots(processes)
        pending = into_stacks(store, missing, trainer, len(slots))

        def all_stored() -> bool:
            return all(store.has(run.key) for stack in pending for run in stack)

        while (held := lease.wait(store, slots, all_stored, store.note)) is not None:
            seat = Seat(held.slot, held.slot.device, leave)
            busy = []
            try:
                for stack in pending:
                    runs = [run for run in stack if not store.has(run.key)]
                    busy.append(train_missing(store, runs, trainer, seat, None))
            finally:
                held.release()
            pending = [stack for stack in busy if stack]
            time.sleep(0.02)

    with on_sigterm() as leave:
        until_stored(store, runs, train)
