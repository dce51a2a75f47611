"""Faults made to happen: a device that vanishes, a clock that jumps, a holder that hangs, a disk that is full."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicate.runs.run import Run
from replicate.store import begun, fsck, garbage, provenance
from replicate.store.store import Store, open_store
from replicate.train.engine import devices, failed, local, waiting
from replicate.train.engine.devices import Slot
from replicate.train.engine.failed import TrainingFailed
from replicate.train.engine.local import ensure
from replicate.train.engine.trust import Trust
from replicate.train.engine.work import Work
from replicate.train.watch import in_flight
from tests.support.faketrainer import NAME, fake_result, fake_run
from tests.support.here import train_here
from tests.support.processes import environment, posix

MONTH = 30 * 24 * 3600.0


@pytest.fixture(autouse=True)
def _cores_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    yield
    local.close()


def program(body: str, *arguments: str) -> list[str]:
    head = """
        import os, sys, time
        from pathlib import Path
        from replicate.store.store import StoreError, open_store
        from tests.support.faketrainer import fake_result, fake_run
        from tests.support.here import train_here
    """
    return [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(body), *arguments]


# A device that vanishes

LOST = "CUDA error: the GPU is no longer available"


class AcceleratorError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    ("error", "of_device"),
    [
        (AcceleratorError("unspecified launch failure"), True),
        (RuntimeError(LOST), True),
        (RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"), True),
        (RuntimeError("CUDA driver error: unknown error"), True),
        (AcceleratorError("CUDA error: out of memory"), False),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), False),
        (RuntimeError("expected a tensor on cuda:0, got one on cpu"), False),
        (ValueError(LOST), False),
    ],
)
def test_an_error_is_the_devices_or_the_runs(error: Exception, of_device: bool) -> None:
    assert failed.is_of_device(error) is of_device
    said = failed.failure(error, "cuda:1", fake_run())
    assert isinstance(said, failed.DeviceFailed) is of_device
    assert "\n" not in str(said)
    assert not isinstance(failed.failure(error, "cpu", fake_run()), failed.DeviceFailed)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Three made-up GPUs, by the name of their slot; tests may take one away or renumber them."""
    there = {f"m-gpu-{name}": f"cuda:{i}" for i, name in enumerate("abc")}

    def slots(processes: int | None = None) -> tuple[Slot, ...]:
        return tuple(Slot(name, device, device[-1]) for name, device in there.items())[:processes]

    monkeypatch.setattr(devices, "slots", slots)
    monkeypatch.setattr(local, "slots", slots)
    monkeypatch.setattr(provenance, "device_model", lambda device: f"a made-up {device}")
    return there


def breaking(n: int, *broken: str) -> list[Run]:
    """Runs in stacks of their own, which break these devices."""
    return [fake_run(seed, arch="breaking", devices=broken, words=LOST, sleep=0.02) for seed in range(n)]


@pytest.mark.slow
def test_a_device_that_fails_twice_is_left_alone_and_the_others_go_on(store: Store, three: dict[str, str]) -> None:
    runs = breaking(9, "cuda:0")
    ensure(store, runs, trainer=NAME)
    assert {store.get(run).provenance["device"] for run in runs} <= {"cuda:1", "cuda:2"}
    assert all(store.get(run).result == fake_result(run) for run in runs)
    assert len(store.trainings()) == len(runs)
    first, second = [notice for notice in store.notices if "cuda:0" in notice]
    assert first.startswith("device cuda:0 failed while training breaking on nowhere lr=0.001 wd=0.1 seed=")
    assert first.endswith(f"RuntimeError: {LOST}; the runs are tried once more on this device, in a new process")
    assert second.endswith(f"RuntimeError: {LOST}; the device is no longer used, training goes on with 2 other devices")


@pytest.mark.slow
def test_where_no_device_is_left_one_line_says_so(store: Store, three: dict[str, str]) -> None:
    good, runs = fake_run(), breaking(3, "cuda:0", "cuda:1", "cuda:2")
    ensure(store, [good], trainer=NAME)
    with pytest.raises(TrainingFailed, match=r"^device cuda:\d failed while .*; no other device is left\. Stored runs"):
        ensure(store, runs, trainer=NAME)
    assert open_store(store.path).keys() == {good.key}
    assert len(store.notices) == 2 + 3


def test_devices_that_are_renumbered_keep_their_names(three: dict[str, str], store: Store) -> None:
    """The first is gone, so new processes count the others from nought."""
    before = list(devices.slots())
    error = "device cuda:0 failed\nmore"
    del three["m-gpu-a"]
    three |= {"m-gpu-b": "cuda:0", "m-gpu-c": "cuda:1"}
    left = Trust().after_error(store, Work([fake_run()], 0), "m-gpu-a", error, before)
    assert left == [Slot("m-gpu-b", "cuda:0", "0"), Slot("m-gpu-c", "cuda:1", "1")]
    notice = "device cuda:0 failed; the device is no longer used, training goes on with 2 other devices"
    assert store.notices == [notice], "not tried again: it is gone"
    three.clear()
    three["m-cpu-0"] = "cpu"
    with pytest.raises(TrainingFailed, match=r"^device cuda:0 failed; no other device is left"):
        Trust().after_error(store, Work([fake_run()], 0), "m-gpu-a", error, before)


# A clock that jumps


@pytest.mark.parametrize("jump", [10 * MONTH, -10 * MONTH])
def test_a_clock_that_jumps_makes_nothing_old(
    store: Store, monkeypatch: pytest.MonkeyPatch, jump: float, smoke_alone: None
) -> None:
    """Files are dated by the file system; only this machine's clock jumps."""
    runs = [fake_run(seed) for seed in range(3)]
    store.put(runs[0], fake_result(runs[0]), {})
    folder = begun.begin(store, runs[1:])
    (folder / "x.checkpoint").write_bytes(b"half")
    young = store.layout.temporary(store.layout.record(runs[1].key))
    young.parent.mkdir(parents=True, exist_ok=True)
    young.touch()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    again = open_store(store.path)
    begun.prune(again)
    assert young.exists() and (folder / "x.checkpoint").exists()
    with again.lock(runs[1]):
        assert {item.reason for item in garbage.find(again)} == {garbage.UNNAMED}
        (stack,) = in_flight.read(again).stacks
    assert 0 <= stack.begun_seconds_ago < 60 and stack.saved_seconds_ago is not None
    assert 0 <= stack.saved_seconds_ago < 60
    assert {problem.kind for problem in fsck.check(again).problems} == {"checkpoint"}  # the half one alone
    train_here(again, runs)
    assert len(again.trainings()) == 2 and not folder.exists()


def test_a_stack_in_training_is_not_given_up_however_old_it_looks(store: Store) -> None:
    run = fake_run()
    folder = begun.begin(store, [run])
    past = time.time() - 2 * MONTH
    for path in (folder / begun.RUNS, folder):
        os.utime(path, (past, past))
    with store.lock(run):
        begun.prune(store)
        assert folder.exists()
    begun.prune(store)
    assert not folder.exists()


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_the_time_left_does_not_know_of_the_jump(store: Store, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    from replicate.train.watch.monitor import Monitor

    runs = [fake_run(seed) for seed in range(20)]
    monitor = Monitor(store, runs, interval=0.01)
    monitor.poll()
    real = time.time
    for i, run in enumerate(runs[:-1]):
        store.put(run, fake_result(run), {}, durable=False)
        if i == 9:
            monkeypatch.setattr(time, "time", lambda: real() + jump)
        time.sleep(0.002)
        snapshot = monitor.poll()
    assert snapshot.seconds_left is not None and 0 <= snapshot.seconds_left < 60
    assert snapshot.runs_per_second is not None and snapshot.runs_per_second > 1 and snapshot.seconds >= 0


# A holder that hangs


@pytest.mark.slow
@posix
@pytest.mark.parametrize("slots", [1, 2])
def test_who_is_waited_for_is_said(store: Store, monkeypatch: pytest.MonkeyPatch, slots: int) -> None:
    """With one device the hung process keeps it from others; with two, its run alone."""
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.2)
    run = fake_run(sleep=0.5)
    body = """
        n = int(sys.argv[2])
        train_here(open_store(sys.argv[1]), [fake_run(sleep=0.5)], processes=n)
    """
    holder = subprocess.Popen(program(body, str(store.path), str(slots)), env=environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while begun.holder(store, run.key) is None or not store.is_run_held(run.key):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    holder.send_signal(signal.SIGSTOP)

    def end_it_once_named() -> None:
        while not store.notices and time.monotonic() < deadline:
            time.sleep(0.02)
        holder.kill()

    person = threading.Thread(target=end_it_once_named)
    person.start()
    ensure(store, [run], processes=slots, trainer=NAME)
    person.join()
    assert holder.wait(10) == -signal.SIGKILL
    said = store.notices[0]
    assert said.startswith("waiting for device " if slots == 1 else f"waiting for run {run.key}, ")
    assert f"held by process {holder.pid} on {os.uname().nodename} (since " in said
    assert said.endswith("; if that process hangs, end it, and this session goes on")
    assert len(store.trainings()) == 1 and store.get(run).result == fake_result(run)


def test_who_is_at_work_waits_for_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.0)
    slot = Slot("m-cpu-0", "cpu")
    held = waiting.Waiting(store)
    held.look([fake_run()], [slot, Slot("m-cpu-1", "cpu")])
    with store.lease(slot.name), store.lock(fake_run()):
        store.sign(store.layout.holder(slot.name))
        held.look([fake_run()], [slot], own=[os.getpid()])
        assert store.notices == []
        held.look([fake_run()], [slot, Slot("m-cpu-1", "cpu")])
        held.look([fake_run()], [slot])
    assert store.notices[0].startswith(f"waiting for run {fake_run().key}, held by a process that left no name;")
    assert store.notices[1].startswith(f"waiting for device m-cpu-0, held by process {os.getpid()} on ")


# A full disk

FULL = """
    import errno
    store, kind = open_store(sys.argv[1]), sys.argv[2]
    runs = [fake_run(seed) for seed in range(40)]
    train_here(store, runs[:5], processes=1)
    before = {key: store.layout.record(key).read_bytes() for key in store.keys()}
    fillers = []
    try:
        while kind == "bytes":
            fillers.append(Path(sys.argv[1], "..", f"filler{len(fillers)}"))
            with fillers[-1].open("wb", buffering=0) as file:
                while file.write(bytes(4096)) == 4096:
                    pass
        while kind == "files":
            fillers.append(Path(sys.argv[1], "..", f"filler{len(fillers)}"))
            fillers[-1].touch()
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    for attempt in range(2):
        try:
            train_here(store, runs, processes=1)
        except StoreError as error:
            said = str(error)
        else:
            raise AssertionError("expected a full disk")
        assert said.startswith("cannot write ") and "\\n" not in said, said
        assert "No space left on device; make room or make it writable" in said, said
        assert "finished runs are kept" in said, said
    try:
        open_store(sys.argv[1])
    except StoreError as error:
        assert "expected a directory that can be written, got 'No space left on device'" in str(error), error
    else:
        raise AssertionError("expected a full disk")
    assert {key: store.layout.record(key).read_bytes() for key in before} == before
    left = [path for path in store.path.rglob("*.tmp")]
    assert not left, left
    for filler in fillers:
        filler.unlink(missing_ok=True)
    again = open_store(sys.argv[1])
    train_here(again, runs, processes=1)
    assert all(again.get(run).result == fake_result(run) for run in runs)
    assert again.notices == [] and len(again.trainings()) == len(runs), (again.notices, len(again.trainings()))
    from replicate.store import fsck
    assert fsck.check(again).problems == (), fsck.check(again).problems
    print("went on")
"""


def small_file_system(size: str, then: list[str], folder: Path) -> list[str]:
    """`then` under a small file system at `folder`, which nobody else sees and which ends with it."""
    script = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'
    return ["unshare", "-Urm", "sh", "-c", script, size, str(folder), *then]


@pytest.fixture(scope="module")
def _may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("mounted")
    if (
        not shutil.which("unshare")
        or subprocess.run(small_file_system("size=64k", ["true"], folder), capture_output=True).returncode
    ):
        pytest.skip("needs a kernel that lets users mount a file system of their own")


@pytest.mark.slow
@pytest.mark.usefixtures("_may_mount")
@pytest.mark.parametrize("locks", ["kernel", "heartbeat"])
@pytest.mark.parametrize(("kind", "size"), [("bytes", "size=400k"), ("files", "size=4m,nr_inodes=120")])
def test_a_full_disk_loses_nothing_and_training_goes_on_once_there_is_room(
    tmp_path: Path, kind: str, size: str, locks: str
) -> None:
    then = program(FULL, str(tmp_path / "small" / "store"), kind)
    (tmp_path / "small").mkdir()
    done = subprocess.run(
        small_file_system(size, then, tmp_path / "small"),
        env={**environment(), "REPLICATE_LOCKS": locks},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("went on\n")


@posix
def test_a_limit_on_the_size_of_files_is_as_a_full_disk(store: Store) -> None:
    """Where nothing may be mounted: the kernel cuts a write off in the middle."""
    body = """
        import resource
        store = open_store(sys.argv[1])
        run = fake_run()
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
        try:
            store.put(run, fake_result(run), {"padding": "x" * 1000})
        except StoreError as error:
            assert str(error).startswith("cannot write ") and "File too large; make room" in str(error), error
        else:
            raise AssertionError("expected a limit")
        assert store.keys() == set() and not list(store.path.rglob("*.tmp"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.put(run, fake_result(run), {})
        assert store.get(run).result == fake_result(run)
    """
    done = subprocess.run(program(body, str(store.path)), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
