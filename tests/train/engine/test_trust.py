"""What a session has seen of its devices: tried twice, left alone for good, and used again where a run is to blame."""

from __future__ import annotations

import pytest

from replicate.store.store import Store
from replicate.train.engine import devices
from replicate.train.engine.devices import Slot
from replicate.train.engine.failed import TrainingFailed
from replicate.train.engine.trust import Trust
from replicate.train.engine.work import Work
from tests.support.faketrainer import fake_run

A, B, C = (Slot(f"gpu-{name}", f"cuda:{i}", str(i)) for i, name in enumerate("abc"))


@pytest.fixture(autouse=True)
def _all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "still_there", list)


def fails(trust: Trust, store: Store, work: Work, slot: Slot, slots: list[Slot]) -> list[Slot]:
    return trust.after_error(store, work, slot.name, f"device {slot.device} failed\nTraceback", slots)


def test_a_device_that_fails_twice_is_left_alone_by_all_later_calls(store: Store) -> None:
    trust, work = Trust(), Work([fake_run()], 0)
    assert trust.usable([A, B]) == [A, B]
    assert fails(trust, store, work, A, [A, B]) == [A, B] and work.again_on == A.name
    assert fails(trust, store, work, A, [A, B]) == [B] and work.again_on == ""
    assert trust.usable([A, B, C]) == [B, C]
    assert trust.usable([A]) == [A], "better than none"
    assert store.notices == [
        "device cuda:0 failed; the runs are tried once more on this device, in a new process",
        "device cuda:0 failed; the device is no longer used, training goes on with 1 other device",
    ]


def test_what_is_used_in_between_counts(store: Store) -> None:
    trust = Trust()
    for _ in range(5):
        assert fails(trust, store, Work([fake_run()], 0), A, [A, B]) == [A, B]
        trust.used(A.name)
    assert trust.usable([A, B]) == [A, B]


def test_where_no_device_is_left_the_next_call_tries_each_again(store: Store) -> None:
    """The user has been asked to repair the device."""
    trust = Trust()
    for _ in range(2):
        work = Work([fake_run()], 0)
        assert fails(trust, store, work, A, [A]) == [A]
        with pytest.raises(
            TrainingFailed, match=r"^device cuda:0 failed; no other device is left\. Stored runs are kept"
        ):
            fails(trust, store, work, A, [A])
        assert trust.usable([A]) == [A]


def test_a_run_that_is_to_blame_gives_back_the_device_that_it_has_cost(store: Store) -> None:
    trust, work = Trust(), Work([fake_run()], 0)
    for slot, slots in ((A, [A, B]), (A, [A, B]), (B, [B])):
        fails(trust, store, work, slot, slots)
    assert trust.usable([A, B]) == [B] and not work.blamed
    assert fails(trust, store, work, B, [B]) == [B] and work.blamed
    assert trust.usable([A, B]) == [A, B]
