"""The local engine: each run trained exactly once, whatever dies, whatever else runs; with real processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicate.paper.cells import Cell
from replicate.runs import scales
from replicate.runs.run import Run
from replicate.store import begun
from replicate.store.store import Store, StoreError, open_store
from replicate.train import solo
from replicate.train.contract import TRAINERS, Trained, Workspace
from replicate.train.engine import devices, failed, local, missing, pool, work
from replicate.train.engine.failed import TrainingFailed
from replicate.train.engine.leave import OutOfTime
from replicate.train.engine.local import ensure
from replicate.train.engine.work import WorkerDied
from tests.support.faketrainer import NAME, POISON, fake_result, fake_run, train
from tests.support.here import train_here
from tests.support.processes import environment, posix, wait_until


@pytest.fixture(autouse=True)
def _cores_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a machine with a GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module", autouse=True)
def _no_worker_outlives_this_module() -> Iterator[None]:
    yield
    local.close()


def fake_runs(n: int, **arguments: object) -> list[Run]:
    return [fake_run(seed, **arguments) for seed in range(n)]


def pids() -> list[int]:
    """Process ids of the pool's workers."""
    return local._pool().pids


def assert_complete(store: Store, runs: list[Run]) -> None:
    """Every run stored with the trainer's numbers, and nothing else lying about."""
    fresh = open_store(store.path)
    for run in runs:
        assert fresh.get(run).result == fake_result(run)
    assert fresh.notices == []
    assert leftovers(store) == []


def leftovers(store: Store) -> list[str]:
    return [p.name for p in store.path.rglob("*.tmp")]


def times_trained(store: Store) -> Counter[str]:
    return Counter(key for key, _, _ in store.trainings())


def once(runs: list[Run]) -> Counter[str]:
    return Counter(run.key for run in runs)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def session(store: Store, body: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """Another program that works on the store; `store`, `ensure`, `train_here` and `NAME` are there for `body`."""
    head = """
        import os, sys
        from replicate.train.engine.local import ensure
        from replicate.store.store import open_store
        from tests.support.faketrainer import NAME, fake_run
        from tests.support.here import train_here
        store = open_store(sys.argv[1])
    """
    program = textwrap.dedent(head) + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", program, str(store.path), *arguments],
        env=environment(),
        **options,
    )


# What is trained


def test_missing_runs_are_trained_once_and_stored_ones_not_at_all(store: Store) -> None:
    runs = fake_runs(12)
    ensure(store, runs[:5], trainer=NAME)
    ensure(store, [*runs, *runs], trainer=NAME)
    ensure(store, runs, trainer=NAME)
    assert_complete(store, runs)
    assert times_trained(store) == once(runs)
    assert not list((store.path / "locks").iterdir())


def test_a_pool_and_one_process_give_equal_results(store: Store, tmp_path: Path) -> None:
    runs = [*fake_runs(3), fake_run(arch="diverging")]
    other = open_store(tmp_path / "other")
    ensure(store, runs, trainer=NAME)
    train_here(other, runs[::-1])
    keys = [run.key for run in runs]
    assert store.content_hash(keys) == other.content_hash(keys)
    assert store.get(runs[3]).result.diverged


def test_the_pool_stays_for_the_next_call_and_imports_nothing_of_its_parent(store: Store) -> None:
    ensure(store, fake_runs(4, arch="modules", sleep=0.02), processes=2, trainer=NAME)
    before = pids()
    ensure(store, fake_runs(8, arch="modules", sleep=0.02), processes=2, trainer=NAME)
    assert pids() == before
    assert {pid for _, pid, _ in store.trainings()} <= set(before)
    assert os.getpid() not in before


def test_provenance_names_versions_and_device_and_no_person_host_or_path(store: Store) -> None:
    train_here(store, [fake_run()])
    provenance = store.get(fake_run()).provenance
    assert provenance["versions"].keys() == {"python", "torch", "timm", "numpy"}
    assert provenance["code"].keys() == {"replicate", "result_version"}
    assert provenance["device"] == "cpu"
    assert provenance["seconds"] >= 0
    blob = store.layout.record(fake_run().key).read_text()
    for private in (str(Path.home()), os.uname().nodename if hasattr(os, "uname") else "", str(store.path)):
        assert len(private) < 4 or private not in blob


def test_corrupt_records_are_trained_again(store: Store) -> None:
    runs = fake_runs(4)
    ensure(store, runs, trainer=NAME)
    store.layout.record(runs[1].key).write_bytes(b"")
    path = store.layout.record(runs[2].key)
    path.write_bytes(path.read_bytes()[:-40])
    ensure(store, runs, trainer=NAME)
    assert len(store.notices) == 2
    assert times_trained(store) == once([*runs, runs[1], runs[2]])
    assert_complete(store, runs)


def test_a_record_that_never_reads_back_is_the_disks_fault(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put = store.put

    def put_then_rot(run: Run, *rest: object, **more: object) -> None:
        put(run, *rest, **more)
        store.layout.record(run.key).write_bytes(b"rot")

    monkeypatch.setattr(store, "put", put_then_rot)
    with pytest.raises(StoreError, match=r"expected quick on nowhere .* after training it 3 times.*check the disk"):
        train_here(store, [fake_run()])


# What goes wrong


def test_an_exception_of_the_trainer_names_the_run_and_keeps_the_others(store: Store) -> None:
    bad = fake_run(seed=3, arch="failing", lr=0.003)
    with pytest.raises(
        TrainingFailed,
        match=r"^training failing on nowhere lr=0\.003 wd=0\.1 seed=3 \(adamw, key [0-9a-f]{24}\) failed: "
        r"ValueError: expected luck, got none",
    ) as caught:
        ensure(store, [fake_run(), bad], processes=1, trainer=NAME)
    assert "in train" in str(caught.value) or caught.value.__cause__ is not None
    assert_complete(store, [fake_run()])
    assert not store.has(bad.key)
    ensure(store, fake_runs(3), processes=1, trainer=NAME)
    assert_complete(store, fake_runs(3))


@pytest.mark.parametrize(
    ("name", "message"),
    [("tests.support.faketrainer:nothing", "whose module lacks the function"), ("no.such:train", "No module named")],
)
def test_a_trainer_that_is_not_there(store: Store, name: str, message: str) -> None:
    with pytest.raises(TrainingFailed, match=message):
        ensure(store, [fake_run()], processes=1, trainer=name)


@pytest.mark.slow
def test_a_run_that_brings_workers_down_is_named(store: Store) -> None:
    runs = [fake_run(), fake_run(arch="crashing"), fake_run(1)]
    with pytest.raises(
        WorkerDied, match=r"training crashing on nowhere .* 3 workers died while training it, the last by exit status 7"
    ):
        ensure(store, runs, processes=1, trainer=NAME)
    ensure(store, [runs[0], runs[2]], processes=1, trainer=NAME)
    assert_complete(store, [runs[0], runs[2]])


@posix
def test_a_worker_killed_in_a_run_costs_only_that_attempt(store: Store, tmp_path: Path) -> None:
    runs = [*fake_runs(3), fake_run(arch="killing", once=str(tmp_path / "once")), *fake_runs(6)[3:]]
    ensure(store, runs, processes=2, trainer=NAME)
    assert_complete(store, runs)
    assert times_trained(store) == once(runs)


@posix
def test_a_worker_killed_in_a_stack_costs_only_that_attempt(store: Store, tmp_path: Path) -> None:
    runs = [fake_run(arch="killing", once=str(tmp_path / "once"), lr=lr) for lr in (1e-3, 2e-3, 3e-3)]
    ensure(store, runs, processes=1, trainer=NAME)
    assert_complete(store, runs)
    assert times_trained(store) == once(runs)
    assert lanes(store, runs) == [3, 3, 3]


def test_a_worker_that_cannot_start_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_BOOT", "import sys; sys.exit('no such installation')")
    broken = pool.Pool()
    with pytest.raises(WorkerDied, match=r"could not start \(exit status 1\); check the installation\nno such inst"):
        broken.train(store, [[fake_run()]], NAME, devices.slots(2))
    broken.close()


def test_a_store_that_fails_in_a_worker_is_a_store_error(store: Store) -> None:
    (store.path / "locks").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"^cannot write .*; make room or make it writable"):
        ensure(store, [fake_run()], trainer=NAME)


def test_a_read_only_store_is_not_trained_into(store: Store) -> None:
    with pytest.raises(StoreError, match="1 runs to train, but the store was opened read-only"):
        ensure(open_store(store.path, read_only=True), [fake_run()], trainer=NAME)


@pytest.mark.slow
@posix
def test_kills_at_random_moments_lose_nothing_and_train_nothing_twice(store: Store) -> None:
    runs = fake_runs(50, sleep=0.02)
    ended = threading.Event()
    rng = random.Random(0)
    killed = []

    def kill() -> None:
        while not ended.wait(rng.uniform(0.02, 0.15)):
            if there := pids():
                killed.append(rng.choice(there))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)
            if len(killed) >= 10:
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        ensure(store, runs, processes=3, trainer=NAME)
    finally:
        ended.set()
        killer.join()
    assert len(killed) > 5
    fresh = open_store(store.path)
    assert all(fresh.get(run).result == fake_result(run) for run in runs)
    assert fresh.notices == []
    counts = times_trained(store)
    # Between a record's rename and its line in the log a kill may fall: a line less, never one more.
    assert max(counts.values()) == 1
    assert len(counts) >= len(runs) - len(killed)


# Stacks


def fake_stack(n: int, **arguments: object) -> list[Run]:
    """Runs that are trained together; where the arguments name a `poison`, the third one has it."""
    lrs = [1e-3 * (i + 1) for i in range(n)]
    if "poison" in arguments:
        lrs[2] = POISON
    return [fake_run(lr=lr, **arguments) for lr in lrs]


def lanes(store: Store, runs: list[Run]) -> list[int]:
    return [store.get(run).provenance["lanes"] for run in runs]


def test_a_stack_goes_without_what_is_stored_or_held_and_has_the_rest_later(store: Store) -> None:
    runs = fake_stack(5)
    store.put(runs[1], fake_result(runs[1]), {"lanes": 0})
    lock = store.lock(runs[3])
    lock.acquire()
    threading.Timer(0.5, lock.release).start()
    ensure(store, runs, processes=1, trainer=NAME)
    assert_complete(store, runs)
    assert lanes(store, runs) == [3, 0, 3, 1, 3]
    assert times_trained(store) == once([run for run in runs if run is not runs[1]])
    assert not list(store.layout.checkpoints.iterdir())


def test_stacks_leave_no_device_without_work_and_do_not_grow_without_end(store: Store) -> None:
    ensure(store, fake_stack(10), processes=2, trainer=NAME)
    assert lanes(store, fake_stack(10)) == [5] * 10
    more = fake_stack(2 * missing.MOST_RUNS + 11)
    train_here(store, more, processes=1)
    assert set(lanes(store, more[10:])) == {missing.MOST_RUNS, missing.MOST_RUNS + 1 - missing.MOST_RUNS}


@pytest.mark.slow
@posix
def test_a_run_that_gets_workers_killed_is_found_in_its_stack_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the kernel where a run takes too much memory."""
    fewer = dataclasses.replace(work.RETRIES[work.Death.KILLED], most=4)
    monkeypatch.setitem(work.RETRIES, work.Death.KILLED, fewer)
    runs = fake_stack(3, poison="killed")
    with pytest.raises(
        WorkerDied, match=rf"key {runs[2].key}\) failed: 4 workers died while training it, the last by signal 9"
    ):
        ensure(store, runs, processes=1, trainer=NAME)
    assert_complete(store, runs[:2])


@pytest.mark.slow
def test_two_processes_that_race_for_one_stack_train_each_run_once(store: Store) -> None:
    body = """
        runs = [fake_run(lr=1e-3 * (i + 1), sleep=0.01) for i in range(30)]
        print(flush=True)
        sys.stdin.readline()
        train_here(store, runs, processes=4)
    """
    others = [session(store, body, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for other in others:
        other.stdout.readline()
    for other in others:
        other.stdin.write(b"\n")
        other.stdin.flush()
    assert [other.wait(20) for other in others] == [0, 0]
    for other in others:
        other.stdin.close()
        other.stdout.close()
    runs = fake_stack(30, sleep=0.01)
    assert_complete(store, runs)
    assert times_trained(store) == once(runs)


@pytest.mark.slow
def test_a_run_that_brings_workers_down_is_found_in_its_stack_and_its_company_trained(store: Store) -> None:
    runs = fake_stack(8, poison="crashing")
    after = fake_run(1)
    with pytest.raises(
        WorkerDied, match=rf"key {runs[2].key}\) failed: 3 workers died while training it, the last by exit status"
    ):
        ensure(store, [*runs, after], processes=1, trainer=NAME)
    assert_complete(store, [run for run in runs if run is not runs[2]])


@pytest.mark.parametrize(
    ("poison", "words"),
    [
        ("failing", r"a stack of 4 runs of quick on nowhere seed=0 \(keys .{24}, .{24}, .{24}, …\) failed: ValueError"),
        ("failing by name", r"quick on nowhere lr=0\.666 wd=0\.1 seed=0 \(adamw, key .{24}\) failed: ValueError"),
    ],
)
def test_an_exception_names_the_run_where_the_trainer_knows_it(store: Store, poison: str, words: str) -> None:
    runs = fake_stack(4, poison=poison)
    with pytest.raises(TrainingFailed, match=f"^training {words}: expected luck") as caught:
        ensure(store, runs, processes=1, trainer=NAME)
    assert list(caught.value.runs) == ([run for run in runs if run.lr == POISON] if "name" in poison else runs)


def test_a_trainer_that_leaves_out_a_run_is_told(store: Store) -> None:
    runs = fake_stack(3)
    with pytest.raises(TrainingFailed, match=rf"key {runs[1].key}\) failed: the trainer returned no result"):
        train_here(store, runs, processes=1, trainer=f"{__name__}:all_but_the_second")


def all_but_the_second(runs: list[Run], device: str, workspace: Workspace) -> list[Trained]:
    """A trainer that leaves out a run."""
    return [trained for trained in train(runs, device, workspace) if trained.run != runs[1]]


@posix
def test_a_worker_that_is_asked_to_end_saves_its_stack_and_another_goes_on(store: Store) -> None:
    runs = fake_stack(3, arch="attentive")
    ending = threading.Thread(target=ensure, args=(store, runs), kwargs={"processes": 1, "trainer": NAME})
    ending.start()
    wait_until(lambda: list(store.layout.checkpoints.glob("*/waiting")))
    first = pids()
    os.kill(first[0], signal.SIGTERM)
    ending.join(10)
    assert_complete(store, runs)
    assert pids() != first
    assert lanes(store, runs) == [3, 3, 3]
    assert not list(store.layout.checkpoints.iterdir())


@posix
def test_a_process_that_trains_by_itself_is_asked_to_end_and_the_next_goes_on_with_its_stack(store: Store) -> None:
    """The next one asks for more runs and has other devices: the stack is put together as it was."""
    body = """
        runs = [fake_run(arch="attentive", lr=lr) for lr in (3e-3, 1e-3)]
        train_here(store, runs, processes=1)
    """
    holder = session(store, body)
    wait_until(lambda: list(store.layout.checkpoints.glob("*/waiting")))
    holder.terminate()
    assert holder.wait(10) == -signal.SIGTERM
    (folder,) = store.layout.checkpoints.iterdir()
    assert {path.name for path in folder.iterdir()} == {"runs.json", "waiting", "saved"}
    more = [fake_run(arch="attentive", lr=lr) for lr in (1e-3, 3e-3)]
    train_here(store, [*fake_stack(4), *more], processes=3)
    assert lanes(store, more) == [2, 2]
    assert not list(store.layout.checkpoints.iterdir())


def test_stacks_that_were_begun_are_kept_together_and_forgotten_when_done(store: Store) -> None:
    runs = fake_stack(8)
    folder = begun.begin(store, runs[5:2:-1])
    assert begun.begin(store, runs[5:2:-1]) == folder
    assert begun.regroup(store, runs) == ([runs[5:2:-1]], [*runs[:3], *runs[6:]])
    assert begun.regroup(store, runs[:5]) == ([[runs[4], runs[3]]], runs[:3])
    (folder / "x.checkpoint").touch()
    assert begun.begin(store, [runs[4], runs[3]]) == folder
    assert store.notices == [
        "the training of 3 runs together was interrupted; 2 of them are trained now, and may start from the "
        "beginning instead of a checkpoint"
    ]
    begun.prune(store)
    assert folder.exists()
    for run in runs[3:6]:
        store.put(run, fake_result(run), {})
    begun.prune(store)
    assert not folder.exists()
    old = begun.begin(store, runs[:2])
    for path in [*old.iterdir(), old]:
        os.utime(path, (0, 0))
    (begun.begin(store, runs[6:]) / begun.RUNS).write_text("cut o")
    assert begun.regroup(store, runs[6:]) == ([], runs[6:])
    begun.prune(store)
    assert not list(store.layout.checkpoints.iterdir())


def test_solo_trains_real_runs_one_by_one(store: Store) -> None:
    cell = Cell("mixer_s16", "cifar100")
    runs = [scales.make_run(scales.SMOKE, cell, "main", lr, 0.1, 0) for lr in (1e-3, 1e-2)]
    train_here(store, runs, processes=1, trainer=TRAINERS["solo"])
    for run in runs:
        stored = store.get(run)
        assert {name: stored.provenance[name] for name in ("trainer", "lanes", "precision")} == {
            "trainer": "solo", "lanes": 1, "precision": "float32"
        }  # fmt: skip
        assert stored.result.accuracy_pp == solo.train(run).accuracy_pp


# Others at work on the same store


@pytest.mark.slow
def test_two_pools_and_two_single_processes_share_one_store(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    runs = fake_runs(40, sleep=0.03, log=str(log))
    body = """
        runs = [fake_run(seed, sleep=0.03, log=sys.argv[2]) for seed in range(40)]
        (ensure if sys.argv[3] == "pool" else train_here)(store, runs, processes=2, trainer=NAME)
        assert all(store.get(run) for run in runs)
    """
    others = [session(store, body, str(log), how) for how in ("alone", "alone", "pool")]
    ensure(store, runs, processes=2, trainer=NAME)
    assert [other.wait(30) for other in others] == [0, 0, 0]
    assert_complete(store, runs)
    assert times_trained(store) == once(runs)
    # At no moment more trainings than slots.
    spans = [(float(a), float(b)) for _, a, b in (text.split() for text in log.read_text().splitlines())]
    assert len(spans) == len(runs)
    assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) <= 2


@pytest.mark.slow
def test_waiting_for_a_run_that_another_holds(store: Store) -> None:
    """The holder finishes: its result is taken. The holder dies: the run is trained here."""
    run = fake_run(sleep=0.3)
    body = "train_here(store, [fake_run(sleep=0.3)], processes=2)"
    for dies in (False, True):
        store.layout.record(run.key).unlink(missing_ok=True)
        before = len(store.trainings())
        holder = session(store, body)
        wait_until(lambda: bool(store.is_run_held(run.key)))
        if dies:
            killer = threading.Timer(0.1, holder.kill)
            killer.start()
        ensure(store, [run], processes=2, trainer=NAME)
        holder.wait()
        last = store.trainings()[-1]
        assert len(store.trainings()) == before + 1
        assert (last[1] == holder.pid) == (not dies)


def test_without_a_free_slot_nothing_is_trained_until_there_is_one(store: Store) -> None:
    lease = store.lease(devices.slots(1)[0].name)
    lease.acquire()
    done = threading.Thread(target=ensure, args=(store, [fake_run()]), kwargs={"processes": 1, "trainer": NAME})
    done.start()
    time.sleep(0.15)
    assert not store.has(fake_run().key)
    lease.release()
    done.join(5)
    assert store.has(fake_run().key)


def test_waiting_for_a_slot_ends_when_others_have_done_the_work(store: Store) -> None:
    with store.lease(devices.slots(1)[0].name):
        timer = threading.Timer(0.1, store.put, (fake_run(), fake_result(fake_run()), {}))
        timer.start()
        train_here(store, [fake_run()], processes=1)
        timer.join()
    assert store.trainings() == []


# Ends of the controlling process

LONG = """
    print(os.getpid(), flush=True)
    runs = [fake_run(seed, sleep=0.1) for seed in range(200)]
    import threading, time
    from replicate.train.engine import local
    def tell():
        while len(local._pool().pids) < 2: time.sleep(0.01)
        print(*local._pool().pids, flush=True)
    threading.Thread(target=tell, daemon=True).start()
    ensure(store, runs, processes=2, trainer=NAME)
"""


@pytest.mark.slow
@posix
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_the_end_of_the_parent_ends_its_workers_and_leaves_a_good_store(store: Store, how: str) -> None:
    parent = session(store, LONG, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    parent.stdout.readline()
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    wait_until(lambda: len(store.keys()) >= 5)
    if how == "SIGINT":  # as Ctrl-C does: to every process of the group
        os.killpg(parent.pid, signal.SIGINT)
    else:
        os.kill(parent.pid, getattr(signal, how))
    _, stderr = parent.communicate(timeout=10)
    wait_until(lambda: not any(alive(pid) for pid in pids))
    if how == "SIGINT":
        assert b"KeyboardInterrupt" in stderr
    finished = {key: store.layout.record(key).stat().st_mtime_ns for key in sorted(store.keys())}
    assert 5 <= len(finished) < 200
    assert leftovers(store) == []
    runs = [fake_run(seed, sleep=0.1) for seed in range(12)]
    ensure(store, runs, processes=2, trainer=NAME)
    assert all(store.layout.record(key).stat().st_mtime_ns == mtime for key, mtime in finished.items())
    assert all(store.get(run).result == fake_result(run) for run in runs)
    assert max(times_trained(store).values()) == 1


@pytest.mark.slow
def test_pytest_and_a_module_as_parents(store: Store, tmp_path: Path) -> None:
    """Neither pytest's nor a module's `__main__` is imported by the workers, and the runs get trained."""
    body = """
        import os
        from replicate.train.engine.local import ensure
        from replicate.store.store import open_store
        from tests.support.faketrainer import NAME, fake_run

        def test_it():
            runs = [fake_run(seed, arch="modules") for seed in range({0}, {1})]
            ensure(open_store(os.environ["STORE"]), runs, processes=1, trainer=NAME)

        if __name__ in ("__main__", "__mp_main__"):
            assert __name__ == "__main__"
            test_it()
    """
    for i, arguments in enumerate(
        (["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_inner0.py"], ["-m", "test_inner1"])
    ):
        (tmp_path / f"test_inner{i}.py").write_text(textwrap.dedent(body).format(2 * i, 2 * i + 2))
        found = environment(STORE=str(store.path))
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=found, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(store.keys()) == 4


def test_describe_names_what_one_needs_to_find_a_run() -> None:
    text = failed.describe(fake_run(4, lr=3e-4))
    assert text == f"quick on nowhere lr=0.0003 wd=0.1 seed=4 (adamw, key {fake_run(4, lr=3e-4).key})"


# A budget


@pytest.mark.slow
def test_nothing_begins_after_the_time_is_over(store: Store) -> None:
    with pytest.raises(OutOfTime, match="the next training resumes the unfinished stacks"):
        ensure(store, fake_runs(3), trainer=NAME, until=time.monotonic() - 1)
    assert store.keys() == set()


def test_what_is_stored_needs_no_time(store: Store) -> None:
    runs = fake_runs(2)
    ensure(store, runs, trainer=NAME)
    ensure(store, runs, trainer=NAME, until=time.monotonic() - 1)


@pytest.mark.slow
def test_training_stops_in_time_and_goes_on_later(store: Store) -> None:
    """One stack a seed: some are done when the time is over, the others later, and none twice."""
    runs = fake_runs(8, sleep=0.3)
    with pytest.raises(OutOfTime):
        ensure(store, runs, trainer=NAME, processes=1, until=time.monotonic() + 1.5)
    done = store.keys()
    assert len(done) < len(runs)
    ensure(store, runs, trainer=NAME)
    assert_complete(store, runs)
    assert times_trained(store) == once(runs)


@pytest.mark.slow
@posix
def test_a_stack_in_training_is_asked_to_save_what_it_has(store: Store) -> None:
    run = fake_run(arch="attentive")
    with pytest.raises(OutOfTime):
        ensure(store, [run], trainer=NAME, until=time.monotonic() + 4)
    assert list(store.layout.checkpoints.rglob("saved"))
    assert store.keys() == set()
    ensure(store, [run], trainer=NAME)  # goes on from there: else it would wait to be asked
    assert_complete(store, [run])
