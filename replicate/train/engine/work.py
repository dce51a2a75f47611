"""A stack that waits or is being trained, and what becomes of it when its worker dies."""

from __future__ import annotations

from dataclasses import dataclass

from replicate.runs.run import Run
from replicate.train.engine.failed import TrainingFailed

MOST_CRASHES = 3
"""Times that a run may bring its worker down, alone, before that is taken for its own fault."""
MOST_KILLS = 10
"""The same for a worker killed from outside (a preempted machine, a person, the kernel short of memory)."""
KILLS_BEFORE_HALVES = 3
"""Kills after which a stack is retried in halves: perhaps it is the kernel, and all of it takes too much memory."""


class WorkerDied(TrainingFailed):
    """A run whose workers died again and again."""


@dataclass
class Work:
    """A stack of runs that are to be trained."""

    runs: list[Run]
    origin: int
    """The stack that it is a part of, as given: a run that fails alone does so after its company has been trained."""
    due: float = 0.0
    """When to look at it, by the monotonic clock."""
    crashes: int = 0
    kills: int = 0

    def halves(self) -> list[Work]:
        """Itself in two parts, of which one may be free of what brings workers down."""
        half = (len(self.runs) + 1) // 2
        return [Work(part, self.origin) for part in (self.runs[:half], self.runs[half:])]
