"""The interface between engines and trainers: a stack of runs goes in, results come out one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicate.runs.result import Result
from replicate.runs.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """What a trainer may use besides its device."""

    checkpoints: Path | None = None
    """A folder for this stack alone, in which a process that trains the same stack later finds the checkpoints; None:
    none are written."""
    checkpoint_seconds: float = 300.0
    """The least time between two checkpoints; 0: one after every step, however long it takes."""
    notice: Callable[[str], None] = log.warning
    """Called with each one-line message that the user should see."""
    stopping: Callable[[], bool] = lambda: False
    """Whether this process has been asked to end."""
    attentive: Callable[[], AbstractContextManager[None]] = nullcontext
    """Inside this context the trainer promises to call `stopping` every few seconds and, once it is true, to save a
    checkpoint and raise `Stopped`. Outside, a process that is asked to end does so at once."""
    lanes: int | None = None
    """The most runs to train at once, because more have run out of memory; 1: use the plain loop. None: the trainer
    chooses."""
    keep_models: bool = False
    """Whether to return the trained models too."""


@dataclass(frozen=True)
class Trained:
    """A run that has been trained."""

    run: Run
    result: Result
    how: dict[str, Any]
    """How it was trained, for its provenance: `trainer`, `lanes` and `precision`."""
    model: bytes | None = None
    """The sealed file of its model (`kept_models.sealed`) if models are kept and the run did not diverge."""


Trainer = Callable[[Sequence[Run], str, Workspace], Iterator[Trained]]
"""Trains runs with the same `stack_key` on a device (`cpu`, `cuda:0`): each exactly once, in any order."""

TRAINERS = {"stacked": "replicate.train.fast:train", "solo": "replicate.train.fast:one_by_one"}
"""What users can pass to `--trainer`, and the function behind each as `module:function`."""
STACKED = "stacked"
"""The default."""


class Stopped(Exception):
    """Raised by a trainer that was asked to stop, after it has saved a checkpoint."""


class TooLarge(Exception):
    """Raised by a trainer, from the original error, if a stack does not fit on its device.

    It must be retried with fewer lanes in a new process: after running out of memory, or after a failed capture of a
    CUDA graph, the old process is not reliable.
    """

    def __init__(self, lanes: int) -> None:
        super().__init__(f"{lanes} lanes")
        self.lanes = lanes
        """How many were tried at once, at least 2."""


class RunFailed(Exception):
    """Raised by a trainer, from the original error, if it knows which run of the stack caused it."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.key)
        self.run = run
