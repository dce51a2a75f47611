"""Decides which devices a session still uses after some devices have failed.

A decision holds for the whole session, because training in rounds calls the engine repeatedly.
"""

from __future__ import annotations

from collections.abc import Sequence

from replicate.store.store import Store
from replicate.train.engine import devices
from replicate.train.engine.devices import Slot
from replicate.train.engine.failed import NO_DEVICE, TrainingFailed
from replicate.train.engine.work import Work


class Trust:
    """The devices of a pool that have failed, by the names of their slots."""

    def __init__(self) -> None:
        self._doubted: set[str] = set()
        """Devices that have failed and have not finished a job since."""
        self._left_alone: set[str] = set()

    def usable(self, slots: Sequence[Slot]) -> list[Slot]:
        """The members of `slots` that are still used; if there are none, all, in case they have been repaired."""
        return [slot for slot in slots if slot.name not in self._left_alone] or list(slots)

    def used(self, name: str) -> None:
        """Record that the device of the slot `name` has finished a job."""
        self._doubted.discard(name)

    def after_error(self, store: Store, work: Work, failed: str, error: str, slots: Sequence[Slot]) -> list[Slot]:
        """The slots to use from now on, with current device numbers, after the slot `failed` failed in training `work`.

        After a device's first failure `work` is retried on it in a new process, which may help. After the second the
        device is no longer used; but if another device has already been given up because of `work`, `work` is blamed,
        and the other device is used again from the next call on. `error`: the message of the failure. Raises
        `TrainingFailed` if no device is left.
        """
        left = devices.still_there(slots)
        work.again_on = ""
        if all(slot.name != failed for slot in slots):  # no longer used, since another job has failed there
            return left or self._without(store, left, failed, error)
        if all(slot.name != failed for slot in left):
            return self._without(store, left, failed, error)
        if work.blamed or (failed in self._doubted and work.cost):
            work.blamed = True
            self._doubted.discard(failed)
            self._left_alone.discard(work.cost)
            return left
        if failed in self._doubted:
            work.cost = failed
            return self._without(store, left, failed, error)
        self._doubted.add(failed)
        work.again_on = failed
        store.note(f"{error.splitlines()[0]}; the runs are tried once more on this device, in a new process")
        return left

    def _without(self, store: Store, slots: Sequence[Slot], failed: str, error: str) -> list[Slot]:
        """Stop using the device of the slot `failed`: note that, and return the other `slots`."""
        first = error.splitlines()[0]
        left = [slot for slot in slots if slot.name != failed]
        self._doubted.discard(failed)
        if not left:
            raise TrainingFailed(f"{first}; {NO_DEVICE}")
        self._left_alone.add(failed)
        others = "1 other device" if len(left) == 1 else f"{len(left)} other devices"
        store.note(f"{first}; the device is no longer used, training goes on with {others}")
        return left
