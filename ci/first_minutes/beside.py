"""Times what stacks are compared with on the same device: the plain loop, and the published script's way to train."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
import time
from typing import Any

import torch
from stacked import runs_of  # the benchmark
from torch import Tensor
from training import published_way  # the benchmark

from first_minutes import trial
from first_minutes.pieces import BESIDE
from first_minutes.trial import Trial
from replicate.data import catalogue
from replicate.runs.run import Run
from replicate.train import solo
from replicate.train.checkpoint import Saver
from replicate.train.contract import Stopped

UNTIMED, TIMED = 3, 8
"""Steps of the plain loop; during the untimed ones libraries choose their kernels."""
EPOCHS = 3
"""Epochs trained as the script does; the first, which starts the loader processes, is not timed."""


class _Losses(Saver):
    """Records the loss and time of each step instead of saving checkpoints, and stops after `count` steps."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.losses: list[Tensor] = []
        self.times: list[float] = []
        self._count = count

    def after_step(self, state: Any, where: str) -> None:
        self.losses.append(state()["losses"][-1].cpu())  # which waits for the device
        self.times.append(time.perf_counter())
        if len(self.losses) == self._count:
            raise Stopped


def _first_steps(run: Run, device: str, count: int) -> _Losses:
    saver = _Losses(count)
    with contextlib.suppress(Stopped):
        solo.train(run, device, saver)
    return saver


def plain_losses(run: Run, device: str, count: int) -> Tensor:
    """The losses of the first `count` steps of `run` in the plain loop, float64 on the host."""
    return torch.stack(_first_steps(run, device, count).losses).double()


def loop_step(run: Run, device: str) -> float:
    """Seconds per step of the plain loop."""
    times = _first_steps(run, device, UNTIMED + TIMED).times[UNTIMED - 1 :]
    return statistics.median(b - a for a, b in itertools.pairwise(times))


def script_epoch(run: Run, tried: Trial) -> float:
    """Seconds of a whole epoch as the script trains, with its evaluation, extrapolated from fewer images."""
    few = tried.script_images
    part = dataclasses.replace(run.data, train_images=few, test_images=few // 5)
    ends: list[float] = []
    fewer = dataclasses.replace(run, data=part, epochs=EPOCHS, warmup_epochs=0)
    published_way(fewer, tried.device, tried.workers, lambda: ends.append(time.perf_counter()))
    return (ends[-1] - ends[0]) / (EPOCHS - 1) * catalogue.train_size(run.data) / few


def main() -> None:
    tried, findings, asked = trial.of_process(__doc__)
    if tried.rehearsed:
        torch.set_num_threads(1)  # as trainings do
    (arch,) = asked.arch
    run: Run = runs_of(tried.target, arch, 1)[0]
    try:
        with findings.timing():
            step, epoch = loop_step(tried.runs(arch)[0], tried.device), script_epoch(run, tried)
        findings.put(f"{arch}/{BESIDE}", loop_step_seconds=step, script_run_seconds=epoch * run.epochs)
    except Exception as error:
        findings.fail(f"{arch}/{BESIDE}", error)


if __name__ == "__main__":
    main()
