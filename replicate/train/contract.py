"""What an engine and a trainer owe each other: a stack of runs goes in, results come out as they are done."""

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
    """What a trainer may use beside its device."""

    checkpoints: Path
    """A folder for this stack alone; a process that begins the same stack again finds in it what was left there."""
    notice: Callable[[str], None] = log.warning
    """Takes what somebody should know: a line each."""
    stopping: Callable[[], bool] = lambda: False
    """Whether this process has been asked to end."""
    attentive: Callable[[], AbstractContextManager[None]] = nullcontext
    """While inside, the trainer promises to look at `stopping` every few seconds, to save what it has and to raise
    `Stopped`. Outside, a process that is asked to end does so at once, wherever it is."""
    lanes: int | None = None
    """The most runs at once that are known to fit: 1 is the plain loop, one run after the other. None: the trainer's
    own choice."""
    keep_models: bool = False
    """Whether to hand out the models as well."""


@dataclass(frozen=True)
class Trained:
    """One run that is done."""

    run: Run
    result: Result
    how: dict[str, Any]
    """For its provenance: `trainer`, `lanes` and `precision`."""
    model: bytes | None = None
    """The sealed file of its model, where models are kept; a run that diverged has none."""


Trainer = Callable[[Sequence[Run], str, Workspace], Iterator[Trained]]
"""Trains runs of one `stack_key` on a device (`cpu`, `cuda:0`): each exactly once, in any order."""

TRAINERS = {"stacked": "replicate.train.fast:train", "solo": "replicate.train.fast:one_by_one"}
"""Where the trainers are that people can ask for, by name."""
STACKED = "stacked"
"""The one that is used unless somebody asks for another."""


class Stopped(Exception):
    """Raised by a trainer that has been asked to stop, after saving what it had."""


class TooLarge(Exception):
    """Raised by a trainer, from the error itself, where a stack does not fit its device. To be tried again with fewer
    lanes, in a new process: what ran out of memory, or failed in the capture of a graph, leaves its own in disorder."""

    def __init__(self, lanes: int) -> None:
        super().__init__(f"{lanes} lanes")
        self.lanes = lanes
        """How many were tried at once; 2 or more."""


class RunFailed(Exception):
    """Raised by a trainer, from the error itself, where one run of a stack is at fault and it knows which."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.key)
        self.run = run
