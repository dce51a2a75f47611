"""A scale with rounds and two looks, trained by a stand-in that hands out models: for whole sessions of real processes.

As a plugin of pytest (`-p tests.support.staged`) it takes the place of the scale `smoke` and of the trainer. As a
program, `python -m tests.support.staged ARGUMENTS` is `replicate ARGUMENTS` with them.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from replicate.cli import main
from replicate.runs import scales
from replicate.runs.bracket import Rounds
from replicate.runs.result import Result
from replicate.runs.run import ModelSpec, Run
from replicate.store import model_file
from replicate.store.record import content_of
from replicate.train import contract
from replicate.train.contract import Trained, Workspace
from tests.support.faketrainer import fake_result

SETTLED, OPEN = "resnet50", "convnext_t"
"""The family of which two seeds settle most claims, and that about which no number of seeds says anything."""
DIVERGES_ABOVE = 2e-3
"""Learning rates at which the second family diverges without weight decay."""
RUN_SECONDS = 0.01
MODEL_BYTES = 1 << 16

SCALE = replace(
    scales.SMOKE,
    data=scales.SMOKE.data[:1],
    models=tuple((arch, ModelSpec("fake")) for arch in (SETTLED, OPEN)),
    epochs=60,
    seeds=(0, 1, 2, 3),
    bracket=Rounds(),
    variants=("main", "sgd"),
)


def result(run: Run) -> Result:
    """Accuracy peaks far from every ratio that is claimed, or is noise; or the training diverges."""
    if run.arch == OPEN:
        diverged = run.lr > DIVERGES_ABOVE and run.weight_decay == 0
        return replace(fake_result(run), diverged=diverged, train_loss=None if diverged else 1 / 3)
    off = math.log10(max(run.weight_decay, 1e-9) / run.lr)
    accuracy = max(20.0, 80 - 3 * off**2) + fake_result(run).accuracy_pp / 1000
    return Result(accuracy, accuracy, False, 1.0, (accuracy,), 0.5)


def model(run: Run) -> bytes:
    """A sealed file of as many zeros."""
    told = {
        "__metadata__": model_file.labels(run.key, content_of(run, result(run))),
        "weight": {"dtype": "U8", "shape": [MODEL_BYTES], "data_offsets": [0, MODEL_BYTES]},
    }
    header = json.dumps(told, separators=(",", ":")).encode()
    return model_file.seal(len(header).to_bytes(8, "little") + header + bytes(MODEL_BYTES))


def train(runs: Sequence[Run], device: str, workspace: Workspace) -> Iterator[Trained]:
    """One after the other, each handed out as it is done."""
    how = {"trainer": "fake", "lanes": len(runs), "precision": "float32"}
    for run in runs:
        time.sleep(RUN_SECONDS)
        found = result(run)
        yield Trained(run, found, how, model(run) if workspace.keep_models and not found.diverged else None)


def install() -> None:
    """In this process from now on."""
    scales.SCALES["smoke"] = SCALE
    contract.TRAINERS[contract.STACKED] = "tests.support.staged:train"


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    install()


if __name__ == "__main__":
    install()
    sys.exit(main(sys.argv[1:]))
