"""Which devices a session still uses: from what failed on each, and under which stack, to the slots that are left.

For as long as the session lasts, whatever asks it to train, and how often: rounds ask again and again.
"""

from __future__ import annotations

from collections.abc import Sequence

from replicate.store.store import Store
from replicate.train.engine import devices
from replicate.train.engine.devices import Slot
from replicate.train.engine.failed import NO_DEVICE, TrainingFailed
from replicate.train.engine.work import Work


class Trust:
    """What a pool has seen of its devices, by the names of their slots."""

    def __init__(self) -> None:
        self._doubted: set[str] = set()
        """Have failed and not been used since."""
        self._left_alone: set[str] = set()

    def usable(self, slots: Sequence[Slot]) -> list[Slot]:
        """Those of `slots` that are not left alone; all where there is no other: perhaps somebody has seen to them."""
        return [slot for slot in slots if slot.name not in self._left_alone] or list(slots)

    def used(self, name: str) -> None:
        """The device of slot `name` has done a job."""
        self._doubted.discard(name)

    def after_error(self, store: Store, work: Work, failed: str, error: str, slots: Sequence[Slot]) -> list[Slot]:
        """Those of `slots` that are left, as new processes will see them, after that named `failed` did under `work`.

        The first time it may have been the process: `work` is to be tried once more there, in another. Then the device
        is left alone; but where `work` has cost one already, it is blamed itself, and what it has cost is used again
        from the next call on. `error`: what was raised. Raises `TrainingFailed` where no device is left.
        """
        left = devices.still_there(slots)
        work.again_on = ""
        if all(slot.name != failed for slot in slots):  # crossed out while the job was under way
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
        store.note(f"{error.splitlines()[0]}; its stack is tried once more there, in a new process")
        return left

    def _without(self, store: Store, slots: Sequence[Slot], failed: str, error: str) -> list[Slot]:
        """`slots` without the one named `failed`, which a notice says."""
        first = error.splitlines()[0]
        left = [slot for slot in slots if slot.name != failed]
        self._doubted.discard(failed)
        if not left:
            raise TrainingFailed(f"{first}; {NO_DEVICE}")
        self._left_alone.add(failed)
        others = "1 other goes" if len(left) == 1 else f"{len(left)} others go"
        store.note(f"{first}; it is left alone, {others} on")
        return left
