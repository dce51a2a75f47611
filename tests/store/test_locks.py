"""Locks by heartbeat: who may work where a file system has no locks of its own, and what clocks and hangs can't do."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import filelock
import pytest
from filelock import Timeout

from replicate.store import atomic, begun, fsck, locking, locks
from replicate.store.locks import HEARTBEAT, HeartbeatLock
from replicate.store.store import Store, StoreError, open_store
from replicate.train.engine.local import close, ensure
from replicate.train.watch import in_flight
from tests.support.faketrainer import NAME, fake_result, fake_run
from tests.support.here import train_here
from tests.support.processes import environment, posix

BEAT, SILENT = 0.05, 0.4


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", BEAT)
    monkeypatch.setattr(locks, "SILENT_SECONDS", SILENT)
    monkeypatch.setattr(locks, "_heartbeats", locks._Heartbeats())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.heartbeat"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv(locks.VARIABLE, HEARTBEAT)
    return open_store(tmp_path / "store")


def seconds_to_take(path: Path, timeout: float = 10.0) -> float:
    """How long it takes to get the lock at `path`, which is given back then."""
    began = time.monotonic()
    with HeartbeatLock(path).acquire(timeout):
        return time.monotonic() - began


def process(body: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """Another program with the same short times."""
    head = f"""
        import os, sys, time
        from pathlib import Path
        from replicate.store import locks
        from replicate.train.engine.local import ensure
        from replicate.store.store import open_store
        from tests.support.faketrainer import NAME, fake_run
        from tests.support.here import train_here
        locks.BEAT_SECONDS, locks.SILENT_SECONDS = {BEAT}, {SILENT}
    """
    program = textwrap.dedent(head) + textwrap.dedent(body)
    return subprocess.Popen([sys.executable, "-c", program, *arguments], env=environment(), **options)


# One lock


def test_a_lock_excludes_until_it_is_given_back(path: Path) -> None:
    lock, other = HeartbeatLock(path), HeartbeatLock(path)
    with lock:
        assert lock.is_locked and not other.is_locked
        held = locks.holder(path)
        assert held is not None and held.pid == os.getpid() and str(held).startswith(f"process {os.getpid()} on ")
        with pytest.raises(Timeout):
            other.acquire(blocking=False)
        with pytest.raises(Timeout):
            other.acquire(timeout=0.1)
    assert not list(path.parent.iterdir())
    with other.acquire(blocking=False):
        lock.release()  # which it does not hold
        assert other.is_locked and path.exists()
        with pytest.raises(RuntimeError, match="this object already holds the lock"):
            other.acquire()


@pytest.mark.slow
def test_a_living_holder_keeps_its_lock_however_clocks_jump(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's clock nor that of the file server, which dates files, is asked."""
    jumps = [0.0]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jumps[0])
    with HeartbeatLock(path):
        for jump in (3e7, -3e7, 86400.0, -86400.0):
            jumps[0] = jump
            os.utime(path, (real() + jump,) * 2)
            with pytest.raises(Timeout):
                HeartbeatLock(path).acquire(timeout=1.2 * SILENT)
    assert seconds_to_take(path) < SILENT


@pytest.mark.parametrize("jump", [0.0, 3e7, -3e7])
@pytest.mark.parametrize("content", [b"", b'{"host": "gone", "pid": 1, "since": "then", "token": "0123"}', b"\xff{"])
def test_a_lock_without_a_heartbeat_is_taken_over_whatever_it_says(path: Path, content: bytes, jump: float) -> None:
    """Empty, it is what a machine leaves that is lost in the moment after taking it."""
    path.write_bytes(content)
    os.utime(path, (time.time() + jump,) * 2)
    said: list[str] = []
    began = time.monotonic()
    with HeartbeatLock(path, said.append).acquire(timeout=10):
        assert SILENT <= time.monotonic() - began < SILENT + 5
    assert said == [f"lock {path.name}: taken over because its holder was silent for {SILENT:g} s"]
    assert not list(path.parent.iterdir())


def test_of_many_that_wait_for_a_silent_holder_one_gets_the_lock(path: Path) -> None:
    path.write_bytes(b"")
    inside, most, got = [0], [0], Counter[int]()

    def work(i: int) -> None:
        lock = HeartbeatLock(path)
        for _ in range(3):
            with lock.acquire(timeout=30):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.005)
                inside[0] -= 1
                got[i] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and set(got.values()) == {3} and len(got) == 8
    assert not list(path.parent.iterdir())


def test_who_takes_a_young_lock_for_an_old_one_puts_it_back(path: Path) -> None:
    """Between a look and the removal, another may have taken the silent holder's place."""
    path.write_bytes(b"")
    seen = locks._look(path)
    path.unlink()
    with HeartbeatLock(path):
        assert not locks._removed(path, seen)
        time.sleep(3 * BEAT)
        with pytest.raises(Timeout):
            HeartbeatLock(path).acquire(timeout=1.2 * SILENT)
    assert not list(path.parent.iterdir())


def test_a_file_system_without_hard_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with HeartbeatLock(path), pytest.raises(Timeout):
        HeartbeatLock(path).acquire(timeout=1.2 * SILENT)
    path.touch()
    assert seconds_to_take(path) >= SILENT


@posix
def test_a_holder_that_hangs_loses_its_lock_and_says_so_when_it_wakes(path: Path) -> None:
    body = """
        said = []
        lock = locks.HeartbeatLock(Path(sys.argv[1]), said.append)
        lock.acquire()
        print("held", flush=True)
        while not said:
            time.sleep(0.01)
        print(said[0], flush=True)
        lock.release()
        print("let go", flush=True)
    """
    holder = process(body, str(path), stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    holder.send_signal(signal.SIGSTOP)
    lock = HeartbeatLock(path)
    try:
        lock.acquire(timeout=10)
    finally:
        holder.send_signal(signal.SIGCONT)
    told = holder.stdout.readline().decode()
    assert told.startswith(
        f"lock {path.name}: taken over by another process, since this process was silent for {SILENT:g} s; work"
    )
    assert holder.stdout.readline() == b"let go\n" and holder.wait(10) == 0
    holder.stdout.close()
    assert path.exists() and lock.is_locked
    lock.release()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs to know whose process ids these are")
def test_for_a_process_of_this_machine_that_has_ended_nobody_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "locks.HeartbeatLock(Path(sys.argv[1])).acquire(); os._exit(9)"
    for space, waits in ((None, False), ("another boot or container", True)):
        assert process(body, str(path)).wait(20) == 9
        left = json.loads(path.read_text())
        path.write_text(json.dumps(left | {"space": space or left["space"]}))
        assert locks.is_held(path, atomic.clock(path.parent)) is waits
        assert (seconds_to_take(path) >= SILENT) is waits
    path.write_text(json.dumps({"space": left["space"], "pid": -1}))
    assert seconds_to_take(path) >= SILENT


# A store


def test_the_marker_says_which_locks_and_all_agree(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(store.layout.marker.read_text())["locks"] == HEARTBEAT
    assert fsck.check(store).problems == ()
    monkeypatch.delenv(locks.VARIABLE)
    again = open_store(store.path)
    assert again.kind == HEARTBEAT and isinstance(again.lock(fake_run()), HeartbeatLock)
    monkeypatch.setenv(locks.VARIABLE, locks.KERNEL)
    with pytest.raises(
        StoreError, match=r"expected REPLICATE_LOCKS unset or heartbeat, the kind of this store, got 'kernel'"
    ):
        open_store(store.path)
    assert open_store(store.path, read_only=True).kind == HEARTBEAT
    monkeypatch.setenv(locks.VARIABLE, "flock")
    with pytest.raises(StoreError, match=r"expected REPLICATE_LOCKS unset or kernel or heartbeat, got 'flock'"):
        open_store(store.path / "new")
    monkeypatch.delenv(locks.VARIABLE)
    plain = open_store(store.path / "other")
    assert plain.kind == locks.KERNEL and "locks" not in json.loads(plain.layout.marker.read_text())
    text = store.layout.marker.read_text()
    store.layout.marker.write_text(text.replace(HEARTBEAT, "tokens"))
    with pytest.raises(StoreError, match=r"of the kind kernel or heartbeat, got 'tokens' in store\.json; upgrade"):
        open_store(store.path)


def test_a_store_without_its_marker_keeps_its_locks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(locks.VARIABLE)
    store.put(fake_run(), fake_result(fake_run()), {})
    with store.lock(fake_run(1)):
        store.layout.marker.unlink()
        assert open_store(store.path).kind == HEARTBEAT
    assert open_store(store.path).kind == HEARTBEAT


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(errno.ENOLCK, "No locks available")])
def test_a_file_system_that_refuses_locks_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    plain = open_store(tmp_path / "plain")

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    new = open_store(tmp_path / "new")
    assert new.kind == HEARTBEAT and "has no locks: the store uses heartbeat locks" in new.notices[0]
    with pytest.raises(StoreError, match=r"expected a file system with locks, got .*REPLICATE_LOCKS=heartbeat set and"):
        train_here(plain, [fake_run()])


@pytest.mark.skipif(sys.platform == "win32", reason="no flock on this system, nor a lack of it")
def test_where_the_system_knows_no_flock_no_file_is_taken_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer filelock falls back to a file that stays when its holder is killed."""
    import fcntl

    plain = open_store(tmp_path / "plain")

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    new = open_store(tmp_path / "new")
    assert new.kind == HEARTBEAT and "has no locks: the store uses heartbeat locks" in new.notices[0]
    with pytest.raises(StoreError, match="expected a file system with locks, got 'Function not implemented'"):
        train_here(plain, [fake_run()])
    train_here(new, [fake_run()])
    assert new.keys() == {fake_run().key}


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:50 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2,local_lock=none,addr=10.0.0.1
41 22 0:51 / /scratch rw shared:3 - nfs server:/scratch rw,vers=3,nolock,local_lock=all
42 41 0:52 / /scratch/fast\\040disk rw - ext4 /dev/sdb1 rw
43 22 0:53 / /old rw,nolock - nfs server:/old rw
damaged
"""


@pytest.mark.parametrize(
    ("folder", "answer"),
    [
        ("/data/store", False),
        ("/home/me/store", False),
        ("/scratch", True),
        ("/scratch/me/store", True),
        ("/scratchy", False),
        ("/scratch/fast disk/store", False),
        ("/old/store", True),
    ],
)
def test_locks_that_no_other_machine_hears_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, answer: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert locking.locks_stay_here(Path(folder), mounts) is answer
    assert not locking.locks_stay_here(Path(folder), tmp_path / "none")
    monkeypatch.setattr("replicate.store.marker.locks_stay_here", lambda _: answer)
    store = open_store(tmp_path / "store")
    assert store.kind == (HEARTBEAT if answer else locks.KERNEL)
    assert [("other machines do not see" in notice) for notice in store.notices] == [True] * answer


def test_what_is_held_is_in_flight_and_no_garbage(store: Store) -> None:
    folder = begun.begin(store, [fake_run()])
    with store.lock(fake_run()), store.lease("m-cpu-0"):
        found = in_flight.read(store)
        assert [stack.state for stack in found.stacks] == [in_flight.TRAINING] and found.devices == ("m-cpu-0",)
        store.put(fake_run(), fake_result(fake_run()), {})
        store.drop_lock_file(fake_run().key)
        assert store.is_run_held(fake_run().key) and "lock" not in {p.kind for p in fsck.check(store).problems}
    assert in_flight.read(store).devices == ()
    store.layout.run_lock(fake_run().key).with_suffix(f".{HEARTBEAT}").write_bytes(b"")
    time.sleep(1.2 * SILENT)
    problems = fsck.check(store).problems
    assert {problem.kind for problem in problems} == {"lock", "checkpoint"}
    assert fsck.repair(store, problems) == [] and not folder.exists()


@pytest.mark.slow
def test_a_pool_and_processes_by_themselves_share_a_store_by_heartbeat(store: Store) -> None:
    runs = [fake_run(seed, sleep=0.01) for seed in range(24)]
    body = """
        runs = [fake_run(seed, sleep=0.01) for seed in range(24)]
        train_here(open_store(sys.argv[1]), runs, processes=2)
    """
    others = [process(body, str(store.path), stdout=subprocess.DEVNULL) for _ in range(2)]
    ensure(store, runs, processes=2, trainer=NAME)
    close()
    assert [other.wait(30) for other in others] == [0, 0]
    assert Counter(key for key, _, _ in store.trainings()) == Counter(run.key for run in runs)
    assert all(open_store(store.path).get(run).result == fake_result(run) for run in runs)
    assert not list((store.path / "locks").iterdir()) and not list(store.path.rglob("*.tmp"))


@pytest.mark.slow
@posix
@pytest.mark.parametrize("wakes", [True, False])
def test_two_who_train_one_run_cost_time_and_harm_nothing(store: Store, wakes: bool) -> None:
    """The first hangs in the middle, or its machine is gone; the second takes its device and its run over."""
    body = """
        train_here(open_store(sys.argv[1]), [fake_run(sleep=0.3)], processes=1)
    """
    run = fake_run(sleep=0.3)
    holder = process(body, str(store.path), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    # It looks for a last time whether the run is stored before it begins the stack: from then on it will train.
    while not list(store.layout.checkpoints.glob("*/runs.json")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    holder.send_signal(signal.SIGSTOP if wakes else signal.SIGKILL)
    try:
        train_here(store, [run], processes=1)
        first = store.layout.record(run.key).read_bytes()
    finally:
        holder.send_signal(signal.SIGCONT)
    assert holder.wait(10) == (0 if wakes else -signal.SIGKILL)
    assert len(store.trainings()) == 1 + wakes
    fresh = open_store(store.path)
    assert fresh.get(run).result == fake_result(run) and fresh.notices == []
    assert json.loads(first)["result"] == json.loads(store.layout.record(run.key).read_bytes())["result"]
    assert sum("taken over" in notice for notice in store.notices) == 2  # the device's and the run's
    assert not list((store.path / "locks").iterdir()) and not list(store.layout.checkpoints.iterdir())


def test_no_room_for_a_lock_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(StoreError, match=r"^cannot write .*No space left on device; make room .*runs are kept\)$"):
        train_here(store, [fake_run()])


def test_the_file_systems_clock_is_asked_and_where_it_cannot_be_this_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: 5.0)
    assert abs(atomic.clock(tmp_path) - real) < 60
    assert atomic.clock(tmp_path / "nowhere") == 5.0
    assert not list(tmp_path.iterdir())
    assert locking.has_kernel_locks(tmp_path) and not list(tmp_path.iterdir())
