"""The interface between engines, which schedule runs, and trainers, which train a stack of runs at a time."""

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
    """What a trainer is given in addition to the runs and the device: a folder, callbacks and limits."""

    checkpoints: Path | None = None
    """A folder for the checkpoints of this stack alone; a process that resumes the stack gets the same folder. None: no
    checkpoints are written."""
    checkpoint_seconds: float = 300.0
    """The least time between two checkpoints; 0: a checkpoint after every step, however long saving takes."""
    notice: Callable[[str], None] = log.warning
    """Called with each one-line message that the user should see."""
    stopping: Callable[[], bool] = lambda: False
    """Whether this process has been asked to end."""
    attentive: Callable[[], AbstractContextManager[None]] = nullcontext
    """Inside this context the trainer promises to call `stopping` every few seconds and, once it is true, to save a
    checkpoint and raise `Stopped`. Outside, a process that is asked to end is interrupted at once."""
    lanes: int | None = None
    """The largest number of runs to train at once, set after a larger number ran out of memory; 1: use the plain loop
    (`solo`). None: the trainer chooses."""
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
    """The bytes of its model file (`kept_models.sealed`) if models are kept and the run did not diverge, else None."""


Trainer = Callable[[Sequence[Run], str, Workspace], Iterator[Trained]]
"""Trains runs of equal `stack_key`, which fit together, on a device (`cpu`, `cuda:0`); yields each, in any order."""

TRAINERS = {"stacked": "replicate.train.fast:train", "solo": "replicate.train.fast:one_by_one"}
"""What users can pass to `--trainer`, and the function behind each as `module:function`."""
STACKED = "stacked"
"""The name of the default trainer."""


class Stopped(Exception):
    """Raised by a trainer that was asked to stop, after it has saved a checkpoint."""


class TooLarge(Exception):
    """Raised by a trainer, from the original error, if runs that are trained together do not fit on their device.

    They must be retried, fewer at a time, in a new process: after running out of memory, or after a failed capture of a
    CUDA graph, the old process is not reliable.
    """

    def __init__(self, lanes: int) -> None:
        super().__init__(f"{lanes} lanes")
        self.lanes = lanes
        """The number of lanes that was tried, at least 2."""


class RunFailed(Exception):
    """Raised by a trainer, from the original error, if it knows which run of the stack caused it."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.key)
        self.run = run
