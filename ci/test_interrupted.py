"""A real stack gets SIGTERM or SIGKILL in the middle of training; the next process gives the same bits. Under a minute.

pytest ci/test_interrupted.py
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from replicate.paper.cells import Cell
from replicate.runs import scales
from replicate.runs.run import Run
from replicate.store.store import open_store
from replicate.train.engine.local import ensure

ROOT = Path(__file__).parents[1]
STEPS = 60

BODY = """
import sys
from ci.test_interrupted import some_runs
from replicate.store.store import open_store
from replicate.train import stacked
from replicate.train.contract import STACKED, TRAINERS
from tests.support.here import train_here

end_epoch = stacked._Stack.end_epoch

def telling(stack):
    end_epoch(stack)
    print(stack.taken, flush=True)

stacked._Stack.end_epoch = telling
train_here(open_store(sys.argv[1]), some_runs(), processes=1, trainer=TRAINERS[STACKED])
"""


def some_runs() -> list[Run]:
    """Runs with enough epochs to interrupt; one run diverges."""
    cell = Cell("resnet50", "cifar100")
    runs = [scales.make_run(scales.SMOKE, cell, "main", lr, 0.1, 0) for lr in (1e-3, 1e-2, 1e30)]
    return [dataclasses.replace(run, epochs=STEPS // 2, eval_every_epochs=5) for run in runs]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_and_gone_on_with(tmp_path: Path, how: signal.Signals) -> None:
    whole, broken = open_store(tmp_path / "whole"), open_store(tmp_path / "broken")
    runs = some_runs()
    first = subprocess.Popen(
        [sys.executable, "-c", BODY, str(broken.path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert first.stdout is not None
    told = [first.stdout.readline() for _ in range(5)]
    first.send_signal(how)
    first.stdout.close()
    assert int(told[-1]) == 10 and first.wait(30) == -how
    assert broken.keys() == set()
    assert len(list(broken.layout.checkpoints.glob("*/*.checkpoint"))) == (how == signal.SIGTERM)
    again = subprocess.run(
        [sys.executable, "-c", BODY, str(broken.path)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        check=True,
    )
    assert (int(again.stdout.split()[0]) > 10) == (how == signal.SIGTERM)
    ensure(whole, runs, processes=1)
    keys = [run.key for run in runs]
    assert broken.content_hash(keys) == whole.content_hash(keys)
    assert [broken.get(run).result.diverged for run in runs] == [False, False, True]  # type: ignore[union-attr]
    assert not list(broken.layout.checkpoints.iterdir())
