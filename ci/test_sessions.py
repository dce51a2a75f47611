"""Whole sessions with two-step judging, rounds and kept models: killed, reordered, several at once. Minutes.

pytest ci/test_sessions.py            REPLICATE_KILLS=50 pytest ci/test_sessions.py

All end with the same runs, models and verdicts as one undisturbed session with one process.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from replicate.judging.store_verdicts import FIRST_LOOK, LAST_LOOK
from replicate.judging.verdict import NOT_RUN
from replicate.paper.registry import claim
from replicate.runs.needed import possible_runs, runs_for, split
from replicate.store.store import open_store
from tests.support import sessions, staged
from tests.support.processes import wait_until
from tests.support.sessions import CLAIMS, Ended, assert_same, start

undisturbed = sessions.undisturbed
KILLS = int(os.environ.get("REPLICATE_KILLS", "8"))
END_SECONDS = 60.0
"""Time for the remaining processes of a killed session to end by themselves."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def trained_twice(folder: Path) -> list[str]:
    times = Counter(key for key, _, _ in open_store(folder / "store").trainings())
    return [key for key, n in times.items() if n > 1]


def test_some_claims_are_settled_at_the_first_look_and_others_take_rounds(undisturbed: Ended) -> None:
    """Otherwise the other tests here would show little."""
    scale, store = staged.SCALE, undisturbed.store
    judged = {name: verdict for name, verdict in undisturbed.verdicts.items() if verdict.outcome != NOT_RUN}
    looks = Counter(verdict.evidence.look for verdict in judged.values())
    assert looks[FIRST_LOOK] >= 3 and looks[LAST_LOOK] >= 3
    claims, _ = split(map(claim, judged), scale)
    assert {run.key for run in runs_for(claims, scale)} - store.keys(), "a settled claim needs only some runs"
    assert store.keys() < {run.key for run in possible_runs(scale)}
    assert any(stored.result.diverged for stored in store.records())


@pytest.mark.parametrize("arguments", [(), ("-n", "4")])
def test_any_number_of_processes(tmp_path: Path, undisturbed: Ended, arguments: tuple[str, ...]) -> None:
    assert start(tmp_path / "other", *arguments).wait(600) == 1
    assert_same(tmp_path / "other", undisturbed)
    assert not trained_twice(tmp_path / "other")


def test_two_sessions_at_once_with_the_claims_in_another_order(tmp_path: Path, undisturbed: Ended) -> None:
    """Each session uses the runs that the other has stored."""
    folder = tmp_path / "shared"
    first = start(folder, claims=CLAIMS[::-1])
    wait_until((folder / "store" / "store.json").exists, 60)
    other = start(folder, "-n", "2")
    assert (first.wait(600), other.wait(600)) == (1, 1)
    assert_same(folder, undisturbed)
    assert not trained_twice(folder)


def descendants(pid: int) -> list[int]:
    """All child processes of `pid`, their children, and so on."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # has ended
        children.setdefault(parent, []).append(int(path.name))
    found = children.get(pid, [])
    return found + [grandchild for child in found for grandchild in descendants(child)]


def all_ended(pids: Sequence[int]) -> bool:
    return all(state_of(pid) in ("", "Z") for pid in pids)


def state_of(pid: int) -> str:
    """The process's state letter in /proc; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_kills_at_random_moments(tmp_path: Path, undisturbed: Ended) -> None:
    """If the controlling process is killed, all others end by themselves; the same command then continues."""
    rng, folder, killed = random.Random(0), tmp_path / "killed", 0
    store = open_store(folder / "store")
    whom = Counter[str]()
    while killed < KILLS:
        session = start(folder, "-n", "2")
        before = store.keys()
        while not store.keys() - before and session.poll() is None:
            time.sleep(0.05)
        while session.poll() is None and killed < KILLS:
            time.sleep(rng.uniform(0.0, 2.0))
            others = descendants(session.pid)
            if rng.random() < 0.5:
                session.kill()
                session.wait()
                whom["controller"] += 1
                wait_until(partial(all_ended, others), END_SECONDS)
            elif others:
                victim = rng.choice(others)
                whom["trains" if b"engine.worker" in command_of(victim) else "judges"] += 1
                os.kill(victim, signal.SIGKILL)
            killed += 1
        if store.keys() >= undisturbed.store.keys():
            break
        session.kill()
        session.wait()
    assert start(folder, "-n", "2").wait(600) == 1
    print(f"{killed} kills: {dict(whom)}")
    assert killed >= KILLS / 2, "expected kills in the middle, got few before the end"
    assert_same(folder, undisturbed)
