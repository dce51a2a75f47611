"""Brackets in rounds with real processes: the same runs and verdict however many train, and if one is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replicate.judging import store_verdicts
from replicate.judging.verdict import NOT_RUN, Verdict
from replicate.runs.needed import possible_runs, runs_for
from replicate.store.store import Store, open_store
from tests.support.faketrainer import fake_result
from tests.support.rounds import CLAIM, SCALE

ROOT = Path(__file__).parents[2]


def start(store: Path, processes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.rounds", str(store), str(processes)]
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path})


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which each run was put as soon as it was needed, by this process alone."""
    store = open_store(tmp_path_factory.mktemp("rounds") / "store")
    while missing := [run for run in runs_for([CLAIM], SCALE, store.result) if not store.has(run.key)]:
        store.put(missing[-1], fake_result(missing[-1]), {}, durable=False)
    return store


def verdict(store: Store) -> Verdict:
    return store_verdicts.judge(CLAIM, SCALE, store)


def test_rounds_ask_for_more_than_the_first_and_less_than_all(one_by_one: Store) -> None:
    done = one_by_one.keys()
    assert {run.key for run in runs_for([CLAIM], SCALE)} < done
    assert done < {run.key for run in possible_runs(SCALE)}
    assert {run.key for run in runs_for([CLAIM], SCALE, one_by_one.result)} == done
    assert verdict(one_by_one).outcome != NOT_RUN


@pytest.mark.slow
def test_one_process_four_and_one_killed_midway_train_the_same_runs(tmp_path: Path, one_by_one: Store) -> None:
    paths = {name: tmp_path / name for name in ("one", "four", "killed")}
    others = [start(paths["one"], 1), start(paths["four"], 4)]
    killed = start(paths["killed"], 2)
    first, deadline = {run.key for run in runs_for([CLAIM], SCALE)}, time.monotonic() + 120
    found = open_store(paths["killed"])
    while not found.keys() - first and killed.poll() is None:  # in the second round
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert found.keys() < one_by_one.keys()
    again = [start(paths["killed"], 2), start(paths["killed"], 1)]
    assert [process.wait(180) for process in (*others, *again)] == [0] * 4
    for path in paths.values():
        store = open_store(path, read_only=True)
        assert store.keys() == one_by_one.keys()
        trained = [key for key, _, _ in store.trainings()]
        assert len(trained) == len(set(trained)), "none twice"
        assert verdict(store) == verdict(one_by_one)


def test_a_run_that_is_lost_is_asked_for_again(tmp_path: Path, one_by_one: Store) -> None:
    """The rounds after it wait: what they would ask for depends on it."""
    store = open_store(tmp_path / "store")
    runs = runs_for([CLAIM], SCALE, one_by_one.result)
    for run in runs:
        store.put(run, fake_result(run), {}, durable=False)
    lost = next(run for run in runs_for([CLAIM], SCALE) if run.seed == SCALE.seeds[0] and run.weight_decay == 0)
    store.layout.record(lost.key).write_bytes(b"")
    before = {run.key for run in runs_for([CLAIM], SCALE, store.result)}
    assert lost.key in before < one_by_one.keys()
    assert verdict(store).outcome == NOT_RUN
    store.put(lost, fake_result(lost), {}, durable=False)
    assert {run.key for run in runs_for([CLAIM], SCALE, store.result)} == one_by_one.keys()
