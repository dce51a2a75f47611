"""Kills three training processes at random moments; the store ends up the same as without kills. Minutes.

pytest ci/test_kills.py            REPLICATE_KILLS=50 pytest ci/test_kills.py
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from replicate.runs.run import Run
from replicate.store import fsck
from replicate.store.store import open_store
from tests.support.faketrainer import fake_result, fake_run
from tests.support.here import train_here

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("REPLICATE_KILLS", "200"))
RUNS = max(200, 4 * KILLS)
PROCESSES = 3

BODY = """
import sys
from ci.test_kills import some_runs
from replicate.store.store import open_store
from tests.support.here import train_here
train_here(open_store(sys.argv[1]), some_runs(float(sys.argv[2])), processes=3)
"""


def some_runs(seconds: float) -> list[Run]:
    """Stacks of two runs: a kill may hit the first run, the second, or the writing of either."""
    return [fake_run(i // 2, lr=1e-3 * (1 + i % 2), sleep=seconds) for i in range(RUNS)]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_kills_at_random_moments(tmp_path: Path) -> None:
    """Each killed process is started again until there were `KILLS` kills; then the training finishes."""
    seconds = 0.25
    runs = some_runs(seconds)
    keys = [run.key for run in runs]
    store = open_store(tmp_path / "store")
    rng = random.Random(0)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", BODY, str(store.path), str(seconds)],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        )

    processes = [start() for _ in range(PROCESSES)]
    killed = 0
    began = time.monotonic()
    try:
        while killed < KILLS:
            time.sleep(rng.uniform(0.0, 1.2))
            i = rng.randrange(PROCESSES)
            assert processes[i].poll() is None, f"expected {KILLS} kills in the middle, got {killed} before the end"
            processes[i].kill()
            processes[i].wait()
            killed += 1
            processes[i] = start()
        for process in processes:
            assert process.wait(300) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    print(f"{killed} kills in {time.monotonic() - began:.0f} s; {len(store.trainings())} trainings of {RUNS} runs")
    logged = Counter(key for key, _, _ in store.trainings())
    assert max(logged.values()) == 1  # no run was stored twice
    assert logged.total() >= RUNS - KILLS  # a kill may fall between storing a run and logging it
    whole = open_store(tmp_path / "whole")
    for run in runs:
        whole.put(run, fake_result(run), {}, durable=False)
    fresh = open_store(store.path)
    assert fresh.content_hash(keys) == whole.content_hash(keys)
    assert fresh.keys() == set(keys) and fresh.notices == []
    hours_on = time.time() + 2 * 3600  # old enough that temporary files count as abandoned
    problems = fsck.check(fresh, hours_on).problems
    assert {problem.kind for problem in problems} <= {"temporary", "lock", "checkpoint"}
    assert fsck.repair(fresh, problems) == [] and fsck.check(fresh, hours_on).problems == ()
    train_here(fresh, runs)
    assert len(fresh.trainings()) == len(store.trainings())
