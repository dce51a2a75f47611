"""What a run costs on a device: measured for a few seconds of training steps, and counted up to whole runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from replicate.data import catalogue
from replicate.data.catalogue import Info
from replicate.runs import scales
from replicate.runs.run import Run
from replicate.train import compiled, setting, stack_size, stacked
from replicate.train.batches import Normalisation
from replicate.train.inputs import Resident
from replicate.train.memory import give_back_memory, out_of_memory
from replicate.train.stacked import FEWEST_LANES, How, usual

FORWARD_SHARE = 1 / 3
"""Of a training step that its forward pass takes: what an evaluation costs an image."""


def seconds_per_run(
    run: Run,
    device: str,
    rates: Path,
    stacks: Sequence[int] = (),
    *,
    compiling: int = 1,
    seconds: float = 0.25,
) -> float:
    """Seconds of `device` for `run`, in stacks as it is trained there; `rates`: the folder for what is measured.

    Evaluations, augmentation, the filling of stacks and compiling the step are in it, spread over all runs of the kind.
    `stacks`: how many of them are given out together, by default as many as are trained at once; `compiling`: how many
    devices compile the step, once each. Runs on streamed images are measured on made-up ones, one run at a time: what
    reading files costs is not in it.
    """
    looks = math.ceil(run.epochs / run.eval_every_epochs) * catalogue.test_size(run.data) / run.batch_size
    steps = scales.steps(run) + FORWARD_SHARE * looks
    if not catalogue.info(run.data).resident:
        with setting.reproducible(device):
            return steps * stack_size.seconds_of(_streamed_step(run, device), device, seconds)
    how = usual(run, device)
    found = stack_size.known(run, device, rates, how, seconds)
    lanes = stack_size.best(found, may_be_alone=device != "cpu")
    start = run.epochs * _start_seconds(run, device)
    if lanes == stack_size.ALONE:
        return steps / found.alone + start
    given = stacks or [lanes]
    pieces = list(given) if device == "cpu" else [n for size in given for n in _cut(size, lanes)]
    taken = sum(max(n, lanes if how.compiled else FEWEST_LANES) for n in pieces)
    once = compiling * _compiling_seconds(run, device, how, lanes) if how.compiled else 0.0
    of_all = taken * steps / dict(found.stacked)[lanes] + len(pieces) * start + once
    return of_all / sum(given)


def _cut(size: int, lanes: int) -> list[int]:
    """The sizes in which a stack of `size` runs is trained, at most `lanes` at once."""
    return [min(lanes, size - a) for a in range(0, size, lanes)]


def _start_seconds(run: Run, device: str) -> float:
    """Of the start of an epoch, at which its images are augmented for all lanes together."""
    shown = Resident(run, device)
    with setting.reproducible(device):
        return stack_size.seconds_of(lambda: shown.start(0), device, 0.0)


def _compiling_seconds(run: Run, device: str, how: How, lanes: int) -> float:
    """Of the first step of a process, of which compiling is the most; that of the evaluation is not in it.

    As long as a process takes here and now: torch keeps what it compiled on disk, that of the measurement too.
    """
    compiled.forget()
    try:
        with setting.reproducible(device):
            stack = stacked._Stack([run] * lanes, device, how)
            batch = stack.inputs.start(0)[0]
            started = time.perf_counter()
            stack.step(batch)
            if device != "cpu":
                torch.cuda.synchronize(device)
            return time.perf_counter() - started
    except Exception as error:
        if not out_of_memory(error):
            raise
        return 0.0  # less memory is free than when the size was measured: the training will find a smaller one
    finally:
        compiled.forget()
        give_back_memory(device)


@dataclass(frozen=True)
class _MadeUp:
    """Made-up images of a data set, as a step is shown them."""

    info: Info
    normalise: Normalisation


def _streamed_step(run: Run, device: str) -> Callable[[], None]:
    """A step of the plain loop on made-up images."""
    info = catalogue.info(run.data)
    shape = (run.batch_size, info.in_chans, info.image_size, info.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    labels = torch.randint(0, info.num_classes, (run.batch_size,), device=device)
    return stack_size.lone_step(run, device, _MadeUp(info, Normalisation(info, device)), (images, labels))
