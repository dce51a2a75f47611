"""What a run costs on a device: some real steps are taken by the clock, and counted up to whole runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from replicate.data import catalogue
from replicate.runs import scales
from replicate.runs.run import Run
from replicate.train import compiled, setting, solo, stacked
from replicate.train.accelerate import CaptureFailed
from replicate.train.batches import Normalisation
from replicate.train.inputs import Resident
from replicate.train.memory import give_back_memory, keep_freed_memory, out_of_memory
from replicate.train.stacked import FEWEST_LANES, usual

FORWARD_SHARE = 1 / 3
"""Share of a training step that its forward pass takes: what an evaluation costs an image."""
SECONDS = 0.25
"""How long steps are taken, to measure their rate."""


def seconds_per_run(run: Run, device: str, lanes: int) -> float:
    """Seconds of `device` for `run`, in a stack of `lanes` (2 or more), or as many of them as there is memory for.

    Evaluations and augmentation are in it; compiling, once a device, and lanes that are left empty are not. Runs on
    streamed images are measured on made-up ones, one run at a time: what reading files costs is not in it.
    """
    looks = math.ceil(run.epochs / run.eval_every_epochs) * catalogue.test_size(run.data) / run.batch_size
    steps = scales.steps(run) + FORWARD_SHARE * looks
    with setting.reproducible(device):
        if not catalogue.info(run.data).resident:
            return steps * _step_alone(run, device)
        shown = Resident(run, device)
        start = run.epochs * min(_times(lambda: shown.start(0), device))  # for all lanes together
        while (step := _step_stacked(run, device, lanes)) is None:
            lanes //= 2
            if lanes < FEWEST_LANES:
                return steps * _step_alone(run, device) + start
    return (steps * step + start) / lanes


def _step_stacked(run: Run, device: str, lanes: int) -> float | None:
    """Seconds of a step of a stack; None where memory runs out."""
    if device == "cpu":
        keep_freed_memory()
    try:
        stack = stacked._Stack([run] * lanes, device, usual(run, device))
        batch = stack.inputs.start(0)[0]
        return min(_times(lambda: stack.step(batch), device))  # of which the first may have compiled it
    except Exception as error:
        if not (isinstance(error, CaptureFailed) or out_of_memory(error)):
            raise
        return None
    finally:
        stack = None  # type: ignore[assignment]
        compiled.forget()
        give_back_memory(device)


def _step_alone(run: Run, device: str) -> float:
    """Seconds of a step of the plain loop, on made-up images."""
    info = catalogue.info(run.data)
    images = torch.randint(256, (run.batch_size, info.in_chans, info.image_size, info.image_size), device=device)
    images = images.to(torch.uint8 if info.mean else torch.float32)  # bytes, or what comes normalised
    labels = torch.randint(info.num_classes, (run.batch_size,), device=device)
    model, optimizer, passes = solo.beginning(run, info, device)
    normalise = Normalisation(info, device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        solo.backward(model, passes, images, labels, normalise, info.parts)
        optimizer.step()

    return min(_times(step, device))


def _times(step: Callable[[], Any], device: str) -> list[float]:
    """Seconds that `step` took, each time. On a CPU, time in which the process had no core does not count."""
    now = time.process_time if device == "cpu" else time.perf_counter
    found: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(found) < 5 or time.perf_counter() < end:
        started = now()
        step()
        if device != "cpu":
            torch.cuda.synchronize(device)
        found.append(now() - started)
    return found
