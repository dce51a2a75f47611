"""What a run costs on a device: measured for a few seconds of training steps, and counted up to whole runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from replicate import data, scales
from replicate.data import Info
from replicate.runs import Run
from replicate.train import setting, stack_size
from replicate.train.inputs import Normalisation

FORWARD_SHARE = 1 / 3
"""Of a training step that its forward pass takes: what an evaluation costs an image."""


def seconds_per_run(run: Run, device: str, rates: Path, seconds: float = 0.25) -> float:
    """Seconds of `device` for `run`, in stacks as it is trained there; `rates`: the folder for what is measured.

    Runs on streamed images are measured on made-up ones, one run at a time: what reading files costs is not in it.
    """
    if data.info(run.data).resident:
        found = stack_size.known(run, device, rates, seconds=seconds)
        lanes = stack_size.best(found, may_be_alone=device != "cpu")
        rate = dict(found.stacked).get(lanes, found.alone)
    else:
        with setting.reproducible(device):
            rate = 1 / stack_size.seconds_of(_streamed_step(run, device), device, seconds)
    looks = math.ceil(run.epochs / run.eval_every_epochs) * data.test_size(run.data) / run.batch_size
    return (scales.steps(run) + FORWARD_SHARE * looks) / rate


@dataclass(frozen=True)
class _MadeUp:
    """Made-up images of a data set, as a step is shown them."""

    info: Info
    normalise: Normalisation


def _streamed_step(run: Run, device: str) -> Callable[[], None]:
    """A step of the plain loop on made-up images."""
    info = data.info(run.data)
    shape = (run.batch_size, info.in_chans, info.image_size, info.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    labels = torch.randint(0, info.num_classes, (run.batch_size,), device=device)
    return stack_size.lone_step(run, device, _MadeUp(info, Normalisation(info, device)), (images, labels))
