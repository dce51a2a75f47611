"""Whole sessions with two looks, rounds and kept models: killed at random, in another order, many at once. Minutes.

pytest ci/test_sessions.py            REPLICATE_KILLS=50 pytest ci/test_sessions.py

What is undisturbed is one session of one process; all others must end with its runs, its models and its verdicts.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from replicate.judging import verdict_file
from replicate.judging.store_verdicts import FIRST_LOOK, LAST_LOOK
from replicate.judging.verdict import NOT_RUN, Verdict
from replicate.paper.registry import claim
from replicate.runs.needed import possible_runs, runs_for, split
from replicate.store import fsck
from replicate.store.store import Store, open_store
from tests.support import staged
from tests.support.processes import environment, wait_until

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("REPLICATE_KILLS", "8"))
CLAIMS = tuple(f"claims/test_{family}.py" for family in ("rho", "slope", "sgd", "one_dim"))
OPTIONS = ("--until", "settled", "--keep-models", "-k", "not differs")
"""The claim that is left out needs every run, so that nothing would come of settling others."""
END_SECONDS = 60.0
"""For what a killed session has left behind to end by itself."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def start(folder: Path, *arguments: str, claims: Sequence[str] = CLAIMS) -> subprocess.Popen[bytes]:
    """A session on the store in `folder`; its report goes there too."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.support.staged", *claims]
    command += ["--scale", "smoke", "--store", str(folder / "store"), "--report", str(folder / "report"), *OPTIONS]
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env=environment(CUDA_VISIBLE_DEVICES=""),
            stdout=log,
            stderr=log,
        )


@dataclass(frozen=True)
class Ended:
    """What sessions have left in a folder."""

    store: Store
    verdicts: dict[str, Verdict]

    @classmethod
    def of(cls, folder: Path) -> Ended:
        file = verdict_file.read(folder / "report" / "verdicts.json")
        assert not [entry.id for entry in file.entries if entry.crashed]
        verdicts = {entry.id: entry.verdict for entry in file.entries if entry.selected}
        return cls(open_store(folder / "store", read_only=True), verdicts)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder, "-n", "1").wait(600) == 1, (folder / "log").read_text()
    return Ended.of(folder)


def assert_same(folder: Path, undisturbed: Ended) -> None:
    """The same runs, each with its model, whole; and the same verdicts."""
    found = Ended.of(folder)
    keys = undisturbed.store.keys()
    assert found.store.keys() == keys
    assert found.store.content_hash(keys) == undisturbed.store.content_hash(keys)
    for stored in found.store.records():
        if not stored.result.diverged:
            assert found.store.model_file(stored.key) == undisturbed.store.model_file(stored.key)
    hours_on = time.time() + 2 * 3600  # by when a temporary file has lost its writer
    problems = fsck.check(found.store, hours_on).problems
    assert {problem.kind for problem in problems} <= {"temporary", "lock", "checkpoint"}
    assert found.verdicts == undisturbed.verdicts


def trained_twice(folder: Path) -> list[str]:
    times = Counter(key for key, _, _ in open_store(folder / "store").trainings())
    return [key for key, n in times.items() if n > 1]


def test_some_claims_are_settled_at_the_first_look_and_others_take_rounds(undisturbed: Ended) -> None:
    """Or all that follows would show little."""
    scale, store = staged.SCALE, undisturbed.store
    judged = {name: verdict for name, verdict in undisturbed.verdicts.items() if verdict.outcome != NOT_RUN}
    looks = Counter(verdict.evidence.look for verdict in judged.values())
    assert looks[FIRST_LOOK] >= 3 and looks[LAST_LOOK] >= 3
    claims, _ = split(map(claim, judged), scale)
    assert {run.key for run in runs_for(claims, scale)} - store.keys(), "a claim that is settled needs not all"
    assert store.keys() < {run.key for run in possible_runs(scale)}
    assert any(stored.result.diverged for stored in store.records())


@pytest.mark.parametrize("arguments", [(), ("-n", "4")])
def test_any_number_of_processes(tmp_path: Path, undisturbed: Ended, arguments: tuple[str, ...]) -> None:
    assert start(tmp_path / "other", *arguments).wait(600) == 1
    assert_same(tmp_path / "other", undisturbed)
    assert not trained_twice(tmp_path / "other")


def test_two_sessions_at_once_with_the_claims_in_another_order(tmp_path: Path, undisturbed: Ended) -> None:
    """What one has stored, the other goes on from."""
    folder = tmp_path / "shared"
    first = start(folder, claims=CLAIMS[::-1])
    wait_until((folder / "store" / "store.json").exists, 60)
    other = start(folder, "-n", "2")
    assert (first.wait(600), other.wait(600)) == (1, 1)
    assert_same(folder, undisturbed)
    assert not trained_twice(folder)


def descendants(pid: int) -> list[int]:
    """The processes that the process `pid` has started, and theirs."""
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
    """A letter; empty where there is no such process."""
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
    """Of the process that the user sees: then the others end, and the same command goes on. Or of one of the others."""
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
