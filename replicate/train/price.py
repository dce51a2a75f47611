"""The cost of a run on a device, extrapolated from the measured time of a few real steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from replicate.data import catalogue
from replicate.runs import schedule
from replicate.runs.run import Run
from replicate.train import compiled, setting, solo, stacked
from replicate.train.accelerate import CaptureFailed
from replicate.train.batches import Normalisation
from replicate.train.inputs import Resident
from replicate.train.memory import give_back_memory, keep_freed_memory, out_of_memory
from replicate.train.stacked import FEWEST_LANES, usual

FORWARD_SHARE = 1 / 3
"""Cost of evaluating an image, relative to training on it: the forward pass's share of a training step."""
SECONDS = 0.25
"""How long steps are repeated to measure their time."""


def seconds_per_run(run: Run, device: str, lanes: int) -> float:
    """Seconds per run if `device` trains `lanes` (at least 2) runs like `run` at once, or fewer if memory is short.

    Includes evaluation and augmentation, but not compiling (once per device), lanes without a run, or reading files: a
    run on streamed images is measured alone and on random images.
    """
    evaluations = math.ceil(run.epochs / run.eval_every_epochs) * catalogue.test_size(run.data) / run.batch_size
    steps = schedule.steps(run) + FORWARD_SHARE * evaluations
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
    """Seconds of a training step of a stack; None if memory runs out."""
    if device == "cpu":
        keep_freed_memory()
    try:
        stack = stacked._Stack([run] * lanes, device, usual(run, device))
        batch = stack.inputs.start(0)[0]
        return min(_times(lambda: stack.step(batch), device))  # the first step may include compiling
    except Exception as error:
        if not (isinstance(error, CaptureFailed) or out_of_memory(error)):
            raise
        return None
    finally:
        stack = None  # type: ignore[assignment]
        compiled.forget()
        give_back_memory(device)


def _step_alone(run: Run, device: str) -> float:
    """Seconds of a training step of the plain loop, on random images."""
    info = catalogue.info(run.data)
    images = torch.randint(256, (run.batch_size, info.in_chans, info.image_size, info.image_size), device=device)
    images = images.to(torch.uint8 if info.mean else torch.float32)  # bytes, unless the data set comes normalised
    labels = torch.randint(info.num_classes, (run.batch_size,), device=device)
    model, optimizer, passes = solo.beginning(run, info, device)
    normalise = Normalisation(info, device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        solo.backward(model, passes, images, labels, normalise, info.parts)
        optimizer.step()

    return min(_times(step, device))


def _times(step: Callable[[], Any], device: str) -> list[float]:
    """The duration in seconds of each of several calls of `step`: processor time on a CPU, wall time on a GPU."""
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
