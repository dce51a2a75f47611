"""One process a GPU: the only one with a context there, replaced alone after an error, and where a stack is too large.

The GPUs are made up, the processes are real.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicate.runs.run import Run
from replicate.store import provenance
from replicate.store.store import Store, open_store
from replicate.train.engine import devices, lease, local, pool, room
from replicate.train.engine.devices import Slot
from replicate.train.engine.failed import TrainingFailed
from replicate.train.engine.local import ensure
from tests.support.faketrainer import NAME, fake_result, fake_run
from tests.support.processes import environment, wait_until

TWO = (Slot("gpu-a", "cuda:0", "0"), Slot("gpu-b", "cuda:1", "1"))


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """GPUs, and nothing known of what fits on them."""

    def slots(processes: int | None = None) -> tuple[Slot, ...]:
        return TWO[:processes]

    monkeypatch.setattr(devices, "slots", slots)
    monkeypatch.setattr(local, "slots", slots)
    monkeypatch.setattr(local, "unseen", lambda runs: "")
    monkeypatch.setattr(room, "_fitting", {})
    monkeypatch.setattr(provenance, "device_model", lambda device: f"a made-up {device}")
    yield
    local.close()


def stacks(n: int, **arguments: object) -> list[Run]:
    """Each a stack of its own."""
    return [fake_run(seed, **arguments) for seed in range(n)]


def assert_complete(store: Store, runs: list[Run]) -> None:
    assert all(store.get(run).result == fake_result(run) for run in runs)
    assert Counter(key for key, _, _ in store.trainings()) == Counter(run.key for run in runs)


def pids_of(store: Store) -> dict[str, list[int]]:
    """The processes that have trained anything, by device and in order."""
    by_key = {key: pid for key, pid, _ in store.trainings()}
    found: dict[str, list[int]] = {}
    for key, pid in by_key.items():
        found.setdefault(store.read(key).provenance["device"], []).append(pid)
    return {device: [pid for pid, _ in itertools.groupby(pids)] for device, pids in found.items()}


@pytest.mark.slow
def test_a_record_says_which_of_the_sessions_devices_it_is_from(store: Store) -> None:
    """Though each process knows one alone, and by the same name."""
    ensure(store, stacks(8, sleep=0.05), trainer=NAME)
    assert sorted(pids_of(store)) == ["cuda:0", "cuda:1"]
    assert all(len(pids) == 1 for pids in pids_of(store).values())


@pytest.mark.slow
def test_two_sessions_on_devices_that_bear_one_context_each(tmp_path: Path) -> None:
    """As in mode EXCLUSIVE_PROCESS; with a store each. Who had a device has left no context when another has it."""
    contexts = tmp_path / "contexts"
    contexts.mkdir()
    body = """
        import sys
        from replicate.store.store import open_store
        from replicate.train.engine import devices, local
        from replicate.train.engine.devices import Slot
        from tests.support.faketrainer import NAME, fake_run
        two = (Slot("gpu-a", "cuda:0", "0"), Slot("gpu-b", "cuda:1", "1"))
        local.slots = devices.slots = lambda processes=None: two
        store = open_store(sys.argv[1])
        local.ensure(store, [fake_run(i, sleep=0.1, contexts=sys.argv[2]) for i in range(8)], trainer=NAME)
        assert store.notices == [], store.notices
    """
    program = [sys.executable, "-c", textwrap.dedent(body)]
    stores = [str(tmp_path / name) for name in ("one", "other")]
    sessions = [subprocess.Popen([*program, store, str(contexts)], env=environment()) for store in stores]
    assert [session.wait(60) for session in sessions] == [0, 0]
    for path in stores:
        assert_complete(open_store(path), stacks(8, sleep=0.1, contexts=str(contexts)))


@pytest.mark.slow
def test_a_process_without_work_leaves_its_device_to_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = pool._BOOT.replace("; main()", "; import replicate.train.engine.worker as w; w.IDLE_SECONDS = 0.3; main()")
    monkeypatch.setattr(pool, "_BOOT", boot)
    ensure(store, stacks(1), trainer=NAME)
    (first,) = local._pool().pids
    mine = lease.Lease(TWO[0], None, pytest.fail)
    assert not mine.take(), "held between two calls"
    wait_until(mine.take)
    mine.release()
    ensure(store, stacks(2), trainer=NAME)
    assert local._pool().pids != [first]
    assert_complete(store, stacks(2))
    assert store.notices == []


@pytest.mark.slow
def test_a_device_error_costs_its_process_alone_and_the_stack_is_tried_once_more_there(
    store: Store, tmp_path: Path
) -> None:
    good = stacks(12, sleep=0.1)
    ensure(store, good[:2], trainer=NAME)
    before = pids_of(store)
    broken = fake_run(
        arch="breaking", devices=("cuda:1",), words="CUDA error: sticky", once=str(tmp_path / "failed"), sleep=0.1
    )
    broken_too = fake_run(
        1, arch="breaking", devices=("cuda:1",), words="CUDA error: sticky", once=str(tmp_path / "failed"), sleep=0.1
    )
    ensure(store, [broken, broken_too, *good], trainer=NAME)
    assert_complete(store, [*good[:2], broken, broken_too, *good[2:]])
    (notice,) = store.notices
    assert notice.startswith("device cuda:1 failed while training breaking on nowhere")
    assert notice.endswith(
        "RuntimeError: CUDA error: sticky; the runs are tried once more on this device, in a new process"
    )
    after = pids_of(store)
    assert after["cuda:0"] == before["cuda:0"], "the other process goes on"
    old, new = after["cuda:1"]
    assert [old] == before["cuda:1"] and new != old
    failed = next(run for run in (broken, broken_too) if run.key in notice)
    assert store.get(failed).provenance["device"] == "cuda:1"


@pytest.mark.slow
def test_devices_that_fail_now_and_then_are_used_on(store: Store, tmp_path: Path) -> None:
    """Each time in a new process: what was trained in between counts."""
    runs = [
        fake_run(
            seed, arch="breaking", devices=("cuda:0", "cuda:1"), words="CUDA error", once=str(tmp_path / str(seed))
        )
        for seed in range(4)
    ]
    ensure(store, runs, processes=1, trainer=NAME)
    assert_complete(store, runs)
    assert len(store.notices) == 4 and all("once more" in notice for notice in store.notices)
    assert set(pids_of(store)) == {"cuda:0"}


@pytest.mark.slow
def test_a_stack_that_is_too_large_goes_on_with_half_as_many_lanes_and_so_does_its_kind(store: Store) -> None:
    def stack(seed: int, fitting: int = 4) -> list[Run]:
        return [fake_run(seed, arch="large", room=fitting, lr=lr) for lr in (1e-3, 2e-3, 3e-3)]

    def train(runs: list[Run]) -> None:
        ensure(store, runs, processes=1, trainer=NAME)

    train(stack(0))
    assert store.notices == [
        "out of memory on cuda:0 with 16 runs at once: going on with 8 at a time",
        "out of memory on cuda:0 with 8 runs at once: going on with 4 at a time",
    ]
    train([*stack(1), *stack(2), fake_run()])
    assert len(store.notices) == 2, "of the same kind, whatever the seed: begun with what fits"
    assert len(pids_of(store)["cuda:0"]) == 1, "nothing was given up again"
    train(stack(0, fitting=1))
    assert [notice[-25:] for notice in store.notices[2:]] == [f"going on with {n} at a time" for n in (2, 1)]
    assert room.lanes(stack(9)[0]) == 4 and room.lanes(stack(9, 1)[0]) == 1 and room.lanes(fake_run()) is None
    assert_complete(store, [*stack(0), *stack(1), *stack(2), fake_run(), *stack(0, 1)])


@pytest.mark.slow
def test_what_is_too_large_in_one_lane_has_failed(store: Store) -> None:
    run = fake_run(arch="large", room=0)
    with pytest.raises(
        TrainingFailed, match=rf"^training large on nowhere .* key {run.key}\) failed: MemoryError: no ro"
    ):
        ensure(store, [run], trainer=NAME)
    assert store.notices[-1].endswith("with 2 runs at once: going on with 1 at a time")


@pytest.mark.slow
def test_a_process_that_ran_out_of_memory_gets_no_more_work(store: Store) -> None:
    ensure(store, [fake_run()], processes=1, trainer=NAME)
    before = local._pool().pids
    ensure(store, [fake_run(arch="large", room=8)], processes=1, trainer=NAME)
    assert len(local._pool().pids) == 1 and local._pool().pids != before
    assert len(set(pids_of(store)["cuda:0"])) == 2


@pytest.mark.slow
def test_where_the_last_device_vanishes_training_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All fail at once, and the driver shows one less each time it is asked; nobody waits for a device that is gone."""
    shown = [[TWO[1]], []]
    monkeypatch.setattr(devices, "still_there", lambda _: shown.pop(0) if shown else [])
    runs = stacks(2, arch="breaking", devices=("cuda:0", "cuda:1"), words="CUDA error: gone")
    with pytest.raises(TrainingFailed, match="no other device is left"):
        ensure(store, runs, trainer=NAME)


THREE = (*TWO, Slot("gpu-c", "cuda:2", "2"))


@pytest.mark.slow
def test_a_run_that_fails_on_every_device_costs_one_of_them_and_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are trained; and so is its company in the stack."""
    monkeypatch.setattr(devices, "slots", lambda processes=None: THREE[:processes])
    monkeypatch.setattr(local, "slots", lambda processes=None: THREE[:processes])
    monkeypatch.setattr(devices, "still_there", list)
    everywhere = ("cuda:0", "cuda:1", "cuda:2")
    bad = fake_run(99, arch="breaking", devices=everywhere, words="CUDA error: device-side assert triggered")
    good = stacks(12, sleep=0.05)
    with pytest.raises(TrainingFailed) as end:
        ensure(store, [*good[:3], bad, *good[3:]], trainer=NAME)
    assert bad.key in str(end.value) or "breaking" in str(end.value)
    assert all(store.has(run.key) for run in good)
    assert sum("no longer used" in notice for notice in store.notices) == 1


@pytest.mark.slow
def test_a_device_that_always_fails_is_tried_twice_however_often_rounds_ask(store: Store) -> None:
    runs = [fake_run(i, arch="breaking", devices=("cuda:1",), words="CUDA error", sleep=0.1) for i in range(9)]
    for asked in range(3):
        ensure(store, runs[: 3 * (asked + 1)], trainer=NAME)
    assert_complete(store, runs)
    once, twice = store.notices
    assert once.endswith("CUDA error; the runs are tried once more on this device, in a new process")
    assert twice.endswith("CUDA error; the device is no longer used, training goes on with 1 other device")
