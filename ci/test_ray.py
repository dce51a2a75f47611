"""The Ray engine on two simulated machines: a machine is lost, the driver is killed. A few minutes.

pip install 'replicate[ray,test]' && pytest ci/test_ray.py
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.needed import runs_for, split
from replicate.runs.run import Run
from replicate.store.store import Store, open_store
from replicate.text import UsageError
from replicate.train.engine import local
from replicate.train.engine.failed import TrainingFailed
from replicate.train.engine.work import WorkerDied
from tests.support import sessions
from tests.support.faketrainer import NAME, POISON, fake_result, fake_run

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'replicate[ray]'")

from ray.cluster_utils import Cluster  # noqa: E402

from replicate.train.engine import ray as engine  # noqa: E402
from replicate.train.engine import remote  # noqa: E402

ROOT = Path(__file__).parents[1]
undisturbed = sessions.undisturbed
SMALL = {"object_store_memory": 80 * 2**20}

DRIVER = """
import sys
from replicate.train.engine.ray import ensure
from replicate.store.store import open_store
from tests.support import sessions
from tests.support.faketrainer import NAME
from ci.test_ray import fake_runs, smoke
store = open_store(sys.argv[1])
what = sys.argv[3]
print("begins", flush=True)
if what == "smoke":
    ensure(store, smoke(), address=sys.argv[2], share=sys.argv[4] == "share")
else:
    ensure(store, fake_runs(sys.argv[5]), address=sys.argv[2], share=sys.argv[4] == "share", trainer=NAME)
"""


def smoke() -> list[Run]:
    scale = scales.get("smoke")
    return runs_for(split(CLAIMS, scale)[0], scale)


def fake_runs(log: str, n: int = 30) -> list[Run]:
    """Runs in stacks of one; each writes to `log` when it has been trained."""
    return [fake_run(seed, sleep=0.4, log=log) for seed in range(n)]


class Machines:
    """A head node without CPUs, and two machines, each with one CPU and its own disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL}
        )
        self.nodes: list[Any] = []
        for _ in range(2):
            self.add()

    def add(self) -> None:
        scratch = self._folder / f"disk-{time.monotonic_ns()}"
        self.nodes.append(self.cluster.add_node(num_cpus=1, env_vars={"REPLICATE_SCRATCH": str(scratch)}, **SMALL))

    def lose(self) -> None:
        """Remove the older machine at once, with all its processes."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)

    @property
    def address(self) -> str:
        return str(self.cluster.address)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the machines' workers to import the code
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    made = Machines(tmp_path)
    yield made
    ray.shutdown()
    made.cluster.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@contextlib.contextmanager
def when_stored(store: Store, count: int, act: Any) -> Iterator[None]:
    """Call `act` as soon as the store holds `count` runs."""

    def watch() -> None:
        while len(store.keys()) < count and not ended.wait(0.05):
            pass
        if not ended.is_set():
            act()
            acted.append(len(store.keys()))

    acted: list[int] = []
    ended = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert acted, "expected the fault in the middle, got none"


def trained_more_than_once(log: Path) -> list[str]:
    return [key for key, n in Counter(line.split()[0] for line in log.read_text().splitlines()).items() if n > 1]


def assert_equals_local(store: Store, runs: list[Run], folder: Path, killed: bool = False) -> None:
    """`store` equals one that `local` fills; no leftovers, except after a kill the files then being written."""
    whole = open_store(folder / "local")
    local.ensure(whole, runs)
    local.close()
    keys = [run.key for run in runs]
    fresh = open_store(store.path)
    assert fresh.content_hash(keys) == whole.content_hash(keys)
    assert fresh.keys() == set(keys) and fresh.notices == []
    assert not list(store.layout.checkpoints.iterdir())
    assert killed or not list(store.path.rglob("*.tmp"))
    assert killed or not list((store.path / "locks").iterdir())


@pytest.mark.parametrize("share", [True, False])
def test_smoke_with_a_machine_lost_equals_the_local_engine(
    machines: Machines, store: Store, tmp_path: Path, share: bool
) -> None:
    runs = smoke()
    with when_stored(store, len(runs) // 4, machines.lose):
        engine.ensure(store, runs, address=machines.address, share=share)
    assert times_stored(store) == Counter(run.key for run in runs)
    assert_equals_local(store, runs, tmp_path)


def times_stored(store: Store) -> Counter[str]:
    return Counter(key for key, _, _ in store.trainings())


@pytest.mark.parametrize("share", [True, False])
def test_nothing_is_trained_twice_but_what_was_in_flight(
    machines: Machines, store: Store, tmp_path: Path, share: bool
) -> None:
    log = tmp_path / "log"
    runs = fake_runs(str(log))
    with when_stored(store, 10, machines.lose):
        engine.ensure(store, runs, address=machines.address, share=share, trainer=NAME)
    assert times_stored(store) == Counter(run.key for run in runs)
    assert all(store.get(run).result == fake_result(run) for run in runs)  # type: ignore[union-attr]
    assert len(trained_more_than_once(log)) <= 15  # at most one machine's stack: half of the runs


def drive(store: Store, address: str, *arguments: str) -> subprocess.Popen[str]:
    body = textwrap.dedent(DRIVER)
    return subprocess.Popen(
        [sys.executable, "-c", body, str(store.path), address, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("share", ["share", "apart"])
def test_smoke_with_the_driver_killed_and_restarted_equals_the_local_engine(
    machines: Machines, store: Store, tmp_path: Path, share: str
) -> None:
    runs = smoke()
    first = drive(store, machines.address, "smoke", share)
    while len(store.keys()) < len(runs) // 4:
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    kept = store.keys()
    assert len(kept) < len(runs)
    assert drive(store, machines.address, "smoke", share).wait(300) == 0
    logged = times_stored(store)  # a kill may fall between storing a run and logging it
    assert max(logged.values()) == 1 and logged.total() >= len(runs) - 1
    assert_equals_local(store, runs, tmp_path, killed=True)


def test_an_interrupt_ends_the_driver_and_its_tasks(machines: Machines, store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    first = drive(store, machines.address, "fake", "apart", str(log))
    while len(log.read_text().splitlines()) < 3:
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    assert first.wait(30) not in (0, -signal.SIGKILL)
    time.sleep(1.0)
    so_far = log.read_text()
    time.sleep(2.0)
    assert log.read_text() == so_far
    for run in fake_runs(str(log)):
        store.lock(run).acquire(blocking=False)
    assert not list(store.path.rglob("*.tmp"))


def test_errors_name_the_run_and_bad_runs_do_not_take_the_others_along(machines: Machines, store: Store) -> None:
    bad = fake_run(seed=3, arch="failing", lr=0.003)
    with pytest.raises(
        TrainingFailed,
        match=r"^training failing on nowhere lr=0\.003 wd=0\.1 seed=3 \(adamw, key [0-9a-f]{24}\) failed: "
        r"ValueError: expected luck, got none",
    ) as caught:
        engine.ensure(store, [fake_run(), bad], address=machines.address, trainer=NAME)
    assert caught.value.runs == [bad], "for a session to go on without it"
    assert store.has(fake_run().key) and not store.has(bad.key)
    good = [fake_run(lr=lr, poison="crashing") for lr in (1e-3, 2e-3, 3e-3)]
    killer = fake_run(lr=POISON, poison="crashing")
    with pytest.raises(
        WorkerDied, match=r"key [0-9a-f]{24}\) failed: 10 workers died while training it, the last by Worker"
    ):
        engine.ensure(store, [*good, killer], address=machines.address, processes=1, trainer=NAME)
    assert all(store.has(run.key) for run in good) and not store.has(killer.key)


def on_bad_devices(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """As `remote.train_stack`, but one device fails twice for each file `bad-…` beside the store."""
    for bad in Path(job["checkpoints"]).parents[2].glob("bad-*"):
        with contextlib.suppress(FileNotFoundError):
            if bad.name in job["failed"]:
                bad.unlink()
            said = f"device cuda:0 failed while training something: RuntimeError: CUDA error: {bad.name}"
            held = bad.name in job["failed"]
            yield {"device": bad.name, "failed": said, "held": held}
            if held:
                time.sleep(60)
            return
    yield from remote.train_stack(job)


def test_a_device_that_fails_is_left_alone(
    machines: Machines, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one of two fails, the other trains all without waiting; if both fail, one line, and stored runs are kept."""
    monkeypatch.setattr(engine, "train_stack", on_bad_devices)
    (tmp_path / "bad-1").touch()
    log = tmp_path / "log"
    begun = time.monotonic()
    engine.ensure(store, fake_runs(str(log), 6), address=machines.address, trainer=NAME)
    assert time.monotonic() - begun < 40
    assert [n for n in store.notices if "bad-1; the runs are tried once more, in a new process" in n]
    assert [n for n in store.notices if "bad-1; the device is no longer used, the runs go to another device" in n]
    assert not trained_more_than_once(log)
    for name in ("bad-2", "bad-3"):
        (tmp_path / name).touch()
    with pytest.raises(
        TrainingFailed, match=r"^device cuda:0 failed while .*; no other device is left\. Stored runs are kept"
    ):
        engine.ensure(store, fake_runs(str(log), 12), address=machines.address, trainer=NAME)
    assert 6 <= sum(store.has(run.key) for run in fake_runs(str(log), 12)) < 12


def test_no_cluster_there_is_one_line(store: Store) -> None:
    with pytest.raises(
        UsageError, match=r"^--engine ray: expected a Ray cluster at .*:1, got .*; start one \(ray start"
    ):
        engine.ensure(store, [fake_run()], address="127.0.0.1:1", trainer=NAME)


def test_a_session_with_two_looks_and_models_loses_a_machine_and_is_killed(
    machines: Machines, tmp_path: Path, undisturbed: sessions.Ended
) -> None:
    arguments = ("-n", "2", "--engine", "ray", "--address", machines.address)
    folder = tmp_path / "ray"
    store = open_store(folder / "store")
    first = sessions.start(folder, *arguments)
    with when_stored(store, 60, machines.lose):
        while len(store.keys()) < 150:
            assert first.poll() is None
            time.sleep(0.05)
    first.kill()
    first.wait()
    assert store.keys() < undisturbed.store.keys()
    assert sessions.start(folder, *arguments).wait(600) == 1
    sessions.assert_same(folder, undisturbed)
