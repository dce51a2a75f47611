"""Whole sessions of the scale in `tests.support.staged`: started as a user does, and what they leave compared.

All are to end with the runs, the models and the verdicts of one session of one process that nobody disturbed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from replicate.judging import verdict_file
from replicate.judging.verdict import Verdict
from replicate.store import fsck
from replicate.store.store import Store, open_store
from tests.support.processes import environment
from tests.support.projects import ROOT

CLAIMS = tuple(f"claims/test_{family}.py" for family in ("rho", "slope", "sgd", "one_dim"))
OPTIONS = ("--until", "settled", "--keep-models", "-k", "not differs")
"""The claim that is left out needs every run, so that nothing would come of settling others."""


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
