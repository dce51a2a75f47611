"""Many processes on one store, like many one-device machines: each unit is done once; measures what sharing costs.

pytest -s ci/test_many_processes.py
REPLICATE_PROCESSES=100 REPLICATE_SECONDS=60 pytest -s ci/test_many_processes.py

A unit is a stack of one run that trains for some milliseconds, so that only the store is measured.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from replicate.runs.run import Run
from replicate.store import fsck, locking, locks
from replicate.store.store import open_store
from replicate.train.contract import Stopped, Trained, Workspace
from tests.support import faketrainer
from tests.support.faketrainer import fake_result, fake_run
from tests.support.here import train_here

ROOT = Path(__file__).parents[1]
PROCESSES = int(os.environ.get("REPLICATE_PROCESSES", "16"))
SECONDS = float(os.environ.get("REPLICATE_SECONDS", "5"))
UNIT_SECONDS = 0.005
START_SECONDS = 300.0
"""Time for all processes to start; a process that gets no start signal by then fails."""
UNITS = max(1500, int(150 * SECONDS))
"""More units than most machines finish in `SECONDS`."""


def some_runs() -> list[Run]:
    """Runs with a seed each, so that every run is a stack of its own."""
    return [fake_run(seed, sleep=UNIT_SECONDS) for seed in range(UNITS)]


def fork(path: str, folder: str) -> NoReturn:
    """Fork all processes after importing and listing the runs once, and wait for them."""
    runs = some_runs()
    assert len({run.key for run in runs}) == UNITS
    pids = []
    for i in range(PROCESSES):
        if (pid := os.fork()) == 0:
            try:
                work(path, Path(folder), i, runs)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        pids.append(pid)
    sys.exit(max(os.waitpid(pid, 0)[1] for pid in pids) != 0)


def work(path: str, folder: Path, number: int, runs: Sequence[Run]) -> None:
    """Train for `SECONDS` under the host name of machine `number`; write counts and times to `folder`."""
    platform.node = lambda: f"machine {number}"
    taken = Counter[bool]()
    seconds = longest = 0.0
    take = locking.Locking.take

    def timed(self: locking.Locking, lock: locks.Lock) -> bool:
        nonlocal seconds, longest
        began = time.perf_counter()
        got = take(self, lock)
        took = time.perf_counter() - began
        seconds, longest = seconds + took, max(longest, took)
        taken[got] += 1
        return got

    locking.Locking.take = timed  # type: ignore[method-assign]
    store, began = open_store(path), math.inf

    def train(runs: Sequence[Run], device: str, workspace: Workspace) -> Iterator[Trained]:
        """The first call waits until all processes are ready, so that the time to list the work is not counted."""
        nonlocal began, seconds, longest
        if began == math.inf:
            (folder / f"{number}.ready").touch()
            deadline = time.monotonic() + START_SECONDS
            while not (folder / "go").exists():
                assert time.monotonic() < deadline, "expected the file `go`, got none"
                time.sleep(0.1)
            began, seconds, longest = time.monotonic(), 0.0, 0.0
            taken.clear()
        if began + SECONDS <= time.monotonic():
            raise Stopped
        return trainer(runs, device, workspace)

    trainer, faketrainer.train = faketrainer.train, train
    with contextlib.suppress(Stopped):
        train_here(store, runs, processes=1)
    told: dict[str, Any] = {"free": taken[True], "busy": taken[False], "locking": seconds, "longest": longest}
    told |= {"seconds": time.monotonic() - began, "notices": store.notices}
    (folder / f"{number}.json").write_text(json.dumps(told))


def per_cent(part: float, of: float) -> str:
    return f"{100 * part / of:.1f} %"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs to fork")
@pytest.mark.parametrize("kind", locks.KINDS)
def test_many_processes_do_each_unit_once(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(locks.VARIABLE, kind)
    store = open_store(tmp_path / "store")
    folder = tmp_path / "told"
    folder.mkdir()
    body = "import sys; from ci.test_many_processes import fork; fork(*sys.argv[1:])"
    forking = subprocess.Popen(
        [sys.executable, "-c", body, str(store.path), str(folder)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
    )
    try:
        while len(list(folder.glob("*.ready"))) < PROCESSES:
            assert forking.poll() is None
            time.sleep(0.1)
        (folder / "go").touch()
        assert forking.wait(SECONDS + 120) == 0
    finally:
        if forking.poll() is None:
            os.killpg(forking.pid, signal.SIGKILL)
            forking.wait()
    told = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert len(told) == PROCESSES
    assert [notice for one in told for notice in one["notices"]] == []

    times = Counter(key for key, _, _ in store.trainings())
    assert set(times.values()) == {1}, f"expected each unit once, got {Counter(times.values())}"
    fresh = open_store(store.path)
    trained = [run for run in some_runs() if run.key in times]
    assert fresh.keys() == set(times) == {run.key for run in trained}
    assert all(fresh.get(run).result == fake_result(run) for run in trained)  # type: ignore[union-attr]
    assert fresh.notices == [] and not list(store.path.rglob("*.tmp"))
    assert {problem.kind for problem in fsck.check(fresh).problems} <= {"lock"}

    units, spent = len(times), sum(one["seconds"] for one in told)
    free, busy = sum(one["free"] for one in told), sum(one["busy"] for one in told)
    seconds = sum(one["locking"] for one in told)
    each = Counter(pid for _, pid, _ in store.trainings()).values()
    print(
        f"\n{PROCESSES} processes, {kind} locks, {spent / PROCESSES:.1f} s: {units} units, each once, "
        f"{units * PROCESSES / spent:.0f} a second, {min(each)} to {max(each)} a process ({len(each)} of them); "
        f"locks: {free} taken, {busy} were held by others, {1e3 * seconds / (free + busy):.2f} ms each, "
        f"at most {max(one['longest'] for one in told):.2f} s, {per_cent(seconds, spent)} of the time; "
        f"training {per_cent(units * UNIT_SECONDS, spent)}; on {os.cpu_count()} cores"
    )
